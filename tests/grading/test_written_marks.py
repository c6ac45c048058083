"""A reader's marks: kept whatever happens to the table, or refused with file, line and reason."""

from __future__ import annotations

import codecs
from dataclasses import replace

import pytest
from grading import tables
from grading.grades import Course, grades_table
from grading.marks import Graded, Mark
from grading.written import merge, read_marks, written_table

HEADER = "student,question,out_of,mark,comment,entry 1,answer\n"


def answers(*students, **changes):
    """Results without a run: two questions by tests, one that waits for a reader."""
    half = Mark("half", "Halve", 2, 2, "All tests pass.", "x / 2", answer="code")
    square = Mark("square", "Square", 0, 3, "Wrong.", "x", answer="wrong")
    why = Mark("why", "Why", None, 4, "Waits for a reader.", "So.", written=True, answer="text")
    marks = tuple(replace(mark, **changes.get(mark.name, {})) for mark in (half, square, why))
    return [Graded(student, marks) for student in students]


def total(graded, toy, marks):
    rows = grades_table(graded, Course(toy, marks)).splitlines()
    return rows[1].split(",")[3]


@pytest.mark.parametrize(
    "name", ["-ada", "=1+1", "+a", "@a", "'=a", "''-b", "\ta", " plain ", "O'Neill", "Zoë, ÿ"]
)
def test_names_and_comments_go_through_any_number_of_round_trips(toy, tmp_path, name):
    path = tmp_path / "written.csv"
    graded = answers(tables.key(name))
    merge(path, toy, graded)
    row = tables.written(("c",), [{"c": name.strip()}]).splitlines()[1]
    assert row[0] not in "=+-@\t"
    rows = [{"student": name.strip(), "question": "why", "mark": "3", "comment": name.strip()}]
    path.write_text(tables.written(("student", "question", "mark", "comment"), rows))
    texts = set()
    for _ in range(4):
        marks = merge(path, toy, graded)
        texts.add(path.read_text())
        (reading,) = marks.readings.values()
        assert (reading.points, reading.comment) == (3, name.strip())
    assert len(texts) == 1


def test_a_comment_that_begins_like_a_formula_is_not_changed(toy, tmp_path):
    path = tmp_path / "written.csv"
    path.write_text(HEADER + 'ada,why,4,3,"-1: no reason\nsecond line",,\n')
    for _ in range(3):
        marks = merge(path, toy, answers("ada"))
    assert marks.readings["ada", "why"].comment == "-1: no reason\nsecond line"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("sign", [",", ";", "\t"])
def test_what_a_spreadsheet_saves_is_read(toy, tmp_path, encoding, sign):
    """With an empty row, spaces at the end, a comma for the point, and a column of one's own."""
    path = tmp_path / "written.csv"
    lines = [
        ["Student", "Question", "out_of", "Mark", "Comment", "entry 1", "answer", "reader", ""],
        ["Zoë ", "why ", "4", '"3,5"', "gut – sehr", "", "text", "=me", ""],
        [""] * 9,
        ["", " ", "", "", "", "", "", "", ""],
    ]
    path.write_bytes("\r\n".join(map(sign.join, lines)).encode(encoding))
    for _ in range(3):
        marks = merge(path, toy, answers("Zoë", "ben"))
        reading = marks.readings["Zoë", "why"]
        assert (reading.points, reading.comment) == (3.5, "gut – sehr")
        assert reading.added == {"reader": "=me"}
        assert path.read_text("utf-8-sig").splitlines()[0].count(sign) == 7
    assert path.read_bytes().startswith(codecs.BOM_UTF8) == (encoding in ("utf-8-sig", "utf-16"))


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "got an empty file"),
        (b"student,mark\n", "expected the columns student, question, mark, comment, got student"),
        (b"student,question,mark,mark,comment\n", "'mark' is there twice"),
        (b"student,question,mark,comment\nada,why,3,good, but short\n", "line 2: ' but short'"),
        (b'student,question,mark,comment\nada,why,3,"good\nben,why,2,bad\n', "line 2.*quotation"),
        (b'student,question,mark,comment\nada,why,3,"a" b\n', "line 2"),
        (b"student,question,mark,comment\nada,why,3,\x81\n", "line 2: neither UTF-8 nor cp1252"),
        (b"student,question,mark,comment\nada,why,3,\x00\n", "line 2: not a text file"),
        (b"\xff\xfes\x00t", "the UTF-16 text is broken"),
        (b"student,question,mark,comment\n\nada,why,3. Mai,\n", "line 3: expected a mark from 0"),
        (HEADER.encode() + b"ada,half,2,1,,1,\n", "line 2: the rubric of 'half' has no entry 1"),
        (HEADER.encode() + b"ada,why,4,,,5,\n", "line 2, entry 1: expected a mark from 0 to 4"),
    ],
)
def test_what_cannot_be_read_is_refused_with_file_line_and_reason(toy, tmp_path, raw, message):
    path = tmp_path / "written.csv"
    path.write_bytes(raw)
    with pytest.raises(ValueError, match=f"(?s)written.csv.*{message}"):
        merge(path, toy, answers("ada"))
    assert path.read_bytes() == raw


