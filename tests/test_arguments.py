"""Arguments of the wrong kind: the error names them, says what came, and shows no matrix."""

import inspect

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ntkbook as ntk
from ntkbook import Dense, Elementwise, Erf, Relu, Residual, Serial
from ntkbook._base.arguments import described, require_key, require_shape

KEY = jax.random.key(0)
X = np.array(jax.random.normal(KEY, (5, 3)))
Y = np.sin(X[:, 0])
HOT = np.eye(2)[[0, 1, 0, 1, 1]]
NET = Serial(Dense(6, 1.4, 0.1), Erf(), Dense(1))
PARAMS = NET.init(KEY, (3,))
K, CROSS, OWN = NET.kernel(X), NET.kernel(X[:2] / 2, X), NET.kernel(X[:2] / 2)
FLOW, DESCENT = ntk.gradient_flow(K, Y), ntk.gradient_descent(K, Y, 0.1)
FIT, MODES = ntk.regression(K, Y, 0.1), ntk.modes(K.ntk)
LINE = ntk.linearize(NET.apply, PARAMS)

F = {"f": NET.apply, "params": PARAMS}
TRAINING = {"y_train": Y, "learning_rate": 0.1, "f0": Y}

FIELD = {"activation": Erf(), "w_var": 1.5, "b_var": 0.1, "keep": 1.0}
SPECTRUM = {"eigenvalues": Y**2, "power": Y**2, "ridge": 0.1, "noise_variance": 0.1}
SPECTRUM |= {"multiplicity": np.ones(5)}
SQUARES = {"samples": 9, "features": 4, "noise_variance": 0.1, "signal": 1.0}

TOKENS = ntk.Kernel(*np.full((2, 2, 2, 3, 3), 0.5))
HEADS = {"layer": ntk.Attention(8, heads=2, scaling="root")}
PATH = 1 - np.eye(2)
GRAPHS = [(X[:2], PATH), (X[3:], PATH)]
GNN = Serial(ntk.Aggregate(), ntk.Conv(4, 1), ntk.GlobalSumPool(), Dense(1))

