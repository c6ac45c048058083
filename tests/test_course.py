"""The course: assignments, their release, and a grader that survives what it is given."""

from __future__ import annotations

import csv
import json
import re
import time
from dataclasses import replace
from pathlib import Path

import assignments
import course
import feedback
import grading
import pytest
from canonical import NotebookError

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / assignments.COURSE / "source"
NAMES = assignments.names(ROOT)

# A small assignment for the tests of the grader: two questions, one written answer.
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


def marks(role, code, name, points):
    cell = assignments.Cell(name, role, code, "", points)
    return assignments._marks(cell)


@pytest.fixture
def root(tmp_path):
    """A repository that holds the toy assignment only."""
    folder = tmp_path / "repository" / assignments.COURSE / "source" / "toy"
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
    return assignments.load(root / assignments.COURSE / "source" / "toy")


def solved(toy, **answers):
    """A student's notebook as a dictionary, its answers replaced by these or by the reference."""
    notebook = json.loads(assignments.released(toy))
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


QUICK = grading.Limits(cell=3, submission=60, memory=2**30)


def graded(toy, tmp_path, notebook, limits=QUICK, secret=()):
    one = grading.grade("ada", hand_in(tmp_path, "ada", notebook), toy, limits, secret)
    return one, {mark.name: mark for mark in one.marks}


# The form of a source


def test_toy_is_valid(root):
    assert course.main(["validate", "toy"], root) == 0


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("0.5 * data", "0.4 * data", "the reference: refused: half: wrong"),
        ("'square: wrong", "'", None),
        ("SEED = 3", "seed = 3", "SEED"),
        ("assert callable(half)", "assert hidden", "what students see of the test fails"),
        ("### END SOLUTION", "### END", "solution"),
    ],
)
def test_validation_finds_a_broken_source(root, capsys, old, new, message):
    path = root / assignments.COURSE / "source" / "toy" / "toy.ipynb"
    path.write_text(path.read_text().replace(old, new))
    assert course.main(["validate"], root) == (message is not None)
    said = capsys.readouterr()
    assert message is None or message in said.out + said.err


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('{"x / 2": "2 * x"}', '{"x / 2": "x * 0.5"}', "wrong: doubled: full marks"),
        ('"def half(x):\\n    return 0.5 * x"', '"half = 3"', "right: product: refused"),
        ("points: 4", "points: 3", "the rubric has 3 points"),
        ('      - {name: sign, replace: {"x / 2": "-x / 2"}}\n', "", "three wrong answers"),
        ('{"x / 2": "x"}', '{"x / 3": "x"}', "the reference has no"),
    ],
)
def test_validation_finds_weak_answers(root, capsys, old, new, message):
    path = root / assignments.COURSE / "source" / "toy" / "answers.yml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    assert course.main(["validate", "toy"], root) == 1
    said = capsys.readouterr()
    assert message in said.out + said.err


def test_a_name_that_is_no_assignment(root, capsys):
    assert course.main(["release", "nothing"], root) == 1
    assert "toy" in capsys.readouterr().err
    with pytest.raises(NotebookError, match="seed"):
        assignments.load(root / assignments.COURSE / "source" / "toy", -1)


def test_release_holds_stubs_and_the_seed(toy):
    text = assignments.released(replace(toy))
    assert "the reference" not in text
    assert "Because" not in text
    assert "HIDDEN" not in text
    assert text.count("raise NotImplementedError()") == 2
    assert json.loads(text)["metadata"]["ntkbook"] == {"assignment": "toy", "seed": 3}


# Grading what students hand in


def test_right_answers_get_all_points(toy, tmp_path):
    one, by_name = graded(toy, tmp_path, solved(toy))
    assert {k: m.points for k, m in by_name.items()} == {"half": 2, "square": 3, "why": None}
    assert one.notes == ()


def test_untouched_release_gets_none(toy, tmp_path):
    _, by_name = graded(toy, tmp_path, assignments.released(toy))
    assert [m.points for m in by_name.values()] == [0, 0, 0]
    assert {m.said for m in by_name.values()} == {"Not answered."}


