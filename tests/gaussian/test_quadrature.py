"""Duals of any function: against closed forms, a finer rule, mpmath and finite differences."""

from functools import cache, partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest

from ntkbook import duals
from ntkbook.gaussian import series
from ntkbook.gaussian.pairs import pair, value_and_slope
from ntkbook.gaussian.quadrature import expectation, hermite_series, quadrature

ANGLES = [0, 1e-6, 1e-3, 0.05, 0.3, 1.0, 1.6, 2.8, np.pi - 1e-4, np.pi]
VARIANCES = [(1e-12, 1e-12), (1e-3, 2e-3), (1.0, 1.0), (2.25, 1.0), (30.0, 10.0), (1e4, 1.0)]
VARIANCES += [(1e6, 1e6)]


def logistic(z):
    small = np.exp(-np.abs(z))
    return np.where(z > 0, 1, small) / (1 + small)


def softplus(z):
    return np.logaddexp(0, z)


def sech2(z):
    small = np.exp(-2 * np.abs(z))
    return 4 * small / (1 + small) ** 2


FUNCTIONS = {
    "tanh": (jnp.tanh, np.tanh, sech2),
    "softplus": (jax.nn.softplus, softplus, logistic),
    "softplus squared": (
        lambda z: jax.nn.softplus(z) ** 2,
        lambda z: softplus(z) ** 2,
        lambda z: 2 * softplus(z) * logistic(z),
    ),
    "swish": (
        jax.nn.silu,
        lambda z: z * logistic(z),
        lambda z: logistic(z) * (1 + z * logistic(-z)),
    ),
    "kinked": (
        lambda z: jnp.abs(z) + z / 2,
        lambda z: np.abs(z) + z / 2,
        lambda z: np.sign(z) + 0.5,
    ),
}


@cache
def fine_rule():
    """Polar nodes that halve their distance to each cut thirty times."""

    def panels(edges, count):
        t, w = np.polynomial.legendre.leggauss(count)
        ends = pairwise(edges)
        parts = [((a + b + (b - a) * t) / 2, (b - a) / 2 * w) for a, b in ends]
        return [np.concatenate(part) for part in zip(*parts, strict=True)]

    t, w = panels([0, *2.0 ** np.arange(-29, 1)], 16)
    r, weights = panels([0, *2.0 ** np.arange(-20, 0), 1, 2, 3, 4, 5, 6, 7, 8, 9.5], 16)
    return (np.concatenate([t - 1, 1 - t]), np.tile(w, 2)), (r, weights * r * np.exp(-r * r / 2))


def plane_mean(fn, q1, q2, theta):
    (t, weights), (r, radial) = fine_rule()
    total = 0
    for ends, half in ((theta - np.pi, theta / 2), (theta, (np.pi - theta) / 2)):
        alpha = ends / 2 + half * t
        u, v = (np.sqrt(q) * np.cos(a) for q, a in ((q1, alpha), (q2, alpha - theta)))
        u, v = u[:, None] * r, v[:, None] * r
        total += half * weights @ (fn(u, v) + fn(-u, -v)) @ radial
    return total / (2 * np.pi)


@partial(jax.jit, static_argnums=0)
def everything(name, q1, q2, cosine, gap):
    dual = quadrature(FUNCTIONS[name][0])
    both = pair(q1, q2, cosine, gap)
    return *dual.value_and_slope(both), dual.gap(both)


def at_angles(name, q1, q2, angles, dtype):
    theta = np.array(angles)
    gap = 2 * np.sin(np.minimum(theta, np.pi - theta) / 2) ** 2
    arrays = [[[q1]], [[q2]], np.cos(theta)[None], gap[None]]
    got = everything(name, *(jnp.asarray(a, dtype) for a in arrays))
    assert all(part.dtype == dtype for part in got)
    return [np.asarray(part, np.float64)[0] for part in got]


@cache
def exact(name, order, q1, q2, theta):
    """E[f(u) f(v)] of the function, or of its derivative for the order 1."""
    fn = FUNCTIONS[name][1 + order]
    return plane_mean(lambda u, v: fn(u) * fn(v), q1, q2, theta)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 1.5e-5)])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_value_and_slope_agree_with_a_finer_rule(name, dtype, tolerance):
    # A matrix, whose pairs share inputs, as in the kernel of a network.
    for q1, q2 in VARIANCES:
        got = at_angles(name, q1, q2, ANGLES, dtype)[:2]
        # The angle at which a steep function turns is itself rounded.
        allowed = tolerance * max(1, 1e-5 * q1) if dtype == "float32" else tolerance
        for order in (0, 1):
            size = np.sqrt(np.prod([exact(name, order, q, q, 0.0) for q in (q1, q2)]))
            for i in range(0, len(ANGLES), 3):
                error = abs(got[order][i] - exact(name, order, q1, q2, ANGLES[i]))
                assert error < allowed * size, (q1, q2, ANGLES[i])


def test_parallel_inputs_agree_with_mpmath():
    with mp.workdps(30):
        for q in (1e-12, 0.7, 100.0, 1e6):
            s = mp.sqrt(mp.mpf(q))
            ends = [0, *(k / s for k in (1, 3, 10, 30) if k < 5 * s), 5, 12]

            def mean(fn, ends=ends, s=s):
                return float(2 * mp.quad(lambda x: mp.npdf(x) * fn(s * x) ** 2, ends))

            exact = mean(mp.tanh), mean(lambda z: mp.sech(z) ** 2)
            got = value_and_slope(quadrature(jnp.tanh), q, q, q)
            np.testing.assert_allclose(got, exact, rtol=1e-12)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("q", [0.3, 2.0, 100.0])
