"""Training dynamics of a model with a constant kernel, in closed form.

A model that is linear in its parameters, f_θ(x) = f_0(x) + J(x)(θ − θ_0), moves under gradient
descent only through its kernel Θ = J Jᵀ.  For the loss ½ Σ (f − y)² every mode of Θ moves by
itself, so that the state at any time is a function of the eigenvalues: no time is stepped through.

Predictions are written with coefficients α over the N training points,

    f(x) = f_0(x) + Θ(x, X) α,    θ = θ_0 + Jᵀ α,

and in the eigenbasis Θ = U diag(λ) Uᵀ with the residual r = f − y at the start,

    f(X) − y = U decay(λ) Uᵀ r_0,    α = −U gain(λ) Uᵀ r_0,    decay = 1 − λ gain.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

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
from ntkbook.networks.signal import Kernel
from ntkbook.training.ensembles import (
    covariance,
    covariance_on_training_points,
    kernels_at_test_points,
)
from ntkbook.training.modes import Modes, clear_null_modes, modes
from ntkbook.training.problem import at_test_points, trained_kernel, training_set


@dataclass(frozen=True)
class KernelDynamics(ABC):
    """What continuous and discrete time share: everything but times, decay and gain.

    `f0` None means a model that is zero at the start, on training and test points alike; `nngp`
    is None when only the tangent kernel was given.
    """

    modes: Modes
    y: Float[Array, "N *k"]
    f0: Float[Array, "N *k"] | None
    learning_rate: Float[Array, ""]
    nngp: Float[Array, "N N"] | None = None
    trained: str = field(default="all", metadata={"static": True})

    def residual(self, t: Num[ArrayLike, "*t"]) -> Float[Array, "*t N"] | Float[Array, "*t N k"]:
        """Residual f − y on the training points, accurate relative to its own size.

        **Arguments**: `t`, a time ≥ 0 of the flow or a number of steps of descent, or an array.

        **Returns**: the shape of `t`, then that of `y`.

        **Raises**: ValueError for a negative `t`; TypeError for steps that are not integers.

        >>> import jax.numpy as jnp
        >>> from ntkbook import gradient_flow
        >>> residual = gradient_flow(jnp.eye(1), jnp.ones(1)).residual(20.0)    # −e^{−20}
        >>> print(f"{residual[0]:.4e}")
        -2.0612e-09
        """
        # The decay acts on the residual at the start: a difference of predictions would cancel.
        return self._filtered(self._decay(self._times(t)), self._start())

    def train(self, t: Num[ArrayLike, "*t"]) -> Float[Array, "*t N"] | Float[Array, "*t N k"]:
        """Predictions on the training points.

        **Arguments**, **Returns**, **Raises**: as `residual`.

        >>> import jax.numpy as jnp
        >>> from ntkbook import gradient_descent
        >>> gradient_descent(jnp.eye(1), jnp.ones(1), 0.5).train(jnp.array([0, 1, 2])).tolist()
        [[0.0], [0.5], [0.75]]
        """
        return self.y + self.residual(t)

    def coefficients(
        self, t: Num[ArrayLike, "*t"]
    ) -> Float[Array, "*t N"] | Float[Array, "*t N k"]:
        """Coefficients α over the training points: f(x) = f_0(x) + Θ(x, X) α, θ = θ_0 + Jᵀ α.

        **Arguments**, **Returns**, **Raises**: as `residual`.

        >>> import jax.numpy as jnp
        >>> from ntkbook import gradient_flow
        >>> gradient_flow(2 * jnp.eye(1), jnp.ones(1)).coefficients(jnp.inf).tolist()
        [0.5]
        """
        return self._filtered(self._gain(self._times(t)), -self._start())

    def test(
        self,
        t: Num[ArrayLike, "*t"],
        k_test_train: Num[ArrayLike, "M N"] | Kernel,
        f0_test: Num[ArrayLike, "M *k"] | None = None,
    ) -> Float[Array, "*t M"] | Float[Array, "*t M k"]:
        """Predictions at test points.

        **Arguments**: `t` as in `residual`; `k_test_train` (M, N), the kernel between test and
        training points, an array or a `Kernel`; `f0_test` (M,) or (M, k), the model at the start,
        needed exactly when `f0` was given for the training points.

        **Returns**: the shape of `t`, then (M,) or (M, k).

        **Raises**: ValueError for wrong shapes, and for one of `f0` and `f0_test` without the
        other: they are values of one function.

        >>> import jax.numpy as jnp
        >>> from ntkbook import gradient_flow
        >>> flow = gradient_flow(jnp.eye(2), jnp.array([1.0, -1.0]))
        >>> flow.test(jnp.inf, jnp.array([[0.5, 0.25]])).tolist()
        [0.25]
        """
        tangent = trained_kernel(k_test_train, self.trained)
        k_test_train, f0_test = at_test_points(self.y, self.f0, tangent, f0_test)
        coefficients = self.coefficients(t)
        if self.y.ndim == 1:
            moved = matmul(coefficients, k_test_train.T)
        else:
            moved = matmul(k_test_train, coefficients)
        return moved if f0_test is None else f0_test + moved

    def ensemble(
        self,
        t: Num[ArrayLike, "*t"],
        k_test_train: Kernel | None = None,
        k_test: Kernel | None = None,
    ) -> tuple[Float[Array, "..."], Float[Array, "*t M M"] | Float[Array, "*t M"]]:
        """Mean and covariance of infinitely wide networks, drawn at random and trained until `t`.

        The mean is A y and the covariance K_** + A K Aᵀ − A K_X* − K_*X Aᵀ, A = Θ_*X φ(Θ, t), of
        each output by itself: outputs are independent.

        **Arguments**: `t` as in `residual`; `k_test_train` = net.kernel(x_test, x) and `k_test` =
        net.kernel(x_test), each a `Kernel`, neither for the training points.  With
        net.kernel_diagonal(x_test) as `k_test` only the variances are computed.

        **Returns**: mean (M,) or (M, k), and covariance (M, M) or variances (M,), each after the
        shape of `t`.  Variances are cut off at zero; a covariance is PSD up to rounding.

        **Raises**: ValueError without the `Kernel` of the training points, and with `f0`, which
        is one network's start; TypeError for what is not a `Kernel`.

        **Source**: Lee et al. 2019, corollary 1.

        >>> import jax.numpy as jnp
        >>> from ntkbook import Kernel, gradient_flow
        >>> flow = gradient_flow(Kernel(jnp.eye(2), 3 * jnp.eye(2)), jnp.array([1.0, -1.0]))
        >>> mean, covariance = flow.ensemble(jnp.inf)    # at the end all networks agree
        >>> mean.tolist(), covariance.tolist()
        ([1.0, -1.0], [[0.0, 0.0], [0.0, 0.0]])
        """
        if self.nngp is None or self.f0 is not None:
            what = "without an nngp kernel" if self.nngp is None else "with f0, one network's start"
            raise ValueError(f"ensemble needs k_train as a Kernel and no f0, got dynamics {what}")
        times = self._times(t)
        if k_test_train is None and k_test is None:
            decay = self._decay(times)
            return self.train(t), covariance_on_training_points(self.modes, decay, self.nngp)
        cross, own = kernels_at_test_points(k_test_train, k_test, self.y.dtype)
        assert k_test_train is not None  # or the line above has raised
        mean = self.test(t, k_test_train)
        tangent = jnp.asarray(trained_kernel(k_test_train, self.trained), self.y.dtype)
        return mean, covariance(self.modes, self._gain(times), self.nngp, tangent, cross, own)

    def loss(self, t: Num[ArrayLike, "*t"]) -> Float[Array, "*t"]:
        """Loss ½ Σ (f − y)² on the training points, summed over outputs.

        **Arguments**, **Raises**: as `residual`.

        **Returns**: the shape of `t`.

        >>> import jax.numpy as jnp
        >>> from ntkbook import gradient_descent
        >>> gradient_descent(jnp.eye(1), jnp.ones(1), 0.5).loss(jnp.array([0, 1])).tolist()
        [0.5, 0.125]
        """
        # Mode by mode: the eigenvectors are orthonormal, so no residual need be put together.
        start = self.modes.project(self._start()).reshape(self.y.shape[0], -1)
        return 0.5 * matmul(self._decay(self._times(t)) ** 2, jnp.sum(start**2, axis=1))

    @abstractmethod
    def _times(self, t: ArrayLike) -> Array:
        """`t`, checked, as an array."""

    @abstractmethod
    def _decay(self, t: Array) -> Array:
        """What is left of the residual in each mode, (…, N)."""

    @abstractmethod
    def _gain(self, t: Array) -> Array:
        """(1 − decay)/λ of each mode, (…, N), also where λ is zero."""

    def _start(self) -> Array:
        return -self.y if self.f0 is None else self.f0 - self.y

    @jax.jit
    def _filtered(self, factors: Array, v: Array) -> Array:
        """U diag(factors) Uᵀ v for `factors` (…, N) and `v` (N,) or (N, k)."""
        start = self.modes.project(v)
        if v.ndim == 1:
            return matmul(factors * start, self.modes.vectors.T)
        return matmul(self.modes.vectors, factors[..., None] * start)


def dynamics_of(
    k_train: Num[ArrayLike, "N N"] | Kernel,
    y_train: Num[ArrayLike, "N *k"],
    learning_rate: Scalar,
    f0: Num[ArrayLike, "N *k"] | None,
    trained: str,
) -> tuple[Modes, Array, Array | None, Array, Array | None, str]:
    """Checked fields of `KernelDynamics`."""
    require_positive("learning_rate", learning_rate)
    kernel, y, f0 = training_set(trained_kernel(k_train, trained), y_train, f0)
    found = modes(kernel)
    values = clear_null_modes(require_psd("k_train", found.values))
    nngp = None
    if isinstance(k_train, Kernel):
        nngp = require_shape("k_train.nngp", k_train.nngp, kernel.shape)
        nngp = require_symmetric("k_train.nngp", as_floating("k_train.nngp", nngp)).astype(y.dtype)
    elif trained != "all":
        raise ValueError(f"trained={trained!r} needs k_train as a Kernel, got an array")
    start = Modes(values, found.vectors), y, f0, jnp.asarray(learning_rate, y.dtype)
    return *start, nngp, trained
