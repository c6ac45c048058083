"""Signals of images: arrays (n, *space, channels), each pixel of which has an angle of its own.

A layer that moves pixels together needs equal pixels of two images only; one that averages over
pixels needs all pairs of them, and the variance of an average needs all pairs of one image.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp

from ntkbook._base.types import Array, ArrayLike, Bool, Float
from ntkbook.signals.inputs import (
    FEW_FEATURES,
    Inputs,
    input_signal,
    inputs,
    paired_signal,
    signal_of_few,
)
from ntkbook.signals.signal import Kernel, Signal


def image_signal(
    inputs1: Inputs,
    inputs2: Inputs,
    exact: bool = False,
    identical: Bool[Array, "n1 n2"] | bool = False,
    pixel_pairs: bool = False,
) -> Signal:
    """`input_signal` of the pixels of images; of all pairs of them, or of equal pixels.

    Of `own` nothing is taken.
    """
    space = inputs1.x.shape[1:-1]
    if not space:  # what mixes pixels refuses vectors
        return input_signal(inputs1, inputs2, exact, identical)
    if inputs1.x.shape[-1] <= FEW_FEATURES:
        return _of_few(inputs1, inputs2, jnp.asarray(identical), pixel_pairs)
    pixels = inputs1.variance[0].size
    ends = [_pixels_apart(end, len(space)) for end in (inputs1, inputs2)]
    if pixel_pairs:
        rows = [jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), end) for end in ends]
        counts = [len(end.variance) for end in ends]
        one = jnp.broadcast_to(jnp.asarray(identical), counts)[:, None, :, None]
        one = one & jnp.eye(pixels, dtype=bool)[:, None, :]
        flat = input_signal(rows[0], rows[1], exact, one.reshape(counts[0] * pixels, -1))
        return _shaped(flat, partial(_pairs, counts=counts, space=space), inputs1.x, True)
    aside = [jax.tree.map(lambda a: a.swapaxes(0, 1), end) for end in ends]
    flat = jax.vmap(partial(input_signal, exact=exact, identical=identical))(*aside)
    return _shaped(flat, lambda a: jnp.moveaxis(a, 0, -1).reshape(*a.shape[1:], *space), inputs1.x)


def _of_few(
    inputs1: Inputs, inputs2: Inputs, identical: Bool[Array, "..."], pixel_pairs: bool
) -> Signal:
    """`image_signal` of few channels, computed in the layout that a signal has."""
    space = inputs1.x.shape[1:-1]
    other = (1,) * len(space) if pixel_pairs else ()

    def rows(a: Array) -> Array:
        return a.reshape(len(a), 1, *space, *other, *a.shape[1 + len(space) :])

    def columns(a: Array) -> Array:
        return a.reshape(1, len(a), *other, *space, *a.shape[1 + len(space) :])

    one = identical.reshape(*identical.shape, *other, *(1,) * len(space))
    if pixel_pairs:
        one = one & jnp.eye(math.prod(space), dtype=bool).reshape(*space, *space)
    ends = jax.tree.map(rows, inputs1), jax.tree.map(columns, inputs2)
    return replace(signal_of_few(*ends, one), space=space, pixel_pairs=pixel_pairs)


def own_signal(x: Float[ArrayLike, "n *d"], pixel_pairs: bool = False) -> Signal:
    """`paired_signal` of images: of each with itself, of all pairs of its pixels or of each."""
    x = jnp.asarray(x)
    space = x.shape[1:-1]
    own = _own_pairs(x) if pixel_pairs and space else replace(paired_signal(x), space=space)
    return replace(own, identical=jnp.ones(len(x), bool))


def largest(kernel: Kernel, axes: int) -> Kernel:
    """A kernel without the pixels behind so many axes: the largest entry in absolute value."""
    over = tuple(range(axes - kernel.nngp.ndim, 0))
    if not over:
        return kernel
    return Kernel(*(jnp.abs(part).max(over) for part in (kernel.nngp, kernel.ntk)))


@jax.jit
def _own_pairs(x: Float[Array, "n *d"]) -> Signal:
    space = x.shape[1:-1]
    ends = _pixels_apart(inputs(x), len(space))
    same = jnp.eye(ends.x.shape[1], dtype=bool)
    flat = jax.vmap(lambda end: input_signal(end, end, True, same))(ends)

    def shape(a: Array) -> Array:
        sides = [space if length > 1 else (1,) * len(space) for length in a.shape[1:]]
        return a.reshape(len(x), *sides[0], *sides[1])

    return _shaped(flat, shape, x, True)


def _pixels_apart(ends: Inputs, dimensions: int) -> Inputs:
    """The `Inputs` with one axis of pixels (n, P, …) instead of the axes of space."""
    return jax.tree.map(lambda a: a.reshape(len(a), -1, *a.shape[1 + dimensions :]), ends)


def _pairs(a: Array, counts: list[int], space: tuple[int, ...]) -> Array:
    """(n1 P, n2 P) → (n1, n2, *space, *space), either side having length one throughout if so."""
    sides = [
        (count, *space) if length > 1 else (1,) * (1 + len(space))
        for count, length in zip(counts, a.shape, strict=True)
    ]
    return jnp.moveaxis(a.reshape(*sides[0], *sides[1]), 1 + len(space), 1)


def _shaped(
    flat: Signal, shape: Callable[[Array], Array], x: Array, pixel_pairs: bool = False
) -> Signal:
    parts: dict = {
        name: shape(getattr(flat, name)) for name in ("var1", "var2", "cosine", "gap", "ntk")
    }
    return replace(
        flat, **parts, features=x.shape[-1], space=x.shape[1:-1], pixel_pairs=pixel_pairs
    )
