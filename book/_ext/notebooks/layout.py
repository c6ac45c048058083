"""How a chapter is laid out: its headings, its quiz, and exercises with hints and solutions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from nbformat import NotebookNode

SECTIONS = ("Where it breaks", "Key takeaways", "Quiz", "Exercises", "Sources")
FEWEST_EXERCISES = 4


@dataclass
class Exercise:
    """What was found of an exercise while the notebook was read from top to bottom."""

    label: str
    hinted: bool = False
    solved: bool = False
    folded: bool = False
    runs: bool = False
    problems: list[str] = field(default_factory=list)


def faults(name: str, notebook: NotebookNode) -> list[str]:
    """What the layout of the chapter `name` lacks, a sentence for each."""
    return [f"{name}: {text}" for text in (*_headings(name, notebook), *_exercises(notebook))]


def _headings(name: str, notebook: NotebookNode) -> Iterator[str]:
    lines = [line for cell in _prose(notebook) for line in cell.source.splitlines()]
    titles = [line for line in lines if line.startswith("# ")]
    if len(titles) != 1:
        yield f"{len(titles)} titles (lines that begin with '# '), exactly 1 is needed"
    found = [line[3:] for line in lines if line.startswith("## ")]
    for section in SECTIONS:
        if found.count(section) != 1:
            yield f"the heading '## {section}' occurs {found.count(section)} times, expected once"
    order = [section for section in found if section in SECTIONS]
    if order != [section for section in SECTIONS if section in order]:
        yield f"the headings come as {', '.join(order)}; expected {', '.join(SECTIONS)}"
    if f"```{{quiz}} {name}" not in lines:
        yield f"no quiz: expected the directive ```{{quiz}} {name} below '## Quiz'"


def _exercises(notebook: NotebookNode) -> Iterator[str]:
    found = _read_exercises(notebook)
    if len(found) < FEWEST_EXERCISES:
        plural = "exercise" if len(found) == 1 else "exercises"
        yield f"{len(found)} {plural}, at least {FEWEST_EXERCISES} are needed"
    for one in found.values():
        yield from (f"exercise {one.label} {text}" for text in one.problems)
        if not one.hinted:
            yield f"exercise {one.label} has no hint (a dropdown called Hint)"
        if not one.solved:
            yield f"exercise {one.label} has no solution ({{solution-start}} {one.label})"
        elif not one.folded:
            yield f"the solution of {one.label} is not folded (:class: dropdown)"
        elif not one.runs:
            yield f"the solution of {one.label} holds no code"


def _read_exercises(notebook: NotebookNode) -> dict[str, Exercise]:
    found: dict[str, Exercise] = {}
    current: Exercise | None = None  # the last exercise, whose hint may come
    solving: Exercise | None = None  # the exercise whose solution is open
    for cell in notebook.cells:
        if cell.cell_type == "code":
            if solving:
                solving.runs = True
            continue
        for line in cell.source.splitlines():
            if re.match(r"(`{3,}|:{3,})\{exercise\}", line):
                current = Exercise("without a label")
            elif (label := re.match(r":label: (\S+)", line)) and current and not current.hinted:
                current.label = label[1]
                found.setdefault(current.label, current)
            elif "{dropdown} Hint" in line and current:
                current.hinted = True
            elif start := re.search(r"\{solution-start\} (\S+)", line):
                solving = found.get(start[1]) or found.setdefault(
                    start[1], Exercise(start[1], problems=["is solved but never asked"])
                )
                solving.solved = True
            elif line == ":class: dropdown" and solving:
                solving.folded = True
            elif "{solution-end}" in line:
                solving = None
    if solving:
        solving.problems.append("has a solution that never ends ({solution-end})")
    return found


def _prose(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "markdown"]
