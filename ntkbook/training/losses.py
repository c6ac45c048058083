"""Losses: each maps outputs `f` and targets `y` of one shape to a scalar, a sum over examples.

A sum and not a mean, so that the gradient flow of `mse` decays at the rates ηλ of the kernel
itself, whatever the number of examples.  Targets never broadcast: `f` of shape (N, 1) beside
`y` of shape (N,) would quietly mean all N² differences.  Inside `jit`, where values can't be looked
at, targets that would raise ValueError make the loss NaN.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from ntkbook._base.arguments import as_floating, described, is_traced
from ntkbook._base.traced import nan_unless, positive
from ntkbook._base.types import Array, ArrayLike, Float, Num, Scalar

# loss(f, y) of outputs and targets of one shape: a sum over examples, as a scalar.
Loss = Callable[[Num[Array, "N *k"], Num[Array, "N *k"]], Float[Array, ""]]


def mse(f: Num[ArrayLike, "*n"], y: Num[ArrayLike, "*n"]) -> Float[Array, ""]:
    """Squared error ½ Σ (f − y)² over examples and outputs.

    **Arguments**: outputs `f` and targets `y`, (N,) or (N, k), of one shape.

    **Returns**: a scalar of the dtype of `f`.

    **Raises**: ValueError for different shapes, TypeError for complex numbers.

    >>> import jax.numpy as jnp
    >>> float(mse(jnp.array([1.0, 2.0]), jnp.array([0.0, 0.0])))
    2.5
    """
    f, y = _paired(f, y)
    residual = f - y
    return jnp.sum(0.5 * residual * residual)  # halved first: r² may overflow where ½r² does not


def huber(
    f: Num[ArrayLike, "*n"], y: Num[ArrayLike, "*n"], delta: Scalar = 1.0
) -> Float[Array, ""]:
    """Huber's loss Σ h(f − y): ½r² where |r| ≤ δ, and the tangent line δ(|r| − ½δ) beyond.

    **Arguments**: `f` and `y` as for `mse`; `delta` δ > 0.

    **Returns**: a scalar of the dtype of `f`.

    **Raises**: as `mse`; ValueError for a `delta` that is not positive.

    >>> import jax.numpy as jnp
    >>> float(huber(jnp.array([1.0, 3.0]), jnp.array([0.0, 0.0])))
    3.0
    """
    f, y = _paired(f, y)
    delta = positive("delta", delta)
    if not is_traced(delta):  # more than the dtype holds would be infinite, and infinity · 0 NaN
        delta = np.minimum(delta, float(jnp.finfo(f.dtype).max))
    residual, delta = f - y, jnp.asarray(delta, f.dtype)
    near = jnp.abs(residual) <= delta
    # ½m² + δ(|r| − m) with m = min(|r|, δ).  Each `where` holds an operand that is finite, so that
    # the branch not taken spoils no derivative, and m keeps its sign: |r| has no slope at zero.
    clipped = jnp.where(near, residual, delta)
    excess = jnp.where(near, 0, jnp.abs(residual) - delta)
    return jnp.sum(0.5 * clipped * clipped + delta * excess)


def logistic(f: Num[ArrayLike, "*n"], y: Num[ArrayLike, "*n"]) -> Float[Array, ""]:
    """Logistic loss Σ log(1 + e^f) − y f, whose gradient in `f` is σ(f) − y.

    It is never negative, and small losses are as exact as large ones: e^{−f} for y = 1 and a
    large logit, where the difference above would be 0.

    **Arguments**: logits `f` and labels `y` in {0, 1}, (N,) or (N, k), of one shape; labels in
    between are probabilities.  Logits may be infinite.

    **Returns**: a scalar of the dtype of `f`.

    **Raises**: as `mse`; ValueError for labels outside [0, 1], such as −1.

    >>> import jax.numpy as jnp
    >>> round(float(logistic(jnp.array([0.0, 2.0]), jnp.array([1, 1]))), 4)
    0.8201
    """
    f, y = _paired(f, _probabilities(y, "labels in {0, 1}"))
    # The cross-entropy of two classes with the logits f and 0.
    return _cross_entropy(jnp.stack([f, jnp.zeros_like(f)], -1), jnp.stack([y, 1 - y], -1))


def softmax_cross_entropy(f: Num[ArrayLike, "N k"], y: Num[ArrayLike, "N k"]) -> Float[Array, ""]:
    """Cross-entropy −Σ y·log softmax(f), whose gradient in `f` is softmax(f) − y.

    It is never negative, and the loss of a confident prediction is exact however small: with
    the other logits at −m below the right one, (k − 1) e^{−m}.

    **Arguments**: logits `f` (N, k) and labels `y` (N, k), one-hot or rows of probabilities.
    Logits may be infinite: −inf is a probability of zero, which costs nothing where `y` is zero.

    **Returns**: a scalar of the dtype of `f`.

    **Raises**: as `mse`; ValueError for rows that are not probabilities: integer labels go
    through `jax.nn.one_hot` first.

    >>> import jax.numpy as jnp
    >>> round(float(softmax_cross_entropy(jnp.zeros((1, 4)), jnp.eye(4)[:1])), 4)
    1.3863
    """
    for name, value in (("f", f), ("y", y)):
        if as_floating(name, value).ndim != 2:
            raise ValueError(
                f"{name} must have shape (N, k), got {np.shape(value)}; for labels of k classes y "
                "is jax.nn.one_hot(y, k)"
            )
    return _cross_entropy(*_paired(f, _probabilities(y, "one-hot rows", rows=True)))


def require_loss(loss: object, f: Array, y: Array) -> None:
    """Raise TypeError or ValueError unless loss(f, y) is a scalar and `loss` can be hashed."""
    expected = "loss must be a function loss(f, y), such as ntkbook.mse"
    if not callable(loss):
        raise TypeError(f"{expected}, got {described(loss)}")
    try:
        hash(loss)
    except TypeError:
        raise TypeError(
            f"loss must be hashable, as functions are, got {type(loss).__name__}; pass a function, "
            "such as loss = lambda f, y: ..."
        ) from None
    # The targets as they are and not their shape alone: a loss may refuse some.
    try:
        value = jax.eval_shape(lambda f: loss(f, y), f)
    except TypeError as error:
        raise TypeError(f"{expected}, got one that raises {error}") from error
    shape = getattr(value, "shape", type(value).__name__)
    if shape != ():
        raise ValueError(f"loss must give a scalar, a sum over examples, got shape {shape}")
    if not jnp.issubdtype(value.dtype, jnp.floating):
        raise TypeError(f"loss must give a real floating number, got dtype {value.dtype}")


def _cross_entropy(f: Float[Array, "*n k"], y: Float[Array, "*n k"]) -> Float[Array, ""]:
    """−Σ y·log softmax(f), the softmax over the last axis."""
    # With f_max the largest logit, −log softmax(f)_j = (f_max − f_j) + log(1 + Σ' e^{f_i − f_max}),
    # Σ' without the largest: all terms are positive, and nothing small is added to something large.
    largest = jax.nn.one_hot(jnp.argmax(f, -1), f.shape[-1], dtype=bool)
    f_max = jnp.sum(jnp.where(largest, f, 0), -1, keepdims=True)
    # The `where` is for f_max = inf too: inf − inf is NaN.
    below = jnp.where(largest, 0, f_max - f)
    others = jnp.sum(jnp.where(largest, 0, jnp.exp(-below)), -1, keepdims=True)
    costs = below + jnp.log1p(others)
    # What has no weight costs nothing, were its cost infinite.
    return jnp.sum(y * jnp.where((y == 0) & jnp.isinf(costs), 0, costs))


def _paired(f: ArrayLike, y: ArrayLike) -> tuple[Array, Array]:
    f, y = as_floating("f", f), as_floating("y", y)
    if f.shape != y.shape:
        raise ValueError(f"f and y must have one shape, got f {f.shape} and y {y.shape}")
    return f, y.astype(f.dtype)


def _probabilities(y: ArrayLike, expected: str, rows: bool = False) -> ArrayLike:
    """`y`, which must hold probabilities, and in each of its `rows` those of all classes."""
    array = as_floating("y", y)  # a clear message for what is no array
    if is_traced(y):
        valid = (array >= 0) & (array <= 1)
        if rows:
            valid &= jnp.abs(array.sum(axis=1, keepdims=True) - 1) <= 2e-5
        return nan_unless(valid, array)
    # NumPy and not JAX: inside `jit` even the comparison of two known arrays would be traced.
    y = np.asarray(y)
    if not ((y >= 0) & (y <= 1)).all():
        raise ValueError(
            f"y must hold {expected}, got values from {y.min()} to {y.max()}; of labels of k "
            "classes softmax_cross_entropy takes jax.nn.one_hot(y, k)"
        )
    if rows and not np.allclose(y.sum(axis=1), 1, atol=1e-5):
        raise ValueError(f"y must hold {expected} that sum to 1, got rows that do not")
    return y
