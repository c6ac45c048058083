"""Means over centred Gaussians: their law, their exact value, their witness.

A mean is computed where it has a closed form (polynomials, exponentials of quadratic forms, error
functions, Dirac deltas, one-dimensional integrals).  Any other is *verified*: by Price's theorem
∂E[F]/∂c = E[∂²F/∂u∂v] the value that the author gives must have the right derivative in a
covariance and be right where the covariance is zero; likewise in a variance, by the heat equation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import sympy as sp

from ntkbook._base.limits import OutOfTime, within
from ntkbook.values.domains import NOT_SMOOTH, unproved_denominators

_TAME = (sp.tanh, sp.erf, sp.sin, sp.cos, sp.atan, sp.sign, sp.Heaviside, sp.Abs)
Equal = Callable[[sp.Expr, sp.Expr], bool]  # a decision procedure: whether two are equal


class Unknown(Exception):
    """A mean for which no rule is at hand."""


@dataclass(frozen=True)
class Law:
    """Centred, jointly Gaussian variables and their covariance matrix."""

    variables: tuple[sp.Symbol, ...]
    covariance: sp.ImmutableMatrix

    def __post_init__(self) -> None:
        for u in self.variables:
            extra = ("positive", "negative", "nonnegative", "nonpositive", "nonzero", "integer")
            if not u.is_real or any(getattr(u, f"is_{flag}") is not None for flag in extra):
                raise ValueError(
                    f"{u} must be declared real and nothing more, as a Gaussian takes every sign"
                )
        if len(set(self.variables)) < len(self.variables):
            raise ValueError("a variable is named twice")
        if self.covariance.free_symbols & set(self.variables):
            raise ValueError("a variance or covariance contains one of the Gaussian variables")
        if self.covariance != self.covariance.T:
            raise ValueError("the covariance matrix is not symmetric")
        if any(
            minor.is_number and minor.is_negative
            for k in range(1, len(self.variables) + 1)
            for rows in combinations(range(len(self.variables)), k)
            for minor in [self.covariance.extract(list(rows), list(rows)).det()]
        ):
            raise ValueError(f"{self.covariance.tolist()} is no covariance matrix")
        for u, q in zip(self.variables, self.covariance.diagonal(), strict=True):
            if not q.is_nonnegative:
                raise ValueError(f"the variance {q} of {u} is not known to be nonnegative")

    @property
    def independent(self) -> bool:
        """Whether the covariance matrix is diagonal."""
        return self.covariance.is_diagonal()

    def part(self, used: Sequence[int]) -> Law:
        """The law of some of the variables."""
        names = tuple(self.variables[k] for k in used)
        return Law(names, self.covariance.extract(used, used).as_immutable())


def law_of(variables: Mapping[object, object]) -> Law:
    """The law of ``{u: variance}`` or ``{(u, v): covariance matrix}``; several are independent."""
    names: list[sp.Symbol] = []
    blocks: list[sp.Matrix] = []
    for key, value in variables.items():
        group = tuple(key) if isinstance(key, Sequence) else (key,)
        block = sp.Matrix(value) if len(group) > 1 else sp.Matrix([[value]])
        if block.shape != (len(group), len(group)):
            raise ValueError(f"the covariance matrix of {group} has the shape {block.shape}")
        for name in group:
            if not isinstance(name, sp.Symbol):
                raise ValueError(f"a Gaussian variable is a symbol, not {name}")
        names.extend(group)
        blocks.append(block)
    if not names:
        raise ValueError("no Gaussian variable is named")
    return Law(tuple(names), sp.ImmutableMatrix(sp.diag(*blocks)))


class Expectation(sp.Function):
    """E[·] over a law, which it carries along: E[f] under two laws are two different things."""

    @classmethod
    def over(cls, expr: sp.Expr, law: Law) -> Expectation:
        """E[expr] over the law; over an independent one before it, both are one expectation."""
        names, q = law.variables, sp.Matrix(law.covariance)
        if isinstance(expr, cls):
            before = sp.Matrix([list(row) for row in expr.args[2]])
            if not (set(names) | q.free_symbols) & set(expr.args[1]):
                expr, names = expr.args[0], (*expr.args[1], *names)
                q = sp.diag(before, q)
        return cls(expr, sp.Tuple(*names), sp.Tuple(*(sp.Tuple(*row) for row in q.tolist())))

    def _latex(self, printer, exp=None):
        body = rf"\mathbb{{E}}\left[{printer._print(self.args[0])}\right]"
        return body if exp is None else rf"{body}^{{{exp}}}"

    def _sympystr(self, printer):
        return f"E[{printer._print(self.args[0])}]"

    def _eval_derivative(self, x):
        raise NotImplementedError("the derivative of an expectation: differentiate first")


def mean(expr: sp.Expr, law: Law) -> sp.Expr:
    """E[expr] in closed form, else `Unknown`."""
    # Constants first: expanded with them, a Gaussian would end up inside a denominator.
    outer, expr = expr.as_independent(*law.variables, as_Add=False)
    total = sp.S.Zero
    for term in sp.Add.make_args(sp.expand(_by_steps(expr))):
        constant, body = term.as_independent(*law.variables, as_Add=False)
        total += constant * (_mean_of_term(body, law) if body != 1 else 1)
    return outer * total


def _by_steps(expr: sp.Expr) -> sp.Expr:
    """Kinks by steps, which have derivatives: max(u, 0) = u H(u), |u| = u sign u; H² = H."""
    expr = expr.replace(sp.Abs, lambda a: a * sp.sign(a) if a.is_real else sp.Abs(a))
    expr = expr.replace(sp.Max, lambda *a: _larger(*a))
    expr = expr.replace(sp.Min, lambda *a: -_larger(*(-b for b in a)))
    expr = sp.expand(expr).replace(
        lambda e: isinstance(e, sp.Pow) and isinstance(e.base, sp.Heaviside | sp.sign),
        lambda e: sp.S.One if isinstance(e.base, sp.sign) and e.exp.is_even else e.base,
    )
    return expr.replace(lambda e: isinstance(e, sp.Mul) and _vanishes(e), lambda e: sp.S.Zero)


def _vanishes(product: sp.Mul) -> bool:
    """Whether it contains u δ(u)."""
    at = {d.args[0] for d in product.args if isinstance(d, sp.DiracDelta) and len(d.args) == 1}
    powers = (f.as_base_exp() for f in product.args)
    return any(base in at and exponent.is_positive for base, exponent in powers)


def _larger(*args: sp.Expr) -> sp.Expr:
    a, *rest = sorted(args, key=lambda e: e == 0)  # zero last: u H(u) is the simplest form
    for b in rest:
        a = b + (a - b) * sp.Heaviside(a - b) if b != 0 else a * sp.Heaviside(a)
    return a


def _mean_of_term(body: sp.Expr, law: Law) -> sp.Expr:
    used = [k for k, u in enumerate(law.variables) if body.has(u)]
    law = law.part(used)
    if body.is_polynomial(*law.variables):
        return _moment(body, law)
    if len(used) > 1 and law.independent:  # a product of means, where the factors allow it
        groups = [(f, f.free_symbols & set(law.variables)) for f in sp.Mul.make_args(body)]
        if all(len(names) == 1 for _, names in groups):
            parts = (sp.Mul(*(f for f, names in groups if u in names)) for u in law.variables)
            return sp.Mul(*(mean(part, law.part([k])) for k, part in enumerate(parts)))
    for rule in (_odd, _at_delta, _exponential, _stein, _by_integration):
        value = rule(body, law)
        if value is not None:
            return value
    raise Unknown(f"no closed form for the mean of {body}")


def _moment(body: sp.Expr, law: Law) -> sp.Expr:
    """Isserlis' theorem, by E[u_i g] = Σ_j Σ_ij E[∂_j g]."""
    u, q = law.variables, law.covariance
    if law.independent:
        total = sp.S.Zero
        for powers, factor in sp.Poly(body, *u).terms():
            if not any(k % 2 for k in powers):
                pairs = zip(powers, q.diagonal(), strict=True)
                factor *= sp.Mul(*(sp.factorial2(k - 1) * v ** (k // 2) for k, v in pairs))
                total += factor
        return total
    total = sp.S.Zero
    for powers, factor in sp.Poly(body, *u).terms():
        if not any(powers):
            total += factor
        elif sum(powers) % 2 == 0:
            i = next(k for k, power in enumerate(powers) if power)
            rest = sp.Mul(*(v**k for v, k in zip(u, powers, strict=True))) / u[i]
            slopes = (q[i, j] * rest.diff(u[j]) for j in range(len(u)))
            total += factor * sum((_moment(sp.expand(s), law) for s in slopes if s != 0), sp.S.Zero)
    return sp.expand(total)


def _odd(body: sp.Expr, law: Law) -> sp.Expr | None:
    """Zero, for what changes sign with all variables and grows as a polynomial at most."""
    u = law.variables
    tame = all(isinstance(f, _TAME) and f.args[0].is_real for f in body.atoms(sp.Function))
    powers = (p for p in body.atoms(sp.Pow) if p.has(*u))
    if not tame or any(p.exp.has(*u) or not p.exp.is_nonnegative for p in powers):
        return None
    turned = body.subs({x: -x for x in u}, simultaneous=True)
    return sp.S.Zero if sp.expand(body + turned) == 0 else None


def _at_delta(body: sp.Expr, law: Law) -> sp.Expr | None:
    """E[δ(u) g] = (density of u at 0) · E[g given u = 0]."""
    deltas = [d for d in body.atoms(sp.DiracDelta) if d.args[0] in law.variables]
    if not deltas or len(deltas[0].args) > 1:
        return None
    if (body / deltas[0]).has(sp.Heaviside(deltas[0].args[0])):
        return None  # a jump where the mass is
    u, rest = deltas[0].args[0], body / deltas[0]
    k, q = law.variables.index(u), law.covariance
    others = [i for i in range(len(law.variables)) if i != k]
    density, there = 1 / sp.sqrt(2 * sp.pi * q[k, k]), rest.subs(u, 0)
    if not others:
        return density * there
    column = q.extract(others, [k])
    left = (q.extract(others, others) - column * column.T / q[k, k]).applyfunc(sp.together)
    names = tuple(law.variables[i] for i in others)
    # The conditional variance q - c²/p is a variance, though sympy can't know it.
    return density * _declared(lambda given: mean(there, given), names, left)


def _declared(compute, names: tuple[sp.Symbol, ...], covariance: sp.Matrix) -> sp.Expr:
    """`compute` of the law with these covariances, whose diagonal is known to be positive."""
    stand_in = {q: sp.Dummy("q", positive=True) for q in covariance.diagonal() if not q.is_positive}
    q = covariance.as_mutable()
    for k in range(len(names)):
        q[k, k] = stand_in.get(q[k, k], q[k, k])
    value = compute(Law(names, q.as_immutable()))
    return value.xreplace({dummy: q for q, dummy in stand_in.items()})


def _exponential(body: sp.Expr, law: Law) -> sp.Expr | None:
    """E[g exp(b·z - z·Az/2)] by completing the square: g under the tilted law."""
    u = law.variables
    waves = (sp.sin, sp.cos, sp.sinh, sp.cosh)
    if any(f.has(*u) for f in body.atoms(*waves)):
        return mean(body.rewrite(sp.exp), law)
    factors = [f for f in sp.Mul.make_args(sp.powsimp(body)) if f.has(*u)]
    exponents = [f.exp if isinstance(f, sp.Pow) else f.args[0] for f in factors if _is_exp(f)]
    exponent = sp.expand(sp.Add(*exponents))
    if not exponents or not exponent.is_polynomial(*u):
        return None
    quadratic = sp.Poly(exponent, *u)
    if quadratic.total_degree() > 2:
        return None
    rest = sp.Mul(*(f for f in factors if not _is_exp(f)))
    A = -sp.hessian(exponent, u)
    b = sp.Matrix([exponent.diff(x) for x in u]).subs(dict.fromkeys(u, 0))
    whole = (sp.eye(len(u)) + law.covariance * A).applyfunc(sp.expand)
    harmless = A.is_diagonal() and all(x.is_nonnegative for x in A.diagonal())
    determinant = sp.expand(whole.det())
    if not harmless and not (determinant.is_positive and len(u) == 1):
        raise Unknown(f"the mean of {body} is not known to be finite")
    tilted = (whole.inv() * law.covariance).applyfunc(lambda e: sp.factor(sp.cancel(e)))
    shift = tilted * b
    value = sp.exp(exponent.subs(dict.fromkeys(u, 0)) + sp.expand((b.T * shift)[0] / 2))
    if rest != 1:
        moved = rest.subs(
            dict(zip(u, (x + m for x, m in zip(u, shift, strict=True)), strict=True)),
            simultaneous=True,
        )
        value *= _declared(lambda given: mean(moved, given), u, tilted)
    return value / sp.sqrt(determinant)


def _is_exp(factor: sp.Expr) -> bool:
    return isinstance(factor, sp.exp) or (isinstance(factor, sp.Pow) and factor.base == sp.E)


def _stein(body: sp.Expr, law: Law) -> sp.Expr | None:
    """Polynomials times one error function: E[erf], parity, and E[u g] = Σ_j q_j E[∂_j g]."""
    u = law.variables
    factors = [f for f in sp.Mul.make_args(body) if not f.is_polynomial(*u)]
    if len(factors) != 1 or not isinstance(factors[0], sp.erf):
        return None
    inside = sp.expand(factors[0].args[0])
    if not inside.is_polynomial(*u) or sp.Poly(inside, *u).total_degree() > 1:
        return None
    polynomial = body / factors[0]
    slope = sp.Matrix([inside.diff(x) for x in u])
    at_zero = inside.subs(dict.fromkeys(u, 0))
    if not polynomial.has(*u):
        spread = sp.expand((slope.T * law.covariance * slope)[0])
        return polynomial * sp.erf(at_zero / sp.sqrt(1 + 2 * spread))
    i = next(k for k, x in enumerate(u) if polynomial.has(x))
    rest = body / u[i]
    slopes = ((law.covariance[i, j], rest.diff(u[j])) for j in range(len(u)))
    return sum((q * mean(s, law) for q, s in slopes if q != 0 and s != 0), sp.S.Zero)


def _by_integration(body: sp.Expr, law: Law) -> sp.Expr | None:
    """One variable: the two half-lines, on which |u|, sign u and their kin are known."""
    if len(law.variables) > 1 or body.has(sp.core.function.AppliedUndef, sp.DiracDelta):
        return None
    (u,), q = law.variables, law.covariance[0, 0]
    x = sp.Dummy("x", positive=True)
    density = sp.exp(-(x**2) / (2 * q)) / sp.sqrt(2 * sp.pi * q)
    total = sp.S.Zero
    for half in (body.subs(u, x), body.subs(u, -x)):
        try:
            with within(5):
                integral = sp.integrate(sp.expand(half * density), (x, 0, sp.oo))
        except OutOfTime:
            return None
        if integral.has(sp.Integral, sp.nan, sp.zoo, sp.oo):
            return None
        total += integral
    return total


def verified(expr: sp.Expr, law: Law, value: sp.Expr, equal: Equal, depth: int = 4) -> bool:
    """Whether E[expr] = value, by closed form or by differentiation in a parameter of the law."""
    expr = _by_steps(expr)
    try:
        with within(20):
            closed = mean(expr, law)
    except (Unknown, OutOfTime, NotImplementedError, ValueError, TypeError):
        closed = None
    if closed is not None:
        return equal(closed, value)
    if depth == 0 or not _has_derivatives(expr, law):
        return False
    q = law.covariance
    for i, u in enumerate(law.variables):
        for j, v in enumerate(law.variables[:i]):
            c = q[i, j]
            if _is_parameter(c, (i, j), law, expr) and c.is_real and c.is_positive is None:
                mixed = expr.diff(u).diff(v)
                uncorrelated = Law(law.variables, q.subs(c, 0))
                return verified(mixed, law, value.diff(c), equal, depth - 1) and verified(
                    expr, uncorrelated, value.subs(c, 0), equal, depth - 1
                )
    for i, u in enumerate(law.variables):
        s = q[i, i]
        if _is_parameter(s, (i, i), law, expr) and law.independent:
            heated = expr.diff(u, 2) / 2
            start = sp.limit(value, s, 0, "+")
            others = [k for k in range(len(law.variables)) if k != i]
            cold = expr.subs(u, 0)
            begun = (
                verified(cold, law.part(others), start, equal, depth - 1)
                if others
                else equal(cold, start)
            )
            return begun and verified(heated, law, value.diff(s), equal, depth - 1)
    return False


def _has_derivatives(expr: sp.Expr, law: Law) -> bool:
    """Whether sympy's derivatives are those of distributions: its jumps are steps at zero."""
    names = set(law.variables)
    for part in sp.preorder_traversal(expr):
        if isinstance(part, NOT_SMOOTH) and part.free_symbols & names:
            step = isinstance(part, sp.Heaviside | sp.sign | sp.DiracDelta)
            used = part.free_symbols & names
            if not step or len(used) > 1 or (part.args[0] / min(used, key=str)).has(*used):
                return False
    return True


def _is_parameter(c: sp.Expr, where: tuple[int, int], law: Law, expr: sp.Expr) -> bool:
    """Whether this entry of the covariance is a symbol that occurs nowhere else."""
    if not isinstance(c, sp.Symbol) or expr.has(c):
        return False
    size = len(law.variables)
    others = (law.covariance[i, j] for i in range(size) for j in range(i + 1) if (i, j) != where)
    return not any(e.has(c) for e in others)


def not_integrable(expr: sp.Expr, law: Law) -> sp.Basic | None:
    """What may make the mean of |expr| infinite: a pole that the variables can reach."""
    poles = unproved_denominators(expr, ())
    return next((p for p in poles if p.has(*law.variables)), None)
