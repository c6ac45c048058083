"""What looks like a proof and is none, kind by kind; and what is true and must be provable."""

import dataclasses

import pytest
import sympy as sp

from ntkbook import Derivation, DerivationError
from ntkbook.algebra import witnesses
from ntkbook.evidence import chain
from ntkbook.gaussian import duals

x, y, c, beta = sp.symbols("x y c beta", real=True)
u, v = sp.symbols("u v", real=True)
a, b, q, p, delta = sp.symbols("a b q p delta", positive=True)
z = sp.Symbol("z")
t = sp.Symbol("t", nonnegative=True)
eta = sp.Symbol("eta", nonnegative=True)
m = sp.Symbol("m", even=True)
n = sp.Symbol("n", integer=True, positive=True)
k = sp.Symbol("k", integer=True)
f, g, h = sp.symbols("f g h", cls=sp.Function)
r = sp.Function("r")(t)
half = sp.Rational(1, 2)


def D(lhs, rhs=None, **options):
    return Derivation("eq-test", lhs, rhs, **options)


def decay(start=1):
    return D(r.diff(t), -a * r).solve_ode(r, start * sp.exp(-a * t), {t: 0}, start, "separate")


def dot(s):
    return (sp.sqrt(1 - (1 - s) ** 2) + (sp.pi - sp.acos(1 - s)) * (1 - s)) / sp.pi


def turn(s):
    return (sp.pi - sp.acos(1 - s)) / sp.pi


pair = {(u, v): [[p, c], [c, q]]}
N, P = sp.symbols("N P", integer=True, positive=True)
A, B = sp.MatrixSymbol("A", N, N), sp.MatrixSymbol("B", N, N)
C, E = sp.symbols("C E", commutative=False)
spike = sp.Piecewise((0, x < 0), (1, True))
jump = sp.Piecewise((b * sp.exp(-a * t), t < 1), (3 * b * sp.exp(-a * t), True))

