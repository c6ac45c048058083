"""Infinitely wide networks drawn at random, all trained alike: their mean and covariance.

At the start they are a Gaussian process of mean zero, whose covariance is the NNGP kernel K.
Training under the tangent kernel Θ is affine in the start and in the targets,

    f_t(x) = f_0(x) + A_t(x) (y − f_0(X)),    A_t = Θ(x, X) φ(Θ, t),

so they stay a Gaussian process, of mean A_t y and of the covariance that `covariance` computes
(Lee et al. 2019, corollary 1).
"""

import jax
import jax.numpy as jnp

from ntkbook._base.arguments import as_floating, require_finite, require_shape
from ntkbook._base.arrays import matmul
from ntkbook.networks.signal import Kernel


def kernels_at_test_points(k_test_train, k_test, dtype):
    """Checked nngp parts of the two: (M, N), and (M, M) or, of a `kernel_diagonal`, (M,)."""
    for name, kernel in (("k_test_train", k_test_train), ("k_test", k_test)):
        if not isinstance(kernel, Kernel):
            raise TypeError(
                f"{name} must be a Kernel, such as net.kernel(x_test), "
                f"got {type(kernel).__name__}; k_test_train and k_test come together"
            )
    cross, own = (as_floating("nngp", k.nngp).astype(dtype) for k in (k_test_train, k_test))
    require_shape("k_test", own, cross.shape[:1] * (1 if own.ndim == 1 else 2))
    require_finite("k_test", own)
    return require_finite("k_test_train", cross), own


@jax.jit
def covariance_on_training_points(modes, decay, nngp):
    """(I − A) K (I − A) on the training points, where I − A = U diag(decay) Uᵀ: (…, N, N)."""
    left = modes.vectors * decay[..., None, :]
    inside = matmul(modes.vectors.T, matmul(nngp, modes.vectors))
    product = matmul(matmul(left, inside), jnp.swapaxes(left, -1, -2))
    return (product + jnp.swapaxes(product, -1, -2)) / 2


@jax.jit
def covariance(modes, gain, nngp, tangent, cross, own):
    """K_** + A K Aᵀ − A K_X* − K_*X Aᵀ for A = Θ_*X U diag(gain) Uᵀ: (…, M, M).

    `gain` (…, N); K is `nngp` (N, N), K_*X `cross` and Θ_*X `tangent` (M, N); K_** is `own`,
    (M, M), or (M,) for the diagonal alone, (…, M).  Half of A K Aᵀ goes to each of the other two
    products, so that one is the transpose of the other and the result is exactly symmetric.
    """
    moved = matmul(tangent, modes.vectors) * gain[..., None, :]
    inside = matmul(modes.vectors.T, matmul(nngp, modes.vectors))
    rest = matmul(cross, modes.vectors) - matmul(moved, inside) / 2
    if own.ndim == 1:
        return jnp.maximum(own - 2 * jnp.sum(moved * rest, axis=-1), 0)
    change = matmul(moved, jnp.swapaxes(rest, -1, -2))
    return own - (change + jnp.swapaxes(change, -1, -2))
