"""Notebooks for the tests of the gate: made, frozen, and judged by the project's own pytest."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from notebooks import canonical

ROOT = Path(__file__).parents[2]
SETUP = """\
import sys
import matplotlib.pyplot as plt
import numpy as np
import sympy as sp
import ntkbook as ntk
book = ntk.setup()
x, y = sp.symbols("x y", real=True)"""


@dataclass(frozen=True)
class Verdicts:
    """Outcome ('' for green, else the message) by notebook and item."""

    items: dict[tuple[str, str], str]
    log: str

    def of(self, notebook: str) -> dict[str, str]:
        return {item: text for (name, item), text in self.items.items() if name == notebook}

    def red(self, notebook: str) -> set[str]:
        return {item for item, text in self.of(notebook).items() if text}


def judge(folder: Path) -> Verdicts:
    """Run the project's own gate on every notebook below ``folder``/book, by one process."""
    for name in ("pyproject.toml", "conftest.py"):
        shutil.copy(ROOT / name, folder / name)
    for tools in (Path("book", "_ext"), Path("tests", "helpers")):
        shutil.copytree(ROOT / tools, folder / tools, ignore=shutil.ignore_patterns("__pycache__"))
    report = folder / "report.xml"
    outer = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "COV_"))}
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-n1", "book", f"--junitxml={report}"],
        cwd=folder, env=outer, capture_output=True, text=True,
    )  # fmt: skip
    items = {}
    for case in ElementTree.parse(report).iter("testcase"):
        where = f"{case.get('classname')} {case.get('name')}"
        found = re.search(r"book[./]([\w-]+)[./]ipynb", where)
        assert found, where
        item = case.get("name", "").split("@")[0]
        bad = [e for e in case if e.tag in ("failure", "error", "skipped")]
        items[found.group(1), item] = "".join(f"{e.get('message')}\n{e.text}" for e in bad)
    return Verdicts(items, run.stdout + run.stderr)


def freeze(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "book" / "_ext" / "freeze.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def notebook(**sources: str) -> nbformat.NotebookNode:
    """A notebook that begins with `SETUP`; the names of the cells are their ids."""
    cells = [new_markdown_cell("# The gate", id="title"), new_code_cell(SETUP, id="setup")]
    cells += [new_code_cell(s, id=name.replace("_", "-")) for name, s in sources.items()]
    return new_notebook(cells=cells)


def small(*sources: str) -> nbformat.NotebookNode:
    """A notebook that needs no package, executed on paper: each cell prints 1."""
    cells = [new_markdown_cell("# Small", id="title")]
    for count, source in enumerate(sources, start=1):
        out = new_output("stream", name="stdout", text="1\n")
        cells.append(
            new_code_cell(source, id=f"cell-{count}", execution_count=count, outputs=[out])
        )
    return canonical.canonical(new_notebook(cells=cells))


def store(path: Path, one: nbformat.NotebookNode) -> Path:
    path.write_text(canonical.write(one), encoding="utf-8")
    return path