HOSTILE = {
    "endless loop": ("while True: pass", "not done after 3 s"),
    "loop that catches everything": (
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
        "not done after 3 s",
    ),
    "crash": ("import os; os._exit(7)", "Python died (exit code 7)"),
    "segmentation fault": ("import ctypes; ctypes.string_at(0)", "Python died (signal 11)"),
    "much memory at once": ("x = bytearray(50 * 10**9)", "MemoryError"),
    "memory by and by": (
        "x = []\nwhile True: x.append(bytearray(10**7))",
        "more than 1 GiB of memory",
    ),
    "closed connection": (
        "import os, time; os.closerange(3, 100); time.sleep(60)",
        "closed the connection",
    ),
    "half a character": ("x = '\ud800'", "surrogates not allowed"),
    "syntax error": ("def half(x:\n    return", "SyntaxError"),
    "renamed function": ("def halve(x):\n    return x / 2", "name 'half' is not defined"),
    "no function": ("half = 3", "half must be a function"),
    "early exit": ("def half(x):\n    raise SystemExit", "SystemExit"),
    "endless in the test": ("def half(x):\n    while True: pass", "not done after 3 s"),
    "crash in the test": ("def half(x):\n    import os; os._exit(0)", "Python died (exit code 0)"),
    "another process": ("import os; os.system('ls')", "not allowed while grading"),
    "the network": (
        "import socket; socket.create_connection(('127.0.0.1', 9))",
        "not allowed while grading",
    ),
    "changed tools": (
        "import builtins, numpy\nnumpy.allclose = lambda *a: True\n"
        "builtins.abs = abs = lambda x: x\nnp = None\ndef half(x):\n    return x",
        "half: wrong for an array",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_bad_answer_costs_its_own_points_only(toy, tmp_path, case):
    source, message = HOSTILE[case]
    begun = time.monotonic()
    one, by_name = graded(toy, tmp_path, solved(toy, half=source))
    assert by_name["half"].points == 0
    assert message in by_name["half"].said
    assert by_name["square"].points == 3, one
    assert time.monotonic() - begun < 30


def test_a_great_deal_of_output_is_cut(toy, tmp_path):
    reference = "def half(x):\n    return x / 2\nprint('x' * 10**8)\nprint('end')"
    _, by_name = graded(toy, tmp_path, solved(toy, half=reference))
    assert by_name["half"].points == 2
    assert len(by_name["half"].output) < 21_000


def test_a_file_of_a_hundred_megabytes_is_read(toy, tmp_path):
    notebook = solved(toy)
    stream = {"output_type": "stream", "name": "stdout", "text": "x" * 10**8}
    notebook["cells"][2]["outputs"] = [stream]
    _, by_name = graded(toy, tmp_path, notebook)
    assert by_name["half"].points == 2


def test_the_whole_submission_has_a_time_limit(toy, tmp_path):
    notebook = solved(toy, half="import time\nwhile True: time.sleep(1)")
    _, by_name = graded(toy, tmp_path, notebook, replace(QUICK, cell=30, submission=4))
    assert by_name["square"].points == 0
    assert "more than 4 s" in by_name["square"].said


def test_secrets_and_other_folders_are_out_of_reach(toy, tmp_path):
    secret, outside = tmp_path / "secret", tmp_path / "outside"
    secret.mkdir()
    (secret / "toy.ipynb").write_text("the reference")
    tries = [
        f"open({str(secret / 'toy.ipynb')!r}).read()",
        f"import os; os.listdir({str(secret)!r})",
        f"import os; os.symlink({str(secret)!r}, 'link'); open('link/toy.ipynb')",
        f"open({str(outside)!r}, 'w')",
        f"import os; os.open({str(outside)!r}, os.O_CREAT)",
        f"import pathlib; pathlib.Path({str(secret / 'toy.ipynb')!r}).unlink()",
        f"import os; os.rename({str(secret / 'toy.ipynb')!r}, 'mine')",
        f"import shutil; shutil.copytree({str(secret)!r}, 'copy')",
        "open('../outside', 'w')",
    ]
    cells = [("", "own", source) for source in [*tries, "open('mine', 'w').write('fine')"]]
    outcomes = grading.run_cells(cells, QUICK, [secret])
    for source, outcome in zip(tries, outcomes, strict=False):
        assert outcome.error in ("PermissionError", "Error"), (source, outcome)
        assert "not allowed while grading" in outcome.message, (source, outcome)
    assert outcomes[-1].error is None
    assert not outside.exists()
    assert (secret / "toy.ipynb").read_text() == "the reference"


def test_tests_and_given_cells_come_from_the_source(toy, tmp_path):
    notebook = solved(toy, square="def square(x):\n    return 0")
    cells = {cell["id"]: cell for cell in notebook["cells"]}
    cells["square-test"]["source"] = "pass"
    cells["setup"]["source"] = "np = None"
    notebook["cells"].remove(cells["half-test"])
    one, by_name = graded(toy, tmp_path, notebook)
    assert (by_name["half"].points, by_name["square"].points) == (2, 0)
    said = " ".join(one.notes)
    assert "'square-test' was changed" in said
    assert "'setup' was changed" in said
    assert "'half-test' was deleted" in said


def test_a_missing_answer_cell_and_a_doubled_one(toy, tmp_path):
    notebook = solved(toy)
    cells = {cell["id"]: cell for cell in notebook["cells"]}
    notebook["cells"].remove(cells["half"])
    notebook["cells"].append(cells["square"] | {"source": "square = None"})
    one, by_name = graded(toy, tmp_path, notebook)
    assert "missing" in by_name["half"].said
    assert by_name["square"].points == 3
    assert any("Two cells are called 'square'" in note for note in one.notes)


def test_cells_of_ones_own_are_kept_in_their_place(toy, tmp_path):
    notebook = solved(toy, half="def half(x):\n    return factor * x")
    own = {"cell_type": "code", "metadata": {}, "source": ["factor = 0.5\n", "1 / 0"]}
    notebook["cells"].insert(3, own)
    one, by_name = graded(toy, tmp_path, notebook)
    assert by_name["half"].points == 2
    assert "ZeroDivisionError" in one.notes[0]


@pytest.mark.parametrize("kept", ["nbgrader", "id", "metadata id"])
def test_cells_are_known_by_any_of_their_marks(toy, tmp_path, kept):
    notebook = solved(toy)
    for cell in notebook["cells"]:
        name = cell["id"]
        if kept != "id":
            del cell["id"]
        if kept != "nbgrader":
            cell["metadata"] = {"id": name} if kept == "metadata id" else {}
    _, by_name = graded(toy, tmp_path, notebook)
    assert by_name["half"].points == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("not json {", "isn't JSON"),
        ("[" * 10**5, "isn't JSON"),
        ('"text"', "no list of cells"),
        ('{"cells": 3}', "no list of cells"),
        ('{"cells": [3]}', "no list of cells"),
    ],
)
def test_what_is_no_notebook_gets_no_points_and_a_reason(toy, tmp_path, text, message):
    one, by_name = graded(toy, tmp_path, text)
    assert [mark.points for mark in by_name.values()] == [0, 0, 0]
    assert message in one.notes[0]


