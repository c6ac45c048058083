"""User functions as layers: what is refused, what is warned of, and what comes out."""

import itertools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkbook import Abs, Dense, Elementwise, Serial, Tanh

X = np.random.default_rng(0).normal(size=(5, 4))
COUNTER = itertools.count()


def net(activation):
    return Serial(Dense(8, 1.3, 0.1), activation, Dense(1, 1.2))


def normalised(z):
    return (z - z.mean(-1, keepdims=True)) / z.std(-1, keepdims=True)


@pytest.mark.parametrize(
    ("fn", "error", "message"),
    [
        (normalised, ValueError, r"fn of mine must act on each entry by itself.*\[0, 0\] changes"),
        (lambda z: z - z.mean(0), ValueError, "must act on each entry by itself"),
        (lambda z: jnp.cumsum(z, -1), ValueError, r"whose entry \[0, 1\] changes when it is alone"),
        (lambda z: jnp.roll(z, 1, 0), ValueError, "must act on each entry by itself"),
        (lambda z: jax.nn.softmax(z, -1), ValueError, "must act on each entry by itself"),
        (lambda z: z / jnp.abs(z).max(), ValueError, "write a Layer with apply and propagate"),
        (lambda z: z + next(COUNTER), ValueError, "a random function has no dual"),
        (
            lambda z: z * jax.random.bernoulli(jax.random.key(0), 0.5, z.shape),
            ValueError,
            "must act on each entry by itself",
        ),
        (jnp.log, ValueError, "must be finite on all real numbers.* got nan at -1.27"),
        (jnp.sum, ValueError, r"must keep the shape \(3, 5\), got \(\)"),
        (lambda z: z if z > 0 else -z, ValueError, "got an error for the shape"),
        (lambda z: np.tanh(np.asarray(z)), TypeError, "must be written in JAX"),
        (lambda z: jnp.exp(z * z), ValueError, "too fast growth"),
        (lambda z: 1 / z, ValueError, "off by some"),
        (lambda z: jnp.sin(60 * z), ValueError, "too fast oscillations"),
    ],
)
@pytest.mark.parametrize("n", [5, 300])
def test_functions_without_a_dual_are_refused(fn, error, message, n):
    if n == 300 and fn is not normalised:
        pytest.skip("the way through one program for all layers is tried once")
    x = np.random.default_rng(0).normal(size=(n, 4))
    with pytest.raises(error, match=message):
        net(Elementwise(fn, "mine")).kernel(x)


def test_a_function_that_changes_the_dtype_is_refused():
    layer, x = Elementwise(lambda z: z * np.float64(2)), jnp.asarray(X, "float32")
    for use in (lambda: net(layer).kernel(x), lambda: layer.apply((), x)):
        with pytest.raises(TypeError, match="must keep the dtype float32, got float64"):
            use()
    assert net(Elementwise(lambda z: 2.0 * z)).kernel(x).ntk.dtype == jnp.float32


def test_a_kink_away_from_zero_is_warned_of():
    with pytest.warns(RuntimeWarning, match="the kernel of bent is off by some 0.0"):
        net(Elementwise(jax.nn.hard_tanh, "bent")).kernel(X)


def test_within_jit_a_hopeless_kernel_is_nan_and_warned_of():
    layer = net(Elementwise(lambda z: jnp.sin(60 * z), "fast"))
    with pytest.warns(RuntimeWarning, match="the kernel of fast is off by some"):
        kernel = jax.block_until_ready(jax.jit(layer.kernel)(X))
    assert jnp.isnan(kernel.nngp).all()
    assert jnp.isnan(kernel.ntk).all()


@pytest.mark.parametrize(
    "fn",
    [
        jax.nn.elu,
        jax.nn.mish,
        lambda z: jnp.ones_like(z),
        lambda z: jnp.where(z > 0, 1.0, 0.0),
        jnp.vectorize(lambda t: jax.lax.cond(t > 0, lambda: t, lambda: t / 2)),
        lambda z: jnp.exp(z * z / 20),
    ],
)
def test_functions_with_a_dual_pass_without_a_word(fn):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kernel = net(Elementwise(fn)).kernel(X)
    assert jnp.isfinite(kernel.ntk).all()


def test_derivatives_in_the_scales_are_right_at_a_kink():
    weight = np.random.default_rng(1).normal(size=(5, 5))

    def gradient(layer):
        kernel = lambda h: (layer.kernel(X, hyperparameters=h).nngp * weight).sum()  # noqa: E731
        return jax.tree.leaves(jax.grad(kernel)(layer.hyperparameters()))

    np.testing.assert_allclose(
        gradient(net(Elementwise(jnp.abs))), gradient(net(Abs())), rtol=1e-11, atol=1e-12
    )


def test_degree_changes_no_value():
    deep = [Serial(*(Dense(8, 1.5), layer) * 3, Dense(1)) for layer in (
        Tanh(), Elementwise(jnp.tanh), Elementwise(jnp.tanh, degree=20))]  # fmt: skip
    kernels = [layer.kernel(X) for layer in deep]
    for kernel in kernels[1:]:
        np.testing.assert_allclose(kernel.ntk, kernels[0].ntk, rtol=1e-11)


@pytest.mark.filterwarnings("ignore:the kernel of")  # of an error that is small
@pytest.mark.parametrize("layer", [Tanh(), Elementwise(jnp.tanh, "itself")], ids=("a", "b"))
def test_a_step_in_disguise_is_refused(layer):
    # E[tanh'(u)²] is 4/(3 sqrt(2π q)) for a large variance q.
    wide = Serial(Dense(1), layer, Dense(1))
    for dtype, good, bad in ((jnp.float64, 1e7, 1e9), (jnp.float32, 1e3, 1e5)):
        x = jnp.ones((3, 1), dtype)
        diagonal = wide.kernel_diagonal(good * x[:1]).ntk[0]
        np.testing.assert_allclose(diagonal, 1 + 4 * good / 3 / (2 * np.pi) ** 0.5, rtol=2e-3)
        with pytest.raises(ValueError, match="needs variances up to"):
            wide.kernel(bad * x)
        assert np.isnan(jax.jit(lambda x: wide.kernel(x).ntk)(bad * x[:2])).all()
    with pytest.raises(ValueError, match="needs variances up to"):  # one program for all layers
        wide.kernel(bad * x, bad * jnp.ones((300, 1), dtype))
