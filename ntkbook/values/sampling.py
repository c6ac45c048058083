"""Numbers for symbols: random and special points at which two expressions are compared.

Points respect every declared assumption and reach over many scales, both signs, both half planes
and the special values 0, ±1, ±π, where wrong algebra likes to hide.  Undefined functions become
random smooth ones, the same in every expression.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable, Iterator, Mapping

import mpmath
import sympy as sp
from sympy.core.function import AppliedUndef, UndefinedFunction

from ntkbook._base.limits import OutOfTime, within
from ntkbook.values.domains import borders

DIGITS = 30
WORKING_DIGITS = DIGITS + 15
_HIGHEST_PRECISION = 250  # digits that sympy may take to resolve a cancellation
_SPECIAL = (0, 1, -1, sp.Rational(1, 2), 2, sp.pi, -sp.pi, sp.pi / 2, -2, sp.I, -sp.I)
_FLAGS = (
    "integer", "real", "positive", "negative", "nonnegative", "nonpositive", "nonzero", "even",
    "odd", "prime", "rational", "irrational", "imaginary",
)  # fmt: skip

Point = Mapping[sp.Symbol, sp.Expr]


def points(symbols: Iterable[sp.Symbol], rng: random.Random) -> Iterator[dict]:
    """Admissible values of the symbols, without end: every fourth point has a special value."""
    symbols = sorted(symbols, key=str)
    for k in range(10**6):
        point = {s: random_value(s, rng) for s in symbols}
        if symbols and k % 4 == 1:
            special = symbols[k // 4 % len(symbols)]
            value = sp.sympify(_SPECIAL[k // (4 * len(symbols)) % len(_SPECIAL)])
            if admissible(special, value):
                point[special] = value
        yield point


def admissible(symbol: sp.Symbol, value: sp.Expr) -> bool:
    """Whether the value has, provably, all that is assumed of the symbol."""
    return violated(symbol, value) is None


def violated(symbol: sp.Basic, value: sp.Basic) -> str | None:
    """The first assumption on the symbol that the value does not provably satisfy."""
    assumed = getattr(symbol, "assumptions0", {})
    order = [*(f for f in _FLAGS if assumed.get(f)), *sorted(assumed)]
    for flag, truth in ((flag, assumed[flag]) for flag in order):
        if getattr(value, "is_infinite", False):
            return "finite"
        if flag in ("commutative", "hermitian", "infinite", "extended_real", "finite"):
            continue
        if flag.startswith("extended_") and flag.removeprefix("extended_") in symbol.assumptions0:
            continue
        if getattr(value, f"is_{flag}", None) is not truth:
            return flag if truth else f"not {flag}"
    return None


def random_value(symbol: sp.Symbol, rng: random.Random) -> sp.Expr:
    """A random value that satisfies the symbol's assumptions."""
    wanted = {f: symbol.assumptions0[f] for f in _FLAGS if f in symbol.assumptions0}
    for _ in range(400):
        if symbol.is_integer:
            size = rng.choice((3, 7, 7, 20, 200, 5000))
            value: sp.Expr = sp.Integer(rng.randint(0 if symbol.is_nonnegative else -size, size))
        else:
            value = _random_real(rng)
            if symbol.is_nonnegative:
                value = abs(value)
            if symbol.is_imaginary:
                value = sp.I * value
            elif not symbol.is_real:
                value = value + sp.I * _random_real(rng) if rng.random() < 0.85 else value
        if all(getattr(value, f"is_{flag}") in (truth, None) for flag, truth in wanted.items()):
            return value
    raise ValueError(f"no random value satisfies the assumptions of {symbol}")


def _random_real(rng: random.Random) -> sp.Expr:
    # Half of them near one, where functions have their features; the others over twelve decades.
    size = rng.uniform(0.05, 3) if rng.random() < 0.5 else 10 ** rng.uniform(-6, 6)
    return sp.Rational(rng.choice((-1, 1)) * int(size * 10**9) or 1, 10**9)


