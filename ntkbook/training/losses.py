"""Losses: each maps outputs `f` and targets `y` of one shape to a scalar, a sum over examples.

A sum and not a mean, so that the gradient flow of `mse` decays at the rates ηλ of the kernel
itself, whatever the number of examples.  Targets never broadcast: `f` of shape (N, 1) beside
`y` of shape (N,) would quietly mean all N² differences.
"""

import jax
import jax.numpy as jnp
import numpy as np

from ntkbook._base.arguments import as_floating, is_traced, require_positive, require_shape


def mse(f, y):
    """Squared error ½ Σ (f − y)² over examples and outputs; `f` and `y` (N,) or (N, k).

    >>> import jax.numpy as jnp
    >>> float(mse(jnp.array([1.0, 2.0]), jnp.array([0.0, 0.0])))
    2.5
    """
    f, y = _paired(f, y)
    return 0.5 * jnp.sum((f - y) ** 2)


def huber(f, y, delta=1.0):
    """Huber's loss Σ h(f − y): ½r² where |r| ≤ δ, and the tangent line δ(|r| − ½δ) beyond.

    >>> import jax.numpy as jnp
    >>> float(huber(jnp.array([1.0, 3.0]), jnp.array([0.0, 0.0])))
    3.0
    """
    f, y = _paired(f, y)
    require_positive("delta", delta)
    size = jnp.abs(f - y)
    near = jnp.minimum(size, delta)
    return jnp.sum(near * (size - 0.5 * near))


def logistic(f, y):
    """Logistic loss Σ log(1 + e^f) − y f of logits `f` and labels `y` in {0, 1}, of one shape.

    Its gradient in `f` is σ(f) − y.  Labels in between are probabilities.  Raises ValueError for
    labels outside [0, 1], such as −1.

    >>> import jax.numpy as jnp
    >>> round(float(logistic(jnp.array([0.0, 2.0]), jnp.array([1, 1]))), 4)
    0.8201
    """
    _require_probabilities(y, "labels in {0, 1}")
    f, y = _paired(f, y)
    return jnp.sum(jax.nn.softplus(f) - y * f)


def softmax_cross_entropy(f, y):
    """Cross-entropy Σ logsumexp(f) − y·f of logits `f` (N, k) and one-hot labels `y` (N, k).

    Its gradient in `f` is softmax(f) − y.  Rows of `y` may be probabilities.  Raises ValueError
    for rows that are not: integer labels go through `jax.nn.one_hot` first.

    >>> import jax.numpy as jnp
    >>> round(float(softmax_cross_entropy(jnp.zeros((1, 4)), jnp.eye(4)[:1])), 4)
    1.3863
    """
    require_shape("f", f, (None, None))
    _require_probabilities(y, "one-hot rows", rows=True)
    f, y = _paired(f, y)
    return jnp.sum(jax.nn.logsumexp(f, axis=1)) - jnp.sum(y * f)


def _paired(f, y):
    f, y = as_floating("f", f), as_floating("y", y)
    if f.shape != y.shape:
        raise ValueError(f"f and y must have one shape, got f {f.shape} and y {y.shape}")
    return f, y.astype(f.dtype)


def _require_probabilities(y, expected, rows=False):
    # NumPy and not JAX: inside `jit` even the comparison of two known arrays would be traced.
    if not is_traced(y):
        y = np.asarray(y)
        if not ((y >= 0) & (y <= 1)).all():
            raise ValueError(f"y must hold {expected}, got values from {y.min()} to {y.max()}")
        if rows and y.ndim == 2 and not np.allclose(y.sum(axis=1), 1, atol=1e-5):
            raise ValueError(f"y must hold {expected} that sum to 1, got rows that do not")
