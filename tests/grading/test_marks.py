"""The marks for one notebook, whatever its cells look like."""

from __future__ import annotations

import pytest
from grading import assignment
from grading.marks import grade
from toy import QUICK, graded, solved


def test_right_answers_get_all_points(toy, tmp_path):
    one, by_name = graded(toy, tmp_path, solved(toy))
    assert {k: m.points for k, m in by_name.items()} == {"half": 2, "square": 3, "why": None}
    assert one.notes == ()


def test_untouched_release_gets_none(toy, tmp_path):
    _, by_name = graded(toy, tmp_path, assignment.released(toy))
    assert [m.points for m in by_name.values()] == [0, 0, 0]
    assert {m.said for m in by_name.values()} == {"Not answered."}


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


def test_a_missing_answer_cell_and_a_copied_one(toy, tmp_path):
    """The student went on in the copy: the last cell that isn't empty counts."""
    notebook = solved(toy, square="def square(x):\n    return 0")
    cells = {cell["id"]: cell for cell in notebook["cells"]}
    notebook["cells"].remove(cells["half"])
    notebook["cells"].append(cells["square"] | {"source": "def square(x):\n    return x * x"})
    notebook["cells"].append(cells["square"] | {"source": "  \n"})
    one, by_name = graded(toy, tmp_path, notebook)
    assert "missing" in by_name["half"].said
    assert by_name["square"].points == 3
    assert any("Two cells are called 'square'" in note for note in one.notes)


def test_a_split_answer_counts_as_it_ran(toy, tmp_path):
    notebook = solved(toy, half="factor = 0.5", why="First.")
    cells = {cell["id"]: cell for cell in notebook["cells"]}
    place = notebook["cells"].index(cells["half"]) + 1
    between = {"cell_type": "code", "metadata": {}, "source": "again = factor"}
    rest = cells["half"] | {"source": "def half(x):\n    return again * x"}
    notebook["cells"][place:place] = [between, rest]
    notebook["cells"].append(cells["why"] | {"source": "Second."})
    one, by_name = graded(toy, tmp_path, notebook)
    assert by_name["half"].points == 2, one
    assert by_name["why"].work == "First.\n\nSecond."
    assert len(one.notes) == 2


def test_a_notebook_whose_cells_have_lost_their_names_waits_for_a_person(toy, tmp_path):
    notebook = solved(toy, half="def half(x):\n    return 3 * x")
    for number, cell in enumerate(notebook["cells"]):
        cell |= {"id": f"new-{number}", "metadata": {}}
    one, by_name = graded(toy, tmp_path, notebook)
    assert {name: mark.points for name, mark in by_name.items()} == {
        "half": None, "square": 3, "why": None
    }  # fmt: skip
    assert "Because it is so." in by_name["why"].work
    assert any("No cell of this notebook" in note for note in one.notes)


def test_a_written_answer_in_a_cell_of_ones_own_is_read(toy, tmp_path):
    notebook = solved(toy)
    notebook["cells"][-1] = {"cell_type": "markdown", "metadata": {}, "source": "Because, I say."}
    _, by_name = graded(toy, tmp_path, notebook)
    assert (by_name["why"].points, by_name["why"].work) == (None, "Because, I say.")


def test_line_ends_of_another_system_are_no_change(toy, tmp_path):
    notebook = solved(toy)
    for cell in notebook["cells"]:
        cell["source"] = "\r\n".join("".join(cell["source"]).split("\n"))
    notebook["cells"][0]["source"] += " my own title"  # a text that doesn't run
    one, by_name = graded(toy, tmp_path, notebook)
    assert one.notes == ()
    assert by_name["half"].points == 2


def test_notes_and_answers_are_no_longer_than_a_person_reads(toy, tmp_path):
    notebook = solved(toy, why="x" * 10**6)
    own = {"cell_type": "code", "metadata": {}, "source": "raise ValueError('y' * 1000)"}
    notebook["cells"] += [own] * 30
    one, by_name = graded(toy, tmp_path, notebook)
    assert len(one.notes) == 21
    assert len(" ".join(one.notes)) < 10_000
    assert len(by_name["why"].work) < 101_000


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
    assert "link" in grade("eve", link, toy, QUICK).notes[0]
    odd = {"cells": [{}, {"source": 3}, {"metadata": 3, "source": [3]}, {"id": "half"}]}
    one, _ = graded(toy, tmp_path, odd)
    assert sum(mark.points or 0 for mark in one.marks) == 0


def test_another_variant_is_noted(toy, tmp_path):
    notebook = solved(toy)
    notebook["metadata"]["ntkbook"]["seed"] = 99
    one, _ = graded(toy, tmp_path, notebook)
    assert "seed 99" in one.notes[0]
    assert "seed 99" in one.review[0]
