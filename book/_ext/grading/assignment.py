"""What an assignment is: a notebook with nbgrader metadata, and `answers.yml` beside it.

A code cell is *given* (locked), an *answer* (to be written), a *test* (locked, with points) or the
author's own scratch; a markdown cell may be a *written* answer.  A source holds the solutions and
hidden tests between marks; `released` takes them out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import yaml
from nbformat import NotebookNode
from notebooks.canonical import METADATA, NotebookError, read, write

COURSE = Path("book", "assignments")
GIVEN, ANSWER, TEST, WRITTEN, SCRATCH = "given", "answer", "test", "written", "scratch"
STUB = "# YOUR CODE HERE\nraise NotImplementedError()"
WRITTEN_STUB = "YOUR ANSWER HERE"

_SOLUTION = re.compile(
    r"^(?P<indent>[ \t]*)### BEGIN SOLUTION[ \t]*\n.*?^[ \t]*### END SOLUTION[ \t]*$", re.M | re.S
)
_HIDDEN = re.compile(
    r"^[ \t]*### BEGIN HIDDEN TESTS[ \t]*\n.*?^[ \t]*### END HIDDEN TESTS[ \t]*$\n?", re.M | re.S
)
_MARK = re.compile(r"###\s*(?:BEGIN|END)")
_SEED = re.compile(r"^SEED = (\d+)$", re.M)
_SCHEMA = {"schema_version": 3, "task": False}


@dataclass(frozen=True)
class Cell:
    """A cell of a source.  `points` is zero unless it is a test or a written answer."""

    name: str
    role: str
    code: bool
    source: str
    points: int = 0


@dataclass(frozen=True)
class Question:
    """An answer to be written in code, with the tests that follow it."""

    answer: Cell
    tests: tuple[Cell, ...]
    title: str

    @property
    def points(self) -> int:
        return sum(test.points for test in self.tests)


@dataclass(frozen=True)
class Assignment:
    """A source for one seed: its cells in order, and what `answers.yml` says."""

    name: str
    seed: int
    cells: tuple[Cell, ...]
    about: dict[str, Any]

    @property
    def points(self) -> int:
        return sum(cell.points for cell in self.cells)

    @property
    def written(self) -> tuple[Cell, ...]:
        return tuple(cell for cell in self.cells if cell.role == WRITTEN)

    @property
    def questions(self) -> tuple[Question, ...]:
        found = []
        for place, cell in enumerate(self.cells):
            if cell.role == ANSWER:
                after = _until_answer(self.cells[place + 1 :])
                tests = tuple(c for c in after if c.role == TEST)
                found.append(Question(cell, tests, self.title_of(cell)))
        return tuple(found)

    def title_of(self, cell: Cell) -> str:
        """The last heading above a cell."""
        above = self.cells[: self.cells.index(cell)]
        lines = [line for c in above if not c.code for line in c.source.splitlines()]
        headings = [line.lstrip("# ") for line in lines if line.startswith("#")]
        return headings[-1] if headings else cell.name


def _until_answer(cells: Sequence[Cell]) -> list[Cell]:
    ends = [place for place, cell in enumerate(cells) if cell.role == ANSWER]
    return list(cells[: ends[0]] if ends else cells)


def names(root: Path) -> list[str]:
    """The assignments of the course, in the order of `course.yml`."""
    file = root / COURSE / "course.yml"
    try:
        return list(yaml.safe_load(file.read_text("utf-8"))["assignments"])
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise NotebookError(f"{file}: expected a list under 'assignments': {error}") from None


def load(folder: Path, seed: int | None = None) -> Assignment:
    """The assignment in a folder NAME with NAME.ipynb and answers.yml, for its own seed or another.

    Raises NotebookError when a file is missing or broken; `faults` says what else may be wrong.
    """
    name = folder.name
    notebook = read(folder / f"{name}.ipynb")
    try:
        about = yaml.safe_load((folder / "answers.yml").read_text("utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise NotebookError(f"{folder / 'answers.yml'}: {error}") from None
    cells = tuple(_cell(cell) for cell in notebook.cells)
    own = [int(s) for cell in cells for s in _SEED.findall(cell.source) if cell.name == "seed"]
    if len(own) != 1:
        raise NotebookError(f"{folder}: expected one line 'SEED = <number>' in the cell 'seed'")
    if seed is not None and seed < 0:
        raise NotebookError(f"seed must be a whole number from 0, got {seed}")
    chosen = own[0] if seed is None else seed
    return Assignment(name, chosen, tuple(_seeded(cell, chosen) for cell in cells), about)


def _cell(cell: NotebookNode) -> Cell:
    marks = cell.metadata.get("nbgrader", {})
    code = cell.cell_type == "code"
    role = SCRATCH
    if marks.get("solution"):
        role = ANSWER if code else WRITTEN
    elif marks.get("grade"):
        role = TEST
    elif marks.get("locked"):
        role = GIVEN
    return Cell(cell.id, role, code, cell.source, int(marks.get("points", 0)))


def _seeded(cell: Cell, seed: int) -> Cell:
    if cell.name != "seed":
        return cell
    return Cell(cell.name, cell.role, cell.code, _SEED.sub(f"SEED = {seed}", cell.source))


# What a student gets


def stripped(cell: Cell) -> str:
    """The source of a cell without its solution or hidden tests."""
    if cell.role == ANSWER:
        return _SOLUTION.sub(lambda m: _indented(STUB, m["indent"]), cell.source)
    if cell.role == WRITTEN:
        return _SOLUTION.sub(WRITTEN_STUB, cell.source)
    return _HIDDEN.sub("", cell.source).rstrip("\n") if cell.role == TEST else cell.source


def _indented(text: str, indent: str) -> str:
    return "\n".join(indent + line for line in text.split("\n"))


def released(assignment: Assignment) -> str:
    """The text of the student's notebook, the same whenever it is made."""
    cells = []
    for cell in assignment.cells:
        make = nbformat.v4.new_code_cell if cell.code else nbformat.v4.new_markdown_cell
        metadata: dict[str, Any] = {}
        if cell.role != SCRATCH:
            metadata = {"deletable": False, "nbgrader": _marks(cell)}
            if cell.role in (GIVEN, TEST):
                metadata["editable"] = False
        cells.append(make(stripped(cell), id=cell.name, metadata=metadata))
    about = {"assignment": assignment.name, "seed": assignment.seed}
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=METADATA | {"ntkbook": about})
    notebook.nbformat_minor = 5
    return write(notebook)


