"""Losses and their derivatives against mpmath, at confident, infinite and huge outputs too."""

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest

from ntkbook import huber, logistic, mse, softmax_cross_entropy, train

mp.mp.dps = 60
FLOATS = (jnp.float32, jnp.float64)
RNG = np.random.default_rng(0)


def eps(dtype, times=8):
    return times * float(jnp.finfo(dtype).eps)


def exact_cross_entropy(f, y):
    """−Σ y log softmax(f), for finite numbers."""
    total = mp.mpf(0)
    for logits, labels in zip(np.float64(f), np.float64(y), strict=True):
        partition = mp.fsum(mp.exp(mp.mpf(float(z))) for z in logits)
        for z, label in zip(logits, labels, strict=True):
            total += mp.mpf(float(label)) * (mp.log(partition) - mp.mpf(float(z)))
    return float(total)


def exact_logistic(f, y):
    """The same of the two logits f and 0."""
    f, y = np.float64(f).ravel(), np.float64(y).ravel()
    return exact_cross_entropy(np.stack([f, 0 * f], 1), np.stack([y, 1 - y], 1))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("margin", [1, 15, 20, 25, 40, 80])
def test_small_losses_of_confident_predictions(dtype, margin):
    labels = np.eye(10)[np.arange(1000) % 10]
    value = softmax_cross_entropy(jnp.asarray(margin * labels, dtype), jnp.asarray(labels, dtype))
    np.testing.assert_allclose(value, 1000 * float(mp.log1p(9 * mp.exp(-margin))), eps(dtype, 32))
    f, y = jnp.array([margin, -margin], dtype), jnp.array([1, 0], dtype)
    np.testing.assert_allclose(logistic(f, y), 2 * float(mp.log1p(mp.exp(-margin))), eps(dtype))
    assert value.dtype == logistic(f, y).dtype == dtype


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("scale", [0.1, 3.0, 30.0])
def test_soft_labels_and_wrong_predictions(dtype, scale):
    f = jnp.asarray(scale * RNG.normal(size=(7, 4)), dtype)
    for y in (RNG.dirichlet(np.ones(4), 7), np.eye(4)[RNG.integers(0, 4, 7)]):
        y = jnp.asarray(y, dtype)
        value = softmax_cross_entropy(f, y)
        np.testing.assert_allclose(value, exact_cross_entropy(f, y), eps(dtype))
        np.testing.assert_allclose(logistic(f, y), exact_logistic(f, y), eps(dtype))
        assert value > 0


def test_no_two_losses_are_rounded_away_beside_each_other():
    f, y = jnp.array([[40.0, 0.0], [0.0, 0.0]]), jnp.eye(2)
    slope = jax.grad(softmax_cross_entropy)(f, y)
    np.testing.assert_allclose(slope[0], float(mp.exp(-40)) * np.array([-1, 1]), 1e-14)
    np.testing.assert_allclose(slope[1], [0.5, -0.5], 1e-15)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


@pytest.mark.parametrize("scale", [0.0, 1.0, 20.0])  # at 0 all logits are tied
def test_first_and_second_derivatives(scale):
    f, y = scale * RNG.normal(size=(3, 4)), RNG.dirichlet(np.ones(4), 3)
    p = np.exp(f - f.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    expected = np.zeros((3, 4, 3, 4))
    for i in range(3):
        expected[i, :, i] = np.diag(p[i]) - np.outer(p[i], p[i])
    for derivative in (jax.grad, jax.jacfwd):
        np.testing.assert_allclose(derivative(softmax_cross_entropy)(f, y), p - y, 1e-12, 1e-15)
        np.testing.assert_allclose(derivative(logistic)(f, y), sigmoid(f) - y, 1e-12, 1e-15)
    np.testing.assert_allclose(jax.hessian(softmax_cross_entropy)(f, y), expected, 1e-12, 1e-15)
    curvature = np.diag((sigmoid(f) * sigmoid(-f)).ravel()).reshape(expected.shape)
    np.testing.assert_allclose(jax.hessian(logistic)(f, y), curvature, 1e-12, 1e-15)
    # In the labels, of any rows: −log softmax(f), where they are zero too.
    slope = jax.grad(softmax_cross_entropy, 1)(f, np.eye(4)[:3])
    np.testing.assert_allclose(slope, -np.log(p), 1e-12, 1e-14)


INF = np.inf


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    ("f", "y", "value", "slope"),
    [
        ([-INF, 0], [0, 1], 0, [0, 0]),
        ([INF, 0], [1, 0], 0, [0, 0]),
        ([-INF, 0], [1, 0], INF, [-1, 1]),
        ([INF, 0], [0, 1], INF, [1, -1]),
        ([-INF, 0, 0], [0, 1, 0], np.log(2), [0, -0.5, 0.5]),
        ([-INF, 1e30, -INF], [0, 1, 0], 0, [0, 0, 0]),
        ([-1e30, 1e30], [0, 1], 0, [0, 0]),
    ],
)
def test_infinite_logits(dtype, f, y, value, slope):
    f, y = jnp.array([f], dtype), jnp.array([y], dtype)
    np.testing.assert_allclose(softmax_cross_entropy(f, y), value, eps(dtype))
    for derivative in (jax.grad, jax.jacfwd):
        found = derivative(softmax_cross_entropy)(f, y)
        np.testing.assert_allclose(found, [slope], eps(dtype))
    assert np.isfinite(jax.hessian(softmax_cross_entropy)(f, y)).all()


