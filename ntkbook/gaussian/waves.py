"""Duals in closed form of what is made of waves: sin, cos, √2 sin(√(2γ) z + π/4), and exp."""

from __future__ import annotations

import math

import jax.numpy as jnp

from ntkbook._base.types import Array, Float
from ntkbook.gaussian.pairs import (
    Dual,
    half_distance,
    horner,
    inverse_root,
    once,
    same,
    signed_half_distance,
)

# Smooth activations made of waves: the exponent is half of E(u - v)².


def _wave(sign):
    """sin z for sign = -1, cos z for +1: T = (exp(-E(u - v)²/2) ± exp(-E(u + v)²/2))/2."""

    def formula(pair, m):
        if m is not jnp:
            mean = (pair.q1 + pair.q2) / 2
            return (m.exp(pair.c - mean) + sign * m.exp(-pair.c - mean)) / 2
        return _wave_value(pair, sign)

    def gap(pair):
        # 1 - |ρ| from sinh F sinh H ± sinh² ((q1 - q2)/2), with F and H half of E(u ± v)².
        near, total = half_distance(pair), pair.q1 + pair.q2
        c = _acute(pair)
        lost1, lost2 = once(-jnp.expm1(-pair.q1)), once(-jnp.expm1(-pair.q2))
        inverse1, inverse2 = (inverse_root(formula(same(q), jnp)) for q in (pair.q1, pair.q2))
        value = _wave_value(pair, sign)
        if sign < 0:
            value = jnp.where(pair.cosine < 0, -value, value)  # sin is odd, cos even
        cosine = value * inverse1 * inverse2
        both, turned = lost1 + lost2 - lost1 * lost2, _lost(2 * c)
        area = (both + turned - both * turned) * _lost(2 * near, jnp.exp(-near) ** 2)
        apart = lost1 - lost2
        lost = (area + sign * apart * apart) / 4 * inverse1 * inverse2 * inverse1 * inverse2
        if sign > 0:
            return lost / (1 + cosine)
        # Where one length is far larger, the terms are larger than their difference.
        lost = jnp.where(pair.q1 / 4 + pair.q2 / 4 < pair.norm, lost, 1 - cosine * cosine)
        # sin is nearly linear for small variances, and the difference is taken term by term.
        stretch = (pair.q1 - pair.q2) ** 2 * (1 / 6 + total * total / 120)
        share = _sinh_share(pair.norm * (2 - pair.gap)) * _sinh_share(pair.norm * pair.gap)
        ratio1, ratio2 = (
            once(q * jnp.exp(-q) * r * r) for q, r in ((pair.q1, inverse1), (pair.q2, inverse2))
        )
        small = total / 2 + c < 4 * float(jnp.finfo(near.dtype).eps) ** (1 / 6)
        series = (pair.sine2 * share + stretch) * (ratio1 * ratio2)
        return jnp.where(small, series, lost) / (1 + cosine)

    def average(q):
        return 0 * q if sign < 0 else jnp.exp(-q / 2)

    return Dual(formula, gap, Dual(lambda pair, m: _wave_value(pair, -sign)), average)


def _acute(pair):
    return jnp.where(pair.cosine < 0, -pair.c, pair.c)


def _wave_value(pair, sign):
    near, lost = jnp.exp(-half_distance(pair)), _lost(2 * _acute(pair))
    if sign > 0:
        return near * (1 - lost / 2)
    return jnp.where(pair.cosine < 0, -near, near) * lost / 2


def _lost(x, exponential=None):
    """1 - exp(-x), for positive x cheaper than expm1 where exp(-x) is known."""
    exponential = jnp.exp(-x) if exponential is None else exponential
    number = 12 if x.dtype == jnp.float64 else 7
    series = x * horner([(-1) ** k / math.factorial(k + 1) for k in range(number)], x)
    return jnp.where(x < 0.3, series, 1 - exponential)


def _sinh_share(x):
    """sinh(x)/x for small x."""
    square = x * x
    return 1 + square / 6 * (1 + square / 20)


sin, cos = _wave(-1), _wave(1)


def rbf(gamma: float | Float[Array, ""]) -> Dual:
    """Dual of √2 sin(sqrt(2 gamma) z + π/4): T = exp(-gamma (q1 + q2 - 2c)), the RBF kernel.

    **Arguments**: `gamma` > 0, of exp(-gamma E(u - v)²).

    **Returns**: `Dual`.

    >>> print(rbf(0.5)(1.0, 1.0, jnp.array([1.0, 0.0])).round(4))
    [1.     0.3679]
    """

    def formula(pair, m):
        if m is not jnp:
            return m.exp(-gamma * (pair.q1 + pair.q2 - 2 * pair.c))
        return jnp.exp(-2 * gamma * signed_half_distance(pair))

    return Dual(
        formula,
        lambda pair: _lost(2 * gamma * signed_half_distance(pair)),
        Dual(lambda pair, m: 2 * gamma * formula(pair, m)),
        lambda q: jnp.exp(-gamma * q),
    )


def _exp_formula(pair, m):
    if m is not jnp:
        return m.exp((pair.q1 + pair.q2) / 2 + pair.c)
    # Relative to the diagonals exp(2 q1) and exp(2 q2), unless their product overflows.
    total, direct = pair.q1 + pair.q2, (pair.q1 + pair.q2) / 2 + pair.c
    large = total > 0.9 * math.log(float(jnp.finfo(total.dtype).max))
    one1, one2 = (once(jnp.exp(q)) for q in (pair.q1, pair.q2))
    value = jnp.exp(jnp.where(large, direct, -signed_half_distance(pair)))
    return value * jnp.where(large, 1, one1) * jnp.where(large, 1, one2)


exp = Dual(
    _exp_formula,
    lambda pair: _lost(signed_half_distance(pair)),
    Dual(_exp_formula),
    lambda q: jnp.exp(q / 2),
)
"""Dual of exp z, T = exp((q1 + q2)/2 + c), its own derivative dual (Daniely et al. 2016)."""
