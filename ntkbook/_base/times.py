"""Times and numbers of steps, checked: what JAX's integers of 32 bits can't hold is not cut off."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from ntkbook._base.arguments import as_floating, is_long, is_traced, unabridged
from ntkbook._base.traced import nan_unless
from ntkbook._base.types import Array, ArrayLike, Float, Int


def as_times(t: ArrayLike) -> Float[Array, "*t"]:
    """`t` ≥ 0, infinity included, as floats; TypeError or ValueError for anything else.

    A negative one that is traced becomes NaN.
    """
    if t is None:
        raise TypeError(
            "t must be a time, got NoneType None; of the end of training pass t=jnp.inf"
        )
    t = as_floating("t", t)
    if is_traced(t):
        return nan_unless(t >= 0, t)
    if not np.all(np.asarray(t) >= 0):
        raise ValueError(f"t must be a time, zero or greater, got {np.min(t)}")
    return t


def as_steps(t: ArrayLike) -> Int[Array, "*t"]:
    """`t` ≥ 0 as integers; TypeError or ValueError for anything else, unless it is traced."""
    if is_long(t) or unabridged(t) is not t:
        largest = jnp.iinfo(jnp.result_type(int)).max
        if np.max(t, initial=0) > largest:
            wider = "; after ntk.setup(), or with jax_enable_x64, JAX counts further"
            raise ValueError(f"t must be at most {largest} steps, got {np.max(t)}{wider}")
        if np.min(t, initial=0) < 0:
            raise ValueError(f"t must count steps, zero or more, got {np.min(t)}")
    end = "of the end of training ask gradient_flow(…) for t=jnp.inf"
    if t is None:
        raise TypeError(f"t must count whole steps, got NoneType None; {end}")
    as_floating("t", t)  # a clear message for what is no array
    steps = jnp.asarray(t)
    if not jnp.issubdtype(steps.dtype, jnp.integer):
        raise TypeError(f"t must count whole steps, got dtype {steps.dtype}; {end}")
    if not is_traced(steps) and not np.all(np.asarray(steps) >= 0):
        raise ValueError(f"t must count steps, zero or more, got {np.min(steps)}")
    return steps
