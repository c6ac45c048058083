"""A line is shown as its author writes it, if that is the line; and a reader finds the answer."""

import pytest
import sympy as sp

from ntkbook import Derivation, DerivationError
from ntkbook.evidence.derivation import DERIVATION_MIME

x, y, u, w = sp.symbols("x y u w", real=True)
a, b, c, p, q = sp.symbols("a b c p q", positive=True)
n = sp.Symbol("n", integer=True, positive=True)
t = sp.Symbol("t", nonnegative=True)
f, g = sp.symbols("f g", cls=sp.Function)
r = sp.Function("r")(t)
N = sp.Symbol("N", integer=True, positive=True)
A, B = sp.MatrixSymbol("A", N, N), sp.MatrixSymbol("B", N, N)
square = x**2 + 2 * x * y + y**2


def D(lhs, rhs=None, **options):
    return Derivation("eq-test", lhs, rhs, **options)


def shown(line):
    return line._repr_mimebundle_()["text/markdown"]


def wedge(tex):
    value = (sp.pi - sp.acos(c / sp.sqrt(p * q))) / (2 * sp.pi)
    return D(f(c), value, latex=tex)


# The line and texts for it: the same in another form, and others.
WRITTEN = {
    "factorised": lambda tex: D(f(x, y)).step(f(x, y) + square - (x + y) ** 2, "s", latex=tex),
    "expanded": lambda tex: D((x + y) ** 2).step(square, "expand", latex=tex),
    "angle": wedge,
    "mean": lambda tex: D((x * u) ** 2).expectation({u: p}, p * x**2, "m", latex=tex),
    "slope": lambda tex: D(f(x), x**3).differentiate(x, 3 * x**2, "d", latex=tex),
    "solution": lambda tex: D(r.diff(t), -a * r).solve_ode(
        r, b * sp.exp(-a * t), {t: 0}, b, "o", latex=tex
    ),
    "series": lambda tex: D(f(x), sp.exp(x)).series(x, 0, 2, 1 + x, "T", latex=tex),
    "matrices": lambda tex: D(A * (A + B)).matrix(A * A + A * B, "m", latex=tex),
    "entries": lambda tex: D(sp.Matrix([x * (x + 1), y])).step(
        sp.Matrix([x**2 + x, y]), "s", latex=tex
    ),
}
SAME = {
    "factorised": [r"f(x,y)", r"f(x,y) + x^2 + 2xy + y^2 - (x+y)^2"],
    "expanded": [
        r"y^2 + x(x + 2y)",
        r"(x+y)^2",
        r"(x+y)^2 = x^2+2xy+y^2",
        r"\frac{4xy}{2}+x^2+y^2",
    ],
    "angle": [
        r"\tfrac12 - \frac{1}{2\pi}\arccos\frac{c}{\sqrt{pq}}",
        r"f(c) = \frac{\pi-\arccos\bigl(\tfrac{c}{\sqrt p\sqrt q}\bigr)}{2\pi}",
    ],
    "mean": [r"p\,x^2", r"\mathbb E[x^2u^2] = px^2", r"\mathbb{E}\left[(xu)^{2}\right] = px\,x"],
    "slope": [r"3x^2", r"\frac{d}{d x} f(x) = 3x\cdot x"],
    "solution": [r"r(t) = b\,e^{-at}", r"\frac{b}{e^{at}}"],
    "series": [r"1+x+O(x^2)", r"f(x) = O(x^{2}) + x + 1"],
    "matrices": [r"A^2 + AB", r"A(A+B)", r"A(A+B) = AA + AB"],
    "entries": [r"\begin{bmatrix} x(1+x) \\ y \end{bmatrix}"],
}
OTHER = {
    "factorised": [r"f(y,x)", r"f(x,x)", r"f(x,y) + 1"],
    "expanded": [
        r"x^2 - 2xy + y^2",
        r"x^2 + 2xy",
        r"x^2 + 2xy + x^2",
        r"x^2 + 2x + y^2",
        r"(x-y)^2 = x^2+2xy+y^2",
        r"x^2+2xy+y^2 = (x+y)^2 = 5",
        r"\frac{x^3}{x} + 2xy + y^2",
        r"x^2+2xy+y^2 + \tan x - \tan x",
        r"x^2+2xy+y^2 + 0\cdot\frac10",
        r"x^2+2xy+y^2\text{, proved}",
        r"x^2+2xy+y^2 % and",
        r"x^2+2.0000001xy+y^2",
        r"u^2+2uy+y^2",
        "",
        "=",
    ],
    "angle": [
        r"\tfrac12 + \frac{1}{2\pi}\arccos\frac{c}{\sqrt{pq}}",
        r"\tfrac12 - \frac{1}{2\pi}\arcsin\frac{c}{\sqrt{pq}}",
        r"\tfrac12 - \frac{1}{\pi}\arccos\frac{c}{\sqrt{pq}}",
        r"\tfrac12 - \frac{1}{2\pi}\arccos\frac{c}{\sqrt{p}q}",
        r"\tfrac12 - \frac{1}{2\pi}\arccos\frac{c}{pq}",
        r"f(p) = \tfrac12 - \frac{1}{2\pi}\arccos\frac{c}{\sqrt{pq}}",
    ],
    "mean": [r"\mathbb E[x u^2] = px^2", r"x^2u^2 = px^2", r"p^2x"],
    "slope": [r"\frac{d}{d x} f(x)^2 = 3x^2", r"f(x) = 3x^2", r"3x"],
    "solution": [r"b\,e^{at}", r"r(0) = b e^{-at}", r"r(t) = b e^{-a}t"],
    "series": [r"1+x", r"1+x+O(x^3)", r"1+2x+O(x^2)", r"1 + O(x^2)"],
    "matrices": [r"A^2 + BA", r"(A+B)A", r"AA + A", r"A^2"],
    "entries": [
        r"\begin{bmatrix} y \\ x(1+x) \end{bmatrix}",
        r"\begin{bmatrix} x(1+x) & y \end{bmatrix}",
    ],
}


