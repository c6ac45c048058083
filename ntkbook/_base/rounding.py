"""What the rounding of a kernel's entries does to what is predicted with it, said in a warning."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from ntkbook._base.arguments import is_traced
from ntkbook._base.messages import warn
from ntkbook._base.types import Array, DTypeLike, Float, Scalar

# Of the squared residual: a forecast that is off by a thousandth of what there is to learn, where
# float32 is good to 1e-5 otherwise.
NOTICED = 1e-6


def warn_of_lost_modes(
    values: Float[Array, "N"], entries: DTypeLike, share: Float[Array, ""], effect: str
) -> None:
    """Warn when modes that rounding of the `entries` made null hold a noticeable part of a target.

    `values` are the eigenvalues; `share` is that part, squared, and `effect` says of what it is,
    with {} for its root, by which results are off.
    """
    if is_traced(share) or not share > NOTICED:
        return
    part = effect.format(f"{100 * float(share) ** 0.5:.3g} %")
    warn(
        f"{int((values == 0).sum())} of the {len(values)} eigenvalues of k_train cannot be told "
        f"from zero in {jnp.dtype(entries)}, and {part}; if the kernel is not singular by itself, "
        "compute it in float64: ntk.setup()"
    )


def warn_of_felt_rounding(
    k_test_train: Float[Array, "M N"],
    coefficients: Float[Array, "..."],
    start: Float[Array, "N *k"],
    entries: DTypeLike,
    advice: str,
) -> None:
    """Warn when rounding of Θ(x, X), multiplied by the coefficients, moves predictions by 1 %.

    `coefficients` are (…, N) or (…, N, k), as `start`, of which the 1 % are; `entries` is the
    dtype whose rounding the kernels' entries carry, and `advice` what helps besides float64.
    """
    if is_traced(k_test_train, coefficients, start) or not np.isfinite(coefficients).all():
        return
    eps = float(jnp.finfo(entries).eps)
    lengths = np.linalg.norm(np.asarray(coefficients, float), axis=-1 if start.ndim == 1 else -2)
    matrix = np.asarray(k_test_train)
    largest = max(float(matrix.max(initial=0)), -float(matrix.min(initial=0)))
    felt = eps * largest * lengths.max(initial=0)
    if felt > 0.01 * np.abs(np.asarray(start, float)).max(initial=0):
        wide = "" if entries == jnp.float64 else "compute the kernels in float64 (ntk.setup()), or "
        warn(
            f"predictions at test points are off by some {felt:.2g} or more: that is rounding of "
            f"the kernels' entries in {jnp.dtype(entries)} times coefficients that slow modes have "
            f"made large; {wide}{advice}"
        )


def represented(name: str, number: Scalar, dtype: DTypeLike) -> Float[Array, ""]:
    """`number` in this dtype; ValueError where it becomes zero or infinite there."""
    if not is_traced(number):
        with np.errstate(over="ignore", under="ignore"):
            kept = np.asarray(number, float).astype(dtype)
        if not np.isfinite(kept) or (kept == 0) != (number == 0):
            raise ValueError(
                f"{name} must be in the range of {jnp.dtype(dtype)}, got {number}; use "
                "ntk.setup() and float64, or other units"
            )
    return jnp.asarray(number, dtype)


def coarsest(*dtypes: DTypeLike) -> np.dtype:
    """The dtype with the largest rounding."""
    return max((jnp.dtype(d) for d in dtypes), key=lambda dtype: float(jnp.finfo(dtype).eps))