CALLS = {
    "init": (NET.init, {"key": KEY, "input_shape": (3,), "dtype": "float32"}),
    "apply": (NET.apply, {"params": PARAMS, "x": X}),
    "Dense": (Dense, {"width": 3, "w_std": 1.0, "b_std": 0.0, "parametrization": "ntk"}),
    "LeakyRelu": (ntk.LeakyRelu, {"negative_slope": 0.1}),
    "Rbf": (ntk.Rbf, {"gamma": 1.0}),
    "RectifiedPower": (ntk.RectifiedPower, {"order": 2}),
    "Elementwise": (Elementwise, {"fn": jnp.sin, "degree": 3}),
    "Serial": (lambda layers: Serial(layers), {"layers": Relu()}),
    "Residual": (lambda layers: Residual(layers), {"layers": Relu()}),
    "kernel": (
        NET.kernel,
        {"x1": X, "x2": X, "hyperparameters": NET.hyperparameters(), "exact": True},
    ),
    "kernel_diagonal": (NET.kernel_diagonal, {"x": X}),
    "kernel_shares": (NET.kernel_shares, {"x1": X, "x2": X, "progress": False}),
    "count_parameters": (ntk.count_parameters, {"params": PARAMS}),
    "tangent_features": (ntk.tangent_features, F | {"x": X}),
    "empirical_ntk": (
        ntk.empirical_ntk,
        F | {"x1": X, "x2": X, "outputs": "full", "method": "auto", "progress": False},
    ),
    "costs": (
        ntk.costs,
        {"n1": 9, "n2": 9, "k": 2, "parameters": 99, "jacobian_bytes": 99, "itemsize": 4}
        | {"forward": 9.0, "trace": False},
    ),
    "empirical_shares": (ntk.empirical_shares, F | {"x1": X, "x2": X, "outputs": "full"}),
    "ntk_vector_product": (ntk.ntk_vector_product, F | {"x1": X, "v": Y, "x2": X}),
    "linearize": (ntk.linearize, F),
    "taylor": (ntk.taylor, F | {"order": 2}),
    "a linear model": (lambda new_params: LINE(new_params, X), {"new_params": PARAMS}),
    "monte_carlo_kernel": (
        ntk.monte_carlo_kernel,
        {"net": NET, "key": KEY, "x1": X, "x2": X, "samples": 4, "batch_size": 2},
    ),
    "drawn": (ntk.attention_monte_carlo, HEADS | {"key": KEY, "kernel": TOKENS, "samples": 4}),
    "on_graph": (ntk.on_graph, {"net": GNN, "adjacency": PATH}),
    "graph_kernel": (ntk.graph_kernel, {"net": GNN, "graphs1": GRAPHS, "progress": False}),
    "diagnose": (
        ntk.diagnose,
        F
        | {"x": X, "y": NET.apply(PARAMS, X) + 1, "learning_rate": 1e-3, "steps": 5}
        | {"loss": "half-sum", "examples": 9, "tolerance": 0.01, "key": KEY, "progress": False},
    ),
    "check_layer": (ntk.check_layer, {"layer": Relu(), "features": 4, "samples": 8, "key": KEY}),
    "mse": (ntk.mse, {"f": Y, "y": Y}),
    "huber": (ntk.huber, {"f": Y, "y": Y, "delta": 1.0}),
    "logistic": (ntk.logistic, {"f": Y, "y": HOT[:, 0]}),
    "softmax": (ntk.softmax_cross_entropy, {"f": HOT, "y": HOT}),
    "modes": (ntk.modes, {"kernel": K.ntk}),
    "project": (MODES.project, {"v": Y}),
    "rates": (MODES.rates, {"learning_rate": 0.1, "discrete": True}),
    "gradient_flow": (ntk.gradient_flow, {"k_train": K, "trained": "all"} | TRAINING),
    "gradient_descent": (
        ntk.gradient_descent,
        {"k_train": K, "trained": "all", "momentum": 0.1} | TRAINING,
    ),
    **{
        f"{kind} {name}": (getattr(solved, name), {"t": 1})
        for kind, solved in (("flow", FLOW), ("descent", DESCENT))
        for name in ("train", "loss", "residual", "coefficients")
    },
    "test": (FLOW.test, {"t": 1.0, "k_test_train": CROSS}),
    "ensemble": (FLOW.ensemble, {"t": 1.0, "k_test_train": CROSS, "k_test": OWN}),
    "max_learning_rate": (
        ntk.max_learning_rate,
        {"kernel": K, "momentum": 0.1, "nesterov": False, "trained": "all"},
    ),
    "regression": (ntk.regression, {"k_train": K, "y_train": Y, "ridge": 0.1, "kind": "ntk"}),
    "predict": (FIT.predict, {"k_test_train": CROSS}),
    "posterior": (FIT.posterior, {"k_test_train": CROSS, "k_test": OWN}),
    "flow_ode": (
        ntk.flow_ode,
        {"kernel_train": K, "times": np.ones(1), "loss": ntk.mse, "kernel_test": CROSS}
        | TRAINING
        | {"f0_test": Y[:2], "solver": None, "tolerance": 1e-3, "max_steps": 100},
    ),
    "train": (
        ntk.train,
        F
        | {"x": X, "y": Y[:, None], "learning_rate": 0.1, "steps": 2, "loss": ntk.mse}
        | {"momentum": 0.1, "x_test": X, "record_every": 1, "progress": False}
        | {"allow_divergence": False},
    ),
    "condition_number": (ntk.condition_number, {"kernel": K.ntk}),
    "effective_dimension": (ntk.effective_dimension, {"kernel": K.ntk, "ridge": 0.1}),
    "fit_decay": (ntk.fit_decay, {"k": np.arange(1, 4), "values": np.ones(3)}),
    "fit_rate": (ntk.fit_rate, {"times": np.arange(1, 4), "amplitudes": np.ones(3)}),
    "circle_eigenvalues": (ntk.circle_eigenvalues, {"kappa": jnp.cos, "k_max": 1, "points": 8}),
    "sphere_eigenvalues": (ntk.sphere_eigenvalues, {"kappa": jnp.cos, "d": 3, "k_max": 2}),
    "series_eigenvalues": (ntk.series_eigenvalues, {"coefficients": Y**2, "d": 3, "k_max": 2}),
    "power_eigenvalues": (ntk.power_eigenvalues, {"nu": 0.5, "d": 3, "k_max": 2}),
    "multiplicities": (ntk.multiplicities, {"d": 3, "k_max": 2}),
    "index_spectrum": (ntk.index_spectrum, {"eigenvalues": Y**2, "d": 3, "count": 4}),
    "kernel_profile": (ntk.kernel_profile, {"net": NET, "kind": "ntk", "d": 3}),
    "hermite_coefficients": (
        ntk.hermite_coefficients,
        {"activation": Erf(), "degree": 3, "variance": 1.0},
    ),
    "relu_endpoints": (ntk.relu_endpoints, {"net": Serial(Dense(2), Relu(), Dense(1))}),
    "fit_power_law": (ntk.fit_power_law, {"k": np.arange(1, 5), "values": np.ones(4)}),
    "variance_map": (ntk.variance_map, FIELD | {"q": 1.0}),
    "correlation_map": (ntk.correlation_map, FIELD | {"q": 1.0, "correlation": 0.5}),
    "chi": (ntk.chi, {"activation": Erf(), "correlation": 0.5, "q": 1.0, "w_var": 1.5}),
    "fixed_points": (ntk.fixed_points, FIELD),
    "mean_field": (ntk.mean_field, FIELD | {"start": 1.0}),
    "critical_line": (ntk.critical_line, {"activation": Erf(), "q": 1.0}),
    "critical_point": (ntk.critical_point, {"activation": Erf(), "b_var": 0.1}),
    "half_stable_points": (ntk.half_stable_points, {"activation": ntk.Gelu()}),
    "end_point": (ntk.end_point, {"activation": Erf()}),
    "deep_signal": (ntk.deep_signal, FIELD | {"gap": 0.5, "layers": [2], "q": 1.0}),
    "depth_laws": (ntk.depth_laws, {"activation": Erf(), "w_var": 1.5, "b_var": 0.1}),
    "correlation_expansion": (
        ntk.correlation_expansion,
        {"activation": Erf(), "q": 1.0, "w_var": 1.5},
    ),
    "eigenlearning": (ntk.eigenlearning, SPECTRUM | {"samples": 3}),
    "random_features": (ntk.random_features, SPECTRUM | {"samples": 3, "features": 4}),
    "measured_learnability": (
        ntk.measured_learnability,
        {"kernel": K.ntk, "functions": Y, "train": np.arange(3), "ridge": 0.1},
    ),
    "risk_estimates": (ntk.risk_estimates, {"k_train": K.ntk, "y_train": Y, "ridge": 0.1}),
    "least_squares_risk": (ntk.least_squares_risk, SQUARES),
    "least_squares_limit": (ntk.least_squares_limit, SQUARES | {"ridge": 0.1}),
    "circle": (ntk.circle, {"n": 3, "dtype": "float32"}),
    "sphere": (ntk.sphere, {"key": KEY, "n": 3, "d": 2, "dtype": "float32"}),
    "gaussian_inputs": (ntk.gaussian_inputs, {"key": KEY, "n": 3, "d": 2}),
    "toy_regression": (ntk.toy_regression, {"key": KEY, "n_train": 2, "n_test": 2, "noise": 0.1}),
    "digits": (ntk.digits, {"n_train": 4, "n_test": 2, "key": KEY, "classes": (3, 8)}),
}

