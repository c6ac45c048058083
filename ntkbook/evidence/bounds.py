"""What may be compared, and what a bound must be so that a comparison could have failed."""

from __future__ import annotations

import numpy as np

MIN_SCALING_POINTS = 5
DECADE = 10.0  # the least max(x)/min(x) of a scaling law
TIGHT = 0.1  # the least part of an upper bound that must be reached somewhere


class CheckError(AssertionError):
    """Theory and measurement part by more than the bound, or a wrong theory would have passed."""


def finite(claim: str, name: str, value: object) -> np.ndarray:
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


def require_shapes(claim: str, theory: np.ndarray, measured: np.ndarray) -> None:
    if theory.shape not in ((), measured.shape):
        raise ValueError(f"{claim}: theory has shape {theory.shape}, measured {measured.shape}")


def refuse_copy(claim: str, theory: np.ndarray, measured: np.ndarray) -> None:
    # Whole numbers, such as ranks, may be met exactly.
    if np.array_equal(theory, measured) and not np.array_equal(measured, np.round(measured)):
        raise ValueError(
            f"{claim}: theory and measured are the same numbers, to the last bit; if two "
            "routes may give them, say identical=True"
        )


def refuse_vacuous(
    claim: str, magnitude: np.ndarray, tolerance: np.ndarray, scale: float | None
) -> None:
    """Every entry's allowance must be at most half of what it is held against."""
    if scale is not None and not (np.isfinite(scale) and scale > 0):
        raise ValueError(f"{claim}: scale must be finite and positive, not {scale}")
    magnitude, tolerance = np.broadcast_arrays(magnitude, tolerance)
    zero = (magnitude == 0) & (tolerance > 0)
    if zero.any() and scale is None:
        raise ValueError(
            f"{claim}: theory is zero in {int(zero.sum())} of {zero.size} entries; give scale=, "
            "the size that a wrong answer would have there"
        )
    size = np.where(zero, 0.0 if scale is None else scale, magnitude)
    vacuous = tolerance > size / 2
    if vacuous.any():
        k = np.unravel_index(np.argmax(np.where(vacuous, tolerance - size / 2, -1)), size.shape)
        raise ValueError(
            f"{claim}: the bound is vacuous in {int(vacuous.sum())} of {size.size} entries: "
            f"{tolerance[k]:.3g} is allowed where half of {size[k]:.3g} is the most; declare a "
            "sharper bound, or norm='max' if the largest entry is what each is to be held against"
        )


def slope(
    claim: str, x: np.ndarray, y: np.ndarray, theory: np.ndarray, atol: float, excused: bool
) -> tuple[np.ndarray, str]:
    """The slope of log y against log x, and in words those of the two halves of the points."""
    if x.ndim != 1 or x.shape != y.shape or len(np.unique(x)) < MIN_SCALING_POINTS:
        raise ValueError(
            f"{claim}: a slope needs x and measured of one shape (n,) with at least "
            f"{MIN_SCALING_POINTS} different x, not {x.shape} and {y.shape}"
        )
    if not ((x > 0).all() and (y > 0).all()):
        raise ValueError(f"{claim}: x and measured must be positive for a log-log slope")
    if theory.size != 1:
        raise ValueError(f"{claim}: theory must be one slope, not an array {theory.shape}")
    span = x.max() / x.min()
    if span < DECADE and not excused:
        raise ValueError(
            f"{claim}: a scaling law needs x over a decade, not {span:.3g}-fold; because= may say "
            "why it spans less"
        )
    slope, error = _line(x, y)
    if error > atol / 2:
        raise ValueError(
            f"{claim}: the points scatter too much about their line: its slope {slope:.3g} has a "
            f"standard error of {error:.2g}, more than half of the {atol:g} allowed"
        )
    middle = np.median(np.unique(x))
    halves = [_line(x[part], y[part])[0] for part in (x <= middle, x >= middle)]
    if np.abs(np.array(halves) - float(theory.reshape(()))).max() > 1.5 * atol:
        raise CheckError(
            f"{claim}: no one power law: slope {halves[0]:.3g} in the lower half of x, "
            f"{halves[1]:.3g} in the upper, theory {show(theory)}, each within {1.5 * atol:g}"
        )
    allowed = np.asarray(atol)
    shown = " and ".join(show(np.asarray(half), allowed) for half in halves)
    return np.asarray(slope), f" (halves {shown})"


def _line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Slope of log y against log x by least squares, and its standard error."""
    u, v = np.log(x) - np.log(x).mean(), np.log(y)
    slope = u @ v / (u @ u)
    residual = v - v.mean() - slope * u
    return float(slope), float(np.sqrt(residual @ residual / (len(x) - 2) / (u @ u)))


def reached(claim: str, bound: np.ndarray, measured: np.ndarray, excused: bool) -> str:
    """How much of an upper bound is reached, in words."""
    if not (bound > 0).all():
        return f"largest {show(measured.max())}"
    most = (measured / bound).max()
    if most < TIGHT and not excused:
        raise ValueError(
            f"{claim}: at most {most:.2g} of the bound is reached; because= may say why it is loose"
        )
    return f"at most {most:.3g} of it"


def show(value: np.ndarray, tolerance: np.ndarray | None = None) -> str:
    """Four significant digits, three for the range of an array.

    Digits a hundred times below the tolerance are dropped, and entries of an array that are nothing
    beside its largest: they are rounding noise, which differs between machines.
    """
    value = np.asarray(value, dtype=float)
    value = np.where(np.abs(value) < 1e-13 * np.abs(value).max(), 0.0, value)
    if tolerance is not None:
        # The digit two places below the tolerance is the last that machines agree on.
        value = np.round(value, int(np.ceil(2 - np.log10(tolerance.min()))))
    value = value + 0.0  # -0.0 becomes 0.0
    if value.size == 1:
        return f"{float(value.reshape(())):.4g}"
    return f"{value.min():.3g} … {value.max():.3g} ({value.size} values)"
