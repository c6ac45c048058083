"""Profiles, Hermite coefficients and endpoints of networks, against formulas in mpmath."""

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest

from ntkbook import (
    Abs,
    Dense,
    Elementwise,
    Erf,
    LeakyRelu,
    Relu,
    Serial,
    Tanh,
    hermite_coefficients,
    kernel_profile,
    relu_endpoints,
)


def net(*activations, w_std=2**0.5, b_std=0.0):
    layers = [part for one in activations for part in (Dense(8, w_std, b_std), one)]
    return Serial(*layers, Dense(1, w_std, b_std))


def by_recursion(slopes, w_std, b_std, t):
    """NNGP and NTK at the cosine t, by the recursion over layers in mpmath's precision."""
    weight, bias = mp.mpf(w_std) ** 2, mp.mpf(b_std) ** 2
    q, nngp = weight + bias, weight * t + bias
    ntk = nngp
    for a, b in slopes:
        cosine, share = nngp / q, mp.mpf(b - a) ** 2 / 2
        angle = mp.acos(min(cosine, 1))
        arc = share * q * (mp.sin(angle) + (mp.pi - angle) * cosine) / mp.pi
        slope = a * b + share * (1 - angle / mp.pi)
        nngp = weight * (a * b * nngp + arc) + bias
        ntk = nngp + weight * slope * ntk
        q = weight * q * (mp.mpf(a) ** 2 + mp.mpf(b) ** 2) / 2 + bias
    return nngp, ntk


@pytest.mark.parametrize("d", [2, 7])
def test_a_profile_is_the_recursion(d):
    angles = np.array([0.0, 1e-6, 0.3, 1.7, 3.1])
    for place, kind in enumerate(("nngp", "ntk")):
        found = kernel_profile(net(Relu(), Relu(), b_std=0.3), kind, d)(angles)
        with mp.workdps(30):
            slopes = [(0, 1), (0, 1)]
            exact = [by_recursion(slopes, 2**0.5, 0.3, mp.cos(a))[place] for a in angles]
        np.testing.assert_allclose(found, np.array(exact, float), rtol=1e-13)


def test_any_kernel_of_the_angle_has_a_profile_and_no_other():
    def laplace(x1, x2):
        return jnp.exp(-jnp.linalg.norm(x1[:, None] - x2[None], axis=2))

    angles = jnp.array([0.1, 2.0])
    found = kernel_profile(laplace, d=3)(angles)
    np.testing.assert_allclose(found, np.exp(-(3**0.5) * 2 * np.sin(angles / 2)), rtol=1e-12)
    with pytest.raises(ValueError, match="changes by .* when both are rotated"):
        kernel_profile(lambda x1, x2: x1 @ jnp.array([[1.0, 0.0], [0.0, 2.0]]) @ x2.T)
    with pytest.raises(ValueError, match="rotated"):  # of the angle, but for its sign
        kernel_profile(lambda x1, x2: x1[:, :1] * x2[:, 1:].T - x1[:, 1:] * x2[:, :1].T + x1 @ x2.T)
    with pytest.raises(ValueError, match="rotated"):
        kernel_profile(lambda x1, x2: jnp.full((len(x1), len(x2)), jnp.nan))
    with pytest.raises(TypeError, match="net must be a network or a function"):
        kernel_profile(3)
    with pytest.raises(ValueError, match="kind must be one of 'ntk', 'nngp'"):
        kernel_profile(net(Relu()), "cov")
    with pytest.raises(ValueError, match="d must be at least 2"):
        kernel_profile(net(Relu()), d=1)


