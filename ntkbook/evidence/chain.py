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
from ntkbook.algebra import rules
from ntkbook.algebra.hypotheses import (
    Hypothesis,
    Scope,
    circle,
    contradiction,
    kind_of_given,
    nonzero_of,
    scope_of_given,
    union,
    vanishing,
)
from ntkbook.algebra.witnesses import SILENT, Differs, Verdict
from ntkbook.evidence import display
from ntkbook.evidence.display import Status
from ntkbook.evidence.sameness import require_equal, require_written
from ntkbook.notation.reading import sides
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
    """A step that does not follow; the message names the step and the residual.

    Uncaught in a notebook it names a point at which the line fails, and not the residual: that
    would be the answer to an exercise.
    """

    told: str | None = None

    def _render_traceback_(self) -> list[str]:
        return [f"{type(self).__name__}: {self.told or self}"]


@dataclass(frozen=True)
class Draft:
    """What a rule has found of the next line: its right side, and what that rests on."""

    rhs: sp.Basic
    status: Status = "proved"
    scope: Scope | None = None
    more: Iterable[Hypothesis] = ()
    uses: Iterable[Line] = ()
    instead: Iterable[Hypothesis] | None = None


def rule(method: Callable) -> Callable:
    """A rule that refuses with a `DerivationError`, whatever sympy raises or however long it takes.

    The method finds a `Draft`, of which the next line is made.  Arguments that are no expressions,
    and a missing reason, are errors of their own.  Three dots in the place of an expression leave
    the line open: an exercise.
    """
    bare, name = inspect.signature(method), method.__name__
    vars(method)["__signature__"] = bare.replace(parameters=[*bare.parameters.values(), _LATEX])
    method.__annotations__["latex"] = _LATEX.annotation

    @wraps(method)
    def guarded(self, *args, latex=None, **kwargs):
        call = bare.bind(self, *args, **kwargs)
        call.apply_defaults()
        given = call.arguments
        because = given["because"]
        if not isinstance(because, str) or not because.strip():
            raise ValueError("because must say in words why the step holds")
        is_open = any(value is ... for value in given.values())
        for key in () if is_open else _EXPRESSIONS & set(given):
            if key == "new" or not (given[key] is None or isinstance(given[key], Mapping)):
                given[key] = rules.expression(key, given[key])
        told = None
        try:
            with within(SECONDS):
                draft = None if is_open else method(*call.args, **call.kwargs)
                lhs = rules.left_of(name, self.lhs, given)
                if draft is None:
                    return Missing(self, name, because, lhs)
                return self._line(lhs, draft, because, latex)
        except (DerivationError, RecursionError):
            raise
        except rules.Refusal as refusal:
            reason, told = str(refusal), refusal.told
        except OutOfTime:
            reason = f"undecided after {SECONDS:g} s of processor time; take a smaller step"
        except Exception as error:
            reason = f"sympy stops with {type(error).__name__}: {error}"
        refused = DerivationError(f"{self._where(because)}: {reason}")
        refused.told = told and f"{self._where(because)}: {told}"
        raise refused

    return guarded


_LATEX = inspect.Parameter(
    "latex", inspect.Parameter.KEYWORD_ONLY, default=None, annotation="str | None"
)


