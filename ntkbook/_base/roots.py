"""Roots of many functions of one variable at once, between the points of a grid."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

EPS = float(np.finfo(np.float64).eps)


def sign_changes(
    sign: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Where the signs (rows, grid) change, zeros apart: rows, the columns before, and the signs.

    Zeros count as the sign before them, and keep it at the beginning: a root at the first point.
    """
    columns = np.where(sign != 0, np.arange(sign.shape[1]), 0)
    filled = np.take_along_axis(sign, np.maximum.accumulate(columns, axis=1), axis=1)
    rows, before = np.nonzero(filled[:, 1:] != filled[:, :-1])
    return rows, before, filled[rows, before], filled[rows, before + 1]


def refined(
    function: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
    low: np.ndarray,
    high: np.ndarray,
    sign: np.ndarray,
) -> np.ndarray:
    """Roots between `low`, where the function has this sign, and `high`; all at once.

    `function` gives values and derivatives; where these are NaN, the interval is halved, by its
    geometric mean.  Arrays (m,), 0 <= low < high.
    """
    after = x = np.where(low > 0, np.sqrt(low * high), high / 2)
    for _ in range(200 if x.size else 0):
        value, rate = function(x)
        left = sign * value > 0
        low, high = np.where(left, x, low), np.where(left, high, x)
        with np.errstate(divide="ignore", invalid="ignore"):
            newton = x - value / rate
        middle = np.where(low > 0, np.sqrt(low * high), high / 2)
        after = np.where((newton >= low) & (newton <= high), newton, middle)
        after = np.where(value == 0, x, after)
        if (np.abs(after - x) <= 4 * EPS * x).all():
            break
        x = after
    return after


def crossings(
    function: Callable[[np.ndarray], np.ndarray], grid: np.ndarray, noise: np.ndarray | float
) -> np.ndarray:
    """All roots of a function on a grid from 0, ascending; none where it vanishes everywhere.

    Values up to `noise` count as zero.
    """
    value = function(grid)
    last = first_false(np.isfinite(value))
    sign = np.where(np.abs(value) <= noise, 0, np.sign(value))[None, :last]
    _, before, sign, _ = sign_changes(sign)
    inner = before[sign != 0]
    unknown = np.full(inner.shape, np.nan)
    roots = refined(lambda q: (function(q), unknown), grid[inner], grid[inner + 1], sign[sign != 0])
    return np.concatenate([np.zeros((sign == 0).sum()), roots])


def first_false(known: np.ndarray) -> int:
    """How many entries there are before the first that is false."""
    return known.size if known.all() else int(np.argmin(known))
