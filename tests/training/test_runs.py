"""Recorded training against hand-written NumPy descent and the closed forms of a linear model."""

import gc
import sys
import weakref

import equinox
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkbook import gradient_descent, logistic, mse, train

RNG = np.random.default_rng(0)
X, X_TEST, Y = RNG.normal(size=(7, 3)), RNG.normal(size=(4, 3)), RNG.normal(size=(7, 2))
PARAMS = ({"w": RNG.normal(size=(3, 5)), "b": RNG.normal(size=5)}, RNG.normal(size=(5, 2)))


def net(params, x):
    hidden, readout = params
    return jnp.tanh(x @ hidden["w"] + hidden["b"]) @ readout


def by_hand(rate, momentum, steps):
    """Losses, outputs and weights of heavy ball on `net`, with gradients written out."""
    w, b, a = PARAMS[0]["w"], PARAMS[0]["b"], PARAMS[1]
    speed = [0 * w, 0 * b, 0 * a]
    losses, outputs, tests = [], [], []
    for step in range(steps + 1):
        h = np.tanh(X @ w + b)
        losses.append(0.5 * ((h @ a - Y) ** 2).sum())
        outputs.append(h @ a)
        tests.append(np.tanh(X_TEST @ w + b) @ a)
        if step == steps:
            return losses, outputs, tests, (w, b, a)
        back = h @ a - Y
        below = back @ a.T * (1 - h**2)
        slopes = (X.T @ below, below.sum(axis=0), h.T @ back)
        speed = [momentum * v - rate * g for v, g in zip(speed, slopes, strict=True)]
        w, b, a = w + speed[0], b + speed[1], a + speed[2]


@pytest.mark.parametrize("momentum", [0.0, 0.8])
@pytest.mark.parametrize("every", [1, 4])
def test_a_small_network_equals_numpy(momentum, every):
    run = train(
        net,
        PARAMS,
        X,
        Y,
        learning_rate=0.02,
        steps=20,
        momentum=momentum,
        x_test=X_TEST,
        record_every=every,
    )
    losses, outputs, tests, (w, b, a) = by_hand(0.02, momentum, 20)
    np.testing.assert_array_equal(run.steps, np.arange(0, 21, every))
    np.testing.assert_allclose(run.losses, losses[::every], rtol=1e-12)
    np.testing.assert_allclose(run.train, outputs[::every], rtol=1e-11)
    np.testing.assert_allclose(run.test, tests[::every], rtol=1e-11)
    np.testing.assert_allclose(run.params[0]["w"], w, rtol=1e-11)
    np.testing.assert_allclose(run.params[0]["b"], b, rtol=1e-11)
    np.testing.assert_allclose(run.params[1], a, rtol=1e-11)


def test_a_linear_model_equals_the_closed_form():
    y = Y[:, 0]
    run = train(
        lambda w, x: x @ w,
        jnp.zeros(3),
        X,
        y,
        learning_rate=0.05,
        steps=50,
        momentum=0.6,
        x_test=X_TEST,
        record_every=10,
    )
    exact = gradient_descent(X @ X.T, y, 0.05, momentum=0.6)
    np.testing.assert_allclose(run.train, exact.train(run.steps), atol=1e-12)
    np.testing.assert_allclose(run.test, exact.test(run.steps, X_TEST @ X.T), atol=1e-12)
    np.testing.assert_allclose(run.losses, exact.loss(run.steps), rtol=1e-11)
    np.testing.assert_allclose(run.params, X.T @ exact.coefficients(50), atol=1e-12)


def test_other_losses_and_no_steps():
    labels = (Y[:, :1] > 0).astype(int)
    run = train(
        lambda w, x: x @ w, jnp.zeros((3, 1)), X, labels, learning_rate=0.1, steps=1, loss=logistic
    )
    np.testing.assert_allclose(run.params, -0.1 * X.T @ (0.5 - labels), rtol=1e-13)
    np.testing.assert_allclose(run.losses[0], 7 * np.log(2), rtol=1e-13)
    still = train(net, PARAMS, X, Y, learning_rate=0.1, steps=0)
    assert still.losses.shape == (1,)
    assert still.test is None
    np.testing.assert_array_equal(still.params[1], PARAMS[1])