def _marks(cell: Cell) -> dict[str, Any]:
    marks = {
        "cell_type": "code" if cell.code else "markdown",
        "grade": cell.role in (TEST, WRITTEN),
        "grade_id": cell.name,
        "locked": cell.role in (GIVEN, TEST),
        "solution": cell.role in (ANSWER, WRITTEN),
    }
    return _SCHEMA | marks | ({"points": cell.points} if marks["grade"] else {})


def secrets(assignment: Assignment) -> list[str]:
    """Every solution and hidden test, as text that no student may see."""
    found = []
    for cell in assignment.cells:
        for pattern in (_SOLUTION, _HIDDEN):
            found += [m[0] for m in pattern.finditer(cell.source)]
    return ["\n".join(block.split("\n")[1:-1]).rstrip("#") for block in found]


# What an answer in answers.yml stands for


def answer_code(cell: Cell, answer: dict[str, Any]) -> str:
    """The whole cell of a wrong or an alternative answer: given, or as changes of the reference.

    Raises NotebookError when a change doesn't apply.
    """
    if "code" in answer:
        return answer["code"]
    source = cell.source
    for old, new in answer["replace"].items():
        if old not in source:
            raise NotebookError(f"{cell.name}, {answer['name']}: the reference has no {old!r}")
        source = source.replace(old, new)
    return source


def faults(folder: Path, assignment: Assignment) -> list[str]:
    """What is wrong with the form of a source: metadata, marks, tests, answers and rubrics."""
    notebook, about, wrong = read(folder / f"{assignment.name}.ipynb"), assignment.about, []
    for raw, cell in zip(notebook.cells, assignment.cells, strict=True):
        marks = raw.metadata.get("nbgrader")
        if marks is not None and marks != _marks(cell):
            wrong.append(f"{cell.name}: nbgrader metadata is {marks}, expected {_marks(cell)}")
        if raw.get("outputs") or raw.get("execution_count"):
            wrong.append(f"{cell.name}: a source has no outputs")
        has = bool(_SOLUTION.search(cell.source)), bool(_HIDDEN.search(cell.source))
        if has != (cell.role in (ANSWER, WRITTEN), cell.role == TEST):
            wrong.append(f"{cell.name}: expected a solution in answers and hidden tests in tests")
        if _MARK.search(stripped(cell)):
            wrong.append(f"{cell.name}: a mark ### BEGIN or ### END without its partner")
        if cell.role in (TEST, WRITTEN) and cell.points < 1:
            wrong.append(f"{cell.name}: expected at least one point")
    for key in ("title", "chapter", "trains", "hours", "prerequisites", "questions", "written"):
        if key not in about:
            wrong.append(f"answers.yml: {key} is missing")
    wrong += _question_faults(assignment, about.get("questions", {}))
    return wrong + _rubric_faults(assignment, about.get("written", {}))


def _question_faults(assignment: Assignment, answers: dict[str, Any]) -> list[str]:
    wrong = []
    names = [question.answer.name for question in assignment.questions]
    if sorted(names) != sorted(answers):
        wrong.append(f"answers.yml: has questions {sorted(answers)}, the notebook {sorted(names)}")
    for question in assignment.questions:
        entry = answers.get(question.answer.name, {})
        if not question.tests:
            wrong.append(f"{question.answer.name}: no test follows it")
        if len(entry.get("wrong", [])) < 3 or not entry.get("right"):
            wrong.append(f"{question.answer.name}: expected three wrong answers and a right one")
    return wrong


def _rubric_faults(assignment: Assignment, rubrics: dict[str, Any]) -> list[str]:
    names = [cell.name for cell in assignment.written]
    if sorted(names) != sorted(rubrics):
        return [f"answers.yml: has rubrics for {sorted(rubrics)}, the notebook {sorted(names)}"]
    sums = {c.name: sum(r["points"] for r in rubrics[c.name]["rubric"]) for c in assignment.written}
    return [
        f"{cell.name}: the rubric has {sums[cell.name]} points, the cell {cell.points}"
        for cell in assignment.written
        if sums[cell.name] != cell.points
    ]