@pytest.mark.parametrize(("name", "tex"), [(name, tex) for name in SAME for tex in SAME[name]])
def test_the_same_line_in_another_form_is_shown(name, tex):
    line, plain = WRITTEN[name](tex), WRITTEN[name](None)
    left, _, right = tex.rpartition(" = ")
    for side in (left, right):
        said = side.replace(r"\bigl(", r"\left(").replace(r"\bigr)", r"\right)")
        assert said.replace(r"\left[", "[").replace(r"\right]", "]") in shown(line)
    assert repr(line) == repr(plain)
    assert line._repr_mimebundle_()[DERIVATION_MIME] == plain._repr_mimebundle_()[DERIVATION_MIME]
    assert (line.lhs, line.rhs, line.status) == (plain.lhs, plain.rhs, plain.status)


@pytest.mark.parametrize(("name", "tex"), [(name, tex) for name in OTHER for tex in OTHER[name]])
def test_another_line_is_refused(name, tex):
    with pytest.raises(DerivationError, match="latex"):
        WRITTEN[name](tex)


def test_a_first_line_is_written_too():
    start = D((x * u) ** 2, latex=r"x^2u^2")
    assert r"& x^2u^2" in shown(start)
    assert r"x^2u^2 &\overset" in shown(start.using({u: w}, (x * w) ** 2, "s"))
    with pytest.raises(DerivationError, match="latex"):
        D((x * u) ** 2, latex=r"x^2u")
    with pytest.raises(TypeError, match="latex must be a string"):
        D(x, latex=5)


def test_division_is_allowed_where_it_is_declared():
    tex = r"\frac{x^2}{x}"
    assert r"\frac{x^2}{x}" in shown(D(f(x), x, nonzero=(x,), latex=tex))
    with pytest.raises(DerivationError, match="division by x"):
        D(f(x), x, latex=tex)


def test_a_written_line_is_broken_as_others_are():
    terms = [x**j * y**k for j in range(1, 6) for k in range(1, 6)]
    tex = " + ".join(f"x^{j} y^{k}" for j in range(1, 6) for k in range(1, 6))
    assert r"\\" in shown(D(f(x, y), sp.Add(*terms), latex=tex)).split(r"\begin{aligned}")[1]


