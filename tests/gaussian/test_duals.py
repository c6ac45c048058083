"""Duals of Gaussian pairs: against quadrature in the plane, sampling, and differences."""

from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, special

from ntkbook import duals
from ntkbook.gaussian.quadrature import quadrature

TANH = quadrature(jnp.tanh)
DUALS = {"relu": duals.relu, "erf": duals.erf, "sin": duals.sin, "tanh": TANH}
PAIRS = {name: jax.jit(partial(duals.value_and_slope, dual)) for name, dual in DUALS.items()}
FUNCTIONS = {
    "relu": (lambda z: np.maximum(z, 0), lambda z: (z > 0) * 1.0),
    "erf": (special.erf, lambda z: 2 / np.sqrt(np.pi) * np.exp(-z * z)),
    "sin": (np.sin, np.cos),
    "tanh": (np.tanh, lambda z: 1 / np.cosh(z) ** 2),
}
# (q1, q2, c) with unequal, non-unit variances: a slope in the correlation instead of the
# covariance would pass with unit ones.
COVARIANCES = [(1.3, 0.6, 0.5), (0.7, 2.1, -0.9), (1.0, 1.0, 0.99), (3.0, 0.2, 0.0)]
# Parallel, antipodal, one zero, both zero, parallel of different lengths.
EDGES = [(1.3, 1.3, 1.3), (1.3, 1.3, -1.3), (1.3, 0.0, 0.0), (0.0, 0.0, 0.0), (4.0, 1.0, 2.0)]


def plane_integral(fn, q1, q2, c):
    """E[fn(u) fn(v)] by nested adaptive quadrature, v given u, cut where u or v is zero."""
    spread = np.sqrt(q2 - c * c / q1)

    def halves(integrand, centre, width):
        lower, upper = centre - 9 * width, centre + 9 * width
        cuts = [lower, min(max(0.0, lower), upper), upper]
        options = {"epsabs": 1e-14, "epsrel": 1e-13, "limit": 200}
        return sum(integrate.quad(integrand, *ends, **options)[0] for ends in pairwise(cuts))

    def density(z, width):
        return np.exp(-z * z / (2 * width * width)) / (width * np.sqrt(2 * np.pi))

    def given(u):
        centre = c / q1 * u
        return halves(lambda v: fn(v) * density(v - centre, spread), centre, spread)

    return halves(lambda u: fn(u) * density(u, np.sqrt(q1)) * given(u), 0.0, np.sqrt(q1))


@pytest.mark.parametrize("name", DUALS)
def test_value_and_slope_agree_with_adaptive_quadrature(name):
    q1, q2, c = COVARIANCES[0]
    pair = PAIRS[name](q1, q2, jnp.asarray(c))
    for got, fn in zip(pair, FUNCTIONS[name], strict=True):
        np.testing.assert_allclose(got, plane_integral(fn, q1, q2, c), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", DUALS)
@pytest.mark.parametrize("covariance", COVARIANCES)
def test_value_and_slope_agree_with_monte_carlo(name, covariance):
    q1, q2, c = covariance
    rng = np.random.default_rng(1)
    u, w = rng.standard_normal((2, 400_000))
    u, v = np.sqrt(q1) * u, c / np.sqrt(q1) * u + np.sqrt(q2 - c * c / q1) * w
    pair = PAIRS[name](q1, q2, jnp.asarray(c))
    for got, fn in zip(pair, FUNCTIONS[name], strict=True):
        samples = fn(u) * fn(v)
        standard_error = samples.std() / np.sqrt(samples.size)
        assert abs(samples.mean() - got) < 4.5 * standard_error


@pytest.mark.parametrize("name", DUALS)
@pytest.mark.parametrize("q", [0.3, 1.0, 3.7])
def test_parallel_inputs_reduce_to_one_dimension(name, q):
    for sign in (1, -1):
        pair = PAIRS[name](q, q, jnp.asarray(sign * q))
        for got, fn in zip(pair, FUNCTIONS[name], strict=True):
            expected, _ = integrate.quad(
                lambda g, fn=fn, s=sign: (
                    fn(np.sqrt(q) * g) * fn(s * np.sqrt(q) * g) * np.exp(-g * g / 2)
                ),
                -12,
                12,
                points=[0],
                epsabs=1e-14,
                limit=200,
            )
            np.testing.assert_allclose(got, expected / np.sqrt(2 * np.pi), atol=1e-12)


def test_quadrature_agrees_with_closed_forms_also_across_a_kink():
    q1, q2, c = (jnp.array(column) for column in zip(*COVARIANCES, *EDGES[:2], strict=True))
    for closed, fn in (
        (duals.relu, jax.nn.relu),
        (duals.erf, jax.scipy.special.erf),
        (duals.sin, jnp.sin),
    ):
        got = duals.value_and_slope(quadrature(fn), q1, q2, c)
        np.testing.assert_allclose(got, duals.value_and_slope(closed, q1, q2, c), atol=1e-12)


@pytest.mark.parametrize("name", DUALS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_edges_have_finite_values_and_gradients(name, dtype):
    arguments = tuple(jnp.array(column, dtype) for column in zip(*EDGES, strict=True))

    def total(arguments):
        value, slope = PAIRS[name](*arguments)
        return (value + slope).sum()

    value, slope = PAIRS[name](*arguments)
    assert value.dtype == slope.dtype == dtype
    gradients = jax.jit(jax.grad(total))(arguments)
    assert all(np.isfinite(array).all() for array in (value, slope, *gradients))


@pytest.mark.parametrize("name", DUALS)
def test_gradients_in_every_argument_agree_with_finite_differences(name):
    point = np.array(COVARIANCES[0])
    for part in (0, 1):

        @jax.jit
        def component(p, part=part):
            return PAIRS[name](*p)[part]

        gradient = jax.jit(jax.grad(component))(jnp.asarray(point))
        step = 1e-5 * np.eye(3)
        expected = [(component(point + h) - component(point - h)) / 2e-5 for h in step]
        np.testing.assert_allclose(gradient, expected, atol=1e-8)


def test_relu_takes_inputs_apart_only_by_rounding_as_parallel():
    q = jnp.array([1.1, 0.7, 3.3])
    below = q * (1 - 2 * jnp.finfo(q.dtype).eps)
    _, slope = duals.value_and_slope(duals.relu, q, q, below)
    np.testing.assert_array_equal(slope, 0.5)
