"""How a class did: for each question and for the total, and what was said most often."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from statistics import mean, median

from grading.feedback import GENERATOR, STYLE
from grading.grades import Course
from grading.marks import Graded
from grading.tables import written

PRAISE = ("All tests pass.", "Waits for a reader.")
MORE_STYLE = """
body { max-width: 80rem; overflow-x: auto; } td, th { overflow-wrap: normal; }
td:not(:nth-child(2), :nth-child(10)) { white-space: nowrap; }
"""
COLUMNS = (
    "question", "title", "n", "waiting", "out_of", "mean", "median", "zeros", "full",
    "commonest", "times",
)  # fmt: skip


@dataclass(frozen=True)
class Line:
    """A question: `n` answers with points, their mean, and the shares without any and with all.

    What waits for a person is counted by `waiting` and in nothing else.
    """

    question: str
    title: str
    out_of: float
    points: tuple[float, ...]
    waiting: int = 0
    commonest: str = ""
    times: int = 0

    def row(self) -> dict[str, object]:
        n, some = len(self.points), bool(self.points)
        return {
            "question": self.question,
            "title": self.title,
            "n": n,
            "waiting": self.waiting,
            "out_of": self.out_of,
            "mean": f"{mean(self.points):.2f}" if some else "",
            "median": f"{median(self.points):g}" if some else "",
            "zeros": f"{100 * sum(p <= 0 for p in self.points) / n:.0f} %" if some else "",
            "full": f"{100 * sum(p >= self.out_of for p in self.points) / n:.0f} %" if some else "",
            "commonest": self.commonest,
            "times": self.times or "",
        }


def statistics(graded: Sequence[Graded], course: Course) -> list[Line]:
    """A line for each question in order, and one for the totals."""
    lines = []
    for place, first in enumerate(graded[0].marks if graded else ()):
        marks = [(one.student, one.marks[place]) for one in graded]
        points = [course.marks.points(student, mark) for student, mark in marks]
        said = Counter(mark.said for _, mark in marks if mark.said not in PRAISE)
        common, times = said.most_common(1)[0] if said else ("", 0)
        known = tuple(p for p in points if p is not None)
        waiting = len(points) - len(known)
        lines.append(Line(first.name, first.title, first.out_of, known, waiting, common, times))
    totals = [course.total(one) for one in graded]
    known = tuple(total for total in totals if total is not None)
    waiting = len(totals) - len(known)
    return [*lines, Line("total", "Total", course.assignment.points, known, waiting)]


def as_text(lines: Sequence[Line]) -> str:
    """A table for the terminal."""
    shown = ("question", "n", "waiting", "mean", "out_of", "zeros", "full")
    rows = [list(shown), *([str(line.row()[name]) for name in shown] for line in lines)]
    wide = [max(len(row[place]) for row in rows) for place in range(len(shown))]
    text = []
    for row, line in zip(rows, [None, *lines], strict=True):
        cells = [cell.rjust(width) for cell, width in zip(row, wide, strict=True)]
        cells[0] = row[0].ljust(wide[0])
        cells += [f"{line.times} × {line.commonest[:80]}"] if line and line.times else []
        text.append("  ".join(cells))
    return "\n".join(text)


def as_csv(lines: Sequence[Line]) -> str:
    return written(COLUMNS, [line.row() for line in lines])


def as_html(lines: Sequence[Line], title: str) -> str:
    """A page with the same table."""
    head = "".join(f"<th>{escape(name)}</th>" for name in COLUMNS)
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape(str(line.row()[name]))}</td>" for name in COLUMNS) + "</tr>"
        for line in lines
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">{GENERATOR}'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}{MORE_STYLE}</style></head>"
        f"<body><h1>{escape(title)}</h1><table><tr>{head}</tr>{rows}</table></body></html>\n"
    )
