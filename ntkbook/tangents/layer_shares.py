"""What one layer with weights, dense or a convolution, contributes to the tangent kernel.

A convolution is a dense layer of the window around each pixel, with one W for all of them.  With
windows a_p and signals g_p propagated back to pixel p, the gradient of an output is Σ_p a_p g_pᵀ,
and the inner product of two gradients

    ⟨Σ_p a_p g_pᵀ, Σ_q a'_q g'_qᵀ⟩ = Σ_pq (a_p · a'_q) (g_p · g'_q) .

The right side needs no gradients, but p² pairs of pixels; the left side is cheaper where there are
many pixels.  A dense layer has one.
"""

from __future__ import annotations

import math
from functools import partial, reduce
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ntkbook._base.arrays import gram
from ntkbook._base.types import Array, Float
from ntkbook.architectures.convolution import Conv
from ntkbook.networks.dense import Dense
from ntkbook.tangents.features import inner_products

Weighted = Dense | Conv

# Entries of what pairs of pixels make that are computed together, so that they stay in the cache
# of a CPU; an accelerator wants many at a time.
_PAIRS, _PAIRS_OF_A_CARD = 2**18, 2**26

# What an entry costs beside the products that it is in, in products: that of a gradient, which is
# written to memory and read again, and that of a pair of pixels, which stays in the cache.
_GRADIENT, _PAIR = 100, 20


class Sizes(NamedTuple):
    """Of a layer with weights its pixels, the entries that each of them sees, and its width."""

    pixels: int
    entries: int
    width: int

    def by_pixels(self, k: int, trace: bool, n1: int, n2: int | None) -> bool:
        """Whether pairs of pixels cost less than gradients, for k outputs of n1 and n2 examples."""
        gradients, pixels = self.operations(k, trace, n1, n2)
        return self.pixels == 1 or pixels < gradients

    def operations(self, k: int, trace: bool, n1: int, n2: int | None) -> tuple[float, float]:
        """Products of two numbers, by gradients and by pairs of pixels."""
        (p, c, w), examples, pairs = self, n1 + (n2 or 0), n1 * (n2 or n1)
        gradients = k * c * w * (examples * (p + _GRADIENT) + pairs * (1 if trace else k))
        if p == 1:
            return gradients, pairs * (c + k * w * (1 if trace else k))
        return gradients, pairs * (p * p * (c + k * w + _PAIR) + (0 if trace else p * k * k * w))

    def held(self, k: int, trace: bool, by_pixels: bool) -> int:
        """Numbers held of an example, and made of it with one other example."""
        p, c, w = self
        if not by_pixels:
            return k * (c + 1) * w
        return p * (c + k * w) + (_between(p, k, w, trace) if p > 1 else 0)


def sizes_of(layer: Weighted, shape: tuple[int, ...]) -> Sizes:
    """The sizes of a layer for examples of this shape."""
    *pixels, width = layer.shape_after(shape)
    taps = len(layer.windows) if isinstance(layer, Conv) else 1
    return Sizes(math.prod(pixels), taps * shape[-1], width)


class Pixels(NamedTuple):
    """Of n examples what each pixel sees, (n, p, c), and the signals at it, (n, p, k, width)."""

    seen: Array
    signals: Array


class Gradients(NamedTuple):
    """Of n examples the gradients in weights, (n, k, c · width), and in biases, (n, k, width)."""

    weights: Array
    biases: Array


def pixels_of(
    layer: Weighted, x: Float[Array, "n *space c"], signals: Float[Array, "k n *pixels w"]
) -> Pixels:
    """Of the inputs of a layer, and the signals that come back to its outputs, its pixels."""
    k, n, *_, width = signals.shape
    seen = x[:, None] if isinstance(layer, Dense) else _windows(layer, x)
    return Pixels(seen, signals.reshape(k, n, -1, width).transpose(1, 2, 0, 3))


def _windows(layer: Conv, x: Array) -> Array:
    taps = layer.windows.taps(x, range(1, x.ndim - 1))
    return jnp.concatenate([tap.reshape(len(x), -1, x.shape[-1]) for tap in taps], axis=-1)


def gradients_of(pixels: Pixels) -> Gradients:
    """The sums over pixels of outer products, and of signals."""
    n, _, k, _ = pixels.signals.shape
    weights = jnp.einsum("npc,npkw->nkcw", *pixels, precision=jax.lax.Precision.HIGHEST)
    return Gradients(weights.reshape(n, k, -1), pixels.signals.sum(1))


def weighted_shares(
    layer: Weighted,
    trace: bool,
    apart: bool,
    left: Pixels | Gradients,
    right: Pixels | Gradients,
) -> list[Array]:
    """The shares of the biases, if any, and of the weights, or with `apart` False their sum."""
    dense = layer.dense if isinstance(layer, Conv) else layer
    if isinstance(left, Gradients):
        entries = left.weights.shape[-1] // layer.width
    else:
        entries = left.seen.shape[-1]
    w_scale, b_scale = dense.scales(entries)
    if isinstance(left, Pixels) and isinstance(right, Pixels):
        by_pixels = partial(_over_pixels, trace=trace, left=left, right=right)
        if not apart:
            return [by_pixels(w_scale**2, b_scale**2)]
        weights = by_pixels(w_scale**2, 0.0)
    else:
        weights = w_scale**2 * inner_products(left[0], right[0], trace)
    shares = [weights]
    if layer.b_std:
        biases = inner_products(_in_biases(left), _in_biases(right), trace)
        shares = [b_scale**2 * biases, weights]
    return shares if apart else [reduce(jnp.add, shares)]


def _in_biases(factors: Pixels | Gradients) -> Array:
    return factors.biases if isinstance(factors, Gradients) else factors.signals.sum(1)


def _over_pixels(
    weights: float, biases: float, trace: bool, left: Pixels, right: Pixels
) -> Float[Array, "n1 n2"] | Float[Array, "n1 n2 k k"]:
    """Σ_pq (weights · a_p · a'_q + biases) (g_p · g'_q)."""
    n2, p, k, width = right.signals.shape
    if p == 1:
        # Two small Gram matrices take the place of one over all entries of W.
        inputs = weights * gram(left.seen[:, 0], right.seen[:, 0]) + biases
        signals = inner_products(left.signals[:, 0], right.signals[:, 0], trace)
        return (inputs if trace else inputs[:, :, None, None]) * signals
    seen, flat = (a.reshape(n2 * p, -1) for a in right)

    def against_all(one: Pixels) -> Array:
        inputs = (weights * gram(one.seen, seen) + biases).reshape(p, n2, p)
        if trace:
            signals = gram(one.signals.reshape(p, -1), flat).reshape(p, n2, p)
            return (inputs * signals).sum((0, 2))
        # One sum over pixels before the outputs meet: k times less than all pairs of both.
        highest = jax.lax.Precision.HIGHEST
        halfway = jnp.einsum("pjq,jqbw->jpbw", inputs, right.signals, precision=highest)
        return jnp.einsum("paw,jpbw->jab", one.signals, halfway, precision=highest)

    limit = _PAIRS if jax.default_backend() == "cpu" else _PAIRS_OF_A_CARD
    together = limit // (n2 * _between(p, k, width, trace))
    return jax.lax.map(against_all, left, batch_size=max(1, together))


def _between(p: int, k: int, width: int, trace: bool) -> int:
    """Numbers made on the way of a pair of examples."""
    return 2 * p * p if trace else p * (p + k * width)
