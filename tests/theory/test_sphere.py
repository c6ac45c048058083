"""Eigenvalues on the sphere against closed forms in mpmath, published values and identities."""

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest

from ntkbook import (
    circle_eigenvalues,
    index_spectrum,
    multiplicities,
    power_eigenvalues,
    series_eigenvalues,
    sphere_eigenvalues,
)


def power(nu):
    return lambda angle: (2 * jnp.sin(angle / 2) ** 2) ** nu  # (1 - cos)^ν, without cancellation


def exact_power(nu, d, k):
    """Rodrigues' formula: μ_k of (1 - t)^ν in R^d."""
    nu, half = mp.mpf(nu), mp.mpf(d - 1) / 2
    constant = 2**nu * mp.gamma(nu + half) * mp.gamma(d - 1) * mp.rgamma(-nu) / mp.gamma(half)
    return constant * mp.gamma(k - nu) / mp.gamma(k + nu + d - 1)


def mean_by_quadrature(kappa, d, k):
    """The mean of κ(t) P_k(t) over the sphere, by mpmath's Gegenbauer polynomials."""
    weight = mp.mpf(d - 3) / 2
    order = mp.mpf(d - 2) / 2

    def part(t):
        p = mp.cos(k * mp.acos(t)) if d == 2 else mp.gegenbauer(k, order, t)
        return kappa(t) * p * (1 - t * t) ** weight

    whole = mp.beta(mp.mpf(1) / 2, mp.mpf(d - 1) / 2)
    unit = 1 if d == 2 else mp.gegenbauer(k, order, 1)
    return mp.quad(part, [-1, -0.5, 0, 0.5, 1]) / whole / unit


@pytest.mark.parametrize(("d", "nu"), [(3, 0.5), (4, 1.5), (8, 0.5), (5, 0.25)])
def test_powers_have_the_eigenvalues_that_quadrature_finds(d, nu):
    with mp.workdps(25):
        for k in (0, 1, 2, 5):
            exact = exact_power(nu, d, k)
            by_quadrature = mean_by_quadrature(lambda t: (1 - t) ** mp.mpf(nu), d, k)
            assert abs(by_quadrature / exact - 1) < 1e-8
        found = power_eigenvalues(nu, d, 3000)
        for k in (0, 1, 7, 100, 3000):
            assert abs(float(float(found[k]) / exact_power(nu, d, k)) - 1) < 1e-12


def test_a_whole_power_is_a_polynomial():
    found = power_eigenvalues(2, 3, 6)  # 1 - 2t + t²
    np.testing.assert_allclose(found[:3], [4 / 3, -2 / 3, 2 / 15], rtol=1e-14)
    assert not np.any(found[3:])


@pytest.mark.parametrize("d", [2, 3, 5])
@pytest.mark.parametrize("nu", [0.25, 0.5])
def test_a_singular_kernel_to_ten_digits_at_degree_a_hundred(d, nu):
    found = sphere_eigenvalues(power(nu), d, 100)
    exact = [float(exact_power(nu, d, k)) for k in range(101)]
    np.testing.assert_allclose(found, exact, rtol=1e-10)


@pytest.mark.parametrize(("d", "k_max", "rtol"), [(3, 100, 3e-8), (8, 40, 3e-7), (50, 6, 1e-10)])
def test_the_power_of_an_nngp_kernel_to_the_rounding_of_its_values(d, k_max, rtol):
    found = sphere_eigenvalues(power(1.5), d, k_max)
    exact = [float(exact_power(1.5, d, k)) for k in range(k_max + 1)]
    np.testing.assert_allclose(found, exact, rtol=rtol)


# Two-layer tangent kernel of ReLU, σ_w = 1, no bias.


def arc_ntk(angle):
    return (jnp.sin(angle) + 2 * (jnp.pi - angle) * jnp.cos(angle)) / (2 * jnp.pi)


@pytest.mark.parametrize(
    ("d", "exact"),
    [
        (3, [1 / 4, 1 / 6, 5 / 128, 0, 1 / 384, 0, 23 / 32768]),
        (
            4,
            np.array([20 / 9, np.pi**2 / 8, 52 / 225, 0, 116 / 11025, 0, 212 / 99225]) / np.pi**2,
        ),
        (5, [27 / 128, 1 / 10, 1 / 64, 0, 17 / 32768, 0, 27 / 327680]),
    ],
)
def test_exact_values_of_the_relu_tangent_kernel(d, exact):
    np.testing.assert_allclose(sphere_eigenvalues(arc_ntk, d, 6), exact, rtol=0, atol=5e-16)


