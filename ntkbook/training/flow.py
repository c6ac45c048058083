"""Gradient flow under a constant kernel, in closed form at all times."""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from ntkbook._base.hints import guided
from ntkbook._base.times import as_times
from ntkbook._base.types import ArrayLike, Num, Scalar
from ntkbook.signals.signal import Kernel
from ntkbook.training.dynamics import Evolution, KernelDynamics, dynamics_of
from ntkbook.training.spectral import SpectralFunction


@dataclass(frozen=True)
class _Decay(SpectralFunction):
    """e^{−ηλt}, and at t = ∞ its limit."""

    def value(self, values, args):
        null, arrived, exponent, _ = _ingredients(values, *args)
        return jnp.where(arrived, jnp.where(null, 1, 0), jnp.exp(-exponent))

    def divided(self, values, args):
        # Between null modes and others (0 − 1)/(λ − 0) at t = ∞; among null modes there is no
        # limit, and none is needed by a kernel whose null space only turns.
        _, arrived, _, linear = _ingredients(values, *args)
        low, high, gap, inverse = _pairs(values)
        ends = jnp.where((low == 0) & (high > 0), -inverse, 0)
        return jnp.where(arrived, ends, -linear * jnp.exp(-low * linear) * _mean(gap * linear))


@dataclass(frozen=True)
class _Gain(SpectralFunction):
    """φ(λ, t) = (1 − e^{−ηλt})/λ, ηt for a null mode, and at t = ∞ the pseudo-inverse."""

    def value(self, values, args):
        # The inner `where` gives a null mode the harmless divisor 1: NaN in a branch not taken
        # would still spoil the derivatives.
        # A null mode never arrives, but Θ(x, X) is blind to it, so at t = ∞ the pseudo-inverse
        # leaves it out.  expm1, because 1 − e^{−ηλt} would cancel all digits of a slow mode.
        null, arrived, exponent, linear = _ingredients(values, *args)
        inverse = jnp.where(null, 0, 1 / jnp.where(null, 1, values))
        grown = jnp.where(null, linear, -jnp.expm1(-exponent) * inverse)
        return jnp.where(arrived, inverse, grown)

    def divided(self, values, args):
        # φ = ηt m(ηλt) with m(a) = (1 − e^{−a})/a.  With a ≤ b the larger one as divisor,
        # (m(b) − m(a))/(b − a) = (e^{−a} m(b − a) − m(a))/b, which cancels for small b alone.
        _, arrived, _, linear = _ingredients(values, *args)
        low, high, gap, inverse = _pairs(values)
        a, b = low * linear, high * linear
        small = b < 0.1
        near = _series(jnp.where(small, a, 0), jnp.where(small, b, 0)) * linear
        far = (jnp.exp(-a) * _mean(gap * linear) - _mean(a)) * inverse
        other = jnp.where(low == 0, 1, low)
        ends = jnp.where(low == 0, inverse, -1 / other) * inverse
        return jnp.where(arrived, ends, jnp.where(small, near, far) * linear)


def _ingredients(values, t, rate):
    """Which modes are null (N,), which times infinite (…, 1), and ηλt (…, N), ηt (…, 1).

    Infinite times are zero in the last two, so that no ∞ · 0 reaches a value or a derivative.
    """
    t = t[..., None]
    arrived = jnp.isinf(t)
    linear = rate * jnp.where(arrived, 0, t)
    return values == 0, arrived, values * linear, linear


def _pairs(values):
    """Of all pairs, (N, N): the smaller, the larger, their difference, and 1/larger or zero."""
    low, high = (choose(values[:, None], values) for choose in (jnp.minimum, jnp.maximum))
    return low, high, high - low, jnp.where(high > 0, 1 / jnp.where(high > 0, high, 1), 0)


def _mean(a):
    """m(a) = (1 − e^{−a})/a, the mean of e^{−s} over 0 ≤ s ≤ a."""
    return jnp.where(a == 0, 1, -jnp.expm1(-a) / jnp.where(a == 0, 1, a))


def _series(a, b):
    """(m(b) − m(a))/(b − a) = Σ (−1)^n h_{n−1}(a, b)/(n + 1)!, h all products of degree n − 1."""
    products, power, total = jnp.ones_like(b), jnp.ones_like(a), jnp.full_like(b, -0.5)
    for n in range(2, 10):  # for b ≤ 0.1 the rest is below 3e-16
        power = power * a
        products = b * products + power
        total += (-1) ** n / math.factorial(n + 1) * products
    return total