def test_links_and_odd_cells(toy, tmp_path):
    link = tmp_path / "link.ipynb"
    link.symlink_to("/dev/zero")
    assert "link" in grading.grade("eve", link, toy, QUICK).notes[0]
    odd = {"cells": [{}, {"source": 3}, {"metadata": 3, "source": [3]}, {"id": "half"}]}
    one, _ = graded(toy, tmp_path, odd)
    assert sum(mark.points or 0 for mark in one.marks) == 0


def test_another_variant_is_noted(toy, tmp_path):
    notebook = solved(toy)
    notebook["metadata"]["ntkbook"]["seed"] = 99
    one, _ = graded(toy, tmp_path, notebook)
    assert "seed 99" in one.notes[0]


# A folder of submissions


@pytest.fixture
def classroom(root, toy, tmp_path):
    """Five students, of whom three hand in something bad."""
    folder = tmp_path / "submissions"
    hand_in(folder, "ada", solved(toy))
    hand_in(folder, "ben", solved(toy, half="while True: pass", why=""))
    hand_in(folder, "cleo", "not json")
    (folder / "dan").mkdir()
    hand_in(folder, "eve", solved(toy, square="def square(x):\n    return -x * x", why="\ud800"))
    return folder


def grade(root, folder, target):
    command = ["grade", "toy", str(folder), "--to", str(target), "--cell-time", "3"]
    return course.main(command, root)


