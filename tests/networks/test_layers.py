"""Layers: parameters, the finite network, and its infinite-width limit against Monte Carlo."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkbook import Dense, Elementwise, Erf, Relu, Residual, Serial, Sin, Tanh, empirical_ntk


def three_layers(parametrization="ntk", nonlinearity=None, width=16):
    nonlinearity = nonlinearity or Erf()
    return Serial(
        Dense(width, 1.3, 0.2, parametrization),
        nonlinearity,
        Dense(1, 1.1, 0.4, parametrization),
    )


@pytest.fixture(scope="module")
def x():
    return jax.random.normal(jax.random.key(7), (3, 5))


def test_apply_is_the_formula_of_the_book_in_numpy(x):
    net = Serial(Dense(6, 1.3, 0.2), Tanh(), Residual(Sin(), Dense(6, 0.5)), Relu(), Dense(2))
    params = net.init(jax.random.key(0), (5,))
    (first, _, (_, inner), _, last) = jax.tree.map(np.asarray, params)
    h = np.tanh(1.3 / np.sqrt(5) * np.asarray(x) @ first["w"] + 0.2 * first["b"])
    h = h + 0.5 / np.sqrt(6) * np.sin(h) @ inner["w"]
    expected = np.maximum(h, 0) @ last["w"] / np.sqrt(6)
    np.testing.assert_allclose(net.apply(params, x), expected, rtol=1e-13)


@pytest.mark.parametrize("dtype", [None, "float32"])
def test_parameters_have_the_shapes_and_dtype_promised(dtype, x):
    net = Serial(Dense(6, b_std=0.1), Relu(), Dense(2))
    params = net.init(jax.random.key(0), x.shape[1:], dtype=dtype)
    shapes = jax.tree.map(jnp.shape, params)
    assert shapes == ({"w": (5, 6), "b": (6,)}, (), {"w": (6, 2)})
    expected = jnp.dtype(dtype or "float64")
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {expected}
    assert net.apply(params, x.astype(expected)).dtype == expected


def test_numpy_scales_keep_float32():
    net = Serial(Dense(4, np.float64(1.5), np.float64(0.1)), Relu(), Dense(1, np.sqrt(2)))
    params = net.init(jax.random.key(0), (3,), dtype=jnp.float32)
    x = jnp.ones((2, 3), jnp.float32)
    assert net.apply(params, x).dtype == jnp.float32
    assert net.kernel(x).ntk.dtype == jnp.float32
    assert empirical_ntk(net.apply, params, x).dtype == jnp.float32


def test_initial_weights_are_independent_normals_of_the_stated_scale():
    for parametrization, w_std, b_std in (("ntk", 1, 1), ("standard", 2 / np.sqrt(300), 0.5)):
        layer = Dense(400, w_std=2.0, b_std=0.5, parametrization=parametrization)
        params = Serial(layer, Dense(300)).init(jax.random.key(1), (300,))
        w, b = np.asarray(params[0]["w"]), np.asarray(params[0]["b"])
        assert abs(w.std() / w_std - 1) < 4.5 / np.sqrt(2 * w.size)
        assert abs(b.std() / b_std - 1) < 4.5 / np.sqrt(2 * b.size)
        assert abs(np.corrcoef(w.ravel()[: 300 * 300], np.ravel(params[1]["w"][:300]))[0, 1]) < 0.02


def test_both_parametrizations_are_one_function_at_initialisation(x):
    ntk, standard = three_layers("ntk"), three_layers("standard")
    key = jax.random.key(2)
    outputs = [net.apply(net.init(key, (5,)), x) for net in (ntk, standard)]
    np.testing.assert_allclose(*outputs, rtol=1e-13)


@pytest.mark.parametrize(
    ("nonlinearity", "parametrization"),
    [(Relu(), "standard"), (Erf(), "ntk"), (Sin(), "ntk")],
    ids=repr,
)
def test_kernel_is_the_mean_of_finite_ones_at_any_width(nonlinearity, parametrization, x):
    # With one hidden layer the mean over initialisations is exact at every width (C44): a small
    # one keeps the test quick, and shows up every missing factor.
    net = three_layers(parametrization, nonlinearity)

    def sample(key):
        params = net.init(key, (5,))
        f = net.apply(params, x)[:, 0]
        return f[:, None] * f, empirical_ntk(net.apply, params, x)

    samples = jax.jit(jax.vmap(sample))(jax.random.split(jax.random.key(4), 4000))
    kernel = net.kernel(x)
    for theory, measured in zip((kernel.nngp, kernel.ntk), map(np.asarray, samples), strict=True):
        standard_error = measured.std(axis=0) / np.sqrt(len(measured))
        assert (np.abs(measured.mean(axis=0) - theory) < 4.5 * standard_error).all()
        assert (standard_error < 0.05 * np.abs(np.diagonal(theory)).max()).all()


def test_kernel_of_two_hidden_layers_and_a_skip_is_the_limit_of_wide_networks(x):
    width = 400
    net = Serial(
        Dense(width, 1.2, 0.3),
        Residual(Erf(), Dense(width, 0.9, 0.2)),
        Erf(),
        Dense(1, 1.1, 0.1),
    )

    def sample(key):
        return empirical_ntk(net.apply, net.init(key, (5,)), x)

    samples = np.asarray(jax.jit(jax.vmap(sample))(jax.random.split(jax.random.key(5), 60)))
    theory = np.asarray(net.kernel(x).ntk)
    # Beyond one hidden layer the mean is off by O(1/width), hence the second term.
    allowed = 4.5 * samples.std(axis=0) / np.sqrt(len(samples)) + 2 / width * np.abs(theory).max()
    assert (np.abs(samples.mean(axis=0) - theory) < allowed).all()
    assert (allowed < 0.08 * np.abs(theory).max()).all()


def test_user_functions_have_kernels_by_quadrature(x):
    user = three_layers(nonlinearity=Elementwise(lambda z: jnp.maximum(z, 0), name="user relu"))
    closed = three_layers(nonlinearity=Relu())
    np.testing.assert_allclose(user.kernel(x).ntk, closed.kernel(x).ntk, rtol=1e-11)


def test_layers_are_values_that_jit_takes_as_static_arguments(x):
    net = three_layers()
    assert net == three_layers()
    assert hash(net) == hash(three_layers())
    assert net != three_layers(nonlinearity=Tanh())
    assert Residual(Dense(3)) != Serial(Dense(3))
    assert eval(repr(net)) == net
    with pytest.raises(dataclasses.FrozenInstanceError):
        net.layers[0].width = 3
    apply = jax.jit(lambda net, params, x: net.apply(params, x), static_argnums=0)
    params = net.init(jax.random.key(0), (5,))
    np.testing.assert_allclose(apply(net, params, x), net.apply(params, x), rtol=1e-13)


def test_apply_works_under_vmap_and_grad(x):
    net = three_layers()
    one = net.init(jax.random.key(0), (5,))
    four = jax.tree.map(lambda leaf: jnp.stack([leaf] * 4), one)
    assert jax.jit(jax.vmap(net.apply, in_axes=(0, None)))(four, x).shape == (4, 3, 1)
    gradients = jax.jit(jax.grad(lambda p: net.apply(p, x).sum()))(one)
    assert jax.tree.map(jnp.shape, gradients) == jax.tree.map(jnp.shape, one)


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: Dense(0), ValueError, "width must be at least 1, got 0"),
        (lambda: Dense(2.5), TypeError, "width must be an integer, got float 2.5"),
        (lambda: Dense(4, w_std=-1), ValueError, "w_std must be a positive finite number, got -1"),
        (lambda: Dense(4, w_std="1"), TypeError, "w_std must be a positive finite number"),
        (lambda: Dense(4, b_std=-0.1), ValueError, "b_std must be a non-negative finite number"),
        (lambda: Dense(4, b_std=np.nan), ValueError, "b_std .* got nan"),
        (lambda: Dense(4, 1, 0, "mup"), ValueError, "one of 'ntk', 'standard', got 'mup'"),
        (lambda: Serial(Dense(4), jnp.tanh), TypeError, r"layers\[1\] must be a layer"),
        (lambda: Elementwise("tanh"), TypeError, "fn must be a function, got str"),
    ],
)
def test_bad_layers_are_refused(build, error, message):
    with pytest.raises(error, match=message):
        build()


def _init(net, shape=(5,), **options):
    return net.init(jax.random.key(0), shape, **options)


@pytest.mark.parametrize(
    ("use", "error", "message"),
    [
        (lambda net, x: _init(net, (5, 5)), ValueError, r"input_shape must be \(d,\)"),
        (lambda net, x: _init(net, dtype=int), TypeError, "dtype must be a real floating type"),
        (
            lambda net, x: _init(Residual(Dense(3))),
            ValueError,
            "must keep the width, got 5 in and 3 out",
        ),
        (
            lambda net, x: net.apply(_init(net), x[:, :4]),
            ValueError,
            r"x must have shape \(any, 5\), got \(3, 4\)",
        ),
        (lambda net, x: net.apply(_init(net)[:2], x), ValueError, "each of the 3 layers, got 2"),
        (
            lambda net, x: Elementwise(jnp.sum, "sum").apply((), x),
            ValueError,
            r"the output of sum must have shape \(3, 5\), got \(\)",
        ),
        (lambda net, x: net.kernel(x[0]), ValueError, r"x1 must have shape \(n, d\)"),
        (lambda net, x: net.kernel(x, x[:, :2]), ValueError, r"x2 must have shape \(any, 5\)"),
        (lambda net, x: net.kernel(x * jnp.nan), ValueError, "x1 must be finite, got 15 NaN"),
        (lambda net, x: net.kernel(x, x + 1j), TypeError, "x2 must be real"),
        (lambda net, x: net.kernel("abc"), TypeError, "x1 must be an array of real numbers"),
        (lambda net, x: Serial(Relu(), net).kernel(x), ValueError, "follows the inputs"),
        (
            lambda net, x: Serial(Dense(4), Residual(Dense(4), Relu())).kernel(x),
            ValueError,
            "branch of a Residual to end in a Dense layer",
        ),
        (
            lambda net, x: Serial(Dense(4), Residual(Dense(3))).kernel(x),
            ValueError,
            "must keep the width, got 4 in and 3 out",
        ),
    ],
)
def test_bad_inputs_are_refused(use, error, message, x):
    with pytest.raises(error, match=message):
        use(three_layers(), x)


@pytest.mark.parametrize(
    ("layer", "params", "message"),
    [
        (Dense(3), {"w": np.ones((5, 3)), "b": np.ones(3)}, r"\['w'\], got \['b', 'w'\]"),
        (Dense(3, 1.0, 0.1), {"w": np.ones((5, 3))}, r"\['b', 'w'\], got \['w'\]"),
        (Dense(3), {"w": np.ones((5, 4))}, "w must have shape"),
        (Dense(3, 1.0, 0.1), {"w": np.ones((5, 3)), "b": np.ones(1)}, "b must have shape"),
        (Dense(3, 1.0, 0.1), {"w": np.ones((5, 3)), "b": np.ones((2, 1))}, "b must have shape"),
        (Dense(3), [np.ones((5, 3))], "must be a dictionary"),
    ],
)
def test_parameters_of_another_layer_are_refused(layer, params, message):
    with pytest.raises(ValueError, match=message):
        layer.apply(params, np.ones((2, 5)))


@pytest.mark.parametrize("scales", [{"w_std": 1.2}, {"b_std": 0.1}])
def test_a_network_is_made_outside_of_transformations(scales):
    (name, value), *_ = scales.items()

    def kernel(s):
        return Dense(3, **{name: s}).kernel(np.ones((2, 5))).ntk.sum()

    for transform in (jax.grad, jax.jit, jax.vmap):
        with pytest.raises(TypeError, match=f"{name} must be a known number.*hyperparameters="):
            transform(kernel)(np.array([value]) if transform is jax.vmap else value)
