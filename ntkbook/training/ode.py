"""Gradient flow of any loss under a constant kernel, by numerical integration."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from ntkbook._base.arguments import (
    as_floating,
    described,
    is_traced,
    require_count,
    require_finite,
    require_positive,
    require_shape,
)
from ntkbook._base.arrays import matmul
from ntkbook._base.rounding import represented
from ntkbook._base.traced import positive
from ntkbook._base.types import Array, ArrayLike, Float, Num, Scalar
from ntkbook.signals.signal import Kernel
from ntkbook.training.losses import Loss, mse, require_loss
from ntkbook.training.modes import spectrum
from ntkbook.training.problem import at_test_points, trained_kernel, training_set, unstacked

if TYPE_CHECKING:
    import diffrax


def flow_ode(
    kernel_train: Num[ArrayLike, "N N"] | Num[ArrayLike, "N N k k"] | Kernel,
    y_train: Num[ArrayLike, "N *k"],
    times: Num[ArrayLike, "T"],
    loss: Loss = mse,
    learning_rate: Scalar = 1.0,
    f0: Num[ArrayLike, "N *k"] | None = None,
    kernel_test: Num[ArrayLike, "M N"] | Num[ArrayLike, "M N k k"] | Kernel | None = None,
    f0_test: Num[ArrayLike, "M *k"] | None = None,
    *,
    solver: diffrax.AbstractSolver | None = None,
    tolerance: float | None = None,
    max_steps: int = 2**16,
) -> tuple[Float[Array, "T N *k"], Float[Array, "T M *k"] | None]:
    """Gradient flow of any loss under a constant kernel, f' = −η Θ ∂L/∂f, solved by diffrax.

    **Arguments**: `kernel_train`, an array (N, N), of all outputs (N, N, k, k), or a `Kernel`, of
    which the NTK counts; `y_train` (N,) or (N, k), `learning_rate` and `f0` as for
    `gradient_flow`; `times` (T,), finite, from 0 on and in ascending order; `loss(f, y)` of f and
    y in the shape of `y_train`, a scalar sum over examples, such as those of this package;
    `kernel_test` of test and training points, such as (M, N), and, with `f0`, `f0_test` (M,) or
    (M, k) to follow test points too.  `solver` is a diffrax solver: `Dopri8()` unless given,
    `Kvaerno5()` where η λmax times the last time is many thousands (a stiff problem).
    `tolerance` is the relative and absolute error allowed per step: 1e-11 in float64, 1e-6 in
    float32.

    **Returns**: predictions (T, N) or (T, N, k) on the training points, and (T, M) or (T, M, k)
    at the test points, None without `kernel_test`.

    **Raises**: ValueError as `gradient_flow`, and for times that are negative, infinite or out
    of order; RuntimeError when `max_steps` do not reach the last time, with η λmax t.  Inside
    `jit`, where values can't be looked at, it is an error of diffrax that is raised for times and
    steps, and for NaN, which other values are that would raise ValueError.

    >>> import jax.numpy as jnp
    >>> from ntkbook.training.losses import logistic
    >>> times = jnp.array([0.0, 10.0, 100.0])
    >>> logits, _ = flow_ode(jnp.array([[1.0]]), jnp.array([1.0]), times, loss=logistic)
    >>> z = logits[:, 0]    # z + e^z = t + 1: the logit of a single example grows without end
    >>> (z + jnp.exp(z)).round(2).tolist()
    [1.0, 11.0, 101.0]
    """
    import diffrax  # here, because it takes longer to import than all the rest of the package

    learning_rate = positive("learning_rate", learning_rate)
    tangent = trained_kernel(kernel_train, "all")
    kernel, y, f0, outputs = training_set(tangent, y_train, f0, "kernel_train")
    # In the dtype that it came in, whose rounding may have made it indefinite.
    entries = as_floating("kernel_train", tangent).dtype
    values = spectrum("kernel_train", kernel.astype(entries))
    times = _ascending(times).astype(y.dtype)
    start, size = jnp.zeros_like(y) if f0 is None else f0, y.shape[0]
    if kernel_test is not None:
        tangent = trained_kernel(kernel_test, "all")
        cross, f0_test = at_test_points(y, f0, tangent, f0_test, "kernel_test", outputs)
        if f0_test is None:
            f0_test = jnp.zeros(cross.shape[:1] + y.shape[1:], y.dtype)
        kernel, start = jnp.concatenate([kernel, cross]), jnp.concatenate([start, f0_test])
    elif f0_test is not None:
        raise ValueError("f0_test needs kernel_test, got f0_test alone")
    if tolerance is None:
        tolerance = 1e-11 if jnp.finfo(y.dtype).eps < 1e-12 else 1e-6
    require_positive("tolerance", tolerance)
    max_steps = require_count("max_steps", max_steps)
    learning_rate = represented("learning_rate", learning_rate, y.dtype)
    solver = diffrax.Dopri8() if solver is None else solver
    if not isinstance(solver, diffrax.AbstractSolver):
        raise TypeError(f"solver must be one of diffrax's, got {described(solver)}")
    require_loss(loss, unstacked(y, outputs), unstacked(y, outputs))
    problem = kernel, unstacked(y, outputs), learning_rate
    require_finite("the slope of the loss at the start", _velocity(loss, None, start, problem))

    traced = is_traced(start, kernel, y, learning_rate, times)
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(jax.tree_util.Partial(_velocity, loss)),
        solver,
        t0=jnp.zeros((), y.dtype),
        t1=times[-1],
        dt0=None,
        y0=start,
        args=problem,
        saveat=diffrax.SaveAt(ts=times),
        stepsize_controller=diffrax.ClipStepSizeController(
            diffrax.PIDController(rtol=tolerance, atol=tolerance), step_ts=times
        ),  # steps end at the times asked for: interpolation between steps is less exact
        max_steps=max_steps,
        throw=traced,  # where nothing is traced the error below says what can be done
    )
    if not traced and solution.result != diffrax.RESULTS.successful:
        stiffness = float(learning_rate * values[-1] * times[-1])
        advice = f"η λmax t = {stiffness:.1e}; pass more max_steps or a larger tolerance"
        if stiffness > 1e3 and not isinstance(solver, diffrax.AbstractImplicitSolver):
            advice = f"stiff: η λmax t = {stiffness:.1e}; pass solver=diffrax.Kvaerno5()"
        raise RuntimeError(f"max_steps={max_steps} did not reach t = {times[-1]:g}: {advice}")
    train, test = solution.ys[:, :size], solution.ys[:, size:]
    return unstacked(train, outputs), None if kernel_test is None else unstacked(test, outputs)


def _velocity(loss: Loss, _: object, f: Array, problem: tuple[Array, Array, Array]) -> Array:
    """f' on the training points and, below them, the test points.

    The loss sees outputs of the shape of y, (N, k) also where f is one list of them.  One
    function for all calls, so that diffrax compiles each shape and loss once.
    """
    kernel, y, learning_rate = problem
    size = kernel.shape[1]
    slope = jax.grad(loss)(f[:size].reshape(y.shape), y)
    return -learning_rate * matmul(kernel, slope.reshape(size, *f.shape[1:]))


def _ascending(times: ArrayLike) -> Array:
    times = require_finite("times", require_shape("times", as_floating("times", times), (None,)))
    if times.size == 0:
        raise ValueError("times must hold at least one time, got shape (0,)")
    if not is_traced(times):
        steps = np.diff(np.asarray(times), prepend=0)
        if steps.min() < 0:
            raise ValueError(f"times must start at 0 or later and ascend, got {times}")
    return times