def test_marks_entered_at_the_last_moment_are_merged(toy, tmp_path, monkeypatch):
    """Also between the reading and the writing of the table."""
    path = tmp_path / "written.csv"
    merge(path, toy, answers("ada", "ben"))
    late = iter(["1", "2"])

    def slow(graded, assignment, marks):
        text = written_table(graded, assignment, marks)
        if (mark := next(late, None)) is not None:
            path.write_text(f"{HEADER}ada,why,4,{mark},,,text\nben,why,4,3,,,text\n")
        return text

    monkeypatch.setattr("grading.written.written_table", slow)
    marks = merge(path, toy, answers("ada", "ben"))
    assert [r.points for r in marks.readings.values()] == [2, 3]
    assert "ada,why,4,2," in path.read_text()


def test_points_of_any_question_can_be_set_by_a_person(toy, tmp_path):
    path = tmp_path / "written.csv"
    path.write_text(HEADER + "ada,square,3,1.5,A fair complaint.,,\nada,why,4,4,,,\n")
    graded = answers("ada")
    marks = merge(path, toy, graded)
    assert total(graded, toy, marks) == "7.5"
    nobody = answers("ada", half={"points": None}, square={"points": None})
    assert total(nobody, toy, read_marks(path, toy)) == ""
    merge(path, toy, nobody)
    assert "ada,half,2,,,,code" in path.read_text()  # a row to be filled in
    merge(path, toy, graded)
    assert "ada,half" not in path.read_text()
    assert "ada,square,3,1.5,A fair complaint." in path.read_text()


def test_a_rubric_is_filled_in_entry_by_entry(root, toy, tmp_path):
    path = tmp_path / "written.csv"
    entries = [{"points": 1, "for": "a"}, {"points": 3, "for": "b"}]
    two = replace(toy, about=toy.about | {"written": {"why": {"rubric": entries}}})
    merge(path, two, answers("ada"))
    assert path.read_text().splitlines()[0].endswith("comment,entry 1,entry 2,answer")
    head = "student,question,mark,comment,entry 1,entry 2\n"
    path.write_text(head + "ada,why,,,1,\n")
    marks = merge(path, two, answers("ada"))
    assert marks.readings["ada", "why"].points is None
    path.write_text(head + "ada,why,,,1,2.5\n")
    marks = merge(path, two, answers("ada"))
    assert marks.readings["ada", "why"].points == 3.5
    assert "ada,why,4,,,1,2.5,text" in path.read_text()


def test_a_mark_whose_answer_has_changed_is_told(toy, tmp_path):
    path = tmp_path / "written.csv"
    first, second = answers("ada"), answers("ada", why={"answer": "other"})
    merge(path, toy, first)
    path.write_text(path.read_text().replace("ada,why,4,,", "ada,why,4,3,"))
    assert merge(path, toy, first).outdated(first[0]) == []
    for _ in range(2):
        marks = merge(path, toy, second)
        assert marks.outdated(second[0]) == ["why: the answer has changed since it was marked."]
        assert "has changed" in grades_table(second, Course(toy, marks))
        assert total(second, toy, marks) == "5"
    path.write_text(path.read_text().replace(",text", ","))  # read again: the mark stands
    merge(path, toy, second)
    assert merge(path, toy, second).outdated(second[0]) == []


def test_rows_of_who_has_left_are_kept_when_something_is_in_them(toy, tmp_path):
    path = tmp_path / "written.csv"
    head = "student,question,out_of,mark,comment,mine\n"
    path.write_text(head + "dan,why,4,3,,\neve,why,4,,Ill.,\nfay,why,4,,,note\nguy,why,4,,,\n")
    for _ in range(2):
        merge(path, toy, answers("ada"))
        kept = [line.split(",")[0] for line in path.read_text().splitlines()]
        assert kept == ["student", "ada", "dan", "eve", "fay"]


def test_zeros_in_front_of_a_number_come_back(toy, tmp_path):
    path = tmp_path / "written.csv"
    path.write_text(HEADER + "7123,why,4,3,,,text\n")
    marks = merge(path, toy, answers("007123", "8"))
    assert marks.readings["007123", "why"].points == 3
    assert "\n007123,why,4,3," in path.read_text()
    assert "\n7123," not in path.read_text()
