"""Kernels of deep networks against the layers, recursions in mpmath and asymptotic constants."""

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest

import ntkbook as ntk
from ntkbook import (
    Abs,
    Cos,
    Dense,
    Elementwise,
    Erf,
    Exp,
    Gaussian,
    Gelu,
    LeakyRelu,
    Polynomial,
    Rbf,
    RectifiedPower,
    Relu,
    Serial,
    Sin,
    Tanh,
    correlation_expansion,
    critical_point,
    deep_signal,
    depth_laws,
    end_point,
    mean_field,
)

ACTIVATIONS = [
    Erf(), Relu(), LeakyRelu(0.2), Abs(), Gelu(), Sin(), Cos(), Exp(), Rbf(0.7), Tanh(),
    RectifiedPower(2), Polynomial((0.3, 1, 0, 0.1)),
]  # fmt: skip


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
@pytest.mark.parametrize("gap", [0.3, 1.6])
def test_entries_are_those_of_the_layers(activation, gap):
    w_var, b_var = 0.6, 0.2
    angle = np.arccos(1 - gap)
    # The first layer has no bias, so that its variance is w_var and its angle that of the inputs.
    x = np.sqrt(2) * np.array([[1.0, 0.0], [np.cos(angle), np.sin(angle)]])
    body = [Dense(8, w_std=w_var**0.5, b_std=b_var**0.5), activation]
    net = Serial(Dense(8, w_std=w_var**0.5), activation, *body, Dense(1, w_var**0.5, b_var**0.5))
    kernel = net.kernel(x)
    deep = deep_signal(activation, gap, [3], w_var=w_var, b_var=b_var, q=w_var)
    variance, ntk_diagonal = kernel.nngp[0, 0], kernel.ntk[0, 0]
    np.testing.assert_allclose(deep.q[0], variance, rtol=1e-12)
    np.testing.assert_allclose(deep.q * deep.correlation, kernel.nngp[0, 1], atol=1e-12 * variance)
    np.testing.assert_allclose(deep.ntk_diagonal[0], ntk_diagonal, rtol=1e-12)
    np.testing.assert_allclose(deep.ntk, kernel.ntk[0, 1], atol=1e-11 * ntk_diagonal)


def precise(w_var, b_var, q, gap, layers, digits):
    """u, Θ(x, x) and Θ(x, x) - Θ(x, x') of erf by the plain recursion in many digits."""
    with mp.workdps(digits):
        w_var, b_var, q = mp.mpf(w_var), mp.mpf(b_var), mp.mpf(q)
        c = q * (1 - mp.mpf(gap))
        diagonal, beside = q, c
        for _ in range(layers - 1):
            root = mp.sqrt((1 + 2 * q) ** 2 - 4 * c * c)
            steep, slope = 4 * w_var / mp.pi / mp.sqrt(1 + 4 * q), 4 * w_var / mp.pi / root
            c = 2 * w_var / mp.pi * mp.asin(2 * c / (1 + 2 * q)) + b_var
            q = 2 * w_var / mp.pi * mp.asin(2 * q / (1 + 2 * q)) + b_var
            diagonal, beside = q + steep * diagonal, c + slope * beside
        return float((q - c) / q), float(diagonal), float(diagonal - beside)


@pytest.mark.parametrize("gap", [0.7, 1e-9])
@pytest.mark.parametrize(("w_var", "layers"), [(1.25, 900), (1.375839013, 2000), (1.5, 300)])
def test_digits_survive_hundreds_of_layers(w_var, layers, gap):
    q = 0.5
    expected = precise(w_var, 0.05, q, gap, layers, 80)
    deep = deep_signal(Erf(), gap, [layers], w_var=w_var, b_var=0.05, q=q)
    found = [deep.gap[0], deep.ntk_diagonal[0], deep.ntk_gap[0]]
    # A relative error of u in one layer is passed on: rounding adds up with depth.
    np.testing.assert_allclose(found, expected, rtol=1e-15 * 20 * layers)


