"""The modes of a kernel matrix: its eigenvectors, and the rates at which descent learns them.

The eigenvectors of the Gram matrix Θ are the modes that gradient descent learns, and its
eigenvalues are the rates at which it learns them.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from ntkbook._base.arguments import (
    as_floating,
    require_positive,
    require_psd,
    require_shape,
    require_symmetric,
)
from ntkbook._base.arrays import matmul
from ntkbook._base.types import Array, ArrayLike, Float, Num, Scalar


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Modes:
    """Eigenvalues `values` (N,), in descending order, and eigenvectors `vectors` (N, N).

    Column i of `vectors` is the unit eigenvector of `values[i]`; its sign is arbitrary, and so is
    the basis within the eigenspace of a repeated eigenvalue.
    """

    values: Float[Array, "N"]
    vectors: Float[Array, "N N"]

    def project(self, v: Num[ArrayLike, "N *k"]) -> Float[Array, "N *k"]:
        """Coefficients Uᵀv of `v` in the modes.

        **Arguments**: `v` (N,) or (N, k), values on the N points.

        **Returns**: coefficients of the same shape, mode by mode.

        **Raises**: ValueError for another shape.

        >>> import jax.numpy as jnp
        >>> modes(jnp.diag(jnp.array([1.0, 3.0]))).project(jnp.array([5.0, 7.0])).tolist()
        [7.0, 5.0]
        """
        v = as_floating("v", v)
        size = self.values.shape[0]
        require_shape("v", v, (size,) if v.ndim == 1 else (size, None))
        return matmul(self.vectors.T, v)

    def rates(self, learning_rate: Scalar = 1.0, discrete: bool = False) -> Float[Array, "N"]:
        """Rates at which the residual of each mode decays under the loss ½ Σ (f − y)².

        **Arguments**: `learning_rate` η > 0; `discrete`, for gradient descent.

        **Returns**: rates (N,): ηλ per unit of time for the gradient flow; −log|1 − ηλ| per step
        of gradient descent, which is negative for a mode that diverges and infinite for one that
        is learnt in a single step.

        **Raises**: ValueError for a learning rate that is not positive.

        >>> import jax.numpy as jnp
        >>> found = modes(jnp.diag(jnp.array([3.0, 1.0])))
        >>> found.rates(0.25).tolist(), found.rates(0.25, discrete=True).round(4).tolist()
        ([0.75, 0.25], [1.3863, 0.2877])
        """
        require_positive("learning_rate", learning_rate)
        speeds = self.values * learning_rate
        return -jnp.log(jnp.abs(1 - speeds)) if discrete else speeds


def modes(kernel: Num[ArrayLike, "N N"]) -> Modes:
    """Eigen-decomposition Θ = U diag(λ) Uᵀ of a symmetric kernel matrix.

    **Arguments**: `kernel` (N, N), symmetric up to rounding; its dtype is kept.

    **Returns**: `Modes`, eigenvalues in descending order, as `eigh` finds them: an eigenvalue
    that is zero in exact arithmetic comes out as rounding of either sign.

    **Raises**: ValueError for a kernel that is not square, finite and symmetric.

    >>> import jax.numpy as jnp
    >>> found = modes(jnp.array([[2.0, 1.0], [1.0, 2.0]]))
    >>> print(found.values.round(4))
    [3. 1.]
    >>> print(jnp.abs(found.project(jnp.array([1.0, -1.0]))).round(4))
    [0.     1.4142]
    """
    kernel = require_symmetric("kernel", as_floating("kernel", kernel))
    values, vectors = jnp.linalg.eigh(kernel)
    return Modes(values[::-1], vectors[:, ::-1])


def zero_cutoff(values: Float[Array, "N"]) -> Float[Array, ""]:
    """N·eps·λmax: eigenvalues (N,) of a PSD matrix below this are rounding, not information."""
    return values.shape[0] * jnp.finfo(values.dtype).eps * jnp.max(values)


def clear_null_modes(values: Float[Array, "N"]) -> Float[Array, "N"]:
    """Eigenvalues (N,) with those up to `zero_cutoff` set to exactly zero."""
    # Exactly zero, so that a null mode can be told by `== 0` ever after: left at ±1e-17, it would
    # grow at late times or be divided by, and the answer would be made of rounding.
    return jnp.where(values > zero_cutoff(values), values, 0)


def spectrum(name: str, kernel: Num[ArrayLike, "N N"]) -> Float[Array, "N"]:
    """Eigenvalues of a PSD matrix in ascending order, rounding cleared."""
    kernel = require_symmetric(name, as_floating(name, kernel))
    return clear_null_modes(require_psd(name, jnp.linalg.eigvalsh(kernel)))
