"""What counts as a proof: the decision procedures behind `derivation`.

Two expressions are *proved* equal when sympy reduces their difference to zero **and** the two agree
at random points that respect every declared assumption, wherever they can be evaluated.  The second
test is there because the first can be fooled: a simplifier may cancel what is zero, or cross a
branch cut.  Nothing here guesses: what is neither proved nor refuted is reported as such.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Mapping
from functools import reduce
from operator import mul

import numpy as np
import sympy as sp
from sympy.core.function import AppliedUndef, UndefinedFunction
from sympy.printing.latex import LatexPrinter
from sympy.printing.precedence import PRECEDENCE

POINTS_FOR_PROOF = 8
POINTS_FOR_CHECK = 40
DIGITS = 30
_WORKING_DIGITS = DIGITS + 15


def sympify(name: str, value: object) -> sp.Basic:
    """`value` as a sympy expression or immutable explicit matrix, else a `TypeError`."""
    try:
        expr = sp.sympify(value)
    except (sp.SympifyError, TypeError) as error:
        raise TypeError(f"{name} must be a sympy expression or matrix, not {value!r}") from error
    if isinstance(expr, bool) or not isinstance(expr, sp.Expr | sp.MatrixBase):
        raise TypeError(f"{name} must be a sympy expression or matrix, not {value!r}")
    return sp.ImmutableMatrix(expr) if isinstance(expr, sp.MatrixBase) else expr


def entries(expr: sp.Basic) -> list[sp.Expr]:
    """The scalar entries of an explicit matrix, or the expression itself."""
    return list(expr) if isinstance(expr, sp.MatrixBase) else [expr]


class Latex(LatexPrinter):
    """sympy's printer, with brackets round a differentiated product and upright min and max."""

    def _print_Derivative(self, expr):
        latex = super()._print_Derivative(expr)
        if not expr.expr.is_Mul:
            return latex
        body = self.parenthesize(expr.expr, PRECEDENCE["Mul"], is_neg=False, strict=True)
        return rf"{latex.removesuffix(body)}\left({body}\right)"

    def _print_Symbol(self, expr, style="plain"):
        return re.sub(r"_\{(min|max)\}", r"_{\\\1}", super()._print_Symbol(expr, style))


def latex(expr: sp.Basic) -> str:
    """`expr` as LaTeX."""
    return Latex().doprint(expr)


def elementwise(function: Callable[[sp.Expr], sp.Expr], expr: sp.Basic) -> sp.Basic:
    """`function` of an expression, or of every entry of an explicit matrix."""
    return expr.applyfunc(function) if isinstance(expr, sp.MatrixBase) else function(expr)


def is_symbolic_matrix(expr: sp.Basic) -> bool:
    """Whether `expr` is a matrix without explicit entries."""
    return isinstance(expr, sp.MatrixExpr) and not isinstance(expr, sp.MatrixBase)


# ------------------------------------------------------------------------------------------
# Division: every denominator must be known not to vanish.


def unproved_denominators(expr: sp.Basic, nonzero: Iterable[sp.Basic]) -> list[sp.Basic]:
    """Denominators and inverted matrices in `expr` that may be zero under the declared assumptions.

    `nonzero` lists scalars taken to be nonzero and square matrices taken to be invertible.
    """
    nonzero = tuple(nonzero)
    suspects: dict[sp.Basic, None] = {}
    for part in (node for entry in entries(expr) for node in sp.preorder_traversal(entry)):
        if isinstance(part, sp.Inverse):
            if part.arg not in nonzero:
                suspects[part.arg] = None
        elif isinstance(part, sp.Pow) and not isinstance(part, sp.MatrixExpr):
            if part.exp.is_nonnegative or part.base == sp.E:
                continue
            if not _is_nonzero(part.base, nonzero):
                suspects[part.base] = None
        elif isinstance(part, sp.log) and not _is_nonzero(part.args[0], nonzero):
            suspects[part.args[0]] = None
    return list(suspects)


def _is_nonzero(expr: sp.Expr, nonzero: tuple[sp.Basic, ...]) -> bool:
    if expr.is_zero is False:
        return True
    if any(sp.simplify(expr / known).is_nonzero for known in nonzero if not is_matrix(known)):
        return True
    factored = sp.factor(expr)
    if isinstance(factored, sp.Mul):
        return all(_is_nonzero(factor, nonzero) for factor in factored.args)
    return isinstance(factored, sp.Pow) and _is_nonzero(factored.base, nonzero)


