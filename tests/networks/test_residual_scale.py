"""The factor of a branch: in both faces, as a hyperparameter, and without a trace when it is 1."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ntkbook as ntk

X = jnp.array([[1.0, 0.3, -0.2], [0.3, 0.9, 0.5], [2.0, 0.6, -0.4], [0.0, 0.0, 0.0]])


def network(scale, w_std=1.3, b_std=0.2, blocks=2, **options):
    branch = ntk.Residual(ntk.Relu(), ntk.Dense(8, w_std, b_std), **options, scale=scale)
    return ntk.Serial(ntk.Dense(8), *[branch] * blocks, ntk.Dense(1))


def test_apply_is_the_formula_in_numpy():
    net = ntk.Residual(ntk.Relu(), ntk.Dense(3, 0.7), scale=-0.4)
    params = net.init(jax.random.key(0), (3,))
    x, w = np.asarray(X), np.asarray(params[1]["w"])
    expected = x - 0.4 * 0.7 / np.sqrt(3) * np.maximum(x, 0) @ w
    np.testing.assert_allclose(net.apply(params, X), expected, rtol=1e-14)


@pytest.mark.parametrize("scale", [0.3, 2.0, -0.3])
def test_a_scaled_branch_is_one_with_scaled_weights_and_biases(scale):
    scaled, weighed = network(scale), network(1.0, abs(scale) * 1.3, abs(scale) * 0.2)
    for name in ("nngp", "ntk"):
        for call in (lambda net: net.kernel(X), lambda net: net.kernel_diagonal(X)):
            got, wanted = (getattr(call(net), name) for net in (scaled, weighed))
            np.testing.assert_allclose(got, wanted, rtol=1e-13, atol=1e-14)
    shares = [jax.tree.leaves(net.kernel_shares(X)) for net in (scaled, weighed)]
    for got, wanted in zip(*shares, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-13, atol=1e-14)


def test_without_a_factor_nothing_changes():
    plain = ntk.Residual(ntk.Relu(), ntk.Dense(8))
    assert plain == ntk.Residual(ntk.Relu(), ntk.Dense(8), scale=1)
    assert repr(plain).endswith(", parametrization='ntk'))")
    assert plain.hyperparameters() == ((), {"w_std": 1.0, "b_std": 0.0})
    half = ntk.Residual(ntk.Relu(), ntk.Dense(8), scale=0.5)
    assert half != plain
    assert eval(repr(half), vars(ntk)) == half
    assert half.hyperparameters() == (*plain.hyperparameters(), {"scale": 0.5})


def test_the_kernel_is_differentiated_in_the_scale():
    net, weight = network(0.5), jnp.cos(jnp.arange(16.0)).reshape(4, 4)

    def total(scale, direct=False):
        if direct:
            kernel = network(float(scale)).kernel(X)
        else:
            own = list(net.hyperparameters())
            own[1] = own[2] = (*own[1][:2], {"scale": scale})
            kernel = net.kernel(X, hyperparameters=tuple(own))
        return (weight * (kernel.ntk + kernel.nngp)).sum()

    for scale in (0.0, 0.3, 1.0):
        assert total(scale) == pytest.approx(float(total(scale, direct=True)), rel=1e-13)
        slope = (total(scale + 1e-5, direct=True) - total(scale - 1e-5, direct=True)) / 2e-5
        assert jax.grad(total)(scale) == pytest.approx(float(slope), rel=1e-7, abs=1e-8)


def test_another_scale_compiles_nothing(caplog):
    network(0.5).kernel(X)
    for scale in (0.7, 0.0):
        caplog.clear()
        with jax.log_compiles(), caplog.at_level("WARNING"):
            network(scale).kernel(X)
        assert not [e.message for e in caplog.records if "Compiling" in e.message]
    large = jnp.tile(X, (80, 1))  # several tiles: the layers are one program
    network(0.5).kernel(large)
    caplog.clear()
    with jax.log_compiles(), caplog.at_level("WARNING"):
        network(0.7).kernel(large)
    assert not [e.message for e in caplog.records if "Compiling" in e.message]


def test_large_and_small_matrices_agree():
    net = network(0.6)
    x = jax.random.normal(jax.random.key(0), (300, 3))
    np.testing.assert_allclose(net.kernel(x).ntk[:4, :4], net.kernel(x[:4]).ntk, rtol=1e-13)


def test_finite_kernels_know_the_scale():
    net = network(0.6)
    params = net.init(jax.random.key(1), (3,))
    first, second = (
        ntk.empirical_ntk(net.apply, params, X, method=m) for m in ("factorised", "contraction")
    )
    np.testing.assert_allclose(first, second, rtol=1e-12)


@pytest.mark.parametrize(
    ("scale", "error", "message"),
    [
        (np.nan, ValueError, "scale must be a finite number, got nan"),
        ("1", TypeError, "scale must be a finite number"),
        (ntk.Relu(), TypeError, "scale must be a finite number"),
    ],
)
def test_other_scales_are_refused(scale, error, message):
    with pytest.raises(error, match=message):
        network(scale)
    with pytest.raises(TypeError, match=r"scale must be a known number.*hyperparameters"):
        jax.grad(lambda s: network(s).kernel(X).ntk.sum())(0.5)
    own = ((), {"w_std": 1.0, "b_std": 0.0}, {"scale": np.inf})
    with pytest.raises(ValueError, match=r"hyperparameters\[2\]\['scale'\] must be a finite"):
        ntk.Residual(ntk.Relu(), ntk.Dense(3), scale=0.5).kernel(X, hyperparameters=own)
