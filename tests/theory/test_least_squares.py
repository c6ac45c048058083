"""Least squares against quadrature, simulation and eigenlearning."""

import mpmath as mp
import numpy as np
import pytest

from ntkbook import eigenlearning, least_squares_limit, least_squares_risk


def test_one_feature_and_one_sample_by_quadrature():
    with mp.workdps(20):

        def mean_of_inverse(freedom):  # of a χ² variable
            weight = 2 ** (mp.mpf(freedom) / 2) * mp.gamma(mp.mpf(freedom) / 2)
            return (
                mp.quad(lambda x: x ** (mp.mpf(freedom) / 2 - 2) * mp.exp(-x / 2), [0, 1, mp.inf])
                / weight
            )

        # One feature: the variance is σ²/Σx².  One sample: β̂ = x y/|x|², in the direction of x.
        for size in (4, 9):
            inverse = float(mean_of_inverse(size))
            np.testing.assert_allclose(least_squares_risk(size, 1, 0.3), 0.3 * inverse, rtol=1e-10)
            expected = 2.0 * (1 - 1 / size) + 0.3 * inverse
            found = least_squares_risk(1, size, 0.3, signal=2.0)
            np.testing.assert_allclose(found, expected, rtol=1e-10)


@pytest.mark.parametrize(("n", "p"), [(20, 10), (10, 20), (16, 12)])
def test_simulated_risk(n, p):
    rng = np.random.default_rng(0)
    beta, risks = np.eye(p)[0], []
    for _ in range(4000):
        x = rng.normal(size=(n, p))
        fit = np.linalg.pinv(x) @ (x @ beta + 0.5 * rng.normal(size=n))
        risks.append(np.sum((fit - beta) ** 2))
    error = np.std(risks) / 4000**0.5
    exact, limit = least_squares_risk(n, p, 0.25), least_squares_limit(n, p, 0.25)
    assert abs(np.mean(risks) - exact) < 4 * error
    assert abs(np.mean(risks) - limit) > 6 * error


def test_at_the_threshold():
    p = np.array([98, 99, 100, 101, 102])
    assert np.isinf(least_squares_risk(100, p, 0.1)).tolist() == [False, True, True, True, False]
    np.testing.assert_allclose(least_squares_risk(100, p, 0.0), [0, 0, 0, 1 / 101, 2 / 102])
    assert np.isinf(least_squares_limit(100, p, 0.1)).tolist() == [False] * 2 + [True] + [False] * 2
    assert least_squares_limit(100, 100, 0.0) == 0


def test_limit_is_eigenlearning_of_equal_modes():
    one = np.ones(1)
    for n, p, ridge in ((100, 250, 0.0), (100, 250, 3.0), (100, 40, 1e-3), (100, 100, 7.0)):
        found = eigenlearning(one, 2 * one, n, ridge, 0.25, np.array([p]))
        limit = least_squares_limit(n, p, 0.25, 2.0, ridge)
        np.testing.assert_allclose(limit, found.test_risk - 0.25, rtol=1e-12)
    np.testing.assert_allclose(least_squares_limit(100, 40, 0.25), 0.25 * 40 / 60, rtol=1e-14)
    np.testing.assert_allclose(
        least_squares_limit(1e5, 3e5, 0.25), least_squares_risk(10**5, 3 * 10**5, 0.25), rtol=1e-4
    )


def test_the_published_minimum_beyond_the_peak():
    # Hastie et al. 2022, section 3: for SNR > 1 at p/N = √SNR/(√SNR − 1), and none for SNR ≤ 1.
    n, noise, signal = 1000.0, 0.25, 4.0
    root = (signal / noise) ** 0.5
    best = n * root / (root - 1)
    around = np.array([0.999, 1, 1.001]) * best
    risks = least_squares_limit(n, around, noise, signal)
    assert risks[1] < min(risks[0], risks[2]) < signal
    np.testing.assert_allclose(risks[1], noise * (2 * root - 1), rtol=1e-12)
    ever_falling = least_squares_limit(n, np.linspace(1001.0, 50000.0, 200), noise, noise)
    assert (np.diff(ever_falling) < 0).all()


def test_the_best_ridge_is_where_it_should_be():
    p, noise, size = np.array([20.0, 100.0, 400.0]), 0.25, 2.0
    best = p * noise / size
    risks = [least_squares_limit(100, p, noise, size, best * f) for f in (0.999, 1, 1.001)]
    assert (risks[1] < risks[0]).all()
    assert (risks[1] < risks[2]).all()
    tiny = least_squares_limit(100, np.array([40.0, 100.0, 400.0]), noise, size, 1e-13)
    np.testing.assert_allclose(tiny[0], noise * 40 / 60, rtol=1e-12)
    np.testing.assert_allclose(tiny[1], noise / 2 * (100 / 1e-13) ** 0.5, rtol=1e-6)
    np.testing.assert_allclose(tiny[2], size * 0.75 + noise / 3, rtol=1e-12)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="features must be whole numbers"):
        least_squares_risk(10, 2.5, 0.1)
    with pytest.raises(ValueError, match="samples must be positive"):
        least_squares_risk(0, 2, 0.1)
    with pytest.raises(ValueError, match="noise_variance must not be negative"):
        least_squares_limit(10, 2, -0.1)
    with pytest.raises(ValueError, match="ridge must not be negative"):
        least_squares_limit(10, 2, 0.1, 1.0, -0.1)
