"""Averages over windows of pixels, of arrays and of the signals of an infinite network.

A filter's weights see both images through windows that move together: the average is over equal
shifts.  Pooling averages each image by itself: over all pairs of pixels of two windows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce

import jax
import jax.numpy as jnp

from ntkbook._base.arguments import require_choice, require_count
from ntkbook._base.types import Array
from ntkbook.gaussian.pairs import inverse_root, once, replaced, rest, safe_sqrt, well_kept
from ntkbook.networks.layer import Layer
from ntkbook.signals.signal import Signal, signed_gaps, with_rates


class Spatial(Layer):
    """A layer that knows pixels: its inputs are images, and it writes `shape_after`."""

    @property
    def spatial(self) -> bool:
        return True

    def width_after(self, features: int) -> int:
        return self.shape_after((features,))[-1]


PADDINGS = ("same", "valid", "circular")


@dataclass(frozen=True)
class Windows:
    """Windows of `shape` pixels, `strides` apart, on images padded as `padding` says.

    "valid" pads nothing; "same" pads zeros, "circular" the other end of the image, so that there
    is a window for each pixel, or for each stride.
    """

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    padding: str

    def __len__(self) -> int:
        return math.prod(self.shape)

    def after(self, name: str, space: tuple[int, ...]) -> tuple[int, ...]:
        """How many windows there are along each axis; ValueError of the layer `name` if none."""
        axes = f"{len(self.shape)} {'axis' if len(self.shape) == 1 else 'axes'} of pixels"
        if not space:
            raise ValueError(
                f"{name} expects images with {axes}, got vectors; it comes before Flatten() and "
                "GlobalAveragePool()"
            )
        if len(space) != len(self.shape):
            raise ValueError(f"{name} expects images with {axes}, got {space} pixels")
        if any(map(int.__gt__, self.shape, space)):
            raise ValueError(f"{name} has a window larger than images of {space} pixels")
        if self.padding == "valid":
            space = tuple(p - k + 1 for p, k in zip(space, self.shape, strict=True))
        return tuple(-(-p // s) for p, s in zip(space, self.strides, strict=True))

    def pad(self, array: Array, dimension: int, *axes: int) -> Array:
        """`array` with what lies beyond the border along these axes of one dimension of space.

        Axes of length one are left alone: they hold what is the same for all pixels.
        """
        k, s = self.shape[dimension], self.strides[dimension]
        widths = [(0, 0)] * array.ndim
        for axis in axes:
            pixels = array.shape[axis]
            if self.padding != "valid" and pixels > 1:
                beyond = max((-(-pixels // s) - 1) * s + k - pixels, 0)
                widths[axis] = (beyond // 2, beyond - beyond // 2)
        return jnp.pad(array, widths, mode="wrap" if self.padding == "circular" else "constant")

    def slices(self, array: Array, dimension: int, *axes: int) -> Iterator[Array]:
        """The pixels that each tap sees, the axes moving together."""
        k, s = self.shape[dimension], self.strides[dimension]
        array = self.pad(array, dimension, *axes)
        for tap in range(k):
            part = array
            for axis in axes:
                pixels = array.shape[axis]
                if pixels > 1:
                    part = jax.lax.slice_in_dim(part, tap, pixels - k + tap + 1, s, axis)
            yield part

    def mean(self, array: Array, *groups: Sequence[int]) -> Array:
        """The average over taps; each group lists axes of space, and all groups move together."""
        for dimension, axes in enumerate(zip(*groups, strict=True)):
            array = reduce(jnp.add, self.slices(array, dimension, *axes))
        return array / len(self)

    def taps(self, array: Array, group: Sequence[int]) -> list[Array]:
        """The pixels that each tap sees, unsummed."""
        parts = [array]
        for dimension, axis in enumerate(group):
            parts = [part for whole in parts for part in self.slices(whole, dimension, axis)]
        return parts


def windows_of(shape: int | Sequence[int], strides: int | Sequence[int], padding: str) -> Windows:
    """`Windows`, its arguments checked; a number of pixels is a window along one axis."""
    lengths = tuple(shape) if isinstance(shape, Sequence) else (shape,)
    steps = tuple(strides) if isinstance(strides, Sequence) else (strides,) * len(lengths)
    if not lengths or len(lengths) > 3 or isinstance(shape, str):
        raise ValueError(f"shape must have one to three lengths, one for each axis, got {shape!r}")
    if len(steps) != len(lengths):
        raise ValueError(f"strides must be one number, or as many as in shape, got {strides!r}")
    return Windows(
        tuple(require_count("shape", length) for length in lengths),
        tuple(require_count("strides", step) for step in steps),
        require_choice("padding", padding, PADDINGS),
    )


def bare(signal: Signal) -> Signal:
    """`signal` without what no average keeps, so that a program serves wherever it comes from."""
    return replace(signal, gaussian=False, mean1=None, mean2=None)


def filtered(signal: Signal, windows: Windows) -> Signal:
    """The average of covariance and tangent kernel over the taps of a filter, at each pixel."""
    groups = _groups(signal)

    def distance(root1: Array, root2: Array, inverse1: Array, inverse2: Array) -> Array:
        taps = zip(windows.taps(root1, groups[0]), windows.taps(root2, groups[-1]), strict=True)
        scale = len(windows) ** -0.5
        inverse1, inverse2 = once(scale * inverse1), once(scale * inverse2)
        return reduce(jnp.add, [(once(a * inverse1) - once(b * inverse2)) ** 2 for a, b in taps])

    averaged = _averaged(signal, lambda a: windows.mean(a, *groups), distance)
    return replace(averaged, space=windows.after("a filter", signal.space))


def flattened(signal: Signal) -> Signal:
    """The average over pixels, each with the same pixel of the other image."""
    pixels = math.prod(signal.space)

    def equal(a: Array) -> Array:
        if not signal.pixel_pairs:
            return a.reshape(*a.shape[: a.ndim - len(signal.space)], pixels)
        lead = a.shape[: a.ndim - 2 * len(signal.space)]
        sides = [math.prod(a.shape[axis] for axis in group) for group in _groups(signal)]
        a = a.reshape(*lead, *sides)
        return a.squeeze(sides.index(1) - 2) if 1 in sides else jnp.diagonal(a, 0, -2, -1)

    def distance(root1: Array, root2: Array, inverse1: Array, inverse2: Array) -> Array:
        scale = pixels**-0.5
        left, right = root1 * (scale * inverse1)[..., None], root2 * (scale * inverse2)[..., None]
        return ((once(left) - once(right)) ** 2).sum(-1)

    names = ("var1", "var2", "cosine", "gap", "ntk")
    parts: dict = {name: equal(getattr(signal, name)) for name in names}
    flat = replace(signal, **parts)
    averaged = _averaged(flat, lambda a: a.mean(-1), distance)
    return replace(averaged, space=(), pixel_pairs=False, features=signal.features * pixels)


def _groups(signal: Signal) -> list[range]:
    """The axes of pixels: of all pairs, those of the first image and those of the second."""
    axes = len(signal.space)
    return [range(-2 * axes, -axes), range(-axes, 0)] if signal.pixel_pairs else [range(-axes, 0)]


def _averaged(signal: Signal, mean: Callable[[Array], Array], distance: Callable) -> Signal:
    """The signal of the concatenated entries that `mean` takes together, without cancellation.

    ρ' is the sum of u1 u2 ρ over them, u² being the share of each in the variance, so that
    1 ∓ ρ' = Σ u1 u2 (1 ∓ ρ) + Σ (u1 - u2)²/2: terms that are all small when it is, and zero for
    parallel images.  `distance` gives the last sum, of the roots of variances u1 and u2.
    """
    var1, var2 = mean(signal.var1), mean(signal.var2)
    inverse1, inverse2 = inverse_root(var1), inverse_root(var2)
    zero = (var1 == 0) | (var2 == 0)
    apart = distance(safe_sqrt(signal.var1), safe_sqrt(signal.var2), inverse1, inverse2) / 2
    # Zero, with the derivatives that the roots of shares that are zero have not.
    for before, after in ((signal.var1, var1), (signal.var2, var2)):
        shares = mean(jnp.where(before == 0, before, 0)) / jnp.where(after == 0, 1, after)
        apart += replaced(shares / 2, jnp.zeros_like(shares))
    near, far = (mean(signal.norm * part) * inverse1 * inverse2 for part in signed_gaps(signal))
    inner = rest(signal.norm, signal.cosine, mean)
    left = inner * inverse1 * inverse2
    gap = jnp.where(zero, 0, jnp.minimum(apart + near - left, apart + far + left))
    cosine = jnp.where(zero, 1, (far - near) / 2 + left)
    cosine, gap = well_kept(*with_rates(zero, inner, cosine, gap))
    return replace(
        signal,
        var1=var1,
        var2=var2,
        cosine=cosine,
        gap=gap,
        ntk=mean(signal.ntk),
    )


def beyond_rounding(var: Array, size: Array) -> Array:
    """A variance whose terms add up to `size`; zero if it is what rounding leaves of them."""
    return replaced(var, jnp.where(var <= 8 * jnp.finfo(var.dtype).eps * size, 0, var))


def angle_of_sum(var1: Array, var2: Array, nngp: Array, size: Array) -> tuple[Array, Array]:
    """Cosine and gap of a covariance, the terms of which add up to `size` and may cancel.

    A cosine that is ±1 but for what rounding leaves of them counts as that.
    """
    inverse = inverse_root(var1) * inverse_root(var2)
    zero = (var1 == 0) | (var2 == 0)
    cosine = jnp.where(zero, 1, nngp * inverse)
    gap = jnp.where(cosine < 0, 1 + cosine, 1 - cosine)
    parallel = gap <= 8 * jnp.finfo(gap.dtype).eps * jnp.maximum(1, size * inverse)
    gap = replaced(gap, jnp.where(zero | parallel, 0, gap))
    cosine = replaced(cosine, jnp.where(parallel, jnp.where(cosine < 0, -1, 1), cosine))
    return well_kept(*with_rates(zero, nngp, cosine, gap))


def pooled(signal: Signal, windows: Windows | None) -> Signal:
    """The signal of the average entries of each window, or of the whole image if there are none.

    Its variance is an average over all pairs of pixels of one image: on the diagonal alone it is at
    hand, otherwise it was computed there before, and is the first of `own1` and `own2`.
    """
    first, second = _groups(signal)
    space = windows.after("a pooling layer", signal.space) if windows else ()
    alone = signal.cosine.ndim == 1 + 2 * len(signal.space)

    def side(array: Array, group: Sequence[int]) -> Array:
        if windows:
            return windows.mean(array, group)
        return array.mean(tuple(group), keepdims=True)

    def both(array: Array) -> Array:
        means = side(side(array, second), first)
        return means if windows else means.squeeze((*first, *second))

    size = both(safe_sqrt(signal.var1)) * both(safe_sqrt(signal.var2))
    nngp, ntk = both(signal.nngp), both(signal.ntk)
    if alone:
        pixels = math.prod(space)
        var = jnp.diagonal(nngp.reshape(-1, pixels, pixels), 0, 1, 2).reshape(-1, *space)
        var = beyond_rounding(var, both(signal.var1).reshape(var.shape))
        var1 = var.reshape(*var.shape, *[1] * len(space))
        var2 = var.reshape(len(var), *[1] * len(space), *space)
        rest1, rest2 = (*signal.own1, var), signal.own2
    else:
        var, other = signal.own1[0], signal.own2[0]
        rest1, rest2 = signal.own1[1:], signal.own2[1:]
        var1 = var.reshape(len(var), 1, *space, *[1] * len(space))
        var2 = other.reshape(1, len(other), *[1] * len(space), *space)
    cosine, gap = angle_of_sum(var1, var2, nngp, size)
    return replace(
        signal,
        var1=var1,
        var2=var2,
        cosine=cosine,
        gap=gap,
        ntk=ntk,
        space=space,
        pixel_pairs=bool(windows),
        own1=rest1,
        own2=rest2,
    )
