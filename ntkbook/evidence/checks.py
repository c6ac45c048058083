"""Theory beside measurement, with a bound that was declared beforehand.

`check` compares the two and raises `CheckError` when they part by more than the bound.  It also
asks the bound a question: the same comparison is made with named *wrong* theories (`rejects`), and
each of them must be refused.  A check that would have accepted a missing factor of two proves
nothing, so it is an error.  By how many times the bound each of them is off is its *margin*: the
smallest one says how sharp the check is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike  # NumPy's: whatever becomes an array, lists of lists included

from ntkbook.evidence.bounds import (
    CheckError,
    finite,
    reached,
    refuse_copy,
    refuse_vacuous,
    require_shapes,
    show,
    slope,
)

CHECK_MIME = "application/vnd.ntkbook.check+json"
Z_MAX = 4.0
ROUNDING = 3e-6  # bounds below this part of the theory are about rounding, perhaps of float32

Kind = Literal["exact", "statistical", "scaling", "bound"]


@dataclass(frozen=True)
class Check:
    """A comparison that held, made by `check`.  Displays as a table row.

    **Fields**: `claim`, `what` and `kind` as they were given to `check`; `theory`, `measured` and
    `bound` in words; `rejects`, the names of the wrong theories refused, `wrong` their values and
    `margins` by how many times the bound each is off; `seeds`, `size`.
    """

    claim: str
    what: str
    kind: Kind
    theory: str
    measured: str
    bound: str
    rejects: tuple[str, ...]
    wrong: tuple[str, ...]
    margins: tuple[str, ...]
    seeds: str = ""
    size: str = ""

    @property
    def record(self) -> dict[str, object]:
        """The check as plain data for the claims page, its numbers as strings of four digits."""
        lists = {name: list(getattr(self, name)) for name in ("rejects", "wrong", "margins")}
        return {**self.__dict__, **lists, "verdict": "pass"}

    @property
    def refused(self) -> str:
        """The wrong theories, each with its margin."""
        both = zip(self.rejects, self.margins, strict=True)
        return "; ".join(f"{name} ({margin}×)" for name, margin in both)

    def __repr__(self) -> str:
        return (
            f"pass {self.claim}: {self.what}: theory {self.theory}, measured {self.measured}, "
            f"{self.bound}; refuses {self.refused}"
        )

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        return report(self)._repr_mimebundle_()


@dataclass(frozen=True)
class Report:
    """Several checks in one table."""

    checks: tuple[Check, ...]

    def __repr__(self) -> str:
        return "\n".join(map(repr, self.checks))

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        rows = [
            f"| ✓ {c.claim} | {_cell(c.what)} | {c.theory} | {c.measured} | {c.bound} "
            f"| {_cell(c.refused)} |"
            for c in self.checks
        ]
        header = "| claim | quantity | theory | measured | bound | refused, off by … bounds |"
        table = "\n".join([header, "|" + "---|" * 6, *rows])
        return {
            "text/plain": repr(self),
            "text/markdown": table,
            CHECK_MIME: [check.record for check in self.checks],
        }


def report(*checks: Check) -> Report:
    """Several checks as one table.

    **Arguments**: `checks`, each made by `check`.

    **Returns**: `Report`, which displays as the table.

    **Raises**: TypeError for anything that is not a `Check`.

    >>> report(
    ...     check("C01/two", "a number", theory=2, measured=2.001, atol=0.01, rejects={"one": 1}),
    ...     check("C01/top", "a top", kind="bound", theory=3, measured=2, rejects={"one": 1}),
    ... )
    pass C01/two: a number: theory 2, measured 2.001, within 0.01; refuses one (>99×)
    pass C01/top: a top: theory 3, measured at most 0.667 of it, not above theory; refuses one (2×)
    """
    for item in checks:
        if not isinstance(item, Check):
            raise TypeError(f"report takes checks, not {type(item).__name__}")
    return Report(checks)


def check(
    claim: str,
    what: str,
    *,
    theory: ArrayLike,
    measured: ArrayLike,
    rejects: Mapping[str, ArrayLike],
    kind: Kind = "exact",
    rtol: float = 0.0,
    atol: float = 0.0,
    norm: Literal["max"] | None = None,
    standard_error: ArrayLike | None = None,
    x: ArrayLike | None = None,
    scale: float | None = None,
    because: str = "",
    identical: bool = False,
    seeds: str = "",
    size: str = "",
) -> Check:
    """Theory and measurement compared, under a bound that was declared before.

    **Arguments**:

    - `claim`: ledger id and a name, ``"C13/test-points"``, unique in the book.
    - `what`: the quantity, in words.
    - `theory`, `measured`: numbers or arrays of one shape (theory may be a scalar); compared in
      float64.
    - `rejects`: named wrong theories, the nearest plausible ones; the same bound must refuse every
      one of them.
    - `kind`:
      ``"exact"``: ``|measured − theory| ≤ atol + rtol·|theory|`` in every entry;
      ``"statistical"``: ``|measured − theory| ≤ 4 standard_error`` in every entry;
      ``"scaling"``: `theory` is the slope of ``log measured`` against ``log x`` (at least five
      points over a decade), met within `atol`, and by either half of the points within 1.5 `atol`;
      ``"bound"``: ``measured ≤ theory (1 + rtol) + atol`` in every entry, and a tenth of it is
      reached somewhere.
    - `norm`: ``"max"`` compares each entry with the largest one: `rtol` is relative to
      ``max|theory|``, and small entries may be off by more than themselves.
    - `scale`: the size that a wrong answer would have where the theory is zero.
    - `because`: why a scaling law spans less than a decade, or why a bound is loose; shown.
    - `identical`: that two routes give the same numbers to the last bit is expected, and no sign
      that one is a copy of the other.
    - `seeds`, `size`: how the measurement was made, for the record.

    **Returns**: `Check`; let it be the last expression of its cell, or pass it to `report`.

    **Raises**: CheckError if the bound is broken or accepts a wrong theory; ValueError if an
    argument is not finite and real, the shapes differ, theory and measurement are the same numbers
    to the last bit, the bound is vacuous (more than half the theory, in any entry), a slope is not
    determined by its points, or an upper bound is nowhere nearly reached.

    >>> check("C01/slope", "slope of the remainder", theory=2.0, measured=1.998, atol=0.02,
    ...       rejects={"Jacobian at another point": 1.0})
    pass C01/slope: slope of the remainder: theory 2, measured 1.998, within 0.02; \
