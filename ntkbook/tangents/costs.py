"""What the empirical kernel costs by each method, in seconds and bytes, before it is computed.

The figures are those of two cores of a CPU within a factor of three or so.  They need not be
better: they only have to tell minutes from hours, and what fits from what does not.
"""

from __future__ import annotations

from math import prod
from typing import NamedTuple

import jax

from ntkbook._base.arguments import is_traced, require_count, require_flag, require_nonnegative
from ntkbook._base.types import Array, Num, PyTree
from ntkbook.tangents.model import Model, forward_pass

# Measured on two cores: operations per second of matrix products, of those between two long
# Jacobians, which don't stay in the cache, and of one example's gradient, a product of vectors;
# seconds for an entry of a Jacobian, for an entry of one direction, and to start a program.
_PRODUCTS, _JACOBIANS, _GRADIENT = 5e10, 3e10, 1e10
_ENTRY, _TOUCH, _START = 4e-9, 2e-9, 1e-4

# The products' forward passes take so many examples at once, for directions to so many others.
PRODUCT_ROWS, PRODUCT_COLUMNS = 128, 16


class Cost(NamedTuple):
    """Estimated time and largest memory, beside the parameters and f's own activations.

    **Fields**: `seconds`, on two cores of a CPU, within a factor of three or so; `bytes`.

    >>> Cost(seconds=0.5, bytes=2**20).seconds
    0.5
    """

    seconds: float
    bytes: float


def costs(
    n1: int,
    n2: int | None,
    k: int,
    parameters: int,
    *,
    jacobian_bytes: int = 2**29,
    itemsize: int = 4,
    forward: float | None = None,
    trace: bool = False,
) -> dict[str, Cost]:
    """The `Cost` of the methods "contraction" and "products" for a network of any library.

    Contraction computes each row block's Jacobian once, and for each of the row blocks that of all
    examples to the right of it; then it contracts k² pairs of rows of P entries, k for the trace.
    Products take one gradient and one forward pass through all examples for each column.  So
    contraction is the faster for small networks, for a weight that is used many times, as in a
    convolution, and for few outputs; products once a block holds few examples.

    "factorised" is not among them: it asks for this package's own layers, and is never far above
    contraction.  For a dense layer it does d + k² width operations for a pair where contraction
    does k² d width.  For a convolution from c entries in a window to `width` channels at p pixels
    it does p² (c + k width) for the trace where contraction does k c width: fewer if
    p² (1/c + 1/(k width)) < 1, for few pixels of many channels.  A convolution for which that does
    not hold takes its gradients, whatever the other layers take.  With ReLU, Flatten and Dense
    after a convolution of 3 × 3, in float32 on two busy cores: of 32 images with ten outputs,
    4 × 4 pixels and 256 to 256 channels the trace took 0.08 s instead of 5.0, all blocks 0.12 s
    instead of 5.4; of 64 images with 8 × 8 pixels and 64 channels 0.42 s instead of 0.84, and
    0.57 s instead of 1.4, where pairs of pixels alone would have taken the first of them 1.1 s.

    **Arguments**: `n1` and `n2` examples, n2 None for the symmetric kernel of n1; `k` outputs; the
    number of `parameters` P, of `itemsize` bytes each; `jacobian_bytes`, of the largest Jacobian
    held at once, by default what `empirical_ntk` allows itself;
    `forward`, the operations of f for one example, 2 P if not given; `trace`, over the outputs.

    **Returns**: a dictionary from the method to its `Cost`.

    **Raises**: TypeError or ValueError for sizes that are no positive integers, and other values.

    >>> dense = costs(64, None, 10, 10**7)
    >>> dense["products"].seconds < 180 < dense["contraction"].seconds
    True
    >>> convolution = costs(500, None, 10, 10**5, forward=2e8)
    >>> convolution["contraction"].seconds < convolution["products"].seconds
    True
    """
    sizes = {"n1": n1, "k": k, "itemsize": itemsize}
    for name, size in (sizes | ({} if n2 is None else {"n2": n2})).items():
        require_count(name, size)
    for name, size in {"parameters": parameters, "jacobian_bytes": jacobian_bytes}.items():
        require_count(name, size, 0)
    require_flag("trace", trace)
    forward = 2.0 * parameters if forward is None else require_nonnegative("forward", forward)
    kernel = itemsize * n1 * (n2 or n1) * (1 if trace else k * k)
    rows, columns = block_sizes(n1, n2, k * parameters * itemsize, jacobian_bytes)
    pairs, held, others, tiles = _work(n1, n2, rows, columns)
    entries = k * parameters * (held + others)
    gradients = 2 * forward * k * (held + others)
    products = 2 * parameters * pairs * (k if trace else k * k)
    contraction = Cost(
        entries * _ENTRY + gradients / _GRADIENT + products / _JACOBIANS + tiles * _START,
        # Each Jacobian is copied once on its way into the product.
        2 * (rows + columns) * k * parameters * itemsize + 2 * kernel,
    )
    if n2 is not None:
        n1, n2 = max(n1, n2), min(n1, n2)
    pairs, held, others, _ = _work(n1, n2, PRODUCT_ROWS, PRODUCT_COLUMNS)
    directions = k * (others + (held if n2 is None else 0))
    seconds = directions * (parameters * _TOUCH + 2 * forward / _GRADIENT + _START)
    forwards = 3 * forward * k * pairs
    return {
        "contraction": contraction,
        "products": Cost(seconds + forwards / _PRODUCTS, 3 * parameters * itemsize + 2 * kernel),
    }