# Nothing takes any of these.
NEVER = {
    "an object": object(),
    "a ragged list": [[1.0, 2.0], [3.0]],
    "a set": {1, 2},
    "objects": np.array([object()] * 5),
    "text": np.array(["a", "b"]),
    "complex NaN": np.full((5, 3), np.nan + 1j),
    "a class": Dense,
    "bytes": b"x",
}
# But for a function of any kind, and for trees of which lists are some.
WELCOME = {
    ("count_parameters", "complex NaN"),
    ("Elementwise", "a class"),
    *((name, "a class") for name in ("circle_eigenvalues", "sphere_eigenvalues", "kernel_profile")),
    *((name, "a ragged list") for name in ("count_parameters", "linearize", "taylor")),
}


@pytest.mark.parametrize("bad", NEVER)
@pytest.mark.parametrize("name", CALLS)
def test_the_error_names_the_argument(name, bad):
    function, arguments = CALLS[name]
    for argument in arguments:
        if (name, bad) in WELCOME:
            continue
        with pytest.raises((TypeError, ValueError)) as caught:
            function(**arguments | {argument: NEVER[bad]})
        message = str(caught.value)
        # To the network all inputs are x.
        names = [argument, "x"] if argument in ("x1", "x2", "x_test") else [argument]
        assert any(f"{name}" in message for name in names), (argument, message)
        assert "\n" not in message, (argument, message)
        assert len(message) < 600, (argument, message)


