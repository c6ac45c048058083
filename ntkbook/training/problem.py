"""What is to be fitted: kernel, targets and start, checked against one another."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from ntkbook._base.arguments import (
    as_floating,
    is_traced,
    require_choice,
    require_finite,
    require_shape,
    require_symmetric,
)
from ntkbook._base.types import Array, ArrayLike, Float, Num, Scalar
from ntkbook.networks.signal import Kernel


def trained_kernel(kernel: ArrayLike | Kernel, trained: str) -> ArrayLike:
    """The tangent kernel of what is trained: an array as it is, of a `Kernel` one of its parts.

    With all layers trained that is `ntk`.  Of the readout alone, a dense layer in the NTK
    parametrization, the features are those of the NNGP, and so is the kernel: `nngp`.
    """
    require_choice("trained", trained, ("all", "readout"))
    if isinstance(kernel, Kernel):
        return kernel.ntk if trained == "all" else kernel.nngp
    return kernel


def training_set(
    k_train: Num[ArrayLike, "N N"],
    y_train: Num[ArrayLike, "N *k"],
    f0: Num[ArrayLike, "N *k"] | None,
    name: str = "k_train",
) -> tuple[Float[Array, "N N"], Float[Array, "N *k"], Float[Array, "N *k"] | None]:
    """Kernel, targets and start, checked against one another and brought to one dtype."""
    kernel, y = as_floating(name, k_train), as_floating("y_train", y_train)
    require_symmetric(name, kernel)
    size = kernel.shape[0]
    if size == 0:
        raise ValueError(f"{name} must have at least one row, got shape (0, 0)")
    require_finite("y_train", require_shape("y_train", y, (size,) if y.ndim == 1 else (size, None)))
    dtype = jnp.result_type(kernel, y)
    if f0 is not None:
        f0 = as_floating("f0", f0)
        require_finite("f0", require_shape("f0", f0, y.shape))
        dtype = jnp.result_type(dtype, f0)
        f0 = f0.astype(dtype)
    return kernel.astype(dtype), y.astype(dtype), f0


def at_test_points(
    y: Float[Array, "N *k"],
    f0: Float[Array, "N *k"] | None,
    k_test_train: Num[ArrayLike, "M N"],
    f0_test: Num[ArrayLike, "M *k"] | None,
    name: str = "k_test_train",
) -> tuple[Float[Array, "M N"], Float[Array, "M *k"] | None]:
    """Kernel and start at test points, checked, in the dtype of the training set."""
    k_test_train = as_floating(name, k_test_train).astype(y.dtype)
    require_finite(name, require_shape(name, k_test_train, (None, y.shape[0])))
    if (f0 is None) != (f0_test is None):
        given, missing = ("f0_test", "f0") if f0 is None else ("f0", "f0_test")
        raise ValueError(
            f"f0 and f0_test must be given together, got {given} without {missing}: "
            "both are values of the model at the start"
        )
    if f0_test is not None:
        f0_test = as_floating("f0_test", f0_test).astype(y.dtype)
        require_shape("f0_test", f0_test, k_test_train.shape[:1] + y.shape[1:])
        require_finite("f0_test", f0_test)
    return k_test_train, f0_test


def require_momentum(momentum: Scalar) -> Scalar:
    """Raise ValueError unless `momentum` is a number 0 ≤ β < 1."""
    if not is_traced(momentum) and not (np.ndim(momentum) == 0 and 0 <= np.asarray(momentum) < 1):
        raise ValueError(f"momentum must be a number, 0 <= momentum < 1, got {momentum}")
    return momentum
