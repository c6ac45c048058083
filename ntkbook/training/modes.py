"""The modes of a kernel matrix: its eigenvectors, and the rates at which descent learns them.

The eigenvectors of the Gram matrix Θ are the modes that gradient descent learns, and its
eigenvalues are the rates at which it learns them.
"""

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


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Modes:
    """Eigenvalues `values` (N,), in descending order, and eigenvectors `vectors` (N, N).

    Column i of `vectors` is the unit eigenvector of `values[i]`; its sign is arbitrary, and so is
    the basis within the eigenspace of a repeated eigenvalue.
    """

    values: jax.Array
    vectors: jax.Array

    def project(self, v):
        """Coefficients Uᵀv of `v`, (N,) or (N, k), in the modes: the same shape, mode by mode."""
        v = as_floating("v", v)
        size = self.values.shape[0]
        require_shape("v", v, (size,) if v.ndim == 1 else (size, None))
        return matmul(self.vectors.T, v)

    def rates(self, learning_rate=1.0, discrete=False):
        """Rates (N,) at which the residual of each mode decays under the loss ½ Σ (f − y)².

        ηλ per unit of time for the gradient flow; with `discrete=True` −log|1 − ηλ| per step of
        gradient descent, which is negative for a mode that diverges and infinite for one that is
        learnt in a single step.
        """
        require_positive("learning_rate", learning_rate)
        speeds = learning_rate * self.values
        return -jnp.log(jnp.abs(1 - speeds)) if discrete else speeds


def modes(kernel):
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


def zero_cutoff(values):
    """N·eps·λmax: eigenvalues (N,) of a PSD matrix below this are rounding, not information."""
    return values.shape[0] * jnp.finfo(values.dtype).eps * jnp.max(values)


def clear_null_modes(values):
    """Eigenvalues (N,) with those up to `zero_cutoff` set to exactly zero."""
    return jnp.where(values > zero_cutoff(values), values, 0)


def spectrum(name, kernel):
    """Eigenvalues of a PSD matrix in ascending order, rounding cleared."""
    kernel = require_symmetric(name, as_floating(name, kernel))
    return clear_null_modes(require_psd(name, jnp.linalg.eigvalsh(kernel)))
