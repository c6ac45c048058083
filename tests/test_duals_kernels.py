"""Dual activations and the kernel pair, against adaptive quadrature and Monte Carlo."""

from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, special

from ntkbook import duals
from ntkbook.activations import Erf, Relu, Tanh
from ntkbook.kernels import input_signal, inputs, through_dense, through_dual
from ntkbook.layers import Dense, Residual, Serial
from ntkbook.quadrature import quadrature

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


NETS = {
    "relu": Serial(Dense(8, 1.4, 0.3), Relu(), Dense(8, 1.4, 0.3), Relu(), Dense(1, 1.4, 0.3)),
    "erf": Serial(Dense(8, 1.5, 0.1), Erf(), Dense(8, 1.5, 0.1), Erf(), Dense(1, 1.5, 0.1)),
    "tanh": Serial(Dense(8, 1.5, 0.1), Tanh(), Dense(1, 1.5, 0.1)),
    "residual": Serial(Dense(8), Residual(Relu(), Dense(8, 0.7, 0.2)), Erf(), Dense(1)),
}


@pytest.fixture(scope="module")
def x():
    return jax.random.normal(jax.random.key(3), (6, 4))


@pytest.mark.parametrize("name", NETS)
def test_cross_kernel_agrees_with_symmetric_one(name, x):
    symmetric, cross = NETS[name].kernel(x), NETS[name].kernel(x, x + 0.0)
    np.testing.assert_allclose(cross.nngp, symmetric.nngp, rtol=1e-12)
    np.testing.assert_allclose(cross.ntk, symmetric.ntk, rtol=1e-12)
    diagonal = NETS[name].kernel_diagonal(x)
    np.testing.assert_allclose(np.diagonal(symmetric.nngp), diagonal.nngp, rtol=1e-14)
    np.testing.assert_allclose(np.diagonal(symmetric.ntk), diagonal.ntk, rtol=1e-14)


@pytest.mark.parametrize("name", NETS)
def test_kernels_are_symmetric_and_positive_definite(name, x):
    kernel = NETS[name].kernel(x)
    for matrix in (kernel.nngp, kernel.ntk, kernel.ntk - kernel.nngp):
        np.testing.assert_allclose(matrix, matrix.T, rtol=0, atol=1e-15 * matrix.max())
        assert np.linalg.eigvalsh(matrix).min() > 0


def test_erf_recursion_of_two_hidden_layers_in_plain_numpy(x):
    w, b = 1.5**2, 0.1**2
    inner = np.asarray(x) @ np.asarray(x).T / 4
    k = theta = w * inner + b
    for _ in range(2):
        q = np.diagonal(k)
        size = np.outer(1 + 2 * q, 1 + 2 * q)
        slope = 4 / np.pi / np.sqrt(size - 4 * k * k)
        k = w * 2 / np.pi * np.arcsin(2 * k / np.sqrt(size)) + b
        theta = k + w * slope * theta
    kernel = NETS["erf"].kernel(x)
    np.testing.assert_allclose(kernel.nngp, k, rtol=1e-13)
    np.testing.assert_allclose(kernel.ntk, theta, rtol=1e-13)


@pytest.mark.parametrize("depth", [1, 3, 50])
def test_relu_tangent_kernel_of_an_input_with_itself(depth):
    # By homogeneity each layer adds K: the diagonal is (H + 1) K, and K stays |x|²/d.
    x = jax.random.normal(jax.random.key(0), (5, 7))
    hidden = [layer for _ in range(depth) for layer in (Dense(1, 2**0.5), Relu())]
    net = Serial(*hidden, Dense(1))
    expected = (depth + 1) * np.sum(np.asarray(x) ** 2, axis=1) / 7
    cross = net.kernel(x, jnp.concatenate([x[:1], x]))
    np.testing.assert_allclose(np.diagonal(net.kernel(x).ntk), expected, rtol=1e-13)
    np.testing.assert_allclose(np.diagonal(cross.ntk[:, 1:]), expected, rtol=1e-13)
    np.testing.assert_allclose(cross.ntk[0, 0], expected[0], rtol=1e-13)


@pytest.mark.parametrize(
    ("name", "dtype"), [("relu", "float32"), ("residual", "float64"), ("tanh", "float32")]
)
def test_special_rows_have_finite_kernels_and_gradients(name, dtype):
    x1 = jnp.array([[1, 2, 0, 1], [1, 2, 0, 1], [-1, -2, 0, -1], [0, 0, 0, 0]], dtype)

    @jax.jit
    @jax.grad
    def gradient(x):
        kernels = NETS[name].kernel(x), NETS[name].kernel(x, x1)
        return sum((kernel.nngp + kernel.ntk).sum() for kernel in kernels)

    for kernel in (NETS[name].kernel(x1), NETS[name].kernel(x1, x1)):
        assert kernel.nngp.dtype == kernel.ntk.dtype == dtype
        assert np.isfinite(kernel.ntk).all()
    assert gradient(x1).dtype == dtype
    assert np.isfinite(gradient(x1)).all()


@pytest.mark.parametrize("name", ["relu", "residual"])
def test_gradient_in_the_inputs_agrees_with_finite_differences(name, x):
    @jax.jit
    def total(x1):
        kernel = NETS[name].kernel(x1, x[3:])
        return (kernel.nngp + kernel.ntk).sum()

    gradient = jax.jit(jax.grad(total))(x[:1])[0]
    step = 1e-5 * np.eye(4)
    expected = [(total(x[:1] + h) - total(x[:1] - h)) / 2e-5 for h in step]
    np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-8)


def test_kernel_works_under_jit_and_vmap(x):
    net = NETS["relu"]
    expected = net.kernel(x[:3], x[3:]).ntk
    np.testing.assert_allclose(jax.jit(net.kernel)(x[:3], x[3:]).ntk, expected, rtol=1e-13)
    batched = jax.vmap(net.kernel)(jnp.stack([x[:3]] * 2), jnp.stack([x[3:]] * 2))
    assert batched.ntk.shape == (2, 3, 3)
    np.testing.assert_allclose(batched.ntk[1], expected, rtol=1e-13)


def test_a_nonlinearity_needs_gaussian_entries(x):
    with pytest.raises(ValueError, match="Dense layer before each nonlinearity"):
        through_dual(input_signal(inputs(x), inputs(x)), duals.relu)
    dense = through_dense(input_signal(inputs(x), inputs(x)), 8, 1.0, 0.0, 1.0, 0.0)
    with pytest.raises(ValueError, match="not Gaussian"):
        through_dual(through_dual(dense, duals.relu), duals.erf)
