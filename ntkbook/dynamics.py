"""Training dynamics of a model with a constant kernel, in closed form.

A model that is linear in its parameters, f_θ(x) = f_0(x) + J(x)(θ − θ_0), moves under gradient
descent only through its kernel Θ = J Jᵀ.  For the loss ½ Σ (f − y)² every mode of Θ moves by
itself, so that the state at any time is a function of the eigenvalues: no time is stepped through.

Predictions are written with coefficients α over the N training points,

    f(x) = f_0(x) + Θ(x, X) α,    θ = θ_0 + Jᵀ α,

and in the eigenbasis Θ = U diag(λ) Uᵀ with the residual r = f − y at the start,

    f(X) − y = U decay(λ) Uᵀ r_0,    α = −U gain(λ) Uᵀ r_0,    decay = 1 − λ gain.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from ntkbook._validate import (
    as_floating,
    is_traced,
    require_finite,
    require_positive,
    require_psd,
    require_shape,
    require_symmetric,
)
from ntkbook.ensembles import (
    covariance,
    covariance_on_training_points,
    kernels_at_test_points,
    trained_kernel,
)
from ntkbook.kernels import Kernel
from ntkbook.spectra import Modes, clear_null_modes, matmul, modes


@dataclass(frozen=True)
class _KernelDynamics(ABC):
    """What continuous and discrete time share: everything but times, decay and gain.

    `f0` None means a model that is zero at the start, on training and test points alike; `nngp`
    is None when only the tangent kernel was given.
    """

    modes: Modes
    y: jax.Array
    f0: jax.Array | None
    learning_rate: jax.Array
    nngp: jax.Array | None = None
    trained: str = field(default="all", metadata={"static": True})

    def residual(self, t):
        """Residual f − y on the training points: shape of `t`, then that of `y`.

        Not a difference of predictions: accurate relative to its own size, however small.
        """
        return self._filtered(self._decay(self._times(t)), self._start())

    def train(self, t):
        """Predictions on the training points at `t`: shape of `t`, then that of `y`."""
        return self.y + self.residual(t)

    def coefficients(self, t):
        """Coefficients α over the training points: shape of `t`, then that of `y`.

        f(x) = f_0(x) + Θ(x, X) α at every point x, and θ = θ_0 + Jᵀ α.
        """
        return self._filtered(self._gain(self._times(t)), -self._start())

    def test(self, t, k_test_train, f0_test=None):
        """Predictions at test points: shape of `t`, then (M,) or (M, k).

        **Arguments**: `t` as in `train`; `k_test_train` (M, N), the kernel between test and
        training points, an array or a `Kernel`; `f0_test` (M,) or (M, k), the model at the start,
        needed exactly when `f0` was given for the training points.

        **Raises**: ValueError for wrong shapes, and for one of `f0` and `f0_test` without the
        other: they are values of one function.
        """
        tangent = trained_kernel(k_test_train, self.trained)
        k_test_train, f0_test = at_test_points(self.y, self.f0, tangent, f0_test)
        coefficients = self.coefficients(t)
        if self.y.ndim == 1:
            moved = matmul(coefficients, k_test_train.T)
        else:
            moved = matmul(k_test_train, coefficients)
        return moved if f0_test is None else f0_test + moved

    def ensemble(self, t, k_test_train=None, k_test=None):
        """Mean and covariance of infinitely wide networks, drawn at random and trained until `t`.

        The mean is A y and the covariance K_** + A K Aᵀ − A K_X* − K_*X Aᵀ, A = Θ_*X φ(Θ, t), of
        each output by itself: outputs are independent (Lee et al. 2019, corollary 1).

        **Arguments**: `t` as in `train`; `k_test_train` = net.kernel(x_test, x) and `k_test` =
        net.kernel(x_test), each a `Kernel`, neither for the training points.  With
        net.kernel_diagonal(x_test) as `k_test` only the variances are computed.

        **Returns**: mean (M,) or (M, k), and covariance (M, M) or variances (M,), each after the
        shape of `t`.  Variances are cut off at zero; a covariance is PSD up to rounding.

        **Raises**: ValueError without the `Kernel` of the training points, and with `f0`, which
        is one network's start; TypeError for what is not a `Kernel`.
        """
        if self.nngp is None or self.f0 is not None:
            what = "without an nngp kernel" if self.nngp is None else "with f0, one network's start"
            raise ValueError(f"ensemble needs k_train as a Kernel and no f0, got dynamics {what}")
        times = self._times(t)
        if k_test_train is None and k_test is None:
            decay = self._decay(times)
            return self.train(t), covariance_on_training_points(self.modes, decay, self.nngp)
        cross, own = kernels_at_test_points(k_test_train, k_test, self.y.dtype)
        mean = self.test(t, k_test_train)
        tangent = trained_kernel(k_test_train, self.trained).astype(self.y.dtype)
        return mean, covariance(self.modes, self._gain(times), self.nngp, tangent, cross, own)

    def loss(self, t):
        """Loss ½ Σ (f − y)² on the training points, summed over outputs: the shape of `t`."""
        start = self.modes.project(self._start()).reshape(self.y.shape[0], -1)
        return 0.5 * matmul(self._decay(self._times(t)) ** 2, jnp.sum(start**2, axis=1))

    @abstractmethod
    def _times(self, t):
        """`t`, checked, as an array."""

    @abstractmethod
    def _decay(self, t):
        """What is left of the residual in each mode, (…, N)."""

    @abstractmethod
    def _gain(self, t):
        """(1 − decay)/λ of each mode, (…, N), also where λ is zero."""

    def _start(self):
        return -self.y if self.f0 is None else self.f0 - self.y

    @jax.jit
    def _filtered(self, factors, v):
        """U diag(factors) Uᵀ v for `factors` (…, N) and `v` (N,) or (N, k)."""
        start = self.modes.project(v)
        if v.ndim == 1:
            return matmul(factors * start, self.modes.vectors.T)
        return matmul(self.modes.vectors, factors[..., None] * start)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class GradientFlow(_KernelDynamics):
    """The solution made by `gradient_flow`; `t` is a time ≥ 0, infinity included, or an array."""

    def _times(self, t):
        t = as_floating("t", t).astype(self.y.dtype)
        if not is_traced(t) and not np.all(np.asarray(t) >= 0):
            raise ValueError(f"t must be a time, zero or greater, got {np.min(t)}")
        return t

    @jax.jit
    def _decay(self, t):
        null, arrived, exponent, _ = self._ingredients(t)
        return jnp.where(arrived, jnp.where(null, 1, 0), jnp.exp(-exponent))

    @jax.jit
    def _gain(self, t):
        # φ(λ, t) = (1 − e^{−ηλt})/λ, which is ηt for a null mode.  A null mode never arrives, but
        # Θ(x, X) is blind to it, so at t = ∞ the pseudo-inverse leaves it out.
        null, arrived, exponent, linear = self._ingredients(t)
        inverse = jnp.where(null, 0, 1 / jnp.where(null, 1, self.modes.values))
        grown = jnp.where(null, linear, -jnp.expm1(-exponent) * inverse)
        return jnp.where(arrived, inverse, grown)

    def _ingredients(self, t):
        """Which modes are null (N,), which times infinite (…, 1), and ηλt (…, N), ηt (…, 1).

        Infinite times are zero in the last two, so that no ∞ · 0 reaches a value or a derivative.
        """
        t = t[..., None]
        arrived = jnp.isinf(t)
        linear = self.learning_rate * jnp.where(arrived, 0, t)
        return self.modes.values == 0, arrived, self.modes.values * linear, linear


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class GradientDescent(_KernelDynamics):
    """The solution made by `gradient_descent`; `t` is a number of steps ≥ 0, or an array."""

    momentum: jax.Array = field(kw_only=True)

    def _times(self, t):
        steps = jnp.asarray(t)
        if not jnp.issubdtype(steps.dtype, jnp.integer):
            raise TypeError(f"t must count whole steps, got dtype {steps.dtype}")
        if not is_traced(steps) and not np.all(np.asarray(steps) >= 0):
            raise ValueError(f"t must count steps, zero or more, got {np.min(steps)}")
        return steps

    def _decay(self, t):
        return self._evolved(t, _binary_digits(t))[..., 0]

    def _gain(self, t):
        return self._evolved(t, _binary_digits(t))[..., 2]

    @partial(jax.jit, static_argnums=2)
    def _evolved(self, steps, digits):
        """State (decay, velocity, gain) of every mode after `steps`: (…, N, 3).

        With p = decay and a = gain, one step of heavy ball on a mode is
        w ← βw + ηp,  p ← p − λw,  a ← a + w,  starting from p = 1 and w = a = 0:
        a 3×3 matrix for each mode, to be raised to the power `steps`.  Squaring it again and
        again, and applying the squares that the binary digits of `steps` name, needs no case for
        a null mode, for complex eigenvalues (oscillation) or for equal ones (critical damping).
        """
        lam, one = self.modes.values, jnp.ones_like(self.modes.values)
        eta, beta, zero = self.learning_rate * one, self.momentum * one, 0 * one
        rows = [
            [1 - eta * lam, -lam * beta, zero],
            [eta, beta, zero],
            [eta, beta, one],
        ]
        step = jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)
        start = jnp.zeros((*steps.shape, *lam.shape, 3), lam.dtype).at[..., 0].set(1)

        def square(digit, carried):
            power, state = carried
            applied = matmul(power, state[..., None])[..., 0]
            named = ((steps >> digit) & 1)[..., None, None] == 1
            return matmul(power, power), jnp.where(named, applied, state)

        return jax.lax.fori_loop(0, digits, square, (step, start))[1]


def _binary_digits(steps):
    """How many binary digits the largest of `steps` has; under tracing, how many it can have."""
    if is_traced(steps):
        return jnp.iinfo(steps.dtype).bits - 1
    return int(np.max(steps, initial=0)).bit_length()


def gradient_flow(k_train, y_train, learning_rate=1.0, f0=None, trained="all"):
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

    Source: Lee et al. 2019, section 2; Jacot et al. 2018, section 5 (whose loss is a mean).

    >>> import jax.numpy as jnp
    >>> kernel, y = jnp.array([[2.0, 1.0], [1.0, 2.0]]), jnp.array([1.0, -1.0])
    >>> flow = gradient_flow(kernel, y)       # y is the mode of eigenvalue 1: f_t = (1 − e^{−t}) y
    >>> print(flow.train(jnp.array([1.0, jnp.inf])).round(4))
    [[ 0.6321 -0.6321]
     [ 1.     -1.    ]]
    >>> print(flow.test(jnp.inf, jnp.array([[1.0, 0.5]])).round(4))
    [0.5]
    """
    return GradientFlow(*_problem(k_train, y_train, learning_rate, f0, trained))