def is_matrix(expr: sp.Basic) -> bool:
    """Whether `expr` is a matrix, explicit or symbolic."""
    return isinstance(expr, sp.MatrixBase | sp.MatrixExpr)


# ------------------------------------------------------------------------------------------
# Equality of scalars and explicit matrices.


def simplifies_to_zero(residual: sp.Expr) -> bool:
    """Whether one of sympy's simplifiers reduces `residual` to exactly zero."""
    strategies = (
        sp.expand,
        lambda e: sp.expand(e.doit()),
        sp.simplify,
        lambda e: sp.simplify(sp.expand(e.rewrite(sp.exp))),
        lambda e: sp.simplify(sp.expand_func(e)),
        lambda e: sp.factor(sp.expand_trig(sp.expand_log(sp.powdenest(e)))),
        lambda e: sp.trigsimp(sp.radsimp(e)),
    )
    return any(strategy(residual) == 0 for strategy in strategies)


def counterexample(
    old: sp.Basic, new: sp.Basic, points: int, seed: int = 0
) -> tuple[dict[sp.Symbol, sp.Expr], sp.Expr] | bool | None:
    """Compare two expressions at random admissible points, to thirty digits.

    Returns ``(point, difference)`` at the first point where they differ, ``None`` if they agree at
    every point, and ``False`` if too few points could be evaluated to say anything.
    """
    rng = random.Random(seed)
    evaluated = 0
    for _ in range(3 * points):
        concrete = _concrete_functions([*entries(old), *entries(new)], rng)
        pairs = list(zip(map(concrete, entries(old)), map(concrete, entries(new)), strict=True))
        symbols = set().union(*(a.free_symbols | b.free_symbols for a, b in pairs))
        point = {s: _random_value(s, rng) for s in sorted(symbols, key=str)}
        values = [(_evaluate(a, point), _evaluate(b, point)) for a, b in pairs]
        known = [(a, b) for a, b in values if a is not None and b is not None]
        if len(known) < len(values):
            continue
        for a, b in known:
            if abs(a - b) > sp.Float(10) ** -DIGITS * (1 + abs(a) + abs(b)):
                return point, sp.Float(abs(a - b), 6)
        evaluated += 1
        if evaluated == points:
            return None
    return False


def _evaluate(expr: sp.Expr, point: Mapping[sp.Symbol, sp.Expr]) -> sp.Expr | None:
    try:
        value = expr.xreplace(point).doit().evalf(_WORKING_DIGITS)
    except (ValueError, TypeError, ZeroDivisionError, NotImplementedError, RecursionError):
        return None
    return value if value.is_number and value.is_finite and not value.has(sp.nan) else None


def _random_value(symbol: sp.Symbol, rng: random.Random) -> sp.Expr:
    """A random value that satisfies the symbol's assumptions."""
    if symbol.is_integer:
        low = 1 if symbol.is_positive else (0 if symbol.is_nonnegative else -6)
        candidates: Iterable[sp.Expr] = (sp.Integer(rng.randint(low, 7)) for _ in range(99))
    elif symbol.is_real:
        candidates = (sp.Rational(rng.randint(-2999, 2999), 997) for _ in range(99))
    else:
        parts = (sp.Rational(rng.randint(-1999, 1999), 997) for _ in range(99))
        candidates = (re + sp.I * sp.Rational(rng.randint(1, 1999), 997) for re in parts)
    flags = ("positive", "negative", "nonnegative", "nonpositive", "nonzero", "even", "odd")
    wanted = {flag: symbol.assumptions0[flag] for flag in flags if flag in symbol.assumptions0}
    for value in candidates:
        if all(getattr(value, f"is_{flag}") in (truth, None) for flag, truth in wanted.items()):
            return value if symbol.is_integer else value.evalf(_WORKING_DIGITS)
    raise ValueError(f"no random value satisfies the assumptions of {symbol}")


def _concrete_functions(exprs: list[sp.Expr], rng: random.Random):
    """Replace undefined functions by random smooth ones, the same ones in every expression."""
    applied = set().union(*(e.atoms(AppliedUndef) for e in exprs)) if exprs else set()
    chosen: dict[UndefinedFunction, list[sp.Rational]] = {}
    for name in sorted({a.func for a in applied}, key=str):
        chosen[name] = [sp.Rational(rng.randint(-99, 99), 97) for _ in range(4)]

    def body(func, *args):
        a, b, c, d = chosen[func]
        u = sum((k + 1) * arg for k, arg in enumerate(args))
        smooth = a + b * u + c * sp.sin(u + d) + u**2 / 7
        return sp.exp(smooth / 3) if func(*args).is_positive else smooth

    def concrete(expr: sp.Expr) -> sp.Expr:
        expr = expr.replace(lambda e: isinstance(e, sp.Derivative), _with_symbols_as_variables)
        for func in chosen:
            expr = expr.replace(func, lambda *args, f=func: body(f, *args))
        return expr.doit() if chosen else expr

    return concrete


