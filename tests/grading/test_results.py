"""Grading as people do it: again, in part, late, interrupted, while marks are entered."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import course
import pytest
from grading import commands, results
from grading.marks import Graded, Mark
from grading.submission import hand_in as read
from toy import hand_in, solved

EXT = Path(course.__file__).parent


@pytest.fixture
def runs(monkeypatch):
    """The students whose notebooks were run, by a grader that looks for a word instead."""
    graded: list[str] = []

    def quick(student, path, assignment, limits, secret, below):
        graded.append(student)
        answers = read(path, assignment, below).answers if path else {}
        marks = []
        for question in assignment.questions:
            name, top = question.answer.name, question.points
            work = answers.get(name, "")
            points = top if "return" in work else 0
            marks.append(Mark(name, question.title, points, top, "Run.", work, answer=name))
        why = answers.get("why", "")
        read_ = None if why else 0
        marks.append(Mark("why", "Why", read_, 4, "", why, written=True, answer=str(len(why))))
        return Graded(student, tuple(marks))

    monkeypatch.setattr(commands, "grade", quick)
    return graded


@pytest.fixture
def place(root, toy, tmp_path):
    for student in ("ada", "ben", "cleo"):
        hand_in(tmp_path / "submissions", student, solved(toy))
    return tmp_path


def grade(root, place, *more):
    submissions, target = place / "submissions", place / "graded"
    return course.main(["grade", "toy", str(submissions), "--to", str(target), *more], root)


def table(place, name="grades.csv"):
    with (place / "graded" / name).open(newline="") as file:
        return {row["student"]: row for row in csv.DictReader(file)}


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def again(toy, place, student, **answers):
    path = place / "submissions" / student / "toy.ipynb"
    path.write_text(json.dumps(solved(toy, **answers)))


def test_what_has_not_changed_is_not_run_again(root, toy, place, runs):
    assert grade(root, place) == 0
    assert sorted(runs) == ["ada", "ben", "cleo"]
    before = files(place / "graded")
    assert grade(root, place) == 0
    assert len(runs) == 3
    assert files(place / "graded") == before
    again(toy, place, "ben", half="half = None")
    assert grade(root, place) == 0
    assert runs[3:] == ["ben"]
    assert table(place)["ben"]["half"] == "0"


@pytest.mark.parametrize("change", [["--again"], ["--cell-time", "7"], ["--seed", "9"]])
def test_seed_limits_and_a_wish_are_reasons_to_run_again(root, place, runs, change):
    grade(root, place)
    grade(root, place, *change)
    assert len(runs) == 6


def test_a_changed_source_and_a_broken_result_are_run_again(root, place, runs):
    grade(root, place)
    (place / "graded" / "results" / "ada.json").write_text("{")
    grade(root, place)
    assert runs[3:] == ["ada"]
    source = root / commands.COURSE / "source" / "toy" / "toy.ipynb"
    source.write_text(source.read_text().replace("0.5 * data", "data / 2"))
    grade(root, place)
    assert len(runs) == 7


@pytest.mark.parametrize(
    "change",
    [
        {"student": "ben"}, {"key": 3}, {"notes": [3]}, {"notes": 3}, {"marks": []}, {"marks": 3},
        {"points": 30}, {"points": -1}, {"points": 1e9}, {"points": True}, {"points": "2"},
        {"out_of": 99}, {"name": "other"}, {"work": 3}, {"written": 1}, {"unknown": 1}, [],
        "[" * 10**5,
    ],
)  # fmt: skip
def test_a_result_that_grading_could_not_have_given_is_none(root, toy, place, runs, change):
    grade(root, place, "--only", "ada")
    path = place / "graded" / "results" / "ada.json"
    raw = json.loads(path.read_text())
    assert results.load(path, "ada", toy).graded.marks[0].points == 2
    if isinstance(change, dict):
        raw["marks"][0] |= {k: v for k, v in change.items() if k not in raw}
        raw |= {k: v for k, v in change.items() if k in raw}
    else:
        raw = change
    path.write_text(raw if isinstance(raw, str) else json.dumps(raw))
    assert results.load(path, "ada", toy) is None
    raw = {"pictures": {"why": {"a": ["image/png", 3], "b": 3, "c": ["image/png", "x"]}}}
    path.write_text(json.dumps(raw))
    assert results.pictures(path, "why") == {"c": ("image/png", "x")}


def test_some_students_only(root, toy, place, runs, capsys):
    assert grade(root, place, "--only", "ada, ben") == 0
    assert sorted(runs) == ["ada", "ben"]
    rows = table(place)
    assert rows["ada"]["half"] == "2"
    assert (rows["cleo"]["half"], rows["cleo"]["total"]) == ("", "")
    assert "Not graded yet" in rows["cleo"]["review"]
    pages = sorted(path.name for path in (place / "graded" / "feedback").iterdir())
    assert pages == ["ada.html", "ben.html"]
    again(toy, place, "ben", half="half = None")
    assert grade(root, place, "--only", "cleo") == 0
    assert runs[2:] == ["cleo"]
    assert table(place)["ben"]["half"] == "2"
    assert "An earlier result" in table(place)["ben"]["review"]
    assert grade(root, place, "--only", "") == 0  # the tables alone
    assert runs[3:] == []
    assert grade(root, place, "--only", "zoe") == 1
    assert "--only must name students" in capsys.readouterr().err


def test_late_hand_ins_and_their_penalty(root, place, runs, capsys):
    noon = time.mktime((2027, 3, 1, 12, 0, 0, 0, 0, -1))
    for student, hours in (("ada", -1), ("ben", 1), ("cleo", 30)):
        path = place / "submissions" / student / "toy.ipynb"
        os.utime(path, (noon + 3600 * hours,) * 2)
    roster = place / "submissions" / "students.csv"
    roster.write_text("folder,late,deadline\nben,yes,2027-03-01\n")  # may hand in all that day
    options = ["--deadline", "2027-03-01 12:00", "--penalty", "10"]
    assert grade(root, place, *options) == 0
    rows = table(place)
    assert [rows[s]["late"] for s in ("ada", "ben", "cleo")] == ["", "", "1 d 6 h 0 min"]
    assert (rows["cleo"]["penalty"], rows["cleo"]["handed_in"]) == ("20 %", "2027-03-02 18:00")
    marks = place / "graded" / "written.csv"
    marks.write_text("student,question,mark,comment\ncleo,why,4,\n")
    assert grade(root, place, *options) == 0
    assert table(place)["cleo"]["total"] == "7.2"
    page = (place / "graded" / "feedback" / "cleo.html").read_text()
    assert "20 % of the points are taken off" in page
    assert grade(root, place) == 0
    assert table(place)["cleo"]["total"] == "9"
    for wrong in (["--deadline", "tomorrow"], ["--penalty", "200"]):
        assert grade(root, place, *wrong) == 1
        assert wrong[1] in capsys.readouterr().err


def test_an_export_that_calls_a_hand_in_late(root, place, runs):
    (place / "submissions" / "students.csv").write_text("folder,late\nada,yes\n")
    assert grade(root, place, "--penalty", "10") == 0
    assert (table(place)["ada"]["late"], table(place)["ada"]["penalty"]) == ("yes", "10 %")


def test_marks_entered_while_a_run_is_on_are_not_lost(root, place, runs, monkeypatch):
    grade(root, place)
    quick, path = commands.grade, place / "graded" / "written.csv"

    def meanwhile(student, *rest):
        if student == "ben":
            path.write_text(path.read_text().replace("ben,why,4,,", "ben,why,4,3,Well."))
        return quick(student, *rest)

    monkeypatch.setattr(commands, "grade", meanwhile)
    assert grade(root, place, "--again") == 0
    assert "ben,why,4,3,Well." in path.read_text()
    assert table(place)["ben"]["total"] == "8"
    assert "Well." in (place / "graded" / "feedback" / "ben.html").read_text()


def test_a_table_broken_while_a_run_is_on_costs_no_result(root, place, runs, monkeypatch, capsys):
    quick, path = commands.grade, place / "graded" / "written.csv"

    def meanwhile(student, *rest):
        path.parent.mkdir(exist_ok=True)
        path.write_text("student,question,mark,comment\nada,why,hello,\n")
        return quick(student, *rest)

    monkeypatch.setattr(commands, "grade", meanwhile)
    assert grade(root, place) == 1
    assert "line 2" in capsys.readouterr().err
    assert path.read_text().endswith("ada,why,hello,\n")
    path.write_text("student,question,mark,comment\nada,why,2,\n")
    monkeypatch.setattr(commands, "grade", quick)
    assert grade(root, place) == 0
    assert len(runs) == 3
    assert table(place)["ada"]["total"] == "7"


def test_pages_of_students_who_have_left_go(root, place, runs):
    grade(root, place)
    own = place / "graded" / "feedback" / "notes.html"
    own.write_text("my own notes")
    (place / "submissions" / "ben").rename(place / "gone")
    grade(root, place)
    pages = sorted(path.name for path in own.parent.iterdir())
    assert pages == ["ada.html", "cleo.html", "notes.html"]


def test_a_failure_of_the_grader_is_not_kept(root, place, runs, monkeypatch):
    quick = commands.grade

    def breaks(student, *rest):
        if student == "ben":
            raise OSError("no space left")
        return quick(student, *rest)

    monkeypatch.setattr(commands, "grade", breaks)
    assert grade(root, place) == 0
    assert table(place)["ben"]["total"] == ""
    monkeypatch.setattr(commands, "grade", quick)
    assert grade(root, place) == 0
    assert table(place)["ben"]["half"] == "2"


def test_in_doubt_the_total_stays_empty(root, toy, place, runs):
    (place / "submissions" / "ada" / "toy.ipynb").rename(place / "submissions" / "ada" / "a.pdf")
    (place / "submissions" / "dan").mkdir()
    grade(root, place)
    rows = table(place)
    assert (rows["ada"]["total"], rows["ada"]["half"]) == ("", "")
    assert "No notebook was found" in rows["ada"]["review"]
    page = (place / "graded" / "feedback" / "ada.html").read_text()
    assert "Nothing was handed in" not in page
    assert "to be read / 2" in page
    written = place / "graded" / "written.csv"
    assert "ada,half,2,," in written.read_text()
    assert rows["dan"]["total"] == "0"


def test_a_folder_that_cannot_be_read_is_not_an_empty_one(root, place, runs, monkeypatch):
    scandir = os.scandir

    def closed(path):
        if str(path).endswith("submissions/ada"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    assert grade(root, place) == 0
    assert "can't be read" in table(place)["ada"]["review"]
    assert table(place)["ada"]["total"] == ""


def test_a_name_of_any_length_has_its_files():
    names = {results.file_name("ü" * 120 + end) for end in ("a", "b")}
    assert len(names) == 2
    assert all(len(name.encode()) <= results.LONGEST_NAME for name in names)


SLOW = """
import sys, time
sys.path.insert(0, {ext!r})
import course
from grading import commands
from grading.marks import undecided
def slow(student, path, assignment, *rest):
    print("began", student, flush=True)
    time.sleep(1)
    return undecided(student, assignment, "slow")
commands.grade = slow
sys.exit(course.main({arguments!r}, {root!r}))
"""


def test_ctrl_c_ends_what_has_begun_and_writes_the_tables(root, place):
    target = place / "graded"
    submissions = str(place / "submissions")
    arguments = ["grade", "toy", submissions, "--to", str(target), "--jobs", "1"]
    code = SLOW.format(ext=str(EXT), arguments=arguments, root=root)
    code = code.replace(repr(root), f"__import__('pathlib').Path({str(root)!r})")
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as run:
        for line in run.stdout:
            if line.startswith("began"):
                run.send_signal(signal.SIGINT)
                break
        rest = run.stdout.read()
    assert run.returncode == commands.INTERRUPTED, rest
    assert "stopping once these are done: ada" in rest
    rows = table(place)
    assert "slow" in rows["ada"]["notes"]
    assert "Not graded yet" in rows["cleo"]["notes"]