def gradient_descent(k_train, y_train, learning_rate, momentum=0.0, f0=None, trained="all"):
    """Gradient descent on ½ Σ (f − y)² of a model with constant kernel, exact at every step.

    θ_{k+1} = θ_k − η∇L + β(θ_k − θ_{k−1}), without velocity at the start (heavy ball; β = 0 is
    plain descent, whose residual is (I − ηΘ)^k (f_0 − y)).

    Any learning rate is allowed.  Above `max_learning_rate` the result is the divergence itself,
    correct until it overflows to infinity or, where infinities cancel, NaN: as the recursion does.

    **Arguments**: `k_train`, `y_train`, `f0`, `trained` as for `gradient_flow`, singular kernels
    included; `learning_rate` η > 0; `momentum` 0 ≤ β < 1.

    **Returns**: `GradientDescent`, with the methods of `GradientFlow` at a whole number of steps,
    or an integer array of them.  The cost grows with the logarithm of the number of steps.

    **Raises**: as `gradient_flow`; ValueError for a momentum outside [0, 1) or a negative number
    of steps, TypeError for steps that are not integers.

    >>> import jax.numpy as jnp
    >>> kernel, y = jnp.array([[2.0, 1.0], [1.0, 2.0]]), jnp.array([1.0, -1.0])
    >>> descent = gradient_descent(kernel, y, learning_rate=0.5)    # residual (1 − 1/2)^k (−y)
    >>> print(descent.train(jnp.array([1, 2])).round(4))
    [[ 0.5  -0.5 ]
     [ 0.75 -0.75]]
    >>> print(gradient_descent(kernel, y, learning_rate=0.5, momentum=0.5).train(2).round(4))
    [ 1. -1.]
    """
    problem = _problem(k_train, y_train, learning_rate, f0, trained)
    momentum = jnp.asarray(require_momentum(momentum), problem[1].dtype)
    return GradientDescent(*problem, momentum=momentum)


