"""How a chapter is laid out: headings, quiz, exercises with solutions, and how long its code is."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

from nbformat import NotebookNode

from notebooks.canonical import DERIVATION

SECTIONS = ("Where it breaks", "Key takeaways", "Quiz", "Exercises", "Sources")
FEWEST_EXERCISES = 4
FOLDED = "hide-input"  # the tag of a cell whose code is opened by a click

# How much code a reader meets: cells in sight, and lines that are not blank.
MOST_CELLS = 25
MEDIAN_LINES = 8
MOST_LINES = 20
MOST_LINES_FOLDED = 30

_EXERCISE = re.compile(r"(?:`{3,}|:{3,})\{exercise\}")
_OPTION = re.compile(r":[a-z]+:")
_LABEL = re.compile(r":label: (\S+)")
_START = re.compile(r"(?:`{3,}|:{3,})\{solution-start\}")
_END = re.compile(r"(?:`{3,}|:{3,})\{solution-end\}")
_SOLUTION = re.compile(r"(?:`{3,}|:{3,})\{solution(?:-start)?\} (\S+)")


@dataclass
class Exercise:
    """What was found of an exercise while the notebook was read from top to bottom."""

    label: str = ""
    hinted: bool = False
    solved: bool = False
    folded: bool = False
    runs: bool = False
    ended: bool = False


def faults(name: str, notebook: NotebookNode) -> list[str]:
    """What the layout of the chapter `name` lacks, a sentence for each."""
    return [f"{name}: {text}" for text in (*_headings(name, notebook), *_exercises(notebook))]


def form(name: str, notebook: NotebookNode) -> list[str]:
    """Where the code of the chapter `name` is longer than a reader should meet, or out of sight."""
    return [f"{name}: {text}" for text in _form(notebook)]


def _form(notebook: NotebookNode) -> Iterator[str]:
    in_sight = []
    for cell, solves in _code_and_solutions(notebook):
        folded = FOLDED in cell.metadata.get("tags", [])
        lines = sum(bool(line.strip()) for line in cell.source.splitlines())
        if not (folded or solves):
            in_sight.append(lines)
        most = MOST_LINES_FOLDED if folded or solves else MOST_LINES
        if lines > most:
            where = "a folded cell" if folded else "a solution" if solves else "a cell in sight"
            yield f"[{cell.id}] has {lines} lines, at most {most} are allowed in {where}"
        labels = [out.data[DERIVATION]["label"] for out in cell.outputs if _derives(out)]
        if folded and labels:
            yield f"[{cell.id}] folds the derivation {', '.join(labels)}: derivations are in sight"
    if len(in_sight) > MOST_CELLS:
        yield f"{len(in_sight)} visible code cells, at most {MOST_CELLS} are allowed"
    if in_sight and median(in_sight) > MEDIAN_LINES:
        yield (
            f"the visible code cells have {median(in_sight):g} lines in the median, at most "
            f"{MEDIAN_LINES} are allowed"
        )


def _derives(output: NotebookNode) -> bool:
    return DERIVATION in output.get("data", {})


def _code_and_solutions(notebook: NotebookNode) -> Iterator[tuple[NotebookNode, bool]]:
    """The code cells, and whether each belongs to the solution of an exercise."""
    solves = False
    for cell in notebook.cells:
        if cell.cell_type == "code":
            yield cell, solves
            continue
        for line in cell.source.splitlines():
            if _START.match(line):
                solves = True
            elif _END.match(line):
                solves = False


def _headings(name: str, notebook: NotebookNode) -> Iterator[str]:
    prose = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    lines = [line for source in prose for line in source.splitlines()]
    titles = [line for line in lines if line.startswith("# ")]
    if len(titles) != 1:
        yield f"{len(titles)} titles (lines that begin with '# '), exactly 1 is needed"
    elif next(line for line in lines if line.startswith(("# ", "## "))) != titles[0]:
        yield "a section comes before the title"
    found = [line[3:] for line in lines if line.startswith("## ")]
    for section in SECTIONS:
        if found.count(section) != 1:
            yield f"the heading '## {section}' occurs {found.count(section)} times, expected once"
    order = [section for section in SECTIONS if section in found]
    if list(dict.fromkeys(s for s in found if s in SECTIONS)) != order:
        yield f"the last sections must come in the order {', '.join(SECTIONS)}"
    if not any(f"```{{quiz}} {name}\n```" in source for source in prose):
        yield f"no quiz: expected the lines ```{{quiz}} {name} and ``` below '## Quiz'"


def _exercises(notebook: NotebookNode) -> Iterator[str]:
    asked, strays = _read_exercises(notebook)
    if len(asked) < FEWEST_EXERCISES:
        plural = "exercise" if len(asked) == 1 else "exercises"
        yield f"{len(asked)} {plural}, at least {FEWEST_EXERCISES} are needed"
    for label, times in Counter(one.label for one in asked).items():
        if not label:
            yield "an exercise has no label (:label: on the line below ```{exercise})"
        elif times > 1:
            yield f"exercise {label} is asked {times} times"
    for label in strays:
        yield f"a solution of {label} is the second one, or does not follow that exercise"
    for one in asked:
        yield from _missing(one)


def _missing(one: Exercise) -> Iterator[str]:
    name = one.label or "without a label"
    if not one.hinted:
        yield f"exercise {name} has no hint (a dropdown called Hint, before the solution)"
    if not one.solved:
        yield f"exercise {name} has no solution (```{{solution-start}} {name})"
        return
    if not one.folded:
        yield f"the solution of {name} is not folded (:class: dropdown)"
    if not one.runs:
        yield f"the solution of {name} holds no code"
    if not one.ended:
        yield f"the solution of {name} does not end before the next exercise ({{solution-end}})"


def _read_exercises(notebook: NotebookNode) -> tuple[list[Exercise], list[str]]:
    """The exercises in their order, and the labels of solutions that belong to none of them."""
    asked: list[Exercise] = []
    strays: list[str] = []
    current = Exercise()  # the last one, or a solution that answers none
    options = False  # whether the lines so far are an exercise's directive and its options
    for cell in notebook.cells:
        if cell.cell_type == "code":
            current.runs |= current.solved and not current.ended
            continue
        for line in cell.source.splitlines():
            begins = bool(_EXERCISE.match(line))
            if begins:
                current = Exercise()
                asked.append(current)
            elif options and (label := _LABEL.match(line)):
                current.label = label[1]
            elif "{dropdown} Hint" in line:
                current.hinted |= not current.solved
            elif start := _SOLUTION.match(line):
                if start[1] != current.label or current.solved:
                    strays.append(start[1])
                    current = Exercise()
                current.solved = True
            elif line == ":class: dropdown":
                current.folded |= current.solved and not current.ended
            elif "{solution-end}" in line:
                current.ended = current.solved
            options = begins or (options and bool(_OPTION.match(line)))
    return asked, strays
