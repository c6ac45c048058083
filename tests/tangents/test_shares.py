"""The shares of weights and biases, against the Jacobian column by column."""

import jax
import numpy as np
import pytest
from small_network import X1, X2, network

from ntkbook import (
    Dense,
    Serial,
    Tanh,
    count_parameters,
    empirical_ntk,
    empirical_shares,
    tangent_features,
)
from ntkbook.tangents import empirical


def expected_shares(f, params, x1, x2, outputs):
    """Slices of the whole Jacobian, in the order of the leaves, multiplied with themselves."""
    k = f(params, x1).reshape(len(x1), -1).shape[1]
    j1, j2 = (np.asarray(tangent_features(f, params, x)).reshape(len(x), k, -1) for x in (x1, x2))
    ends = np.cumsum([leaf.size for leaf in jax.tree.leaves(params)])
    shares = []
    for start, stop in zip([0, *ends[:-1]], ends, strict=True):
        share = np.einsum("iap,jbp->ijab", j1[..., start:stop], j2[..., start:stop])
        if outputs != "full" or k == 1:
            share = np.einsum("ijaa->ij", share) / (k if outputs == "mean" else 1)
        shares.append(share)
    return shares


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("outputs", ["full", "trace", "mean"])
@pytest.mark.parametrize(("k", "parametrization"), [(1, "ntk"), (3, "ntk"), (3, "standard")])
def test_shares_are_those_of_the_jacobian(k, parametrization, outputs, own):
    net = network(k, parametrization)
    f = net.apply if own else lambda p, x: net.apply(p, x)
    params = net.init(jax.random.key(1), (4,))
    for x2 in (None, X2):
        shares = empirical_shares(f, params, X1, x2, outputs=outputs)
        assert jax.tree.structure(shares) == jax.tree.structure(params)
        expected = expected_shares(f, params, X1, X1 if x2 is None else x2, outputs)
        for got, wanted in zip(jax.tree.leaves(shares), expected, strict=True):
            assert got.shape == wanted.shape
            np.testing.assert_allclose(got, wanted, rtol=1e-11, atol=1e-13)
        whole = empirical_ntk(f, params, X1, x2, outputs=outputs)
        np.testing.assert_allclose(sum(jax.tree.leaves(shares)), whole, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("examples", [100, 2])
def test_the_sum_has_the_bits_of_contraction(examples, dtype, monkeypatch):
    net = network(2)
    params, x = net.init(jax.random.key(1), (4,), dtype), X1.astype(dtype)
    size = examples * 2 * count_parameters(params) * x.dtype.itemsize
    monkeypatch.setattr(empirical, "JACOBIAN_BYTES", size)

    def f(params, x):
        return net.apply(params, x)

    leaves = jax.tree.leaves(empirical_shares(f, params, x))
    total = leaves[0]
    for leaf in leaves[1:]:
        total = total + leaf
    whole = empirical_ntk(f, params, x, method="contraction")
    assert total.dtype == whole.dtype == dtype
    assert (np.asarray(total) == np.asarray(whole)).all()


def test_shares_under_jit_and_a_layer_without_bias():
    net = Serial(Dense(3), Tanh(), Dense(1))
    params = net.init(jax.random.key(1), (4,))
    plain = empirical_shares(net.apply, params, X1)
    assert [sorted(share) for share in plain] == [["w"], [], ["w"]]
    compiled = jax.jit(lambda p: empirical_shares(net.apply, p, X1))(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), compiled, plain)


def test_bad_arguments_are_refused():
    net = network(1)
    params = net.init(jax.random.key(1), (4,))
    with pytest.raises(ValueError, match="outputs must be one of 'full', 'trace', 'mean'"):
        empirical_shares(net.apply, params, X1, outputs="sum")
    with pytest.raises(ValueError, match=r"x2 must have shape \(any, 4\), got \(3, 3\)"):
        empirical_shares(net.apply, params, X1, X2[:, :3])
