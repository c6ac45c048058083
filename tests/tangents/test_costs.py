"""The automatic choice of a method, and that blocks compute no more than they say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkbook import count_parameters, empirical_ntk, tangent_features
from ntkbook.tangents import empirical
from ntkbook.tangents.costs import (
    Cost,
    block_sizes,
    costs,
    faster_method,
    forward_operations,
)

BUDGET = 2**29


def fastest(*arguments, **keywords):
    estimates = costs(*arguments, jacobian_bytes=BUDGET, **keywords)
    return faster_method(estimates, 2**32)


def test_the_choice_where_the_methods_were_timed():
    """Each of these was timed; the other method took two and more times as long."""
    assert fastest(64, None, 10, 10**7) == "products"  # 30 s, contraction: hours once, minutes
    assert fastest(64, None, 10, 9 * 10**5) == "products"  # 5 s to 29 s
    assert fastest(24, None, 10, 3 * 10**6) == "products"  # 6 s to 36 s
    assert fastest(300, None, 10, 20_000, forward=9e6) == "contraction"  # 18 s to 100 s and more


def test_ten_million_parameters_take_minutes_and_little_memory():
    estimate = costs(64, None, 10, 10**7, jacobian_bytes=BUDGET)
    assert estimate["products"].seconds < 180
    assert estimate["products"].bytes < 2**32
    assert estimate["contraction"].seconds > 180


def test_costs_grow_as_the_work():
    def of(n1, n2=None, k=1, **keywords):
        return costs(n1, n2, k, 10**6, jacobian_bytes=BUDGET, **keywords)

    for method in ("contraction", "products"):
        assert of(1000)[method].seconds > 3 * of(400)[method].seconds
        assert of(1000, 1000)[method].seconds > 1.3 * of(1000)[method].seconds
        assert of(100, k=10)[method].seconds > 8 * of(100)[method].seconds
        assert of(100, forward=1e9)[method].seconds > of(100)[method].seconds
    assert of(100, k=10, trace=True)["contraction"] < of(100, k=10)["contraction"]
    assert of(900, 30)["products"] == of(30, 900)["products"]
    assert of(100, itemsize=8)["products"].bytes == 2 * of(100)["products"].bytes


def test_the_fastest_that_fits_else_the_smallest():
    estimates = {"quick": Cost(1.0, 100.0), "slow": Cost(2.0, 10.0)}
    assert faster_method(estimates, 100) == "quick"
    assert faster_method(estimates, 50) == "slow"
    assert faster_method(estimates, 1) == "slow"


@pytest.mark.parametrize("n", [1, 3, 10, 64, 1000])
@pytest.mark.parametrize("fit", [0, 1, 5, 17, 64])
def test_blocks_fit(n, fit):
    rows, columns = block_sizes(n, None, 8, 8 * fit)
    if n <= fit:
        assert (rows, columns) == (n, n)
    else:
        assert 1 <= columns <= rows <= max(fit, 1)
        assert columns <= max(1, fit // 4)
        assert rows % columns == 0
        assert 2 * rows > fit


def test_operations_of_a_network():
    params = {"a": jnp.ones((30, 40)), "b": jnp.ones((40, 5))}
    x = jnp.ones((7, 30))
    counted = forward_operations(lambda p, x: jnp.tanh(x @ p["a"]) @ p["b"], params, x)
    assert counted == pytest.approx(2 * (30 * 40 + 40 * 5), rel=0.05)
    kernel = jnp.ones((3, 3, 3, 3))
    images = jnp.ones((2, 3, 16, 16))
    counted = forward_operations(
        lambda p, x: jax.lax.conv(x, p, (1, 1), "SAME").mean((2, 3)), kernel, images
    )
    assert counted > 16 * 16 * kernel.size
    assert jax.jit(lambda x: x * (forward_operations(lambda p, x: x, params, x) is None))(x).all()


def small(params, x):
    return jnp.tanh(x @ params["w"]) @ params["v"]


def drawn(n, k=2):
    keys = jax.random.split(jax.random.key(0), 3)
    params = {"w": jax.random.normal(keys[0], (3, 6)), "v": jax.random.normal(keys[1], (6, k))}
    return params, jax.random.normal(keys[2], (n, 3))


@pytest.mark.parametrize("budget", [0, 1, 3, 5, 8])
@pytest.mark.parametrize("outputs", ["full", "trace", "mean"])
def test_blocks_and_methods_agree_with_the_jacobian(budget, outputs, monkeypatch):
    params, x = drawn(11)
    other = x[:4] * 0.7
    monkeypatch.setattr(empirical, "JACOBIAN_BYTES", budget * 16 * count_parameters(params))
    for x2 in (None, other):
        j1, j2 = (tangent_features(small, params, z) for z in (x, x if x2 is None else x2))
        expected = np.einsum("iap,jbp->ijab", j1, j2)
        if outputs != "full":
            expected = np.einsum("ijaa->ij", expected) / (2 if outputs == "mean" else 1)
        for method in ("contraction", "products", "auto"):
            got = empirical_ntk(small, params, x, x2, outputs=outputs, method=method)
            np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-13)
            if x2 is None and method != "auto":
                turned = got.T if got.ndim == 2 else got.transpose(1, 0, 3, 2)
                np.testing.assert_allclose(got, turned, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("sizes", [(128, 16), (4, 2)])
def test_products_in_tiles(sizes, monkeypatch):
    from ntkbook.tangents import strips

    monkeypatch.setattr(strips, "PRODUCT_ROWS", sizes[0])
    monkeypatch.setattr(strips, "PRODUCT_COLUMNS", sizes[1])
    params, x = drawn(11)
    for x2 in (None, x[:3], jnp.concatenate([x, x])):
        whole = empirical_ntk(small, params, x, x2, method="contraction")
        got = empirical_ntk(small, params, x, x2, method="products")
        np.testing.assert_allclose(got, whole, rtol=1e-12, atol=1e-13)


def test_a_held_jacobian_is_computed_once(monkeypatch, capsys):
    """12 examples in 3 blocks of 4: 3 held, and beside them 8 + 4 columns, one at a time."""
    params, x = drawn(12)
    monkeypatch.setattr(empirical, "JACOBIAN_BYTES", 4 * 16 * count_parameters(params))
    assert empirical.jacobian_sizes(params, x, None, 2) == (4, 1)
    computed = []

    def f(params, x):
        y = small(params, x)
        jax.debug.callback(lambda _: computed.append(len(x)), x.sum())
        return y

    empirical_ntk(f, params, x, method="contraction", progress=True)
    jax.effects_barrier()
    # The probe's 12 rows by themselves and once together, then 12 held and 12 beside.
    assert sum(computed) == 12 + 12 + 12 + 12
    assert "15/15" in capsys.readouterr().err
    empirical_ntk(f, params, x, method="products", progress=True)
    assert "1/1" in capsys.readouterr().err


def test_auto_asks_only_when_one_block_does_not_do(monkeypatch):
    params, x = drawn(12)
    asked = []

    def record(*arguments, **keywords):
        asked.append(keywords)
        return costs(*arguments, **keywords)

    monkeypatch.setattr(empirical, "costs", record)
    empirical_ntk(small, params, x)
    assert not asked
    monkeypatch.setattr(empirical, "JACOBIAN_BYTES", 1)
    empirical_ntk(small, params, x, outputs="mean")
    (keywords,) = asked
    assert keywords["trace"]
    assert keywords["itemsize"] == 8
    assert keywords["forward"] >= 2 * count_parameters(params)


def test_progress_needs_tqdm(monkeypatch):
    import sys

    params, x = drawn(3)
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with pytest.raises(ImportError, match="progress=True needs tqdm: pip install tqdm"):
        empirical_ntk(small, params, x, progress=True)


def test_one_block_is_one_step_of_the_bar(capsys):
    params, x = drawn(3)
    empirical_ntk(small, params, x, method="contraction", progress=True)
    assert "1/1" in capsys.readouterr().err
