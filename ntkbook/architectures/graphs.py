"""The sum over neighbours in a graph, whose nodes take the place of pixels: x (n, nodes, channels).

A dense layer at each node is `Conv(width, 1)`; a graph convolution is `Aggregate` followed by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from ntkbook._base.arguments import (
    as_floating,
    is_traced,
    require_choice,
    require_flag,
    require_shape,
)
from ntkbook._base.arrays import matmul
from ntkbook._base.hints import guided, guided_layer, require_known
from ntkbook._base.rows import require_entries
from ntkbook._base.traced import nan_unless, symmetric
from ntkbook._base.types import Array, ArrayLike, Bool, Float, Num, PyTree
from ntkbook.architectures.pooling import Mixing
from ntkbook.architectures.windows import bare, beyond_rounding
from ntkbook.gaussian.pairs import inverse_root, replaced, safe_sqrt, well_kept
from ntkbook.signals.signal import Signal, signed_gaps, with_rates

NORMALISATIONS = ("symmetric", "row", "none")


@guided_layer
@dataclass(frozen=True, repr=False)
class Aggregate(Mixing):
    """The sum over neighbours in a graph, z_u = Σ_v A_uv x_v, without parameters.

    A is the adjacency, with ones added to its diagonal if `self_loops` says so, and then divided:
    "symmetric" by the roots of the degrees of both ends, "row" by the degree of u, so that z_u is
    an average, "none" by nothing.  In the limit K becomes A K Aᵀ and Θ becomes A Θ Aᵀ, so that
    whatever comes before it is computed for all pairs of nodes.

    Where all nodes are nearly parallel, as after many layers, 1 - |cosine| keeps its digits.
    Elsewhere covariances may cancel: what is closer than a few units of rounding counts as
    parallel.

    **Arguments**: `adjacency` (nodes, nodes), symmetric, its weights not negative (of a graph of
    networkx, `networkx.to_numpy_array(graph)`), on which all examples live; without one the layer
    waits for that of `on_graph` or `graph_kernel`.  `self_loops`; `normalisation`, one of
    "symmetric", "row" and "none".  Its hyperparameters are {"adjacency": adjacency}, in which
    kernels may be differentiated; another graph of as many nodes needs no compilation.

    **Raises**: TypeError or ValueError for other values, and for a graph without an edge, which
    aggregates nothing; later, ValueError for another number of nodes, or for what is no graph.

    **Source**: Kipf and Welling 2017 for the layer with the symmetric normalisation; its kernels
    between nodes are studied by Sabanayagam et al. 2021, those of sums by Du et al. 2019.

    >>> from ntkbook import Conv, Relu, Serial
    >>> path = jnp.array([[0.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    >>> step = Aggregate(path, normalisation="row")
    >>> step.apply((), jnp.array([[[0.0], [6.0], [12.0]]]))[0, :, 0].tolist()
    [3.0, 6.0, 9.0]
    >>> net = Serial(step, Conv(64, 1, w_std=2**0.5), Relu(), step, Conv(1, 1))
    >>> net.kernel(jnp.ones((1, 3, 2))).ntk.round(12)[0, 0].tolist()
    [[2.0, 2.0, 2.0], [2.0, 2.0, 2.0], [2.0, 2.0, 2.0]]
    """

    adjacency: (
        Num[ArrayLike, "nodes nodes"]
        | Bool[ArrayLike, "nodes nodes"]
        | Sequence[Sequence[float]]
        | None
    ) = field(default=None, compare=False)
    self_loops: bool = True
    normalisation: str = "symmetric"
    # What is compared and hashed of the adjacency: an array can't be.
    _entries: bytes = field(default=b"", init=False)

    def __post_init__(self) -> None:
        require_flag("self_loops", self.self_loops)
        require_choice("normalisation", self.normalisation, NORMALISATIONS)
        if self.adjacency is None:
            return
        require_known("adjacency", self.adjacency, "pass net.kernel(x, hyperparameters=...)")
        with jax.ensure_compile_time_eval():  # within `jit` too: the adjacency is known
            known = np.array(checked_adjacency("adjacency", self.adjacency), float)
        if not (known - np.diag(np.diag(known))).any():
            raise ValueError(
                f"adjacency must have an edge, got none between its {len(known)} nodes: an "
                "edgeless graph aggregates nothing; leave Aggregate out, or give both entries "
                "(u, v) and (v, u) of each edge a positive weight"
            )
        known.flags.writeable = False
        object.__setattr__(self, "adjacency", known)
        object.__setattr__(self, "_entries", known.tobytes())

    def __repr__(self) -> str:
        graph = "" if self.adjacency is None else f"<graph of {self.nodes} nodes>, "
        form = f"self_loops={self.self_loops}, normalisation={self.normalisation!r}"
        return f"Aggregate({graph}{form})"

    @property
    def nodes(self) -> int:
        """The number of nodes of its graph, zero without one."""
        return 0 if self.adjacency is None else np.shape(self.adjacency)[0]

    @guided
    def apply(self, params: PyTree, x: Num[ArrayLike, "n nodes c"]) -> Float[Array, "n nodes c"]:
        """The sums over neighbours of x (n, nodes, channels); `params` is ()."""
        require_entries(x)
        x = as_floating("x", x)
        self.shape_after(x.shape[1:])
        adjacency = jnp.asarray(self.adjacency, x.dtype)
        return matmul(_divided(adjacency, 1, self.self_loops, self.normalisation), x)

    def hyperparameters(self) -> PyTree[Float[Array, "nodes nodes"]]:
        return () if self.adjacency is None else {"adjacency": jnp.asarray(self.adjacency)}

    def propagate(self, signal: Signal, hyperparameters: PyTree) -> Signal:
        if not hyperparameters and not signal.own1:
            self.shape_after((*signal.space, 1))
        matrix = None
        if hyperparameters:
            adjacency = jnp.asarray(hyperparameters["adjacency"], signal.ntk.dtype)
            nodes = hyperparameters.get("nodes", 1)
            matrix = _divided(adjacency, nodes, self.self_loops, self.normalisation)
        return mixed(signal, matrix)

    def _checked_scales(self, name: str, scales: PyTree) -> PyTree:
        if self.adjacency is None:
            return scales
        name = f"{name}['adjacency']"
        adjacency = require_shape(name, scales["adjacency"], np.shape(self.adjacency))
        return {"adjacency": checked_adjacency(name, adjacency)}

    def _form(self, widths: bool) -> Aggregate:
        return replace(self, adjacency=None)

    def shape_after(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if len(shape) != 2:
            got = f"images of shape {shape}" if len(shape) > 2 else "vectors"
            raise ValueError(
                f"{self!r} expects the nodes of a graph, examples of shape (nodes, channels), got "
                f"{got}; it comes before what makes vectors of them, such as GlobalSumPool()"
            )
        if self.adjacency is None:
            raise ValueError(
                f"{self!r} has no graph: give it an adjacency, or use on_graph(net, adjacency), "
                "or graph_kernel(net, graphs)"
            )
        if shape[0] != self.nodes:
            raise ValueError(f"{self!r} expects {self.nodes} nodes, got examples of shape {shape}")
        return shape


def checked_adjacency(name: str, adjacency: object) -> Float[Array, "nodes nodes"]:
    """`adjacency` as a symmetric matrix that is not negative; NaN where it is traced and isn't."""
    known = symmetric(name, as_floating(name, adjacency))
    if is_traced(known):
        return nan_unless((known >= 0).all(), known)
    if known.size and known.min() < 0:
        raise ValueError(
            f"{name} must have weights that are not negative, got a smallest of {known.min():.3g}"
        )
    return known


@partial(jax.jit, static_argnames=("self_loops", "normalisation"))
def _divided(adjacency: Array, nodes: ArrayLike, self_loops: bool, normalisation: str) -> Array:
    """A (…, P, P) of a graph; `nodes` (…, P) is one at each node, and zero where one only pads."""
    if self_loops:
        diagonal = jnp.eye(adjacency.shape[-1], dtype=adjacency.dtype)
        adjacency = adjacency + diagonal * jnp.asarray(nodes)[..., None]
    degree = adjacency.sum(-1)
    if normalisation == "row":
        return adjacency / jnp.where(degree == 0, 1, degree)[..., None]
    if normalisation == "symmetric":
        root = inverse_root(degree)
        return root[..., None] * adjacency * root[..., None, :]
    return adjacency


def mixed(signal: Signal, matrix: Array | None) -> Signal:
    """The signal of weighted sums over nodes, the weights (P', P) not being negative.

    Of graphs that differ, weights (n, P', P) are known in the pass over one graph alone, which
    leaves them to the one over pairs, where `matrix` is None.
    """
    # The program sees what is its own alone: otherwise each layer of a network needs another one.
    count = 0 if _is_alone(signal) else 2 + (matrix is None)
    mine = replace(bare(signal), own1=signal.own1[:count], own2=signal.own2[:count])
    after = _mixed(mine, matrix)
    own1 = (*signal.own1, *after.own1)[count:]
    # Sums of Gaussian entries are Gaussian.
    return replace(after, own1=own1, own2=signal.own2[count:], gaussian=signal.gaussian)


def _is_alone(signal: Signal) -> bool:
    """Whether this is the pass over one graph alone."""
    return signal.cosine.ndim == 3


@jax.jit
def _mixed(signal: Signal, matrix: Array | None) -> Signal:
    """`mixed`, of what is its own.

    Let S be the weighted sum of the roots of variances, and G that of s s' (1 - ρ) over pairs of
    nodes.  The variance of a sum is S² - G, and the covariance of two S S' - G: so that 1 - ρ', in
    units of S S', is made of the G alone, and keeps its digits where all nodes are nearly parallel.
    """
    alone = _is_alone(signal)
    own1, own2 = list(signal.own1), list(signal.own2)
    left, right = (own1.pop(0)[:, None], own2.pop(0)[None]) if matrix is None else (matrix, matrix)
    right = right.swapaxes(-1, -2)

    def both(array: Array) -> Array:
        return matmul(matmul(left, array), right)

    size1, size2 = matmul(left, safe_sqrt(signal.var1)), matmul(safe_sqrt(signal.var2), right)
    near, far = (both(signal.norm * part) for part in signed_gaps(signal))
    nngp, ntk = both(signal.nngp), both(signal.ntk)
    # A sum of P terms is rounded P times, in either direction.
    times = right.shape[-2] ** 0.5
    if alone:
        square = size1[..., 0] ** 2
        var = jnp.diagonal(nngp, 0, -2, -1)
        var = beyond_rounding(var, times * square)
        lost = jnp.diagonal(near, 0, -2, -1) / jnp.where(square == 0, 1, square)
        own1 += [*([left] if left.ndim == 3 else []), var, jnp.minimum(lost, 1)]
        var1, lost1 = (a[..., None] for a in own1[-2:])
        var2, lost2 = (a[:, None] for a in own1[-2:])
    else:
        var1, lost1 = (own1.pop(0)[:, None, :, None] for _ in range(2))
        var2, lost2 = (own2.pop(0)[None, :, None] for _ in range(2))
    inverse = inverse_root(var1) * inverse_root(var2)
    zero = (var1 == 0) | (var2 == 0)
    cosine = jnp.where(zero, 1, nngp * inverse)
    obtuse = cosine < 0
    # 1 - g over the root of (1 - g1) (1 - g2), from one: each g is G in units of its S S'.
    root = jnp.sqrt((1 - lost1) * (1 - lost2))
    own = (lost1 + lost2 - lost1 * lost2) / (1 + root) * (size1 * size2 * inverse)
    shared = jnp.where(obtuse, far, near) * inverse
    gap = shared - own
    parallel = gap <= 8 * times * jnp.finfo(gap.dtype).eps * jnp.maximum(shared, own)
    gap = jnp.where(zero | parallel, 0, gap)
    # Numbers alone: the derivatives are those of the covariances.
    gap = replaced(jnp.where(obtuse, 1 + cosine, 1 - cosine), gap)
    cosine, gap = well_kept(*with_rates(zero, nngp, cosine, gap))
    return replace(
        signal,
        var1=var1,
        var2=var2,
        cosine=cosine,
        gap=gap,
        ntk=ntk,
        space=(left.shape[-2],),
        own1=tuple(own1),
        own2=tuple(own2),
    )
