"""Infinitely wide networks as scikit-learn estimators and as a kernel for its Gaussian processes.

Imported on its own, `from ntkbook.estimators import NTKRegressor`, so that the rest of the
package needs no scikit-learn.  All of it computes in float64, whatever JAX's setting, and gives
NumPy arrays.  Inputs are taken as they are: scale them first, as for any kernel of x·x'/d.
"""

from functools import partial

import jax
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.gaussian_process.kernels import Hyperparameter, Kernel
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from ntkbook._base.arguments import (
    require_choice,
    require_count,
    require_nonnegative,
    require_positive,
)
from ntkbook.networks import activations
from ntkbook.networks.containers import Serial
from ntkbook.networks.dense import Dense
from ntkbook.networks.layer import Layer
from ntkbook.training.regression import regression

ACTIVATIONS = {
    "relu": activations.Relu(),
    "leaky_relu": activations.LeakyRelu(),
    "abs": activations.Abs(),
    "erf": activations.Erf(),
    "gelu": activations.Gelu(),
    "tanh": activations.Tanh(),
    "sin": activations.Sin(),
    "cos": activations.Cos(),
}


class NetworkKernel(Kernel):
    """The kernel of an infinitely wide network, for `GaussianProcessRegressor` and the like.

    `depth` hidden layers, w_std/√fan_in · W x + b_std b followed by `activation`, and a last
    layer without: `kind` "ntk" or "nngp".  At depth 0 it is w_std² x·x'/d + b_std².

    **Parameters**: `depth` ≥ 0; `activation`, a name in `ACTIVATIONS` or a layer, whose own
    parameters stay fixed; `w_std` > 0 and `b_std` ≥ 0 of all dense layers; `kind`; `w_std_bounds`
    and `b_std_bounds`, pairs of positive numbers between which they are optimised, or "fixed".
    A `b_std` of zero, which has no logarithm, is fixed too.

    **Raises**: when called, ValueError or TypeError naming the parameter; ValueError for a
    gradient between two sets of inputs, and for inputs that are not finite (n, d) arrays.

    Source: Jacot et al. 2018, theorem 1; Lee et al. 2018 for the NNGP.

    >>> kernel = NetworkKernel(depth=1, activation="relu", w_std=2**0.5)
    >>> X = np.array([[1.0, 0.0], [0.0, 1.0]])
    >>> print(kernel(X).round(4))
    [[2.     0.3183]
     [0.3183 2.    ]]
    >>> print(kernel.diag(X).round(4), kernel(X, eval_gradient=True)[1].shape)
    [2. 2.] (2, 2, 1)
    """

    def __init__(
        self,
        depth=1,
        activation="relu",
        w_std=1.0,
        b_std=0.0,
        kind="ntk",
        w_std_bounds=(1e-2, 1e2),
        b_std_bounds=(1e-5, 1e2),
    ):
        self.depth = depth
        self.activation = activation
        self.w_std = w_std
        self.b_std = b_std
        self.kind = kind
        self.w_std_bounds = w_std_bounds
        self.b_std_bounds = b_std_bounds

    @property
    def hyperparameter_w_std(self):
        return Hyperparameter("w_std", "numeric", self.w_std_bounds)

    @property
    def hyperparameter_b_std(self):
        bounds = self.b_std_bounds if self.b_std else "fixed"
        return Hyperparameter("b_std", "numeric", bounds)

    def __call__(self, X, Y=None, eval_gradient=False):
        """K(X, Y) of (n, d) and (m, d), or of X and itself: (n, m).

        With `eval_gradient`, which needs Y None, also the derivatives (n, n, n_dims) in `theta`,
        the logarithms of those of (b_std, w_std) that are not fixed.
        """
        if eval_gradient and Y is not None:
            raise ValueError("eval_gradient needs Y=None, got both")
        X, n = _inputs("X", X)
        Y, m = (None, n) if Y is None else _inputs("Y", Y)
        net, scales = self._network()
        with jax.enable_x64(True):
            kernel = net.kernel(X, Y, hyperparameters=_placed(net, *scales))
            value = np.array(getattr(kernel, self.kind)[:n, :m])
            if not eval_gradient:
                return value
            free = [not self.hyperparameter_b_std.fixed, not self.hyperparameter_w_std.fixed]
            return value, np.array(_slopes(net, self.kind, np.array(scales), X))[:n, :n, free]

    def diag(self, X):
        """The diagonal of `self(X)`, (n,), in O(n)."""
        X, n = _inputs("X", X)
        net, scales = self._network()
        with jax.enable_x64(True):
            kernel = net.kernel_diagonal(X, hyperparameters=_placed(net, *scales))
            return np.array(getattr(kernel, self.kind)[:n])

    def is_stationary(self):
        return False

    def __repr__(self):
        return (
            f"NetworkKernel(depth={self.depth}, activation={self.activation!r}, "
            f"w_std={self.w_std:.3g}, b_std={self.b_std:.3g}, kind={self.kind!r})"
        )

    def _network(self):
        """The network and its scales (b_std, w_std), checked; its own scales are not used."""
        require_count("depth", self.depth, 0)
        require_choice("kind", self.kind, ("ntk", "nngp"))
        layer = self.activation
        if not isinstance(layer, Layer):
            layer = ACTIVATIONS[require_choice("activation", layer, tuple(ACTIVATIONS))]
        scales = require_nonnegative("b_std", self.b_std), require_positive("w_std", self.w_std)
        hidden = (Dense(1, b_std=1.0), layer) * self.depth
        return Serial(*hidden, Dense(1, b_std=1.0)), tuple(map(float, scales))