def test_the_circle_is_the_sphere_in_two_dimensions():
    found = sphere_eigenvalues(arc_ntk, 2, 300)
    np.testing.assert_allclose(found, circle_eigenvalues(arc_ntk, 300), rtol=0, atol=1e-15)
    k = np.arange(2, 301, 2)
    exact = (k**2 + 3) / (np.pi * (k**2 - 1)) ** 2
    np.testing.assert_allclose(found[2::2], exact, rtol=1e-10)


@pytest.mark.parametrize("d", [2, 3, 10])
def test_tiny_eigenvalues_of_a_series_keep_their_digits(d):
    # e^t has Γ(d/2) 2^(d/2-1) I_(k+d/2-1)(1), down to 1e-90 at k = 60.
    coefficients = 1 / np.cumprod(np.append(1.0, np.arange(1, 160)))
    found = series_eigenvalues(coefficients, d, 60)
    with mp.workdps(30):
        half = mp.mpf(d) / 2
        for k in (0, 1, 10, 60):
            exact = mp.gamma(half) * 2 ** (half - 1) * mp.besseli(k + half - 1, 1)
            assert abs(float(float(found[k]) / exact) - 1) < 1e-12
    near = sphere_eigenvalues(lambda angle: jnp.exp(jnp.cos(angle)), d, 6)
    np.testing.assert_allclose(near, found[:7], rtol=0, atol=1e-15)


def test_a_spectrum_has_derivatives_and_may_be_compiled():
    def spectrum(c):
        return sphere_eigenvalues(lambda angle: jnp.exp(c * jnp.cos(angle)), 4, 5)

    np.testing.assert_allclose(jax.jit(spectrum)(0.7), spectrum(0.7), rtol=0, atol=1e-15)
    step = 1e-5
    slope = (spectrum(0.7 + step) - spectrum(0.7 - step)) / (2 * step)
    np.testing.assert_allclose(jax.jacfwd(spectrum)(0.7), slope, rtol=1e-6, atol=1e-10)


def test_multiplicities_and_the_trace():
    k = np.arange(50)
    assert multiplicities(2, 49).tolist() == [1] + [2] * 49
    assert multiplicities(3, 49).tolist() == (2 * k + 1).tolist()
    assert multiplicities(4, 49).tolist() == ((k + 1) ** 2).tolist()
    # The sum over all harmonics of P_k(1) μ_k is the value at angle zero.
    coefficients = 0.5 ** np.arange(60)
    total = multiplicities(6, 59) @ series_eigenvalues(coefficients, 6, 59)
    np.testing.assert_allclose(total, coefficients.sum(), rtol=1e-12)
    with pytest.raises(ValueError, match="1e308 harmonics of degree k_max = 2000 for d = 1000"):
        multiplicities(1000, 2000)
    with jax.enable_x64(False):
        assert multiplicities(3, 4).dtype == jnp.float32
        with pytest.raises(ValueError, match="d = 300 than float32 can hold"):
            multiplicities(300, 60)
        falling = index_spectrum(0.5 ** jnp.arange(61), 300, 400)
        assert falling.tolist() == [1.0] + [0.5] * 300 + [0.25] * 99


def test_the_index_spectrum_repeats_and_sorts():
    values = np.array([0.5, 1.0, 0.0, 0.2])
    by_hand = [1, 1, 1, 0.5] + [0.2] * 7 + [0] * 5
    assert index_spectrum(values, 3, 16).tolist() == by_hand
    assert index_spectrum(values, 3, 2).tolist() == [1, 1]
    large = index_spectrum(power_eigenvalues(0.5, 4, 400) * -1, 4, 10**6)
    assert large.shape == (10**6,)
    slope = np.log(large[10**6 - 1] / large[10**4]) / np.log(1e6 / 1e4)
    assert abs(slope + 4 / 3) < 0.01
    with pytest.raises(ValueError, match="count must be at most 16"):
        index_spectrum(values, 3, 17)


def test_bad_arguments_are_refused():
    for function, arguments, message in (
        (sphere_eigenvalues, (jnp.cos, 1, 3), "d must be at least 2"),
        (sphere_eigenvalues, (jnp.cos, 3, -1), "k_max must be at least 0"),
        (sphere_eigenvalues, (lambda a: 1 / (a - a), 3, 2), r"kappa\(angles\) must be finite"),
        (sphere_eigenvalues, (lambda a: 1.0, 3, 2), r"kappa\(angles\) must have shape"),
        (series_eigenvalues, ([[1.0]], 3, 2), "coefficients must have shape"),
        (series_eigenvalues, ([np.inf], 3, 2), "coefficients must be finite"),
        (power_eigenvalues, (-1.0, 3, 2), r"nu must exceed .* = -1, got -1.0"),
        (index_spectrum, ([1.0], 3, 0), "count must be at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            function(*arguments)
    with pytest.raises(TypeError, match="kappa must be a function"):
        sphere_eigenvalues(1.0, 3, 2)
