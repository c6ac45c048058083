"""What code and prose may not do: each way has its sentence, and what chapters do has none."""

from __future__ import annotations

import pytest
from notebooks import prose, sources

REFUSED = {
    "ntk = None": "gives the name ntk another meaning",
    "import numpy as ntk": "gives the name ntk another meaning",
    "from numpy import mean as check": "gives the name check another meaning",
    "def check(*_): pass": "gives the name check another meaning",
    "class Derivation: pass": "gives the name Derivation another meaning",
    "for check in (1, 2): pass": "gives the name check another meaning",
    "(CheckError := ValueError)": "gives the name CheckError another meaning",
    "f = lambda check: check": "gives the name check another meaning",
    "import ntkbook as ntk\nntk.check = print": "assigns to ntk.check",
    "import ntkbook as ntk\ndel ntk.check": "assigns to ntk.check",
    "import ntkbook as n\nn.evidence.checks.Z_MAX = 9": "assigns to n.evidence.checks.Z_MAX",
    "from ntkbook import duals\nduals.erf = 1": "assigns to duals.erf",
    "import sympy as sp\nsp.simplify = abs": "assigns to sp.simplify",
    "import ntkbook as ntk\nfor ntk.check in (1,): pass": "assigns to ntk.check",
    "d._line(1, 2)": "reaches for d._line, which is private",
    "d.__dict__": "reaches for d.__dict__, which is private",
    "object.__setattr__(d, 'status', 'proved')": "reaches for object.__setattr__",
    "setattr(d, 'a', 1)": "uses setattr",
    "exec('1')": "uses exec",
    "f = eval": "uses eval",
    "import sys\nsys.modules": "reaches for sys.modules",
    "import importlib": "imports importlib",
    "from IPython.display import HTML": "imports HTML from IPython",
    "import IPython": "imports IPython",
    "display({}, raw=True)": "displays raw data",
    "display({}, **more)": "displays raw data",
    "assert True": "an assertion that cannot fail: assert True",
    "assert 1, 'fine'": "an assertion that cannot fail",
    "np.allclose(a, b, rtol=1e12)": "rtol=1000000000000.0 accepts every number",
    "f(theory=a, measured=a)": "theory and measured are both a",
    "f(theory=float(a[1]), measured=a[1] + 0.0)": "theory and measured are both a[1]",
    "f(theory=a[:] * 1, measured=a.copy())": "theory and measured are both a",
    "%matplotlib inline": "not plain Python",
}
ALLOWED = """\
from IPython.display import Markdown, display
import ntkbook as ntk
import ntkbook
from ntkbook import check, duals
import matplotlib.pyplot as plt
plt.rcParams["font.size"] = 9
ax.name = name = 3
getattr(ntk.duals, "erf")
class Net:
    def __init__(self):
        super().__init__()
        self.check = ntk.check
display(net)
assert x, "one"
f(theory=a, measured=b, rtol=0.1)
f(theory=a.mean(), measured=a.copy())
f(theory=2 * a, measured=a)
"""


@pytest.mark.parametrize("source", REFUSED)
def test_a_cell_may_not(source):
    said = [text for _, text in sources.faults([source])]
    assert any(text.startswith(REFUSED[source]) for text in said), said


def test_a_cell_may():
    assert list(sources.faults([ALLOWED])) == []


def test_names_are_known_in_all_cells():
    cells = ["import ntkbook as nk", "nk.check = print"]
    assert list(sources.faults(cells)) == [
        (1, "assigns to nk.check: what is imported stays as it is")
    ]


@pytest.mark.parametrize(
    "text",
    [
        "if $P<N$ then $N>P$, or $a<b>c$",
        "[a link](<feature map>) and <https://example.org>",
        "`<b>` and 1 < 2 > 1",
        "```python\nx = '<b>'\n```",
        "```{math}\n:label: eq-a\na<b>c\n```",
        "| a | $|x|<1$ |\n|---|---|\n| 1 | $\\langle x>$ |",
        ":::{dropdown} Why\n$x<y$\n:::",
    ],
)
def test_prose_may(text):
    assert list(prose.faults(text)) == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a <i>b</i>", "raw HTML: <i>"),
        ("<style>p {color: white}</style>", "raw HTML: <style>"),
        ("a <!-- b --> c", "raw HTML: <!--"),
        (":::{dropdown} Why\n<b>\n:::", "raw HTML: <b>"),
        ("````{note}\n```{eval-rst}\n.. raw:: html\n```\n````", "the directive {eval-rst}"),
        ("```{code-cell}\n1\n```", "the directive {code-cell}"),
    ],
)
def test_prose_may_not(text, says):
    assert next(prose.faults(text)).startswith(says)
