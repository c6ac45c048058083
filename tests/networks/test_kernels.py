"""Dual activations and the kernel pair, against adaptive quadrature and Monte Carlo."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkbook import Dense, Erf, Relu, Residual, Serial, Tanh, duals
from ntkbook.signals.inputs import input_signal, inputs
from ntkbook.signals.signal import through_dense, through_dual

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
