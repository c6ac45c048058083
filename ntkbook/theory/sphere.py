"""Exact eigenvalues of rotation-invariant kernels on the sphere, and how many share each one."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from itertools import accumulate

import jax.numpy as jnp
import numpy as np
from scipy.special import gammaln

from ntkbook._base.arguments import (
    as_floating,
    described,
    is_traced,
    require_count,
    require_finite,
    require_number,
    require_shape,
)
from ntkbook._base.arrays import matmul
from ntkbook._base.types import Array, ArrayLike, Float, Num

# Of the rule in the angle: nodes to a panel, least number of equal panels, and how often the
# outer ones are divided by four towards their end, where a kernel may be singular.
_NODES, _PANELS, _LEVELS = 24, 24, 16


def sphere_eigenvalues(
    kappa: Callable[[Float[Array, "m"]], ArrayLike], d: int, k_max: int
) -> Float[Array, "modes"]:
    """Eigenvalues of a kernel on the sphere in R^d that depends on the angle between inputs only.

    The k-th, with respect to the uniform probability measure, is the mean of κ(a) P_k(cos a) over
    the angle a to a fixed point, P_k the Gegenbauer polynomial with P_k(1) = 1; its eigenfunctions
    are the spherical harmonics of degree k, as many as `multiplicities` says; on the circle, d = 2,
    the cosine and the sine.

    Gauss-Legendre quadrature in a, on panels that shrink towards both ends: there κ may behave
    like any power of a, between it must be smooth.  Nothing is lost but the rounding of κ, an
    absolute error of some ε max|κ|/(30 √multiplicity): in float64 and up to k = 100 it is 1e-10 or
    less of the eigenvalue for the tangent kernel of a ReLU network in up to 5 dimensions, and 1e-7
    for its NNGP kernel.  (Where NumPy's long double is no longer than a double, and within `jit`
    and `grad`, it is larger, by k/3 or so.)  Eigenvalues smaller than the error are rounding.
    Those of a smooth kernel with a known power series have all their digits in
    `series_eigenvalues`.

    **Arguments**: `kappa`, a function from angles (m,) in (0, π) to kernel values (m,); `d` ≥ 2;
    `k_max` ≥ 0.

    **Returns**: eigenvalues (k_max + 1,).

    **Raises**: TypeError or ValueError for other arguments, and for values of κ that are not
    finite.

    **Source**: the theorem of Funk and Hecke.

    >>> import jax.numpy as jnp
    >>> print(sphere_eigenvalues(lambda angle: jnp.cos(angle), d=3, k_max=2).round(4) + 0.0)
    [0.     0.3333 0.    ]
    """
    d, k_max = require_count("d", d, minimum=2), require_count("k_max", k_max, minimum=0)
    if not callable(kappa):
        raise TypeError(f"kappa must be a function of angles, got {described(kappa)}")
    u, weights, angles = _rule(d, k_max)
    values = as_floating("kappa(angles)", kappa(jnp.asarray(angles)))
    require_finite("kappa(angles)", require_shape("kappa(angles)", values, angles.shape))
    polynomials = _gegenbauer(u, d, k_max)
    if is_traced(values):  # no long doubles in JAX: one matrix, and its rounding
        table = jnp.asarray(np.array([p * weights for p in polynomials]), values.dtype)
        near, far = jnp.split(values, 2)
        parity = (-1) ** jnp.arange(k_max + 1)
        return matmul(table, near) + parity * matmul(table, far)
    near, far = weights * np.split(np.asarray(values), 2)
    sides = near + far, near - far
    found = [float(np.sum(p * sides[k % 2])) for k, p in enumerate(polynomials)]
    return jnp.asarray(found, values.dtype)


def _gegenbauer(u, d, k_max):
    """P_k(1 - u), k = 0 … k_max, one after the other."""
    here, rise = np.ones_like(u), np.zeros_like(u)
    for k in range(k_max + 1):
        yield here
        # The recurrence for the difference of two: that of the polynomials themselves loses k²
        # units of rounding near u = 0.
        rise = (k * rise - (2 * k + d - 2) * u * here) / (k + d - 2) if k else -u
        here = here + rise


@lru_cache(maxsize=32)
def _rule(d, k_max):
    """Nodes 1 - cos a for a < π/2, weights for the mean over the sphere, and the angles a, π - a.

    A node that is off by ε moves the phase of P_k by k ε: nodes and weights are long doubles.
    """
    t = np.polynomial.legendre.leggauss(_NODES)[0].astype(np.longdouble)
    for _ in range(2):  # Newton's step from a double, and the weights at its end
        basis = np.polynomial.legendre.legvander(t, _NODES)
        before, last = basis[:, -2:].T
        t = t - last * (1 - t * t) / (_NODES * (before - t * last))
    w = 1 / (basis[:, :-1] ** 2 @ (np.arange(_NODES) + 0.5))
    # A panel holds some 3 periods of P_k at most, and at most 4 widths of the peak of sin^(d-2).
    equal = max(_PANELS, math.ceil(k_max / 12), math.ceil(math.sqrt(d)))
    inner = np.arange(1, equal + 1) * (2 * np.arctan(np.longdouble(1)) / equal)
    edges = np.concatenate([[0], inner[0] / 4.0 ** np.arange(_LEVELS, 0, -1), inner])
    halves, centres = np.diff(edges)[:, None] / 2, (edges[1:] + edges[:-1])[:, None] / 2
    a = (centres + halves * t).ravel()
    w = (halves * w).ravel() * np.sin(a) ** (d - 2)
    angles = np.concatenate([a, 2 * edges[-1] - a]).astype(float)
    return 2 * np.sin(a / 2) ** 2, w / (2 * w.sum()), angles


def series_eigenvalues(
    coefficients: Num[ArrayLike, "terms"], d: int, k_max: int
) -> Float[Array, "modes"]:
    """Eigenvalues on the sphere in R^d of the kernel Σ_p a_p cosᵖ(angle).

    The p-th power has p! Γ(d/2)/(2ᵖ ((p-k)/2)! Γ((p+k+d)/2)) as its k-th eigenvalue, for k ≤ p
    of the parity of p.  All of these are positive: where the a_p are, nothing cancels, and
    eigenvalues of any smallness are exact to 1e-12 or so of themselves, if the series is long
    enough.

    **Arguments**: `coefficients` a_p (terms,), from p = 0; `d` ≥ 2, 2 for the circle; `k_max` ≥ 0.

    **Returns**: eigenvalues (k_max + 1,).

    **Raises**: TypeError or ValueError for other arguments.

    >>> squared = jnp.array([0, 0, 1])
    >>> print(series_eigenvalues(squared, d=3, k_max=2).round(4))    # the mean of cos² is 1/3
    [0.3333 0.     0.1333]
    """
    d, k_max = require_count("d", d, minimum=2), require_count("k_max", k_max, minimum=0)
    a = require_finite("coefficients", as_floating("coefficients", coefficients))
    (terms,) = require_shape("coefficients", a, (None,)).shape
    p, k = np.arange(terms), np.arange(k_max + 1)[:, None]
    even = (p >= k) & ((p - k) % 2 == 0)
    half = np.where(even, p - k, 0) / 2
    logs = gammaln(p + 1) + gammaln(d / 2) - gammaln(half + 1) - gammaln((p + k + d) / 2)
    table = np.exp(np.where(even, logs - p * np.log(2), -np.inf))
    return matmul(jnp.asarray(table, a.dtype), a)


def power_eigenvalues(nu: float, d: int, k_max: int) -> Float[Array, "modes"]:
    """Eigenvalues on the sphere in R^d of the kernel (1 - cos(angle))^ν.

    They are C Γ(k-ν)/Γ(k+ν+d-1) with C = 2^ν Γ(ν+(d-1)/2) Γ(d-1)/(Γ(-ν) Γ((d-1)/2)), of order
    k^(1-d-2ν).  Of a kernel that is smooth but for a term c (1 - cos)^ν at angle zero and
    c' (1 + cos)^ν at π, they are, times c + (-1)^k c', the eigenvalues at large k.

    **Arguments**: `nu` > -(d-1)/2, whole numbers included, for which they end; `d` ≥ 2;
    `k_max` ≥ 0.

    **Returns**: eigenvalues (k_max + 1,).

    **Raises**: TypeError or ValueError for other arguments.

    **Source**: Bietti & Bach 2021, theorem 1, for the order; the constant from Rodrigues' formula.

    >>> print(power_eigenvalues(0.5, d=3, k_max=3).round(4))
    [ 0.9428 -0.1886 -0.0269 -0.009 ]
    """
    d, k_max = require_count("d", d, minimum=2), require_count("k_max", k_max, minimum=0)
    if not require_number("nu", nu) > -(d - 1) / 2:
        raise ValueError(f"nu must exceed -(d - 1)/2 = {-(d - 1) / 2:g}, got {nu}")
    first = nu * np.log(2) + gammaln(nu + (d - 1) / 2) + gammaln(d - 1)
    first -= gammaln((d - 1) / 2) + gammaln(nu + d - 1)
    k = np.arange(k_max)
    return jnp.asarray(np.exp(first) * np.cumprod(np.append(1, (k - nu) / (k + nu + d - 1))))


def multiplicities(d: int, k_max: int) -> Float[Array, "modes"]:
    """How many spherical harmonics of each degree k = 0 … k_max there are in R^d.

    **Arguments**: `d` ≥ 2; `k_max` ≥ 0.

    **Returns**: the numbers (k_max + 1,), as floats of JAX's default type, whole and exact below
    2^53, in float32 below 2^24.

    **Raises**: TypeError or ValueError for other arguments, and for numbers beyond the range of
    that type.

    >>> print(multiplicities(3, 4))
    [1. 3. 5. 7. 9.]
    """
    numbers, dtype = _harmonics(d, k_max), jnp.result_type(float)
    if numbers.max() > float(jnp.finfo(dtype).max):
        raise ValueError(
            f"there are more harmonics of degree k_max = {k_max} for d = {d} than {dtype} "
            "can hold: ntk.setup() turns on float64"
        )
    return jnp.asarray(numbers, dtype)


def _harmonics(d: int, k_max: int) -> np.ndarray:
    """`multiplicities` in float64 whatever JAX's setting."""
    d, k_max = require_count("d", d, minimum=2), require_count("k_max", k_max, minimum=0)
    # All homogeneous polynomials of degree k, less |x|² times those of degree k - 2.
    all_of = list(accumulate(range(1, k_max + 1), lambda n, k: n * (k + d - 1) // k, initial=1))
    try:
        return np.array([float(n - m) for n, m in zip(all_of, [0, 0, *all_of], strict=False)])
    except OverflowError:
        message = f"there are more than 1e308 harmonics of degree k_max = {k_max} for d = {d}"
        raise ValueError(message) from None


def index_spectrum(
    eigenvalues: Num[ArrayLike, "modes"], d: int, count: int
) -> Float[Array, "count"]:
    """The largest eigenvalues on the sphere in R^d, falling, each as often as it occurs.

    A sum over functions, as in learning curves, runs over this list.  Its power law is another:
    μ_k of order k^-p belongs to some k^(d-2) harmonics, and the i-th is of order i^(-p/(d-1)).

    **Arguments**: `eigenvalues` (k_max + 1,) of the degrees 0 … k_max; `d` ≥ 2; `count` ≥ 1, which
    should stop short of the eigenvalues of the degrees beyond k_max.

    **Returns**: eigenvalues (count,).

    **Raises**: TypeError or ValueError for other arguments, and if there are fewer than `count`.

    >>> print(index_spectrum(jnp.array([1.0, 0.25, 0.1]), d=3, count=6))
    [1.   0.25 0.25 0.25 0.1  0.1 ]
    """
    values = require_finite("eigenvalues", as_floating("eigenvalues", eigenvalues))
    (modes,) = require_shape("eigenvalues", values, (None,)).shape
    count = require_count("count", count)
    numbers = np.minimum(_harmonics(d, modes - 1), count).astype(int)
    if numbers.sum() < count:
        raise ValueError(
            f"count must be at most {numbers.sum()}, the number of harmonics of degree up to "
            f"{modes - 1}, got {count}"
        )
    order = np.argsort(-np.asarray(values), kind="stable")
    ends = np.cumsum(numbers[order])
    return values[order][np.searchsorted(ends, np.arange(count), side="right")]
