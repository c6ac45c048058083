"""Kernels and targets that don't fit: what the error suggests does fit, and class labels."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkbook import (
    Dense,
    Elementwise,
    Erf,
    Kernel,
    Serial,
    flow_ode,
    gradient_descent,
    gradient_flow,
    logistic,
    max_learning_rate,
    modes,
    monte_carlo_kernel,
    regression,
    softmax_cross_entropy,
    train,
)
from ntkbook._base.messages import short

N, M, K = 6, 4, 2
RNG = np.random.default_rng(0)
J, J_TEST = RNG.normal(size=(N, K, 20)), RNG.normal(size=(M, K, 20))
FULL, FULL_TEST = (np.einsum("iap,jbp->ijab", rows, J) for rows in (J, J_TEST))
FLAT = FULL.transpose(0, 2, 1, 3).reshape(N * K, N * K)
FLAT_TEST = FULL_TEST.transpose(0, 2, 1, 3).reshape(M * K, N * K)
ONE, ONE_TEST = FULL[:, :, 0, 0], FULL_TEST[:, :, 0, 0]
Y = RNG.normal(size=(N, K))

SOLVERS = {
    "flow": lambda k, y: gradient_flow(k, y),
    "descent": lambda k, y: gradient_descent(k, y, 0.01),
    "regression": lambda k, y: regression(k, y, 0.1),
}


def ode(kernel, y):
    return flow_ode(kernel, y, np.ones(1), max_steps=1000)


@pytest.mark.parametrize("solve", SOLVERS.values(), ids=SOLVERS)
@pytest.mark.parametrize(
    ("kernel", "y", "hint", "mended"),
    [
        (FLAT, Y, r"as \(N, N, k, k\), or y_train.ravel\(\)", (FLAT, Y.ravel())),
        (FULL, Y.ravel(), r"pass y_train.reshape\(-1, 2\)$", (FULL, Y.ravel().reshape(-1, 2))),
        (ONE, Y.ravel(), r"pass y_train.reshape\(6, -1\)$", (ONE, Y.ravel().reshape(6, -1))),
        (FULL, Y.T, "pass y_train.T$", (FULL, Y)),
        (ONE, Y.T, "pass y_train.T$", (ONE, Y)),
        (FULL.transpose(0, 2, 1, 3), Y, r"pass k\w+_train.transpose\(0, 2, 1, 3\)", (FULL, Y)),
        (FULL.transpose(0, 2, 1, 3), Y, r"k(ernel)?_train must have shape", (FULL, Y)),
        (FULL, Y[:, 0], r"of class labels pass jax.nn.one_hot\(y, k\)$", (FULL, Y)),
    ],
)
def test_training_sets_that_do_not_fit(solve, kernel, y, hint, mended):
    hint = hint.replace(r"k\w+_train", r"k(ernel)?_train")
    for call in (solve, ode):
        with pytest.raises(ValueError, match=hint):
            call(kernel, y)
    solve(*mended)


@pytest.mark.parametrize(
    ("kernel", "y", "cross", "hint", "mended"),
    [
        (ONE, Y, ONE_TEST.T, "it is transposed, the test points come first", ONE_TEST),
        (FULL, Y, FULL_TEST.transpose(1, 0, 3, 2), "it is transposed", FULL_TEST),
        (FLAT, Y.ravel(), FLAT_TEST.T, "it is transposed", FLAT_TEST),
        (ONE, Y, ONE_TEST[0], r"of a single test point pass k\w+_test\w*\[None\]", ONE_TEST[:1]),
        (
            FULL,
            Y,
            FLAT_TEST,
            r"\.reshape\(-1, 2, 6, 2\)\.swapaxes\(1, 2\)$",
            FLAT_TEST.reshape(-1, 2, 6, 2).swapaxes(1, 2),
        ),
        (FLAT, Y.ravel(), FULL_TEST, r"must have shape \(M, N\)", FLAT_TEST),
    ],
)
def test_kernels_at_test_points_that_do_not_fit(kernel, y, cross, hint, mended):
    flow, fit = gradient_flow(kernel, y), regression(kernel, y, 0.1)
    hint = hint.replace(r"k\w+_test", "k(ernel)?_test")
    with pytest.raises(ValueError, match=hint):
        flow_ode(kernel, y, np.ones(1), kernel_test=cross)
    for call in (lambda c: flow.test(1.0, c), fit.predict):
        with pytest.raises(ValueError, match=hint):
            call(cross)
        points = len(mended) if mended is not FLAT_TEST else M * K
        assert call(mended).shape == (points, *y.shape[1:])
    if kernel is FULL:  # what the hint makes of a matrix is the kernel itself
        np.testing.assert_array_equal(mended, FULL_TEST)


def test_a_transposed_kernel_is_named_before_its_companion():
    pair, cross = Kernel(ONE, ONE), Kernel(ONE_TEST.T, ONE_TEST.T)
    own = Kernel(np.eye(M), np.eye(M))
    for call in (
        lambda: gradient_flow(pair, Y).ensemble(1.0, cross, own),
        lambda: regression(pair, Y).posterior(cross, own),
    ):
        with pytest.raises(ValueError, match="k_test_train must have .* transposed"):
            call()


LABELS = np.array([0, 1, 2, 2, 1, 0])


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8"])
@pytest.mark.parametrize("solve", [*SOLVERS.values(), ode], ids=[*SOLVERS, "ode"])
def test_class_labels_are_warned_of(solve, dtype):
    said = r"y_train holds integers as labels of classes do, 3 .* jax.nn.one_hot\(y_train, k\)"
    with pytest.warns(UserWarning, match=said) as caught:
        solve(ONE, jnp.asarray(LABELS, dtype))
    assert caught[0].filename == __file__ or "typed" in caught[0].filename


@pytest.mark.parametrize("solve", SOLVERS.values(), ids=SOLVERS)
def test_other_targets_are_not_warned_of(solve):
    hot = jax.nn.one_hot(LABELS, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for y in (LABELS.astype(float), hot, np.sign(LABELS - 1.5).astype(int), LABELS % 2):
            solve(ONE, y)
        solve(ONE, LABELS - 1)  # of a sign: numbers
        solve(ONE, np.arange(N))  # none twice
        jax.jit(lambda y: jax.tree.leaves(solve(ONE, y))[0])(LABELS)


def test_class_labels_and_finite_networks():
    net = Serial(Dense(5), Erf(), Dense(1))
    x, params = RNG.normal(size=(N, 3)), net.init(jax.random.key(0), (3,))
    one = lambda p, x: net.apply(p, x)[:, 0]  # noqa: E731
    with pytest.warns(UserWarning, match="y holds integers as labels"):
        train(one, params, x, LABELS, learning_rate=0.01, steps=1)
    three = Serial(Dense(3))
    hint = r"y must have the shape of f\(params, x\), \(6, 3\), got \(6,\); .* jax.nn.one_hot\(y, k"
    params = three.init(jax.random.key(0), (3,))
    with pytest.raises(ValueError, match=hint):
        train(three.apply, params, x, LABELS, learning_rate=0.01, steps=1)
    # Targets that the loss refuses are refused before anything is compiled.
    with pytest.raises(ValueError, match="y must hold one-hot rows"):
        train(
            three.apply,
            params,
            x,
            np.ones((N, 3)),
            learning_rate=0.01,
            steps=1,
            loss=softmax_cross_entropy,
        )


@pytest.mark.filterwarnings("ignore:.*as labels of classes do")
def test_class_labels_and_cross_entropy():
    for call in (
        lambda: softmax_cross_entropy(np.zeros((N, 3)), LABELS),
        lambda: softmax_cross_entropy(np.zeros(N), LABELS),
        lambda: softmax_cross_entropy(np.zeros((N, 3)), np.stack([LABELS] * 3, 1)),
        lambda: logistic(np.zeros(N), LABELS),
        lambda: flow_ode(ONE, LABELS, np.ones(1), loss=softmax_cross_entropy),
        lambda: flow_ode(ONE, LABELS, np.ones(1), loss=logistic),
    ):
        with pytest.raises(ValueError, match=r"jax.nn.one_hot\(y, k\)|one-hot"):
            call()


def test_what_holds_arrays_shows_none():
    big = np.eye(300)
    flow = gradient_flow(Kernel(big, big), np.ones((300, 2)), 0.5)
    net = Serial(Dense(5), Elementwise(jnp.sin), Dense(1))
    x, params = RNG.normal(size=(300, 3)), net.init(jax.random.key(0), (3,))
    run = train(net.apply, params, x, np.ones((300, 1)), learning_rate=1e-4, steps=200)
    shown = {
        "float64[300, 300]": flow,
        "learning_rate=0.5": flow,
        "momentum=0.1": gradient_descent(big, np.ones(300), 0.5, 0.1),
        "ridge=0.1": regression(big, np.ones(300), 0.1),
        "values=float64[300] 1 … 1": modes(big),
        f"losses=float64[201] {run.losses[0]:.4g} … {run.losses[-1]:.4g}": run,
        "train=float64[201, 300, 1]": run,
        "samples=2": monte_carlo_kernel(net, jax.random.key(0), x, samples=2),
    }
    for words, thing in shown.items():
        assert words in repr(thing)
        assert len(repr(thing)) < 400
        assert "\n" not in repr(thing)
    traced = []
    jax.jit(lambda f: traced.append(repr(f)))(flow)
    jax.vmap(lambda k: traced.append(repr(gradient_flow(k, np.ones(3)))))(np.stack([np.eye(3)] * 2))
    assert all("float64[" in text for text in traced)
    assert short(np.zeros(0)) == "float64[0]"
    assert repr(jax.tree.map(lambda a: None, flow)).startswith("GradientFlow(kernel=None")


def test_a_start_without_numbers_is_no_matter_of_the_learning_rate():
    f, params, x = (lambda p, x: x @ p), np.ones(3), np.ones((2, 3))
    for change in ({"params": params * np.nan}, {"x": x * np.inf}, {"y": np.array([0, np.nan])}):
        given = {"params": params, "x": x, "y": np.ones(2)} | change
        with pytest.raises(FloatingPointError, match="after step 0.* look for NaN in params, x"):
            train(f, **given, learning_rate=0.1, steps=3)
    with pytest.raises(FloatingPointError, match=r"after step \d+ of .* lower the learning rate"):
        train(f, params, 1e3 * x, np.ones(2), learning_rate=10.0, steps=99)


def test_an_empty_kernel_is_refused():
    with pytest.raises(ValueError, match="kernel must have at least one row"):
        max_learning_rate(np.zeros((0, 0)))


def test_labels_in_a_column_draw_a_warning_too():
    kernel = jnp.eye(6) + 0.1
    labels = np.array([0, 1, 2, 0, 1, 2])
    for y in (labels, labels[:, None]):
        with pytest.warns(UserWarning, match="labels of classes"):
            gradient_flow(kernel, y)


def test_inside_jit_a_kernel_that_is_none_gives_nan():
    theta = np.diag([3.0, 2.0, 1.0])
    y = np.array([1.0, -1.0, 2.0])
    for negative in (-theta, np.diag([3.0, 2.0, -0.5])):
        assert np.isnan(jax.jit(lambda k: gradient_flow(k, y).loss(1.0))(negative))
        assert np.isnan(
            jax.jit(lambda k: regression(k, y, 0.0).predict(ONE_TEST[:2, :3]))(negative)
        ).all()
    for good in (theta, np.ones((3, 3))):  # a singular one is a kernel
        inside = jax.jit(lambda k: gradient_flow(k, y).loss(1.0))(good)
        np.testing.assert_allclose(inside, gradient_flow(good, y).loss(1.0), rtol=1e-12)
