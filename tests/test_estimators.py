"""The scikit-learn faces: its own checks, finite differences, and its own Gaussian processes."""

import pickle

import jax
import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, WhiteKernel
from sklearn.kernel_ridge import KernelRidge
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV
from sklearn.utils.estimator_checks import parametrize_with_checks

from ntkbook import Dense, Elementwise, Erf, Rbf, Relu, Serial
from ntkbook.estimators import NetworkKernel, NTKClassifier, NTKRegressor

RNG = np.random.default_rng(0)
X, X_TEST, Y = RNG.normal(size=(8, 3)), RNG.normal(size=(5, 3)), RNG.normal(size=8)


def close(actual, expected, tolerance=1e-10):
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


@parametrize_with_checks([NTKRegressor(), NTKClassifier()])
def test_scikit_learn_accepts_the_estimators(estimator, check):
    check(estimator)


# The kernel


@pytest.mark.parametrize("kind", ["ntk", "nngp"])
@pytest.mark.parametrize("depth", [0, 2])
def test_kernel_is_that_of_the_network(depth, kind):
    kernel = NetworkKernel(depth, "erf", 1.3, 0.4, kind)
    dense = Dense(7, w_std=1.3, b_std=0.4)
    net = Serial(*(dense, Erf()) * depth, dense)
    close(kernel(X), getattr(net.kernel(X), kind))
    close(kernel(X, X_TEST), getattr(net.kernel(X, X_TEST), kind))
    close(kernel.diag(X), np.diag(kernel(X)))
    if depth == 0:
        close(kernel(X), 1.3**2 * X @ X.T / 3 + 0.4**2)


@pytest.mark.parametrize(
    ("options", "dims"),
    [
        ({}, 2),
        ({"kind": "nngp", "depth": 2}, 2),
        ({"w_std_bounds": "fixed"}, 1),
        ({"b_std_bounds": "fixed"}, 1),
        ({"b_std": 0.0}, 1),
        ({"w_std_bounds": "fixed", "b_std_bounds": "fixed"}, 0),
    ],
)
def test_gradient_equals_finite_differences(options, dims):
    kernel = NetworkKernel(**{"w_std": 1.3, "b_std": 0.4, **options})
    value, gradient = kernel(X, eval_gradient=True)
    assert gradient.shape == (8, 8, dims) == (8, 8, kernel.n_dims)
    close(value, kernel(X), 0)
    for i in range(dims):
        step = 1e-5 * np.eye(dims)[i]
        ahead, behind = (kernel.clone_with_theta(kernel.theta + s)(X) for s in (step, -step))
        close(gradient[..., i], (ahead - behind) / 2e-5, 1e-8)


def test_float64_whatever_the_setting():
    kernel = NetworkKernel(1, "relu", 1.3, 0.4)
    wide = kernel(X), kernel(X, eval_gradient=True)[1], kernel.diag(X)
    own = NetworkKernel(1, Elementwise(jax.numpy.tanh))
    with jax.enable_x64(False):
        fresh = NetworkKernel(1, Elementwise(jax.numpy.tanh))(X)
        narrow = kernel(X), kernel(X, eval_gradient=True)[1], kernel.diag(X)
        model = NTKRegressor(1, "relu").fit(X, Y)
        predicted = model.predict(X_TEST)
        assert jax.numpy.ones(1).dtype == np.float32
    for a, b in zip(wide, narrow, strict=True):
        assert b.dtype == np.float64
        close(a, b, 1e-14)
    close(predicted, NTKRegressor(1, "relu").fit(X, Y).predict(X_TEST), 1e-12)
    close(fresh, own(X), 1e-14)


def test_kernel_is_a_citizen_of_scikit_learn():
    for activation in ("relu", Rbf(0.3), Serial(Relu(), Dense(1, w_std=0.5), Erf())):
        kernel = NetworkKernel(1, activation, 1.3, 0.4)
        value = kernel(X)
        assert np.linalg.eigvalsh(value).min() > 0
        for copy in (clone(kernel), pickle.loads(pickle.dumps(kernel))):
            assert copy == kernel
            close(copy(X), value, 0)
    assert NetworkKernel(2) != NetworkKernel(3)
    assert not kernel.is_stationary()
    assert repr(NetworkKernel(b_std=0.25)) == (
        "NetworkKernel(depth=1, activation='relu', w_std=1, b_std=0.25, kind='ntk')"
    )
    together = 2.0 * NetworkKernel(b_std=0.5) ** 2 + WhiteKernel(0.1)
    close(together(X), 2 * NetworkKernel(b_std=0.5)(X) ** 2 + 0.1 * np.eye(8))
    assert together(X, eval_gradient=True)[1].shape == (8, 8, 4)


