"""Sampled kernels against plain averages, and the infinite-width kernels against samples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkbook import Dense, Erf, Relu, Residual, Serial, empirical_ntk, monte_carlo_kernel

KEY = jax.random.key(0)
X1 = jnp.array(np.random.default_rng(0).normal(size=(3, 2)))
X2 = jnp.array(np.random.default_rng(1).normal(size=(2, 2)))
NET = Serial(Dense(16, w_std=1.5, b_std=0.3), Relu(), Dense(4, b_std=0.2))


def init(key, shape):
    return jax.random.normal(key, shape)


def apply(params, x):
    return jnp.sin(x @ params)


@pytest.mark.parametrize(
    ("net", "x2", "batch_size"),
    [(NET, None, 3), (NET, X2, 64), ((init, apply), None, 7), ((init, apply), X2, 1)],
)
def test_equals_the_plain_average(net, x2, batch_size):
    start, f = net if isinstance(net, tuple) else (net.init, net.apply)
    other, nngp, ntk = X1 if x2 is None else x2, [], []
    for key in jax.random.split(KEY, 7):
        params = start(key, (2,))
        left, right = (np.reshape(f(params, x), (len(x), -1)) for x in (X1, other))
        theta = empirical_ntk(f, params, X1, other, outputs="trace")
        nngp.append(left @ right.T / left.shape[1])
        ntk.append(theta / left.shape[1])
    got = monte_carlo_kernel(net, KEY, X1, x2, samples=7, batch_size=batch_size)
    assert got.samples == 7
    for part, draws in (("nngp", nngp), ("ntk", ntk)):
        expected = np.mean(draws, 0), np.std(draws, 0, ddof=1) / 7**0.5
        for value, wanted in zip((got.mean, got.standard_error), expected, strict=True):
            np.testing.assert_allclose(getattr(value, part), wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("net", "width_error"),
    [
        (NET, 0.0),
        (Serial(Dense(64), Residual(Relu(), Dense(64, w_std=0.7)), Erf(), Dense(2)), 0.05),
    ],
    ids=["one hidden layer", "residual"],
)
def test_infinite_width(net, width_error):
    got = monte_carlo_kernel(net, KEY, X1, X2, samples=1500)
    exact = net.kernel(X1, X2)
    for part in ("nngp", "ntk"):
        mean, error, limit = (
            np.array(getattr(k, part)) for k in (got.mean, got.standard_error, exact)
        )
        assert (np.abs(mean - limit) < 5 * error + width_error * np.abs(limit).max()).all()
        assert (error < 0.1 * np.abs(limit).max()).all()


def test_float32_and_keys():
    got = monte_carlo_kernel(NET, KEY, jnp.float32(X1), samples=4)
    assert {leaf.dtype for leaf in jax.tree.leaves(got)} == {jnp.dtype("float32")}
    again, other = (
        monte_carlo_kernel(NET, k, jnp.float32(X1), samples=4) for k in (KEY, jax.random.key(1))
    )
    assert (again.mean.ntk == got.mean.ntk).all()
    assert (other.mean.ntk != got.mean.ntk).any()


def test_bad_input_is_refused():
    with pytest.raises(TypeError, match="net must be a network"):
        monte_carlo_kernel("net", KEY, X1)
    with pytest.raises(TypeError, match="net must be a network"):
        monte_carlo_kernel((init, 3), KEY, X1)
    with pytest.raises(ValueError, match="samples must be at least 2"):
        monte_carlo_kernel(NET, KEY, X1, samples=1)
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        monte_carlo_kernel(NET, KEY, X1, batch_size=0)
    with pytest.raises(ValueError, match="x1 must be finite"):
        monte_carlo_kernel(NET, KEY, X1 * np.nan)
    with pytest.raises(ValueError, match="the kernels must be finite"):
        monte_carlo_kernel((init, lambda p, x: apply(p, x) / 0.0), KEY, X1, samples=2)
    with pytest.raises(ValueError, match="row 0 of .* changes with the other rows"):
        monte_carlo_kernel((init, lambda p, x: apply(p, x - x.mean(0))), KEY, X1, samples=2)
    with pytest.raises(TypeError, match="params must be a real floating array, got int"):
        monte_carlo_kernel((lambda key, shape: 1, apply), KEY, X1, samples=2)
    with pytest.raises(TypeError, match="f must take"):
        monte_carlo_kernel((init, jnp.sin), KEY, X1, samples=2)
