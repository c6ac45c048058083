"""The variances that a layer preserves: all of them, their stability, and which is reached.

They are found for many pairs (σ_w², σ_b²) at once, since E[φ²] is one function of the variance for
all of them.  Solvers compute in float64, whatever JAX's setting, and give NumPy arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from ntkbook._base.arguments import as_floating, described, is_traced, require_finite
from ntkbook._base.roots import EPS, first_false, refined, sign_changes
from ntkbook._base.types import Array, ArrayLike, Float, Scalar
from ntkbook.gaussian.functions import relative_error, tolerable
from ntkbook.gaussian.pairs import same
from ntkbook.gaussian.quadrature import derivative
from ntkbook.networks.activations import Elementwise, Nonlinearity

# Where fixed points are looked for: below, float64 tells V(q) from q only where they are far
# apart.
GRID = np.concatenate([[0.0], np.logspace(-14, 12, 521)])
# Relative size of a difference that may be nothing but the rounding of a dual.
NOISE = 256 * EPS
# How far from one a slope must be to count as different: a solver's result is that good.
CRITICAL = 1e-12


@dataclass(frozen=True)
class FixedPoints:
    """All variances that a layer preserves, ascending.

    **Fields**: `q` (m,); `slope` (m,), V'(q); `stability` (m,), of each "stable", "unstable" or
    "half-stable", the last one where the neighbours on one side are drawn in and those on the
    other side driven away.
    """

    q: Float[np.ndarray, "m"]
    slope: Float[np.ndarray, "m"]
    stability: tuple[str, ...]


def fixed_points(
    activation: Nonlinearity, *, w_var: Scalar, b_var: Scalar, keep: Scalar = 1.0
) -> FixedPoints:
    """All fixed points q* = V(q*) of the variance map from 0 to 1e12, with their stability.

    Between two extrema of V(q) - q there is at most one, and the extrema are found on a grid of
    twenty points per decade: so a pair of fixed points is missed only where V bends three times
    within a twelfth.  A variance at which V touches the diagonal counts as one, half-stable.

    **Arguments**: `activation`; `w_var`, `b_var` and `keep` as for `variance_map`, numbers.

    **Returns**: `FixedPoints`.

    **Raises**: ValueError where there is none, since the variance grows without bound, and where
    every variance is one, as for ReLU at (2, 0).

    >>> from ntkbook import Erf
    >>> found = fixed_points(Erf(), w_var=1.5, b_var=0.0)
    >>> found.q.round(6).tolist(), found.stability
    ([0.0, 0.5], ('unstable', 'stable'))
    """
    with jax.enable_x64(True):
        _, *flat = map(np.ravel, field_arguments(activation, 0, w_var, b_var, keep))
        gain = flat[0] / flat[2]
        found = _all_fixed_points(activation, gain, flat[1])[1:]
        if not found[0].size:
            raise ValueError(
                f"{type(activation).__name__} must have a fixed point of the variance, got none "
                f"for w_var = {w_var}, b_var = {b_var}: the variance grows without bound, or each "
                "one stays"
            )
        q, before, after = found
        require_resolved(activation, q)
        slope = gain[0] * computed(moments, activation, q)[1]
    kinds = {(1, -1): "stable", (-1, 1): "unstable"}
    stability = [kinds.get((l, r), "half-stable") for l, r in zip(before, after, strict=True)]
    return FixedPoints(q, slope, tuple(stability))


# Inside: what the solvers share, and those that take many points at once.


def field_arguments(
    activation: Nonlinearity,
    q: ArrayLike,
    w_var: ArrayLike,
    b_var: ArrayLike,
    keep: ArrayLike,
    correlation: ArrayLike | None = None,
    called: str = "q",
) -> list[Array]:
    """The arguments of a map as floating arrays of one shape, in this order, if they are right."""
    if not isinstance(activation, Nonlinearity):
        raise TypeError(f"activation must be one of a layer, as Erf(), got {described(activation)}")
    given = {called: q, "w_var": w_var, "b_var": b_var, "keep": keep}
    given |= {} if correlation is None else {"correlation": correlation}
    floats = [require_finite(name, as_floating(name, value)) for name, value in given.items()]
    arrays = jnp.broadcast_arrays(*floats)
    for name, array in zip(given, arrays, strict=True):
        if name != "correlation" and not is_traced(array) and not (array >= 0).all():
            raise ValueError(f"{name} must not be negative, got {array.min()}")
    if not is_traced(arrays[3]) and not ((arrays[3] > 0) & (arrays[3] <= 1)).all():
        raise ValueError(f"keep must be a probability, 0 < keep <= 1, got {arrays[3]}")
    return arrays


@partial(jax.jit, static_argnums=0)
def moments(
    activation: Nonlinearity, q: Float[Array, "*n"]
) -> tuple[Float[Array, "*n"], Float[Array, "*n"], Float[Array, "*n"]]:
    """E[φ²], its derivative in q, and E[φ'²]."""
    dual = activation.dual
    square, rate = jax.jvp(lambda q: dual.formula(same(q), jnp), (q,), (jnp.ones_like(q),))
    return square, rate, dual.value_and_slope(same(q))[1]


def computed(
    program: Callable[..., tuple[Array, ...]], activation: Nonlinearity, *arrays: np.ndarray
) -> tuple[np.ndarray, ...]:
    """A compiled program of one-dimensional NumPy arrays, padded to few sizes: each is compiled."""
    size = arrays[0].size
    room = 16 if size <= 16 else -(-size // 1024) * 1024
    padded = (np.concatenate([array, np.ones(room - size)]) for array in arrays)
    return tuple(np.asarray(part)[:size] for part in program(activation, *padded))


def require_resolved(activation: Nonlinearity, q: np.ndarray) -> None:
    """Raise ValueError for a function that quadrature does not take in at these variances."""
    if isinstance(activation, Elementwise) and q.size:
        error = relative_error(activation.fn, derivative(activation.fn), jnp.asarray(q))
        if not (error <= tolerable(error.dtype)).all():
            raise ValueError(
                f"fn of {activation.name} must be smooth but for a kink at zero, got an error of "
                f"{float(error.max()):.1g} in E[fn²] or E[fn'²]"
            )


def _all_fixed_points(activation, gain, b_var):
    """Rows, fixed points of V and the signs of V(q) - q on both sides, for arrays (rows,)."""
    square, rate, _ = computed(moments, activation, GRID)
    last = first_false(np.isfinite(square) & np.isfinite(rate))
    grid, square, rate = GRID[:last], square[:last], rate[:last]

    def rising(rows, q):
        square, rate, _ = computed(moments, activation, q)
        height = gain[rows] * square + b_var[rows] - q
        # Below its rounding it is no height, and Newton's steps would go on for ever.
        return np.where(np.abs(height) <= 2 * EPS * q, 0, height), gain[rows] * rate - 1

    def signs(x, noise):
        return np.where(np.abs(x) <= noise, 0, np.sign(x))

    slope = gain[:, None] * rate - 1
    rise = signs(gain[:, None] * square + b_var[:, None] - grid, NOISE * grid)
    rows, at, before, after = sign_changes(rise)
    # Between two grid points of one sign an extremum that is nearer to zero: V may cross the
    # diagonal there and come back, or touch it.
    turn_rows, turn, up, _ = sign_changes(signs(slope, NOISE))
    side = rise[turn_rows, turn]
    nearer = (up * side < 0) & (side == rise[turn_rows, turn + 1])
    turn_rows, turn, up, side = turn_rows[nearer], turn[nearer], up[nearer], side[nearer]

    def extremum(q):
        return rising(turn_rows, q)[1], np.full_like(q, np.nan)

    peak = refined(extremum, grid[turn], grid[turn + 1], up)
    height = rising(turn_rows, peak)[0]
    touch = np.abs(height) <= NOISE * peak
    twice = ~touch & (height * side < 0)
    inner = before != 0
    low = np.concatenate([grid[at[inner]], grid[turn[twice]], peak[twice]])
    high = np.concatenate([grid[at[inner] + 1], peak[twice], grid[turn[twice] + 1]])
    first = np.concatenate([before[inner], side[twice], -side[twice]])
    places = np.concatenate([rows[inner], turn_rows[twice], turn_rows[twice]])
    roots = refined(lambda q: rising(places, q), low, high, first)
    # Behind q = 0 there is nothing: it is stable if the variances above it fall.
    places = np.concatenate([places, rows[~inner], turn_rows[touch]])
    roots = np.concatenate([roots, np.zeros((~inner).sum()), peak[touch]])
    before = np.concatenate([first, -after[~inner], side[touch]])
    after = np.concatenate([-first, after[~inner], side[touch]])
    order = np.lexsort((roots, places))
    return places[order], roots[order], before[order], after[order]


def reached(
    activation: Nonlinearity,
    w_var: np.ndarray,
    b_var: np.ndarray,
    keep: np.ndarray,
    start: np.ndarray,
) -> np.ndarray:
    """The fixed point that each start flows to."""
    rows, roots, _, _ = _all_fixed_points(activation, w_var / keep, b_var)
    square = computed(moments, activation, start)[0]
    rise = w_var / keep * square + b_var - start
    q = np.where(np.abs(rise) <= NOISE * start, start, np.nan)
    for row in np.flatnonzero(np.isnan(q)):
        found = roots[rows == row]
        ahead = found[found >= start[row]] if rise[row] > 0 else found[found <= start[row]][::-1]
        q[row] = ahead[0] if ahead.size else np.nan
    lost = np.isnan(q)
    if lost.any():
        i = int(np.argmax(lost))
        raise ValueError(
            f"{type(activation).__name__} must have a variance that is reached from start = "
            f"{start[i]}, got none for w_var = {w_var[i]}, b_var = {b_var[i]}: the variance grows "
            "without bound"
        )
    return q
