"""Kernel regression against explicit matrices, scipy's Gaussian, and scikit-learn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, WhiteKernel
from sklearn.kernel_ridge import KernelRidge

from ntkbook import gradient_flow, regression

N, M = 7, 4


def close(actual, expected, tolerance=1e-10):
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


def problem(outputs=None, rank=20):
    rng = np.random.default_rng(0)
    j = rng.normal(size=(N + M, rank))
    k = j @ j.T
    y = rng.normal(size=(N,) if outputs is None else (N, outputs))
    return k[:N, :N], y, k[N:, :N], k[N:, N:]


@pytest.mark.parametrize("outputs", [None, 2])
@pytest.mark.parametrize("ridge", [0.0, 0.3])
def test_prediction_and_posterior(ridge, outputs):
    k, y, cross, own = problem(outputs)
    fit = regression(k, y, ridge)
    inverse = np.linalg.inv(k + ridge * np.eye(N))
    close(fit.coefficients, inverse @ y)
    close(fit.predict(cross), cross @ inverse @ y)
    mean, covariance = fit.posterior(cross, own)
    close(mean, cross @ inverse @ y)
    close(covariance, own - cross @ inverse @ cross.T)
    close(fit.posterior(cross, np.diag(own))[1], np.diag(covariance))
    normal = scipy.stats.multivariate_normal(cov=k + ridge * np.eye(N))
    close(fit.log_marginal_likelihood(), np.sum(normal.logpdf(y.T)))


def test_equals_scikit_learn():
    rng = np.random.default_rng(1)
    x, x_test, y = rng.normal(size=(9, 2)), rng.normal(size=(5, 2)), rng.normal(size=9)
    kernel = RBF(0.7)
    fit = regression(kernel(x), y, 0.2)
    ridge = KernelRidge(alpha=0.2, kernel="precomputed").fit(kernel(x), y)
    close(fit.predict(kernel(x_test, x)), ridge.predict(kernel(x_test, x)))
    process = GaussianProcessRegressor(kernel + WhiteKernel(0.2), optimizer=None, alpha=0)
    process.fit(x, y)
    mean, covariance = fit.posterior(kernel(x_test, x), kernel(x_test))
    expected = process.predict(x_test, return_cov=True)
    close(mean, expected[0])
    close(covariance + 0.2 * np.eye(5), expected[1])
    close(fit.log_marginal_likelihood(), process.log_marginal_likelihood_value_)


@pytest.mark.parametrize("outputs", [None, 2])
def test_leaving_one_out(outputs):
    k, y, _, _ = problem(outputs)
    for ridge in (0.0, 0.3):
        residuals = regression(k, y, ridge).leave_one_out_residuals()
        for i in range(N):
            rest = np.delete(np.arange(N), i)
            without = regression(k[np.ix_(rest, rest)], y[rest], ridge)
            close(residuals[i], without.predict(k[i : i + 1, rest])[0] - y[i])


def test_singular_kernels():
    k, y, cross, own = problem(rank=3)
    fit = regression(k, y)
    close(fit.predict(cross), cross @ np.linalg.pinv(k, rcond=1e-12) @ y)
    close(fit.predict(cross), gradient_flow(k, y).test(np.inf, cross))
    close(fit.posterior(cross, own)[1], np.zeros((M, M)))
    assert (fit.posterior(cross, np.diag(own))[1] >= 0).all()
    for method in (fit.log_marginal_likelihood, fit.leave_one_out_residuals):
        with pytest.raises(ValueError, match="positive ridge for a singular kernel"):
            method()
    with_ridge = regression(k, y, 1e-3)
    close(with_ridge.coefficients, np.linalg.solve(k + 1e-3 * np.eye(N), y), 1e-9)


def test_jit_grad_and_dtype():
    k, y, cross, _ = problem()
    slope = jax.grad(lambda ridge: regression(k, y, ridge).log_marginal_likelihood())(0.3)
    ahead, behind = (regression(k, y, 0.3 + s).log_marginal_likelihood() for s in (1e-5, -1e-5))
    close(slope, (ahead - behind) / 2e-5, 1e-7)
    predict = jax.jit(lambda k: regression(k, y, 0.3).predict(cross))
    close(predict(k), regression(k, y, 0.3).predict(cross))
    fit = regression(np.float32(k), np.float32(y), 0.3)
    for value in (fit.predict(cross), *fit.posterior(cross, problem()[3])):
        assert value.dtype == jnp.float32
    assert fit.log_marginal_likelihood().dtype == jnp.float32


def test_bad_input_is_refused():
    k, y, cross, own = problem()
    fit = regression(k, y)
    for call, message in (
        (lambda: regression(k, y, -1.0), "ridge must be a non-negative"),
        (lambda: regression(np.diag([1.0, -1.0]), np.ones(2)), "positive semi-definite"),
        (lambda: regression(k, y[:3]), r"y_train must have shape \(7,\)"),
        (lambda: fit.predict(cross.T), r"k_test_train must have shape \(any, 7\)"),
        (lambda: fit.posterior(cross, k), r"k_test must have shape \(4, 4\)"),
        (lambda: fit.posterior(cross, np.float64(1)), r"k_test must have shape \(4, 4\)"),
        (lambda: fit.posterior(cross, own * np.nan), "k_test must be finite"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
