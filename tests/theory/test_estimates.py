"""Estimates of the risk against refitting without each example, and published formulas."""

import numpy as np
import pytest

from ntkbook import Dense, Relu, Serial, measured_learnability, regression, risk_estimates


def problem(n=12, k=None, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 20))
    return x @ x.T / 20, rng.normal(size=n if k is None else (n, k))


@pytest.mark.parametrize("k", [None, 3])
def test_leave_one_out_is_leaving_one_out(k):
    kernel, y = problem(k=k)
    ridges = np.array([0.0, 1e-3, 0.7])
    found = risk_estimates(kernel, y, ridges)
    for i, ridge in enumerate(ridges):
        errors = []
        for out in range(12):
            kept = np.delete(np.arange(12), out)
            gram = kernel[np.ix_(kept, kept)] + ridge * np.eye(11)
            errors.append(kernel[out, kept] @ np.linalg.solve(gram, y[kept]) - y[out])
        expected = np.sum(np.square(errors)) / 12
        np.testing.assert_allclose(found.leave_one_out[i], expected, rtol=1e-10)
        fit = regression(kernel, y, ridge)
        residuals = fit.leave_one_out_residuals()
        np.testing.assert_allclose(np.sum(residuals**2) / 12, expected, rtol=1e-10)
        train = np.sum((fit.predict(kernel) - y) ** 2) / 12
        np.testing.assert_allclose(found.train[i], train, rtol=1e-10, atol=1e-25)


def test_gcv_is_kare_is_what_the_papers_say():
    kernel, y = problem()
    for ridge in (1e-3, 0.7, 50.0):
        found = risk_estimates(kernel, y, ridge)
        hat = kernel @ np.linalg.inv(kernel + ridge * np.eye(12))
        left = np.eye(12) - hat
        gcv = np.mean((left @ y) ** 2) / (np.trace(left) / 12) ** 2  # Golub, Heath & Wahba
        inverse = np.linalg.inv(kernel / 12 + ridge / 12 * np.eye(12))  # Jacot et al., λ = δ/N
        kare = (y @ inverse @ inverse @ y / 12) / (np.trace(inverse) / 12) ** 2
        np.testing.assert_allclose([found.gcv, found.kare], [gcv, kare], rtol=1e-11)
    # As δ grows nothing is learnt, and either estimate is the mean square of the targets.
    np.testing.assert_allclose(risk_estimates(kernel, y, 1e9).gcv, np.mean(y**2), rtol=1e-7)


def test_of_a_kernel_the_ntk_counts():
    x, y = np.random.default_rng(1).normal(size=(2, 12, 3))
    kernel = Serial(Dense(8), Relu(), Dense(1)).kernel(x)
    found, alike = (risk_estimates(k, y, 0.1) for k in (kernel, kernel.ntk))
    assert found.gcv == alike.gcv
    learnt, same = (measured_learnability(k, y, np.array([0, 5])) for k in (kernel, kernel.ntk))
    np.testing.assert_array_equal(learnt, same)


def test_bad_arguments_are_refused():
    kernel, y = problem()
    twice = np.ix_([0, 0, 1], [0, 0, 1])
    with pytest.raises(ValueError, match=r"ridge must be positive where k_train is singular"):
        risk_estimates(kernel[twice], y[:3], np.array([0.0, 1.0]))
    assert risk_estimates(kernel[twice], y[:3], 0.1).gcv > 0
    for arguments, message in (
        ((kernel, y, -1.0), "ridge must not be negative"),
        ((-kernel, y), "positive semi-definite"),
        ((kernel, y[:3]), "y_train"),
        ((kernel[:, :3], y), "k_train must be a square matrix"),
        ((kernel.reshape(12, 12, 1, 1), y[:, None]), "one kernel for all outputs"),
    ):
        with pytest.raises(ValueError, match=message):
            risk_estimates(*arguments)
