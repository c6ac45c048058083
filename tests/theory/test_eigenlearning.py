"""Eigenlearning and random features against roots to forty digits, published forms and draws."""

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest

import ntkbook as ntk
from ntkbook import effective_dimension, eigenlearning, measured_learnability, random_features

INDEX = np.arange(1, 41)
SPECTRA = {
    "power": INDEX**-1.5,
    "steep": INDEX**-6.0,
    "exponential": np.exp(-1.5 * INDEX),
    "two levels": np.where(INDEX < 8, 1.0, 1e-9),
    "with zeros": np.where(INDEX < 31, 1.0 / INDEX, 0.0),
}
POWER = INDEX**-2.0 + 0.01


def published(values, power, counts, n, k, ridge, noise, digits=60):
    """Effective ridge, test and train risk as Simon et al. 2021 and, for finite k, 2023 have them.

    By bisection in `digits` digits, with all the differences of large numbers that they contain.
    """
    with mp.workdps(digits):
        levels = [
            (mp.mpf(float(x)), mp.mpf(float(v)), mp.mpf(float(c)))
            for x, v, c in zip(values, power, counts, strict=True)
        ]
        n, k, ridge, noise = (mp.mpf(float(x)) for x in (n, k, ridge, noise))

        def total(gamma):
            return sum(c * x / (x + gamma) for x, _, c in levels)

        def excess(u):  # falls with u = log γ; κ from the second equation into the first
            gamma = mp.exp(u)
            z = total(gamma)
            if mp.isinf(k):
                return z + ridge / gamma - n
            if ridge == 0:
                return z - min(n, k)
            return mp.mpf(1) if z >= min(n, k) else k * ridge / gamma - (n - z) * (k - z)

        low, high = mp.mpf(-400), mp.mpf(60)
        for _ in range(int(3.4 * digits) + 10):
            middle = (low + high) / 2
            low, high = (middle, high) if excess(middle) > 0 else (low, middle)
        gamma = mp.exp(middle)
        z = total(gamma)
        kappa = gamma if mp.isinf(k) else gamma * (k - z) / k
        q = sum(c * (x / (x + gamma)) ** 2 for x, _, c in levels)
        if mp.isinf(k):
            scale, factor = n / (n - q), mp.mpf(1)
        else:
            scale = 1 / (1 - (q * (k - 2 * z) + z * z) / (n * (k - q)))
            factor = k / (k - q)
        missed = sum(
            (gamma / (x + gamma) - kappa * x / (x + gamma) ** 2 * factor) * v for x, v, _ in levels
        )
        test = scale * (missed + noise)
        train = ((n - z) / n) ** 2 * test
        return [float(x) for x in (gamma, scale, test, train)]


def assert_as_published(found, expected):
    names = ("effective_ridge", "overfitting", "test_risk", "train_risk")
    for name, value in zip(names, expected, strict=True):
        np.testing.assert_allclose(getattr(found, name), value, rtol=1e-12, atol=1e-40)


@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize(
    ("n", "ridge"), [(0.5, 0.0), (6, 0.0), (29, 0.0), (6, 1e-7), (25, 1e3), (40, 1e-4), (300, 0.2)]
)
def test_kernels_to_twelve_digits(spectrum, n, ridge):
    values = SPECTRA[spectrum]
    found = eigenlearning(values, POWER, n, ridge, 0.3)
    counts = np.ones(40)
    assert_as_published(found, published(values, POWER, counts, n, np.inf, ridge, 0.3))
    gamma = float(found.effective_ridge)
    np.testing.assert_allclose(found.learnability, values / (values + gamma), rtol=1e-12)
    if n < 30:
        np.testing.assert_allclose(found.learnability.sum() + ridge / gamma, n, rtol=1e-12)


@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize(
    ("n", "k", "ridge"),
    [(6, 25, 0.0), (25, 6, 0.0), (29, 28, 0.0), (6, 6, 1e-6), (7, 6, 1e-9), (20, 200, 0.1),
     (200, 20, 0.1), (60, 60, 1e-3), (6, 1e7, 0.01), (29.5, 29, 100.0)],
)  # fmt: skip
def test_random_features_to_twelve_digits(spectrum, n, k, ridge):
    values = SPECTRA[spectrum]
    found = random_features(values, POWER, n, k, ridge, 0.3)
    assert_as_published(found, published(values, POWER, np.ones(40), n, k, ridge, 0.3))


