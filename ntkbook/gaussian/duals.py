"""The catalogue of dual activations in closed form.

Each is a `Dual`: the formula E[φ(u) φ(v)] for a Gaussian pair, from which Price's theorem gives
the slope, and the accurate 1 - |ρ| of the pair after the layer (see `pairs`).

Errors in float64 for variances from 1e-3 to 100 and any angle, held by the tests against 50
digits: value and slope relative to their diagonals, then the angle after the layer in radians.

================================  =====  =====  =====
dual                              value  slope  angle
================================  =====  =====  =====
`abrelu`, `rectified_power`       1e-15  1e-15  5e-16
`erf`                             2e-15  2e-15  1e-13
`sin`, `cos`                      4e-14  4e-14  2e-12
`rbf`                             4e-14  4e-14  5e-16
`exp`, `gaussian`                 2e-15  2e-15  5e-16
`gelu`                            2e-15  2e-15  1e-13
`polynomial` (for z - z³/10)      3e-15  3e-15  1e-12
================================  =====  =====  =====

`sin` and `cos` lose digits to the difference of two exponentials at small variances, and like `rbf`
to the rounding of an exponent at large ones.  The angle suffers only where two inputs of different
lengths are nearly parallel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from ntkbook._base.types import Num
from ntkbook.gaussian.pairs import (
    Dual,
    acute_angle,
    angle,
    excess_angle,
    half_distance,
    horner,
    once,
    relative_gap,
    safe_sqrt,
    same,
    signed_half_distance,
    sine,
    supplement,
    value_and_slope,
)

__all__ = [
    "abrelu",
    "cos",
    "erf",
    "exp",
    "gaussian",
    "gelu",
    "polynomial",
    "rbf",
    "rectified_power",
    "relu",
    "sin",
    "value_and_slope",
]

# Piecewise linear and piecewise polynomial activations.


def abrelu(a: float, b: float) -> Dual:
    """Dual of a z for z < 0 and b z for z > 0: T = ab c + (a - b)² (√det + (π - θ) c) / 2π.

    **Arguments**: `a`, `b`, the two slopes: ReLU is (0, 1), the absolute value (-1, 1).

    **Returns**: `Dual`.

    **Source**: Cho & Saul 2009 for ReLU, there without the factor 1/2 that is in E[φφ]; Tsuchida
    et al. 2018 for the leaky ReLU.

    >>> print(abrelu(-1, 1)(1.0, 1.0, jnp.array([1.0, 0.0])).round(4))    # E|u||v|: 1 and 2/π
    [1.     0.6366]
    """
    weight, mean = (b - a) ** 2, (a * a + b * b) / 2

    def formula(pair, m):
        # With θ held, this is linear in c with the exact slope: the true θ maximises it.  Without
        # dθ/dc = -1/sin θ, no derivative of first order diverges where the inputs are parallel.
        wedge = pair.norm * sine(pair, m) + supplement(pair, m) * pair.c
        return a * b * pair.c + weight * wedge / (2 * m.pi)

    def gap(pair):
        acute, height = acute_angle(pair)
        excess = weight * excess_angle(acute, height, pair.gap) / (2 * jnp.pi)
        near, obtuse = pair.gap, pair.cosine < 0
        # The signs of ρ before and after the layer make four cases; in each all is small together.
        apart = jnp.where(obtuse, (a + b) ** 2 / 2 - a * b * near, mean * near) - excess
        against = jnp.where(obtuse, (a - b) ** 2 / 2 + a * b * near, mean * (2 - near)) + excess
        # Of 1 ∓ ρ the smaller one.  `minimum`, not `where` on a sign that rounding may turn; at a
        # tie, ρ = 0, it gives each branch half its derivative: |ρ| has derivative zero there.
        return jnp.minimum(apart, against) / mean

    return Dual(formula, gap)


relu = abrelu(0, 1)


def rectified_power(order: int) -> Dual:
    """Dual of max(z, 0)^order, which is half the arc-cosine kernel of that order.

    T = (q1 q2)^(order/2) (P(ρ) (π - θ) + R(ρ) sin θ) / 2π, with polynomials P and R that follow
    from order to order by Price's theorem.

    **Arguments**: `order`, a whole number from 0, the step function, whose derivative vanishes
    almost everywhere.

    **Returns**: `Dual`.

    **Source**: Cho & Saul 2009.

    >>> print(rectified_power(0)(1.0, 1.0, jnp.array([1.0, 0.0])))    # P(u > 0 and v > 0)
    [0.5  0.25]
    """
    angular, sinusoidal = _arc_cosine(order)
    peak = angular.sum()
    # P(1) - P(1 - g) as a polynomial in g, without the constant that would cancel.
    drop = -np.polynomial.Polynomial(angular)(np.polynomial.Polynomial([1, -1])).coef
    drop[0] = 0

    def formula(pair, m):
        wedge = horner(sinusoidal, pair.cosine) * sine(pair, m)
        sector = horner(angular, pair.cosine) * supplement(pair, m)
        return pair.norm**order * (sector + wedge) / (2 * m.pi)

    def gap(pair):
        acute, height = acute_angle(pair)
        wedge = horner(sinusoidal, pair.cosine) * height / (jnp.pi * peak)
        sector = horner(angular, pair.cosine) * acute / (jnp.pi * peak)
        near = horner(drop, pair.gap) / peak + sector - wedge
        return jnp.where(pair.cosine < 0, 1 - sector - wedge, near)

    if order == 0:
        return Dual(formula, gap, Dual(lambda pair, m: 0 * pair.c))
    lower = rectified_power(order - 1)
    return Dual(formula, gap, Dual(lambda pair, m: order**2 * lower.formula(pair, m)))


def _arc_cosine(order):
    """Coefficients of P and R, from d(Pψ + R sin θ)/dρ = order² (the same one order lower)."""
    angular, sinusoidal = np.array([1.0]), np.zeros(1)
    for n in range(1, order + 1):
        source = np.zeros(n + 2)
        source[:n] += n * n * sinusoidal[:n]
        source[2:] -= n * n * sinusoidal[:n]
        angular = np.append(0.0, n * n * angular / np.arange(1, n + 1))
        if n % 2 == 0:
            angular[0] = math.prod(range(1, 2 * n, 2)) - angular.sum()
        sinusoidal = np.zeros(n + 2)
        for j in range(n, 0, -1):
            sinusoidal[j - 1] = (angular[j] + (j + 1) * sinusoidal[j + 1] - source[j]) / j
        sinusoidal = sinusoidal[: n + 1]
    return angular, sinusoidal


# Smooth activations.  Their formulas use c and det, whose rates in c are 1 and -2c.


def _erf_formula(pair, m):
    return 2 / m.pi * _erf_angle(pair, m)


def _erf_angle(pair, m):
    adjacent = m.sqrt(1 + 2 * (pair.q1 + pair.q2) + 4 * pair.det)
    hypotenuse = _root(1 + 2 * pair.q1, m) * _root(1 + 2 * pair.q2, m)
    return angle(2 * pair.c, adjacent, hypotenuse, m)


def _erf_gap(pair):
    # The dual is the angle β with sine 2c / sqrt((1 + 2 q1)(1 + 2 q2)); on the diagonal α1, α2.
    # The mean μ of these minus |β| follows from sin(μ - β) sin(μ + β), which has no cancellation.
    alpha1, half_sine1, half_cosine1 = _half_angle(pair.q1)
    alpha2, half_sine2, half_cosine2 = _half_angle(pair.q2)
    total, difference = 1 + 2 * (pair.q1 + pair.q2), pair.q1 - pair.q2
    length = _root(1 + 2 * pair.q1, jnp) * _root(1 + 2 * pair.q2, jnp)
    root = _root(1 + 4 * pair.q1, jnp) * _root(1 + 4 * pair.q2, jnp)
    product = (4 * pair.det + 2 * difference**2 / (total + root)) / length
    sum_sine = (half_sine1 * half_cosine2 + half_cosine1 * half_sine2) * jnp.sqrt(
        total + 4 * pair.det
    ) + 2 * (half_cosine1 * half_cosine2 - half_sine1 * half_sine2) * jnp.abs(pair.c)
    # Zero over zero only for inputs that vanish, whose gap is zero.
    ratio = product / jnp.where(sum_sine > 0, sum_sine, 1)
    far = (alpha1 + alpha2) / 2 - jnp.abs(_erf_angle(pair, jnp))
    return relative_gap(jnp.where(ratio < 0.2, _asin_series(ratio), far), alpha1, alpha2)


def _root(x, m):
    return once(jnp.sqrt(x)) if m is jnp else m.sqrt(x)


def _half_angle(q):
    """The angle α with sin α = 2q/(1 + 2q), and sine and cosine of α/2."""
    alpha = jnp.atan(2 * q / jnp.sqrt(1 + 4 * q))
    return once(alpha), once(jnp.sin(alpha / 2)), once(jnp.cos(alpha / 2))


def _asin_series(x):
    terms = [math.comb(2 * k, k) / (4**k * (2 * k + 1)) for k in range(12)]
    return x * horner(terms, x * x)


erf = Dual(_erf_formula, _erf_gap)
"""Dual of the error function, T = (2/π) arcsin(2c / sqrt((1 + 2 q1)(1 + 2 q2))) (Williams 1997).