def test_gaussian_process_learns_the_hyperparameters():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(40, 3))
    truth = NetworkKernel(1, "erf", 1.8, 0.6, "nngp")
    y = rng.multivariate_normal(np.zeros(40), truth(x) + 1e-4 * np.eye(40))
    start = NetworkKernel(1, "erf", 0.7, 0.1, "nngp") + WhiteKernel(1e-2)
    process = GaussianProcessRegressor(start).fit(x, y)
    before = process.log_marginal_likelihood(start.theta)
    assert process.log_marginal_likelihood_value_ > before + 1
    # A maximum: the slope vanishes, but along bounds that hold the optimum.
    slope = process.log_marginal_likelihood(process.kernel_.theta, eval_gradient=True)[1]
    inside = np.abs(process.kernel_.theta[:, None] - process.kernel_.bounds).min(1) > 1e-6
    assert inside.any()
    assert np.abs(slope[inside]).max() < 0.05


def test_gaussian_process_predicts_as_with_the_matrix():
    kernel = NetworkKernel(1, "relu", 1.3, 0.4, w_std_bounds="fixed", b_std_bounds="fixed")
    mean, std = GaussianProcessRegressor(kernel, alpha=0.1).fit(X, Y).predict(X_TEST, True)
    inverse = np.linalg.inv(kernel(X) + 0.1 * np.eye(8))
    cross = kernel(X_TEST, X)
    close(mean, cross @ inverse @ Y)
    close(std**2, np.diag(kernel(X_TEST) - cross @ inverse @ cross.T))


# The estimators


@pytest.mark.parametrize("outputs", [None, 2])
@pytest.mark.parametrize("ridge", [0.0, 0.5])
def test_regressor_is_kernel_ridge(ridge, outputs):
    y = Y if outputs is None else np.stack([Y, Y**2], axis=1)
    model = NTKRegressor(1, "erf", 1.3, 0.4, ridge, "nngp").fit(X, y)
    kernel = NetworkKernel(1, "erf", 1.3, 0.4, "nngp")
    expected = KernelRidge(alpha=ridge or 1e-14, kernel="precomputed").fit(kernel(X), y)
    close(model.predict(X_TEST), expected.predict(kernel(X_TEST, X)), 1e-6)
    assert model.predict(X_TEST).shape == (5, *y.shape[1:])
    if ridge == 0:
        close(model.predict(X), y, 1e-8)


def test_regressor_survives_repeated_inputs():
    model = NTKRegressor().fit(np.repeat(X, 2, axis=0), np.repeat(Y, 2))
    close(model.predict(X_TEST), NTKRegressor().fit(X, Y).predict(X_TEST), 1e-8)


def test_classifier_is_regression_on_signs():
    labels = np.array(["c", "a", "b", "a", "c", "b", "a", "c"])
    model = NTKClassifier(ridge=0.1).fit(X, labels)
    scores = model.decision_function(X_TEST)
    for i, name in enumerate("abc"):
        signs = np.where(labels == name, 1.0, -1.0)
        close(scores[:, i], NTKRegressor(ridge=0.1).fit(X, signs).predict(X_TEST))
    assert (model.predict(X_TEST) == model.classes_[scores.argmax(1)]).all()
    assert (NTKClassifier().fit(X, labels).predict(X) == labels).all()


# Weights

WEIGHTS = np.array([2, 0, 1, 3, 1, 0, 1, 4])


