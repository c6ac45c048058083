"""Kernels of attention against loops over tokens, finite differences and the layer itself."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from token_loops import (
    FREE,
    LINEAR,
    POOL,
    ROOT,
    SOFTMAX,
    TIED,
    VARIANTS,
    attended,
    embedded,
    sequences,
)

import ntkbook as ntk
from ntkbook import Attention, Conv, Dense, Flatten, LayerNorm, Relu, Residual, Serial

variants = pytest.mark.parametrize("layer", VARIANTS.values(), ids=VARIANTS)
# One shape and few networks, so that most programs are compiled once for all tests.
SHAPE = 5, 4, 5


def rectified(k, theta):
    variance = np.einsum("iipp->ip", k)
    norm = np.sqrt(variance[:, None, :, None] * variance[None, :, None, :])
    angle = np.arccos(np.clip(k / norm, -1, 1))
    value = norm * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / (2 * np.pi)
    return value, theta * (np.pi - angle) / (2 * np.pi)


def normalised(k, theta):
    """After a ReLU: entries of variance k[p, p] over a mean, sqrt(2 q/(2π)) for E[relu(u)²] = q."""
    variance = np.einsum("iipp->ip", k)
    mean = np.sqrt(variance / np.pi)
    k = k - mean[:, None, :, None] * mean[None, :, None, :]
    root = np.sqrt(np.einsum("iipp->ip", k) + 1e-12)  # the epsilon of LayerNorm
    both = root[:, None, :, None] * root[None, :, None, :]
    return k / both, theta / both


EMBED = Conv(8, 1, w_std=1.3, b_std=0.2)


def block(layer):
    """A network in which an attention stands at all sorts of places."""
    blocks = Residual(LayerNorm(), layer), Residual(layer)
    return Serial(EMBED, layer, Relu(), *blocks, POOL, Dense(1))


def short(layer):
    return Serial(EMBED, layer, Relu(), POOL, Dense(1))


def recursion(layer, x):
    """K and Θ (n, n) of `block`."""
    k, theta = rectified(*attended(layer, *embedded(x, 1.3, 0.2)))
    for before in (normalised, lambda *kernels: kernels):
        branch = attended(layer, *before(k, theta))
        k, theta = k + branch[0], theta + branch[1]
    k, theta = k.mean((2, 3)), theta.mean((2, 3))
    return k, k + theta


@variants
def test_the_recursion_over_pairs_of_tokens(layer):
    x = sequences(0, *SHAPE)
    net = block(layer)
    kernel = net.kernel(x)
    k, theta = recursion(layer, x)
    np.testing.assert_allclose(kernel.nngp, k, rtol=1e-12)
    np.testing.assert_allclose(kernel.ntk, theta, rtol=1e-12)
    assert (kernel.ntk == kernel.ntk.T).all()
    np.testing.assert_allclose(net.kernel(x, x[::-1]).ntk, kernel.ntk[:, ::-1], rtol=1e-12)
    assert np.linalg.eigvalsh(kernel.nngp).min() > 0


@variants
def test_the_order_of_tokens_counts_only_where_tokens_are_told_apart(layer):
    x, turn = sequences(1, *SHAPE), np.array([2, 0, 3, 1])
    pooled, flat = short(layer), Serial(EMBED, layer, Relu(), Flatten(), Dense(1))
    np.testing.assert_allclose(pooled.kernel(x, x[:, turn]).ntk, pooled.kernel(x).ntk, rtol=1e-13)
    if layer != FREE:  # a plain average, equal for all tokens
        assert np.abs(flat.kernel(x, x[:, turn]).ntk / flat.kernel(x).ntk - 1).max() > 0.05
    # Where terms cancel, to rounding in units of the others, which are of order one.
    turned = flat.kernel(x[:, turn]).ntk
    np.testing.assert_allclose(turned, flat.kernel(x).ntk, rtol=1e-13, atol=1e-16)


def test_one_token_and_equal_tokens():
    # A softmax of equal logits is a plain average: of equal tokens each stays what it is.
    x = sequences(2, 5, 1, 5)
    k = 1.69 * x[:, 0] @ x[:, 0].T / 5
    for same in (x, np.repeat(x, 4, 1)):
        for layer in (TIED, FREE):
            kernel = Serial(layer, POOL).kernel(same)
            np.testing.assert_allclose(kernel.nngp, k, rtol=1e-13)
            np.testing.assert_allclose(kernel.ntk, 2 * k, rtol=1e-13)


def test_sharp_logits_leave_each_token_to_itself():
    x = 30 * np.broadcast_to(np.eye(4, 5), SHAPE)
    k = Serial(Attention(8, qk_std=3.0), Flatten()).kernel(x).nngp
    np.testing.assert_allclose(k, 180, rtol=1e-13)


# Gradients, shares, tracing, edges.


@cache
def with_rates(layer):
    """The sum of Θ and its derivatives in the scales of an attention and in what it sees."""
    net = Serial(layer, Relu(), POOL)

    def value(scales, x):
        given = ({"qk_std": scales[0], "ov_std": scales[1]}, (), ())
        return net.kernel(x, hyperparameters=given).ntk.sum()

    return net, jax.jit(jax.value_and_grad(value, (0, 1)))


@pytest.mark.parametrize("layer", [TIED, LINEAR, ROOT], ids=["tied", "linear", "root"])
def test_gradients_in_scales_and_inputs(layer):
    x, step = sequences(20, *SHAPE), 1e-5
    net, value = with_rates(layer)
    at = jnp.array([layer.qk_std, layer.ov_std])
    here, (scales, entries) = value(at, x)
    np.testing.assert_allclose(here, net.kernel(x).ntk.sum(), rtol=1e-12)
    for i, nudge in enumerate(step * np.eye(2)):
        rate = (value(at + nudge, x)[0] - value(at - nudge, x)[0]) / (2 * step)
        np.testing.assert_allclose(scales[i], rate, rtol=1e-7, atol=1e-7)
    nudge = step * sequences(21, *SHAPE)
    rate = (value(at, x + nudge)[0] - value(at, x - nudge)[0]) / 2
    np.testing.assert_allclose((entries * nudge).sum(), rate, rtol=1e-6)


@variants
def test_shares_and_the_diagonal(layer):
    x = sequences(22, *SHAPE)
    net = short(layer)
    kernel, diagonal, shares = net.kernel(x), net.kernel_diagonal(x), net.kernel_shares(x)
    np.testing.assert_allclose(np.diagonal(kernel.nngp), diagonal.nngp, rtol=1e-13)
    np.testing.assert_allclose(np.diagonal(kernel.ntk), diagonal.ntk, rtol=1e-13)
    np.testing.assert_allclose(sum(jax.tree.leaves(shares)), kernel.ntk, rtol=1e-12)
    query, key, value, out = (shares[1][name] for name in ("query", "key", "value", "out"))
    np.testing.assert_allclose(value, out, rtol=1e-13)
    np.testing.assert_allclose(query, value if layer == ROOT else 0 * value, rtol=1e-13)
    np.testing.assert_allclose(key, query, rtol=1e-13)


def test_jit_and_other_numbers_of_examples():
    x, net = sequences(22, *SHAPE), short(TIED)
    kernel = net.kernel(x)
    np.testing.assert_allclose(jax.jit(lambda a: net.kernel(a).ntk)(x), kernel.ntk, rtol=1e-12)
    np.testing.assert_allclose(net.kernel(x[:1]).ntk, kernel.ntk[:1, :1], rtol=1e-12)
    np.testing.assert_allclose(net.kernel(x, x[:2]).ntk, kernel.ntk[:, :2], rtol=1e-12)


def test_many_sequences_in_tiles():
    x = sequences(23, 5, 128, 2)  # tiles of two, with all pairs of 128 tokens
    net = Serial(TIED, POOL)
    kernel, cross = net.kernel(x), net.kernel(x[:2], x[2:5])
    np.testing.assert_allclose(kernel.ntk[:2, 2:5], cross.ntk, rtol=1e-12)
    np.testing.assert_allclose(np.diagonal(kernel.ntk), net.kernel_diagonal(x).ntk, rtol=1e-12)


@variants
def test_zeros_parallel_and_opposite_sequences(layer):
    x = sequences(24, 1, *SHAPE[1:])
    x = np.concatenate([x, x, -x, 2 * x * [[[1], [0], [1], [1]]], 0 * x])
    embed = replace(EMBED, b_std=0.0)
    kernel = Serial(embed, layer, Relu(), Residual(layer), POOL, Dense(1)).kernel(x)
    assert np.isfinite(kernel.ntk).all()
    assert (kernel.nngp[4] == 0).all()
    np.testing.assert_allclose(kernel.nngp[0, 1], kernel.nngp[0, 0], rtol=1e-14)
    np.testing.assert_allclose(kernel.ntk[0, 1], kernel.ntk[0, 0], rtol=1e-14)
    np.testing.assert_allclose(kernel.ntk[2, 2], kernel.ntk[0, 0], rtol=1e-14)
    value, rates = with_rates(layer)[1](jnp.array([layer.qk_std, layer.ov_std]), x)
    assert all(jnp.isfinite(leaf).all() for leaf in (value, *rates))


def test_what_cancels_counts_as_zero():
    # Two opposite tokens of one length, and equal weights: what their average leaves is rounding.
    token = sequences(26, 1, 1, 5)
    net = Serial(FREE, Relu(), POOL, Dense(1))
    for kernel_of in (net.kernel, jax.jit(net.kernel)):
        kernel = kernel_of(np.concatenate([token, -token], 1))
        assert kernel.nngp[0, 0] == 0
        assert np.isfinite(kernel.ntk).all()


@pytest.mark.parametrize("layer", [TIED, ROOT], ids=["tied", "root"])
def test_single_precision(layer):
    x = sequences(27, *SHAPE)
    double, single = (short(layer).kernel(x.astype(dtype)) for dtype in (float, np.float32))
    assert single.ntk.dtype == np.float32
    np.testing.assert_allclose(single.ntk, double.ntk, rtol=3e-5)
    params = layer.init(jax.random.key(0), (4, 5), "float32")
    assert layer.apply(params, x.astype(np.float32)).dtype == np.float32


# Finite networks.


@pytest.mark.parametrize("scaling", ["linear", "root"])
def test_a_finite_attention_is_the_sum_over_heads(scaling):
    x = sequences(28, 2, 3, 4)
    layer = Attention(5, 2, 3, 6, 1.5, 1.3, scaling=scaling, tied=False)
    params = layer.init(jax.random.key(0), x.shape[1:])
    total = np.zeros((2, 3, 5))
    for head in range(2):
        wq, wk, wv = (np.asarray(params[name])[:, head] / 2 for name in ("query", "key", "value"))
        for n, p in np.ndindex(2, 3):
            logits = [(x[n, p] @ wq) @ (x[n, q] @ wk) for q in range(3)]
            weights = np.exp(1.5 * np.array(logits) / (3 if scaling == "linear" else 3**0.5))
            mixed = weights / weights.sum() @ (x[n] @ wv)
            total[n, p] += 1.3 * mixed @ np.asarray(params["out"])[head] / 12**0.5
    np.testing.assert_allclose(layer.apply(params, x), total, rtol=1e-12)


def test_queries_start_as_keys_if_tied():
    for layer in (TIED, FREE, SOFTMAX):
        params = layer.init(jax.random.key(0), (3, 4))
        assert (params["query"] == params["key"]).all() == layer.tied
    assert (Attention(64, 4).key_width, Attention(2, 8).value_width) == (16, 1)


def test_finite_networks_train_and_linearise():
    x, y = sequences(29, 4, 3, 2), sequences(30, 4, 1)
    net = Serial(Conv(16, 1), Residual(Attention(16, 4, scaling="root")), POOL, Dense(1))
    params = net.init(jax.random.key(1), x.shape[1:])
    linear = ntk.linearize(net.apply, params)
    np.testing.assert_allclose(linear(params, x), net.apply(params, x), rtol=1e-12)
    run = ntk.train(net.apply, params, x, y, learning_rate=0.05, steps=20)
    assert run.losses[-1] < run.losses[0]


# What has no answer.


def through(layer, *after):
    return lambda x: Serial(layer, POOL, *after).kernel(x)


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (through(SOFTMAX), "draw them with ntk.attention_monte_carlo"),
        (through(replace(SOFTMAX, tied=True)), "grow without bound; use tied=False"),
        (through(replace(LINEAR, tied=False)), "outputs that vanish"),
        (through(TIED, TIED), "got vectors; it comes before"),
        (lambda x: TIED.kernel(x[..., None]), r"images of \(4, 3\) pixels; reshape them"),
        (lambda x: TIED.init(jax.random.key(0), (6,)), r"\(\*space, channels\)"),
        (lambda x: TIED.kernel(x[0]), r"\(n, \*space, channels\)"),
        (lambda x: Serial(TIED, POOL).kernel(x * np.nan), "x1 must be finite"),
        (lambda x: Serial(TIED, Residual(TIED, Conv(3, 1)), POOL).kernel(x), "keep the shape"),
        (lambda x: TIED.apply({"w": x}, x), "must be a dictionary of"),
        (lambda x: TIED.apply(TIED.init(jax.random.key(0), (4, 5)), x), "query must have shape"),
        (lambda x: Attention(0), "width must be at least 1"),
        (lambda x: Attention(4, 0), "heads must be at least 1"),
        (lambda x: Attention(4, key_width=0), "key_width must be at least 1"),
        (lambda x: Attention(4, value_width=0), "value_width must be at least 1"),
        (lambda x: Attention(4, qk_std=0.0), "qk_std must be a positive"),
        (lambda x: Attention(4, ov_std=-1.0), "ov_std must be a positive"),
        (lambda x: Attention(4, mechanism="relu"), "mechanism must be one of 'softmax', 'id"),
        (lambda x: Attention(4, scaling="sqrt"), "scaling must be one of 'linear', 'root'"),
    ],
)
def test_what_has_no_answer_is_refused(use, message):
    with pytest.raises(ValueError, match=message):
        use(sequences(31, 2, 4, 3))


@pytest.mark.parametrize("wrong", [{"width": 4.0}, {"width": 4, "tied": "yes"}])
def test_other_kinds_are_refused(wrong):
    with pytest.raises(TypeError):
        Attention(**wrong)
