"""Gaussian pairs, and what an elementwise nonlinearity does to them.

For a centred Gaussian pair (u, v) with variances q1, q2 and covariance c, the dual of φ is

    T(q1, q2, c) = E[φ(u) φ(v)],

and by Price's theorem its slope in c is E[φ'(u) φ'(v)], the factor by which the layer passes
the tangent kernel on.  One formula per activation is therefore enough.  With `sympy`
(`Dual.expression`) it is the expression that the book proves; with `jnp` it computes, in a form
that is as accurate for variances of 1e-30 or 1e30.

A recursion through many layers needs more than c.  Where two inputs are nearly parallel, q - c
keeps only the rounding of both, so a `Pair` also carries the cosine ρ = c/sqrt(q1 q2) together
with 1 - |ρ|, and a dual gives 1 - |ρ| of the next layer by a formula of its own (`gap`), in
which nothing cancels.  The closed forms are in `duals`, any other activation in `quadrature`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import ModuleType
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import sympy as sp

from ntkbook._base.types import Array, ArrayLike, Float, Num

Arrays: TypeAlias = Float[Array, "*#n"]
Values: TypeAlias = Arrays | sp.Expr  # a formula is written once, for jnp and for sympy


class Pair(NamedTuple):
    """Two centred Gaussians: variances, covariance, and their angle θ in well-kept form.

    **Fields**: the variances `q1`, `q2` and the covariance `c`; `norm`, which is sqrt(q1 q2);
    `cosine`, c/norm; `gap`, 1 - |cosine|; `det`, the determinant q1 q2 sin² θ; the last two without
    cancellation.  Where norm is zero there is no angle: the cosine is one, the gap zero, and their
    derivatives are those of c and of -c.  Arrays of any shapes that broadcast, or expressions of
    sympy.  In floating point `det` ends where the square of a variance leaves the range of the
    dtype; `scaled_det` does not.
    """

    q1: Values
    q2: Values
    c: Values
    norm: Values
    cosine: Values
    gap: Values
    det: Values

    @property
    def sine2(self) -> Values:
        """sin² θ, from the gap: 1 - cosine² would cancel where the inputs are parallel."""
        return self.gap * (2 - self.gap)


def pair(q1: Arrays, q2: Arrays, cosine: Arrays, gap: Arrays) -> Pair:
    """The `Pair` with variances q1 and q2 at the angle of this cosine and gap, as `Pair` has it."""
    q1, q2 = in_range(q1), in_range(q2)
    norm = once(safe_sqrt(q1)) * once(safe_sqrt(q2))
    c = covariance(norm, cosine)
    return Pair(q1, q2, c, norm, cosine, gap, q1 * q2 * (gap * (2 - gap)))


def covariance(norm: Arrays, cosine: Arrays) -> Arrays:
    """norm · cosine, with its derivatives also where an input is zero."""
    return norm * cosine + rest(norm, cosine)


def rest(
    norm: Arrays, cosine: Arrays, linear: Callable[[Arrays], Arrays] = lambda carried: carried
) -> Arrays:
    """Zero, with the derivatives that norm · cosine leaves out of the covariance.

    That is where an input is zero: the cosine carries them there.  `linear` is what is done to the
    covariance: of zeros nobody needs it.
    """
    carried = linear(jnp.where(norm == 0, cosine, 0))
    return replaced(carried, jnp.zeros_like(carried))


def in_range(q: Arrays) -> Arrays:
    """A variance, NaN where it is infinite: so that no bounded function makes a number of it."""
    return q + 0 * q


def pair_from_covariance(q1: Arrays, q2: Arrays, c: Arrays) -> Pair:
    """The `Pair` of a covariance in floating point, whose angle is known up to rounding.

    Rounding alone would set parallel inputs some 1e-8 apart, so that inputs whose cosine is ±1
    within eight units of rounding count as parallel.
    """
    q1, q2 = in_range(q1), in_range(q2)
    norm = safe_sqrt(q1) * safe_sqrt(q2)
    # Divisor one where there is no angle: 0/0 would put a NaN in its derivative.
    dead = norm == 0
    cosine = c / jnp.where(dead, 1, norm)
    gap = jnp.where(dead, -c, jnp.where(c < 0, 1 + cosine, 1 - cosine))
    parallel = gap <= 8 * jnp.finfo(gap.dtype).eps
    # Only the numbers are replaced: the derivatives are those of the angle.
    cosine = replaced(cosine, jnp.where(parallel, jnp.where(c < 0, -1, 1), cosine))
    gap = replaced(gap, jnp.where(parallel, 0, gap))
    return Pair(q1, q2, c, norm, cosine, gap, q1 * q2 * (gap * (2 - gap)))


def same(q: Arrays) -> Pair:
    """The `Pair` of an input of variance q with itself."""
    q = in_range(q)
    zero = 0 * q  # NaN for NaN, also to an activation that knows the angle only
    return Pair(q, q, q, q, 1 + zero, zero, zero)


@dataclass(frozen=True)
class Dual:
    """The dual of one activation.  Called with q1, q2, c it gives E[φ(u) φ(v)].

    All derivatives are finite, also where the inputs are parallel, antipodal, equal or zero.

    **Fields**: `formula(pair, m)`, the dual in terms of a `Pair` and the module m, jax.numpy or
    sympy, that holds sqrt, exp, atan and pi; `gap(pair)`, 1 - |ρ| after the layer, without which
    the difference is taken; `derivative`, the dual of φ' where the formula cannot be
    differentiated accurately: elsewhere the slope is the derivative of the formula; `mean(q)`,
    E[φ(u)] for a variance q, without which no `LayerNorm` can follow.

    >>> square = Dual(lambda pair, m: pair.q1 * pair.q2 + 2 * pair.c**2)    # E[u² v²]
    >>> square(1.0, 2.0, jnp.array([0.0, 1.0])).tolist()
    [2.0, 4.0]
    >>> square.expression(*sp.symbols("q1 q2 c"))
    2*c**2 + q1*q2
    """

    formula: Callable[[Pair, ModuleType], Values]
    gap: Callable[[Pair], Array] | None = None
    derivative: Dual | None = None
    mean: Callable[[Arrays], Arrays] | None = None

    def __call__(
        self, q1: Num[ArrayLike, "*#n"], q2: Num[ArrayLike, "*#n"], c: Num[ArrayLike, "*#n"]
    ) -> Arrays:
        """E[φ(u) φ(v)] for variances q1, q2 >= 0 and |c| <= sqrt(q1 q2), which broadcast.

        Their floating dtype is kept.
        """
        q1, q2, c = _floats(q1, q2, c)
        return self.formula(pair_from_covariance(q1, q2, c), jnp)

    def expression(self, q1: sp.Expr, q2: sp.Expr, c: sp.Expr) -> sp.Expr:
        """The same formula in sympy, for symbols q1, q2 (positive) and c."""
        norm = sp.sqrt(q1) * sp.sqrt(q2)
        return self.formula(Pair(q1, q2, c, norm, c / norm, 1 - c / norm, q1 * q2 - c**2), sp)

    def value_and_slope(self, pair: Pair) -> tuple[Arrays, Arrays]:
        """E[φ(u) φ(v)] and E[φ'(u) φ'(v)] for a `Pair`."""
        if self.derivative:
            return self.formula(pair, jnp), self.derivative.formula(pair, jnp)
        dead = pair.norm == 0
        turn = jnp.where(dead, 0, 1 / jnp.where(dead, 1, pair.norm))
        nearer = jnp.where(pair.cosine < 0, turn, -turn)

        def turned(c, cosine, gap, det):
            return self.formula(pair._replace(c=c, cosine=cosine, gap=gap, det=det), jnp)

        moving = jnp.broadcast_arrays(pair.c, pair.cosine, pair.gap, pair.det)
        rates = jnp.broadcast_arrays(jnp.ones_like(pair.c), turn, nearer, -2 * pair.c)
        return jax.jvp(turned, tuple(moving), tuple(rates))

    def cosine_and_gap(self, pair: Pair, value: Arrays) -> tuple[Arrays, Arrays]:
        """ρ and 1 - |ρ| after the layer, `value` being E[φ(u) φ(v)]."""
        # One factor per row and one per column, where the root of the product would be taken once
        # per pair; one after the other, since their product may leave the range of the dtype.
        norms = [self.diagonal(q) for q in (pair.q1, pair.q2)]
        inverse1, inverse2 = map(inverse_root, norms)
        dead = (norms[0] == 0) | (norms[1] == 0)
        cosine = jnp.where(dead, 1, value * inverse1 * inverse2)
        cosine = replaced(jnp.where(dead, value, cosine), cosine)
        if self.gap is None:
            return well_kept(cosine)
        gap = jnp.where(dead, 0, self.gap(pair))
        # The formula of an angle after the layer has no derivatives where there was none before.
        rough = jnp.where(cosine < 0, 1 + cosine, 1 - cosine)
        rate = jnp.where(dead | (pair.norm == 0), rough, gap)
        return well_kept(cosine, replaced(rate, jnp.clip(gap, 0, 1)))  # rounding may leave [0, 1]

    def diagonal(self, q: Arrays) -> Arrays:
        """E[φ(u)²] for a variance q, kept apart so that it is computed once per input."""
        return once(self.formula(same(q), jnp))


def value_and_slope(
    dual: Dual,
    q1: Num[ArrayLike, "*#n"],
    q2: Num[ArrayLike, "*#n"],
    c: Num[ArrayLike, "*#n"],
) -> tuple[Float[Array, "*#n"], Float[Array, "*#n"]]:
    """The pair E[φ(u) φ(v)] and E[φ'(u) φ'(v)], the latter as the derivative of `dual` in c.

    **Arguments**: `dual`; variances `q1`, `q2` ≥ 0 and the covariance `c`, |c| ≤ sqrt(q1 q2),
    arrays that broadcast and whose floating dtype is kept.

    **Returns**: two arrays of the shape that the arguments broadcast to.

    **Source**: Price 1958, whose theorem is ∂/∂c E[φ(u) φ(v)] = E[φ'(u) φ'(v)].

    >>> from ntkbook import duals
    >>> value, slope = value_and_slope(duals.relu, 2.0, 2.0, jnp.array([2.0, 0.0, -2.0]))
    >>> slope.round(3).tolist()
    [0.5, 0.25, 0.0]
    """
    return dual.value_and_slope(pair_from_covariance(*_floats(q1, q2, c)))


def _floats(*arrays: ArrayLike) -> list[Array]:
    dtype = jnp.result_type(float) if all(isinstance(a, (int, float)) for a in arrays) else None
    return jnp.broadcast_arrays(*(jnp.asarray(a, dtype) for a in arrays))


def once(x: Array) -> Array:
    """x itself, stored: otherwise XLA may compute it anew for each array that depends on it.

    XLA repeats what it takes to be cheap, also a long chain of sums and products, and drops
    optimization barriers on a CPU; a division by something unknown is dear enough to be kept.
    """
    # The divisor is 1, and NaN where x is NaN: a number that XLA cannot know beforehand.
    return x / jnp.where(x == x, 1, jnp.nan)


@jax.custom_jvp
def replaced(x: Array, number: Array) -> Array:
    """`number`, with the derivatives of x, an array of the same shape."""
    return number


@replaced.defjvp
def _replaced_jvp(arrays, rates):
    return replaced(*arrays), rates[0]


def well_kept(cosine: Arrays, gap: Arrays | None = None) -> tuple[Arrays, Arrays]:
    """ρ and 1 - |ρ|, each from the other where it is known better: so chaos enlarges no rounding.

    The gap counts where |ρ| is above 0.9.  Elsewhere it is taken from the cosine, of one sign also
    where ρ is zero, so that derivatives of any order agree.
    """
    obtuse = cosine < 0
    rough = jnp.where(obtuse, 1 + cosine, 1 - cosine)
    if gap is None:
        gap = replaced(rough, jnp.clip(rough, 0, 1))
    near = rough < 0.1
    gap = once(jnp.where(near, gap, rough))
    return once(jnp.where(near, jnp.where(obtuse, gap - 1, 1 - gap), cosine)), gap


def safe_sqrt(q: Arrays) -> Arrays:
    """sqrt, with the derivative at zero taken as zero."""
    # Two wheres: the outer one picks the value, but the derivative of the branch not taken is
    # multiplied by zero, and that of sqrt at 0 is ∞, so the inner one keeps 0 away from sqrt.  And
    # NaN, not being below anything, stays what it is.
    dead = q <= 0
    return jnp.where(dead, 0, jnp.sqrt(jnp.where(dead, 1, q)))


def horner(coefficients: Iterable[float], x: Values) -> Values:
    """The polynomial with these coefficients, ascending; whole ones stay exact in sympy."""
    exact = isinstance(x, sp.Basic)
    *lower, last = [int(a) if exact and a == int(a) else float(a) for a in coefficients]
    total: Values = last
    for a in reversed(lower):
        total = total * x + a
    return total


def _atan_quotient(degree):
    """The polynomial in 2t² - 1 that fits (t/atan(t) - 1)/t² for t from 0 to 1."""
    square = (np.cos(np.pi * (np.arange(4 * degree) + 0.5) / (4 * degree)) + 1) / 2
    t = np.sqrt(square)
    # (1 - atan(t)/t)/t², by its series where the difference would lose digits.
    series = np.polynomial.Polynomial([(-1) ** k / (2 * k + 3) for k in range(40)])(square)
    lost = np.where(square < 0.4, series, (1 - np.arctan(t) / t) / square)
    fit = np.polynomial.chebyshev.chebfit(2 * square - 1, lost / (1 - square * lost), degree)
    return np.polynomial.chebyshev.cheb2poly(fit)


_ATAN = {np.dtype(np.float64): _atan_quotient(18), np.dtype(np.float32): _atan_quotient(8)}


@jax.custom_jvp
def atan(t: Arrays) -> Arrays:
    """atan t for |t| <= 1, to three units of rounding, several times faster than XLA's on a CPU.

    It ends in a division, which XLA computes once, where it would repeat a polynomial in each
    array that depends on it.
    """
    coefficients = _ATAN.get(t.dtype)
    if coefficients is None:
        return jnp.atan(t)
    square = t * t
    quotient = horner(coefficients, 2 * square - 1)
    return t / (1 + square * quotient)


# Written down, since the derivative of the fit would be less accurate than the fit.
atan.defjvps(lambda rate, _, t: rate / (1 + t * t))


def acute_angle(pair: Pair) -> tuple[Arrays, Arrays]:
    """The angle between the two lines, in [0, π/2], and its sine."""
    sine = safe_sqrt(pair.sine2)
    return 2 * atan(sine / (2 - pair.gap)), sine


def supplement(pair: Pair, m: ModuleType = jnp) -> Values:
    """π - θ, the angle that the two half-planes u > 0 and v > 0 share."""
    if m is not jnp:
        return m.pi - m.acos(pair.cosine)
    acute, _ = acute_angle(pair)
    return jnp.where(pair.cosine < 0, acute, jnp.pi - acute)


def sine(pair: Pair, m: ModuleType) -> Values:
    """sin θ."""
    return safe_sqrt(pair.sine2) if m is jnp else m.sqrt(1 - pair.cosine**2)


def excess_angle(acute: Arrays, sine: Arrays, gap: Arrays) -> Arrays:
    """sin α - α cos α, of order α³, for an acute α with cos α = 1 - gap."""
    # Small angles by the series: the two terms, of order α, would cancel to order α³.
    x = acute * acute
    series = [(-1) ** k * (2 * k + 2) / math.factorial(2 * k + 3) for k in range(6)]
    small = acute * x * horner(series, x)
    return jnp.where(acute < 0.3, small, sine - acute * (1 - gap))


def scaled_det(pair: Pair, size1: Arrays, size2: Arrays, c: Arrays) -> Arrays:
    """size1 size2 sin² θ: `det` in units in which q1, q2 are `size1`, `size2`, and pair.c is `c`.

    Where an input is zero the angle is not defined, but the derivatives of the determinant are.
    """
    return jnp.where(pair.norm == 0, size1 * size2 - c * c, size1 * size2 * pair.sine2)


def root_difference(q1: Arrays, q2: Arrays) -> Arrays:
    """√q1 - √q2, to a few units also where they are nearly equal."""
    total = once(safe_sqrt(q1)) + once(safe_sqrt(q2))
    return (q1 - q2) / jnp.where(total == 0, 1, total)


def half_distance(pair: Pair) -> Arrays:
    """E(u - v)²/2 for acute angles, E(u + v)²/2 for obtuse ones."""
    radial = root_difference(pair.q1, pair.q2)
    c = jnp.where(pair.cosine < 0, -pair.c, pair.c)
    # At zero a root has no derivative, but its square does.
    polar = radial * radial / 2 + pair.norm * pair.gap
    return jnp.where(pair.norm == 0, (pair.q1 + pair.q2) / 2 - c, polar)


def signed_half_distance(pair: Pair) -> Arrays:
    """E(u - v)²/2 at any angle."""
    near = half_distance(pair)
    return jnp.where(pair.cosine < 0, pair.q1 - near + pair.q2, near)


def relative_gap(half_distance: Arrays, q1: Arrays, q2: Arrays) -> Arrays:
    """1 - |ρ| from half the mean squared distance, q1 and q2 being the two variances."""
    radial = once(safe_sqrt(q1)) - once(safe_sqrt(q2))
    return (half_distance - radial * radial / 2) * inverse_root(q1) * inverse_root(q2)


def inverse_root(q: Arrays) -> Arrays:
    """1/sqrt(q), and zero for zero."""
    root = safe_sqrt(q)
    return once(jnp.where(root == 0, 0, 1 / jnp.where(root == 0, 1, root)))
