"""A grader that survives what it is given: loops, crashes, greed and curiosity."""

from __future__ import annotations

from dataclasses import replace

import pytest
from grading.sandbox import run_cells
from toy import QUICK, graded, solved

HOSTILE = {
    "endless loop": ("while True: pass", "not done after 2 s"),
    "loop that catches everything": (
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
        "not done after 2 s",
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
    "endless in the test": ("def half(x):\n    while True: pass", "not done after 2 s"),
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
    # A machine that hands out its memory slowly needs more than two seconds to give a gibibyte.
    limits = replace(QUICK, cell=60) if case == "memory by and by" else QUICK
    one, by_name = graded(toy, tmp_path, solved(toy, half=source), limits)
    assert by_name["half"].points == 0
    said = by_name["half"].said
    if case == "closed connection" and "not done after" in said:
        message = "not done after 20 s"  # bubblewrap keeps the connection open
    assert message in said
    assert by_name["square"].points == 3, one


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


@pytest.mark.parametrize("mode", ["auto", "guard"])
def test_secrets_and_other_folders_are_out_of_reach(toy, tmp_path, mode):
    """Plain attempts are refused with words for the student, whatever guards beside Python."""
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
    outcomes = run_cells(cells, replace(QUICK, sandbox=mode), [secret])
    for source, outcome in zip(tries, outcomes, strict=False):
        assert outcome.error in ("PermissionError", "Error"), (source, outcome)
        assert "not allowed while grading" in outcome.message, (source, outcome)
    assert outcomes[-1].error is None
    assert not outside.exists()
    assert (secret / "toy.ipynb").read_text() == "the reference"
