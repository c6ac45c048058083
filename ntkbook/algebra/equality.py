"""When two expressions count as equal.

They are *proved* equal when sympy reduces their difference to zero **and** the two agree at random
points that respect every declared assumption.  The second test is there because the first can be
fooled: a simplifier may cancel what is zero, or cross a branch cut.  Nothing here guesses: what is
neither proved nor refuted is reported as such.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import sympy as sp
from sympy.core.function import AppliedUndef

from ntkbook._base.limits import OutOfTime, within
from ntkbook.values.domains import elementwise, entries
from ntkbook.values.sampling import Point, agree, concrete_functions, evaluate, points

POINTS_FOR_PROOF = 8
POINTS_FOR_CHECK = 40
SECONDS = 6.0  # of processor time, for one strategy


def simplifies_to_zero(residual: sp.Expr) -> bool:
    """Whether one of sympy's simplifiers reduces `residual` to exactly zero."""
    return any(_within_time(strategy, residual) == 0 for strategy in _STRATEGIES)


def _within_time(strategy: Callable[[sp.Expr], sp.Expr], residual: sp.Expr) -> sp.Expr | None:
    try:
        with within(SECONDS):
            return strategy(residual)
    except OutOfTime:
        return None
    except (NotImplementedError, TypeError, ValueError, ZeroDivisionError, AttributeError):
        return None  # sympy has no method for it, which proves nothing


def _constant(residual: sp.Expr) -> sp.Expr:
    """Zero, if every derivative simplifies to zero and the value at one point is exactly zero."""
    symbols = sorted(residual.free_symbols, key=str)
    if not symbols or any(not s.is_real or s.is_integer for s in symbols):
        return residual
    # One value and no slope fix a function on a connected domain only, where nothing jumps.
    parts = [f for f in sp.preorder_traversal(residual) if isinstance(f, sp.Function | sp.Pow)]
    if any(not _is_smooth(f) for f in parts) or counterexample(residual, sp.S.Zero, 40, 1):
        return residual
    for s in symbols:
        if sp.simplify(residual.diff(s)) != 0:
            return residual
    candidates = (dict.fromkeys(symbols, v) for v in (sp.S.Zero, sp.S.One, sp.Rational(1, 2)))
    for point in candidates:
        if all(getattr(s, "is_positive", None) is not True or v > 0 for s, v in point.items()):
            value = sp.simplify(residual.subs(point))
            if value == 0:
                return value
    return residual


def _is_smooth(part: sp.Expr) -> bool:
    """Whether a function or a power is smooth wherever it is real."""
    if isinstance(part, sp.Pow):
        return bool(part.exp.is_integer or part.base.is_positive or part.base == sp.E)
    if isinstance(part, sp.asin | sp.acos):
        return True
    return isinstance(
        part, sp.exp | sp.sin | sp.cos | sp.tanh | sp.atan | sp.erf | sp.sinh | sp.cosh
    )


def _geometric(summand: sp.Expr, *limits: sp.Tuple) -> sp.Expr:
    k, low, high = limits[0]
    ratio = sp.powsimp(sp.simplify(summand.subs(k, k + 1) / summand))
    shrinks = isinstance(ratio, sp.exp) and ratio.args[0].is_negative
    shrinks = shrinks or (1 - sp.Abs(ratio)).is_positive
    if len(limits) > 1 or ratio.has(k) or ratio == 1 or (high is sp.oo and not shrinks):
        return sp.Sum(summand, *limits)
    end = 0 if high is sp.oo else summand.subs(k, high + 1)
    return (summand.subs(k, low) - end) / (1 - ratio)


def _split_sums(expr: sp.Expr) -> sp.Expr:
    """Geometric sums; and sums to one limit, their last terms apart."""
    expr = expr.replace(sp.Sum, _geometric)
    sums = sorted((s for s in expr.atoms(sp.Sum) if len(s.limits) == 1), key=str)
    k = sp.Dummy("k", integer=True)
    for long in sums:
        for short in sums:
            (i, low, high), (j, low2, high2) = long.limits[0], short.limits[0]
            extra = sp.simplify(high - high2)
            if low != low2 or not extra.is_Integer or not 0 <= extra <= 8:
                continue
            tail = (long.function.subs(i, high2 + m) for m in range(1, int(extra) + 1))
            kept = sp.Sum(sp.expand(long.function.subs(i, k)), (k, low, high2))
            expr = expr.xreplace({long: kept + sp.Add(*tail)})
            expr = expr.xreplace(
                {short: sp.Sum(sp.expand(short.function.subs(j, k)), (k, low, high2))}
            )
    return sp.expand(expr)


def _factored_roots(expr: sp.Expr) -> sp.Expr:
    """Roots of products taken apart, where the factors are known to be positive."""
    return expr.replace(
        lambda e: isinstance(e, sp.Pow) and e.exp.is_Rational and not e.exp.is_Integer,
        lambda e: sp.expand_power_base(sp.factor(e.base) ** e.exp),
    )


