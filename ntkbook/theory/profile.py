"""A network's kernel as a function of the angle between two inputs, and where it is singular."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ntkbook._base.arguments import (
    described,
    is_traced,
    require_choice,
    require_count,
    require_positive,
)
from ntkbook._base.types import Array, ArrayLike, Float
from ntkbook.gaussian.polar import line
from ntkbook.networks.activations import Abs, LeakyRelu, Nonlinearity, Relu
from ntkbook.networks.containers import Serial
from ntkbook.networks.dense import Dense
from ntkbook.networks.layer import Layer

Profile = Callable[[Float[Array, "m"]], Float[Array, "m"]]


def kernel_profile(
    net: Layer | Callable[..., ArrayLike], kind: Literal["ntk", "nngp"] = "ntk", d: int = 2
) -> Profile:
    """The kernel of two inputs with ‖x‖² = d as a function of the angle between them.

    **Arguments**: `net`, a network, of which `kind` says the tangent kernel or the NNGP kernel is
    meant, or a function of inputs (n1, d) and (n2, d) that returns kernel values (n1, n2); `d` ≥ 2,
    the dimension, which matters where the kernel is not a function of x·x'/d.

    **Returns**: a function from angles (m,) to kernel values (m,), for `circle_eigenvalues` and
    `sphere_eigenvalues`.

    **Raises**: ValueError for a kernel that changes when both inputs are rotated, by more than
    rounding; TypeError for what is no network and no function.

    >>> from ntkbook import Dense, Relu, Serial
    >>> net = Serial(Dense(8, w_std=2**0.5), Relu(), Dense(1, w_std=2**0.5))
    >>> print(kernel_profile(net)(jnp.array([0.0, jnp.pi / 2])).round(4))
    [4.     0.6366]
    """
    require_choice("kind", kind, ("ntk", "nngp"))
    d = require_count("d", d, minimum=2)
    if not (isinstance(net, Layer) or callable(net)):
        raise TypeError(f"net must be a network or a function of inputs, got {described(net)}")

    def between(x1: Array, x2: Array) -> Array:
        if isinstance(net, Layer):
            return getattr(net.kernel(x1, x2, exact=True), kind)
        return jnp.asarray(net(x1, x2))

    def at(angles: Array) -> Array:
        rest = jnp.zeros((len(angles), d - 2), angles.dtype)
        plane = jnp.stack([jnp.cos(angles), jnp.sin(angles)], axis=1)
        return jnp.sqrt(d).astype(angles.dtype) * jnp.concatenate([plane, rest], axis=1)

    def profile(angles: Float[Array, "m"]) -> Float[Array, "m"]:
        angles = jnp.asarray(angles)
        return between(at(jnp.zeros(1, angles.dtype)), at(angles))[0]

    _require_invariant(between, at, d)
    return profile


def _require_invariant(between, at, d):
    """Raise ValueError if some pair's value changes under a rotation or a reflection."""
    x = at(jnp.array([0.0, 0.4, 1.3, 2.6]))
    turn = jnp.asarray(np.linalg.qr(np.random.default_rng(0).normal(size=(d, d)))[0], x.dtype)
    before, after = between(x, x), between(x @ turn, x @ turn)
    change = jnp.abs(after - before).max()
    if not is_traced(change) and not change <= 1e4 * jnp.finfo(x.dtype).eps * jnp.abs(before).max():
        raise ValueError(
            "net must have a kernel that depends on the angle between two inputs of one length "
            f"only, got one that changes by {change:.3g} when both are rotated"
        )


def hermite_coefficients(
    activation: Nonlinearity, degree: int, variance: float = 1.0
) -> Float[np.ndarray, "terms"]:
    """Coefficients of φ(√q z) in the normalised Hermite polynomials h_p(z), p = 0 … degree.

    Their squares are those of the dual, E[φ(u) φ(v)] = Σ_p μ_p² ρᵖ for variances q and correlation
    ρ, and (1 + p) μ_p² those of one hidden layer's tangent kernel if σ_w = 1 and q = 1.

    **Arguments**: `activation`, a layer such as `Relu()`, smooth but for a kink or jump at zero;
    `degree`, 0 to 512; `variance` q > 0.

    **Returns**: μ_p (degree + 1,), each to some 1e-15 of E[φ²]^(1/2), in float64 whatever JAX's
    setting.

    **Raises**: TypeError or ValueError for other arguments.

    **Source**: Daniely et al. 2016.

    >>> from ntkbook import Relu
    >>> print(hermite_coefficients(Relu(), 2).round(4))    # 1/√(2π), 1/2, 1/√(4π)
    [0.3989 0.5    0.2821]
    """
    degree = require_count("degree", degree, minimum=0)
    if degree > 512:
        raise ValueError(f"degree must be at most 512, which the quadrature resolves, got {degree}")
    if not isinstance(activation, Nonlinearity):
        raise TypeError(f"activation must be a layer, such as Relu(), got {described(activation)}")
    scale = np.sqrt(require_positive("variance", variance))
    x, weights = line()
    with jax.enable_x64(True):
        right, left = (np.asarray(activation.fn(jnp.asarray(s * scale * x))) for s in (1, -1))
    before, here, found = np.zeros_like(x), np.ones_like(x), []
    for p in range(degree + 1):
        found.append(weights @ (here * (right + (-1) ** p * left)))
        before, here = here, (x * here - np.sqrt(p) * before) / np.sqrt(p + 1)
    return np.array(found)


