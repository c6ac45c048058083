"""What grading leaves behind: a table of grades, a list of answers to read, a page per student."""

from __future__ import annotations

import csv
import io
import math
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from grading.assignment import Assignment
from grading.marks import Graded, Mark

WRITTEN_COLUMNS = ("student", "question", "out_of", "mark", "comment")

STYLE = """
:root { color-scheme: light dark; }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; }
body { padding: 0 1rem; --line: color-mix(in srgb, currentColor 30%, transparent); }
pre { white-space: pre-wrap; padding: .75rem; border: 1px solid var(--line); }
table { border-collapse: collapse; } td, th { padding: .25rem .75rem; text-align: left; }
section { border-top: 1px solid var(--line); margin-top: 1.5rem; }
.points { float: right; font-weight: 600; }
"""


@dataclass(frozen=True)
class Reading:
    """What a reader wrote beside a written answer: a mark, or None so far, and a comment."""

    mark: float | None
    comment: str = ""


def replace_file(path: Path, text: str) -> None:
    """Write beside the file, then rename: whoever reads sees the old text or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
    try:
        # A submission may hold half characters, which UTF-8 has no place for.
        with os.fdopen(handle, "w", encoding="utf-8", errors="replace", newline="") as file:
            file.write(text)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


# Written answers: the reader's own file


def read_marks(path: Path, assignment: Assignment) -> dict[tuple[str, str], Reading]:
    """The marks filled in so far.  Raises ValueError naming the line that can't be used."""
    if not path.exists():
        return {}
    limits = {cell.name: cell.points for cell in assignment.written}
    found = {}
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file)
        if tuple(rows.fieldnames or ()) != WRITTEN_COLUMNS:
            raise ValueError(f"{path}: expected the columns {', '.join(WRITTEN_COLUMNS)}")
        for number, row in enumerate(rows, start=2):
            key, mark = (row["student"], row["question"]), (row["mark"] or "").strip()
            top = limits.get(row["question"])
            if top is None:
                raise ValueError(f"{path}, line {number}: no question {row['question']!r}")
            if key in found:
                raise ValueError(f"{path}, line {number}: a second row for {key}")
            found[key] = Reading(_mark(path, number, mark, top), (row["comment"] or "").strip())
    return found


def _mark(path: Path, number: int, text: str, top: int) -> float | None:
    if not text:
        return None
    try:
        mark = float(text)
    except ValueError:
        mark = math.nan
    if not 0 <= mark <= top:
        raise ValueError(
            f"{path}, line {number}: expected a mark from 0 to {top} or nothing, got {text!r}"
        )
    return mark


def written_table(
    graded: Iterable[Graded], assignment: Assignment, known: Mapping[tuple[str, str], Reading]
) -> str:
    """Every row that was there, with its marks, and a row for each new answer."""
    readings = dict(known)
    for one in graded:
        for mark in one.marks:
            if mark.written:
                readings.setdefault((one.student, mark.name), Reading(None))
    points = {cell.name: cell.points for cell in assignment.written}
    rows = [
        (student, name, points[name], _number(reading.mark), reading.comment)
        for (student, name), reading in sorted(readings.items())
    ]
    return _csv([WRITTEN_COLUMNS, *rows])


def points_of(
    student: str, mark: Mark, known: Mapping[tuple[str, str], Reading]
) -> float | int | None:
    """The points for a question, a reader's mark included."""
    reading = known.get((student, mark.name))
    return reading.mark if mark.written and reading and reading.mark is not None else mark.points


# Grades


def grades_table(
    graded: Sequence[Graded], assignment: Assignment, known: Mapping[tuple[str, str], Reading]
) -> str:
    """A row per student.  `total` stays empty while a written answer waits for its reader."""
    names = [cell.name for cell in assignment.cells if cell.role in ("answer", "written")]
    rows: list[Sequence[object]] = [
        ("student", "assignment", "seed", "total", "out_of", "automatic", *names, "notes")
    ]
    for one in graded:
        points = {mark.name: points_of(one.student, mark, known) for mark in one.marks}
        complete = all(value is not None for value in points.values())
        total = _number(sum(v for v in points.values() if v is not None)) if complete else ""
        automatic = sum(mark.points or 0 for mark in one.marks if not mark.written)
        start = (one.student, assignment.name, assignment.seed, total, assignment.points, automatic)
        rows.append((*start, *(_number(points[name]) for name in names), " ".join(one.notes)))
    return _csv(rows)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def _csv(rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([_safe(cell) for cell in row] for row in rows)
    return text.getvalue()


def _safe(cell: object) -> object:
    """A spreadsheet would run a cell that begins like a formula."""
    risky = isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@")
    return f"'{cell}" if risky else cell


# Feedback


def page(one: Graded, assignment: Assignment, known: Mapping[tuple[str, str], Reading]) -> str:
    """The feedback for one student: a page that needs nothing else."""
    points = [points_of(one.student, mark, known) for mark in one.marks]
    total = sum(value for value in points if value is not None)
    waiting = sum(m.out_of for m, p in zip(one.marks, points, strict=True) if p is None)
    later = f", and {waiting} still to be read" if waiting else ""
    title = f"{assignment.about['title']}: {one.student}"
    notes = "".join(f"<li>{escape(note)}</li>" for note in one.notes)
    parts = [
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body>',
        f"<h1>{escape(title)}</h1>",
        f"<p><strong>{total:g} of {assignment.points} points</strong>{later}.</p>",
        f"<ul>{notes}</ul>" if notes else "",
    ]
    for mark, value in zip(one.marks, points, strict=True):
        parts.append(_section(one.student, mark, value, assignment, known))
    return "\n".join(parts) + "\n</body></html>\n"


def _section(
    student: str,
    mark: Mark,
    value: float | None,
    assignment: Assignment,
    known: Mapping[tuple[str, str], Reading],
) -> str:
    shown = "to be read" if value is None else f"{value:g}"
    said = mark.said
    parts = [
        f'<section><h2><span class="points">{shown} / {mark.out_of}</span>{escape(mark.title)}</h2>'
    ]
    if mark.written:
        reading = known.get((student, mark.name), Reading(None))
        said = reading.comment or ("" if reading.mark is not None else said)
        rubric = assignment.about["written"][mark.name]["rubric"]
        rows = "".join(
            f"<tr><td>{r['points']}</td><td>{escape(r['for'])}</td></tr>" for r in rubric
        )
        if reading.mark is not None:  # until then it would be a model answer
            parts.append(f"<table><tr><th>Points</th><th>For</th></tr>{rows}</table>")
    parts.append(f"<p>{escape(said)}</p>" if said else "")
    if mark.work:
        parts.append(f"<details open><summary>Your answer</summary><pre>{escape(mark.work)}</pre>")
        parts.append("</details>")
    if mark.output.strip():
        parts.append(f"<details><summary>What it printed</summary><pre>{escape(mark.output)}</pre>")
        parts.append("</details>")
    return "".join(parts) + "</section>"
