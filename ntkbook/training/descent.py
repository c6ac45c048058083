"""Gradient descent under a constant kernel, with momentum or without, exact at every step."""

from __future__ import annotations

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np

from ntkbook._base.arguments import is_traced, require_flag
from ntkbook._base.arrays import matmul
from ntkbook._base.hints import guided
from ntkbook._base.times import as_steps
from ntkbook._base.traced import fraction, nan_unless
from ntkbook._base.types import Array, ArrayLike, Float, Num, Scalar
from ntkbook.signals.signal import Kernel
from ntkbook.training.dynamics import Evolution, KernelDynamics, dynamics_of
from ntkbook.training.modes import spectrum
from ntkbook.training.problem import stacked, trained_kernel
from ntkbook.training.spectral import SpectralFunction


@dataclass(frozen=True)
class _Power(SpectralFunction):
    """One part of the state (decay, velocity, gain) of a mode after a number of steps.

    With p = decay and a = gain, one step of heavy ball on a mode is
    w ← βw + ηp,  p ← p − λw,  a ← a + w,  starting from p = 1 and w = a = 0:
    a 3×3 matrix for each mode, to be raised to a power of no more than `digits` binary digits.
    """

    part: int
    digits: int

    # Squaring it again and again, and applying the squares that the binary digits of `steps`
    # name: log(steps) products, and no case for a null mode, for complex eigenvalues
    # (oscillation) or for equal ones (critical damping), where a diagonal form would fail.
    def value(self, values, args):
        steps, rate, momentum = args
        step = _step(values, rate, momentum)
        start = jnp.zeros((*steps.shape, *values.shape, 3), values.dtype).at[..., 0].set(1)

        def square(digit, carried):
            power, state = carried
            applied = matmul(power, state[..., None])[..., 0]
            named = ((steps >> digit) & 1)[..., None, None] == 1
            return matmul(power, power), jnp.where(named, applied, state)

        state = jax.lax.fori_loop(0, self.digits, square, (step, start))[1][..., self.part]
        return nan_unless(steps[..., None] >= 0, state)

    def divided(self, values, args):
        # The same with divided differences beside, Δ(AB)_ij = A_i ΔB_ij + ΔA_ij B_j, from those of
        # one step, which is linear in λ.  No eigenvalues are subtracted.
        steps, rate, momentum = args
        step = _step(values, rate, momentum)
        slope = jnp.zeros((3, 3), values.dtype).at[0, 0].set(-rate).at[0, 1].set(-momentum)
        start = jnp.zeros((len(values), 3, 1), values.dtype).at[:, 0].set(1)
        pairs = (len(values), len(values))

        def square(digit, carried):
            power, change, state, moved = carried
            left = power[:, None]
            applied = matmul(power, state), matmul(left, moved) + matmul(change, state)
            named = (steps >> digit) & 1 == 1
            state, moved = (jnp.where(named, *v) for v in zip(applied, (state, moved), strict=True))
            return matmul(power, power), matmul(left, change) + matmul(change, power), state, moved

        changes = jnp.broadcast_to(slope, (*pairs, 3, 3)), jnp.zeros((*pairs, 3, 1), values.dtype)
        carried = step, changes[0], start, changes[1]
        change = jax.lax.fori_loop(0, self.digits, square, carried)[3][..., self.part, 0]
        return nan_unless(steps >= 0, change)


def _step(values, rate, momentum):
    """The matrix of one step for each eigenvalue, (…, 3, 3)."""
    one = jnp.ones_like(values)
    eta, beta, zero = rate * one, momentum * one, 0 * one
    rows = [
        [1 - eta * values, -values * beta, zero],
        [eta, beta, zero],
        [eta, beta, one],
    ]
    return jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, repr=False)
class GradientDescent(KernelDynamics):
    """The solution made by `gradient_descent`; `t` is a number of steps ≥ 0, or an array."""

    momentum: Float[Array, ""] = field(kw_only=True)

    def _evolution(self, t: ArrayLike) -> Evolution:
        steps = as_steps(t)
        decay, gain = (_Power(part, _binary_digits(steps)) for part in (0, 2))
        return Evolution(decay, gain, (steps, self.learning_rate, self.momentum))


def _binary_digits(steps: Array) -> int:
    """How many binary digits the largest of `steps` has; under tracing, how many it can have."""
    if is_traced(steps):
        return jnp.iinfo(steps.dtype).bits - 1
    return int(np.max(steps, initial=0)).bit_length()