GAPS = {
    "expectation": (D((b * u + w) ** 2).expectation({u: p, w: q}, ..., "m"), r"\mathbb{E}["),
    "differentiate": (D(f(x), x**2).differentiate(x, ..., "d"), r"\frac{d}{d x} f(x) &="),
    "induction": (D(f(n + 1), f(n) + 1).induction(f(n), ..., {n: 1}, 1, "i"), "f(n) &="),
    "integrate": (D(f(x), x**2).integrate((x, 0, 1), ..., "i"), r"\int"),
    "limit": (D(f(a), 1 / a).limit(a, sp.oo, ..., "l"), r"\lim"),
    "substitute": (D(f(x), x**2).substitute({x: 2}, ..., "s"), "f(2) &="),
    "solve_ode": (D(r.diff(t), -a * r).solve_ode(r, ..., {t: 0}, 1, "o"), "r(t) &="),
    "solve_for": (D(a * x, b).solve_for(x, ..., "s"), "x &="),
    "differentiate, after a step": (
        D(f(x), (x + 1) ** 2).step(x**2 + 2 * x + 1, "e").differentiate(x, ..., "d"),
        "f(x) &=",
    ),
}


@pytest.mark.parametrize("name", GAPS)
def test_a_missing_line_shows_its_left_side(name):
    gap, left = GAPS[name]
    last = shown(gap).split(r"\end{aligned}")[0].strip().splitlines()[-1]
    assert left in last
    assert last.endswith(r"= \ ?")
    assert repr(gap).startswith(repr(gap.chain))


def test_a_missing_line_with_the_same_left_side_stands_below_it():
    gap = D((x + y) ** 2).step(..., "expand")
    assert r"(x + y)^{2} &= \ ?" in shown(gap)
    assert repr(gap).endswith("    = ?   [missing, by step: expand]")


def test_what_cannot_follow_is_refused_before_it_is_there():
    with pytest.raises(DerivationError, match="a Gaussian takes every sign"):
        D(a**2).expectation({a: 1}, ..., "m")


WRONG = {
    "step": (lambda: D((x + y) ** 2).step(x**2 + y**2, "s"), "x*y"),
    "differentiate": (lambda: D(f(x), x**3).differentiate(x, x**2, "d"), "x**2"),
    "expectation": (lambda: D(u**4).expectation({u: 1}, 2, "m"), "3"),
    "integrate": (lambda: D(f(x), x**2).integrate((x, 0, 1), sp.Rational(1, 2), "i"), "1/6"),
    "limit": (lambda: D(f(a), (5 * a + 1) / a).limit(a, sp.oo, 4, "l"), "by -1"),
    "using": (lambda: D(x**2 + 1).using({x: 7}, 49, "u"), "by -1"),
    "solve_ode": (lambda: D(r.diff(t), -a * r).solve_ode(r, a * t + 1, {t: 0}, 1, "o"), "a*"),
    "unproved": (lambda: D(sp.asinh(x)).step(sp.log(x + sp.sqrt(x**2 + 1)), "r"), "asinh"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_reader_is_not_told_the_answer(name):
    attempt, answer = WRONG[name]
    with pytest.raises(DerivationError) as refused:
        attempt()
    (said,) = refused.value._render_traceback_()  # what a notebook shows
    reason = said.split("):", 1)[1]
    assert answer in str(refused.value)
    assert answer not in reason
    assert "differ" in reason or "cannot prove" in reason
    assert "e.g. at" in reason or "this line is" in reason or "cannot prove" in reason


def test_a_reader_is_told_where_the_line_fails_and_what_it_says_there():
    with pytest.raises(DerivationError) as refused:
        D(f(x), x**3).differentiate(x, 2 * x**2, "d")
    told = refused.value._render_traceback_()[0]
    at, said = told.split("x = ")[1].split(": this line is ")
    assert float(said) == pytest.approx(2 * float(at) ** 2, rel=1e-4)
    assert "eq-test, step 1 (d)" in told


def test_a_bad_argument_is_told_as_it_is():
    with pytest.raises(DerivationError) as refused:
        D(f(x), 1 / x, nonzero=(x,)).expectation({x: 1}, 0, "m")
    assert str(refused.value) in refused.value._render_traceback_()[0]
