"""The convolution, a dense layer of each window of pixels, and what makes vectors of images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from ntkbook._base.arguments import require_parameters, require_shape
from ntkbook._base.hints import guided, guided_layer
from ntkbook._base.rows import require_entries
from ntkbook._base.types import Array, ArrayLike, Float, Num, PRNGKeyArray, PyTree
from ntkbook.architectures.windows import Spatial, Windows, bare, filtered, flattened, windows_of
from ntkbook.networks.dense import Dense
from ntkbook.signals.signal import Signal


@guided_layer
@dataclass(frozen=True)
class Conv(Spatial):
    """A convolution of images, w_std/sqrt(channels · taps) w ∗ x + b_std b.

    Each pixel of the result is a dense layer of the pixels in a window around it, with the same
    weights for all windows.  Taps that see zeros beyond the border count as well, so that with
    "same" padding the border is weaker than the middle.  In the limit of many channels its kernels
    are those of pairs of pixels, averaged over equal shifts of both.

    **Arguments**: `width` ≥ 1, the number of channels that come out; `shape` of the filter, a
    length for each axis of space, such as (3, 3), or a number for the single axis of a sequence;
    `strides`, a number or one for each axis; `padding`: "same" puts zeros beyond the border,
    "circular" the other end of the image, "valid" nothing; `w_std` > 0; `b_std` ≥ 0;
    `parametrization`, "ntk" or "standard", as for `Dense`.  Its parameters are
    {"w": (*shape, channels, width), "b": (width,)}, "b" absent when b_std is zero.

    **Raises**: TypeError or ValueError for other values; later, ValueError for images with other
    axes, or smaller than the filter.

    **Source**: Novak et al. 2019 and Garriga-Alonso et al. 2019 for the NNGP, Arora et al. 2019 for
    the tangent kernel, Yang 2019 for both.

    >>> from ntkbook import Flatten, Relu, Serial
    >>> net = Serial(Conv(64, (3, 3), w_std=2**0.5), Relu(), Flatten(), Dense(1))
    >>> x = jnp.ones((1, 5, 5, 3))
    >>> net.kernel(x).ntk.round(4).tolist()       # 2 · 1/2 · 2, were it not for the border
    [[1.5022]]
    >>> params = net.init(jax.random.key(0), x.shape[1:])
    >>> params[0]["w"].shape, net.apply(params, x).shape
    ((3, 3, 3, 64), (1, 1))
    """

    width: int
    shape: int | Sequence[int]
    strides: int | Sequence[int] = 1
    padding: str = "same"
    w_std: float = 1.0
    b_std: float = 0.0
    parametrization: Literal["ntk", "standard"] = "ntk"

    def __post_init__(self) -> None:
        dense = self.dense
        windows = windows_of(self.shape, self.strides, self.padding)
        kept = {name: getattr(dense, name) for name in ("width", "w_std", "b_std")}
        for name, value in {**kept, "shape": windows.shape, "strides": windows.strides}.items():
            object.__setattr__(self, name, value)

    @property
    def windows(self) -> Windows:
        """Where the filter is put."""
        return windows_of(self.shape, self.strides, self.padding)

    @property
    def dense(self) -> Dense:
        """The dense layer of each window."""
        return Dense(self.width, self.w_std, self.b_std, self.parametrization)

    @guided
    def apply(self, params: PyTree, x: Num[ArrayLike, "n *space c"]) -> Float[Array, "n *pixels k"]:
        """The filters of `params` on images (n, *space, channels)."""
        require_entries(x)
        windows, x = self.windows, jnp.asarray(x)
        windows.after(repr(self), x.shape[1:-1])
        shapes = {"w": (*windows.shape, None, self.width), "b": (self.width,)}
        require_parameters(self, params, self._parameter_names(), shapes)
        w = params["w"]
        require_shape("x", x, (*x.shape[:-1], w.shape[-2]))
        # A product for each tap: faster than XLA's convolution in double precision, and for many
        # networks at once, where it would be one of groups.
        seen, filters = windows.taps(x, range(1, x.ndim - 1)), w.reshape(-1, *w.shape[-2:])
        z = reduce(jnp.add, map(jnp.matmul, seen, filters))
        w_scale, b_scale = self.dense.scales(len(windows) * w.shape[-2])
        return w_scale * z + b_scale * params["b"] if "b" in params else w_scale * z

    def hyperparameters(self) -> dict[str, float]:
        return self.dense.hyperparameters()

    def propagate(self, signal: Signal, hyperparameters: PyTree) -> Signal:
        self.windows.after(repr(self), signal.space)
        standard = self.parametrization == "standard"
        return _through(bare(signal), hyperparameters, self.width, self.windows, standard)

    @property
    def ends_in_weights(self) -> bool:
        return True

    def shape_after(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (*self.windows.after(repr(self), shape[:-1]), self.width)

    def _checked_scales(self, name: str, scales: PyTree) -> PyTree:
        return self.dense._checked_scales(name, scales)

    def _parameter_names(self) -> dict[str, str]:
        return self.dense._parameter_names()

    def _with_gates(self, scales: PyTree, gates: PyTree) -> PyTree:
        return scales | {"gates": gates}

    @property
    def _needs_widths(self) -> bool:
        return self.dense._needs_widths

    def _form(self, widths: bool) -> Conv:
        width = self.width if widths else 1
        return replace(self, width=width, w_std=1.0, b_std=0.0)

    def _init(self, key: PRNGKeyArray, features: int, dtype: np.dtype) -> dict[str, Array]:
        windows = self.windows
        params = self.dense._init(key, len(windows) * features, dtype)
        return params | {"w": params["w"].reshape(*windows.shape, features, self.width)}


@partial(jax.jit, static_argnames=("windows", "standard"))
def _through(
    signal: Signal, hyperparameters: PyTree, width: int, windows: Windows, standard: bool
) -> Signal:
    dense = Dense(1, parametrization="standard" if standard else "ntk")
    seen = replace(filtered(signal, windows), features=signal.features * len(windows))
    return replace(dense.propagate(seen, hyperparameters), features=width)


@dataclass(frozen=True)
class Flatten(Spatial):
    """Images (n, *space, channels) as vectors, channel by channel of one pixel after the other.

    Weights that follow see each pixel by its own: the kernels become averages over equal pixels,
    and nothing of pairs of different pixels is needed before it.

    >>> Flatten().apply((), jnp.ones((5, 8, 8, 3))).shape
    (5, 192)
    """

    @guided
    def apply(self, params: PyTree, x: Num[ArrayLike, "n *space c"]) -> Num[Array, "n d"]:
        """The images x, one a row; `params` is ()."""
        require_entries(x)
        self.shape_after(jnp.shape(x)[1:])
        return jnp.reshape(x, (jnp.shape(x)[0], math.prod(jnp.shape(x)[1:])))

    def propagate(self, signal: Signal, hyperparameters: PyTree) -> Signal:
        self.shape_after((*signal.space, 1))
        return _flattened(bare(signal))

    def shape_after(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if len(shape) < 2:
            raise ValueError("Flatten() expects images, got vectors")
        return (math.prod(shape),)


_flattened = jax.jit(flattened)
