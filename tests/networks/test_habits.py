"""Habits from other libraries: the error, or warning, says what to write here."""

import json
import pickle
import re
import subprocess
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ntkbook as ntk

NET = ntk.Serial(ntk.Dense(4), ntk.Erf(), ntk.Dense(1))
X = np.eye(3)
PAGE = "see the page 'Coming from neural-tangents'"


CALLS = {
    "ntk.Dense(8, W_std=1.5)": "it is w_std here",
    "ntk.Dense(8, parameterization='standard')": "it is parametrization here",
    "NET.kernel(X, None, get='ntk')": "net.kernel(x1, x2) has both, .nngp and .ntk",
    "NET.kernel(X, None, 'ntk')": "net.kernel(x1, x2) has both, .nngp and .ntk",
    "ntk.empirical_ntk(f, W, X, trace_axes=())": "outputs='mean' here",
    "ntk.empirical_ntk(f, W, X, diagonal_axes=(-1,))": "the diagonal of outputs='full'",
    "ntk.regression(X, W, diag_reg=0.1)": "ridge, which is absolute",
    "ntk.max_learning_rate(X, y_train_size=3)": "multiply by y.size",
    "ntk.monte_carlo_kernel(NET, None, X, n_samples=3)": "it is samples here",
    "init, apply, kernel = NET": "one object with init, apply and kernel",
}
OTHERS = {
    "ntk.Dense(features=64)": "it is width here",
    "ntk.Dense(64, in_features=3)": "give the outputs alone, Dense(64)",
    "ntk.Dense(64, use_bias=False)": "b_std=0.0, as by default",
    "ntk.LeakyRelu(alpha=0.1)": "it is negative_slope here",
    "ntk.Relu().apply(None)": "missing a required argument: 'x'; it is apply(params, x)",
    "ntk.Conv(4, 3).apply(None)": "missing a required argument: 'x'; it is apply(params, x)",
    "NET.apply(X)": "missing a required argument: 'x'; it is apply(params, x, key=None)",
    "NET.init(0)": "it is init(key, input_shape, dtype=None)",
    "ntk.train(f, W, X, W, lr=0.1, steps=1)": "it is learning_rate here",
    "ntk.Erf(a=1.0)": "Erf.__init__: got an unexpected keyword argument 'a'; it is __init__()",
    "ntk.gradient_flow(X)": "it is gradient_flow(k_train, y_train, learning_rate=1.0, f0=None",
    "ntk.Serial(ntk.Dense(3), ntk.Relu)": "pass a layer, such as ntk.Relu()",
}
SCRIPT = """
import json, sys, jax, numpy as np, ntkbook as ntk
NET, X, W = ntk.Serial(ntk.Dense(4), ntk.Erf(), ntk.Dense(1)), np.eye(3), np.ones(3)
f = lambda params, x: x @ params
said = {}
for call in json.loads(sys.argv[1]):
    try:
        exec(call)
    except TypeError as error:
        said[call] = str(error)
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def answers():
    """What a user is told: the annotations, which the tests check, would say it first here."""
    calls = json.dumps([*CALLS, *OTHERS])
    done = subprocess.run([sys.executable, "-c", SCRIPT, calls], capture_output=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize("call", [*CALLS, *OTHERS])
def test_a_call_of_another_library_is_answered_with_one_of_this(call, answers):
    assert (CALLS | OTHERS)[call] in answers[call]
    assert (PAGE in answers[call]) == (call in CALLS)


def test_errors_of_calls_that_fit_are_left_as_they_are():
    with pytest.raises(TypeError, match="^width must be an integer, got float 1.5$"):
        ntk.Dense(1.5)
    with pytest.raises(TypeError, match="^x1 must be real"):
        NET.kernel(X * 1j)


def test_names_of_neural_tangents_are_answered():
    for name in ("stax", "serial", "predict", "empirical_ntk_fn", "Monomial", "GlobalAvgPool"):
        with pytest.raises(AttributeError, match=PAGE):
            getattr(ntk, name)
    for name in ("BatchNorm", "ConvTranspose", "MaxPool", "AlphaDropout"):
        with pytest.raises(AttributeError, match="'What the package does not do'"):
            getattr(ntk, name)
    with pytest.raises(AttributeError, match="from ntkbook.estimators import NTKClassifier"):
        ntk.NTKClassifier  # noqa: B018
    with pytest.raises(AttributeError, match="^module 'ntkbook' has no attribute 'nonsense'$"):
        ntk.nonsense  # noqa: B018
    assert not hasattr(ntk, "__path_of_nothing__")


def test_what_is_no_layer_is_answered_with_one():
    answers = {
        "the class Dense; pass a layer, such as ntk.Dense(64)": ntk.Dense,
        "the class Relu; pass a layer, such as ntk.Relu()": ntk.Relu,
        "a function; pass ntk.Relu()": jax.nn.relu,
        "a function; pass ntk.Tanh()": jnp.tanh,
        "a function; pass ntk.Elementwise(softplus)": jax.nn.softplus,
        "a function; pass ntk.Elementwise(f)": lambda z: z,
        "pass the layers one by one, Serial(*layers)": [ntk.Dense(3), ntk.Relu()],
        "got str 'relu'": "relu",
        "got NoneType None": None,
    }
    for said, wrong in answers.items():
        for made in (ntk.Serial, ntk.Residual):
            with pytest.raises(TypeError, match=re.escape("layers[1] must be a layer")) as caught:
                made(ntk.Dense(3), wrong)
            assert str(caught.value).endswith(said)


@pytest.mark.parametrize("width", [8, 10, 128, 784])
def test_a_second_width_is_warned_of(width):
    with pytest.warns(
        UserWarning, match=rf"w_std={width} is the scale .* Dense\({width}\); .*{width}.0"
    ):
        ntk.Dense(64, width)


def test_other_scales_are_not_warned_of():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for scale in (1, 2, 7, 8.0, 128.0, 1e5, 2**0.5):
            net = ntk.Serial(ntk.Dense(64, scale), ntk.Relu(), ntk.Dense(1))
            assert pickle.loads(pickle.dumps(net)) == net
            net.kernel(X)  # which makes layers of the same form


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (ntk.LeakyRelu, r"negative_slope must be a known .*duals.abrelu\(a, b\)"),
        (ntk.Rbf, r"gamma must be a known number, got a traced one.*duals.rbf\(gamma\)"),
        (ntk.Gaussian, r"b must be a known number, got a traced one.*duals.gaussian\(b\)"),
        (lambda a: ntk.Polynomial((0, a)), r"coefficients must be a known .*duals.polynomial"),
        (lambda a: ntk.Dense(3, a), r"w_std must be a known number.* hyperparameters="),
    ],
)
def test_a_parameter_that_is_traced_is_refused(make, said):
    with pytest.raises(TypeError, match=said):
        jax.jit(lambda a: make(a).apply((), X))(0.3)


def test_arguments_of_layers():
    for wrong in (None, "x", [1.0, 2.0], X * 1j):
        for layer in (ntk.Relu(), ntk.Elementwise(jnp.sin), NET):
            with pytest.raises(TypeError, match=r"x must be an array .*; the order is apply\("):
                layer.apply((), wrong)
    for wrong in (3, None, "abc", np.eye(2)):
        with pytest.raises(
            TypeError, match=r"coefficients must be .* z³ is Polynomial\(\(0, 0, 0, 1"
        ):
            ntk.Polynomial(wrong)


def test_costs_are_shown_with_the_rest():
    estimate = ntk.costs(64, None, 10, 10**6)
    assert all(isinstance(cost, ntk.Cost) for cost in estimate.values())
    for wrong in ((0, None, 1, 5), (3, None, 1.5, 5), (3, 0, 1, 5)):
        with pytest.raises((TypeError, ValueError), match="(n1|n2|k) must be"):
            ntk.costs(*wrong)


def test_inputs_without_features_are_refused():
    for call in (NET.kernel, NET.kernel_diagonal):
        with pytest.raises(ValueError, match="must have at least one feature, got shape"):
            call(np.zeros((3, 0)))


def test_large_coefficients_and_orders_leave_the_range_by_name():
    for layer in (ntk.Polynomial((0, 1e39)), ntk.RectifiedPower(60)):
        net = ntk.Serial(ntk.Dense(1), layer, ntk.Dense(1))
        with pytest.raises(ValueError, match=r"overflows float32 in net.layers\[1\]"):
            net.kernel(np.eye(3, dtype=np.float32))


def test_scales_that_are_traced_and_wrong_give_nan():
    @jax.jit
    def kernel(w_std, b_std):
        own = {"w_std": w_std, "b_std": b_std}
        return NET.kernel(X, hyperparameters=(own, (), own)).ntk

    assert np.isfinite(kernel(1.0, 0.0)).all()
    assert np.isnan(kernel(-1.0, 0.0)).all()
    assert np.isnan(kernel(1.0, -0.1)).all()
