"""The gate is itself tested: whatever is tampered with must turn it red, and nothing else may.

One notebook is frozen, then altered in every cell in another way (`TAMPERED`), and the project's
own pytest configuration judges both. A few alterations concern whole files (`BROKEN`).
"""

from __future__ import annotations

import base64
import copy
import io
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from notebooks import canonical
from PIL import Image, ImageOps, PngImagePlugin

ROOT = Path(__file__).parents[2]
CHECK, PNG = canonical.CHECK, canonical.PNG

NUMBER = "print(np.round(np.sqrt(2.0), 3))"
TWO = "print('first')\nnp.round(np.pi, 3).item()"
STEP = """\
(ntk.Derivation("eq-gate", (x + y) ** 2)
    .step(x**2 + 2*x*y + y**2, because="expand"))"""
PROOF = """\
ntk.check("C01/gate", "a slope", theory=2.0, measured=1.995,
          atol=0.02, rejects={"one": 1.0})"""
PLOT = """\
fig, ax = plt.subplots()
ax.plot([1, 2, 3], [1.0, 4.0, 9.0], color=ntk.COLORS["blue"], label="square")
ax.set(title="Growth", xlabel="time", ylabel="size")
ntk.figure(fig, name="fig-gate", caption="A square.")"""
SETUP = """\
import sys
import matplotlib.pyplot as plt
import numpy as np
import sympy as sp
import ntkbook as ntk
book = ntk.setup()
x, y = sp.symbols("x y", real=True)"""


@dataclass(frozen=True)
class Tamper:
    """A cell, how it is altered after freezing, and what the gate must say about it."""

    source: str
    alter: Callable[[nbformat.NotebookNode], object]
    says: str


def edit(old: str, new: str) -> Callable:
    def alter(cell):
        assert old in cell.source
        cell.source = cell.source.replace(old, new)

    return alter


def silenced(old: str, new: str) -> Callable:
    def alter(cell):
        edit(old, new)(cell)
        cell.outputs = []

    return alter


def printed(old: str, new: str) -> Callable:
    def alter(cell):
        assert old in cell.outputs[0].text
        cell.outputs[0].text = cell.outputs[0].text.replace(old, new)

    return alter


def shown(mime: str, old: str, new: str) -> Callable:
    def alter(cell):
        data = cell.outputs[0].data
        text = data[mime]
        assert old in text
        data[mime] = text.replace(old, new)

    return alter


def record(key: str, value: str) -> Callable:
    return lambda cell: cell.outputs[0].data[CHECK][0].update({key: value})


def tag(name: str) -> Callable:
    return lambda cell: cell.metadata.update(tags=[name])


def described(key: str) -> Callable:
    return lambda cell: cell.outputs[0].metadata[PNG].update({key: "something else"})


def drop(mime: str) -> Callable:
    return lambda cell: cell.outputs[0].data.pop(mime)


def repaint(where: tuple[int, int, int, int], keep_software: bool = True) -> Callable:
    """Invert a rectangle of the picture."""

    def alter(cell):
        data = cell.outputs[0].data
        stored = Image.open(io.BytesIO(base64.b64decode(data[PNG])))
        image = stored.convert("RGB")
        image.paste(ImageOps.invert(image.crop(where)), where[:2])
        facts = PngImagePlugin.PngInfo()
        if keep_software:
            facts.add_text("Software", stored.info["Software"])
        buffer = io.BytesIO()
        image.save(buffer, "PNG", pnginfo=facts)
        data[PNG] = base64.b64encode(buffer.getvalue()).decode()

    return alter


def strip(cell) -> None:
    cell.outputs, cell.execution_count = [], None


def stored_error(cell) -> None:
    edit("1 + 1", "1 / 0")(cell)
    tag("raises-exception")(cell)
    cell.outputs = [
        new_output("error", ename="ZeroDivisionError", evalue="division by zero", traceback=[])
    ]


def noise(cell) -> None:
    edit("1 + 1", "print('psst', file=sys.stderr)")(cell)
    cell.outputs = [new_output("stream", name="stderr", text="psst\n")]


