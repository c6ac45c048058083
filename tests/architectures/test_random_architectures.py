"""Layers of the whole catalogue composed at random, against networks that are sampled."""

import jax
import numpy as np
import pytest

import ntkbook as ntk
from ntkbook import (
    Aggregate,
    Attention,
    AvgPool,
    Conv,
    Dense,
    Erf,
    Flatten,
    GlobalAveragePool,
    GlobalSumPool,
    LastStep,
    LayerNorm,
    Recurrent,
    Relu,
    Residual,
    Serial,
)

WIDTH, LENGTH = 96, 6
RING = np.roll(np.eye(LENGTH), 1, 0) + np.roll(np.eye(LENGTH), -1, 0)
READOUTS = [Flatten(), GlobalAveragePool(), GlobalSumPool(), LastStep()]
BLOCKS = (
    lambda conv, phi: [conv, phi, AvgPool(2, 1, "circular")],
    lambda conv, phi: [conv, LayerNorm(), phi],
    lambda conv, phi: [Recurrent(WIDTH, phi, w_std=0.9, u_std=1.1, b_std=0.3)],
    lambda conv, phi: [Attention(WIDTH, qk_std=0.5), phi],
    lambda conv, phi: [conv, Aggregate(RING, normalisation="row"), phi],
    lambda conv, phi: [conv, Residual(phi, conv, scale=0.7)],
)


def composed(seed):
    """Networks in which each block is once, two in each, in an order that is drawn."""
    draw = np.random.default_rng(seed)
    order, nets = draw.permutation(len(BLOCKS)), []
    for pair in order.reshape(-1, 2):
        layers = []
        for kind in pair:
            shape, bias = int(draw.integers(1, 4)), float(draw.uniform(0, 0.5))
            conv = Conv(WIDTH, shape, 1, ["same", "circular"][draw.integers(2)], 1.2, bias)
            layers += BLOCKS[kind](conv, [Relu(), Erf()][draw.integers(2)])
        layers += [READOUTS[draw.integers(len(READOUTS))], Dense(16, 1.1, 0.3)]
        nets.append(Serial(*layers))
    return nets


@pytest.mark.parametrize("net", composed(0), ids=("first", "second", "third"))
def test_sampled_networks(net):
    x = np.random.default_rng(1).standard_normal((2, LENGTH, 2))
    kernel = net.kernel(x)
    drawn = ntk.monte_carlo_kernel(net, jax.random.key(0), x, samples=96, batch_size=8)
    size = np.sqrt(np.outer(np.diagonal(kernel.ntk), np.diagonal(kernel.ntk)))
    for name in ("nngp", "ntk"):
        off = np.abs(getattr(drawn.mean, name) - getattr(kernel, name))
        # Finite width: 2 · depth / width, as check_layer allows; four standard errors besides.
        allowed = 4 * getattr(drawn.standard_error, name) + 2 * 2 / WIDTH * size
        assert (off < allowed).all(), name
        assert (allowed < 0.5 * size).all(), name
