"""Kernel regression against explicit matrices, mpmath, scipy's Gaussian, and scikit-learn."""

import warnings

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
import scipy.stats
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, WhiteKernel
from sklearn.kernel_ridge import KernelRidge

from ntkbook import Kernel, circle, gradient_flow, regression
from ntkbook.training import factors

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


def test_a_ridge_needs_no_eigenvectors(monkeypatch):
    def refuse(*_):
        raise AssertionError("decomposed")

    monkeypatch.setattr(factors, "psd_modes", refuse)
    k, y, cross, own = problem()
    fit = regression(k, y, 0.3)
    fit.predict(cross), fit.posterior(cross, own)
    fit.log_marginal_likelihood(), fit.leave_one_out_residuals()
    regression(np.float32(k), np.float32(y), 0.3)
    jax.grad(lambda k: regression(k, y, 0.3).log_marginal_likelihood())(k)
    with pytest.raises(AssertionError, match="decomposed"):
        regression(k, y)


def test_modes_of_a_fit():
    k, y, _, _ = problem(rank=3)
    for ridge in (0.0, 0.3):
        found = regression(k, y, ridge).modes
        close((found.vectors * found.values) @ found.vectors.T, k)
        assert (found.values[3:] == 0).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_ill_conditioned_kernel_equals_mpmath(dtype):
    i = np.arange(1, 9)
    k = dtype(1 / (i[:, None] + i - 1))  # Hilbert's matrix, of condition number 1e10
    y, ridge = dtype(np.sin(i)), 2.0**-20
    with mp.workdps(60):
        shifted = mp.matrix(k.astype(float).tolist()) + mp.mpf(ridge) * mp.eye(8)
        exact = mp.lu_solve(shifted, mp.matrix(y.astype(float).tolist()))
        fitted = np.array([float(v) for v in mp.matrix(k.astype(float).tolist()) * exact])
        exact = np.array([float(v) for v in exact])
    fit = regression(k, y, ridge)
    tolerance = 1e-6 if dtype is np.float32 else 1e-9
    np.testing.assert_allclose(fit.coefficients, exact, rtol=tolerance)
    np.testing.assert_allclose(fit.predict(k), fitted, rtol=0, atol=tolerance)
    assert fit.coefficients.dtype == fit.predict(k).dtype == dtype


def test_a_ridge_within_the_rounding_of_the_kernel():
    k, y, cross, own = problem(rank=3)
    mean, covariance = regression(k, y).posterior(cross, own)
    for ridge in (1e-14, 1e-18, 1e-100):
        fit = regression(k, k @ y, ridge)
        close(fit.predict(cross), regression(k, k @ y).predict(cross), 1e-9)
        # y is no function of this kernel, but what the kernel cannot tell must not be amplified.
        traced = jax.jit(lambda k, r=ridge: regression(k, y, r).predict(cross))(k)
        for found in (regression(k, y, ridge).predict(cross), traced):
            close(found, mean, 10 * np.linalg.norm(y))
        close(regression(k, y, ridge).posterior(cross, own)[1], covariance, 1e-9)
        assert np.isfinite(fit.log_marginal_likelihood())
        close(
            fit.leave_one_out_residuals(),
            regression(k, k @ y, 1e-9).leave_one_out_residuals(),
            1e-4,
        )


def smooth_kernel(n=200):
    x = np.linspace(-1, 1, n)
    return np.exp(-4 * (x[:, None] - x) ** 2), x


def test_float32_loses_no_more_than_its_entries():
    k, x = smooth_kernel()
    y = np.sin(5 * x)
    exact = k @ np.linalg.solve(k + 1e-4 * np.eye(len(k)), y)
    for wide in (True, False):
        with jax.enable_x64(wide), warnings.catch_warnings():
            warnings.simplefilter("error")
            fit = regression(np.float32(k), np.float32(y), 1e-4)
            close(fit.predict(np.float32(k)), exact, 2e-4)
            assert fit.predict(np.float32(k)).dtype == np.float32
            inside = jax.jit(lambda c: fit.predict(c))  # noqa: B023
            close(inside(np.float32(k)), exact, 2e-2)
            close(fit.predict(np.float32(k)), exact, 2e-4)


