"""The second witness of every rule: what the rule found, found again by another route.

A derivative by differences, an integral by quadrature, a limit by values on the way, a series by
its remainder, the solution of an equation by numerical integration, a mean by quadrature over the
law.  Each returns `None` where it agrees, a sentence where it does not, and `SILENT` where it has
nothing to say: a line that only one route has found is shown as such.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from typing import NamedTuple, TypeAlias

import mpmath
import numpy as np
import sympy as sp
from scipy.integrate import solve_ivp

from ntkbook._base.limits import OutOfTime, within
from ntkbook.algebra.expectations import Law
from ntkbook.values.domains import entries
from ntkbook.values.sampling import admissible, concrete_functions, evaluate, points, quadrature

SILENT = False


class Differs(NamedTuple):
    """That a result is wrong: how far, and the same without what is right."""

    full: str
    told: str = "the two sides differ"


Verdict: TypeAlias = "Differs | bool | None"
_SECONDS = 10.0


def _verdict(heard: Iterable[Differs | int], wanted: int) -> Verdict:
    """The first of what is heard that differs; agreement, if anything was said at all."""
    said = 0
    for one in heard:
        if isinstance(one, Differs):
            return one
        said += one
        if said >= wanted:
            break
    return None if said else SILENT


def _witness(wanted: int) -> Callable[[Callable[..., Iterator]], Callable[..., Verdict]]:
    """Of a generator for an expression and its claimed value, a witness for explicit matrices.

    At forty digits, so that its own differences lose none that count.
    """

    def decorate(hear):
        @wraps(hear)
        def witness(old, new, *more):
            verdict = None
            with mpmath.workdps(40):
                for a, b in zip(entries(old), entries(new), strict=True):
                    one = _verdict(hear(a, b, *more), wanted)
                    if isinstance(one, Differs):
                        return one
                    verdict = SILENT if one is SILENT else verdict
            return verdict

        return witness

    return decorate


def _samples(
    exprs: Iterable[sp.Expr], fixed: Iterable[sp.Basic], seed: int, count: int
) -> Iterator[tuple[list[sp.Expr], dict]]:
    """The expressions with concrete functions, and values for all symbols but the fixed ones."""
    rng = random.Random(seed)
    exprs = [sp.sympify(e) for e in exprs]
    for _ in range(count):
        concrete = concrete_functions(exprs, rng)
        made = [concrete(e) for e in exprs]
        symbols = set().union(*(e.free_symbols for e in made)) - set(fixed)
        for point in points(symbols, rng):
            if all(0.03 < abs(v) < 30 or v == 0 for v in point.values()):
                yield made, point
                break


def _differs(route: str, found, formula, point: dict) -> Differs:
    where = ", ".join(f"{s} = {sp.N(v, 6)}" for s, v in point.items())
    told = (
        f"the two sides differ{', e.g. at ' * bool(where)}{where}: this line is {_short(formula)}"
    )
    return Differs(f"{route} {_short(found)}, the formula {_short(formula)}, at {point}", told)


def _number(expr: sp.Expr, point: dict) -> mpmath.mpc | None:
    value = evaluate(expr, point)
    return None if value is None else mpmath.mpmathify(value)


def _numbers(exprs: Iterable[sp.Expr], at: Iterable[dict]) -> list[mpmath.mpc] | None:
    """Their values at each of the points, or None if one is missing."""
    values = [_number(e, point) for e in exprs for point in at]
    return None if None in values else [v for v in values if v is not None]


@_witness(3)
def of_derivative(f: sp.Expr, slope: sp.Expr, x: sp.Symbol) -> Iterator[Differs | int]:
    """Central differences at three points."""
    for (f_here, g), point in _samples((f, slope), (), 2, 12):
        at, exact = point.get(x), _number(g, point)
        if at is None:
            if exact not in (0, None):
                yield _differs("differences give", 0, exact, point)
            yield not (f_here.has(x) or g.has(x))
            continue
        h = abs(at) * sp.Rational(1, 10**9) if at != 0 else sp.Rational(1, 10**9)
        values = _numbers([f_here], [{**point, x: at + k * h} for k in (-2, -1, 1, 2)])
        if exact is None or values is None:
            continue
        found = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * _mp(h))
        size = max(abs(exact), abs(found), max(map(abs, values)) * mpmath.mpf(10) ** -18)
        wrong = abs(found - exact) > 1e-9 * size
        yield _differs("differences give", found, exact, point) if wrong else 1


@_witness(3)
def of_integral(
    f: sp.Expr, result: sp.Expr, x: sp.Symbol, a: sp.Expr, b: sp.Expr
) -> Iterator[Differs | int]:
    """Quadrature at three random points of the parameters."""
    for made, point in _samples((f, result, a, b), (x,), 1, 12):
        exact = _number(made[1], point)
        f_here, low, high = (made[k].xreplace(point) for k in (0, 2, 3))
        found = _integral(f_here, low, high, x)
        if exact is None or found is None:
            continue
        off, size = abs(exact - found), max(abs(exact), abs(found))
        wrong = off > 1e-8 * (1e-30 + size) and off > 1e-12 * (1 + abs(found))
        yield _differs("quadrature gives", found, exact, point) if wrong else 1


def _integral(f: sp.Expr, low: sp.Expr, high: sp.Expr, x: sp.Symbol) -> mpmath.mpc | None:
    try:
        value = quadrature(f, x, low, high)
    except OutOfTime:
        return None
    return None if value is None else mpmath.mpmathify(value)


@_witness(2)
def of_limit(
    f: sp.Expr, value: sp.Expr, x: sp.Symbol, x0: sp.Expr, dir: str
) -> Iterator[Differs | int]:
    """Values on the way: they must approach the limit, and be near it in the end."""
    for (made, limit, end), point in _samples((f, value, x0), (x,), 3, 8):
        aim, errors = _number(limit, point), []
        if aim is None:
            continue
        # An exponential leaves every precision behind soon.
        steps = 10 if end.is_infinite and made.has(sp.exp, sp.tanh, sp.cosh, sp.sinh) else 40
        for k in range(1, steps):
            if end.is_infinite:
                at = sp.Integer(10) ** (sp.Rational(k, 3)) * (1 if end > 0 else -1)
                at = sp.Integer(sp.floor(at)) if x.is_integer else at.evalf(30)
            else:
                step = sp.Rational(1, 10 ** min(k, 15))
                at = end.xreplace(point) + (step if dir == "+" else -step)
            if not x.is_integer and not admissible(x, at):
                continue
            here = _robust(made, {**point, x: at})
            if here is not None:
                errors.append(abs(here - aim))
        if len(errors) < 4:
            continue
        far, near = max(errors[: len(errors) // 2]), max(errors[-2:])
        wrong = near > 1e-2 * (abs(aim) + 1) and near > far / 3
        off = f"on the way it is off by {_short(near)} from {_short(aim)}, at {point}"
        yield Differs(off) if wrong else 1


@_witness(2)
def of_series(
    f: sp.Expr, polynomial: sp.Expr, x: sp.Symbol, x0: sp.Expr, order: int
) -> Iterator[Differs | int]:
    """The remainder over (x - x0)^order stays bounded as x comes near, from both sides."""
    for (made, short, end), point in _samples((f, polynomial, x0), (x,), 4, 8):
        said = False
        for sign in (1, -1):
            ratios = []
            for k in range(2, 9):
                step = sign * sp.Rational(1, 10**k)
                at = end.xreplace(point) + step
                both = _numbers([made, short], [{**point, x: at}]) if admissible(x, at) else None
                if both is None:
                    break
                lost = sum(map(abs, both)) * mpmath.mpf(10) ** -40
                ratios.append(max(abs(both[0] - both[1]) - lost, 0) / abs(_mp(step)) ** order)
            if len(ratios) < 7:
                continue
            said = True
            if max(ratios[-2:]) > 8 * max(ratios[:3]) + mpmath.mpf(10) ** -12:
                grown = max(ratios[-2:]) / max(max(ratios[:2]), mpmath.mpf(10) ** -30)
                yield Differs(
                    f"the remainder over ({x} - {x0})^{order} grows by {_short(grown)} as "
                    f"{x} comes near, at {point}"
                )
        yield said


def of_ode(rhs: sp.Basic, f: sp.Basic, solution: sp.Basic, t: sp.Symbol, t0: sp.Expr) -> Verdict:
    """Numerical integration from the initial value, forwards and backwards."""
    with mpmath.workdps(40):
        return _verdict(_of_ode(rhs, entries(f), solution, t, t0), 3)


def _of_ode(rhs, parts, solution, t, t0) -> Iterator[Differs | int]:
    names = [sp.Dummy(f"f{k}") for k in range(len(parts))]
    slopes = [e.subs(dict(zip(parts, names, strict=True))) for e in entries(rhs)]
    for made, point in _samples([*slopes, *entries(solution), t0], (t, *names), 5, 12):
        slope, exact, begin = made[: len(parts)], made[len(parts) : -1], made[-1].xreplace(point)
        for length in (0.4, -0.4, 2.5, 30.0):
            end = begin + sp.Rational(length)
            if not admissible(t, end):
                continue
            first = _numbers(exact, [{**point, t: begin}])
            last = _numbers(exact, [{**point, t: end}])
            if first is None or last is None:
                continue
            if any(mpmath.im(v) != 0 for v in first + last) and all(
                v.is_real for v in point.values()
            ):
                continue  # beyond the range in which the solution is real
            found = _integrated([s.xreplace(point) for s in slope], names, t, begin, end, first)
            if found is None:
                continue
            for a, b in zip(found, last, strict=True):
                scale = 1e-9 + max(abs(complex(b)), max(abs(complex(v)) for v in first))
                if abs(a - complex(b)) > 1e-5 * scale:
                    yield _differs("numerical integration gives", a, b, point)
            yield 1


@_witness(3)
def of_recursion(
    rhs: sp.Expr, solution: sp.Expr, f: sp.Basic, n: sp.Symbol, n0: sp.Expr, values: sp.Expr
) -> Iterator[Differs | int]:
    """Step by step from the base case, five steps at three points."""
    name = sp.Dummy("f")
    exprs = (rhs.subs(f, name), solution, values, n0)
    for (step, formula, start, begin), point in _samples(exprs, (n, name), 7, 12):
        at, value = begin.xreplace(point), evaluate(start, point)
        if value is None or not at.is_Integer:
            continue
        for k in range(5):
            value = value if value is None else evaluate(step, {**point, n: at + k, name: value})
            exact = evaluate(formula, {**point, n: at + k + 1})
            if value is None or exact is None:
                break
            if abs(value - exact) > sp.Float(10) ** -20 * (abs(value) + abs(exact)):
                yield _differs("step by step gives", value, exact, point)
        else:
            yield 1


def _integrated(slopes, names, t, begin, end, start) -> np.ndarray | None:
    try:
        function = sp.lambdify([t, names], slopes, ["scipy", "numpy"])
        with within(_SECONDS), np.errstate(all="ignore"):
            run = solve_ivp(
                lambda time, f: np.asarray(function(complex(time), f), complex),
                (float(begin), float(end)),
                np.asarray([complex(v) for v in start]),
                rtol=1e-8,
                atol=1e-12,
                max_step=abs(float(end - begin)) / 20,
            )
    except (OutOfTime, ArithmeticError, ValueError, TypeError, NameError, AttributeError):
        return None
    found = run.y[:, -1]
    return found if run.success and np.isfinite(found).all() else None


@_witness(3)
def of_mean(expr: sp.Expr, value: sp.Expr, law: Law) -> Iterator[Differs | int]:
    """Quadrature over one or two variables, sampling over more."""
    size = len(law.variables)
    exprs = (expr, value, *law.covariance)
    for made, point in _samples(exprs, law.variables, 6, 60):
        f, exact = made[0].xreplace(point), _number(made[1], point)
        numbers = _numbers(made[2:], [point])
        if exact is None or numbers is None:
            continue
        covariance = np.asarray([float(mpmath.re(q)) for q in numbers]).reshape(size, size)
        spread = np.sqrt(np.diag(covariance))
        if not np.all((spread > 0.05) & (spread < 4)):
            continue
        correlation = covariance / np.outer(spread, spread)
        if np.linalg.eigvalsh(correlation).min() < 0.15:
            continue
        found, error = _average(f, law.variables, covariance)
        if found is not None:
            wrong = abs(found - complex(exact)) > error
            yield _differs("quadrature gives", found, exact, point) if wrong else 1


def _average(f: sp.Expr, variables, covariance: np.ndarray) -> tuple[complex | None, float]:
    try:
        function = sp.lambdify(variables, f, ["scipy", "numpy"])
        with within(_SECONDS), np.errstate(all="ignore"):
            if len(variables) <= 2:
                grids, weights = _grids(covariance)
                values = np.broadcast_to(np.asarray(function(*grids), complex), weights.shape)
                found, total = (values * weights).sum(), (np.abs(values) * weights).sum()
                error = 1e-6 * total
            else:
                # As many points as three digits take; a fixed seed, so that a page stays the same.
                normal = np.random.default_rng(0).standard_normal((len(variables), 2**19))
                sample = np.linalg.cholesky(covariance) @ normal
                values = np.broadcast_to(np.asarray(function(*sample), complex), sample[0].shape)
                found = values.mean()
                error = 6 * values.std() / 2**9.5 + 1e-12 * np.abs(values).mean()
    except (OutOfTime, ArithmeticError, ValueError, TypeError, NameError, np.linalg.LinAlgError):
        return None, 0.0
    usable = np.isfinite(found) and (len(variables) <= 2 or error < 0.2 * np.abs(values).mean())
    return (complex(found) if usable else None), float(error)


def _grids(covariance: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """Gauss-Legendre panels with borders at zero, where the kinks are, weighted by the density."""
    nodes, gauss = np.polynomial.legendre.leggauss(12)
    edges = np.linspace(-10, 10, 41)
    half = np.diff(edges)[:, None] / 2
    line = (edges[:-1, None] + half * (nodes + 1)).ravel()
    weight = (half * gauss).ravel()
    spread = np.sqrt(np.diag(covariance))
    axes = [s * line for s in spread]
    grids = np.meshgrid(*axes, indexing="ij")
    weights = np.multiply.reduce(np.meshgrid(*(s * weight for s in spread), indexing="ij"))
    inverse = np.linalg.inv(covariance)
    stacked = np.stack(grids)
    exponent = np.einsum("i...,ij,j...->...", stacked, inverse, stacked)
    norm = np.sqrt(np.linalg.det(2 * np.pi * covariance))
    return list(grids), weights * np.exp(-exponent / 2) / norm


def _robust(expr: sp.Expr, point: dict):
    """The value, if it is the same to sixty digits and to six hundred."""
    values = []
    for digits in (60, 600):
        try:
            with within(2), mpmath.workdps(digits):
                function = sp.lambdify(list(point), expr.doit(), "mpmath")
                values.append(
                    function(*(mpmath.mpmathify(v.evalf(digits)) for v in point.values()))
                )
        except (OutOfTime, ArithmeticError, ValueError, TypeError, NameError, AttributeError):
            return None
    a, b = values
    return b if mpmath.isfinite(b) and abs(a - b) <= 1e-8 * abs(b) else None


def _mp(value: sp.Expr) -> mpmath.mpf:
    value = sp.sympify(value)
    if value.is_finite:
        return mpmath.mpmathify(value.evalf(40))
    return mpmath.mpf("inf") if value is sp.oo else -mpmath.mpf("inf")


def _short(value) -> str:
    return str(sp.N(sp.sympify(complex(value)), 8)).replace(" + 0.e-", "")
