"""The assignments of the book: right answers get all points, wrong ones none, nothing leaks."""

from __future__ import annotations

import os
from pathlib import Path

import course
import pytest
from grading import assignment as assignments
from grading.validation import validate
from notebooks.toc import lessons

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / assignments.COURSE / "source"
NAMES = assignments.names(ROOT)


@pytest.mark.parametrize("name", NAMES)
def test_assignment_gives_points_for_right_answers_only(name):
    """Reference and alternatives: all points; the stub and every wrong answer: none.

    For its own seed, and reference and stub for another one.
    """
    compiled = Path(os.environ["JAX_COMPILATION_CACHE_DIR"])
    assert validate(SOURCE / name, compiled=compiled, others=[41]) == []


@pytest.mark.parametrize("name", NAMES)
def test_assignment_adapts_to_another_seed(name):
    first, other = (assignments.released(assignments.load(SOURCE / name, s)) for s in (None, 41))
    assert first != other


@pytest.mark.parametrize("name", NAMES)
def test_assignment_is_a_real_piece_of_work(name):
    one = assignments.load(SOURCE / name)
    assert one.points == 30
    assert one.written
    assert 4 <= len(one.questions) + len(one.written) <= 8
    assert 1 <= one.about["hours"] <= 4
    assert (ROOT / "book" / f"{one.about['chapter']}.ipynb").is_file()


def test_every_chapter_but_the_orientation_has_an_assignment():
    paths = [path.relative_to(ROOT / "book") for path in lessons(ROOT)]
    names = {path.with_suffix("").as_posix() for path in paths}
    given = {assignments.load(SOURCE / name).about["chapter"] for name in NAMES}
    assert names - given == {"orientation/how-this-book-checks-itself"}
    assert sorted(p.name for p in SOURCE.iterdir() if p.is_dir()) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_stored_release_is_what_the_command_writes(name, tmp_path):
    assert course.main(["release", name, "--to", str(tmp_path)]) == 0
    stored = ROOT / assignments.COURSE / "release" / f"{name}.ipynb"
    assert (tmp_path / f"{name}.ipynb").read_bytes() == stored.read_bytes()
