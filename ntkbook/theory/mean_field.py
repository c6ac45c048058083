"""Order and chaos: what many layers do to the length of a signal and to the angle between two.

A layer of an infinitely wide network maps the variance q of a preactivation to
V(q) = (σ_w²/keep) E[φ(√q z)²] + σ_b², and the correlation ρ of two inputs of variance q to
C(ρ) = (σ_w² E[φ(u) φ(v)] + σ_b²)/V(q); keep is the probability with which dropout keeps a unit,
drawn for each input by itself.  The slope of C is χ(ρ) = σ_w² E[φ'(u) φ'(v)].  Near ρ = 1 all is
written in ε = 1 - ρ, which the duals give without cancellation.

The variances σ_w² and σ_b² are arguments, w_var and b_var, as in the literature; `Dense` takes
their roots.  Solvers compute in float64, whatever JAX's setting, and give NumPy arrays.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from ntkbook._base.arguments import is_traced
from ntkbook._base.roots import EPS
from ntkbook._base.types import Array, ArrayLike, Float, Num, Scalar
from ntkbook.gaussian.pairs import Pair, pair, same
from ntkbook.networks.activations import Nonlinearity
from ntkbook.theory.fixed_points import (
    CRITICAL,
    computed,
    field_arguments,
    moments,
    reached,
    require_resolved,
)


def variance_map(
    activation: Nonlinearity,
    q: Num[ArrayLike, "*#n"],
    *,
    w_var: Num[ArrayLike, "*#n"],
    b_var: Num[ArrayLike, "*#n"],
    keep: Num[ArrayLike, "*#n"] = 1.0,
) -> Float[Array, "*#n"]:
    """The variance after one more layer, V(q) = (σ_w²/keep) E[φ(√q z)²] + σ_b².

    **Arguments**: `activation`, a layer such as `Erf()`; the variance `q` ≥ 0 before it; `w_var`
    and `b_var`, the variances σ_w² and σ_b²; `keep`, the probability
    that dropout keeps a unit.  Arrays broadcast.

    **Returns**: an array of the shape that they broadcast to; JAX differentiates it.

    **Raises**: TypeError for what is no activation, ValueError for arguments out of range.

    **Source**: Poole et al. 2016; with dropout Schoenholz et al. 2017.

    >>> from ntkbook import Relu
    >>> float(variance_map(Relu(), 3.0, w_var=2.0, b_var=0.25))
    3.25
    """
    q, w_var, b_var, keep = field_arguments(activation, q, w_var, b_var, keep)
    return w_var / keep * activation.dual.formula(same(q), jnp) + b_var


def correlation_map(
    activation: Nonlinearity,
    correlation: Num[ArrayLike, "*#n"],
    *,
    q: Num[ArrayLike, "*#n"],
    w_var: Num[ArrayLike, "*#n"],
    b_var: Num[ArrayLike, "*#n"],
    keep: Num[ArrayLike, "*#n"] = 1.0,
) -> Float[Array, "*#n"]:
    """The correlation after one more layer, C(ρ) = (σ_w² E[φ(u) φ(v)] + σ_b²)/V(q).

    **Arguments**: `activation`; the correlation ρ of two inputs, from -1 to 1, both of variance
    `q` > 0; `w_var`, `b_var` and `keep` as for `variance_map`.  Arrays broadcast.

    **Returns**: an array of the shape that they broadcast to.  With `keep` < 1 it stays below one
    at ρ = 1: two passes of one input see different masks.

    **Raises**: TypeError for what is no activation, ValueError for arguments out of range.

    **Source**: Poole et al. 2016; with dropout Schoenholz et al. 2017.

    >>> from ntkbook import Relu
    >>> round(float(correlation_map(Relu(), 0.0, q=1.0, w_var=2.0, b_var=0.0)), 6)  # 1/π
    0.31831
    """
    q, w_var, b_var, keep, rho = field_arguments(
        activation, q, w_var, b_var, keep, correlation=correlation
    )
    if not is_traced(rho, q) and not ((jnp.abs(rho) <= 1) & (q > 0)).all():
        raise ValueError(f"correlation must be in [-1, 1], and q positive, got {rho} and {q}")
    return 1 - turned(activation, q, 1 - rho, w_var, b_var, keep)[0]


def chi(
    activation: Nonlinearity,
    correlation: Num[ArrayLike, "*#n"] = 1.0,
    *,
    q: Num[ArrayLike, "*#n"],
    w_var: Num[ArrayLike, "*#n"],
) -> Float[Array, "*#n"]:
    """χ(ρ) = σ_w² E[φ'(u) φ'(v)], the slope of the correlation map at a stationary q.

    At ρ = 1 it is χ_1, by which a layer multiplies the squared length of a gradient.

    **Arguments**: `activation`; the correlation ρ of two inputs, both of variance `q`; `w_var`,
    σ_w².  Arrays broadcast.

    **Returns**: an array of the shape that they broadcast to.

    **Raises**: TypeError for what is no activation, ValueError for arguments out of range.

    **Source**: Schoenholz et al. 2017.

    >>> from ntkbook import Tanh
    >>> round(float(chi(Tanh(), q=0.57004788, w_var=1.76095464)), 6)
    1.0
    """
    q, w_var, _, _, rho = field_arguments(activation, q, w_var, 0.0, 1.0, correlation=correlation)
    return w_var * activation.dual.value_and_slope(alike(q, 1 - rho))[1]


@dataclass(frozen=True)
class MeanField:
    """Where a signal goes in a deep network, and how fast; made by `mean_field`.

    **Fields**: `q`, the variance q*; `correlation`, the stable ρ*; `chi_1` and `chi_star`, the
    slopes of the correlation map at 1 and at ρ*; all of one shape.  With dropout `chi_1` is the
    factor of squared gradients, (σ_w²/keep) E[φ'²].
    """

    q: Float[np.ndarray, "*n"]
    correlation: Float[np.ndarray, "*n"]
    chi_1: Float[np.ndarray, "*n"]
    chi_star: Float[np.ndarray, "*n"]

    @property
    def phase(self) -> np.ndarray:
        """-1 where χ_1 < 1, ordered; 0 at one, critical; +1 where it is larger, chaotic."""
        return np.where(np.abs(self.chi_1 - 1) < CRITICAL, 0, np.sign(self.chi_1 - 1)).astype(int)

    @property
    def xi_star(self) -> Float[np.ndarray, "*n"]:
        """Layers in which ρ - ρ* falls by a factor e, -1/log χ(ρ*); infinite at criticality."""
        return _scale(self.chi_star)

    @property
    def xi_1(self) -> Float[np.ndarray, "*n"]:
        """Layers in which squared gradients change by a factor e, 1/|log χ_1|."""
        return _scale(self.chi_1)


def mean_field(
    activation: Nonlinearity,
    *,
    w_var: Num[ArrayLike, "*#n"],
    b_var: Num[ArrayLike, "*#n"],
    keep: Num[ArrayLike, "*#n"] = 1.0,
    start: Scalar = 1.0,
) -> MeanField:
    """The fixed point (q*, ρ*) that a signal reaches, and its slopes, at many points of a diagram.

    ρ* is the one that attracts inputs with ρ ≥ 0: C is convex there, so that Newton's method from
    ρ = 0 finds it.  On the ordered side and without dropout it is exactly one.
    Where the variance dies out, q* = 0, angles have no scale on which they decay: one is a fixed
    point then, not the only one, and `chi_star` is one.

    **Arguments**: `activation`; `w_var`, `b_var` and `keep` as for `variance_map`, arrays that
    broadcast; `start`, the variance of the first layer, from which q* is reached: where every
    variance is stationary, as for ReLU at (2, 0), it stays.

    **Returns**: `MeanField`.

    **Raises**: ValueError, naming the first such point, where the variance has no limit, since it
    grows without bound.

    **Source**: Poole et al. 2016, Schoenholz et al. 2017.

    >>> from ntkbook import Erf
    >>> ordered, chaotic = 1.25, 1.5
    >>> field = mean_field(Erf(), w_var=jnp.array([ordered, chaotic]), b_var=0.05)
    >>> field.q.round(6).tolist(), field.correlation.round(6).tolist()
    ([0.435166, 0.601753], [1.0, 0.82053])
    >>> field.xi_star.round(2).tolist()
    [25.39, 32.34]
    """
    with jax.enable_x64(True):
        begin, w_var, b_var, keep = field_arguments(
            activation, start, w_var, b_var, keep, called="start"
        )
        shape = w_var.shape
        flat = [np.asarray(x).ravel() for x in (w_var, b_var, keep, begin)]
        q = reached(activation, *flat)
        require_resolved(activation, q)
        w_var, b_var, keep = flat[:3]
        chi_1 = w_var * computed(moments, activation, q)[2]
        gap = np.zeros_like(q)
        # A signal that dies out is linear in the end, or as ReLU is, and C'(1) = χ_1/V'(0) = 1.
        moving = ((chi_1 > 1 + CRITICAL) | (keep < 1)) & (q > 0)
        if moving.any():
            gap[moving] = _stable_gap(activation, *(x[moving] for x in (q, w_var, b_var, keep)))
        slope = computed(turned, activation, q, gap, w_var, b_var, keep)[1]
        chi_star = np.where(moving, slope, np.where(q > 0, chi_1, 1))
    parts = (q, 1 - gap, chi_1 / keep, chi_star)
    return MeanField(*(part.reshape(shape) for part in parts))


# Inside: maps in the variable ε = 1 - ρ, written u, and a solver that takes many points at once.


def alike(q: Float[Array, "*n"], u: Float[Array, "*n"]) -> Pair:
    """The `Pair` of two inputs of variance q with 1 - ρ = u."""
    return pair(q, q, 1 - u, jnp.where(u > 1, 2 - u, u))


def opened(cosine: Float[Array, "*n"], gap: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """1 - ρ from ρ and 1 - |ρ|."""
    return jnp.where(cosine < 0, 2 - gap, gap)


@partial(jax.jit, static_argnums=0)
def turned(
    activation: Nonlinearity,
    q: Float[Array, "*n"],
    u: Float[Array, "*n"],
    w_var: Float[Array, "*n"],
    b_var: Float[Array, "*n"],
    keep: Float[Array, "*n"],
) -> tuple[Float[Array, "*n"], Float[Array, "*n"], Float[Array, "*n"]]:
    """1 - C(1 - u) and χ(1 - u), and the new variance, without cancellation for small u."""
    dual, before = activation.dual, alike(q, u)
    value, slope = dual.value_and_slope(before)
    square = dual.diagonal(q)
    apart = opened(*dual.cosine_and_gap(before, value))
    after = w_var / keep * square + b_var
    return w_var * square * (1 / keep - 1 + apart) / after, w_var * slope, after


def _scale(slope):
    with np.errstate(divide="ignore"):
        return np.where(np.abs(slope - 1) < CRITICAL, np.inf, 1 / np.abs(np.log(slope)))


def _stable_gap(activation, q, w_var, b_var, keep):
    """1 - ρ* by Newton's method from ρ = 0, which approaches it from one side."""
    u, moving = np.ones_like(q), np.full(q.shape, True)
    for _ in range(100):
        after, slope, _ = computed(turned, activation, q, u, w_var, b_var, keep)
        step = (after - u) / (slope - 1)
        # In exact arithmetic u only falls: a step that is none is rounding, and the point is done.
        moving &= step > 4 * EPS * u
        if not moving.any():
            break
        u = np.where(moving, u - step, u)
    return u
