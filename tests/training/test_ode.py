"""Flows of any loss against closed forms, implicit relations and SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
from linear_model import RATE, M, N, P, close, problem

from ntkbook import (
    Kernel,
    flow_ode,
    gradient_flow,
    huber,
    logistic,
    mse,
    softmax_cross_entropy,
)


def test_ode_with_squared_error_is_the_closed_form():
    for rank in (P, 3):
        j, j_test, y, f0, f0_test = problem(rank, outputs=2)
        kernel, cross, times = j @ j.T, j_test @ j.T, np.array([0.0, 0.5, 0.5, 4.0, 40.0])
        train, test = flow_ode(
            kernel, y, times, learning_rate=RATE, f0=f0, kernel_test=cross, f0_test=f0_test
        )
        flow = gradient_flow(kernel, y, RATE, f0)
        close(train, flow.train(times), 1e-9)
        close(test, flow.test(times, cross, f0_test), 1e-9)


def test_ode_with_a_stiff_solver_at_long_times():
    import diffrax

    kernel, y = np.diag([1e4, 1.0]), np.ones(2)
    times = np.array([0.1, 20.0])
    train, test = flow_ode(kernel, y, times, solver=diffrax.Kvaerno3(), tolerance=1e-7)
    close(train, gradient_flow(kernel, y).train(times), 1e-6)
    assert test is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, r"max_steps=50 did not reach t = 20: stiff: η λmax t = 6.0e\+04; pass solver=diff"),
        ({"solver": "Kvaerno5"}, r"t = 20: η λmax t = 6.0e\+04; pass more max_steps"),
        ({"kernel_train": np.eye(2)}, r"t = 20: η λmax t = 6.0e\+00; pass more max_steps"),
    ],
)
def test_steps_that_do_not_suffice(arguments, message):
    import diffrax

    if "solver" in arguments:
        arguments = {"solver": getattr(diffrax, arguments["solver"])()}
    start = {"kernel_train": np.diag([1e4, 1.0]), "learning_rate": RATE, "max_steps": 50}
    if "kernel_train" in arguments:
        start["max_steps"] = 2
    with pytest.raises(RuntimeError, match=message) as caught:
        flow_ode(y_train=np.ones(2), times=[20.0], **(start | arguments))
    assert caught.value.__cause__ is None
    assert len(str(caught.value)) < 120
    assert caught.traceback[-1].name == "flow_ode"


def test_a_loss_without_a_slope_is_refused():
    with pytest.raises(ValueError, match="slope of the loss at the start must be finite"):
        flow_ode(np.eye(2), np.ones(2), [1.0], lambda f, y: jnp.sum(jnp.sqrt(f)))


@pytest.mark.parametrize("loss", [mse, softmax_cross_entropy])
def test_a_kernel_for_each_pair_of_outputs(loss):
    k, times = 3, np.array([0.5, 3.0])
    rng = np.random.default_rng(5)
    j = rng.normal(size=((N + M) * k, 40)) / 5
    flat = j @ j.T
    whole = flat.reshape(N + M, k, N + M, k).transpose(0, 2, 1, 3)
    y, f0 = np.eye(k)[rng.integers(0, k, N)], rng.normal(size=(N + M, k))
    train, test = flow_ode(
        whole[:N, :N], y, times, loss, RATE, f0[:N], whole[N:, :N], f0[N:], tolerance=1e-10
    )

    def velocity(_, f):
        f = f.reshape(N + M, k)[:N]
        weights = np.exp(f - f.max(axis=1, keepdims=True))
        outputs = f if loss is mse else weights / weights.sum(axis=1, keepdims=True)
        return -RATE * flat[:, : N * k] @ (outputs - y).ravel()

    solution = scipy.integrate.solve_ivp(
        velocity, (0, 3), f0.ravel(), "DOP853", times, rtol=1e-11, atol=1e-11
    )
    expected = solution.y.T.reshape(2, N + M, k)
    close(train, expected[:, :N], 1e-8)
    close(test, expected[:, N:], 1e-8)


def test_kernels_of_networks_count_by_their_ntk():
    j, j_test, y, _, _ = problem()
    tangent, cross, times = j @ j.T, j_test @ j.T, np.array([0.5])
    train, test = flow_ode(
        Kernel(np.eye(N), tangent), y, times, kernel_test=Kernel(0 * cross, cross)
    )
    expected = flow_ode(tangent, y, times, kernel_test=cross)
    np.testing.assert_array_equal(train, expected[0])
    np.testing.assert_array_equal(test, expected[1])


def test_a_flow_can_be_compiled():
    j, _, y, _, _ = problem()
    kernel, times = j @ j.T, np.array([0.5, 2.0])
    compiled = jax.jit(lambda k: flow_ode(k, y, times)[0])
    close(compiled(kernel), flow_ode(kernel, y, times)[0])


def test_logit_of_one_example_obeys_its_implicit_relation():
    k, start = 2.0, -0.7
    times = np.array([0.0, 1.0, 10.0, 1000.0])
    z, _ = flow_ode(
        np.array([[k]]), np.ones(1), times, loss=logistic, learning_rate=RATE, f0=np.array([start])
    )
    z = z[:, 0]
    np.testing.assert_allclose(
        z + np.exp(z), k * RATE * times + start + np.exp(start), rtol=1e-9, atol=1e-9
    )


def numpy_slopes():
    def sigmoid(f, y):
        return 1 / (1 + np.exp(-f)) - y

    def softmax(f, y):
        weights = np.exp(f - f.max(axis=1, keepdims=True))
        return weights / weights.sum(axis=1, keepdims=True) - y

    labels = np.array([0.0, 1.0, 1.0, 0.0, 1.0, 0.0])
    return [
        (logistic, sigmoid, labels),
        (huber, lambda f, y: np.clip(f - y, -1, 1), 3 * labels - 1.5),
        (softmax_cross_entropy, softmax, np.eye(3)[[0, 1, 2, 1, 0, 2]]),
    ]


@pytest.mark.parametrize(("loss", "slope", "y"), numpy_slopes(), ids=lambda v: str(v)[:20])
def test_ode_of_other_losses_equals_scipy(loss, slope, y):
    j, j_test = problem()[:2]
    kernel, cross = j @ j.T, j_test @ j.T
    both = np.concatenate([kernel, cross])

    def velocity(_, f):
        f = f.reshape(N + M, *y.shape[1:])
        return (-RATE * both @ slope(f[:N], y)).ravel()

    solution = scipy.integrate.solve_ivp(
        velocity,
        (0, 20),
        np.zeros(both.shape[:1] + y.shape[1:]).ravel(),
        "DOP853",
        rtol=1e-12,
        atol=1e-12,
    )
    train, test = flow_ode(kernel, y, np.array([20.0]), loss, RATE, kernel_test=cross)
    expected = solution.y[:, -1].reshape(N + M, *y.shape[1:])
    close(train[0], expected[:N], 1e-8)
    close(test[0], expected[N:], 1e-8)


def test_ode_keeps_float32():
    j = problem()[0].astype(np.float32)
    train, _ = flow_ode(j @ j.T, np.ones(N, np.float32), jnp.array([1.0, 2.0]))
    assert train.dtype == jnp.float32
    x = np.linspace(-1, 1, 50, dtype=np.float32)
    rounded = np.exp(-((x[:, None] - x) ** 2))  # indefinite, by the rounding of its entries
    y = np.float64(x)
    times = np.ones(1)
    close(flow_ode(rounded, y, times)[0], gradient_flow(rounded, y).train(times), 1e-5)
    close(train, gradient_flow(np.float64(j) @ j.T, np.ones(N)).train(np.array([1, 2])), 1e-5)
