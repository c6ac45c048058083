"""Each notebook is executed once: by whom, when again, and what is kept."""

from __future__ import annotations

import importlib.machinery
import importlib.util
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from jupyter_cache import get_cache
from nbformat.v4 import new_code_cell, new_notebook
from notebooks import store
from notebooks.canonical import canonical, code_cells

RUNS = "with open('runs', 'a') as file:\n    file.write('x')\nprint('out')"


def notebook(*sources: str, tags: tuple[str, ...] = ()):
    cells = [new_code_cell(source, id=f"cell-{n}") for n, source in enumerate(sources, 1)]
    cells[0].metadata.tags = list(tags)
    return canonical(new_notebook(cells=cells))


def run(root: Path, *notebooks, jobs: int = 1, **more):
    pairs = [(root / f"{n}.ipynb", one) for n, one in enumerate(notebooks)]
    return store.executed(root, pairs, jobs, **more)


def printed(ran: store.Ran) -> list[str]:
    return [out.get("text", "") for cell in code_cells(ran.notebook) for out in cell.outputs]


def test_what_was_executed_is_not_executed_again(tmp_path):
    seen = []

    def report(path, ran, kept):
        seen.append(kept)

    first = run(tmp_path, notebook(RUNS), report=report)
    again = run(tmp_path, notebook(RUNS), report=report)
    assert printed(first[0]) == printed(again[0]) == ["out\n"]
    assert seen == [False, True]
    assert again[0].seconds == first[0].seconds > 0
    assert (tmp_path / "runs").read_text() == "x"
    run(tmp_path, notebook(RUNS + "\nprint('more')"), report=report)
    assert (tmp_path / "runs").read_text() == "xx"


def test_what_the_register_said_is_kept(tmp_path):
    silent = "import sympy, ntkbook\nx = sympy.Symbol('x')\n"
    silent += "d = ntkbook.Derivation('eq-s', (x + 1)**2).step(x**2 + 2*x + 1, 'expand')"
    said = {1: ["the derivation eq-s is made and not shown: end a cell with it, or print it"]}
    for _ in range(2):
        (ran,) = run(tmp_path, notebook(RUNS, silent))
        assert ran.unseen == said
    assert (tmp_path / "runs").read_text() == "x"


def test_what_failed_is_not_kept(tmp_path):
    for _ in range(2):
        (ran,) = run(tmp_path, notebook(RUNS, "1 / 0", "print('after')"))
        assert ran.failures == {1: "ZeroDivisionError: division by zero"}
        assert printed(ran)[-1] == "after\n"
    assert (tmp_path / "runs").read_text() == "xx"


def test_two_who_want_the_same_notebook_run_it_once(tmp_path):
    slow = notebook(RUNS + "\nimport time; time.sleep(2)")
    store.folder(tmp_path)
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(run, tmp_path, slow) for _ in range(2)]
    assert [printed(task.result()[0]) for task in both] == [["out\n"]] * 2
    assert (tmp_path / "runs").read_text() == "x"


def test_the_site_finds_the_outputs_and_the_tags_of_today(tmp_path):
    for tags in ((), ("hide-input",)):
        run(tmp_path, now := notebook(RUNS, tags=tags))
        cache = get_cache(str(store.folder(tmp_path)))
        _, merged = cache.merge_match_into_notebook(now)
        assert merged.cells[0].outputs[0].text == "out\n"
        assert merged.cells[0].metadata.get("tags", []) == list(tags)


def test_several_run_side_by_side(tmp_path):
    wait = (
        "import os, time\nopen('{0}', 'w').close()\nwhile not os.path.exists('{1}'): time.sleep(.1)"
    )
    meeting = [notebook(wait.format(*names)) for names in (("a", "b"), ("b", "a"))]
    assert not any(ran.failures for ran in run(tmp_path, *meeting, jobs=2))


@pytest.mark.parametrize("changed", ["package", "data"])
def test_a_change_of_what_outputs_depend_on_makes_them_stale(tmp_path, monkeypatch, changed):
    files = {"package": tmp_path / "ntkbook" / "a.py", "data": tmp_path / "book" / "a.json"}
    for path in (*files.values(), tmp_path / "ntkbook" / "__init__.py"):
        path.parent.mkdir(exist_ok=True)
        path.write_text("1")
    spec = importlib.machinery.ModuleSpec("ntkbook", None)
    spec.origin = str(tmp_path / "ntkbook" / "__init__.py")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    before = store.fingerprint(tmp_path)
    assert store.fingerprint(tmp_path) == before
    files[changed].write_text("2")
    assert store.fingerprint(tmp_path) != before
    (tmp_path / "book" / "page.md").write_text("prose")
    files[changed].write_text("1")
    assert store.fingerprint(tmp_path) == before


def test_another_device_makes_outputs_stale(tmp_path, monkeypatch):
    before = store.fingerprint(tmp_path)
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    assert store.fingerprint(tmp_path) != before