def test_every_public_function_is_tried():
    functions = {n for n in ntk.__all__ if inspect.isfunction(inspect.unwrap(getattr(ntk, n)))}
    tried = {getattr(function, "__name__", "") for function, _ in CALLS.values()}
    # Those of the evidence have tests of their own; `setup` refuses in test_repository.
    assert functions - tried <= {"check", "figure", "report", "setup"}


TAKE_A_KEY = {
    "init": lambda key: NET.init(key, (3,)),
    "init of no parameters": lambda key: Relu().init(key, (3,)),
    "monte_carlo_kernel": lambda key: ntk.monte_carlo_kernel(NET, key, X, samples=2),
    "pair": lambda key: ntk.monte_carlo_kernel((NET.init, NET.apply), key, X, samples=2),
    "check_layer": lambda key: ntk.check_layer(Relu(), features=4, samples=4, key=key),
    "sphere": lambda key: ntk.sphere(key, 3, 2),
    "gaussian_inputs": lambda key: ntk.gaussian_inputs(key, 3, 2),
    "toy_regression": lambda key: ntk.toy_regression(key),
    "digits": lambda key: ntk.digits(4, 2, key),
}


@pytest.mark.parametrize("call", TAKE_A_KEY.values(), ids=TAKE_A_KEY)
def test_keys(call):
    for bad, got in ((0, "int 0"), ("a", "str 'a'"), (X, r"ndarray of shape \(5, 3\) of float64")):
        with pytest.raises(TypeError, match=f"key must be a PRNG key, such as .*, got {got}"):
            call(bad)
    for many in (jax.random.split(KEY, 3), jax.random.split(jax.random.PRNGKey(0), 3)):
        with pytest.raises(ValueError, match=r"key must be one PRNG key.* got keys of shape \(3"):
            call(many)


def test_keys_of_both_kinds_serve_traced_too():
    for key in (KEY, jax.random.PRNGKey(0), jax.random.key(0, impl="rbg")):
        require_key("key", key)
    draw = jax.jit(jax.vmap(lambda key: NET.init(key, (3,))))
    assert draw(jax.random.split(KEY, 4))[0]["w"].shape == (4, 3, 6)


