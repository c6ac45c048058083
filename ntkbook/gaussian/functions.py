"""What is asked of a function before its dual is computed: one number in, one number out.

A function whose entries see one another, such as a normalisation, has no dual; nor has a random
one.  And quadrature, which takes kinks and jumps to be at zero, is asked how well it does.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from ntkbook._base.types import Array, Float, PyTree
from ntkbook.gaussian.series import parts

# Ordinary numbers, none like another, in no order; of both signs.
_SAMPLES = np.array([[0.31, -1.27, 0.86, -0.44, 1.9], [-0.63, 2.4, -2.1, 0.12, -0.05]])
_SAMPLES = np.concatenate([_SAMPLES, [[1.13, -1.72, 0.57, -0.91, 0.74]]])

# What rounding may change, in units of what is the largest of these: the last place of the largest
# value, and the effect of such a relative change of the argument.
_ROUNDING = 32


def require_entrywise(name: str, fn: Callable[[Array], Array]) -> None:
    """Raise TypeError or ValueError unless `fn` acts on each entry by itself.

    It is called on fixed numbers, in a matrix, in a vector and each alone.
    """
    with jax.ensure_compile_time_eval():
        z = jnp.asarray(_SAMPLES, jnp.result_type(float))
        together = _call(name, fn, z)
        if isinstance(together, jax.core.Tracer):
            return  # fn holds a number that is being traced: nothing can be looked at
        again, vector = _call(name, fn, z), _call(name, fn, z.ravel()[::-1])[::-1].reshape(z.shape)
        alone = [_call(name, fn, entry[None, None])[0, 0] for entry in z.ravel()]
        eps = float(jnp.finfo(z.dtype).eps)
        near = [_call(name, fn, (z * (1 + sign * eps)).astype(z.dtype)) for sign in (-1, 1)]
    values = np.asarray(together)
    if not np.array_equal(values, np.asarray(again), equal_nan=True):
        raise ValueError(
            f"{name} must give the same value for the same entry, got another one when it was "
            "called again: a random function has no dual; write a Layer of its own"
        )
    with np.errstate(invalid="ignore"):
        moved = [_size(values - np.asarray(other)) for other in near]
    allowed = _ROUNDING * max(eps * _size(values), *moved)
    for others, what in ((alone, "when it is alone"), (vector, "with its place among the others")):
        off = ~np.isclose(values, np.reshape(others, z.shape), 0, allowed, equal_nan=True)
        if off.any():
            i, j = map(int, np.argwhere(off)[0])
            raise ValueError(
                f"{name} must act on each entry by itself, without which it has no dual; got one "
                f"whose entry [{i}, {j}] changes {what}: write a Layer with apply and propagate"
            )
    if not np.isfinite(values).all():
        i, j = map(int, np.argwhere(~np.isfinite(values))[0])
        raise ValueError(
            f"{name} must be finite on all real numbers, over which a dual is the mean; "
            f"got {values[i, j]} at {float(z[i, j]):.3g}"
        )


def _call(name: str, fn: Callable[[Array], Array], z: Array) -> Array:
    try:
        # Through a function of our own: JAX can't refer to every callable, such as numpy.tanh.
        jax.eval_shape(lambda z: fn(z), z)
        value = fn(z)
    except jax.errors.JAXTypeError as error:
        raise TypeError(
            f"{name} must be written in JAX, with jax.numpy (jnp.tanh, not np.tanh) and without "
            f"Python branches on values, got {type(error).__name__} when JAX traced it"
        ) from error
    except (TypeError, ValueError, IndexError) as error:
        raise ValueError(
            f"{name} must act on each entry of an array of any shape, got an error for the shape "
            f"{z.shape}: {type(error).__name__}: {''.join(str(error).splitlines()[:1])}; write it "
            "with jax.numpy (jnp.tanh, not math.tanh), whose functions do"
        ) from error
    if np.shape(value) != z.shape:
        raise ValueError(f"{name} must keep the shape {z.shape}, got {np.shape(value)}")
    require_dtype(name, value, z)
    return jnp.asarray(value)


def require_dtype(name: str, value: PyTree, z: PyTree) -> PyTree:
    """Raise TypeError unless the `value` of a function has the floating dtype of its argument.

    Both may be arrays or their `jax.ShapeDtypeStruct`.
    """
    wanted, got = jnp.result_type(z), jnp.result_type(value)
    if jnp.issubdtype(wanted, jnp.floating) and got != wanted:
        raise TypeError(
            f"{name} must keep the dtype {wanted}, got {got}: write its constants as Python numbers"
        )
    return value


def _size(values: np.ndarray) -> float:
    return float(np.abs(values).max(initial=0, where=np.isfinite(values)))


def relative_error(
    fn: Callable[[Array], Array], slope: Callable[[Array], Array], q: Float[Array, "*n"]
) -> Float[Array, "*n"]:
    """An estimate of the relative error of E[fn(z)²] and E[slope(z)²] for the variances q.

    It is the difference of two rules with other nodes and other ends: rounding for a function that
    quadrature takes in, and large for one with a jump or kink away from zero, oscillations that
    are too fast, or a growth that no rule captures.
    """

    def error(f: Callable[[Array], Array]) -> Array:
        first, second = (parts(f, q, check).square() for check in (False, True))
        scale = jnp.maximum(first, second)
        return jnp.where(scale == 0, 0, jnp.abs(first - second) / jnp.where(scale == 0, 1, scale))

    # Infinity minus infinity is an error without bound.
    return jnp.nan_to_num(jnp.maximum(error(fn), error(slope)), nan=jnp.inf, posinf=jnp.inf)


def tolerable(dtype: np.dtype) -> float:
    """The `relative_error` that passes without a word: 4e-10 in float64, 7e-5 in float32."""
    return float(jnp.finfo(dtype).eps) ** 0.6


# An error of quadrature, relative to the diagonal, that is no kernel any more.
MISSED = 0.1


def judge(name: str, tolerance: float, error: Array, q: Array, refuse: bool = False) -> None:
    """Warn, or raise, where quadrature is too far off for the function called `name`."""
    if not float(error) > tolerance:
        return
    off = f"off by some {float(error):.1g} of its diagonal" if np.isfinite(error) else "unknown"
    reason = (
        f"the kernel of {name} is {off}: E[fn(u)²] or E[fn'(u)²] does not exist or is not "
        f"resolved by quadrature for u of variance {float(q):.3g}, got a jump or kink away from"
        " zero, too fast oscillations or too fast growth; give a Nonlinearity its dual, smooth "
        "the function, or use smaller scales"
    )
    if refuse and float(error) > MISSED:
        raise ValueError(reason)
    warnings.warn(reason, RuntimeWarning, stacklevel=2)
