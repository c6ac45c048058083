r"""Derivations that check themselves.

A `Derivation` is a chain of equations ``lhs = rhs``.  Every method adds one line and proves it: by
algebra (`step`), or by a named rule (differentiate, integrate, substitute, …) whose result is
computed by sympy and must equal what the author wrote.  A line that cannot be proved raises
`DerivationError`; it never becomes part of the chain.  In a page the chain is shown as numbered,
aligned equations.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeAlias

import sympy as sp
from sympy.core.function import AppliedUndef

from ntkbook.evidence import display, proof
from ntkbook.evidence.display import Status

DERIVATION_MIME = "application/vnd.ntkbook.derivation+json"

Expr: TypeAlias = sp.Basic | sp.MatrixBase | complex | float  # what sympy takes for one
if TYPE_CHECKING:
    Side: TypeAlias = sp.Basic  # what the sides of a line are, once it is made
else:
    Side = Expr | None  # what may be passed for them


class DerivationError(ValueError):
    """A step that does not follow; the message names the step and the residual."""


@dataclass(frozen=True, repr=False, eq=False)
class Derivation:
    """One line ``lhs = rhs`` and, through `previous`, the proved chain that led to it.

    **Arguments**:

    - `label`: the equation's name, ``"eq-…"``, unique in the book; pages refer to it.
    - `lhs`, `rhs`: the first line.  Without `rhs` the chain starts from the expression `lhs`
      itself.  A first line with two different sides is *given*: a definition or a hypothesis.
    - `because`: the reason shown beside the line.
    - `claim`: the id of the claim that the chain proves, such as ``"C13"``.
    - `nonzero`: scalars known not to vanish and square matrices known to be invertible, where that
      does not follow from the symbols' assumptions.  They are shown as assumptions.

    **Raises**: DerivationError from every method whose line does not follow.

    >>> x, y = sp.symbols("x y", real=True)
    >>> Derivation("eq-square", (x + y) ** 2).step(x**2 + 2 * x * y + y**2, because="expand")
    eq-square: 1 proved
      (x + y)**2
        = x**2 + 2*x*y + y**2   [proved: expand]
    >>> Derivation("eq-wrong", (x + y) ** 2).step(x**2 + y**2, because="wishful")
    Traceback (most recent call last):
    ...
    ntkbook.evidence.derivation.DerivationError: eq-wrong, step 1 (wishful): the two sides...
    """

    label: str
    lhs: Side
    rhs: Side = None
    because: str = "definition"
    claim: str | None = None
    nonzero: tuple[sp.Basic, ...] = ()
    status: Status = field(default="given", kw_only=True)
    assumed: int = field(default=0, kw_only=True)
    previous: Derivation | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"eq-[a-z0-9]+(-[a-z0-9]+)*", self.label):
            raise ValueError(
                f"label must look like 'eq-gradient-flow' (lower case, hyphens), not {self.label!r}"
            )
        lhs = proof.sympify("lhs", self.lhs)
        rhs = lhs if self.rhs is None else proof.sympify("rhs", self.rhs)
        if getattr(lhs, "shape", ()) != getattr(rhs, "shape", ()):
            left, right = (getattr(side, "shape", "scalar") for side in (lhs, rhs))
            raise DerivationError(f"{self._where()}: the sides have shapes {left} and {right}")
        object.__setattr__(self, "lhs", lhs)
        object.__setattr__(self, "rhs", rhs)
        object.__setattr__(self, "nonzero", tuple(self.nonzero))
        unknown = proof.unproved_denominators(rhs, self.nonzero)
        if unknown:
            raise DerivationError(
                f"{self._where()}: division by {unknown[0]}, which may be zero (or, for a matrix, "
                f"singular); declare the assumption on its symbols or list it in nonzero=(…)"
            )

    # Rules -----------------------------------------------------------------------------------

    def step(self, new: Expr, because: str, numerically: bool = False) -> Derivation:
        """The same value, written differently.

        `numerically=True` is for equalities that sympy cannot prove: they are tested at forty
        random points to thirty digits, and the line is marked *checked*.
        """
        return self._extend(self.lhs, self.rhs, new, because, numerically)

    def using(self, facts: Facts, new: Expr, because: str, numerically: bool = False) -> Derivation:
        """Rewrite the right-hand side with known equalities.

        `facts` is another derivation, a mapping ``{a: b}``, an `sp.Eq`, or a list of these.  What
        comes from a derivation is proved; a mapping or an equation counts as given.
        """
        pairs, assumed = _facts(facts)
        rewritten = self.rhs.subs(pairs).doit()
        if rewritten == self.rhs:
            raise DerivationError(f"{self._where(because)}: none of {[a for a, _ in pairs]} occurs")
        return self._extend(self.lhs, rewritten, new, because, numerically, assumed=assumed)

    def substitute(
        self, values: Mapping[sp.Basic, Expr], new: Expr, because: str, numerically: bool = False
    ) -> Derivation:
        """Specialise symbols, on both sides; the values must satisfy the symbols' assumptions."""
        for symbol, value in values.items():
            self._require_admissible(symbol, sp.sympify(value), because)
        lhs, rhs = (side.subs(values).doit() for side in (self.lhs, self.rhs))
        return self._extend(lhs, rhs, new, because, numerically)

    def differentiate(
        self, x: sp.Basic, new: Expr, because: str, numerically: bool = False
    ) -> Derivation:
        """d/dx of both sides."""
        if not self.lhs.has(x):
            raise DerivationError(f"{self._where(because)}: the left side does not depend on {x}")
        lhs = self.lhs.diff(x) if proof.is_matrix(self.lhs) else sp.Derivative(self.lhs, x)
        return self._extend(lhs, self.rhs.diff(x).doit(), new, because, numerically)

    def integrate(
        self,
        limits: tuple[sp.Basic, Expr, Expr],
        new: Expr,
        because: str,
        antiderivative: Expr | None = None,
        numerically: bool = False,
    ) -> Derivation:
        """The integral of both sides over ``limits = (x, a, b)``.

        An `antiderivative` F is proved by differentiation and then used as F(b) − F(a); without one
        sympy integrates.  Either way the result is compared with numerical quadrature, since an
        antiderivative may jump between the limits.
        """
        x, a, b = (sp.sympify(item) for item in limits)
        if antiderivative is None:
            result = sp.integrate(self.rhs, (x, a, b))
            if result.has(sp.Integral):
                raise DerivationError(
                    f"{self._where(because)}: sympy finds no integral; give an antiderivative"
                )
        else:
            primitive = sp.sympify(antiderivative)
            self._require_equal(self.rhs, primitive.diff(x), because, numerically)
            result = proof.value_at(primitive, x, b, "-") - proof.value_at(primitive, x, a, "+")
        lhs: sp.Basic = sp.Integral(self.lhs, (x, a, b))
        if isinstance(self.lhs, sp.Derivative) and self.lhs.args[1:] == (sp.Tuple(x, 1),):
            lhs = self.lhs.expr.subs(x, b) - self.lhs.expr.subs(x, a)
        line = self._extend(lhs, result, new, because, numerically)
        for old, value in zip(proof.entries(self.rhs), proof.entries(line.rhs), strict=True):
            found = proof.counterexample_to_integral(old, x, a, b, value)
            if found:
                raise DerivationError(f"{self._where(because)}: quadrature gives {found}")
        return line

    def limit(self, x: sp.Basic, x0: Expr, new: Expr, because: str, dir: str = "-") -> Derivation:
        """The limit of both sides as x → x0 (from below by default, which is what ∞ means)."""
        result = proof.elementwise(lambda e: sp.limit(e, x, x0, dir), self.rhs)
        lhs = proof.elementwise(lambda e: sp.Limit(e, x, x0, dir), self.lhs)
        return self._extend(lhs, result, new, because)

    def series(
        self, x: sp.Basic, x0: Expr, order: int, new: Expr, because: str, numerically: bool = False
    ) -> Derivation:
        """The expansion of the right-hand side about x0, up to O((x − x0)^order)."""
        polynomial = proof.elementwise(
            lambda e: proof.taylor_polynomial(e, x, sp.sympify(x0), order), self.rhs
        )
        self._require_equal(polynomial, proof.sympify("new", new), because, numerically)
        if not isinstance(self.rhs, sp.MatrixBase):
            polynomial = new = sp.sympify(new) + sp.Order((x - x0) ** order, (x, x0))
        return self._extend(self.lhs, polynomial, new, because, numerically)

    def solve_ode(
        self,
        f: sp.Basic | sp.MatrixBase,
        solution: Expr,
        initial: Mapping[sp.Basic, Expr],
        values: Expr,
        because: str,
    ) -> Derivation:
        """From ``df/dt = rhs`` to ``f = solution``, verified in the equation and at ``{t: t0}``.

        The right-hand side must be continuously differentiable in f: the solution is then unique.
        """
        ((t, t0),) = initial.items()
        self._require_admissible(t, sp.sympify(t0), because)
        if self.lhs.doit() != f.diff(t):
            raise DerivationError(f"{self._where(because)}: the line must read d({f})/d{t} = …")
        slopes = [self.rhs.diff(part) for part in proof.entries(f)]
        if any(proof.unproved_denominators(slope, self.nonzero) for slope in slopes):
            raise DerivationError(f"{self._where(because)}: the solution may not be unique")
        solution, values = proof.sympify("solution", solution), proof.sympify("values", values)
        pairs = list(zip(proof.entries(f), proof.entries(solution), strict=True))
        if solution.has(AppliedUndef) and any(solution.has(a) for a, _ in pairs):
            raise DerivationError(f"{self._where(because)}: the solution still contains {f}")
        self._require_equal(self.rhs.subs(pairs).doit(), solution.diff(t), because, False)
        self._require_equal(values, solution.subs(t, t0), f"{because}, initial value", False)
        return self._extend(f, solution, solution, because)

    def solve_for(
        self, x: sp.Basic, new: Expr, because: str, numerically: bool = False
    ) -> Derivation:
        """From ``lhs = rhs`` to ``x = new``; the solution must be the only one."""
        equation = self.lhs.doit() - self.rhs
        new = proof.sympify("new", new)
        unknown = sp.Dummy("x")  # x may be a function such as f(t), for which sympy has no diff
        slope = sp.simplify(equation.subs(x, unknown).diff(unknown))
        linear = not slope.has(unknown)
        if linear and proof.unproved_denominators(1 / slope, self.nonzero):
            raise DerivationError(f"{self._where(because)}: the factor {slope} of {x} may be zero")
        if not linear and len(sp.solve(equation, x)) != 1:
            raise DerivationError(f"{self._where(because)}: {x} has more than one solution")
        self._require_equal(sp.S.Zero, equation.subs(x, new).doit(), because, numerically)
        return self._extend(x, new, new, because, numerically)

    def matrix(
        self, new: Expr, because: str, left: Expr | None = None, right: Expr | None = None
    ) -> Derivation:
        """An identity between matrices of any size, proved in noncommuting symbols.

        ``left · (new − old) · right`` must expand to zero; `left` and `right`, if given, must be
        listed as invertible in `nonzero`.
        """
        new = sp.sympify(new)
        for side in (left, right):
            if side is not None and side not in self.nonzero:
                raise DerivationError(f"{self._where(because)}: {side} is not declared invertible")
        if not proof.matrix_identity(self.rhs, new, left, right):
            raise DerivationError(
                f"{self._where(because)}: ({new}) − ({self.rhs}) does not expand to zero"
            )
        difference = proof.matrix_counterexample(self.rhs, new)
        if not difference < 1e-10:
            raise DerivationError(
                f"{self._where(because)}: random matrices differ by {difference:.1e} (relative)"
            )
        return replace(self, rhs=new, because=because, status="proved", assumed=0, previous=self)

    def expectation(
        self, variances: Mapping[sp.Basic, Expr], new: Expr, because: str, numerically: bool = False
    ) -> Derivation:
        """E of both sides over independent centred Gaussians ``{u: variance}``."""
        result = proof.elementwise(lambda e: proof.gaussian_expectation(e, variances), self.rhs)
        return self._extend(proof.Expectation(self.lhs), result, new, because, numerically)

    # What is known ---------------------------------------------------------------------------

    @property
    def conclusion(self) -> sp.Eq:
        """The last line, as a sympy equation."""
        return sp.Eq(self.lhs, self.rhs, evaluate=False)

    @property
    def lines(self) -> tuple[Derivation, ...]:
        """The chain, first line first."""
        return (*self.previous.lines, self) if self.previous else (self,)

    def count(self, status: Status) -> int:
        """How many lines are ``"proved"``, ``"checked"`` or (with the facts used) ``"given"``."""
        lines = [line for line in self.lines if line.status == status and not line.is_bare_start]
        assumed = sum(line.assumed for line in self.lines) if status == "given" else 0
        return len(lines) + assumed

    @property
    def is_bare_start(self) -> bool:
        """Whether this is a first line that states no equation, only an expression."""
        return self.previous is None and self.lhs == self.rhs

    # Display ---------------------------------------------------------------------------------

    def __repr__(self) -> str:
        return display.text(self)

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        record: dict[str, object] = {
            "label": self.label,
            "claim": self.claim,
            **{status: self.count(status) for status in display.WORDS},
        }
        return {
            "text/plain": repr(self),
            "text/markdown": display.markdown(self),
            DERIVATION_MIME: record,
        }

    # Checking --------------------------------------------------------------------------------

    def _extend(
        self, lhs, old, new, because: str, numerically: bool = False, assumed: int = 0
    ) -> Derivation:
        new = proof.sympify("new", new)
        self._require_equal(old, new, because, numerically)
        status: Status = "checked" if numerically else "proved"
        return replace(
            self, lhs=lhs, rhs=new, because=because, status=status, assumed=assumed, previous=self
        )

    def _require_equal(self, old, new, because: str, numerically: bool) -> None:
        if not isinstance(because, str) or not because.strip():
            raise ValueError("because must say in words why the step holds")
        where = self._where(because)
        if proof.is_symbolic_matrix(old) or proof.is_symbolic_matrix(new):
            if sp.sympify(old) != new:
                raise DerivationError(f"{where}: matrices of symbolic size need the rule .matrix")
            return
        shapes = [getattr(side, "shape", "scalar") for side in (old, new)]
        if shapes[0] != shapes[1]:
            raise DerivationError(f"{where}: a {shapes[1]} cannot equal a {shapes[0]}")
        if sp.sympify(old).has(sp.nan, sp.zoo) or new.has(sp.nan, sp.zoo):
            raise DerivationError(f"{where}: the line is undefined (nan or complex infinity)")
        orders = [sp.expand(e).getO() if isinstance(e, sp.Expr) else None for e in (old, new)]
        if orders[0] != orders[1]:
            raise DerivationError(f"{where}: the orders {orders[0]} and {orders[1]} differ")
        if orders[0] is not None:
            old, new = old.removeO(), new.removeO()
        points = proof.POINTS_FOR_CHECK if numerically else proof.POINTS_FOR_PROOF
        found = proof.counterexample(old, new, points)
        if isinstance(found, tuple):
            point = ", ".join(f"{s} = {sp.N(v, 6)}" for s, v in found[0].items())
            residual = sp.simplify(sp.expand(new - old))
            raise DerivationError(f"{where}: the two sides differ by {residual}, e.g. at {point}")
        if numerically:
            if found is False:
                raise DerivationError(f"{where}: cannot be evaluated at random points")
            return
        pairs = zip(proof.entries(old), proof.entries(new), strict=True)
        residuals = [b - a for a, b in pairs]
        unproved = [r for r in residuals if r != 0 and not proof.simplifies_to_zero(r)]
        if unproved:
            hint = "; it vanishes at random points: rewrite it, or declare numerically=True"
            raise DerivationError(
                f"{where}: sympy cannot prove {unproved[0]} = 0{hint if found is None else ''}"
            )

    def _require_admissible(self, symbol, value: sp.Expr, because: str) -> None:
        for flag in ("integer", "real", "positive", "negative", "nonnegative", "nonzero"):
            if getattr(symbol, f"is_{flag}", None) and not getattr(value, f"is_{flag}"):
                raise DerivationError(
                    f"{self._where(because)}: {symbol} is declared {flag}, which {value} is not"
                )

    def _where(self, because: str | None = None) -> str:
        number = len(self.lines) - (0 if because else 1)
        return f"{self.label}, step {number} ({because or self.because})"


Facts: TypeAlias = Derivation | sp.Eq | Mapping[sp.Basic, Expr] | Iterable  # of these again


def _facts(facts: Facts) -> tuple[list[tuple[sp.Basic, sp.Basic]], int]:
    """Pairs (known expression, its value) and how many of them are not themselves proved."""
    if isinstance(facts, Derivation):
        pairs = list(zip(proof.entries(facts.lhs), proof.entries(facts.rhs), strict=True))
        return pairs, 0
    if isinstance(facts, sp.Eq):
        return [facts.args], 1
    if isinstance(facts, Mapping):
        return [(sp.sympify(a), sp.sympify(b)) for a, b in facts.items()], len(facts)
    if isinstance(facts, Iterable):
        found = [_facts(fact) for fact in facts]
        return [pair for pairs, _ in found for pair in pairs], sum(n for _, n in found)
    raise TypeError(f"facts must be derivations, equations or a mapping, not {type(facts)}")
