"""Products of matrices in the full precision of their dtype."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from ntkbook._base.types import Array, ArrayLike, Float, Num


def matmul(a: Num[ArrayLike, "..."], b: Num[ArrayLike, "..."]) -> Float[Array, "..."]:
    """Product a @ b in the full precision of its dtype, which GPUs give up for speed if let."""
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def gram(x1: Float[Array, "n1 d"], x2: Float[Array, "n2 d"]) -> Float[Array, "n1 n2"]:
    """x1 x2^T at full precision (accelerators would round float32 factors to ten bits)."""
    return jnp.matmul(x1, x2.T, precision=jax.lax.Precision.HIGHEST)