TAMPERED = {
    "printed-number": Tamper(NUMBER, printed("1.414", "1.415"), "stdout differs"),
    "printed-more": Tamper(NUMBER, printed("1.414", "1.414\nand more"), "stdout differs"),
    "source-number": Tamper(NUMBER, edit("2.0", "2.1"), "stdout differs"),
    "result-number": Tamper(
        TWO, lambda cell: cell.outputs[1].data.update({"text/plain": "3.14"}), "text/plain differs"
    ),
    "reordered": Tamper(TWO, lambda cell: cell.outputs.reverse(), "other outputs"),
    "output-removed": Tamper(TWO, lambda cell: cell.outputs.pop(), "other outputs"),
    "output-added": Tamper(
        NUMBER, lambda cell: cell.outputs.extend(cell.outputs * 1), "in several pieces"
    ),
    "outputs-stripped": Tamper(NUMBER, lambda cell: cell.outputs.clear(), "other outputs"),
    "cell-stripped": Tamper(NUMBER, strip, "the output is stripped"),
    "count": Tamper(NUMBER, lambda cell: cell.update(execution_count=99), "execution count 99"),
    "tag-skip": Tamper(NUMBER, tag("nbval-skip"), "opts out"),
    "tag-ignore": Tamper(NUMBER, tag("nbval-ignore-output"), "opts out"),
    "comment-ignore": Tamper(NUMBER, edit("print", "# NBVAL_IGNORE_OUTPUT\nprint"), "opts out"),
    "comment-skip": Tamper(NUMBER, edit("print", "#NBVAL_SKIP\nprint"), "opts out"),
    "magic": Tamper(NUMBER, silenced("print", "%%capture\nprint"), "not plain Python"),
    "stored-error": Tamper("1 + 1", stored_error, "an error is stored"),
    "stderr": Tamper("1 + 1", noise, "stderr output"),
    "new-error": Tamper("1 + 1", edit("1 + 1", "1 / 0"), "ZeroDivisionError"),
    "latex": Tamper(STEP, shown("text/markdown", "2 x y", "3 x y"), "text/markdown differs"),
    "derivation-text": Tamper(STEP, shown("text/plain", "2*x*y", "3*x*y"), "text/plain differs"),
    "derivation-markdown-removed": Tamper(STEP, drop("text/markdown"), "other outputs"),
    "derivation-record-removed": Tamper(
        STEP, drop("application/vnd.ntkbook.derivation+json"), "other outputs"
    ),
    "wrong-step": Tamper(STEP, edit("2*x*y", "3*x*y"), "DerivationError"),
    "weaker-step": Tamper(STEP, edit('"expand"', '"expand", numerically=True'), "differs"),
    "check-theory": Tamper(PROOF, edit("theory=2.0", "theory=2.1"), "CheckError"),
    "check-widened": Tamper(PROOF, edit("atol=0.02", "atol=0.2"), "differs"),
    "check-vacuous": Tamper(PROOF, edit("atol=0.02", "atol=2.0"), "vacuous"),
    "check-lenient": Tamper(PROOF, edit("atol=0.02", "atol=1.5"), "would also accept"),
    "check-number": Tamper(PROOF, record("measured", "2"), f"{CHECK} differs"),
    "check-verdict": Tamper(PROOF, record("verdict", "fail"), "the verdict 'fail'"),
    "check-hidden": Tamper(PROOF, silenced("ntk.check", "_ = ntk.check"), "0 record(s)"),
    "check-muted": Tamper(PROOF, silenced("1.0})", "1.0});"), "0 record(s)"),
    "check-record-removed": Tamper(PROOF, drop(CHECK), "0 record(s)"),
    "figure-data": Tamper(PLOT, edit("9.0", "9.1"), "text/plain differs"),
    "figure-data-slightly": Tamper(PLOT, edit("4.0", "4.04"), "figures differ"),
    "figure-colour": Tamper(PLOT, edit('"blue"', '"orange"'), "figures differ"),
    "figure-typo": Tamper(PLOT, edit("Growth", "Grovth"), "text/plain differs"),
    "figure-repainted": Tamper(PLOT, repaint((500, 300, 540, 340)), "figures differ"),
    "figure-foreign": Tamper(PLOT, repaint((500, 300, 640, 440), False), "did not draw"),
    "figure-broken": Tamper(PLOT, lambda c: c.outputs[0].data.update({PNG: "AAAA"}), "be read"),
    "figure-removed": Tamper(PLOT, drop(PNG), "other outputs"),
    "figure-alt": Tamper(PLOT, described("alt"), "alternative text"),
    "figure-caption": Tamper(PLOT, described("caption"), "metadata of the output differs"),
    "figure-name": Tamper(PLOT, described("name"), "metadata of the output differs"),
    "figure-without-alt": Tamper(
        PLOT, lambda cell: cell.outputs[0].metadata.clear(), "alternative text"
    ),
}


def small(*sources: str) -> nbformat.NotebookNode:
    """A notebook that needs no package, executed on paper: each cell prints 1."""
    cells = [new_markdown_cell("# Small", id="title")]
    for count, source in enumerate(sources, start=1):
        out = new_output("stream", name="stdout", text="1\n")
        cells.append(
            new_code_cell(source, id=f"cell-{count}", execution_count=count, outputs=[out])
        )
    return canonical.canonical(new_notebook(cells=cells))


def _changed(notebook: nbformat.NotebookNode, change: Callable) -> str:
    change(notebook)
    return canonical.write(notebook)


