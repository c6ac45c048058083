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
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike  # NumPy's: whatever becomes an array, lists of lists included

CHECK_MIME = "application/vnd.ntkbook.check+json"
Z_MAX = 4.0
MIN_SCALING_POINTS = 5

Kind = Literal["exact", "statistical", "scaling", "bound"]


class CheckError(AssertionError):
    """Theory and measurement part by more than the bound, or a wrong theory would have passed."""


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
    standard_error: ArrayLike | None = None,
    x: ArrayLike | None = None,
    scale: float | None = None,
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
    - `rejects`: named wrong theories; the same bound must refuse every one of them.
    - `kind`:
      ``"exact"``: ``|measured − theory| ≤ atol + rtol·max|theory|`` everywhere;
      ``"statistical"``: ``|measured − theory| ≤ 4 standard_error`` everywhere;
      ``"scaling"``: `theory` is the slope of ``log measured`` against ``log x`` (at least five
      points), met within `atol`;
      ``"bound"``: ``measured ≤ theory (1 + rtol) + atol`` everywhere.
    - `scale`: the size a wrong answer would have; counts where `theory` is zero throughout.
    - `identical`: that two routes give the same numbers to the last bit is expected, and no sign
      that one is a copy of the other.
    - `seeds`, `size`: how the measurement was made, for the record.

    **Returns**: `Check`; let it be the last expression of its cell, or pass it to `report`.

    **Raises**: CheckError if the bound is broken or accepts a wrong theory; ValueError if an
    argument is not finite and real, the shapes differ, theory and measurement are the same numbers
    to the last bit, or the bound is vacuous (as large as the theory).

    >>> check("C01/slope", "slope of the remainder", theory=2.0, measured=1.998, atol=0.02,
    ...       rejects={"Jacobian at another point": 1.0})
    pass C01/slope: slope of the remainder: theory 2, measured 1.998, within 0.02; \
