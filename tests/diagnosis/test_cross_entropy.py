"""A diagnosis of cross-entropy against dense descent, and against real training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dense_diagnosis import Dense, drawn, network

import ntkbook as ntk
from ntkbook.diagnose import diagnose
from ntkbook.diagnosis.study import BUDGET

KEY = jax.random.key(0)


class Descent:
    """Descent on mean cross-entropy of the linearised model, one step after the other."""

    def __init__(self, dense, y, rate, steps):
        y = np.asarray(y)
        outputs, self.losses, moved = dense.start, [], 0
        for _ in range(steps + 1):
            logits = outputs.reshape(y.shape)
            self.losses.append(float(ntk.softmax_cross_entropy(logits, y)) / len(y))
            self.outputs, self.moved = outputs, moved
            self.residual = (np.asarray(jax.nn.softmax(logits)) - y).ravel() / len(y)
            moved = moved - rate * self.residual
            outputs = dense.start + dense.theta @ moved
        self.residual = self.residual * len(y)


@pytest.fixture(scope="module")
def soft():
    """As `small`, with cross-entropy."""
    x = jax.random.normal(KEY, (6, 3))
    y = jnp.eye(2)[jnp.array([0, 1, 1, 0, 0, 0])]
    params = drawn(16)
    report = diagnose(network, params, x, y, steps=50, loss="cross-entropy", tolerance=1e-12)
    return report, Dense(network, params, x, y), y


def test_cross_entropy_has_the_step_of_its_own_curvature(soft):
    report, dense, y = soft

    def loss(outputs):
        return -jnp.mean(jnp.sum(y * jax.nn.log_softmax(outputs.reshape(6, 2)), axis=1))

    hessian = np.asarray(jax.hessian(loss)(dense.start))
    top = np.linalg.eigvals(hessian @ dense.theta).real.max()
    np.testing.assert_allclose(report.max_learning_rate.value, 2 / top, rtol=1e-8)
    with pytest.raises(ValueError, match="rows? of probabilities"):
        diagnose(network, dense.params, dense.x, 2 * y, loss="cross-entropy")
    fitted = jax.nn.softmax(network(dense.params, dense.x))
    with pytest.raises(ValueError, match="f fits already"):
        diagnose(network, dense.params, dense.x, fitted, loss="cross-entropy")


def test_the_path_of_cross_entropy_is_that_of_its_linearised_descent(soft):
    report, dense, y = soft
    exact = Descent(dense, y, report.learning_rate, 50)
    t = np.array([[7, 0], [50, 1]])
    relative = np.array(exact.losses)[t] / exact.losses[0]
    curve = report.curve(t)
    np.testing.assert_allclose(curve.lower, relative, rtol=1e-8)
    np.testing.assert_allclose(curve.upper, relative, rtol=1e-8)
    late = report.late()
    left = (exact.residual.reshape(6, 2) ** 2).sum(axis=1)
    np.testing.assert_allclose(left[late.label], late.end, rtol=1e-8)
    away = dense.jacobian.T @ exact.moved
    shapes = [leaf.shape for leaf in dense.params]
    parts = np.split(away, [dense.params[0].size])
    end = [p + a.reshape(s) for p, a, s in zip(dense.params, parts, shapes, strict=True)]
    kernel = dense.kernel(end)[0]
    change = np.linalg.norm(kernel - dense.theta) / np.linalg.norm(dense.theta)
    assert abs(report.change.value - change) <= 4 * report.change.error + 1e-8
    gap = np.asarray(network(end, dense.x)).ravel() - exact.outputs
    expected = np.linalg.norm(gap) / np.linalg.norm(exact.outputs - dense.start)
    np.testing.assert_allclose(report.linearisation, expected, rtol=1e-7)
    dense.theta, before = kernel, dense.theta
    after = Descent(dense, y, report.learning_rate, 50).losses
    dense.theta = before
    np.testing.assert_allclose(report.curve(50).end, after[-1] / after[0], rtol=1e-6)


@pytest.mark.parametrize(("classes", "steps"), [(4, 30), (4, 300), (10, 100)])
def test_with_many_outputs_the_path_of_cross_entropy_is_within_its_error(classes, steps):
    x, y, _, _ = ntk.digits(200, 0, KEY)
    kept = np.flatnonzero(np.asarray(y).argmax(axis=1) < classes)[:80]
    x, y = x[kept], y[kept, :classes]
    params = drawn(48, d=64, k=classes)
    report = diagnose(network, params, x, y, steps=steps, loss="cross-entropy")
    assert report.products <= BUDGET
    exact = Descent(Dense(network, params, x, y), y, report.learning_rate, steps)
    t = np.array([1, steps // 10, steps // 2, steps])
    relative = np.array(exact.losses)[t] / exact.losses[0]
    curve = report.curve(t)
    assert (curve.lower <= relative).all()
    assert (relative <= curve.upper).all()
    np.testing.assert_allclose((curve.lower + curve.upper) / 2, relative, rtol=2e-3)
    late = report.late()
    left = (exact.residual.reshape(len(x), -1) ** 2).sum(axis=1)[late.label]
    assert (np.abs(left - late.end) <= late.error).all()
    assert report.late_share is None
    assert "modes slower" not in str(report)
    assert "cross-entropy" in str(report)


def test_a_linear_model_never_changes_with_cross_entropy_either():
    x = jax.random.normal(KEY, (60, 20))
    y = jnp.eye(3)[jnp.arange(60) % 3]
    report = diagnose(lambda w, x: x @ w, jnp.zeros((20, 3)), x, y, loss="cross-entropy")
    assert report.regime == "kernel"
    assert max(report.change.value, report.tail_change.value, report.linearisation) <= 1e-12
    run = ntk.train(
        lambda w, x: x @ w,
        jnp.zeros((20, 3)),
        x,
        y,
        steps=200,
        learning_rate=report.learning_rate / 60,
        loss=ntk.softmax_cross_entropy,
    )
    curve = report.curve(200)
    assert curve.lower <= run.losses[-1] / run.losses[0] <= curve.upper
