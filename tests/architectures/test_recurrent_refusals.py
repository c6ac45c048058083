"""What recurrent layers refuse, by name."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from step_loops import recurrent, sequences

import ntkbook as ntk
from ntkbook import Dense, Elementwise, Erf, Flatten, LastStep, Recurrent, Relu, Residual, Serial
from ntkbook.networks.activations import Nonlinearity


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda x: recurrent(LastStep()).kernel(x[:, 0]), r"\(n, \*space, channels\)"),
        (
            lambda x: recurrent(LastStep()).kernel(x[:, None]),
            r"expects sequences \(n, T, channels\), got images with 2 axes",
        ),
        (lambda x: recurrent(LastStep()).kernel(x, x[:, 1:]), "sequences of one length"),
        (lambda x: Serial(Flatten(), Recurrent(4, Relu())).kernel(x), "got vectors; it comes bef"),
        (lambda x: Serial(Flatten(), LastStep()).kernel(x), "got vectors; it comes before"),
        (lambda x: LastStep().apply((), x[:, None]), "got images with 2 axes of pixels"),
        (lambda x: LastStep().apply((), x[0]), "expects sequences"),
        (lambda x: Serial(Recurrent(4, Relu())).kernel(x), "expects outputs without pixels"),
        (lambda x: Serial(Recurrent(4, Relu()), Dense(1)).kernel(x), r"put Flatten\(\) before it"),
        (
            lambda x: Serial(Recurrent(4, Relu()), Erf(), LastStep()).kernel(x),
            "another nonlinearity",
        ),
        (
            lambda x: Serial(Residual(Recurrent(2, Relu())), LastStep()).kernel(x),
            "branch of a Residual to end in a Dense layer",
        ),
        (lambda x: recurrent(LastStep()).kernel(x * np.nan), "x1 must be finite"),
        (lambda x: Recurrent(0, Relu()), "width must be at least 1"),
        (lambda x: Recurrent(4, Relu(), w_std=0), "w_std must be a positive"),
        (lambda x: Recurrent(4, Relu(), u_std=-1.0), "u_std must be a positive"),
        (lambda x: Recurrent(4, Relu(), b_std=-1.0), "b_std must be a non-negative"),
        (lambda x: Recurrent(4, Relu()).apply({"w": jnp.ones((4, 4))}, x), r"\['u', 'w'\], got"),
        (
            lambda x: Recurrent(4, Relu()).apply({"w": jnp.ones((4, 4)), "u": jnp.ones((3, 4))}, x),
            r"x must have shape \(4, 4, 3\)",
        ),
        (
            lambda x: Recurrent(4, Relu()).apply({"w": jnp.ones((4, 5)), "u": jnp.ones((2, 4))}, x),
            "w must have shape",
        ),
        (
            lambda x: recurrent(LastStep()).kernel(
                x,
                hyperparameters=(
                    {"w_std": 1.0, "u_std": 0.0, "b_std": 0.0},
                    (),
                    {"w_std": 1.0, "b_std": 0.0},
                ),
            ),
            r"hyperparameters\[0\]\['u_std'\] must be a positive",
        ),
    ],
)
def test_what_has_no_answer_is_refused(use, message):
    with pytest.raises(ValueError, match=message):
        use(sequences(23, 4, 4, 2))


def test_a_function_that_jax_cannot_trace_is_named():
    net = recurrent(LastStep(), Elementwise(np.tanh, "tanh"))
    for use in (net.kernel, net.kernel_diagonal):
        with pytest.raises(TypeError, match=r"fn of tanh must be written in JAX, .* not np.tanh"):
            use(sequences(23, 4, 4, 2))


class Doubled(Nonlinearity):
    """A nonlinearity whose dual is that of half of it."""

    fn = staticmethod(lambda z: 2 * jax.scipy.special.erf(z))
    dual = ntk.duals.erf


def test_a_nonlinearity_from_elsewhere_is_probed():
    with pytest.raises(ValueError, match="propagate contradicts apply in .*Doubled"):
        recurrent(LastStep(), Doubled()).kernel(sequences(23, 4, 4, 2))


@pytest.mark.parametrize("wrong", [Relu, jnp.tanh, "relu", Dense(4), Serial(Relu()), None])
def test_what_is_no_nonlinearity_is_refused(wrong):
    with pytest.raises(TypeError, match=r"nonlinearity must be a layer with a dual, such as Relu"):
        Recurrent(4, wrong)


def test_what_leaves_the_range_is_named():
    x = sequences(24, 3, 4, 2).astype(np.float32)
    net = Serial(Recurrent(4, Relu(), w_std=1e12), LastStep(), Dense(1))
    with pytest.raises(ValueError, match=r"overflows float32 in net.layers\[0\]"):
        net.kernel(x)
