"""Empirical kernels and Taylor models, against finite differences and explicit loops."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from small_network import network

from ntkbook import (
    Conv,
    Dense,
    Flatten,
    Relu,
    Serial,
    Tanh,
    count_parameters,
    empirical_ntk,
    linearize,
    ntk_vector_product,
    tangent_features,
    taylor,
)
from ntkbook._base.summed import refuse_sum
from ntkbook.tangents import empirical, features

METHODS = ["contraction", "products", "factorised"]


def numpy_jacobian(f, params, x):
    """(n, k, P) by central differences, extrapolated to fourth order."""
    flat, unravel = ravel_pytree(params)
    flat = np.asarray(flat)
    evaluate = jax.jit(lambda flat: f(unravel(flat), x).reshape(len(x), -1))

    def difference(step, h):
        return (np.asarray(evaluate(flat + h * step)) - evaluate(flat - h * step)) / (2 * h)

    columns = [(4 * difference(e, 1e-3) - difference(e, 2e-3)) / 3 for e in np.eye(flat.size)]
    return np.stack(columns, axis=-1)


@pytest.mark.parametrize("outputs", [1, 3])
def test_kernel_agrees_with_finite_differences(outputs, inputs):
    x1, x2 = inputs
    net = network(outputs)
    params = net.init(jax.random.key(1), (4,))
    j1, j2 = (numpy_jacobian(net.apply, params, x) for x in inputs)
    features = tangent_features(net.apply, params, x1)
    np.testing.assert_allclose(features, j1.reshape(features.shape), atol=1e-9)
    for other, x in ((j1, None), (j2, x2)):
        full = np.zeros((4, len(other), outputs, outputs))
        for i, j, a, b in np.ndindex(full.shape):
            full[i, j, a, b] = sum(p * q for p, q in zip(j1[i, a], other[j, b], strict=True))
        trace = sum(full[..., a, a] for a in range(outputs))
        for kind, expected in (("full", full if outputs > 1 else trace), ("trace", trace)):
            got = empirical_ntk(net.apply, params, x1, x, outputs=kind)
            assert got.shape == expected.shape
            np.testing.assert_allclose(got, expected, atol=1e-8)


@pytest.mark.parametrize(
    ("k", "outputs", "parametrization"),
    [(1, "full", "ntk"), (3, "full", "standard"), (3, "trace", "ntk")],
)
def test_methods_agree_to_rounding(k, outputs, parametrization, inputs):
    x1, x2 = inputs
    net = network(k, parametrization)
    params = net.init(jax.random.key(1), (4,))
    for x in (None, x2):
        kernels = [
            empirical_ntk(net.apply, params, x1, x, outputs=outputs, method=method)
            for method in METHODS
        ]
        for kernel in kernels[1:]:
            np.testing.assert_allclose(kernel, kernels[0], rtol=1e-12, atol=1e-13)


def test_auto_takes_the_factorised_path_only_for_own_networks(inputs, monkeypatch):
    net = network(1)
    params = net.init(jax.random.key(1), (4,))

    def refuse(*arguments):
        raise AssertionError("the factorised path was taken")

    monkeypatch.setattr(empirical, "by_factors", refuse)
    empirical_ntk(lambda p, x: net.apply(p, x), params, inputs[0])
    with pytest.raises(AssertionError, match="path was taken"):
        empirical_ntk(net.apply, params, inputs[0])


def test_blocks_change_nothing(inputs, monkeypatch):
    x1, x2 = inputs
    net = network(2)
    params = net.init(jax.random.key(1), (4,))

    def f(params, x):
        return net.apply(params, x)

    whole = [empirical_ntk(f, params, x1, x) for x in (None, x2)]
    three_examples = 3 * 2 * 8 * count_parameters(params)
    monkeypatch.setattr(empirical, "JACOBIAN_BYTES", three_examples)
    for expected, x in zip(whole, (None, x2), strict=True):
        np.testing.assert_allclose(empirical_ntk(f, params, x1, x), expected, rtol=1e-13)


def test_gradients_of_convolutions_are_computed_for_a_few_examples_at_a_time(monkeypatch):
    x = np.random.default_rng(0).standard_normal((5, 6, 2))
    net = Serial(Conv(4, 3, b_std=0.3), Relu(), Flatten(), Dense(2))
    params = net.init(jax.random.key(0), x.shape[1:])
    whole = tangent_features(net.apply, params, x)
    signals = features._entries(jax.make_jaxpr(net.apply)(params, x[:1]).jaxpr)
    assert signals > count_parameters(params)
    for name in ("_SIGNALS", "_SIGNALS_OF_A_CARD"):
        monkeypatch.setattr(features, name, 2 * 2 * signals + 1)  # two examples of two outputs
    apart = [
        lambda params, x: net.apply(params, x),
        jax.jit(lambda params, x: net.apply(params, x)),
    ]
    for f in apart:  # functions that are not compiled yet
        assert features.examples_at_once(f, params, x) in (1, 2)
        np.testing.assert_allclose(tangent_features(f, params, x), whole, rtol=1e-13)
        theta = empirical_ntk(f, params, x, outputs="trace", method="contraction")
        np.testing.assert_allclose(theta, np.einsum("iap,jap->ij", whole, whole), rtol=1e-12)
    # Of dense layers the gradients are the larger part, and all are computed together.
    dense = Serial(Dense(8), Relu(), Dense(2))
    assert features.examples_at_once(dense.apply, dense.init(jax.random.key(0), (2,)), x[0]) == 6


def test_equinox_models_and_other_pytrees(inputs):
    x1, x2 = inputs
    model = eqx.nn.MLP(4, 2, 5, 2, activation=jnp.tanh, key=jax.random.key(3))
    params, static = eqx.partition(model, eqx.is_inexact_array)

    def f(params, x):
        return jax.vmap(eqx.combine(params, static))(x)

    j1, j2 = (numpy_jacobian(f, params, x) for x in inputs)
    expected = np.einsum("iap,jbp->ijab", j1, j2)
    for method in METHODS[:2]:
        got = empirical_ntk(f, params, x1, x2, method=method)
        np.testing.assert_allclose(got, expected, atol=1e-8)
    assert tangent_features(f, params, x1).shape == (4, 2, count_parameters(params))
    with pytest.raises(TypeError, match=r"activation must be a real floating array.*partition"):
        empirical_ntk(f, model, x1)


def test_outputs_without_an_axis_and_inputs_with_more(inputs):
    def f(params, x):
        return jnp.tanh(jnp.einsum("nab,ab->n", x, params["w"])) * params["scale"]

    params = {"w": jnp.ones((2, 3)), "scale": jnp.array(2.0)}
    x = jax.random.normal(jax.random.key(0), (5, 2, 3))
    jacobian = numpy_jacobian(f, params, x)[:, 0]
    np.testing.assert_allclose(tangent_features(f, params, x), jacobian, atol=1e-9)
    np.testing.assert_allclose(empirical_ntk(f, params, x), jacobian @ jacobian.T, atol=1e-8)
    column = empirical_ntk(lambda p, x: f(p, x)[:, None], params, x)
    np.testing.assert_allclose(column, jacobian @ jacobian.T, atol=1e-8)


@pytest.mark.parametrize("outputs", [1, 3])
def test_product_with_a_vector(outputs, inputs):
    x1, x2 = inputs
    net = network(outputs)
    params = net.init(jax.random.key(1), (4,))
    theta = np.asarray(empirical_ntk(net.apply, params, x1, x2)).reshape(4, 3, outputs, outputs)
    v = np.asarray(jax.random.normal(jax.random.key(2), (3, outputs)))
    expected = np.einsum("ijab,jb->ia", theta, v)
    product = ntk_vector_product(net.apply, params, x1, v, x2)
    np.testing.assert_allclose(product, expected, rtol=1e-12, atol=1e-13)
    if outputs == 1:
        flat = ntk_vector_product(net.apply, params, x1, v[:, 0], x2)
        np.testing.assert_allclose(flat, expected[:, 0], rtol=1e-12, atol=1e-13)
    symmetric = ntk_vector_product(net.apply, params, x2, v)
    np.testing.assert_allclose(symmetric, ntk_vector_product(net.apply, params, x2, v, x2))


def test_taylor_remainders_shrink_with_their_order(inputs):
    x = inputs[0]
    net = network(2)
    params = net.init(jax.random.key(1), (4,))
    direction = net.init(jax.random.key(2), (4,))
    steps = 2.0 ** -np.arange(6, 12)
    for order in (1, 2):
        model = taylor(net.apply, params, order=order)
        errors = []
        for step in steps:
            new = jax.tree.map(lambda p, u, h=step: p + h * u, params, direction)
            errors.append(np.linalg.norm(net.apply(new, x) - model(new, x)))
        slope = np.polyfit(np.log(steps), np.log(errors), 1)[0]
        assert abs(slope - (order + 1)) < 0.1


def test_linear_model_is_the_jacobian_times_the_step(inputs):
    x = inputs[0]
    net = network(2)
    params, new = (net.init(jax.random.key(seed), (4,)) for seed in (1, 2))
    step = np.asarray(ravel_pytree(new)[0] - ravel_pytree(params)[0])
    expected = net.apply(params, x) + numpy_jacobian(net.apply, params, x) @ step
    np.testing.assert_allclose(linearize(net.apply, params)(new, x), expected, atol=1e-8)


def test_second_order_model_of_a_quadratic_is_exact():
    def f(params, x):
        return x @ params["a"] * params["b"]

    params, new = ({"a": jnp.array([a, 1.0]), "b": jnp.array(b)} for a, b in ((1, 2.0), (3, -1.0)))
    x = jnp.array([[1.0, 2.0], [0.5, -1.0]])
    np.testing.assert_allclose(taylor(f, params)(new, x), f(new, x), rtol=1e-14)


def test_tangent_model_has_the_kernel_of_the_network_at_every_parameter(inputs):
    net = network(1)
    params, new = (net.init(jax.random.key(seed), (4,)) for seed in (1, 2))
    f_lin = linearize(net.apply, params)
    np.testing.assert_allclose(
        empirical_ntk(f_lin, new, inputs[0]),
        empirical_ntk(net.apply, params, inputs[0]),
        rtol=1e-12,
    )


def test_kernel_has_the_spectrum_of_the_gauss_newton_matrix(inputs):
    net = Serial(Dense(5, 1.4, 0.3), Relu(), Dense(1))
    params = net.init(jax.random.key(1), (4,))
    x = jnp.concatenate(inputs)
    jacobian = np.asarray(tangent_features(net.apply, params, x))
    primal = np.linalg.eigvalsh(jacobian.T @ jacobian)[-7:]
    dual = np.linalg.eigvalsh(empirical_ntk(net.apply, params, x))
    np.testing.assert_allclose(dual, primal, rtol=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_float32_jit_vmap_and_grad(method, inputs):
    x = inputs[0].astype("float32")
    net = Serial(Dense(5, 1.4, 0.3), Tanh(), Dense(1))
    params = net.init(jax.random.key(1), (4,), dtype="float32")

    def theta(params, x):
        return empirical_ntk(net.apply, params, x, method=method)

    expected = theta(params, x)
    assert expected.dtype == jnp.float32
    np.testing.assert_allclose(jax.jit(theta)(params, x), expected, rtol=1e-5)
    batched = jax.jit(jax.vmap(theta, in_axes=(None, 0)))(params, jnp.stack([x, 2 * x]))
    np.testing.assert_allclose(batched[0], expected, rtol=1e-5)
    gradient = jax.jit(jax.grad(lambda x: theta(params, x).sum()))(x)
    assert gradient.dtype == jnp.float32
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("method", METHODS)
def test_mean_is_the_trace_divided_by_the_outputs(method, inputs):
    net = network(3)
    params = net.init(jax.random.key(1), (4,))
    full, trace, mean = (
        empirical_ntk(net.apply, params, *inputs, outputs=outputs, method=method)
        for outputs in ("full", "trace", "mean")
    )
    np.testing.assert_allclose(mean, np.einsum("ijaa->ij", full) / 3, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(mean, trace / 3, rtol=1e-14)


def test_a_sum_over_outputs_is_known_as_one(inputs):
    def kernel(k, outputs):
        net = network(k)
        return empirical_ntk(
            net.apply, net.init(jax.random.key(1), (4,)), inputs[0], outputs=outputs
        )

    trace = kernel(3, "trace")
    with pytest.raises(ValueError, match="trace over 3 outputs"):
        refuse_sum("k_train", trace)
    for other in (trace / 3, kernel(3, "mean"), kernel(3, "full"), kernel(1, "trace")):
        refuse_sum("k_train", other)
    for copy in (
        trace.copy(),
        trace[:2],
        np.asarray(trace),
        trace.astype("float32"),
    ):  # as is documented
        refuse_sum("k_train", copy)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("of_params", "of_x"),
    [("float32", "float64"), ("float64", "float32"), ("bfloat16", "float32"), ("float16",) * 2],
)
def test_the_dtype_is_that_of_the_parameters(of_params, of_x, method, inputs):
    net = Serial(Dense(6, 1.4, 0.3), Tanh(), Dense(2))
    params = net.init(jax.random.key(1), (4,))
    expected = np.asarray(empirical_ntk(net.apply, params, inputs[0]))
    low, x = jax.tree.map(lambda a: a.astype(of_params), params), inputs[0].astype(of_x)
    got = empirical_ntk(net.apply, low, x, method=method)
    assert got.dtype == of_params
    eps = max(float(jnp.finfo(dtype).eps) for dtype in (of_params, of_x))
    np.testing.assert_allclose(
        np.asarray(got, float), expected, atol=16 * eps * np.abs(expected).max()
    )
