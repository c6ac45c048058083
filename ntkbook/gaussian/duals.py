"""The catalogue of dual activations in closed form.

Each is a `Dual`: the formula E[φ(u) φ(v)] for a Gaussian pair and its slope, which Price's theorem
gives, and the accurate 1 - |ρ| of the pair after the layer (see `pairs`).  Here are those with a
kink at zero and the polynomials; the others are in `bells` and `waves`.

Largest errors against mpmath for variances from 1e-12 to 1e8, equal or not, and any angle: value
and slope relative to their diagonals, and the angle after the layer in radians; three columns
for float64, three for float32.  `tests/benchmarks/accuracy.py` measures them.

=========================  =====  =====  =====  =====  =====  =====
dual                       value  slope  angle  value  slope  angle
=========================  =====  =====  =====  =====  =====  =====
`abrelu`                   5e-16  4e-16  9e-16  3e-7   2e-7   7e-7
`rectified_power`, to 3    1e-15  8e-16  2e-15  5e-7   5e-7   9e-7
`erf`                      8e-16  4e-16  7e-14  4e-7   3e-7   3e-6
`gelu`                     9e-16  7e-16  3e-12  4e-7   3e-7   8e-6
`gaussian`                 5e-16  2e-15  8e-16  2e-7   7e-7   4e-7
`sin`                      5e-16  4e-16  2e-13  3e-7   2e-7   4e-6
`cos`                      4e-16  5e-16  8e-16  2e-7   3e-7   4e-7
`rbf`                      2e-16  3e-16  3e-16  8e-8   2e-7   2e-7
`exp`, to 20               5e-16  5e-16  7e-16  3e-7   3e-7   3e-7
`polynomial`, to degree 3  9e-16  8e-16  1e-15  6e-7   4e-7   7e-7
=========================  =====  =====  =====  =====  =====  =====

Value and slope keep their digits at all variances up to where they leave the range of the dtype.
The angle of `erf`, `gelu` and `sin` suffers where two inputs of nearly, not exactly, equal lengths
are parallel within some eps^(3/4).
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from ntkbook._base.types import Array, Float, Num
from ntkbook.gaussian.bells import erf, gaussian, gelu
from ntkbook.gaussian.pairs import (
    Dual,
    acute_angle,
    excess_angle,
    horner,
    inverse_root,
    once,
    replaced,
    safe_sqrt,
    same,
    sine,
    supplement,
    value_and_slope,
)
from ntkbook.gaussian.waves import cos, exp, rbf, sin

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


def abrelu(a: float | Float[Array, ""], b: float | Float[Array, ""]) -> Dual:
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
        if m is not jnp:
            wedge = pair.norm * sine(pair, m) + supplement(pair, m) * pair.c
            return a * b * pair.c + weight * wedge / (2 * m.pi)
        # The same in terms of the acute angle, where nothing cancels near ρ = -1.
        excess = excess_angle(*acute_angle(pair), pair.gap)
        flat = jnp.where(pair.cosine < 0, a * b, mean) * pair.c
        return flat + pair.norm * (weight / (2 * jnp.pi) * excess)

    def slope(pair, m):
        return a * b + weight / (2 * jnp.pi) * supplement(pair)

    def gap(pair):
        acute, height = acute_angle(pair)
        excess = weight * excess_angle(acute, height, pair.gap) / (2 * jnp.pi)
        near, obtuse = pair.gap, pair.cosine < 0
        # The signs of ρ before and after the layer make four cases; in each all is small together.
        apart = jnp.where(obtuse, (a + b) ** 2 / 2 - a * b * near, mean * near) - excess
        against = jnp.where(obtuse, (a - b) ** 2 / 2 + a * b * near, mean * (2 - near)) + excess
        return jnp.minimum(apart, against) / mean  # of 1 ∓ ρ the smaller one

    def average(q):
        return (b - a) / (2 * jnp.pi) ** 0.5 * safe_sqrt(q)

    return Dual(formula, gap, Dual(slope), average)


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
    peak = float(angular.sum())
    # P(1) - P(1 - g) as a polynomial in g, without the constant that would cancel.
    drop = -np.polynomial.Polynomial(angular)(np.polynomial.Polynomial([1, -1])).coef
    drop[0] = 0
    share = _share_of_angle(order)

    def formula(pair, m):
        if m is not jnp:
            wedge = horner(sinusoidal, pair.cosine) * sine(pair, m)
            sector = horner(angular, pair.cosine) * supplement(pair, m)
            return pair.norm**order * (sector + wedge) / (2 * m.pi)
        # One factor after the other: a power of norm alone may leave the range of the dtype.
        return functools.reduce(operator.mul, [pair.norm] * order, share(pair))

    def gap(pair):
        acute, height = acute_angle(pair)
        wedge = horner(sinusoidal, pair.cosine) * height / (jnp.pi * peak)
        sector = horner(angular, pair.cosine) * acute / (jnp.pi * peak)
        near = horner(drop, pair.gap) / peak + sector - wedge
        far = 1 - share(pair) * (2 / peak)
        return replaced(far, jnp.where(pair.cosine < 0, far, near))

    def average(q):
        moment = 2 ** (order / 2 - 1) * math.gamma((order + 1) / 2) / math.pi**0.5
        return moment * safe_sqrt(q) ** order

    if order == 0:
        return Dual(formula, gap, Dual(lambda pair, m: 0 * pair.c), average)
    lower = rectified_power(order - 1)
    slope = Dual(lambda pair, m: order**2 * lower.formula(pair, m))
    return Dual(formula, gap, slope, average)


def _share_of_angle(order):
    """(P(ρ) (π - θ) + R(ρ) sin θ) / 2π, whose derivative is order² times that of one order less."""
    if order == 0:
        return lambda pair: supplement(pair) / (2 * jnp.pi)
    angular, sinusoidal = _arc_cosine(order)

    @jax.custom_jvp
    def share(pair):
        sector = horner(angular, pair.cosine) * supplement(pair)
        return (sector + horner(sinusoidal, pair.cosine) * sine(pair, jnp)) / (2 * jnp.pi)

    @share.defjvp
    def rate(pairs, rates):
        # Written down, since those of the two terms would cancel where inputs are nearly parallel.
        (pair,), (turned,) = pairs, rates
        return share(pair), order**2 * _share_of_angle(order - 1)(pair) * turned.cosine

    return share


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


# Polynomials.


def polynomial(coefficients: Sequence[float] | Num[np.ndarray, "degree"]) -> Dual:
    """Dual of the polynomial Σ a_m z^m: T = Σ_k B_k(q1) B_k(q2) c^k / k!.

    B_k(q) = E[φ^(k)(sqrt(q) g)]: Mehler's formula, written without a division.

    **Arguments**: `coefficients` a_m, ascending: a monomial is (0, …, 0, 1).

    **Returns**: `Dual`.

    >>> print(polynomial((0, 0, 1))(1.0, 1.0, jnp.array([1.0, 0.0])))    # E[u² v²]
    [3. 1.]
    """
    degree = len(coefficients) - 1
    orders = [k for k in range(degree + 1) if any(coefficients[k::2])]

    def derivative_mean(k, q):
        terms = [0] * ((degree - k) // 2 + 1)
        for j in range(len(terms)):
            moment = math.prod(range(1, 2 * j, 2))
            terms[j] = coefficients[k + 2 * j] * math.perm(k + 2 * j, k) * moment
        return horner(terms, q)

    def formula(pair, m, first=0):
        # From `first` 1 on, the orders of the derivative.  One factor after the other: a product
        # of two may leave the range of the dtype.
        total = 0 * pair.c
        for k in reversed([k for k in orders if k >= first]):
            part = derivative_mean(k, pair.q1)
            total = total + part * pair.c ** (k - first) * derivative_mean(k, pair.q2) / (
                math.factorial(k - first)
            )
        return total

    def parts(q, diagonal):
        root = safe_sqrt(q)
        size = [inverse_root(diagonal) / math.factorial(k) ** 0.5 for k in orders]
        return [
            once(derivative_mean(k, q) * root**k * w) for k, w in zip(orders, size, strict=True)
        ]

    def gap(pair):
        # ρ' = Σ_k p_k(q1) p_k(q2) ρ^k, where the squares of the p_k sum to one.  For parallel
        # inputs 1 - ρ' follows from Lagrange's identity, a sum of squares; opposite ones turn the
        # signs of the odd p_k.
        first, second = (parts(q, formula(same(q), jnp)) for q in (pair.q1, pair.q2))
        sign, rho = jnp.where(pair.cosine < 0, -1, 1), 1 - pair.gap
        crossed = parallel = lost = jnp.zeros_like(pair.gap)
        turned = [0]  # 1 - ρ^k
        for _ in range(degree):
            turned.append(pair.gap + rho * turned[-1])
        for i, k in enumerate(orders):
            for p, q, j in zip(first, second, orders[:i], strict=False):
                turn = sign if (k - j) % 2 else 1
                crossed += (p * second[i] - turn * first[i] * q) ** 2
            product = first[i] * second[i] * (sign if k % 2 else 1)
            parallel += product
            lost += product * turned[k]
        negative = parallel < 0
        lost = jnp.where(negative, -lost, lost)
        return crossed / (1 + jnp.where(negative, -parallel, parallel)) + lost

    slope = Dual(lambda pair, m: formula(pair, m, 1))
    return Dual(formula, gap, slope, lambda q: derivative_mean(0, q) + 0 * q)
