"""Kernels computed tile by tile, so that a few compiled programs serve every number of inputs."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import jax
import numpy as np

from ntkbook._base.progress import bar
from ntkbook._base.types import Array, Float
from ntkbook.networks.signal import Inputs, Kernel, inputs

# The sides of a tile.  Inputs are padded up to one of them, so that a few compiled programs serve
# matrices of every size; from 16 inputs on, padding little more than doubles the work at worst.
SIDES = (16, 24, 32, 48, 64, 96, 128, 192, 256)


# Tiles that may be computed before the first of them is written: JAX works on the next ones while
# Python writes it, and few of them are in memory at a time.
_AHEAD = 2


def tiled(
    compute: Callable[[Inputs, Inputs, np.ndarray], Kernel],
    x1: Float[Array, "n1 d"],
    x2: Float[Array, "n2 d"] | None,
    shares: int = 0,
    progress: bool = False,
) -> tuple[Kernel, bool]:
    """`compute(inputs1, inputs2, identical)`, a `Kernel`, tile by tile into a pair of matrices.

    A tile stays in cache through all layers, and while it is computed the ones before it are
    written.  With x2 None the kernel of x1 with itself is computed on and above the diagonal and
    mirrored; on the diagonal the tiles get `identical`, the mask of pairs that are one input.  With
    `shares` the ntk of a tile is a stack of so many.  `progress` shows a bar.

    Returns the `Kernel`, and whether the sums over its tiles are finite.
    """
    symmetric = x2 is None
    blocks1 = _blocks(x1)
    blocks2 = blocks1 if x2 is None else _blocks(x2)
    shape = len(x1), len(x1 if x2 is None else x2)
    nngp = _aligned(shape, x1.dtype)
    ntk = _aligned((shares, *shape) if shares else shape, x1.dtype)

    corners = [(i, j) for i in blocks1 for j in blocks2 if not symmetric or i <= j]
    waiting: deque[tuple[tuple[int, int], Kernel]] = deque()
    finite = True
    shown: Any = bar(len(corners), "tile") if progress else nullcontext()

    def write() -> None:
        nonlocal finite
        (i, j), tile = waiting.popleft()
        for matrix, part in ((nngp, tile.nngp), (ntk, tile.ntk)):
            # The sum, taken while the tile is in cache, is finite only if every entry is.
            values = _place(matrix, part, i, j, symmetric)
            with np.errstate(over="ignore"):
                finite &= bool(np.isfinite(values.sum()))
        if progress:
            shown.update()

    with shown:
        for i, j in corners:
            inputs1, inputs2 = blocks1[i], blocks2[j]
            identical = np.eye(len(inputs1.x), len(inputs2.x), dtype=bool) & (symmetric and i == j)
            waiting.append(((i, j), compute(inputs1, inputs2, identical)))
            if len(waiting) > _AHEAD:
                write()
        while waiting:
            write()
    # Nobody else holds the matrices, so JAX may keep them where they are.
    return Kernel(*(jax.device_put(matrix, may_alias=True) for matrix in (nngp, ntk))), finite


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


def _blocks(x: Float[Array, "n d"]) -> dict[int, Inputs]:
    """First row → the `Inputs` of a block of rows, padded with zeros to the side of a tile."""
    whole = np.asarray(x)
    side = side_of(len(whole))
    rows = ((start, whole[start : start + side]) for start in range(0, len(whole), side))
    return {start: _inputs(np.pad(part, ((0, side - len(part)), (0, 0)))) for start, part in rows}


def side_of(n: int) -> int:
    """The smallest side that holds n rows, or one of the two largest."""
    for side in SIDES:
        if n <= side:
            return side
    smaller, larger = SIDES[-2:]
    padded = {side: math.ceil(n / side) * side for side in (smaller, larger)}
    # A pair of inputs costs some 20 % less in the larger tile.
    return smaller if 1.2 * padded[smaller] ** 2 < padded[larger] ** 2 else larger


_inputs = jax.jit(inputs)


def _aligned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An uninitialised NumPy array whose memory JAX can take over without a copy."""
    # XLA asks for 64 bytes, NumPy promises 16: 64 more are taken, and the first few left out.
    size, item = math.prod(shape), np.dtype(dtype).itemsize
    raw = np.empty(size + 64 // item, dtype)
    first = -raw.ctypes.data % 64 // item
    return raw[first : first + size].reshape(shape)
