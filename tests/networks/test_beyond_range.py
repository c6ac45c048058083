"""Kernels beyond the range of their dtype inside `jit`, where no error can be raised."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ntkbook as ntk

ACTIVATIONS = {
    "relu": ntk.Relu(),
    "leaky": ntk.LeakyRelu(0.3),
    "abs": ntk.Abs(),
    "step": ntk.RectifiedPower(0),
    "rectified": ntk.RectifiedPower(1),
    "square": ntk.RectifiedPower(2),
    "erf": ntk.Erf(),
    "sin": ntk.Sin(),
    "cos": ntk.Cos(),
    "rbf": ntk.Rbf(0.3),
    "exp": ntk.Exp(),
    "gaussian": ntk.Gaussian(0.5),
    "gelu": ntk.Gelu(),
    "cubic": ntk.Polynomial((0, 1, 0, -0.1)),
    "even": ntk.Polynomial((1, 0, 0.5)),
    "tanh": ntk.Tanh(),
}
# Any angle, the same input, a parallel, the opposite and an orthogonal one, a longer one.
X = np.array([[0.6, -0.35], [0.6, -0.35], [0.3, -0.175], [-0.6, 0.35], [0.35, 0.6], [0.9, 1.0]])
FOUR = np.concatenate([X] * 4)  # as many as there are lengths below: the same program will do
PLACES = {"first": 0, "middle": 1, "last": 2}
HUGE = {"float32": 1e25, "float64": 1e200}


@cache
def kernels(name, dtype):
    """A compiled function of one scale, its place, the bias and x: both kernels of two layers."""
    dense, activation = ntk.Dense(4, 1.0, 0.1), ACTIVATIONS[name]
    net = ntk.Serial(dense, activation, dense, activation, dense)

    def compute(w_std, place, b_std, x):
        scales = [{"w_std": jnp.where(i == place, w_std, 1), "b_std": b_std} for i in range(3)]
        own = (scales[0], (), scales[1], (), scales[2])
        kernel = net.kernel(x, x, hyperparameters=own)
        return kernel, net.kernel_diagonal(x, hyperparameters=own)

    compiled = jax.jit(compute)

    def call(w_std, place, b_std, x):
        numbers = (jnp.asarray(number, dtype) for number in (w_std, b_std, x))
        w_std, b_std, x = numbers
        return jax.tree.leaves(jax.tree.map(np.asarray, compiled(w_std, place, b_std, x)))

    return call


@pytest.mark.parametrize("dtype", HUGE)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_a_variance_beyond_the_range_leaves_no_number(name, dtype):
    compute, x = kernels(name, dtype), X if name == "tanh" else FOUR
    assert np.isfinite(compute(1.0, 0, 0.1, x)[0]).all()
    for place in PLACES.values():
        for b_std in (0.0, 0.1):
            for matrix in compute(HUGE[dtype], place, b_std, x):
                assert matrix.dtype == dtype
                assert not np.isfinite(matrix).any(), (place, b_std, matrix)


@np.errstate(over="ignore")
@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if name != "tanh"])
def test_what_is_finite_in_float32_is_what_float64_says(name):
    # Lengths over ten powers of ten, parallel to the last bit: some variances leave the range.  The
    # largest that doesn't leaves 1 - |ρ| of opposite inputs with a bias, 2 b²/q, a normal number.
    x = np.concatenate([2.0**power * X.astype("float32") for power in (-20, -10, 0, 10)])
    single, double = (kernels(name, dtype) for dtype in HUGE)
    lost = kept = 0
    for place in PLACES.values():
        for w_std in np.array([1e12, 1e15, 1e17, 1e18, 1e20], "float32"):
            got, exact = (compute(w_std, place, np.float32(0.1), x) for compute in (single, double))
            sizes = [np.sqrt(np.outer(diagonal, diagonal)) for diagonal in exact[2:]]
            for matrix, truth, size in zip(got, exact, (*sizes, *exact[2:]), strict=True):
                finite = np.isfinite(matrix)
                error = np.abs(matrix - truth)[finite] / size[finite]
                assert (error < 1e-3).all(), (place, w_std)
                lost, kept = lost + (~finite).sum(), kept + finite.sum()
    assert lost > 500
    assert kept > 500


def test_an_underflow_is_not_told_from_a_zero():
    compute = kernels("relu", "float32")
    for b_std in (0.0, 0.1):
        vanished, zero = (compute(1e-18, 0, b_std, x) for x in (1e-8 * FOUR, 0 * FOUR))
        for got, expected in zip(vanished, zero, strict=True):
            np.testing.assert_array_equal(got, expected)
