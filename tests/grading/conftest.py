"""A repository that holds the toy assignment only, and that assignment."""

import json

import pytest
from grading import assignment
from toy import TOY_ANSWERS, TOY_CELLS, marks


@pytest.fixture
def root(tmp_path):
    """A repository that holds the toy assignment only."""
    folder = tmp_path / "repository" / assignment.COURSE / "source" / "toy"
    folder.mkdir(parents=True)
    cells = []
    for kind, name, role, points, source in TOY_CELLS:
        metadata = {"nbgrader": marks(role, kind == "code", name, points)}
        cell = {"cell_type": kind, "id": name, "metadata": metadata, "source": source}
        cells.append(cell | ({"outputs": [], "execution_count": None} if kind == "code" else {}))
    notebook = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    (folder / "toy.ipynb").write_text(json.dumps(notebook))
    (folder / "answers.yml").write_text(TOY_ANSWERS)
    (folder.parents[1] / "course.yml").write_text("assignments: [toy]")
    return tmp_path / "repository"


@pytest.fixture
def toy(root):
    return assignment.load(root / assignment.COURSE / "source" / "toy")
