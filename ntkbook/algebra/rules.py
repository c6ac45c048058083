"""What the rules of a derivation compute and ask for, before a line is made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import sympy as sp
from sympy.core.function import AppliedUndef

from ntkbook.algebra.expectations import Expectation, Law, law_of, not_integrable
from ntkbook.algebra.hypotheses import Hypothesis, Scope, Statement, nonzero_of
from ntkbook.values import domains
from ntkbook.values.domains import entries
from ntkbook.values.sampling import violated


class Given(Statement, Protocol):
    """A line that may be used as a fact."""

    @property
    def status(self) -> str: ...


class Refusal(Exception):
    """Why a rule does not apply; the derivation adds where.

    `told` is what a reader is told who looks for the line: it does not say what is right.
    """

    def __init__(self, reason: str, told: str | None = None) -> None:
        super().__init__(reason)
        self.told = told


def expression(name: str, value: object) -> sp.Basic:
    """`value` as a sympy expression or immutable explicit matrix, else a `TypeError`."""
    try:
        expr = sp.sympify(value)
    except (sp.SympifyError, TypeError) as error:
        raise TypeError(f"{name} must be a sympy expression or matrix, not {value!r}") from error
    if isinstance(expr, bool) or not isinstance(expr, sp.Expr | sp.MatrixBase):
        raise TypeError(f"{name} must be a sympy expression or matrix, not {value!r}")
    return sp.ImmutableMatrix(expr) if isinstance(expr, sp.MatrixBase) else expr


# Scope -----------------------------------------------------------------------------------


def held_by(a: sp.Basic, b: sp.Basic, source: Given | None, lhs: sp.Basic) -> set[sp.Basic]:
    """The symbols that the fact a = b holds to one value.

    A new name a for b holds none, unless the left side knows it already; nor does a statement
    about a function, for all its arguments.  What a derived fact was derived under it keeps.
    """
    both = {s for s in a.free_symbols | b.free_symbols if isinstance(s, sp.Symbol)}
    if source is not None:
        named = isinstance(a, sp.Symbol) and source.rests_on[:1] and not lhs.has(a)
        if named and source.status == "given" and source.rests_on[0].kind == "definition":
            return set()
        premises = (h for h in source.rests_on if h.kind == "premise")
        under = {s for h in premises for s in h.lhs.free_symbols | h.rhs.free_symbols}
        return {s for s in both | under if not source.scope.covers((s,))} | source.scope.all_but
    if isinstance(a, sp.Symbol):
        return both if lhs.has(a) else set()
    function = a.expr if isinstance(a, sp.Derivative) else a
    if isinstance(function, AppliedUndef) and set(function.args) <= b.free_symbols | b.atoms(
        AppliedUndef
    ):
        return set()
    return both


def interval(on: tuple[object, object] | None) -> sp.Interval | None:
    """The open interval that an author declares."""
    return None if on is None else sp.Interval.open(*(sp.sympify(end) for end in on))


def restricted(
    line: Statement, x: sp.Symbol, on: tuple[object, object] | None
) -> tuple[Scope, list[Hypothesis]]:
    """The scope on an interval of x, which is a premise, and that premise."""
    if on is None:
        return line.scope, []
    low, high = (expression("on", end) for end in on)
    premise = Hypothesis("premise", x, sp.Interval.open(low, high), line.label)
    return line.scope.holding((x,)), [premise]


def inside(x: sp.Symbol, on: tuple[object, object] | None) -> tuple[sp.Expr, sp.Symbol]:
    """x as a function of a positive symbol that runs through the interval, and that symbol."""
    if on is None:
        return x, x
    low, high = (sp.sympify(end) for end in on)
    s = sp.Dummy(x.name, positive=True)
    if high is sp.oo:
        return low + s, s
    return (high - s if low is -sp.oo else low + (high - low) / (1 + s)), s


def specialised(h: Hypothesis, pairs: Mapping[sp.Basic, sp.Basic]) -> Hypothesis:
    """The hypothesis once symbols have values: what is nonzero must stay so."""
    if h.kind == "definition":
        return h
    lhs = h.lhs if h.kind == "law" else h.lhs.subs(pairs, simultaneous=True)
    rhs = h.rhs.subs(pairs, simultaneous=True)
    if h.kind == "nonzero" and domains.becomes_zero(lhs):
        raise Refusal(f"{h.lhs}, taken to be nonzero, would be zero")
    if h.kind == "law":
        law({tuple(lhs): rhs} if len(lhs) > 1 else {lhs[0]: rhs[0, 0]})  # it must still be one
    return Hypothesis(h.kind, lhs, rhs, h.label)


def require_continuum(x: sp.Symbol, *points: sp.Expr) -> None:
    """x may vary continuously, up to these points."""
    if x.is_integer:
        raise Refusal(f"{x} is declared an integer: it does not vary continuously")
    for point in points:
        if point.is_infinite:
            beyond = x.is_nonnegative if point is -sp.oo else x.is_nonpositive
            if beyond or not x.is_real:
                raise Refusal(f"{x} cannot go to {point}")
        elif point.is_number and all(
            violated(x, point + step)
            for step in (sp.S.Zero, sp.Rational(1, 10**6), -sp.Rational(1, 10**6))
        ):
            raise Refusal(f"{x} is declared {violated(x, point)}, which {point} is not")


# Calculus --------------------------------------------------------------------------------


def left_of(rule: str, lhs: sp.Basic, given: Mapping[str, Any]) -> sp.Basic:
    """The left side of the line that a rule makes, by what the rule was given."""
    if rule in ("solve_ode", "induction", "solve_for"):
        return given["x" if rule == "solve_for" else "f"]
    if rule == "substitute":
        return lhs.subs(given["values"], simultaneous=True)
    if rule == "differentiate":
        x = given["x"]
        return lhs.diff(x) if domains.is_matrix(lhs) else sp.Derivative(lhs, x)
    if rule == "integrate":
        return integral_of(lhs, *map(sp.sympify, given["limits"]))
    if rule == "limit":
        x, x0, dir = given["x"], sp.sympify(given["x0"]), given["dir"]
        return domains.elementwise(lambda e: sp.Limit(e, x, x0, dir), lhs)
    if rule == "expectation":
        over = law(given["law"])
        return domains.elementwise(lambda e: Expectation.over(e, over), lhs)
    return lhs


def integral_of(lhs: sp.Basic, x: sp.Symbol, a: sp.Expr, b: sp.Expr) -> sp.Basic:
    """∫ lhs dx: for a derivative in x, the difference of what is differentiated."""
    whole = isinstance(lhs, sp.Derivative) and lhs.args[1:] == (sp.Tuple(x, 1),)
    if whole and a.is_finite is not False and b.is_finite is not False:
        return lhs.expr.subs(x, b) - lhs.expr.subs(x, a)
    return domains.elementwise(lambda e: sp.Integral(e, (x, a, b)), lhs)


def require_inside(line: Statement, x: sp.Symbol, a: sp.Expr, b: sp.Expr) -> None:
    """No declared-nonzero scalar may vanish on the way from a to b."""
    if (a.free_symbols | b.free_symbols) & {x}:
        raise Refusal(f"a limit of the integral contains {x} itself")
    real, way = sp.Dummy("x", real=True), None
    if a.is_nonnegative and b.is_nonnegative:
        way = sp.Dummy("x", positive=True)
    elif a.is_nonpositive and b.is_nonpositive:
        way = sp.Dummy("x", negative=True)
    path = sp.Interval.open(a, b) if a.is_number and b.is_number else sp.S.Reals
    for item in nonzero_of(line):
        if item.has(x) and not domains.is_matrix(item):
            if way is not None and item.subs(x, way).is_nonzero:
                continue
            if sp.solveset(item.subs(x, real), real, path) is not sp.S.EmptySet:
                raise Refusal(
                    f"{item}, taken to be nonzero, may be zero for an {x} between {a} and {b}"
                )


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
    return domains.elementwise(lambda e: sp.limit(e, x, x0, dir), expr)


# Equations -------------------------------------------------------------------------------


def require_well_posed(
    line: Statement,
    f: sp.Basic,
    t: sp.Symbol,
    t0: sp.Basic,
    solution: sp.Basic,
    values: sp.Basic,
) -> bool:
    """An equation of first order with one solution, and a solution that stays in one piece.

    Returns whether something that is taken to be nonzero may vanish at another t than t0.
    """
    parts = entries(f)
    for derivative in line.rhs.atoms(sp.Derivative):
        if any(derivative.has(part) and derivative not in parts for part in parts):
            raise Refusal(f"the right-hand side contains {derivative}: not of first order in {f}")
    if values.has(t):
        raise Refusal(f"the initial value contains {t}")
    if any(solution.has(part) for part in parts):
        raise Refusal(f"the solution still contains {f}")
    slopes = [line.rhs.diff(part) for part in parts]
    nonzero = nonzero_of(line)
    bends = [domains.kink(line.rhs, part) for part in parts]
    if any(bends) or any(domains.unproved_denominators(slope, nonzero) for slope in slopes):
        raise Refusal("the solution may not be unique")
    border = False
    pairs = dict(zip(parts, entries(solution), strict=True))
    for item in nonzero:
        if item.has(t, *parts):
            along = item.subs(pairs)
            if domains.becomes_zero(along.subs(t, t0)):
                raise Refusal(f"{item}, taken to be nonzero, is zero at the start")
            border = border or not (along.is_positive or along.is_negative)
    for side, words in ((solution, "the solution"), (line.rhs, "the right-hand side")):
        bend = domains.kink(side, t)
        if bend is not None:
            raise Refusal(f"{words} may jump or bend in {t}, by {bend}")
    return border


def require_recursion(
    line: Statement, f: sp.Basic, n: sp.Basic, n0: sp.Basic, solution: sp.Basic
) -> None:
    """A recursion of first order over the whole numbers, from n0 on."""
    if not isinstance(n, sp.Symbol) or not n.is_integer:
        raise Refusal(f"{n} must be declared an integer")
    if violated(n, n0):
        raise Refusal(f"{n} cannot be {n0}: it is declared {violated(n, n0)}")
    if not n0.is_Integer or not violated(n, n0 - 1):
        raise Refusal(f"{n} may lie below {n0}: declare it so that {n0} is its first value")
    if not isinstance(f, AppliedUndef) or f.args != (n,):
        raise Refusal(f"{f} is not a function of {n} alone")
    if line.lhs != f.subs(n, n + 1):
        raise Refusal(f"the line must read {f.subs(n, n + 1)} = …")
    others = {g for g in line.rhs.atoms(AppliedUndef) if g.func == f.func and g != f}
    if others or solution.has(f.func):
        raise Refusal(f"only {f} may stand on the right, and not in the solution")


def require_one_solution(line: Statement, x: sp.Basic) -> None:
    """That the line determines x: linear in it with a nonzero factor, or strictly monotonic."""
    if domains.is_matrix(line.lhs):
        raise Refusal("solve_for takes a scalar equation")
    equation = line.lhs - line.rhs
    if any(op.has(x) for op in equation.atoms(sp.Derivative, sp.Integral, sp.Limit, sp.Sum)):
        raise Refusal(f"{x} stands under a derivative, an integral, a limit or a sum")
    if not equation.has(x):
        raise Refusal(f"the equation does not contain {x}")
    # x may be a function such as f(t), for which sympy has no derivative.
    unknown = sp.Dummy("x", **{k: v for k, v in x.assumptions0.items() if v is not None})
    equation = equation.subs(x, unknown)
    bend = domains.kink(equation, unknown)
    if bend is not None:
        raise Refusal(f"{bend} may jump or bend")
    slope = sp.simplify(equation.diff(unknown))
    nonzero = nonzero_of(line)
    if slope == 0:
        raise Refusal(f"the equation does not depend on {x}")
    if not slope.has(unknown):
        if domains.unproved_denominators(1 / slope, nonzero):
            raise Refusal(f"the factor {slope} of {x} may be zero")
        return
    whole = not domains.unproved_denominators(equation, ()) and x.is_nonzero is not True
    whole = whole or bool(x.is_positive or x.is_negative)
    if x.is_real and whole and (slope.is_positive or slope.is_negative):
        return
    domain = sp.S.Complexes
    for flag, values in (
        ("positive", sp.Interval.open(0, sp.oo)),
        ("negative", sp.Interval.open(-sp.oo, 0)),
        ("real", sp.S.Reals),
    ):
        if getattr(x, f"is_{flag}") and domain is sp.S.Complexes:
            domain = values
    found = sp.solveset(equation, unknown, domain)
    if not isinstance(found, sp.FiniteSet) or len(found) != 1:
        raise Refusal(f"{x} may have more than one solution, or none")


# Means -----------------------------------------------------------------------------------


def law(variables: Mapping[object, object]) -> Law:
    """The law that an author declares, or why it is none."""
    try:
        return law_of(variables)
    except ValueError as error:
        raise Refusal(str(error)) from None


def require_mean(line: Statement, given: Law) -> None:
    """The mean exists, and the line may be averaged: it holds for all values of the variables."""
    for u in given.variables:
        if line.lhs.has(u) and not line.scope.covers((u,)):
            raise Refusal(f"the line holds for one value of {u}, not for all")
        if u in line.scope.all_but:
            raise Refusal(f"{u} was given one value before")
    if not line.rhs.free_symbols & set(given.variables):
        raise Refusal(f"none of {given.variables} occurs")
    names = {s for s in line.lhs.free_symbols if s not in line.rhs.free_symbols}
    depends = line.lhs.has(*given.variables) or names or line.lhs.has(AppliedUndef)
    if not depends:
        raise Refusal("the left side is not a random variable")
    for entry in entries(line.rhs):
        pole = not_integrable(entry, given)
        if pole is not None:
            raise Refusal(f"the mean is not absolutely convergent where {pole} is zero")