@pytest.mark.parametrize(
    ("shape", "got"),
    [
        (64, "int 64"),
        ((5, 3), r"\(5, 3\)"),
        (X, r"ndarray of shape \(5, 3\)"),
        ((3.0,), r"tuple \(3.0,\)"),
        ("ab", "str 'ab'"),
        (list(X), "list"),
    ],
)
def test_shapes_of_an_example(shape, got):
    with pytest.raises((TypeError, ValueError), match=rf"input_shape must be \(d,\).* got {got}$"):
        NET.init(KEY, shape)


def test_one_example_without_its_axis():
    calls = [
        lambda x: NET.kernel(x),
        lambda x: NET.kernel(X, x),
        lambda x: NET.kernel_diagonal(x),
        lambda x: NET.apply(PARAMS, x),
        lambda x: ntk.empirical_ntk(NET.apply, PARAMS, x),
        lambda x: ntk.empirical_ntk(NET.apply, PARAMS, X, x),
        lambda x: ntk.empirical_ntk(lambda p, x: jnp.tanh(x @ p), np.ones((3, 2)), x),
        lambda x: ntk.tangent_features(NET.apply, PARAMS, x),
        lambda x: ntk.ntk_vector_product(NET.apply, PARAMS, x, Y),
        lambda x: ntk.monte_carlo_kernel(NET, KEY, x, samples=2),
        lambda x: ntk.train(NET.apply, PARAMS, x, Y[:1], learning_rate=0.1, steps=1),
        LINE and (lambda x: LINE(PARAMS, x)),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"x[12]?\[None\]"):
            call(X[0])


def test_the_order_of_arguments():
    f = NET.apply
    calls = [
        lambda: ntk.empirical_ntk(PARAMS, f, X),
        lambda: ntk.empirical_ntk(X, X, PARAMS),
        lambda: ntk.empirical_ntk(f, X, X, PARAMS),
        lambda: ntk.empirical_ntk(f, X, PARAMS),
        lambda: ntk.empirical_ntk(lambda x, p: f(p, x), PARAMS, X),
        lambda: ntk.tangent_features(lambda x, p: jnp.tanh(x @ p["w"]), {"w": np.ones((3, 2))}, X),
        lambda: ntk.linearize(PARAMS, f),
        lambda: ntk.train(lambda x, p: f(p, x), PARAMS, X, Y, learning_rate=0.1, steps=1),
        lambda: ntk.train(f, X, PARAMS, Y, learning_rate=0.1, steps=1),
        lambda: ntk.linearize(lambda x, p: f(p, x), PARAMS)(PARAMS, X),
        lambda: LINE(X, PARAMS),
        lambda: f(X, PARAMS),
    ]
    for call in calls:
        with pytest.raises((TypeError, ValueError), match="the order (of arguments )?is"):
            call()


def test_functions_of_a_single_example():
    single = lambda p, x: jnp.tanh(p @ x)  # noqa: E731
    for call in (
        lambda: ntk.empirical_ntk(single, np.ones((2, 3)), X),
        lambda: ntk.train(single, np.ones((2, 3)), X, HOT, learning_rate=0.1, steps=1),
        lambda: ntk.empirical_ntk(lambda p, x: jnp.sum(p * x), np.ones(3), X),
    ):
        with pytest.raises(TypeError, match=r"single example; pass jax.vmap\(f, \(None, 0\)\)"):
            call()
    kernel = ntk.empirical_ntk(jax.vmap(single, (None, 0)), np.ones((2, 3)), X)
    assert kernel.shape == (5, 5, 2, 2)


