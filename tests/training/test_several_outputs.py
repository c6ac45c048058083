"""Kernels between outputs, as they come, against the same list of outputs put together by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkbook import (
    Dense,
    Erf,
    Kernel,
    Serial,
    empirical_ntk,
    gradient_descent,
    gradient_flow,
    max_learning_rate,
)
from ntkbook._base.summed import remember_sum

N, M, K = 5, 4, 3
RNG = np.random.default_rng(0)
J, J_TEST = RNG.normal(size=(N, K, 20)), RNG.normal(size=(M, K, 20))
KERNEL, CROSS = (np.einsum("iap,jbp->ijab", rows, J) for rows in (J, J_TEST))
Y, F0, F0_TEST = (RNG.normal(size=(rows, K)) for rows in (N, N, M))
BY_HAND = KERNEL.transpose(0, 2, 1, 3).reshape(N * K, N * K)


def flow(kernel, y, **more):
    return gradient_flow(kernel, y, 0.3, **more)


def descent(kernel, y, **more):
    return gradient_descent(kernel, y, 0.01, 0.5, **more)


@pytest.mark.parametrize("start", [False, True])
@pytest.mark.parametrize(
    ("solve", "times"),
    [(flow, np.array([[0.0, 0.1], [2.0, np.inf]])), (descent, np.array([[0, 1], [7, 300]]))],
)
def test_all_is_as_by_hand_to_the_last_bit(solve, times, start):
    more = {"f0": F0} if start else {}
    found = solve(KERNEL, Y, **more)
    listed = solve(BY_HAND, Y.ravel(), **{name: f.ravel() for name, f in more.items()})
    cross = CROSS.transpose(0, 2, 1, 3).reshape(M * K, N * K)
    more_test = (F0_TEST,) if start else ()
    for t in (times, times[1, 0]):
        for name in ("residual", "train", "coefficients"):
            value = getattr(found, name)(t)
            assert value.shape == (*t.shape, N, K)
            assert (value == getattr(listed, name)(t).reshape(value.shape)).all(), name
        test = found.test(t, CROSS, *more_test)
        assert test.shape == (*t.shape, M, K)
        wanted = listed.test(t, cross, *(f.ravel() for f in more_test))
        assert (test == wanted.reshape(test.shape)).all()
        assert (found.loss(t) == listed.loss(t)).all()


def test_one_output_and_independent_outputs_are_what_they_were():
    kernel = np.einsum("ip,jp->ij", J[:, 0], J[:, 0])
    one = flow(kernel[..., None, None], Y[:, :1])
    np.testing.assert_array_equal(one.train(0.5)[:, 0], flow(kernel, Y[:, 0]).train(0.5))
    each = flow(np.einsum("ij,ab->ijab", kernel, np.eye(K)), Y)
    np.testing.assert_allclose(each.train(0.5), flow(kernel, Y).train(0.5), rtol=1e-10)


def test_a_network_trains_as_its_full_kernel_says():
    net = Serial(Dense(64), Erf(), Dense(2))
    params = net.init(jax.random.key(0), (3,))
    x, y = RNG.normal(size=(6, 3)), RNG.normal(size=(6, 2))
    f0, kernel = net.apply(params, x), empirical_ntk(net.apply, params, x)
    rate = 1e-4
    stepped = jax.tree.map(
        lambda p, g: p - rate * g,
        params,
        jax.grad(lambda p: 0.5 * ((net.apply(p, x) - y) ** 2).sum())(params),
    )
    moved = gradient_descent(kernel, y, rate, f0=f0).train(1) - f0
    np.testing.assert_allclose(net.apply(stepped, x) - f0, moved, atol=2e-3 * np.abs(moved).max())


def test_jit_and_derivatives_pass_through():
    value = lambda k: flow(k, Y).test(0.4, CROSS).sum() + flow(k, Y).loss(0.4)  # noqa: E731
    np.testing.assert_allclose(jax.jit(value)(KERNEL), value(KERNEL), rtol=1e-12)
    by_hand = lambda k: (  # noqa: E731
        flow(k, Y.ravel()).test(0.4, CROSS.transpose(0, 2, 1, 3).reshape(M * K, N * K)).sum()
        + flow(k, Y.ravel()).loss(0.4)
    )
    slope = jax.grad(value)(jnp.array(KERNEL)).transpose(0, 2, 1, 3).reshape(BY_HAND.shape)
    np.testing.assert_allclose(slope, jax.grad(by_hand)(jnp.array(BY_HAND)), atol=1e-12)
    model = flow(KERNEL, Y)
    np.testing.assert_allclose(
        jax.jit(lambda m, t: m.train(t))(model, 0.4), model.train(0.4), rtol=1e-12
    )


def test_the_largest_learning_rate_of_every_form():
    bound = float(max_learning_rate(KERNEL, 0.3))
    assert bound == max_learning_rate(BY_HAND, 0.3)
    assert bound == pytest.approx(2.6 / np.linalg.eigvalsh(BY_HAND)[-1], rel=1e-12)
    k = Serial(Dense(1), Erf(), Dense(1)).kernel(RNG.normal(size=(6, 3)))
    assert max_learning_rate(k) == max_learning_rate(k.ntk)
    assert max_learning_rate(k, trained="readout") == max_learning_rate(k.nngp)
    with pytest.raises(ValueError, match="trained must be one of 'all', 'readout', got 'head'"):
        max_learning_rate(k, trained="head")


SOLVERS = [
    max_learning_rate,
    lambda k, y=Y: flow(k, y),
    lambda k, y=Y: descent(k, y),
]


@pytest.mark.parametrize("solve", SOLVERS)
def test_a_trace_over_outputs_is_refused(solve):
    trace = jnp.array(np.einsum("ijaa->ij", KERNEL))
    solve(trace)  # an array like any other
    remember_sum(trace, K)
    with pytest.raises(ValueError, match="trace over 3 outputs, 3 times too large.*'full'"):
        solve(trace)
    solve(trace / K)


@pytest.mark.parametrize("solve", SOLVERS)
@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        (
            KERNEL[..., :2],
            r"k(ernel|_train) must have shape \(any, any, 3, 3\), got \(5, 5, 3, 2\)",
        ),
        (KERNEL[:, :3], "square"),
        (KERNEL[..., 0], "square"),
        (np.zeros((0, 0, 3, 3)), "at least one row|positive eigenvalue"),
    ],
)
def test_other_shapes_are_refused(solve, kernel, message):
    with pytest.raises(ValueError, match=message):
        solve(kernel)


def test_targets_and_test_points_have_all_outputs():
    for y in (Y.ravel(), Y[:, :2], Y[:4]):
        with pytest.raises(ValueError, match=r"y_train must have shape \(5, 3\), got"):
            flow(KERNEL, y)
    with pytest.raises(ValueError, match="f0 must have shape"):
        flow(KERNEL, Y, f0=F0[:, :1])
    model = flow(KERNEL, Y, f0=F0)
    with pytest.raises(ValueError, match=r"must have shape \(M, N, 3, 3\), .* got \(4, 5\)"):
        model.test(1.0, CROSS[..., 0, 0], F0_TEST)
    with pytest.raises(ValueError, match=r"f0_test must have shape \(4, 3\)"):
        model.test(1.0, CROSS, F0_TEST[:, :2])
    with pytest.raises(ValueError, match=r"must have shape \(M, N\), .* got \(4, 5, 3, 3\)"):
        flow(BY_HAND[:5, :5], Y[:, 0]).test(1.0, CROSS)
    with pytest.raises(ValueError, match="needs k_train as a Kernel"):
        model.ensemble(1.0)


BIG = jnp.arange(900.0).reshape(30, 30)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (Kernel(BIG, BIG), "got Kernel; pass kernel.nngp or kernel.ntk"),
        ([["words"] * 30] * 30, "got list"),
        ({"kernel": BIG}, "got dict"),
        ([BIG, None], "got list"),
        ([[1.0], [1.0, 2.0]], "got list"),
        (None, "got NoneType"),
        ("kernel", "got str 'kernel'"),
        (Serial(Dense(1)), "got Serial"),
        (np.array([BIG], dtype=object), "must be"),
        (10**400, "got int 1000"),
        (BIG + 1j, "must be real, got dtype complex"),
    ],
)
def test_what_is_no_array_gets_a_short_message(wrong, said):
    def message(call):
        with pytest.raises(TypeError) as caught:
            call()
        return str(caught.value)

    texts = [message(lambda: gradient_flow(np.eye(2), wrong))]
    texts.append(
        message(lambda: gradient_flow(np.eye(2), np.ones(2), f0=wrong))
        if wrong is not None
        else said
    )
    texts.append(message(lambda: gradient_flow(np.eye(2), np.ones(2)).train(wrong)))
    texts.append(message(lambda: gradient_descent(np.eye(2), np.ones(2), 0.1).train(wrong)))
    if not isinstance(wrong, Kernel):
        texts.append(message(lambda: max_learning_rate(wrong)))
    for text in texts:
        assert said in text
        assert len(text) < 150


@pytest.mark.parametrize("wrong", [BIG, Kernel(BIG, BIG), {"rate": BIG}, [1.0] * 500, "fast"])
def test_a_wrong_number_or_name_gets_a_short_message(wrong):
    for call in (
        lambda: gradient_flow(np.eye(2), np.ones(2), wrong),
        lambda: gradient_descent(np.eye(2), np.ones(2), 0.1, wrong),
        lambda: max_learning_rate(np.eye(2), wrong),
        lambda: gradient_flow(np.eye(2), np.ones(2), trained=wrong),
        lambda: Dense(wrong),
        lambda: Dense(1, wrong),
    ):
        with pytest.raises((TypeError, ValueError), match="must be") as caught:
            call()
        assert len(str(caught.value)) < 150
