"""Numbers for symbols: random and special points at which two expressions are compared.

Points respect every declared assumption and reach over many scales, both signs, both half planes
and the special values 0, ±1, ±π, where wrong algebra likes to hide.  Undefined functions become
random smooth ones, the same in every expression.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping

import sympy as sp
from sympy.core.function import AppliedUndef, UndefinedFunction

from ntkbook.algebra.limits import OutOfTime, within

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
            size = rng.choice((3, 7, 7, 20, 200))
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
            value = number.doit().evalf(WORKING_DIGITS, maxn=_HIGHEST_PRECISION)
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
        return sp.Sum(summand, *limits).evalf(WORKING_DIGITS)
    if outer or not (low.is_Integer and high.is_Integer and high - low < 500):
        return sp.Sum(summand, *limits)
    terms = (summand.subs(k, j).doit().evalf(WORKING_DIGITS) for j in range(low, high + 1))
    return sp.Add(*terms)


def vague(value: sp.Expr) -> bool:
    """Whether the number has no correct digit, so that it can be compared with nothing."""
    parts = [p for p in value.as_real_imag() if p.is_Float and p != 0]
    return bool(parts) and all(p._prec < 10 for p in parts)


def agree(a: sp.Expr, b: sp.Expr) -> bool:
    """Whether two values are equal to thirty digits of the larger one."""
    size = max(abs(a), abs(b))
    if size < sp.Float(10) ** -150 and (vague(a) or vague(b) or a == 0 or b == 0):
        return True  # a cancellation that the highest precision did not resolve: zero
    return bool(abs(a - b) <= sp.Float(10) ** -DIGITS * size)


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
        smooth = a + b * u + c * sp.sin(v + d) + u * v / 7
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