Written with the arctangent, whose denominator is at least 1, so that nothing cancels and no
derivative diverges when the inputs are parallel or large.
"""


def _wave(sign):
    """sin z for sign = -1, cos z for +1: T = (exp(-E(u - v)²/2) ± exp(-E(u + v)²/2))/2."""

    def formula(pair, m):
        mean = (pair.q1 + pair.q2) / 2
        return (m.exp(pair.c - mean) + sign * m.exp(-pair.c - mean)) / 2

    def gap(pair):
        # Both are odd or even, so acute angles are enough.
        near = half_distance(pair)
        opposite = jnp.exp(near - pair.q1 - pair.q2)
        radial = (jnp.exp(-pair.q1) - jnp.exp(-pair.q2)) ** 2 / 2
        distance = (-jnp.expm1(-near) * (1 - sign * opposite) + sign * radial) / 2
        diagonals = (formula(same(q), jnp) for q in (pair.q1, pair.q2))
        return relative_gap(distance, *diagonals)

    return Dual(formula, gap)


sin, cos = _wave(-1), _wave(1)


def rbf(gamma: float) -> Dual:
    """Dual of √2 sin(sqrt(2 gamma) z + π/4): T = exp(-gamma (q1 + q2 - 2c)), the RBF kernel.

    **Arguments**: `gamma` > 0, of exp(-gamma E(u - v)²).

    **Returns**: `Dual`.

    >>> print(rbf(0.5)(1.0, 1.0, jnp.array([1.0, 0.0])).round(4))
    [1.     0.3679]
    """

    def formula(pair, m):
        return m.exp(-gamma * (pair.q1 + pair.q2 - 2 * pair.c))

    return Dual(formula, lambda pair: -jnp.expm1(-2 * gamma * signed_half_distance(pair)))


exp = Dual(
    lambda pair, m: m.exp((pair.q1 + pair.q2) / 2 + pair.c),
    lambda pair: -jnp.expm1(-signed_half_distance(pair)),
)
"""Dual of exp z, T = exp((q1 + q2)/2 + c), its own derivative dual (Daniely et al. 2016)."""


def gaussian(b: float) -> Dual:
    """Dual of exp(-b z²): T = (1 + 2b (q1 + q2) + 4b² det)^(-1/2).

    **Arguments**: `b` > 0.

    **Returns**: `Dual`.

    >>> print(gaussian(0.5)(1.0, 1.0, jnp.array([1.0, 0.0])).round(4))
    [0.5774 0.5   ]
    """

    def formula(pair, m):
        return 1 / m.sqrt(1 + 2 * b * (pair.q1 + pair.q2) + 4 * b * b * pair.det)

    def gap(pair):
        total = 1 + 2 * b * (pair.q1 + pair.q2)
        root = jnp.sqrt(1 + 4 * b * pair.q1) * jnp.sqrt(1 + 4 * b * pair.q2)
        whole = total + 4 * b * b * pair.det
        excess = 4 * b * b * (pair.det + (pair.q1 - pair.q2) ** 2 / (total + root))
        return excess / whole / (1 + jnp.sqrt(root / whole))

    return Dual(formula, gap)


def _gelu_formula(pair, m):
    p, q, c = pair.q1, pair.q2, pair.c
    complement = 1 + p + q + pair.det
    root = m.sqrt(complement)
    smooth = (c * c + p * q * complement) / ((1 + p) * (1 + q) * root)
    return c / 4 + (smooth + c * m.atan(c / root)) / (2 * m.pi)


def _gelu_gap(pair):
    # T at c = norm minus T at c, then what two lengths of parallel inputs add.
    p, q, c, norm, det = pair.q1, pair.q2, pair.c, pair.norm, pair.det
    sides, edge = (1 + p) * (1 + q), jnp.sqrt(1 + p + q)
    root = jnp.sqrt(1 + p + q + det)
    turned = det * sides / ((norm * root + c * edge) * edge * root)
    angle = jnp.atan(turned / (1 + norm / edge * c / root))
    smooth = p * q * (2 + p + q) * det / (edge * root * (edge + root)) - det * (p * q - 1) / root
    lost = norm * pair.gap
    lost = lost / 4 + (smooth / sides + lost * jnp.atan(norm / edge) + c * angle) / (2 * jnp.pi)
    parallel = pair._replace(c=norm, det=jnp.zeros_like(det))
    whole1, whole2 = (_gelu_formula(same(q), jnp) for q in (p, q))
    radial = safe_sqrt(whole1) * safe_sqrt(whole2) - _gelu_formula(parallel, jnp)
    # For equal variances `radial` is zero but for rounding, which would set the inputs apart.
    near = lost + jnp.where(p == q, 0, radial)
    far = safe_sqrt(whole1) * safe_sqrt(whole2) - jnp.abs(_gelu_formula(pair, jnp))
    scale = safe_sqrt(whole1) * safe_sqrt(whole2)
    return jnp.where(pair.cosine > 0.5, near, far) / jnp.where(scale > 0, scale, 1)


gelu = Dual(_gelu_formula, _gelu_gap)
"""Dual of the exact GELU, z (1 + erf(z/√2))/2 (Tsuchida et al. 2020)."""


def polynomial(coefficients: Sequence[float] | Num[np.ndarray, "degree"]) -> Dual:
    """Dual of the polynomial Σ a_m z^m: T = Σ_k B_k(q1) B_k(q2) c^k / k!.

    B_k(q) = E[φ^(k)(sqrt(q) g)]: Mehler's formula, written without a division.

    **Arguments**: `coefficients` a_m, ascending: a monomial is (0, …, 0, 1).

    **Returns**: `Dual`.

    >>> print(polynomial((0, 0, 1))(1.0, 1.0, jnp.array([1.0, 0.0])))    # E[u² v²]
    [3. 1.]
    """
    degree = len(coefficients) - 1
    odd, even = not any(coefficients[::2]), not any(coefficients[1::2])

    def derivative_mean(k, q):
        terms = [0] * ((degree - k) // 2 + 1)
        for j in range(len(terms)):
            moment = math.prod(range(1, 2 * j, 2))
            terms[j] = coefficients[k + 2 * j] * math.perm(k + 2 * j, k) * moment
        return horner(terms, q)

    def formula(pair, m):
        total = 0 * pair.c
        for k in range(degree, -1, -1):
            weight = derivative_mean(k, pair.q1) * derivative_mean(k, pair.q2)
            total = total + weight * pair.c**k / math.factorial(k)
        return total

    def gap(pair):
        # Half the mean squared distance, order by order; 1 - ρ^k = -expm1(k log1p(-gap)).
        near, distance = pair.gap, 0 * pair.c
        for k in range(degree + 1):
            part1, part2 = (derivative_mean(k, q) * safe_sqrt(q) ** k for q in pair[:2])
            # No further than 0.9, where `direct` is taken: log1p(-1) would be infinite.
            turned = -jnp.expm1(k * jnp.log1p(-jnp.minimum(near, 0.9)))
            distance += ((part1 - part2) ** 2 / 2 + part1 * part2 * turned) / math.factorial(k)
        diagonals = [formula(same(q), jnp) for q in pair[:2]]
        norm = safe_sqrt(diagonals[0]) * safe_sqrt(diagonals[1])
        value = formula(pair, jnp)
        direct = 1 - jnp.abs(value) / jnp.where(norm > 0, norm, 1)
        alike = (jnp.where(pair.cosine < 0, -value, value) if odd else value) > 0
        close = (near < 0.5) & alike & (odd | even | (pair.cosine > 0))
        return jnp.where(close, relative_gap(distance, *diagonals), direct)

    return Dual(formula, gap)
