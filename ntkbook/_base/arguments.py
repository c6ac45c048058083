"""Checks of arguments, shared by the whole package.

Each check names the argument, says what was expected and what came, and returns the checked
value.  Shapes and dtypes are always checked; values only when there are some, that is outside
of `jit`, `vmap` and `grad`, whose tracers have a shape and a dtype but no numbers to look at.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Collection, Mapping, Sequence
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from ntkbook._base.types import Array, ArrayLike, DTypeLike, Float, PRNGKeyArray, PyTree

A = TypeVar("A", bound=ArrayLike)
T = TypeVar("T")


def is_traced(*values: object) -> bool:
    """Whether any of the values is a tracer, so that its numbers cannot be looked at."""
    return any(isinstance(value, jax.core.Tracer) for value in values)


def is_array(value: object) -> bool:
    """Whether it is an array of JAX or NumPy, a tracer, or a number."""
    return isinstance(value, (Array, np.ndarray, np.generic, bool, int, float, complex))


def described(value: object) -> str:
    """What `value` is, in a few words, however large: its type, and its shape or what it says."""
    kind, shape = type(value).__name__, getattr(value, "shape", None)
    if isinstance(shape, tuple) and not _is_plain(value):
        return f"{'traced array' if is_traced(value) else kind} of shape {shape}"
    parts = value if isinstance(value, (tuple, list)) else (value,)
    return f"{kind} {value!r:.60}" if all(map(_is_plain, parts)) else kind


def _is_plain(value: object) -> bool:
    """Whether it is one number, which is known, or text or None."""
    if isinstance(value, (Array, np.ndarray)) and not is_traced(value):
        return value.ndim == 0 and jnp.issubdtype(value.dtype, np.number)
    return isinstance(value, (str, bytes, bool, int, float, complex, type(None), np.generic))


def outlined(tree: PyTree) -> str:
    """A tree with numbers as they are, and of arrays the shapes."""
    return str(jax.tree.map(lambda a: a if _is_plain(a) else described(a), tree))


def as_floating(name: str, value: object) -> Float[Array, "..."]:
    """`value` as a JAX array of real floating dtype; integers and booleans become floats.

    float32 stays float32.  Raises TypeError for complex numbers and for what is not an array.
    """
    try:
        array = _array(value)
    except (TypeError, ValueError, OverflowError):
        pass  # JAX's own message may contain the whole of what came
    else:
        return _real(name, array)
    advice = ""
    if hasattr(value, "nngp") and hasattr(value, "ntk"):
        advice = "; pass kernel.nngp or kernel.ntk"
    raise TypeError(f"{name} must be an array of real numbers, got {described(value)}{advice}")


def _array(value):
    try:
        return jnp.asarray(unabridged(value))
    except OverflowError:  # integers in a list that 32 bits can't hold
        return jnp.asarray(np.asarray(value, float))


def unabridged(value: T) -> T | np.ndarray:
    """`value`, long integers as floats: JAX may keep 32 bits of them, and drop the others."""
    whole = (isinstance(value, int) and not -(2**31) <= value < 2**31) or is_long(value)
    with contextlib.suppress(OverflowError):  # an integer that no float holds
        return np.asarray(value, float) if whole else value
    return value


def is_long(t: object) -> bool:
    """Whether these are integers of 64 bits that JAX may cut."""
    if not isinstance(t, (np.integer, np.ndarray)):
        return False
    return t.dtype.kind in "iu" and t.dtype.itemsize == 8


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


def require_finite_result(name: str, array: Array, **given: PyTree) -> Array:
    """`require_finite`, whose error names what of the `given` isn't finite, or half precision."""
    try:
        return require_finite(name, array)
    except ValueError as error:
        for what, tree in given.items():
            if not all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(tree)):
                raise ValueError(f"{error}; {what} holds NaN or infinity") from None
        if array.dtype.itemsize > 2:
            raise
        raise ValueError(
            f"{error}; {array.dtype} ends at {float(jnp.finfo(array.dtype).max):.3g}, "
            "so convert params and x to float32"
        ) from None


def require_shape(name: str, array: A, shape: Sequence[int | None], advice: str = "") -> A:
    """Raise ValueError unless `array` has this shape; None stands for any length of an axis."""
    if not is_array(array):
        raise TypeError(f"{name} must be an array, got {described(array)}")
    got = tuple(np.shape(array))
    if not _fits(got, shape):
        wanted = ", ".join("any" if length is None else str(length) for length in shape)
        wanted += "," if len(shape) == 1 else ""
        one = len(shape) > 1 and shape[0] is None and None not in shape[1:] and got == shape[1:]
        hint = f"; of a single row pass {name}[None]" if one else advice
        raise ValueError(f"{name} must have shape ({wanted}), got {got}{hint}")
    return array


