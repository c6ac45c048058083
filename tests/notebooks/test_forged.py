"""What is forged in a run, what is missing from it, and files that are no notebooks.

The cells of `FORGED` do what an author may try, or overlook, to have more on a page than was
proved; what they print is stored as it is, and only the register knows.  `WITHOUT` are notebooks
in which a check or a derivation is gone, and with it every trace but its name in `records.yml`.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable

import nbformat
import pytest
from judged import Verdicts, freeze, judge, notebook, small, store
from nbformat.v4 import new_markdown_cell, new_output, new_raw_cell
from notebooks import canonical, records
from notebooks.execute import execute
from tampering import CHECK, strip

# Cell to (what is said of it, its code); '' where nothing may be said.
FORGED = {
    "helpers": (
        "",
        """\
from IPython.display import display
import dataclasses
def slope(name, measured=1.995):
    return ntk.check(f"C01/{name}", "a slope", theory=2.0, measured=measured,
                     atol=0.02, rejects={"one": 1.0})
square = ntk.Derivation("eq-square", (x + y) ** 2).step(
    x**2 + 2*x*y + y**2, because="expand")
def drawn():
    fig, ax = plt.subplots()
    ax.plot([1, 2, 3], [1.0, 4.0, 9.0], label="square")
    ax.set(title="Growth", xlabel="time", ylabel="size")
    return ntk.figure(fig, name="fig-gate", caption="A square.")""",
    ),
    "shown": ("", "square"),
    "reported": ("", 'ntk.report(slope("a"), slope("b"))'),
    "made-before": ("", 'early = slope("early")'),
    "shown-later": ("", "early"),
    "picture": ("", "drawn()"),
    "printed": ("", 'print(ntk.Derivation("eq-p", x * (x + 1)).step(x**2 + x, "expand"))'),
    "refused": (
        "",
        """\
for attempt in (lambda: slope("no", 3.0), lambda: square.step(x**2, "no")):
    try:
        attempt()
    except (ntk.CheckError, ntk.DerivationError) as error:
        print(error)""",
    ),
    "specialised": (
        "",
        """\
at_one = square.substitute({y: 1}, x**2 + 2*x + 1, because="at one")
ntk.Derivation("eq-two", (x + 1) ** 2 + 1).using(
    at_one, x**2 + 2*x + 2, because="the square")""",
    ),
    "alias": (
        "C01/alias is made and not shown",
        """\
import ntkbook as nk
nk.check("C01/alias", "a slope", theory=2.0, measured=1.995, atol=0.02,
         rejects={"one": 1.0})
print("all good")""",
    ),
    "loop": ("C01/loop-0 is made and not shown", '[slope(f"loop-{k}") for k in range(3)][-1]'),
    "swallowed": (
        "C01/swallowed is refused, and the cell does not print why",
        """\
try:
    slope("swallowed", 3.0)
except ntk.CheckError:
    pass
print("all good")""",
    ),
    "swallowed-step": (
        "eq-square is refused, and the cell does not print why",
        """\
try:
    square.step(x**2, "wish")
except ntk.DerivationError:
    print("refused")""",
    ),
    "vacuous": (
        "C01/vacuous is refused",
        """\
try:
    ntk.check("C01/vacuous", "a slope", theory=2.0, measured=1.9, atol=9.0,
              rejects={"one": 1.0})
except ValueError:
    print("fine")""",
    ),
    "quiet": (
        "eq-square is made and not shown",
        'd = square.substitute({y: 2}, (x + 2) ** 2, "at 2")',
    ),
    "lemma": (
        "eq-lemma is made and not shown",
        """\
lemma = ntk.Derivation("eq-lemma", x**2 - y**2).step(
    (x - y) * (x + y), because="factor")
ntk.Derivation("eq-user", x**2 - y**2 + 1).using(
    lemma, (x - y) * (x + y) + 1, because="the lemma")""",
    ),
    "typed-derivation": (
        "prints a verdict that nothing in the package made: eq-typed: 1 proved",
        "print('eq-typed: 1 proved, from 1 definition')",
    ),
    "typed-check": (
        "prints a verdict that nothing in the package made: pass C01/typed",
        "print('pass C01/typed: a slope: theory 2, measured 1.995, within 0.02')",
    ),
    "typed-table": (
        "a verdict that no check made: ✓ C01/typed",
        """\
from IPython.display import Markdown
Markdown("| ✓ C01/typed | a slope |\\n|---|---|\\n| 2 | 1.995 |")""",
    ),
    "copied-check": (
        "shows C01/copied, which ntk.check did not make",
        'dataclasses.replace(early, claim="C01/copied")',
    ),
    "built-check": (
        "shows C22/built, which ntk.check did not make",
        """\