class EndpointCoefficients(NamedTuple):
    """Coefficients of the first half-integer powers of a kernel at the two ends.

    **Fields**: `ntk`, those of (1 - t)^(1/2) at t = cos θ = 1 and of (1 + t)^(1/2) at t = -1;
    `nngp`, those of the powers 3/2.
    """

    ntk: tuple[float, float]
    nngp: tuple[float, float]


def relu_endpoints(net: Serial) -> EndpointCoefficients:
    """How a network of piecewise linear activations is singular for parallel inputs and opposite.

    The layers are followed through the first terms of their kernels in x = 1 ∓ cos θ, where
    E[φ(u) φ(v)] has a term of order x^(3/2) and E[φ'(u) φ'(v)] one of order x^(1/2).  With
    `power_eigenvalues` they give the eigenvalues of large degree, with their constants.

    **Arguments**: `net`, a `Serial` of Dense layers with `Relu`, `LeakyRelu` or `Abs` between.

    **Returns**: `EndpointCoefficients`.

    **Raises**: TypeError for another network.

    >>> from ntkbook import Dense, Relu, Serial
    >>> net = Serial(Dense(8, w_std=2**0.5), Relu(), Dense(1, w_std=2**0.5))
    >>> print(round(relu_endpoints(net).ntk[0] * np.pi / 2**0.5, 4))      # -H (H + 1)
    -2.0
    """
    layers = net.layers if isinstance(net, Serial) else ()
    hidden, dense = layers[1::2], layers[::2]
    fits = all(isinstance(one, Dense) and one.parametrization == "ntk" for one in dense)
    slopes = [_slopes(layer) for layer in hidden]
    if not (len(dense) == len(hidden) + 1 and fits and all(slopes)):
        raise TypeError(
            "net must be a Serial of Dense layers in the NTK parametrization with Relu, LeakyRelu "
            f"or Abs between them, got {described(net)} of {[type(x).__name__ for x in layers]}"
        )
    ends = [_follow(dense, slopes, sign) for sign in (1, -1)]
    return EndpointCoefficients(*zip(*ends, strict=True))


def _slopes(layer):
    if isinstance(layer, LeakyRelu):
        return layer.negative_slope, 1.0
    return {Relu: (0.0, 1.0), Abs: (-1.0, 1.0)}.get(type(layer))


def _follow(dense, slopes, end):
    """Coefficients of x^(1/2) in the tangent kernel and x^(3/2) in the NNGP kernel, x = 1 ∓ t."""
    weight, bias = dense[0].w_std ** 2, dense[0].b_std ** 2
    q, value = weight + bias, end * weight + bias
    theta, rate, jump, kink = value, -end * weight, 0.0, 0.0  # rate: the coefficient of x
    for layer, (a, b) in zip(dense[1:], slopes, strict=True):
        weight, bias, share = layer.w_std**2, layer.b_std**2, (b - a) ** 2 / 2
        cosine = np.clip(value / q, -1, 1)
        angle = np.arccos(cosine)
        slope, bend, turn = a * b + share * (1 - angle / np.pi), 0.0, 0.0
        if abs(cosine) > 1 - 1e-12:
            near = abs(rate) / q  # 1 - |ρ| is near·x
            bend = share * q * near**1.5 * 2 * np.sqrt(2) / (3 * np.pi)
            turn = -np.sign(cosine) * share * np.sqrt(2 * near) / np.pi
        arc = share * q * (np.sin(angle) + (np.pi - angle) * cosine) / np.pi
        kink = weight * (slope * kink + turn * theta)
        jump, rate = weight * (slope * jump + bend), weight * slope * rate
        value = weight * (a * b * value + arc) + bias
        theta = value + weight * slope * theta
        q = weight * q * (a * a + b * b) / 2 + bias
    return float(kink), float(jump)
