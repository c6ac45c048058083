"""The right notebook among what a student's folder holds; in doubt a person decides."""

from __future__ import annotations

import json
import os

import pytest
from grading import assignment
from grading.finding import find, stem, students
from toy import solved


@pytest.fixture
def folder(tmp_path):
    """A student's, or the class's."""
    place = tmp_path / "here"
    place.mkdir()
    return place


def put(toy, folder, *names, when=None, **answers):
    """The same notebook under each of these names, with one time for all."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(solved(toy, **answers)))
        os.utime(path, (when or 10**9, when or 10**9))


def chosen(toy, folder):
    found = find(folder, toy)
    return found.path and str(found.path.relative_to(folder)), found.doubt, " ".join(found.notes)


@pytest.mark.parametrize(
    "name",
    [
        "toy.ipynb", "toy-Copy1.ipynb", "toy (1).ipynb", "toy_copy 2.ipynb", "Copy of toy.ipynb",
        "Toy.ipynb", "toy-1.ipynb", "toy - Kopie.ipynb", "toy.ipynb.json", "toy.ipynb.txt",
        "toy (handed in 2027-03-01 14.05.00) (0123abcd).ipynb",
    ],
)  # fmt: skip
def test_a_copy_has_the_right_name(toy, folder, name):
    assert stem(folder / name) == "toy"
    put(toy, folder, f"some/folder/{name}")
    assert chosen(toy, folder) == (f"some/folder/{name}", "", "")


def test_junk_is_no_hand_in(toy, folder):
    put(toy, folder, "toy (1).ipynb")
    junk = ["__MACOSX/._toy.ipynb", "._toy.ipynb", ".venv/a.ipynb", "env/b.ipynb", ".x/toy.ipynb"]
    put(toy, folder, *junk, ".ipynb_checkpoints/toy-checkpoint.ipynb", half="x = 1")
    (folder / "env" / "pyvenv.cfg").touch()
    assert chosen(toy, folder) == ("toy (1).ipynb", "", "")


def test_the_newest_of_several_copies_counts_with_a_note(toy, folder):
    put(toy, folder, "toy-Copy1.ipynb", half="x = 1")
    put(toy, folder, "toy (1).ipynb", when=2 * 10**9)
    path, doubt, notes = chosen(toy, folder)
    assert (path, doubt) == ("toy (1).ipynb", "")
    assert "also handed in: toy-Copy1.ipynb" in notes


def test_the_same_notebook_twice_is_no_question(toy, folder):
    put(toy, folder, "a/toy.ipynb", "b/toy.ipynb")
    assert chosen(toy, folder)[:2] == ("a/toy.ipynb", "")


def test_copies_of_one_time_and_other_content_wait_for_a_person(toy, folder):
    put(toy, folder, "toy-Copy1.ipynb", half="x = 1")
    put(toy, folder, "toy (1).ipynb")
    path, doubt, _ = chosen(toy, folder)
    assert path is None
    assert "which one counts? toy (1).ipynb, toy-Copy1.ipynb" in doubt


def test_an_untouched_notebook_does_not_stand_for_the_one_with_answers(toy, folder):
    (folder / "toy.ipynb").write_text(assignment.released(toy))
    put(toy, folder, "toy_final.ipynb")
    path, doubt, notes = chosen(toy, folder)
    assert (path, doubt) == ("toy_final.ipynb", "")
    assert "toy.ipynb" in notes


def test_the_right_name_counts_before_others_which_are_noted(toy, folder):
    put(toy, folder, "toy.ipynb")
    put(toy, folder, "scratch.ipynb", half="x = 1", when=2 * 10**9)
    (folder / "broken.ipynb").write_text("not json")
    path, doubt, notes = chosen(toy, folder)
    assert (path, doubt) == ("toy.ipynb", "")
    assert "broken.ipynb" in notes
    assert "scratch.ipynb" in notes


def test_one_notebook_of_any_name_counts_and_two_do_not(toy, folder):
    put(toy, folder, "homework.ipynb")
    assert chosen(toy, folder)[0] == "homework.ipynb"
    put(toy, folder, "other.ipynb", half="x = 1", when=2 * 10**9)
    assert "homework.ipynb, other.ipynb" in chosen(toy, folder)[1].replace(
        "other.ipynb, homework.ipynb", "homework.ipynb, other.ipynb"
    )


def test_who_handed_something_in_is_not_told_that_nothing_came(toy, folder):
    assert chosen(toy, folder) == (None, "", "")
    (folder / "answers.pdf").touch()
    assert "No notebook was found among what was handed in: answers.pdf" in chosen(toy, folder)[1]
    put(toy, folder, *(f"n{number}.ipynb" for number in range(30)))
    assert "30 notebooks" in chosen(toy, folder)[1]


def test_links_are_not_followed(toy, folder):
    put(toy, folder / "ben", "toy.ipynb")
    (folder / "ada").mkdir()
    (folder / "ada" / "toy").symlink_to(folder / "ben")
    assert "toy" in chosen(toy, folder / "ada")[1]
    (folder / "eve").symlink_to(folder / "ben")
    assert "link" in chosen(toy, folder / "eve")[1]
    assert sorted(students(folder)) == ["ada", "ben", "eve"]


def test_students_are_folders_with_names_that_differ(tmp_path):
    for name in ("_ada", "Zoë", "-x", ".hidden", "__MACOSX"):
        (tmp_path / name).mkdir()
    assert sorted(students(tmp_path)) == ["-x", "Zoë", "_ada"]
    (tmp_path / "Zoe\u0308").mkdir()
    with pytest.raises(ValueError, match="look the same"):
        students(tmp_path)
