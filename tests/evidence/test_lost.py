"""Chains that look sound, kind by kind: each leans on something that it has lost on the way."""

import pytest
import sympy as sp
from sympy import (
    Abs,
    DiracDelta,
    Eq,
    I,
    Integral,
    Piecewise,
    acot,
    atan,
    cos,
    cot,
    exp,
    floor,
    log,
    oo,
    pi,
    sign,
    sin,
    sqrt,
    tan,
)  # fmt: skip

from ntkbook import Derivation, DerivationError

R = sp.Rational
half = R(1, 2)
x, y, c, s, u, v = sp.symbols("x y c s u v", real=True)
a, b, p, q = sp.symbols("a b p q", positive=True)
t = sp.Symbol("t", nonnegative=True)
n = sp.Symbol("n", integer=True, positive=True)
nz = sp.Symbol("k", real=True, nonzero=True)
z = sp.Symbol("z")
C, E = sp.symbols("C E", commutative=False)
f, g, e = sp.symbols("f g e", cls=sp.Function)
r = sp.Function("r")(t)
pair = {(u, v): [[p, c], [c, q]]}
far = (10**7 - a) / (10**7 - 1)


def D(lhs, rhs=None, **options):
    return Derivation("eq-test", lhs, rhs, **options)


def condition():
    return D(x * y, 1, nonzero=(x,)).solve_for(y, 1 / x, "divide")


def at_a_point():
    return D(f(x), x * y).using({x * y: 3}, 3, "at a point")


def step(x):
    return Piecewise((0, x < 0), (1, True))


