"""Duals in closed form of what is made of bells: erf, the Gaussian itself, and GELU."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax.numpy as jnp

from ntkbook._base.arguments import require_positive
from ntkbook._base.types import Array, Float
from ntkbook.gaussian.pairs import (
    Dual,
    atan,
    horner,
    inverse_root,
    once,
    root_difference,
    safe_sqrt,
    scaled_det,
)

# Smooth activations made of bells: erf, the Gaussian, GELU.  In the units of the bell, of width
# 1/√w, an input of variance q has the shares s = w q / (1 + w q) and 1 - s, the square of r.

# The squares of r stay normal numbers up to the largest variance when r is this much larger.
_SCALE = 2.0**10
# Up to here `_asin_series` is good to rounding.
_SERIES = 0.05


class _Sides(NamedTuple):
    """The right triangle of the angle β with sin β = w c / sqrt((1 + w q1)(1 + w q2)) = √(s1 s2) ρ.

    **Fields**: `sine`, sin β; `cosine`, cos β; `even`, cos β where the inputs are parallel, both
    times _SCALE like the r of each input; `det`, s1 s2 sin² θ; the shares s1, s2 and r1, r2.
    """

    sine: Array
    cosine: Array
    even: Array
    det: Array
    s1: Array
    s2: Array
    r1: Array
    r2: Array


def _share(q, weight):
    whole = q + 1 / weight
    return once(q / whole), once((_SCALE / weight**0.5) / jnp.sqrt(whole))


def _sides(pair, weight):
    (s1, r1), (s2, r2) = _share(pair.q1, weight), _share(pair.q2, weight)
    sine = (r1 * pair.c) * (r2 * (weight / _SCALE**2))
    det = scaled_det(pair, s1, s2, sine)
    # 1 - s1 s2 and the part that the angle adds, both positive.
    even = r1 * r1 + s1 * (r2 * r2)
    cosine = once(jnp.sqrt(even + _SCALE**2 * det))
    return _Sides(sine, cosine, even, det, s1, s2, r1, r2)


def _bell(sides):
    """E[exp(-w (u² + v²)/2)] = r1 r2 / cos β."""
    return sides.r1 * (sides.r2 / sides.cosine) / _SCALE


def _erf_formula(pair, m):
    if m is not jnp:
        adjacent = m.sqrt(1 + 2 * (pair.q1 + pair.q2) + 4 * pair.det)
        return 2 / m.pi * m.atan(2 * pair.c / adjacent)
    return 2 / jnp.pi * _whole_angle(_sides(pair, 2))


def _erf_slope(pair, m):
    return 4 / jnp.pi * _bell(_sides(pair, 2))


def _whole_angle(sides):
    """β, from the tangent of its half, which is at most one."""
    return 2 * atan(sides.sine / (1 + sides.cosine / _SCALE))


def _erf_gap(pair):
    # The dual is the angle β, on the diagonal α1 and α2, whose sines are s1 and s2.
    sides = _sides(pair, 2)
    s1, s2, eps = sides.s1, sides.s2, float(jnp.finfo(sides.sine.dtype).eps)
    alpha1, ratio1, low1, high1 = _half_angles(s1, sides.r1)
    alpha2, ratio2, low2, high2 = _half_angles(s2, sides.r2)
    sine, beta = jnp.abs(sides.sine), jnp.abs(_whole_angle(sides))
    inverse = inverse_root(alpha1) * inverse_root(alpha2)
    # The mean μ of α1 and α2 minus |β| follows from sin(μ - β) sin(μ + β), without cancellation.
    sum1, sum2 = low1[0] * low2[1], low1[1] * low2[0]
    rest1, rest2 = high1[1] * high2[0], high1[0] * high2[1]
    apart = jnp.where(s1 + s2 < 1, sum1 - sum2, rest1 - rest2)
    sum_sine = (sum1 + sum2) * sides.cosine + _SCALE * (rest1 + rest2) * sine
    turned = (_SCALE * s1) * (_SCALE * s2) * pair.sine2
    quotient = (apart * apart + turned) / jnp.where(sum_sine == 0, 1, sum_sine)
    radial = once(safe_sqrt(alpha1)) - once(safe_sqrt(alpha2))
    half = radial * (radial * inverse) / 2
    near = _asin_series(quotient) * inverse - half
    far = 1 - beta * inverse
    # For small shares the series of the arcsine, since erf is then nearly linear.
    rho, square = 1 - pair.gap, s1 * s2
    fifth = 1 + rho * (1 + rho * (1 + rho * (1 + rho)))
    across = pair.gap * (1 + square * ((1 + rho * (1 + rho)) / 6 + 0.075 * square * fifth))
    stretched = (s1 - s2) ** 2 * (1 / 6 + 0.075 * (s1 + s2) ** 2) * (ratio1 * ratio2)
    linear = across * (once(safe_sqrt(ratio1)) * once(safe_sqrt(ratio2)))
    linear = linear + stretched * (0.5 + stretched / 8)
    small = jnp.maximum(s1, s2) < eps ** (1 / 6)
    return jnp.where(small, linear, jnp.where((quotient < _SERIES) & (half < 0.5), near, far))


def _half_angles(s, r):
    """The angle α with sine s and cosine r sqrt(1 + s); s/α; sin and cos of α/2, of π/4 - α/2.

    The sines are times _SCALE, like r.
    """
    cosine = r / _SCALE * jnp.sqrt(1 + s)
    alpha, other = jnp.arctan2(s, cosine), jnp.arctan2(cosine, s)
    dead = alpha == 0
    ratio = jnp.where(dead, 1, s / jnp.where(dead, 1, alpha))
    low, high = ((once(_SCALE * jnp.sin(x / 2)), once(jnp.cos(x / 2))) for x in (alpha, other))
    return once(alpha), once(ratio), low, high


def _asin_series(x):
    number = 6 if x.dtype == jnp.float64 else 3
    terms = [math.comb(2 * k, k) / (4**k * (2 * k + 1)) for k in range(number)]
    return x * horner(terms, x * x)


erf = Dual(_erf_formula, _erf_gap, Dual(_erf_slope), lambda q: 0 * q)
"""Dual of the error function, T = (2/π) arcsin(2c / sqrt((1 + 2 q1)(1 + 2 q2))) (Williams 1997).