@guided
def gradient_descent(
    k_train: Num[ArrayLike, "N N"] | Num[ArrayLike, "N N k k"] | Kernel,
    y_train: Num[ArrayLike, "N *k"],
    learning_rate: Scalar,
    momentum: Scalar = 0.0,
    f0: Num[ArrayLike, "N *k"] | None = None,
    trained: str = "all",
) -> GradientDescent:
    """Gradient descent on ½ Σ (f − y)² of a model with constant kernel, exact at every step.

    θ_{k+1} = θ_k − η∇L + β(θ_k − θ_{k−1}), without velocity at the start (heavy ball; β = 0 is
    plain descent, whose residual is (I − ηΘ)^k (f_0 − y)).

    Any learning rate is allowed.  Above `max_learning_rate` the result is the divergence itself,
    correct until it overflows to infinity or, where infinities cancel, NaN: as the recursion does.

    **Arguments**: `k_train`, `y_train`, `f0`, `trained` as for `gradient_flow`, singular kernels
    included; `learning_rate` η > 0; `momentum` 0 ≤ β < 1.

    **Returns**: `GradientDescent`, with the methods of `GradientFlow` at a whole number of steps,
    or an integer array of them.  The cost grows with the logarithm of the number of steps.

    **Raises**: as `gradient_flow`; ValueError for a momentum outside [0, 1), a negative number of
    steps or one beyond JAX's integers, TypeError for steps that are not integers.  Inside `jit`,
    where values can't be looked at, nothing is warned of, and a value that would raise ValueError
    makes the results NaN.

    >>> import jax.numpy as jnp
    >>> kernel, y = jnp.array([[2.0, 1.0], [1.0, 2.0]]), jnp.array([1.0, -1.0])
    >>> descent = gradient_descent(kernel, y, learning_rate=0.5)    # residual (1 − 1/2)^k (−y)
    >>> print(descent.train(jnp.array([1, 2])).round(4))
    [[ 0.5  -0.5 ]
     [ 0.75 -0.75]]
    >>> print(gradient_descent(kernel, y, learning_rate=0.5, momentum=0.5).train(2).round(4))
    [ 1. -1.]
    """
    problem = dynamics_of(k_train, y_train, learning_rate, f0, trained)
    momentum = jnp.asarray(fraction("momentum", momentum), problem.y.dtype)
    return GradientDescent(*problem, momentum=fraction("momentum", momentum))  # 1 by rounding?


@guided
def max_learning_rate(
    kernel: Num[ArrayLike, "N N"] | Num[ArrayLike, "N N k k"] | Kernel,
    momentum: Scalar = 0.0,
    nesterov: bool = False,
    trained: str = "all",
) -> Float[Array, ""]:
    """Learning rate below which gradient descent on ½ Σ (f − y)² converges with this kernel.

    2(1 + β)/λmax for heavy ball, plain descent (β = 0) included, and 2(1 + β)/((1 + 2β) λmax)
    for Nesterov's momentum.  The bound is that of the linear model: a network of finite width
    may survive a larger rate by moving to where its kernel is smaller.

    **Arguments**: `kernel`, symmetric and positive semi-definite, not zero: (N, N), or
    (N, N, k, k) between k outputs, or a `Kernel` of which `trained` chooses, as for
    `gradient_flow`; `momentum` 0 ≤ β < 1; `nesterov`, whether it is Nesterov's.

    **Returns**: a scalar of the kernel's dtype.

    **Raises**: ValueError for another kernel or momentum; inside `jit`, where values can't be
    looked at, the result is NaN instead.

    >>> import jax.numpy as jnp
    >>> kernel = jnp.array([[2.0, 1.0], [1.0, 2.0]])
    >>> round(float(max_learning_rate(kernel)), 4), round(float(max_learning_rate(kernel, 0.5)), 4)
    (0.6667, 1.0)
    """
    matrix, _ = stacked("kernel", trained_kernel(kernel, trained))
    beta = fraction("momentum", momentum)
    require_flag("nesterov", nesterov)
    values = spectrum("kernel", matrix)
    if not is_traced(values) and not np.max(values, initial=0) > 0:
        raise ValueError("kernel must have a positive eigenvalue, got a zero matrix")
    largest = nan_unless(values[-1] > 0, values[-1])
    return jnp.divide(2 * (1 + beta), largest * (1 + 2 * beta if nesterov else 1))
