"""Shapes of kernels and targets that don't fit one another, and what was probably meant."""

from __future__ import annotations

import numpy as np

from ntkbook._base.arguments import require_shape
from ntkbook._base.types import Array, Float


def require_targets(y: Float[Array, "N *k"], kernel: str, rows: int, outputs: int | None) -> None:
    """Raise ValueError unless targets fit a kernel, called `kernel`, with so many rows.

    `outputs` is k where it came as (N, N, k, k), and rows is N k then.
    """
    shape: tuple[int | None, ...] = (rows,) if y.ndim == 1 else (rows, None)
    if outputs is not None:
        shape = (rows // outputs, outputs)
    try:
        require_shape("y_train", y, shape)
    except ValueError as error:
        hint = _meant(y.shape, kernel, rows, outputs)
        raise ValueError(f"{error}{hint}") from None


def _meant(got: tuple[int, ...], kernel: str, rows: int, outputs: int | None) -> str:
    k = outputs or 1
    if len(got) == 2 and got[1] == rows // k and (outputs is None or got[0] == k):
        return "; pass y_train.T"
    if len(got) == 2 and int(np.prod(got)) == rows:
        return (
            f"; of {got[0]} examples with {got[1]} outputs pass {kernel} as (N, N, k, k), or "
            "y_train.ravel() where the rows are in that order"
        )
    if got == (rows,):
        return f"; pass y_train.reshape(-1, {k})"
    if outputs and got == (rows // k,):
        return ", one row for each example; of class labels pass jax.nn.one_hot(y, k)"
    if len(got) == 1 and outputs is None and got[0] and got[0] % rows == 0:
        return f"; pass y_train.reshape({rows}, -1)"
    return ""


def require_test_points(
    name: str, matrix: Float[Array, "M N"], got: int | None, rows: int, outputs: int | None
) -> None:
    """Raise ValueError unless a kernel at test points fits that of the training points.

    That one has so many `rows`, and came with `outputs`; `matrix` came with `got` of them.
    """
    shape, k = matrix.shape, outputs or 1
    if got == outputs and len(shape) == 2 and shape[1] == rows:
        return
    wanted = f"(any, {rows})" if got is None else "(M, N)"
    wanted = wanted if outputs is None else f"(M, N, {outputs}, {outputs})"
    hint = ""
    if shape == (rows,):
        hint = f"; of a single test point pass {name}[None]"
    elif got == outputs and shape[:1] == (rows,):
        hint = "; it is transposed, the test points come first: net.kernel(x_test, x_train)"
    elif got is None and len(shape) == 2 and shape[1] == rows:
        axes = f"reshape(-1, {k}, {rows // k}, {k}).swapaxes(1, 2)"
        hint = f"; of a matrix (M k, N k) pass {name}.{axes}"
    came = shape if got is None else (shape[0] // got, shape[1] // got, got, got)
    raise ValueError(
        f"{name} must have shape {wanted}, for {rows // k} training points, got {came}{hint}"
    )
