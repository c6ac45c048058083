"""The gate is itself tested: whatever is tampered with must turn it red, and nothing else may.

One notebook is frozen, then altered in every cell in another way (`TAMPERED`), and the project's
own pytest configuration judges both.  What concerns the run and whole files is in `test_forged`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import nbformat
import pytest
from judged import Verdicts, freeze, judge, notebook, small, store
from nbformat.v4 import new_code_cell
from notebooks import canonical
from tampering import (
    CHECK,
    DERIVATION,
    PNG,
    as_display,
    bundle,
    derived,
    described,
    dots,
    drop,
    edit,
    erase_blue,
    extra,
    frames,
    metadata,
    noise,
    output_metadata,
    printed,
    record,
    record_twice,
    redrawn,
    repaint,
    same,
    shown,
    silenced,
    stored_error,
    strip,
    tag,
)

NUMBER = "print(np.round(np.sqrt(2.0), 3))"
TWO = "print('first')\nnp.round(np.pi, 3).item()"
STEP = """\
(ntk.Derivation("eq-NAME", (x + y) ** 2)
    .step(x**2 + 2*x*y + y**2, because="expand"))"""
PROOF = """\
ntk.check("C01/NAME", "a slope", theory=2.0, measured=1.995,
          atol=0.02, rejects={"one": 1.0})"""
ASSERTED = "assert np.allclose(1.0, np.cos(0.0), rtol=1e-12)"
PLOT = """\
fig, ax = plt.subplots()
ax.plot([1, 2, 3], [1.0, 4.0, 9.0], color=ntk.COLORS["blue"], label="square")
ax.set(title="Growth", xlabel="time", ylabel="size")
ntk.figure(fig, name="fig-gate", caption="A square.")"""


@dataclass(frozen=True)
class Tamper:
    """A cell, how it is altered after freezing, and what the gate must say about it."""

    source: str
    alter: Callable[[nbformat.NotebookNode], object]
    says: str


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
    "tag-remove-output": Tamper(PROOF, tag("remove-output"), "'remove-output' is not allowed"),
    "tag-remove-cell": Tamper(PROOF, tag("remove-cell"), "'remove-cell' is not allowed"),
    "tag-hide-output": Tamper(NUMBER, tag("hide-output"), "'hide-output' is not allowed"),
    "metadata-mystnb": Tamper(PLOT, metadata(mystnb={"image": {"width": "1px"}}), "'mystnb' may"),
    "metadata-nbgrader": Tamper(NUMBER, metadata(nbgrader={"grade": False}), "'nbgrader' may"),
    "metadata-hidden": Tamper(NUMBER, metadata(jupyter={"source_hidden": True}), "'jupyter' may"),
    "metadata-collapsed": Tamper(NUMBER, metadata(collapsed=True), "'collapsed' may"),
    "output-isolated": Tamper(STEP, output_metadata(isolated=True), "metadata of the output"),
    "output-html": Tamper(
        NUMBER, extra("display_data", data={"text/html": "<b>1</b>"}), "an output of kind text/html"
    ),
    "bundle-html": Tamper(STEP, bundle("text/html", "<b>1</b>"), "an output of kind text/html"),
    "bundle-script": Tamper(
        STEP, shown("text/markdown", "expand", "<script>1</script>"), "raw HTML: <script>"
    ),
    "output-kind": Tamper(STEP, as_display, "other outputs"),
    "trailing-blank": Tamper(NUMBER, printed("1.414", "1.414 "), "stdout differs"),
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
    "derivation-record-removed": Tamper(STEP, drop(DERIVATION), "other outputs"),
    "derivation-given": Tamper(STEP, derived("given", 9), f"{DERIVATION} differs"),
    "derivation-blank": Tamper(STEP, shown("text/plain", "x*y", "x*\u200by"), "text/plain differs"),
    "derivation-hyphen": Tamper(
        STEP, shown("text/markdown", "eq-", "eq\u2010"), "markdown differs"
    ),
    "derivation-forged": Tamper(STEP, edit("** 2)\n", '** 2, 7, status="proved")\n'), "TypeError"),
    "derivation-muted": Tamper(STEP, silenced('"expand"))', '"expand"));'), "made and not shown"),
    "wrong-step": Tamper(STEP, edit("2*x*y", "3*x*y"), "DerivationError"),
    "weaker-step": Tamper(STEP, edit('"expand"', '"expand", numerically=True'), "differs"),
    "check-theory": Tamper(PROOF, edit("theory=2.0", "theory=2.1"), "CheckError"),
    "check-widened": Tamper(PROOF, edit("atol=0.02", "atol=0.2"), "differs"),
    "check-vacuous": Tamper(PROOF, edit("atol=0.02", "atol=2.0"), "vacuous"),
    "check-lenient": Tamper(PROOF, edit("atol=0.02", "atol=0.998"), "would also accept"),
    "check-number": Tamper(PROOF, record("measured", "2"), f"{CHECK} differs"),
    "check-what": Tamper(PROOF, record("what", "a slip"), f"{CHECK} differs"),
    "check-extra-record": Tamper(PROOF, record_twice, f"{CHECK} differs"),
    "check-reject-far": Tamper(PROOF, edit('"one": 1.0', '"one": 1e9'), f"{CHECK} differs"),
    "check-itself": Tamper(PROOF, edit("theory=2.0", "theory=float(1.995)"), "are both 1.995"),
    "check-verdict": Tamper(PROOF, record("verdict", "fail"), "the verdict 'fail'"),
    "check-hidden": Tamper(PROOF, silenced("ntk.check", "_ = ntk.check"), "is made and not shown"),
    "check-muted": Tamper(PROOF, silenced("1.0})", "1.0});"), "is made and not shown"),
    "check-record-removed": Tamper(PROOF, drop(CHECK), "other outputs"),
    "assert-nothing": Tamper(
        ASSERTED, edit("np.allclose(1.0, np.cos(0.0), rtol=1e-12)", "True"), "cannot fail"
    ),
    "assert-all": Tamper(ASSERTED, edit("1e-12", "1e12"), "accepts every number"),
    "figure-erased": Tamper(
        PLOT,
        redrawn(erase_blue, "Matplotlib version3.9.9, https://matplotlib.org/"),
        "NTKBOOK_FIGURES=loose",
    ),
    "figure-dots": Tamper(PLOT, redrawn(dots), "neighbouring pixels"),
    "figure-software": Tamper(PLOT, redrawn(same, "Painted over Matplotlib version3"), "not draw"),
    "figure-frames": Tamper(PLOT, frames, "several frames"),
    "figure-digest": Tamper(PLOT, described("digest"), "metadata of the output differs"),
    "figure-width": Tamper(PLOT, described("width"), "the metadata 'width' may change"),
    "figure-data": Tamper(PLOT, edit("9.0", "9.1"), "text/plain differs"),
    "figure-data-slightly": Tamper(PLOT, edit("4.0", "4.04"), "figures differ"),
    "figure-colour": Tamper(PLOT, edit('"blue"', '"orange"'), "figures differ"),
    "figure-typo": Tamper(PLOT, edit("Growth", "Grovth"), "text/plain differs"),
    "figure-repainted": Tamper(PLOT, redrawn(repaint((500, 300, 540, 340))), "figures differ"),
    "figure-foreign": Tamper(PLOT, redrawn(same, None), "did not draw"),
    "figure-broken": Tamper(PLOT, lambda c: c.outputs[0].data.update({PNG: "AAAA"}), "be read"),
    "figure-removed": Tamper(PLOT, drop(PNG), "other outputs"),
    "figure-alt": Tamper(PLOT, described("alt"), "alternative text"),
    "figure-caption": Tamper(PLOT, described("caption"), "metadata of the output differs"),
    "figure-name": Tamper(PLOT, described("name"), "metadata of the output differs"),
    "figure-without-alt": Tamper(
        PLOT, lambda cell: cell.outputs[0].metadata.clear(), "alternative text"
    ),
}


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory) -> Verdicts:
    folder = tmp_path_factory.mktemp("gate")
    (folder / "book").mkdir()
    one = notebook()
    for name, tamper in TAMPERED.items():
        one.cells.append(new_code_cell(tamper.source.replace("NAME", name), id=name))
        one.cells.append(new_code_cell(f"print('after {name}')", id=f"after-{name}"))
    untouched = store(folder / "book" / "untouched.ipynb", one)
    said = freeze("--jobs", 2, untouched)
    assert said.returncode == 0, said.stdout + said.stderr

    altered = canonical.read(untouched)
    for cell in altered.cells:
        if cell.id in TAMPERED:
            TAMPERED[cell.id].alter(cell)
    store(folder / "book" / "tampered.ipynb", altered)
    store(folder / "book" / "plain.ipynb", small("print(1)", "print(1)"))
    return judge(folder)


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


def test_the_gate_is_on(pytestconfig):
    """In the very run that this test belongs to."""
    assert pytestconfig.getoption("nbval")
    assert pytestconfig.getoption("nbval_current_env")
    assert pytestconfig.getoption("nbval_cell_timeout") <= 1800
    assert not pytestconfig.getoption("nbval_lax")
    assert not pytestconfig.getoption("nbval_sanitize_with")
    assert pytestconfig.pluginmanager.hasplugin("nbstrict")
