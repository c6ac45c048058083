"""Whether a kernel has stayed within the range of its dtype; if not, which layer left it.

Only results are looked at, so that a kernel within the range costs little.  A variance that became
infinite leaves NaN or infinity in all that depends on it, also within `jit`, where no error can be
raised.  One that became zero is that of an input of zeros from there on, and within `jit` not told
from a true one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ntkbook._base.arguments import is_traced, require_finite
from ntkbook._base.types import Array, Float
from ntkbook.gaussian.functions import relative_error
from ntkbook.gaussian.quadrature import derivative
from ntkbook.signals.signal import Kernel, Signal


class Step(NamedTuple):
    """The `signal` after a layer, and the `place` of that layer in messages."""

    place: str
    signal: Signal


Walk = Callable[[Array], Iterator[Step]]
"""What a network does to inputs, each with itself, step by step."""


def require_in_range(
    walk: Walk,
    kernel: Kernel,
    finite: bool,
    x1: Float[Array, "n1 *d"],
    x2: Float[Array, "n2 *d"] | None,
) -> None:
    """Raise ValueError, naming the layer, for a `kernel` beyond the range of its dtype.

    `finite` False asks for a closer look: a sum over entries may overflow where none of them does.
    """
    if not finite:
        _find_fault(walk, x1 if x2 is None else jnp.concatenate([x1, x2]))
        _require_finite(kernel)
    if kernel.nngp.size == 0:
        return
    # On a CPU by NumPy, which looks where the numbers are, and compiles nothing.
    nngp = np.asarray(kernel.nngp) if jax.default_backend() == "cpu" else kernel.nngp
    ends = [(x1, nngp.diagonal() if x2 is None else nngp[:, 0])]
    ends += [] if x2 is None else [(x2, nngp[0])]
    for x, values in ends:
        suspects = np.flatnonzero((np.asarray(values) == 0) & _alive(np.asarray(x) != 0))
        if suspects.size:
            _find_fault(walk, x[suspects[:1]])


def require_diagonal_in_range(walk: Walk, kernel: Kernel, x: Float[Array, "n *d"]) -> None:
    """The same for a `kernel_diagonal`."""
    finite = jnp.isfinite(kernel.nngp) & jnp.isfinite(kernel.ntk)
    if not finite.all() or ((kernel.nngp == 0) & _alive(x != 0)).any():
        _find_fault(walk, x)
        _require_finite(kernel)


def _require_finite(kernel: Kernel) -> None:
    for name in ("nngp", "ntk"):
        require_finite(f"{name} of the infinite network", getattr(kernel, name))


def _alive(entries: Array) -> Array:
    """Whether any of the entries of each example is true."""
    return entries.any(axis=tuple(range(1, entries.ndim)))


def _find_fault(walk: Walk, x: Float[Array, "n *d"]) -> None:
    """Raise ValueError for the first layer after which a variance is zero or infinite."""
    dtype = x.dtype
    limits = jnp.finfo(dtype)
    remedy = "smaller or larger scales" if dtype == jnp.float64 else "float64 (ntk.setup())"
    alive, before = _alive(x != 0), (x.shape[1:-1], 0)
    for place, signal in walk(x):
        for name, values in (("a variance", signal.var1), ("a tangent kernel", signal.ntk)):
            if not jnp.isfinite(values).all():
                raise ValueError(
                    f"the kernel overflows {dtype} in {place}: {name} is larger than "
                    f"{float(limits.max):.2g}; use {remedy}"
                )
        seen = _alive(signal.var1 >= limits.tiny)
        after = signal.space, len(signal.own1)
        if after != before:  # a layer that drops or mixes pixels may leave blank ones
            alive, before = alive & seen, after
        if (alive & ~seen).any():
            raise ValueError(
                f"the kernel underflows {dtype} in {place}: a variance is smaller than "
                f"{float(limits.tiny):.2g} and counts as zero; use {remedy}"
            )


def within_reach(name: str, signal: Signal, after: Signal) -> Signal:
    """`after`, refused (within `jit`: NaN) for variances at which quadrature resolves nothing."""
    largest = 1e14 if jnp.finfo(signal.var1.dtype).eps < 1e-12 else 1e7
    variance = jnp.maximum(signal.var1.max(initial=0), signal.var2.max(initial=0))
    if is_traced(variance):
        return lost(after, variance > largest)
    if variance > largest:
        raise ValueError(
            f"the kernel of {name} needs variances up to {largest:.0e} in {variance.dtype}, above "
            f"which quadrature resolves nothing, got {float(variance):.2g}; use smaller scales"
        )
    return after


@partial(jax.jit, static_argnums=0)
def missed(fn: Callable[[Array], Array], var1: Array, var2: Array) -> tuple[Array, Array]:
    """The largest error of quadrature, and the largest variance."""
    q = jnp.concatenate([var1.ravel(), var2.ravel()])
    return relative_error(fn, derivative(fn), q).max(initial=0), q.max(initial=0)


def lost(signal: Signal, where: Array) -> Signal:
    """The signal, NaN if `where` says so."""
    nothing = jnp.where(where, jnp.nan, 0).astype(signal.gap.dtype)
    parts = {name: getattr(signal, name) + nothing for name in ("var1", "cosine", "gap", "ntk")}
    return replace(signal, **parts)