def test_models_of_equinox():
    class Model(eqx.Module):
        linear: eqx.nn.Linear
        activation: object

        def __call__(self, x):
            return self.activation(self.linear(x))

    model = Model(eqx.nn.Linear(3, 2, key=KEY), jax.nn.relu)
    recipe = r"equinox.partition\(model, equinox.is_inexact_array\).*Your own network"
    calls = [
        lambda: ntk.empirical_ntk(lambda m, x: jax.vmap(m)(x), model, X),
        lambda: ntk.linearize(lambda m, x: jax.vmap(m)(x), model),
        lambda: ntk.train(lambda m, x: jax.vmap(m)(x), model, X, HOT, learning_rate=0.1, steps=1),
        lambda: ntk.empirical_ntk(model, model, X),
        lambda: ntk.empirical_ntk(
            lambda p, x: jax.vmap(p)(x), eqx.filter(model, eqx.is_inexact_array), X
        ),
    ]
    for call in calls:
        with pytest.raises(TypeError) as caught:
            call()
        caught.match(recipe)  # in the message, or in the note to an error of the model's own
    params, static = eqx.partition(model, eqx.is_inexact_array)
    f = lambda params, x: jax.vmap(eqx.combine(params, static))(x)  # noqa: E731
    assert ntk.empirical_ntk(f, params, X).shape == (5, 5, 2, 2)


def test_a_network_is_no_parameters():
    for params in (NET, NET.layers):
        with pytest.raises(TypeError, match=r"what net.init\(key, \(d,\)\) gives"):
            ntk.empirical_ntk(NET.apply, params, X)


def test_init_and_apply_in_each_others_place():
    with pytest.raises(TypeError, match=r"net must be functions \(init, apply\)"):
        ntk.monte_carlo_kernel((NET.apply, NET.init), KEY, X, samples=2)


def test_functions_that_jax_cannot_trace_are_sent_to_jax_numpy():
    for fn in (np.tanh, lambda z: np.exp(z), float.__abs__, np.vectorize(abs)):
        with pytest.raises((TypeError, ValueError), match="jax.numpy"):
            Serial(Dense(3), Elementwise(fn)).kernel(X)
    net = Serial(Dense(3), Elementwise(np.tanh))
    with pytest.raises(TypeError, match="jax.numpy"):
        ntk.empirical_ntk(net.apply, net.init(KEY, (3,)), X)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("fn", [lambda u: jnp.exp(u**2), lambda u: jnp.exp(jnp.abs(u) ** 3)])
def test_a_dual_that_does_not_exist_is_said_not_to(fn, dtype):
    for scale in (1.0, 3.0):
        net = Serial(Dense(3, scale), Elementwise(fn))
        missing = r"E\[fn\(u\)²\] or E\[fn'\(u\)²\] does not exist or is not resolved"
        with pytest.raises(ValueError, match=missing) as caught:
            net.kernel_diagonal(X.astype(dtype))
        assert "some inf" not in str(caught.value)


@pytest.mark.parametrize("coupling", [1e-4, -1e-3])
def test_entries_that_see_one_another_a_little(coupling):
    ties = {
        "mean": lambda z: z + coupling * z.mean(),
        "row mean": lambda z: jnp.tanh(z) + coupling * jnp.tanh(z).mean(-1, keepdims=True),
        "norm": lambda z: z * (1 + coupling * jnp.linalg.norm(z)),
        "next": lambda z: jnp.sin(z) + coupling * jnp.roll(z, 1, -1),
        "place": lambda z: z + coupling * jnp.arange(z.size, dtype=z.dtype).reshape(z.shape),
    }
    for name, fn in ties.items():
        with pytest.raises(ValueError, match="must act on each entry by itself"):
            Serial(Dense(3), Elementwise(fn, name)).kernel(X)


def test_errors_show_no_matrix():
    assert described(np.ones((300, 300))) == "ndarray of shape (300, 300)"
    assert described((1, 2)) == "tuple (1, 2)"
    assert described([np.ones((30, 30))]) == "list"
    with pytest.raises(ValueError, match=r"must have shape \(any, 3\), got \(3,\); of a single"):
        require_shape("x", np.ones(3), (None, 3))
    with pytest.raises(ValueError, match=r"the form of \(\{'w_std.*, got ndarray of shape \(5, 3"):
        NET.kernel(X, hyperparameters=X)
