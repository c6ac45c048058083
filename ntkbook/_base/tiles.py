"""Matrices of pairs computed tile by tile: a few compiled programs serve every number of rows."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import jax
import numpy as np

from ntkbook._base.progress import bar
from ntkbook._base.types import Array, Float, PyTree

# The sides of a tile.  Inputs are padded up to one of them, so that a few compiled programs serve
# matrices of every size; from 16 inputs on, padding little more than doubles the work at worst.
SIDES = (16, 24, 32, 48, 64, 96, 128, 192, 256)


# Tiles that may be computed before the first of them is written: JAX works on the next ones while
# Python writes it, and few of them are in memory at a time.
_AHEAD = 2


def tiled(
    compute: Callable[[PyTree, PyTree, np.ndarray], tuple[Array, Array]],
    prepare: Callable[[np.ndarray], PyTree],
    sides: tuple[int, ...],
    x1: Float[Array, "n1 *d"],
    x2: Float[Array, "n2 *d"] | None,
    shares: int = 0,
    progress: bool = False,
) -> tuple[tuple[Array, Array], bool]:
    """`compute(block1, block2, identical)`, a pair of tiles, written into a pair of matrices.

    `prepare(x)` makes what `compute` takes of a block of rows, whose number is one of `sides`.  A
    tile stays in cache while it is computed, and those before it are written meanwhile.  With x2
    None the pairs of x1 with itself are computed on and above the diagonal and mirrored; on the
    diagonal the tiles get `identical`, the mask of pairs that are one input.  With `shares` the
    second matrix is a stack of so many.  `progress` shows a bar.

    Returns the two matrices, and whether the sums over their tiles are finite.
    """
    symmetric = x2 is None
    blocks1 = _blocks(prepare, sides, x1)
    blocks2 = blocks1 if x2 is None else _blocks(prepare, sides, x2)
    shape = len(x1), len(x1 if x2 is None else x2)
    matrices = [_aligned(shape, x1.dtype)]
    matrices += [_aligned((shares, *shape) if shares else shape, x1.dtype)]

    lengths = [side_of(count, sides) for count in shape]
    corners = [(i, j) for i in blocks1 for j in blocks2 if not symmetric or i <= j]
    waiting: deque[tuple[tuple[int, int], tuple[Array, Array]]] = deque()
    finite = True
    shown: Any = bar(len(corners), "tile") if progress else nullcontext()

    def write() -> None:
        nonlocal finite
        (i, j), tiles = waiting.popleft()
        for matrix, part in zip(matrices, tiles, strict=True):
            # The sum, taken while the tile is in cache, is finite only if every entry is.
            values = _place(matrix, part, i, j, symmetric)
            with np.errstate(over="ignore"):
                finite &= bool(np.isfinite(values.sum()))
        if progress:
            shown.update()

    with shown:
        for i, j in corners:
            identical = np.eye(lengths[0], lengths[1], dtype=bool) & (symmetric and i == j)
            waiting.append(((i, j), compute(blocks1[i], blocks2[j], identical)))
            if len(waiting) > _AHEAD:
                write()
        while waiting:
            write()
    # Nobody else holds the matrices, so JAX may keep them where they are.
    first, second = (jax.device_put(matrix, may_alias=True) for matrix in matrices)
    return (first, second), finite


def _place(matrix: np.ndarray, tile: Array, i: int, j: int, symmetric: bool) -> np.ndarray:
    """Write a tile, without its padding, at row i and column j, and its mirror image."""
    rows, columns = tile.shape[-2:]
    here = matrix[..., i : i + rows, j : j + columns]
    rows, columns = here.shape[-2:]
    values = np.asarray(tile)[..., :rows, :columns]
    here[...] = values
    mirrored = values.swapaxes(-1, -2)
    if symmetric and i == j:
        # Its two halves are rounded differently: one is copied, for symmetry to the last bit.
        np.copyto(here, mirrored, where=np.tri(rows, dtype=bool))
    elif symmetric:
        matrix[..., j : j + columns, i : i + rows] = mirrored
    return values


def _blocks(
    prepare: Callable[[np.ndarray], PyTree], sides: tuple[int, ...], x: Float[Array, "n *d"]
) -> dict[int, PyTree]:
    """First row → what `prepare` makes of a block, padded with zeros to the side of a tile."""
    whole = np.asarray(x)
    side = side_of(len(whole), sides)
    blocks = {}
    for start in range(0, len(whole), side):
        part = whole[start : start + side]
        blocks[start] = prepare(np.pad(part, [(0, side - len(part)), *[(0, 0)] * (x.ndim - 1)]))
    return blocks


def sides_of(entries: int, largest: int = SIDES[-1]) -> tuple[int, ...]:
    """The sides of tiles with so many entries for each pair of inputs: of images a single one."""
    return SIDES if entries == 1 else (max(1, round(largest / entries**0.5)),)


def side_of(n: int, sides: tuple[int, ...] = SIDES) -> int:
    """The smallest side that holds n rows, or one of the two largest."""
    for side in sides:
        if n <= side:
            return side
    smaller, larger = (sides[0], *sides)[-2:]
    padded = {side: math.ceil(n / side) * side for side in (smaller, larger)}
    # A pair of inputs costs some 20 % less in the larger tile.
    return smaller if 1.2 * padded[smaller] ** 2 < padded[larger] ** 2 else larger


def _aligned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An uninitialised NumPy array whose memory JAX can take over without a copy."""
    # XLA asks for 64 bytes, NumPy promises 16: 64 more are taken, and the first few left out.
    size, item = math.prod(shape), np.dtype(dtype).itemsize
    raw = np.empty(size + 64 // item, dtype)
    first = -raw.ctypes.data % 64 // item
    return raw[first : first + size].reshape(shape)
