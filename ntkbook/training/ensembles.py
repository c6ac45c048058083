"""Infinitely wide networks drawn at random, all trained alike: their mean and covariance.

At the start they are a Gaussian process of mean zero, whose covariance is the NNGP kernel K.
Training under the tangent kernel Θ is affine in the start and in the targets,

    f_t(x) = f_0(x) + A_t(x) (y − f_0(X)),    A_t = Θ(x, X) φ(Θ, t),

so they stay a Gaussian process, of mean A_t y and of the covariance that `covariance` computes
(Lee et al. 2019, corollary 1).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from ntkbook._base.arguments import as_floating, require_finite, require_shape
from ntkbook._base.arrays import matmul
from ntkbook._base.types import Array, Float
from ntkbook.signals.signal import Kernel
from ntkbook.training.problem import at_test_points


def kernels_at_test_points(
    k_test_train: Kernel | None, k_test: Kernel | None, y: Float[Array, "N *k"]
) -> tuple[Float[Array, "M N"], Float[Array, "M M"] | Float[Array, "M"]]:
    """Checked nngp parts of the two: (M, N), and (M, M) or, of a `kernel_diagonal`, (M,)."""
    cross, own = _nngp("k_test_train", k_test_train), _nngp("k_test", k_test).astype(y.dtype)
    cross, _ = at_test_points(y, None, cross, None)
    require_shape("k_test", own, cross.shape[:1] * (1 if own.ndim == 1 else 2))
    return cross, require_finite("k_test", own)


def _nngp(name: str, kernel: Kernel | None) -> Array:
    if not isinstance(kernel, Kernel):
        raise TypeError(
            f"{name} must be a Kernel, such as net.kernel(x_test), "
            f"got {type(kernel).__name__}; k_test_train and k_test come together"
        )
    return as_floating(f"{name}.nngp", kernel.nngp)


@jax.jit
def covariance_on_training_points(
    vectors: Float[Array, "N N"], left: Float[Array, "*t N N"], nngp: Float[Array, "N N"]
) -> Float[Array, "*t N N"]:
    """(I − A) K (I − A) on the training points, (…, N, N).

    `vectors` U are those of Θ, and `left` = (I − A) U = U diag(decay).
    """
    inside = matmul(vectors.T, matmul(nngp, vectors))
    product = matmul(matmul(left, inside), jnp.swapaxes(left, -1, -2))
    # Rounding is not symmetric; its mean with the transpose is, to the last bit.
    return (product + jnp.swapaxes(product, -1, -2)) / 2


@jax.jit
def covariance(
    vectors: Float[Array, "N N"],
    moved: Float[Array, "*t M N"],
    nngp: Float[Array, "N N"],
    cross: Float[Array, "M N"],
    own: Float[Array, "M M"] | Float[Array, "M"],
) -> Float[Array, "*t M M"] | Float[Array, "*t M"]:
    """K_** + A K Aᵀ − A K_X* − K_*X Aᵀ, (…, M, M).

    `vectors` U are those of Θ, and `moved` = A U = Θ_*X U diag(gain); K is `nngp` (N, N), K_*X
    `cross` (M, N); K_** is `own`, (M, M), or (M,) for the diagonal alone, (…, M).
    """
    # Half of A K Aᵀ goes to each of the other two products: with B = K_*X − ½ A K they are A Bᵀ
    # and its transpose, so that the result is symmetric to the last bit.
    inside = matmul(vectors.T, matmul(nngp, vectors))
    rest = matmul(cross, vectors) - matmul(moved, inside) / 2
    if own.ndim == 1:
        return jnp.maximum(own - 2 * jnp.sum(moved * rest, axis=-1), 0)
    change = matmul(moved, jnp.swapaxes(rest, -1, -2))
    return own - (change + jnp.swapaxes(change, -1, -2))