@pytest.mark.parametrize("outputs", [None, 2])
@pytest.mark.parametrize("ridge", [0.0, 0.5])
def test_weights_are_repetitions(ridge, outputs):
    y = Y if outputs is None else np.stack([Y, Y**2], axis=1)
    weighted = NTKRegressor(ridge=ridge).fit(X, y, sample_weight=WEIGHTS)
    X_repeated, y_repeated = np.repeat(X, WEIGHTS, axis=0), np.repeat(y, WEIGHTS, axis=0)
    repeated = NTKRegressor(ridge=ridge).fit(X_repeated, y_repeated)
    close(weighted.predict(X_TEST), repeated.predict(X_TEST), 1e-9)
    # By its definition, with repeated rows in the kernel.
    kernel = NetworkKernel(1, "relu", 2**0.5, 0.1)
    inverse = np.linalg.pinv(kernel(X_repeated) + ridge * np.eye(len(X_repeated)), 1e-12)
    close(weighted.predict(X_TEST), kernel(X_TEST, X_repeated) @ inverse @ y_repeated, 1e-8)
    assert weighted.X_fit_.shape == (6, 3)


def test_weights_are_noise_of_each_example():
    weights = RNG.uniform(0.1, 5, size=8)
    model = NTKRegressor(2, "erf", ridge=0.3).fit(X, Y, weights)
    kernel = model.kernel_
    alpha = np.linalg.solve(kernel(X) + np.diag(0.3 / weights), Y)
    close(model.dual_coef_, alpha)
    close(model.predict(X_TEST), kernel(X_TEST, X) @ alpha)
    same = NTKRegressor(2, "erf", ridge=0.3 * 7).fit(X, Y, 7 * weights)
    close(same.predict(X_TEST), model.predict(X_TEST))


def test_weights_where_the_targets_cannot_be_met():
    # A linear kernel of three features and a bias under eight targets: weighted least squares.
    model = NTKRegressor(depth=0, b_std=1.0).fit(X, Y, WEIGHTS)
    features = np.sqrt(WEIGHTS)[:, None] * np.column_stack([X, np.ones(8)])
    weights = np.linalg.lstsq(features, np.sqrt(WEIGHTS) * Y, rcond=None)[0]
    close(model.predict(X_TEST), np.column_stack([X_TEST, np.ones(5)]) @ weights, 1e-9)


def test_weights_of_a_classifier():
    labels = np.array(["c", "z", "b", "a", "c", "z", "a", "b"])
    weighted = NTKClassifier(ridge=0.2).fit(X, labels, WEIGHTS)
    repeated = NTKClassifier(ridge=0.2).fit(X.repeat(WEIGHTS, axis=0), labels.repeat(WEIGHTS))
    assert weighted.classes_.tolist() == ["a", "b", "c"]
    close(weighted.decision_function(X_TEST), repeated.decision_function(X_TEST))
    close(weighted.predict_proba(X_TEST), repeated.predict_proba(X_TEST))


@pytest.mark.parametrize("bad", [-WEIGHTS, 0 * WEIGHTS])
@pytest.mark.parametrize("estimator", [NTKRegressor(), NTKClassifier()])
def test_bad_weights_are_refused(estimator, bad):
    with pytest.raises(
        ValueError, match=r"sample_weight must hold non-neg|Sample weights must contain"
    ):
        estimator.fit(X, np.arange(8) % 2, bad)
    with pytest.raises(ValueError, match="two classes, got one class"):
        NTKClassifier().fit(X, np.arange(8) % 2, np.arange(8) % 2)


# Probabilities


def calibration_error(probabilities, labels, bins=10):
    """Mean gap between how sure the first choice is and how often it is right."""
    sure, right = probabilities.max(1), probabilities.argmax(1) == labels
    place = np.minimum((sure * bins).astype(int), bins - 1)
    gaps = [abs((right - sure)[place == i].sum()) for i in range(bins)]
    return sum(gaps) / len(labels)


def problems():
    x, y = load_digits(return_X_y=True)
    yield "digits", x[:300] / 16, y[:300], x[300:] / 16, y[300:], 0.0
    # Three clouds that overlap, in a plane: a quarter of the labels is beyond anybody, so that of
    # 1000 examples the share that is right has a standard error of 0.014, and of 300, 0.025.
    rng = np.random.default_rng(5)
    y = rng.integers(0, 3, 4000)
    angles = 2 * np.pi * y / 3
    x = np.column_stack([np.cos(angles), np.sin(angles)]) + 0.8 * rng.normal(size=(4000, 2))
    yield "clouds", x[:1000], y[:1000], x[1000:], y[1000:], 1.0
    two = y < 2
    yield "two", x[two][:1000], y[two][:1000], x[two][1000:], y[two][1000:], 1.0


