"""A folder of submissions: graded, marked by a reader, and kept."""

from __future__ import annotations

import csv
import shutil

import course
import pytest
from grading import commands, grades, marks
from grading.written import read_marks
from toy import hand_in, solved


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
    command = ["grade", "toy", str(folder), "--to", str(target), "--cell-time", "2"]
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
    assert "not done after 2 s" in pages["ben"]
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
        read_marks(path, toy)


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
        return marks.grade(student, *rest)

    monkeypatch.setattr(commands, "grade", breaks)
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
    one = marks.undecided("=1+1", toy, "@SUM(1)")
    table = grades.grades_table([one], grades.Course(toy))
    assert "'=1+1" in table
    assert ",'@SUM(1)" in table


def test_a_private_folder_of_assignments(root, toy, tmp_path, capsys, monkeypatch):
    """The same commands; nothing of it goes into the book's folders."""
    private, public = tmp_path / "private", root / commands.COURSE
    shutil.copytree(public / "source" / "toy", private / "mine")
    path = (private / "mine" / "toy.ipynb").rename(private / "mine" / "mine.ipynb")
    path.write_text(path.read_text().replace("SEED = 3", "SEED = 5"))
    assert course.main(["release", "--source", str(private)], root) == 0
    assert (private / "release" / "mine.ipynb").is_file()
    assert not (public / "release").exists()
    assert course.main(["validate", "toy", "--source", str(private)], root) == 1
    assert "NAME must be one of mine" in capsys.readouterr().err
    assert course.main(["release", "--source", str(tmp_path / "none")], root) == 1
    assert "--source must be a folder" in capsys.readouterr().err
    monkeypatch.setenv(commands.SOURCE, str(private))
    monkeypatch.setattr(commands, "grade", lambda student, *_: marks.undecided(student, toy, "-"))
    hand_in(tmp_path / "submissions", "ada", solved(toy))
    command = ["grade", "mine", str(tmp_path / "submissions"), "--to", str(tmp_path / "graded")]
    assert course.main(command, root) == 0
    assert table(tmp_path / "graded" / "grades.csv")["ada", None]["seed"] == "5"
