"""Trying an assignment out: right answers must get all points, and wrong ones none."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from grading.assignment import (
    ANSWER,
    GIVEN,
    SCRATCH,
    TEST,
    Assignment,
    Question,
    answer_code,
    faults,
    load,
    stripped,
)
from grading.sandbox import Limits, Outcome, Sandbox, Stopped, imported


def validate(
    folder: Path,
    seed: int | None = None,
    variants: bool = True,
    compiled: Path | None = None,
    others: Iterable[int] = (),
) -> list[str]:
    """What is wrong with an assignment, in its form or when it is run; nothing when all is well.

    Each question must give full marks to the reference and to every alternative right answer, and
    none, in any of its tests, to the empty stub and to every wrong answer; the visible parts of
    its tests must run by themselves.  A wrong answer is tried as grading does it (canary.py), after
    the reference.  Without `variants` only reference and stub are tried.
    `compiled` is a folder in which JAX finds what it compiled for an earlier validation.
    `others` are further seeds, of which reference and stub are tried after all this, in the same
    process, where next to nothing is compiled anew.
    """
    assignment = load(folder, seed)
    again = {other: load(folder, other) for other in others}
    wrong = faults(folder, assignment)
    if wrong:
        return wrong
    modules = imported(c.source for c in assignment.cells if c.role in (GIVEN, TEST) and c.code)
    with Sandbox(Limits(), secret=[folder], compiled=compiled, modules=modules) as box:
        wrong = _try_all(box, assignment, variants)
        for other, same in again.items():
            if not wrong:
                wrong = [f"seed {other}: {text}" for text in _try_all(box, same, False)]
    return wrong


def _try_all(box: Sandbox, assignment: Assignment, variants: bool) -> list[str]:
    """Run the cells in order, with every answer in the place of each of the student's."""
    questions = {question.answer.name: question for question in assignment.questions}
    wrong: list[str] = []
    for cell in assignment.cells:
        try:
            if cell.role == ANSWER:
                wrong += _try_answers(box, assignment, questions[cell.name], variants)
            elif cell.code and cell.role in (GIVEN, SCRATCH):
                outcome = box.run("given", cell.source, box.limits.cell)
                if outcome.error:
                    wrong.append(f"{cell.name}: {outcome.error}: {outcome.message}")
        except Stopped as reason:
            return [*wrong, f"{cell.name}: {reason}"]
    return wrong


def _try_answers(
    box: Sandbox, assignment: Assignment, question: Question, variants: bool
) -> list[str]:
    cell, answers = question.answer, assignment.about["questions"][question.answer.name]
    tried = [("the empty stub", stripped(cell), False)]
    if variants:
        tried += [(f"right: {a['name']}", answer_code(cell, a), True) for a in answers["right"]]
    tried.append(("the reference", cell.source, True))  # last, since later cells may use it
    wrong = []
    for name, source, good in tried:
        own = box.run("own", source, box.limits.cell)
        results = [box.run("test", test.source, box.limits.cell) for test in question.tests]
        if own.error and own.error != "NotImplementedError":
            wrong.append(f"{cell.name}, {name}: the answer ends with {own.error}: {own.message}")
        wrong += [
            f"{cell.name}, {name}: {_said(outcome)}"
            for outcome in results
            if (outcome.error is None) != good
        ]
    for answer in answers["wrong"] if variants else ():
        code, name = answer_code(cell, answer), f"{cell.name}, wrong: {answer['name']}"
        own = box.run("test", "pass", box.limits.cell, wrong=code)
        if own.error:
            wrong.append(f"{name}: the answer ends with {own.error}: {own.message}")
        for test in question.tests:
            outcome = box.run("test", test.source, box.limits.cell, wrong=code)
            wrong += [f"{name}: {_said(outcome)}"] if outcome.error is None else []
    visible = [box.run("test", stripped(test), box.limits.cell) for test in question.tests]
    wrong += [
        f"{cell.name}: what students see of the test fails on the reference: {_said(outcome)}"
        for outcome in visible
        if outcome.error
    ]
    return wrong


def _said(outcome: Outcome) -> str:
    return f"refused: {outcome.message or outcome.error}" if outcome.error else "full marks"
