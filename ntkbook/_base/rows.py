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


def checked_rows(name: str, x: object, spatial: bool = False) -> Float[Array, "n *d"]:
    """`x` as a finite array of inputs (n, d); TypeError or ValueError for anything else.

    `spatial`, whether they are images (n, *space, channels).
    """
    array = as_floating(name, x)
    if spatial and array.ndim < 3:
        raise ValueError(
            f"{name} must have shape (n, *space, channels), one image a row, got {array.shape}; "
            "of images without channels pass x[..., None]"
        )
    if array.ndim != 2 and not spatial:
        hint = "; flatten them with x.reshape(len(x), -1), or begin the network with Flatten()"
        hint = hint if array.ndim > 2 else ""
        hint = f"; of a single example pass {name}[None]" if array.ndim == 1 else hint
        raise ValueError(
            f"{name} must have shape (n, d), one example a row, got {array.shape}{hint}"
        )
    if 0 in array.shape[1:]:
        raise ValueError(f"{name} must have at least one feature, got shape {array.shape}")
    return require_finite(name, array)


def shape_of(input_shape: Sequence[int], spatial: bool = False) -> tuple[int, ...]:
    """The shape (d,) of an example; TypeError or ValueError for anything else.

    `spatial`, whether it is an image (*space, channels).
    """
    form = "(*space, channels)" if spatial else "(d,)"
    expected = f"input_shape must be {form}, the shape of one example, such as x.shape[1:]"
    whole = isinstance(input_shape, Sequence) and not isinstance(input_shape, (str, bytes))
    if not whole or not all(isinstance(d, (int, np.integer)) for d in input_shape):
        raise TypeError(f"{expected}, got {described(input_shape)}")
    if (len(input_shape) < 2) if spatial else (len(input_shape) != 1):
        raise ValueError(f"{expected}, got {tuple(input_shape)}")
    return tuple(require_count(f"input_shape[{i}]", d) for i, d in enumerate(input_shape))


def require_entries(x: object) -> None:
    """Raise TypeError unless `x` is an array of real numbers."""
    if not is_array(x) or jnp.iscomplexobj(x):
        got = f"complex {described(x)}" if is_array(x) else described(x)
        raise TypeError(
            f"x must be an array (n, d) of real numbers, got {got}; the order is apply(params, x)"
        )
