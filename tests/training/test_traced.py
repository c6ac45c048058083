"""Within jit a value can't be looked at: what would raise an error gives NaN, and no number."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkbook import (
    Dense,
    Serial,
    condition_number,
    flow_ode,
    gradient_descent,
    gradient_flow,
    huber,
    logistic,
    max_learning_rate,
    modes,
    mse,
    regression,
    softmax_cross_entropy,
    train,
)
from ntkbook._base.arguments import as_floating

K, Y = np.array([[2.0, 1.0], [1.0, 2.0]]), np.array([1.0, -1.0])
ASKEW = np.array([[2.0, 1.0], [0.9, 2.0]])
X = np.array([[1.0], [2.0]])


def run(rate, momentum=0.0):
    return train(
        lambda w, x: x @ w, np.ones(1), X, Y, learning_rate=rate, momentum=momentum, steps=3
    ).losses[-1]


CASES = {
    "time": (lambda t: gradient_flow(K, Y).loss(t), -1.0, 1.0),
    "predictions": (lambda t: gradient_flow(K, Y).test(t, K[:1]), -1.0, jnp.inf),
    "steps": (lambda t: gradient_descent(K, Y, 0.1).loss(t), -1, 3),
    "rate": (lambda r: gradient_flow(K, Y, r).loss(1.0), -1.0, 0.5),
    "rate of zero": (lambda r: gradient_flow(K, Y, r).loss(1.0), 0.0, 0.5),
    "rate of descent": (lambda r: gradient_descent(K, Y, r).loss(2), -0.1, 0.1),
    "momentum": (lambda m: gradient_descent(K, Y, 0.1, m).loss(2), 1.0, 0.5),
    "negative momentum": (lambda m: gradient_descent(K, Y, 0.1, m).loss(2), -0.5, 0.0),
    "limit": (lambda m: max_learning_rate(K, m), 1.5, 0.5),
    "kernel of zero": (max_learning_rate, 0 * K, K),
    "kernel": (lambda k: gradient_flow(k, Y).loss(1.0), ASKEW, K),
    "descent": (lambda k: gradient_descent(k, Y, 0.1).loss(1), ASKEW, K),
    "modes": (lambda k: modes(k).values, ASKEW, K),
    "rates": (lambda r: modes(K).rates(r), -1.0, 1.0),
    "regression": (lambda k: regression(k, Y).predict(K[:1]), ASKEW, K),
    "ridge": (lambda r: regression(K, Y, r).predict(K[:1]), -0.5, 0.5),
    "condition": (condition_number, ASKEW, K),
    "delta": (lambda d: huber(Y, 3 * Y, d), -1.0, 1.0),
    "labels": (lambda y: logistic(Y, y), np.array([-1.0, 1.0]), np.array([0.0, 1.0])),
    "rows": (lambda y: softmax_cross_entropy(K, y), np.ones((2, 2)), np.eye(2)),
    "run": (run, -0.1, 0.1),
    "run with momentum": (lambda m: run(0.1, m), 1.5, 0.5),
}


@pytest.mark.parametrize("case", CASES)
def test_what_would_raise_gives_nan(case):
    function, wrong, right = CASES[case]
    with pytest.raises(ValueError, match="must"):
        function(wrong)
    inside = jax.jit(function)
    assert np.isnan(inside(wrong)).all()
    np.testing.assert_allclose(inside(right), function(right), rtol=1e-12)


def test_only_what_is_wrong_is_nan():
    flow, descent = gradient_flow(K, Y), gradient_descent(K, Y, 0.1)
    times, steps = np.array([-1.0, 1.0, np.inf]), np.array([-2, 0, 3])
    for found, right in (
        (jax.jit(flow.train)(times), flow.train(times[1:])),
        (jax.jit(descent.train)(steps), descent.train(steps[1:])),
        (jax.vmap(flow.train)(times), flow.train(times[1:])),
    ):
        assert np.isnan(found[0]).all()
        np.testing.assert_allclose(found[1:], right, rtol=1e-12)
    some = logistic(Y, np.array([0.0, 1.0]))
    inside = jax.jit(lambda y: jax.grad(logistic)(Y, y))(np.array([-1.0, 1.0]))
    assert np.isnan(inside[0])
    assert np.isfinite([some, inside[1]]).all()


def test_derivatives_are_those_outside():
    def loss(kernel, rate, t):
        return gradient_flow(kernel, Y, rate).loss(t)

    for argument in (0, 1, 2):
        slope = jax.grad(loss, argument)(jnp.array(K), 0.5, 1.0)
        step = jax.random.normal(jax.random.key(argument), jnp.shape(slope))
        step = (step + step.T) / 2 if step.ndim else step
        h = 1e-6
        ends = []
        for sign in (1, -1):
            given = [jnp.array(K), 0.5, 1.0]
            given[argument] = given[argument] + sign * h * step
            ends.append(loss(*given))
        np.testing.assert_allclose(jnp.sum(slope * step), (ends[0] - ends[1]) / (2 * h), rtol=1e-6)
    assert np.isfinite(jax.grad(lambda f: mse(f, Y))(Y)).all()


@pytest.mark.parametrize("x64", [True, False])
def test_times_and_steps_of_any_size(x64):
    late = 2**40 + 1  # in 32 bits this is 1
    with jax.enable_x64(x64):
        flow, descent = gradient_flow(K, Y), gradient_descent(K, Y, 0.1)
        for t in (2**31, late, np.int64(late), np.array(late), 2**70):
            np.testing.assert_array_equal(flow.train(t), Y.astype(flow.y.dtype))
        np.testing.assert_allclose(flow.train(np.array([late, 0])), [Y, 0 * Y], atol=1e-6)
        for t in (late, np.int64(late), np.array([0, late])):
            if x64:
                np.testing.assert_allclose(descent.loss(t).min(), 0, atol=1e-300)
                continue
            with pytest.raises(ValueError, match=r"t must be at most 2147483647 steps, got 10995"):
                descent.loss(t)
        with pytest.raises(ValueError, match="t must be at most"):
            descent.loss(2**70)
        if not x64:
            with pytest.raises(ValueError, match="at most 2147483647 steps, got 2147483648"):
                descent.loss(2**31)
        for t in (-(2**40), np.array([-(2**40)])):  # in 32 bits this is 0
            with pytest.raises(ValueError, match="zero or"):
                descent.loss(t)
            with pytest.raises(ValueError, match="zero or"):
                flow.loss(t)
        big = np.array([[2**34, 1], [1, 2**34]])
        np.testing.assert_allclose(Serial(Dense(1)).kernel(big).nngp[0, 0], 2.0**67, rtol=1e-6)
        assert gradient_flow(big, big[0]).kernel[0, 0] == 2.0**34
        late = flow_ode(K, Y, np.array([2**34]), max_steps=10**6, learning_rate=1e-9)[0]
        np.testing.assert_allclose(
            late, gradient_flow(K, Y, 1e-9).train(np.array([2.0**34])), rtol=1e-4
        )


@pytest.mark.parametrize("x64", [True, False])
def test_lists_of_long_integers_are_numbers(x64):
    with jax.enable_x64(x64):
        for whole in (2**31, -(2**31), 2**40, 10**30):
            np.testing.assert_allclose(as_floating("x", [[whole, 1]]), [[float(whole), 1]], 1e-7)
        with pytest.raises(TypeError, match="x must be an array of real numbers, got list"):
            as_floating("x", [10**400])


@pytest.mark.parametrize("number", [1e-50, 1e39])
def test_numbers_beyond_the_dtype_are_refused(number):
    said = "must be in the range of float32, got"
    k, y = np.float32(K), np.float32(Y)
    for call in (
        lambda: gradient_flow(k, y, number),
        lambda: gradient_descent(k, y, number),
        lambda: regression(k, y, number),
        lambda: flow_ode(k, y, np.ones(1, np.float32), learning_rate=number),
    ):
        with pytest.raises(ValueError, match=said):
            call()
    assert regression(K, Y, number).predict(K).shape == (2,)
    with pytest.raises(ValueError, match="momentum must be .* < 1, got 1.0"):
        gradient_descent(k, y, 0.1, 1 - 1e-9)
    assert gradient_descent(K, Y, 0.1, 1 - 1e-9).momentum < 1


def test_the_end_of_training_is_infinity():
    with pytest.raises(TypeError, match=r"t must be a time, got NoneType None; .* pass t=jnp.inf"):
        gradient_flow(K, Y).train(None)
    for t in (None, np.inf):
        with pytest.raises(
            TypeError, match=r"whole steps, got .* gradient_flow\(…\) for t=jnp.inf"
        ):
            gradient_descent(K, Y, 0.1).test(t, K)


def test_records_and_steps():
    with pytest.raises(
        ValueError, match="multiple of record_every=10, such as 100 or 110, got 101"
    ):
        train(lambda w, x: x @ w, np.ones(1), X, Y, learning_rate=0.1, steps=101, record_every=10)


def test_steps_and_losses_that_cannot_be():
    def run(steps=1, loss=mse):
        train(
            lambda w, x: x @ w, np.ones(1), X, Y,
            learning_rate=0.1, steps=steps, record_every=steps, loss=loss,
        )  # fmt: skip

    with pytest.raises(ValueError, match="steps must be at most 2147483647, got 2147483648"):
        run(2**31)
    for kind, loss in {
        "int": lambda f, y: jnp.sum(f > y),
        "complex": lambda f, y: jnp.sum(f - y) * 1j,
    }.items():
        with pytest.raises(TypeError, match=f"loss must give a real floating number, got .*{kind}"):
            run(loss=loss)
