"""Infinitely wide networks as scikit-learn estimators and as a kernel for its Gaussian processes.

Imported on its own, `from ntkbook.estimators import NTKRegressor`, so that the rest of the
package needs no scikit-learn.  All of it computes in float64, whatever JAX's setting, and gives
NumPy arrays.  Inputs are taken as they are: scale them first, as for any kernel of x·x'/d.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.gaussian_process.kernels import Hyperparameter, Kernel
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from ntkbook._base.arguments import require_choice, require_nonnegative, require_positive
from ntkbook._base.hints import not_a_layer
from ntkbook._estimating import (
    built,
    by_class,
    hidden_layer,
    merged,
    new_inputs,
    padded,
    placed,
    require_depth,
    slopes,
    takes_pixels,
    temperature,
    training_set,
    weights_of,
    without_each,
)
from ntkbook.networks import activations
from ntkbook.networks.layer import Layer
from ntkbook.training.regression import Regression, regression

ACTIVATIONS: dict[str, Layer] = {
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
    A `b_std` of zero, which has no logarithm, is fixed too.  A `network` of your own takes the
    place of the first four and keeps its scales fixed; if some layer of it knows pixels or steps,
    inputs are (n, *space, channels), which scikit-learn's own Gaussian processes refuse.

    **Raises**: when called, ValueError or TypeError naming the parameter; ValueError for a
    gradient between two sets of inputs, and for inputs that are not finite (n, d) arrays.

    **Source**: Jacot et al. 2018, theorem 1; Lee et al. 2018 for the NNGP.

    >>> import numpy as np
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
        depth: int = 1,
        activation: str | Layer = "relu",
        w_std: float = 1.0,
        b_std: float = 0.0,
        kind: str = "ntk",
        w_std_bounds: tuple[float, float] | str = (1e-2, 1e2),
        b_std_bounds: tuple[float, float] | str = (1e-5, 1e2),
        network: Layer | None = None,
    ) -> None:
        self.depth = depth
        self.activation = activation
        self.w_std = w_std
        self.b_std = b_std
        self.kind = kind
        self.w_std_bounds = w_std_bounds
        self.b_std_bounds = b_std_bounds
        self.network = network

    @property
    def hyperparameter_w_std(self) -> Hyperparameter:
        """What scikit-learn optimises, `w_std` between its bounds on a logarithmic scale."""
        bounds = self.w_std_bounds if self.network is None else "fixed"
        return Hyperparameter("w_std", "numeric", bounds)

    @property
    def hyperparameter_b_std(self) -> Hyperparameter:
        """As `hyperparameter_w_std`; fixed for a `b_std` of zero."""
        bounds = self.b_std_bounds if self.b_std and self.network is None else "fixed"
        return Hyperparameter("b_std", "numeric", bounds)

    def __call__(
        self, X: ArrayLike, Y: ArrayLike | None = None, eval_gradient: bool = False
    ) -> NDArray[np.float64] | tuple[NDArray[np.float64], NDArray[np.float64]]:
        """K(X, Y), or K(X, X) without Y.

        **Arguments**: `X` (n, d) and `Y` (m, d); `eval_gradient`, which needs Y None.

        **Returns**: (n, m), in float64; with `eval_gradient` also the derivatives (n, n, n_dims)
        in `theta`, the logarithms of those of (b_std, w_std) that are not fixed.

        **Raises**: as the class says.

        >>> import numpy as np
        >>> NetworkKernel(depth=0, b_std=0.5)(np.array([[3.0]]), np.array([[2.0]])).tolist()
        [[6.25]]
        """
        if eval_gradient and Y is not None:
            raise ValueError("eval_gradient needs Y=None, got both")
        X, n = padded("X", X, self.network)
        Y, m = (None, n) if Y is None else padded("Y", Y, self.network)
        net, scales = self._network()
        with jax.enable_x64(True):
            kernel = net.kernel(X, Y, hyperparameters=placed(net, scales))
            value = np.array(getattr(kernel, self.kind)[:n, :m])
            if not eval_gradient:
                return value
            free = [not self.hyperparameter_b_std.fixed, not self.hyperparameter_w_std.fixed]
            if not any(free):
                return value, np.empty((n, n, 0))
            return value, np.array(slopes(net, self.kind, np.array(scales), X))[:n, :n, free]

    def diag(self, X: ArrayLike) -> NDArray[np.float64]:
        """The diagonal of `self(X)`, in O(n).

        **Arguments**: `X` (n, d).

        **Returns**: (n,), in float64.

        **Raises**: as the class says.

        >>> import numpy as np
        >>> NetworkKernel(depth=0).diag(np.array([[3.0], [1.0]])).tolist()
        [9.0, 1.0]
        """
        X, n = padded("X", X, self.network)
        net, scales = self._network()
        with jax.enable_x64(True):
            kernel = net.kernel_diagonal(X, hyperparameters=placed(net, scales))
            return np.array(getattr(kernel, self.kind)[:n])

    def is_stationary(self) -> bool:
        """False: the kernel depends on more than differences of inputs."""
        return False

    def __repr__(self) -> str:
        if self.network is not None:
            return f"NetworkKernel(kind={self.kind!r}, network={self.network!r})"
        return (
            f"NetworkKernel(depth={self.depth}, activation={self.activation!r}, "
            f"w_std={self.w_std:.3g}, b_std={self.b_std:.3g}, kind={self.kind!r})"
        )

    def _network(self) -> tuple[Layer, tuple[float, ...]]:
        """The network and its scales (b_std, w_std), checked; of a network of its own, none."""
        require_choice("kind", self.kind, ("ntk", "nngp"))
        if self.network is not None:
            if not isinstance(self.network, Layer):
                got = not_a_layer(self.network)
                raise TypeError(f"network must be a network, such as Serial(…), or None, got {got}")
            return self.network, ()
        require_depth(self.depth)
        layer = hidden_layer(self.activation, ACTIVATIONS)
        scales = require_nonnegative("b_std", self.b_std), require_positive("w_std", self.w_std)
        return built(self.depth, layer), tuple(map(float, scales))


class _KernelEstimator(BaseEstimator):
    """Kernel regression under a `NetworkKernel`, on targets that a subclass makes of y."""

    def __init__(
        self,
        depth: int = 1,
        activation: str | Layer = "relu",
        w_std: float = 2**0.5,
        b_std: float = 0.1,
        ridge: float = 0.0,
        kind: str = "ntk",
        network: Layer | None = None,
    ) -> None:
        self.depth = depth
        self.activation = activation
        self.w_std = w_std
        self.b_std = b_std
        self.ridge = ridge
        self.kind = kind
        self.network = network

    def _fit(
        self, X: NDArray[np.float64], targets: NDArray[np.float64], weights: NDArray[np.float64]
    ) -> Regression:
        """Fit to the different inputs (see `merged`), and return the regression it was done by.

        A noise δ/w_i of each example is the noise δ of the kernel S K S and the targets S y,
        S = diag(√w_i): the coefficients of the one are S times those of the other.
        """
        self.X_fit_ = X
        layers = self.depth, self.activation, self.w_std, self.b_std, self.kind
        self.kernel_ = NetworkKernel(*layers, "fixed", "fixed", self.network)
        roots = np.sqrt(weights)
        with jax.enable_x64(True):
            kernel = np.asarray(self.kernel_(X)) * np.outer(roots, roots)
            fitted = regression(kernel, (targets.T * roots).T, self.ridge)
            self.dual_coef_ = (np.array(fitted.coefficients).T * roots).T
        return fitted

    def _predict(self, X: ArrayLike) -> NDArray[np.float64]:
        check_is_fitted(self)
        X = new_inputs(self, self.network, X, self.X_fit_)
        return self.kernel_(X, self.X_fit_) @ self.dual_coef_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = takes_pixels(self.network)
        return tags


class NTKRegressor(RegressorMixin, _KernelEstimator):
    """Regression with an infinitely wide network, trained to the end from a start at zero.

    **Parameters**: `depth`, `activation`, `w_std`, `b_std`, `kind` and `network` as for
    `NetworkKernel`; `ridge` δ ≥ 0, with which the prediction is K(x, X)(K + δI)⁻¹y (see
    `regression`).  With a network of images or sequences, X is (N, *space, channels) throughout.

    **Attributes**: `kernel_`, a `NetworkKernel`; `X_fit_` (N, d), the inputs of positive weight,
    each different one once; `dual_coef_` (N,) or (N, k); `n_features_in_`.

    >>> import numpy as np
    >>> X = np.linspace(-1.0, 1.0, 9)[:, None]
    >>> model = NTKRegressor(depth=2, b_std=0.5).fit(X, X[:, 0] ** 2)
    >>> bool(abs(model.predict([[0.6]])[0] - 0.36) < 0.02)
    True
    """

    def fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> NTKRegressor:
        """Fit to the training set, and return the estimator.

        **Arguments**: `X` (N, d); `y` (N,) or (N, k); `sample_weight` (N,), w_i ≥ 0: an example
        counts as w_i examples would, its ridge being δ/w_i.  Without a ridge, weights matter only
        where the targets cannot all be met.

        **Returns**: the estimator itself.

        **Raises**: ValueError or TypeError for other shapes, for NaN, for negative weights, and
        naming a bad parameter.

        >>> import numpy as np
        >>> NTKRegressor().fit(np.eye(2), np.array([0.0, 1.0])).dual_coef_.shape
        (2,)
        """
        inputs, targets = training_set(self, self.network, X, y, multi_output=True, y_numeric=True)
        weights = weights_of(sample_weight, inputs)
        self._fit(*merged(inputs, np.asarray(targets, np.float64), weights))
        return self

    def predict(self, X: ArrayLike) -> NDArray[np.float64]:
        """Predictions at test points.

        **Arguments**: `X` (M, d).

        **Returns**: (M,) or (M, k), as `y`, in float64.

        **Raises**: ValueError for another number of features; scikit-learn's NotFittedError.

        >>> import numpy as np
        >>> model = NTKRegressor().fit(np.eye(2), np.array([1.0, 2.0]))
        >>> model.predict(np.eye(2)).round(6).tolist()
        [1.0, 2.0]
        """
        return self._predict(X)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


class NTKClassifier(ClassifierMixin, _KernelEstimator):
    """Classification by regression on targets ±1, one against the rest.

    **Parameters**: those of `NTKRegressor`.

    **Attributes**: those of `NTKRegressor`; `classes_` (k,); `temperature_`, which makes scores
    probabilities (see `predict_proba`).

    >>> import numpy as np
    >>> X = np.array([[-2.0], [-1.0], [1.0], [2.0]])
    >>> model = NTKClassifier(b_std=0.5).fit(X, ["low", "low", "high", "high"])
    >>> print(model.predict([[-1.5], [1.5]]))
    ['low' 'high']
    """

    def fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> NTKClassifier:
        """Fit to the training set, and return the estimator.

        **Arguments**: `X` (N, d); labels `y` (N,), numbers or strings; `sample_weight` as for
        `NTKRegressor.fit`.

        **Returns**: the estimator itself.

        **Raises**: as `NTKRegressor.fit`; ValueError for fewer than two classes.

        >>> import numpy as np
        >>> NTKClassifier().fit(np.eye(2), ["no", "yes"]).classes_.tolist()
        ['no', 'yes']
        """
        inputs, labels = training_set(self, self.network, X, y)
        check_classification_targets(labels)
        weights = weights_of(sample_weight, inputs)
        self.classes_ = np.unique(labels[weights > 0])
        if len(self.classes_) < 2:
            raise ValueError(f"y must hold at least two classes, got one class: {self.classes_}")
        targets = np.where(labels[:, None] == self.classes_, 1.0, -1.0)
        if len(self.classes_) == 2:
            targets = targets[:, 1]
        inputs, targets, weights = merged(inputs, targets, weights)
        fitted = self._fit(inputs, targets, weights)
        self.temperature_ = temperature(without_each(fitted, targets, weights), targets, weights)
        return self

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Scores of the classes.

        **Arguments**, **Raises**: as `NTKRegressor.predict`.

        **Returns**: (M, k), or (M,) of `classes_[1]` when there are two.

        >>> import numpy as np
        >>> model = NTKClassifier().fit(np.eye(2), ["no", "yes"])
        >>> model.decision_function(np.eye(2)).round(6).tolist()
        [-1.0, 1.0]
        """
        return self._predict(X)

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Probabilities of the classes: softmax(scores / `temperature_`).

        Scores of a regression are no probabilities.  One temperature, by which the order of the
        classes stays, is fitted to the training set by maximum likelihood, each example having
        the scores of the regression without it; of examples with one input all are left out.

        **Arguments**, **Raises**: as `NTKRegressor.predict`.

        **Returns**: (M, k), each row summing to one, in the order of `classes_`.

        **Source**: Guo et al. 2017, section 4.2, for the temperature; Platt 1999 for targets that
        are not quite 0 and 1, here by a total of one example spread over the classes.

        >>> import numpy as np
        >>> X = np.array([[-2.0], [-1.0], [1.0], [2.0]])
        >>> model = NTKClassifier(b_std=0.5).fit(X, ["low", "low", "high", "high"])
        >>> model.predict_proba([[0.0], [1.5]]).round(2).tolist()    # of "high" and "low"
        [[0.5, 0.5], [0.81, 0.19]]
        """
        return softmax(by_class(self.decision_function(X)) / self.temperature_, axis=1)

    def predict(self, X: ArrayLike) -> NDArray:
        """The labels with the highest scores.

        **Arguments**, **Raises**: as `NTKRegressor.predict`.

        **Returns**: labels (M,), of the type of `y`.

        >>> import numpy as np
        >>> NTKClassifier().fit(np.eye(2), ["no", "yes"]).predict(np.eye(2)).tolist()
        ['no', 'yes']
        """
        scores = self.decision_function(X)
        return self.classes_[scores.argmax(1) if scores.ndim == 2 else (scores > 0).astype(int)]
