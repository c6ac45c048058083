"""Layer normalisation: each example is centred and scaled over its own features."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from ntkbook._base.arguments import require_positive
from ntkbook._base.hints import guided, guided_layer, keep_number
from ntkbook._base.rows import require_entries
from ntkbook._base.types import Array, ArrayLike, Float, Num, PyTree
from ntkbook.gaussian.pairs import once
from ntkbook.networks.layer import Layer
from ntkbook.signals.signal import Signal, centred, scaled


@guided_layer
@dataclass(frozen=True)
class LayerNorm(Layer):
    """(x - mean)/sqrt(variance + epsilon) over the features of each example; nothing is learned.

    Of images the features are the channels, at each pixel by itself.

    In the limit mean and variance are those of one entry.  After a Dense layer the mean is zero:
    the variances become 1 (up to `epsilon`), the angle stays, and Θ is divided by the two standard
    deviations.  After a nonlinearity the covariance T becomes (T - m m')/sqrt(v v'), where
    m = E[φ(u)] and v = E[φ(u)²] - m², and Θ is divided by sqrt(v v').

    What is exact: angles after Dense layers and piecewise linear or odd nonlinearities keep all
    digits.  Elsewhere v is a difference, and loses digits where entries vary little beside their
    mean, as cos(u) of a small u.  An example whose entries are all equal becomes zero, as does an
    input of zeros without biases.

    **Arguments**: `epsilon` > 0, which is a part of the function: entries of a variance below it
    are scaled down.

    **Raises**: TypeError or ValueError for another `epsilon`; `apply`, ValueError for fewer than
    two features; a kernel, ValueError after the inputs themselves, which are data and may be
    normalised as such, and after a nonlinearity of which no mean is known.

    **Source**: Ba, Kiros and Hinton 2016 for the layer; Yang 2020 for its limit.

    >>> from ntkbook import Dense, Relu, Serial
    >>> net = Serial(Dense(512, w_std=2**0.5), LayerNorm(), Relu(), Dense(1))
    >>> x = jnp.array([[1.0, 0.0], [30.0, 40.0]])
    >>> net.kernel(x).nngp.round(4).tolist()                  # lengths no longer count
    [[0.5, 0.3388], [0.3388, 0.5]]
    >>> LayerNorm().apply((), x).round(4).tolist()
    [[1.0, -1.0], [-1.0, 1.0]]
    """

    epsilon: float = 1e-12

    def __post_init__(self) -> None:
        keep_number(self, "epsilon", require_positive, "give LayerNorm a number of its own")

    @guided
    def apply(self, params: PyTree, x: Num[ArrayLike, "n *d"]) -> Float[Array, "n *d"]:
        """Each row of x without its mean, divided by its standard deviation; `params` is ()."""
        require_entries(x)
        x = jnp.asarray(x)
        if x.ndim == 0 or x.shape[-1] < 2:
            raise ValueError(
                f"x must have two features or more to be normalised over, got shape {x.shape}"
            )
        apart = x - jnp.mean(x, -1, keepdims=True)
        return apart / jnp.sqrt(jnp.mean(apart * apart, -1, keepdims=True) + self.epsilon)

    def propagate(self, signal: Signal, hyperparameters: PyTree) -> Signal:
        return _through(signal, self.epsilon)


# The number is given to the program, as the scales of Dense are.
@jax.jit
def _through(signal: Signal, epsilon: float) -> Signal:
    apart = centred(signal)
    added = jnp.asarray(epsilon, signal.gap.dtype)
    return scaled(apart, *(once(1 / jnp.sqrt(q + added)) for q in (apart.var1, apart.var2)))