@pytest.mark.parametrize("dtype", FLOATS)
def test_infinite_logits_of_the_logistic_loss(dtype):
    f, y = jnp.array([INF, -INF, INF, -INF], dtype), jnp.array([1, 0, 0, 1], dtype)
    np.testing.assert_array_equal([logistic(f[i], y[i]) for i in range(4)], [0, 0, INF, INF])
    for derivative in (jax.grad, jax.jacfwd):
        np.testing.assert_array_equal(derivative(logistic)(f, y), [0, 0, 1, -1])
    assert np.isfinite(jax.hessian(logistic)(f, y)).all()
    assert logistic(jnp.array(INF, dtype), jnp.array(0.5, dtype)) == INF


@pytest.mark.parametrize("dtype", FLOATS)
def test_huber_at_extremes(dtype):
    large = float(jnp.finfo(dtype).max)
    r = jnp.array([0, 0.4, 1, -3, large, -INF], dtype)
    zero = jnp.zeros((), dtype)
    values = [huber(one, zero) for one in r]
    np.testing.assert_allclose(values, [0, 0.08, 0.5, 2.5, large, INF], eps(dtype))
    for derivative in (jax.grad, jax.jacfwd):
        slopes = [derivative(huber)(one, zero) for one in r]
        np.testing.assert_allclose(slopes, [0, 0.4, 1, -1, 1, -1], eps(dtype))
    curvatures = [jax.hessian(huber)(one, zero) for one in r]
    np.testing.assert_array_equal(curvatures[:2] + curvatures[3:], [1, 1, 0, 0, 0])
    # A delta that no residual reaches makes it the squared error.
    for delta in (1e30, large, 1e300):
        assert huber(jnp.array(2, dtype), zero, delta) == 2
        assert jax.grad(huber)(jnp.array(2, dtype), zero, delta) == 2
    slope = jax.grad(lambda d: huber(jnp.array([0.5, -3.0]), jnp.zeros(2), d))(2.0)
    np.testing.assert_allclose(slope, 3 - 2)


@pytest.mark.parametrize("dtype", FLOATS)
def test_squared_error_to_the_end_of_the_range(dtype):
    r = 1.3 * float(jnp.finfo(dtype).max) ** 0.5  # its square is too large, half of that is not
    value = mse(jnp.array([r, 0], dtype), jnp.zeros(2, dtype))
    np.testing.assert_allclose(value, 0.5 * r * r, eps(dtype))
    assert jax.grad(mse)(jnp.array(r, dtype), jnp.zeros((), dtype)) == jnp.array(r, dtype)


def test_recorded_losses_of_a_long_run():
    x, labels = np.float32(np.eye(2)), jnp.eye(2, dtype=jnp.float32)
    run = train(
        lambda w, x: 30 * (x @ w),
        jnp.eye(2, dtype=jnp.float32),
        x,
        labels,
        learning_rate=1.0,
        steps=2,
        loss=softmax_cross_entropy,
    )
    np.testing.assert_allclose(run.losses, 2 * np.exp(-30.0), 1e-5)


def test_losses_are_sums():
    for loss, y in ((mse, [1.0, -2.0]), (huber, [1.0, -2.0]), (logistic, [0.0, 1.0])):
        f, y = jnp.array([0.3, 1.7]), jnp.array(y)
        np.testing.assert_allclose(loss(f, y), loss(f[:1], y[:1]) + loss(f[1:], y[1:]), 1e-14)
    assert huber(jnp.array([0.5, -4.0]), jnp.zeros(2), delta=2.0) == 0.125 + 6.0


def test_dtypes_are_kept():
    labels = jnp.eye(2, dtype=jnp.float32)
    for loss in (mse, huber, logistic, softmax_cross_entropy):
        for y in (labels, np.eye(2), np.eye(2, dtype=int)):
            assert loss(labels, y).dtype == jax.grad(loss)(labels, y).dtype == jnp.float32


def test_bad_targets_are_refused():
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