def test_a_million_layers_at_criticality():
    point = critical_point(Erf(), b_var=0.05)
    scales = {"w_var": point.w_var, "b_var": point.b_var}
    laws = depth_laws(Erf(), **scales)
    deep = deep_signal(Erf(), jnp.array([1.5, 0.5]), [10**5, 10**6], **scales)
    # C'' = 4q²/√(1 + 4q)/√(1 + 4q) on the critical line of erf.
    curvature = 4 * point.q**2 / (1 + 4 * point.q)
    np.testing.assert_allclose(2 * laws.coefficient, curvature, rtol=1e-12)
    np.testing.assert_allclose(deep.layers[1] * deep.gap[1], 2 / curvature, rtol=2e-4)
    # Increments don't see the start: 1/u grows by C''/2 + O(u) a layer, u being 6/l.
    growth = (1 / deep.gap[1] - 1 / deep.gap[0]) / 9e5
    np.testing.assert_allclose(growth, curvature / 2, rtol=3e-5)
    np.testing.assert_allclose(deep.ntk_diagonal[:, 0], deep.layers * point.q, rtol=1e-9)
    np.testing.assert_allclose(deep.ntk[1] / deep.ntk_diagonal[1], 1 / 3, rtol=1e-4)
    assert laws.pair / laws.diagonal == pytest.approx(1 / 3)

    laws = depth_laws(Relu(), w_var=2.0, b_var=0.0)
    deep = deep_signal(Relu(), 0.5, [10**5, 10**6], w_var=2.0, b_var=0.0, q=1.0)
    np.testing.assert_allclose(laws.nngp, 9 * np.pi**2 / 2, rtol=1e-14)
    growth = (deep.gap[1] ** -0.5 - deep.gap[0] ** -0.5) / 9e5
    np.testing.assert_allclose(growth, np.sqrt(2) / (3 * np.pi), rtol=2e-5)
    np.testing.assert_allclose(deep.ntk[1] / deep.ntk_diagonal[1], 1 / 4, rtol=1e-4)
    assert laws.pair / laws.diagonal == pytest.approx(1 / 4)


def test_the_ordered_phase():
    laws = depth_laws(Erf(), w_var=1.25, b_var=0.05)
    np.testing.assert_allclose(laws.diagonal, 11.266106, rtol=5e-8)
    deep = deep_signal(Erf(), jnp.array([1.0, 0.5, 0.1]), [400, 800], w_var=1.25, b_var=0.05)
    power = laws.field.chi_1 ** (deep.layers[:, None] - 1.0)
    start = deep.gap[1] / power[1]
    np.testing.assert_allclose(start[1], 0.188815, rtol=3e-6)
    scaled = deep.ntk_gap / power
    np.testing.assert_allclose((scaled[1] - scaled[0]) / 400 / start, laws.bulk, rtol=1e-6)
    np.testing.assert_allclose(laws.bulk * start[1], 0.6700, atol=2e-4)


def test_a_kink_halves_the_rate_of_the_tangent_kernel_in_order():
    laws = depth_laws(Relu(), w_var=1.5, b_var=0.05)
    deep = deep_signal(Relu(), jnp.array([1.0, 0.1]), [240], w_var=1.5, b_var=0.05)
    power = float(laws.field.chi_1) ** 239
    start = deep.gap / power
    np.testing.assert_allclose(deep.ntk_gap / np.sqrt(start * power), laws.bulk, rtol=1e-12)


def test_the_chaotic_phase():
    laws = depth_laws(Erf(), w_var=1.5, b_var=0.05)
    np.testing.assert_allclose([laws.diagonal, laws.pair], [17.3415, 16.2164], atol=6e-5)
    deep = deep_signal(Erf(), jnp.array([1.0, 0.5]), [900], w_var=1.5, b_var=0.05)
    growth = float(laws.field.chi_1) ** 900
    np.testing.assert_allclose(deep.ntk_diagonal / growth, laws.diagonal, rtol=1e-9)
    np.testing.assert_allclose(deep.ntk, laws.pair, rtol=1e-9)
    np.testing.assert_allclose(deep.q * deep.gap, laws.nngp, rtol=1e-9)


def test_the_end_of_the_critical_line_keeps_the_data():
    for activation, last, rtol in ((Erf(), 10**5, 3e-4), (Sin(), 1000, 2e-2)):
        end = end_point(activation)
        scales = {"w_var": end.w_var, "b_var": 0.0}
        gaps = jnp.array([1.2, 0.4])
        deep = deep_signal(activation, gaps, [last, 2 * last], **scales, q=1.0)
        # Corrections are log(l)/l.
        np.testing.assert_allclose(deep.layers * deep.q[:, 0], end.variance, rtol=rtol)
        np.testing.assert_allclose(deep.ntk_diagonal, end.diagonal, rtol=rtol)
        np.testing.assert_allclose(deep.gap[1], deep.gap[0], rtol=rtol / 10)
        ratio = deep.ntk[1] / deep.ntk_diagonal[1]
        np.testing.assert_allclose(ratio, deep.correlation[1], atol=rtol)
        with pytest.raises(ValueError, match="end_point"):
            depth_laws(activation, **scales)