def max_learning_rate(kernel, momentum=0.0, nesterov=False):
    """Learning rate below which gradient descent on ½ Σ (f − y)² converges with this kernel.

    2(1 + β)/λmax for heavy ball, plain descent (β = 0) included, and 2(1 + β)/((1 + 2β) λmax)
    for Nesterov's momentum.  The bound is that of the linear model: a network of finite width
    may survive a larger rate by moving to where its kernel is smaller.

    **Arguments**: `kernel` (N, N) symmetric and positive semi-definite, not zero; `momentum`
    0 ≤ β < 1.

    **Returns**: a scalar of the kernel's dtype.

    **Raises**: ValueError for another kernel or momentum.

    >>> import jax.numpy as jnp
    >>> kernel = jnp.array([[2.0, 1.0], [1.0, 2.0]])
    >>> round(float(max_learning_rate(kernel)), 4), round(float(max_learning_rate(kernel, 0.5)), 4)
    (0.6667, 1.0)
    """
    kernel = require_symmetric("kernel", as_floating("kernel", kernel))
    beta = require_momentum(momentum)
    values = require_psd("kernel", jnp.linalg.eigvalsh(kernel))
    if not is_traced(values) and not np.max(values, initial=0) > 0:
        raise ValueError("kernel must have a positive eigenvalue, got a zero matrix")
    return 2 * (1 + beta) / (jnp.max(values) * (1 + 2 * beta if nesterov else 1))


def _problem(k_train, y_train, learning_rate, f0, trained):
    """Checked fields of `_KernelDynamics`."""
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


def training_set(k_train, y_train, f0, name="k_train"):
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


def at_test_points(y, f0, k_test_train, f0_test, name="k_test_train"):
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


def require_momentum(momentum):
    """Raise ValueError unless `momentum` is a number 0 ≤ β < 1."""
    if not is_traced(momentum) and not (np.ndim(momentum) == 0 and 0 <= momentum < 1):
        raise ValueError(f"momentum must be a number, 0 <= momentum < 1, got {momentum}")
    return momentum
