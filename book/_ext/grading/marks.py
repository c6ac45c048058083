"""The marks for one notebook: its answers among the tests, run apart, and what is said of them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from grading.assignment import Assignment, stripped
from grading.sandbox import LATE, STOPPED, Limits, Outcome, run_cells
from grading.submission import Handed, assembled, hand_in


@dataclass(frozen=True)
class Mark:
    """The points for a question.  `points` is None while a written answer waits for a reader."""

    name: str
    title: str
    points: int | None
    out_of: int
    said: str
    work: str = ""
    output: str = ""
    written: bool = False


@dataclass(frozen=True)
class Graded:
    """One student's marks, and notes on the submission as a whole."""

    student: str
    marks: tuple[Mark, ...]
    notes: tuple[str, ...] = ()


def grade(
    student: str,
    path: Path | None,
    assignment: Assignment,
    limits: Limits | None = None,
    secret: Iterable[Path] = (),
) -> Graded:
    """The marks for one notebook; `secret` are the places that its code may not read."""
    if path is None:
        return Graded(student, _none(assignment, "Nothing was handed in."), ("No notebook.",))
    try:
        handed = hand_in(path, assignment)
    except ValueError as error:
        said = str(error)[0].upper() + str(error)[1:] + "."
        return Graded(student, _none(assignment, said), (said,))
    cells = assembled(assignment, handed)
    outcomes = run_cells(cells, limits or Limits(), secret)
    by_name = {name: outcome for (name, *_), outcome in zip(cells, outcomes, strict=True) if name}
    failed = [
        f"A cell of your own ended with {o.error}: {_short(o.message)}"
        for (name, *_), o in zip(cells, outcomes, strict=True)
        if not name and o.error
    ]
    return Graded(student, _marks(assignment, handed, by_name), (*handed.notes, *failed))


def ungraded(student: str, assignment: Assignment, error: BaseException) -> Graded:
    """No points either way for a notebook on which the grader itself failed."""
    said = f"The grader failed ({type(error).__name__}: {error}); grade this notebook by hand."
    marks = tuple(replace(mark, points=None) for mark in _none(assignment, said))
    return Graded(student, marks, (said,))


def _none(assignment: Assignment, said: str) -> tuple[Mark, ...]:
    marks = [Mark(q.answer.name, q.title, 0, q.points, said) for q in assignment.questions]
    marks += [
        Mark(cell.name, assignment.title_of(cell), 0, cell.points, said, written=True)
        for cell in assignment.written
    ]
    return _in_order(assignment, marks)


def _marks(
    assignment: Assignment, handed: Handed, outcomes: dict[str, Outcome]
) -> tuple[Mark, ...]:
    marks = []
    for question in assignment.questions:
        name, own = question.answer.name, outcomes[question.answer.name]
        results = [(test, outcomes[test.name]) for test in question.tests]
        points = sum(test.points for test, outcome in results if outcome.error is None)
        said = [_verdict(outcome, own) for _, outcome in results if outcome.error]
        if name not in handed.answers:
            said = ["The cell for this answer is missing."]
        text = " ".join(dict.fromkeys(said)) or "All tests pass."
        work = handed.answers.get(name, "")
        marks.append(Mark(name, question.title, points, question.points, text, work, own.output))
    for cell in assignment.written:
        text = handed.answers.get(cell.name, "").strip()
        empty = text in ("", stripped(cell).strip())
        said_ = "Not answered." if empty else "Waits for a reader."
        title = assignment.title_of(cell)
        points_ = 0 if empty else None
        marks.append(Mark(cell.name, title, points_, cell.points, said_, text, written=True))
    return _in_order(assignment, marks)


def _in_order(assignment: Assignment, marks: list[Mark]) -> tuple[Mark, ...]:
    order = [cell.name for cell in assignment.cells]
    return tuple(sorted(marks, key=lambda mark: order.index(mark.name)))


def _verdict(test: Outcome, answer: Outcome) -> str:
    """Why a test failed, in words for the student; hidden tests and their values stay hidden."""
    if "NotImplementedError" in (test.error, answer.error):
        return "Not answered."
    if answer.error in (STOPPED, LATE):
        return f"Your cell was stopped: {_short(answer.message)}"
    if answer.error:
        return f"Your cell ended with {answer.error}: {_short(answer.message)}"
    if test.error in (STOPPED, LATE):
        return f"The test was stopped: {_short(test.message)}"
    if test.error == "NameError":
        missing = _short(test.message)
        return f"{missing} Was it renamed, or did its cell not run?"
    if test.error == "AssertionError":
        return _short(test.message) or "A test failed."
    return f"The test ended with {test.error}: {_short(test.message)}"


def _short(message: str) -> str:
    """The first telling lines; numpy's tables of expected values are left out."""
    kept = []
    for line in message.split("\n"):
        if re.match(r"\s*(Mismatch|Max absolute|Max relative| ?ACTUAL|nan location|x and y)", line):
            break
        if line.strip() and not line.startswith("Not equal to tolerance"):
            kept.append(line.strip())
    text = " ".join(kept)[:400]
    return text if not text or text.endswith((".", "!", "?")) else text + "."
