"""Rules of Gauss quadrature for a Gaussian variable and for a Gaussian pair.

Their panels shrink towards zero, where an activation may have a kink or a jump, and where one of
large variance is steep: tanh(100 x) is as well integrated as tanh x.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np

from ntkbook._base.types import Array, Float
from ntkbook.gaussian.pairs import safe_sqrt


def panels(edges: Sequence[float], counts: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Legendre nodes and weights, so many between each edge and the next."""
    nodes, weights = [], []
    for lower, upper, count in zip(edges[:-1], edges[1:], counts, strict=True):
        t, w = np.polynomial.legendre.leggauss(count)
        nodes.append((upper + lower + (upper - lower) * t) / 2)
        weights.append((upper - lower) / 2 * w)
    return np.concatenate(nodes), np.concatenate(weights)


@cache
def line(check: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Nodes x > 0 and weights for the normal density on them; another such rule with `check`.

    On the outer panels they resolve Hermite polynomials up to the degree 512.
    """
    if check:
        edges, counts = [0.71, 2.7, 6.1, 9.7, 13.3, 17, 20], [44, 58, 60, 60, 60, 54]
    else:
        edges, counts = [0.5, 2, 5, 8.5, 12.5, 16.5], [36, 56, 60, 64, 64]
    x, weights = panels([0, *_falling(edges[0], 13), *edges[1:]], [16] * 13 + counts)
    return x, weights * np.exp(-x * x / 2) / np.sqrt(2 * np.pi)


def plane_integral(
    fn: Callable[[Array, Array], Array],
    q1: Float[Array, "n"],
    q2: Float[Array, "n"],
    theta: Float[Array, "n"],
) -> Float[Array, "n"]:
    """E[fn(u, v)] for the variances q1 and q2 at the angle theta, by some 170,000 values each.

    In polar coordinates u = sqrt(q1) r cos α and v = sqrt(q2) r cos(α - θ); the angles are cut
    where u or v changes sign.
    """
    scale1, scale2 = safe_sqrt(q1), safe_sqrt(q2)
    angles, (radii, radial) = jax.tree.map(lambda x: jnp.asarray(x, theta.dtype), _polar())
    # One sector where u and v have opposite signs, one where they agree; -r covers the rest.
    ends = jnp.stack([theta - jnp.pi, theta])
    halves = jnp.stack([theta, jnp.pi - theta]) / 2
    signs = jnp.array([1, -1], theta.dtype)[:, None, None, None]

    def add_angle(total: Array, node: tuple[Array, Array]) -> tuple[Array, None]:
        t, weight = node
        alpha = ends / 2 + halves * t
        # Signs, sectors, pairs, radii: one call of fn, however long its code is.
        u = signs * (scale1 * jnp.cos(alpha))[..., None] * radii
        v = signs * (scale2 * jnp.cos(alpha - theta))[..., None] * radii
        rays = (fn(u, v) * radial).sum((0, -1))
        return total + weight * (halves * rays).sum(0), None

    total, _ = jax.lax.scan(add_angle, jnp.zeros_like(scale1 * scale2 * theta), angles)
    return total / (2 * jnp.pi)


@cache
def _polar():
    """Angles on [-1, 1], and radii with their weight r exp(-r²/2), which is 1e-17 beyond 9."""
    t, w = panels([0, *_falling(1, 9)], [14] * 8 + [16])
    r, weights = panels([0, *_falling(0.5, 8), 2.5, 5.5, 9], [14] * 8 + [16, 20, 16])
    angles = np.concatenate([t - 1, 1 - t]), np.concatenate([w, w])
    return angles, (r, weights * r * np.exp(-r * r / 2))


def _falling(last, number):
    """Edges that end at `last`, each four times the one before."""
    return [last / 4.0**k for k in reversed(range(number))]