def evaluate(expr: sp.Expr, point: Point, seconds: float = 2) -> sp.Expr | None:
    """The value to thirty digits, or None where there is none or it can't be computed in time."""
    try:
        with within(seconds):
            number = expr.xreplace(point).replace(sp.Sum, _added)
            number = number.replace(sp.Integral, integrated).doit(integrals=False)
            value = number.evalf(WORKING_DIGITS, maxn=_HIGHEST_PRECISION)
    except OutOfTime:
        return None
    except Exception:  # sympy raises many kinds where an expression has no value
        return None
    if not value.is_number or not value.is_finite or value.has(sp.nan):
        return None
    return None if _rough(value) else value


def _rough(value: sp.Expr) -> bool:
    """Whether thirty digits were not reached, but for what may be an exact zero."""
    parts = [p for p in value.as_real_imag() if p.is_Float and abs(p) > sp.Float(10) ** -150]
    return any(p._prec < 3.32 * DIGITS for p in parts)


def _added(summand: sp.Expr, *limits: sp.Tuple) -> sp.Expr:
    """A sum with limits that are numbers, term by term: sympy would look for a closed form."""
    *outer, (k, low, high) = limits
    if high is sp.oo and not outer:
        late = [abs(summand.subs(k, 10**j).doit().evalf(WORKING_DIGITS)) for j in (3, 4)]
        if not (late[1] <= late[0] / 2 and late[0] < sp.Float(10) ** -3):
            return sp.nan  # sympy would extrapolate a series that diverges
        total = sp.Sum(summand, *limits).evalf(WORKING_DIGITS)
        return total if abs(total) > sp.Float(10) ** -30 else sp.nan  # its error is absolute
    if outer or not (low.is_Integer and high.is_Integer and high - low < 500):
        return sp.Sum(summand, *limits)
    terms = (summand.subs(k, j).doit().evalf(WORKING_DIGITS) for j in range(low, high + 1))
    return sp.Add(*terms)


def integrated(integrand: sp.Expr, *limits: sp.Tuple) -> sp.Expr:
    """An integral with limits that are numbers, by quadrature between the integrand's kinks."""
    if len(limits) != 1 or len(limits[0]) != 3:
        return sp.Integral(integrand, *limits)
    x, low, high = limits[0]
    value = quadrature(integrand, x, low, high)
    return sp.nan if value is None else value


def quadrature(f: sp.Expr, x: sp.Symbol, low: sp.Expr, high: sp.Expr) -> sp.Expr | None:
    """∫ f dx to twenty digits, or None where the error is not known to be small."""
    if f.free_symbols - {x}:
        return None
    with within(8), mpmath.workdps(50):
        function = sp.lambdify(x, f.doit(), "mpmath")
        ends = [_real(low), _real(high)]
        sign, ends = (1, ends) if ends[0] <= ends[1] else (-1, ends[::-1])
        waves = [w for w in f.atoms(sp.sin, sp.cos) if w.has(x)]
        try:
            if waves and not f.has(sp.exp) and mpmath.isinf(ends[1]) and not mpmath.isinf(ends[0]):
                value, error = _oscillating(function, waves, x, ends), 0
            else:
                between = [p for p in (-10, -1, 0, 1, 10) if ends[0] < p < ends[1]]
                inside = sorted({*between, *_bends(f, x, ends)})
                path = [ends[0], *inside, ends[1]]
                value, error = mpmath.quad(function, path, error=True)
        except (ArithmeticError, ValueError, TypeError, NameError, mpmath.NoConvergence):
            return None
        if value is None or not error < mpmath.mpf(10) ** -25 * (1 + abs(value)):
            return None
        return sp.sympify(sign * value)


def _oscillating(function: Callable, waves: list[sp.Expr], x: sp.Symbol, ends: list):
    """To infinity from zero to zero of its waves, if they all have one phase."""
    phases = {w.args[0] for w in waves}
    phase = phases.pop()
    if phases or not phase.is_polynomial(x):
        return None
    scale, order = _real(abs(sp.Poly(phase, x).LC())), int(sp.degree(phase, x))
    zeros = lambda n: (n * mpmath.pi / scale) ** (mpmath.mpf(1) / order)  # noqa: E731
    return mpmath.quadosc(function, ends, zeros=zeros)


