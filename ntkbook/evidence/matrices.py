"""Identities between matrices of any size: polynomials in noncommuting symbols."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from operator import mul

import numpy as np
import sympy as sp

from ntkbook.values.domains import is_matrix


def matrix_identity(
    old: sp.MatrixExpr, new: sp.MatrixExpr, left: sp.MatrixExpr | None, right: sp.MatrixExpr | None
) -> bool:
    """Whether ``left (new − old) right`` expands to zero as a polynomial in noncommuting symbols.

    With invertible `left` and `right` that proves ``new = old`` at every size for which the
    products exist.  An inverse next to what it inverts cancels; nothing else is assumed of it.
    """
    total = sp.S.Zero
    for sign, side in ((1, new), (-1, old)):
        side = sp.expand(side) if not isinstance(side, sp.MatrixSymbol) else side
        for term in side.args if isinstance(side, sp.MatAdd) else (side,):
            factors = [f for f in (left, term, right) if f is not None]
            total += sign * _noncommutative(sp.MatMul(*factors))
    return sp.expand(total) == 0


def _noncommutative(expr: sp.Basic) -> sp.Expr:
    if isinstance(expr, sp.MatAdd):
        return sp.Add(*(_noncommutative(arg) for arg in expr.args))
    if isinstance(expr, sp.MatMul):
        nested = (arg.args if isinstance(arg, sp.MatMul) else (arg,) for arg in expr.args)
        factors = [factor for group in nested for factor in group]
        kept: list[sp.Basic] = []
        for factor in factors:
            if kept and _are_inverse(kept[-1], factor):
                kept.pop()
            else:
                kept.append(factor)
        return reduce(mul, (_noncommutative(f) for f in kept), sp.S.One)
    if isinstance(expr, sp.MatPow) and expr.exp.is_Integer and expr.exp > 0:
        return _noncommutative(expr.base) ** expr.exp
    if isinstance(expr, sp.Inverse):
        return sp.Symbol(f"({sp.expand(_noncommutative(expr.arg))})^-1", commutative=False)
    if isinstance(expr, sp.Transpose):
        inner = expr.arg
        if isinstance(inner, sp.MatrixSymbol):
            return sp.Symbol(f"{inner.name}^T", commutative=False)
        if isinstance(inner, sp.Inverse):
            return _noncommutative(sp.Inverse(sp.Transpose(inner.arg).doit()))
        return _noncommutative(expr.doit())
    if isinstance(expr, sp.Identity):
        return sp.S.One
    if isinstance(expr, sp.ZeroMatrix):
        return sp.S.Zero
    if isinstance(expr, sp.MatrixSymbol):
        return sp.Symbol(expr.name, commutative=False)
    if not is_matrix(expr):
        return expr
    raise TypeError(f"no rule for the matrix expression {expr} ({type(expr).__name__})")


def _are_inverse(a: sp.Basic, b: sp.Basic) -> bool:
    def inverts(x: sp.Basic, y: sp.Basic) -> bool:
        if not isinstance(x, sp.Inverse) or not is_matrix(y):
            return False
        return sp.expand(_noncommutative(x.arg) - _noncommutative(y)) == 0

    return inverts(a, b) or inverts(b, a)


def matrix_counterexample(old: sp.MatrixExpr, new: sp.MatrixExpr, seed: int = 0) -> float:
    """Largest relative difference of the two sides on random numeric matrices, sizes 2, 3, 4…"""
    rng = np.random.default_rng(seed)
    symbols = sorted(old.free_symbols | new.free_symbols, key=str)
    matrices = [s for s in symbols if isinstance(s, sp.MatrixSymbol)]
    parts = (part for side in (old, new) for part in sp.preorder_traversal(side))
    dimensions = sorted({n for m in parts if is_matrix(m) for n in m.shape}, key=str)
    sizes = {n: k + 2 for k, n in enumerate(d for d in dimensions if not d.is_Integer)}

    def size(dimension: sp.Basic) -> int:
        return int(sizes.get(dimension, dimension))

    values: dict[sp.Basic, object] = {
        m: rng.normal(size=(size(m.shape[0]), size(m.shape[1]))) for m in matrices
    }
    values |= {s: float(rng.uniform(0.5, 2)) for s in symbols if s not in values and s not in sizes}
    a, b = (_numeric_matrix(side, values, size) for side in (old, new))
    return float(np.abs(a - b).max() / (np.abs(a).max() + np.abs(b).max()))


def _numeric_matrix(expr: sp.Basic, values: Mapping, size) -> np.ndarray:
    def evaluate(part: sp.Basic) -> np.ndarray:
        return _numeric_matrix(part, values, size)

    if isinstance(expr, sp.MatrixSymbol):
        return values[expr]
    if isinstance(expr, sp.MatAdd):
        return np.sum([evaluate(arg) for arg in expr.args], axis=0)
    if isinstance(expr, sp.MatMul):
        product = np.ones(())
        for arg in expr.args:
            value = evaluate(arg)
            product = product * value if 0 in (product.ndim, value.ndim) else product @ value
        return product
    if isinstance(expr, sp.Inverse):
        return np.linalg.inv(evaluate(expr.arg))
    if isinstance(expr, sp.MatPow):
        return np.linalg.matrix_power(evaluate(expr.base), int(expr.exp))
    if isinstance(expr, sp.Transpose):
        return evaluate(expr.arg).T
    if isinstance(expr, sp.Identity):
        return np.eye(size(expr.shape[0]))
    if isinstance(expr, sp.ZeroMatrix):
        return np.zeros([size(n) for n in expr.shape])
    scalars = {s: v for s, v in values.items() if not isinstance(s, sp.MatrixSymbol)}
    return np.asarray(float(expr.subs(scalars)))