def test_expansions_fit_the_map():
    smooth = (Erf(), 0.5, 1.4), (Gelu(), 2.0, 1.7), (Tanh(), 0.6, 1.8)
    flat = (Cos(), 0.7, 1.0), (Gaussian(), 1.0, 2.0)  # at zero, where a kink would be
    for activation, q, w_var in (*smooth, *flat):
        exponent, a = correlation_expansion(activation, q=q, w_var=w_var)
        assert exponent == 2
        # C'' = dχ/dc at c = 1, by finite differences from one side.
        c = 1 - jnp.array([0.0, 1e-4, 2e-4])
        chi = np.asarray(ntk.chi(activation, c, q=q, w_var=w_var))
        slope = (1.5 * chi[0] - 2 * chi[1] + 0.5 * chi[2]) / 1e-4
        np.testing.assert_allclose(2 * a, slope, rtol=1e-6)
    for activation, jump in ((Relu(), 1), (Abs(), 2), (LeakyRelu(0.3), 0.7)):
        exponent, a = correlation_expansion(activation, q=1.0, w_var=1.0)
        lost = ntk.chi(activation, 1 - 1e-8, q=1.0, w_var=1.0)
        chi_1 = ntk.chi(activation, q=1.0, w_var=1.0)
        assert exponent == 1.5
        np.testing.assert_allclose(1.5 * a * 1e-4, chi_1 - lost, rtol=1e-5)
        np.testing.assert_allclose(a, jump**2 * np.sqrt(2) / (3 * np.pi), rtol=1e-14)
    exponent, a = correlation_expansion(RectifiedPower(2), q=1.0, w_var=0.3)  # E[φ''²] = 4/2
    assert exponent == 2
    np.testing.assert_allclose(a, 0.3, rtol=1e-12)
    softplus = Elementwise(jax.nn.softplus, name="softplus")
    assert correlation_expansion(softplus, q=1.0, w_var=1.0)[0] == 2


def test_an_activation_that_is_flat_at_zero_is_smooth():
    scales = {"w_var": 1.0, "b_var": 0.1}
    laws = depth_laws(Cos(), **scales)
    assert laws.exponent == 2
    deep = deep_signal(Cos(), jnp.array([0.7, 0.4]), [100, 101], **scales)
    first, last = deep.ntk_gap / deep.gap  # of order l, and a layer adds the coefficient
    np.testing.assert_allclose(last - first, laws.bulk, rtol=1e-9)


def test_dropout_in_every_layer():
    scales = {"w_var": 1.1, "b_var": 0.05, "keep": 0.9}
    field = mean_field(Erf(), **scales)
    deep = deep_signal(Erf(), jnp.array([0.0, 1.2]), range(1, 301), **scales)
    assert deep.gap[1, 0] > 0
    np.testing.assert_allclose(deep.correlation[-1], field.correlation, rtol=1e-10)
    beside = field.q * field.correlation / (1 - field.chi_star)  # Θ' = q c + χ Θ
    np.testing.assert_allclose(deep.ntk[-1], beside, rtol=1e-8)
    np.testing.assert_allclose(deep.ntk_diagonal[-1], field.q / (1 - field.chi_1), rtol=1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gap": 2.5}, "gap must be 1 - ρ"),
        ({"layers": [3, 2]}, "layers must ascend"),
        ({"layers": []}, "layers must ascend"),
        ({"layers": [0]}, "layers must be at least 1"),
        ({"q": -1.0}, "q must be a non-negative"),
        ({"w_var": -1.0}, "w_var must not be negative"),
        ({"activation": Relu(), "w_var": 2.0}, "grows without bound"),
    ],
)
def test_bad_arguments_are_refused(change, message):
    arguments = {"activation": Erf(), "gap": 0.5, "layers": [3], "w_var": 1.5, "b_var": 0.05}
    with pytest.raises(ValueError, match=message):
        deep_signal(**(arguments | change))


def test_a_jump_has_no_tangent_kernel():
    with pytest.raises(ValueError, match="continuous at zero"):
        correlation_expansion(RectifiedPower(0), q=1.0, w_var=1.0)