@pytest.mark.parametrize(
    ("x", "y", "x_test", "y_test", "ridge"),
    [pytest.param(*case[1:], id=case[0]) for case in problems()],
)
def test_probabilities_are_calibrated(x, y, x_test, y_test, ridge):
    model = NTKClassifier(ridge=ridge).fit(x, y)
    probabilities = model.predict_proba(x_test)
    close(probabilities.sum(axis=1), 1)
    assert (model.classes_[probabilities.argmax(1)] == model.predict(x_test)).all()
    scores = model.decision_function(x_test)
    plain = softmax(scores if scores.ndim == 2 else np.stack([-scores, scores], 1), axis=1)
    ours, theirs = (calibration_error(p, y_test) for p in (probabilities, plain))
    assert ours < 0.05
    assert ours < theirs
    assert log_loss(y_test, probabilities) < log_loss(y_test, plain)


@pytest.mark.parametrize("ridge", [0.0, 0.4])
def test_the_temperature_is_fitted_to_scores_left_out(ridge):
    x, labels = RNG.normal(size=(14, 3)), np.arange(14) % 3
    x[1], x[4] = x[0], x[3]  # two inputs that come twice, with one label and with two
    labels[1], labels[4] = labels[0], (labels[3] + 1) % 3
    model = NTKClassifier(ridge=ridge).fit(x, labels)
    signs, left_out = 2 * np.eye(3)[labels] - 1, []
    for row in x:
        rest = (x != row).any(axis=1)
        fit = NTKRegressor(ridge=ridge).fit(x[rest], signs[rest])
        left_out.append(fit.predict(row[None])[0])
    targets = (14 * np.eye(3)[labels] + 1 / 3) / 15

    def loss(log_temperature):
        return -np.sum(targets * log_softmax(left_out / np.exp(log_temperature), axis=1))

    best = minimize_scalar(loss, bounds=(-7, 14), method="bounded", options={"xatol": 1e-9}).x
    if best < 13:
        close(np.log(model.temperature_), best, 1e-5)
    else:
        assert model.temperature_ == 1e6


def test_scores_that_say_nothing_give_equal_probabilities():
    x, labels = np.arange(10.0)[:, None], np.arange(10) % 2  # each neighbour votes for the other
    model = NTKClassifier(depth=2, b_std=0.5, ridge=1e-3).fit(x, labels)
    close(model.predict_proba(x), np.full((10, 2), 0.5), 1e-4)
    assert (model.predict_proba(x).argmax(1) == model.predict(x)).all()


def test_a_grid_search():
    grid = {"w_std": [1.0, 2.0], "activation": ["relu", "erf"], "ridge": [0.1]}
    search = GridSearchCV(NTKRegressor(), grid, cv=2).fit(X, Y)
    assert search.best_params_["ridge"] == 0.1


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"activation": "step"}, ValueError, "activation must be one of 'relu'"),
        ({"activation": "softplus"}, ValueError, r"or a layer, such as Elementwise\(jax.nn.softpl"),
        ({"activation": np.tanh}, ValueError, r"or a layer, such as Elementwise"),
        ({"activation": ["relu"]}, ValueError, r"or a layer, such as Elementwise"),
        ({"depth": -1}, ValueError, "depth must be at least 0"),
        ({"depth": 1.5}, TypeError, "depth must be an integer"),
        ({"w_std": 0.0}, ValueError, "w_std must be a positive"),
        ({"b_std": -1.0}, ValueError, "b_std must be a non-negative"),
        ({"kind": "both"}, ValueError, "kind must be one of"),
    ],
)
def test_bad_parameters_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        NetworkKernel(**options)(X)
    with pytest.raises(error, match=message):
        NTKRegressor(**options).fit(X, Y)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="eval_gradient needs Y=None"):
        NetworkKernel()(X, X, eval_gradient=True)
    with pytest.raises(ValueError, match="Input X contains NaN"):
        NetworkKernel()(X * np.nan)
    with pytest.raises(ValueError, match=r"x2 must have shape \(any, 3\)"):
        NetworkKernel()(X, X[:, :2])
    with pytest.raises(ValueError, match="ridge must be"):
        NTKRegressor(ridge=-1.0).fit(X, Y)
    with pytest.raises(ValueError, match="two classes, got one class"):
        NTKClassifier().fit(X, np.ones(8))
    assert ConstantKernel() != NetworkKernel()