@pytest.mark.parametrize("ridge", [0.0, 1e-12])
def test_what_float32_has_lost_is_said(ridge):
    k, x = smooth_kernel()
    noise = np.random.default_rng(0).normal(size=len(x))
    for kernel, y in ((np.float32(k), np.float32(noise)), (np.float32(k), noise)):
        with pytest.warns(UserWarning, match=r"of the 200 .* float32.*setup\(\)") as caught:
            regression(kernel, y, ridge)
        assert len(caught) == 1
        assert caught[0].filename == __file__ or "typed" in caught[0].filename
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        regression(k, noise, ridge)  # float64: a kernel that is singular by itself
        regression(np.float32(k), np.float32(np.sin(5 * x)), ridge)  # nothing is lost of this
        jax.jit(lambda k: regression(k, np.float32(noise), ridge).coefficients)(np.float32(k))


RESULTS = {
    "prediction": lambda fit, cross, own: fit.predict(cross)[1] + fit.coefficients[1],
    "covariance": lambda fit, cross, own: fit.posterior(cross, own)[1][0, 1],
    "likelihood": lambda fit, cross, own: fit.log_marginal_likelihood(),
    "left out": lambda fit, cross, own: fit.leave_one_out_residuals()[2],
}


def slope_of(function, step):
    """A central difference, of fourth order."""
    near, far = (function(h) - function(-h) for h in (step, 2 * step))
    return (8 * near - far) / (12 * step)


@pytest.mark.parametrize("name", RESULTS)
@pytest.mark.parametrize("ridge", [0.0, 0.3])
def test_derivatives_at_repeated_eigenvalues(name, ridge):
    x = np.asarray(circle(8))
    k = (x @ x.T + 2) ** 3 / 9 + np.eye(8) / 2  # circulant: all but two eigenvalues come twice
    assert np.min(np.diff(np.linalg.eigvalsh(k))) < 1e-12
    rng = np.random.default_rng(2)
    y, away = rng.normal(size=8), rng.normal(size=(8, 8))
    cross, own = 0.7 * k[:3], 1.5 * k[:3, :3]

    def result(s, more=0.0):
        fit = regression(k + s * (away + away.T), y, ridge + more)
        return RESULTS[name](fit, cross, own)

    def slope(s):
        return jax.grad(result)(s)

    expected = slope_of(result, 1e-4)
    close(jax.grad(result)(0.0), expected, 1e-7)
    close(jax.jit(jax.jacfwd(result))(0.0), expected, 1e-7)
    close(jax.jit(jax.hessian(result))(0.0), slope_of(slope, 1e-4), 1e-6)
    if ridge:
        along_ridge = jax.jit(jax.grad(result, 1))(0.0, 0.0)
        close(along_ridge, slope_of(lambda r: result(0.0, r), 1e-4), 1e-7)


def test_derivatives_at_constant_rank():
    rng = np.random.default_rng(3)
    j, away, y = rng.normal(size=(6, 3)), rng.normal(size=(6, 3)), rng.normal(size=6)

    def result(s):
        moved = j + s * away
        fit = regression(moved @ moved.T, y)
        return fit.predict(moved[:2] @ moved.T)[0] + fit.coefficients[4]

    expected = slope_of(result, 1e-4)
    close(jax.grad(result)(0.0), expected, 1e-7)
    close(jax.jit(jax.jacfwd(result))(0.0), expected, 1e-7)


def test_in_compiled_functions():
    k, y, cross, own = problem()
    for ridge in (0.0, 0.3):
        fit = regression(k, y, ridge)
        inside = jax.jit(lambda fit, c: (fit.predict(c), *fit.posterior(c, own)))(fit, cross)
        expected = fit.predict(cross), *fit.posterior(cross, own)
        for value, wanted in zip(inside, expected, strict=True):
            close(value, wanted)
    ridges = jnp.array([0.1, 0.3])
    along = jax.vmap(lambda r: regression(k, y, r).log_marginal_likelihood())(ridges)
    close(along, [regression(k, y, float(r)).log_marginal_likelihood() for r in ridges])
    both = jax.vmap(lambda k: regression(k, y, 0.3).predict(cross))(jnp.stack([k, 2 * k]))
    close(both, [regression(c * k, y, 0.3).predict(cross) for c in (1, 2)])
    assert len(jax.tree.leaves(fit)) == 3
    # First used inside of a compiled function, then outside of it.
    copy = jax.tree.map(lambda leaf: leaf, fit)
    close(jax.jit(lambda c: copy.predict(c))(cross), copy.predict(cross))


def test_a_singular_kernel_in_compiled_functions():
    k, y, _, _ = problem(rank=3)
    density, left = jax.jit(
        lambda k: (
            regression(k, y).log_marginal_likelihood(),
            regression(k, y).leave_one_out_residuals(),
        )
    )(k)
    assert density == -np.inf
    assert np.isnan(left).all()


