"""Functions whose rows see one another are refused, and no others, however they round."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkbook import (
    Dense,
    Elementwise,
    Relu,
    Serial,
    Tanh,
    empirical_ntk,
    empirical_shares,
    monte_carlo_kernel,
    ntk_vector_product,
    tangent_features,
)
from ntkbook.tangents.probes import require_independent_rows

RNG = np.random.default_rng(0)
KEY = jax.random.key(1)
WIDTH, OUTPUTS = 30, 3


def draw(dtype):
    x, w, v = (RNG.normal(size=shape) for shape in ((20, 5), (5, WIDTH), (WIDTH, OUTPUTS)))
    return {"w": jnp.asarray(w, dtype), "v": jnp.asarray(v, dtype)}, jnp.asarray(x, dtype)


def mlp(params, x):
    return jnp.tanh(x @ params["w"]) @ params["v"]


def normalised(axis):
    def f(params, x):
        z = x @ params["w"]
        z = z - z.mean(axis, keepdims=True)
        return jnp.tanh(z / jnp.sqrt((z**2).mean(axis, keepdims=True) + 1e-5)) @ params["v"]

    return f


def dropout(params, x):
    kept = jax.random.bernoulli(KEY, 0.5, (len(x), WIDTH))
    return (jnp.tanh(x @ params["w"]) * kept) @ params["v"]


TIED = {
    "batch statistics": normalised(0),
    "jitted": jax.jit(normalised(0)),
    "one output": lambda p, x: normalised(0)(p, x)[:, 0],
    "mean": lambda p, x: mlp(p, x) - mlp(p, x).mean(0),
    "largest": lambda p, x: mlp(p, x) - mlp(p, x).max(0),
    "softmax over rows": lambda p, x: jax.nn.softmax(mlp(p, x), axis=0),
    "norm of the batch": lambda p, x: mlp(p, x) / jnp.linalg.norm(mlp(p, x)),
    "attention": lambda p, x: jax.nn.softmax(x @ x.T) @ mlp(p, x),
    "dropout": dropout,
    "noise": lambda p, x: mlp(p, x) + 0.1 * jax.random.normal(KEY, (len(x), OUTPUTS)),
    "position": lambda p, x: mlp(p, x) * (1 + jnp.arange(len(x))[:, None]),
    "number of rows": lambda p, x: mlp(p, x) / len(x),
    "last row": lambda p, x: mlp(p, x) + x[-1:] @ p["w"] @ p["v"],
    "first row": lambda p, x: mlp(p, x - x[:1]),
    "row before": lambda p, x: mlp(p, jnp.roll(x, 1, 0)),
    "turned around": lambda p, x: mlp(p, x[::-1]),
    "sorted": lambda p, x: mlp(p, jnp.sort(x, 0)),
    "running sum": lambda p, x: jnp.cumsum(mlp(p, x), 0),
    "infinite alone": lambda p, x: mlp(p, x) / jnp.std(x, 0).sum(),
    "a thousandth": lambda p, x: mlp(p, x) + 1e-3 * mlp(p, x).mean(0),
    "a ten-thousandth": lambda p, x: mlp(p, x) + 1e-4 * mlp(p, x).max(0),
    "beside a large output": lambda p, x: (
        jnp.array([1e3, 1.0, 1.0]) * (mlp(p, x) + 1e-4 * mlp(p, x).max(0) * jnp.array([0, 1, 1]))
    ),
}


@pytest.mark.parametrize("f", TIED.values(), ids=TIED)
def test_rows_that_see_one_another_are_refused(f):
    params, x = draw("float32")
    with pytest.raises(ValueError, match=r"row \d+ of f\(params, x\) changes with the other rows"):
        require_independent_rows(f, params, x)
    if f is TIED["batch statistics"]:
        with pytest.raises(ValueError, match="^row 0 of"):
            require_independent_rows(f, params, x[:2])


def test_every_function_looks():
    params, x = draw("float64")
    f, v = TIED["batch statistics"], jnp.ones((20, OUTPUTS))
    calls = [
        lambda: empirical_ntk(f, params, x),
        lambda: empirical_ntk(f, params, x, method="products"),
        lambda: empirical_ntk(f, params, x[:1], x),
        lambda: empirical_shares(f, params, x),
        lambda: tangent_features(f, params, x),
        lambda: ntk_vector_product(f, params, x, v),
        lambda: monte_carlo_kernel((lambda key, shape: params, f), KEY, x, samples=2),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="freeze batch statistics"):
            call()


LARGEST = ("largest", "a ten-thousandth", "beside a large output")


@pytest.mark.parametrize("name", TIED)
def test_a_single_row_is_looked_at_too(name):
    params, x = draw("float64")

    def is_refused(row):
        try:
            empirical_ntk(TIED[name], params, row)
        except ValueError as error:
            return "row 0 of f(params, x) changes" in str(error)
        return False

    # Where the largest of all rows counts, it may be the row itself, but not of both signs.
    found = [is_refused(x[:1]), is_refused(-x[:1])]
    assert all(found) or (name in LARGEST and any(found))


def deep(depth, w_std):
    layers = [layer for _ in range(depth) for layer in (Dense(64, w_std), Tanh())]
    net = Serial(*layers, Dense(1))
    return lambda p, x: net.apply(p, x), net.init(KEY, (5,), "float32")


def test_rounding_is_no_dependence():
    params, x = draw("float32")
    half = {t: jax.tree.map(lambda a, t=t: a.astype(t), params) for t in ("float16", "bfloat16")}
    long = jnp.asarray(RNG.normal(size=(40, 20_000)), "float32")

    def mixed(params, x):
        low = jax.tree.map(lambda a: a.astype(jnp.bfloat16), params)
        return mlp(low, x.astype(jnp.bfloat16)).astype(jnp.float32)

    def reordered(params, x):
        """Sums taken in another order when alone, at arguments of a sine; and zeros."""
        step = 1 if len(x) == 1 else -1
        z = jnp.cumsum(x[:, ::step, None] * params["w"][::step, :OUTPUTS], 1)[:, -1]
        return jnp.sin(1e4 * z) * jnp.array([1, 1, 0], x.dtype)

    cases = {
        "two layers": (mlp, params, x),
        "layer norm": (normalised(1), params, x),
        "many features": (lambda p, x: jnp.tanh(x @ p), jnp.ones(20_000, "float32"), long),
        "cancelling": (lambda p, x: (mlp(p, x) + 1e4) - 1e4, params, x),
        "another order": (reordered, params, x),
        "centered": (lambda p, x: mlp(p, x) - mlp(params, x), params, x),
        "zero": (lambda p, x: 0 * mlp(p, x), params, x),
        "mixed precision": (mixed, params, x),
        "NaN in a row": (mlp, params, x.at[3].set(jnp.nan)),
        "infinite": (lambda p, x: mlp(p, x) / 0.0, params, x),
        "integers": (lambda p, x: p["w"][x].sum(1), params, jnp.arange(4)),
        "one row": (normalised(1), params, x[:1]),
        "one integer": (lambda p, x: p["w"][x].sum(1), params, jnp.arange(1)),
        "one row of zeros": (mlp, params, 0 * x[:1]),
        "one row of booleans": (lambda p, x: x * p["w"].sum(), params, jnp.array([True])),
        **{f"{t}": (mlp, p, x.astype(t)) for t, p in half.items()},
        **{f"depth {d}, w_std {s}": (*deep(d, s), x) for d, s in ((20, 1.5), (60, 3.0))},
    }
    for name, case in cases.items():
        try:
            require_independent_rows(*case)
        except ValueError as error:
            raise AssertionError(name) from error


def test_a_function_that_takes_no_row_alone_says_so():
    def pairs(params, x):
        if len(x) == 1:
            raise ValueError("of two at least")
        return mlp(params, x)

    params, x = draw("float64")
    with pytest.raises(
        ValueError, match=r"f must take any number of .* \(of two at least\) for one"
    ):
        empirical_ntk(pairs, params, x)


def test_what_is_not_looked_at(monkeypatch):
    from ntkbook.tangents import probes

    def refuse(*arguments):
        raise AssertionError("f was looked at")

    monkeypatch.setattr(probes, "compiled", refuse)
    x = draw("float64")[1]
    own = Serial(Dense(4), Relu(), Dense(1))
    foreign = Serial(Dense(4), Elementwise(jnp.sin, "sine"), Dense(1))
    params = own.init(KEY, (5,))
    empirical_ntk(own.apply, params, x)
    jax.jit(lambda p: empirical_ntk(foreign.apply, p, x))(params)
    with pytest.raises(AssertionError, match="looked at"):
        empirical_ntk(foreign.apply, params, x)


def test_a_layer_from_elsewhere_is_looked_at():
    class Centered(Relu):
        def apply(self, params, x):
            return x - x.mean(0)

    net = Serial(Dense(4), Centered(), Dense(1))
    x = draw("float64")[1]
    with pytest.raises(ValueError, match="row 0 of"):
        empirical_ntk(net.apply, net.init(KEY, (5,)), x)


@pytest.mark.parametrize("seed", range(3))
def test_a_mask_that_numpy_draws_for_each_trace_is_no_rounding(seed):
    rng = np.random.default_rng(seed)
    params, x = draw(jnp.float32)

    def masked(params, x):
        return mlp(params, x * (rng.random(x.shape) < 0.5) * 2)

    with pytest.raises(ValueError, match="changes with the other rows"):
        empirical_ntk(masked, params, x)


def test_outputs_whose_shape_depends_on_the_number_of_rows_are_named():
    params, x = draw(jnp.float32)
    with pytest.raises(ValueError, match="outputs of one shape however many rows"):
        empirical_ntk(lambda p, x: (x @ p["w"]) @ (x @ p["w"]).T, params, x)


def test_a_single_row_of_zeros_is_put_beside_others():
    params, x = draw("float64")
    with pytest.raises(ValueError, match=r"row 0 of f\(params, x\) changes"):
        empirical_ntk(TIED["mean"], params, 0 * x[:1])
