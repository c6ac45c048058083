"""Checks of arguments, shared by the whole package.

Each check names the argument, says what was expected and what came, and returns the checked
value.  Shapes and dtypes are always checked; values only when there are some, that is outside
of `jit`, `vmap` and `grad`, whose tracers have a shape and a dtype but no numbers to look at.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from ntkbook._base.types import Array, ArrayLike, Float

A = TypeVar("A", bound=ArrayLike)
T = TypeVar("T")


def is_traced(*values: object) -> bool:
    """Whether any of the values is a tracer, so that its numbers cannot be looked at."""
    return any(isinstance(value, jax.core.Tracer) for value in values)


_SMALL = (str, bytes, bool, int, float, complex, type(None), np.generic, np.ndarray, Array)


def described(value: object) -> str:
    """What `value` is, in a few words, however large: its type, and its shape or what it says."""
    kind, shape = type(value).__name__, getattr(value, "shape", ())
    if isinstance(shape, tuple) and shape:
        return f"{kind} of shape {shape}"
    return f"{kind} {value!r:.60}" if isinstance(value, _SMALL) else kind


def as_floating(name: str, value: object) -> Float[Array, "..."]:
    """`value` as a JAX array of real floating dtype; integers and booleans become floats.

    float32 stays float32.  Raises TypeError for complex numbers and for what is not an array.
    """
    try:
        array = jnp.asarray(value)
    except (TypeError, ValueError, OverflowError):
        pass  # JAX's own message may contain the whole of what came
    else:
        return _real(name, array)
    advice = ""
    if hasattr(value, "nngp") and hasattr(value, "ntk"):
        advice = "; pass kernel.nngp or kernel.ntk"
    raise TypeError(f"{name} must be an array of real numbers, got {described(value)}{advice}")


def _real(name, array):
    if jnp.issubdtype(array.dtype, jnp.floating):
        return array
    if not jnp.issubdtype(array.dtype, jnp.integer) and array.dtype != bool:
        raise TypeError(f"{name} must be real, got dtype {array.dtype}")
    return array.astype(jnp.result_type(float))


def require_finite(name: str, array: A) -> A:
    """Raise ValueError when an entry is NaN or infinite."""
    if not is_traced(array):
        bad = np.count_nonzero(~np.isfinite(np.asarray(array)))
        if bad:
            raise ValueError(
                f"{name} must be finite, got {bad} NaN or infinite of {np.size(array)} entries"
            )
    return array


def require_shape(name: str, array: A, shape: Sequence[int | None]) -> A:
    """Raise ValueError unless `array` has this shape; None stands for any length of an axis."""
    got = tuple(np.shape(array))
    fits = len(got) == len(shape) and all(
        want is None or want == length for want, length in zip(shape, got, strict=True)
    )
    if not fits:
        wanted = ", ".join("any" if length is None else str(length) for length in shape)
        wanted += "," if len(shape) == 1 else ""
        raise ValueError(f"{name} must have shape ({wanted}), got {got}")
    return array


def _require_number(name, number, expected, accept):
    if is_traced(number):
        return number
    if isinstance(number, (bool, str)) or np.ndim(number) != 0:
        raise TypeError(f"{name} must be {expected}, got {described(number)}")
    try:
        value = float(number)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must be {expected}, got {described(number)}") from error
    if not (math.isfinite(value) and accept(value)):
        raise ValueError(f"{name} must be {expected}, got {number}")
    return number


def require_number(name: str, number: T) -> T:
    """Raise unless `number` is a finite scalar."""
    return _require_number(name, number, "a finite number", lambda v: True)


def require_positive(name: str, number: T) -> T:
    """Raise unless `number` is a finite scalar greater than zero."""
    return _require_number(name, number, "a positive finite number", lambda v: v > 0)


def require_nonnegative(name: str, number: T) -> T:
    """Raise unless `number` is a finite scalar, zero or greater."""
    return _require_number(name, number, "a non-negative finite number", lambda v: v >= 0)


def require_count(name: str, number: int, minimum: int = 1) -> int:
    """Raise unless `number` is an integer, `minimum` or greater."""
    if isinstance(number, bool) or not isinstance(number, (int, np.integer)):
        raise TypeError(f"{name} must be an integer, got {described(number)}")
    if number < minimum:
        raise ValueError(f"{name} must be at least {minimum}, got {number}")
    return int(number)


def require_choice(name: str, value: T, choices: Sequence[T]) -> T:
    """Raise ValueError unless `value` is one of `choices`."""
    if not any(isinstance(value, type(one)) and value == one for one in choices):
        got = repr(value) if isinstance(value, str) else described(value)
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {got}")
    return value


def _tolerance(matrix):
    """Rounding to be expected of an (N, N) matrix: N times the spacing of its dtype, times 16."""
    return 16 * max(matrix.shape[0], 1) * float(jnp.finfo(matrix.dtype).eps)


def require_symmetric(name: str, matrix: Float[Array, "N N"]) -> Float[Array, "N N"]:
    """Raise ValueError unless `matrix` is square, finite and symmetric up to rounding."""
    shape = np.shape(matrix)
    if len(shape) != 2 or shape[0] != shape[1]:
        raise ValueError(f"{name} must be a square matrix (N, N), got shape {shape}")
    require_finite(name, matrix)
    if not is_traced(matrix) and np.size(matrix):
        values = np.asarray(matrix)
        gap, size = np.abs(values - values.T).max(), np.abs(values).max()
        if gap > _tolerance(matrix) * size:
            raise ValueError(
                f"{name} must be symmetric, got a largest |A - A^T| of {gap:.3g} "
                f"beside a largest entry of {size:.3g}"
            )
    return matrix


def require_psd(
    name: str, eigenvalues: Float[Array, "N"], tolerance: Float[Array, ""] | None = None
) -> Float[Array, "N"]:
    """Raise ValueError when a symmetric matrix with these eigenvalues is not PSD up to rounding.

    `eigenvalues` (N,), in any order, are those of the matrix called `name`: whoever has
    decomposed it already need not pay twice.  `tolerance`, how far below zero rounding may take
    them, is by default that of a decomposition in their own dtype.
    """
    if not is_traced(eigenvalues) and np.size(eigenvalues):
        values = np.asarray(eigenvalues)
        lowest, largest = values.min(), np.abs(values).max()
        if tolerance is None:
            tolerance = _tolerance(eigenvalues) * largest
        # "not >=" instead of "<": a NaN among the eigenvalues is refused too.
        if not lowest >= -tolerance:
            raise ValueError(
                f"{name} must be positive semi-definite, got a lowest eigenvalue of "
                f"{lowest:.3g} beside a largest of {largest:.3g}"
            )
    return eigenvalues
