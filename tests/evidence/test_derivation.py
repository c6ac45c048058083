"""A derivation accepts what is true, and nothing else."""

import pytest
import sympy as sp

from ntkbook import Derivation, DerivationError
from ntkbook.algebra import equality
from ntkbook.evidence.derivation import DERIVATION_MIME

x, y = sp.symbols("x y", real=True)
a, b, q = sp.symbols("a b q", positive=True)
t = sp.Symbol("t", nonnegative=True)
n = sp.Symbol("n", integer=True, positive=True)
z = sp.Symbol("z")
f = sp.Function("f")
r = sp.Function("r")(t)
N, P = sp.symbols("N P", integer=True, positive=True)
J = sp.MatrixSymbol("J", N, P)
w = sp.MatrixSymbol("w", N, 1)
gram = J * J.T + a * sp.Identity(N)
fisher = J.T * J + a * sp.Identity(P)


def start(lhs, rhs=None, **kwargs):
    return Derivation("eq-test", lhs, rhs, **kwargs)


def decay():
    return start(r.diff(t), -a * r).solve_ode(r, b * sp.exp(-a * t), {t: 0}, b, "separate")


TRUE_STEPS = {
    "algebra": lambda: start((x + y) ** 2).step(x**2 + 2 * x * y + y**2, "expand"),
    "trigonometry": lambda: start(sp.sin(x) ** 2).step(1 - sp.cos(x) ** 2, "Pythagoras"),
    "explicit matrix": lambda: start(sp.Matrix([[(x + y) ** 2, 1], [0, x]])).step(
        sp.Matrix([[x**2 + 2 * x * y + y**2, 1], [0, x]]), "expand"
    ),
    "undefined function": lambda: start((f(x) + 1) ** 2 - 1).step(f(x) * (f(x) + 2), "expand"),
    "division, declared": lambda: start(x**2 - x, nonzero=(x,)).step((x**3 - x**2) / x, "divide"),
    "division, by assumption": lambda: start(a**2 - a).step((a**3 - a**2) / a, "divide"),
    "denominator 1 + x²": lambda: start(1 / (1 + x**2)).step(
        (2 + x**2) / (x**4 + 3 * x**2 + 2), "expand"
    ),
    "using a fact": lambda: start(x**2 + y**2).using({x: y}, 2 * y**2, "x = y"),
    "using a derivation": lambda: start(r**2).using(decay(), b**2 * sp.exp(-2 * a * t), "solution"),
    "substitute": lambda: decay().substitute({t: 0}, b, "start"),
    "differentiate": lambda: decay().differentiate(t, -a * b * sp.exp(-a * t), "chain rule"),
    "integrate": lambda: decay().integrate((t, 0, sp.oo), b / a, "area"),
    "integrate by antiderivative": lambda: start(f(x), x * sp.exp(x)).integrate(
        (x, 0, 1), 1, "by parts", antiderivative=(x - 1) * sp.exp(x)
    ),
    "limit": lambda: decay().limit(t, sp.oo, 0, "decay"),
    "limit of a matrix": lambda: start(sp.Matrix([f(t), r]), sp.Matrix([sp.exp(-a * t), b])).limit(
        t, sp.oo, sp.Matrix([0, b]), "entry by entry"
    ),
    "derivative in a function": lambda: start(sp.Derivative(f(r), t)).step(
        f(r).diff(r) * r.diff(t), "chain rule"
    ),
    "series": lambda: start(sp.exp(x)).series(x, 0, 3, 1 + x + x**2 / 2, "Taylor"),
    "series, any function": lambda: start(f(x + a * y)).series(
        y, 0, 2, f(x) + a * y * f(x).diff(x), "Taylor"
    ),
    "series, half power": lambda: start(sp.sqrt(a)).series(a, 0, 2, sp.sqrt(a), "itself"),
    "nonlinear equation": lambda: start(r.diff(t), -(r**3)).solve_ode(
        r, 1 / sp.sqrt(2 * t + 1), {t: 0}, 1, "separate"
    ),
    "solve": lambda: start(a * x + y, b).solve_for(x, (b - y) / a, "divide by a"),
    "push-through": lambda: start(J.T * gram.I, nonzero=(gram, fisher)).matrix(
        fisher.I * J.T, "push through", left=fisher, right=gram
    ),
    "length of a transposed product": lambda: start(w.T * (J * J.T) * w).matrix(
        sp.MatMul(sp.Transpose(J.T * w), J.T * w, evaluate=False), "regroup"
    ),
    "Gaussian moment": lambda: start(f(x), x**4 + x).expectation({x: q}, 3 * q**2, "Isserlis"),
    "Gaussian integral": lambda: start(f(x), sp.exp(x)).expectation(
        {x: q}, sp.exp(q / 2), "complete the square"
    ),
    "two Gaussians": lambda: start(f(x), (x + y) ** 2).expectation(
        {x: q, y: 1}, q + 1, "variances"
    ),
}

