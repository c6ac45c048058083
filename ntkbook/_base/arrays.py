"""Products of matrices in the full precision of their dtype."""

import jax
import jax.numpy as jnp


def matmul(a, b):
    """Product a @ b in the full precision of its dtype, which GPUs give up for speed if let."""
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def gram(x1, x2):
    """x1 x2^T at full precision (accelerators would round float32 factors to ten bits)."""
    return jnp.matmul(x1, x2.T, precision=jax.lax.Precision.HIGHEST)
