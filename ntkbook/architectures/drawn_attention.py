"""Attention with logits over the root of the key width: kernels by drawing the logits."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from ntkbook._base.arguments import (
    described,
    require_count,
    require_finite,
    require_key,
    require_shape,
)
from ntkbook._base.arrays import matmul
from ntkbook._base.hints import guided
from ntkbook._base.types import Array, PRNGKeyArray
from ntkbook.architectures.attention import Attention
from ntkbook.gaussian.pairs import safe_sqrt
from ntkbook.signals.signal import Kernel


@guided
def attention_monte_carlo(
    layer: Attention, key: PRNGKeyArray, kernel: Kernel, samples: int = 4096
) -> tuple[Kernel, Kernel]:
    """The kernels after an `Attention` with logits over the root, for infinitely many heads.

    The logits of such a head are Gaussian, drawn here for all inputs at once:
    E[L_ab L'_cd] = qk_std² K_ac K_bd.  With σ = ov_std, the weights Z = ζ(L) and their derivatives
    J_a, the matrix of ∂Z_ae/∂L_ab, the kernels are the averages

        K'_ac = σ² E[(Z K Z'ᵀ)_ac],
        Θ'_ac = 2 K'_ac + σ² E[(Z Θ Z'ᵀ)_ac]
        + σ² qk_std² ((2 K + Θ)_ac E⟨J_aᵀ K J'_c, K⟩ + K_ac E⟨J_aᵀ K J'_c, Θ⟩):

    a K' each of values and outputs, Θ that arrives through the values; the weights of queries and
    of keys, and Θ that arrives through queries, and through keys.

    **Arguments**: `layer`; PRNG `key`; the `kernel` of what arrives, its parts (n, n, T, T) for all
    pairs of tokens of n sequences, as of a network that ends in Attention, or in AvgPool(1), which
    changes nothing but asks for all pairs; `samples` ≥ 2.

    **Returns**: two `Kernel` of parts (n, n, T, T), the mean over draws and its standard error.
    One set of draws serves all pairs, so that the mean is positive semi-definite; it may be given
    to the next layer, or added to that of a skip.

    **Raises**: TypeError for something else than an Attention, a key or a Kernel; ValueError for a
    layer with "linear" scaling or tied weights, for other shapes, and for what is not finite.

    **Source**: Hron et al. 2020 for the limit of many heads.  The terms of Θ' are derived anew, and
    compared with sampled networks by the tests.

    >>> from ntkbook import Attention, Kernel
    >>> layer, one = Attention(64, scaling="root"), jnp.ones((1, 1, 3, 3))   # three equal tokens
    >>> mean, error = attention_monte_carlo(layer, jax.random.key(0), Kernel(one, one), samples=100)
    >>> mean.ntk[0, 0, 0].round(6).tolist()
    [3.0, 3.0, 3.0]
    """
    if not isinstance(layer, Attention):
        raise TypeError(f"layer must be an Attention, got {described(layer)}")
    if layer.scaling != "root" or layer.tied:
        raise ValueError(
            f"layer must have the scaling 'root' and queries apart from keys, got {layer!r}; of "
            "the others layer.kernel is exact"
        )
    require_key("key", key)
    if not isinstance(kernel, Kernel):
        raise TypeError(f"kernel must be a Kernel, got {described(kernel)}")
    n, tokens = jnp.shape(kernel.nngp)[1:3] if jnp.ndim(kernel.nngp) == 4 else (None, None)
    for name in ("nngp", "ntk"):
        part = require_shape(f"kernel.{name}", getattr(kernel, name), (n, n, tokens, tokens))
        require_finite(f"kernel.{name}", part)
    samples, softmax = require_count("samples", samples, 2), layer.mechanism == "softmax"
    return _drawn(key, kernel, layer.qk_std, layer.ov_std, samples=samples, softmax=softmax)


@partial(jax.jit, static_argnames=("samples", "softmax"))
def _drawn(
    key: PRNGKeyArray, kernel: Kernel, qk: float, ov: float, samples: int, softmax: bool
) -> tuple[Kernel, Kernel]:
    """The mean over draws and its standard error."""
    n, _, tokens, _ = kernel.nngp.shape
    whole = kernel.nngp.swapaxes(1, 2).reshape(n * tokens, -1)
    values, vectors = jnp.linalg.eigh(whole)
    root = (vectors * safe_sqrt(values)).reshape(n, tokens, -1)

    def draw(key: PRNGKeyArray) -> Kernel:
        noise = jax.random.normal(key, whole.shape, whole.dtype)
        logits = qk * matmul(matmul(root, noise), root.swapaxes(-1, -2))
        return _after(kernel, logits, qk, ov, softmax)

    def add(moments: tuple, step: tuple) -> tuple[tuple, None]:
        (mean, squares), (key, count) = moments, step
        one = draw(key)
        new = jax.tree.map(lambda m, a: m + (a - m) / count, mean, one)
        parts = squares, one, mean, new
        return (new, jax.tree.map(lambda q, a, m, b: q + (a - m) * (a - b), *parts)), None

    steps = jax.random.split(key, samples), jnp.arange(1.0, samples + 1, dtype=whole.dtype)
    zero = jax.tree.map(jnp.zeros_like, kernel)
    (mean, squares), _ = jax.lax.scan(add, (zero, zero), steps)
    return mean, jax.tree.map(lambda q: jnp.sqrt(q / (samples - 1) / samples), squares)


def _after(kernel: Kernel, logits: Array, qk: float, ov: float, softmax: bool) -> Kernel:
    """The kernels between heads with these logits (n, T, T)."""
    nngp, ntk = kernel.nngp, kernel.ntk
    weights = jax.nn.softmax(logits) if softmax else logits
    left, right = weights[:, None], weights.swapaxes(-1, -2)

    def seen(a: Array) -> tuple[Array, Array, Array]:
        """Averages over the tokens of the first input, of the second, and of both."""
        first, second = matmul(left, a), matmul(a, right)
        return first, second, matmul(first, right)

    def slopes(a: Array, own: tuple, other: tuple) -> Array:
        """⟨J_aᵀ K J_c, A⟩ for all a and c, with J_a = diag Z_a - Z_a Z_aᵀ of the softmax."""
        if not softmax:
            return (nngp * a).sum((-2, -1), keepdims=True)
        (first, second, both), (first2, second2, both2) = own, other
        crossed = matmul(left, matmul(nngp * a, right))
        apart = matmul(first * first2, right) + matmul(left, second * second2)
        return crossed - apart + both * both2

    own, other = seen(nngp), seen(ntk)
    through = (2 * nngp + ntk) * slopes(nngp, own, own) + nngp * slopes(ntk, own, other)
    return Kernel(ov**2 * own[2], ov**2 * (2 * own[2] + other[2] + qk**2 * through))
