"""What the scikit-learn estimators do besides regression: their inputs, weights, probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import jax
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import softmax
from sklearn.base import BaseEstimator
from sklearn.utils.validation import _check_sample_weight, check_array, validate_data

from ntkbook._base.arguments import described, require_count
from ntkbook._base.hints import not_a_layer
from ntkbook._base.types import PyTree
from ntkbook.networks.containers import Serial
from ntkbook.networks.dense import Dense
from ntkbook.networks.layer import Layer
from ntkbook.training.regression import Regression, regression


def require_depth(depth: object) -> None:
    """TypeError or ValueError for what is no number of hidden layers."""
    if isinstance(depth, Layer):
        raise TypeError(
            "depth must be an integer, the number of hidden layers of a network that is built of "
            f"depth, activation, w_std and b_std, got {described(depth)}; a network of your own is "
            "network=..."
        )
    require_count("depth", depth, 0)  # type: ignore[arg-type]


def hidden_layer(activation: object, names: Mapping[str, Layer]) -> Layer:
    """The layer that has this name, or the layer itself; ValueError for anything else."""
    if isinstance(activation, Layer):
        return activation
    if not isinstance(activation, str) or activation not in names:
        got = not_a_layer(activation)
        raise ValueError(
            f"activation must be one of {', '.join(map(repr, names))} or a layer, such as "
            f"Elementwise(jax.nn.softplus), got {got}"
        )
    return names[activation]


def built(depth: int, layer: Layer) -> Serial:
    """A network of so many hidden layers, whose own scales are not used."""
    return Serial(*(Dense(1, b_std=1.0), layer) * depth, Dense(1, b_std=1.0))


def placed(net: Layer, scales: Sequence[PyTree]) -> PyTree | None:
    """The hyper-parameters of a `built` network with scales (b_std, w_std) in its dense layers.

    None, the network's own, if there are no scales.
    """
    if not isinstance(net, Serial) or len(scales) == 0:
        return None
    own = {"w_std": scales[1], "b_std": scales[0]}
    return tuple(own if type(a) is Dense else a.hyperparameters() for a in net.layers)


@partial(jax.jit, static_argnums=(0, 1))
def slopes(
    net: Serial, kind: str, scales: NDArray[np.float64], x: NDArray[np.float64]
) -> jax.Array:
    """∂K/∂ log scales (n, n, 2)."""

    # Forward mode: two scales go in and n² entries come out, and ∂/∂ log s = s ∂/∂s.

    def kernel(scales):
        return getattr(net.kernel(x, hyperparameters=placed(net, scales)), kind)

    return jax.jacfwd(kernel)(scales) * scales


def takes_pixels(network: object) -> bool:
    """Whether inputs are images or sequences (n, *space, channels)."""
    return isinstance(network, Layer) and network.spatial


def require_pixels(name: str, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """`x`, if it may be images or sequences; ValueError otherwise."""
    if x.ndim < 3:
        raise ValueError(
            f"{name} must have shape (n, *space, channels) for a network of images or sequences, "
            f"got {x.shape}; without channels pass {name}[..., None]"
        )
    return x


def padded(name: str, x: ArrayLike, network: object = None) -> tuple[NDArray[np.float64], int]:
    """Checked inputs with rows of zeros after them, and how many there are without."""
    if takes_pixels(network):  # of which a network makes tiles of one size itself
        checked = check_array(x, dtype=np.float64, input_name=name, allow_nd=True)
        return require_pixels(name, checked), len(checked)
    # JAX compiles a program for each shape, which takes seconds, and a cross-validation has many:
    # up to 64 rows become 64, more the next multiple of 128.  Entries of the kernel do not see
    # one another, so what the rows of zeros give is cut off again.
    checked = check_array(np.atleast_2d(x), dtype=np.float64, input_name=name)
    n = len(checked)
    rows = 64 if n <= 64 else -(-n // 128) * 128
    return np.pad(checked, ((0, rows - n), (0, 0))), n


def training_set(
    estimator: BaseEstimator, network: object, X: ArrayLike, y: ArrayLike, **how: bool
) -> tuple[NDArray[np.float64], NDArray]:
    """Inputs and targets that fit one another, by scikit-learn's own checks."""
    pixels = takes_pixels(network)
    inputs, targets = validate_data(estimator, X, y, dtype=np.float64, allow_nd=pixels, **how)
    return require_pixels("X", inputs) if pixels else inputs, targets


