"""Kernels of recurrent layers against plain recursions, finite differences and mpmath."""

from __future__ import annotations

from functools import cache

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from step_loops import (
    DUALS,
    READOUTS,
    SCALES,
    cos,
    erf,
    inputs_of,
    read_out,
    recurrent,
    recursion,
    relu,
    sequences,
)

import ntkbook as ntk
from ntkbook import (
    Conv,
    Cos,
    Dense,
    Elementwise,
    Erf,
    GlobalAveragePool,
    LastStep,
    LeakyRelu,
    Recurrent,
    Relu,
    Serial,
)

ENDS = pytest.mark.parametrize("end", [LastStep(), GlobalAveragePool()], ids=repr)


@pytest.mark.parametrize("end", READOUTS, ids=repr)
@pytest.mark.parametrize("nonlinearity", DUALS, ids=repr)
def test_the_recursion_over_pairs_of_steps(end, nonlinearity):
    x = sequences(0, 3, 4, 2)
    net = recurrent(end, nonlinearity)
    kernel, diagonal = net.kernel(x), net.kernel_diagonal(x)
    k, theta = read_out(end, *recursion(*inputs_of(x), DUALS[nonlinearity]))
    np.testing.assert_allclose(kernel.nngp, k, rtol=1e-13)
    np.testing.assert_allclose(kernel.ntk, theta, rtol=1e-13)
    np.testing.assert_allclose(diagonal.nngp, np.diagonal(k), rtol=1e-13)
    np.testing.assert_allclose(diagonal.ntk, np.diagonal(theta), rtol=1e-13)
    assert (kernel.ntk == kernel.ntk.T).all()
    np.testing.assert_allclose(net.kernel(x, x[::-1]).ntk, kernel.ntk[:, ::-1], rtol=1e-13)


@ENDS
def test_layers_on_top_of_one_another_and_after_a_convolution(end):
    x = sequences(1, 3, 4, 2)
    conv, again = Conv(8, 3, w_std=1.3), Recurrent(8, Relu(), 0.8, 1.1, 0.1)
    first = Recurrent(8, Erf(), **SCALES)
    net = Serial(conv, Relu(), first, again, end, Dense(1, 1.1, 0.2))
    k, _ = inputs_of(x)
    padded = np.pad(k, [(0, 0), (0, 0), (1, 1), (1, 1)])
    k = 1.69 / 3 * sum(padded[..., i : i + 4, i : i + 4] for i in range(3))
    q = np.einsum("iitt->it", k)
    value, slope = relu(k, q[:, None, :, None], q[None, :, None, :])
    states = recursion(value, slope * k, erf)
    states = recursion(*states, relu, w_std=0.8, u_std=1.1, b_std=0.1)
    k, theta = read_out(end, *states)
    kernel = net.kernel(x)
    np.testing.assert_allclose(kernel.nngp, k, rtol=1e-13)
    np.testing.assert_allclose(kernel.ntk, theta, rtol=1e-13)


def test_at_the_last_step_weights_might_be_drawn_anew_at_each_but_not_in_an_average():
    x = sequences(2, 3, 4, 2)
    for end in (LastStep(), GlobalAveragePool()):
        wrong = read_out(end, *recursion(*inputs_of(x), erf, tied=False))[1]
        off = np.abs(recurrent(end, Erf()).kernel(x).ntk / wrong - 1).max()
        assert off < 1e-13 if end == LastStep() else off > 0.1


def test_the_state_before_the_first_step_is_zero_whatever_the_nonlinearity_makes_of_zero():
    x = sequences(3, 3, 4, 2)
    for end in READOUTS:
        kernel = recurrent(end, Cos()).kernel(x)
        leaked = read_out(end, *recursion(*inputs_of(x), cos, start=1.0))
        assert np.abs(np.asarray(kernel.nngp) / leaked[0] - 1).max() > 0.03
    # Of one step nothing but U and b is seen.
    one, dense = x[:, :1], Serial(Dense(8, 0.9, 0.3), Cos(), Dense(1, 1.1, 0.2))
    for end in READOUTS:
        net = recurrent(end, Cos())
        np.testing.assert_allclose(net.kernel(one).ntk, dense.kernel(one[:, 0]).ntk, rtol=1e-14)
    shares = recurrent(GlobalAveragePool(), Cos()).kernel_shares(one)[0]
    assert (shares["w"] == 0).all()
    assert (shares["u"] != 0).all()


