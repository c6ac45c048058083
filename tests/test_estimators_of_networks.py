"""The scikit-learn faces of networks of one's own, of vectors, images and sequences."""

import pickle

import jax
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.model_selection import GridSearchCV

from ntkbook import Conv, Dense, Erf, Flatten, LastStep, Recurrent, Relu, Serial
from ntkbook.estimators import NetworkKernel, NTKClassifier, NTKRegressor

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(8, 3)), RNG.normal(size=8)


def close(actual, expected, tolerance=1e-10):
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


CONV = Serial(Conv(1, (2, 2), w_std=1.3, b_std=0.2), Relu(), Flatten(), Dense(1))
STEPS = Serial(Recurrent(1, Erf(), 1.2, 0.9, 0.3), LastStep(), Dense(1))
DEEP = Serial(Dense(1, 1.3, 0.4), Erf(), Dense(1, 1.3, 0.4))


@pytest.mark.parametrize(
    ("net", "shape"), [(CONV, (3, 4, 2)), (STEPS, (4, 2)), (DEEP, (3,))], ids=["conv", "rnn", "mlp"]
)
def test_a_network_of_ones_own(net, shape):
    rng = np.random.default_rng(7)
    x, new, y = rng.normal(size=(9, *shape)), rng.normal(size=(4, *shape)), rng.normal(size=9)
    with jax.enable_x64(True):
        gram, cross, own = net.kernel(x).ntk, net.kernel(new, x).ntk, net.kernel(x).nngp
    kernel = NetworkKernel(kind="nngp", network=net)
    close(kernel(x), own, 1e-14)
    close(kernel.diag(x), np.diag(own), 1e-13)
    value, gradient = kernel(x, eval_gradient=True)
    assert gradient.shape == (9, 9, 0) == (*value.shape, kernel.n_dims)
    assert clone(kernel) == kernel != NetworkKernel(kind="nngp", network=DEEP.layers[0])
    assert repr(kernel) == f"NetworkKernel(kind='nngp', network={net!r})"

    model = clone(NTKRegressor(ridge=0.3, network=net)).fit(x, y)
    expected = cross @ np.linalg.solve(gram + 0.3 * np.eye(9), y)
    close(model.predict(new), expected)
    close(model.score(new, expected), 1)
    again = pickle.loads(pickle.dumps(model))
    close(again.predict(new), expected)
    twice = NTKRegressor(ridge=0.6, network=net).fit(
        np.tile(x, (2,) + (1,) * (x.ndim - 1)), np.tile(y, 2)
    )
    close(twice.predict(new), expected)

    labels = np.where(y > np.median(y), "up", "down")
    classifier = NTKClassifier(ridge=0.3, network=net).fit(x, labels)
    signs = np.where(labels == "up", 1.0, -1.0)
    close(classifier.decision_function(new), cross @ np.linalg.solve(gram + 0.3 * np.eye(9), signs))
    close(classifier.predict_proba(new).sum(1), 1)
    assert classifier.score(new, classifier.predict(new)) == 1


def test_cross_validation_of_sequences():
    x, y = RNG.normal(size=(12, 4, 2)), RNG.normal(size=12)
    grid = {"ridge": [0.1, 1.0], "network": [STEPS, Serial(Flatten(), Dense(1))]}
    search = GridSearchCV(NTKRegressor(), grid, cv=3, error_score="raise").fit(x, y)
    assert search.best_estimator_.predict(x).shape == (12,)


@pytest.mark.parametrize("estimator", [NTKRegressor(network=STEPS), NTKClassifier(network=STEPS)])
def test_other_shapes_than_the_network_takes_are_refused(estimator):
    x, y = RNG.normal(size=(8, 4, 2)), np.arange(8) % 2
    assert estimator.__sklearn_tags__().input_tags.three_d_array
    with pytest.raises(ValueError, match=r"X must have shape \(n, \*space, channels\).*\(8, 4\)"):
        estimator.fit(x[..., 0], y)
    with pytest.raises(ValueError, match="images with 2 axes of pixels"):
        estimator.fit(x[:, None], y)
    with pytest.raises(ValueError, match="contains NaN"):
        estimator.fit(x * np.nan, y)
    estimator.fit(x, y)
    for other in (x[:, 1:], x[..., :1], x[:, :, 0], x[0]):
        with pytest.raises(ValueError, match=r"X must have shape \(M, 4, 2\), as in fit, got"):
            estimator.predict(other)
    with pytest.raises(ValueError, match="Found array with dim 3"):
        type(estimator)().fit(x, y)
    with pytest.raises(ValueError, match="Found array with dim 3"):
        type(estimator)(network=DEEP).fit(x, y)
    with pytest.raises(ValueError, match=r"X must have shape \(n, \*space, channels\)"):
        NetworkKernel(network=STEPS)(x[0])
    with pytest.raises(ValueError, match="Found array with dim 3"):
        GaussianProcessRegressor(NetworkKernel(network=STEPS)).fit(x, y)


def test_what_is_no_network_is_refused():
    with pytest.raises(TypeError, match=r"network must be a network, such as Serial\(…\), or None"):
        NTKRegressor(network="relu").fit(X, Y)
    with pytest.raises(TypeError, match=r"a network of your own is network=\.\.\."):
        NTKRegressor(DEEP).fit(X, Y)
