"""Which functions and arguments the tangent folder takes, what it says of others, what it keeps."""

import functools
import gc
import weakref

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkbook import (
    Dense,
    Serial,
    empirical_ntk,
    empirical_shares,
    linearize,
    monte_carlo_kernel,
    ntk_vector_product,
    tangent_features,
    taylor,
)


def five(key, shape):
    return jax.random.normal(key, (5,))


CALLS = {
    "contraction": lambda f, p, x: empirical_ntk(f, p, x),
    "products": lambda f, p, x: empirical_ntk(f, p, x, x[:2], method="products"),
    "shares": lambda f, p, x: empirical_shares(f, p, x),
    "features": tangent_features,
    "vector": lambda f, p, x: ntk_vector_product(f, p, x, jnp.ones(len(x))),
    "sampled": lambda f, p, x: monte_carlo_kernel((five, f), jax.random.key(0), x, samples=2),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_what_a_function_captured_is_freed_with_it(call, inputs):
    traces = []

    def capturing(array):
        def f(params, x):
            traces.append(x.shape)
            return jnp.tanh(x @ array) @ params

        return f

    class Model:
        def __init__(self, array):
            self.array = array

        def apply(self, params, x):
            return jnp.tanh(x @ self.array) @ params

    captured = jax.random.normal(jax.random.key(0), (4, 5))
    f, model = capturing(captured), Model(jnp.cos(captured))
    alive = [weakref.ref(thing) for thing in (captured, f, model, model.array)]
    call(f, jnp.ones(5), inputs[0])
    call(model.apply, jnp.ones(5), inputs[0])
    # While it lives, what was compiled for it lives too.
    before = len(traces)
    call(f, jnp.ones(5), inputs[0])
    assert len(traces) == before
    assert all(reference() is not None for reference in alive)
    del captured, f, model
    gc.collect()
    assert [reference() for reference in alive] == [None] * 4


def test_a_bound_method_is_compiled_for_once(inputs):
    traces = []

    class Model:
        def apply(self, params, x):
            traces.append(x.shape)
            return x @ params

    model, other = Model(), Model()
    for _ in range(2):
        empirical_ntk(model.apply, jnp.ones(4), inputs[0])
    once = len(traces)
    empirical_ntk(other.apply, jnp.ones(4), inputs[0])
    assert len(traces) == 2 * once


def test_a_function_without_weak_references_serves(inputs):
    class Slots:
        __slots__ = ()

        def __call__(self, params, x):
            return x @ params

    x = inputs[0]
    np.testing.assert_allclose(empirical_ntk(Slots(), jnp.ones(4), x), x @ x.T, rtol=1e-13)


class Unhashable:
    """A model by value, as those of Equinox are: equal to others, and without a hash."""

    __hash__ = None

    def __eq__(self, other):
        return isinstance(other, Unhashable)

    def __call__(self, x):
        return x

    def with_parameters(self, params, x):
        return x @ params


class WithParameters(Unhashable):
    def __call__(self, params, x):
        return x @ params


def scaled(params, x, scale):
    return x @ params * scale


def test_partial_functions_serve(inputs):
    x, ones = inputs[0], jnp.ones(4)
    for wrap in (functools.partial, jax.tree_util.Partial):
        f = wrap(scaled, scale=np.full(1, 2.0))
        np.testing.assert_allclose(empirical_ntk(f, ones, x), 4 * x @ x.T, rtol=1e-13)
    f = Unhashable().with_parameters  # a method has a hash, whatever it is bound to
    np.testing.assert_allclose(empirical_ntk(f, ones, x), x @ x.T, rtol=1e-13)


FUNCTIONS = (
    empirical_ntk,
    empirical_shares,
    tangent_features,
    lambda f, p, x: ntk_vector_product(f, p, x, np.ones(3)),
)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(
    ("f", "params", "x", "message"),
    [
        (Unhashable(), jnp.ones(2), jnp.ones((3, 2)), r"f must take \(params, x\), got Unhashable"),
        (WithParameters(), jnp.ones(2), jnp.ones((3, 2)), "f must be hashable.*pass a function"),
        (eqx.nn.Linear(2, 1, key=jax.random.key(0)), jnp.ones(2), jnp.ones((3, 2)), "combine"),
        (Serial(Dense(1)), jnp.ones(2), jnp.ones((3, 2)), "got Serial.*pass model.apply"),
        (
            {"w": 1.0},
            jnp.ones(2),
            jnp.ones((3, 2)),
            r"f must be a function f\(params, x\), got dict",
        ),
        (lambda p, x, key: x @ p, jnp.ones(2), jnp.ones((3, 2)), "missing a required.*'key'"),
        (lambda p, x: np.tanh(x) @ p, jnp.ones(2), jnp.ones((3, 2)), "f must be traceable by JAX"),
        (
            lambda p, x: x @ p if p.sum() > 0 else -x @ p,
            jnp.ones(2),
            jnp.ones((3, 2)),
            "without Python branches",
        ),
        (lambda p, x: x @ p + 1j, jnp.ones(2), jnp.ones((3, 2)), "f must give real floating"),
        (lambda p, x: x @ p["w"], {"w": jnp.ones(2), "n": 3}, jnp.ones((3, 2)), r"params\['n'\]"),
        (
            lambda p, x: x @ p["w"],
            {"w": jnp.ones(2), "key": jax.random.key(0)},
            jnp.ones((3, 2)),
            r"params\['key'\] must be a real floating array, got key<fry>",
        ),
        (lambda p, x: x["a"] @ p, jnp.ones(2), {"a": jnp.ones((3, 2))}, "one array.*got dict"),
        (lambda p, x: x[0] @ p, jnp.ones(2), [jnp.ones((3, 2)), jnp.ones(3)], "got list"),
        (lambda p, x: x @ p, jnp.ones(2), None, "got NoneType"),
        (lambda p, x: x @ p, jnp.ones(2), np.array(["a", "b"]), "one array of numbers"),
        (
            lambda p, x: p,
            jnp.ones(2),
            jax.random.split(jax.random.key(0), 3),
            "one array of numbers.*key<fry>",
        ),
    ],
)
def test_plain_mistakes_are_named(function, f, params, x, message):
    with pytest.raises(TypeError, match=message):
        function(f, params, x)


def test_an_error_of_the_function_says_where_it_comes_from():
    with pytest.raises(TypeError) as caught:
        empirical_ntk(lambda p, x: x @ p, jnp.ones(3), jnp.ones((4, 2)))
    # Beside a note of JAX's own.
    assert "raised by f(params, x) itself, for x of shape (4, 2), float64" in caught.value.__notes__


def test_what_is_not_finite_is_named():
    x, w, nan = jnp.ones((3, 2)), jnp.ones(2), jnp.array([1.0, jnp.nan])
    calls = {
        "x1": lambda: empirical_ntk(quadratic, w, x * nan, x),
        "x2": lambda: empirical_shares(quadratic, w, x, x * nan),
        "params": lambda: empirical_ntk(quadratic, w * nan, x),
        "x": lambda: tangent_features(quadratic, w, x * nan),
        "v": lambda: ntk_vector_product(quadratic, w, x, jnp.full(3, jnp.nan)),
    }
    for name, call in calls.items():
        with pytest.raises(ValueError, match=f"must be finite, .*; {name} holds NaN or infinity"):
            call()


def quadratic(params, x):
    return (x @ params) ** 2


def test_half_precision_that_overflows():
    params = jnp.ones(2, "float16")
    with pytest.raises(ValueError, match="float16 ends at 6.55e.04, so convert params and x"):
        empirical_ntk(lambda p, x: x @ p, params, jnp.full((2, 2), 300.0, "float16"))


def linear(params, x):
    return x @ params


ONES = jnp.ones((3, 2))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: empirical_ntk(linear, jnp.ones(2, complex), ONES),
            TypeError,
            "params must be a real floating array, got complex128",
        ),
        (
            lambda: tangent_features(linear, {"w": np.ones(2, int)}, ONES),
            TypeError,
            r"params\['w'\] must be a real floating array, got int64",
        ),
        (lambda: empirical_ntk(linear, (), ONES), ValueError, "params must hold at least one"),
        (
            lambda: empirical_ntk(lambda p, x: p @ x, jnp.ones(3), ONES),
            ValueError,
            r"f must map inputs \(3, 2\) to outputs \(3,\) or \(3, k\), got \(2,\)",
        ),
        (
            lambda: empirical_ntk(lambda p, x: (x @ p, 0.0), jnp.ones(2), ONES),
            ValueError,
            "f must map .* got tuple",
        ),
        (
            lambda: empirical_ntk(linear, jnp.ones(2), ONES[:0]),
            ValueError,
            "at least one example",
        ),
        (
            lambda: empirical_ntk(linear, jnp.ones(2), ONES, jnp.ones((3, 4))),
            ValueError,
            r"x2 must have shape \(any, 2\), got \(3, 4\)",
        ),
        (
            lambda: empirical_ntk(linear, jnp.ones(2), ONES * jnp.nan),
            ValueError,
            "the empirical kernel must be finite",
        ),
        (
            lambda: empirical_ntk(linear, jnp.ones(2), ONES, outputs="sum"),
            ValueError,
            "outputs must be one of 'full', 'trace', 'mean', got 'sum'",
        ),
        (
            lambda: empirical_ntk(linear, jnp.ones(2), ONES, method="fast"),
            ValueError,
            "method must be one of",
        ),
        (
            lambda: empirical_ntk(linear, jnp.ones(2), ONES, method="factorised"),
            ValueError,
            "expects f to be net.apply",
        ),
        (
            lambda: ntk_vector_product(linear, jnp.ones(2), ONES, jnp.ones(4)),
            ValueError,
            r"v must have shape \(3,\), got \(4,\)",
        ),
        (
            lambda: empirical_ntk(linear, jnp.ones(2), ONES, ONES[:0]),
            ValueError,
            "x2 must hold at least one example",
        ),
        (
            lambda: linearize(Serial(Dense(1)), jnp.ones(2)),
            TypeError,
            "f must be a function f.params, x., got Serial",
        ),
        (lambda: taylor(linear, jnp.ones(2), order=3), ValueError, "order must be 1 or 2, got 3"),
        (
            lambda: linearize(linear, jnp.ones(2))({"w": jnp.ones(2)}, ONES),
            ValueError,
            "new_params must have the structure of params",
        ),
        (
            lambda: linearize(linear, jnp.ones(2))(jnp.ones(3), ONES),
            ValueError,
            r"new_params must have shape \(2,\), got \(3,\)",
        ),
    ],
)
def test_bad_arguments_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_stored_batch_statistics_are_no_parameters(inputs):
    variables = {"params": {"w": jnp.ones((5, 3))}, "batch_stats": {"mean": jnp.zeros(3)}}

    def f(v, x):
        return x @ v["params"]["w"] - v["batch_stats"]["mean"]

    x = jnp.ones((4, 5))
    with pytest.warns(UserWarning, match="'batch_stats' beside 'params'"):
        empirical_ntk(f, variables, x, outputs="trace")