def _with_symbols_as_variables(derivative: sp.Derivative) -> sp.Expr:
    """∂F/∂f(t) as ∂F/∂ξ at ξ = f(t), which still makes sense once f(t) is an expression."""
    names = {v: sp.Dummy() for v in derivative.variables if isinstance(v, AppliedUndef)}
    if not names:
        return derivative
    return sp.Subs(derivative.xreplace(names), list(names.values()), list(names))


def counterexample_to_integral(
    integrand: sp.Expr, x: sp.Symbol, a: sp.Expr, b: sp.Expr, result: sp.Expr, points: int = 3
) -> str | None:
    """Compare a definite integral with numerical quadrature at random points, to eight digits."""
    rng = random.Random(1)
    concrete = _concrete_functions([integrand, result], rng)
    integrand, result = concrete(integrand), concrete(result)
    parameters = set().union(*(e.free_symbols for e in (integrand, a, b, result))) - {x}
    for _ in range(points):
        point = {s: _random_value(s, rng) for s in sorted(parameters, key=str)}
        limits = [sp.sympify(end).xreplace(point) for end in (a, b)]
        exact = _evaluate(result, point)
        quadrature = sp.Integral(integrand.xreplace(point), (x, *limits)).evalf(15)
        if exact is None or not quadrature.is_number:
            continue
        if abs(exact - quadrature) > 1e-8 * (1 + abs(quadrature)):
            return f"{sp.N(quadrature, 8)}, the formula {sp.N(exact, 8)}, at {point}"
    return None


# ------------------------------------------------------------------------------------------
# Identities between matrices of any size: noncommutative polynomials.


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
    dimensions = sorted(set().union(*(m.shape for m in matrices)), key=str)
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


# ------------------------------------------------------------------------------------------
# What the rules compute.


def taylor_polynomial(expr: sp.Expr, x: sp.Basic, x0: sp.Expr, order: int) -> sp.Expr:
    """Taylor polynomial by derivatives; sympy's own series where the derivatives are singular."""
    total, derivative = sp.S.Zero, expr
    for k in range(order):
        coefficient = derivative.subs(x, x0).doit()
        if coefficient.has(sp.nan, sp.zoo, sp.oo):
            return expr.series(x, x0, order).removeO()
        total += coefficient * (x - x0) ** k / sp.factorial(k)
        derivative = derivative.diff(x)
    return total


def value_at(expr: sp.Basic, x: sp.Basic, x0: sp.Expr, dir: str) -> sp.Basic:
    """`expr` at x0, as a limit where x0 is infinite."""
    if not x0.is_infinite:
        return expr.subs(x, x0)
    return elementwise(lambda e: sp.limit(e, x, x0, dir), expr)


class Expectation(sp.Function):
    """E[·] over the Gaussian variables named in the step that introduced it; never evaluated."""

    def _latex(self, printer, exp=None):
        return rf"\mathbb{{E}}\left[{printer._print(self.args[0])}\right]"

    def _sympystr(self, printer):
        return f"E[{printer._print(self.args[0])}]"


def gaussian_expectation(expr: sp.Expr, variances: Mapping[sp.Symbol, sp.Expr]) -> sp.Expr:
    """E[expr] over independent centred Gaussians with the given variances.

    Polynomials by the moments E[u^{2m}] = (2m−1)!! q^m, everything else by integrating the density.
    """
    for u, q in variances.items():
        expr = sp.expand(expr)
        if expr.is_polynomial(u):
            powers = sp.Poly(expr, u).terms() if expr.has(u) else [((0,), expr)]
            expr = sum(
                (c * sp.factorial2(k - 1) * q ** (k // 2) for (k,), c in powers if k % 2 == 0),
                sp.S.Zero,
            )
        else:
            density = sp.exp(-(u**2) / (2 * q)) / sp.sqrt(2 * sp.pi * q)
            expr = sp.integrate(sp.expand(expr * density), (u, -sp.oo, sp.oo))
    return expr
