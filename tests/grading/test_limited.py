"""Notebooks that may be anything are read by a process of its own, and only in part."""

from __future__ import annotations

import json
import os
import resource

import pytest
from grading.limited import read_notebook

ONLY_LINKS = "got a link or something that is no file"


def written(tmp_path, text):
    path = tmp_path / "a.ipynb"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_what_grading_looks_at_comes_back(tmp_path):
    cell = {
        "id": "half", "cell_type": "code", "source": ["a\n", 3, "b"], "outputs": [{"text": "x"}],
        "metadata": {"id": "old", "nbgrader": {"grade_id": "half", "points": 3}, "more": [1]},
        "attachments": {"p.png": {"image/png": "AAAA", "text/plain": ["B", "C"]}, "odd": 3},
    }  # fmt: skip
    notebook = {"cells": [cell, {}, {"source": 3, "metadata": 3}], "nbformat": 4}
    notebook["metadata"] = {"ntkbook": {"seed": 3, "assignment": "toy", "odd": []}, "kernel": "x"}
    found = read_notebook(written(tmp_path, json.dumps(notebook)))
    assert found["metadata"] == {"ntkbook": {"seed": 3, "assignment": "toy"}}
    first, *odd = found["cells"]
    assert first == {
        "id": "half", "cell_type": "code", "source": "a\nb",
        "metadata": {"id": "old", "nbgrader": {"grade_id": "half"}},
        "attachments": {"p.png": {"image/png": "AAAA", "text/plain": "BC"}, "odd": {}},
    }  # fmt: skip
    assert odd == [{"metadata": {}, "source": "", "attachments": {}}] * 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nope", "it isn't JSON"),
        (b"\xff\xfe\x00", "it isn't JSON"),
        ("[" * 10**6, "it isn't JSON"),
        ('{"cells": [], "a": ' + "9" * 5000 + "}", "it isn't JSON"),
        ("[]", "it has no list of cells"),
        ('{"cells": {}}', "it has no list of cells"),
        ('{"cells": [' + "{}," * 5001 + "{}]}", "more than 5000 cells"),
        ('{"cells": [{"source": "' + "x" * 2**25 + '"}]}', "longer than 32 MiB"),
        ('{"cells": [{"attachments": {"a": {"b": "' + "x" * 2**25 + '"}}}]}', "longer than 32"),
    ],
)
def test_what_is_no_notebook_is_refused(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read_notebook(written(tmp_path, text))


def test_lists_in_lists_cost_the_grader_nothing(tmp_path):
    """Twenty megabytes of brackets are 300 MB of lists, in the other process."""
    text = '{"cells": [{"outputs": [' + "[[],[]]," * (20 * 10**6 // 8) + "[]]}]}"
    path = written(tmp_path, text)
    before = resource.getrusage(resource.RUSAGE_SELF)
    assert len(read_notebook(path)["cells"]) == 1
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert after.ru_maxrss - before.ru_maxrss < 50_000  # KiB, on macOS bytes
    assert after.ru_utime - before.ru_utime < 1


def test_links_are_not_followed(tmp_path):
    student, other = tmp_path / "ada", tmp_path / "ben"
    (other / "toy").mkdir(parents=True)
    student.mkdir()
    path = other / "toy" / "toy.ipynb"
    path.write_text('{"cells": []}')
    assert read_notebook(path, other) == {"cells": [], "metadata": {}}
    (student / "toy").symlink_to("../ben/toy")
    with pytest.raises(ValueError, match="a link that leads out of the student's folder"):
        read_notebook(student / "toy" / "toy.ipynb", student)
    (student / "own.ipynb").symlink_to("/dev/zero")
    with pytest.raises(ValueError, match=ONLY_LINKS):
        read_notebook(student / "own.ipynb")
    os.mkfifo(student / "fifo.ipynb")
    with pytest.raises(ValueError, match=ONLY_LINKS):
        read_notebook(student / "fifo.ipynb")
    with pytest.raises(ValueError, match=ONLY_LINKS):
        read_notebook(other)
    with pytest.raises(ValueError, match="can't be read: No such file"):
        read_notebook(student / "none.ipynb")
    os.link(path, student / "second.ipynb")
    with pytest.raises(ValueError, match="second name"):
        read_notebook(student / "second.ipynb", student)