def test_multiplicities_are_repeated_modes_in_any_order():
    values, counts = np.array([1e-3, 2.0, 0.1]), np.array([30, 1, 7])
    power = np.array([0.3, 0.5, 0.2])
    as_levels = eigenlearning(values, power, np.array([3, 20]), 1e-3, 0.1, counts)
    spread = np.repeat(power / counts, counts)
    as_modes = eigenlearning(np.repeat(values, counts), spread, np.array([3, 20]), 1e-3, 0.1)
    for name in ("effective_ridge", "overfitting", "test_risk", "train_risk"):
        np.testing.assert_allclose(getattr(as_levels, name), getattr(as_modes, name), rtol=1e-13)
    assert as_levels.learnability.shape == (2, 3)


def test_a_million_modes_near_either_end():
    index = np.arange(1.0, 1e6 + 1)
    for n in (10, 999_999):
        found = eigenlearning(index**-2, index**-3, n)
        np.testing.assert_allclose(found.learnability.sum(), n, rtol=1e-12)
    # One mode fewer than all: Σ ς/(λ + ς) = 1 fixes ς, and nearly 1/Σ(1/λ) it is.
    inverse = float(mp.nsum(lambda i: i**2, [1, 10**6]))
    assert 1 < found.effective_ridge * inverse < 3


def test_laws_of_overfitting():
    one = np.ones(1)
    flat = eigenlearning(one, one, np.array([25, 50, 99]), 0.0, 1.0, np.array([100]))
    np.testing.assert_allclose(flat.overfitting, 1 / (1 - np.array([0.25, 0.5, 0.99])), rtol=1e-12)
    for c in (0.3, 1.0):
        values = np.exp(-c * np.arange(1, 400))
        np.testing.assert_allclose(eigenlearning(values, values, 40).overfitting, 40 * c, rtol=2e-3)
    index, n = np.arange(1.0, 1e6), 1000  # the limit is met up to terms of order 1/n and n/P
    np.testing.assert_allclose(eigenlearning(index**-2, index**-2, n).overfitting, 2, rtol=2e-3)


def test_cases_broadcast_and_meet_infinity_at_the_threshold():
    n, k = np.array([10, 20])[:, None], np.array([5, 10, 20, 50])
    found = random_features(SPECTRA["power"], POWER, n, k, 0.0, 0.1)
    assert found.test_risk.shape == (2, 4)
    assert np.isinf(found.test_risk).tolist() == (n == k).tolist()
    assert (found.train_risk[n >= np.minimum(k, n + 1)] >= 0).all()
    assert found.train_risk[0, 2] == 0  # more features than samples: interpolation
    nothing = random_features(SPECTRA["power"], 0 * POWER, 10, 10)
    assert nothing.test_risk == 0
    wide = random_features(SPECTRA["power"], POWER, 10, np.array([1e15, np.inf]), 0.01, 0.1)
    kernel = eigenlearning(SPECTRA["power"], POWER, 10, 0.01, 0.1)
    np.testing.assert_allclose(wide.test_risk, kernel.test_risk, rtol=1e-12)


def test_few_features_are_least_squares_with_the_rest_as_noise():
    """A classical law, found in no other way here: N/(N − k) times what k features leave."""
    values, n, k = SPECTRA["power"], 25, 6
    found = random_features(values, POWER, n, k, 0.0, 0.3)
    rest = np.sum((1 - found.learnability) * POWER) + 0.3
    np.testing.assert_allclose(found.test_risk, n / (n - k) * rest, rtol=1e-12)
    np.testing.assert_allclose(found.train_risk, (n - k) / n * rest, rtol=1e-12)


def draws(k, ridge, n=30, modes=200, noise=0.1, repeats=200, seed=0):
    """Test and train risks of regression on Gaussian eigenfeatures, by simulation."""
    rng = np.random.default_rng(seed)
    values = np.arange(1, modes + 1) ** -1.5
    v = np.arange(1, modes + 1) ** -1.0
    risks = []
    for _ in range(repeats):
        phi = rng.normal(size=(n, modes))
        mix = np.eye(modes) if k is None else rng.normal(size=(modes, k)) / np.sqrt(k)
        features = phi * np.sqrt(values) @ mix
        y = phi @ v + noise**0.5 * rng.normal(size=n)
        gram = features @ features.T
        inverse = np.linalg.inv(gram + ridge * np.eye(n))
        weights = np.sqrt(values) * (mix @ (features.T @ (inverse @ y)))
        residual = ridge * (inverse @ y)
        risks.append((np.sum((weights - v) ** 2) + noise, np.mean(residual**2)))
    return values, v**2, np.mean(risks, 0), np.std(risks, 0) / repeats**0.5


