"""Averages and sums over pixels, by which an architecture forgets where something was."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp

from ntkbook._base.hints import guided, guided_layer
from ntkbook._base.rows import require_entries
from ntkbook._base.types import Array, ArrayLike, Float, Num, PyTree
from ntkbook.architectures.windows import Spatial, Windows, bare, pooled, windows_of
from ntkbook.signals.signal import Signal, scaled


class Mixing(Spatial):
    """What sums over pixels, and so needs all pairs of them."""

    @property
    def mixes_pixels(self) -> bool:
        return True


@guided_layer
@dataclass(frozen=True)
class AvgPool(Mixing):
    """The average of each channel over windows of pixels.

    Its kernels are averages over all pairs of pixels of two windows, so that whatever comes before
    it is computed for all pairs of pixels.  Covariances may cancel in them: pairs of images that
    are closer than a few units of rounding after it count as parallel.

    **Arguments**: `shape` of the window, a length for each axis of space, or a number for the
    single axis of a sequence; `strides`, the shape if not given; `padding` as for `Conv`, whose
    zeros count in the average.

    **Raises**: TypeError or ValueError for other values; later, ValueError for images with other
    axes, or smaller than the window.

    **Source**: Novak et al. 2019, section 3.2.

    >>> AvgPool((2, 2)).apply((), jnp.arange(16.0).reshape(1, 4, 4, 1))[0, :, :, 0].tolist()
    [[2.5, 4.5], [10.5, 12.5]]
    """

    shape: int | Sequence[int]
    strides: int | Sequence[int] | None = None
    padding: str = "valid"

    def __post_init__(self) -> None:
        windows = self.windows
        object.__setattr__(self, "shape", windows.shape)
        object.__setattr__(self, "strides", windows.strides)

    @property
    def windows(self) -> Windows:
        """Where averages are taken."""
        strides = self.shape if self.strides is None else self.strides
        return windows_of(self.shape, strides, self.padding)

    @guided
    def apply(self, params: PyTree, x: Num[ArrayLike, "n *space c"]) -> Float[Array, "n *pixels c"]:
        """Averages of images (n, *space, channels); `params` is ()."""
        require_entries(x)
        x = jnp.asarray(x)
        self.shape_after(x.shape[1:])
        return self.windows.mean(x, range(1, x.ndim - 1))

    def propagate(self, signal: Signal, hyperparameters: PyTree) -> Signal:
        self.shape_after((*signal.space, 1))
        # Averages of Gaussian entries are Gaussian.
        return replace(_pooled(bare(signal), self.windows), gaussian=signal.gaussian)

    def shape_after(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (*self.windows.after(repr(self), shape[:-1]), shape[-1])


@dataclass(frozen=True)
class GlobalAveragePool(Mixing):
    """The average of each channel over all pixels: vectors, one entry a channel.

    Its kernels are averages over all pairs of pixels.  After circular convolutions a shift of an
    image changes none of them.

    **Source**: Novak et al. 2019, section 3.2; Arora et al. 2019, section 4.

    >>> GlobalAveragePool().apply((), jnp.ones((5, 8, 8, 3))).shape
    (5, 3)
    """

    @guided
    def apply(self, params: PyTree, x: Num[ArrayLike, "n *space c"]) -> Float[Array, "n c"]:
        """Averages of images (n, *space, channels); `params` is ()."""
        require_entries(x)
        x = jnp.asarray(x)
        self.shape_after(x.shape[1:])
        return x.mean(tuple(range(1, x.ndim - 1)))

    def propagate(self, signal: Signal, hyperparameters: PyTree) -> Signal:
        self.shape_after((*signal.space, 1))
        return replace(_pooled(bare(signal), None), gaussian=signal.gaussian)

    def shape_after(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if len(shape) < 2:
            raise ValueError(
                "GlobalAveragePool() expects images, got vectors; it comes instead of Flatten()"
            )
        return (shape[-1],)


@dataclass(frozen=True)
class GlobalSumPool(Mixing):
    """The sum of each channel over all pixels, or over the nodes of a graph.

    It is `GlobalAveragePool` times the number of pixels, by which sizes are told apart.

    **Source**: Du et al. 2019, the readout of their graph networks.

    >>> GlobalSumPool().apply((), jnp.ones((5, 8, 8, 3)))[0].tolist()
    [64.0, 64.0, 64.0]
    """

    @guided
    def apply(self, params: PyTree, x: Num[ArrayLike, "n *space c"]) -> Num[Array, "n c"]:
        """Sums over images (n, *space, channels), or over nodes; `params` is ()."""
        require_entries(x)
        x = jnp.asarray(x)
        self.shape_after(x.shape[1:])
        return x.sum(tuple(range(1, x.ndim - 1)))

    def propagate(self, signal: Signal, hyperparameters: PyTree) -> Signal:
        self.shape_after((*signal.space, 1))
        return replace(_summed(bare(signal)), gaussian=signal.gaussian)

    def shape_after(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if len(shape) < 2:
            raise ValueError(
                "GlobalSumPool() expects images, or the nodes of a graph, got vectors; it comes "
                "instead of Flatten()"
            )
        return (shape[-1],)


_pooled = jax.jit(pooled, static_argnames="windows")


@jax.jit
def _summed(signal: Signal) -> Signal:
    pixels = jnp.asarray(float(math.prod(signal.space)), signal.ntk.dtype)
    return scaled(pooled(signal, None), pixels, pixels)
