"""Empirical kernels of a network of any library, in blocks that bound the memory.

The kernel is made of horizontal strips, one for each block of rows, and a strip of tiles, one for
each block of columns.  A symmetric kernel needs only what is on and right of the diagonal.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp

from ntkbook._base.arguments import is_traced
from ntkbook._base.compiled import compiled
from ntkbook._base.progress import bar
from ntkbook._base.types import Array, PyTree
from ntkbook.tangents.costs import PRODUCT_COLUMNS, PRODUCT_ROWS
from ntkbook.tangents.features import inner_products, jacobian_of
from ntkbook.tangents.model import Model


def by_contraction(
    f: Model,
    trace: bool,
    apart: bool,
    params: PyTree,
    x1: Array,
    x2: Array | None,
    sizes: tuple[int, int],
    progress: bool = False,
) -> list[Array]:
    """The shares of all leaves, or with `apart` False a list of their sum alone.

    `sizes` are numbers of rows and columns.  A row block's Jacobian is held while the columns
    pass by; the columns' are computed again for each row block.
    """
    jacobian = compiled(jacobian_of, (f,))
    beside = compiled(_beside, (f,), trace, apart)
    return in_blocks(
        whole=lambda: compiled(_contraction, (f,), trace, apart)(params, x1, x2),
        hold=lambda block: jacobian(params, block),
        own=partial(_contract, trace, apart),
        beside=lambda held, block: beside(params, held, block),
        x1=x1,
        x2=x2,
        sizes=sizes,
        progress=progress,
    )


def by_products(
    f: Model, trace: bool, params: PyTree, x1: Array, x2: Array | None, progress: bool = False
) -> Array:
    """The kernel, a forward derivative through a block of rows for each column and output."""
    if x2 is not None and len(x2) > len(x1):
        return transposed(by_products(f, trace, params, x2, x1, progress))
    # One program under tracing, which would put all tiles in a row otherwise.
    traced = is_traced(x1, *jax.tree.leaves(params))
    sizes = (len(x1),) * 2 if traced else (PRODUCT_ROWS, PRODUCT_COLUMNS)
    tile = compiled(_products, (f,), trace)
    (theta,) = _by_strips(
        hold=lambda block: block,
        own=None,
        beside=lambda rows, columns: [tile(params, rows, columns)],
        x1=x1,
        x2=x2,
        sizes=sizes,
        progress=progress,
    )
    return theta


def in_blocks(
    whole: Callable[[], list[Array]],
    hold: Callable[[Array], Any],
    own: Callable[[Any], list[Array]],
    beside: Callable[[Any, Array], list[Array]],
    x1: Array,
    x2: Array | None,
    sizes: tuple[int, int],
    progress: bool,
) -> list[Array]:
    """`whole()` where all rows and columns are held at once, else as `_by_strips`."""
    rows, columns = sizes
    if rows >= len(x1) and columns >= len(x1 if x2 is None else x2):
        with bar(1, "block") if progress else nullcontext() as shown:
            return _finished(whole(), shown)
    return _by_strips(hold, own, beside, x1, x2, sizes, progress)


def transposed(theta: Array) -> Array:
    """Θ(x2, x1) from Θ(x1, x2): both pairs of axes swap."""
    return theta.T if theta.ndim == 2 else theta.transpose(1, 0, 3, 2)


def _by_strips(
    hold: Callable[[Array], Any],
    own: Callable[[Any], list[Array]] | None,
    beside: Callable[[Any, Array], list[Array]],
    x1: Array,
    x2: Array | None,
    sizes: tuple[int, int],
    progress: bool,
) -> list[Array]:
    """Kernels, as many as the tiles have, of tiles beside(hold(rows), columns).

    `own(hold(rows))`, if there is one, is the tile of a block of rows with itself.
    """
    rows, columns = sizes
    symmetric = x2 is None
    others = x1 if x2 is None else x2
    starts = range(0, len(x1), rows)

    def columns_of(start: int) -> range:
        first = start if symmetric else 0
        first += min(rows, len(x1) - start) if symmetric and own else 0
        return range(first, len(others), columns)

    strips = []
    total = sum(len(columns_of(s)) + (symmetric and own is not None) for s in starts)
    with bar(total, "block") if progress else nullcontext() as shown:
        for start in starts:
            held = hold(x1[start : start + rows])
            tiles = [_finished(own(held), shown)] if symmetric and own else []
            for first in columns_of(start):
                tile = beside(held, others[first : first + columns])
                tiles.append(_finished(tile, shown))
            strips.append([jnp.concatenate(parts, axis=1) for parts in zip(*tiles, strict=True)])
            del held  # before the next one is computed
    kernels = zip(*strips, strict=True)
    return [_mirrored(k, starts) if symmetric else jnp.concatenate(k) for k in kernels]


def _mirrored(strips: tuple[Array, ...], starts: range) -> Array:
    """The symmetric kernel of which strips[i] holds the rows and columns from starts[i] on."""
    table = []
    for start, strip in zip(starts, strips, strict=True):
        stop = start + len(strip)
        above = [
            transposed(other[:, start - s : stop - s])
            for s, other in zip(starts, strips, strict=True)
            if s < start
        ]
        table.append(jnp.concatenate([*above, strip], axis=1))
    return jnp.concatenate(table)


def _finished(tile: list[Array], shown: Any) -> list[Array]:
    """`tile`, once it is computed: begun all at once, they would ask for their memory together."""
    if not is_traced(*tile):
        jax.block_until_ready(tile)
    if shown is not None:
        shown.update()
    return tile


def _contraction(
    f: Model, trace: bool, apart: bool, params: PyTree, x1: Array, x2: Array | None
) -> list[Array]:
    left = jacobian_of(f, params, x1)
    right = left if x2 is None else jacobian_of(f, params, x2)
    return _shares(trace, apart, left, right)


def _beside(
    f: Model, trace: bool, apart: bool, params: PyTree, left: list[Array], x: Array
) -> list[Array]:
    return _shares(trace, apart, left, jacobian_of(f, params, x))


@partial(jax.jit, static_argnums=(0, 1))
def _contract(trace: bool, apart: bool, left: list[Array]) -> list[Array]:
    return _shares(trace, apart, left, left)


def _shares(trace: bool, apart: bool, left: list[Array], right: list[Array]) -> list[Array]:
    # Leaf by leaf, so that the Jacobian of no two leaves need be copied into one matrix.
    shares = [inner_products(a, b, trace) for a, b in zip(left, right, strict=True)]
    return shares if apart else [reduce(jnp.add, shares)]


def _products(f: Model, trace: bool, params: PyTree, x1: Array, x2: Array) -> Array:
    def column(x):
        """The entries of Θ(x1, x) for one example x: (k, n1, k), its own output first."""
        y, pullback = jax.vjp(lambda p: f(p, x[None])[0].reshape(-1), params)

        def forward(cotangent):
            return jax.jvp(lambda p: f(p, x1), (params,), pullback(cotangent))[1]

        # `map` and not `vmap`: one gradient in memory at a time is what this method is for.
        return jax.lax.map(forward, jnp.eye(y.size, dtype=y.dtype)).reshape(y.size, len(x1), -1)

    columns = jax.lax.map(column, x2)
    return jnp.einsum("jbib->ij", columns) if trace else columns.transpose(2, 0, 3, 1)
