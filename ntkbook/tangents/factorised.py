"""The tangent kernel of this package's own networks layer by layer, from inputs and signals.

The share of a dense layer is the Gram matrix of its inputs times, entry by entry, that of the
signals propagated back to it; that of a convolution is a sum of such products over pairs of pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial, reduce
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ntkbook._base.types import Array, PyTree
from ntkbook.architectures.convolution import Conv
from ntkbook.networks.activations import Nonlinearity
from ntkbook.networks.containers import Container, Residual, Serial
from ntkbook.networks.dense import Dense
from ntkbook.networks.layer import Layer
from ntkbook.networks.probe import is_foreign
from ntkbook.tangents.costs import block_sizes
from ntkbook.tangents.features import examples_at_once
from ntkbook.tangents.layer_shares import (
    Gradients,
    Pixels,
    Weighted,
    gradients_of,
    pixels_of,
    sizes_of,
    weighted_shares,
)
from ntkbook.tangents.model import network_of
from ntkbook.tangents.strips import in_blocks


def factorisable(f: object) -> Layer | None:
    """The network whose `apply` f is, when all its layers are this package's; else None."""
    net = network_of(f)
    return net if net is not None and _supported(net) else None


def _supported(layer: Layer) -> bool:
    # `type` and not `isinstance`: a subclass may compute something else, which no factors know.
    if isinstance(layer, Container) and type(layer) in (Serial, Residual):
        return all(map(_supported, layer.layers))
    if isinstance(layer, Nonlinearity):
        return True
    # Layers of this package that have no parameters pass signals on, whatever they compute.
    weightless = type(layer)._init is Layer._init
    return not is_foreign(layer) and (type(layer) in (Dense, Conv) or weightless)


class Plan(NamedTuple):
    """Whether each layer with weights goes by its pixels, and the rows and columns of a block."""

    by_pixels: tuple[bool, ...]
    blocks: tuple[int, int]
    gradients: int  # of one output of one example: the parameters of the layers that need them


def plan_of(
    net: Layer, trace: bool, x1: Array, x2: Array | None, itemsize: int, memory: int
) -> Plan:
    """The cheaper way for each layer of a network that `factorisable` gave, in blocks that fit."""
    k = net.shape_after(x1.shape[1:])[-1]
    n1, n2 = len(x1), None if x2 is None else len(x2)
    sizes = [sizes_of(layer, shape) for layer, shape in _weighted(net, x1.shape[1:])]
    by_pixels = tuple(layer.by_pixels(k, trace, n1, n2) for layer in sizes)
    ways = list(zip(sizes, by_pixels, strict=True))
    example = itemsize * sum(layer.held(k, trace, way) for layer, way in ways)
    gradients = sum(layer.entries * layer.width for layer, way in ways if not way)
    return Plan(by_pixels, block_sizes(n1, n2, example, memory), gradients)


def by_factors(
    net: Layer,
    plan: Plan,
    trace: bool,
    apart: bool,
    params: PyTree,
    x1: Array,
    x2: Array | None,
    progress: bool = False,
) -> list[Array]:
    """The shares of all leaves of `params`, or with `apart` False a list of their sum alone."""
    ways = plan.by_pixels
    return in_blocks(
        whole=lambda: _whole(net, ways, trace, apart, params, x1, x2),
        hold=lambda block: _factors(net, ways, params, block),
        own=lambda held: _shares(_layers(net, x1), trace, apart, held, held),
        beside=lambda held, block: _beside(net, ways, trace, apart, params, held, block),
        x1=x1,
        x2=x2,
        sizes=plan.blocks,
        progress=progress,
    )


Ways = tuple[bool, ...]
Factors = list[Pixels | Gradients]


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _whole(
    net: Layer, ways: Ways, trace: bool, apart: bool, params: PyTree, x1: Array, x2: Array | None
) -> list[Array]:
    left = _factors(net, ways, params, x1)
    right = left if x2 is None else _factors(net, ways, params, x2)
    return _shares(_layers(net, x1), trace, apart, left, right)


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _beside(
    net: Layer, ways: Ways, trace: bool, apart: bool, params: PyTree, left: Factors, x: Array
) -> list[Array]:
    return _shares(_layers(net, x), trace, apart, left, _factors(net, ways, params, x))


