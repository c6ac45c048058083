"""What is to be fitted: kernel, targets and start, checked against one another."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp

from ntkbook._base.arguments import (
    as_floating,
    require_choice,
    require_finite,
    require_shape,
)
from ntkbook._base.messages import warn_of_labels
from ntkbook._base.shapes import require_targets, require_test_points
from ntkbook._base.summed import refuse_sum
from ntkbook._base.traced import symmetric
from ntkbook._base.types import Array, ArrayLike, Float, Num
from ntkbook.signals.signal import Kernel


class TrainingSet(NamedTuple):
    """Kernel, targets and start, checked against one another and of one dtype.

    **Fields**: `kernel` (N, N); `y` and `f0`, (N,) or (N, k), `f0` None where the model starts at
    zero; `outputs`, None, or k where the kernel came as (N, N, k, k): then all outputs of all
    examples are one list, `kernel` being (N k, N k), and `y` and `f0` (N k,).
    """

    kernel: Float[Array, "N N"]
    y: Float[Array, "N *k"]
    f0: Float[Array, "N *k"] | None
    outputs: int | None


def trained_kernel(kernel: ArrayLike | Kernel, trained: str) -> ArrayLike:
    """The tangent kernel of what is trained: an array as it is, of a `Kernel` one of its parts.

    With all layers trained that is `ntk`.  Of the readout alone, a dense layer in the NTK
    parametrization, the features are those of the NNGP, and so is the kernel: `nngp`.
    """
    require_choice("trained", trained, ("all", "readout"))
    if isinstance(kernel, Kernel):
        return kernel.ntk if trained == "all" else kernel.nngp
    return kernel


def stacked(name: str, kernel: ArrayLike) -> tuple[Float[Array, "n1 n2"], int | None]:
    """A kernel (n1, n2, k, k) as a matrix (n1 k, n2 k), and k; a matrix as it is, and None.

    Row i k + a belongs to output a at input i, as in `y.reshape(-1)` of targets (n1, k).  Raises
    ValueError for other shapes, and for the trace over outputs of an empirical kernel.
    """
    refuse_sum(name, kernel)
    kernel = as_floating(name, kernel)
    if kernel.ndim != 4:
        return kernel, None
    n1, n2, k, other = shape = kernel.shape
    if k != other:
        hint = f"; pass {name}.transpose(0, 2, 1, 3)" if n2 == other else ""
        raise ValueError(f"{name} must have shape (any, any, {k}, {k}), got {shape}{hint}")
    return kernel.transpose(0, 2, 1, 3).reshape(n1 * k, n2 * k), k


def unstacked(values: Float[Array, "*t N"], outputs: int | None) -> Float[Array, "*t N"]:
    """Values (…, N k) of a stacked list as (…, N, k); as they are where `outputs` is None."""
    return values if outputs is None else values.reshape(*values.shape[:-1], -1, outputs)


def training_set(
    k_train: Num[ArrayLike, "N N"] | Num[ArrayLike, "N N k k"],
    y_train: Num[ArrayLike, "N *k"],
    f0: Num[ArrayLike, "N *k"] | None,
    name: str = "k_train",
) -> TrainingSet:
    """The `TrainingSet` of a kernel, (N, N) or (N, N, k, k), targets and start."""
    kernel, outputs = stacked(name, k_train)
    y = as_floating("y_train", y_train)
    kernel = symmetric(name, kernel)
    if kernel.size == 0:
        raise ValueError(f"{name} must have at least one row, got shape {jnp.shape(k_train)}")
    require_targets(y, name, len(kernel), outputs)
    require_finite("y_train", y)
    warn_of_labels("y_train", y_train)
    dtype = jnp.result_type(kernel, y)
    if f0 is not None:
        f0 = as_floating("f0", f0)
        require_finite("f0", require_shape("f0", f0, y.shape))
        dtype = jnp.result_type(dtype, f0)
    if outputs is not None:
        y, f0 = y.reshape(-1), None if f0 is None else f0.reshape(-1)
    start = None if f0 is None else f0.astype(dtype)
    return TrainingSet(kernel.astype(dtype), y.astype(dtype), start, outputs)


def at_test_points(
    y: Float[Array, "N *k"],
    f0: Float[Array, "N *k"] | None,
    k_test_train: Num[ArrayLike, "M N"] | Num[ArrayLike, "M N k k"],
    f0_test: Num[ArrayLike, "M *k"] | None,
    name: str = "k_test_train",
    outputs: int | None = None,
) -> tuple[Float[Array, "M N"], Float[Array, "M *k"] | None]:
    """Kernel and start at test points, checked, in the dtype and the form of the training set.

    `y`, `f0` and `outputs` are those of the `TrainingSet`; what comes is stacked as it is.
    """
    matrix, got = stacked(name, k_test_train)
    require_test_points(name, matrix, got, len(y), outputs)
    matrix = require_finite(name, matrix.astype(y.dtype))
    if (f0 is None) != (f0_test is None):
        given, missing = ("f0_test", "f0") if f0 is None else ("f0", "f0_test")
        raise ValueError(
            f"f0 and f0_test must be given together, got {given} without {missing}: "
            "both are values of the model at the start"
        )
    if f0_test is not None:
        f0_test = as_floating("f0_test", f0_test).astype(y.dtype)
        points = matrix.shape[0] // (outputs or 1)
        require_shape("f0_test", f0_test, (points, *y.shape[1:], *([outputs] if outputs else [])))
        f0_test = require_finite("f0_test", f0_test)
        f0_test = f0_test if outputs is None else f0_test.reshape(-1)
    return matrix, f0_test
