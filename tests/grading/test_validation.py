"""The form of a source, its release, and what validation finds."""

from __future__ import annotations

import json
from dataclasses import replace

import course
import pytest
from grading import assignment
from grading.validation import validate
from notebooks.canonical import NotebookError


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
    path = root / assignment.COURSE / "source" / "toy" / "toy.ipynb"
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
    path = root / assignment.COURSE / "source" / "toy" / "answers.yml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    assert course.main(["validate", "toy"], root) == 1
    said = capsys.readouterr()
    assert message in said.out + said.err


def test_other_seeds_are_tried_too(root):
    folder = root / assignment.COURSE / "source" / "toy"
    path = folder / "toy.ipynb"
    assert validate(folder, others=[3, 41]) == []
    path.write_text(
        path.read_text()
        .replace("0.5 * data", "x_of(data)")
        .replace(
            "data = np.arange(4.0) + SEED",
            "data = np.arange(4.0) + SEED\\nx_of = lambda x: x / 2 if SEED != 41 else x",
        )
    )
    assert validate(folder) == []
    found = validate(folder, others=[5, 41])
    assert [text.startswith("seed 41: half, the reference") for text in found] == [True]


def test_a_name_that_is_no_assignment(root, capsys):
    assert course.main(["release", "nothing"], root) == 1
    assert "toy" in capsys.readouterr().err
    with pytest.raises(NotebookError, match="seed"):
        assignment.load(root / assignment.COURSE / "source" / "toy", -1)


def test_release_holds_stubs_and_the_seed(toy):
    text = assignment.released(replace(toy))
    assert "the reference" not in text
    assert "Because" not in text
    assert "HIDDEN" not in text
    assert text.count("raise NotImplementedError()") == 2
    assert json.loads(text)["metadata"]["ntkbook"] == {"assignment": "toy", "seed": 3}