def test_dtypes_are_kept_and_may_be_mixed():
    x, y = X.astype(np.float32), Y.astype(np.float32)
    mixed = ({"w": np.float32(PARAMS[0]["w"]), "b": PARAMS[0]["b"]}, np.float32(PARAMS[1]))
    single = jax.tree.map(np.float32, PARAMS)
    for params in (single, mixed):
        run = train(net, params, x, y, learning_rate=jnp.float64(0.02), steps=3, momentum=0.5)
        for before, after in zip(jax.tree.leaves(params), jax.tree.leaves(run.params), strict=True):
            assert before.dtype == after.dtype
    run = train(net, single, x, y, learning_rate=0.02, steps=3)
    assert run.losses.dtype == run.train.dtype == jnp.float32


def test_a_second_run_is_not_compiled_again():
    traced = []

    def model(params, x):
        traced.append(1)
        return net(params, x)

    train(model, PARAMS, X, Y, learning_rate=0.01, steps=4)
    first = len(traced)
    train(model, jax.tree.map(lambda p: 2 * p, PARAMS), X, Y, learning_rate=0.02, steps=4)
    assert len(traced) <= first + 1  # the check of the shape looks once


def test_runs_of_many_seeds_at_once():
    keys = jax.random.split(jax.random.key(0), 3)

    def one(key):
        return train(
            lambda w, x: x @ w, jax.random.normal(key, (3, 2)), X, Y, learning_rate=0.01, steps=5
        )

    runs = jax.jit(jax.vmap(one))(keys)
    assert runs.train.shape == (3, 6, 7, 2)
    np.testing.assert_allclose(runs.losses[1], one(keys[1]).losses, rtol=1e-12)


def test_the_final_loss_can_be_differentiated_in_the_learning_rate():
    def final(rate):
        return train(net, PARAMS, X, Y, learning_rate=rate, steps=5).losses[-1]

    difference = (final(0.02 + 1e-6) - final(0.02 - 1e-6)) / 2e-6
    np.testing.assert_allclose(jax.grad(final)(0.02), difference, rtol=1e-6)


@pytest.mark.parametrize("every", [1, 100])
def test_divergence_is_loud_unless_allowed(every):
    def run(**more):
        return train(
            lambda w, x: x * w,
            jnp.ones(()),
            jnp.ones(1),
            jnp.zeros(1),
            learning_rate=12.0,
            steps=400,
            record_every=every,
            **more,
        )

    # w ← −11 w: the loss ½ 121^k overflows when 2k log 11 − log 2 > log(1.798e308).
    first = int(np.ceil((np.log(np.finfo(float).max) + np.log(2)) / (2 * np.log(11))))
    with pytest.raises(FloatingPointError, match=rf"after step {first} of 400.*learning_rate=12.0"):
        run()
    allowed = run(allow_divergence=True)
    assert not np.isfinite(allowed.losses[-1])
    np.testing.assert_array_equal(np.isfinite(allowed.losses), allowed.steps < first)


class Bar:
    """Stands for tqdm's bar."""

    def __init__(self, total, unit):
        self.total, self.count = total, 0
        Bar.last = self

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def update(self, count):
        self.count += count


def test_progress_is_shown_only_when_asked(monkeypatch, capfd):
    module = type(sys)("tqdm")
    module.tqdm = Bar
    monkeypatch.setitem(sys.modules, "tqdm", module)
    quiet = train(net, PARAMS, X, Y, learning_rate=0.01, steps=12, record_every=3)
    assert not hasattr(Bar, "last")
    shown = train(net, PARAMS, X, Y, learning_rate=0.01, steps=12, record_every=3, progress=True)
    assert (Bar.last.count, Bar.last.total) == (12, 12)
    np.testing.assert_array_equal(quiet.losses, shown.losses)
    assert capfd.readouterr() == ("", "")
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with pytest.raises(ImportError, match="pip install tqdm"):
        train(net, PARAMS, X, Y, learning_rate=0.01, steps=3, progress=True)


class Unhashable:
    __hash__ = None

    def __call__(self, params, x):
        return net(params, x)


