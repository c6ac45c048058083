"""A small assignment for the tests of the grader: two questions, one written answer."""

from __future__ import annotations

import json
import re

from grading import assignment
from grading.marks import grade
from grading.sandbox import Limits

TOY_CELLS = [
    ("markdown", "intro", "given", 0, "# Toy\n\n## 1 · Halve"),
    ("code", "seed", "given", 0, "SEED = 3"),
    ("code", "setup", "given", 0, "import numpy as np\ndata = np.arange(4.0) + SEED"),
    (
        "code", "half", "answer", 0,
        "def half(x):\n    ### BEGIN SOLUTION\n    return x / 2  # the reference\n"
        "    ### END SOLUTION",
    ),
    (
        "code", "half-test", "test", 2,
        "assert callable(half), 'half must be a function'\n### BEGIN HIDDEN TESTS\n"
        "assert np.allclose(half(data), 0.5 * data), 'half: wrong for an array'\n"
        "### END HIDDEN TESTS",
    ),
    ("markdown", "second", "given", 0, "## 2 · Square"),
    (
        "code", "square", "answer", 0,
        "def square(x):\n    ### BEGIN SOLUTION\n    return x * x\n    ### END SOLUTION",
    ),
    (
        "code", "square-test", "test", 3,
        "### BEGIN HIDDEN TESTS\nfor _x in (2, -3.0):\n"
        "    assert square(_x) == abs(_x) ** 2, 'square: wrong for a number'\n"
        "### END HIDDEN TESTS",
    ),
    ("markdown", "third", "given", 0, "## 3 · Why"),
    ("markdown", "why", "written", 4, "### BEGIN SOLUTION\nBecause.\n### END SOLUTION"),
]  # fmt: skip
TOY_ANSWERS = """
title: Toy
chapter: linear-models/linearization
trains: Halving.
hours: 1
prerequisites: [none]
questions:
  half:
    wrong:
      - {name: unchanged, replace: {"x / 2": "x"}}
      - {name: doubled, replace: {"x / 2": "2 * x"}}
      - {name: sign, replace: {"x / 2": "-x / 2"}}
    right:
      - {name: product, code: "def half(x):\\n    return 0.5 * x"}
  square:
    wrong:
      - {name: unchanged, replace: {"x * x": "x"}}
      - {name: cube, replace: {"x * x": "x**3"}}
      - {name: sign, replace: {"x * x": "-x * x"}}
    right:
      - {name: power, replace: {"x * x": "x**2"}}
written:
  why:
    rubric:
      - {points: 4, for: Says because.}
"""


def repository(top):
    """A repository below a folder that holds the toy assignment only; returns its root."""
    root = top / "repository"
    folder = root / assignment.COURSE / "source" / "toy"
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
    return root


QUICK = Limits(cell=2, submission=1200, memory=2**30)


def marks(role, code, name, points):
    cell = assignment.Cell(name, role, code, "", points)
    return assignment._marks(cell)


def solved(toy, **answers):
    """A student's notebook as a dictionary, its answers replaced by these or by the reference."""
    notebook = json.loads(assignment.released(toy))
    for cell, own in zip(notebook["cells"], toy.cells, strict=True):
        if own.role == "answer":
            reference = re.sub(r"\s*### \w+ SOLUTION|  # the reference", "", own.source)
            cell["source"] = answers.get(own.name, reference)
        elif own.role == "written":
            cell["source"] = answers.get(own.name, "Because it is so.")
    return notebook


def hand_in(folder, student, notebook):
    place = folder / student / "toy.ipynb"
    place.parent.mkdir(parents=True)
    place.write_text(notebook if isinstance(notebook, str) else json.dumps(notebook))
    return place


def graded(toy, tmp_path, notebook, limits=QUICK, secret=()):
    one = grade("ada", hand_in(tmp_path, "ada", notebook), toy, limits, secret)
    return one, {mark.name: mark for mark in one.marks}
