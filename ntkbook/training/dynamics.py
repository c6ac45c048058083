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
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ntkbook._base import rounding
from ntkbook._base.arguments import as_floating, require_shape
from ntkbook._base.arrays import matmul
from ntkbook._base.messages import Short
from ntkbook._base.traced import positive, symmetric
from ntkbook._base.types import Array, ArrayLike, Float, Num, Scalar
from ntkbook.signals.signal import Kernel
from ntkbook.training.ensembles import (
    covariance,
    covariance_on_training_points,
    kernels_at_test_points,
)
from ntkbook.training.modes import Modes, psd_modes
from ntkbook.training.problem import at_test_points, trained_kernel, training_set, unstacked
from ntkbook.training.spectral import SpectralFunction, filtered, half_square


class Evolution(NamedTuple):
    """What becomes of each mode until some times, as functions of its eigenvalue.

    **Fields**: `decay`, what is left of the residual; `gain`, (1 − decay)/λ, also where λ is zero;
    `args`, the arguments of both, the times (*t) being the first.
    """

    decay: SpectralFunction
    gain: SpectralFunction
    args: tuple[Array, ...]


@dataclass(frozen=True, repr=False)
class KernelDynamics(Short, ABC):
    """What continuous and discrete time share: everything but the functions of time.

    `f0` None means a model that is zero at the start, on training and test points alike; `nngp`
    is None when only the tangent kernel was given; `outputs` is k where the kernel came as
    (N, N, k, k), and N here is N k then: all outputs of all examples are one list; `entries` is
    the dtype whose rounding the kernel carries.
    """

    kernel: Float[Array, "N N"]
    modes: Modes
    y: Float[Array, "N *k"]
    f0: Float[Array, "N *k"] | None
    learning_rate: Float[Array, ""]
    nngp: Float[Array, "N N"] | None = None
    outputs: int | None = field(default=None, metadata={"static": True})
    trained: str = field(default="all", metadata={"static": True})
    entries: np.dtype = field(default=np.dtype(np.float64), metadata={"static": True})

    def residual(self, t: Num[ArrayLike, "*t"]) -> Float[Array, "*t N"] | Float[Array, "*t N k"]:
        """Residual f − y on the training points, accurate relative to its own size.

        **Arguments**: `t`, a time ≥ 0 of the flow or a number of steps of descent, or an array.

        **Returns**: the shape of `t`, then that of `y`.

        **Raises**: ValueError for a negative `t`, which inside `jit` gives NaN; TypeError for
        steps that are not integers.

        >>> import jax.numpy as jnp
        >>> from ntkbook import gradient_flow
        >>> residual = gradient_flow(jnp.eye(1), jnp.ones(1)).residual(20.0)    # −e^{−20}
        >>> print(f"{residual[0]:.4e}")
        -2.0612e-09
        """
        # The decay acts on the residual at the start: a difference of predictions would cancel.
        return unstacked(self._residual(self._evolution(t)), self.outputs)

    def train(self, t: Num[ArrayLike, "*t"]) -> Float[Array, "*t N"] | Float[Array, "*t N k"]:
        """Predictions on the training points.

        **Arguments**, **Returns**, **Raises**: as `residual`.

        >>> import jax.numpy as jnp
        >>> from ntkbook import gradient_descent
        >>> gradient_descent(jnp.eye(1), jnp.ones(1), 0.5).train(jnp.array([0, 1, 2])).tolist()
        [[0.0], [0.5], [0.75]]
        """
        return unstacked(self.y + self._residual(self._evolution(t)), self.outputs)

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
        return unstacked(self._coefficients(self._evolution(t)), self.outputs)

    def test(
        self,
        t: Num[ArrayLike, "*t"],
        k_test_train: Num[ArrayLike, "M N"] | Num[ArrayLike, "M N k k"] | Kernel,
        f0_test: Num[ArrayLike, "M *k"] | None = None,
    ) -> Float[Array, "*t M"] | Float[Array, "*t M k"]:
        """Predictions at test points.

        **Arguments**: `t` as in `residual`; `k_test_train` (M, N), the kernel between test and
        training points, an array or a `Kernel`, (M, N, k, k) where that of the training points
        was (N, N, k, k); `f0_test` (M,) or (M, k), the model at the start, needed exactly when
        `f0` was given for the training points.

        **Returns**: the shape of `t`, then (M,) or (M, k).

        **Raises**: ValueError for wrong shapes, and for one of `f0` and `f0_test` without the
        other: they are values of one function.  A transposed kernel has a wrong shape unless
        there are as many test points as training points: then nothing tells.  A UserWarning where
        the rounding of the kernels' entries, in the dtype they came in, times the coefficients
        moves predictions by more than 1 % of the largest entry of f_0 − y.

        >>> import jax.numpy as jnp
        >>> from ntkbook import gradient_flow
        >>> flow = gradient_flow(jnp.eye(2), jnp.array([1.0, -1.0]))
        >>> flow.test(jnp.inf, jnp.array([[0.5, 0.25]])).tolist()
        [0.25]
        """
        tangent = trained_kernel(k_test_train, self.trained)
        cross, f0_test = at_test_points(self.y, self.f0, tangent, f0_test, outputs=self.outputs)
        coefficients = self._coefficients(self._evolution(t))
        given = as_floating("k_test_train", tangent).dtype
        entries = rounding.coarsest(self.entries, given, self.y.dtype)
        advice = "ask for an earlier t or for inf, or use regression(…, ridge=…)"
        rounding.warn_of_felt_rounding(cross, coefficients, self._start(), entries, advice)
        one = self.y.ndim == 1
        moved = matmul(coefficients, cross.T) if one else matmul(cross, coefficients)
        return unstacked(moved if f0_test is None else f0_test + moved, self.outputs)

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
        decay, gain, args = self._evolution(t)
        vectors = jax.lax.stop_gradient(self.modes.vectors)
        if k_test_train is None and k_test is None:
            left = filtered(decay, self.kernel, self.modes, args, vectors)
            return self.train(t), covariance_on_training_points(vectors, left, self.nngp)
        cross, own = kernels_at_test_points(k_test_train, k_test, self.y)
        assert k_test_train is not None  # or the line above has raised
        mean = self.test(t, k_test_train)
        tangent = jnp.asarray(trained_kernel(k_test_train, self.trained), self.y.dtype)
        moved = filtered(gain, self.kernel, self.modes, args, matmul(tangent, vectors))
        return mean, covariance(vectors, moved, self.nngp, cross, own)

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
        decay, _, args = self._evolution(t)
        start = _project(self.modes, self._start()).reshape(self.y.shape[0], -1)
        return half_square(decay, self.kernel, self.modes, args, start.T)

    @abstractmethod
    def _evolution(self, t: ArrayLike) -> Evolution:
        """What becomes of the modes until `t`, which is checked."""

    def _start(self) -> Array:
        return -self.y if self.f0 is None else self.f0 - self.y

    def _residual(self, evolution: Evolution) -> Array:
        return _applied(evolution.decay, self.kernel, self.modes, evolution.args, self._start())

    def _coefficients(self, evolution: Evolution) -> Array:
        return _applied(evolution.gain, self.kernel, self.modes, evolution.args, -self._start())


