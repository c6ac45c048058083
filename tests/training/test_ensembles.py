"""Ensembles of infinitely wide networks against matrix formulas, Gaussian processes and samples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import DotProduct

from ntkbook import Dense, Erf, Kernel, Serial, gradient_descent, gradient_flow, linearize

N, M, RATE = 5, 4, 0.7


def close(actual, expected, tolerance=1e-10):
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


def kernel(x1, x2):
    """Two positive kernels of no network in particular."""
    distance = ((x1[:, None] - x2[None]) ** 2).sum(-1)
    return Kernel(np.exp(-distance / 2), np.exp(-distance) + x1 @ x2.T)


def problem(outputs=None, seed=0):
    rng = np.random.default_rng(seed)
    x, x_test = rng.normal(size=(N, 3)), rng.normal(size=(M, 3))
    y = rng.normal(size=(N,) if outputs is None else (N, outputs))
    return kernel(x, x), y, kernel(x_test, x), kernel(x_test, x_test)


def moments(k, y, cross, own, decay, trained):
    """The formulas as they are written, with explicit inverses."""
    theta, theta_test = (v.nngp if trained == "readout" else v.ntk for v in (k, cross))
    a = theta_test @ np.linalg.solve(theta, np.eye(N) - decay(np.array(theta)))
    half = a @ cross.nngp.T
    return a @ y, own.nngp + a @ k.nngp @ a.T - half - half.T


@pytest.mark.parametrize("trained", ["all", "readout"])
@pytest.mark.parametrize("outputs", [None, 2])
def test_moments_equal_the_formula(trained, outputs):
    k, y, cross, own = problem(outputs)
    times = np.array([0.0, 0.5, 20.0, np.inf])
    flow = gradient_flow(k, y, RATE, trained=trained)
    mean, covariance = flow.ensemble(times, cross, own)
    assert mean.shape == (4, M, *y.shape[1:])
    assert covariance.shape == (4, M, M)
    for i, t in enumerate(times):

        def decay(theta, t=t):
            return np.zeros((N, N)) if np.isinf(t) else scipy.linalg.expm(-RATE * t * theta)

        expected = moments(k, y, cross, own, decay, trained)
        for actual, wanted in zip((mean[i], covariance[i]), expected, strict=True):
            close(actual, wanted)
        one = flow.ensemble(t, cross, own)
        close(one[0], mean[i])
        close(one[1], covariance[i])
        close(flow.ensemble(t)[1], flow.ensemble(t, k, k)[1])
        close(flow.ensemble(t)[0], flow.ensemble(t, k, k)[0])


@pytest.mark.parametrize("momentum", [0.0, 0.6])
def test_moments_of_descent_equal_the_recursion(momentum):
    k, y, cross, own = problem()
    steps, rate = 7, 0.1
    descent = gradient_descent(k, y, rate, momentum)
    mean, covariance = descent.ensemble(np.array([0, steps]), cross, own)

    def decay(theta):
        now = before = np.eye(N)
        for _ in range(steps):
            now, before = now - rate * theta @ now + momentum * (now - before), now
        return now

    expected = moments(k, y, cross, own, decay, "all")
    close(mean[1], expected[0])
    close(covariance[1], expected[1])
    close(covariance[0], own.nngp)
    close(descent.ensemble(steps)[1], descent.ensemble(steps, k, k)[1])


def test_readout_arrives_at_the_gaussian_process():
    rng = np.random.default_rng(3)
    x, x_test, y = rng.normal(size=(N, 6)), rng.normal(size=(M, 6)), rng.normal(size=N)
    k, cross, own = (
        Kernel(2.25 + a @ b.T, None) for a, b in ((x, x), (x_test, x), (x_test, x_test))
    )
    mean, covariance = gradient_flow(k, y, RATE, trained="readout").ensemble(np.inf, cross, own)
    process = GaussianProcessRegressor(DotProduct(1.5, "fixed"), alpha=1e-13).fit(x, y)
    expected = process.predict(x_test, return_cov=True)
    close(mean, expected[0], 1e-9)
    close(covariance, expected[1], 1e-9)


def test_moments_are_those_of_sampled_networks():
    # Wide networks, linearised: each trains under its own empirical kernel, by explicit steps.
    net = Serial(Dense(256, w_std=1.5, b_std=0.3), Erf(), Dense(1, w_std=1.2, b_std=0.2))
    rng = np.random.default_rng(1)
    x, x_test = jnp.array(rng.normal(size=(4, 2))), jnp.array(rng.normal(size=(3, 2)))
    y, rate, steps, samples = jnp.array(rng.normal(size=(4, 1))), 0.05, 20, 1500

    def trained(key):
        start = net.init(key, (2,))
        model = linearize(net.apply, start)
        slope = jax.grad(lambda params: 0.5 * ((model(params, x) - y) ** 2).sum())
        step = lambda _, p: jax.tree.map(lambda a, b: a - rate * b, p, slope(p))  # noqa: E731
        return model(jax.lax.fori_loop(0, steps, step, start), x_test)[:, 0]

    keys = jax.random.split(jax.random.key(0), samples)
    drawn = np.asarray(jax.jit(lambda keys: jax.lax.map(trained, keys, batch_size=50))(keys))
    exact = net.kernel(jnp.concatenate([x, x_test]))

    def part(row, column):
        rows, columns = slice(row, row + 4), slice(column, column + 4)
        return Kernel(exact.nngp[rows, columns], exact.ntk[rows, columns])

    descent = gradient_descent(part(0, 0), y, rate)
    mean, covariance = descent.ensemble(steps, part(4, 0), part(4, 4))
    spread = np.sqrt(np.diag(covariance))
    # Five standard errors, and as much again for the finite width.
    assert (np.abs(drawn.mean(0) - mean[:, 0]) < 10 * spread / samples**0.5).all()
    error = np.sqrt((covariance**2 + np.outer(spread, spread) ** 2) / samples)
    assert (np.abs(np.cov(drawn.T) - covariance) < 10 * error).all()


@pytest.mark.parametrize("t", [0.0, 1.0, np.inf])
def test_singular_kernels(t):
    rng = np.random.default_rng(2)
    features, rates = rng.normal(size=(N + M, 3)), rng.normal(size=(N + M, 2))
    nngp, ntk = features @ features.T, rates @ rates.T
    k, own = Kernel(nngp[:N, :N], ntk[:N, :N]), Kernel(nngp[N:, N:], ntk[N:, N:])
    cross = Kernel(nngp[N:, :N], ntk[N:, :N])
    flow = gradient_flow(k, np.ones(N), RATE)
    decay = np.eye(N) if t == 0 else scipy.linalg.expm(-RATE * min(t, 1e3) * k.ntk)
    a = cross.ntk @ np.linalg.pinv(k.ntk) @ (np.eye(N) - decay)
    mean, covariance = flow.ensemble(t, cross, own)
    close(mean, a @ np.ones(N))
    close(covariance, own.nngp + a @ k.nngp @ a.T - a @ cross.nngp.T - cross.nngp @ a.T)
    close(flow.ensemble(t)[1], decay @ k.nngp @ decay)


def test_symmetric_positive_and_diagonal():
    rng = np.random.default_rng(4)
    x, x_test = rng.normal(size=(40, 2)), rng.normal(size=(30, 2))
    for dtype, small in ((np.float64, 1e-9), (np.float32, 1e-3)):
        xs, x_tests = x.astype(dtype), x_test.astype(dtype)
        flow = gradient_flow(kernel(xs, xs), xs[:, 0], 1.0)
        cross, own = kernel(x_tests, xs), kernel(x_tests, x_tests)
        for t in (0.0, 1.0, 1e3):
            for covariance in (flow.ensemble(t)[1], flow.ensemble(t, cross, own)[1]):
                assert covariance.dtype == dtype
                assert (covariance == covariance.T).all()
                assert np.linalg.eigvalsh(covariance).min() > -small
        variances = flow.ensemble(jnp.array([0.0, 1.0]), cross, Kernel(np.diag(own.nngp), None))[1]
        full = flow.ensemble(jnp.array([0.0, 1.0]), cross, own)[1]
        close(variances, np.diagonal(full, axis1=1, axis2=2), small)


def test_a_kernel_serves_wherever_an_array_does():
    k, y, cross, own = problem()
    close(gradient_flow(k, y).test(1.0, cross), gradient_flow(k.ntk, y).test(1.0, cross.ntk), 0)
    readout = gradient_descent(k, y, 0.1, trained="readout")
    close(readout.test(9, cross), gradient_descent(k.nngp, y, 0.1).test(9, cross.nngp), 0)
    predict = jax.jit(lambda flow, t: flow.ensemble(t, cross, own)[1])
    flow = gradient_flow(k, y)
    close(predict(flow, 2.0), flow.ensemble(2.0, cross, own)[1])


def test_bad_input_is_refused():
    k, y, cross, own = problem()
    flow = gradient_flow(k, y)
    with pytest.raises(ValueError, match="k_train as a Kernel and no f0, got .* without an nngp"):
        gradient_flow(k.ntk, y).ensemble(1.0)
    with pytest.raises(ValueError, match="one network's start"):
        gradient_flow(k, y, f0=y).ensemble(1.0)
    with pytest.raises(ValueError, match="trained must be one of 'all', 'readout'"):
        gradient_flow(k, y, trained="first")
    with pytest.raises(ValueError, match="needs k_train as a Kernel, got an array"):
        gradient_flow(k.ntk, y, trained="readout")
    with pytest.raises(TypeError, match="k_test must be a Kernel.* got NoneType"):
        flow.ensemble(1.0, cross)
    with pytest.raises(TypeError, match="k_test_train must be a Kernel.* got ndarray"):
        flow.ensemble(1.0, np.array(cross.ntk), own)
    with pytest.raises(ValueError, match=r"k_test must have shape \(4, 4\)"):
        flow.ensemble(1.0, cross, k)
    with pytest.raises(ValueError, match=r"k_train.nngp must have shape \(5, 5\)"):
        gradient_flow(Kernel(own.nngp, k.ntk), y)
    with pytest.raises(ValueError, match="k_train.nngp must be symmetric"):
        gradient_flow(Kernel(np.triu(k.nngp), k.ntk), y)
