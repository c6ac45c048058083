"""The tangent kernel of this package's own networks without any Jacobian.

The share of a dense layer is the Gram matrix of its inputs times, entry by entry, that of the
signals propagated back to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial, reduce

import jax
import jax.numpy as jnp

from ntkbook._base.arrays import gram
from ntkbook._base.types import Array, Float, PyTree
from ntkbook.networks.activations import Nonlinearity
from ntkbook.networks.containers import Container, Residual, Serial
from ntkbook.networks.dense import Dense
from ntkbook.networks.layer import Layer
from ntkbook.networks.probe import is_foreign
from ntkbook.tangents.features import inner_products
from ntkbook.tangents.model import network_of


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
    return not is_foreign(layer) and (type(layer) is Dense or type(layer)._init is Layer._init)


@partial(jax.jit, static_argnums=(0, 1))
def factorised_ntk(
    net: Layer,
    trace: bool,
    params: PyTree,
    x1: Float[Array, "n1 d"],
    x2: Float[Array, "n2 d"] | None,
) -> Float[Array, "n1 n2"] | Float[Array, "n1 n2 k k"]:
    """Θ(x1, x2) of a network that `factorisable` gave, or its trace over outputs."""
    # ∂f_a/∂W is an outer product of inputs x and signals g, and ⟨x gᵀ, x' g'ᵀ⟩ = (x·x')(g·g'):
    # two small Gram matrices take the place of one over all entries of W.
    left = _dense_factors(net, params, x1)
    right = left if x2 is None else _dense_factors(net, params, x2)
    shares = []
    for (scales, a, g), (_, b, h) in zip(left, right, strict=True):
        weights, biases = scales
        inputs = weights**2 * gram(a, b) + biases**2
        signals = inner_products(g, h, trace)
        shares.append((inputs if trace else inputs[:, :, None, None]) * signals)
    return reduce(jnp.add, shares)


@partial(jax.jit, static_argnums=(0, 1))
def factorised_shares(
    net: Layer,
    trace: bool,
    params: PyTree,
    x1: Float[Array, "n1 d"],
    x2: Float[Array, "n2 d"] | None,
) -> list[dict[str, Array]]:
    """The shares of "w" and "b" of each dense layer of the network, in the order of its layers."""
    left = _dense_factors(net, params, x1)
    right = left if x2 is None else _dense_factors(net, params, x2)
    shares = []
    for ((w_scale, b_scale), a, g), (_, b, h) in zip(left, right, strict=True):
        signals, inputs = inner_products(g, h, trace), w_scale**2 * gram(a, b)
        weights = (inputs if trace else inputs[:, :, None, None]) * signals
        shares.append({"w": weights, "b": b_scale**2 * signals})
    return shares


def _dense_factors(net: Layer, params: PyTree, x: Array) -> list[tuple]:
    """For each dense layer its scales, inputs (n, d), and back-propagated signals (n, k, width).

    The signals are the gradients of the k outputs in zeros added to the pre-activations, so
    that any arrangement of layers will do.
    """
    layers = list(_dense_layers(net))
    dtype = jnp.result_type(x, *jax.tree.leaves(params))
    zeros = [jnp.zeros((len(x), layer.width), dtype) for layer in layers]

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
    (signals,) = jax.vmap(lambda row: pullback(jnp.zeros_like(y) + row), out_axes=1)(unit)
    scales = [layer.scales(a.shape[1]) for layer, a in zip(layers, inputs, strict=True)]
    return list(zip(scales, inputs, signals, strict=True))


def _dense_layers(layer: Layer) -> Iterator[Dense]:
    """The dense layers in the order in which `_run` visits them."""
    if isinstance(layer, Dense):
        yield layer
    for inner in getattr(layer, "layers", ()):
        yield from _dense_layers(inner)


def _run(layer: Layer, params: PyTree, x: Array, visit: Callable[[Array, Array], Array]) -> Array:
    """`layer.apply(params, x)`, with visit(x, z) for the output z of each dense layer."""
    if isinstance(layer, Dense):
        return visit(x, layer.apply(params, x))
    if not isinstance(layer, (Serial, Residual)):
        return layer.apply(params, x)
    z = x
    for inner, inner_params in layer.pairs(params):
        z = _run(inner, inner_params, z, visit)
    return layer.joined(x, z) if isinstance(layer, Residual) else z
