"""Modes of a kernel matrix against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np

from ntkbook import condition_number, effective_dimension, modes


def gram(rows=6, columns=9, seed=0):
    j = np.random.default_rng(seed).normal(size=(rows, columns))
    return j @ j.T


def test_modes_rebuild_the_kernel():
    kernel = gram()
    found = modes(kernel)
    assert (np.diff(found.values) < 0).all()
    np.testing.assert_allclose((found.vectors * found.values) @ found.vectors.T, kernel, atol=1e-13)
    np.testing.assert_allclose(found.vectors.T @ found.vectors, np.eye(6), atol=1e-14)
    v = np.random.default_rng(1).normal(size=(6, 2))
    np.testing.assert_allclose(found.vectors @ found.project(v), v, atol=1e-14)
    np.testing.assert_allclose(found.project(v[:, 0]), found.project(v)[:, 0], atol=1e-14)


def test_rates_of_flow_and_descent():
    found = modes(np.diag([4.0, 1.0, 0.5]))
    np.testing.assert_allclose(found.rates(0.1), [0.4, 0.1, 0.05])
    np.testing.assert_allclose(found.rates(0.1, discrete=True), -np.log([0.6, 0.9, 0.95]))
    assert found.rates(0.6, discrete=True)[0] < 0  # beyond 2/λ: that mode diverges


def test_modes_pass_through_jit_and_keep_float32():
    kernel = gram().astype(np.float32)
    found = jax.jit(modes)(kernel)
    assert found.values.dtype == found.vectors.dtype == found.rates(0.5).dtype == jnp.float32
    np.testing.assert_allclose(found.values, modes(kernel).values, rtol=1e-5)
    assert condition_number(kernel).dtype == effective_dimension(kernel, 0.1).dtype == jnp.float32