refuses Jacobian at another point (50×)
    """
    _require_declared(claim, kind, rejects, {"rtol": rtol, "atol": atol}, norm)
    expected = finite(claim, "theory", theory)
    observed = finite(claim, "measured", measured)
    wrong = {name: finite(claim, f"rejects[{name!r}]", value) for name, value in rejects.items()}
    if not identical:
        refuse_copy(claim, expected, observed)
    if (x is None) is (kind == "scaling"):
        raise ValueError(f"{claim}: x goes with kind 'scaling', and with no other")
    if (standard_error is None) is (kind == "statistical"):
        raise ValueError(f"{claim}: standard_error goes with kind 'statistical', and with no other")

    bound, halves = _show_bound(kind, rtol, atol, norm), ""
    magnitude = np.abs(expected)
    if norm == "max":
        magnitude = np.full_like(expected, magnitude.max())
    allowed = atol + rtol * magnitude
    if kind == "statistical":
        error = finite(claim, "standard_error", standard_error)
        if not (error > 0).all():
            raise ValueError(f"{claim}: standard_error must be positive, not {error.min()}")
        allowed = Z_MAX * error
        bound += f" of {show(error)}"
    if kind == "scaling":
        spread = finite(claim, "x", x)
        observed, halves = slope(claim, spread, observed, expected, atol, bool(because))
    require_shapes(claim, expected, observed)
    refuse_vacuous(claim, magnitude, allowed, scale)
    if because:
        bound += f"; {because.strip()}"

    if not _holds(kind, expected, observed, allowed):
        gap = observed - expected if kind == "bound" else np.abs(observed - expected)
        raise CheckError(
            f"{claim}: {what}: theory {show(expected)}, measured {show(observed)}: "
            f"off by {gap.max():.3g}, {bound}"
        )
    margins = []
    for name, value in wrong.items():
        require_shapes(claim, value, observed)
        margins.append(_margin(kind, value, observed, allowed))
        if _holds(kind, value, observed, allowed):
            raise CheckError(f"{claim}: {what}: the bound ({bound}) would also accept {name!r}")
    if kind == "bound":
        shown = reached(claim, expected, observed, bool(because))
    elif observed.size > 1:
        shown = _show_deviation(expected, observed, allowed)
    else:
        shown = show(observed, allowed) + halves
    refused = tuple(wrong), tuple(map(show, wrong.values())), tuple(margins)
    return Check(claim, what, kind, show(expected), shown, bound, *refused, str(seeds), str(size))


def _require_declared(
    claim: str,
    kind: str,
    rejects: Mapping[str, ArrayLike],
    tolerances: Mapping[str, float],
    norm: str | None,
) -> None:
    if not re.fullmatch(r"C\d\d/[a-z0-9]+(-[a-z0-9]+)*", claim):
        raise ValueError(f"claim must look like 'C13/test-points', not {claim!r}")
    if kind not in get_args(Kind):
        raise ValueError(f"{claim}: kind must be one of {', '.join(get_args(Kind))}, not {kind!r}")
    if norm not in (None, "max"):
        raise ValueError(f"{claim}: norm must be 'max' or None, not {norm!r}")
    if not rejects:
        raise ValueError(
            f"{claim}: rejects must name at least one wrong theory that the bound refuses"
        )
    for name, tolerance in tolerances.items():
        if not (np.isfinite(tolerance) and tolerance >= 0):
            raise ValueError(f"{claim}: {name} must be finite and nonnegative, not {tolerance}")
    given = sum(tolerances.values()) > 0
    if kind == "scaling" and not (given and tolerances["rtol"] == 0):
        raise ValueError(f"{claim}: declare the bound of a slope by atol, and by nothing else")
    if kind == "exact" and not given:
        raise ValueError(f"{claim}: declare a bound: rtol or atol must be positive")
    if kind == "statistical" and given:
        raise ValueError(f"{claim}: standard errors are the bound: rtol and atol don't belong here")


def _holds(kind: Kind, theory: np.ndarray, measured: np.ndarray, tolerance: np.ndarray) -> bool:
    gap = measured - theory if kind == "bound" else np.abs(measured - theory)
    return bool((gap <= tolerance).all())


def _margin(kind: Kind, wrong: np.ndarray, measured: np.ndarray, tolerance: np.ndarray) -> str:
    """By how many times the bound a wrong theory is off; for an upper bound, how far exceeded."""
    if kind == "bound":
        if not (wrong > 0).all():
            return ">99"
        times = (measured / wrong).max()
    else:
        times = (np.abs(measured - wrong) / tolerance).max()
    # Two digits: what machines disagree on lies below them.
    return f"{float(f'{times:.2g}'):g}" if times <= 99 else ">99"


def _show_bound(kind: Kind, rtol: float, atol: float, norm: str | None) -> str:
    if kind == "statistical":
        return f"within {Z_MAX:.0f} s.e."
    relative = f"{rtol:g} of the largest" if norm else f"{rtol:g} relative"
    slack = " + ".join([f"{atol:g}"] * (atol > 0) + [relative] * (rtol > 0))
    if kind == "bound":
        return "not above theory" + (f" (rounding {slack})" if slack else "")
    return f"within {slack}"


def _show_deviation(theory: np.ndarray, measured: np.ndarray, tolerance: np.ndarray) -> str:
    """The deviation nearest to what is allowed there, in digits on which machines agree."""
    gap, allowed = np.broadcast_arrays(np.abs(measured - theory), tolerance)
    k = np.unravel_index(np.argmax(gap / allowed), gap.shape)
    # Far below its bound, or of the size of rounding, a gap differs between machines, and so does
    # which entry is the worst: neither is shown.
    if allowed.max() <= ROUNDING * np.abs(theory).max():
        off = f"less than the {allowed.max():.2g} allowed"
    elif gap[k] < allowed[k] / 10:
        off = f"less than a tenth of the {allowed.max():.2g} allowed"
    else:
        off = f"at most {gap[k]:.2g}, {allowed[k]:.2g} allowed"
    return f"off by {off} ({measured.size} values)"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