from ntkbook.evidence.checks import Check
made = {f.name: getattr(early, f.name) for f in dataclasses.fields(early)}
ghost = object.__new__(Check)
for key, value in (made | {"claim": "C22/built"}).items():
    object.__setattr__(ghost, key, value)
ghost""",
    ),
    "altered-check": (
        "shows C01/wider, which ntk.check did not make",
        """\
other = slope("b")
object.__setattr__(other, "claim", "C01/wider")
other""",
    ),
    "raw": (
        "shows C01/raw, which ntk.check did not make",
        """\
data = early._repr_mimebundle_()
data[[k for k in data if "check" in k][0]][0]["claim"] = "C01/raw"
display(data, raw=True)""",
    ),
    "raw-derivation": (
        "shows eq-raw, which ntk.Derivation did not make",
        """\
data = square._repr_mimebundle_()
data[[k for k in data if "deriv" in k][0]]["label"] = "eq-raw"
display(data, raw=True)""",
    ),
    "private-line": (
        "shows eq-line, which ntk.Derivation did not make",
        """\
from ntkbook.evidence.chain import Draft
ntk.Derivation("eq-line", x)._line(x, Draft(y), "wish", None)""",
    ),
    "private-next": (
        "shows eq-next, which ntk.Derivation did not make",
        """\
start = ntk.Derivation("eq-next", x)
start._line(x, start._next(y, y), "wish", None)""",
    ),
    "sameness": (
        "alters ntkbook.evidence.derivation.require_equal",
        """\
import ntkbook.evidence.derivation as derivation
derivation.require_equal = lambda *_, **__: "proved\"""",
    ),
    "open": (
        "",
        """\
ntk.Derivation("eq-open", (x + y) ** 2).step(
    x**2 + 2 * x * y + y**2, because="expand"
).differentiate(x, ..., because="slope")""",
    ),
    "set-status": (
        "shows eq-status, which ntk.Derivation did not make",
        """\
wish = ntk.Derivation("eq-status", x, y)
object.__setattr__(wish, "status", "proved")
object.__setattr__(wish, "rests_on", ())
wish""",
    ),
    "on-a-forgery": (
        "shows eq-rests, which ntk.Derivation did not make",
        'ntk.Derivation("eq-rests", x + 1).using(wish, y + 1, because="the wish")',
    ),
    "subclass": (
        "shows eq-easy, which ntk.Derivation did not make",
        """\
from ntkbook.evidence.chain import Draft
class Easy(ntk.Derivation):
    def step(self, new, because):
        return self._line(self.lhs, Draft(new), because, None)
Easy("eq-easy", x).step(y, because="wish")""",
    ),
    "copied-picture": (
        "shows a picture that ntk.figure did not make",
        'dataclasses.replace(drawn(), description="Figure. Something else.")',
    ),
    "function": ("alters ntkbook.check", "ntk.check = lambda *_, **__: early"),
    "constant": (
        "alters ntkbook.evidence.checks.Z_MAX",
        "import ntkbook.evidence.checks as checks\nchecks.Z_MAX = 1e9",
    ),
    "table": (
        "alters ntkbook.evidence.display.WORDS",
        "from ntkbook.evidence.display import WORDS\nWORDS['checked'] = 'proved'",
    ),
    "method": (
        "alters ntkbook.evidence.chain.Line._require_sound",
        "import ntkbook.evidence.chain as chain\nsetattr(chain.Line, '_require_sound', print)",
    ),
    "honest": ("", "1 + 1"),
}

# What is said of the file, and the cells that take the place of the check and the derivation.
PROOF = """\
ntk.check("C01/gone", "a slope", theory=2.0, measured=1.995,
          atol=0.02, rejects={"one": 1.0})"""
STEP = 'ntk.Derivation("eq-gone", (x + y) ** 2).step(x**2 + 2*x*y + y**2, "expand")'
TABLE = "| claim | quantity |\n|---|---|\n| ✓ C01/gone | a slope: theory 2, measured 1.995 |"
PRINTED = "print('(x + y)**2 = x**2 + 2*x*y + y**2')"


def cut(one: nbformat.NotebookNode) -> None:
    del one.cells[2:]


def raw(one: nbformat.NotebookNode) -> None:
    one.cells[2:] = [new_raw_cell(cell.source, id=cell.id) for cell in one.cells[2:]]


def typed(one: nbformat.NotebookNode) -> None:
    one.cells[2:] = [new_markdown_cell(TABLE, id="proof")]


def text_only(one: nbformat.NotebookNode) -> None:
    one.cells[3].source = PRINTED
    one.cells[3].outputs = [
        new_output("stream", name="stdout", text="(x + y)**2 = x**2 + 2*x*y + y**2\n")
    ]


def renamed(one: nbformat.NotebookNode) -> None:
    cell = one.cells[2]
    cell.source = cell.source.replace("gone", "here")
    for key in ("text/plain", "text/markdown"):
        cell.outputs[0].data[key] = cell.outputs[0].data[key].replace("C01/gone", "C01/here")
    cell.outputs[0].data[CHECK][0]["claim"] = "C01/here"