def _bends(f: sp.Expr, x: sp.Symbol, ends: list) -> list:
    """Where what jumps or bends in f does so: changes of sign, seen on a grid and bisected."""
    found = []
    for border in borders(f, x):
        g = sp.lambdify(x, border, "mpmath")
        low, high = (min(max(end, -100), 100) for end in ends)
        grid = [low + (high - low) * k / 997 for k in range(998)]
        for a, b in itertools.pairwise(grid):
            if g(a) * g(b) < 0:
                found.append(mpmath.findroot(g, (a, b), solver="anderson"))
            elif g(a) == 0 and ends[0] < a:
                found.append(a)
    return found


def _real(value: sp.Expr) -> mpmath.mpf:
    value = sp.sympify(value)
    if value.is_infinite:
        return mpmath.mpf("inf") if value is sp.oo else -mpmath.mpf("inf")
    return mpmath.mpmathify(value.evalf(50))


def agree(a: sp.Expr, b: sp.Expr) -> bool | None:
    """Whether two values are equal to thirty digits of the larger one; None if that is unknown."""
    size = max(abs(a), abs(b))
    if size < sp.Float(10) ** -150:
        resolved = [v for v in (a, b) if not _unresolved(v)]
        if len(resolved) < 2:  # beside an exact zero, what no precision resolves counts as zero
            return True if all(v == 0 for v in resolved) else None
    return bool(abs(a - b) <= sp.Float(10) ** -DIGITS * size)


def _unresolved(value: sp.Expr) -> bool:
    """Whether the number has no correct digit: a cancellation beyond the highest precision."""
    parts = [p for p in value.as_real_imag() if p.is_Float]
    return bool(parts) and all(p._prec < 10 or p == 0 for p in parts)


def concrete_functions(
    exprs: Iterable[sp.Expr], rng: random.Random
) -> Callable[[sp.Expr], sp.Expr]:
    """Replace undefined functions by random smooth ones, the same ones in every expression."""
    applied = {atom for e in exprs for atom in e.atoms(AppliedUndef)}
    chosen: dict[UndefinedFunction, tuple] = {}
    for func in sorted({a.func for a in applied}, key=str):
        arity = max(len(a.args) for a in applied if a.func == func)
        real = all(a.is_real for a in applied if a.func == func)
        positive = all(a.is_positive for a in applied if a.func == func)

        def number(real=real):
            value = sp.Rational(rng.randint(-99, 99), 97)
            return value if real else value + sp.I * sp.Rational(rng.randint(-99, 99), 89)

        slopes = [[number() for _ in range(arity)] for _ in range(2)]
        chosen[func] = ([number() for _ in range(4)], slopes, positive)

    def body(func, *args):
        (a, b, c, d), (first, second), positive = chosen[func]
        u = sum(k * arg for k, arg in zip(first, args, strict=False))
        v = sum(k * arg for k, arg in zip(second, args, strict=False))
        smooth = a + b * u + c * sp.sin(v + d) + sp.cos(2 * u - 3 * v) / 3 + u * v / 7
        return sp.exp(sp.sin(u) + c * sp.cos(v) / 3) if positive else smooth

    def concrete(expr: sp.Expr) -> sp.Expr:
        expr = expr.replace(lambda e: isinstance(e, sp.Derivative), _with_symbols_as_variables)
        for func in chosen:
            expr = expr.replace(func, lambda *args, f=func: body(f, *args))
        return expr.replace(_is_derivative, lambda e: e.doit())

    return concrete


def _is_derivative(expr: sp.Basic) -> bool:
    return isinstance(expr, sp.Derivative | sp.Subs)


def _with_symbols_as_variables(derivative: sp.Derivative) -> sp.Expr:
    """∂F/∂f(t) as ∂F/∂ξ at ξ = f(t), which still makes sense once f(t) is an expression."""
    names = {v: sp.Dummy() for v in derivative.variables if isinstance(v, AppliedUndef)}
    if not names:
        return derivative
    return sp.Subs(derivative.xreplace(names), list(names.values()), list(names))
