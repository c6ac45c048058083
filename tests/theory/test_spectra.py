"""Spectra against NumPy, published circle spectra and adaptive quadrature."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from scipy.stats import linregress

from ntkbook import (
    circle_eigenvalues,
    condition_number,
    effective_dimension,
    fit_decay,
    fit_power_law,
    fit_rate,
    modes,
)


def gram(rows=6, columns=9, seed=0):
    j = np.random.default_rng(seed).normal(size=(rows, columns))
    return j @ j.T


def test_condition_number_and_effective_dimension():
    kernel = gram()
    values = np.linalg.eigvalsh(kernel)
    np.testing.assert_allclose(condition_number(kernel), np.linalg.cond(kernel), rtol=1e-10)
    trace = np.trace(kernel @ np.linalg.inv(kernel + 0.7 * np.eye(6)))
    np.testing.assert_allclose(effective_dimension(kernel, 0.7), trace, rtol=1e-12)
    singular = gram(columns=4)
    assert condition_number(singular) == np.inf
    assert effective_dimension(singular, 0.0) == 4
    slope = jax.grad(effective_dimension, argnums=1)(kernel, 0.7)
    np.testing.assert_allclose(slope, -(values / (values + 0.7) ** 2).sum(), rtol=1e-12)
    # Null modes stay null when the kernel grows, and their share of the derivative is zero.
    growth = jax.grad(lambda factor, ridge: effective_dimension(factor * singular, ridge))
    values = np.linalg.eigvalsh(singular)[2:]
    exact = (0.7 * values / (values + 0.7) ** 2).sum()
    np.testing.assert_allclose(growth(1.0, 0.7), exact, rtol=1e-10)
    np.testing.assert_allclose(growth(1.0, 0.0), 0, atol=1e-12)  # the rank stays


def test_fits_recover_exact_laws_and_agree_with_polyfit():
    k, noise = np.arange(3, 40), np.random.default_rng(0).normal(size=37)
    np.testing.assert_allclose(fit_decay(k, 3.0 * k**-2.5), -2.5, rtol=1e-12)
    values = k**-1.5 * np.exp(0.1 * noise)
    expected = np.polyfit(np.log(k), np.log(values), 1)[0]
    np.testing.assert_allclose(fit_decay(k, values), expected, rtol=1e-10)

    times = np.linspace(0, 3, 20)
    amplitudes = np.stack([2 * np.exp(-0.5 * times), -np.exp(-2 * times)], axis=1)
    np.testing.assert_allclose(fit_rate(times, amplitudes), [0.5, 2.0], rtol=1e-12)
    np.testing.assert_allclose(fit_rate(times, amplitudes[:, 1]), 2.0, rtol=1e-12)
    assert fit_rate(times, amplitudes).shape == (2,)


def test_two_points_fix_a_slope_and_one_point_is_refused_also_inside_jit():
    two = np.array([1.0, 2.0])
    np.testing.assert_allclose(fit_decay(two, two**-3), -3.0, rtol=1e-14)
    with pytest.raises(ValueError, match=r"two different points, got 1 point"):
        jax.jit(fit_decay)(jnp.ones(1), jnp.ones(1))


def test_a_power_law_has_the_error_of_linear_regression_in_its_window():
    k = np.arange(1, 60)
    values = k**-1.5 * np.exp(0.1 * np.random.default_rng(0).normal(size=59))
    law = fit_power_law(k, values, window=(10, 40))
    exact = linregress(np.log(k[9:40]), np.log(values[9:40]))
    np.testing.assert_allclose(law[:2], [exact.slope, exact.stderr], rtol=1e-10)
    assert law[2:] == ((10.0, 40.0), 31)
    np.testing.assert_allclose(fit_power_law(k, values).slope, fit_decay(k, values), rtol=1e-12)
    assert fit_power_law(k, -values + 2 * values, window=(0.5, 3)).points == 3
    for window, message in (((10, 11), "three points, got 2"), ((5, 5), "two rising numbers")):
        with pytest.raises(ValueError, match=message):
            fit_power_law(k, values, window)
    with pytest.raises(ValueError, match="values must be positive"):
        fit_power_law(k, -values)


# NNGP and NTK of one hidden ReLU layer without bias, and the NTK's first layer with a bias,
# as functions of the angle; their Fourier coefficients are known in closed form.


def nngp(angle):
    return (jnp.sin(angle) + (jnp.pi - angle) * jnp.cos(angle)) / (2 * jnp.pi)


def first_layer(angle):
    return jnp.cos(angle) * (jnp.pi - angle) / (2 * jnp.pi)


def with_bias(angle):
    return (1 + jnp.cos(angle)) * (jnp.pi - angle) / (4 * jnp.pi)


def even_or_odd(even, odd, first, k):
    safe = np.where(k == 1, 2, k)
    return np.where(k == 1, first, np.where(k % 2 == 0, even(safe), odd(np.maximum(safe, 2))))


@pytest.mark.parametrize(
    ("kappa", "even", "odd", "first"),
    [
        (nngp, lambda k: 2 / (np.pi * (k**2 - 1)) ** 2, lambda k: 0 * k, 1 / 8),
        (
            lambda angle: nngp(angle) + first_layer(angle),
            lambda k: (k**2 + 3) / (np.pi * (k**2 - 1)) ** 2,
            lambda k: 0 * k,
            1 / 4,
        ),
        (
            with_bias,
            lambda k: (k**2 + 1) / (np.pi * (k**2 - 1)) ** 2 / 2 + (k == 0) / 8,
            lambda k: 1 / (2 * np.pi**2 * k.astype(float) ** 2),
            1 / 16 + 1 / (2 * np.pi**2),
        ),
    ],
)
def test_circle_spectra_in_closed_form(kappa, even, odd, first):
    k = np.arange(201)
    exact = even_or_odd(even, odd, first, k)
    found = circle_eigenvalues(kappa, 200)
    np.testing.assert_allclose(found, exact, atol=1e-15)
    seen = exact > 1e-5
    np.testing.assert_allclose(found[seen], exact[seen], rtol=1e-11)


def test_circle_spectrum_of_a_smooth_kernel_to_thirty_digits():
    # e^{cos θ} has the modified Bessel functions as coefficients.
    found = circle_eigenvalues(lambda angle: jnp.exp(jnp.cos(angle)), 8, points=256)
    exact = [float(mpmath.besseli(k, 1)) for k in range(9)]
    np.testing.assert_allclose(found, exact, atol=1e-15)


def test_circle_spectrum_of_a_deep_kernel_against_adaptive_quadrature():
    def arc(c, lib):
        angle = lib.acos(c)
        return lib.sqrt(1 - c * c) / lib.pi + (1 - angle / lib.pi) * c, 1 - angle / lib.pi

    def ntk(angle, lib):  # two hidden layers, critical ReLU, no bias
        nngp = theta = lib.cos(angle)
        for _ in range(2):
            nngp, slope = arc(nngp, lib)
            theta = nngp + slope * theta
        return theta

    found = circle_eigenvalues(
        lambda angle: jnp.asarray(
            [float(ntk(mpmath.mpf(float(a)), mpmath.mp).real) for a in angle]
        ),
        5,
        points=2048,
    )
    with mpmath.workdps(20):
        for k in range(6):
            exact = (
                mpmath.quad(
                    lambda a, k=k: ntk(a, mpmath.mp).real * mpmath.cos(k * a),
                    [0, mpmath.pi / 2, mpmath.pi],
                )
                / mpmath.pi
            )
            assert abs(float(found[k]) - float(exact)) < 1e-11


def test_circle_spectrum_is_that_of_the_gram_matrix_on_many_points():
    angles = 2 * np.pi * np.arange(2000) / 2000
    row = nngp(np.minimum(angles, 2 * np.pi - angles))
    values = np.sort(np.fft.fft(row).real / 2000)[::-1]  # circulant: eigenvalues over N
    expected = circle_eigenvalues(nngp, 4)
    np.testing.assert_allclose(values[:4], expected[jnp.array([0, 1, 1, 2])], rtol=1e-5)


def test_bad_arguments_are_refused():
    indefinite = np.diag([1.0, -0.5])
    for function in (condition_number, lambda kernel: effective_dimension(kernel, 0.1)):
        with pytest.raises(ValueError, match=r"positive semi-definite.* -0.5"):
            function(indefinite)
    with pytest.raises(ValueError, match="positive eigenvalue"):
        condition_number(np.zeros((2, 2)))
    with pytest.raises(ValueError, match="ridge"):
        effective_dimension(np.eye(2), -0.1)
    for kernel, message in (
        (np.array([[1.0, 1.0], [0.0, 1.0]]), "symmetric"),
        (np.full((2, 2), np.nan), "finite"),
        (np.ones((2, 3)), "square"),
    ):
        with pytest.raises(ValueError, match=message):
            modes(kernel)
    with pytest.raises(ValueError, match=r"v must have shape \(2,\)"):
        modes(np.eye(2)).project(np.ones(3))
    for k, values, message in (
        ([1.0, 2.0], [1.0, 0.0], "values must be positive"),
        ([0.0, 1.0], [1.0, 1.0], "k must be positive"),
        ([1.0, 2.0], [1.0], "values must have shape"),
        ([1.0, 2.0], [1.0, np.nan], "values must be finite"),
        ([3.0, 3.0], [1.0, 2.0], "two different points"),
        ([3.0], [1.0], "two different points"),
    ):
        with pytest.raises(ValueError, match=message):
            fit_decay(k, values)
    with pytest.raises(ValueError, match="amplitudes"):
        fit_rate([0.0, 1.0], [[1.0], [0.0]])
    with pytest.raises(ValueError, match="points must be"):
        circle_eigenvalues(jnp.cos, 20, points=64)
    with pytest.raises(ValueError, match="points must be"):
        circle_eigenvalues(jnp.cos, 2, points=66)
    with pytest.raises(ValueError, match="k_max must be at least 0"):
        circle_eigenvalues(jnp.cos, -1)
    with pytest.raises(ValueError, match=r"kappa\(angles\) must be finite"):
        circle_eigenvalues(lambda angle: 1 / angle, 2)
    with pytest.raises(ValueError, match=r"kappa\(angles\) must have shape"):
        circle_eigenvalues(lambda angle: 1.0, 2)
