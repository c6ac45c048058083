"""The modes of a kernel matrix: its eigenvectors, and the rates at which descent learns them.

The eigenvectors of the Gram matrix Θ are the modes that gradient descent learns, and its
eigenvalues are the rates at which it learns them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from ntkbook._base.arguments import (
    as_floating,
    is_traced,
    require_finite,
    require_flag,
    require_psd,
    require_shape,
)
from ntkbook._base.arrays import matmul
from ntkbook._base.messages import Short
from ntkbook._base.traced import positive, symmetric
from ntkbook._base.types import Array, ArrayLike, DTypeLike, Float, Num, Scalar


@jax.tree_util.register_dataclass
@dataclass(frozen=True, repr=False)
class Modes(Short):
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

        **Raises**: ValueError for another shape, or for NaN.

        >>> import jax.numpy as jnp
        >>> modes(jnp.diag(jnp.array([1.0, 3.0]))).project(jnp.array([5.0, 7.0])).tolist()
        [7.0, 5.0]
        """
        v = as_floating("v", v)
        size = self.values.shape[0]
        require_shape("v", require_finite("v", v), (size,) if v.ndim == 1 else (size, None))
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
        require_flag("discrete", discrete)
        speeds = self.values * positive("learning_rate", learning_rate)
        return -jnp.log(jnp.abs(1 - speeds)) if discrete else speeds


def modes(kernel: Num[ArrayLike, "N N"]) -> Modes:
    """Eigen-decomposition Θ = U diag(λ) Uᵀ of a symmetric kernel matrix.

    **Arguments**: `kernel` (N, N), symmetric up to rounding; its dtype is kept.  A float32 matrix
    is decomposed in float64 all the same, unless it is traced.

    **Returns**: `Modes`, eigenvalues in descending order, as `eigh` finds them: an eigenvalue
    that is zero in exact arithmetic comes out as rounding of either sign.

    **Raises**: ValueError for a kernel that is not square, finite and symmetric; inside `jit`,
    where values can't be looked at, the result is NaN instead.

    >>> import jax.numpy as jnp
    >>> found = modes(jnp.array([[2.0, 1.0], [1.0, 2.0]]))
    >>> print(found.values.round(4))
    [3. 1.]
    >>> print(jnp.abs(found.project(jnp.array([1.0, -1.0]))).round(4))
    [0.     1.4142]
    """
    values, vectors = _eigh(symmetric("kernel", as_floating("kernel", kernel)))
    return Modes(values[::-1], vectors[:, ::-1])


def psd_modes(name: str, kernel: Float[Array, "N N"], entries: DTypeLike | None = None) -> Modes:
    """`modes` of a PSD matrix, in which eigenvalues that are only rounding are exactly zero.

    `entries` is the dtype whose rounding the entries carry, where it is not that of the kernel.
    """
    found = modes(kernel)
    return Modes(_cleared(name, kernel, found.values, entries), found.vectors)


def spectrum(name: str, kernel: Num[ArrayLike, "N N"]) -> Float[Array, "N"]:
    """Eigenvalues of a PSD matrix in ascending order, rounding cleared."""
    kernel = symmetric(name, as_floating(name, kernel))
    if kernel.size == 0:
        raise ValueError(f"{name} must have at least one row, got shape {kernel.shape}")
    return _cleared(name, kernel, _eigh(kernel, vectors=False)[0], None)


def zero_cutoff(values: Float[Array, "N"]) -> Float[Array, ""]:
    """N·eps·λmax: eigenvalues (N,) of a PSD matrix below this are rounding, not information."""
    return values.shape[0] * jnp.finfo(values.dtype).eps * jnp.max(values, initial=0)


def clear_null_modes(
    values: Float[Array, "N"], cutoff: Float[Array, ""] | None = None
) -> Float[Array, "N"]:
    """Eigenvalues (N,) with those up to a cutoff, `zero_cutoff` by default, set to exactly zero."""
    # Exactly zero, so that a null mode can be told by `== 0` ever after: left at ±1e-17, it would
    # grow at late times or be divided by, and the answer would be made of rounding.
    return jnp.where(values <= (zero_cutoff(values) if cutoff is None else cutoff), 0, values)


def _eigh(kernel, vectors=True):
    """Eigenvalues in ascending order and, if wanted, eigenvectors, in the dtype of the kernel."""
    if _in_own_dtype(kernel):
        return jnp.linalg.eigh(kernel) if vectors else (jnp.linalg.eigvalsh(kernel), None)
    # In float32 the decomposition would add N·eps·λmax of rounding to what the entries have; in
    # float64, which NumPy has whatever JAX is set to, it adds nothing.
    wide = np.asarray(kernel, np.float64)
    wide = (wide + wide.T) / 2
    found = np.linalg.eigh(wide) if vectors else (np.linalg.eigvalsh(wide),)
    return tuple(jnp.asarray(part, kernel.dtype) for part in found)


def _in_own_dtype(kernel):
    return is_traced(kernel) or kernel.dtype == jnp.float64


def _cleared(name, kernel, values, entries):
    """Eigenvalues `values` of a kernel, checked to be PSD, with rounding set to zero."""
    eps = float(jnp.finfo(kernel.dtype if entries is None else entries).eps)
    decomposed = float(jnp.finfo(kernel.dtype).eps) if _in_own_dtype(kernel) else 0.0
    if eps <= decomposed:
        return clear_null_modes(require_psd(name, values))
    # What is left is the rounding of the entries.  Each of a few roundings of up to eps/2, where
    # independent, has a spectral norm of √(N/3)·eps·max|K|; those that are correlated show in the
    # lowest eigenvalue, which would not be negative without them.  (Of kernels computed in float32
    # it was seen to reach −0.5·eps·λmax and −3·√N·eps·max|K|.)
    size, largest = len(values), jnp.max(values, initial=0)
    independent = 4 * math.sqrt(size) * jnp.max(jnp.abs(kernel), initial=0)
    rounding = eps * jnp.minimum(size * largest, independent)
    values = require_psd(name, values, 16 * jnp.maximum(4 * eps * largest, rounding))
    return clear_null_modes(values, jnp.maximum(rounding, -2 * jnp.min(values, initial=0)))
