"""Finite recurrent networks, and their means over draws against the limit."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from step_loops import (
    DUALS,
    SCALES,
    inputs_of,
    read_out,
    recurrent,
    recursion,
    relu,
    sequences,
)

import ntkbook as ntk
from ntkbook import (
    AvgPool,
    Conv,
    Cos,
    Dense,
    Erf,
    GlobalAveragePool,
    LastStep,
    LayerNorm,
    Recurrent,
    Relu,
    Residual,
    Serial,
    Tanh,
)


def test_the_finite_layer_is_a_loop_over_steps():
    x = sequences(16, 2, 5, 3)
    layer = Recurrent(4, Erf(), **SCALES)
    params = layer.init(jax.random.key(0), x.shape[1:])
    assert {name: leaf.shape for name, leaf in params.items()} == {
        "w": (4, 4), "u": (3, 4), "b": (4,)
    }  # fmt: skip
    drawn = [np.asarray(leaf).ravel() for leaf in params.values()]
    assert len(np.unique(np.concatenate(drawn).round(12))) == 32  # all of them independent draws
    w, u, b = (np.asarray(params[name]) for name in "wub")
    y, state = np.asarray(layer.apply(params, x)), np.zeros((2, 4))
    assert y.shape == (2, 5, 4)
    for t in range(5):
        z = 1.2 / 2 * state @ w + 0.9 / np.sqrt(3) * x[:, t] @ u + 0.3 * b
        state = np.asarray(jax.scipy.special.erf(z))
        np.testing.assert_allclose(y[:, t], state, rtol=1e-12)
    np.testing.assert_array_equal(LastStep().apply((), y), y[:, -1])
    assert "b" not in Recurrent(4, Erf()).init(jax.random.key(0), (5, 3))


def untied(net, steps):
    """The network with other weights at each step: a loop over cells that are layers of one."""
    layer, end, dense = net.layers

    def init(key, shape):
        keys = jax.random.split(key, steps + 1)
        cells = [layer.init(k, shape) for k in keys[1:]]
        return cells, dense.init(keys[0], (layer.width,))

    def apply(params, x):
        state, states = jnp.zeros((len(x), layer.width)), []
        for t, cell in enumerate(params[0]):
            z = layer.w_std / layer.width**0.5 * state @ cell["w"]
            z += layer.u_std / x.shape[-1] ** 0.5 * x[:, t] @ cell["u"] + layer.b_std * cell["b"]
            state = layer.nonlinearity.apply((), z)
            states.append(state)
        return dense.apply(params[1], end.apply((), jnp.stack(states, 1)))

    return init, apply


def sampled(net, x, seed, samples=48):
    return ntk.monte_carlo_kernel(net, jax.random.key(seed), x, samples=samples, batch_size=8)


def errors(drawn, nngp, theta):
    """The largest deviations of sampled networks from both kernels, in standard errors."""
    mean, spread = drawn.mean, drawn.standard_error
    parts = [(mean.nngp - nngp) / spread.nngp, (mean.ntk - theta) / spread.ntk]
    return [float(abs(part).max()) for part in parts]


@pytest.mark.parametrize(
    ("nonlinearity", "end"), [(Relu(), GlobalAveragePool()), (Cos(), LastStep())], ids=repr
)
def test_sampled_networks(nonlinearity, end):
    x = sequences(17, 3, 4, 2)
    net = recurrent(end, nonlinearity, width=256)
    kernel, drawn = net.kernel(x), sampled(net, x, 0)
    assert max(errors(drawn, kernel.nngp, kernel.ntk)) < 4
    leaked = read_out(end, *recursion(*inputs_of(x), DUALS[nonlinearity], start=1.0))
    assert errors(drawn, *leaked)[1] > 6
    if end != LastStep():
        anew = read_out(end, *recursion(*inputs_of(x), DUALS[nonlinearity], tied=False))
        assert errors(drawn, *anew)[1] > 6


@pytest.mark.parametrize("end", [LastStep(), GlobalAveragePool()], ids=repr)
def test_sampled_networks_with_other_weights_at_each_step(end):
    x = sequences(18, 3, 4, 2)
    net = recurrent(end, Relu(), width=256)
    kernel, drawn = net.kernel(x), sampled(untied(net, 4), x, 1)
    theory = read_out(end, *recursion(*inputs_of(x), relu, tied=False))
    assert max(errors(drawn, *theory)) < 4
    off = errors(drawn, kernel.nngp, kernel.ntk)
    assert max(off) < 4 if end == LastStep() else off[1] > 6


def test_sampled_networks_of_several_layers():
    x = sequences(19, 3, 4, 2)
    layers = [Conv(256, 3, w_std=1.3, b_std=0.2), Relu(), Recurrent(256, Erf(), **SCALES)]
    layers += [Residual(Conv(256, 2, padding="circular")), Recurrent(256, Relu(), **SCALES)]
    net = Serial(*layers, LayerNorm(), AvgPool(2, 1), LastStep(), Dense(1, 1.1, 0.2))
    kernel = net.kernel(x)
    assert max(errors(sampled(net, x, 2), kernel.nngp, kernel.ntk)) < 4


def test_finite_networks_train_and_linearise():
    x, y = sequences(20, 4, 4, 2), sequences(21, 4, 1)
    net = recurrent(GlobalAveragePool(), Tanh(), width=16)
    params = net.init(jax.random.key(1), x.shape[1:])
    linear = ntk.linearize(net.apply, params)
    np.testing.assert_allclose(linear(params, x), net.apply(params, x), rtol=1e-12)
    run = ntk.train(net.apply, params, x, y, learning_rate=0.05, steps=20)
    assert run.losses[-1] < run.losses[0]
    shares = ntk.empirical_shares(net.apply, params, x)
    theta = ntk.empirical_ntk(net.apply, params, x)
    np.testing.assert_allclose(sum(jax.tree.leaves(shares)), theta, rtol=1e-11)
