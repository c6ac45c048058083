"""Whether two sides of a line are one: as it is derived, and as its author writes it."""

from __future__ import annotations

from collections.abc import Iterable

import sympy as sp

from ntkbook.algebra import equality
from ntkbook.algebra.rules import Refusal
from ntkbook.evidence import matrices
from ntkbook.evidence.display import Status
from ntkbook.notation.printing import plain
from ntkbook.notation.reading import read_as
from ntkbook.values import domains


def require_equal(
    old: sp.Basic, new: sp.Basic, what: str = "", numerically: bool = False
) -> Status:
    """Whether two expressions are proved, computed or checked to be equal, else a refusal."""
    if domains.is_symbolic_matrix(old) or domains.is_symbolic_matrix(new):
        if sp.sympify(old) != new:
            raise Refusal("matrices of symbolic size need the rule .matrix")
        return "proved"
    shapes = [getattr(side, "shape", "scalar") for side in (old, new)]
    if shapes[0] != shapes[1]:
        raise Refusal(f"a {shapes[1]} cannot equal a {shapes[0]}")
    if sp.sympify(old).has(sp.nan, sp.zoo) or new.has(sp.nan, sp.zoo):
        raise Refusal("the line is undefined (nan or complex infinity)")
    orders = [sp.expand(e).getO() if isinstance(e, sp.Expr) else None for e in (old, new)]
    if orders[0] != orders[1]:
        raise Refusal(f"the orders {orders[0]} and {orders[1]} differ", "the orders differ")
    if orders[0] is not None:
        old, new = old.removeO(), new.removeO()
    verdict = equality.decide(old, new, numerically)
    if verdict.refusal:
        start = f"{what}: " if what else ""
        raise Refusal(start + verdict.refusal, start + verdict.told)
    return verdict.status


def require_written(side: sp.Basic, tex: str, nonzero: Iterable[sp.Basic]) -> None:
    """The author's LaTeX says this side in another form, and is defined wherever the side is."""
    said, parts = read_as(tex, side)
    for part in parts:
        below = domains.unproved_denominators(part, nonzero)
        if below or part.has(sp.nan, sp.zoo):
            raise Refusal(f"division by {below[0] if below else 0}, which may be zero")
    symbolic = domains.is_symbolic_matrix(side) and domains.is_symbolic_matrix(said)
    if said == side or (symbolic and matrices.matrix_identity(side, said, None, None)):
        return
    try:
        exact = not symbolic and require_equal(side, said) == "proved"
    except Refusal as refusal:
        raise Refusal(f"it says {plain(said)}: {refusal}") from None
    if not exact:
        raise Refusal(f"it says {plain(said)}, which is not known to be the line")
