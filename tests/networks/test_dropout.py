"""Dropout at infinite width: against the maps of deep layers, pairs of pixels, and draws."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ntkbook as ntk
from ntkbook import (
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
)

X = np.random.default_rng(0).standard_normal((4, 3))
IMAGES = np.random.default_rng(1).standard_normal((3, 2, 3, 2))


def deep(layers, keep, activation=Relu, w_std=1.3, b_std=0.4, width=64):
    block = [layer for _ in range(layers) for layer in (Dense(width, w_std, b_std), activation())]
    if keep is not None:
        pairs = zip(block[::2], block[1::2], strict=True)
        block = [layer for pair in pairs for layer in (*pair, Dropout(keep))]
    return Serial(*block, Dense(1, w_std, b_std))


@pytest.mark.parametrize("activation", [Relu, Erf])
@pytest.mark.parametrize("keep", [0.95, 0.5])
def test_dropout_in_every_layer_is_the_map_of_deep_layers(activation, keep):
    gap = 0.3
    unit = np.array([[1, 0, 0], [1 - gap, np.sqrt(1 - (1 - gap) ** 2), 0]])
    net = deep(4, keep, activation, 1.3, 0.0)
    said = net.kernel(np.sqrt(3) * unit / 1.3)  # variance one in layer 1
    known = ntk.deep_signal(activation(), gap, [5], w_var=1.69, b_var=0.0, q=1.0, keep=keep)
    for entry in range(2):
        np.testing.assert_allclose(said.nngp[entry, entry], known.q[0], rtol=1e-13)
        np.testing.assert_allclose(said.ntk[entry, entry], known.ntk_diagonal[0], rtol=1e-13)
    np.testing.assert_allclose(said.nngp[0, 1], known.q[0] * (1 - known.gap[0]), rtol=1e-13)
    np.testing.assert_allclose(said.ntk[0, 1], known.ntk[0], rtol=1e-13)
    plain = deep(4, None, activation, 1.3, 0.0).kernel(np.sqrt(3) * unit / 1.3)
    assert abs(plain.ntk[0, 1] / said.ntk[0, 1] - 1) > 0.01


def test_one_layer_by_hand():
    plain = Serial(Dense(8, 1.3, 0.4), Relu(), Dense(1, 1.1)).kernel(X)
    said = Serial(Dense(8, 1.3, 0.4), Relu(), Dropout(0.7), Dense(1, 1.1)).kernel(X)
    for name in ("nngp", "ntk"):
        by_hand = np.array(getattr(plain, name))
        np.fill_diagonal(by_hand, by_hand.diagonal() / 0.7)
        np.testing.assert_allclose(getattr(said, name), by_hand, rtol=1e-14)


@pytest.mark.parametrize("end", [GlobalAveragePool(), Flatten()])
def test_pixels_lose_channels_of_their_own(end):
    layers = Conv(8, (1, 1), w_std=1.3, b_std=0.4), Relu(), Dropout(0.6), end, Dense(1)
    said = Serial(*layers).kernel(IMAGES)
    # A filter of one pixel: a dense layer of each of them.
    pixels = IMAGES.reshape(-1, 2)
    alone = Serial(Dense(8, 1.3, 0.4), Relu(), Dense(1)).kernel(pixels)
    for name in ("nngp", "ntk"):
        pairs = np.array(getattr(alone, name))
        np.fill_diagonal(pairs, pairs.diagonal() / 0.6)
        pairs = pairs.reshape(3, 6, 3, 6)
        by_hand = pairs.mean((1, 3)) if end == GlobalAveragePool() else np.einsum("ipjp->ij", pairs)
        by_hand /= 1 if end == GlobalAveragePool() else 6
        np.testing.assert_allclose(getattr(said, name), by_hand, rtol=1e-13)


NETS = {
    "vectors": Serial(
        *(Dense(128, 1.5, 0.1), Erf(), Dropout(0.7), Dense(128, 1.2), Relu(), Dropout(0.5)),
        Dense(16, 1.0, 0.2),
    ),
    "residual": Serial(
        *(Dense(128, 1.2), Residual(Relu(), Dropout(0.6), Dense(128)), LayerNorm()),
        *(Dropout(0.8), Dense(16)),
    ),
    "images": Serial(
        *(Conv(96, (2, 2), w_std=1.4), Relu(), Dropout(0.5), Conv(96, (2, 2), b_std=0.3)),
        *(Relu(), Dropout(0.5), GlobalAveragePool(), Dense(16)),
    ),
}


@pytest.mark.parametrize(
    ("kind", "beside"), [("vectors", True), ("residual", False), ("images", False)]
)
def test_sampled_networks(kind, beside):
    x = IMAGES[:2] if kind == "images" else X
    x2 = x[:2] if beside else None  # the same rows, dropped by themselves
    kernel = NETS[kind].kernel(x, x2)
    samples = 128 if kind == "images" else 512
    drawn = ntk.monte_carlo_kernel(NETS[kind], jax.random.key(0), x, x2, samples=samples)
    own = NETS[kind].kernel_diagonal(x)
    for name in ("nngp", "ntk"):
        said, error = getattr(kernel, name), getattr(drawn.standard_error, name)
        off = np.abs(getattr(drawn.mean, name) - said)
        size = np.asarray(getattr(own, name))
        size = np.sqrt(np.outer(size, size[: said.shape[1]]))
        assert (off < 4 * error + 2 * 2 / 96 * size).all(), name
        first = np.abs(said[0, 0] - size[0, 0])
        assert (first < 1e-14) if not beside else (first > 6 * error[0, 0] + 0.05 * size[0, 0])


def test_equal_rows_are_two_inputs():
    net = NETS["vectors"]
    twice = net.kernel(X[[0, 0]])
    np.testing.assert_allclose(twice.nngp[0, 1], net.kernel(X[:1], X[:1]).nngp[0, 0], rtol=1e-14)
    assert twice.nngp[0, 1] < 0.8 * twice.nngp[0, 0]
    np.testing.assert_array_equal(twice.ntk.diagonal(), net.kernel_diagonal(X[[0, 0]]).ntk)


def test_tiles_shares_and_jit_agree():
    net, x = NETS["vectors"], np.random.default_rng(2).standard_normal((300, 5))
    whole = net.kernel(x)
    np.testing.assert_array_equal(whole.ntk, whole.ntk.T)
    np.testing.assert_allclose(whole.ntk.diagonal(), net.kernel_diagonal(x).ntk, rtol=1e-13)
    inside = jax.jit(net.kernel)(x)
    for name in ("nngp", "ntk"):
        size = float(np.abs(getattr(whole, name)).max())
        np.testing.assert_allclose(getattr(whole, name), getattr(inside, name), atol=1e-14 * size)
    shares = jax.tree.leaves(net.kernel_shares(x[:7]))
    np.testing.assert_allclose(sum(shares), whole.ntk[:7, :7], rtol=1e-13)
    single = net.kernel(x.astype(np.float32))
    assert single.ntk.dtype == np.float32
    np.testing.assert_allclose(single.ntk, whole.ntk, atol=3e-6 * float(whole.ntk.max()))


def test_derivative_in_keep():
    net = Serial(Dense(8, 1.3), Relu(), Dropout(0.5), Dense(8), Relu(), Dense(1))

    def value(keep):
        scales = list(net.hyperparameters())
        scales[2] = {"keep": keep}
        return net.kernel(X, hyperparameters=tuple(scales)).ntk[0, 0]

    step = 1e-5
    by_hand = (value(0.5 + step) - value(0.5 - step)) / (2 * step)
    np.testing.assert_allclose(jax.grad(value)(0.5), by_hand, rtol=1e-7)
    assert np.isnan(jax.jit(value)(1.5))


def test_special_inputs_and_depth():
    x = np.stack([X[0], -X[0], 3 * X[0], 0 * X[0]])
    for b_std in (0.0, 0.3):
        kernel = deep(300, 0.9, Erf, 1.2, b_std, width=1).kernel(x)
        assert all(np.isfinite(part).all() for part in (kernel.nngp, kernel.ntk))
    unbiased = deep(2, 0.9, Relu, 1.2, 0.0, width=1).kernel(x)
    np.testing.assert_array_equal(unbiased.nngp[3], 0)
    kept = deep(3, 1.0).kernel(x)
    np.testing.assert_allclose(kept.ntk, deep(3, None).kernel(x).ntk, rtol=1e-14)


def test_graphs_lose_channels_of_each_node():
    path = np.diag(np.ones(2), 1) + np.diag(np.ones(2), -1)
    nodes = np.random.default_rng(3).standard_normal((3, 2))
    parts = ntk.Aggregate(), Conv(64, 1), Relu(), Dropout(0.5), ntk.GlobalSumPool(), Dense(1)
    graphs = [(nodes, path), (nodes[:2], path[:2, :2])]
    said = ntk.graph_kernel(Serial(*parts), graphs).ntk
    plain = ntk.graph_kernel(Serial(*parts[:3], *parts[4:]), graphs).ntk
    np.testing.assert_allclose(said[0, 1], plain[0, 1], rtol=1e-13)
    alone = Serial(ntk.Aggregate(path), Conv(64, 1), Relu(), Flatten(), Dense(1))
    extra = 3 * alone.kernel(nodes[None]).ntk[0, 0]  # one more of each node's own
    np.testing.assert_allclose(said[0, 0], plain[0, 0] + extra, rtol=1e-12)


def test_inputs_that_lose_features_are_sampled_alone():
    """The masks of a first layer have nothing in common with the weights of a nested second."""
    net, x = Serial(Dropout(0.5), Serial(Dense(1))), np.ones((3, 6))
    drawn = ntk.monte_carlo_kernel(net, jax.random.key(0), x, samples=1024)
    off = np.abs(drawn.mean.nngp - (np.ones((3, 3)) + np.eye(3)))
    assert (off < 4 * drawn.standard_error.nngp).all()
    many = np.ones((258, 1))  # a row's number is exact in every dtype
    for dtype in (jnp.bfloat16, np.float32):
        rows = jnp.asarray(many, dtype)
        estimate = ntk.monte_carlo_kernel(net, jax.random.key(1), rows, samples=256)
        assert abs(float(estimate.mean.nngp[256, 257]) - 1) < 0.5


def test_small_keep_loses_no_digits():
    for keep in (1e-4, 1e-8):
        net = Serial(Dense(8, 1.3, 0.4), Relu(), Dropout(keep), Dense(1))
        plain = Serial(Dense(8, 1.3, 0.4), Relu(), Dense(1))
        x = X.astype(np.float32)
        said, known = (np.array(n.kernel(x).nngp) for n in (net, plain))
        np.fill_diagonal(said, keep * said.diagonal())
        np.testing.assert_allclose(said, known, rtol=1e-5)


@dataclasses.dataclass(frozen=True, init=False, repr=False)
class Block(Serial):
    """A container from elsewhere."""


@dataclasses.dataclass(frozen=True)
class Doubled(Dropout):
    """Dropout, twice as large, from elsewhere."""

    def apply(self, params, x, key=None):
        return 2 * super().apply(params, x, key)

    def propagate(self, signal, hyperparameters):
        after = super().propagate(signal, hyperparameters)
        parts = {name: 4 * getattr(after, name) for name in ("var1", "var2", "ntk")}
        return dataclasses.replace(after, **parts)


def test_layers_from_elsewhere_may_drop():
    plain = Serial(Dense(8), Relu(), Dropout(0.5), Dense(1)).kernel(X)
    block = Serial(Dense(8), Block(Relu(), Dropout(0.5)), Dense(1)).kernel(X)
    doubled = Serial(Dense(8), Relu(), Doubled(0.5), Dense(1)).kernel(X)
    np.testing.assert_allclose(block.ntk, plain.ntk, rtol=1e-14)
    np.testing.assert_allclose(doubled.nngp, 4 * plain.nngp, rtol=1e-14)
    assert ntk.check_layer(Doubled(0.5))


def test_a_branch_may_end_in_dropout():
    inside = Serial(Dense(8), Residual(Relu(), Dropout(0.5), Dense(8)), Dense(1)).kernel(X)
    end = Serial(Dense(8), Residual(Relu(), Dense(8), Dropout(0.5)), Dense(1)).kernel(X)
    apart = ~np.eye(4, dtype=bool)
    np.testing.assert_allclose(end.ntk[apart], inside.ntk[apart], rtol=1e-13)
    branch = Serial(Dense(8), Relu(), Dense(8)).kernel_diagonal(X)
    skip = Serial(Dense(8)).kernel_diagonal(X)
    np.testing.assert_allclose(end.nngp.diagonal(), skip.nngp + 2 * branch.nngp, rtol=1e-13)
    assert ntk.check_layer(Residual(Relu(), Dense(128), Dropout(0.6)))


def test_a_recurrent_layer_has_weights():
    states = ntk.Recurrent(8, Relu()), ntk.LastStep(), Dropout(0.5), Dense(1)
    x = np.random.default_rng(4).standard_normal((2, 3, 2))
    said = Serial(*states).kernel(x).nngp
    plain = Serial(*states[:2], Dense(1)).kernel(x).nngp
    np.testing.assert_allclose(said, plain * (1 + np.eye(2)), rtol=1e-13)


def test_the_finite_layer():
    x, key = jnp.ones((1000, 50)), jax.random.key(0)
    dropped = Dropout(0.8).apply((), x, key)
    assert set(np.unique(dropped)) == {0, 1.25}
    assert abs(float((dropped > 0).mean()) - 0.8) < 4 * (0.16 / x.size) ** 0.5
    np.testing.assert_array_equal(Dropout(0.8).apply((), x), x)
    np.testing.assert_array_equal(Dropout(1.0).apply((), x, key), x)
    net = Serial(Residual(Dropout(0.5), Dense(50)), Serial(Dropout(0.5)))
    params = net.init(key, (50,))
    branch = Dropout(0.5).apply((), x, jax.random.split(jax.random.split(key, 2)[0], 2)[0])
    expected = x + Dense(50).apply(params[0][1], branch)
    after = net.apply(params, x, key)
    kept = np.asarray(after != 0)
    np.testing.assert_allclose(np.asarray(after)[kept], 2 * np.asarray(expected)[kept], rtol=1e-12)
    assert 0.49 < kept.mean() < 0.51
    np.testing.assert_allclose(after, jax.jit(net.apply)(params, x, key), atol=1e-12)


def test_errors():
    for keep in (0, -0.1, 1.1, np.nan):
        with pytest.raises(ValueError, match=r"keep must be a number, 0 < keep <= 1, got"):
            Dropout(keep)
    with pytest.raises(TypeError, match="keep must be"):
        Dropout("half")
    with pytest.raises(TypeError, match="keep must be a known number"):
        jax.jit(lambda p: Dropout(p).apply((), X))(0.5)
    graphs = [(np.ones((2, 1)), np.ones((2, 2)) - np.eye(2))]
    parts = ntk.Aggregate(), Dropout(0.5), Conv(8, 1), Relu(), ntk.GlobalSumPool(), Dense(1)
    with pytest.raises(ValueError, match="a layer with weights before Dropout"):
        ntk.graph_kernel(Serial(*parts), graphs)
    for first in (
        *([], [LayerNorm()], [Residual(Dropout(0.5), Dense(3))]),
        *([Residual(Dense(3))], [Serial(Residual(Dense(3)))]),
    ):
        with pytest.raises(ValueError, match="a layer with weights before Dropout"):
            Serial(*first, Dropout(0.5), Dense(1)).kernel(X)
    with pytest.raises(ValueError, match="a Dense layer before each nonlinearity"):
        Serial(Dense(3), Dropout(0.5), Relu(), Dense(1)).kernel(X)
    with pytest.raises(TypeError, match="key"):
        Serial(Dense(3), Dropout(0.5)).apply(({"w": np.ones((3, 3))}, ()), X, 0)
    net = Serial(Dense(3), Relu(), Dropout(0.5), Dense(1))
    scales = ({"w_std": 1.0, "b_std": 0.0}, (), {"keep": 2.0}, {"w_std": 1.0, "b_std": 0.0})
    with pytest.raises(ValueError, match=r"hyperparameters\[2\]\['keep'\] must be a number"):
        net.kernel(X, hyperparameters=scales)
