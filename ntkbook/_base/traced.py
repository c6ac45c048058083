"""Checks of what may be traced: where nothing can be raised, the value becomes NaN.

Within `jit`, `vmap` and `grad` a value has no number to look at, and an error can't be raised for
it.  NaN in its place spoils all that is made of it, so that no plausible number comes out.
"""

from __future__ import annotations

from typing import TypeVar

import jax
import jax.numpy as jnp

from ntkbook._base.arguments import (
    is_traced,
    require_fraction,
    require_nonnegative,
    require_positive,
    require_share,
    require_symmetric,
)
from ntkbook._base.types import Array, Bool, Float

T = TypeVar("T")


def nan_unless(valid: Bool[Array, "..."] | bool, value: T) -> T:
    """`value`, NaN where it is not `valid`, which is known only when the program runs."""
    return jnp.where(valid, value, jnp.nan)  # type: ignore[call-overload]


def positive(name: str, number: T) -> T:
    """`require_positive`, or NaN."""
    known = require_positive(name, number)
    return nan_unless(number > 0, number) if is_traced(number) else known  # type: ignore[operator]


def nonnegative(name: str, number: T) -> T:
    """`require_nonnegative`, or NaN."""
    known = require_nonnegative(name, number)
    return nan_unless(number >= 0, number) if is_traced(number) else known  # type: ignore[operator]


def fraction(name: str, number: T) -> T:
    """`require_fraction`, or NaN."""
    known = require_fraction(name, number)
    if not is_traced(number):
        return known
    return nan_unless((number >= 0) & (number < 1), number)  # type: ignore[operator]


def share(name: str, number: T) -> T:
    """`require_share`, or NaN."""
    known = require_share(name, number)
    if not is_traced(number):
        return known
    return nan_unless((number > 0) & (number <= 1), number)  # type: ignore[operator]


def symmetric(name: str, matrix: Float[Array, "N N"]) -> Float[Array, "N N"]:
    """`require_symmetric`, or NaN."""
    known = require_symmetric(name, matrix)
    if not is_traced(matrix) or matrix.size == 0:
        return known
    held = jax.lax.stop_gradient(matrix)
    gap, size = jnp.abs(held - held.T).max(), jnp.abs(held).max()
    # What rounding may do is the same as where it is known.
    return nan_unless(gap <= 16 * len(held) * float(jnp.finfo(held.dtype).eps) * size, matrix)
