"""A reader's marks: one table, in which points for any question can be entered and are kept."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from grading.assignment import ANSWER, WRITTEN, Assignment
from grading.marks import Graded, Mark
from grading.tables import Table, key, number, read_table, replace_file, written

NEEDED = ("student", "question", "mark", "comment")
Place = tuple[str, str]  # a student and a question


@dataclass(frozen=True)
class Reading:
    """What a person has entered for one answer, or None so far.

    `entries` are the points by the rubric, `answer` the mark of the text that was read, and
    `added` the cells in columns of the person's own.
    """

    mark: float | None = None
    comment: str = ""
    entries: tuple[float | None, ...] = ()
    answer: str = ""
    added: Mapping[str, str] = field(default_factory=dict)

    @property
    def points(self) -> float | None:
        """The mark, or the sum over the rubric once all of it is filled in."""
        if self.mark is not None or not self.entries:
            return self.mark
        given = [entry for entry in self.entries if entry is not None]
        return sum(given) if len(given) == len(self.entries) else None

    @property
    def empty(self) -> bool:
        nothing = self.mark is None and not any(entry is not None for entry in self.entries)
        return nothing and not self.comment and not any(self.added.values())


@dataclass(frozen=True)
class Marks:
    """The table as it was read: readings by student and question, and its dialect."""

    readings: Mapping[Place, Reading] = field(default_factory=dict)
    table: Table = field(default_factory=Table)

    def of(self, student: str, mark: Mark) -> Reading:
        return self.readings.get((student, mark.name), Reading())

    def points(self, student: str, mark: Mark) -> float | None:
        """The points for a question: a person's, or those of the tests."""
        mine = self.of(student, mark).points
        return mark.points if mine is None else mine

    def outdated(self, one: Graded) -> list[str]:
        """A line for each mark that was given to another answer than the one that is here now."""
        return [
            f"{mark.name}: the answer has changed since it was marked."
            for mark in one.marks
            if self.of(one.student, mark).points is not None
            and self.of(one.student, mark).answer not in ("", mark.answer)
        ]


def rubric(assignment: Assignment, name: str) -> list[dict]:
    """The entries of a written answer's rubric; none for a question in code."""
    return assignment.about.get("written", {}).get(name, {}).get("rubric", [])


def read_marks(path: Path, assignment: Assignment) -> Marks:
    """What was entered so far.  Raises ValueError naming the line that can't be used."""
    columns = _entry_columns(assignment)
    table = read_table(path, NEEDED, ("out_of", *columns, "answer"))
    tops = _tops(assignment)
    found: dict[Place, Reading] = {}
    for line, row in table.rows:
        name, where = key(row["question"]), f"{path}, line {line}"
        place = (key(row["student"]), name)
        if name not in tops:
            raise ValueError(f"{where}: no question {name!r}; there are {', '.join(tops)}")
        if place in found:
            raise ValueError(f"{where}: a second row for {place}")
        entries = []
        for column, entry in zip(columns, rubric(assignment, name), strict=False):
            entries.append(_points(f"{where}, {column}", row.get(column, ""), entry["points"]))
        for column in columns[len(entries) :]:
            if row.get(column, "").strip():
                raise ValueError(f"{where}: the rubric of {name!r} has no {column}")
        mark = _points(where, row["mark"], tops[name])
        added = {column: row.get(column, "") for column in table.extra}
        answer = row.get("answer", "").strip()
        found[place] = Reading(mark, row["comment"].strip(), tuple(entries), answer, added)
    return Marks(found, table)


def _tops(assignment: Assignment) -> dict[str, int]:
    points = {question.answer.name: question.points for question in assignment.questions}
    points |= {cell.name: cell.points for cell in assignment.written}
    names = [cell.name for cell in assignment.cells if cell.role in (ANSWER, WRITTEN)]
    return {name: points[name] for name in names}


def _entry_columns(assignment: Assignment) -> list[str]:
    most = max((len(rubric(assignment, cell.name)) for cell in assignment.written), default=0)
    return [f"entry {place}" for place in range(1, most + 1)]


def _points(where: str, text: str, top: float) -> float | None:
    text = text.strip()
    if not text:
        return None
    try:
        mark = float(text.replace(",", "."))
    except ValueError:
        mark = math.nan
    if not 0 <= mark <= top:
        raise ValueError(f"{where}: expected a mark from 0 to {top} or nothing, got {text!r}")
    return mark


def written_table(graded: Iterable[Graded], assignment: Assignment, marks: Marks) -> str:
    """Every row that was there with something in it, and a row for whatever waits for a person."""
    readings = {place: one for place, one in marks.readings.items() if not one.empty}
    answers = {}
    for one in graded:
        for mark in one.marks:
            place = (one.student, mark.name)
            answers[place] = mark.answer
            if mark.written or mark.points is None:
                readings.setdefault(place, Reading())
    tops, columns = _tops(assignment), _entry_columns(assignment)
    order = list(tops)
    rows = []
    for place in sorted(readings, key=lambda place: (order.index(place[1]), place[0])):
        reading = readings[place]
        kept = reading.answer if reading.points is not None else ""
        rows.append(
            dict(reading.added)
            | {"student": place[0], "question": place[1], "out_of": tops[place[1]]}
            | {"mark": number(reading.mark), "comment": reading.comment}
            | dict(zip(columns, map(number, reading.entries), strict=False))
            | {"answer": kept or answers.get(place, reading.answer)}
        )
    names = ("student", "question", "out_of", "mark", "comment", *columns, "answer")
    return written(names, rows, marks.table)


def merge(path: Path, assignment: Assignment, graded: Iterable[Graded]) -> Marks:
    """Write the table, and return the marks that it holds: read at the last moment, never lost."""
    graded = list(graded)
    for _ in range(100):
        before = _state(path)
        marks = _restored(read_marks(path, assignment), {one.student for one in graded})
        text = written_table(graded, assignment, marks)
        if replace_file(path, text, functools.partial(_is, path, before)):
            return marks
    raise ValueError(f"{path}: it is being changed all the time; close it and run this again")


def _restored(marks: Marks, students: set[str]) -> Marks:
    """With the zeros in front of a student's number, which a spreadsheet takes off."""
    numbers = {name.lstrip("0"): name for name in students if name.isdigit() and name[0] == "0"}
    readings = {
        (numbers.get(student, student) if student not in students else student, question): reading
        for (student, question), reading in marks.readings.items()
    }
    return Marks(readings if len(readings) == len(marks.readings) else marks.readings, marks.table)


def _is(path: Path, state: tuple[int, int, int] | None) -> bool:
    return _state(path) == state


def _state(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
