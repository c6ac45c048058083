"""One line of a derivation: what it says, what it rests on, and how the next one is made.

The rules are in `derivation`; here is what all of them share, so that no line is made without the
checks below.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import wraps
from types import EllipsisType
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import sympy as sp

from ntkbook._base.limits import OutOfTime, within
from ntkbook.algebra import equality, rules
from ntkbook.algebra.hypotheses import (
    Hypothesis,
    Scope,
    circle,
    contradiction,
    kind_of_given,
    scope_of_given,
    union,
)
from ntkbook.algebra.witnesses import SILENT, Verdict
from ntkbook.evidence import display
from ntkbook.evidence.display import Status
from ntkbook.values import domains
from ntkbook.values.domains import entries

DERIVATION_MIME = "application/vnd.ntkbook.derivation+json"
SECONDS = 60.0  # of processor time, for one line

if TYPE_CHECKING:
    Expr: TypeAlias = Any  # inside a rule, an expression of sympy
    Side: TypeAlias = sp.Basic  # what the sides of a line are, once it is made
else:
    # What sympy takes for one; three dots for one that is missing.
    Expr = sp.Basic | sp.MatrixBase | complex | float | EllipsisType
    Side = Expr | None  # what may be passed for them

_EXPRESSIONS = {"new", "solution", "values", "antiderivative", "left", "right"}  # arguments


class DerivationError(ValueError):
    """A step that does not follow; the message names the step and the residual."""


def rule(method: Callable) -> Callable:
    """A rule that refuses with a `DerivationError`, whatever sympy raises or however long it takes.

    Arguments that are no expressions, and a missing reason, are errors of their own.  Three dots in
    the place of an expression leave the line open: an exercise.
    """
    parameters = inspect.signature(method)

    @wraps(method)
    def guarded(self, *args, **kwargs):
        call = parameters.bind(self, *args, **kwargs)
        because = call.arguments["because"]
        if not isinstance(because, str) or not because.strip():
            raise ValueError("because must say in words why the step holds")
        if any(value is ... for value in call.arguments.values()):
            solved = call.arguments.get(
                {"solve_ode": "f", "solve_for": "x"}.get(method.__name__, "")
            )
            return Missing(self, method.__name__, because, solved)
        for name in _EXPRESSIONS & set(call.arguments):
            value = call.arguments.get(name)
            if name == "new" or not (value is None or isinstance(value, Mapping)):
                call.arguments[name] = rules.expression(name, value)
        try:
            with within(SECONDS):
                return method(*call.args, **call.kwargs)
        except (DerivationError, RecursionError):
            raise
        except rules.Refusal as refusal:
            raise DerivationError(f"{self._where(because)}: {refusal}") from None
        except OutOfTime:
            raise DerivationError(
                f"{self._where(because)}: undecided after {SECONDS:g} s of processor time; "
                "take a smaller step"
            ) from None
        except Exception as error:
            raise DerivationError(
                f"{self._where(because)}: sympy stops with {type(error).__name__}: {error}"
            ) from error

    return guarded


@dataclass(frozen=True, repr=False, eq=False)
class Line:
    """One line ``lhs = rhs`` and, through `previous`, the proved chain that led to it."""

    label: str
    lhs: Side
    rhs: Side = None
    because: str = "definition"
    claim: str | None = None
    nonzero: tuple[sp.Basic, ...] = ()
    status: Status = field(default="given", init=False)
    rests_on: tuple[Hypothesis, ...] = field(default=(), init=False)
    scope: Scope = field(default=Scope(), init=False)
    uses: tuple[Self, ...] = field(default=(), init=False)
    previous: Self | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"eq-[a-z0-9]+(-[a-z0-9]+)*", self.label):
            raise ValueError(
                f"label must look like 'eq-gradient-flow' (lower case, hyphens), not {self.label!r}"
            )
        lhs = rules.expression("lhs", self.lhs)
        rhs = lhs if self.rhs is None else rules.expression("rhs", self.rhs)
        nonzero = tuple(rules.expression("nonzero", item) for item in self.nonzero)
        self._set(lhs=lhs, rhs=rhs, nonzero=nonzero)
        for item in nonzero:
            if domains.becomes_zero(item):
                raise DerivationError(f"{self._where()}: {item} is zero, and listed in nonzero")
        stated = [Hypothesis("nonzero", item, item, self.label) for item in nonzero]
        if lhs != rhs:
            kind = kind_of_given(lhs, rhs)
            stated.insert(0, Hypothesis(kind, lhs, rhs, self.label))
        self._set(rests_on=tuple(stated), scope=scope_of_given(lhs, rhs))
        self._require_sound()

    # What is known ---------------------------------------------------------------------------

    @property
    def conclusion(self) -> sp.Eq:
        """The last line, as a sympy equation."""
        return sp.Eq(self.lhs, self.rhs, evaluate=False)

    @property
    def lines(self) -> tuple[Self, ...]:
        """The chain, first line first."""
        return (*self.previous.lines, self) if self.previous else (self,)

    def count(self, status: Status) -> int:
        """How many lines are ``"proved"``, ``"computed"``, ``"checked"``; what is ``"given"``.

        What is given are all hypotheses that the last line rests on, but for those that something
        is nonzero.
        """
        if status == "given":
            return sum(h.kind != "nonzero" for h in self.rests_on)
        return sum(line.status == status for line in self.lines)

    @property
    def is_bare_start(self) -> bool:
        """Whether this is a first line that states no equation, only an expression."""
        return self.previous is None and self.lhs == self.rhs

    # Display ---------------------------------------------------------------------------------

    def __repr__(self) -> str:
        return display.text(self)

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        return {
            "text/plain": repr(self),
            "text/markdown": display.markdown(self),
            DERIVATION_MIME: display.record(self),
        }

    # Checking --------------------------------------------------------------------------------

    def _set(self, **values: object) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def _line(
        self,
        lhs: sp.Basic,
        rhs: sp.Basic,
        because: str,
        status: Status,
        scope: Scope | None = None,
        more: Iterable[Hypothesis] = (),
        uses: Iterable[Self] = (),
        instead: Iterable[Hypothesis] | None = None,
    ) -> Self:
        """The next line of the chain: made here and nowhere else, so that it can't be forged."""
        line = object.__new__(type(self))
        used = tuple(uses)
        before = self.rests_on if instead is None else instead
        weakest = max((status, self.status, *(u.status for u in used)), key=display.WEAKNESS.index)
        line._set(
            label=self.label,
            lhs=rules.expression("lhs", lhs),
            rhs=rules.expression("rhs", rhs),
            because=because,
            claim=self.claim,
            nonzero=self.nonzero,
            status="proved" if weakest == "given" else weakest,
            rests_on=union(before, *(u.rests_on for u in used), more),
            scope=self.scope if scope is None else scope,
            uses=used,
            previous=self,
        )
        line._require_sound()
        return line

    def _next(
        self,
        lhs: sp.Basic,
        old: sp.Basic,
        new: sp.Basic,
        because: str,
        numerically: bool = False,
        **more: Any,
    ) -> Self:
        """The line ``lhs = new``, given that ``lhs = old``: once they are proved to be equal."""
        status = self._require_equal(old, new, numerically=numerically)
        return self._line(lhs, new, because, status, **more)

    def _witnessed(
        self,
        found: Verdict,
        lhs: sp.Basic,
        rhs: sp.Basic,
        because: str,
        status: Status,
        **more: Any,
    ) -> Self:
        """The line, as the second witness of its rule allows it."""
        if isinstance(found, str):
            raise rules.Refusal(f"the two sides differ: {found}")
        if found is SILENT and status == "proved":
            status = "computed"
        return self._line(lhs, rhs, because, status, **more)

    def _require_sound(self) -> None:
        """The line is defined, its sides match, and what it rests on does not contradict itself."""
        lhs, rhs = self.lhs, self.rhs
        if getattr(lhs, "shape", ()) != getattr(rhs, "shape", ()):
            left, right = (getattr(side, "shape", "scalar") for side in (lhs, rhs))
            raise DerivationError(f"{self._where()}: the sides have shapes {left} and {right}")
        if lhs.has(sp.nan, sp.zoo) or rhs.has(sp.nan, sp.zoo):
            raise DerivationError(f"{self._where()}: the line is undefined")
        unknown = domains.unproved_denominators(rhs, self._nonzero())
        if unknown:
            raise DerivationError(
                f"{self._where()}: division by {unknown[0]}, which may be zero (or, for a matrix, "
                f"singular); declare the assumption on its symbols or list it in nonzero=(…)"
            )
        if any(
            a.is_number and b.is_number and sp.simplify(a - b).is_nonzero
            for a, b in zip(entries(lhs), entries(rhs), strict=True)
            if isinstance(a, sp.Expr) and isinstance(b, sp.Expr)
        ):
            raise DerivationError(
                f"{self._where()}: {lhs} is not {rhs}: a premise is not true here"
            )
        two = contradiction(self.rests_on)
        if two:
            a, b = two
            raise DerivationError(
                f"{self._where()}: rests on two values of {a.lhs}: {a.rhs} ({a.label}) and {b.rhs} "
                f"({b.label})"
            )
        around = circle(self.rests_on)
        if around:
            names = ", ".join(str(h.lhs) for h in around)
            raise DerivationError(f"{self._where()}: {names} are defined in a circle")

    def _done_with(self, symbols: Iterable[sp.Basic]) -> Scope:
        """The scope once a limit, an integral or a mean has removed these symbols."""
        return self.scope.holding(symbols).taking(symbols)

    def _require_general(
        self, symbols: Iterable[sp.Basic], local: bool = False, around: sp.Basic | None = None
    ) -> None:
        """The line holds for all values of these symbols, and its left side depends on them.

        `local` is for what asks for a neighbourhood only, `around` for what starts at that value.
        """
        for x in symbols:
            if not isinstance(x, sp.Symbol):
                raise rules.Refusal(f"{x} is not a symbol")
            stays = [x0 for s, x0 in self.scope.around if s == x]
            if stays and not local and stays != [around]:
                raise rules.Refusal(
                    f"the line holds around {x} = {stays[0]} only, as far as what was taken to be "
                    "nonzero has no zero"
                )
            if self.scope.covers((x,)):
                continue
            if not self.lhs.has(x):
                raise rules.Refusal(f"the left side does not depend on {x}")
            raise rules.Refusal(
                f"the line holds for one value of {x}, not for all: it is a condition. Define a "
                f"function of {x}, or state what is known of {x} with using(…)"
            )

    @staticmethod
    def _require_equal(old, new, what: str = "", numerically: bool = False) -> Status:
        """Whether two expressions are proved, computed or checked to be equal, else a refusal."""
        if domains.is_symbolic_matrix(old) or domains.is_symbolic_matrix(new):
            if sp.sympify(old) != new:
                raise rules.Refusal("matrices of symbolic size need the rule .matrix")
            return "proved"
        shapes = [getattr(side, "shape", "scalar") for side in (old, new)]
        if shapes[0] != shapes[1]:
            raise rules.Refusal(f"a {shapes[1]} cannot equal a {shapes[0]}")
        if sp.sympify(old).has(sp.nan, sp.zoo) or new.has(sp.nan, sp.zoo):
            raise rules.Refusal("the line is undefined (nan or complex infinity)")
        orders = [sp.expand(e).getO() if isinstance(e, sp.Expr) else None for e in (old, new)]
        if orders[0] != orders[1]:
            raise rules.Refusal(f"the orders {orders[0]} and {orders[1]} differ")
        if orders[0] is not None:
            old, new = old.removeO(), new.removeO()
        verdict = equality.decide(old, new, numerically)
        if verdict.refusal:
            raise rules.Refusal(f"{what}: {verdict.refusal}" if what else verdict.refusal)
        return verdict.status

    def _nonzero(self) -> tuple[sp.Basic, ...]:
        return tuple(h.lhs for h in self.rests_on if h.kind == "nonzero")

    def _where(self, because: str | None = None) -> str:
        number = len(self.lines) - (0 if because else 1)
        return f"{self.label}, step {number} ({because or self.because})"


@dataclass(frozen=True, repr=False, eq=False)
class Missing:
    """A derivation whose next line is left to its reader: ``...`` stands where it belongs.

    Nothing follows from it before the line is there.  Displays like a derivation.
    """

    chain: Line
    rule: str
    because: str
    solved: sp.Basic | None = None  # what the missing line is an equation for, if not for lhs

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or not hasattr(self.chain, name):
            raise AttributeError(name)
        raise DerivationError(
            f"{self.chain._where(self.because)}: a line is missing; put it in the place of the "
            "three dots"
        )

    def __repr__(self) -> str:
        return display.text_with_gap(self.chain, self.rule, self.because, self.solved)

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        markdown = display.markdown_with_gap(self.chain, self.rule, self.because, self.solved)
        return {"text/plain": repr(self), "text/markdown": markdown}
