"""Small data sets: exact geometries, a toy regression, and the digits that scikit-learn ships.

Inputs are (n, d) and scaled so that ‖x‖² is d, exactly or on average: first-layer kernels
x·x′/d are then of order one at any d.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ntkbook._base.arguments import (
    described,
    floating_dtype,
    require_count,
    require_key,
    require_nonnegative,
)
from ntkbook._base.types import Array, DTypeLike, Float, PRNGKeyArray, Scalar


class Split(NamedTuple):
    """Inputs (N, d) and targets (N,) or (N, k) for training, and as many columns for testing."""

    x_train: Float[Array, "N d"]
    y_train: Float[Array, "N"] | Float[Array, "N k"]
    x_test: Float[Array, "M d"]
    y_test: Float[Array, "M"] | Float[Array, "M k"]


def circle(n: int, dtype: DTypeLike | None = None) -> Float[Array, "n 2"]:
    """`n` equispaced points on the circle ‖x‖² = 2, from angle 0 anticlockwise.

    **Arguments**: `n` ≥ 1; `dtype`, JAX's default float if not given.

    **Returns**: inputs (n, 2).

    **Raises**: TypeError or ValueError for another `n`, TypeError for a dtype that is no float.

    >>> print((circle(3) / 2**0.5).round(4))
    [[ 1.     0.   ]
     [-0.5    0.866]
     [-0.5   -0.866]]
    """
    whole = jnp.arange(require_count("n", n), dtype=floating_dtype("dtype", dtype))
    angles = whole * (2 * jnp.pi / n)
    return jnp.sqrt(2).astype(angles.dtype) * jnp.stack([jnp.cos(angles), jnp.sin(angles)], axis=1)


def sphere(
    key: PRNGKeyArray, n: int, d: int, dtype: DTypeLike | None = None
) -> Float[Array, "n d"]:
    """`n` independent points, uniform on the sphere ‖x‖² = d in d dimensions.

    **Arguments**: a PRNG `key`; `n` ≥ 1; `d` ≥ 2; `dtype`, JAX's default float if not given.

    **Returns**: inputs (n, d).

    **Raises**: TypeError or ValueError for other counts and keys, TypeError for a dtype that is no
    float.

    >>> import jax
    >>> x = sphere(jax.random.key(0), n=5, d=3)
    >>> print((x**2).sum(axis=1).round(4))
    [3. 3. 3. 3. 3.]
    """
    x = gaussian_inputs(key, n, require_count("d", d, minimum=2), dtype)
    return x * (jnp.sqrt(d).astype(x.dtype) / jnp.linalg.norm(x, axis=1, keepdims=True))


def gaussian_inputs(
    key: PRNGKeyArray, n: int, d: int, dtype: DTypeLike | None = None
) -> Float[Array, "n d"]:
    """`n` independent standard normal points in d dimensions: ‖x‖² is d on average.

    **Arguments**: a PRNG `key`; `n`, `d` ≥ 1; `dtype`, JAX's default float if not given.

    **Returns**: inputs (n, d).

    **Raises**: TypeError or ValueError for other counts and keys, TypeError for a dtype that is no
    float.

    >>> import jax
    >>> gaussian_inputs(jax.random.key(0), n=5, d=3).shape
    (5, 3)
    """
    require_key("key", key)
    shape = (require_count("n", n), require_count("d", d))
    return jax.random.normal(key, shape, floating_dtype("dtype", dtype))


def toy_regression(
    key: PRNGKeyArray,
    n_train: int = 12,
    n_test: int = 101,
    noise: Scalar = 0.0,
    dtype: DTypeLike | None = None,
) -> Split:
    """A function of one variable, y = sin(πx) + ½ sin(3πx) on [−1, 1], as a `Split`.

    A network needs a bias here: without one it is homogeneous in its single input.

    **Arguments**: a PRNG `key`; `n_train`, `n_test` ≥ 1; `noise` ≥ 0, the standard deviation of
    the normal noise on the training targets; `dtype`, JAX's default float if not given.

    **Returns**: `Split`: training inputs (n_train, 1), uniform and sorted, with targets
    (n_train,); test inputs (n_test, 1), an even grid, with targets (n_test,) without noise.

    **Raises**: TypeError or ValueError for other counts, keys or noise, TypeError for a dtype that
    is no float.

    >>> import jax
    >>> x_train, y_train, x_test, y_test = toy_regression(jax.random.key(0))
    >>> x_train.shape, y_train.shape, x_test.shape, y_test.shape
    ((12, 1), (12,), (101, 1), (101,))
    """
    n_train, n_test = require_count("n_train", n_train), require_count("n_test", n_test)
    noise = require_nonnegative("noise", noise)
    dtype = floating_dtype("dtype", dtype)
    x_key, noise_key = jax.random.split(require_key("key", key))
    x_train = jnp.sort(jax.random.uniform(x_key, (n_train,), dtype, -1, 1))
    x_test = jnp.linspace(-1, 1, n_test, dtype=dtype)

    def target(x):
        return jnp.sin(jnp.pi * x) + jnp.sin(3 * jnp.pi * x) / 2

    y_train = target(x_train) + noise * jax.random.normal(noise_key, (n_train,), dtype)
    return Split(x_train[:, None], y_train.astype(dtype), x_test[:, None], target(x_test))


def digits(
    n_train: int,
    n_test: int,
    key: PRNGKeyArray,
    classes: Sequence[int] | None = None,
    dtype: DTypeLike | None = None,
) -> Split:
    """Handwritten digits, 8×8 pixels, drawn without repetition from scikit-learn's 1797.

    The mean training image is subtracted, and one number divides all pixels so that ‖x‖² is 64
    on average over the training set: a scale for each pixel would blow up those that are almost
    always blank.

    **Arguments**: `n_train` ≥ 2, `n_test` ≥ 0; a PRNG `key`; `classes`, None for all ten, or two
    different digits such as (3, 8); `dtype`, JAX's default float if not given.

    **Returns**: `Split`: inputs (n, 64); targets one-hot (n, 10), or for two classes (n,), −1 for
    the first and +1 for the second.

    **Raises**: TypeError or ValueError for another key; ValueError for other classes, for more
    examples than there are, and for a single training image: it has no scale; TypeError for a
    dtype that is no float.

    >>> import jax
    >>> x_train, y_train, x_test, y_test = digits(20, 5, jax.random.key(0), classes=(3, 8))
    >>> x_train.shape, sorted(set(y_train.tolist())), x_test.shape
    ((20, 64), [-1.0, 1.0], (5, 64))
    """
    from sklearn.datasets import load_digits  # here, because it takes a second to import

    n_train, n_test = require_count("n_train", n_train), require_count("n_test", n_test, minimum=0)
    dtype = floating_dtype("dtype", dtype)
    x, label = load_digits(return_X_y=True)
    if classes is None:
        y = np.eye(10)[label]
    else:
        x, label = _pick(x, label, classes)
        y = np.where(label == classes[0], -1.0, 1.0)
    if n_train + n_test > len(x):
        raise ValueError(
            f"n_train + n_test must be at most {len(x)} for these classes, got {n_train + n_test}"
        )
    drawn = np.asarray(jax.random.permutation(require_key("key", key), len(x)))[: n_train + n_test]
    x, y = x[drawn] - x[drawn[:n_train]].mean(axis=0), y[drawn]
    power = (x[:n_train] ** 2).sum(axis=1).mean()
    if power == 0:
        raise ValueError(f"n_train must give images that differ, to scale them, got {n_train}")
    x = x * np.sqrt(x.shape[1] / power)
    parts = x[:n_train], y[:n_train], x[n_train:], y[n_train:]
    return Split(*(jnp.asarray(part, dtype) for part in parts))


def _pick(x, label, classes):
    whole = isinstance(classes, (tuple, list, range))
    if not whole or len(classes) != 2 or len({d for d in range(10) if d in classes}) != 2:
        raise ValueError(
            f"classes must be two different digits from 0 to 9, got {described(classes)}"
        )
    chosen = (label == classes[0]) | (label == classes[1])
    return x[chosen], label[chosen]
