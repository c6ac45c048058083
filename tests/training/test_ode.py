"""Flows of any loss against closed forms, implicit relations and SciPy; losses as sums."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
from linear_model import RATE, M, N, P, close, problem

from ntkbook import flow_ode, gradient_flow, huber, logistic, mse, softmax_cross_entropy


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
    with pytest.raises(RuntimeError, match="maximum number of solver steps"):
        flow_ode(kernel, y, times, solver=diffrax.Bosh3(), max_steps=100)


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
    close(train, gradient_flow(np.float64(j) @ j.T, np.ones(N)).train(np.array([1, 2])), 1e-5)
    for loss in (mse, huber, logistic, softmax_cross_entropy):
        labels = jnp.eye(2, dtype=jnp.float32)
        assert loss(labels, labels).dtype == jax.grad(loss)(labels, labels).dtype == jnp.float32


def test_losses_are_sums():
    for loss, y in ((mse, [1.0, -2.0]), (huber, [1.0, -2.0]), (logistic, [0.0, 1.0])):
        f, y = jnp.array([0.3, 1.7]), jnp.array(y)
        close(loss(f, y), loss(f[:1], y[:1]) + loss(f[1:], y[1:]))
    close(huber(jnp.array([0.5, -4.0]), jnp.zeros(2), delta=2.0), 0.125 + 6.0)
    assert np.isfinite(logistic(jnp.array([1e4, -1e4]), jnp.array([0.0, 1.0])))
    close(jax.grad(logistic)(jnp.array([0.0, 800.0]), jnp.array([1.0, 1.0])), [-0.5, 0.0])
    close(jax.grad(huber)(jnp.array([0.0, 0.4, -3.0]), jnp.zeros(3)), [0.0, 0.4, -1.0])


def test_bad_targets_of_losses_are_refused():
    f = jnp.zeros(2)
    with pytest.raises(ValueError, match="one shape"):
        mse(f[:, None], f)
    with pytest.raises(ValueError, match=r"labels in \{0, 1\}"):
        logistic(f, jnp.array([-1.0, 1.0]))
    with pytest.raises(ValueError, match="one-hot rows"):
        softmax_cross_entropy(jnp.zeros((2, 3)), jnp.array([[0, 2, 0], [1, 0, 0]]))
    with pytest.raises(ValueError, match="sum to 1"):
        softmax_cross_entropy(jnp.zeros((2, 3)), jnp.zeros((2, 3)))
    with pytest.raises(ValueError, match="f must have shape"):
        softmax_cross_entropy(f, f)
    with pytest.raises(ValueError, match="delta"):
        huber(f, f, delta=0.0)