def _broken_files() -> dict[str, tuple[str, str]]:
    """File name to (content, what the gate must say)."""
    plain = small("print(1)", "print(1)")

    def repeat_id(notebook):
        notebook.cells[2]["id"] = notebook.cells[1]["id"]

    def strip_all(notebook):
        for cell in canonical.code_cells(notebook):
            strip(cell)

    return {
        "whole-stripped": (_changed(copy.deepcopy(plain), strip_all), "is stripped"),
        "indented": (canonical.write(plain).replace("\n ", "\n  "), "not in canonical form"),
        "newline": (canonical.write(plain) + "\n", "not in canonical form"),
        "metadata": (
            _changed(copy.deepcopy(plain), lambda nb: nb.metadata.update(widgets={})),
            "not in canonical form",
        ),
        "truncated": (canonical.write(plain)[:-40], "JSON is broken"),
        "ids": (_changed(copy.deepcopy(plain), repeat_id), "ids must be unique"),
        "old": (canonical.write(plain).replace('minor": 5', 'minor": 4'), "of nbformat 4.5"),
        "dying": (
            canonical.write(small("print(1)", "import os\nos._exit(1)")),
            "the kernel died",
        ),
        "no-code": (canonical.write(small()), "no code cell"),
        "printed-address": (
            canonical.write(small("print(1)", "print(1)")).replace('"1\\n"', '"0x7f0012345678\\n"'),
            "a memory address",
        ),
        "printed-path": (
            canonical.write(small("print(1)", "print(1)")).replace('"1\\n"', '"/opt/me/x\\n"'),
            "a path of one machine",
        ),
    }


BROKEN = _broken_files()


@dataclass(frozen=True)
class Verdicts:
    """Outcome ('' for green, else the message) by notebook and item."""

    items: dict[tuple[str, str], str]
    log: str

    def of(self, notebook: str) -> dict[str, str]:
        return {item: text for (name, item), text in self.items.items() if name == notebook}


def _judge(folder: Path) -> Verdicts:
    """Run the project's own gate on every notebook below ``folder``/book."""
    for name in ("pyproject.toml", "conftest.py"):
        shutil.copy(ROOT / name, folder / name)
    for tools in (Path("book", "_ext"), Path("tests", "helpers")):
        shutil.copytree(ROOT / tools, folder / tools, ignore=shutil.ignore_patterns("__pycache__"))
    report = folder / "report.xml"
    outer = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "COV_"))}
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "book", f"--junitxml={report}"],
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


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory) -> Verdicts:
    folder = tmp_path_factory.mktemp("gate")
    (folder / "book").mkdir()
    cells = [new_markdown_cell("# The gate", id="title"), new_code_cell(SETUP, id="setup")]
    for name, tamper in TAMPERED.items():
        cells += [
            new_code_cell(tamper.source, id=name),
            new_code_cell(f"print('after {name}')", id=f"after-{name}"),
        ]
    untouched, tampered = folder / "book" / "untouched.ipynb", folder / "book" / "tampered.ipynb"
    untouched.write_text(canonical.write(new_notebook(cells=cells)), encoding="utf-8")
    frozen = subprocess.run(
        [sys.executable, ROOT / "book" / "_ext" / "freeze.py", untouched],
        capture_output=True, text=True,
    )  # fmt: skip
    assert frozen.returncode == 0, frozen.stdout + frozen.stderr

    notebook = canonical.read(untouched)
    for cell in notebook.cells:
        if cell.id in TAMPERED:
            TAMPERED[cell.id].alter(cell)
    tampered.write_text(canonical.write(notebook), encoding="utf-8")
    small_one = canonical.write(small("print(1)", "print(1)"))
    (folder / "book" / "plain.ipynb").write_text(small_one, encoding="utf-8")
    for name, (content, _) in BROKEN.items():
        (folder / "book" / f"{name}.ipynb").write_text(content, encoding="utf-8")
    return _judge(folder)


def cell_name(name: str) -> str:
    position = 2 * list(TAMPERED).index(name.removeprefix("after-")) + 1
    return f"Cell {position + name.startswith('after-')}"


@pytest.mark.parametrize("notebook", ["untouched", "plain"])
def test_an_untouched_notebook_is_green(verdicts, notebook):
    outcome = verdicts.of(notebook)
    assert "form" in outcome, verdicts.log
    assert len(outcome) > 2, verdicts.log
    assert not any(outcome.values()), outcome


@pytest.mark.parametrize("name", TAMPERED)
def test_a_tampered_cell_is_red(verdicts, name):
    assert TAMPERED[name].says in verdicts.of("tampered")[cell_name(name)]


def test_only_tampered_cells_are_red(verdicts):
    outcome = verdicts.of("tampered")
    assert not any(outcome[cell_name(f"after-{name}")] for name in TAMPERED)
    assert not outcome["Cell 0"]


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_red(verdicts, name):
    said = "".join(verdicts.of(name).values())
    assert BROKEN[name][1] in said, verdicts.log


def test_the_gate_is_on(pytestconfig):
    """In the very run that this test belongs to."""
    assert pytestconfig.getoption("nbval")
    assert pytestconfig.getoption("nbval_current_env")
    assert pytestconfig.getoption("nbval_cell_timeout") <= 1800
    assert not pytestconfig.getoption("nbval_lax")
    assert not pytestconfig.getoption("nbval_sanitize_with")
    assert pytestconfig.pluginmanager.hasplugin("nbstrict")