@pytest.mark.parametrize(
    ("f", "more", "error", "message"),
    [
        (net, {"learning_rate": 0.0}, ValueError, "learning_rate must be a positive"),
        (net, {"learning_rate": np.nan}, ValueError, "learning_rate must be a positive"),
        (net, {"momentum": 1.0}, ValueError, "momentum"),
        (net, {"steps": -1}, ValueError, "steps must be at least 0"),
        (net, {"steps": 2.0}, TypeError, "steps must be an integer"),
        (net, {"record_every": 0}, ValueError, "record_every must be at least 1"),
        (net, {"steps": 5, "record_every": 2}, ValueError, "multiple of record_every=2, .* got 5"),
        (net, {"y": Y[:, 0]}, ValueError, r"shape of f\(params, x\), \(7, 2\), got \(7,\)"),
        (lambda p, x: (x, x), {}, ValueError, "tuple"),
        (Unhashable(), {}, TypeError, "f must be hashable"),
        (net, {"loss": Unhashable()}, TypeError, "loss must be hashable"),
        (net, {"loss": lambda f, y: (0.0, f)}, ValueError, "scalar"),
        (lambda p, x: x > 0, {"y": X}, TypeError, "f must give real floating outputs, got .*bool"),
        (net, {"x_test": (X_TEST,)}, ValueError, r"x_test must be made as x is, .*, got .*\(\*,\)"),
        (net, {"loss": lambda f, y: (f - y) ** 2}, ValueError, "scalar"),
        (net, {"y": 1j * Y}, TypeError, "y must be real"),
        (net, {"y": np.nan * Y}, FloatingPointError, "after step 0"),
        (net, {"learning_rate": 1e200}, FloatingPointError, "lower the learning rate"),
    ],
)
def test_bad_arguments_are_refused(f, more, error, message):
    arguments = {"y": Y, "learning_rate": 0.1, "steps": 2, "loss": mse} | more
    with pytest.raises(error, match=message):
        train(f, PARAMS, X, **arguments)


@pytest.mark.parametrize(
    ("leaf", "got"),
    [
        (3, "int"),
        (jnp.arange(3), "int32|int64"),
        (np.array([True]), "bool"),
        (jax.random.key(0), "key<fry>"),
        ("relu", "str"),
        (jnp.tanh, "PjitFunction|function"),
        (1j * X, "complex"),
    ],
)
def test_parameters_that_cannot_be_trained_are_named(leaf, got):
    params = {"layers": [{"w": jnp.ones(3), "extra": leaf}]}
    where = r"params\['layers'\]\[0\]\['extra'\]"
    with pytest.raises(TypeError, match=f"{where} must be a real floating array, got .*({got})"):
        train(lambda p, x: x @ p["layers"][0]["w"], params, X, Y[:, 0], learning_rate=0.1, steps=1)
    with pytest.raises(ValueError, match="at least one array"):
        train(lambda p, x: x[:, 0], {}, X, Y[:, 0], learning_rate=0.1, steps=1)


class Model(equinox.Module):
    """As a user of Equinox writes one: an activation and a count among the leaves."""

    weight: jax.Array
    activation: object
    count: int

    def __call__(self, x):
        return self.activation(self.weight @ x)


def test_models_of_equinox():
    model = Model(jnp.ones((2, 3)), jnp.tanh, 7)
    arguments = {"x": X, "y": Y, "learning_rate": 0.01, "steps": 2}
    with pytest.raises(TypeError, match=r"params\.activation must be .* equinox.partition"):
        train(lambda m, x: jax.vmap(m)(x), model, **arguments)
    with pytest.raises(TypeError, match=r"f must take \(params, x\), got Model.*equinox.partition"):
        train(model, {"w": jnp.ones(3)}, **arguments)
    params, static = equinox.partition(model, equinox.is_inexact_array)
    run = train(lambda p, x: jax.vmap(equinox.combine(p, static))(x), params, **arguments)
    np.testing.assert_allclose(run.train[0], np.tanh(X @ np.ones((3, 2))), rtol=1e-12)
    assert run.losses[-1] < run.losses[0]


def test_inputs_may_be_a_pytree_of_arrays():
    def model(w, x):
        return x["scale"] * (x["parts"][0] @ w) + jax.random.normal(x["key"], ())

    x = {"parts": (X,), "scale": 2, "key": jax.random.key(3)}
    run = train(model, np.ones(3), x, Y[:, 0], learning_rate=0.01, steps=1, x_test=x)
    np.testing.assert_array_equal(run.train, run.test)
    np.testing.assert_allclose(run.train[0], model(np.ones(3), x), rtol=1e-12)
    for bad in ("mean", np.array(["a"]), None.__class__):
        with pytest.raises(TypeError, match=r"x\['scale'\] must be an array of numbers, got"):
            train(model, np.ones(3), x | {"scale": bad}, Y[:, 0], learning_rate=0.01, steps=1)


def test_a_function_is_freed_with_what_it_captured():
    def capturing(scale):
        return lambda w, x: x @ (w * scale)

    scale = jax.random.normal(jax.random.key(0), (3, 2))
    kept, f = weakref.ref(scale), capturing(scale)
    for progress in (False, True):
        train(f, jnp.zeros((3, 2)), X, Y, learning_rate=0.1, steps=2, progress=progress)
    del f, scale
    gc.collect()
    assert kept() is None