@pytest.mark.parametrize("k", [None, 15, 30, 90])
def test_simulated_risks(k):
    values, power, mean, error = draws(k, ridge=0.03)
    if k is None:
        found = eigenlearning(values, power, 30, 0.03, 0.1)
    else:
        found = random_features(values, power, 30, k, 0.03, 0.1)
    for theory, seen, off in zip((found.test_risk, found.train_risk), mean, error, strict=True):
        assert abs(theory - seen) < 4 * off + 0.04 * theory
    assert found.train_risk < 0.7 * found.test_risk


def test_the_trace_over_outputs_is_refused():
    net, x = ntk.Serial(ntk.Dense(8), ntk.Erf(), ntk.Dense(2)), jnp.eye(3)
    traced = ntk.empirical_ntk(net.apply, net.init(jax.random.key(0), (3,)), x, outputs="trace")
    with pytest.raises(ValueError, match="trace over 2 outputs"):
        measured_learnability(traced, jnp.eye(3), [0, 1])


def test_measured_learnability_is_conserved_and_that_of_a_fit():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20, 30))
    kernel, train = x @ x.T, np.array([3, 11, 0, 7, 19])
    basis = np.linalg.qr(rng.normal(size=(20, 20)))[0]
    for ridge in (0.0, 2.0):
        gram = kernel[np.ix_(train, train)]
        rule = kernel[:, train] @ np.linalg.inv(gram + ridge * np.eye(5))
        expected = [f @ rule @ f[train] for f in basis.T]
        found = measured_learnability(kernel, 3 * basis, train, ridge)
        np.testing.assert_allclose(found, expected, atol=1e-13)
        np.testing.assert_allclose(found.sum(), effective_dimension(gram, ridge), rtol=1e-12)
    np.testing.assert_allclose(measured_learnability(kernel, basis[:, 2], train, 2.0), expected[2])


def test_bad_arguments_are_refused():
    values = np.array([1.0, 0.5, 0.0])
    for arguments, message in (
        ((-values, values, 1), "eigenvalues must not be negative, got -1"),
        ((values, -values, 1), "power must not be negative"),
        ((values, values[:2], 1), r"power must have shape \(3,\)"),
        ((values, values, 0), "samples must be positive, got 0"),
        ((values, values, 1, -1.0), "ridge must not be negative"),
        ((values, values, 1, 0.0, -1.0), "noise_variance must not be negative"),
        ((values, values, 1, 0.0, 0.0, np.ones(2)), "multiplicity must have shape"),
        ((0 * values, values, 1), "eigenvalues must have a positive one"),
        ((values, values, 2), "samples must be fewer than the 2 modes of positive eigenvalue"),
        ((values * np.nan, values, 1), "eigenvalues must be finite"),
    ):
        with pytest.raises(ValueError, match=message):
            eigenlearning(*arguments)
    with pytest.raises(ValueError, match="features must be fewer than the 2 modes"):
        random_features(values, values, 5, 2)
    with pytest.raises(ValueError, match="features must be positive"):
        random_features(values, values, 5, 0)
    with pytest.raises(ValueError, match="features must be positive, got nan"):
        random_features(values, values, 5, np.nan)
    with pytest.raises(TypeError, match="eigenvalues must be known, got a tracer"):
        jax.jit(eigenlearning)(values, values, 1)
    kernel, basis = jnp.eye(4), jnp.eye(4)
    for train, message in (
        (np.array([0, 0]), "different points"),
        (np.array([0, 4]), r"indices of 4 points, from 0 on, got 0 … 4"),
        (np.array([], int), "indices of points"),
    ):
        with pytest.raises(ValueError, match=message):
            measured_learnability(kernel, basis, train)
    with pytest.raises(ValueError, match="functions must not be zero"):
        measured_learnability(kernel, 0 * basis, np.array([1]))
    with pytest.raises(ValueError, match="kernel must have shape"):
        measured_learnability(kernel[:3], basis, np.array([1]))