FALSE_STEPS = {
    "wrong algebra": (lambda: start((x + y) ** 2).step(x**2 + y**2, "no"), r"differ by -2\*x\*y"),
    "wrong entry": (
        lambda: start(sp.Matrix([[x, 1]])).step(sp.Matrix([[x, 2]]), "no"),
        "differ by",
    ),
    "wrong shape": (lambda: start(sp.Matrix([[x, 1]])).step(x, "no"), "cannot equal"),
    "division by what may be zero": (
        lambda: start(x**2 - x).step((x**3 - x**2) / x, "divide"),
        "division by x, which may be zero",
    ),
    "division in the first line": (lambda: start(y, 1 / x), "division by x"),
    "division, nearly declared": (
        lambda: start(x**2 - 1, nonzero=(x - 1,)).step((x**3 - x) / x, "no"),
        "division by x",
    ),
    "difference of two unknowns": (lambda: start(1 / (a - b)), "division by a - b"),
    "inverse, not declared": (lambda: start(J.T * gram.I), "division by"),
    "sign of a root": (lambda: start(sp.sqrt(x**2)).step(x, "no"), "differ by"),
    "logarithm of a product": (
        lambda: start(sp.log(x * y), nonzero=(x, y)).step(sp.log(x) + sp.log(y), "no"),
        "differ by",
    ),
    "real part dropped": (lambda: start(sp.Abs(z) ** 2).step(z**2, "no"), "differ by"),
    "no such fact": (lambda: start(x**2).using({y: 1}, x**2, "no"), "occurs"),
    "zero for a positive symbol": (
        lambda: start(f(a), a).substitute({a: 0}, 0, "no"),
        "declared positive",
    ),
    "half for an integer": (
        lambda: start(f(n), n).substitute({n: sp.Rational(1, 2)}, sp.Rational(1, 2), "no"),
        "declared integer",
    ),
    "derivative of a constant": (lambda: start(y, x).differentiate(x, 1, "no"), "does not depend"),
    "wrong derivative": (
        lambda: decay().differentiate(t, a * b * sp.exp(-a * t), "no"),
        "differ by",
    ),
    "wrong antiderivative": (
        lambda: start(f(x), x).integrate((x, 0, 1), 1, "no", antiderivative=x**2),
        "differ by",
    ),
    "antiderivative that jumps": (
        lambda: start(f(x), 1 / (2 + sp.cos(x)), nonzero=(2 + sp.cos(x),)).integrate(
            (x, 0, 2 * sp.pi),
            0,
            "no",
            antiderivative=2 / sp.sqrt(3) * sp.atan(sp.tan(x / 2) / sp.sqrt(3)),
        ),
        "quadrature",
    ),
    "integral, assumption dropped": (
        lambda: start(f(x), sp.exp(-z * x)).integrate((x, 0, sp.oo), 1 / z, "no"),
        "finds no integral",
    ),
    "wrong limit": (lambda: decay().limit(t, sp.oo, b, "no"), "differ by"),
    "series to a lower order": (
        lambda: start(sp.exp(x)).series(x, 0, 3, 1 + x, "no"),
        "differ by",
    ),
    "orders differ": (
        lambda: start(sp.exp(x)).series(x, 0, 2, 1 + x, "T").step(1 + x + sp.Order(x**3), "no"),
        "orders",
    ),
    "wrong solution": (
        lambda: start(r.diff(t), -a * r).solve_ode(r, b * sp.exp(a * t), {t: 0}, b, "no"),
        "differ by",
    ),
    "wrong initial value": (
        lambda: start(r.diff(t), -a * r).solve_ode(r, b * sp.exp(-a * t), {t: 0}, 1, "no"),
        "initial value",
    ),
    "solution not unique": (
        lambda: start(r.diff(t), sp.sqrt(r)).solve_ode(r, t**2 / 4, {t: 0}, 0, "no"),
        "unique",
    ),
    "solving by a zero factor": (
        lambda: start(y * x, 1).solve_for(x, 1 / y, "no"),
        "may be zero",
    ),
    "two solutions": (lambda: start(x**2, 4).solve_for(x, 2, "no"), "more than one"),
    "matrix factor 2": (
        lambda: start(J.T * gram.I, nonzero=(gram, fisher)).matrix(
            2 * fisher.I * J.T, "no", left=fisher, right=gram
        ),
        "does not expand to zero",
    ),
    "multiplier not invertible": (
        lambda: start(J.T * J).matrix(J.T * J, "no", left=fisher),
        "not declared invertible",
    ),
    "products do not commute": (
        lambda: start(sp.MatrixSymbol("A", N, N) * sp.MatrixSymbol("B", N, N)).matrix(
            sp.MatrixSymbol("B", N, N) * sp.MatrixSymbol("A", N, N), "no"
        ),
        "does not expand to zero",
    ),
    "wrong moment": (
        lambda: start(f(x), x**4).expectation({x: q}, q**2, "no"),
        "differ: quadrature",
    ),
    "undefined": (lambda: start(x).step(sp.nan, "no"), "undefined|expression"),
}


@pytest.mark.parametrize("name", TRUE_STEPS)
def test_a_true_step_is_proved(name):
    line = TRUE_STEPS[name]()
    assert line.status == "proved"
    assert line.count("checked") == 0


