"""What layers are given: inputs, one example a row, and the shape of an example."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from ntkbook._base.arguments import (
    as_floating,
    described,
    is_array,
    require_count,
    require_finite,
)
from ntkbook._base.types import Array, Float


def checked_rows(name: str, x: object) -> Float[Array, "n d"]:
    """`x` as a finite array of inputs (n, d); TypeError or ValueError for anything else."""
    array = as_floating(name, x)
    if array.ndim != 2:
        hint = "; flatten them with x.reshape(len(x), -1)" if array.ndim > 2 else ""
        hint = f"; of a single example pass {name}[None]" if array.ndim == 1 else hint
        raise ValueError(
            f"{name} must have shape (n, d), one example a row, got {array.shape}{hint}"
        )
    if array.shape[1] == 0:
        raise ValueError(f"{name} must have at least one feature, got shape {array.shape}")
    return require_finite(name, array)


def features_of(input_shape: Sequence[int]) -> int:
    """d of the shape (d,) of an example; TypeError or ValueError for anything else."""
    expected = "input_shape must be (d,), the shape of one example, such as x.shape[1:]"
    whole = isinstance(input_shape, Sequence) and not isinstance(input_shape, (str, bytes))
    if not whole or not all(isinstance(d, (int, np.integer)) for d in input_shape):
        raise TypeError(f"{expected}, got {described(input_shape)}")
    if len(input_shape) != 1:
        raise ValueError(f"{expected}, got {tuple(input_shape)}")
    return require_count("input_shape[0]", input_shape[0])


def require_entries(x: object) -> None:
    """Raise TypeError unless `x` is an array of real numbers."""
    if not is_array(x) or jnp.iscomplexobj(x):
        got = f"complex {described(x)}" if is_array(x) else described(x)
        raise TypeError(
            f"x must be an array (n, d) of real numbers, got {got}; the order is apply(params, x)"
        )
