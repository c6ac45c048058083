"""Duals in mpmath as the textbook has them, and the errors of the package beside them.

Each oracle gives E[φ(u) φ(v)] and E[φ'(u) φ'(v)] as a function of the variances and of c.
"""

import math

import jax.numpy as jnp
import mpmath as mp
import numpy as np

from ntkbook import duals
from ntkbook.gaussian.pairs import pair as gaussian_pair

DIGITS = 70  # a cosine of 1 - 1e-32 keeps more than a double's


def norm_and_cosine(q1, q2, c):
    norm = mp.sqrt(q1 * q2)
    return norm, mp.mpf(1) if norm == 0 else max(min(c / norm, mp.mpf(1)), mp.mpf(-1))


def relu_like(a, b):
    def dual(q1, q2, c):
        norm, rho = norm_and_cosine(q1, q2, c)
        theta = mp.acos(rho)
        slope = mp.mpf(a * a + b * b) / 2 - mp.mpf((a - b) ** 2) * theta / (2 * mp.pi)
        return (a - b) ** 2 * norm * mp.sin(theta) / (2 * mp.pi) + slope * c, slope

    return dual


def arc_cosine(order, q1, q2, c):
    """Half the arc-cosine kernel (Cho & Saul 2009)."""
    norm, rho = norm_and_cosine(q1, q2, c)
    sine, away = mp.sqrt((1 - rho) * (1 + rho)), mp.pi - mp.acos(rho)
    angular = (
        away,
        sine + away * rho,
        3 * sine * rho + away * (1 + 2 * rho**2),
        sine * (4 + 11 * rho**2) + away * (9 * rho + 6 * rho**3),
    )
    return norm**order * angular[order] / (2 * mp.pi)


def power(order):
    def dual(q1, q2, c):
        slope = order**2 * arc_cosine(order - 1, q1, q2, c) if order else mp.mpf(0)
        return arc_cosine(order, q1, q2, c), slope

    return dual


def erf(q1, q2, c):
    sides = (1 + 2 * q1) * (1 + 2 * q2)
    return 2 / mp.pi * mp.asin(2 * c / mp.sqrt(sides)), 4 / mp.pi / mp.sqrt(sides - 4 * c * c)


def sin(q1, q2, c):
    mean = (q1 + q2) / 2
    plus, minus = mp.exp(c - mean), mp.exp(-c - mean)
    return (plus - minus) / 2, (plus + minus) / 2


def cos(q1, q2, c):
    return sin(q1, q2, c)[::-1]


def rbf(gamma):
    def dual(q1, q2, c):
        value = mp.exp(-gamma * (q1 + q2 - 2 * c))
        return value, 2 * gamma * value

    return dual


def exp(q1, q2, c):
    return (mp.exp((q1 + q2) / 2 + c),) * 2


def gaussian(b):
    def dual(q1, q2, c):
        det = (1 + 2 * b * q1) * (1 + 2 * b * q2) - 4 * b * b * c * c
        return 1 / mp.sqrt(det), 4 * b * b * c / mp.sqrt(det) ** 3

    return dual


def gelu(p, q, c):
    sides = (1 + p) * (1 + q)
    det = sides - c * c
    root, angle = mp.sqrt(det), mp.atan(c / mp.sqrt(det))
    value = c / 4 + ((c * c + p * q * det) / (sides * root) + c * angle) / (2 * mp.pi)
    slope = angle + c / root * (1 + 1 / det + (1 - p * q) / sides)
    return value, mp.mpf(1) / 4 + slope / (2 * mp.pi)


def cubic(q1, q2, c):
    """z - z³/10: E[uv] - E[u³v + uv³]/10 + E[u³v³]/100, with the float that is next to 1/10."""
    tenth = mp.mpf(-0.1)
    value = c + 3 * tenth * c * (q1 + q2) + tenth**2 * (9 * q1 * q2 * c + 6 * c**3)
    return value, 1 + 3 * tenth * (q1 + q2) + tenth**2 * (9 * q1 * q2 + 18 * c * c)


def quadratic(q1, q2, c):
    """1 + 2z + z²/2, which is neither odd nor even."""
    return (1 + q1 / 2) * (1 + q2 / 2) + 4 * c + c * c / 2, 4 + c