@partial(jax.jit, static_argnums=(0, 1, 2))
def _shares(
    layers: tuple[Weighted, ...], trace: bool, apart: bool, left: Factors, right: Factors
) -> list[Array]:
    pairs = zip(layers, left, right, strict=True)
    shares = [weighted_shares(layer, trace, apart, a, b) for layer, a, b in pairs]
    flat = [share for own in shares for share in own]
    return flat if apart else [reduce(jnp.add, flat)]


@partial(jax.jit, static_argnums=(0, 1))
def _factors(net: Layer, ways: Ways, params: PyTree, x: Array) -> Factors:
    """Of each layer with weights what its share is made of, for each row of x."""

    def chosen(x: Array) -> Factors:
        pixels = zip(ways, _pixels(net, params, x), strict=True)
        return [own if by_pixels else gradients_of(own) for by_pixels, own in pixels]

    if not net.spatial:
        return chosen(x)

    def one_example(row: Array) -> Factors:
        return jax.tree.map(lambda a: a[0], chosen(row[None]))

    # A few at a time, as for contraction: the signals of all may be larger than their gradients.
    together = min(len(x), examples_at_once(net.apply, params, x))
    return jax.lax.map(one_example, x, batch_size=together)


def _pixels(net: Layer, params: PyTree, x: Array) -> list[Pixels]:
    """What the pixels of each layer with weights see, and the signals that come back to them.

    The signals are the gradients of the k outputs in zeros added to the pre-activations, so
    that any arrangement of layers will do.
    """
    layers = list(_weighted(net, x.shape[1:]))
    dtype = jnp.result_type(x, *jax.tree.leaves(params))
    zeros = [jnp.zeros((len(x), *layer.shape_after(shape)), dtype) for layer, shape in layers]

    def outputs(shifts):
        inputs = []

        def visit(x, z):
            inputs.append(x)
            return z + shifts[len(inputs) - 1]

        return _run(net, params, x, visit), inputs

    y, pullback, inputs = jax.vjp(outputs, zeros, has_aux=True)
    # Rows are independent, so one pullback serves all examples: of all ones in one output, the
    # sum over rows, whose gradient in row i is that of row i alone.
    unit = jnp.eye(y.shape[1], dtype=y.dtype)
    (signals,) = jax.vmap(lambda row: pullback(jnp.zeros_like(y) + row))(unit)
    found = zip(layers, inputs, signals, strict=True)
    return [pixels_of(layer, a, g) for (layer, _), a, g in found]


def _weighted(layer: Layer, shape: tuple[int, ...]) -> Iterator[tuple[Weighted, tuple[int, ...]]]:
    """The layers with weights in the order in which `_run` visits them, and what arrives there."""
    if isinstance(layer, Weighted):
        yield layer, shape
    for inner in getattr(layer, "layers", ()):
        yield from _weighted(inner, shape)
        shape = inner.shape_after(shape)


def _layers(net: Layer, x: Array) -> tuple[Weighted, ...]:
    return tuple(layer for layer, _ in _weighted(net, x.shape[1:]))


def _run(layer: Layer, params: PyTree, x: Array, visit: Callable[[Array, Array], Array]) -> Array:
    """`layer.apply(params, x)`, with visit(x, z) for the output z of each layer with weights."""
    if isinstance(layer, Weighted):
        return visit(x, layer.apply(params, x))
    if not isinstance(layer, (Serial, Residual)):
        return layer.apply(params, x)
    z = x
    for inner, inner_params in layer.pairs(params):
        z = _run(inner, inner_params, z, visit)
    return layer.joined(x, z) if isinstance(layer, Residual) else z