def test_kernels_of_networks():
    k, y, cross, own = problem()
    other = k + np.diag(np.arange(N))
    pair, at_test, among_test = Kernel(k, other), Kernel(cross, 2 * cross), Kernel(own, 3 * own)
    diagonal = Kernel(np.diag(own), 3 * np.diag(own))
    for kind, matrix, times in (("nngp", k, 1), ("ntk", other, 2)):
        fit, plain = regression(pair, y, 0.3, kind), regression(matrix, y, 0.3)
        close(fit.predict(at_test), plain.predict(times * cross))
        expected = plain.posterior(times * cross, (2 * times - 1) * own)
        for value, wanted in zip(fit.posterior(at_test, among_test), expected, strict=True):
            close(value, wanted)
        close(fit.posterior(at_test, diagonal)[1], np.diag(expected[1]))
    close(regression(pair, y).coefficients, regression(other, y).coefficients)
    with pytest.raises(ValueError, match="k_test_train must be an array, as k_train is one"):
        plain.predict(at_test)
    with pytest.raises(ValueError, match="kind='nngp' needs k_train as a Kernel"):
        regression(k, y, kind="nngp")
    with pytest.raises(ValueError, match="kind must be one of 'ntk', 'nngp'"):
        regression(pair, y, kind="both")


@pytest.mark.parametrize("ridge", [0.0, 0.3])
def test_a_kernel_for_each_pair_of_outputs(ridge):
    q = 2
    rng = np.random.default_rng(4)
    j = rng.normal(size=((N + M) * q, 30))
    flat = j @ j.T
    whole = flat.reshape(N + M, q, N + M, q).transpose(0, 2, 1, 3)
    k, cross, own = whole[:N, :N], whole[N:, :N], whole[N:, N:]
    y = rng.normal(size=(N, q))
    fit = regression(k, y, ridge)
    plain = regression(flat[: N * q, : N * q], y.reshape(-1), ridge)
    close(fit.coefficients, plain.coefficients.reshape(N, q))
    mean, covariance = fit.posterior(cross, own)
    expected = plain.posterior(flat[N * q :, : N * q], flat[N * q :, N * q :])
    close(fit.predict(cross), expected[0].reshape(M, q))
    close(mean, expected[0].reshape(M, q))
    close(covariance, expected[1].reshape(M, q, M, q).transpose(0, 2, 1, 3))
    variances = np.einsum("iiaa->ia", own)
    close(fit.posterior(cross, variances)[1], np.einsum("iiaa->ia", covariance))
    close(fit.log_marginal_likelihood(), plain.log_marginal_likelihood())
    residuals = fit.leave_one_out_residuals()
    for i in range(N):
        rest = np.delete(np.arange(N), i)
        without = regression(k[np.ix_(rest, rest)], y[rest], ridge)
        close(residuals[i], without.predict(k[i : i + 1, rest])[0] - y[i])
    with pytest.raises(ValueError, match=r"y_train must have shape \(7, 2\)"):
        regression(k, y[:, 0])
    with pytest.raises(ValueError, match=r"k_test must have shape \(4, 4, 2, 2\)"):
        fit.posterior(cross, own[..., 0])
    with pytest.raises(ValueError, match=r"k_test_train must have shape \(M, N, 2, 2\)"):
        fit.predict(cross[..., 0, 0])


def test_bad_input_is_refused():
    k, y, cross, own = problem()
    fit = regression(k, y)
    for call, message in (
        (lambda: regression(k, y, -1.0), "ridge must be a non-negative"),
        (lambda: regression(np.diag([1.0, -1.0]), np.ones(2)), "positive semi-definite"),
        (lambda: regression(np.diag([1.0, -0.1]), np.ones(2), 0.5), "k_train must be positive"),
        (lambda: regression(np.diag([1.0, -1e-3]), np.ones(2), 0.5), "k_train must be positive"),
        (lambda: regression(k, y[:3]), r"y_train must have shape \(7,\)"),
        (lambda: fit.predict(cross.T), r"k_test_train must have shape \(any, 7\)"),
        (lambda: fit.posterior(cross, k), r"k_test must have shape \(4, 4\)"),
        (lambda: fit.posterior(cross, np.float64(1)), r"k_test must have shape \(4, 4\)"),
        (lambda: fit.posterior(cross, own * np.nan), "k_test must be finite"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
