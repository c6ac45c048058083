"""Attention drawn at random: sampled networks against the limit, and its kernels by logits."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from token_loops import (
    FREE,
    POOL,
    ROOT,
    SOFTMAX,
    TIED,
    VARIANTS,
    attended,
    embedded,
    sequences,
    weights_of,
)

import ntkbook as ntk
from ntkbook import (
    Attention,
    AvgPool,
    Conv,
    Dense,
    Flatten,
    Kernel,
    LayerNorm,
    Relu,
    Residual,
    Serial,
    attention_monte_carlo,
)

# Sampled networks.


def apart(theory, mean, error):
    """How far the nngp and the ntk are from a mean, in standard errors."""
    off = jax.tree.map(lambda a, m, e: jnp.abs((a - m) / e).max(), theory, mean, error)
    return np.array([off.nngp, off.ntk])


@cache
def drawn(body):
    """A program for the kernels of networks with this body: 64 outputs, gradients of one."""
    net = Serial(*body, Dense(64, 1.1))

    def draw(key, x):
        params = net.init(key, x.shape[1:])
        f = net.apply(params, x)
        one = ntk.empirical_ntk(lambda params, x: net.apply(params, x)[:, :1], params, x)
        return Kernel(f @ f.T / 64, one)

    # One after the other: the gradients of many networks at once fill the memory.
    return jax.jit(lambda keys, x: jax.lax.map(lambda key: draw(key, x), keys))


def sampled(body, x, seed=0, samples=256):
    """The mean kernels of networks with this body, and their errors."""
    kernels = drawn(body)(jax.random.split(jax.random.key(seed), samples), x)
    return (
        jax.tree.map(lambda a: a.mean(0), kernels),
        jax.tree.map(lambda a: a.std(0, ddof=1) / samples**0.5, kernels),
    )


def limit(body, x):
    return Serial(*body, Dense(1, 1.1)).kernel(x)


def wide(layer, **widths):
    return replace(layer, **{"heads": 2, "key_width": 256, "value_width": 16} | widths)


@pytest.mark.parametrize(
    ("widths", "end"), [((3, 2, 3, 2), POOL), ((8, 1, 16, 4), Flatten())], ids=["narrow", "wide"]
)
def test_the_identity_over_the_root_is_a_mean_at_any_width(widths, end):
    # On raw inputs both kernels are means of polynomials in the weights, without any limit.
    x = sequences(3, 2, 3, 4)
    body = Attention(*widths, 0.8, 0.9, "identity", "root"), end
    assert (apart(limit(body, x), *sampled(body, x, samples=5000)) < 4).all()


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("layer", VARIANTS.values(), ids=VARIANTS)
def test_sampled_networks(layer, seed):
    x, end = sequences(4 + seed, 2, 4, 3), POOL if layer in (FREE, ROOT) else Flatten()
    if layer == FREE:  # what is left of its logits adds terms of order qk_std²/key_width
        layer = replace(layer, qk_std=0.25)
    body = Conv(256, 1, w_std=1.4), wide(layer), end
    assert (apart(limit(body, x), *sampled(body, x, seed)) < 4).all()


def test_sampled_networks_of_raw_tokens():
    # Heads of many channels are enough: the tokens themselves need not have many.
    x, body = sequences(6, 2, 4, 3), (wide(TIED, key_width=1024), Flatten())
    assert (apart(limit(body, x), *sampled(body, x)) < 4).all()


def test_sampled_transformers_of_two_blocks():
    x = sequences(6, 2, 3, 3)
    layer = wide(TIED, width=256)
    block = Residual(LayerNorm(), layer), Residual(LayerNorm(), Conv(256, 1), Relu(), Conv(256, 1))
    body = Conv(256, 1), *block * 2, POOL
    assert (apart(limit(body, x), *sampled(body, x, samples=128)) < 4).all()


def test_nearest_wrong_theories_are_refused():
    x = sequences(4, 2, 4, 3)
    body = Conv(256, 1, w_std=1.4), wide(TIED), Flatten()
    k, theta = embedded(x, 1.4, 0.0)
    left = np.array([weights_of(TIED, k[i, i]) for i in range(2)])
    even, ones = np.full_like(left, 0.25), np.broadcast_to(np.eye(4), left.shape)

    def theory(left, right, gain=2):
        def seen(a):
            a = 1.69 * np.einsum("iab,ijbd,jcd->ijac", left, a, right)
            return 1.21 * np.einsum("ijaa->ij", a) / 4

        return Kernel(seen(k), (1 + gain) * seen(k) + seen(theta))

    kernels = sampled(body, x, 1, 512)
    assert (apart(theory(left, left), *kernels) < 4).all()
    assert (apart(theory(even, even), *kernels) > 8).all()
    assert (apart(theory(left, ones), *kernels) > 6).all()
    assert apart(theory(left, left, 1), *kernels)[1] > 8
    assert apart(theory(left, left, 4), *kernels)[1] > 8


# Drawn logits.


def tokens(x, w_std=1.4):
    return Kernel(*map(jnp.asarray, embedded(x, w_std, 0.0)))


@pytest.mark.parametrize("seed", range(3))
def test_drawn_logits_of_the_identity_are_the_closed_form(seed):
    before = tokens(sequences(7 + seed, 2, 3, 4))
    before = Kernel(before.nngp, before.ntk + 0.3 * before.nngp**3)
    estimate = attention_monte_carlo(ROOT, jax.random.key(seed), before, 20_000)
    theory = Kernel(*attended(ROOT, *map(np.asarray, (before.nngp, before.ntk))))
    assert (apart(theory, *estimate) < 4).all()


@pytest.mark.parametrize("seed", range(2))
def test_drawn_logits_of_the_softmax_are_those_of_many_heads(seed):
    x = sequences(10 + seed, 2, 3, 4)
    estimate = attention_monte_carlo(SOFTMAX, jax.random.key(seed), tokens(x), 20_000)
    body = Conv(256, 1, w_std=1.4), wide(SOFTMAX, heads=4, key_width=128), POOL
    means, errors = sampled(body, x, seed)
    for name in ("nngp", "ntk"):
        mean, error = (1.21 * getattr(e, name).mean((2, 3)) for e in estimate)
        mean += 1.21 * estimate[0].nngp.mean((2, 3)) * (name == "ntk")
        off = np.abs(mean - getattr(means, name))
        assert (off < 4 * np.hypot(error, getattr(errors, name))).all()


def test_one_set_of_draws_serves_all_pairs():
    x = sequences(12, 3, 3, 4)
    before, key = Serial(Conv(8, 1, w_std=1.4), AvgPool(1)).kernel(x), jax.random.key(0)
    np.testing.assert_allclose(before.ntk, tokens(x).ntk, rtol=1e-13)
    few = attention_monte_carlo(SOFTMAX, key, before, 50)
    again = attention_monte_carlo(SOFTMAX, key, before, 50)
    assert (few[0].ntk == again[0].ntk).all()
    for part in (few[0].nngp, few[0].ntk):
        whole = np.asarray(part).swapaxes(1, 2).reshape(9, 9)
        np.testing.assert_allclose(whole, whole.T, rtol=1e-12)
        assert np.linalg.eigvalsh(whole).min() > -1e-12
    # The error is that of the mean: a quarter of it for sixteen times as many draws.
    many = attention_monte_carlo(SOFTMAX, key, before, 800)
    ratio = few[1].ntk / many[1].ntk
    assert 3 < np.median(ratio) < 5


def test_small_logits_average_all_tokens():
    before = tokens(sequences(13, 2, 3, 4))
    layer = replace(SOFTMAX, qk_std=1e-6)
    estimate = attention_monte_carlo(layer, jax.random.key(0), before, 20)
    k, theta = attended(FREE, *map(np.asarray, (before.nngp, before.ntk)))
    np.testing.assert_allclose(estimate[0].nngp, k, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(estimate[0].ntk, theta, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("heads", [1, 4])
def test_one_head_is_not_gaussian_and_many_are(heads):
    x = sequences(14, 1, 4, 8)
    layer = Attention(1, heads, 64, 1, qk_std=1.5, scaling="root")

    def draw(key):
        # The heads themselves, added up: their output weights would be a second mixture.
        params = layer.init(key, (4, 8)) | {"out": jnp.ones((heads, 1, 1))}
        return layer.apply(params, x)[0, 0, 0]

    keys = jax.random.split(jax.random.key(heads), 40_000)
    out = np.asarray(jax.jit(lambda keys: jax.lax.map(draw, keys, batch_size=500))(keys))
    # What it is to be: the variance of a head, from the law of its logits.
    k = np.asarray(tokens(x, 1.0).nngp[0, 0])
    root = np.linalg.cholesky(k)
    noise = np.random.default_rng(0).standard_normal((100_000, 4, 4))
    weights = np.asarray(jax.nn.softmax(1.5 * root @ noise @ root.T))[:, 0]
    v = np.einsum("sa,ab,sb->s", weights, k, weights)
    theory = 3 * v.var() / v.mean() ** 2 / heads
    parts = (out.reshape(40, -1) ** 4).mean(1) / (out**2).mean() ** 2 - 3
    error = parts.std(ddof=1) / 40**0.5
    # Keys of finite width have logits with tails: 4 % and 1 % at 32 and 128 keys.
    assert abs(parts.mean() - theory) < 4 * error + 0.05 * theory
    if heads == 1:
        assert parts.mean() > 8 * error


# What has no answer.


@pytest.mark.parametrize(
    ("layer", "kernel", "samples", "message"),
    [
        (TIED, tokens, 4, "scaling 'root'"),
        (SOFTMAX, tokens, 1, "at least 2"),
        (SOFTMAX, lambda x: Kernel(x, x), 4, "kernel.nngp must have shape"),
    ],
)
def test_what_has_no_answer_is_refused(layer, kernel, samples, message):
    with pytest.raises(ValueError, match=message):
        attention_monte_carlo(layer, jax.random.key(0), kernel(sequences(31, 2, 4, 3)), samples)


@pytest.mark.parametrize(("layer", "key"), [(Dense(4), jax.random.key(0)), (SOFTMAX, 0)])
def test_other_kinds_are_refused(layer, key):
    with pytest.raises(TypeError):
        attention_monte_carlo(layer, key, tokens(sequences(32, 2, 4, 3)))
