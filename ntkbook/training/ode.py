"""Gradient flow of any loss under a constant kernel, by numerical integration."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from ntkbook._base.arguments import (
    as_floating,
    is_traced,
    require_finite,
    require_positive,
    require_psd,
    require_shape,
)
from ntkbook._base.arrays import matmul
from ntkbook._base.types import Array, ArrayLike, Float, Num, Scalar
from ntkbook.training.losses import Loss, mse
from ntkbook.training.problem import at_test_points, training_set

if TYPE_CHECKING:
    import diffrax


def flow_ode(
    kernel_train: Num[ArrayLike, "N N"],
    y_train: Num[ArrayLike, "N *k"],
    times: Num[ArrayLike, "T"],
    loss: Loss = mse,
    learning_rate: Scalar = 1.0,
    f0: Num[ArrayLike, "N *k"] | None = None,
    kernel_test: Num[ArrayLike, "M N"] | None = None,
    f0_test: Num[ArrayLike, "M *k"] | None = None,
    *,
    solver: diffrax.AbstractSolver | None = None,
    tolerance: float | None = None,
    max_steps: int = 2**16,
) -> tuple[Float[Array, "T N *k"], Float[Array, "T M *k"] | None]:
    """Gradient flow of any loss under a constant kernel, f' = −η Θ ∂L/∂f, solved by diffrax.

    **Arguments**: `kernel_train` (N, N), `y_train` (N,) or (N, k), `learning_rate`, `f0` as for
    `gradient_flow`; `times` (T,), finite, from 0 on and in ascending order; `loss(f, y)`, a
    scalar sum over examples, such as those of this package; `kernel_test` (M, N) and, with `f0`,
    `f0_test` (M,) or (M, k) to follow test points too.  `solver` is a diffrax solver: `Dopri8()`
    unless given, `Kvaerno5()` where η λmax times the last time is many thousands (a stiff
    problem).  `tolerance` is the relative and absolute error allowed per step: 1e-11 in float64,
    1e-6 in float32.

    **Returns**: predictions (T, N) or (T, N, k) on the training points, and (T, M) or (T, M, k)
    at the test points, None without `kernel_test`.

    **Raises**: ValueError as `gradient_flow`, and for times that are negative, infinite or out
    of order; RuntimeError (diffrax's own) when `max_steps` do not reach the last time.

    >>> import jax.numpy as jnp
    >>> from ntkbook.training.losses import logistic
    >>> times = jnp.array([0.0, 10.0, 100.0])
    >>> logits, _ = flow_ode(jnp.array([[1.0]]), jnp.array([1.0]), times, loss=logistic)
    >>> z = logits[:, 0]    # z + e^z = t + 1: the logit of a single example grows without end
    >>> (z + jnp.exp(z)).round(2).tolist()
    [1.0, 11.0, 101.0]
    """
    import diffrax  # here, because it takes longer to import than all the rest of the package

    require_positive("learning_rate", learning_rate)
    kernel, y, f0 = training_set(kernel_train, y_train, f0, "kernel_train")
    require_psd("kernel_train", jnp.linalg.eigvalsh(kernel))
    times = _ascending(times).astype(y.dtype)
    start, size = jnp.zeros_like(y) if f0 is None else f0, y.shape[0]
    if kernel_test is not None:
        kernel_test, f0_test = at_test_points(y, f0, kernel_test, f0_test, "kernel_test")
        if f0_test is None:
            f0_test = jnp.zeros(kernel_test.shape[:1] + y.shape[1:], y.dtype)
        kernel, start = jnp.concatenate([kernel, kernel_test]), jnp.concatenate([start, f0_test])
    elif f0_test is not None:
        raise ValueError("f0_test needs kernel_test, got f0_test alone")
    if tolerance is None:
        tolerance = 1e-11 if jnp.finfo(y.dtype).eps < 1e-12 else 1e-6

    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(jax.tree_util.Partial(_velocity, loss)),
        diffrax.Dopri8() if solver is None else solver,
        t0=jnp.zeros((), y.dtype),
        t1=times[-1],
        dt0=None,
        y0=start,
        args=(kernel, y, jnp.asarray(learning_rate, y.dtype)),
        saveat=diffrax.SaveAt(ts=times),
        stepsize_controller=diffrax.ClipStepSizeController(
            diffrax.PIDController(rtol=tolerance, atol=tolerance), step_ts=times
        ),  # steps end at the times asked for: interpolation between steps is less exact
        max_steps=max_steps,
    )
    f_test = None if kernel_test is None else solution.ys[:, size:]
    return solution.ys[:, :size], f_test


def _velocity(loss: Loss, _: object, f: Array, problem: tuple[Array, Array, Array]) -> Array:
    """f' on the training points and, below them, the test points.

    One function for all calls, so that diffrax compiles each shape and loss once.
    """
    kernel, y, learning_rate = problem
    return -learning_rate * matmul(kernel, jax.grad(loss)(f[: y.shape[0]], y))


def _ascending(times: ArrayLike) -> Array:
    times = require_finite("times", require_shape("times", as_floating("times", times), (None,)))
    if times.size == 0:
        raise ValueError("times must hold at least one time, got shape (0,)")
    if not is_traced(times):
        steps = np.diff(np.asarray(times), prepend=0)
        if steps.min() < 0:
            raise ValueError(f"times must start at 0 or later and ascend, got {times}")
    return times