@dataclass(frozen=True, repr=False, eq=False)
class Line:
    """One line ``lhs = rhs`` and, through `previous`, the proved chain that led to it."""

    label: str
    lhs: Side
    rhs: Side = None
    because: str = "definition"
    claim: str | None = None
    nonzero: tuple[sp.Basic, ...] = ()
    latex: str | None = None
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
        self._require_written()

    # What is known ---------------------------------------------------------------------------

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

    def _line(self, lhs: sp.Basic, draft: Draft, because: str, latex: str | None) -> Self:
        """The next line of the chain: made here and nowhere else, so that it can't be forged."""
        line = object.__new__(type(self))
        used = tuple(draft.uses)
        before = self.rests_on if draft.instead is None else draft.instead
        all_of_them = (draft.status, self.status, *(u.status for u in used))
        weakest = max(all_of_them, key=display.WEAKNESS.index)
        line._set(
            label=self.label,
            lhs=rules.expression("lhs", lhs),
            rhs=rules.expression("rhs", draft.rhs),
            because=because,
            claim=self.claim,
            nonzero=self.nonzero,
            latex=latex,
            status="proved" if weakest == "given" else weakest,
            rests_on=union(before, *(u.rests_on for u in used), draft.more),
            scope=self.scope if draft.scope is None else draft.scope,
            uses=used,
            previous=self,
        )
        line._require_sound()
        line._require_written()
        return line

    def _next(self, old: sp.Basic, new: sp.Basic, numerically: bool = False, **more: Any) -> Draft:
        """The right side `new`, known as `old` so far: once they are proved to be equal."""
        return Draft(new, require_equal(old, new, numerically=numerically), **more)

    @staticmethod
    def _witnessed(found: Verdict, rhs: sp.Basic, status: Status, **more: Any) -> Draft:
        """The right side, as the second witness of its rule allows it."""
        if isinstance(found, Differs):
            raise rules.Refusal(f"the two sides differ: {found.full}", found.told)
        silent = found is SILENT and status == "proved"
        return Draft(rhs, "computed" if silent else status, **more)

    def _require_written(self) -> None:
        """The author's LaTeX says what the line says, where it says it itself."""
        if self.latex is None:
            return
        if not isinstance(self.latex, str):
            raise TypeError(f"latex must be a string, not {self.latex!r}")
        for tex, side in zip(sides(self.latex), (self.lhs, self.rhs), strict=True):
            try:
                with within(SECONDS):
                    if tex is not None:
                        require_written(side, tex, nonzero_of(self))
            except (Exception, OutOfTime) as error:
                reason = str(error) or f"undecided after {SECONDS:g} s"
                raise DerivationError(f"{self._where()}: latex {tex!r}: {reason}") from None

    def _require_sound(self) -> None:
        """The line is defined, its sides match, and what it rests on does not contradict itself."""
        reason = self._unsound()
        if reason:
            raise DerivationError(f"{self._where()}: {reason}")

    def _unsound(self) -> str | None:
        lhs, rhs = self.lhs, self.rhs
        left, right = (getattr(side, "shape", "scalar") for side in (lhs, rhs))
        if left != right:
            return f"the sides have shapes {left} and {right}"
        if lhs.has(sp.nan, sp.zoo) or rhs.has(sp.nan, sp.zoo):
            return "the line is undefined"
        unknown = domains.unproved_denominators(rhs, nonzero_of(self))
        if unknown:
            return (
                f"division by {unknown[0]}, which may be zero (or, for a matrix, singular); "
                "declare the assumption on its symbols or list it in nonzero=(…)"
            )
        two = contradiction(self.rests_on)
        if two:
            said = " and ".join(f"{h.rhs} ({h.label})" for h in two)
            return f"rests on two values of {two[0].lhs}: {said}"
        zero = vanishing(self.rests_on)
        if zero is not None:
            return f"{zero}, taken to be nonzero, is zero"
        around = circle(self.rests_on)
        if around:
            return f"{', '.join(str(h.lhs) for h in around)} are defined in a circle"
        if not domains.is_symbolic_matrix(lhs) and any(
            difference.is_number and sp.simplify(difference).is_nonzero
            for a, b in zip(entries(lhs), entries(rhs), strict=True)
            for difference in [sp.expand(a - b)]
        ):
            return f"{lhs} is not {rhs}: a premise is not true here"
        return None

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
    lhs: sp.Basic

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or not hasattr(self.chain, name):
            raise AttributeError(name)
        raise DerivationError(
            f"{self.chain._where(self.because)}: a line is missing; put it in the place of the "
            "three dots"
        )

    def __repr__(self) -> str:
        # The chain speaks for itself: a page that shows it must have it from the package.
        return f"{self.chain!r}\n{display.gap(self.chain, self.lhs, self.rule, self.because)}"

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        markdown = display.markdown_with_gap(self.chain, self.lhs, self.rule, self.because)
        return {"text/plain": repr(self), "text/markdown": markdown}