def table(path):
    with path.open(newline="") as file:
        return {(row["student"], row.get("question")): row for row in csv.DictReader(file)}


def test_a_class_is_graded_and_marks_are_kept(root, classroom, tmp_path, capsys):
    target = tmp_path / "graded"
    before = {p: p.read_bytes() for p in classroom.rglob("*") if p.is_file()}
    assert grade(root, classroom, target) == 0
    rows = table(target / "grades.csv")
    found = {student: (row["automatic"], row["total"]) for (student, _), row in rows.items()}
    assert found == {
        "ada": ("5", ""), "ben": ("3", "3"), "cleo": ("0", "0"), "dan": ("0", "0"), "eve": ("2", "")
    }  # fmt: skip
    assert "isn't JSON" in rows["cleo", None]["notes"]

    path = target / "written.csv"
    written = path.read_text()
    assert "ada,why,4,," in written
    path.write_text(written.replace("ada,why,4,,", "ada,why,4,3.5,Well said."))
    assert grade(root, classroom, target) == 0
    assert "ada,why,4,3.5,Well said." in path.read_text()
    assert table(target / "grades.csv")["ada", None]["total"] == "8.5"

    pages = {p.stem: p.read_text() for p in (target / "feedback").iterdir()}
    assert sorted(pages) == ["ada", "ben", "cleo", "dan", "eve"]
    assert "8.5 of 9 points" in pages["ada"]
    assert "Well said." in pages["ada"]
    assert "square: wrong for a number." in pages["eve"]
    assert "not done after 3 s" in pages["ben"]
    for text in pages.values():
        assert "the reference" not in text
        assert "np.allclose(half" not in text
    assert {p: p.read_bytes() for p in classroom.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("ada,why,4,5,", "from 0 to 4"),
        ("ada,why,4,-1,", "from 0 to 4"),
        ("ada,why,4,nan,", "from 0 to 4"),
        ("ada,why,4,three,", "from 0 to 4"),
        ("ada,what,4,3,", "no question"),
        ("ada,why,4,3,\nada,why,4,3,", "a second row"),
    ],
)
def test_marks_that_cannot_be_meant_stop_the_command(toy, tmp_path, line, message):
    path = tmp_path / "written.csv"
    path.write_text("student,question,out_of,mark,comment\n" + line + "\n")
    with pytest.raises(ValueError, match=message):
        feedback.read_marks(path, toy)


def test_folders_that_cannot_be_graded(root, classroom, tmp_path, capsys):
    assert grade(root, tmp_path / "none", tmp_path / "graded") == 1
    assert grade(root, classroom / "dan", tmp_path / "graded") == 1
    assert grade(root, classroom, classroom / "ada") == 1
    said = capsys.readouterr().err
    for part in ("one folder per student", "holds no folder", "outside the submissions"):
        assert part in said


def test_one_notebook_that_breaks_the_grader_does_not_stop_the_others(
    root, classroom, tmp_path, monkeypatch
):
    def breaks(student, *rest):
        if student == "eve":
            raise OSError("no space left")
        return grading.grade(student, *rest)

    monkeypatch.setattr(course, "grade", breaks)
    assert grade(root, classroom, tmp_path / "graded") == 0
    rows = table(tmp_path / "graded" / "grades.csv")
    assert rows["ada", None]["automatic"] == "5"
    assert (rows["eve", None]["total"], rows["eve", None]["half"]) == ("", "")
    assert "grade this notebook by hand" in rows["eve", None]["notes"]


def test_where_grading_cannot_work_it_says_where_it_does(
    root, classroom, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(course.sys, "platform", "win32")
    assert grade(root, classroom, tmp_path / "graded") == 1
    assert "needs Linux or macOS" in capsys.readouterr().err


def test_a_table_holds_no_formulas(toy):
    one = grading.Graded("=1+1", grading._none(toy, "Nothing."))
    assert "'=1+1" in feedback.grades_table([one], toy, {})
