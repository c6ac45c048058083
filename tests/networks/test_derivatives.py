"""Derivatives of kernels in inputs and scales at ties and at zero, against 60-digit differences."""

from functools import cache

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from exact_duals import CASES

import ntkbook as ntk

ACTIVATIONS = {
    "erf": ntk.Erf(),
    "gelu": ntk.Gelu(),
    "sin": ntk.Sin(),
    "cos": ntk.Cos(),
    "rbf": ntk.Rbf(0.3),
    "gaussian": ntk.Gaussian(0.5),
    "exp": ntk.Exp(),
    "z - z³/10": ntk.Polynomial((0, 1, 0, -0.1)),
    "1 + 2z + z²/2": ntk.Polynomial((1, 2, 0.5)),
    "rectified power 3": ntk.RectifiedPower(3),
    "rectified power 2": ntk.RectifiedPower(2),
    "relu": ntk.Relu(),
    "leaky relu": ntk.LeakyRelu(0.25),
}
A, ZERO = (0.7, -1.2), (0.0, 0.0)
# Any angle; one input zero, the other, both; equal, parallel, opposite ones of either length.
PLACES = {
    "any": (A, (0.5, 0.9)),
    "first zero": (ZERO, A),
    "second zero": (A, ZERO),
    "both zero": (ZERO, ZERO),
    "equal": (A, A),
    "parallel": (A, (1.4, -2.4)),
    "opposite": (A, (-0.7, 1.2)),
    "antiparallel": (A, (-0.35, 0.6)),
}
W_STD = 0.8


def network(activation):
    dense = ntk.Dense(1, W_STD, 0.3)
    return ntk.Serial(dense, activation, dense, activation, dense)


def both(net):
    """Both kernels of one pair as a function of x1, x2, w_std and b_std, in one vector."""

    def kernels(p):
        scales = {"w_std": p[4], "b_std": p[5]}
        kernel = net.kernel(
            p[None, :2], p[None, 2:4], hyperparameters=(scales, (), scales, (), scales)
        )
        return jnp.stack([kernel.nngp[0, 0], kernel.ntk[0, 0]])

    return kernels


def exact(dual, p):
    """The same, by the recursion as the textbook has it."""
    x1, x2, w2, b2 = p[:2], p[2:4], p[4] ** 2, p[5] ** 2
    q1, q2, c = (w2 * mp.fdot(u, v) / 2 + b2 for u, v in ((x1, x1), (x2, x2), (x1, x2)))
    theta = c
    for _ in range(2):
        value, slope = dual(q1, q2, c)
        q1, q2, c = (w2 * part + b2 for part in (dual(q1, q1, q1)[0], dual(q2, q2, q2)[0], value))
        theta = c + w2 * slope * theta
    return np.array([c, theta])


def differences(dual, point):
    """Gradients and Hessians by central differences."""
    step, unit = mp.mpf(10) ** -15, np.eye(len(point), dtype=int)
    with mp.workdps(60):

        @cache
        def near(*move):
            return exact(dual, [mp.mpf(x) + k * step for x, k in zip(point, move, strict=True)])

        def at(move):
            return near(*move.tolist())

        gradient = [(at(e) - at(-e)) / (2 * step) for e in unit]
        hessian = [
            [(at(e + d) - at(e - d) - at(d - e) + at(-e - d)) / (4 * step**2) for d in unit]
            for e in unit
        ]
        return np.array(gradient, float).T, np.moveaxis(np.array(hessian, float), -1, 0)


def is_smooth(name, place, b_std, order, part):
    """Whether the kernel (part 0) or the tangent kernel has a derivative of this order there."""
    power = {"relu": 1, "leaky relu": 1, "rectified power 2": 2, "rectified power 3": 3}.get(name)
    if power is None:
        return True
    if "zero" in place and b_std == 0:
        return order < power  # an odd power of a length
    tied = place == "equal" or place == "both zero" or (b_std == 0 and place != "any")
    # With θ the angle, the value lacks θ^(2 power + 1) and the slope θ^(2 power - 1).
    return not tied or order < 2 * power + 1 - 2 * part


@pytest.mark.parametrize("b_std", [0.3, 0.0])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_first_and_second_derivatives_in_inputs_and_scales(name, b_std):
    kernels, dual = both(network(ACTIVATIONS[name])), CASES[name][1]
    first, compared = jax.jacfwd(kernels), 0
    second = jax.jacfwd(first)
    for place, inputs in PLACES.items():
        point = [*inputs[0], *inputs[1], W_STD, b_std]
        got = first(jnp.array(point)), second(jnp.array(point))
        for order, derivatives in enumerate(zip(got, differences(dual, point), strict=True), 1):
            for part, (ours, oracle) in enumerate(zip(*derivatives, strict=True)):
                assert np.isfinite(ours).all(), place
                if is_smooth(name, place, b_std, order, part):
                    size = max(1, np.abs(oracle).max())
                    np.testing.assert_allclose(
                        ours, oracle, rtol=0, atol=1e-12 * size, err_msg=place
                    )
                    compared += 1
    assert compared >= 12


