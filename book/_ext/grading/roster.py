"""Who is who: `students.csv` beside the submissions, from the export and from the instructor."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, time
from pathlib import Path

from grading.tables import Table, key, read_table, replace_file, written

FILE = "students.csv"
COLUMNS = ("folder", "id", "name", "email", "late", "deadline")


@dataclass(frozen=True)
class Roster:
    """The rows of the table by folder, in their order, and its dialect."""

    people: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    table: Table = field(default_factory=Table)

    def of(self, student: str, column: str) -> str:
        return self.people.get(student, {}).get(column, "").strip()


def read_roster(submissions: Path) -> Roster:
    """The table, empty when there is none.  Raises ValueError naming the line that is wrong."""
    path = submissions / FILE
    table = read_table(path, COLUMNS[:1], COLUMNS[1:])
    people: dict[str, Mapping[str, str]] = {}
    for line, row in table.rows:
        student = key(row["folder"])
        if not student or student in people:
            said = f"a second row for {student!r}" if student else "no folder"
            raise ValueError(f"{path}, line {line}: {said}")
        try:
            moment(row.get("deadline", ""))
        except ValueError as error:
            raise ValueError(f"{path}, line {line}: deadline: {error}") from None
        people[student] = row
    return Roster(people, table)


def add(submissions: Path, new: Iterable[Mapping[str, str]]) -> None:
    """Add people and fill in cells that are empty; nothing that is there is changed."""
    roster = read_roster(submissions)
    rows = {student: dict(row) for student, row in roster.people.items()}
    for person in new:
        row = rows.setdefault(key(person["folder"]), {})
        row |= {name: value for name, value in person.items() if value and not row.get(name)}
    if rows != roster.people:
        replace_file(submissions / FILE, written(COLUMNS, rows.values(), roster.table))


def moment(text: str) -> datetime | None:
    """A time such as 2027-03-01 23:59, of this machine's zone unless it names another.

    A day alone lasts until its end; nothing is None.  Raises ValueError for anything else.
    """
    text = text.strip()
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"expected a time like 2027-03-01 23:59, got {text!r}") from None
    if len(text) <= len("2027-03-01"):
        found = datetime.combine(found, time.max)
    return found.astimezone()