@partial(jax.jit, static_argnums=0)
def _applied(function, kernel, modes, args, v):
    """f(K) v on the points themselves, (…, N) or (…, N, k), for `v` (N,) or (N, k)."""
    vectors = jax.lax.stop_gradient(modes.vectors)
    # The barriers keep transposition out of the products, which would be rounded another way.
    start = jax.lax.optimization_barrier(_project(modes, v)).T
    moved = filtered(function, kernel, modes, args, start)
    if v.ndim == 1:
        return matmul(moved, vectors.T)
    return matmul(vectors, jax.lax.optimization_barrier(jnp.swapaxes(moved, -2, -1)))


def _project(modes, v):
    """Coordinates of `v` in the modes, which stand still in all derivatives (see `spectral`)."""
    return matmul(jax.lax.stop_gradient(modes.vectors).T, v)


class _Start(NamedTuple):
    """The fields of `KernelDynamics`, checked."""

    kernel: Array
    modes: Modes
    y: Array
    f0: Array | None
    learning_rate: Array
    nngp: Array | None
    outputs: int | None
    trained: str
    entries: np.dtype


def dynamics_of(
    k_train: Num[ArrayLike, "N N"] | Num[ArrayLike, "N N k k"] | Kernel,
    y_train: Num[ArrayLike, "N *k"],
    learning_rate: Scalar,
    f0: Num[ArrayLike, "N *k"] | None,
    trained: str,
) -> _Start:
    """Checked fields of `KernelDynamics`."""
    learning_rate = positive("learning_rate", learning_rate)
    tangent = trained_kernel(k_train, trained)
    kernel, y, f0, outputs = training_set(tangent, y_train, f0)
    entries = as_floating("k_train", tangent).dtype
    found = psd_modes("k_train", kernel, entries)
    nngp = None
    if isinstance(k_train, Kernel):
        nngp = require_shape("k_train.nngp", k_train.nngp, kernel.shape)
        nngp = symmetric("k_train.nngp", as_floating("k_train.nngp", nngp)).astype(y.dtype)
    elif trained != "all":
        raise ValueError(f"trained={trained!r} needs k_train as a Kernel, got an array")
    if entries != jnp.float64:
        start = found.project(y if f0 is None else y - f0).reshape(len(y), -1)
        shares = jnp.sum(start**2, axis=1)
        total = jnp.maximum(jnp.sum(shares), jnp.finfo(entries).tiny)
        lost = jnp.sum(shares, where=found.values == 0) / total
        of = "what they would learn is missing at late times, {} of |f_0 − y|"
        rounding.warn_of_lost_modes(found.values, entries, lost, of)
    rate = rounding.represented("learning_rate", learning_rate, y.dtype)
    return _Start(kernel, found, y, f0, rate, nngp, outputs, trained, entries)