REFUSED = {
    # an equation is not an identity
    "condition differentiated": lambda: D(x**2, 4).differentiate(x, 0, "d"),
    "condition integrated": lambda: D(x**2, 4).integrate((x, 0, 1), 4, "i"),
    "condition specialised": lambda: D(x**2, 4).substitute({x: 3}, 4, "s"),
    "condition at a point": lambda: D(y, x**2).substitute({x: 0}, 0, "s"),
    "condition averaged": lambda: D(x**2, 4).expectation({x: 1}, 4, "m"),
    "condition to the limit": lambda: D(x, 1 / a).limit(a, sp.oo, 0, "l"),
    "named number integrated": lambda: D(y, x**2).integrate((x, 0, 1), sp.Rational(1, 3), "i"),
    "named number to the limit": lambda: D(y, 1 / a).limit(a, sp.oo, 0, "l"),
    "line after a condition": lambda: (
        D(f(x), x**2).using({x**2: 4}, 4, "u").differentiate(x, 0, "d")
    ),
    "value in a derivative": lambda: D(g(t), r.diff(t)).using({r: b}, 0, "initial value"),
    "two initial values": lambda: D(g(t), r).using([decay(1), decay(2)], sp.exp(-a * t), "both"),
    # kinks, jumps, poles
    "slope of |x| at 0": lambda: D(f(x), sp.Abs(x)).differentiate(x, sp.sign(x), "d"),
    "slope of |x| below 0": lambda: D(f(x), sp.Abs(x)).differentiate(x, 1, "d", on=(-sp.oo, 0)),
    "slope of relu": lambda: D(f(x), sp.Max(x, 0)).differentiate(x, sp.Heaviside(x), "d"),
    "slope of a step": lambda: D(f(x), spike).differentiate(x, 0, "d"),
    "slope of a floor": lambda: D(f(x), sp.floor(x)).differentiate(x, 0, "d"),
    "order differentiated": lambda: D(f(x), sp.O(x**2)).differentiate(x, sp.O(x), "d"),
    "series of a root": lambda: D(f(delta), dot(delta) + (1 - delta) * turn(delta)).series(
        delta, 0, 1, 2, "Taylor"
    ),
    "series beyond a half power": lambda: D(f(delta), dot(delta)).series(
        delta, 0, 2, 1 - delta, "Taylor"
    ),
    "order too good": lambda: D(f(a), a ** (3 * half)).series(a, 0, 2, 0, "Taylor"),
    "solution that jumps": lambda: D(r.diff(t), -a * r).solve_ode(r, jump, {t: 0}, b, "no"),
    "solution through a pole": lambda: D(r.diff(t), 1 + r**2).solve_ode(
        r, sp.tan(t), {t: 0}, 0, "no"
    ),
    "second order": lambda: D(r.diff(t), r.diff(t, 2)).solve_ode(r, b, {t: 0}, b, "no"),
    "limit from the wrong side": lambda: D(f(a), a).limit(a, 0, 0, "l"),
    # premises that contradict
    "one more than itself": lambda: D(x, x + 1),
    "one more by two facts": lambda: D(x).using([{x: y}, {y: x + 1}], x + 1, "u"),
    "zero by a premise": lambda: (
        D(f(x), (x**2 - 1) / (x - 1), nonzero=(x - 1,)).step(x + 1, "s").using({x: 1}, 2, "u")
    ),
    "zero by definition": lambda: D(x, 0, nonzero=(x,)),
    "zero by two premises": lambda: (
        D(f(a), (a**2 - b**2) / (a - b), nonzero=(a - b,))
        .step(a + b, "s")
        .using({a: 2, b: 2}, 4, "u")
    ),
    "a constant that depends": lambda: (
        D(f(x), c * x).differentiate(x, c, "d").using(D(c, x), x, "u")
    ),
    "a factor that depends, in a mean": lambda: (
        D(f(u), c * u + c).expectation({u: 1}, c, "m").using(D(c, u), u, "u")
    ),
    # substitution
    "odd for even": lambda: D(f(m), (-1) ** m).substitute({m: 1}, -1, "s"),
    "zero for nonzero": lambda: (
        D(f(x), (x**2 - x) / x, nonzero=(x,)).step(x - 1, "d").substitute({x: 0}, -1, "s")
    ),
    "equal for different": lambda: (
        D(f(x, y), (x**2 - y**2) / (x - y), nonzero=(x - y,))
        .step(x + y, "d")
        .substitute({x: y}, 2 * y, "s")
    ),
    "capture": lambda: D(f(y), sp.Integral(x * y, (x, 0, 1))).substitute({y: x}, 1 / 3, "s"),
    "schedule for a rate": lambda: (
        D(r.diff(t), -eta * r)
        .solve_ode(r, b * sp.exp(-eta * t), {t: 0}, b, "o")
        .substitute({eta: 1 / (1 + t)}, b * sp.exp(-t / (1 + t)), "s")
    ),
    "schedule by a fact": lambda: (
        D(r.diff(t), -eta * r)
        .solve_ode(r, b * sp.exp(-eta * t), {t: 0}, b, "o")
        .using({eta: 1 / (1 + t)}, b * sp.exp(-t / (1 + t)), "s")
    ),
    # induction
    "wrong step": lambda: D(h(n + 1), h(n) + 2 * n + 1).induction(h(n), n**2 + 1, {n: 1}, 1, "i"),
    "wrong base": lambda: D(h(n + 1), h(n) + 2 * n + 1).induction(h(n), n**2, {n: 1}, 2, "i"),
    "two steps back": lambda: D(h(n + 1), h(n) + h(n - 1)).induction(h(n), n, {n: 1}, 1, "i"),
    "below the first value": lambda: D(h(k + 1), (k - 2) * h(k)).induction(h(k), 0, {k: 3}, 0, "i"),
    "not over integers": lambda: D(h(a + 1), h(a) + 1).induction(h(a), a, {a: 1}, 1, "i"),
    # poles in disguise, and solving
    "tan cot": lambda: D(f(x), sp.tan(x) * sp.cot(x)).step(1, "s"),
    "one by sin csc": lambda: D(f(x), sp.S.One).step(sp.sin(x) * sp.csc(x), "s"),
    "tan cos": lambda: D(f(x), sp.tan(x) * sp.cos(x)).step(sp.sin(x), "s"),
    "gamma at a pole": lambda: D(f(x), sp.gamma(x + 1) / sp.gamma(x)),
    "inverse square": lambda: D(A**-2 * B),
    "solved for itself": lambda: D(x).solve_for(x, 5, "s"),
    "solved under a derivative": lambda: D(r.diff(t), -a * r).solve_for(r, 7 * sp.exp(-a * t), "s"),
    "tangent equation": lambda: D(sp.tan(x), 1, nonzero=(sp.cos(x),)).solve_for(x, sp.pi / 4, "s"),
    "complex exponential": lambda: D(sp.exp(z), 1).solve_for(z, 0, "s"),
    "complex logarithm": lambda: D(sp.exp(z), b).solve_for(z, sp.log(b), "s"),
    # laws
    "sign of a Gaussian": lambda: D(f(a), sp.sqrt(a**2)).expectation({a: 1}, 0, "m"),
    "no mean": lambda: D(f(x), 1 / x, nonzero=(x,)).expectation({x: 1}, 0, "m"),
    "variance of unknown sign": lambda: D(f(x), x**2).expectation({x: c}, c, "m"),
    "variance that varies": lambda: D(f(x), x**2).expectation({y: 1, x: y**2}, y**2, "m"),
    "independence": lambda: D(u**2 * v**2).expectation(pair, p * q, "m"),
    "odd, and too large to be averaged": lambda: D(u * sp.exp(u**2)).expectation({u: 1}, 0, "m"),
    "geometric, ratio one": lambda: D(sp.Sum(a**k, (k, 0, n))).step(
        (1 - a ** (n + 1)) / (1 - a), "s"
    ),
    "mean that diverges": lambda: D(f(x), sp.exp(x**2)).expectation(
        {x: q}, 1 / sp.sqrt(1 - 2 * q), "m"
    ),
    # forging, empty steps
    "empty step": lambda: D(x).step(x, "s"),
    "zero declared invertible": lambda: D(A, nonzero=(sp.ZeroMatrix(N, N),)),
    "zero declared nonzero": lambda: D(x, nonzero=(y - y,)),
    "zero multiplier": lambda: D(A).matrix(A + B / 10**12, "m", left=sp.ZeroMatrix(N, N)),
}