def test_hermite_coefficients_of_relu_and_of_a_step():
    relu = hermite_coefficients(Relu(), 60) ** 2
    p = np.arange(2, 61, 2)
    with mp.workdps(30):  # μ_p² = He_(p-2)(0)²/(2π p!), with He_2m(0) = ±(2m - 1)!!
        exact = [float(mp.fac2(k - 3) ** 2 / (2 * mp.pi * mp.factorial(k))) for k in p]
    np.testing.assert_allclose(relu[2::2], exact, rtol=1e-10)
    np.testing.assert_allclose(relu[:2], [1 / (2 * np.pi), 1 / 4], rtol=1e-13)
    np.testing.assert_allclose(relu[3::2], 0, atol=1e-28)
    step = hermite_coefficients(Elementwise(lambda z: (z > 0) * 1.0), 9)
    np.testing.assert_allclose(step[1] ** 2, 1 / (2 * np.pi), rtol=1e-13)  # 1/2 and odd ones
    with jax.enable_x64(False):
        assert (hermite_coefficients(Relu(), 60) ** 2).tolist() == relu.tolist()


@pytest.mark.parametrize(
    ("layer", "function", "variance"), [(Tanh(), mp.tanh, 1.0), (Erf(), mp.erf, 2.5)]
)
def test_hermite_coefficients_of_smooth_activations(layer, function, variance):
    found = hermite_coefficients(layer, 41, variance)
    with mp.workdps(30):
        for p in (1, 41):

            def integrand(z, p=p):
                value = function(mp.sqrt(variance) * z) * mp.hermite(p, z / mp.sqrt(2))
                return value * mp.exp(-z * z / 2) / mp.sqrt(2 * mp.pi)

            whole = mp.quad(integrand, list(range(-16, 17, 2)))
            exact = whole / mp.sqrt(mp.mpf(2) ** p * mp.factorial(p))
            assert abs(found[p] - float(exact)) < 2e-15
    with pytest.raises(ValueError, match="degree must be at most 512"):
        hermite_coefficients(layer, 513)
    with pytest.raises(TypeError, match="activation must be a layer"):
        hermite_coefficients(jnp.tanh, 3)
    with pytest.raises(ValueError, match="variance must be a positive finite number"):
        hermite_coefficients(layer, 3, 0.0)


@pytest.mark.parametrize(
    ("layers", "slopes"),
    [
        ([Relu()], [(0, 1)]),
        ([Relu()] * 3, [(0, 1)] * 3),
        ([LeakyRelu(0.2), Relu()], [(0.2, 1), (0, 1)]),
        ([Abs(), Relu()], [(-1, 1), (0, 1)]),
        ([Relu(), Abs()], [(0, 1), (-1, 1)]),
    ],
)
@pytest.mark.parametrize("b_std", [0.0, 0.4])
def test_endpoints_are_what_is_left_over_very_near_them(layers, slopes, b_std):
    found = relu_endpoints(net(*layers, w_std=1.3, b_std=b_std))
    with mp.workdps(80):
        slopes = [(mp.mpf(a), mp.mpf(b)) for a, b in slopes]
        u = mp.mpf(10) ** -36
        for place, end in enumerate((1, -1)):
            # f(u) - 4 f(u/4) + 3 f(0) keeps nothing of order u; of u^(1/2) and u^(3/2) it keeps
            # -1 and 1/2.
            parts = [by_recursion(slopes, 1.3, b_std, end * (1 - s)) for s in (u, u / 4, 0)]
            nngp, ntk = (part[0] - 4 * part[1] + 3 * part[2] for part in zip(*parts, strict=True))
            np.testing.assert_allclose(found.ntk[place], float(-ntk / u**0.5), atol=1e-13)
            np.testing.assert_allclose(found.nngp[place], float(2 * nngp / u**1.5), atol=1e-13)


def test_endpoints_of_other_networks_are_not_known():
    for other in (
        Relu(),
        net(Erf()),
        net(Relu(), Tanh()),
        Serial(Dense(8), Relu()),
        Serial(Dense(8, parametrization="standard"), Relu(), Dense(1)),
    ):
        with pytest.raises(TypeError, match="Dense layers in the NTK parametrization"):
            relu_endpoints(other)
