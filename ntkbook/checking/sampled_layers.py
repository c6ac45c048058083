"""The networks that `check_layer` draws, and the inputs that they are given."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import gcd

import jax
import jax.numpy as jnp
import numpy as np

from ntkbook._base.arrays import gram
from ntkbook._base.types import Array, Float, PRNGKeyArray
from ntkbook.networks.layer import Layer
from ntkbook.signals.signal import Kernel

# Entries of all Jacobians held at once.
_ENTRIES = 2**22


def trial_inputs(space: tuple[int, ...]) -> Float[Array, "6 *space 3"]:
    """Inputs with squared lengths per feature of 0.3 to 1, in all the relations that matter."""
    a, b, c = np.array([[1.0, 1.2, 0.6], [-0.4, 1.0, -1.1], [1.1, -0.3, 0.5]])
    if space:  # each pixel another one
        a, b, c = 0.8 * np.random.default_rng(0).standard_normal((3, *space, 3))
    return jnp.array([a, 0.6 * a, -0.8 * a, a + 0.05 * b, b, c])


def power_of_two(number: int) -> int:
    """The largest that is not above `number`."""
    return 1 << (number.bit_length() - 1)


def count(net: Layer, x: Float[Array, "n *d"]) -> int:
    """The number of parameters of a network of the test inputs."""
    shapes = jax.eval_shape(lambda key: net.init(key, x.shape[1:]), jax.random.key(0))
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


def row_by_row(net: Layer, key: PRNGKeyArray, n: int) -> tuple[Callable, tuple[Array, ...]]:
    """The network of one row, and what it is given of each of n rows beside: a key, if it drops."""
    apply: Callable = net.apply
    if not net.drops:
        return lambda params, row: apply(params, row[None])[0], ()
    keys = jax.random.split(key, n)
    return lambda params, row, key: apply(params, row[None], key)[0], (keys,)


@partial(jax.jit, static_argnums=(0, 1))
def sampled_kernels(
    net: Layer, samples: int, key: PRNGKeyArray, x: Float[Array, "n *d"]
) -> tuple[Kernel, Kernel]:
    """Mean kernels of sampled networks per output, and their standard errors."""
    x = x.astype(jnp.float32)

    def draw(key: PRNGKeyArray) -> Kernel:
        init_key, sign_key = jax.random.split(key)
        params = net.init(init_key, x.shape[1:], x.dtype)
        one_row, own = row_by_row(net, jax.random.fold_in(key, 2), len(x))
        y = net.apply(params, x) if not own else jax.vmap(one_row, (None, 0, 0))(params, x, *own)
        # Gradients of one random combination of all outputs, each with sign ±1, have the trace
        # over outputs as their expected kernel (Hutchinson), at the price of a single output;
        # for a function of each entry, whose outputs share no parameters, it is exact.
        signs = jax.random.rademacher(sign_key, y.shape[1:], y.dtype)
        slope = jax.grad(lambda *given: one_row(*given) @ signs)
        slopes = jax.vmap(slope, in_axes=(None, 0, *[0] * len(own)))(params, x, *own)
        parts = (leaf.reshape(len(x), -1) for leaf in jax.tree.leaves(slopes))
        ntk = sum((gram(part, part) for part in parts), start=jnp.asarray(0))
        return Kernel(gram(y, y) / y.shape[1], ntk / y.shape[1])

    # A divisor of the number of samples, or the remainder would be compiled as a second program.
    fitting = power_of_two(max(1, _ENTRIES // (len(x) * count(net, x))))
    keys = jax.random.split(key, samples)
    drawn = jax.lax.map(draw, keys, batch_size=gcd(samples, fitting))
    mean = jax.tree.map(lambda k: k.mean(axis=0, dtype=jnp.float64), drawn)
    error = jax.tree.map(lambda k: k.std(axis=0, ddof=1, dtype=jnp.float64) / samples**0.5, drawn)
    return mean, error