COMMON_SLIPS = {
    "upper half plane only": (sp.Abs(sp.im(z)), sp.im(z)),
    "branch of the logarithm": (sp.log(-z), sp.log(z) - sp.I * sp.pi),
    "branch of the root": (sp.sqrt(-z), -sp.I * sp.sqrt(z)),
    "beyond three": (sp.Max(x, 4), sp.S(4)),
    "one side of five": (sp.Abs(x - 5), 5 - x),
    "integers only": (sp.floor(x) + sp.floor(-x), -sp.S.One),
    "two arguments in one": (f(x, y), f(x + 2 * y, 0)),
    "real for complex": (sp.conjugate(f(x)), f(x)),
    "tiny factor": (sp.Float("1e-40") * x, sp.Float("2e-40") * x),
    "tiny number": (sp.exp(-80) + 0 * x, sp.S.Zero),
    "tail of erfc": (sp.erfc(10 + a), sp.S.Zero),
    "principal value of acos": (sp.acos(sp.cos(a)), a),
    "principal value of atan": (sp.log(sp.exp(sp.I * x)), sp.I * x),
    "step at four": (sp.Heaviside(x - 4), sp.S.Zero),
    "floor of an integer": (sp.floor(n / 8), sp.S.Zero),
    "polynomial through small integers": (n, n + sp.prod([n - j for j in range(1, 8)])),
    "spike at zero": (sp.Piecewise((1, sp.Eq(x, 0)), (0, True)), sp.S.Zero),
    "convention at the step": (sp.Heaviside(x, 1), (1 + sp.sign(x)) / 2),
    "products that commute": (C * E, E * C),
    "exponentials that commute": (sp.exp(C) * sp.exp(E), sp.exp(C + E)),
}