GONE = "the check C01/gone is in book/records.yml, and no cell shows it"
WITHOUT: dict[str, tuple[Callable, tuple[str, ...]]] = {
    "cut": (cut, (GONE, "the derivation eq-gone is in book/records.yml")),
    "raw": (raw, (GONE, "raw cell [proof]")),
    "typed": (typed, (GONE, "markdown cell [proof]: a verdict that no check made: ✓ C01/gone")),
    "text-only": (text_only, ("the derivation eq-gone is in book/records.yml",)),
    "renamed": (renamed, (GONE, "the check C01/here is shown, and not in book/records.yml")),
}

PROSE = {
    "script": ("Text <script>alert(1)</script>", "raw HTML: <script>"),
    "block": ('<div style="display: none">\n\nText\n\n</div>', "raw HTML: <div"),
    "comment": ("<!-- hidden -->", "raw HTML: <!--"),
    "nested": ("````{note}\n```{tip}\n<b>bold</b>\n```\n````", "raw HTML: <b>"),
    "directive": ("```{raw} html\n<b>bold</b>\n```", "the directive {raw}"),
    "include": ("```{include} ../other.md\n```", "the directive {include}"),
}
PLAIN = (
    "$a<b>c$, `<b>`, <https://example.org>, [a](<b c>).\n\n```html\n<b>x</b>\n```\n\n$$\na<b\n$$"
)


def _changed(one: nbformat.NotebookNode, change: Callable) -> str:
    change(one)
    return canonical.write(one)


def _broken_files() -> dict[str, tuple[str, str]]:
    """File name to (content, what the gate must say)."""
    plain = small("print(1)", "print(1)")

    def repeat_id(one):
        one.cells[2]["id"] = one.cells[1]["id"]

    def strip_all(one):
        for cell in canonical.code_cells(one):
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


@pytest.fixture(scope="module")
def forged():
    one = notebook(**{name.replace("-", "_"): code for name, (_, code) in FORGED.items()})
    return one


@pytest.fixture(scope="module")
def verdicts(forged, tmp_path_factory) -> Verdicts:
    folder = tmp_path_factory.mktemp("forged")
    book = folder / "book"
    book.mkdir()
    ran = asyncio.run(execute(book / "forged.ipynb", forged, to_the_end=True))
    assert not ran.failures
    store(book / "forged.ipynb", ran.notebook)

    whole = store(book / "whole.ipynb", notebook(proof=PROOF, step=STEP))
    said = freeze(whole)
    assert said.returncode == 0, said.stdout
    frozen = canonical.read(whole)
    listed = {"book/whole": records.shown(frozen), "book/forged": records.shown(ran.notebook)}
    for name, (change, _) in WITHOUT.items():
        other = copy.deepcopy(frozen)
        change(other)
        store(book / f"{name}.ipynb", canonical.canonical(other))
        listed[f"book/{name}"] = listed["book/whole"]
    (folder / records.FILE).write_text(canonical.json.dumps(listed))
    for name, (text, _) in PROSE.items():
        one = small("print(1)")
        one.cells.append(new_markdown_cell(text, id="text"))
        store(book / f"prose-{name}.ipynb", one)
    plain = small("print(1)")
    plain.cells.append(new_markdown_cell(PLAIN, id="text"))
    store(book / "prose-plain.ipynb", plain)
    for name, (content, _) in BROKEN.items():
        (book / f"{name}.ipynb").write_text(content, encoding="utf-8")
    return judge(folder)


def cell_name(name: str) -> str:
    return f"Cell {list(FORGED).index(name) + 1}"


@pytest.mark.parametrize("name", FORGED)
def test_what_is_forged_is_red_and_nothing_else(verdicts, name):
    said, outcome = FORGED[name][0], verdicts.of("forged")[cell_name(name)]
    assert said in outcome
    assert bool(said) == bool(outcome), outcome


@pytest.mark.parametrize("name", WITHOUT)
def test_what_is_gone_is_missed(verdicts, name):
    for text in WITHOUT[name][1]:
        assert text in verdicts.of(name)["form"]
    assert verdicts.red(name) == {"form"}


@pytest.mark.parametrize("name", ["whole", "prose-plain"])
def test_what_is_whole_is_green(verdicts, name):
    assert "form" in verdicts.of(name)
    assert not verdicts.red(name), verdicts.of(name)


@pytest.mark.parametrize("name", PROSE)
def test_markup_is_refused(verdicts, name):
    assert f"markdown cell [text]: {PROSE[name][1]}" in verdicts.of(f"prose-{name}")["form"]


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_red(verdicts, name):
    said = "".join(verdicts.of(name).values())
    assert BROKEN[name][1] in said, verdicts.log