CASES = {
    "relu": (duals.relu, relu_like(0, 1)),
    "leaky relu": (duals.abrelu(0.25, 1), relu_like(0.25, 1)),
    "abs": (duals.abrelu(-1, 1), relu_like(-1, 1)),
    "step": (duals.rectified_power(0), power(0)),
    "rectified power 1": (duals.rectified_power(1), power(1)),
    "rectified power 2": (duals.rectified_power(2), power(2)),
    "rectified power 3": (duals.rectified_power(3), power(3)),
    "erf": (duals.erf, erf),
    "gelu": (duals.gelu, gelu),
    "gaussian": (duals.gaussian(0.5), gaussian(mp.mpf(0.5))),
    "sin": (duals.sin, sin),
    "cos": (duals.cos, cos),
    "rbf": (duals.rbf(0.3), rbf(mp.mpf(0.3))),
    "exp": (duals.exp, exp),
    "z - z³/10": (duals.polynomial((0, 1, 0, -0.1)), cubic),
    "1 + 2z + z²/2": (duals.polynomial((1, 2, 0.5)), quadratic),
}
KINKED = ("relu", "leaky relu", "abs", "step", *(f"rectified power {n}" for n in (1, 2, 3)))


def random_pairs(low, high, dtype, number, seed=0):
    """q1, q2, cosine and gap of pairs of every kind, arrays (number,) of the dtype.

    The same input, nearly the same at all scales, opposite ones, orthogonal ones, any; of equal
    lengths, of nearly equal ones at all scales, of any.
    """
    random, eps = np.random.default_rng(seed), np.finfo(dtype).eps
    q1, other = np.exp(random.uniform(np.log(low), np.log(high), (2, number)))
    nearly = q1 * (1 + 10 ** random.uniform(np.log10(eps), -0.5, number))
    q2 = np.choose(random.integers(3, size=number), [q1, nearly, other])
    kinds = [0 * q1, 10 ** random.uniform(2 * np.log10(eps), 0, number), random.random(number)]
    kind = random.choice(4, size=number, p=[0.2, 0.4, 0.35, 0.05])
    gap = np.choose(kind, [*kinds, 0 * q1 + 1])
    sign = np.where((random.random(number) < 0.3) & (gap < 1), -1, 1)
    q1, q2, gap = (part.astype(dtype) for part in (q1, q2, gap))
    return q1, q2, (sign * (1 - gap)).astype(dtype), gap


def distance(number, exact, scale, inside):
    """|number - exact| / scale; inf where it is not finite, zero where it need not be right."""
    if not inside:
        return 0.0
    return float(abs(mp.mpf(number) - exact) / (scale or 1)) if mp.isfinite(number) else math.inf


def errors(dual, truth, q1, q2, cosine, gap):
    """Errors of value and slope, relative to their diagonals, and of the angle after the layer.

    Returns an array (3, n), inf where a number is not finite; zero where the diagonal has left
    the range of the dtype or comes near its end.
    """
    pair = gaussian_pair(*map(jnp.asarray, (q1, q2, cosine, gap)))
    value, slope = dual.value_and_slope(pair)
    _, new_gap = dual.cosine_and_gap(pair, value)
    assert value.dtype == slope.dtype == new_gap.dtype == q1.dtype
    limits = np.finfo(q1.dtype)
    smallest, largest = float(limits.tiny / limits.eps), float(limits.max)
    columns = [np.asarray(part, float) for part in (q1, q2, cosine, gap, value, slope, new_gap)]
    rows = []
    with mp.workdps(DIGITS + int(4 * max(abs(np.log10(q1)).max(), abs(np.log10(q2)).max()))):
        for a, b, rho, g, *got in zip(*columns, strict=True):
            a, b, c = mp.mpf(a), mp.mpf(b), (1 - mp.mpf(g)) * mp.sqrt(mp.mpf(a) * mp.mpf(b))
            exact = truth(a, b, -c if rho < 0 else c)
            first, second = truth(a, a, a), truth(b, b, b)
            norms = [mp.sqrt(x * y) for x, y in zip(first, second, strict=True)]
            inside = [
                all(smallest < x < largest for x in (*ends, norm))
                for *ends, norm in zip(first, second, norms, strict=True)
            ]
            left = mp.sqrt(2 * max(1 - abs(exact[0]) / norms[0], 0)) if norms[0] else 0
            got[2] = mp.sqrt(2 * mp.mpf(got[2])) if np.isfinite(got[2]) else got[2]
            targets = zip(got, (*exact, left), (*norms, 1), [*inside, inside[0]], strict=True)
            rows.append([distance(*target) for target in targets])
    return np.array(rows).T
