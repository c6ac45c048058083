"""The table of grades: points by question, what was late, and what a person should look at."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from grading.assignment import Assignment
from grading.marks import Graded
from grading.tables import number, written
from grading.written import Marks


@dataclass(frozen=True)
class Timing:
    """When something was handed in, how late that was, and whether an export called it late."""

    handed_in: datetime | None = None
    late: timedelta = timedelta()
    called_late: bool = False

    @property
    def days(self) -> int:
        """Days that have begun since the deadline."""
        begun = math.ceil(self.late / timedelta(days=1))
        return max(begun, 1) if self.called_late else begun

    def __str__(self) -> str:
        if self.late <= timedelta():
            return "yes" if self.called_late else ""
        minutes = math.ceil(self.late / timedelta(minutes=1))
        days = f"{minutes // 1440} d " if minutes >= 1440 else ""
        return f"{days}{minutes // 60 % 24} h {minutes % 60} min"


@dataclass(frozen=True)
class Course:
    """What turns one student's marks into a total: a reader's marks, times, and a penalty.

    `penalty` is in percent of the points for each day begun after the deadline.
    """

    assignment: Assignment
    marks: Marks = field(default_factory=Marks)
    timing: Mapping[str, Timing] = field(default_factory=dict)
    penalty: float = 0.0
    review: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def points(self, one: Graded) -> dict[str, float | None]:
        return {mark.name: self.marks.points(one.student, mark) for mark in one.marks}

    def time_of(self, one: Graded) -> Timing:
        return self.timing.get(one.student, Timing())

    def lost(self, one: Graded) -> float:
        """The part of the points that is taken off, from 0 to 1."""
        return min(self.penalty / 100 * self.time_of(one).days, 1.0)

    def so_far(self, one: Graded) -> float:
        """The points without what still waits, less the penalty."""
        points = sum(value for value in self.points(one).values() if value is not None)
        return round(points * (1 - self.lost(one)), 2)

    def total(self, one: Graded) -> float | None:
        """None while anything waits for a person."""
        return None if None in self.points(one).values() else self.so_far(one)


def grades_table(graded: Sequence[Graded], course: Course) -> str:
    """A row per student.  `total` stays empty while an answer waits for a person."""
    assignment = course.assignment
    names = [cell.name for cell in assignment.cells if cell.role in ("answer", "written")]
    columns = ("student", "assignment", "seed", "total", "out_of", "automatic", *names)
    columns += ("handed_in", "late", "penalty", "review", "notes")
    rows = []
    for one in graded:
        timing, lost = course.time_of(one), course.lost(one)
        automatic = sum(mark.points or 0 for mark in one.marks if not mark.written)
        review = [*one.review, *course.review.get(one.student, ()), *course.marks.outdated(one)]
        at = timing.handed_in
        rows.append(
            {name: number(value) for name, value in course.points(one).items()}
            | {"student": one.student, "assignment": assignment.name, "seed": assignment.seed}
            | {"total": number(course.total(one)), "out_of": assignment.points}
            | {"automatic": automatic, "handed_in": f"{at:%Y-%m-%d %H:%M}" if at else ""}
            | {"late": str(timing), "penalty": f"{100 * lost:g} %" if lost else ""}
            | {"review": " ".join(review), "notes": " ".join(one.notes)}
        )
    return written(columns, rows)