def new_inputs(
    estimator: BaseEstimator, network: object, X: ArrayLike, fitted: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Inputs of the shape of those that were `fitted`."""
    pixels = takes_pixels(network)
    if pixels and np.shape(X)[1:] != fitted.shape[1:]:
        expected = ", ".join(map(str, fitted.shape[1:]))
        raise ValueError(f"X must have shape (M, {expected}), as in fit, got {np.shape(X)}")
    return validate_data(estimator, X, dtype=np.float64, allow_nd=pixels, reset=False)


def weights_of(sample_weight: ArrayLike | None, X: NDArray[np.float64]) -> NDArray[np.float64]:
    """One weight for each example; ValueError for negative ones, or if all are zero."""
    weights = _check_sample_weight(sample_weight, X, dtype=np.float64)
    if weights.min() < 0 or not weights.any():
        raise ValueError(
            "sample_weight must hold non-negative numbers, some of them positive, got numbers "
            f"from {weights.min():g} to {weights.max():g}"
        )
    return weights


def merged(
    X: NDArray[np.float64],
    targets: NDArray[np.float64],
    weights: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Each different input once, with the mean of its targets and the sum of its weights.

    To least squares this is the same, and what is left out when one input is left out is all that
    is known of it.  Examples of weight zero are dropped; the order is that of the first ones.
    """
    counted = weights > 0
    X, targets, weights = X[counted], targets[counted], weights[counted]
    _, first, group = np.unique(X, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    place = np.argsort(order)[group.reshape(-1)]
    total = np.bincount(place, weights).astype(np.float64)
    sums = np.zeros((*targets.shape[1:], len(total)))
    np.add.at(sums.T, place, (targets.T * weights).T)
    return X[first[order]], (sums / total).T, total


def by_class(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scores (M, k) of all classes, the first of two having the negative of the other's."""
    return scores if scores.ndim == 2 else np.stack([-scores, scores], axis=1)


def without_each(
    fitted: Regression, targets: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Scores of each training input, of the regression without it."""
    with jax.enable_x64(True):
        if not fitted.positive:
            # The limit of small ridges, which exists for singular kernels too.
            tiny = 2 * np.finfo(float).eps * len(weights) * np.abs(fitted.kernel).sum(1).max()
            fitted = regression(fitted.kernel, fitted.y, tiny)
        residuals = np.array(fitted.leave_one_out_residuals())
    return targets + (residuals.T / np.sqrt(weights)).T


def temperature(
    scores: NDArray[np.float64], targets: NDArray[np.float64], weights: NDArray[np.float64]
) -> float:
    """The temperature T of the most likely softmax(scores / T)."""
    scores, labels, n = by_class(scores), (1 + by_class(targets)) / 2, weights.sum()
    # Were all scores right, T would be zero: to no class is its label quite certain.
    labels = (n * labels + 1 / labels.shape[1]) / (n + 1)

    def slope(inverse):  # of −log likelihood, which is convex in 1/T
        return weights @ np.sum((softmax(scores * inverse, axis=1) - labels) * scores, axis=1)

    # Scores that say nothing would have T infinite; 1e6 keeps the order of the classes.
    low, high = 1e-6, 1.0
    if slope(low) >= 0:
        return 1 / low
    while slope(high) < 0:
        high *= 2
    return 1 / brentq(slope, low, high)