@jax.tree_util.register_dataclass
@dataclass(frozen=True, repr=False)
class GradientFlow(KernelDynamics):
    """The solution made by `gradient_flow`; `t` is a time ≥ 0, infinity included, or an array."""

    def _evolution(self, t: ArrayLike) -> Evolution:
        t = as_times(t).astype(self.y.dtype)
        return Evolution(_Decay(), _Gain(), (t, self.learning_rate))


@guided
def gradient_flow(
    k_train: Num[ArrayLike, "N N"] | Num[ArrayLike, "N N k k"] | Kernel,
    y_train: Num[ArrayLike, "N *k"],
    learning_rate: Scalar = 1.0,
    f0: Num[ArrayLike, "N *k"] | None = None,
    trained: str = "all",
) -> GradientFlow:
    """Gradient flow θ' = −η ∇ ½ Σ (f − y)² of a model with constant kernel, solved for all times.

    On the training points f_t = y + e^{−ηΘt}(f_0 − y), and the coefficients over them are
    α_t = φ(Θ, t)(y − f_0) with φ(λ, t) = (1 − e^{−ηλt})/λ, its limit ηt at λ = 0 included: Θ may
    be singular.  At t = ∞ the coefficients are Θ⁺(y − f_0), kernel regression without a ridge,
    and the residual keeps what it had in the null space of Θ.

    Eigenvalues up to N·eps·λmax are rounding and count as exactly zero.  Their modes have finite
    coefficients ηt(y − f_0) at finite t, which no Θ(x, X) of the same model sees; beyond times
    at which rounding in Θ(x, X), multiplied by ηt, is felt, ask for t = ∞.  A float32 kernel is
    decomposed in float64, unless it is traced, and only what its entries cannot tell from zero,
    4√N·eps·max|Θ|, counts as zero.  Late forecasts are then off by what f_0 − y has in the modes of
    that: a UserWarning says so where it is more than 1/1000 of |f_0 − y|.  Another one comes from
    `test`, where rounding in Θ(x, X) is felt in the predictions.

    **Arguments**: `k_train` (N, N), symmetric and positive semi-definite, or a `Kernel` of which
    `trained` chooses: "all" layers, ntk, or the "readout" alone, nngp; `y_train` (N,) or
    (N, k), each of k outputs moving under the same kernel; or `k_train` (N, N, k, k) between all
    outputs, such as that of `empirical_ntk`, with `y_train` (N, k), and then kernels at test
    points are (M, N, k, k); `learning_rate` η > 0; `f0`, shape of `y_train`, the model at the
    start, zero if not given.  Results have the arguments' dtype.

    **Returns**: `GradientFlow` with `train(t)`, `test(t, k_test_train, f0_test)`,
    `coefficients(t)`, `residual(t)`, `loss(t)` and, of a `Kernel`, `ensemble(t)`.  A pytree, it
    may cross `jit`.  Its derivatives in t, y, f0, η and the kernel exist, where eigenvalues are
    repeated too, and at t = ∞ as long as the rank of the kernel stays; second derivatives in the
    kernel exist when no eigenvalue is repeated.

    **Raises**: ValueError for a kernel that is not square, finite, symmetric and, up to rounding,
    positive semi-definite (naming the eigenvalue), for shapes that do not fit, for NaN, for a
    learning rate that is not positive, and for a negative time.  Integers that look like the
    labels of three classes or more draw a UserWarning: they would be fitted as numbers.  Inside
    `jit`, where values can't be looked at, nothing is warned of, and a value that would raise
    ValueError makes the results NaN.

    **Source**: Lee et al. 2019, section 2; Jacot et al. 2018, section 5 (whose loss is a mean).

    >>> import jax.numpy as jnp
    >>> kernel, y = jnp.array([[2.0, 1.0], [1.0, 2.0]]), jnp.array([1.0, -1.0])
    >>> flow = gradient_flow(kernel, y)       # y is the mode of eigenvalue 1: f_t = (1 − e^{−t}) y
    >>> print(flow.train(jnp.array([1.0, jnp.inf])).round(4))
    [[ 0.6321 -0.6321]
     [ 1.     -1.    ]]
    >>> print(flow.test(jnp.inf, jnp.array([[1.0, 0.5]])).round(4))
    [0.5]
    """
    return GradientFlow(*dynamics_of(k_train, y_train, learning_rate, f0, trained))
