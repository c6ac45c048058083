"""How fast a spectrum decays, how many modes it leaves to learn, and how fast they are learnt."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from ntkbook._base.arguments import (
    as_floating,
    is_traced,
    require_finite,
    require_nonnegative,
    require_shape,
)
from ntkbook._base.arrays import matmul
from ntkbook._base.types import Array, ArrayLike, Float, Num, Scalar
from ntkbook.signals.signal import Kernel
from ntkbook.training.modes import spectrum
from ntkbook.training.problem import stacked, trained_kernel


def condition_number(
    kernel: Num[ArrayLike, "N N"] | Num[ArrayLike, "N N k k"] | Kernel,
) -> Float[Array, ""]:
    """Condition number λmax/λmin of a kernel.

    **Arguments**: `kernel`, symmetric and positive semi-definite, not zero: an array (N, N), of
    all outputs (N, N, k, k), or a `Kernel`, of which the NTK counts.

    **Returns**: a scalar, infinite for a singular kernel: an eigenvalue that is only rounding,
    in float64 one up to N·eps·λmax, counts as zero.

    **Raises**: ValueError for a kernel that is not symmetric and PSD, or that is zero.

    >>> import jax.numpy as jnp
    >>> round(float(condition_number(jnp.array([[2.0, 1.0], [1.0, 2.0]]))), 4)
    3.0
    >>> float(condition_number(jnp.ones((2, 2))))
    inf
    """
    values = _spectrum(kernel)
    if not is_traced(values) and not values[-1] > 0:
        raise ValueError("kernel must have a positive eigenvalue, got a zero matrix")
    return values[-1] / values[0]


def effective_dimension(
    kernel: Num[ArrayLike, "N N"] | Num[ArrayLike, "N N k k"] | Kernel, ridge: Scalar
) -> Float[Array, ""]:
    """Effective dimension tr Θ(Θ + δI)⁻¹ = Σ λ/(λ + δ): how many modes a ridge leaves to learn.

    **Arguments**: `kernel` as for `condition_number`; `ridge` δ ≥ 0.

    **Returns**: a scalar, which falls from the rank of Θ at δ = 0 (an eigenvalue that is only
    rounding counts as zero) to 0.  In its derivative a null mode of Θ stays null.

    **Raises**: ValueError for a kernel that is not symmetric and PSD, or a negative ridge.

    >>> import jax.numpy as jnp
    >>> kernel = jnp.array([[2.0, 1.0], [1.0, 2.0]])    # eigenvalues 1 and 3
    >>> round(float(effective_dimension(kernel, ridge=1.0)), 4)
    1.25
    """
    require_nonnegative("ridge", ridge)
    values = _spectrum(kernel)
    learnt = values > 0
    # The divisor 1 keeps 0/0 out of the branch not taken, where it would spoil derivatives.
    return jnp.sum(jnp.where(learnt, values / jnp.where(learnt, values + ridge, 1), 0))


def _spectrum(kernel: ArrayLike | Kernel) -> Array:
    return spectrum("kernel", stacked("kernel", trained_kernel(kernel, "all"))[0])


def fit_decay(k: Num[ArrayLike, "m"], values: Num[ArrayLike, "m"]) -> Float[Array, ""]:
    """Exponent p of a power law values ≈ c·k^p, by least squares in log-log coordinates.

    **Arguments**: `k` (m,) and `values` (m,), positive, m ≥ 2.

    **Returns**: the slope, a scalar; negative for a decay.

    **Raises**: ValueError for unequal lengths, for fewer than two points or two different `k`,
    and for numbers that are not positive.

    >>> import jax.numpy as jnp
    >>> k = jnp.arange(1.0, 9.0)
    >>> round(float(fit_decay(k, 5.0 * k**-2)), 4)
    -2.0
    """
    k, values = as_floating("k", k), as_floating("values", values)
    require_shape("k", k, (None,))
    require_shape("values", values, k.shape)
    return _slope(_log("k", k), _log("values", values))


class PowerLaw(NamedTuple):
    """A power law fitted by `fit_power_law`, and how well it fits.

    **Fields**: `slope`, the exponent; `standard_error` of it, from the scatter about the line;
    `window`, the least and the largest k that were used; `points`, their number.
    """

    slope: Float[Array, ""]
    standard_error: Float[Array, ""]
    window: tuple[float, float]
    points: int


def fit_power_law(
    k: Num[ArrayLike, "m"],
    values: Num[ArrayLike, "m"],
    window: tuple[float, float] | None = None,
) -> PowerLaw:
    """Exponent of values ≈ c·k^p as by `fit_decay`, with its standard error, within a window.

    The standard error is that of independent scatter.  A curve that bends has another slope in
    another window, which no error bar of one window says: fit in two.

    **Arguments**: `k` (m,) and `values` (m,); within the window they are positive, at least three
    points; `window`, the least and the largest k to use, all of them if not given.

    **Returns**: `PowerLaw`.

    **Raises**: as `fit_decay`; ValueError for fewer than three points in the window.

    >>> import jax.numpy as jnp
    >>> k = jnp.arange(1.0, 101.0)
    >>> law = fit_power_law(k, 5.0 / (k * (k + 1)), window=(20, 100))
    >>> print(f"{law.slope:.3f} ± {law.standard_error:.4f} from {law.points} points")
    -1.978 ± 0.0005 from 81 points
    """
    k, values = as_floating("k", k), as_floating("values", values)
    require_shape("values", values, require_shape("k", k, (None,)).shape)
    if window is not None:
        if not window[0] < window[1]:
            raise ValueError(f"window must be two rising numbers, got {window}")
        inside = (k >= window[0]) & (k <= window[1])
        k, values = k[inside], values[inside]
    if k.size < 3:
        raise ValueError(f"a standard error needs at least three points, got {k.size}")
    x, y = _log("k", k), _log("values", values)
    slope, x, y = _slope(x, y), x - x.mean(), y - y.mean()
    error = jnp.sqrt(jnp.sum((y - slope * x) ** 2) / (k.size - 2) / jnp.sum(x**2))
    return PowerLaw(slope, error, (float(k.min()), float(k.max())), k.size)


def fit_rate(times: Num[ArrayLike, "T"], amplitudes: Num[ArrayLike, "T *m"]) -> Float[Array, "*m"]:
    """Rate γ of an exponential decay |amplitude| ≈ c·e^{−γt}, by least squares on its logarithm.

    **Arguments**: `times` (T,), T ≥ 2; `amplitudes` (T,) or (T, m), one column for each mode, of
    either sign and nowhere zero.

    **Returns**: the rate, a scalar or (m,); positive for a decay.

    **Raises**: ValueError for unequal lengths, for fewer than two different times, and for an
    amplitude that is zero: it has no logarithm.

    >>> import jax.numpy as jnp
    >>> times = jnp.linspace(0.0, 2.0, 5)
    >>> round(float(fit_rate(times, -3.0 * jnp.exp(-1.5 * times))), 4)
    1.5
    """
    times = as_floating("times", times)
    amplitudes = as_floating("amplitudes", amplitudes)
    require_shape("times", times, (None,))
    require_shape("amplitudes", amplitudes, times.shape + (None,) * (amplitudes.ndim == 2))
    return -_slope(require_finite("times", times), _log("|amplitudes|", jnp.abs(amplitudes)))


def _log(name: str, positive: Array) -> Array:
    require_finite(name, positive)
    if not is_traced(positive) and not np.all(np.asarray(positive) > 0):
        raise ValueError(f"{name} must be positive to be fitted, got {np.min(positive):.3g}")
    return jnp.log(positive)


def _slope(x: Array, y: Array) -> Array:
    """Least-squares slope of y (m,) or (m, columns) against x (m,)."""
    if x.size < 2 or (not is_traced(x) and np.ptp(np.asarray(x)) == 0):
        raise ValueError(f"a fit needs at least two different points, got {x.size} point(s)")
    # Centred first: Σxy − nx̄ȳ would cancel where the points lie far from zero.
    x = x - x.mean()
    return matmul(x, y - y.mean(axis=0)) / jnp.sum(x**2)
