"""Duals without a closed form, for any elementwise function: by Hermite series and quadrature."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero

from ntkbook._base.types import Array, ArrayLike, Float, Num
from ntkbook.gaussian.pairs import Dual, pair_from_covariance, relative_gap, safe_sqrt, same
from ntkbook.gaussian.series import DEGREE, Function, half_distance, mean, pair_mean, self_mean


def expectation(
    f: Function,
    g: Function,
    q1: Num[ArrayLike, "*#n"],
    q2: Num[ArrayLike, "*#n"],
    c: Num[ArrayLike, "*#n"],
) -> Float[Array, "*#n"]:
    """E[f(u) g(v)] by a Hermite series, and by Gauss quadrature where the series is too long.

    What a series leaves out is bounded by what its coefficients leave of E[f(u)²] and E[g(v)²]: it
    is summed until that is below 64 units of rounding, 1.4e-14 in float64, of their roots.  Where
    512 orders do not suffice, for nearly parallel pairs of variances above 5 or so and for a kink,
    the pair is integrated over the plane in polar coordinates, some 170,000 values of f and g.
    The rules are cut and refined at zero, so that a kink or a jump there costs no accuracy.

    Errors in float64 relative to the diagonals for tanh, softplus, its square, swish and |z|, any
    angle and variances from 1e-12 to 1e6, as the tests hold them: 1e-12 for the function and for
    its derivative, and 1e-14 for variances up to 2.  In float32 it is 1.5e-5.  A function that has
    kinks elsewhere, oscillates faster than cos(20 x) for a standard normal x, or grows like
    exp(x²/4) is not integrated well: `Elementwise` notices.

    Derivatives in q1, q2 and c follow from E[f'g'] by Price's theorem and from E[u f'(u) g(v)], so
    that the first ones are right at a kink as well; second ones need f'' and g''.

    **Arguments**: `f` and `g`, written in JAX; variances `q1`, `q2` ≥ 0 and the covariance `c`,
    |c| ≤ sqrt(q1 q2), arrays that broadcast.

    **Returns**: an array of the shape that q1, q2 and c broadcast to.

    >>> round(float(expectation(jnp.tanh, jnp.sin, 1.0, 1.0, 0.5)), 6)
    0.188394
    """
    q1, q2, c = jnp.broadcast_arrays(*map(jnp.asarray, (q1, q2, c)))
    return _pair_expectation(f, g, pair_from_covariance(q1, q2, c))


def quadrature(fn: Function, degree: int = DEGREE) -> Dual:
    """The `Dual` of any elementwise function, by `expectation`.

    **Arguments**: `fn`, written in JAX: continuous, and smooth but for a kink at zero; `degree`,
    the last of the Hermite series, after which a pair is integrated over the plane.

    **Returns**: `Dual`.

    >>> tanh = quadrature(jnp.tanh)
    >>> round(float(tanh(1.0, 1.0, 1.0)), 6)
    0.394294
    """
    slope = derivative(fn)

    def gap(pair):
        diagonals = [_pair_expectation(fn, fn, same(q), degree) for q in pair[:2]]
        value = _pair_expectation(fn, fn, pair, degree)
        rough = (diagonals[0] + diagonals[1]) / 2 - jnp.abs(value)
        # The squares are summed without cancellation; their derivative is that of the means, by
        # Price's theorem: value and derivative come apart by `stop_gradient`.
        held = jax.lax.stop_gradient((pair.q1, pair.q2, pair.cosine, pair.gap))
        exact = half_distance(fn, slope, *held, degree)
        return relative_gap(exact + (rough - jax.lax.stop_gradient(rough)), *diagonals)

    return Dual(
        lambda pair, m: _pair_expectation(fn, fn, pair, degree),
        gap,
        Dual(lambda pair, m: _pair_expectation(slope, slope, pair, degree)),
        lambda q: _diagonal(fn, jnp.ones_like, q),
    )


def hermite_series(fn: Function, degree: int) -> Dual:
    """The `Dual` of a smooth function from its Hermite series, cut after `degree`.

    Mehler's formula E[φ'(u) φ'(v)] = Σ_k a_k(q1) a_k(q2) ρ^k, a_k(q) = E[φ'(sqrt(q) g) h_k(g)] with
    normalised Hermite polynomials h_k, is integrated in c for E[φ(u) φ(v)].  It converges
    the faster the further |ρ| is from one and the smoother φ is on the scale sqrt(q), and is for
    the study of that: what it leaves out, nobody adds.  `quadrature` sums to the degree it needs.

    **Arguments**: `fn`, smooth and written in JAX; `degree` ≥ 1.

    **Returns**: `Dual`.

    >>> series = hermite_series(jnp.tanh, 60)
    >>> bool(abs(series(1.0, 1.0, 0.5) - quadrature(jnp.tanh)(1.0, 1.0, 0.5)) < 1e-12)
    True
    """
    slope = derivative(fn)
    points, weights = np.polynomial.legendre.leggauss(64)
    # Composite rule on [-12, 12], cut at zero for a kink there.
    points = np.concatenate([3 * (points + 1) + 6 * block for block in range(-2, 2)])
    weights = np.tile(3 * weights, 4) * np.exp(-points * points / 2) / np.sqrt(2 * np.pi)
    polynomials = [np.ones_like(points), points]
    for k in range(1, degree + 1):
        following = points * polynomials[k] - np.sqrt(k) * polynomials[k - 1]
        polynomials.append(following / np.sqrt(k + 1))

    def coefficients(function, q, number):
        scale = safe_sqrt(q)[..., None]
        values = function(scale * jnp.asarray(points, q.dtype))
        basis = np.array(polynomials[:number]) * weights
        return jnp.moveaxis(values @ jnp.asarray(basis.T, q.dtype), -1, 0)

    def products(pair):
        return coefficients(slope, pair.q1, degree) * coefficients(slope, pair.q2, degree)

    def formula(pair, m):
        mean1, mean2 = (coefficients(fn, q, 1)[0] for q in pair[:2])
        orders = jnp.arange(1, degree + 1, dtype=pair.c.dtype)
        terms = (products(pair).T / orders).T
        return mean1 * mean2 + pair.c * jnp.polyval(terms[::-1], pair.cosine)

    def rate(pair, m):
        return jnp.polyval(products(pair)[::-1], pair.cosine)

    return Dual(formula, None, Dual(rate), lambda q: coefficients(fn, q, 1)[0])


def _pair_expectation(f, g, pair, degree=DEGREE):
    if pair.q1 is pair.q2 and pair.q1 is pair.c:  # the same input, an integral in one dimension
        return _diagonal(f, g, pair.q1)
    # The angle only says how to integrate, and is held: the derivative is in c.
    angle = jax.lax.stop_gradient((pair.cosine, pair.gap))
    return _expectation(f, g, degree, pair.q1, pair.q2, pair.c, *angle)


@partial(jax.custom_jvp, nondiff_argnums=(0, 1, 2))
def _expectation(f, g, degree, q1, q2, c, cosine, gap):
    return pair_mean(f, g, q1, q2, cosine, gap, degree)


def _expectation_jvp(f, g, degree, primals, tangents):
    q1, q2, c, *_ = primals
    df, dg = derivative(f), derivative(g)
    value, slope = (_expectation(*pair, degree, *primals) for pair in ((f, g), (df, dg)))
    rates = (
        lambda: _rate(q1, c, slope, _expectation(_times(df), g, degree, *primals), df, g, q2),
        lambda: _rate(q2, c, slope, _expectation(f, _times(dg), degree, *primals), dg, f, q1),
        lambda: slope,
    )
    moved = jnp.zeros_like(value)
    for rate, tangent in zip(rates, tangents[:3], strict=True):
        if not isinstance(tangent, SymbolicZero):
            moved = moved + rate() * tangent
    return value, moved


_expectation.defjvp(_expectation_jvp, symbolic_zeros=True)


def _rate(q, c, slope, stretched, df, g, other):
    """The derivative of E[f(u) g(v)] in the variance q of u, from E[u f'(u) g(v)]."""
    # By Stein's lemma that is E[f''(u) g(v)]/2, and needs no f'', which a kink does not have.
    at_zero = derivative(df)(jnp.zeros_like(q)) * mean(g, other) / 2
    return jnp.where(q == 0, at_zero, (stretched - c * slope) / (2 * jnp.where(q == 0, 1, q)))


def _times(fn):
    return lambda z: z * fn(z)


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _diagonal(f, g, q):
    """E[f(u) g(u)] for the variance q of u."""
    return self_mean(f, g, q)


@_diagonal.defjvp
def _diagonal_jvp(f, g, primals, tangents):
    (q,), (tangent,) = primals, tangents
    df, dg = derivative(f), derivative(g)
    stretched = _diagonal(_times(df), g, q) + _diagonal(f, _times(dg), q)
    zero = jnp.zeros_like(q)
    at_zero = df(zero) * dg(zero)
    at_zero += (derivative(df)(zero) * g(zero) + f(zero) * derivative(dg)(zero)) / 2
    rate = jnp.where(q == 0, at_zero, stretched / (2 * jnp.where(q == 0, 1, q)))
    return _diagonal(f, g, q), rate * tangent


def derivative(fn: Function) -> Function:
    """The derivative of an elementwise function.

    **Arguments**: `fn`, written in JAX.

    **Returns**: a function of arrays of any shape.

    >>> derivative(jnp.sin)(jnp.zeros(2)).tolist()
    [1.0, 1.0]
    """
    return lambda z: jax.jvp(fn, (z,), (jnp.ones_like(z),))[1]