refuses Jacobian at another point (50×)
    """
    if not re.fullmatch(r"C\d\d/[a-z0-9]+(-[a-z0-9]+)*", claim):
        raise ValueError(f"claim must look like 'C13/test-points', not {claim!r}")
    if not rejects:
        raise ValueError(
            f"{claim}: rejects must name at least one wrong theory that the bound refuses"
        )
    for name, tolerance in (("rtol", rtol), ("atol", atol)):
        if not (np.isfinite(tolerance) and tolerance >= 0):
            raise ValueError(f"{claim}: {name} must be finite and nonnegative, not {tolerance}")
    expected = _finite(claim, "theory", theory)
    observed = _finite(claim, "measured", measured)
    wrong = {name: _finite(claim, f"rejects[{name!r}]", value) for name, value in rejects.items()}

    fractions = (
        not identical and observed.size > 1 and not np.array_equal(observed, np.round(observed))
    )
    if fractions and np.array_equal(expected, observed):
        raise ValueError(
            f"{claim}: theory and measured are the same numbers, to the last bit; if two "
            "routes may give them, say identical=True"
        )

    if kind == "scaling":
        if x is None:
            raise ValueError(f"{claim}: kind 'scaling' needs x")
        observed = _slope(claim, _finite(claim, "x", x), observed)
    elif x is not None:
        raise ValueError(f"{claim}: x belongs to kind 'scaling' only")

    if kind == "statistical":
        if standard_error is None:
            raise ValueError(f"{claim}: kind 'statistical' needs standard_error")
        error = _finite(claim, "standard_error", standard_error)
        if not (error > 0).all():
            raise ValueError(f"{claim}: standard_error must be positive, not {error.min()}")
        allowed = Z_MAX * error
        bound = f"within {Z_MAX:.0f} s.e. of {_show(error)}"
    elif kind in ("exact", "scaling", "bound"):
        if standard_error is not None:
            raise ValueError(f"{claim}: standard_error belongs to kind 'statistical' only")
        if kind != "bound" and not atol + rtol > 0:
            raise ValueError(f"{claim}: declare a bound: rtol or atol must be positive")
        # A bound may decay over decades: its slack is relative to each entry, not to the largest.
        scales = np.abs(expected) if kind == "bound" else np.abs(expected).max()
        allowed = np.asarray(atol + rtol * scales)
        bound = _show_bound(kind, rtol, atol)
    else:
        raise ValueError(f"kind must be exact, statistical, scaling or bound, not {kind!r}")

    if kind != "bound":
        _refuse_vacuous(claim, expected, allowed, scale)
    _require_shapes(claim, expected, observed)
    if not _holds(kind, expected, observed, allowed):
        gap = observed - expected if kind == "bound" else np.abs(observed - expected)
        raise CheckError(
            f"{claim}: {what}: theory {_show(expected)}, measured {_show(observed)}: "
            f"off by {gap.max():.3g}, {bound}"
        )
    margins = []
    for name, value in wrong.items():
        _require_shapes(claim, value, observed)
        margins.append(_margin(kind, value, observed, allowed))
        if _holds(kind, value, observed, allowed):
            raise CheckError(f"{claim}: {what}: the bound ({bound}) would also accept {name!r}")
    if kind == "bound":
        shown = f"{_show(expected)}", _show_ratio(expected, observed)
    else:
        shown = _show(expected), _show(observed, allowed)
    values = tuple(_show(value) for value in wrong.values())
    refused = tuple(wrong), values, tuple(margins)
    return Check(claim, what, kind, *shown, bound, *refused, str(seeds), str(size))


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


def _finite(claim: str, name: str, value: object) -> np.ndarray:
    if np.ma.isMaskedArray(value):
        raise ValueError(f"{claim}: {name} must not be masked")
    given = np.asarray(value)
    if given.dtype.kind not in "iuf":
        raise ValueError(f"{claim}: {name} must hold real numbers, not {given.dtype}")
    array = given.astype(float)  # float64: the comparison must add no rounding
    if array.size == 0:
        raise ValueError(f"{claim}: {name} is empty")
    if not np.isfinite(array).all():
        raise ValueError(f"{claim}: {name} must be finite, but holds NaN or infinity")
    return array


def _require_shapes(claim: str, theory: np.ndarray, measured: np.ndarray) -> None:
    if theory.shape not in ((), measured.shape):
        raise ValueError(f"{claim}: theory has shape {theory.shape}, measured {measured.shape}")


def _refuse_vacuous(
    claim: str, theory: np.ndarray, tolerance: np.ndarray, scale: float | None
) -> None:
    size = np.abs(theory).max()
    if size == 0:
        if scale is None or not (np.isfinite(scale) and scale > 0):
            raise ValueError(
                f"{claim}: theory is zero; give scale=, the size that a wrong answer would have"
            )
        size = float(scale)
    if not (tolerance < size).all():
        raise ValueError(
            f"{claim}: the bound {_show(tolerance)} is vacuous: as large as the theory ({size:.3g})"
        )


def _slope(claim: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    if x.ndim != 1 or x.shape != y.shape or len(np.unique(x)) < MIN_SCALING_POINTS:
        raise ValueError(
            f"{claim}: a slope needs x and measured of one shape (n,) with at least "
            f"{MIN_SCALING_POINTS} different x, not {x.shape} and {y.shape}"
        )
    if not ((x > 0).all() and (y > 0).all()):
        raise ValueError(f"{claim}: x and measured must be positive for a log-log slope")
    return np.asarray(np.polyfit(np.log(x), np.log(y), 1)[0])


def _show_bound(kind: Kind, rtol: float, atol: float) -> str:
    parts = [f"{atol:g}"] * (atol > 0) + [f"{rtol:g} relative"] * (rtol > 0)
    slack = " + ".join(parts)
    if kind == "bound":
        return "not above theory" + (f" (rounding {slack})" if slack else "")
    return f"within {slack}"


def _show(value: np.ndarray, tolerance: np.ndarray | None = None) -> str:
    """Four significant digits, three for the range of an array.

    Digits a hundred times below the tolerance are dropped: they are rounding noise, which differs
    between machines.
    """
    value = np.asarray(value, dtype=float)
    if tolerance is not None:
        # The digit two places below the tolerance is the last that machines agree on.
        value = np.round(value, int(np.ceil(2 - np.log10(tolerance.min()))))
    value = value + 0.0  # -0.0 becomes 0.0
    if value.size == 1:
        return f"{float(value.reshape(())):.4g}"
    return f"{value.min():.3g} … {value.max():.3g} ({value.size} values)"


def _show_ratio(bound: np.ndarray, measured: np.ndarray) -> str:
    if not (bound > 0).all():
        return f"largest {_show(measured.max())}"
    return f"at most {(measured / bound).max():.3g} of it"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
