"""Exact eigenvalues of rotation-invariant kernels on the circle."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import jax.numpy as jnp

from ntkbook._base.arguments import (
    as_floating,
    described,
    require_count,
    require_finite,
    require_shape,
)
from ntkbook._base.types import Array, ArrayLike, Float


def circle_eigenvalues(
    kappa: Callable[[Float[Array, "m"]], ArrayLike], k_max: int, points: int = 2**16
) -> Float[Array, "modes"]:
    """Eigenvalues of a kernel on the circle that depends on the angle θ between inputs only.

    The k-th is (1/π) ∫₀^π κ(θ) cos kθ dθ, k = 0 … k_max, with respect to the uniform probability
    measure; the eigenfunctions are cos kθ and sin kθ.

    The trapezium rule on `points` equispaced angles, one FFT for all k, errs by O(points⁻²) for
    the kernels of ReLU networks, which have a kink at θ = 0.  Wherever κ is smooth between 0 and π
    that error is a series in points⁻², of which the rules on every second and every fourth angle
    remove the first two terms (Romberg's extrapolation).  What is left, for an eigenvalue of order
    k⁻², is 5e-11 of it at k = 400 and grows as k⁶ points⁻⁶, and the rounding of κ, an absolute
    error of some 0.1 ε max|κ|: in float64 nothing is known of eigenvalues below 1e-17, which those
    of a smooth κ soon are; `series_eigenvalues` may have them.

    **Arguments**: `kappa`, a function from angles (m,) in [0, π] to kernel values (m,), smooth in
    between; `k_max` ≥ 0; `points`, a multiple of 8 and at least 8·k_max, better 64·k_max.

    **Returns**: eigenvalues (k_max + 1,).

    **Raises**: ValueError for too few points, or for values of κ that are not finite.

    >>> import jax.numpy as jnp
    >>> values = circle_eigenvalues(lambda angle: 1 + jnp.cos(3 * angle), k_max=3, points=64)
    >>> print(jnp.abs(values).round(4))
    [1.  0.  0.  0.5]
    """
    k_max, points = require_count("k_max", k_max, minimum=0), require_count("points", points)
    if not callable(kappa):
        raise TypeError(f"kappa must be a function of angles, got {described(kappa)}")
    if points % 8 or points < 8 * max(k_max, 1):
        raise ValueError(
            f"points must be a multiple of 8 and at least 8 k_max = {8 * k_max}, got {points}"
        )
    half = points // 2
    angles = jnp.arange(half + 1) * (jnp.pi / half)
    values = as_floating("kappa(angles)", kappa(angles))
    require_finite("kappa(angles)", require_shape("kappa(angles)", values, angles.shape))
    rules = [_trapezium(values[::step])[: k_max + 1] for step in (1, 2, 4)]
    # Half the angles err 4 times as much by the first term and 16 times by the second, so that
    # these combinations are free of them.  They cost two more FFTs, and no value of κ.
    fine, coarse = ((4 * a - b) / 3 for a, b in pairwise(rules))
    return (16 * fine - coarse) / 15


def _trapezium(values: Array) -> Array:
    """Cosine coefficients of an even periodic function from its values (m + 1,) on [0, π]."""
    # Once around, the end points of the rule are one point, and its weights are all equal: an FFT.
    around = jnp.concatenate([values, values[-2:0:-1]])
    return jnp.fft.rfft(around).real / around.shape[0]
