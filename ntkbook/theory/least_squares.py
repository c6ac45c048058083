"""Least squares for Gaussian inputs, where double descent can be computed to the end."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from ntkbook._base.types import Array, ArrayLike, Float, Num
from ntkbook.theory.effective_ridge import nonnegative, positive


def least_squares_risk(
    samples: Num[ArrayLike, "..."],
    features: Num[ArrayLike, "..."],
    noise_variance: Num[ArrayLike, "..."],
    signal: Num[ArrayLike, "..."] = 1.0,
) -> Float[Array, "..."]:
    """Mean excess risk E‖β̂ − β‖² of least squares of minimum norm, exact for finite N and p.

    The N inputs are standard normal in p dimensions, the targets x·β plus independent noise of
    variance σ²; new noise is not counted.  For p < N − 1 the risk is σ²p/(N − p − 1), for
    p > N + 1 it is r²(1 − N/p) + σ²N/(p − N − 1), and in between infinite, unless σ² = 0.

    **Arguments**: `samples` N, `features` p, whole numbers > 0; `noise_variance` σ² ≥ 0; `signal`
    r² = ‖β‖² ≥ 0; numbers or arrays that broadcast.

    **Returns**: the risk, of their common shape.

    **Raises**: ValueError for numbers that are negative, not finite, or not whole.

    **Source**: Breiman & Freedman 1983 for p < N; Belkin, Hsu & Xu 2020 for all p.

    >>> import jax.numpy as jnp
    >>> print(least_squares_risk(100, jnp.array([50, 99, 100, 200]), 0.25).round(4))
    [0.2551    inf    inf 0.7525]
    """
    n, p, noise, size = _cases(samples, features, noise_variance, signal)
    for name, counts in (("samples", n), ("features", p)):
        if np.any(counts != np.round(counts)):
            raise ValueError(f"{name} must be whole numbers; for a ratio use least_squares_limit")
    freedom = np.abs(n - p) - 1
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = np.where(freedom > 0, noise * np.minimum(n, p) / freedom, np.inf)
    return jnp.asarray(size * np.maximum(1 - n / p, 0) + np.where(noise > 0, variance, 0))


def least_squares_limit(
    samples: Num[ArrayLike, "..."],
    features: Num[ArrayLike, "..."],
    noise_variance: Num[ArrayLike, "..."],
    signal: Num[ArrayLike, "..."] = 1.0,
    ridge: Num[ArrayLike, "..."] = 0.0,
) -> Float[Array, "..."]:
    """Excess risk of ridge regression as N and p grow in proportion, δ with them.

    It minimises ‖y − Xβ‖² + δ‖β‖², for inputs and targets as in `least_squares_risk`.  That is
    `eigenlearning` for p eigenvalues 1 with the ridge δ: with L = 1/(1 + ς),

        N = pL + δ/ς,  risk = (N(1 − L)² r² + p L² σ²)/(N − pL²).

    The best ridge is δ = pσ²/r², at finite N too.  Without a ridge the risk is σ²p/(N − p) or
    r²(1 − N/p) + σ²N/(p − N), and infinite at p = N unless σ² = 0.

    **Arguments**: as for `least_squares_risk`, not only whole numbers; `ridge` δ ≥ 0.

    **Returns**: the risk, of their common shape.

    **Raises**: ValueError for numbers that are negative or not finite.

    **Source**: Dobriban & Wager 2018; Hastie, Montanari, Rosset & Tibshirani 2022.

    >>> import jax.numpy as jnp
    >>> print(least_squares_limit(100, jnp.array([50, 200]), 0.25).round(4))
    [0.25 0.75]
    >>> print(least_squares_limit(100, 100, 0.25, ridge=25.0).round(4))
    0.3904
    """
    n, p, noise, size, ridge = _cases(samples, features, noise_variance, signal, ridge)
    # N ς² + (N − p − δ) ς − δ = 0; of ς and δ/ς the one that would cancel comes from the other.
    slope = n - p - ridge
    large = (np.hypot(slope, 2 * np.sqrt(n * ridge)) + np.abs(slope)) / 2
    small = n * ridge / np.where(large > 0, large, 1)
    left, free = np.where(slope > 0, (small, large), (large, small))  # Nς and δ/ς
    learnt, missed = n / (n + left), left / (n + left)
    top = n * missed**2 * size + p * learnt**2 * noise
    bottom = free + p * learnt * missed  # N − pL², since pL = N − δ/ς
    with np.errstate(divide="ignore", invalid="ignore"):
        return jnp.asarray(np.where(top > 0, top / bottom, 0))


def _cases(samples, features, *others):
    counts = positive("samples", samples), positive("features", features)
    names = ("noise_variance", "signal", "ridge")
    rest = (nonnegative(name, value) for name, value in zip(names, others, strict=False))
    return np.broadcast_arrays(*counts, *rest)
