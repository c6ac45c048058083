"""The kernels between two sets of inputs: in one program, or on a CPU tile by tile."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

from ntkbook._base.arguments import is_traced
from ntkbook._base.tiles import SIDES, sides_of, tiled
from ntkbook._base.types import Array, ArrayLike, Float, PyTree
from ntkbook.signals.images import image_signal, own_signal
from ntkbook.signals.inputs import Inputs, inputs
from ntkbook.signals.signal import Kernel, Signal, kernel_of

# For matrices of several tiles, a network of up to this many layers is one program: no array is
# handed from layer to layer.  Compiling takes the longer the deeper it is, so that otherwise each
# layer is a program, which equal layers of all networks share.
_FUSED_DEPTH = 24

# Of a tile of pixels on an accelerator: some gigabytes for all that is in memory at a time.
_SIDE_OF_A_CARD = 2**12


class Network(Protocol):
    """What is asked of a network here."""

    @property
    def depth(self) -> int: ...
    @property
    def mixes_pixels(self) -> bool: ...
    @property
    def drops(self) -> bool: ...
    def propagate(self, signal: Signal, hyperparameters: PyTree) -> Signal: ...


def kernel_between(
    net: Network,
    form: Network,
    scales: PyTree,
    gated: PyTree,
    x1: Float[Array, "n1 *d"],
    x2: Float[Array, "n2 *d"] | None,
    shares: int,
    exact: bool,
    progress: bool,
    whole: bool = False,
    prepare: Callable[[ArrayLike], Inputs] | None = None,
) -> tuple[Kernel, bool]:
    """The `Kernel` of a network, and whether it is finite, as far as that can be told.

    `form` is the network that a program of its own may be compiled for; `scales` are its
    hyper-parameters, `gated` the same with gates for each of so many `shares`, if there are any.
    `whole`, whether pixels are left, which no tiles are made of; `prepare`, what makes `Inputs` of
    examples that are not pixels alone.
    """
    traced = is_traced(x1, x2, *jax.tree.leaves(scales))
    pairs = net.mixes_pixels
    start = partial(_start, exact=exact, pairs=pairs, drops=net.drops)

    def of_pixels(x: ArrayLike) -> Inputs:
        own = net.propagate(own_signal(x, True), scales).own1 if pairs else ()
        return prepared(x)._replace(own=own)

    prepare = prepare or of_pixels

    # Tiles are placed by NumPy, which sees no tracers; and an accelerator wants one program, if its
    # memory holds the pairs: of pixels there are too many.
    pixels = math.prod(x1.shape[1:-1])
    on_cpu = jax.default_backend() == "cpu"
    if whole or traced or (not on_cpu and pixels == 1):
        ends = prepare(x1), prepare(x1 if x2 is None else x2)
        identical = jnp.eye(len(x1), dtype=bool) if x2 is None else False
        kernel = _stepwise(net, start(*ends, identical), gated)
        return kernel, traced or bool(jnp.isfinite(kernel.nngp.sum() + kernel.ntk.sum()))
    sides = sides_of(pixels**2 if pairs else pixels, SIDES[-1] if on_cpu else _SIDE_OF_A_CARD)
    large = pixels == 1 and max(len(x1), 0 if x2 is None else len(x2)) > sides[-1]
    fused = large and net.depth <= _FUSED_DEPTH

    def compute(inputs1: Inputs, inputs2: Inputs, identical: np.ndarray) -> tuple[Array, Array]:
        signal = start(inputs1, inputs2, identical)
        kernel = _fused(form, signal, gated) if fused else _stepwise(net, signal, gated)
        return kernel.nngp, kernel.ntk

    matrices, finite = tiled(compute, prepare, sides, x1, x2, shares, progress)
    return Kernel(*matrices), finite


def _stepwise(net: Network, signal: Signal, hyperparameters: PyTree) -> Kernel:
    return _end(net.propagate(signal, hyperparameters))


_fused = jax.jit(_stepwise, static_argnames="net")


def _start(
    inputs1: Inputs, inputs2: Inputs, identical: ArrayLike, *, exact: bool, pairs: bool, drops: bool
) -> Signal:
    # What layers need of one image alone is kept from the program, one for all networks.
    signal = _first(*(end._replace(own=()) for end in (inputs1, inputs2)), exact, identical, pairs)
    one = None
    if drops:
        one = jnp.broadcast_to(jnp.asarray(identical), (len(inputs1.x), len(inputs2.x)))
    return replace(signal, own1=inputs1.own, own2=inputs2.own, identical=one)


_first = jax.jit(image_signal, static_argnames=("exact", "pixel_pairs"))


prepared = jax.jit(inputs)


_end = jax.jit(kernel_of)