Written with the arctangent, whose denominator is at least 1, so that nothing cancels and no
derivative diverges when the inputs are parallel or large.
"""


def gaussian(b: float | Float[Array, ""]) -> Dual:
    """Dual of exp(-b z²): T = (1 + 2b (q1 + q2) + 4b² det)^(-1/2).

    **Arguments**: `b` > 0.  (For b < 0 the mean is infinite from variances of 1/|4b| on; its
    `expression` is good for either sign where there is a mean.)

    **Returns**: `Dual`.

    **Raises**: when called, ValueError unless b is positive.

    >>> print(gaussian(0.5)(1.0, 1.0, jnp.array([1.0, 0.0])).round(4))
    [0.5774 0.5   ]
    """

    def formula(pair, m):
        if m is not jnp:
            return 1 / m.sqrt(1 + 2 * b * (pair.q1 + pair.q2) + 4 * b * b * pair.det)
        require_positive("b", b)
        return _bell(_sides(pair, 2 * b))

    def slope(pair, m):
        sides = _sides(pair, 2 * b)
        value = _bell(sides)
        return 2 * b * (sides.sine * (_SCALE / sides.cosine)) * value * value

    def gap(pair):
        sides = _sides(pair, 2 * b)
        root1, root2 = (
            once(r * jnp.sqrt(1 + s)) for s, r in ((sides.s1, sides.r1), (sides.s2, sides.r2))
        )
        root = root1 * root2
        bells = sides.r1 * sides.r2
        # (s1 - s2) _SCALE², from the difference of the variances.
        apart = (pair.q1 - pair.q2) * bells * (2 * b / _SCALE**2) * bells
        turn = _SCALE**2 * sides.det / (sides.cosine * sides.cosine)
        stretch = (apart / sides.cosine) * (apart / (sides.even + root) / sides.cosine)
        return (turn + stretch) / (1 + jnp.sqrt(root) / sides.cosine)

    return Dual(formula, gap, Dual(slope), lambda q: 1 / jnp.sqrt(1 + 2 * b * q))


def _gelu_formula(pair, m):
    if m is not jnp:
        p, q, c = pair.q1, pair.q2, pair.c
        complement = 1 + p + q + pair.det
        root = m.sqrt(complement)
        smooth = (c * c + p * q * complement) / ((1 + p) * (1 + q) * root)
        return c / 4 + (smooth + c * m.atan(c / root)) / (2 * m.pi)
    sides = _sides(pair, 1)
    bell, cosine = _bell(sides), sides.cosine / _SCALE
    edges = once(pair.q1 * (sides.r1 / _SCALE)) * once(pair.q2 * (sides.r2 / _SCALE))
    tail = bell * (bell * cosine) * sides.sine
    return pair.c * ((_shared_angle(sides) + tail) / (2 * jnp.pi)) + edges * (cosine / (2 * jnp.pi))


def _gelu_slope(pair, m):
    sides = _sides(pair, 1)
    bell, cosine = _bell(sides), sides.cosine / _SCALE
    tail = sides.even / sides.cosine / _SCALE + bell * (bell * cosine + bell / cosine)
    return (_shared_angle(sides) + sides.sine * tail) / (2 * jnp.pi)


def _shared_angle(sides):
    """π/2 + β, to a few units also where it is small."""
    obtuse = sides.sine < 0
    sine = jnp.where(obtuse, -sides.sine, sides.sine)
    acute = 2 * atan(sides.cosine / _SCALE / (1 + sine))
    return jnp.where(obtuse, acute, jnp.pi - acute)


def _gelu_gap(pair):
    # All in units of norm / 2π, so that T is ρ (π/2 + β + bell² sin β cos β) + x cos β, for acute
    # angles: z/2 is the odd part of GELU, so that opposite inputs differ by twice the even part.
    sides = _sides(pair, 1)
    bell, cosine = _bell(sides), sides.cosine / _SCALE
    x = once(safe_sqrt(sides.s1)) * once(safe_sqrt(sides.s2))
    obtuse, rho = pair.cosine < 0, 1 - pair.gap
    sine = jnp.where(obtuse, -sides.sine, sides.sine)
    # Parallel inputs have the angle π/2 - turn0.
    cosine0, bell0, turn0, lack = _parallel(x, sides.even, sides.r1 * sides.r2)
    turned_sine = x * pair.sine2 / (cosine + cosine0 * rho)
    turned = 2 * atan(turned_sine / (1 + cosine * cosine0 + x * sine))
    small = bell * (bell * cosine) - x * x / (cosine + cosine0) * (1 - bell * bell0)
    lost = pair.gap * (jnp.pi - turn0) + rho * turned + x * pair.sine2 * small
    even = rho * (2 * atan(sine / (1 + cosine)) + bell * (bell * cosine) * sine) + x * cosine
    scale1, lack1, bend1 = _gelu_diagonal(sides.s1, sides.r1)
    scale2, lack2, bend2 = _gelu_diagonal(sides.s2, sides.r2)
    # Parallel inputs of different lengths: a difference, or to second order in their distance.
    apart = root_difference(pair.q1, pair.q2)
    near = bend1 * (apart * (apart * bend2)) / 2
    spread = (pair.q1 - pair.q2) / jnp.where(pair.norm == 0, 1, pair.q1 + pair.q2)
    eps = float(jnp.finfo(near.dtype).eps)
    scale = scale1 * scale2 / (2 * jnp.pi)
    far = scale * (lack - math.pi**0.5 * (lack1 + lack2) + lack1 * lack2)
    error = jnp.maximum(near, far) * spread * spread * jnp.maximum(sides.s1, sides.s2)
    radial = jnp.where(error < eps * lack, near, far)
    return radial + scale * (lost + jnp.where(obtuse, 2 * even, 0))


def _parallel(x, even, bells):
    """cos β, bell and π/2 - β of parallel inputs with sin β = x, and 2π (1/2 - T/norm)."""
    cosine = jnp.sqrt(even) / _SCALE
    bell = bells / cosine / _SCALE**2
    turn = 2 * atan(cosine / (1 + x))
    y = 4 * turn * turn
    # (2 turn - sin(2 turn))/2, of third order.
    terms = [(-1) ** k * 4 / math.factorial(2 * k + 3) for k in range(7)]
    excess = jnp.where(turn < 0.4, turn * turn * turn * horner(terms, y), turn - x * cosine)
    return cosine, bell, turn, excess - x * (bell * (bell * cosine))


def _gelu_diagonal(s, r):
    """sqrt(q/T); √π less the root of π - lack; and how fast GELU's direction turns with √q."""
    *_, lack = _parallel(s, r * r * (1 + s), r * r)
    root = jnp.sqrt(jnp.pi - lack)
    scale = (2 * jnp.pi) ** 0.5 / root
    # The direction turns by z² exp(-z²/2), without what is parallel to GELU itself.
    left = r / _SCALE  # 1/sqrt(1 + q)
    across = 1.5 / jnp.pi * (scale * left**2.5 / (1 + s) ** 1.25) ** 2
    along = scale * scale * (3 + 2 * s) / (2 * jnp.pi * (1 + s) ** 1.5) * left**4 * safe_sqrt(s)
    return once(scale), once(lack / (math.pi**0.5 + root)), once(safe_sqrt(across - along * along))


gelu = Dual(
    _gelu_formula,
    _gelu_gap,
    Dual(_gelu_slope),
    lambda q: q / jnp.sqrt(1 + q) / (2 * math.pi) ** 0.5,
)
"""Dual of the exact GELU, z (1 + erf(z/√2))/2 (Tsuchida et al. 2020)."""