PROVED = {
    "two relus": lambda: D(sp.Max(u, 0) * sp.Max(v, 0)).expectation(
        pair, duals.relu.expression(p, q, c), "Price"
    ),
    "two error functions": lambda: D(sp.erf(u) * sp.erf(v)).expectation(
        pair, 2 / sp.pi * sp.asin(2 * c / sp.sqrt((1 + 2 * p) * (1 + 2 * q))), "Price"
    ),
    "two GELUs": lambda: D(
        u * (1 + sp.erf(u / sp.sqrt(2))) * v * (1 + sp.erf(v / sp.sqrt(2))) / 4,
        nonzero=((1 + p) * (1 + q) - c**2, sp.expand((1 + p) * (1 + q) - c**2)),
    ).expectation(pair, duals.gelu.expression(p, q, c), "Price"),
    "squared error function": lambda: D(sp.erf(u) ** 2).expectation(
        {u: q}, 2 / sp.pi * sp.asin(2 * q / (1 + 2 * q)), "heat"
    ),
    "shifted error function": lambda: D(sp.erf(x + u)).expectation(
        {u: q}, sp.erf(x / sp.sqrt(1 + 2 * q)), "shift"
    ),
    "two signs": lambda: D(sp.sign(u) * sp.sign(v)).expectation(
        pair, 2 / sp.pi * sp.asin(c / sp.sqrt(p * q)), "Price"
    ),
    "two bells": lambda: D(
        sp.exp(-(u**2) - v**2), nonzero=((1 + 2 * p) * (1 + 2 * q) - 4 * c**2,)
    ).expectation(pair, 1 / sp.sqrt((1 + 2 * p) * (1 + 2 * q) - 4 * c**2), "squares"),
    "two independent bells": lambda: D(sp.exp(-(u**2) - v**2)).expectation(
        {u: p, v: q}, 1 / sp.sqrt((1 + 2 * p) * (1 + 2 * q)), "squares"
    ),
    "Isserlis": lambda: D(u**2 * v**2).expectation(pair, p * q + 2 * c**2, "Isserlis"),
    "two sines": lambda: D(sp.sin(u) * sp.sin(v)).expectation(
        pair, sp.exp(-(p + q) / 2) * sp.sinh(c), "waves"
    ),
    "last term of a sum": lambda: D(sp.Sum(f(k), (k, 0, n))).step(
        sp.Sum(f(k), (k, 0, n - 1)) + f(n), "split"
    ),
    "geometric tail": lambda: D(sp.Sum(sp.exp(-a * n), (n, 1, sp.oo))).step(
        1 / (sp.exp(a) - 1), "geometric"
    ),
    "finite geometric sum": lambda: D(sp.Sum(a**k, (k, 0, n)), nonzero=(1 - a,)).step(
        (1 - a ** (n + 1)) / (1 - a), "geometric"
    ),
    "odd and bounded": lambda: D(sp.tanh(u)).expectation({u: q}, 0, "odd"),
    "larger of two": lambda: D(sp.Max(x, y)).step((x + y + sp.Abs(x - y)) / 2, "halves"),
    "squared modulus": lambda: D(sp.Abs(z) ** 2).step(z * sp.conjugate(z), "modulus"),
    "sine integral": lambda: D(f(x), sp.sin(x) / x, nonzero=(x,)).integrate(
        (x, 0, sp.oo), sp.pi / 2, "Dirichlet"
    ),
    "Fresnel": lambda: D(f(x), sp.cos(x**2)).integrate(
        (x, 0, sp.oo), sp.sqrt(sp.pi / 8), "Fresnel"
    ),
    "acos and asin": lambda: D(sp.acos(x)).step(sp.pi / 2 - sp.asin(x), "complement"),
    "kink avoided": lambda: D(f(x), sp.Max(x, 0)).differentiate(x, 1, "d", on=(0, sp.oo)),
    "kink avoided from below": lambda: D(f(x), sp.Abs(x)).differentiate(x, -1, "d", on=(-sp.oo, 0)),
    "a name for a square": lambda: (
        D(f(x, a), c * x).using(D(c, a**2), a**2 * x, "u").differentiate(a, 2 * a * x, "d")
    ),
    "bell": lambda: D(f(x), sp.exp(-b * x**2)).expectation({x: q}, 1 / sp.sqrt(1 + 2 * b * q), "s"),
    "whole line": lambda: D(f(x), 1 / sp.cosh(x) ** 2).integrate(
        (x, -sp.oo, sp.oo), 2, "tanh", antiderivative=sp.tanh(x)
    ),
    "sum of odd numbers": lambda: D(h(n + 1), h(n) + 2 * n + 1).induction(
        h(n), n**2, {n: 1}, 1, "induction"
    ),
    "second moment of n terms": lambda: D(h(n + 1), h(n) + 2 * n * a**2 + b).induction(
        h(n), n * b + n * (n - 1) * a**2, {n: 1}, b, "induction"
    ),
    "any inverse": lambda: D(
        sp.MatMul((A * A).I, A * A, evaluate=False), nonzero=(A, A * A)
    ).matrix(sp.Identity(N), "inverse"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_unsound_chain_is_refused(name):
    with pytest.raises(DerivationError):
        REFUSED[name]()


@pytest.mark.parametrize("name", COMMON_SLIPS)
def test_a_slip_is_refused_as_proof_and_as_check(name):
    old, new = COMMON_SLIPS[name]
    for numerically in (False, True):
        with pytest.raises(DerivationError):
            D(g(x, z, n, a), old).step(new, "slip", numerically=numerically)


@pytest.mark.parametrize("name", PROVED)
def test_what_is_true_and_basic_is_proved(name):
    assert PROVED[name]().status == "proved"


def test_hypotheses_travel():
    wish = Derivation("eq-wish", x, 2 * y)
    line = D(x).using(wish, 2 * y, "by eq-wish")
    assert [h.label for h in line.rests_on] == ["eq-wish"]
    checked = D(f(x), sp.Max(x, -x)).step(sp.Abs(x), "seen", numerically=True)
    assert D(f(x) + 1).using(checked, 1 + sp.Abs(x), "by").status == "checked"
    divided = Derivation("eq-divided", x * y, 0, nonzero=(x,)).solve_for(y, 0, "divide")
    assert ("nonzero", x) in {(h.kind, h.lhs) for h in D(y).using(divided, 0, "by").rests_on}
    assert D(g(t), r).using(decay(), sp.exp(-a * t), "by").count("given") == 3
    assert D(u * v).expectation({u: 1, v: 1}, 0, "m").rests_on[0].kind == "law"
    circle = D(f(x) - g(x)).using(Derivation("eq-aim", f(x), g(x)), 0, "by eq-aim")
    assert [h.label for h in circle.rests_on] == ["eq-aim"]


def test_definitions_are_told_from_premises():
    assert D(f(x), x**2).rests_on[0].kind == "definition"
    for lhs, rhs in ((x**2, 4), (r.diff(t), -r), (x, 2 * x + 1), (f(2), 3)):
        assert D(lhs, rhs).rests_on[0].kind == "premise"
    assert D((x + 1) ** 2).step(x**2 + 2 * x + 1, "expand").rests_on == ()
    specialised = D(f(x), x**2).substitute({x: 3}, 9, "s")
    assert [(h.lhs, h.rhs) for h in specialised.rests_on] == [(f(x), x**2)]  # what f means stays


@pytest.mark.parametrize("word", ["status", "previous", "rests_on", "scope", "uses"])
def test_nothing_is_forged_by_a_keyword(word):
    with pytest.raises(TypeError):
        D(x, x + 1, **{word: "proved"})
    with pytest.raises((TypeError, ValueError)):
        dataclasses.replace(decay(), **{word: None})


def test_every_refusal_is_a_derivation_error():
    """Also where sympy stops with an error of its own."""
    for build in (
        lambda: D(f(x), sp.log(x**2) / 2, nonzero=(x,)).differentiate(x, x, "d"),
        lambda: D(f(x), 1 / x, nonzero=(x,)).integrate((x, -1, 1), 0, "i"),
        lambda: D(A).matrix(sp.Trace(A) * B, "m"),
        lambda: D(f(x), sp.Max(x, y)).limit(x, sp.oo, y, "l"),
        lambda: D(f(x), f(x)).integrate((x, 0, 1), 1, "i"),
    ):
        with pytest.raises(DerivationError):
            build()


def test_undecided_means_refused(monkeypatch):
    monkeypatch.setattr(chain, "SECONDS", 0.05)
    fresh = sp.Dummy("x", real=True)  # sympy remembers what it did with others
    hard = sum(sp.sin(j * fresh) ** j for j in range(1, 12))
    with pytest.raises(DerivationError, match="undecided after 0.05 s"):
        D(hard).step(hard.rewrite(sp.exp), "expand")


def test_a_geometric_series_has_a_sum_only_where_it_shrinks():
    """Of 1 + b + b² + … it is 1/(1 - b) for b < 1, and b is any positive number."""
    powers = sp.Sum(b**k, (k, 0, sp.oo))
    with pytest.raises(DerivationError, match="cannot prove"):
        D(powers, nonzero=(1 - b,)).step(1 / (1 - b), "sum")


def test_a_flow_is_also_followed_backwards():
    """t² solves f' = 2|t| from t = 0 on, and before it -t² does."""
    time = sp.Symbol("t", real=True)
    assert witnesses.of_ode(2 * sp.Abs(time), f(time), time * sp.Abs(time), time, sp.S.Zero) is None
    told = witnesses.of_ode(2 * sp.Abs(time), f(time), time**2, time, sp.S.Zero)
    assert isinstance(told, witnesses.Differs)


@pytest.mark.parametrize("value", [sp.Rational(1, 2), None], ids=["alternating", "geometric"])
def test_a_series_that_may_diverge_is_not_checked_by_its_extrapolation(value):
    n, b = sp.Symbol("n", integer=True, nonnegative=True), sp.Symbol("b", positive=True)
    base, total = (sp.Integer(-1), value) if value else (b, 1 / (1 - b))
    series = Derivation("eq-series", sp.Sum(base**n, (n, 0, sp.oo)), nonzero=(1 - b,))
    with pytest.raises(DerivationError, match="cannot be evaluated"):
        series.step(total, because="formally", numerically=True)


def test_a_remainder_is_told_from_what_rounding_leaves():
    """A cubic is its own polynomial of third degree; exp x is not 1 + 2x up to squares."""
    cubic = 1 + x**3
    assert witnesses.of_series(cubic, cubic, x, sp.S.Zero, 4) is None
    told = witnesses.of_series(sp.exp(x), 1 + 2 * x, x, sp.S.Zero, 2)
    assert isinstance(told, witnesses.Differs)
