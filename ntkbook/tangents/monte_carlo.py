"""Kernels of wide networks by sampling: the average over networks drawn at random."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from ntkbook._base.arguments import (
    as_floating,
    described,
    require_count,
    require_finite,
    require_key,
)
from ntkbook._base.arrays import gram
from ntkbook._base.compiled import compiled
from ntkbook._base.hints import guided
from ntkbook._base.messages import Short
from ntkbook._base.rows import checked_rows
from ntkbook._base.types import Array, ArrayLike, Num, PRNGKeyArray, PyTree
from ntkbook.networks.layer import Layer
from ntkbook.signals.signal import Kernel
from ntkbook.tangents.empirical import empirical_ntk
from ntkbook.tangents.model import checked_inputs, second_inputs
from ntkbook.tangents.probes import checked_arguments


@jax.tree_util.register_dataclass
@dataclass(frozen=True, repr=False)
class KernelEstimate(Short):
    """The `mean` kernels of `samples` networks and their `standard_error`, a `Kernel` each.

    Both parts of both are (n1, n2); the errors are those of the mean, not of one network.
    """

    mean: Kernel
    standard_error: Kernel
    samples: int = field(metadata={"static": True})


@guided
def monte_carlo_kernel(
    net: Layer | tuple[Callable, Callable],
    key: PRNGKeyArray,
    x1: Num[ArrayLike, "n1 *d"],
    x2: Num[ArrayLike, "n2 *d"] | None = None,
    samples: int = 1024,
    *,
    batch_size: int = 64,
) -> KernelEstimate:
    """The NNGP and the tangent kernel of networks of finite width, averaged over their start.

    With k outputs a draw contributes f(x1) f(x2)ᵀ/k to `nngp` and the trace of its empirical
    kernel over outputs, divided by k, to `ntk`.  The error of the mean falls as 1/√samples.
    What stays is the difference between the width drawn and infinite width: it is of order
    1/width in general, and zero for both kernels of one hidden layer in the NTK parametrization.

    **Arguments**: `net`, a network of this package, or a pair of functions (init, apply) with
    parameters init(key, input_shape) and outputs apply(params, x), (n,) or (n, k); PRNG `key`;
    `x1` (n1, …) and `x2` (n2, …), x1 itself if not given; `samples` ≥ 2, drawn `batch_size` at a
    time, which bounds the memory.  Parameters of this package's networks have the dtype of `x1`.

    **Returns**: `KernelEstimate`, of kernels (n1, n2).  Of a network that drops units, each row of
    each draw loses its own, also a row of x2 that equals one of x1.

    **Raises**: TypeError for another `net` or `key`; ValueError for fewer samples, for inputs or
    kernels that are not finite, for outputs of another shape, and for rows that change with the
    others.

    **Source**: Jacot et al. 2018, proposition 1 and theorem 1, the limits that are estimated.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from ntkbook import Dense, Relu, Serial
    >>> net, x = Serial(Dense(32, w_std=2**0.5), Relu(), Dense(8)), jnp.array([[1.0, 0.0]])
    >>> estimate = monte_carlo_kernel(net, jax.random.key(0), x, samples=400)
    >>> off = (estimate.mean.ntk - net.kernel(x).ntk) / estimate.standard_error.ntk
    >>> bool(abs(off[0, 0]) < 3)
    True
    """
    require_key("key", key)
    pair = isinstance(net, tuple) and len(net) == 2 and all(map(callable, net))
    if not pair and not isinstance(net, Layer):
        raise TypeError(
            "net must be a network of this package or a tuple of functions (init, apply), got "
            f"{described(net)}"
        )
    read = partial(checked_rows, spatial=net.spatial) if isinstance(net, Layer) else _examples
    x1 = checked_inputs("x1", read("x1", x1))
    x2 = second_inputs(x1, None if x2 is None else read("x2", x2))
    samples, batch_size = (
        require_count("samples", samples, 2),
        require_count("batch_size", batch_size),
    )
    static = samples, min(batch_size, samples)
    if isinstance(net, Layer):
        mean, error = _estimate_network(net, *static, key, x1, x2)
    else:
        _require_draws(*net, key, x1)
        estimate = compiled(_estimate, net, (), False, *static)
        mean, error = estimate(key, x1, x2)
    require_finite("the kernels", jnp.stack([mean.nngp, mean.ntk]))
    return KernelEstimate(mean, error, samples)


def _examples(name: str, x: object) -> Array:
    return require_finite(name, as_floating(name, x))


def _require_draws(init: Callable, apply: Callable, key: PRNGKeyArray, x: Array) -> None:
    """Raise unless apply is a function of parameters that init draws, row by row."""
    try:
        params = init(key, x.shape[1:])
    except Exception as error:
        said = "".join(str(error).splitlines()[:1])
        raise TypeError(
            "net must be functions (init, apply), of which init(key, input_shape) draws parameters,"
            f" got {type(error).__name__} ({said:.200}) for input_shape {x.shape[1:]}"
        ) from error
    checked_arguments(apply, params, x)


# Equal networks share a program; functions of the user's are not kept.
@partial(jax.jit, static_argnums=range(3))
def _estimate_network(net: Layer, samples, batch_size, key, x1, x2):
    apply: Callable = net.apply
    if net.drops:  # each row has its number beside it, so that it loses units of its own
        apply = partial(_dropping, net)
        x2 = None if x2 is None else _numbered(x2, len(x1))
        x1 = _numbered(x1, 0)
    dtype = (x1.dtype,)
    return _estimate(net.init, apply, dtype, net.drops, samples, batch_size, key, x1, x2)


_PLACES = 256 ** np.arange(4, dtype=np.uint32)  # digits that each dtype holds exactly


def _numbered(x: Array, first: int) -> Array:
    numbers = jnp.arange(first, first + len(x), dtype=jnp.uint32)[:, None]
    digits = (numbers // _PLACES % 256).astype(x.dtype)
    digits = digits.reshape(len(x), *[1] * (x.ndim - 2), 4)
    return jnp.concatenate([x, jnp.broadcast_to(digits, (*x.shape[:-1], 4))], -1)


def _dropping(net: Layer, key: PRNGKeyArray, params: PyTree, x: Array) -> Array:
    """The outputs for numbered rows."""
    apply: Callable = net.apply

    def one(row: Array) -> Array:
        digits = row.reshape(-1, row.shape[-1])[0, -4:].astype(jnp.uint32)
        own = jax.random.fold_in(key, (digits * _PLACES).sum())
        return apply(params, row[None, ..., :-4], own)[0]

    return jax.vmap(one)(x)


def _estimate(init, apply, dtype, drops, samples, batch_size, key, x1, x2):
    shape = (*x1.shape[1:-1], x1.shape[-1] - 4) if drops else x1.shape[1:]

    def draw(key):
        own = apply
        if drops:
            key, drop_key = jax.random.split(key)
            own = partial(apply, drop_key)
        params = init(key, shape, *dtype)
        left = own(params, x1).reshape(len(x1), -1)
        right = left if x2 is None else own(params, x2).reshape(len(x2), -1)
        ntk = empirical_ntk(own, params, x1, x2, outputs="trace")
        return Kernel(gram(left, right) / left.shape[1], ntk / left.shape[1])

    def add(moments, batch):
        """Count, mean and sum of squared deviations, one batch further (Chan et al. 1979)."""
        # Deviations from a running mean, not E[k²] − E[k]², which would cancel all digits where
        # the spread is small; and batch by batch, so that no draw need be kept.
        (count, mean, squares), (keys, index) = moments, batch
        drawn, use = jax.vmap(draw)(keys), (index < samples)[:, None, None]
        total = count + use.sum(dtype=count.dtype)
        new = jax.tree.map(lambda d, m: m + (d - m).sum(0, where=use) / total, drawn, mean)
        squares = jax.tree.map(
            lambda q, d, m, n: q + ((d - n) ** 2).sum(0, where=use) + count * (m - n) ** 2,
            *(squares, drawn, mean, new),
        )
        return (total, new, squares), None

    keys = jax.random.split(key, samples)
    # The last batch is filled up with the last key, masked by `use`: one program for all batches.
    index = jnp.arange(-(-samples // batch_size) * batch_size).reshape(-1, batch_size)
    zero = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), jax.eval_shape(draw, key))
    start = jnp.zeros((), zero.ntk.dtype), zero, zero
    batches = keys[jnp.minimum(index, samples - 1)], index
    (_, mean, squares), _ = jax.lax.scan(add, start, batches)
    return mean, jax.tree.map(lambda q: jnp.sqrt(q / samples / (samples - 1)), squares)