def require_parameters(
    owner: object,
    params: PyTree,
    names: Collection[str],
    shapes: Mapping[str, Sequence[int | None]],
    advice: str = "",
) -> dict[str, Array]:
    """`params`, if it is a dictionary of these names, with arrays of these shapes.

    ValueError otherwise, which names the layer `owner`; `shapes` may know other names as well.
    """
    if not isinstance(params, dict) or set(params) != set(names):
        got = sorted(params) if isinstance(params, dict) else described(params)
        raise ValueError(
            f"the parameters of {owner!r} must be a dictionary of {sorted(names)}, got {got}"
            f"{advice}"
        )
    for name in names:
        require_shape(name, params[name], shapes[name])
    return params


def _fits(got: Sequence[int], shape: Sequence[int | None]) -> bool:
    return len(got) == len(shape) and all(
        want is None or want == length for want, length in zip(shape, got, strict=True)
    )


def require_key(name: str, key: PRNGKeyArray) -> PRNGKeyArray:
    """Raise unless `key` is one PRNG key of JAX, of the new kind or the old."""
    dtype = getattr(key, "dtype", None) if isinstance(key, (Array, np.ndarray)) else None
    typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
    if not typed and (dtype != jnp.uint32 or np.ndim(key) == 0):
        raise TypeError(f"{name} must be a PRNG key, such as jax.random.key(0), got {_key(key)}")
    if np.shape(key) != (() if typed else jax.eval_shape(jax.random.PRNGKey, 0).shape):
        raise ValueError(
            f"{name} must be one PRNG key, such as jax.random.key(0), got keys of shape "
            f"{np.shape(key)}; take one of them, or use jax.vmap"
        )
    return key


def _key(value: object) -> str:
    """What came in place of a key: a number, most often, and its dtype if it is an array."""
    dtype = getattr(value, "dtype", "")
    return f"{described(value)} of {dtype}" if getattr(value, "shape", ()) else described(value)


def floating_dtype(name: str, dtype: DTypeLike | None) -> np.dtype:
    """`dtype` as a real floating one; None stands for JAX's default float, float64 under x64."""
    try:
        found = jnp.dtype(jnp.result_type(float) if dtype is None else dtype)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a real floating type, got {described(dtype)}") from None
    if not jnp.issubdtype(found, jnp.floating):
        raise TypeError(f"{name} must be a real floating type, got {found}")
    return found


def _require_number(name, number, expected, accept):
    if is_traced(number):
        return number
    try:
        value = None if isinstance(number, (bool, str)) or np.ndim(number) else float(number)
    except (TypeError, ValueError, OverflowError):
        value = None
    if value is None:
        raise TypeError(f"{name} must be {expected}, got {described(number)}")
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


def require_fraction(name: str, number: T) -> T:
    """Raise ValueError unless `number` is a number, zero or greater, and less than one."""
    try:
        return _require_number(name, number, f"a number, 0 <= {name} < 1", lambda v: 0 <= v < 1)
    except TypeError as error:
        raise ValueError(error) from None


def require_share(name: str, number: T) -> T:
    """Raise unless `number` is a scalar above zero, and at most one."""
    return _require_number(name, number, f"a number, 0 < {name} <= 1", lambda v: 0 < v <= 1)


def require_count(name: str, number: int, minimum: int = 1) -> int:
    """Raise unless `number` is an integer, `minimum` or greater."""
    if isinstance(number, bool) or not isinstance(number, (int, np.integer)):
        raise TypeError(f"{name} must be an integer, got {described(number)}")
    if number < minimum:
        raise ValueError(f"{name} must be at least {minimum}, got {number}")
    return int(number)


def require_flag(name: str, value: bool) -> bool:
    """Raise TypeError unless `value` is True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, got {described(value)}")
    return bool(value)


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
    elif np.size(eigenvalues):  # nothing can be raised: NaN, as everything made from them then is
        allowed = tolerance
        if allowed is None:
            allowed = 64 * _tolerance(eigenvalues) * jnp.max(jnp.abs(eigenvalues))
        return jnp.where(jnp.min(eigenvalues) >= -allowed, eigenvalues, jnp.nan)
    return eigenvalues
