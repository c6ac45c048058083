"""Kernel regression and the Gaussian process behind it, from one eigen-decomposition."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from ntkbook._base.arguments import (
    as_floating,
    is_traced,
    require_finite,
    require_nonnegative,
    require_psd,
    require_shape,
)
from ntkbook._base.arrays import matmul
from ntkbook._base.types import Array, ArrayLike, Float, Num, Scalar
from ntkbook.training.modes import Modes, clear_null_modes, modes
from ntkbook.training.problem import at_test_points, training_set


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Regression:
    """The regression made by `regression`; `coefficients` are over the training points."""

    modes: Modes
    y: Float[Array, "N *k"]
    ridge: Float[Array, ""]

    @property
    def coefficients(self) -> Float[Array, "N *k"]:
        """α = (K + δI)⁻¹ y, of the shape of y, so that f(x) = K(x, X) α."""
        return matmul(self.modes.vectors * self._inverse(), self.modes.project(self.y))

    def predict(self, k_test_train: Num[ArrayLike, "M N"]) -> Float[Array, "M *k"]:
        """Predictions K(x, X) α.

        **Arguments**: `k_test_train` (M, N), the kernel between test and training points.

        **Returns**: (M,) or (M, k), as `y`.

        **Raises**: ValueError for another shape, or for NaN.

        >>> import jax.numpy as jnp
        >>> fit = regression(jnp.eye(2), jnp.array([1.0, -1.0]), ridge=1.0)
        >>> fit.predict(jnp.array([[1.0, 0.5]])).tolist()
        [0.25]
        """
        k_test_train, _ = at_test_points(self.y, None, k_test_train, None)
        return matmul(k_test_train, self.coefficients)

    def posterior(
        self,
        k_test_train: Num[ArrayLike, "M N"],
        k_test: Num[ArrayLike, "M M"] | Num[ArrayLike, "M"],
    ) -> tuple[Float[Array, "M *k"], Float[Array, "M M"] | Float[Array, "M"]]:
        """Mean and covariance of the Gaussian process, given the data.

        The covariance K_** − K_*X (K + δI)⁻¹ K_X* is that of the function, without the noise δ
        of a new observation, and the same for each output.

        **Arguments**: `k_test_train` (M, N); `k_test` (M, M), the kernel between test points, or
        (M,), its diagonal alone.

        **Returns**: mean (M,) or (M, k), and covariance (M, M) or, of the diagonal, variances
        (M,), cut off at zero.

        **Raises**: ValueError for other shapes, or for NaN.

        **Source**: Rasmussen & Williams 2006, section 2.2.

        >>> import jax.numpy as jnp
        >>> fit = regression(jnp.eye(2), jnp.array([1.0, -1.0]), ridge=1.0)
        >>> mean, variances = fit.posterior(jnp.array([[1.0, 0.0]]), jnp.array([1.0]))
        >>> print(mean.round(4), variances.round(4))
        [0.5] [0.5]
        """
        mean = self.predict(k_test_train)
        own = as_floating("k_test", k_test).astype(self.y.dtype)
        require_shape("k_test", own, mean.shape[:1] * (1 if own.ndim == 1 else 2))
        require_finite("k_test", own)
        known = matmul(jnp.asarray(k_test_train, own.dtype), self.modes.vectors)
        # A root of the inverse on either side: what is taken off is a square, so a variance can
        # only shrink, and a covariance stays symmetric.
        known = known * jnp.sqrt(self._inverse())
        if own.ndim == 1:
            return mean, jnp.maximum(own - jnp.sum(known**2, axis=1), 0)
        return mean, own - matmul(known, known.T)

    def log_marginal_likelihood(self) -> Float[Array, ""]:
        """log p(y) = −½ yᵀ(K + δI)⁻¹y − ½ log det(K + δI) − ½ N log 2π.

        **Returns**: a scalar, summed over outputs, for N observations with noise variance δ.

        **Raises**: ValueError for a singular kernel without a ridge.

        **Source**: Rasmussen & Williams 2006, eq. 2.30.

        >>> import jax.numpy as jnp
        >>> fit = regression(jnp.eye(1), jnp.zeros(1), ridge=1.0)
        >>> round(float(fit.log_marginal_likelihood()), 4)    # −½ log 4π
        -1.2655
        """
        values = self._definite("log_marginal_likelihood")
        start = self.modes.project(self.y).reshape(len(values), -1)
        terms = start**2 / values[:, None] + jnp.log(2 * jnp.pi * values)[:, None]
        return -jnp.sum(terms) / 2

    def leave_one_out_residuals(self) -> Float[Array, "N *k"]:
        """f_{−i}(x_i) − y_i, f_{−i} being the regression without example i.

        Exact, without N regressions: −α_i / [(K + δI)⁻¹]_ii.

        **Returns**: the shape of `y`.

        **Raises**: ValueError for a singular kernel without a ridge.

        **Source**: Rasmussen & Williams 2006, section 5.4.2.

        >>> import jax.numpy as jnp
        >>> regression(jnp.eye(2), jnp.array([1.0, -1.0])).leave_one_out_residuals().tolist()
        [-1.0, 1.0]
        """
        inverse = 1 / self._definite("leave_one_out_residuals")
        diagonal = matmul(self.modes.vectors**2, inverse)
        return -(self.coefficients.T / diagonal).T

    def _inverse(self) -> Array:
        """1/(λ + δ) of each mode, zero where that is no number: a pseudo-inverse."""
        values = self.modes.values + self.ridge
        null = values == 0
        # The divisor 1 keeps NaN out of the branch not taken, where it would spoil derivatives.
        return jnp.where(null, 0, 1 / jnp.where(null, 1, values))

    def _definite(self, what: str) -> Array:
        values = self.modes.values + self.ridge
        if not is_traced(values) and not np.min(values) > 0:
            raise ValueError(f"{what} needs a positive ridge for a singular kernel, got ridge 0")
        return values


def regression(
    k_train: Num[ArrayLike, "N N"], y_train: Num[ArrayLike, "N *k"], ridge: Scalar = 0.0
) -> Regression:
    """Kernel regression: the minimum of Σ (f(x_i) − y_i)² + δ ‖f‖², and of least ‖f‖ for δ = 0.

    f(x) = K(x, X) (K + δI)⁻¹ y, in the space of the kernel K, is the limit of the gradient flow
    under K at δ = 0, and the posterior mean of the Gaussian process of covariance K for
    observations with noise of variance δ.  Eigenvalues up to N·eps·λmax are rounding and count
    as zero; at δ = 0 their modes are left out, as `gradient_flow` does at t = ∞.

    **Arguments**: `k_train` (N, N), symmetric and positive semi-definite, `nngp` or `ntk` of a
    `Kernel`; `y_train` (N,) or (N, k); `ridge` δ ≥ 0.  Results have the arguments' dtype.

    **Returns**: `Regression` with `predict(k_test_train)`, `posterior(k_test_train, k_test)`,
    `coefficients`, `log_marginal_likelihood()` and `leave_one_out_residuals()`, a pytree.

    **Raises**: ValueError for a kernel that is not square, finite, symmetric and, up to rounding,
    positive semi-definite, for shapes that do not fit, for NaN, for a negative ridge, and, of
    the last two methods, for a singular kernel without a ridge.

    **Source**: Rasmussen & Williams 2006, sections 2.2, 2.3, 5.4.2 and 6.2.

    >>> import jax.numpy as jnp
    >>> kernel, y = jnp.array([[2.0, 1.0], [1.0, 2.0]]), jnp.array([1.0, -1.0])
    >>> fit = regression(kernel, y, ridge=1.0)       # y is the mode of eigenvalue 1: α = y/2
    >>> print(fit.predict(jnp.array([[1.0, 0.5]])).round(4))
    [0.25]
    >>> print(fit.posterior(jnp.array([[1.0, 1.0]]), jnp.array([[2.0]]))[1].round(4))
    [[1.5]]
    >>> print(fit.leave_one_out_residuals().round(4))       # −1/3 from the other example, minus 1
    [-1.3333  1.3333]
    """
    require_nonnegative("ridge", ridge)
    kernel, y, _ = training_set(k_train, y_train, None)
    found = modes(kernel)
    values = clear_null_modes(require_psd("k_train", found.values))
    return Regression(Modes(values, found.vectors), y, jnp.asarray(ridge, y.dtype))
