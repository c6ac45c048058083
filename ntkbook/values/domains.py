"""Where an expression is defined, and where it is smooth.

Division by zero, poles, kinks and jumps are found from the tree of the expression: what is not
known to be harmless counts as harmful, so that an author declares it or the line is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import sympy as sp

# Finite for every finite argument, real or complex.
_ENTIRE = (
    sp.exp, sp.sin, sp.cos, sp.sinh, sp.cosh, sp.asin, sp.acos, sp.asinh, sp.acosh, sp.erf, sp.erfc,
    sp.erfi, sp.Abs, sp.sign, sp.Max, sp.Min, sp.re, sp.im, sp.conjugate, sp.arg, sp.Heaviside,
    sp.floor, sp.ceiling, sp.Mod, sp.frac, sp.Piecewise, sp.besselj, sp.KroneckerDelta, sp.hermite,
    sp.legendre, sp.chebyshevt, sp.Order, sp.Si, sp.fresnels, sp.fresnelc, sp.DiracDelta,
    sp.binomial, sp.sinc,
)  # fmt: skip
# f is finite where these functions of its argument are nonzero.
_POLES = {
    sp.tan: sp.cos, sp.sec: sp.cos, sp.cot: sp.sin, sp.csc: sp.sin, sp.tanh: sp.cosh,
    sp.sech: sp.cosh, sp.coth: sp.sinh, sp.csch: sp.sinh, sp.atan: lambda u: 1 + u**2,
    sp.atanh: lambda u: 1 - u**2, sp.acoth: lambda u: 1 - u**2, sp.log: lambda u: u,
    sp.acot: lambda u: 1 + u**2, sp.asec: lambda u: u, sp.acsc: lambda u: u,
}  # fmt: skip
NOT_SMOOTH = (
    sp.Abs, sp.sign, sp.Max, sp.Min, sp.Heaviside, sp.Piecewise, sp.floor, sp.ceiling, sp.Mod,
    sp.frac, sp.DiracDelta, sp.re, sp.im, sp.arg, sp.conjugate, sp.KroneckerDelta, sp.acot,
    sp.acoth, sp.asec, sp.acsc, sp.atan2,
)  # fmt: skip


def is_matrix(expr: sp.Basic) -> bool:
    """Whether `expr` is a matrix, explicit or symbolic."""
    return isinstance(expr, sp.MatrixBase | sp.MatrixExpr)


def is_symbolic_matrix(expr: sp.Basic) -> bool:
    """Whether `expr` is a matrix without explicit entries."""
    return isinstance(expr, sp.MatrixExpr) and not isinstance(expr, sp.MatrixBase)


def entries(expr: sp.Basic) -> list[sp.Expr]:
    """The scalar entries of an explicit matrix, or the expression itself."""
    return list(expr) if isinstance(expr, sp.MatrixBase) else [expr]


def elementwise(function: Callable[[sp.Expr], sp.Expr], expr: sp.Basic) -> sp.Basic:
    """`function` of an expression, or of every entry of an explicit matrix."""
    return expr.applyfunc(function) if isinstance(expr, sp.MatrixBase) else function(expr)


def unproved_denominators(expr: sp.Basic, nonzero: Iterable[sp.Basic]) -> list[sp.Basic]:
    """What must not vanish for `expr` to be finite, and may, under the declared assumptions.

    `nonzero` lists scalars taken to be nonzero and square matrices taken to be invertible.  A
    singular function counts by what stands below it: cos x for tan x.
    """
    nonzero = tuple(nonzero)
    suspects: dict[sp.Basic, None] = {}
    for part in (node for entry in entries(expr) for node in sp.preorder_traversal(entry)):
        for below in _below(part):
            known = below in nonzero if is_matrix(below) else _is_nonzero(below, nonzero)
            if not known:
                suspects[below] = None
    return list(suspects)


def _below(part: sp.Basic) -> list[sp.Basic]:
    if isinstance(part, sp.Inverse):
        return [part.arg]
    if isinstance(part, sp.MatPow):
        return [] if part.exp.is_nonnegative else [part.base]
    if isinstance(part, sp.Pow):
        return [] if part.exp.is_nonnegative or part.base == sp.E else [part.base]
    if isinstance(part, sp.Function) and not isinstance(part, sp.core.function.AppliedUndef):
        if type(part) in _POLES:
            return [_POLES[type(part)](part.args[0])]
        if not isinstance(part, _ENTIRE) and part.is_finite is not True and not _named(part):
            return [1 / part]
    return []


def _named(part: sp.Function) -> bool:
    return type(part).__module__.startswith("ntkbook")  # an expectation, which is never evaluated


def _is_nonzero(expr: sp.Expr, nonzero: tuple[sp.Basic, ...]) -> bool:
    if expr.is_zero is False or expr.is_nonzero:
        return True
    if isinstance(expr, sp.cosh | sp.exp) and expr.args[0].is_extended_real:
        return True
    if isinstance(expr, sp.gamma) and expr.args[0].is_positive:
        return True
    growth = [e.args[0] for e in sp.Add.make_args(expr) if isinstance(e, sp.exp)]
    if len(growth) == 1 and expr in (sp.exp(growth[0]) - 1, 1 - sp.exp(growth[0])):
        return bool(growth[0].is_real and growth[0].is_nonzero)
    if isinstance(expr, sp.Pow) and expr.exp.is_extended_real:
        return _is_nonzero(expr.base, nonzero)
    if any(sp.simplify(expr / known).is_nonzero for known in nonzero if not is_matrix(known)):
        return True
    factored = sp.factor(expr)
    if isinstance(factored, sp.Mul):
        return all(_is_nonzero(factor, nonzero) for factor in factored.args)
    return isinstance(factored, sp.Pow) and _is_nonzero(factored.base, nonzero)


def becomes_zero(expr: sp.Basic) -> bool:
    """Whether a scalar or matrix is, or reduces to, zero."""
    if is_matrix(expr):
        return isinstance(expr, sp.ZeroMatrix) or bool(getattr(expr, "is_zero_matrix", False))
    return expr.is_zero is True or sp.simplify(expr) == 0


def kink(expr: sp.Basic, x: sp.Basic, interval: sp.Interval | None = None) -> sp.Basic | None:
    """A part of `expr` whose slope in x jumps or which jumps itself, unless outside `interval`."""
    for entry in entries(expr):
        for part in sp.preorder_traversal(entry):
            if isinstance(part, sp.Order) and part.has(x):
                return part
            if _crosses_a_cut(part) and part.has(x):
                return part
            if isinstance(part, NOT_SMOOTH) and part.has(x):
                borders = _borders(part)
                if interval is None or not all(_avoids(b, x, interval) for b in borders):
                    return part
    return None


def _crosses_a_cut(part: sp.Basic) -> bool:
    """A logarithm or a root of what need not be real: it may jump."""
    if isinstance(part, sp.log):
        return part.args[0].is_extended_real is not True
    root = isinstance(part, sp.Pow) and not isinstance(part, sp.MatrixExpr)
    if not root or part.base == sp.E or part.exp.is_integer or part.base.is_number:
        return False
    return part.base.is_extended_real is not True and not part.base.is_positive


def borders(expr: sp.Expr, x: sp.Basic) -> list[sp.Expr]:
    """Functions of x that vanish where `expr` bends or jumps, as far as they are known."""
    parts = [p for p in sp.preorder_traversal(expr) if isinstance(p, NOT_SMOOTH) and p.has(x)]
    found = [b for part in parts for b in _borders(part) if b is not None]
    return [b for b in dict.fromkeys(found) if b.free_symbols == {x}]


def _borders(part: sp.Basic) -> list[sp.Expr | None]:
    """Where these vanish the part is not smooth; None where that can't be said."""
    if isinstance(part, sp.Max | sp.Min):
        return [a - b for i, a in enumerate(part.args) for b in part.args[:i]]
    if isinstance(part, sp.Piecewise):
        conditions = [c for _, c in part.args if c is not sp.true]
        relations = [r for c in conditions for r in c.atoms(sp.core.relational.Relational)]
        return [r.lhs - r.rhs for r in relations]
    if isinstance(part, sp.Abs | sp.sign | sp.Heaviside | sp.DiracDelta | sp.arg):
        return [part.args[0]]
    return [None]


def _avoids(border: sp.Expr | None, x: sp.Basic, interval: sp.Interval) -> bool:
    if border is None:
        return False
    if not border.has(x):
        return True
    real = sp.Dummy("x", real=True)
    found = sp.solveset(border.subs(x, real), real, sp.Interval.open(interval.start, interval.end))
    return found is sp.S.EmptySet
