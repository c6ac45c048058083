"""A page of feedback for one student, which needs nothing else and runs nothing."""

from __future__ import annotations

from html import escape

from grading.grades import Course
from grading.marks import Graded, Mark
from grading.tables import number
from grading.written import rubric

GENERATOR = '<meta name="generator" content="ntkbook course">'
POLICY = "default-src 'none'; style-src 'unsafe-inline'"
STYLE = """
:root { color-scheme: light dark; }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; }
body { padding: 0 1rem; --line: color-mix(in srgb, currentColor 30%, transparent); }
body { overflow-wrap: anywhere; }
pre { white-space: pre-wrap; padding: .75rem; border: 1px solid var(--line); }
table { border-collapse: collapse; }
td, th { padding: .25rem .75rem .25rem 0; text-align: left; vertical-align: top; }
td:first-child { white-space: nowrap; } th { overflow-wrap: normal; } td p { margin: 0; }
section { border-top: 1px solid var(--line); margin-top: 1.5rem; }
.points { float: right; font-weight: 600; margin-left: 1rem; white-space: nowrap; }
.comment { white-space: pre-line; }
"""


def page(one: Graded, course: Course, show_output: bool = False) -> str:
    """The feedback for one student.  What their cells printed is shown on request only."""
    assignment, points = course.assignment, course.points(one)
    waiting = sum(mark.out_of for mark in one.marks if points[mark.name] is None)
    later = f", and {waiting} still to be read" if waiting else ""
    lost, late = course.lost(one), str(course.time_of(one))
    title = f"{assignment.about['title']}: {one.student}"
    notes = "".join(f"<li>{escape(note)}</li>" for note in one.notes)
    if lost:
        after = "" if late == "yes" else f" by {late}"
        notes += f"<li>Handed in late{after}: {100 * lost:g} % of the points are taken off.</li>"
    total = f"{course.so_far(one):g} of {assignment.points} points"
    parts = [
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">{GENERATOR}'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>",
        f"<h1>{escape(title)}</h1>",
        f"<p><strong>{total}</strong>{later}.</p>",
        f"<ul>{notes}</ul>" if notes else "",
    ]
    parts += [_section(one.student, mark, course, show_output) for mark in one.marks]
    return "\n".join(parts) + "\n</body></html>\n"


def _section(student: str, mark: Mark, course: Course, show_output: bool) -> str:
    value, reading = course.marks.points(student, mark), course.marks.of(student, mark)
    shown = f"{value:g} / {mark.out_of}" if value is not None else f"to be read / {mark.out_of}"
    parts = [f'<section><h2><span class="points">{shown}</span>{escape(mark.title)}</h2>']
    entries = rubric(course.assignment, mark.name)
    if entries and reading.points is not None:  # until then it would be a model answer
        earned = reading.entries or (None,) * len(entries)
        rows = "".join(
            f"<tr><td>{'' if got is None else f'{number(got)} / '}{entry['points']}</td>"
            f"<td>{escape(str(entry['for']))}</td></tr>"
            for entry, got in zip(entries, earned, strict=True)
        )
        parts.append(f"<table><tr><th>Points</th><th>For</th></tr>{rows}</table>")
    said = "" if mark.written and reading.points is not None else mark.said
    parts += [f"<p>{escape(said)}</p>" if said else ""]
    if reading.comment:
        parts.append(f'<p class="comment">{escape(reading.comment)}</p>')
    if mark.work:
        parts.append(f"<details open><summary>Your answer</summary><pre>{escape(mark.work)}</pre>")
        parts.append("</details>")
    if show_output and mark.output.strip():
        parts.append(f"<details><summary>What it printed</summary><pre>{escape(mark.output)}</pre>")
        parts.append("</details>")
    return "".join(parts) + "</section>"
