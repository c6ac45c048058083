"""How a class did, and its totals for a learning-management system."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import course
import pytest
from grading.grades import Course, Timing, grades_table
from grading.marks import Graded, Mark
from grading.roster import FILE
from grading.statistics import as_csv, as_html, as_text, statistics


def graded(student, half, square, why, said="Wrong, <b>."):
    marks = [Mark("half", "Halve", half, 2, "All tests pass." if half == 2 else said)]
    marks.append(Mark("square", "Square", square, 3, "All tests pass."))
    marks.append(Mark("why", "Why", why, 4, "Waits for a reader.", written=True))
    return Graded(student, tuple(marks))


CLASS = [
    graded("ada", 2, 3, 4), graded("ben", 0, 3, None), graded("=cleo", 0, 0, 1),
    graded("dan", 1, 3, 2, "Other."),
]  # fmt: skip


def test_each_question_has_its_line(toy):
    lines = statistics(CLASS, Course(toy))
    rows = {line.question: line.row() for line in lines}
    half = rows["half"]
    assert (half["n"], half["mean"], half["zeros"], half["full"]) == (4, "0.75", "50 %", "25 %")
    assert (half["commonest"], half["times"]) == ("Wrong, <b>.", 2)
    why = rows["why"]
    assert (why["n"], why["waiting"], why["mean"], why["median"]) == (3, 1, "2.33", "2")
    total = rows["total"]
    assert (total["n"], total["waiting"], total["mean"]) == (3, 1, f"{(9 + 1 + 6) / 3:.2f}")
    assert "2 × Wrong" in as_text(lines)
    read = list(csv.DictReader(io.StringIO(as_csv(lines))))
    assert [row["question"] for row in read] == ["half", "square", "why", "total"]
    assert "Wrong, &lt;b&gt;." in as_html(lines, "Toy")


def test_nobody_and_nothing_marked_are_no_error(toy):
    assert as_text(statistics([], Course(toy)))
    waiting = [graded("ada", None, None, None)]
    assert {line.row()["mean"] for line in statistics(waiting, Course(toy))} == {""}


@pytest.fixture
def exported(root, toy, tmp_path):
    """The export's text and what was said, for one system."""
    late = Timing(called_late=True)
    table = grades_table(CLASS, Course(toy, timing={"dan": late}, penalty=10))
    (tmp_path / "graded").mkdir()
    (tmp_path / "graded" / "grades.csv").write_text(table)
    people = "folder,id,name,email\nada,7,Ada Lovelace,ada@x.org\nben,8,,\ndan,'=1,Dan,\n"
    (tmp_path / FILE).write_text(people)

    def run(system):
        command = ["export", "toy", str(tmp_path), "--for", system]
        code = course.main([*command, "--to", str(tmp_path / "graded")], root)
        name = "totals.csv" if system == "csv" else f"{system}.csv"
        path = tmp_path / "graded" / name
        return code, list(csv.reader(path.open(newline=""))) if path.exists() else []

    return run


def test_moodle_gets_the_columns_of_its_worksheet(exported, capsys):
    code, rows = exported("moodle")
    assert code == 0
    assert rows[0] == [
        "Identifier", "Full name", "Email address", "Grade", "Maximum Grade",
        "Last modified (grade)",
    ]  # fmt: skip
    assert rows[1] == ["Participant 7", "Ada Lovelace", "ada@x.org", "9", "9", ""]
    assert rows[2][3] == "5.4"
    assert len(rows) == 3
    said = capsys.readouterr().out
    assert "ben: no total yet" in said
    assert "=cleo: no id in students.csv" in said


def test_canvas_gets_a_gradebook_and_points_possible(exported):
    _, rows = exported("canvas")
    assert rows[0] == ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", "toy"]
    assert rows[1] == ["    Points Possible", "", "", "", "", "9"]
    assert rows[2] == ["Ada Lovelace", "7", "", "", "", "9"]
    assert rows[3] == ["Dan", "'=1", "", "", "", "5.4"]


def test_a_plain_table_holds_everybody(exported):
    _, rows = exported("csv")
    assert [row[0] for row in rows] == ["folder", "ada", "ben", "'=cleo", "dan"]
    assert [row[5] for row in rows[1:]] == ["9", "", "1", "5.4"]


def test_without_grades_there_is_nothing_to_export(root, tmp_path, capsys):
    command = ["export", "toy", str(tmp_path), "--for", "csv", "--to", str(tmp_path)]
    assert course.main(command, root) == 1
    assert "grade first" in capsys.readouterr().err


def test_a_late_day_costs_its_part(toy):
    late = replace(Course(toy), timing={"ada": Timing(called_late=True)}, penalty=50)
    assert late.total(CLASS[0]) == 4.5
    assert replace(late, penalty=100).total(CLASS[0]) == 0
