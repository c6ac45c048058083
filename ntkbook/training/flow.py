"""Gradient flow under a constant kernel, in closed form at all times."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from ntkbook._base.arguments import as_floating, is_traced
from ntkbook._base.types import Array, ArrayLike, Num, Scalar
from ntkbook.networks.signal import Kernel
from ntkbook.training.dynamics import KernelDynamics, dynamics_of


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class GradientFlow(KernelDynamics):
    """The solution made by `gradient_flow`; `t` is a time ≥ 0, infinity included, or an array."""

    def _times(self, t: ArrayLike) -> Array:
        t = as_floating("t", t).astype(self.y.dtype)
        if not is_traced(t) and not np.all(np.asarray(t) >= 0):
            raise ValueError(f"t must be a time, zero or greater, got {np.min(t)}")
        return t

    @jax.jit
    def _decay(self, t: Array) -> Array:
        null, arrived, exponent, _ = self._ingredients(t)
        return jnp.where(arrived, jnp.where(null, 1, 0), jnp.exp(-exponent))

    @jax.jit
    def _gain(self, t: Array) -> Array:
        # The inner `where` gives a null mode the harmless divisor 1: NaN in a branch not taken
        # would still spoil the derivatives.
        # φ(λ, t) = (1 − e^{−ηλt})/λ, which is ηt for a null mode.  A null mode never arrives, but
        # Θ(x, X) is blind to it, so at t = ∞ the pseudo-inverse leaves it out.  expm1, because
        # 1 − e^{−ηλt} would cancel all digits of a slow mode.
        null, arrived, exponent, linear = self._ingredients(t)
        inverse = jnp.where(null, 0, 1 / jnp.where(null, 1, self.modes.values))
        grown = jnp.where(null, linear, -jnp.expm1(-exponent) * inverse)
        return jnp.where(arrived, inverse, grown)

    def _ingredients(self, t: Array) -> tuple[Array, Array, Array, Array]:
        """Which modes are null (N,), which times infinite (…, 1), and ηλt (…, N), ηt (…, 1).

        Infinite times are zero in the last two, so that no ∞ · 0 reaches a value or a derivative.
        """
        t = t[..., None]
        arrived = jnp.isinf(t)
        linear = self.learning_rate * jnp.where(arrived, 0, t)
        return self.modes.values == 0, arrived, self.modes.values * linear, linear


def gradient_flow(
    k_train: Num[ArrayLike, "N N"] | Kernel,
    y_train: Num[ArrayLike, "N *k"],
    learning_rate: Scalar = 1.0,
    f0: Num[ArrayLike, "N *k"] | None = None,
    trained: str = "all",
) -> GradientFlow:
    """Gradient flow θ' = −η ∇ ½ Σ (f − y)² of a model with constant kernel, solved for all times.

    On the training points f_t = y + e^{−ηΘt}(f_0 − y), and the coefficients over them are
    α_t = φ(Θ, t)(y − f_0) with φ(λ, t) = (1 − e^{−ηλt})/λ, its limit ηt at λ = 0 included: Θ may
    be singular.  At t = ∞ the coefficients are Θ⁺(y − f_0), kernel regression without a ridge,
    and the residual keeps what it had in the null space of Θ.

    Eigenvalues up to N·eps·λmax are rounding and count as exactly zero.  Their modes have finite
    coefficients ηt(y − f_0) at finite t, which no Θ(x, X) of the same model sees; beyond times
    at which rounding in Θ(x, X), multiplied by ηt, is felt, ask for t = ∞.

    **Arguments**: `k_train` (N, N), symmetric and positive semi-definite, or a `Kernel` of which
    `trained` chooses: "all" layers, ntk, or the "readout" alone, nngp; `y_train` (N,) or
    (N, k), each of k outputs moving under the same kernel (a kernel (N, N, k, k) between outputs
    is a matrix (Nk, Nk) here, with `y_train` (Nk,)); `learning_rate` η > 0; `f0`, shape of
    `y_train`, the model at the start, zero if not given.  Results have the arguments' dtype.

    **Returns**: `GradientFlow` with `train(t)`, `test(t, k_test_train, f0_test)`,
    `coefficients(t)`, `residual(t)`, `loss(t)` and, of a `Kernel`, `ensemble(t)`.  A pytree, it
    may cross `jit`; its derivatives in t, y, f0 and η always exist, in the kernel when no
    eigenvalue is repeated.

    **Raises**: ValueError for a kernel that is not square, finite, symmetric and, up to rounding,
    positive semi-definite (naming the eigenvalue), for shapes that do not fit, for NaN, for a
    learning rate that is not positive, and for a negative time.

    **Source**: Lee et al. 2019, section 2; Jacot et al. 2018, section 5 (whose loss is a mean).

    >>> import jax.numpy as jnp
    >>> kernel, y = jnp.array([[2.0, 1.0], [1.0, 2.0]]), jnp.array([1.0, -1.0])
    >>> flow = gradient_flow(kernel, y)       # y is the mode of eigenvalue 1: f_t = (1 − e^{−t}) y
    >>> print(flow.train(jnp.array([1.0, jnp.inf])).round(4))
    [[ 0.6321 -0.6321]
     [ 1.     -1.    ]]
    >>> print(flow.test(jnp.inf, jnp.array([[1.0, 0.5]])).round(4))
    [0.5]
    """
    return GradientFlow(*dynamics_of(k_train, y_train, learning_rate, f0, trained))