def test_without_biases_zeros_before_a_sequence_change_nothing():
    # So that sequences of other lengths have a kernel: K_{t,s} depends on steps back from both.
    long, short = sequences(4, 3, 4, 2), sequences(5, 3, 2, 2)
    padded = np.pad(short, [(0, 0), (2, 0), (0, 0)])
    for nonlinearity, dual in ((Relu(), relu), (Erf(), erf)):
        net = recurrent(LastStep(), nonlinearity, b_std=0.0)
        np.testing.assert_allclose(net.kernel(padded).ntk, net.kernel(short).ntk, rtol=1e-14)
        cross = net.kernel(long, padded)
        tail = recursion(*inputs_of(np.concatenate([long[:, 2:], short])), dual, b_std=0.0)
        assert np.abs(cross.ntk / read_out(LastStep(), *tail)[1][:3, 3:] - 1).max() > 0.01
        params = net.init(jax.random.key(0), (2, 2))
        np.testing.assert_allclose(net.apply(params, padded), net.apply(params, short), rtol=1e-13)


def test_shares_are_those_of_each_array():
    x = sequences(6, 3, 4, 2)
    for end in (LastStep(), GlobalAveragePool()):
        net = recurrent(end)
        shares, kernel = net.kernel_shares(x), net.kernel(x)
        np.testing.assert_allclose(sum(jax.tree.leaves(shares)), kernel.ntk, rtol=1e-14)
        for i, name in enumerate("wub"):
            _, part = recursion(*inputs_of(x), relu, gains=np.eye(3)[i])
            np.testing.assert_allclose(shares[0][name], 1.21 * READOUTS[end](part), rtol=1e-12)
    deep = recurrent(GlobalAveragePool(), layers=2)
    parts = jax.tree.leaves(deep.kernel_shares(x))
    np.testing.assert_allclose(sum(parts), deep.kernel(x).ntk, rtol=1e-14)
    assert len(parts) == 8


# Against 50 digits: nearly equal, parallel and antipodal sequences.


def exact(a, b, average):
    """Θ of a ReLU layer with σ_w² = 2, σ_u = 1 and no biases."""
    steps = range(len(a))
    a, b = ([[mpmath.mpf(float(v)) for v in row] for row in x] for x in (a, b))

    def inner(x, y):
        return [[mpmath.fsum(map(mpmath.fmul, u, v)) / len(u) for v in y] for u in x]

    def variances(x):
        q = []
        for step in steps:
            q.append(inner(x, x)[step][step] + (q[-1] if q else 0))  # 2 · q/2
        return q

    k, qa, qb = inner(a, b), variances(a), variances(b)
    value = [[mpmath.mpf(0)] * (len(a) + 1) for _ in range(len(a) + 1)]
    tangent = [row[:] for row in value]
    for t in steps:
        for s in steps:
            c = k[t][s] + 2 * value[t][s]
            norm = mpmath.sqrt(qa[t] * qb[s])
            angle = mpmath.acos(max(-1, min(1, c / norm)))
            rest = mpmath.pi - angle
            value[t + 1][s + 1] = (
                norm * (mpmath.sin(angle) + rest * mpmath.cos(angle)) / (2 * mpmath.pi)
            )
            tangent[t + 1][s + 1] = (c + 2 * tangent[t][s]) * rest / (2 * mpmath.pi)
    if not average:
        return value[-1][-1] + tangent[-1][-1]
    return sum(map(sum, value + tangent)) / len(a) ** 2


