"""Self-attention: tokens averaged with weights that they give one another."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from ntkbook._base.arguments import (
    require_choice,
    require_count,
    require_flag,
    require_parameters,
    require_positive,
)
from ntkbook._base.arrays import matmul
from ntkbook._base.hints import guided, guided_layer, keep_number
from ntkbook._base.rows import require_entries
from ntkbook._base.traced import positive
from ntkbook._base.types import Array, ArrayLike, Float, Num, PRNGKeyArray, PyTree
from ntkbook.architectures.graphs import mixed
from ntkbook.architectures.pooling import Mixing
from ntkbook.architectures.windows import angle_of_sum, bare, beyond_rounding
from ntkbook.gaussian.pairs import safe_sqrt
from ntkbook.signals.signal import Signal, through_dense

_NAMES = ("query", "key", "value", "out")
_SCALES = "pass scales in the form of net.hyperparameters() as net.kernel(x, hyperparameters=...)"


@guided_layer
@dataclass(frozen=True)
class Attention(Mixing):
    """Multi-head self-attention over the tokens of a sequence (n, T, channels), without biases.

    A head has queries q, keys k and values v of each token, dense layers without bias of x in the
    NTK parametrization.  Its logits are L_ab = qk_std q_a · k_b / key_width, or over the root of
    key_width; token a receives Σ_b ζ(L)_ab v_b, where ζ is the softmax over b, or the identity; and
    a dense layer of all heads, ov_std in scale, ends it.  The order of the tokens doesn't count.

    Its limit is that of many channels in each head and, with "root", of many heads.  Write K and Θ
    for the kernels between the tokens of two inputs, K1 and K2 for those of each with itself.

    - "linear", tied: the logits become numbers, qk_std K1.  K' = ov_std² ζ(qk_std K1) K
      ζ(qk_std K2)ᵀ, and Θ' = 2 K' + ov_std² ζ(qk_std K1) Θ ζ(qk_std K2)ᵀ: values and outputs have
      a K' each, queries and keys nothing.  One head is enough.
    - "linear" with independent queries and keys: the logits vanish like 1/√key_width, and the
      softmax becomes the plain average of all tokens.
    - "root", identity: with the sum ⟨K, K⟩ over all pairs of tokens and σ = qk_std ov_std,
      K' = σ² ⟨K, K⟩ K and Θ' = 4 K' + σ² (2 ⟨K, Θ⟩ K + ⟨K, K⟩ Θ).
    - "root", softmax: an average over Gaussian logits, which has no closed form; `kernel` refuses,
      and `attention_monte_carlo` draws them.

    With "root" h heads are no Gaussian process: given its weights a head is Gaussian with some
    variance V, and the outputs have excess kurtosis 3 Var V/(E V)²/h.

    **Arguments**: `width` ≥ 1, the number of channels that come out; `heads` ≥ 1; `key_width` and
    `value_width` of a head, width // heads if not given; `qk_std` > 0 and `ov_std` > 0, the scales
    of query and key weights together, and of value and output weights; `mechanism`, "softmax" or
    "identity"; `scaling` of the logits, "linear" or "root"; `tied`, whether query weights start
    equal to the key weights, as they do with "linear" if not given.  Its parameters are
    {"query": (channels, heads, key_width), "key": likewise, "value": (channels, heads,
    value_width), "out": (heads, value_width, width)}; tied ones too are trained apart.

    **Raises**: TypeError or ValueError for other values; later, ValueError for what is not a
    sequence; a kernel, ValueError where there is no closed form, where tied logits over the root
    grow without bound, and where the identity of logits that vanish leaves nothing.

    **Source**: Hron et al. 2020 for both limits; Yang 2019 for logits over key_width.

    >>> from ntkbook import Conv, Dense, GlobalAveragePool, Serial
    >>> net = Serial(Conv(64, 1), Attention(64, heads=4), GlobalAveragePool(), Dense(1))
    >>> x = jnp.array([[[1.0, 0.0], [0.0, 1.0]]])     # two tokens at right angles: K = 1/2
    >>> net.kernel(x).nngp.round(12).tolist(), net.kernel(x).ntk.round(12).tolist()
    ([[0.25]], [[1.0]])
    >>> params = net.init(jax.random.key(0), x.shape[1:])
    >>> params[1]["query"].shape, net.apply(params, x).shape
    ((64, 4, 16), (1, 1))
    """

    width: int
    heads: int = 1
    key_width: int | None = None
    value_width: int | None = None
    qk_std: float = 1.0
    ov_std: float = 1.0
    mechanism: str = "softmax"
    scaling: str = "linear"
    tied: bool | None = None

    def __post_init__(self) -> None:
        for name in ("width", "heads"):
            object.__setattr__(self, name, require_count(name, getattr(self, name)))
        for name in ("key_width", "value_width"):
            own = getattr(self, name)
            count = max(1, self.width // self.heads) if own is None else require_count(name, own)
            object.__setattr__(self, name, count)
        for name in ("qk_std", "ov_std"):
            keep_number(self, name, require_positive, _SCALES)
        require_choice("mechanism", self.mechanism, ("softmax", "identity"))
        require_choice("scaling", self.scaling, ("linear", "root"))
        tied = self.scaling == "linear" if self.tied is None else require_flag("tied", self.tied)
        object.__setattr__(self, "tied", tied)

    @guided
    def apply(self, params: PyTree, x: Num[ArrayLike, "n t c"]) -> Float[Array, "n t k"]:
        """The attention of `params` on sequences x (n, T, channels)."""
        require_entries(x)
        x = jnp.asarray(x)
        self.shape_after(x.shape[1:])
        channels = x.shape[-1]
        params = require_parameters(self, params, _NAMES, self._shapes(channels))
        q, k, v = (jnp.einsum("ntc,chj->nhtj", x, params[name]) for name in _NAMES[:3])
        out = params["out"]
        lengths = q.shape[-1] if self.scaling == "linear" else math.sqrt(q.shape[-1])
        logits = self.qk_std / (channels * lengths) * (q @ k.swapaxes(-1, -2))
        weights = jax.nn.softmax(logits) if self.mechanism == "softmax" else logits
        scale = self.ov_std / math.sqrt(channels * out.shape[0] * out.shape[1])
        return scale * jnp.einsum("nhtj,hjk->ntk", weights @ v, out)

    def _shapes(self, channels: int) -> dict[str, tuple[int, ...]]:
        keys, values = (getattr(self, name) for name in ("key_width", "value_width"))
        inside = channels, self.heads
        return {
            "query": (*inside, keys),
            "key": (*inside, keys),
            "value": (*inside, values),
            "out": (self.heads, values, self.width),
        }

    def hyperparameters(self) -> dict[str, float]:
        return {"qk_std": self.qk_std, "ov_std": self.ov_std}

    def propagate(self, signal: Signal, hyperparameters: PyTree) -> Signal:
        self.shape_after((*signal.space, 1))
        self._require_limit()
        return _through(
            bare(signal),
            hyperparameters,
            self.width,
            softmax=self.mechanism == "softmax",
            root=self.scaling == "root",
            tied=bool(self.tied),
        )

    def _require_limit(self) -> None:
        """Raise ValueError where there is no limit, or none in closed form."""
        why = ""
        if self.scaling == "root" and self.tied:
            why = (
                "has no limit: logits of tied queries and keys over the root of key_width grow "
                "without bound; use tied=False, or scaling='linear'"
            )
        elif self.scaling == "root" and self.mechanism == "softmax":
            why = (
                "has a kernel without closed form, an average over Gaussian logits; draw them with "
                "ntk.attention_monte_carlo, or use scaling='linear' or mechanism='identity'"
            )
        elif self.mechanism == "identity" and not (self.scaling == "root" or self.tied):
            why = (
                "has outputs that vanish: logits of independent queries and keys over key_width "
                "do, and the identity makes nothing of them; use tied=True, or scaling='root'"
            )
        if why:
            raise ValueError(f"{self!r} {why}")

    @property
    def ends_in_weights(self) -> bool:
        return True

    def shape_after(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if len(shape) == 2:
            return (shape[0], self.width)
        got = f"images of {shape[:-1]} pixels; reshape them to (n, pixels, channels)"
        if len(shape) == 1:
            got = "vectors; it comes before Flatten() and GlobalAveragePool()"
        raise ValueError(f"{self!r} expects sequences of tokens (n, T, channels), got {got}")

    def _checked_scales(self, name: str, scales: PyTree) -> PyTree:
        return {key: positive(f"{name}[{key!r}]", value) for key, value in scales.items()}

    def _parameter_names(self) -> dict[str, str]:
        return {name: name for name in _NAMES}

    def _with_gates(self, scales: PyTree, gates: PyTree) -> PyTree:
        return scales | {"gates": gates}

    def _form(self, widths: bool) -> Attention:
        form = replace(self, qk_std=1.0, ov_std=1.0)
        return form if widths else replace(form, width=1, heads=1, key_width=1, value_width=1)

    def _init(self, key: PRNGKeyArray, features: int, dtype: np.dtype) -> dict[str, Array]:
        keys, shapes = jax.random.split(key, len(_NAMES)), self._shapes(features)
        params = {
            name: jax.random.normal(own, shapes[name], dtype)
            for name, own in zip(_NAMES, keys, strict=True)
        }
        return params | ({"query": params["key"]} if self.tied else {})


# One program for all widths and scales, which are numbers that it is given, as in Dense.
@partial(jax.jit, static_argnames=("softmax", "root", "tied"))
def _through(
    signal: Signal, scales: PyTree, width: int, softmax: bool, root: bool, tied: bool
) -> Signal:
    qk, ov = (jnp.asarray(scales[name], signal.ntk.dtype) for name in ("qk_std", "ov_std"))
    # The shares of parameters come before all other axes.
    axes = [1] * signal.cosine.ndim
    gates = {name: g.reshape(-1, *axes) for name, g in scales.get("gates", {}).items()}
    # Over key_width, queries and keys move logits by numbers of order 1/√key_width alone.
    moving = _NAMES if root else ("value", "out")
    gain = ov**2 * sum(gates.get(name, 1) for name in moving)
    if root:
        heads = _squared(signal, qk)
    else:
        weights = None
        if signal.cosine.ndim == 3:  # of one sequence alone, for the pass over pairs to take
            logits = qk * signal.nngp if tied else jnp.zeros_like(signal.nngp)
            weights = jax.nn.softmax(logits) if softmax else logits
        heads = mixed(signal, weights) if softmax else _signed(signal, weights)
    return through_dense(heads, width, ov**2, 0.0, gain, 0.0)


def _squared(signal: Signal, qk: Array) -> Signal:
    """qk² ⟨K, K⟩ K, and with it qk² (2 ⟨K, Θ⟩ K + ⟨K, K⟩ Θ)."""
    k, theta = signal.nngp, signal.ntk
    squares, products = (qk**2 * (k * a).sum((-2, -1), keepdims=True) for a in (k, theta))
    return _of_covariance(
        signal, squares * k, 2 * products * k + squares * theta, squares * signal.norm
    )


def _signed(signal: Signal, weights: Array | None) -> Signal:
    """Sums over tokens with weights of either sign, as `mixed` for others."""
    own1, own2 = signal.own1, signal.own2
    if weights is None:
        left, right, own1, own2 = own1[0][:, None], own2[0], own1[1:], own2[1:]
    else:
        left, right, own1 = weights, weights, (*own1, weights)
    right = right.swapaxes(-1, -2)
    nngp, ntk = (matmul(matmul(left, a), right) for a in (signal.nngp, signal.ntk))
    size1 = matmul(jnp.abs(left), safe_sqrt(signal.var1))
    size2 = matmul(safe_sqrt(signal.var2), jnp.abs(right))
    return _of_covariance(replace(signal, own1=own1, own2=own2), nngp, ntk, size1 * size2)


def _of_covariance(signal: Signal, nngp: Array, ntk: Array, size: Array) -> Signal:
    """The signal of these kernels, `size` being what the terms of a covariance may add up to.

    The variances are known of one sequence alone, and left to the pass over pairs.
    """
    own1, own2 = signal.own1, signal.own2
    if signal.cosine.ndim == 3:
        var = beyond_rounding(*(jnp.diagonal(a, 0, -2, -1) for a in (nngp, size)))
        var1, var2, own1 = var[:, :, None], var[:, None], (*own1, var)
    else:
        var1, var2 = own1[0][:, None, :, None], own2[0][None, :, None]
        own1, own2 = own1[1:], own2[1:]
    cosine, gap = angle_of_sum(var1, var2, nngp, size)
    return replace(
        signal, var1=var1, var2=var2, cosine=cosine, gap=gap, ntk=ntk, own1=own1, own2=own2
    )