_STRATEGIES: tuple[Callable[[sp.Expr], sp.Expr], ...] = (
    sp.expand,
    _split_sums,
    lambda e: sp.expand(e.doit()),
    sp.simplify,
    lambda e: sp.simplify(sp.expand(e.rewrite(sp.exp))),
    lambda e: sp.simplify(sp.expand_func(e)),
    lambda e: sp.factor(sp.expand_trig(sp.expand_log(sp.powdenest(e)))),
    lambda e: sp.trigsimp(sp.radsimp(e)),
    lambda e: sp.simplify(e.rewrite(sp.acos).rewrite(sp.asin)),
    lambda e: sp.simplify(_factored_roots(e)),
    lambda e: sp.expand(e.rewrite([sp.Max, sp.Min], sp.Abs)),
    lambda e: sp.expand(e.rewrite(sp.Abs, sp.conjugate)),
    _constant,
)


def counterexample(
    old: sp.Basic, new: sp.Basic, wanted: int, seed: int = 0, everywhere: bool = False
) -> tuple[Point, sp.Expr] | bool | None:
    """Compare two expressions at admissible points, to thirty digits of the larger.

    Returns the first point where they differ and the value of `new` there, ``None`` if they agree
    at every point, and ``False`` if too few points could be evaluated to say anything; with
    `everywhere`, if a single one couldn't.
    """
    rng = random.Random(seed)
    both = [*entries(old), *entries(new)]
    if any(s.is_commutative is False for e in both for s in e.free_symbols):
        return False  # numbers commute
    evaluated = attempts = 0
    grid: dict[frozenset, object] = {}
    while attempts < 3 * wanted:
        attempts += 1
        concrete = concrete_functions(both, rng)
        pairs = list(zip(map(concrete, entries(old)), map(concrete, entries(new)), strict=True))
        symbols = frozenset().union(*(a.free_symbols | b.free_symbols for a, b in pairs))
        point = next(grid.setdefault(symbols, points(symbols, rng)))  # type: ignore[call-overload]
        known = 0
        for a, b in pairs:
            left = evaluate(a, point)
            right = left if a == b else (None if left is None else evaluate(b, point))
            if left is None or right is None:
                continue
            same = agree(left, right)
            if same is None:
                continue
            if not same:
                return point, right
            known += 1
        evaluated += known == len(pairs)
        if everywhere and evaluated < attempts:
            return False
        if evaluated == wanted:
            return None
    return False


@dataclass(frozen=True)
class Verdict:
    """What is known of an equality: how it was established, or why it is refused."""

    status: Literal["proved", "computed", "checked"] = "proved"
    refusal: str | None = None
    told: str = ""  # the refusal without what is right


def decide(old: sp.Basic, new: sp.Basic, numerically: bool) -> Verdict:
    """Whether two scalars or explicit matrices are equal; `numerically` asks for no proof."""
    old, new = (elementwise(_exact, side) for side in (old, new))
    # A series may diverge at some points: where nothing but points speaks for it, all must.
    sums = old.atoms(sp.Sum) | new.atoms(sp.Sum)
    endless = numerically and any(limits[-1] is sp.oo for a in sums for limits in a.limits)
    wanted = POINTS_FOR_CHECK if numerically else POINTS_FOR_PROOF
    found = counterexample(old, new, wanted, everywhere=endless)
    if isinstance(found, tuple):
        point = ", ".join(f"{s} = {sp.N(v, 6)}" for s, v in found[0].items())
        known = not new.atoms(AppliedUndef)  # else its value is that of a function made up here
        told = f"at {point}" + f": this line is {sp.N(found[1], 6)}" * known
        residual = sp.expand(new - old)
        try:
            with within(SECONDS):
                residual = sp.simplify(residual)
        except OutOfTime:
            pass
        both = "the two sides differ"
        by = f" by {residual}" if residual != 0 else ", though sympy finds no difference"
        return Verdict("proved", f"{both}{by}, e.g. at {point}", f"{both}, e.g. {told}")
    if numerically:
        if found is False:
            said = "cannot be evaluated at random points"
            return Verdict("proved", said, said)
        return Verdict("checked")
    commuting = all(s.is_commutative for e in (old, new) for s in e.free_symbols)
    residuals = [b - a for a, b in zip(entries(old), entries(new), strict=True)]
    # Simplifiers take numbers for granted: where products don't commute, only expansion is safe.
    zero = simplifies_to_zero if commuting else lambda r: sp.expand(r) == 0
    unproved = [r for r in residuals if r != 0 and not zero(r)]
    if unproved:
        hint = (
            ""
            if found is False
            else ("; it vanishes at random points: rewrite it, or declare numerically=True")
        )
        told = f"sympy cannot prove that it follows{hint}"
        return Verdict("proved", f"sympy cannot prove {unproved[0]} = 0{hint}", told)
    # Expansion alone is exact: sums and products of whatever there is, commuting or not.
    exact = all(r == 0 or sp.expand(r) == 0 for r in residuals)
    return Verdict("computed" if found is False and not exact else "proved")


def _exact(expr: sp.Expr) -> sp.Expr:
    """The expression with its decimal numbers as fractions, which have all digits."""
    return expr.xreplace({number: sp.Rational(number) for number in expr.atoms(sp.Float)})


def equal(old: sp.Expr, new: sp.Expr) -> bool:
    """Whether two scalars are proved equal."""
    return decide(old, new, False).refusal is None