@ENDS
def test_nearly_equal_parallel_and_antipodal_sequences(end):
    x = sequences(7, 2, 4, 2)
    near = x[0] + 1e-6 * x[1]
    x = np.stack([x[0], near, 3 * x[0], -x[0], x[1]])
    net = Serial(Recurrent(8, Relu(), w_std=2**0.5), end, Dense(1))
    kernel = net.kernel(x)
    with mpmath.workdps(50):
        for j in range(len(x)):
            truth = float(exact(x[0], x[j], end != LastStep()))
            size = np.sqrt(kernel.ntk[0, 0] * kernel.ntk[j, j])
            assert abs(kernel.ntk[0, j] - truth) < 4e-15 * size, j


def test_distances_of_nearly_equal_sequences_keep_their_digits():
    # 1 - cosine after 30 steps, of order 1e-12, from which K(x, x) - K(x, x') would keep no digit.
    x = sequences(8, 2, 30, 2)
    x = np.stack([x[0], x[0] + 1e-6 * x[1]])
    layer = Recurrent(8, Erf(), **SCALES)
    # The kernel of steps is (π - θ)/2π: the angle θ itself, which 1 - cos θ would hide.
    net = Serial(layer, LastStep(), Dense(8), ntk.RectifiedPower(0), Dense(1))
    angle = np.pi - 2 * np.pi * float(net.kernel(x).nngp[0, 1])
    with mpmath.workdps(50):
        k = erf_in_many_digits(x)
        truth = float(mpmath.acos(k[0][1] / mpmath.sqrt(k[0][0] * k[1][1])))
    assert abs(angle / truth - 1) < 1e-8


def erf_in_many_digits(x):
    x = [[[mpmath.mpf(float(v)) for v in row] for row in rows] for rows in x]
    w2, u2, b2 = (mpmath.mpf(SCALES[n]) ** 2 for n in ("w_std", "u_std", "b_std"))
    k = [[mpmath.mpf(0)] * 2 for _ in range(2)]
    for t in range(len(x[0])):
        z = [
            [
                w2 * k[i][j] + b2 + u2 * mpmath.fsum(map(mpmath.fmul, x[i][t], x[j][t])) / 2
                for j in range(2)
            ]
            for i in range(2)
        ]
        roots = [mpmath.sqrt(1 + 2 * z[i][i]) for i in range(2)]
        k = [
            [2 / mpmath.pi * mpmath.asin(2 * z[i][j] / (roots[i] * roots[j])) for j in range(2)]
            for i in range(2)
        ]
    return k


# Numbers at the edge.


def test_single_precision():
    x = sequences(9, 3, 4, 2).astype(np.float32)
    for end in READOUTS:
        net = recurrent(end)
        single, double = net.kernel(x), net.kernel(x.astype(float))
        assert single.ntk.dtype == jnp.float32
        np.testing.assert_allclose(single.ntk, double.ntk, rtol=2e-6)


@ENDS
def test_a_hundred_steps_of_all_sorts_of_sequences(end):
    x = sequences(10, 2, 100, 2)
    x = np.stack([x[0], 3 * x[0], -x[0], 0 * x[0], x[1]])
    for w_std in (2**0.5, 0.5, 2.0):
        kernel = recurrent(end, w_std=w_std, b_std=0.0).kernel(x)
        assert jnp.isfinite(kernel.ntk).all()
        theta = np.asarray(kernel.ntk) - 0.04
        np.testing.assert_allclose(theta[0, 1] / theta[0, 0], 3, rtol=1e-11)
        np.testing.assert_allclose(theta[3], 0, atol=1e-15)
    assert jnp.isfinite(recurrent(end, Erf(), w_std=3.0).kernel(x).ntk).all()


@cache
def rates(end):
    """The sum of Θ at scales and sequences, and how it changes along directions of both.

    One program for all scales, sequences and directions, whose parts would be compiled one by one.
    """
    net = recurrent(end, Erf())
    leaves, tree = jax.tree.flatten(net.hyperparameters())

    def value(leaves, x):
        return net.kernel(x, hyperparameters=jax.tree.unflatten(tree, list(leaves))).ntk.sum()

    return value, jnp.array(leaves), jax.jit(lambda at, along: jax.jvp(value, at, along))