def block_sizes(
    n1: int, n2: int | None, example_bytes: int, jacobian_bytes: int
) -> tuple[int, int]:
    """How many examples' Jacobians of `example_bytes` are held at once, as rows and as columns.

    All of n1 rows and n2 columns if either's fit into `jacobian_bytes`.  Else as many rows as fit,
    for the fewer row blocks the fewer columns are computed again, and a quarter as many columns.
    """
    fit = max(1, jacobian_bytes // max(1, example_bytes))
    if max(n1, n2 or n1) <= fit:
        return n1, n2 or n1
    columns = max(1, fit // 4)
    # A multiple, so that the last columns of every row block are as many: one program for all.
    return fit // columns * columns, columns


def _work(n1: int, n2: int | None, rows: int, columns: int) -> tuple[int, int, int, int]:
    """Pairs of examples computed, rows held once, columns computed beside them, and tiles."""
    pairs = others = tiles = 0
    for start in range(0, n1, rows):
        size = min(rows, n1 - start)
        beside = n1 - start - size if n2 is None else n2
        pairs += size * (beside + (size if n2 is None else 0))
        others += beside
        tiles += -(-beside // columns) + 1
    return pairs, n1, others, tiles


def faster_method(estimates: dict[str, Cost], memory: float) -> str:
    """The fastest method within so many bytes, or the smallest if none is."""
    fitting = {name: cost for name, cost in estimates.items() if cost.bytes <= memory}
    if fitting:
        return min(fitting, key=lambda name: fitting[name].seconds)
    return min(estimates, key=lambda name: estimates[name].bytes)


def forward_operations(f: Model, params: PyTree, x: Num[Array, "n *d"]) -> float | None:
    """The operations of f for one example by XLA's count, or None where that is not to be had.

    It counts what a loop does once, not as often as it turns.
    """
    leaves = jax.tree.leaves(params)
    if is_traced(x, *leaves):
        return None
    analysis = forward_pass(f).lower(params, x[:1]).cost_analysis()
    flops = (analysis or {}).get("flops")
    # Never less than one use of each parameter that a matrix holds: loops are undercounted.
    return None if flops is None else max(flops, 2.0 * sum(prod(a.shape) for a in leaves))
