"""Expectations of Gaussian pairs by Hermite series, with a bound on what a series leaves out.

With a_k(q) = E[f(sqrt(q) x) h_k(x)], x standard normal and h_k the normalised Hermite polynomials,
Mehler's formula is E[f(u) g(v)] = Σ_k a_k(q1) b_k(q2) ρ^k.  The coefficients cost one integral in
one dimension per input, and the sum a few operations per pair.  By Cauchy and Schwarz the terms
after degree m are at most |ρ|^(m+1) sqrt(A B), where A = E[f(u)²] - Σ_{k≤m} a_k² and B alike are
known for each input: so the computation itself finds the degree that suffices, and the pairs for
which none does, nearly parallel ones of large variance.  Those are integrated over the plane.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from ntkbook._base.types import Array, Float
from ntkbook.gaussian.pairs import safe_sqrt
from ntkbook.gaussian.polar import line, plane_integral

Function: TypeAlias = Callable[[Array], Array]

# The degree after which a series is given up.  Where the inputs are parallel, tanh needs some 100
# per unit of variance, elsewhere fewer.
DEGREE = 512

# Degrees computed at a time, half of them even.
_BLOCK = 32

# Orders that are added to a sum in one pass over its memory.
_UNROLLED = 8

# Units of rounding, relative to the roots of E[f²] and E[g²], that a series may leave out.
_UNITS = 64

# Times that a pair costs as much in the plane as in one block of the series: a few pairs of a large
# matrix go there, so that not all the others are summed to the degree that these few need.
_DEAR = 4000

# Pairs that are integrated over the plane at a time.
_CHUNK = 64

# Pairs that share no inputs are taken so many at a time, for the memory of their coefficients.
_TURN = 512


class Parts(NamedTuple):
    """A function at the nodes x > 0 of a normal variable, times the roots of their weights.

    **Fields**: its `even` and its `odd` part, nodes on the last axis.
    """

    even: Float[Array, "*n nodes"]
    odd: Float[Array, "*n nodes"]

    def square(self) -> Float[Array, "*n"]:
        """E[f(z)²]."""
        return (self.even**2).sum(-1) + (self.odd**2).sum(-1)


def parts(f: Function, q: Float[Array, "*n"], check: bool = False) -> Parts:
    """The `Parts` of f(sqrt(q) x); with `check` at other nodes, which reach further."""
    x, weights = line(check)
    z = safe_sqrt(q)[..., None] * jnp.asarray(x, q.dtype)
    sides = jnp.stack([z, -z])
    plus, minus = jnp.broadcast_to(f(sides), sides.shape).astype(q.dtype)
    even, odd = (plus + minus) / 2, (plus - minus) / 2
    # Rounding would give an odd function an even part, and the reverse.
    rounding = 8 * jnp.finfo(q.dtype).eps
    sizes = jnp.abs(even).max(), jnp.abs(odd).max()
    even = jnp.where(sizes[0] < rounding * sizes[1], 0, even)
    odd = jnp.where(sizes[1] < rounding * sizes[0], 0, odd)
    root = jnp.asarray(np.sqrt(2 * weights), q.dtype)
    return Parts(even * root, odd * root)


def mean(f: Function, q: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """E[f(z)] for the variance q."""
    _, weights = line()
    return parts(f, q).even @ jnp.asarray(np.sqrt(2 * weights), q.dtype)


def self_mean(f: Function, g: Function, q: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """E[f(z) g(z)] for the variance q."""
    nodes = parts(f, q)
    other = nodes if f is g else parts(g, q)
    return _dot(nodes.even, other.even) + _dot(nodes.odd, other.odd)


def pair_mean(
    f: Function,
    g: Function,
    q1: Float[Array, "*#n"],
    q2: Float[Array, "*#n"],
    cosine: Float[Array, "*#n"],
    gap: Float[Array, "*#n"],
    degree: int = DEGREE,
) -> Float[Array, "*n"]:
    """E[f(u) g(v)] for the variances q1 and q2 at the angle of this cosine and gap."""
    return _in_turns(partial(_pair_mean, f, g, degree), q1, q2, cosine, gap)


def half_distance(
    f: Function,
    slope: Function,
    q1: Float[Array, "*#n"],
    q2: Float[Array, "*#n"],
    cosine: Float[Array, "*#n"],
    gap: Float[Array, "*#n"],
    degree: int = DEGREE,
) -> Float[Array, "*n"]:
    """(E[f(u)²] + E[f(v)²])/2 - |E[f(u) f(v)]|, without cancellation where that is small.

    `slope` is the derivative of f.
    """
    return _in_turns(partial(_half_distance, f, slope, degree), q1, q2, cosine, gap)


def _in_turns(function, *pair):
    """`function` of the four arrays of a pair, in turns if there are many that share no inputs."""
    shape = np.broadcast_shapes(*map(jnp.shape, pair))
    size = math.prod(shape)
    if size <= _TURN or max(pair[0].size, pair[1].size) < size:
        return function(*pair)
    turns = -(-size // _TURN)
    flat = (jnp.broadcast_to(array, shape).ravel() for array in pair)
    padded = [jnp.pad(array, (0, turns * _TURN - size), mode="edge") for array in flat]
    rows = jax.lax.map(lambda row: function(*row), [a.reshape(turns, _TURN) for a in padded])
    return rows.ravel()[:size].reshape(shape)


class Tails(NamedTuple):
    """Logarithms of the shares of E[f²] and of q E[f'²] that the orders summed leave out."""

    value: Float[Array, "*n"]
    steepness: Float[Array, "*n"] | None


class Series(NamedTuple):
    """Coefficients at both ends of a pair, (blocks, parity, orders, *n), as far as computed.

    **Fields**: `a` and `b`; the number of `blocks` computed; the sums of squares and of k times
    squares of each, `done1` and `done2`; the last two `rows` of the recurrence.
    """

    a: Array
    b: Array
    blocks: Array
    done1: tuple[Array, Array]
    done2: tuple[Array, Array]
    rows: tuple[Array, Array]


def _pair_mean(f, g, degree, q1, q2, cosine, gap):
    nodes1, nodes2 = parts(f, q1), parts(g, q2)
    turn = _sign(cosine)
    # An input with itself or with its negative is an integral in one dimension.
    alike = (gap == 0) & (q1 == q2)
    other = nodes1 if f is g else parts(g, q1)
    single = _dot(nodes1.even, other.even) + turn * _dot(nodes1.odd, other.odd)

    def enough(terms, tails1, tails2):
        return alike | _bounded(terms, tails1, tails2, gap)

    series, done = _series(nodes1, nodes2, enough, degree)
    even, odd = _sums(series, gap, distances=False).value
    value = jnp.where(alike, single, even + turn * (1 - gap) * odd)
    return _open_pairs(lambda u, v, sign: f(u) * g(v), q1, q2, cosine, gap, turn, value, done)


def _half_distance(f, slope, degree, q1, q2, cosine, gap):
    nodes1, nodes2 = parts(f, q1), parts(f, q2)
    steepness = tuple(q * parts(slope, q).square() for q in (q1, q2))
    turn = _sign(cosine)
    alike = (gap == 0) & (q1 == q2)

    def sharp(tails1, tails2):
        # As 1 - r^k <= k (1 - r), what the sum of c_k (1 - r^k) leaves out is small beside it if
        # the tail of Σ k a_k² = q E[f'²] is.
        return ~(tails1.steepness + tails2.steepness > 2 * _log_tolerance(gap.dtype))

    def enough(terms, tails1, tails2):
        wide = ~(gap <= 0.05) & _bounded(terms, tails1, tails2, gap)
        return alike | wide | sharp(tails1, tails2)

    series, done = _series(nodes1, nodes2, enough, degree, steepness)
    sums = _sums(series, gap, distances=True)
    even, odd = (Sums(*(part[parity] for part in sums)) for parity in (0, 1))
    squares = _dot(nodes1.even, nodes1.even), _dot(nodes1.odd, nodes1.odd)
    single = squares[0] + turn * squares[1]
    value = jnp.where(alike, single, even.value + turn * (1 - gap) * odd.value)
    sign = _sign(value)
    plain = (nodes1.square() + nodes2.square()) / 2 - jnp.abs(value)

    # With r = |ρ|, the orders that keep the sign at this angle give (a - b)²/2 + c (1 - r^k),
    # the others (a - b)²/2 + c (1 + r^k).
    square = gap * (2 - gap)
    kept = square * even.turned, gap * odd.total + (1 - gap) * square * odd.turned
    turned = even.total + even.value, odd.total + (1 - gap) * odd.value
    summed = even.apart + odd.apart
    summed += jnp.where(sign > 0, kept[0], turned[0])
    summed += jnp.where(sign * turn > 0, kept[1], turned[1])

    tails = _tails(series, nodes1, nodes2, steepness)
    distance = jnp.where(sharp(*tails), summed, plain)
    opposite = 2 * jnp.where(sign > 0, squares[1], squares[0])
    distance = jnp.where(alike, jnp.where(turn > 0, 0, opposite), distance)

    def integrand(u, v, sign):
        return (f(u) - sign * f(v)) ** 2 / 2

    return _open_pairs(integrand, q1, q2, cosine, gap, sign, distance, done)


def _series(nodes1, nodes2, enough, degree, steepness=None):
    """The `Series` to the degree that suffices, or the last, and the pairs for which it does."""
    dtype = nodes1.even.dtype
    last = degree // _BLOCK + 1
    nodes, weights = line()
    x, root = jnp.asarray(nodes, dtype), jnp.asarray(np.sqrt(2 * weights), dtype)

    def step(rows, k):
        # Normalised Hermite polynomials times the roots of the weights, so that none overflows.
        before, here = rows
        after = (x * here - jnp.sqrt(k) * before) / jnp.sqrt(k + 1)
        return (here, after), here

    def nothing(parts):
        shape = parts.even.shape[:-1]
        zero = jnp.zeros(shape, dtype)
        return jnp.zeros((last, 2, _BLOCK // 2, *shape), dtype), (zero, zero)

    def extend(parts, filled, done, block, orders, basis):
        new = jnp.stack([_project(basis[p::2], part) for p, part in enumerate(parts)])
        squares = new**2
        weighted = jnp.tensordot(orders.reshape(-1, 2).T, squares, axes=((0, 1), (0, 1)))
        return filled.at[block].set(new), (done[0] + squares.sum((0, 1)), done[1] + weighted)

    def add(series):
        block = series.blocks
        orders = (block * _BLOCK + jnp.arange(_BLOCK)).astype(dtype)
        rows, basis = jax.lax.scan(step, series.rows, orders)
        a, done1 = extend(nodes1, series.a, series.done1, block, orders, basis)
        b, done2 = extend(nodes2, series.b, series.done2, block, orders, basis)
        return Series(a, b, block + 1, done1, done2, rows)

    def finished(series):
        tails = _tails(series, nodes1, nodes2, steepness)
        return enough(series.blocks * _BLOCK, *tails)

    def unfinished(series):
        done = finished(series)
        few = jnp.count_nonzero(~done) * (_DEAR / done.size) < 1
        return (series.blocks < last) & ~few

    (a, none1), (b, none2) = nothing(nodes1), nothing(nodes2)
    start = Series(a, b, jnp.array(0), none1, none2, (jnp.zeros_like(root), root))
    series = jax.lax.while_loop(unfinished, add, start)
    return series, finished(series)


def _tails(series, nodes1, nodes2, steepness):
    """The `Tails` at both ends."""

    def share(whole, done):
        # Where rounding or a jump makes the sum the larger one, the difference is doubt as well.
        scale = jnp.maximum(whole, done)
        # Nor does a difference tell of less than its rounding: the other end may need more.
        left = jnp.abs(whole - done) / jnp.where(scale > 0, scale, 1)
        return jnp.log(jnp.where(scale > 0, jnp.maximum(left, 4 * jnp.finfo(scale.dtype).eps), 0))

    wholes = (nodes1.square(), nodes2.square()), steepness or (None, None)
    ends = zip(*wholes, (series.done1, series.done2), strict=True)
    return [
        Tails(share(value, done[0]), None if steep is None else share(steep, done[1]))
        for value, steep, done in ends
    ]


class Sums(NamedTuple):
    """Sums over the orders 2j + parity: c r^(2j), c, c (1 - r^(2j))/(1 - r²) and (a - b)²/2.

    c is a b, and r is |ρ|; the first axis is the parity.
    """

    value: Array
    total: Array
    turned: Array
    apart: Array


def _sums(series, gap, distances):
    """The `Sums`, by Horner's scheme; without `distances` only the first of them."""
    square = (1 - gap) ** 2
    shape = np.broadcast_shapes(series.a.shape[3:], series.b.shape[3:], gap.shape)
    zero = jnp.zeros(shape, gap.dtype)

    def one_parity(ends):
        def add(sums, orders):
            left, right = orders
            value, total, turned, apart = sums
            product = left * right
            if distances:
                turned, apart = turned * square + total, apart + (left - right) ** 2 / 2
                total = total + product
            return Sums(value * square + product, total, turned, apart), None

        def add_block(turn, sums):
            block = series.blocks - 1 - turn
            orders = ends[0][block], ends[1][block]
            return jax.lax.scan(add, sums, orders, reverse=True, unroll=_UNROLLED)[0]

        present = jnp.any(ends[0] != 0) | jnp.any(ends[1] != 0)
        return jax.lax.fori_loop(
            0, jnp.where(present, series.blocks, 0), add_block, Sums(*(zero,) * 4)
        )

    return jax.lax.map(one_parity, (series.a.swapaxes(0, 1), series.b.swapaxes(0, 1)))


def _open_pairs(integrand, q1, q2, cosine, gap, sign, found, done):
    """`found` where `done`, elsewhere E[integrand(u, v, sign)] over the plane."""
    shape = np.broadcast_shapes(found.shape, done.shape)
    size = math.prod(shape)
    acute = jnp.atan2(safe_sqrt(gap * (2 - gap)), 1 - gap)
    theta = jnp.where(cosine < 0, jnp.pi - acute, acute)
    flat = [jnp.broadcast_to(array, shape).ravel() for array in (q1, q2, theta, sign)]
    chunk = min(_CHUNK, size)

    def integrate(state):
        found, done = state
        places = jnp.nonzero(~done, size=chunk, fill_value=size)[0]
        q1, q2, theta, sign = (array.at[places].get(mode="clip") for array in flat)
        values = plane_integral(lambda u, v: integrand(u, v, sign[:, None]), q1, q2, theta)
        return found.at[places].set(values, mode="drop"), done.at[places].set(True, mode="drop")

    start = jnp.broadcast_to(found, shape).ravel(), jnp.broadcast_to(done, shape).ravel()
    found, _ = jax.lax.while_loop(lambda state: ~state[1].all(), integrate, start)
    return found.reshape(shape)


def _bounded(terms, tails1, tails2, gap):
    """Whether the bound on the orders from `terms` on is below the tolerance, or NaN."""
    log_square = 2 * jnp.log1p(-jnp.minimum(gap, 0.999))
    # Written with "not >": what is not finite is so in the plane as well, where it would take long.
    return ~(tails1.value + tails2.value + terms * log_square > 2 * _log_tolerance(gap.dtype))


def _log_tolerance(dtype):
    return math.log(_UNITS * float(jnp.finfo(dtype).eps))


def _dot(a, b):
    return (a * b).sum(-1)


def _project(basis, part):
    return jnp.tensordot(basis, part, axes=(1, -1), precision="highest")


def _sign(x):
    return jnp.where(x < 0, -1, 1).astype(x.dtype)
