"""Closed-form dynamics against matrix exponentials, explicit loops, ODE solvers and mpmath."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import scipy.integrate
import scipy.linalg
from linear_model import RATE, M, N, P, close, problem

from ntkbook import flow_ode, gradient_descent, gradient_flow, max_learning_rate, mse

# Gradient flow


@pytest.mark.parametrize("outputs", [None, 3])
@pytest.mark.parametrize("rank", [P, 3])
def test_flow_equals_the_matrix_exponential(outputs, rank):
    j, j_test, y, f0, f0_test = problem(rank, outputs)
    kernel, times = j @ j.T, np.array([0.0, 0.4, 3.0, 50.0])
    flow = gradient_flow(kernel, y, RATE, f0)
    for t, train, test in zip(
        times, flow.train(times), flow.test(times, j_test @ j.T, f0_test), strict=True
    ):
        # The flow of (θ, 1) is linear, so one exponential gives the parameters themselves.
        generator = np.zeros((P + 1, P + 1))
        moved = []
        for column in np.atleast_2d((y - f0).T):
            generator[:P, :P], generator[:P, P] = -RATE * j.T @ j, RATE * j.T @ column
            moved.append(scipy.linalg.expm(generator * t)[:P, P])
        moved = np.squeeze(np.array(moved).T) if outputs is None else np.array(moved).T
        close(train, f0 + j @ moved)
        close(test, f0_test + j_test @ moved)
        close(j.T @ flow.coefficients(t), moved)


def test_flow_equals_an_integrator_on_test_points_of_any_cross_kernel():
    # A cross-kernel that no single model has: the null modes' coefficients ηt then matter.
    j, _, y, f0, f0_test = problem(rank=3)
    kernel, cross = j @ j.T, np.random.default_rng(1).normal(size=(M, N))

    def velocity(_, f):
        return -RATE * np.concatenate([kernel, cross]) @ (f[:N] - y)

    solution = scipy.integrate.solve_ivp(
        velocity, (0, 5), np.concatenate([f0, f0_test]), "DOP853", rtol=1e-12, atol=1e-12
    )
    flow = gradient_flow(kernel, y, RATE, f0)
    close(flow.train(5.0), solution.y[:N, -1], 1e-9)
    close(flow.test(5.0, cross, f0_test), solution.y[N:, -1], 1e-9)


@pytest.mark.parametrize("lam", [0.0, 1e-13, 1e-9, 1e-5, 0.1, 1.0])
@pytest.mark.parametrize("t", [1e-8, 1e-3, 1.0, 1e4, 1e12])
def test_gain_to_thirty_digits(lam, t):
    flow = gradient_flow(np.diag([1.0, lam]), np.array([0.0, 1.0]), RATE)
    with mpmath.workdps(30):
        exponent = mpmath.mpf(RATE) * mpmath.mpf(lam) * mpmath.mpf(t)
        exact = mpmath.mpf(RATE) * t if lam == 0 else -mpmath.expm1(-exponent) / mpmath.mpf(lam)
    np.testing.assert_allclose(flow.coefficients(t)[1], float(exact), rtol=4e-15)


def test_flow_starts_at_the_start_and_ends_at_the_pseudo_inverse():
    for rank in (P, 3):
        j, j_test, y, f0, f0_test = problem(rank)
        flow = gradient_flow(j @ j.T, y, RATE, f0)
        close(flow.train(0.0), f0)
        close(flow.test(0.0, j_test @ j.T, f0_test), f0_test)
        displacement = np.linalg.pinv(j, rcond=1e-10) @ (y - f0)
        close(j.T @ flow.coefficients(jnp.inf), displacement, 1e-10)
        close(flow.test(jnp.inf, j_test @ j.T, f0_test), f0_test + j_test @ displacement, 1e-10)
        close(flow.test(1e9, j_test @ j.T, f0_test), f0_test + j_test @ displacement, 1e-6)


def test_a_repeated_input_with_two_labels_keeps_half_of_their_difference():
    flow = gradient_flow(np.ones((2, 2)), np.array([0.0, 1.0]))
    close(flow.train(jnp.inf), [0.5, 0.5])
    close(flow.loss(jnp.array([0.0, jnp.inf])), [0.5, 0.25])
    assert np.isfinite(flow.coefficients(jnp.inf)).all()


def test_flow_under_a_zero_kernel_stays():
    flow = gradient_flow(np.zeros((3, 3)), np.ones(3))
    close(flow.train(jnp.array([0.0, 1.0, jnp.inf])), np.zeros((3, 3)))


@pytest.mark.parametrize("outputs", [None, 2])
def test_loss_is_that_of_the_predictions_and_exact_when_tiny(outputs):
    j, _, y, f0, _ = problem(outputs=outputs)
    flow = gradient_flow(j @ j.T, y, RATE, f0)
    times = np.array([[0.0, 1.0], [2.0, 7.0]])
    losses = flow.loss(times)
    assert losses.shape == (2, 2)
    for t, loss in zip(times.ravel(), losses.ravel(), strict=True):
        close(loss, mse(flow.train(t), y))
    far = gradient_flow(np.eye(2), np.ones(2))
    np.testing.assert_allclose(far.loss(300.0), np.exp(-600.0), rtol=1e-12)
    np.testing.assert_allclose(far.residual(300.0), -np.exp(-300.0) * np.ones(2), rtol=1e-12)


def test_shapes_follow_time_then_targets():
    for outputs, tail in ((None, ()), (1, (1,))):
        j, j_test, y, f0, f0_test = problem(outputs=outputs)
        flow = gradient_flow(j @ j.T, y, RATE, f0)
        descent = gradient_descent(j @ j.T, y, RATE, f0=f0)
        for dynamics, t in ((flow, np.ones((2, 5))), (descent, np.ones((2, 5), int))):
            assert dynamics.train(t).shape == (2, 5, N, *tail)
            assert dynamics.test(t, j_test @ j.T, f0_test).shape == (2, 5, M, *tail)
            assert dynamics.loss(t[0, 0]).shape == ()


def test_float32_stays_float32():
    j, j_test, y, f0, f0_test = (a.astype(np.float32) for a in problem())
    exact = gradient_flow(np.float64(j) @ np.float64(j).T, y, RATE, f0)
    flow = gradient_flow(j @ j.T, y, RATE, f0)
    descent = gradient_descent(j @ j.T, y, RATE, 0.5, f0)
    for dynamics, t in ((flow, 2.0), (descent, 2)):
        for value in (
            dynamics.train(t),
            dynamics.test(t, j_test @ j.T, f0_test),
            dynamics.coefficients(t),
            dynamics.loss(t),
        ):
            assert value.dtype == jnp.float32
    close(flow.train(2.0), exact.train(2.0), 1e-5)
    assert max_learning_rate(j @ j.T).dtype == jnp.float32


def test_jit_vmap_and_grad():
    j, j_test, y, f0, f0_test = problem()
    kernel, cross = jnp.array(j @ j.T), j_test @ j.T

    def loss_at(t, rate, kernel):
        return gradient_flow(kernel, y, rate, f0).loss(t)

    close(jax.jit(loss_at)(2.0, RATE, kernel), loss_at(2.0, RATE, kernel))
    residual = gradient_flow(kernel, y, RATE, f0).residual(2.0)
    slope = jax.grad(loss_at)(2.0, RATE, kernel)
    close(slope, -RATE * residual @ kernel @ residual)
    assert np.isfinite(jax.grad(loss_at, argnums=(0, 1))(jnp.inf, RATE, jnp.ones((N, N)))).all()
    step, direction = 1e-6, np.ones((N, N))
    ahead, behind = (loss_at(2.0, RATE, kernel + s * direction) for s in (step, -step))
    close(jax.grad(loss_at, argnums=2)(2.0, RATE, kernel).sum(), (ahead - behind) / 2 / step, 1e-7)

    flow = gradient_flow(kernel, y, RATE, f0)
    predict = jax.jit(lambda flow, t: flow.test(t, cross, f0_test))
    close(predict(flow, 2.0), flow.test(2.0, cross, f0_test))
    times = jnp.array([0.0, 1.0, jnp.inf])
    close(jax.vmap(flow.train)(times), flow.train(times))

    descent = gradient_descent(kernel, y, RATE, 0.4, f0)
    steps = jnp.array([0, 1, 17])
    close(jax.jit(lambda d, k: d.train(k))(descent, steps), descent.train(steps))
    slope = jax.grad(lambda rate: gradient_descent(kernel, y, rate, 0.4, f0).loss(9))
    ahead, behind = (gradient_descent(kernel, y, RATE + s, 0.4, f0).loss(9) for s in (1e-6, -1e-6))
    close(slope(RATE), (ahead - behind) / 2e-6, 1e-7)


# Gradient descent


def heavy_ball(j, j_test, y, f0, f0_test, rate, momentum, steps):
    """The recursion itself, in the parameters: predictions on training and test points."""
    theta = before = np.zeros(j.shape[1:] + y.shape[1:])
    for _ in range(steps):
        slope = j.T @ (f0 + j @ theta - y)
        theta, before = theta - rate * slope + momentum * (theta - before), theta
    return f0 + j @ theta, f0_test + j_test @ theta


@pytest.mark.parametrize("outputs", [None, 2])
@pytest.mark.parametrize("rank", [P, 3])
@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.95])
@pytest.mark.parametrize("fraction", [0.1, 0.99])
def test_descent_equals_the_recursion(momentum, fraction, rank, outputs):
    j, j_test, y, f0, f0_test = problem(rank, outputs)
    kernel = j @ j.T
    rate = fraction * float(max_learning_rate(kernel, momentum))
    descent = gradient_descent(kernel, y, rate, momentum, f0)
    steps = np.array([0, 1, 2, 3, 10, 157, 500])
    train, test = descent.train(steps), descent.test(steps, j_test @ j.T, f0_test)
    for row, count in enumerate(steps):
        looped = heavy_ball(j, j_test, y, f0, f0_test, rate, momentum, count)
        close(train[row], looped[0], 1e-11)
        close(test[row], looped[1], 1e-11)
    close(descent.loss(10), mse(descent.train(10), y))


def test_descent_at_critical_damping():
    # λ = (1 − √β)²/η: the 2×2 matrix of the mode cannot be diagonalised.
    momentum, rate = 0.49, 0.1
    lam = (1 - momentum**0.5) ** 2 / rate
    descent = gradient_descent(np.array([[lam]]), np.ones(1), rate, momentum)
    steps = np.arange(60)
    root = momentum**0.5  # residual −(1 + k(1 − √β)) β^{k/2}, from the double root
    exact = -(1 + steps * (1 - root)) * root**steps
    np.testing.assert_allclose(descent.residual(steps)[:, 0], exact, rtol=1e-12)


def test_descent_of_a_million_steps():
    lam, rate, steps = 1e-6, 0.5, 10**6
    descent = gradient_descent(np.diag([1.0, lam, 0.0]), np.ones(3), rate)
    with mpmath.workdps(30):
        decay = (1 - mpmath.mpf(rate) * mpmath.mpf(lam)) ** steps
        gain = (1 - decay) / mpmath.mpf(lam)
    np.testing.assert_allclose(descent.residual(steps)[1], -float(decay), rtol=1e-10)
    np.testing.assert_allclose(descent.coefficients(steps)[1], float(gain), rtol=1e-10)
    np.testing.assert_allclose(descent.coefficients(steps)[2], rate * steps, rtol=1e-12)


def test_descent_above_the_bound_computes_the_divergence():
    j, j_test, y, f0, f0_test = problem()
    rate = 1.3 * float(max_learning_rate(j @ j.T))
    descent = gradient_descent(j @ j.T, y, rate, f0=f0)
    train, test = heavy_ball(j, j_test, y, f0, f0_test, rate, 0.0, 80)
    np.testing.assert_allclose(descent.train(80), train, rtol=1e-10)
    np.testing.assert_allclose(descent.test(80, j_test @ j.T, f0_test), test, rtol=1e-10)
    assert descent.loss(80) > 1e6 * descent.loss(0)


def test_small_steps_of_descent_are_the_flow():
    j, _, y, f0, _ = problem()
    flow = gradient_flow(j @ j.T, y, 1.0, f0).train(2.0)
    errors = [
        np.abs(gradient_descent(j @ j.T, y, 2.0 / k, f0=f0).train(k) - flow).max()
        for k in (1000, 2000)
    ]
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.01)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("nesterov", [False, True])
def test_max_learning_rate_is_where_the_iteration_stops_contracting(momentum, nesterov):
    j = problem()[0]
    bound = float(max_learning_rate(j @ j.T, momentum, nesterov))
    values = np.linalg.eigvalsh(j @ j.T)

    def radius(rate):
        shrink = 1 - rate * values
        trace = (1 + momentum) * shrink if nesterov else shrink + momentum
        product = momentum * shrink if nesterov else momentum * np.ones_like(shrink)
        return max(np.abs(np.roots([1, -t, p])).max() for t, p in zip(trace, product, strict=True))

    assert radius(0.999 * bound) < 1 < radius(1.001 * bound)


def test_descent_converges_below_the_bound_and_diverges_above():
    j, _, y, _, _ = problem()
    bound = float(max_learning_rate(j @ j.T, 0.9))
    for factor, grows in ((0.99, False), (1.01, True)):
        descent = gradient_descent(j @ j.T, y, factor * bound, 0.9)
        assert bool(descent.loss(2000) > descent.loss(0)) is grows


# What is refused

GOOD, Y = np.diag([2.0, 1.0]), np.ones(2)


@pytest.mark.parametrize(
    "solve",
    [
        gradient_flow,
        lambda k, y, **more: gradient_descent(k, y, **{"learning_rate": 0.1, **more}),
        lambda k, y, **more: flow_ode(k, y, [1.0], **more),
    ],
)
@pytest.mark.parametrize(
    ("kernel", "y", "more", "message"),
    [
        (np.diag([1.0, -0.25]), Y, {}, "positive semi-definite.* -0.25"),
        (np.array([[1.0, 0.5], [0.0, 1.0]]), Y, {}, "symmetric"),
        (np.array([[1.0, np.nan], [np.nan, 1.0]]), Y, {}, "k(ernel)?_train must be finite"),
        (np.ones((2, 3)), Y, {}, "square"),
        (np.zeros((0, 0)), np.zeros(0), {}, "at least one row"),
        (GOOD, np.ones(3), {}, "y_train must have shape"),
        (GOOD, np.ones((2, 2, 2)), {}, "y_train must have shape"),
        (GOOD, np.array([1.0, np.inf]), {}, "y_train must be finite"),
        (GOOD, Y, {"learning_rate": 0.0}, "learning_rate must be a positive"),
        (GOOD, Y, {"f0": np.ones((2, 1))}, "f0 must have shape"),
        (GOOD, Y, {"f0": np.array([np.nan, 0])}, "f0 must be finite"),
    ],
)
def test_bad_problems_are_refused(solve, kernel, y, more, message):
    with pytest.raises(ValueError, match=message):
        solve(kernel, y, **more)


def test_rounding_of_the_kernel_is_forgiven():
    basis = np.linalg.qr(np.random.default_rng(0).normal(size=(5, 5)))[0]
    kernel = (basis * [1.0, 0.5, 0.0, 0.0, -1e-15]) @ basis.T
    flow = gradient_flow((kernel + kernel.T) / 2, np.ones(5))
    assert np.isfinite(flow.train(1e6)).all()


def test_bad_times_and_test_points_are_refused():
    flow, descent = gradient_flow(GOOD, Y), gradient_descent(GOOD, Y, 0.1)
    for bad in (-1.0, np.array([0.0, -2.0]), np.nan):
        with pytest.raises(ValueError, match="t must be a time"):
            flow.train(bad)
    with pytest.raises(TypeError, match="whole steps"):
        descent.train(1.0)
    with pytest.raises(ValueError, match="zero or more"):
        descent.train(-1)
    with pytest.raises(ValueError, match=r"k_test_train must have shape \(any, 2\)"):
        flow.test(1.0, np.ones((2, 3)))
    with pytest.raises(ValueError, match="together, got f0_test without f0"):
        flow.test(1.0, np.ones((3, 2)), np.ones(3))
    with pytest.raises(ValueError, match="together, got f0 without f0_test"):
        gradient_flow(GOOD, Y, f0=Y).test(1.0, np.ones((3, 2)))
    with pytest.raises(ValueError, match="f0_test must have shape"):
        gradient_flow(GOOD, Y, f0=Y).test(1.0, np.ones((3, 2)), np.ones((3, 1)))
    for momentum in (-0.1, 1.0, np.nan, np.ones(2)):
        with pytest.raises(ValueError, match="momentum"):
            gradient_descent(GOOD, Y, 0.1, momentum)
    with pytest.raises(ValueError, match="positive eigenvalue"):
        max_learning_rate(np.zeros((2, 2)))
    for times in ([-1.0, 1.0], [2.0, 1.0]):
        with pytest.raises(ValueError, match="ascend"):
            flow_ode(GOOD, Y, times)
    with pytest.raises(ValueError, match=r"kernel_test must have shape \(any, 2\)"):
        flow_ode(GOOD, Y, [1.0], kernel_test=np.ones((2, 3)))
    with pytest.raises(ValueError, match="times must be finite"):
        flow_ode(GOOD, Y, [0.0, np.inf])
    with pytest.raises(ValueError, match="f0_test needs kernel_test"):
        flow_ode(GOOD, Y, [1.0], f0=Y, f0_test=Y)