def test_the_angle_after_the_layer_has_no_cancellation(name, q):
    angles = [1e-30, 1e-10, 1e-4, 0.02, 1.0]
    fn = FUNCTIONS[name][1]
    got = at_angles(name, q, q, angles + [0.0] * (len(ANGLES) - 5), "float64")[2]
    size = plane_mean(lambda u, v: fn(u) * fn(v), q, q, 0)
    # At small angles the mean over the plane would be rounding: there it is q E[f'²] θ²/2.
    wanted = [q * exact(name, 1, q, q, 0.0) * t**2 / 2 / size for t in angles[:2]]
    wanted += [
        plane_mean(lambda u, v: (fn(u) - fn(v)) ** 2 / 2, q, q, t) / size for t in angles[2:]
    ]
    # A series keeps all digits; in the plane an angle is rounded, as a number of order one.
    lost = 0 if name != "kinked" and q <= 2 else 1e-15
    error = np.abs(np.sqrt(got[:5]) - np.sqrt(wanted))
    assert (error < lost + 1e-9 * np.sqrt(wanted)).all()


def test_one_input_twice_has_exactly_no_angle():
    for name in FUNCTIONS:
        for q in (1e-9, 1.0, 300.0):
            # As many angles as elsewhere: one program serves all tests.
            assert at_angles(name, q, q, [0.0] * len(ANGLES), "float64")[2].max() == 0


@pytest.mark.parametrize(
    ("fn", "closed"),
    [
        (jnp.sin, duals.sin),
        (jax.scipy.special.erf, duals.erf),
        (jax.nn.relu, duals.relu),
        (jnp.exp, duals.exp),
        (lambda z: jnp.where(z > 0, 1.0, 0.0), duals.rectified_power(0)),
        (lambda z: z**3 - 2 * z, duals.polynomial((0, -2, 0, 1))),
        (lambda z: jnp.ones_like(z), duals.polynomial((1,))),
    ],
)
def test_closed_forms_are_met_in_a_large_matrix_and_pair_by_pair(fn, closed):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 40, 3))
    y[:5], y[5:10] = x[:5], -2 * x[5:10]
    q1, q2 = (jnp.asarray((z**2).mean(-1)) for z in (x, y))
    c = jnp.asarray(x @ y.T / 3)
    wanted = value_and_slope(closed, q1[:, None], q2[None], c)
    size = np.sqrt(np.outer(*(np.asarray(closed(q, q, q)) for q in (q1, q2))))
    both = quadrature(fn)
    for got, exact in zip(value_and_slope(both, q1[:, None], q2[None], c), wanted, strict=True):
        np.testing.assert_allclose(got / size, exact / size, atol=1e-11)
    row = value_and_slope(both, q1, q2, c.diagonal())
    for got, exact in zip(row, wanted, strict=True):
        np.testing.assert_allclose(
            got / size.diagonal(), exact.diagonal() / size.diagonal(), atol=1e-11
        )


@pytest.mark.parametrize("degree", [3, 40])
def test_a_low_degree_costs_time_and_no_digits(degree):
    q, c = jnp.array([[2.25, 0.5]]), jnp.array([[2.0, -0.3], [0.9, 0.1]])
    short, full = (quadrature(jnp.tanh, n) for n in (degree, series.DEGREE))
    for a, b in zip(*(value_and_slope(d, q.T, q, c) for d in (short, full)), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)
    cut = hermite_series(jnp.tanh, degree)(2.25, 2.25, 2.25)
    assert abs(cut - full(2.25, 2.25, 2.25)) > 1e-6


def test_the_series_alone_does_the_usual_work(monkeypatch):
    monkeypatch.setattr(series, "plane_integral", lambda *_: jnp.full(series._CHUNK, jnp.nan))
    x = np.random.default_rng(0).normal(size=(20, 8))
    q, c = jnp.asarray((x**2).mean(-1)), jnp.asarray(x @ x.T / 8)
    assert jnp.isfinite(jnp.stack(value_and_slope(quadrature(jnp.tanh), q[:, None], q, c))).all()


def test_many_pairs_that_share_no_input_are_taken_in_turns():
    rng = np.random.default_rng(0)
    q1, q2 = jnp.asarray(rng.uniform(0.1, 2, (2, 3, 401)))
    c = jnp.asarray(rng.uniform(-1, 1, (3, 401))) * jnp.sqrt(q1 * q2)
    got = jax.jit(partial(expectation, jnp.sin, jnp.sin))(q1, q2, c)
    np.testing.assert_allclose(got, duals.sin(q1, q2, c), atol=1e-13)


# Derivatives


@pytest.mark.parametrize("place", ["apart", "parallel", "zero"])
def test_first_derivatives_are_those_of_the_closed_form_also_at_a_kink(place):
    at = {"apart": (1.3, 0.6, -0.4), "parallel": (1.3, 1.3, 1.3), "zero": (0.0, 0.7, 0.0)}[place]
    cases = [(jax.scipy.special.erf, duals.erf), (jnp.sin, duals.sin)]
    cases += [(jnp.abs, duals.abrelu(-1, 1))] if place == "apart" else []
    for fn, closed in cases:
        got, wanted = (
            jax.jit(jax.grad(lambda *a, d=d: d(*map(jnp.asarray, a)), argnums=(0, 1, 2)))(*at)
            for d in (quadrature(fn), closed)
        )
        np.testing.assert_allclose(got, wanted, atol=1e-12)


def test_second_derivatives_are_those_of_the_closed_form():
    got, wanted = (
        jax.jit(jax.hessian(lambda a, d=d: d(a[0], a[1], a[2])))(jnp.array([1.3, 0.6, -0.4]))
        for d in (quadrature(jax.scipy.special.erf), duals.erf)
    )
    np.testing.assert_allclose(got, wanted, atol=1e-11)
