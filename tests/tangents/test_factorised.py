"""The factorised path of convolutions: against contraction, in blocks, and which way is taken."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkbook import (
    Attention,
    AvgPool,
    Conv,
    Dense,
    Dropout,
    Erf,
    Flatten,
    GlobalAveragePool,
    LayerNorm,
    Relu,
    Residual,
    Serial,
    Tanh,
    empirical_ntk,
    empirical_shares,
    tangent_features,
)
from ntkbook.tangents import empirical, factorised, layer_shares
from ntkbook.tangents.factorised import Plan, by_factors, factorisable, plan_of
from ntkbook.tangents.layer_shares import Sizes

IMAGES = (5, 4), (9,)


def drawn(seed):
    """A network of convolutions with options at random, its parameters, two sets of images."""
    rng = np.random.default_rng(seed)
    space = IMAGES[seed % 2]
    outputs = int(rng.integers(1, 4))

    def conv(width, **fixed):
        free = {
            "shape": tuple(rng.integers(1, 4, len(space)).tolist()),
            "strides": tuple(rng.integers(1, 3, len(space)).tolist()),
            "padding": str(rng.choice(["same", "valid", "circular"])),
            "b_std": float(rng.choice([0.0, 0.4])),
            "parametrization": str(rng.choice(["ntk", "standard"])),
        }
        return Conv(width, **(free | fixed))

    same = {"strides": 1, "padding": str(rng.choice(["same", "circular"]))}
    small = {"shape": (2,) * len(space), **same}
    ends = [[Flatten(), Dense(3, b_std=0.2), Erf()], [GlobalAveragePool()]]
    net = Serial(
        conv(3, **same),
        Tanh(),
        Serial(
            Residual(LayerNorm(), Dropout(0.5), conv(3, **same), scale=0.7),
            AvgPool((2,) * len(space), 1),
        ),
        conv(4),
        Relu(),
        *([conv(2, **small)] if rng.integers(2) else []),
        *ends[rng.integers(2)],
        Dense(outputs, b_std=0.1),
    )
    keys = jax.random.split(jax.random.key(seed), 3)
    images = [jax.random.normal(key, (n, *space, 2)) for key, n in zip(keys, (4, 3), strict=False)]
    try:
        return net, net.init(keys[2], images[0].shape[1:]), images
    except ValueError:  # a window larger than what is left of the images
        return drawn(seed + 100)


def agree(got, expected):
    np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-10 * np.abs(expected).max())


@pytest.mark.parametrize("seed", range(8))
def test_random_convolutions_agree_with_contraction(seed):
    net, params, (x1, x2) = drawn(seed)
    x = None if seed % 4 < 2 else x2
    outputs = ("full", "full", "trace", "mean")[seed % 3 + seed // 4]

    def theta(method):
        return empirical_ntk(net.apply, params, x1, x, outputs=outputs, method=method)

    expected = theta("contraction")
    agree(theta("auto"), expected)
    # Both ways in turn, in several blocks, whatever costs less.
    layers = factorised._layers(net, x1)
    plan = Plan(tuple((seed + i) % 3 > 0 for i in range(len(layers))), (2, 1), 0)
    (sums,) = by_factors(net, plan, expected.ndim == 2, False, params, x1, x)
    agree(sums / (layers[-1].width if outputs == "mean" else 1), expected)


@pytest.mark.parametrize(("seed", "outputs"), [(0, "full"), (1, "mean")])
def test_shares_of_convolutions_add_up(seed, outputs, monkeypatch):
    net, params, (x1, x2) = drawn(seed)
    whole = empirical_ntk(net.apply, params, x1, x2, outputs=outputs, method="contraction")
    foreign = empirical_shares(lambda p, x: net.apply(p, x), params, x1, x2, outputs=outputs)
    for memory in (2**29, 2**13):
        monkeypatch.setattr(empirical, "JACOBIAN_BYTES", memory)
        shares = empirical_shares(net.apply, params, x1, x2, outputs=outputs)
        agree(sum(jax.tree.leaves(shares)), whole)
        assert jax.tree.structure(shares) == jax.tree.structure(params)
        for got, expected in zip(jax.tree.leaves(shares), jax.tree.leaves(foreign), strict=True):
            agree(got, expected)


@pytest.mark.parametrize(("n", "limit"), [(3, 1), (4, 2**8), (5, 2**30)])
def test_pairs_of_pixels_computed_a_few_at_a_time(n, limit, monkeypatch):
    net = Serial(Conv(4, (2, 2), b_std=0.3), Relu(), Flatten(), Dense(2))
    x = jax.random.normal(jax.random.key(0), (n, 3, 2, 2))
    params = net.init(jax.random.key(1), x.shape[1:])
    monkeypatch.setattr(layer_shares, "_PAIRS", limit)
    monkeypatch.setattr(layer_shares, "_PAIRS_OF_A_CARD", limit)
    j = np.asarray(tangent_features(net.apply, params, x))
    for trace, equation in ((False, "iap,jbp->ijab"), (True, "iap,jap->ij")):
        (theta,) = by_factors(net, Plan((True, True), (n, n), 0), trace, False, params, x, None)
        agree(theta, np.einsum(equation, j, j))


# Measured with a network of one such convolution, ReLU, Flatten and Dense, in float32.
@pytest.mark.parametrize("trace", [True, False])
def test_the_way_of_a_layer_where_both_were_timed(trace):
    few, many = Sizes(16, 9 * 256, 256), Sizes(64, 9 * 64, 64)
    assert few.by_pixels(10, trace, 32, None)  # 0.08 s, contraction 5.0 s on the same busy cores
    assert not many.by_pixels(10, trace, 64, None)  # pairs of pixels alone took 1.1 s to 0.26
    first = Sizes(64, 9 * 3, 64)
    assert not first.by_pixels(10, trace, 64, None)  # 0.7 s to 0.02
    assert Sizes(1, 10**4, 10**3).by_pixels(10, trace, 1, 1)  # a dense layer, always


@pytest.mark.parametrize("n2", [None, 3])
@pytest.mark.parametrize("trace", [True, False])
def test_a_layer_goes_the_way_of_fewer_operations(trace, n2):
    rng = np.random.default_rng(0)
    taken = []
    for _ in range(200):
        sizes = Sizes(*(2 ** rng.uniform(1, 10, 3)).astype(int).tolist())
        k, n1 = int(2 ** rng.uniform(0, 5)), int(2 ** rng.uniform(0, 8))
        gradients, pixels = sizes.operations(k, trace, n1, n2)
        taken.append(sizes.by_pixels(k, trace, n1, n2))
        assert taken[-1] == (sizes.pixels == 1 or pixels < gradients)
    assert 20 < sum(taken) < 180


def method_of(monkeypatch, net, x, **keywords):
    """What `empirical_ntk` takes for shapes alone: nothing is computed."""
    params = jax.eval_shape(lambda key: net.init(key, x[1:], "float32"), jax.random.key(0))
    images = jax.ShapeDtypeStruct(x, "float32")
    monkeypatch.setattr(empirical, "forward_operations", lambda *_: keywords.get("forward"))
    k = net.shape_after(x[1:])[-1]
    known = factorisable(net.apply)
    trace = keywords.get("trace", True)
    return empirical._chosen_method(net.apply, known, trace, params, images, None, k)


def classifier(channels, outputs=10):
    return Serial(Conv(channels, (3, 3)), Relu(), Flatten(), Dense(outputs))


def test_the_method_at_the_sizes_that_were_timed(monkeypatch):
    for trace in (True, False):
        for x in ((32, 4, 4, 256), (64, 8, 8, 64)):
            got = method_of(monkeypatch, classifier(x[-1]), x, trace=trace)
            assert got == "factorised"
    plans = [
        plan_of(classifier(x[-1]), True, jax.ShapeDtypeStruct(x, "float32"), None, 4, 2**29)
        for x in ((32, 4, 4, 256), (64, 8, 8, 64))
    ]
    assert plans[0] == Plan((True, True), (32, 32), 0)
    assert plans[1] == Plan((False, True), (64, 64), 9 * 64 * 64)


def test_gradients_that_fill_blocks_leave_the_choice_to_the_estimates(monkeypatch):
    net, x = classifier(512), (64, 32, 32, 512)  # gradients of 24 million entries an example
    assert method_of(monkeypatch, net, x, forward=5e9) == "factorised"
    assert method_of(monkeypatch, net, x, forward=1e7) == "products"


def test_blocks_hold_what_they_may():
    net, x = classifier(64), jax.ShapeDtypeStruct((1000, 8, 8, 64), "float32")
    plan = plan_of(net, True, x, None, 4, 2**26)
    example = 4 * 10 * (9 * 64 + 1) * 64 + 4 * (4096 + 10 * 10)
    assert plan.blocks[0] * example <= 2**26 < 2 * plan.blocks[0] * example
    assert plan_of(net, True, x, None, 4, 1).blocks == (1, 1)


@dataclass(frozen=True)
class Doubled(Conv):
    def apply(self, params, x):
        return 2 * super().apply(params, x)


@pytest.mark.parametrize("layer", [Doubled(3, 2), Attention(4)])
def test_what_may_compute_something_else_has_no_factors(layer):
    net = Serial(Conv(3, 2), layer, Flatten(), Dense(2))
    assert factorisable(net.apply) is None
    x = jax.random.normal(jax.random.key(0), (3, 4, 2))
    params = net.init(jax.random.key(1), x.shape[1:])
    with pytest.raises(ValueError, match="expects f to be net.apply, net being Dense and Conv"):
        empirical_ntk(net.apply, params, x, method="factorised")
    j = np.asarray(tangent_features(net.apply, params, x))
    agree(empirical_ntk(net.apply, params, x), np.einsum("iap,jbp->ijab", j, j))


def test_jit_vmap_grad_and_float32():
    net, params, (x, _) = drawn(0)

    def theta(params, x):
        return empirical_ntk(net.apply, params, x, outputs="trace", method="factorised")

    expected = theta(params, x)
    agree(jax.jit(theta)(params, x), expected)
    batched = jax.jit(jax.vmap(theta, in_axes=(None, 0)))(params, jnp.stack([x, 2 * x]))
    agree(batched[0], expected)
    slope = jax.jit(jax.grad(lambda x: theta(params, x).sum()))(x)
    contracted = jax.grad(
        lambda x: empirical_ntk(net.apply, params, x, outputs="trace", method="contraction").sum()
    )(x)
    agree(slope, contracted)
    low = jax.tree.map(lambda a: a.astype("float32"), params)
    got = theta(low, x.astype("float32"))
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_a_bar_over_blocks(capsys, monkeypatch):
    net, params, (x, _) = drawn(0)
    whole = empirical_ntk(net.apply, params, x, progress=True)
    assert "1/1" in capsys.readouterr().err
    monkeypatch.setattr(empirical, "JACOBIAN_BYTES", 1)
    agree(empirical_ntk(net.apply, params, x, method="factorised", progress=True), whole)
    assert "10/10" in capsys.readouterr().err
