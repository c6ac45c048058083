"""Layers whose faces agree pass, and layers that contradict themselves are refused by name."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ntkbook
from ntkbook import (
    Aggregate,
    Attention,
    AvgPool,
    Conv,
    Dense,
    Dropout,
    Elementwise,
    Erf,
    Flatten,
    GlobalAveragePool,
    GlobalSumPool,
    LastStep,
    Layer,
    LayerError,
    LayerNorm,
    Polynomial,
    RectifiedPower,
    Recurrent,
    Relu,
    Residual,
    Serial,
    Tanh,
    check_layer,
    duals,
)
from ntkbook.networks.activations import Nonlinearity

EXAMPLES = {
    Polynomial: [Polynomial((0.0, 1.0, 0.0, -0.2)), Polynomial((1,))],
    RectifiedPower: [RectifiedPower(order) for order in (0, 3)],
    Elementwise: [Elementwise(jax.nn.softplus), Elementwise(jax.nn.silu, degree=20)],
}
NONLINEARITIES = [
    example
    for thing in (getattr(ntkbook, name) for name in ntkbook.__all__)
    if inspect.isclass(thing) and issubclass(thing, Nonlinearity)
    for example in EXAMPLES.get(thing) or [thing()]
]
OTHERS = [
    Dense(512),
    Dense(1, b_std=0.5),
    Dense(256, parametrization="standard"),
    Residual(Relu(), Dense(256)),
    Residual(Relu(), Dense(64, w_std=0.5)),
    Residual(Relu(), Dense(64, w_std=1.5), scale=-0.6),
    LayerNorm(),
    Serial(Relu(), LayerNorm()),
    Residual(LayerNorm(), Erf(), Dense(128)),
    Serial(Erf(), Dense(32, w_std=2.0, b_std=0.1), Relu()),
    Serial(*(Relu(), Dense(128, w_std=1.4)) * 3, Relu()),
    Dropout(0.7),
    Residual(Relu(), Dropout(0.6), Dense(128)),
]

# Layers that know pixels; fewer channels arrive than by default, so that this takes less time.
SPATIAL = [
    Conv(64, 3, b_std=0.3),
    Flatten(),
    AvgPool(2),
    GlobalAveragePool(),
    GlobalSumPool(),
    Aggregate(np.roll(np.eye(6), 1, 0) + np.roll(np.eye(6), -1, 0), normalisation="row"),
    Recurrent(64, Erf(), w_std=0.9, b_std=0.3),
    LastStep(),
    Attention(64, heads=2, qk_std=0.5),
]


@pytest.mark.parametrize("layer", SPATIAL, ids=lambda layer: repr(layer)[:50])
def test_layers_that_know_pixels_pass(layer):
    report = check_layer(layer, features=64)
    assert max(report.nngp, report.ntk) <= 5
    assert report.resolution < 0.35


@pytest.mark.parametrize("layer", [*NONLINEARITIES, *OTHERS], ids=lambda layer: repr(layer)[:50])
def test_every_layer_of_the_package_passes(layer):
    for seed in range(2):
        report = check_layer(layer, key=jax.random.key(seed))
        assert max(report.nngp, report.ntk) <= 5
        assert report.resolution < 0.35
    assert f"networks of width {report.width}" in repr(report)


@dataclass(frozen=True)
class Times(Nonlinearity):
    """ReLU, its output multiplied, with the dual of ReLU."""

    by: float
    dual = duals.relu

    def fn(self, z):
        return self.by * jax.nn.relu(z)


@dataclass(frozen=True)
class Leaky(Nonlinearity):
    """The kernel of ReLU for a leaky one: their diagonals differ by one percent."""

    dual = duals.relu

    def fn(self, z):
        return jnp.where(z > 0, z, 0.1 * z)


class NoSlope(Erf):
    """Forgets to multiply the tangent kernel by the kernel of the derivative."""

    def propagate(self, signal, hyperparameters):
        after = super().propagate(signal, hyperparameters)
        return replace(after, ntk=signal.ntk)


class NoBias(Dense):
    def propagate(self, signal, hyperparameters):
        return super().propagate(signal, hyperparameters | {"b_std": 0.0})


class NoOwnGradients(Dense):
    def propagate(self, signal, hyperparameters):
        after = super().propagate(signal, hyperparameters)
        return replace(after, ntk=hyperparameters["w_std"] ** 2 * signal.ntk)


class CallsItselfGaussian(Tanh):
    def propagate(self, signal, hyperparameters):
        return replace(super().propagate(signal, hyperparameters), gaussian=True)


class Stronger(Conv):
    """The limit of weights that are a twentieth larger."""

    def propagate(self, signal, hyperparameters):
        larger = {"w_std": 1.05 * hyperparameters["w_std"]}
        return super().propagate(signal, hyperparameters | larger)


class Brightest(GlobalAveragePool):
    """An average of which half of the pixels are left out."""

    def apply(self, params, x):
        return x[:, ::2].mean(tuple(range(1, x.ndim - 1)))


class OneStep(LastStep):
    """Says that all steps are left."""

    def shape_after(self, shape):
        return shape


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (Stronger(64, 3), "propagate contradicts apply in Stronger"),
        (Brightest(), "propagate contradicts apply in Brightest"),
        (OneStep(), r"apply of .*OneStep.* to outputs \(n, \*space, channels\)"),
        (Conv(8, (9, 9)), r"shape_after of Conv.* refuses inputs of width .* such as \(5,\) or"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_contradictions_of_layers_that_know_pixels_are_refused(layer, message):
    with pytest.raises(LayerError, match=message):
        check_layer(layer, features=64)


def test_the_factor_one_passes_its_own_test():
    check_layer(Times(1.0))


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (Times(2.0), r"propagate contradicts apply in Times.* (3\.9|4).* to 4.* times as much"),
        (Times(1.05), "propagate contradicts apply in Times"),
        (Times(0.95), "propagate contradicts apply in Times"),
        (Leaky(), "propagate contradicts apply in Leaky"),
        (NoSlope(), "propagate contradicts the gradients of apply in .*, although nngp agrees"),
        (NoBias(256, b_std=0.3), "propagate contradicts apply in NoBias"),
        (NoOwnGradients(256), "propagate contradicts the gradients of apply in NoOwnGradients"),
        (CallsItselfGaussian(), "says that its outputs are Gaussian"),
        (Residual(Times(2.0), Dense(256)), "propagate contradicts apply in Residual"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_a_kernel_of_another_network_is_refused(layer, message):
    for seed in range(6):
        with pytest.raises(LayerError, match=message):
            check_layer(layer, key=jax.random.key(seed))


class Shape(Dense):
    """A dense layer that is right, but for what the tests below replace."""


def broken(**faces):
    return type("Shape", (Shape,), faces)(256)


def wrong_dtype(self, key, features, dtype):
    return Dense._init(self, key, features, jnp.float32)


def numpy_number(self, params, x):
    return Dense.apply(self, params, x) * np.float64(1.0)


def in_numpy(self, params, x):
    return np.asarray(x) @ np.asarray(params["w"]) / 16


class Halves(Layer):
    """Keeps half of the entries, as its `apply` does and its `width_after` may say."""

    def __init__(self, says=128, passes=128):
        self.says, self.passes = says, passes

    def apply(self, params, x):
        return x[:, : x.shape[1] // 2]

    def width_after(self, features):
        return self.says

    def propagate(self, signal, hyperparameters):
        return replace(signal, features=self.passes)


class Unhashable(Tanh):
    __hash__ = None


def dropping(apply):
    """A Dropout whose outputs are what `apply` makes of them when it has a key."""

    def keyed(self, params, x, key=None):
        return x if key is None else apply(Dropout.apply(self, params, x, key), key)

    return type("Drop", (Dropout,), {"apply": keyed})(0.5)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (dropping(lambda x, key: x + 0 * jax.random.normal(key, x.shape)), "key of .* the dtype"),
        (dropping(lambda x, key: x[:, :9]), "apply with a key in .* says 256, and apply gives 9"),
        (dropping(lambda x, key: x / 0), "apply with a key of .* must be finite"),
        (dropping(lambda x, key: x @ key), "apply of .* fails with a key"),
        (type("New", (Layer,), {})(), "lacks apply"),
        (type("New", (Layer,), {"apply": lambda self, params, x: x})(), "lacks propagate"),
        (type("New", (Nonlinearity,), {"fn": staticmethod(jnp.tanh)})(), "needs its dual"),
        (broken(apply=in_numpy), "apply of .* cannot be traced by JAX: use jax.numpy"),
        (broken(apply=lambda self, p, x: x if x.max() > 9 else -x), "cannot be traced by JAX"),
        (broken(_init=lambda *_: ()), "apply of .* fails on the parameters of init"),
        (broken(_init=wrong_dtype), "parameters of the dtype asked for, float64, got float32"),
        (broken(apply=numpy_number), "apply of .* must keep the dtype float32, got float64"),
        (broken(apply=lambda self, p, x: x @ p["w"][:, 0]), r"\(n, d\) to outputs \(n, width\)"),
        (broken(apply=lambda self, p, x: x @ p["w"] / 0), "apply of .* must be finite"),
        (broken(propagate=lambda self, s, h: s.ntk), "propagate of .* must give a Signal"),
        (broken(propagate=lambda self, s, h: s.no_such), "propagate of .* fails .*no_such"),
        (Halves(says=256), "width_after contradicts apply .* says 256, and apply gives 128"),
        (Halves(passes=256), "propagate contradicts apply .* features 256, .* width 128"),
        (Elementwise(lambda z: z - z.mean(0), "centred"), "treat each row by itself"),
        (Elementwise(lambda z: z + 1e-4 * z.max(0), "leaning"), "treat each row by itself"),
        (Elementwise(lambda z: jnp.cumsum(z, axis=0), "summed"), "treat each row by itself"),
        (Unhashable(), "must be hashable"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_other_contradictions_are_refused(layer, message):
    with pytest.raises(LayerError, match=message):
        check_layer(layer)


def test_right_layers_of_other_forms_pass():
    assert check_layer(Halves()).width == 256
    assert check_layer(broken()).samples == 128


def test_features_samples_and_key():
    report = check_layer(Relu(), features=32, samples=50)
    assert (report.width, report.samples) == (32, 50)
    assert report == check_layer(Relu(), features=32, samples=50, key=jax.random.key(0))
    assert report.resolution > check_layer(Relu()).resolution
    with pytest.raises(LayerError, match=r"width_after of .* refuses inputs of width \[32\]"):
        check_layer(Residual(Relu(), Dense(64)), features=32)


def test_settings_are_left_alone_and_change_nothing():
    wide = check_layer(Erf())
    with jax.enable_x64(False):
        narrow = check_layer(Erf())
        assert jnp.ones(1).dtype == jnp.float32
    assert (narrow.nngp, narrow.ntk) == pytest.approx((wide.nngp, wide.ntk), abs=0.1)


def test_bad_arguments_are_refused():
    with pytest.raises(TypeError, match="layer must be a Layer, .* got a function"):
        check_layer(jnp.tanh if inspect.isfunction(jnp.tanh) else lambda z: z)
    with pytest.raises(ValueError, match="samples must be at least 2"):
        check_layer(Relu(), samples=1)
    with pytest.raises(ValueError, match="features must be at least 1"):
        check_layer(Relu(), features=0)
