"""Layer-wise shares of the infinite kernel, a sweep without compilation, and foreign layers."""

from dataclasses import dataclass, replace

import jax
import numpy as np
import pytest

import ntkbook as ntk


def network(parametrization="ntk", width=64, scale=1.3):
    def dense(width, w_std, b_std=0.0):
        return ntk.Dense(width, w_std, b_std, parametrization)

    branch = ntk.Residual(ntk.Erf(), dense(width, 0.5, 0.3))
    return ntk.Serial(
        dense(width, scale, 0.2), ntk.Relu(), dense(width, 0.7), branch, ntk.Relu(), dense(1, 1.1)
    )


@pytest.fixture(scope="module")
def x():
    return jax.random.normal(jax.random.key(0), (300, 5))


@pytest.mark.parametrize("parametrization", ["ntk", "standard"])
def test_shares_have_the_form_of_the_parameters_and_sum_to_the_kernel(parametrization, x):
    net = network(parametrization)
    for rows in (x, x[:9]):
        shares, whole = net.kernel_shares(rows), net.kernel(rows).ntk
        params = net.init(jax.random.key(0), (5,))
        assert jax.tree.structure(shares) == jax.tree.structure(params)
        np.testing.assert_allclose(sum(jax.tree.leaves(shares)), whole, rtol=1e-13)
        for share in jax.tree.leaves(shares):
            np.testing.assert_array_equal(share, share.T)
    cross = net.kernel_shares(x[:4], x[4:7])
    assert {share.shape for share in jax.tree.leaves(cross)} == {(4, 3)}


def test_a_share_is_what_the_kernel_loses_when_a_layer_is_frozen(x):
    # The last layer's share is the NNGP before it; the first layer's, of a linear network, is
    # w2² w1² x·x/d.
    net = ntk.Serial(ntk.Dense(8, 1.5), ntk.Dense(1, 0.7, 0.3))
    shares, inner = net.kernel_shares(x[:6]), x[:6] @ x[:6].T / 5
    np.testing.assert_allclose(shares[0]["w"], 0.7**2 * 1.5**2 * inner, rtol=1e-13)
    np.testing.assert_allclose(shares[1]["w"], 0.7**2 * 1.5**2 * inner, rtol=1e-13)
    np.testing.assert_allclose(shares[1]["b"], 0.09, rtol=1e-13)


def test_shares_are_those_of_wide_networks(x):
    net = ntk.Serial(ntk.Dense(4000, 1.3, 0.2), ntk.Relu(), ntk.Dense(1, 1.1, 0.4))
    params = net.init(jax.random.key(1), (5,))
    finite = ntk.empirical_shares(net.apply, params, x[:5])
    limit = net.kernel_shares(x[:5])
    size = float(net.kernel(x[:5]).ntk.max())
    for ours, theirs in zip(jax.tree.leaves(limit), jax.tree.leaves(finite), strict=True):
        # Averages over 4,000 units, of a spread of a few times their mean.
        np.testing.assert_allclose(ours, theirs, atol=0.1 * size)


def test_a_network_without_parameters_has_no_shares(x):
    assert ntk.Serial(ntk.Serial()).kernel_shares(x) == ((),)


def test_a_sweep_over_scales_and_widths_compiles_nothing(caplog):
    x = jax.random.normal(jax.random.key(0), (300, 6))

    def compiled(n, **changes):
        caplog.clear()
        with jax.log_compiles(), caplog.at_level("WARNING"):
            network(**changes).kernel(x[:n])
        return [r.message for r in caplog.records if "Finished XLA compilation" in r.message]

    for n in (20, 300):
        assert compiled(n)
        for changes in ({"scale": 2.0}, {"width": 32}, {"scale": 0.3, "width": 7}):
            assert compiled(n, **changes) == []


@pytest.mark.parametrize("family", [ntk.LeakyRelu, ntk.Rbf, ntk.Gaussian])
def test_a_sweep_over_the_number_of_an_activation_compiles_nothing(family, x, caplog):
    def kernel(number):
        caplog.clear()
        net = ntk.Serial(ntk.Dense(1, 1.3, 0.2), family(number), ntk.Dense(1, 1.3, 0.2))
        with jax.log_compiles(), caplog.at_level("WARNING"):
            ntk_matrix = net.kernel(x[:20]).ntk
        compiled = [r.message for r in caplog.records if "Finished XLA compilation" in r.message]
        return compiled, ntk_matrix

    first = kernel(0.4)[1]
    for number in (0.3, 1.7):
        compiled, matrix = kernel(number)
        assert compiled == []
        assert not np.allclose(matrix, first)


@dataclass(frozen=True)
class Scale(ntk.Layer):
    """Multiplies by `factor`, and says that it multiplies by `said`."""

    factor: float = 2.0
    said: float = 2.0
    gradient: float = 2.0

    def apply(self, params, x):
        return self.factor * x

    def propagate(self, signal, hyperparameters):
        q = self.said**2
        ntk = self.gradient**2 * signal.ntk
        return replace(signal, var1=q * signal.var1, var2=q * signal.var2, ntk=ntk)


@dataclass(frozen=True)
class Gain(ntk.Layer):
    """Multiplies each entry by a trained number; `own` is what it counts for the gradients."""

    own: float = 1.0

    def _init(self, key, features, dtype):
        return jax.random.normal(key, (features,), dtype)

    def apply(self, params, x):
        return params * x

    def propagate(self, signal, hyperparameters):
        return replace(signal, ntk=signal.ntk + self.own * signal.nngp, gaussian=False)


@pytest.mark.parametrize(
    ("layer", "name"),
    [(Scale(said=1.0), "nngp"), (Scale(gradient=1.0), "ntk"), (Gain(own=0.0), "ntk"),
     (Gain(own=2.0), "ntk")],
)  # fmt: skip
@pytest.mark.parametrize("nested", [False, True])
def test_a_layer_that_contradicts_itself_is_found_out(layer, name, nested, x):
    inside = ntk.Residual(layer, ntk.Dense(16)) if nested else layer
    net = ntk.Serial(ntk.Dense(16), inside, ntk.Dense(1))
    for call in (net.kernel, net.kernel_diagonal, jax.jit(lambda x: net.kernel(x).ntk)):
        with pytest.raises(ValueError, match=f"propagate contradicts apply.*the {name} of"):
            call(x[:3])


@pytest.mark.parametrize("layer", [Scale(), Scale(0.1, 0.1, 0.1), Scale(-3.0, 3.0, 3.0), Gain()])
def test_a_layer_that_agrees_with_itself_is_let_through(layer, x):
    net = ntk.Serial(ntk.Dense(16), layer, ntk.Dense(1))
    assert np.isfinite(net.kernel(x[:3]).ntk).all()


def test_shares_of_a_foreign_layer_with_parameters_are_refused(x):
    with pytest.raises(TypeError, match="kernel_shares knows Dense layers"):
        ntk.Serial(ntk.Dense(16), Gain()).kernel_shares(x[:3])
    # Without parameters there is nothing to be left out.
    assert len(ntk.Serial(ntk.Dense(16), Scale()).kernel_shares(x[:3])) == 2


def test_progress_is_shown_to_those_who_ask(x, capsys):
    network().kernel(x, progress=True)
    assert "3/3" in capsys.readouterr().err
    network().kernel(x)
    assert capsys.readouterr().err == ""
