"""The marks for one notebook: its answers among the tests, run apart, and what is said of them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from grading.assignment import Assignment
from grading.canary import canaries
from grading.sandbox import LATE, STOPPED, TAMPERED, Limits, Outcome, run_cells
from grading.similarity import suspicious
from grading.submission import Handed, assembled, hand_in

# A spreadsheet's cell holds 32 767 characters, and nobody reads more.
MOST_NOTES, LONGEST_NOTE, LONGEST_ANSWER = 20, 300, 100_000


@dataclass(frozen=True)
class Mark:
    """The points for a question.  `points` is None while it waits for a person.

    `answer` is a mark of the text that was handed in: another one when the text has changed.
    """

    name: str
    title: str
    points: int | None
    out_of: int
    said: str
    work: str = ""
    output: str = ""
    written: bool = False
    answer: str = ""


@dataclass(frozen=True)
class Graded:
    """One student's marks, notes on the submission, and what a person should look at."""

    student: str
    marks: tuple[Mark, ...]
    notes: tuple[str, ...] = ()
    review: tuple[str, ...] = ()
    pictures: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)


def grade(
    student: str,
    path: Path | None,
    assignment: Assignment,
    limits: Limits | None = None,
    secret: Iterable[Path] = (),
    below: Path | None = None,
) -> Graded:
    """The marks for one notebook; `secret` are the places that its code may not read.

    A notebook that lies outside the folder `below` is refused.
    """
    if path is None:
        return Graded(
            student, _none(student, assignment, "Nothing was handed in."), ("No notebook.",)
        )
    try:
        handed = hand_in(path, assignment, below)
    except ValueError as error:
        said = str(error)[0].upper() + str(error)[1:] + "."
        return Graded(student, _none(student, assignment, said), (said,))
    cells = assembled(assignment, handed)
    outcomes = run_cells(cells, limits or Limits(), secret, canaries(assignment))
    by_name = {name: outcome for (name, *_), outcome in zip(cells, outcomes, strict=True) if name}
    failed = [
        f"A cell of your own ended with {o.error}: {_short(o.message)}"
        for (name, *_), o in zip(cells, outcomes, strict=True)
        if not name and o.error
    ]
    marks = _marks(student, assignment, handed, by_name)
    told = list(dict.fromkeys(outcome.note for outcome in outcomes if outcome.note))
    review = [*told, *handed.mixed, *_seen(cells, handed, by_name)]
    pictures = {name: found for name, found in handed.pictures.items() if found}
    notes = capped([*told, *handed.notes, *failed])
    return Graded(student, marks, notes, capped(review), pictures)


def _seen(
    cells: Sequence[tuple[str, str, str]], handed: Handed, outcomes: Mapping[str, Outcome]
) -> list[str]:
    """What a person should look at: cells that met a limit, and words that point at tampering."""
    stopped = sorted({name for name, o in outcomes.items() if o.error in (STOPPED, LATE)})
    review = [f"Stopped at a limit: {', '.join(stopped)}."] if stopped else []
    words = suspicious(source for name, _, source in cells if not name or name in handed.answers)
    return review + ([f"Read this code, it names {', '.join(words)}."] if words else [])


def undecided(student: str, assignment: Assignment, said: str) -> Graded:
    """No points either way: a person has to decide."""
    marks = tuple(replace(mark, points=None) for mark in _none(student, assignment, said))
    return Graded(student, marks, (said,), (said,))


def ungraded(student: str, assignment: Assignment, error: BaseException) -> Graded:
    """No points either way for a notebook on which the grader itself failed."""
    said = f"The grader failed ({type(error).__name__}: {error}); grade this notebook by hand."
    return undecided(student, assignment, capped([said])[0])


def capped(notes: Sequence[str]) -> tuple[str, ...]:
    """As many notes, and as much of each, as a person reads."""
    kept = [f"{note[:LONGEST_NOTE]} …" if len(note) > LONGEST_NOTE + 2 else note for note in notes]
    more = len(kept) - MOST_NOTES
    return (*kept[:MOST_NOTES], *([f"And {more} more notes."] if more > 0 else []))


def _none(student: str, assignment: Assignment, said: str) -> tuple[Mark, ...]:
    marks = [Mark(q.answer.name, q.title, 0, q.points, said) for q in assignment.questions]
    marks += [
        Mark(cell.name, assignment.title_of(cell), 0, cell.points, said, written=True)
        for cell in assignment.written
    ]
    return _in_order(assignment, [_kept(student, mark) for mark in marks])


def _marks(
    student: str, assignment: Assignment, handed: Handed, outcomes: dict[str, Outcome]
) -> tuple[Mark, ...]:
    marks = []
    for question in assignment.questions:
        name, own = question.answer.name, outcomes[question.answer.name]
        results = [(test, outcomes[test.name]) for test in question.tests]
        points = sum(test.points for test, outcome in results if outcome.error is None)
        work = handed.answers.get(name, "")
        said = [_verdict(outcome, own, bool(work)) for _, outcome in results if outcome.error]
        if said and name not in handed.answers:
            said = ["The cell for this answer is missing."]
        text = " ".join(dict.fromkeys(said)) or "All tests pass."
        known = points if points == question.points or not handed.stranger else None
        mark = Mark(name, question.title, known, question.points, text, work, own.output)
        marks.append(_kept(student, mark))
    for cell in assignment.written:
        text = handed.answers.get(cell.name, "").strip()
        if cell.name not in handed.answers and (handed.texts or handed.stranger):
            text = "\n\n".join(handed.texts)  # its cell has lost its name, or was retyped
            empty = False
        else:
            empty = not text and not handed.pictures.get(cell.name)
        said_ = "Not answered." if empty else "Waits for a reader."
        title = assignment.title_of(cell)
        points_ = 0 if empty else None
        mark = Mark(cell.name, title, points_, cell.points, said_, text, written=True)
        marks.append(_kept(student, mark))
    return _in_order(assignment, marks)


def _kept(student: str, mark: Mark) -> Mark:
    """With a mark of the answer, and no more of its text than a person would read."""
    said = f"{student}\n{mark.name}\n{mark.work}".encode("utf-8", "replace")
    work = mark.work
    if len(work) > LONGEST_ANSWER:
        work = work[:LONGEST_ANSWER] + "\n… cut here"
    # Letters only: a spreadsheet would make a number of 0123 or 12e4.
    name = "".join(chr(ord("a") + value % 26) for value in hashlib.sha256(said).digest()[:8])
    return replace(mark, work=work, answer=name)


def _in_order(assignment: Assignment, marks: list[Mark]) -> tuple[Mark, ...]:
    order = [cell.name for cell in assignment.cells]
    return tuple(sorted(marks, key=lambda mark: order.index(mark.name)))


def _verdict(test: Outcome, answer: Outcome, answered: bool) -> str:
    """Why a test failed, in words for the student; hidden tests and their values stay hidden."""
    if test.error == TAMPERED:
        return test.message
    if "NotImplementedError" in (test.error, answer.error):
        return "Not answered."
    if test.error == "NameError" and not answered:
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
