"""The totals as a learning-management system takes them in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from grading.roster import Roster
from grading.tables import key, read_table, written

SYSTEMS = ("moodle", "canvas", "csv")
MODIFIED = "Last modified (grade)"
NEEDED = ("student", "assignment", "total", "out_of")


def export(grades: Path, roster: Roster, system: str) -> tuple[str, list[str]]:
    """The text of the file, and a line for each student who isn't in it.

    Moodle's offline grading worksheet knows people by the number in its own export, Canvas by its
    user id.  Empty totals are left out of these two: there is something to be read yet.
    """
    if not grades.exists():
        raise ValueError(f"{grades} is missing; grade first")
    rows, missing = [], []
    for _, row in read_table(grades, NEEDED).rows:
        student = key(row["student"])
        person = {name: roster.of(student, name) for name in ("id", "name", "email")}
        person["name"] = person["name"] or student
        if system != "csv" and not row["total"].strip():
            missing.append(f"{student}: no total yet")
        elif system != "csv" and not person["id"]:
            missing.append(f"{student}: no id in students.csv")
        else:
            rows.append(row | person)
    return _SHAPES[system](rows), missing


def _moodle(rows: Sequence[Mapping[str, str]]) -> str:
    # Moodle asks for the last column; where it is empty, nothing was graded there before.
    columns = ("Identifier", "Full name", "Email address", "Grade", "Maximum Grade", MODIFIED)
    return written(
        columns,
        [
            {"Identifier": f"Participant {row['id']}", "Full name": row["name"]}
            | {"Email address": row["email"], "Grade": row["total"]}
            | {"Maximum Grade": row["out_of"], MODIFIED: ""}
            for row in rows
        ],
    )


def _canvas(rows: Sequence[Mapping[str, str]]) -> str:
    title = rows[0]["assignment"] if rows else "assignment"
    columns = ("Student", "ID", "SIS User ID", "SIS Login ID", "Section", title)
    first = {"Student": "    Points Possible", title: rows[0]["out_of"] if rows else ""}
    people = [{"Student": row["name"], "ID": row["id"], title: row["total"]} for row in rows]
    return written(columns, [first, *people])


def _csv(rows: Sequence[Mapping[str, str]]) -> str:
    return written(("folder", "id", "name", "email", "assignment", "total", "out_of"),
                   [dict(row) | {"folder": row["student"]} for row in rows])  # fmt: skip


_SHAPES = {"moodle": _moodle, "canvas": _canvas, "csv": _csv}