def _inputs(name, x):
    """Checked inputs with rows of zeros after them, and how many there are without.

    JAX compiles a program for each shape, which takes seconds, and a cross-validation has many:
    up to 64 rows become 64, more the next multiple of 128.
    """
    x = check_array(np.atleast_2d(x), dtype=np.float64, input_name=name)
    rows = 64 if len(x) <= 64 else -(-len(x) // 128) * 128
    return np.pad(x, ((0, rows - len(x)), (0, 0))), len(x)


def _placed(net, b_std, w_std):
    """The network's hyper-parameters with these scales in each of its dense layers."""
    own = {"w_std": w_std, "b_std": b_std}
    return tuple(own if type(a) is Dense else a.hyperparameters() for a in net.layers)


@partial(jax.jit, static_argnums=(0, 1))
def _slopes(net, kind, scales, x):
    """∂K/∂ log scales (n, n, 2), in forward mode."""

    def kernel(scales):
        return getattr(net.kernel(x, hyperparameters=_placed(net, *scales)), kind)

    return jax.jacfwd(kernel)(scales) * scales


class _KernelEstimator(BaseEstimator):
    """Kernel regression under a `NetworkKernel`, on targets that a subclass makes of y."""

    def __init__(self, depth=1, activation="relu", w_std=2**0.5, b_std=0.1, ridge=0.0, kind="ntk"):
        self.depth = depth
        self.activation = activation
        self.w_std = w_std
        self.b_std = b_std
        self.ridge = ridge
        self.kind = kind

    def _fit(self, X, targets):
        self.X_fit_ = X
        self.kernel_ = NetworkKernel(
            self.depth, self.activation, self.w_std, self.b_std, self.kind, "fixed", "fixed"
        )
        with jax.enable_x64(True):
            fitted = regression(self.kernel_(X), targets, self.ridge)
            self.dual_coef_ = np.array(fitted.coefficients)
        return self

    def _predict(self, X):
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        return self.kernel_(X, self.X_fit_) @ self.dual_coef_


class NTKRegressor(RegressorMixin, _KernelEstimator):
    """Regression with an infinitely wide network, trained to the end from a start at zero.

    **Parameters**: `depth`, `activation`, `w_std`, `b_std` and `kind` as for `NetworkKernel`;
    `ridge` δ ≥ 0, with which the prediction is K(x, X)(K + δI)⁻¹y (see `regression`).

    **Attributes**: `kernel_`, a `NetworkKernel`; `X_fit_` (N, d); `dual_coef_` (N,) or (N, k);
    `n_features_in_`.

    >>> X = np.linspace(-1.0, 1.0, 9)[:, None]
    >>> model = NTKRegressor(depth=2, b_std=0.5).fit(X, X[:, 0] ** 2)
    >>> bool(abs(model.predict([[0.6]])[0] - 0.36) < 0.02)
    True
    """

    def fit(self, X, y):
        """Fit to `X` (N, d) and `y` (N,) or (N, k); raises ValueError for another shape, or NaN."""
        X, y = validate_data(self, X, y, dtype=np.float64, multi_output=True, y_numeric=True)
        return self._fit(X, np.asarray(y, np.float64))

    def predict(self, X):
        """Predictions at `X` (M, d): (M,) or (M, k)."""
        return self._predict(X)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


class NTKClassifier(ClassifierMixin, _KernelEstimator):
    """Classification by regression on targets ±1, one against the rest.

    Parameters and attributes are those of `NTKRegressor`, and `classes_` (k,).

    >>> X = np.array([[-2.0], [-1.0], [1.0], [2.0]])
    >>> model = NTKClassifier(b_std=0.5).fit(X, ["low", "low", "high", "high"])
    >>> print(model.predict([[-1.5], [1.5]]))
    ['low' 'high']
    """

    def fit(self, X, y):
        """Fit to `X` (N, d) and labels `y` (N,); raises ValueError for fewer than two classes."""
        X, y = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        self.classes_, index = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"y must hold at least two classes, got one class: {self.classes_}")
        targets = 2 * np.eye(len(self.classes_))[index] - 1
        return self._fit(X, targets[:, 1] if len(self.classes_) == 2 else targets)

    def decision_function(self, X):
        """Scores at `X` (M, d): (M, k), or (M,) of `classes_[1]` when there are two."""
        return self._predict(X)

    def predict(self, X):
        """The labels (M,) with the highest scores at `X` (M, d)."""
        scores = self.decision_function(X)
        return self.classes_[scores.argmax(1) if scores.ndim == 2 else (scores > 0).astype(int)]
