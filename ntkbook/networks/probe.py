"""Whether a layer from outside this package says in `propagate` what its `apply` does.

A contradiction between the two makes every kernel wrong without a word.  A few random networks tell
a forgotten factor; `check_layer` tells much more, and takes longer.  And whether what is dropped
at random has a limit.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

from ntkbook._base.types import Array, Float, PRNGKeyArray, PyTree
from ntkbook.signals.signal import Signal


class Faces(Protocol):
    """What is asked of a layer here."""

    @property
    def drops(self) -> bool: ...
    @property
    def draws(self) -> bool: ...
    def init(self, key: PRNGKeyArray, input_shape: tuple[int, ...], dtype: type) -> PyTree: ...
    def apply(self, params: PyTree, x: Array) -> Array: ...
    def hyperparameters(self) -> PyTree: ...
    def propagate(self, signal: Signal, hyperparameters: PyTree) -> Signal: ...


# So many outputs in all are drawn, from 32 layers at least, for errors of a few per cent.
_OUTPUTS = 2**14
_VARIANCES = (0.5, 1.0, 1.7)
_TANGENT = 0.8
# Of the value, beside six standard errors: finite layers may differ by terms of order 1/width.
_ALLOWANCE = 0.1


def is_foreign(layer: object) -> bool:
    """Whether the class of this layer was written outside of this package."""
    return not type(layer).__module__.startswith("ntkbook.")


def require_weights_before_drops(net: Faces) -> None:
    """Raise ValueError where features of the inputs are dropped, which are too few for a limit."""
    if net.drops:
        _weights_after(net, False)


def _weights_after(layer: Faces, before: bool) -> bool:
    """Whether weights stand between the inputs and what a layer hands on, given those before it."""
    inside = getattr(layer, "layers", None)
    if inside is None:
        if layer.drops and not before:
            raise ValueError(
                f"kernel expects a layer with weights before {layer!r}, got the inputs, which have "
                "too few features for the law of large numbers that its limit rests on"
            )
        return before or layer.draws
    within = before
    for inner in inside:
        within = _weights_after(inner, within)
    return before if getattr(layer, "keeps_inputs", False) else within


# Once for each layer and width; equal layers are one.
@lru_cache(maxsize=1024)
def probe(layer: Faces, features: int) -> None:
    """Raise ValueError when `propagate` contradicts random finite layers of this width.

    Compared are the mean square of the outputs and of their change with random directions in
    parameters and inputs: for independent normal directions that is the tangent kernel.
    """
    # The answer is needed now, also inside `jit`.
    with jax.ensure_compile_time_eval():
        variance = jnp.array(_VARIANCES, jnp.float32)
        one, zero = jnp.ones_like(variance), jnp.zeros_like(variance)
        same = jnp.ones(len(variance), bool) if layer.drops else None
        pairs = variance, variance, one, zero, _TANGENT * one
        before = Signal(*pairs, features, gaussian=True, identical=same)
        after = layer.propagate(before, layer.hyperparameters())
        keys = jax.random.split(jax.random.key(0), max(32, _OUTPUTS // features))
        # One after the other: a wide layer's parameters are in memory once.
        squares, changes = jax.lax.map(lambda key: _draw(layer, key, variance, features), keys)
    for name, said, sampled in (("nngp", after.var1, squares), ("ntk", after.ntk, changes)):
        theory, samples = np.asarray(said), np.asarray(sampled)
        mean, error = samples.mean(0), samples.std(0, ddof=1) / len(keys) ** 0.5
        off = np.abs(mean - theory) - 6 * error - _ALLOWANCE * np.maximum(np.abs(theory), mean)
        worst = int(np.argmax(off))
        if not off[worst] <= 0:
            raise ValueError(
                f"propagate contradicts apply in {layer!r}: for entries of variance "
                f"{_VARIANCES[worst]} the {name} of an input with itself is {theory[worst]:.4g} by "
                f"propagate, and {mean[worst]:.4g} ± {error[worst]:.2g} by apply in {len(keys)} "
                "random layers; ntkbook.check_layer(layer) says more"
            )


def _draw(
    layer: Faces, key: PRNGKeyArray, variance: Float[Array, "n"], features: int
) -> tuple[Float[Array, "n"], Float[Array, "n"]]:
    """Mean squares over the outputs of one random layer, and of their random changes."""
    init_key, x_key, *direction_keys = jax.random.split(key, 4)
    params = layer.init(init_key, (features,), jnp.float32)
    shape = (len(variance), features)
    x = jnp.sqrt(variance)[:, None] * jax.random.normal(x_key, shape, jnp.float32)
    leaves, form = jax.tree.flatten(params)
    keys = jax.random.split(direction_keys[0], len(leaves))
    directions = [
        jax.random.normal(key, leaf.shape, leaf.dtype)
        for key, leaf in zip(keys, leaves, strict=True)
    ]
    along = _TANGENT**0.5 * jax.random.normal(direction_keys[1], shape, jnp.float32)
    apply: Callable = layer.apply
    if layer.drops:
        apply = partial(apply, key=jax.random.fold_in(x_key, 1))
    y, change = jax.jvp(apply, (params, x), (jax.tree.unflatten(form, directions), along))
    return (y * y).mean(-1), (change * change).mean(-1)
