"""Dropout: each unit of each input is lost at random, and the others make up for it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp

from ntkbook._base.arguments import as_floating, require_key
from ntkbook._base.hints import guided, guided_layer, keep_number
from ntkbook._base.rows import require_entries
from ntkbook._base.traced import share
from ntkbook._base.types import Array, ArrayLike, Bool, Num, PRNGKeyArray, PyTree
from ntkbook.gaussian.pairs import once, well_kept
from ntkbook.networks.layer import Layer
from ntkbook.signals.signal import Signal, with_rates

_SCALE = "pass a tree of the form of net.hyperparameters() as net.kernel(x, hyperparameters=...)"


@guided_layer
@dataclass(frozen=True)
class Dropout(Layer):
    """Each entry is kept with probability `keep` and divided by it, or else becomes zero.

    Each input loses entries of its own, of images each pixel, drawn anew with every key; without a
    key `apply` drops nothing, as a network does that is evaluated.  Kernels are those of the
    network that drops, averaged over what is lost: the covariance of an input with itself and its
    tangent kernel are divided by `keep`, those between two inputs, or two pixels, stay as they are.
    So `kernel(x)` differs from `kernel(x, x)`: here each of two equal rows is dropped by itself.
    It may be the last layer of a Residual's branch.

    **Arguments**: `keep`, above 0 and up to 1, the probability with which an entry stays.

    **Raises**: TypeError or ValueError for another `keep`; a kernel, ValueError where no layer with
    weights comes before, since a limit asks for infinitely many entries, and before a nonlinearity
    that no Dense layer separates from it.

    **Source**: Srivastava et al. 2014 for the layer; Schoenholz et al. 2017 for the covariances.

    >>> from ntkbook import Dense, Relu, Serial
    >>> net = Serial(Dense(512, w_std=2**0.5), Relu(), Dropout(0.8), Dense(1))
    >>> x = jnp.array([[1.0, 0.0], [0.0, 1.0]])
    >>> net.kernel(x).nngp.round(4).tolist()            # without Dropout 0.5 on the diagonal
    [[0.625, 0.1592], [0.1592, 0.625]]
    >>> params = net.init(jax.random.key(0), (2,))
    >>> first, second = (net.apply(params, x, jax.random.key(seed)) for seed in (1, 2))
    >>> bool((first == second).any())
    False
    """

    keep: float

    def __post_init__(self) -> None:
        keep_number(self, "keep", share, _SCALE)

    @guided
    def apply(
        self, params: PyTree, x: Num[ArrayLike, "n *d"], key: PRNGKeyArray | None = None
    ) -> Num[Array, "n *d"]:
        """x with entries dropped as `key` says, none without a key; `params` is ()."""
        require_entries(x)
        x = as_floating("x", x)
        if key is None:
            return x
        kept = jax.random.bernoulli(require_key("key", key), self.keep, x.shape)
        return jnp.where(kept, x / self.keep, 0)

    def hyperparameters(self) -> dict[str, float]:
        return {"keep": self.keep}

    def propagate(self, signal: Signal, hyperparameters: PyTree) -> Signal:
        if signal.identical is None:
            raise ValueError(
                f"{self!r} needs to know in propagate which pairs are one input: a layer that "
                "holds it must say drops"
            )
        return _through(signal, hyperparameters["keep"])

    def _checked_scales(self, name: str, scales: PyTree) -> PyTree:
        return {"keep": share(f"{name}['keep']", scales["keep"])}

    def _form(self, widths: bool) -> Dropout:
        return replace(self, keep=1.0)

    @property
    def drops(self) -> bool:
        return True


@jax.jit
def _through(signal: Signal, share_kept: float) -> Signal:
    keep = jnp.asarray(share_kept, signal.ntk.dtype)
    one = _one(signal)
    var1, var2 = signal.var1 / keep, signal.var2 / keep
    # Between two inputs the covariance stays and the variances grow: ρ is multiplied by keep.
    factor = jnp.where(one, 1, keep)
    zero = (var1 == 0) | (var2 == 0)
    cosine = jnp.where(zero, 1, factor * signal.cosine)
    gap = jnp.where(zero, 0, (1 - factor) + factor * signal.gap)
    gain = jnp.where(one, 1 / keep, 1)
    cosine, gap = well_kept(*with_rates(zero, gain * signal.rest, cosine, gap))
    means = signal.mean1, signal.mean2
    if signal.gaussian:
        means = jnp.zeros_like(var1), jnp.zeros_like(var2)
    return replace(
        signal,
        var1=var1,
        var2=var2,
        cosine=cosine,
        gap=gap,
        ntk=gain * signal.ntk,
        gaussian=False,
        mean1=None if means[0] is None else once(jnp.sqrt(keep)) * means[0],
        mean2=None if means[1] is None else once(jnp.sqrt(keep)) * means[1],
    )


def _one(signal: Signal) -> Bool[Array, "..."]:
    """Which pairs are one entry: of one input, and of pixels one pixel of it."""
    one = jnp.asarray(signal.identical)
    if signal.pixel_pairs:
        same = jnp.eye(math.prod(signal.space), dtype=bool).reshape(*signal.space, *signal.space)
        return one[(..., *[None] * same.ndim)] & same
    return one[(..., *[None] * len(signal.space))]