@pytest.mark.parametrize("b_std", [0.3, 0.0])
def test_a_skip_connection_passes_them_on(b_std):
    dense = ntk.Dense(1, W_STD, b_std)
    skip = ntk.Residual(ntk.Erf(), dense)
    net = ntk.Serial(dense, skip, ntk.Sin(), dense)

    def kernels(p):
        scales = {"w_std": p[4], "b_std": p[5]}
        own = (scales, ((), scales), (), scales)
        kernel = net.kernel(p[None, :2], p[None, 2:4], hyperparameters=own)
        return jnp.stack([kernel.nngp[0, 0], kernel.ntk[0, 0]])

    def erf(q1, q2, c):
        sides = (1 + 2 * q1) * (1 + 2 * q2)
        value = jnp.asin(2 * c / jnp.sqrt(sides))
        return 2 / jnp.pi * value, 4 / jnp.pi / jnp.sqrt(sides - 4 * c * c)

    def sin(q1, q2, c):
        mean = jnp.exp(-(q1 + q2) / 2)
        return mean * jnp.sinh(c), mean * jnp.cosh(c)

    def recursion(p):
        # As the textbook has it: smooth where an input is zero, and not next to parallel ones.
        w2, b2 = p[4] ** 2, p[5] ** 2
        x1, x2 = p[:2], p[2:4]
        first = [w2 * (u @ v) / 2 + b2 for u, v in ((x1, x1), (x2, x2), (x1, x2))]
        q1, q2, c = first
        value, slope = erf(q1, q2, c)
        theta = c + w2 * value + b2 + w2 * slope * c
        added = (w2 * erf(*ends)[0] + b2 for ends in ((q1,) * 3, (q2,) * 3, first))
        q1, q2, c = (q + more for q, more in zip(first, added, strict=True))
        value, slope = sin(q1, q2, c)
        c = w2 * value + b2
        return jnp.stack([c, c + w2 * slope * theta])

    for place in ("any", "first zero", "second zero", "both zero"):
        point = jnp.array([*PLACES[place][0], *PLACES[place][1], W_STD, b_std])
        for order in (jax.jacfwd, lambda f: jax.jacfwd(jax.jacfwd(f))):
            ours, exact_ones = order(kernels)(point), order(recursion)(point)
            np.testing.assert_allclose(ours, exact_ones, atol=1e-13, err_msg=place)


@pytest.mark.parametrize("b_std", [0.3, 0.0])
def test_those_by_quadrature_are_as_good(b_std):
    by_quadrature = ntk.Elementwise(jax.scipy.special.erf, "erf")
    ours, closed = (jax.jacfwd(both(network(a))) for a in (by_quadrature, ntk.Erf()))
    for place, inputs in PLACES.items():
        point = jnp.array([*inputs[0], *inputs[1], W_STD, b_std])
        np.testing.assert_allclose(ours(point), closed(point), rtol=0, atol=1e-10, err_msg=place)


def test_backwards_and_forwards_agree_in_a_matrix_with_zero_rows():
    net = network(ntk.Erf())
    x = jnp.array([A, ZERO, (0.5, 0.9), ZERO])
    weights = jnp.cos(jnp.arange(16.0)).reshape(4, 4)

    def total(x):
        kernel, own = net.kernel(x), net.kernel_diagonal(x)
        assert kernel.ntk.shape == (4, 4)
        return (weights * (kernel.nngp + kernel.ntk)).sum() + (own.nngp * own.ntk).sum()

    def from_pairs(x):
        scales = jnp.array([W_STD, 0.3])
        pairs = jnp.array([[both(net)(jnp.concatenate([a, b, scales])) for b in x] for a in x])
        return (weights * pairs.sum(-1)).sum() + jnp.diagonal(pairs.prod(-1)).sum()

    backwards = jax.grad(total)(x)
    np.testing.assert_allclose(backwards, jax.jacfwd(total)(x), atol=1e-14)
    np.testing.assert_allclose(backwards, jax.jacfwd(from_pairs)(x), atol=1e-13)


@pytest.mark.parametrize("activation", [ntk.Relu(), ntk.LeakyRelu(0.25), ntk.Abs()])
def test_a_kink_at_an_input_of_zero_has_the_derivative_along_the_other(activation):
    # K(h x2, x2) is h K(x2, x2) for h > 0, and a derivative across x2 depends on its sign.
    dense = ntk.Dense(1, 1.3)
    net = ntk.Serial(dense, activation, dense, activation, dense)
    x2 = jnp.array([A])
    gradient = jax.jacfwd(lambda x1: net.kernel(x1, x2))(jnp.zeros((1, 2)))
    for part in ("nngp", "ntk"):
        own = getattr(net.kernel_diagonal(x2), part)[0]
        expected = own * x2[0] / (x2[0] @ x2[0])
        np.testing.assert_allclose(getattr(gradient, part)[0, 0, 0], expected, rtol=1e-13)
