"""Products with a network's tangent kernel.

Vectors are (M,) in float64, M = n k outputs of n examples; the network computes in its own dtype.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ntkbook._base.compiled import compiled
from ntkbook._base.types import Array, PyTree
from ntkbook.diagnosis.lanczos import Vector
from ntkbook.tangents.model import Model

# Examples that pass through the network together: what bounds the memory of its activations.
BLOCK = 64


@dataclass(frozen=True)
class Tangents:
    """Derivatives of f over n examples in blocks xs (B, b, …), one after the other.

    Besides `params` a product holds two of their size: the sum over blocks, and a block's share.
    """

    f: Model
    xs: Array
    shape: tuple[int, ...]
    dtype: np.dtype
    done: Callable[[], Any]

    def pull(self, params: PyTree, v: Vector) -> PyTree:
        """J^T v."""
        n = self.xs.shape[0] * self.xs.shape[1]
        padded = np.zeros((n, *self.shape[1:]))
        padded[: self.shape[0]] = v.reshape(self.shape)
        blocks = jnp.asarray(padded.reshape(*self.xs.shape[:2], *self.shape[1:]), self.dtype)
        return compiled(_pull, (self.f,))(params, self.xs, blocks)

    def push(self, params: PyTree, direction: PyTree) -> tuple[Vector, Vector]:
        """f(params, x) and J · direction."""
        both = compiled(_push, (self.f,))(params, direction, self.xs)
        n, k = self.shape[0], self.shape[1:]
        outputs, slope = (np.asarray(a, np.float64).reshape(-1, *k)[:n].reshape(-1) for a in both)
        return outputs, slope

    def product(self, params: PyTree) -> Callable[[Vector], Vector]:
        """The map v ↦ Θ v, Θ = J J^T."""

        def multiply(v: Vector) -> Vector:
            self.done()
            image = self.push(params, self.pull(params, v))[1]
            if not np.isfinite(image).all():
                raise FloatingPointError("f must have finite derivatives in params, got NaN or inf")
            return image

        return multiply


def in_blocks(x: Array) -> Array:
    """x (n, …) as (B, b, …), the last block filled up with first examples."""
    size = min(BLOCK, len(x))
    count = -(-len(x) // size)
    return x[np.arange(count * size) % len(x)].reshape(count, size, *x.shape[1:])


def _pull(f: Model, params: PyTree, xs: Array, vs: Array) -> PyTree:
    def add(total, block):
        x, v = block
        _, pullback = jax.vjp(lambda p: f(p, x), params)
        return jax.tree.map(jnp.add, total, pullback(v)[0]), None

    with jax.default_matmul_precision("highest"):
        return jax.lax.scan(add, jax.tree.map(jnp.zeros_like, params), (xs, vs))[0]


def _push(f: Model, params: PyTree, direction: PyTree, xs: Array) -> tuple[Array, Array]:
    def along(x):
        return jax.jvp(lambda p: f(p, x), (params,), (direction,))

    with jax.default_matmul_precision("highest"):
        return jax.lax.map(along, xs)
