"""What programs are compiled for images, and what is said of numbers that left the range."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkbook import Aggregate, AvgPool, Conv, Dense, Flatten, GlobalAveragePool, Relu, Serial


def images(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize("readout", [GlobalAveragePool(), Flatten()])
def test_kernels_between_two_sets_of_images_within_jit(readout):
    net = Serial(Conv(8, 3, w_std=1.3), Relu(), AvgPool(2), readout, Dense(1))
    a, b = images(0, 3, 6, 2), images(1, 2, 6, 2)
    kernel = net.kernel(a, b)
    traced = jax.jit(lambda a, b: net.kernel(a, b))(a, b)
    np.testing.assert_allclose(traced.nngp, kernel.nngp, rtol=1e-12)
    np.testing.assert_allclose(traced.ntk, kernel.ntk, rtol=1e-12)


def test_a_graph_may_be_given_within_jit():
    ring = np.roll(np.eye(4), 1, 0) + np.roll(np.eye(4), -1, 0)
    x = jnp.asarray(images(5, 1, 4, 2))
    inside = jax.jit(lambda x: Aggregate(ring).apply((), x))(x)
    np.testing.assert_allclose(inside, Aggregate(ring).apply((), x), rtol=1e-15)


@pytest.mark.parametrize("mixing", [Aggregate([[0, 1], [1, 0]]), AvgPool(2, 1, "circular")])
def test_pixels_that_cancel_are_no_underflow(mixing):
    x = np.array([[[1.0], [-1.0]], [[1.0], [1.0]]])
    net = Serial(Conv(8, 1), mixing, Flatten(), Dense(1))
    np.testing.assert_allclose(net.kernel(x).nngp, [[0, 0], [0, 1]], atol=1e-15)


def test_depth_costs_no_further_programs_where_pixels_are_mixed(caplog):
    """What later layers need of one image alone is no argument of the layers between."""
    ring = np.roll(np.eye(6), 1, 0) + np.roll(np.eye(6), -1, 0)
    block = (Aggregate(ring), Conv(8, 1, w_std=1.4), Relu())
    x = jnp.asarray(images(2, 1, 6, 3))

    def compiled(depth):
        caplog.clear()
        with jax.log_compiles(), caplog.at_level("WARNING"):
            Serial(*block * depth, Conv(1, 1)).kernel(x).ntk.block_until_ready()
        told = [r.message for r in caplog.records if "Finished XLA compilation" in r.message]
        return [message for message in told if "_aggregated" not in message]

    assert compiled(2)
    assert compiled(7) == []


def test_the_standard_parametrization_has_the_shares_with_other_weights():
    """W outside of whose draw σ/√fan stood has a gradient √fan/σ times as large; b, 1/σ_b."""

    def net(form):
        conv = [Conv(w, 3, w_std=1.3, b_std=0.3, parametrization=form) for w in (64, 32)]
        last = Dense(1, 1.1, 0.2, form)
        return Serial(conv[0], Relu(), conv[1], Relu(), Flatten(), last)

    x = images(3, 3, 5, 2)
    shares = net("ntk").kernel_shares(x)
    fans = {0: (3 * 2, 1.3, 0.3), 2: (3 * 64, 1.3, 0.3), 5: (5 * 32, 1.1, 0.2)}
    expected = sum(
        shares[i]["w"] * fan / w_std**2 + shares[i]["b"] / b_std**2
        for i, (fan, w_std, b_std) in fans.items()
    )
    kernel = net("standard").kernel(x)
    np.testing.assert_allclose(kernel.ntk, expected, rtol=1e-13)
    np.testing.assert_allclose(kernel.nngp, net("ntk").kernel(x).nngp, rtol=1e-15)


def test_the_standard_parametrization_is_the_same_function():
    """Its weights are drawn at their scale, which the other form multiplies in."""
    forms = [Conv(4, (2, 2), w_std=1.3, b_std=0.3, parametrization=p) for p in ("ntk", "standard")]
    x, key = images(4, 2, 5, 5, 3), jax.random.key(0)
    outputs = [conv.apply(conv.init(key, x.shape[1:]), x) for conv in forms]
    np.testing.assert_allclose(*outputs, rtol=1e-12)