UNSOUND = {
    "a window that no point meets": lambda: D(
        f(x), Piecewise((1, (x > 5) & (x < 6)), (0, True))
    ).step(0, "s"),
    "a spike that no point meets": lambda: D(f(x), Piecewise((1, Eq(x, 3)), (0, True))).step(
        0, "s"
    ),
    "a branch a little turned": lambda: D(f(z), log(z * exp(-I / 1000)), nonzero=(z,)).step(
        log(z) - I / 1000, "s"
    ),
    "a jump far away": lambda: D(f(a), acot(far) + atan(far)).step(pi / 2, "s"),
    "a derived condition": lambda: (
        D(f(x), x * y).using(condition(), 1, "u").differentiate(x, 0, "d")
    ),
    "a derived condition in a mean": lambda: (
        D(f(x), u * y)
        .using(D(2 * y, 2 * u).solve_for(y, u, "s"), u**2, "u")
        .expectation({u: 1}, 1, "m")
    ),
    "a parameter made general": lambda: (
        D(f(x), x * y).substitute({x: y}, y**2, "s").differentiate(y, 2 * y, "d")
    ),
    "a condition in a fact": lambda: (
        D(g(y), f(x) + y).using(at_a_point(), 3 + y, "u").differentiate(y, 1, "d")
    ),
    "a value for a function": lambda: (
        D(g(t), r).using({r: b}, b, "initial value").differentiate(t, 0, "d")
    ),
    "a schedule for a rate": lambda: (
        D(r.diff(t), -e(s) * r)
        .solve_ode(r, b * exp(-e(s) * t), {t: 0}, b, "o")
        .using({e(s): 1 / (1 + t)}, b * exp(-t / (1 + t)), "u")
    ),
    "an integral that sympy gets wrong": lambda: D(
        f(y), y * Integral(Abs(sin(x)), (x, 0, 3 * pi))
    ).step(2 * y, "s"),
    "the same by the rule": lambda: D(f(x), Abs(sin(x))).integrate((x, 0, 3 * pi), 2, "i"),
    "the same by substitution": lambda: D(
        f(y), y * Integral(Abs(sin(x)), (x, 0, 3 * pi))
    ).substitute({y: 1}, 2, "s"),
    "a pole between the limits": lambda: D(
        f(x), 1 / (x - y) ** 2, nonzero=(x - y, y, 1 - y)
    ).integrate((x, 0, 1), 1 / (y * (y - 1)), "i"),
    "poles of a sine": lambda: D(f(x), 1 / sin(x) ** 2, nonzero=(sin(x), sin(a))).integrate(
        (x, half, a), cot(half) - cot(a), "i", antiderivative=-cot(x)
    ),
    "through the poles of a tangent": lambda: (
        D(r.diff(t), 1 + r**2, nonzero=(cos(t),))
        .solve_ode(r, tan(t), {t: 0}, 0, "o")
        .substitute({t: pi}, 0, "s")
    ),
    "beyond blow-up": lambda: (
        D(r.diff(t), r**2, nonzero=(1 - t,))
        .solve_ode(r, 1 / (1 - t), {t: 0}, 1, "o")
        .substitute({t: 2}, -1, "s")
    ),
    "beyond the end of a root": lambda: (
        D(r.diff(t), -1 / r, nonzero=(r,))
        .solve_ode(r, sqrt(1 - 2 * t), {t: 0}, 1, "o")
        .substitute({t: 1}, I, "s")
    ),
    "the jump of acot": lambda: D(f(x), acot(x - 5)).differentiate(x, -1 / (1 + (x - 5) ** 2), "d"),
    "the cut of a logarithm": lambda: D(
        f(x), log(I * (x - 5) - 1), nonzero=(I * (x - 5) - 1,)
    ).differentiate(x, I / (I * (x - 5) - 1), "d"),
    "a solution that jumps late": lambda: D(r.diff(t), -1 / (1 + (t - 10) ** 2)).solve_ode(
        r, acot(t - 10), {t: 0}, acot(-10), "o"
    ),
    "two crossings of acot": lambda: D(acot(x) - pi * x / 4, 0).solve_for(x, 1, "s"),
    "below a positive variable": lambda: D(f(a), Abs(a)).integrate((a, -1, 1), 0, "i"),
    "derivative over the integers": lambda: D(f(n), cos(2 * pi * n)).differentiate(n, 0, "d"),
    "a positive variable to minus infinity": lambda: D(f(a), Abs(a) / a).limit(
        a, -oo, 1, "l", dir="+"
    ),
    "an interval below a positive variable": lambda: D(f(a), Abs(a)).differentiate(
        a, 1, "d", on=(-2, -1)
    ),
    "an interval for a complex variable": lambda: D(f(z), Abs(z)).differentiate(
        z, 1, "d", on=(0, oo)
    ),
    "infinity for a number": lambda: (
        D(f(z), (z + 1) / z, nonzero=(z,)).step(1 + 1 / z, "s").substitute({z: oo}, 1, "s")
    ),
    "two branches": lambda: D(nz - 1 / nz, 0).solve_for(nz, 1, "s"),
    "two pieces": lambda: D(Piecewise((x, x < 1), (x - 3, True)), 0).solve_for(x, 0, "s"),
    "a negative solution for a positive unknown": lambda: D(2 * a + 4, 0).solve_for(a, -2, "s"),
    "half an integer": lambda: D(2 * n, 1).solve_for(n, half, "s"),
    "a solution that was excluded": lambda: D(2 * x, 2, nonzero=(x - 1,)).solve_for(x, 1, "s"),
    "no covariance matrix": lambda: D((u - v) ** 2).expectation(
        {(u, v): [[1, 2], [2, 1]]}, -2, "m"
    ),
    "no covariance matrix after substitution": lambda: (
        D((u - v) ** 2)
        .expectation(pair, p + q - 2 * c, "m")
        .substitute({p: 1, q: 1, c: 5}, -8, "s")
    ),
    "a scaled delta": lambda: D(DiracDelta(2 * u)).expectation({u: 1}, 0, "m"),
    "jumps that differentiation drops": lambda: D(step(u) * step(v) + u * v).expectation(
        {(u, v): [[p / 10**6, c], [c, q / 10**6]]}, R(1, 4) + c, "m"
    ),
    "functions of what does not commute": lambda: D(sin(C + E)).step(
        sin(C) * cos(E) + sin(E) * cos(C), "s"
    ),
    "a tiny number": lambda: D(f(x), x * exp(-500)).step(0, "s", numerically=True),
    "integers beyond two hundred": lambda: D(f(n), floor(n / 250)).step(0, "s", numerically=True),
    "an antiderivative that jumps": lambda: D(f(x), sign(x - R(1, 3))).integrate(
        (x, 0, 1),
        R(16, 3),
        "i",
        antiderivative=Abs(x - R(1, 3)) + Piecewise((0, x < half), (5, True)),
    ),
}


@pytest.mark.parametrize("name", UNSOUND)
def test_what_was_lost_on_the_way_is_noticed(name):
    with pytest.raises(DerivationError):
        UNSOUND[name]()


def test_definitions_in_a_circle_are_refused():
    one, other = D(f(x), g(x) + 1), D(g(x), f(x) + 1)
    with pytest.raises(DerivationError, match="defined in a circle"):
        D(f(x)).using([one, other], f(x) + 2, because="both")


def test_one_name_has_one_meaning_whatever_its_argument_is_called():
    start = D(f(x) + f(y)).using(D(f(x), x), x + f(y), because="the definition")
    with pytest.raises(DerivationError, match="two values"):
        start.using(D(f(y), 2 * y), x + 2 * y, because="another")
    assert start.using(D(f(y), y), x + y, because="the same").rhs == x + y
