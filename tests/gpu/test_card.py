"""Runs on a card, without one: the options, the records, the wheels, and the page's text."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from card import chapters, processes, records, wheels
from nbformat.v4 import new_code_cell, new_notebook, new_output
from notebooks.canonical import read, write
from notebooks.execute import Ran
from pages.benchmarks import gpu_records

HERE = Path(__file__).parent
SLEEP = "import time\ntime.sleep(60)"
HEAD = {
    "date": "2030-01-02",
    "command": "tests/gpu/run --minutes 9",
    "device": "Card 9000",
    "platform": "gpu",
    "driver": "999.1",
    "versions": {"python": "3.12.3", "jax": "0.11.2", "numpy": "2.5.2", "ntkbook": "0.1.0"},
}


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [str(HERE / "run"), *map(str, arguments)]
    settings = os.environ | {"PYTHON": sys.executable}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=settings)


# The command


def test_help_says_that_the_wheels_have_to_travel():
    said = run("--help")
    assert said.returncode == 0
    assert ".gpu-wheels" in said.stdout
    assert "--rehearse" in said.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--minutes", "soon"], "argument --minutes: expected a number from 0.5 to 60, got 'soon'"),
        (["--minutes", "nan"], "argument --minutes: expected a number from 0.5 to 60, got 'nan'"),
        (["--jobs", "0"], "argument --jobs: expected a whole number from 1, got '0'"),
        (["--chapters", "no.ipynb"], "argument --chapters: expected a notebook of the book"),
        (["--out", __file__], "argument --out: expected a folder, got the file"),
        (["--stages", "tea"], "argument --stages: invalid choice: 'tea'"),
    ],
)
def test_bad_arguments_are_refused_by_name(arguments, message):
    said = run(*arguments)
    assert said.returncode == 2
    assert message in said.stderr


def test_a_machine_without_a_card_is_told_so(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    said = run("--minutes", 1, "--out", tmp_path / "out")
    assert said.returncode == 1
    assert "no card" in said.stderr
    assert not (tmp_path / "out").exists()


# Records


def test_a_record_is_whole_after_every_item(tmp_path):
    log = records.Log(tmp_path / "new" / "card-kernels.json", {"stage": "kernels"})
    for n in (1, 2):
        log.add({"n": n})
        found = json.loads(log.path.read_text("utf-8"))
        assert found == {"stage": "kernels", "items": [{"n": i + 1} for i in range(n)]}
    assert os.listdir(log.path.parent) == [log.path.name]


@pytest.mark.parametrize("where", ["os.fsync", "os.replace"])
def test_a_write_that_fails_leaves_the_old_record(tmp_path, monkeypatch, where):
    path = tmp_path / "card-device.json"
    records.write(path, {"old": True})

    def fail(*_: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(where, fail)
    with pytest.raises(OSError, match="full"):
        records.write(path, {"old": False})
    assert json.loads(path.read_text("utf-8")) == {"old": True}
    assert os.listdir(tmp_path) == [path.name]


def test_records_hold_no_path_of_the_machine():
    text = records.plain(f"IOError: {records.ROOT}/book/x.py and '/tmp/a/b.so' at 1/2")
    assert text == "IOError: ./book/x.py and '…/b.so' at 1/2"


def test_a_process_ends_in_time(tmp_path, monkeypatch):
    code = "import time\nprint('{\"n\": 1}', flush=True)\ntime.sleep(60)\n"
    (tmp_path / "sleeper.py").write_text(code)
    (tmp_path / "broken.py").write_text("raise SystemExit('no such card')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    start = time.monotonic()
    assert list(processes.lines_of("sleeper", seconds=1)) == [
        {"n": 1},
        {"error": "not done after 1 s"},
    ]
    assert time.monotonic() - start < 20
    (failed,) = processes.lines_of("broken", seconds=30)
    assert failed == {"error": "exit status 1: no such card"}
    assert list(processes.lines_of("broken", seconds=0)) == [{"error": "no time left"}]


# Wheels


def test_the_lock_has_a_version_of_every_wheel():
    environment = wheels._environment("3.12")
    names = wheels.needed(wheels.WANTED, environment) - wheels.needed(wheels.THERE, environment)
    pinned = wheels.pins((wheels.ROOT / "requirements.txt").read_text("utf-8"), environment)
    assert {"ipykernel", "ipython", "jupyter-client", "pyzmq", "nbval"} <= names <= set(pinned)
    assert not {"jax", "numpy", "pytest", "matplotlib"} & names


def test_pins_are_those_of_the_other_python():
    lock = "# by hand\n-e .\na==1 ; python_full_version < '3.12'\na==2 ; python_version >= '3.12'\n"
    assert wheels.pins(lock, wheels._environment("3.12")) == {"a": "2"}
    assert wheels.pins(lock, wheels._environment("3.11")) == {"a": "1"}


# Comparisons


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("slope 2.00, C01", "slope 2.00, C01", 0.0),
        ("slope 2.00, C01", "slope −2.00, C01", 2.0),
        ("1.5e-3 and 7", "1.2e-3 and 7", 0.2),
        ("slope 2.00, C01", "slope 2.00, C02", None),
        ("1 2", "1", None),
    ],
)
def test_the_deviation_of_texts(old, new, expected):
    assert chapters.deviation(old, new) == expected


def test_the_verdict_on_a_chapter():
    def notebook(text: str):
        cell = new_code_cell("print(x)", id="slope", execution_count=1)
        cell.outputs = [new_output("stream", name="stdout", text=text)]
        return new_notebook(cells=[cell])

    stored = notebook("slope 2.00\n")
    path = Path("x.ipynb")
    same = chapters.judged(path, stored, Ran(stored, 1.23, {}), compare=True)
    assert same == {"verdict": "agrees", "seconds": 1.2, "checks": {}}
    other = chapters.judged(path, stored, Ran(notebook("slope 2.50\n"), 1.0, {}), compare=True)
    assert other["verdict"] == "differs"
    (cell,) = other["cells"]
    assert (cell["cell"], cell["deviation"]) == ("slope", 0.2)
    assert "stdout differs" in cell["differences"][0]
    failed = chapters.judged(path, stored, Ran(stored, 1.0, {0: "CheckError: no"}), compare=False)
    assert (failed["verdict"], failed["failures"]) == ("failed", ["slope: CheckError: no"])


def test_a_chapter_ends_in_time(tmp_path, monkeypatch):
    monkeypatch.setattr(chapters, "ROOT", tmp_path)
    cells = [new_code_cell(text, id=f"cell-{i}") for i, text in enumerate(("1", SLEEP))]
    (tmp_path / "book").mkdir()
    path = tmp_path / "book" / "slow.ipynb"
    path.write_text(write(new_notebook(cells=cells)), "utf-8")
    start, found = time.monotonic(), list[dict]()
    chapters.run([path, path], "cpu", 1, start + 5, found.append)
    assert time.monotonic() - start < 30
    assert [item["verdict"] for item in found] == ["cut short", "not reached"]
    assert found[0].get("reached", "1 of 2 cells") in ("0 of 2 cells", "1 of 2 cells")


def test_some_chapters_have_a_larger_size():
    sized = [chapters.has_sizes(path) for path in chapters.all_chapters()]
    assert any(sized)
    assert not all(sized)
    assert all(read(path).cells for path in chapters.all_chapters())


# The page


def test_the_page_without_a_card():
    rehearsal = HEAD | {"stage": "kernels", "platform": "cpu", "device": "cpu", "items": []}
    for found in ([], [rehearsal]):
        text = gpu_records(found)
        assert "no card has been at hand so far" in text
        assert "`tests/gpu/run`" in text
        assert "|" not in text


def test_the_page_with_a_card():
    rates = {"float64_product_rate": 5e13, "float32_product_rate": 4e13, "side": 8192}
    rates |= {"copy_rate": 3e12, "float64_product_error": 2e-15, "memory_gib": 80.0}
    fast = {"n": 4000, "dtype": "float64", "operations": 4e10, "seconds": 0.004}
    full = {"n": 50000, "dtype": "float64", "operations": 5e12, "error": "out of memory"}
    agrees = {"chapter": "part/one", "verdict": "agrees", "seconds": 21.3, "checks": {"pass": 3}}
    cells = [{"cell": "a", "deviation": 0.002}, {"cell": "b", "deviation": 0.0001}]
    differs = {"chapter": "part/two", "verdict": "differs", "seconds": 9, "cells": cells}
    holds = {"chapter": "part/two", "verdict": "holds", "seconds": 60.0, "checks": {"pass": 7}}
    late = {"chapter": "part/one", "verdict": "not reached"}
    text = gpu_records(
        [
            HEAD | {"stage": "device", "items": [rates]},
            HEAD | {"stage": "kernels", "items": [fast, full]},
            HEAD | {"stage": "chapters", "items": [agrees, differs]},
            HEAD | {"stage": "chapters-gpu", "items": [holds, late]},
        ]
    )
    assert "**Card 9000, 80 GiB**" in text
    assert "2030-01-02 by `tests/gpu/run --minutes 9`" in text
    assert "50 TFLOP/s in float64 and 40 in float32" in text
    assert "| 4000 | 4 ms | 20% | – | – |" in text
    assert "| 50000 | out of memory | – | – | – |" in text
    assert "| {doc}`/book/part/one` | prints what is stored | 21 s | not reached | – |" in text
    assert "2 cells differ by up to 0.002 | 9 s | 7 checks hold | 60 s |" in text
