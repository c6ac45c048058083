"""What a line rests on, and for which values it holds.

A *definition* gives a new name its meaning; a *premise* is anything else that was not proved: an
equation, a fact, an initial value, the law of a mean, a symbol taken to be nonzero.  A line that
holds for all values of x may be differentiated in x; one that holds at one point may not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import sympy as sp
from sympy.core.function import AppliedUndef

from ntkbook.algebra.expectations import Expectation
from ntkbook.values.domains import becomes_zero, entries, is_matrix

Kind = Literal["definition", "premise", "initial value", "law", "nonzero"]


@dataclass(frozen=True)
class Hypothesis:
    """One thing that was not proved: its kind, what it says, and the derivation that states it."""

    kind: Kind
    lhs: sp.Basic
    rhs: sp.Basic
    label: str


@dataclass(frozen=True)
class Scope:
    """For which values a line holds.

    **Fields**: `all_but`, the symbols that are held to one value; `only`, the symbols for all of
    whose values the line was stated, None if for all symbols; `taken`, those in which a derivative,
    an integral, a limit or a mean was taken, so that no parameter may depend on them afterwards;
    `around`, a symbol and a value near which it stays, in an interval that is not known.
    """

    only: frozenset[sp.Basic] | None = None
    all_but: frozenset[sp.Basic] = frozenset()
    taken: frozenset[sp.Basic] = frozenset()
    around: frozenset[tuple[sp.Basic, sp.Basic]] = frozenset()

    def covers(self, symbols: Iterable[sp.Basic]) -> bool:
        """Whether the line holds for all values of these symbols."""
        symbols = frozenset(symbols)
        return not symbols & self.all_but and (self.only is None or symbols <= self.only)

    def holding(self, symbols: Iterable[sp.Basic]) -> Scope:
        """The scope once these symbols have one value."""
        return replace(self, all_but=self.all_but | frozenset(symbols))

    def taking(self, symbols: Iterable[sp.Basic]) -> Scope:
        """The scope after an operation in these symbols."""
        return replace(self, taken=self.taken | frozenset(symbols))

    def staying(self, x: sp.Basic, x0: sp.Basic) -> Scope:
        """The scope on an interval around x0 that ends where something becomes zero."""
        return replace(self, around=self.around | {(x, x0)})

    def renaming(
        self,
        keys: Iterable[sp.Basic],
        symbols: Iterable[sp.Basic],
        parameters: Iterable[sp.Basic],
    ) -> Scope:
        """The scope once these symbols stand where the keys stood."""
        symbols = frozenset(symbols)
        # A parameter that was free before is one value of it, not all: f(x) = xy at x = y.
        held = {s for s in symbols if not self.covers((s,)) and s in parameters}
        only = None if self.only is None else (self.only - frozenset(keys)) | symbols
        return replace(self, only=only, all_but=self.all_but | held)


class Statement(Protocol):
    """What is read of a line: a `Derivation` is one."""

    @property
    def label(self) -> str: ...
    @property
    def lhs(self) -> sp.Basic: ...
    @property
    def rhs(self) -> sp.Basic: ...
    @property
    def scope(self) -> Scope: ...
    @property
    def rests_on(self) -> tuple[Hypothesis, ...]: ...


def nonzero_of(line: Statement) -> tuple[sp.Basic, ...]:
    """What a line takes to be nonzero, or invertible."""
    return tuple(h.lhs for h in line.rests_on if h.kind == "nonzero")


def scope_of_given(lhs: sp.Basic, rhs: sp.Basic) -> Scope:
    """A start holds for everything; an equation for the arguments of the functions on its left."""
    if lhs == rhs:
        return Scope()
    applied = {f for e in entries(lhs) for f in e.atoms(AppliedUndef)}
    return Scope(only=frozenset(s for f in applied for s in f.free_symbols))


def kind_of_given(lhs: sp.Basic, rhs: sp.Basic) -> Kind:
    """Whether ``lhs = rhs`` can be read as the definition of a new name."""
    names = [name_of(e) for e in entries(lhs)]
    defines = None not in names and len(set(names)) == len(names)
    if defines and not any(_mentions(rhs, name) for name in names):
        return "definition"
    return "premise"


def name_of(expr: sp.Basic) -> sp.Basic | None:
    """The name that an equation with this left side may define: y, or f for f(x, t)."""
    if isinstance(expr, sp.Symbol | sp.MatrixSymbol):
        return expr
    distinct = len(set(expr.args)) == len(expr.args)
    if isinstance(expr, AppliedUndef) and distinct and all(a.is_Symbol for a in expr.args):
        return expr.func
    return None


def _mentions(expr: sp.Basic, name: sp.Basic) -> bool:
    return any(e.has(name) for e in entries(expr))


def union(*groups: Iterable[Hypothesis]) -> tuple[Hypothesis, ...]:
    """Each hypothesis once, in the order in which they came."""
    return tuple(dict.fromkeys(h for group in groups for h in group))


def vanishing(hypotheses: Iterable[Hypothesis]) -> sp.Basic | None:
    """Something that is taken to be nonzero, and is zero by what else is taken."""
    hypotheses = list(hypotheses)
    known = [
        (h.lhs, h.rhs)
        for h in hypotheses
        if h.kind in ("definition", "premise") and isinstance(h.rhs, sp.Expr)
        if not is_matrix(h.lhs)
    ]
    for h in hypotheses:
        scalar = h.kind == "nonzero" and not is_matrix(h.lhs)
        if scalar and h.lhs.has(*(a for a, _ in known)) and becomes_zero(h.lhs.subs(known)):
            return h.lhs
    return None


def contradiction(hypotheses: Iterable[Hypothesis]) -> tuple[Hypothesis, Hypothesis] | None:
    """Two of them that give one thing two values, or one name two meanings."""
    said: dict[sp.Basic, Hypothesis] = {}
    meant: dict[sp.Basic, Hypothesis] = {}
    for h in hypotheses:
        if h.kind in ("law", "nonzero"):
            continue
        before = said.setdefault(h.lhs, h)
        if before.rhs != h.rhs and any(
            sp.simplify(a - b).is_nonzero or (before.kind == h.kind == "initial value")
            for a, b in zip(entries(before.rhs), entries(h.rhs), strict=True)
        ):
            return before, h
        if h.kind == "definition" and isinstance(h.lhs, AppliedUndef):
            first = meant.setdefault(h.lhs.func, h)
            if not _same_meaning(first, h):
                return first, h
    return None


def _same_meaning(one: Hypothesis, other: Hypothesis) -> bool:
    """Whether two definitions of a function say the same, whatever its arguments are called."""
    if len(one.lhs.args) != len(other.lhs.args):
        return False
    letters = dict(zip(one.lhs.args, other.lhs.args, strict=True))
    renamed = one.rhs.xreplace(letters)
    return renamed == other.rhs or sp.simplify(renamed - other.rhs) == 0


def circle(hypotheses: Iterable[Hypothesis]) -> list[Hypothesis]:
    """Definitions that lead back to their own name; none if each rests on earlier ones."""
    made = {
        name: h
        for h in hypotheses
        if h.kind == "definition"
        for name in map(name_of, entries(h.lhs))
        if name is not None
    }
    needs = {
        name: [n for n in made if n != name and _mentions(h.rhs, n)] for name, h in made.items()
    }
    open_names = set(made)
    while open_names:
        done = {name for name in open_names if not open_names.intersection(needs[name])}
        if not done:
            return [made[name] for name in made if name in open_names]
        open_names -= done
    return []


# Rewriting ---------------------------------------------------------------------------------

OPERATORS = (sp.Derivative, sp.Integral, sp.Sum, sp.Product, sp.Limit, sp.Subs, Expectation)


def bound_variables(expr: sp.Basic) -> set[sp.Basic]:
    """The variables of derivatives, integrals, sums, limits and means in `expr`."""
    return {
        v for e in entries(expr) for op in e.atoms(*OPERATORS) for v in _variables(op)
    }  # fmt: skip


def _variables(operator: sp.Basic) -> set[sp.Basic]:
    if isinstance(operator, Expectation):
        return set(operator.args[1])
    if isinstance(operator, sp.Limit):
        return {operator.args[1]}
    return set(operator.variables)


def rewrite(expr: sp.Basic, old: sp.Basic, new: sp.Basic, scope: Scope | None) -> sp.Basic:
    """`expr` with `old` replaced, under an operator only where the equality allows it.

    `scope` is that of a derived equality; None stands for one that the author states, which counts
    as holding for all arguments of a function if both sides depend on them.
    """
    masks: dict[sp.Basic, sp.Basic] = {}
    for operator in _outermost(expr):
        if operator != old and operator.has(old) and not _may_enter(operator, old, new, scope):
            masks[operator] = sp.Dummy("operator")
    masked = expr.xreplace(masks).subs(old, new)
    return masked.xreplace({dummy: operator for operator, dummy in masks.items()})


def _outermost(expr: sp.Basic) -> Iterator[sp.Basic]:
    for entry in entries(expr):
        walk = sp.preorder_traversal(entry)
        for node in walk:
            if isinstance(node, OPERATORS):
                walk.skip()
                yield node


def _may_enter(operator: sp.Basic, old: sp.Basic, new: sp.Basic, scope: Scope | None) -> bool:
    bound = set().union(*(_variables(op) for op in operator.atoms(*OPERATORS)))
    inside, outside = bound & _free(old), bound & _free(new)
    if not outside <= inside:
        return False  # it would be captured
    if not inside:
        return True
    if scope is not None:
        return scope.covers(inside)
    return isinstance(old, AppliedUndef) and inside <= set(old.args) and inside == outside


def _free(expr: sp.Basic) -> set[sp.Basic]:
    return set(expr.free_symbols)
