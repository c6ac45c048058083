"""The critical line χ_1 = 1, its end, and the points of it where lengths keep their scale as well.

Along the line the variance is the parameter: it is stationary at σ_b² = q - σ_w² E[φ²], and
σ_w² = 1/E[φ'²].
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from ntkbook._base.arguments import require_finite
from ntkbook._base.roots import crossings
from ntkbook._base.types import ArrayLike, Float, Num, Scalar
from ntkbook.gaussian.quadrature import derivative
from ntkbook.networks.activations import Nonlinearity
from ntkbook.theory.fixed_points import (
    GRID,
    NOISE,
    computed,
    field_arguments,
    moments,
    require_resolved,
)


@dataclass(frozen=True)
class CriticalPoint:
    """Points (σ_w², σ_b²) at which χ_1 = 1, with the variance that is stationary there.

    **Fields**: `w_var`, `b_var`, `q`, numbers or arrays of one shape.  `b_var` is negative where no
    network has this q as its critical variance.
    """

    w_var: Float[np.ndarray, "*n"]
    b_var: Float[np.ndarray, "*n"]
    q: Float[np.ndarray, "*n"]


def critical_line(activation: Nonlinearity, q: Num[ArrayLike, "*n"]) -> CriticalPoint:
    """The critical line with the variance q* along it: σ_w² = 1/E[φ'²], σ_b² = q - σ_w² E[φ²].

    At q = 0 it ends, in (1/φ'(0)², 0) if φ(0) = 0.

    **Arguments**: `activation`; variances `q` ≥ 0.

    **Returns**: `CriticalPoint`, of the shape of q.

    **Raises**: ValueError where E[φ'²] is zero.

    **Source**: the two conditions are those of Schoenholz et al. 2017.

    >>> from ntkbook import Erf
    >>> line = critical_line(Erf(), jnp.array([0.0, 1.0]))
    >>> (line.w_var * 4 / jnp.pi).round(6).tolist()          # √(1 + 4q)
    [1.0, 2.236068]
    """
    with jax.enable_x64(True):
        q = field_arguments(activation, q, 0.0, 0.0, 1.0)[0]
        require_resolved(activation, np.asarray(q))
        w_var, b_var, _ = _along(activation, np.asarray(q).ravel())
    require_finite("1/E[φ'²] on the critical line", w_var)
    return CriticalPoint(w_var.reshape(q.shape), b_var.reshape(q.shape), np.asarray(q))


def critical_point(activation: Nonlinearity, *, b_var: Scalar) -> CriticalPoint:
    """The point of the critical line with this bias variance.

    **Arguments**: `activation`; `b_var`, σ_b² ≥ 0.

    **Returns**: `CriticalPoint` of numbers.  With b_var = 0 and φ(0) = 0 that is the end point.
    Where several have this bias variance, the one of smallest q.

    **Raises**: ValueError where there is none, as for ReLU with biases: χ_1 = 1 at σ_w² = 2,
    where each layer adds σ_b² to the variance.

    >>> from ntkbook import Tanh
    >>> point = critical_point(Tanh(), b_var=0.05)
    >>> round(float(point.w_var), 6), round(float(point.q), 6)
    (1.760955, 0.570048)
    """
    with jax.enable_x64(True):
        wanted = float(field_arguments(activation, 0.0, 1.0, b_var, 1.0)[2])
        roots = crossings(lambda q: _along(activation, q)[1] - wanted, GRID, NOISE * GRID)
    if not roots.size:
        raise ValueError(
            f"b_var must be that of a point on the critical line of {type(activation).__name__}, "
            f"got {wanted}: no variance is stationary where χ_1 = 1, or each one is"
        )
    line = critical_line(activation, roots[0])
    return CriticalPoint(line.w_var, np.asarray(wanted), line.q)


def half_stable_points(activation: Nonlinearity) -> CriticalPoint:
    """The critical points at which V'(q*) = 1 as well: lengths and angles both keep their scale.

    **Arguments**: `activation`.

    **Returns**: `CriticalPoint` of arrays, with σ_b² ≥ 0, ascending in q; q = 0 is one of them
    wherever φ(0) = 0, whether it attracts or not.

    **Raises**: ValueError where there is none, or, as for ReLU, each variance is one.

    **Source**: Roberts, Yaida & Hanin 2022, chapter 5.

    >>> from ntkbook import Gelu
    >>> half_stable_points(Gelu()).q.round(6).tolist()       # 0 and (3 + √17)/2
    [0.0, 3.561553]
    """
    with jax.enable_x64(True):
        field_arguments(activation, 0.0, 1.0, 0.0, 1.0)
        q = crossings(lambda q: _along(activation, q)[2] - 1, GRID, NOISE)
    line = critical_line(activation, q)
    kept = line.b_var >= -NOISE * line.q
    if not kept.any():
        raise ValueError(
            f"{type(activation).__name__} must have a variance at which V' = 1 on the critical "
            "line, and σ_b² ≥ 0, got none, or each variance is one"
        )
    return CriticalPoint(line.w_var[kept], np.maximum(line.b_var[kept], 0), line.q[kept])


@dataclass(frozen=True)
class EndPoint:
    """The end of the critical line, where the variance dies out as a power; made by `end_point`.

    **Fields**: `w_var`, 1/φ'(0)²; `variance`, the limit of l q; `diagonal`, that of Θ(x, x).
    """

    w_var: float
    variance: float
    diagonal: float


def end_point(activation: Nonlinearity) -> EndPoint:
    """The critical line's end σ_w² = 1/φ'(0)², σ_b² = 0, where q ~ 1/(β l) and Θ(x, x) → 1/γ.

    β and γ are the rates of V(q) = q - β q² + … and χ_1 = 1 - γ q + …, with r_k = φ^(k)(0)/φ'(0):
    β = -r_3 - ¾ r_2² and γ = -r_3 - r_2².  For an odd φ they are equal, and the correlation keeps
    a limit that depends on the inputs.

    **Arguments**: `activation`, with φ(0) = 0, smooth at zero.

    **Returns**: `EndPoint`.

    **Raises**: ValueError where φ(0) is not zero or φ'(0) is, for a kink, where the variance does
    not die out, β ≤ 0, and where Θ(x, x) has no limit, γ ≤ 0.

    **Source**: Roberts, Yaida & Hanin 2022, chapter 5, call it the K* = 0 universality class.

    >>> from ntkbook import Tanh
    >>> end_point(Tanh())
    EndPoint(w_var=1.0, variance=0.5, diagonal=0.5)
    """
    with jax.enable_x64(True):
        field_arguments(activation, 0.0, 1.0, 0.0, 1.0)
        fn, taylor = activation.fn, []
        for _ in range(4):
            taylor.append(float(fn(jnp.zeros(()))))
            fn = derivative(fn)
        right, left = derivative(activation.fn)(jnp.array([1e-30, -1e-30]))
    value, slope, second, third = taylor
    if value or not slope or right != left:
        raise ValueError(
            f"{type(activation).__name__} must be smooth at zero, with φ(0) = 0 and φ'(0) ≠ 0, for "
            "the critical line to end in q = 0"
        )
    ratio = second / slope
    beta, gamma = -third / slope - 0.75 * ratio**2, -third / slope - ratio**2
    if beta <= 0:
        raise ValueError(
            f"{type(activation).__name__} must have a variance that dies out at q = 0, got V(q) = "
            f"q - β q² with β = {beta:.3g}: it drives signals away"
        )
    if gamma <= 0:
        raise ValueError(
            f"{type(activation).__name__} must have a tangent kernel with a limit at q = 0, "
            f"got χ_1 = 1 - γ q with γ = {gamma:.3g}: Θ(x, x) grows without bound"
        )
    return EndPoint(1 / slope**2, 1 / beta, 1 / gamma)


def _along(activation, q):
    """σ_w², σ_b² and V' along the critical line."""
    square, rate, slope = computed(moments, activation, q)
    with np.errstate(divide="ignore", invalid="ignore"):
        return 1 / slope, q - square / slope, rate / slope
