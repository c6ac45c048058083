"""Whether each row of a network's outputs comes from its own row of x alone.

Kernels and features of a network exist only then.  Batch statistics, or dropout with one key for
all rows, tie rows to one another, and nothing in the shapes tells.
"""

from __future__ import annotations

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from ntkbook._base.arguments import is_traced
from ntkbook._base.compiled import compiled
from ntkbook._base.types import Array, ArrayLike, Num, PyTree
from ntkbook.networks.activations import Elementwise
from ntkbook.networks.layer import Layer
from ntkbook.tangents.model import (
    Model,
    checked_inputs,
    checked_parameters,
    count_outputs,
    forward_pass,
    network_of,
    require_model,
    second_inputs,
)

# So many rows are looked at, from the first to the last: two passes through f over these.
_ROWS = 16

# What rounding may change of an output, in units of the last place of the largest one that any row
# has there; and, where that is not enough, in units of what such a relative change of every
# parameter and input does.
_ROUNDING = 32


def checked_arguments(
    f: Model,
    params: PyTree,
    x1: Num[ArrayLike, "n1 *d"],
    x2: Num[ArrayLike, "n2 *d"] | None = None,
    name: str = "x1",
) -> tuple[PyTree, Array, Array | None, int]:
    """`params`, `x1`, `x2` as arrays and the number of outputs, once all that can be told is."""
    require_model(f)
    params, first = checked_parameters(params), checked_inputs(name, x1)
    second = second_inputs(first, x2)
    k = count_outputs(f, params, first)
    require_independent_rows(f, params, first if second is None or len(first) > 1 else second)
    return params, first, second, k


def require_independent_rows(f: Model, params: PyTree, x: Num[Array, "n *d"]) -> None:
    """Raise ValueError when a row of f(params, x) is another beside other rows than by itself.

    Up to 16 rows of x, spread over it, go through f together and one by one, a single row among
    others made of it.  Not looked at: traced values, and networks of this package's own
    layers, which are row-wise.
    """
    net = network_of(f)
    own = net is not None and all(map(_row_wise, _flat(net)))
    if own or is_traced(x, *jax.tree.leaves(params)):
        return
    places = np.unique(np.linspace(0, len(x) - 1, _ROWS).astype(int))
    rows, looked = x[places], slice(None)
    if len(x) == 1:  # neither the first nor the last, nor where it stays when all are turned around
        other = ~x if x.dtype == bool else jnp.where(x == 0, 1, 2 * x).astype(x.dtype)
        rows, looked = jnp.concatenate([other, x, other, other]), slice(1, 2)
    try:
        both = compiled(_together_and_alone, (f,))(params, rows)
    except (TypeError, ValueError, IndexError) as error:
        said = "".join(str(error).splitlines()[:1])
        raise ValueError(
            f"f must take any number of examples along the first axis of x, got "
            f"{type(error).__name__} ({said:.200}) for one of shape {(1, *rows.shape[1:])} alone"
            + ("; of a single example pass x[None]" if x.ndim == 1 else "")
        ) from error
    if is_traced(*both):  # f itself holds traced values
        return
    if both[0].shape != both[1].shape:
        raise ValueError(
            f"f must give outputs of one shape however many rows x has, got {both[0].shape[1:]} "
            f"for each of {len(rows)} rows and {both[1].shape[1:]} for one alone"
        )
    together, alone = (np.asarray(y, np.float64).reshape(len(rows), -1) for y in both)
    with np.errstate(invalid="ignore"):
        gap = np.abs(together - alone)[looked]
    # The same NaN or infinity in both is no difference; in one of the two it is.
    equal = (together == alone) | (np.isnan(together) & np.isnan(alone))
    gap[equal[looked]] = 0
    largest = _largest(np.abs([together, alone]))
    allowed = _ROUNDING * float(jnp.finfo(both[0].dtype).eps) * largest
    if (gap <= allowed).all():
        return
    # Deep or cancelling networks enlarge rounding: ask this one by how much.
    shaken = compiled(_shaken, (f,))(params, rows, _coarsest(f, params, rows))
    with np.errstate(invalid="ignore"):
        still, *moved = np.asarray(shaken, np.float64).reshape(3, len(rows), -1)
        change = np.abs(np.stack(moved) - still)
    allowed = np.maximum(allowed, _ROUNDING * _largest(change))
    tied = ~(gap <= allowed).all(axis=1)
    if tied.any():
        first = int(np.argmax(tied))
        raise ValueError(
            f"row {places[first]} of f(params, x) changes with the other rows; freeze batch "
            "statistics (inference mode), pass dropout a deterministic flag, and let each row come "
            f"from its own row of x alone (by itself it is off by {gap[first].max():.3g}, beside "
            f"outputs up to {largest.max():.3g})"
        )


def _largest(sizes: np.ndarray) -> np.ndarray:
    """The largest finite of sizes (2, n, k) for each of k outputs."""
    return np.max(sizes, axis=(0, 1), initial=0, where=np.isfinite(sizes))


def _flat(layer: Layer) -> Iterator[Layer]:
    yield layer
    for inner in getattr(layer, "layers", ()):
        yield from _flat(inner)


def _row_wise(layer: Layer) -> bool:
    # `type` and not `isinstance`: a subclass, or the function of an Elementwise, is the user's.
    return type(layer).__module__.startswith("ntkbook.") and type(layer) is not Elementwise


def _together_and_alone(f: Model, params: PyTree, rows: Array) -> tuple[Array, Array]:
    # Accelerators would round float32 factors to ten bits, each batch size in its own way.
    with jax.default_matmul_precision("highest"):
        return f(params, rows), jax.vmap(lambda row: f(params, row[None])[0])(rows)


def _shaken(f: Model, params: PyTree, rows: Array, size: float) -> Array:
    """f as it is, then twice at parameters and inputs off by the factor 1 ± size, at random.

    All three in one trace: a mask that f draws anew for each trace must not pass for rounding.
    """

    def shake(arguments):
        key, size = arguments
        leaves, tree = jax.tree.flatten((params, rows))
        keys = jax.random.split(key, len(leaves))

        def off(key, leaf):
            if not jnp.issubdtype(leaf.dtype, jnp.floating):
                return leaf
            signs = jax.random.rademacher(key, leaf.shape, leaf.dtype)
            return (leaf * (1 + size * signs)).astype(leaf.dtype)

        return f(*jax.tree.unflatten(tree, map(off, keys, leaves)))

    with jax.default_matmul_precision("highest"):
        sizes = jnp.array([0, size, size], float)
        return jax.lax.map(shake, (jax.random.split(jax.random.key(0), 3), sizes))


def _coarsest(f: Model, params: PyTree, rows: Array) -> float:
    """The unit in the last place of the coarsest dtype that f computes with."""
    y = jax.eval_shape(forward_pass(f), params, rows)
    dtypes = [y.dtype, *(leaf.dtype for leaf in jax.tree.leaves((params, rows)))]
    # Mixed precision is known by the types in the program alone.
    program = str(forward_pass(f).trace(params, rows).jaxpr)
    dtypes += [
        jnp.dtype(d) for m, d in (("bf16[", "bfloat16"), (":f16[", "float16")) if m in program
    ]
    return max(float(jnp.finfo(d).eps) for d in dtypes if jnp.issubdtype(d, jnp.floating))
