"""Kernels between whole graphs, whose numbers of nodes may differ."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from ntkbook._base.arguments import (
    described,
    is_traced,
    require_finite,
    require_flag,
    require_shape,
)
from ntkbook._base.hints import guided, not_a_layer
from ntkbook._base.rows import checked_rows
from ntkbook._base.types import Array, ArrayLike, Bool, Num, PyTree
from ntkbook.architectures.convolution import Conv
from ntkbook.architectures.graphs import Aggregate, checked_adjacency, mixed
from ntkbook.architectures.pooling import GlobalAveragePool, GlobalSumPool, Mixing
from ntkbook.networks.containers import Container
from ntkbook.networks.layer import Layer
from ntkbook.networks.probe import require_weights_before_drops
from ntkbook.signals.between import kernel_between, prepared
from ntkbook.signals.images import own_signal
from ntkbook.signals.inputs import Inputs
from ntkbook.signals.signal import Kernel, Signal

Adjacency = Num[ArrayLike, "_ _"] | Bool[ArrayLike, "_ _"]
Graph = tuple[Num[ArrayLike, "_ _"], Adjacency]


@dataclass(frozen=True)
class _Readout(Mixing):
    """The sum, or the mean, over the nodes of graphs that differ; what only pads is left out."""

    mean: bool

    def propagate(self, signal: Signal, hyperparameters: PyTree) -> Signal:
        weights = None
        if hyperparameters:
            nodes = hyperparameters["nodes"]
            count = jnp.maximum(nodes.sum(-1, keepdims=True), 1) if self.mean else 1
            weights = (nodes / count)[:, None]
        sums = mixed(signal, weights)
        names = ("var1", "var2", "cosine", "gap", "ntk")
        parts: dict = {name: getattr(sums, name)[..., 0, 0] for name in names}
        return replace(sums, **parts, space=(), pixel_pairs=False)


@guided
def on_graph(net: Layer, adjacency: Adjacency) -> Layer:
    """The network on one graph, whose adjacency each `Aggregate()` without one takes.

    **Arguments**: `net`, a layer or a network; `adjacency` (nodes, nodes), as for `Aggregate`.

    **Returns**: the same network with the adjacency put in, of which `init`, `apply` and `kernel`
    take examples (n, nodes, channels).

    **Raises**: TypeError or ValueError as `Aggregate`; ValueError for a network without any that
    lacks one.

    >>> from ntkbook import Serial
    >>> net = Serial(Aggregate(normalisation="none"), GlobalSumPool())
    >>> pair = on_graph(net, jnp.array([[0.0, 1.0], [1.0, 0.0]]))
    >>> pair.apply(((), ()), jnp.array([[[1.0], [2.0]]])).tolist()
    [[6.0]]
    """
    _require_layer(net)
    filled = _changed(net, partial(_with_adjacency, adjacency))
    if filled == net:
        raise ValueError(f"net must have an Aggregate() without an adjacency, got {net!r}")
    return filled


@guided
def graph_kernel(
    net: Layer,
    graphs1: Sequence[Graph],
    graphs2: Sequence[Graph] | None = None,
    *,
    hyperparameters: PyTree | None = None,
    progress: bool = False,
) -> Kernel:
    """The infinite-width kernels between whole graphs, whose numbers of nodes may differ.

    Each `Aggregate()` of the network takes the adjacency of the graph at hand.  Graphs are padded
    with nodes that count for nothing, so that a few compiled programs serve all sizes.  The graph
    neural tangent kernel of Du et al. is that of blocks of Aggregate(normalisation="none") with
    several `Conv(width, 1, w_std=2**0.5)` and `Relu()`, and `GlobalSumPool()` at the end.

    **Arguments**: `net`, layers of which are `Aggregate()` without an adjacency, `Conv(width, 1)`,
    one of `GlobalSumPool()` and `GlobalAveragePool()`, and any that treat each node alone;
    `graphs1`, a sequence of pairs (x, adjacency) of a graph's features (nodes, channels) and
    adjacency (nodes, nodes), which may have no edges here; `graphs2`, graphs1 itself if not
    given; `hyperparameters`, as for `net.kernel`; `progress=True` shows bars (needs tqdm).

    **Returns**: `Kernel` whose `nngp` and `ntk` are (n1, n2); with graphs2 None, and outside of
    `jit`, they are symmetric to the last bit.

    **Raises**: TypeError or ValueError for other graphs or layers, as `net.kernel` otherwise.

    **Source**: Du et al. 2019, arXiv:1905.13192, in the form of the authors' code.

    >>> from ntkbook import Dense, Relu, Serial
    >>> net = Serial(Aggregate(), Conv(64, 1, w_std=2**0.5), Relu(), GlobalSumPool(), Dense(1))
    >>> pair = jnp.ones((2, 1)), jnp.array([[0.0, 1.0], [1.0, 0.0]])
    >>> star = jnp.ones((3, 1)), jnp.array([[0.0, 1.0, 1.0], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    >>> graph_kernel(net, [pair, star]).ntk.round(3).tolist()
    [[8.0, 11.865], [11.865, 17.598]]
    """
    _require_layer(net)
    require_weights_before_drops(net)
    require_flag("progress", progress)
    one = _graphs("graphs1", graphs1)
    two = one if graphs2 is None else _graphs("graphs2", graphs2)
    channels = {x.shape[1] for x, _ in one + two}
    if len(channels) > 1:
        raise ValueError(f"graphs must have equally many channels, got {sorted(channels)}")
    width = channels.pop()
    padded, scales = _changed(net, _on_padded), net._scales(hyperparameters)
    # A graph that stands for all of them, since no layer that is left minds their sizes.
    shape = _changed(net, partial(_with_adjacency, np.ones((2, 2)))).shape_after((2, width))
    if len(shape) > 1:
        raise ValueError(
            f"net must end in one vector for each graph, got {net!r}; let GlobalSumPool() or "
            "GlobalAveragePool() come before the last Dense layer"
        )
    dtype = jnp.result_type(*(x.dtype for x, _ in one + two))

    def prepare(wide: ArrayLike) -> Inputs:
        wide = jnp.asarray(wide)
        x, adjacency, nodes = jnp.split(wide, [width, wide.shape[-1] - 1], axis=-1)
        graph = {"adjacency": adjacency, "nodes": nodes[..., 0]}
        own = padded.propagate(own_signal(x, True), _placed(padded, scales, graph)).own1
        return prepared(x)._replace(own=own)

    blank = jnp.zeros((len(one), len(two)), dtype)
    kernel, second = Kernel(blank, blank), _buckets(two)
    for i, (rows, size1) in enumerate(_buckets(one)):
        for j, (columns, size2) in enumerate(second):
            if graphs2 is None and j < i:
                continue
            size = max(size1, size2)
            x1 = _padded(one, rows, size, dtype)
            x2 = None if graphs2 is None and i == j else _padded(two, columns, size, dtype)
            block, finite = kernel_between(
                padded, padded, scales, scales, x1, x2, 0, False, progress, False, prepare
            )
            if not finite:
                require_finite("the kernel between graphs", block.nngp)
                require_finite("the tangent kernel between graphs", block.ntk)
            kernel = jax.tree.map(partial(_with_block, rows, columns), kernel, block)
            if graphs2 is None and i < j:
                mirrored = jax.tree.map(jnp.transpose, block)
                kernel = jax.tree.map(partial(_with_block, columns, rows), kernel, mirrored)
    return kernel


def _with_block(rows: list[int], columns: list[int], matrix: Array, block: Array) -> Array:
    return matrix.at[np.ix_(rows, columns)].set(block)


def _require_layer(net: object) -> None:
    if not isinstance(net, Layer):
        raise TypeError(f"net must be a layer, such as Serial(…), got {not_a_layer(net)}")


def _changed(net: Layer, change: Callable[[Layer], Layer]) -> Layer:
    """The network with each layer that holds no others changed."""
    if not isinstance(net, Container):
        return change(net)
    new = copy.copy(net)
    object.__setattr__(new, "layers", tuple(_changed(layer, change) for layer in net.layers))
    return new


def _with_adjacency(adjacency: ArrayLike, layer: Layer) -> Layer:
    if isinstance(layer, Aggregate) and layer.adjacency is None:
        return replace(layer, adjacency=adjacency)
    return layer


def _on_padded(layer: Layer) -> Layer:
    """The layer for graphs with nodes that only pad; ValueError where these would be seen."""
    if isinstance(layer, (GlobalAveragePool, GlobalSumPool)):
        return _Readout(isinstance(layer, GlobalAveragePool))
    if isinstance(layer, Aggregate) and layer.adjacency is not None:
        raise ValueError(f"net must have Aggregate() without an adjacency, got {layer!r}")
    of_one_node = isinstance(layer, Conv) and layer.shape == layer.strides == (1,)
    if layer.spatial and not (of_one_node or isinstance(layer, Aggregate)):
        raise ValueError(
            "net must be made of Aggregate(), Conv(width, 1), GlobalSumPool(), "
            f"GlobalAveragePool() and layers that treat each node alone, got {layer!r}"
        )
    return layer


def _placed(net: Layer, scales: PyTree, graph: dict[str, Array]) -> PyTree:
    """The hyperparameters of a network, with the graphs where they are needed."""
    if isinstance(net, Container):
        count = len(net.layers)
        inner = zip(net.layers, scales[:count], strict=True)
        return (*(_placed(layer, own, graph) for layer, own in inner), *scales[count:])
    return graph if isinstance(net, (Aggregate, _Readout)) else scales


def _graphs(name: str, graphs: Sequence[Graph]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Features and adjacency of each graph, checked; TypeError or ValueError otherwise."""
    if not isinstance(graphs, Sequence) or not graphs:
        raise TypeError(f"{name} must be a list of pairs (x, adjacency), got {described(graphs)}")
    checked = []
    for i, graph in enumerate(graphs):
        if not isinstance(graph, (tuple, list)) or len(graph) != 2:
            raise TypeError(f"{name}[{i}] must be a pair (x, adjacency), got {described(graph)}")
        x = checked_rows(f"{name}[{i}][0]", graph[0])
        adjacency = checked_adjacency(f"{name}[{i}][1]", graph[1])
        require_shape(f"{name}[{i}][1]", adjacency, (len(x), len(x)))
        if is_traced(x, adjacency):
            raise TypeError(f"{name}[{i}] must be known arrays, got traced ones")
        checked.append((np.asarray(x), np.asarray(adjacency)))
    return checked


def _buckets(graphs: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[tuple[list[int], int]]:
    """The places of graphs of similar size, and the size they are padded to, the largest first."""
    sizes = [_size(len(x)) for x, _ in graphs]
    buckets: dict[int, list[int]] = {}
    for place in sorted(range(len(graphs)), key=lambda place: -sizes[place]):
        last = min(buckets, default=0)
        # With fewer nodes than half of the bucket's, padding would cost more than four times.
        buckets.setdefault(last if 2 * sizes[place] >= last > 0 else sizes[place], []).append(place)
    return [(places, size) for size, places in buckets.items()]


def _padded(
    graphs: Sequence[tuple[np.ndarray, np.ndarray]], places: list[int], size: int, dtype: np.dtype
) -> Array:
    """Graphs as one array (n, P, channels + P + 1).

    Of each node it holds its features, its row of the adjacency, and one, or zero where it pads.
    """
    padded = []
    for x, adjacency in (graphs[place] for place in places):
        missing = size - len(x)
        parts = x, np.pad(adjacency, [(0, 0), (0, missing)]), np.ones((len(x), 1))
        padded.append(np.pad(np.concatenate(parts, 1), [(0, missing), (0, 0)]))
    return jnp.asarray(np.stack(padded), dtype)


def _size(nodes: int) -> int:
    """A number of nodes, eight or more, to pad up to: powers of two, and halfway between them."""
    power = 2 ** max(3, (nodes - 1).bit_length())
    return power * 3 // 4 if 8 < nodes <= power * 3 // 4 else power
