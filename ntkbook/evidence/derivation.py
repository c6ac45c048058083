r"""Derivations that check themselves.

A `Derivation` is a chain of equations ``lhs = rhs``.  Every method adds one line and proves it: by
algebra (`step`), or by a named rule (differentiate, integrate, substitute, …) whose result is
computed by sympy, must equal what the author wrote, and is found again by a second route
(`witnesses`).  A line that cannot be proved raises `DerivationError`; it never becomes part of the
chain.  Each line carries everything that it rests on, also through the derivations that it uses.
In a page the chain is shown as numbered, aligned equations.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import sympy as sp

from ntkbook.algebra import equality, expectations, rules, witnesses
from ntkbook.algebra.hypotheses import Hypothesis, Scope, bound_variables, nonzero_of, rewrite
from ntkbook.evidence import matrices
from ntkbook.evidence.chain import (
    DERIVATION_MIME,
    DerivationError,
    Draft,
    Expr,
    Line,
    Missing,
    rule,
)
from ntkbook.evidence.chain import Side as Side  # in the annotations of the constructor
from ntkbook.evidence.sameness import require_equal
from ntkbook.values import domains
from ntkbook.values.domains import entries
from ntkbook.values.sampling import violated

__all__ = ["DERIVATION_MIME", "Derivation", "DerivationError"]


@dataclass(frozen=True, repr=False, eq=False)
class Derivation(Line):
    """One line ``lhs = rhs`` and, through `previous`, the proved chain that led to it.

    **Arguments**:

    - `label`: the equation's name, ``"eq-…"``, unique in the book; pages refer to it.
    - `lhs`, `rhs`: the first line.  Without `rhs` the chain starts from the expression `lhs`
      itself.  A first line with two different sides is *given*: the definition of a new name, such
      as f(x), for all x; or a premise.
    - `because`: the reason shown beside the line.
    - `claim`: the id of the claim that the chain proves, such as ``"C13"``.
    - `nonzero`: scalars known not to vanish and square matrices known to be invertible, where that
      does not follow from the symbols' assumptions.  They are shown as assumptions.
    - `latex`: how the line is printed, here and in every rule: its right side, or both with ``=``
      between.  It is read, and refused where it does not say what the line says (`reading`).

    **Raises**: DerivationError from every method whose line does not follow.

    Three dots in the place of an expression leave a line to the reader, as an exercise.

    >>> x, y = sp.symbols("x y", real=True)
    >>> Derivation("eq-square", (x + y) ** 2).step(x**2 + 2 * x * y + y**2, because="expand")
    eq-square: 1 proved
      (x + y)**2
        = x**2 + 2*x*y + y**2   [proved: expand]
    >>> Derivation("eq-wrong", (x + y) ** 2).step(x**2 + y**2, because="wishful")
    Traceback (most recent call last):
    ...
    ntkbook.evidence.chain.DerivationError: eq-wrong, step 1 (wishful): the two sides...
    """

    # Rules -----------------------------------------------------------------------------------

    @rule
    def step(self, new: Expr, because: str, numerically: bool = False) -> Next:
        """The same value, written differently.

        `numerically=True` is for equalities that sympy cannot prove: they are tested at forty
        random points to thirty digits, and the line is marked *checked*.
        """
        if new == self.rhs:
            raise rules.Refusal("the step changes nothing")
        return self._next(self.rhs, new, numerically)

    @rule
    def using(self, facts: Facts, new: Expr, because: str, numerically: bool = False) -> Next:
        """Rewrite the right-hand side with known equalities.

        `facts` is another derivation, a mapping ``{a: b}``, an `sp.Eq`, or a list of these.  What
        a derivation rests on is inherited; a mapping or an equation is a premise of its own.
        """
        old, scope, premises, used = self.rhs, self.scope, [], []
        for a, b, source in _facts(facts):
            about = set() if isinstance(a, sp.Symbol) else a.free_symbols
            if scope.taken & ((b.free_symbols - about) | {a}):
                raise rules.Refusal(
                    f"{a} = {b} depends on what was integrated over or differentiated in before"
                )
            old = rewrite(old, a, b, source.scope if source else None)
            scope = scope.holding(rules.held_by(a, b, source, self.lhs))
            if source:
                used.append(source)
            else:
                premises.append(Hypothesis("premise", a, b, self.label))
        if old == self.rhs:
            patterns = [a for a, _, _ in _facts(facts)]
            raise rules.Refusal(
                f"none of {patterns} occurs (under an integral or derivative a fact must be a "
                "derivation that holds for all values of its variable)"
            )
        return self._next(_done(old), new, numerically, scope=scope, more=premises, uses=used)

    @rule
    def substitute(
        self, values: Mapping[sp.Basic, Expr], new: Expr, because: str, numerically: bool = False
    ) -> Next:
        """Specialise symbols for which the line holds in general, on both sides.

        The values must satisfy the symbols' assumptions.  A line that holds at one point only, such
        as x² = 4, is not general in x: rewrite it with `using`, which states a premise.
        """
        pairs = {key: rules.expression("values", value) for key, value in values.items()}
        bound = bound_variables(self.lhs) | bound_variables(self.rhs)
        for key, value in pairs.items():
            if not isinstance(key, sp.Symbol):
                raise rules.Refusal(f"{key} is not a symbol: state {key} = {value} with using(…)")
            flag = violated(key, value)
            if flag:
                raise rules.Refusal(f"{key} is declared {flag}, which {value} is not")
            self._require_general((key,))
            if value.free_symbols & (bound | self.scope.taken) - {key}:
                raise rules.Refusal(
                    f"{value} contains a variable in which a derivative, integral, limit or mean "
                    f"was taken while {key} was held fixed"
                )
        rhs = self.rhs.subs(pairs, simultaneous=True)
        symbols = frozenset().union(*(value.free_symbols for value in pairs.values()))
        moved = [rules.specialised(h, pairs) for h in self.rests_on]
        before = self.lhs.free_symbols | self.rhs.free_symbols
        scope = self.scope.renaming(pairs, symbols, before)
        return self._next(_done(rhs), new, numerically, scope=scope, instead=moved)

    @rule
    def differentiate(
        self,
        x: sp.Symbol,
        new: Expr,
        because: str,
        numerically: bool = False,
        on: tuple[Expr, Expr] | None = None,
    ) -> Next:
        """d/dx of both sides; `on=(a, b)` restricts x to an interval that avoids the kinks."""
        self._require_general((x,), local=True)
        scope, more = rules.restricted(self, x, on)
        kink = domains.kink(self.rhs, x, rules.interval(on))
        if kink is not None:
            raise rules.Refusal(
                f"{kink} need not have a derivative in {x}: give an interval on=(a, b) that avoids "
                "its kinks"
            )
        rules.require_continuum(x, *(() if on is None else map(sp.sympify, on)))
        where, s = rules.inside(x, on)
        old = domains.elementwise(lambda e: e.subs(x, where).diff(s).doit(), self.rhs)
        slope = new.subs(x, where) * where.diff(s)
        status = require_equal(old, slope, numerically=numerically)
        found = witnesses.of_derivative(self.rhs.subs(x, where), slope, s)
        return self._witnessed(found, new, status, scope=scope.taking((x,)), more=more)

    @rule
    def integrate(
        self,
        limits: tuple[sp.Basic, Expr, Expr],
        new: Expr,
        because: str,
        antiderivative: Expr | None = None,
        numerically: bool = False,
    ) -> Next:
        """The integral of both sides over ``limits = (x, a, b)``.

        An `antiderivative` F is proved by differentiation and then used as F(b) − F(a); without one
        sympy integrates.  Either way the result is compared with numerical quadrature, since an
        antiderivative may jump between the limits.
        """
        x, a, b = (sp.sympify(item) for item in limits)
        self._require_general((x,))
        rules.require_continuum(x, a, b)
        rules.require_inside(self, x, a, b)
        if antiderivative is None:
            result = domains.elementwise(lambda e: sp.integrate(e, (x, a, b)), self.rhs)
            if result.has(sp.Integral):
                raise rules.Refusal("sympy finds no integral; give an antiderivative")
        else:
            require_equal(self.rhs, antiderivative.diff(x), numerically=numerically)
            bend = domains.kink(antiderivative, x)
            if bend is not None:
                raise rules.Refusal(f"the antiderivative may jump: {bend}")
            result = rules.value_at(antiderivative, x, b, "-") - rules.value_at(
                antiderivative, x, a, "+"
            )
        status = require_equal(result, new, numerically=numerically)
        found = witnesses.of_integral(self.rhs, new, x, a, b)
        return self._witnessed(found, new, status, scope=self._done_with((x,)))

    @rule
    def limit(self, x: sp.Basic, x0: Expr, new: Expr, because: str, dir: str = "-") -> Next:
        """The limit of both sides as x → x0 (from below by default, which is what ∞ means)."""
        self._require_general((x,))
        x0 = sp.sympify(x0)
        if x0.is_infinite and not x.is_integer:
            rules.require_continuum(x, x0)
        if x0.is_finite and violated(x, x0 + sp.Rational(1 if dir == "+" else -1, 10**6)):
            raise rules.Refusal(
                f"{x} cannot approach {x0} from {'above' if dir == '+' else 'below'}"
            )
        result = domains.elementwise(lambda e: sp.limit(e, x, x0, dir), self.rhs)
        status = require_equal(result, new)
        found = witnesses.of_limit(self.rhs, new, x, x0, dir)
        return self._witnessed(found, new, status, scope=self._done_with((x,)))

    @rule
    def series(
        self, x: sp.Basic, x0: Expr, order: int, new: Expr, because: str, numerically: bool = False
    ) -> Next:
        """The expansion of the right-hand side about x0, up to O((x − x0)^order)."""
        self._require_general((x,))
        x0 = sp.sympify(x0)
        rules.require_continuum(x, x0)
        polynomial = domains.elementwise(
            lambda e: rules.taylor_polynomial(e, x, x0, order), self.rhs
        )
        status = require_equal(polynomial, new, numerically=numerically)
        found = witnesses.of_series(self.rhs, polynomial, x, x0, order)
        written = new
        if not isinstance(self.rhs, sp.MatrixBase):
            written = new + sp.Order((x - x0) ** order, (x, x0))
        return self._witnessed(found, written, status, scope=self.scope.taking((x,)))

    @rule
    def solve_ode(
        self,
        f: sp.Basic | sp.MatrixBase,
        solution: Expr,
        initial: Mapping[sp.Basic, Expr],
        values: Expr,
        because: str,
    ) -> Next:
        """From ``df/dt = rhs`` to ``f = solution``, verified in the equation and at ``{t: t0}``.

        The right-hand side must be continuously differentiable in f: the solution is then unique.
        The initial value ``f(t0) = values`` is a premise.  The solution must be finite and without
        kinks for all t, so that it cannot jump or pass through a pole; where that leans on what is
        in `nonzero`, it holds as far from t0 as this has no zero, and t can't be given a value.
        """
        ((t, t0),) = initial.items()
        t0 = rules.expression("initial", t0)
        f = rules.expression("f", f)
        flag = violated(t, t0)
        if flag:
            raise rules.Refusal(f"{t} is declared {flag}, which {t0} is not")
        if self.lhs.doit() != f.diff(t):
            raise rules.Refusal(f"the line must read d({f})/d{t} = …")
        self._require_general((t,), around=t0)
        rules.require_continuum(t)
        border = rules.require_well_posed(self, f, t, t0, solution, values)
        pairs = list(zip(entries(f), entries(solution), strict=True))
        require_equal(self.rhs.subs(pairs).doit(), solution.diff(t))
        start = solution.subs(t, t0)
        require_equal(values, start, "initial value")
        found = witnesses.of_ode(self.rhs, f, solution, t, t0)
        begin = Hypothesis("initial value", f.subs(t, t0), values, self.label)
        scope = self.scope.taking((t,))
        if border:
            scope = scope.staying(t, t0)
        return self._witnessed(found, solution, "proved", scope=scope, more=[begin])

    @rule
    def induction(
        self,
        f: sp.Basic,
        solution: Expr,
        initial: Mapping[sp.Basic, Expr],
        values: Expr,
        because: str,
    ) -> Next:
        """From ``f(n + 1) = rhs``, with f(n) in it, to ``f(n) = solution`` from ``{n: n0}`` on.

        The base case ``f(n0) = values`` is a premise; the solution must satisfy it and the step.
        """
        ((n, n0),) = initial.items()
        n0 = rules.expression("initial", n0)
        rules.require_recursion(self, f, n, n0, solution)
        self._require_general((n,))
        step = self.rhs.subs(f, solution).doit()
        require_equal(step, solution.subs(n, n + 1), "the step from n to n + 1")
        require_equal(values, solution.subs(n, n0), "the base case")
        found = witnesses.of_recursion(self.rhs, solution, f, n, n0, values)
        base = Hypothesis("initial value", f.subs(n, n0), values, self.label)
        scope = self.scope.taking((n,))
        return self._witnessed(found, solution, "proved", scope=scope, more=[base])

    @rule
    def solve_for(self, x: sp.Basic, new: Expr, because: str, numerically: bool = False) -> Next:
        """From ``lhs = rhs`` to ``x = new``; the solution must be the only one."""
        rules.require_one_solution(self, x)
        flag = violated(x, new) if isinstance(x, sp.Symbol) else None
        if flag and (new.is_number or flag in ("integer", "finite")):
            raise rules.Refusal(f"{x} is declared {flag}, which {new} is not")
        for item in nonzero_of(self):
            if domains.becomes_zero(item.subs(x, new)):
                raise rules.Refusal(f"{item}, taken to be nonzero, is zero there")
        equation = self.lhs - self.rhs
        status = require_equal(sp.S.Zero, equation.subs(x, new).doit(), numerically=numerically)
        return Draft(new, status, scope=Scope(frozenset(), taken=self.scope.taken))

    @rule
    def matrix(
        self, new: Expr, because: str, left: Expr | None = None, right: Expr | None = None
    ) -> Next:
        """An identity between matrices of any size, proved in noncommuting symbols.

        ``left · (new − old) · right`` must expand to zero; `left` and `right`, if given, must be
        listed as invertible in `nonzero`.
        """
        for side in (left, right):
            if side is not None and side not in nonzero_of(self):
                raise rules.Refusal(f"{side} is not declared invertible")
        if new == self.rhs:
            raise rules.Refusal("the step changes nothing")
        if not matrices.matrix_identity(self.rhs, new, left, right):
            raise rules.Refusal(f"({new}) − ({self.rhs}) does not expand to zero")
        difference = matrices.matrix_counterexample(self.rhs, new)
        if not difference < 1e-10:
            raise rules.Refusal(f"random matrices differ by {difference:.1e} (relative)")
        return Draft(new)

    @rule
    def expectation(
        self, law: Mapping[object, object], new: Expr, because: str, numerically: bool = False
    ) -> Next:
        """E of both sides over centred Gaussians.

        `law` is ``{u: variance}``, the variables being independent, or ``{(u, v): covariance
        matrix}``.  The law is shown; what is averaged must be absolutely integrable.
        """
        given = rules.law(law)
        rules.require_mean(self, given)
        found = witnesses.of_mean(self.rhs, new, given)
        if numerically and found is witnesses.SILENT:
            raise rules.Refusal("cannot be evaluated by quadrature")
        draft = self._witnessed(found, new, "checked" if numerically else "proved")
        for old, value in zip(entries(self.rhs), entries(new), strict=True):
            if not numerically and not expectations.verified(old, given, value, equality.equal):
                raise rules.Refusal(f"the mean of {old} is not known, or differs from {value}")
        stated = Hypothesis("law", sp.Tuple(*given.variables), given.covariance, self.label)
        scope = self._done_with(given.variables)
        return replace(draft, scope=scope, more=[stated])


def _done(expr: sp.Basic) -> sp.Basic:
    """Derivatives carried out, and products of matrices; integrals are left to be proved."""
    return expr.doit() if domains.is_matrix(expr) else expr.doit(integrals=False)


if TYPE_CHECKING:
    Next: TypeAlias = Draft  # what a rule finds, and `chain.rule` makes a line of
else:
    Next = Derivation | Missing  # the line, or the place of one that is left to the reader

Facts: TypeAlias = Derivation | sp.Eq | Mapping[sp.Basic, Expr] | Iterable  # of these again


def _facts(facts: Facts) -> list[tuple[sp.Basic, sp.Basic, Derivation | None]]:
    """Known expressions, their values, and the derivation that found them, if one did."""
    if isinstance(facts, Derivation):
        return [(a, b, facts) for a, b in zip(entries(facts.lhs), entries(facts.rhs), strict=True)]
    if isinstance(facts, sp.Eq):
        return [(*facts.args, None)]
    if isinstance(facts, Mapping):
        return [(sp.sympify(a), sp.sympify(b), None) for a, b in facts.items()]
    if isinstance(facts, Iterable) and not isinstance(facts, str):
        return [pair for fact in facts for pair in _facts(fact)]
    raise TypeError(f"facts must be derivations, equations or a mapping, not {type(facts)}")