@pytest.mark.parametrize("name", FALSE_STEPS)
def test_a_false_step_is_refused(name):
    build, message = FALSE_STEPS[name]
    with pytest.raises(DerivationError, match=message):
        build()


def test_error_names_the_step():
    with pytest.raises(DerivationError, match=r"eq-test, step 2 \(second\)"):
        start(x * (x + 1)).step(x**2 + x, "first").step(x + 1, "second")


def test_numerical_step_is_marked_checked_and_still_tested():
    bessel, recursion = sp.besselj(2, a), 2 * sp.besselj(1, a) / a - sp.besselj(0, a)
    line = start(bessel).step(recursion, "recursion", numerically=True)
    assert (line.status, line.count("proved"), line.count("checked")) == ("checked", 0, 1)
    assert "checked" in line._repr_mimebundle_()["text/markdown"]
    with pytest.raises(DerivationError):
        start(bessel).step(recursion + sp.Rational(1, 10**20), "recursion", numerically=True)


def test_unprovable_step_says_so(monkeypatch):
    """True, and refused all the same: where sympy has no proof, the author must say 'checked'."""
    monkeypatch.setattr(equality, "simplifies_to_zero", lambda residual: False)
    with pytest.raises(DerivationError, match="numerically=True"):
        start((x + y) ** 2).step(x**2 + 2 * x * y + y**2, "expand")


def test_what_a_chain_rests_on_is_counted():
    line = start(y, x**2).using({x: a}, a**2, "x is a")
    assert (line.count("given"), line.count("proved")) == (2, 1)
    assert [h.kind for h in line.rests_on] == ["definition", "premise"]
    from_proof = start(y, r).using(decay(), b * sp.exp(-a * t), "solution")
    kinds = [h.kind for h in from_proof.rests_on]
    assert kinds == ["definition", "premise", "initial value"]  # y, the equation, r(0)


def test_display():
    bundle = decay()._repr_mimebundle_()
    markdown = bundle["text/markdown"]
    assert markdown.startswith("$$\n\\begin{aligned}")
    for part in (
        "$$ (eq-test)",
        r"&\overset{\text{(b)}}{=} b e^{- a t}",
        "(a) premise; (b) separate, given $r(0) = b$. "
        "*1 proved, from 1 premise and 1 initial value*.",
    ):
        assert part in markdown
    assert "[proved: separate]" in bundle["text/plain"]
    record = bundle[DERIVATION_MIME]
    assert {k: record[k] for k in ("label", "claim", "proved", "checked", "given")} == {
        "label": "eq-test",
        "claim": None,
        "proved": 1,
        "checked": 0,
        "given": 2,
    }
    assert record["rests on"][1] == "initial value: r(0) = b (eq-test)"
    used = start(y, r).using(decay(), b * sp.exp(-a * t), "solution")
    assert "by {eq}`eq-test`" in used._repr_mimebundle_()["text/markdown"]
    assert used._repr_mimebundle_()[DERIVATION_MIME]["uses"] == ["eq-test"]


def test_a_derivation_is_immutable():
    first = start(x)
    first.step(sp.Mul(1, x + 0, evaluate=False), "again")
    assert first.lines == (first,)
    with pytest.raises(AttributeError):
        first.rhs = y


@pytest.mark.parametrize("label", ["flow", "eq_flow", "eq-Flow", ""])
def test_bad_label(label):
    with pytest.raises(ValueError, match="label must look like"):
        Derivation(label, x)


def test_a_reason_is_required():
    with pytest.raises(ValueError, match="because"):
        start(x).step(x, " ")


@pytest.mark.parametrize("value", ["x +", object(), True, None])
def test_not_an_expression(value):
    with pytest.raises(TypeError, match="new must be a sympy expression"):
        start(x).step(value, "no")


def test_three_dots_leave_a_line_to_the_reader():
    u, q = sp.Symbol("u", real=True), sp.Symbol("q", positive=True)
    start = Derivation("eq-half", sp.Max(u, 0) ** 2)
    gap = start.expectation({u: q}, ..., because="half of the square")
    assert repr(gap).endswith("= ?   [missing, by expectation: half of the square]")
    bundle = gap._repr_mimebundle_()
    assert DERIVATION_MIME not in bundle  # it proves nothing, and no page counts it
    assert "eq-half" not in bundle["text/markdown"]  # the number is the solution's
    assert r"&= \ ?" in bundle["text/markdown"]
    with pytest.raises(DerivationError, match="a line is missing"):
        gap.step(q, because="as if it were there")

    assert start.expectation({u: q}, q / 2, because="half of the square").rhs == q / 2
    with pytest.raises(DerivationError, match="differ"):
        start.expectation({u: q}, q, because="the square")

    t, a = sp.Symbol("t", nonnegative=True), sp.Symbol("a", positive=True)
    z = sp.Function("z")(t)
    flow = Derivation("eq-flow", z.diff(t), -a * z)
    open_end = flow.solve_ode(z, ..., {t: 0}, 1, because="the exponential")
    assert "z(t) = ?" in repr(open_end)