@ENDS
def test_derivatives_in_scales_and_sequences(end):
    x, direction = sequences(13, 3, 4, 2), sequences(12, 3, 4, 2)
    net = recurrent(end, Erf())
    assert net.hyperparameters()[0] == SCALES
    _, leaves, moved = rates(end)
    np.testing.assert_allclose(
        moved((leaves, x), (leaves, x))[0], net.kernel(x).ntk.sum(), rtol=1e-13
    )
    for i in range(4):  # the three scales of the layer, and the sequences
        along = np.eye(len(leaves))[i] * (i < 3), direction * (i == 3)
        ahead, behind = (
            moved((leaves + h * along[0], x + h * along[1]), along)[0] for h in (1e-5, -1e-5)
        )
        rate = moved((leaves, x), along)[1]
        np.testing.assert_allclose(rate, (ahead - behind) / 2e-5, rtol=1e-7)


def test_gradients_in_reverse():
    value, leaves, moved = rates(LastStep())
    x, along = sequences(13, 3, 4, 2), sequences(14, len(leaves))
    slopes = jax.jit(jax.grad(value))(leaves, x)
    rate = moved((leaves, x), (along, 0 * x))[1]
    np.testing.assert_allclose(slopes @ along, rate, rtol=1e-12)


@ENDS
def test_sequences_of_zeros_have_derivatives(end):
    x, direction = sequences(11, 3, 4, 2), sequences(12, 3, 4, 2)
    x[0, 1:3] = 0
    x[1] = 0
    moved = rates(end)[2]
    leaves = np.array(jax.tree.leaves(recurrent(end, b_std=0.0).hyperparameters()))
    zero = 0 * leaves
    rate = moved((leaves, x), (zero, direction))[1]
    ahead, behind = (moved((leaves, x + h * direction), (zero, x))[0] for h in (1e-5, -1e-5))
    np.testing.assert_allclose(rate, (ahead - behind) / 2e-5, rtol=1e-6)
    assert jnp.isfinite(moved((leaves, x), (zero + 1, 0 * x))[1])


def test_jit_tiles_and_other_numbers_of_sequences():
    x = sequences(15, 70, 4, 2)  # tiles of 64, with all pairs of 4 steps
    net = recurrent(GlobalAveragePool())
    kernel = net.kernel(x)
    np.testing.assert_allclose(net.kernel(x[:3], x[60:63]).ntk, kernel.ntk[:3, 60:63], rtol=1e-13)
    jitted = jax.jit(lambda a: net.kernel(a).ntk)(x[:3])
    np.testing.assert_allclose(jitted, kernel.ntk[:3, :3], rtol=1e-13)
    assert np.linalg.eigvalsh(kernel.ntk).min() > 0


# Other nonlinearities, and what has no answer.


def test_nonlinearities_with_numbers_and_by_quadrature():
    x = sequences(22, 3, 4, 2)
    like_relu = recurrent(LastStep(), LeakyRelu(0.0)).kernel(x)
    np.testing.assert_allclose(like_relu.ntk, recurrent(LastStep()).kernel(x).ntk, rtol=1e-13)
    numerical = Elementwise(jnp.cos, "cosine")
    kernel, closed = (recurrent(LastStep(), phi).kernel(x) for phi in (numerical, Cos()))
    np.testing.assert_allclose(kernel.ntk, closed.ntk, rtol=1e-8)
    with pytest.raises(ValueError, match="quadrature resolves nothing"):
        recurrent(LastStep(), numerical, w_std=1e8).kernel(x)


def test_layers_of_one_form_share_a_program():
    a, b = (Recurrent(width, Relu(), w_std) for width, w_std in ((4, 1.0), (8, 2.0)))
    assert a._form(False) == b._form(False)
    assert a != b
    assert hash(a) == hash(Recurrent(4, Relu()))
    assert not Serial(a).ends_in_weights
