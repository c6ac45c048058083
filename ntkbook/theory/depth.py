"""What depth does to the two kernels: their entries through a million layers, and their limits.

For two inputs of one variance q the NNGP is q on the diagonal and q ρ beside it, the NTK
obeys Θ' = K' + χ Θ, from Θ = K at the first layer on.  Near ρ = 1 the correlation map is
ε' = χ_1 ε - a ε^p for ε = 1 - ρ, with p = 2 for a smooth activation and p = 3/2 for one with a
kink, which is what makes two classes of limits.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from ntkbook._base.arguments import as_floating, require_count, require_nonnegative, require_shape
from ntkbook._base.types import Array, ArrayLike, Float, Int, Num, Scalar
from ntkbook.gaussian import duals
from ntkbook.gaussian.pairs import Pair, acute_angle, same
from ntkbook.gaussian.quadrature import derivative, quadrature
from ntkbook.gaussian.series import self_mean
from ntkbook.networks.activations import Abs, Erf, LeakyRelu, Nonlinearity, Relu
from ntkbook.theory.fixed_points import field_arguments
from ntkbook.theory.mean_field import (
    MeanField,
    alike,
    mean_field,
    opened,
    turned,
    variance_map,
)


@dataclass(frozen=True)
class DeepSignal:
    """The kernels of two inputs of one variance, layer by layer; made by `deep_signal`.

    **Fields**: `layers` (L,); `q`, the variance, and `gap`, 1 - ρ; `ntk_diagonal`, Θ(x, x), `ntk`,
    Θ(x, x'), and `ntk_gap`, the difference of the two; each (L, *n), none by subtraction.
    """

    layers: Int[np.ndarray, "L"]
    q: Float[np.ndarray, "L *n"]
    gap: Float[np.ndarray, "L *n"]
    ntk_diagonal: Float[np.ndarray, "L *n"]
    ntk: Float[np.ndarray, "L *n"]
    ntk_gap: Float[np.ndarray, "L *n"]

    @property
    def correlation(self) -> Float[np.ndarray, "L *n"]:
        """The correlation ρ."""
        return 1 - self.gap


def deep_signal(
    activation: Nonlinearity,
    gap: Num[ArrayLike, "*n"],
    layers: Int[ArrayLike, "L"] | list[int] | range,
    *,
    w_var: Scalar,
    b_var: Scalar,
    q: Scalar | None = None,
    keep: Scalar = 1.0,
) -> DeepSignal:
    """Variance, angle and tangent kernel of pairs of inputs in the layers asked for.

    Each layer maps ε = 1 - ρ to the next ε and D = Θ(x, x) - Θ(x, x') to
    q ε + χ(ρ) D + (χ_1 - χ(ρ)) Θ(x, x), sums of terms of one sign for acute angles, in which
    χ_1 - χ(ρ) is the gap of the dual of φ'.  A million layers take seconds for erf and
    piecewise linear functions; otherwise that gap is an integral, some milliseconds a layer.

    **Arguments**: `activation`; `gap`, 1 - ρ of the preactivations in layer 1, from 0 to 2, of any
    shape; `layers` (L,), ascending from 1; `w_var` and `b_var`, σ_w² and σ_b²; `q`, the variance in
    layer 1, without which it is the stationary one; `keep`, the
    probability that dropout keeps a unit, in every layer.

    **Returns**: `DeepSignal`, in float64 whatever JAX's setting.

    **Raises**: ValueError for arguments out of range, or where no variance is stationary.

    >>> from ntkbook import Erf, critical_point
    >>> point = critical_point(Erf(), b_var=0.05)
    >>> deep = deep_signal(Erf(), 0.5, [10_000], w_var=point.w_var, b_var=point.b_var)
    >>> (deep.layers * deep.gap).round(3).tolist()            # 2/C''(1) is 5.736
    [5.742]
    """
    with jax.enable_x64(True):
        start = as_floating("gap", gap)
        if not ((start >= 0) & (start <= 2)).all():
            raise ValueError(f"gap must be 1 - ρ, from 0 to 2, got {gap}")
        numbers = np.asarray(require_shape("layers", as_floating("layers", layers), (None,)))
        wanted = [require_count("layers", n if n % 1 else int(n)) for n in numbers.tolist()]
        if wanted != sorted(set(wanted)) or not wanted:
            raise ValueError(f"layers must ascend and be at least one, got {layers}")
        if q is None:
            q = mean_field(activation, w_var=w_var, b_var=b_var, keep=keep).q
        q = require_nonnegative("q", float(require_shape("q", as_floating("q", q), ())))
        variance_map(activation, q, w_var=w_var, b_var=b_var, keep=keep)  # asks what came
        scales = tuple(jnp.asarray(x, float) for x in (w_var, b_var, keep))
        first = jnp.full(start.shape, q, float)
        state = (first, start.astype(float), first, first * (1 - start), first * start)
        kept: list[tuple[Array, ...]] = []
        before = 1
        for layer in wanted:
            state = _advanced(activation, state, scales, layer - before)
            kept, before = [*kept, state], layer
        parts = (np.stack([np.asarray(x) for x in part]) for part in zip(*kept, strict=True))
    return DeepSignal(np.array(wanted), *parts)


@partial(jax.jit, static_argnums=0)
def _advanced(activation, state, scales, steps):
    """The state after so many more layers."""
    w_var, b_var, keep = scales

    def layer(_, state):
        q, u, diagonal, beside, apart = state
        lost = w_var * _slope_apart(activation, alike(q, u))
        after, slope, variance = turned(activation, q, u, w_var, b_var, keep)
        steep = w_var * activation.dual.value_and_slope(same(q))[1]
        apart = variance * after + slope * apart + (steep * (1 / keep - 1) + lost) * diagonal
        beside = variance * (1 - after) + slope * beside
        return variance, after, variance + steep / keep * diagonal, beside, apart

    return jax.lax.fori_loop(0, steps, layer, state)


def _slope_apart(activation: Nonlinearity, pair: Pair) -> Array:
    """E[φ'(u)²] - E[φ'(u) φ'(v)] without cancellation."""
    if isinstance(activation, (Relu, LeakyRelu, Abs)):
        acute, _ = acute_angle(pair)
        angle = jnp.where(pair.cosine < 0, jnp.pi - acute, acute)
        return _jump(activation) ** 2 * angle / (2 * jnp.pi)
    erf = isinstance(activation, Erf)  # whose derivative is a bell, with a closed form
    dual = duals.gaussian(1.0) if erf else quadrature(derivative(activation.fn))
    apart = opened(*dual.cosine_and_gap(pair, dual.formula(pair, jnp)))
    return dual.diagonal(pair.q1) * apart * (4 / np.pi if erf else 1)


def _jump(activation: Nonlinearity) -> Array:
    """φ'(0+) - φ'(0-); what φ'' makes of it shrinks with the distance from zero, and is no jump."""
    right, left = derivative(activation.fn)(jnp.array([[1e-30, 1e-60], [-1e-30, -1e-60]]))
    far, near = right - left
    return jnp.where(abs(near) > 1e-10 * abs(far), near, 0.0)


@dataclass(frozen=True)
class DepthLaws:
    """The leading behaviour of both kernels in deep layers l; made by `depth_laws`.

    With a the limit of ε χ_1^(1-l) in the ordered phase, which depends on the two inputs, p the
    exponent and q* the variance, the entries approach

    =========  ================  ===================  ==============  =========================
    phase      q ε               Θ(x, x)              Θ(x, x')        Θ(x, x) - Θ(x, x')
    =========  ================  ===================  ==============  =========================
    ordered    q* a χ_1^(l-1)    `diagonal`           `diagonal`      see `bulk`
    critical   `nngp` / l^m      `diagonal` l         `pair` l        (`diagonal` - `pair`) l
    chaotic    `nngp`            `diagonal` χ_1^l     `pair`          `diagonal` χ_1^l
    =========  ================  ===================  ==============  =========================

    with m = 1/(p - 1), one for smooth activations and two with a kink.  In the ordered phase the
    last column is `bulk` a l χ_1^(l-1) for smooth ones, and `bulk` √a χ_1^((l-1)/2) with a kink.

    **Fields**: `field`, the `MeanField`; `exponent` p and `coefficient` of ε' = χ_1 ε - a ε^p
    near ε = 0; `diagonal`, `pair`, and `nngp` (critical, chaotic) or `bulk` (ordered): None where
    the table has none.
    """

    field: MeanField
    exponent: float
    coefficient: float
    diagonal: float
    pair: float
    nngp: float | None = None
    bulk: float | None = None


def depth_laws(activation: Nonlinearity, *, w_var: Scalar, b_var: Scalar) -> DepthLaws:
    """The constants of the deep limits of NNGP and NTK in each phase.

    **Arguments**: `activation`; `w_var` and `b_var`, numbers.

    **Returns**: `DepthLaws`.

    **Raises**: ValueError where no variance is stationary, for a jump of φ, and at the end point
    of the critical line, q* = 0: see `end_point`.

    **Source**: the exponents are those of Xiao et al. 2020, table 1; the constants are derived in
    the book.

    >>> from ntkbook import Erf
    >>> laws = depth_laws(Erf(), w_var=1.25, b_var=0.05)
    >>> round(laws.diagonal, 6), round(laws.bulk, 4)           # p* = q*/(1 - χ_1)
    (11.266106, 3.5489)
    """
    field = mean_field(activation, w_var=w_var, b_var=b_var)
    parts = field.q, field.correlation, field.chi_1, field.chi_star
    q, rho, chi_1, chi_star = map(float, parts)
    if q == 0:
        raise ValueError(
            f"w_var and b_var must leave a variance q* > 0, got none for {w_var}, {b_var}: the "
            "signal dies out; at the end of the critical line see end_point"
        )
    exponent, coefficient = correlation_expansion(activation, q=q, w_var=w_var)
    smooth = exponent == 2
    if field.phase < 0:
        limit = q / (1 - chi_1)
        # χ_1 - χ(ρ) is the derivative of a ε^p: it times Θ drives what is left.
        if smooth:
            bulk = q + 2 * coefficient * limit / chi_1
        else:
            bulk = 1.5 * coefficient * limit / (chi_1**0.5 - chi_1)
        return DepthLaws(field, exponent, coefficient, limit, limit, bulk=bulk)
    if field.phase == 0:
        power = 1 / (exponent - 1)
        nngp = q * (power / coefficient) ** power
        # Θ(x, x') = s l with s = q - p/(p - 1) s, as χ(ρ) = 1 - p a ε^(p-1) = 1 - p/(p - 1)/l.
        return DepthLaws(field, exponent, coefficient, q, q / (1 + exponent * power), nngp)
    pair = q * rho / (1 - chi_star)
    return DepthLaws(field, exponent, coefficient, q / (chi_1 - 1), pair, q * (1 - rho))


def correlation_expansion(
    activation: Nonlinearity, *, q: Scalar, w_var: Scalar
) -> tuple[float, float]:
    """p and a in ε' = χ_1 ε - a ε^p + …, the correlation map near ε = 1 - ρ = 0.

    For a smooth activation p = 2 and a = C''(1)/2 = σ_w² q E[φ''²]/2; where φ' jumps at zero by J,
    p = 3/2 and a = σ_w² J² √2/(3π).

    **Arguments**: `activation`, smooth but for a kink at zero; its variance `q` > 0; `w_var`.

    **Returns**: p and a.

    **Raises**: ValueError where φ itself jumps.

    >>> from ntkbook import Relu
    >>> p, a = correlation_expansion(Relu(), q=1.0, w_var=2.0)
    >>> p, round(4 / a**2, 4)                                  # ε ≈ 9π²/(2 l²)
    (1.5, 44.4132)
    """
    with jax.enable_x64(True):
        variance, gain = map(float, field_arguments(activation, q, w_var, 0.0, 1.0)[:2])
        right, left = activation.fn(jnp.array([1e-30, -1e-30]))
        if abs(float(right - left)) > 1e-12:
            raise ValueError(
                f"{type(activation).__name__} must be continuous at zero: it has no tangent kernel"
            )
        jump = float(_jump(activation))
        if jump:
            return 1.5, gain * jump**2 * 2**0.5 / (3 * np.pi)
        bend = derivative(derivative(activation.fn))
        second = float(self_mean(bend, bend, jnp.asarray(variance)))
    return 2.0, gain * variance * second / 2
