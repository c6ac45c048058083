"""Derivatives of the dynamics in the kernel, at repeated eigenvalues too, against mpmath."""

import itertools

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from linear_model import RATE, close, problem

from ntkbook import Dense, Erf, Kernel, Serial, circle, gradient_descent, gradient_flow
from ntkbook.training.descent import _Power
from ntkbook.training.flow import _Decay, _Gain

NET = Serial(Dense(8, 1.5, 0.1), Erf(), Dense(1, 1.2, 0.3))
ON_CIRCLE = np.array(NET.kernel(circle(16)).ntk)  # all but two of its eigenvalues are double
RNG = np.random.default_rng(0)
ABOVE_ZERO = ON_CIRCLE + 0.5 * np.eye(16)  # so that a step of finite size stays positive
DIRECTION = RNG.normal(size=(16, 16))
Y = RNG.normal(size=16)
CROSS = RNG.normal(size=(3, 16))


def ratio(f, a, b):
    """Divided difference of an mpmath function; where its points are equal, the derivative."""
    return mpmath.diff(f, a) if a == b else (f(a) - f(b)) / (a - b)


@pytest.mark.parametrize("t", [0.0, 1e-9, 0.3, 1.0, 40.0, 1e5])
def test_divided_differences_of_the_flow_to_thirteen_digits(t):
    values = np.array([3.0, 3.0, 3.0 * (1 + 1e-15), 2.9999999, 1.0, 0.33, 0.14, 1e-3, 1e-9, 0.0])
    with mpmath.workdps(60):
        tau = mpmath.mpf(t) * RATE

        def decay(lam):
            return mpmath.exp(-tau * lam)

        def gain(lam):
            x = tau * lam  # the series near zero, where mpmath's numerical derivative would go
            few = tau * mpmath.nsum(lambda n: (-x) ** n / mpmath.factorial(n + 1), [0, 40])
            return few if abs(x) < 1e-2 else -mpmath.expm1(-x) / lam

        for function, exact in ((_Decay(), decay), (_Gain(), gain)):
            found = function.divided(values, (jnp.array(t), jnp.array(RATE)))
            for i, j in itertools.product(range(len(values)), repeat=2):
                expected = float(ratio(exact, mpmath.mpf(values[i]), mpmath.mpf(values[j])))
                np.testing.assert_allclose(found[i, j], expected, rtol=1e-13, atol=1e-300)


@pytest.mark.parametrize("momentum", [0.0, 0.49])
@pytest.mark.parametrize("steps", [0, 1, 2, 37, 1000])
def test_divided_differences_of_descent(steps, momentum):
    values = np.array([2.0, 2.0, 1.99999999, 0.9, 0.05, 1e-9, 0.0])
    with mpmath.workdps(60):
        # In each mode a polynomial in λ, computed by the recursion itself.
        def state(lam):
            p, w, a = mpmath.mpf(1), mpmath.mpf(0), mpmath.mpf(0)
            for _ in range(steps):
                w = momentum * w + mpmath.mpf(RATE) * p
                p, a = p - lam * w, a + w
            return p, w, a

        for part in (0, 2):
            function = _Power(part, steps.bit_length())
            args = jnp.array(steps), jnp.array(RATE), jnp.array(momentum)
            found = function.divided(values, args)
            scale = np.abs(found).max()
            for i, j in itertools.product(range(len(values)), repeat=2):
                pair = mpmath.mpf(values[i]), mpmath.mpf(values[j])
                expected = float(ratio(lambda lam, part=part: state(lam)[part], *pair))
                np.testing.assert_allclose(found[i, j], expected, rtol=1e-10, atol=1e-13 * scale)


def in_many_digits(kernel, function):
    """f(K) y of a symmetric mpmath matrix."""
    values, vectors = mpmath.eigsy(kernel)
    return vectors * mpmath.diag([function(lam) for lam in values]) * vectors.T


def slope_in_many_digits(function, kernel=ON_CIRCLE, direction=DIRECTION):
    """d f(K)[E] by a central difference of step 1e-20 in 60 digits."""
    with mpmath.workdps(60):
        step, k = mpmath.mpf(10) ** -20, mpmath.matrix(kernel)
        e = mpmath.matrix((direction + direction.T) / 2)
        ahead, behind = (in_many_digits((k + k.T) / 2 + s * e, function) for s in (step, -step))
        return np.array(((ahead - behind) / (2 * step)).tolist(), dtype=float)


def flow(kernel, start=None):
    return gradient_flow(kernel, Y, RATE, f0=start)


def descent(kernel, start=None):
    return gradient_descent(kernel, Y, 0.05, 0.0, f0=start)


@pytest.mark.parametrize(
    ("solve", "t", "decay"),
    [
        (flow, 0.7, lambda lam: mpmath.exp(-mpmath.mpf(RATE) * mpmath.mpf(0.7) * lam)),
        (flow, 300.0, lambda lam: mpmath.exp(-mpmath.mpf(RATE) * 300 * lam)),
        (descent, 30, lambda lam: (1 - mpmath.mpf(0.05) * lam) ** 30),
    ],
)
def test_slopes_on_the_circle_equal_those_in_sixty_digits(solve, t, decay):
    moved = slope_in_many_digits(decay)
    grown = slope_in_many_digits(lambda lam: (1 - decay(lam)) / lam)
    residual = np.array(solve(ON_CIRCLE).residual(t))
    # The decomposition is exact for a kernel that is off by rounding, which time multiplies.
    rounding = 16 * np.finfo(float).eps * (10 + RATE * t * np.linalg.norm(ON_CIRCLE, 2))
    expected = {
        "residual": -moved @ Y,
        "train": -moved @ Y,
        "coefficients": grown @ Y,
        "test": CROSS @ grown @ Y,
        "loss": residual @ -moved @ Y,
    }
    for name, wanted in expected.items():
        more = (CROSS,) if name == "test" else ()

        def value(kernel, name=name, more=more):
            return getattr(solve(kernel), name)(t, *more)

        forward = jax.jvp(value, (ON_CIRCLE,), (DIRECTION,))[1]
        back = (jax.jacrev(value)(jnp.array(ON_CIRCLE)) * DIRECTION).sum((-2, -1))
        terms = residual * (moved @ Y) if name == "loss" else wanted  # those of the loss cancel
        for slope in (forward, back):
            error = np.abs(slope - wanted).max()
            assert error < rounding * np.linalg.norm(terms), (name, error)


def finite_difference(f, x, direction, step=1e-3):
    """Central differences of three steps, extrapolated: the error is of order step⁶."""
    slopes = [
        (np.array(f(x + s * direction)) - np.array(f(x - s * direction))) / (2 * s)
        for s in (step, step / 2, step / 4)
    ]
    better = [(4 * fine - coarse) / 3 for coarse, fine in itertools.pairwise(slopes)]
    return (16 * better[1] - better[0]) / 15


@pytest.fixture(scope="module")
def scaled():
    """The kernel of training and test points as a function of a factor of all scales, compiled."""
    x, start = circle(8), NET.hyperparameters()
    both = jnp.concatenate([x, 0.7 * x[:3]])

    @jax.jit
    def kernel(factor):
        return NET.kernel(both, hyperparameters=jax.tree.map(lambda a: a * factor, start))

    return kernel, jax.jvp(kernel, (1.0,), (1.0,))


@pytest.mark.parametrize("t", [2.0, np.inf])
def test_slopes_in_the_hyperparameters_of_a_network_on_the_circle(t, scaled):
    kernel, (at_one, moved) = scaled

    def values(whole):
        k, cross, own = (
            jax.tree.map(lambda part, at=at: part[at], whole)
            for at in (np.s_[:8, :8], np.s_[8:, :8], np.s_[8:, 8:])
        )
        model = gradient_flow(k, jnp.array(Y[:8]), RATE)
        mean, covariance = model.ensemble(t, cross, own)
        inner = (1e3 * model.ensemble(t)[1]).sum() if np.isfinite(t) else 0.0
        return jnp.array([model.loss(t), mean.sum(), (covariance**2).sum(), inner])

    # Through the network by the chain rule: its own derivatives take long to compile.
    expected = finite_difference(lambda factor: values(kernel(factor)), 1.0, 1.0)
    forward = jax.jvp(values, (at_one,), (moved,))[1]
    products = jax.tree.map(
        lambda slope, change: (slope * change).sum((-2, -1)), jax.jacrev(values)(at_one), moved
    )
    for found in (forward, sum(jax.tree.leaves(products))):
        np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("momentum", [0.0, 0.6])
def test_slopes_of_descent_with_outputs_and_a_start(momentum):
    y, start = RNG.normal(size=(16, 2)), RNG.normal(size=(16, 2))
    steps = np.array([0, 3, 50])

    def value(kernel):
        model = gradient_descent(kernel, y, 0.05, momentum, start)
        return jnp.concatenate(
            [model.test(steps, CROSS, start[:3]).ravel(), model.loss(steps), model.train(9).ravel()]
        )

    symmetric = DIRECTION + DIRECTION.T
    expected = finite_difference(value, ABOVE_ZERO, symmetric)
    np.testing.assert_allclose(
        jax.jvp(value, (ABOVE_ZERO,), (symmetric,))[1], expected, rtol=1e-8, atol=1e-8
    )
    weights = RNG.normal(size=expected.shape)
    back = jax.jit(jax.grad(lambda kernel: value(kernel) @ weights))(jnp.array(ABOVE_ZERO))
    np.testing.assert_allclose((back * symmetric).sum(), expected @ weights, rtol=1e-8)


def test_slopes_of_a_kernel_that_keeps_its_rank():
    # J(s) of integers: the null space turns with s, and stays null.
    j, g = (RNG.integers(-3, 4, size=(6, 3)).astype(float) for _ in range(2))
    y, direction = RNG.normal(size=6), g @ j.T + j @ g.T

    def exact(s):
        with mpmath.workdps(50):
            m = mpmath.matrix(j) + s * mpmath.matrix(g)
            inner = (m.T * m) ** -1
            alpha = m * inner * inner * m.T * mpmath.matrix(y)
            return [alpha[i] for i in range(6)], [(m * m.T * alpha)[i] for i in range(6)]

    with mpmath.workdps(50):
        step = mpmath.mpf(10) ** -15
        expected = [
            np.array([float((a - b) / (2 * step)) for a, b in zip(*pair, strict=True)])
            for pair in zip(exact(step), exact(-step), strict=True)
        ]

    def ends(kernel):
        model = gradient_flow(kernel, y)
        return model.coefficients(jnp.inf), model.train(jnp.inf), model.loss(jnp.inf)

    found = jax.jvp(ends, (j @ j.T,), (direction,))[1]
    close(found[0], expected[0], 1e-11)
    close(found[1], expected[1], 1e-11)
    left = gradient_flow(j @ j.T, y).residual(jnp.inf)
    close(found[2], left @ expected[1], 1e-11)


def test_slopes_where_modes_are_null_and_their_null_space_is_lifted():
    # At finite times all is smooth at λ = 0: to first order a null mode's residual falls by ηtE.
    close(
        jax.jvp(lambda k: flow_at_zero(k).residual(2.0), (np.zeros((3, 3)),), (np.eye(3),))[1],
        2.0 * RATE * np.ones(3),
    )
    j = RNG.integers(-3, 4, size=(6, 3)).astype(float)
    direction, y = DIRECTION[:6, :6], Y[:6]
    for t in (0.01, 3.0):
        tau = mpmath.mpf(RATE) * mpmath.mpf(t)
        for name, function in (
            ("residual", lambda lam, tau=tau: -mpmath.exp(-tau * lam)),
            ("coefficients", lambda lam, tau=tau: tau * mpmath.hyp1f1(1, 2, -tau * lam)),
        ):
            wanted = slope_in_many_digits(function, j @ j.T, direction) @ y
            found = jax.jvp(
                lambda k, name=name, t=t: getattr(gradient_flow(k, y, RATE), name)(t),
                (j @ j.T,),
                (direction,),
            )[1]
            np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-11 * np.abs(wanted).max())


def flow_at_zero(kernel):
    return gradient_flow(kernel, np.ones(3), RATE)


def test_slopes_are_those_through_the_eigenvectors_where_none_are_repeated():
    j, j_test, y, _, _ = problem()
    kernel, cross = jnp.array(j @ j.T), j_test @ j.T
    times = jnp.array([0.1, 4.0])

    def through_vectors(kernel):
        values, vectors = jnp.linalg.eigh(kernel)
        grown = -jnp.expm1(-RATE * values * times[:, None]) / values
        return ((grown * (vectors.T @ y)) @ vectors.T @ cross.T) ** 2

    def through_flow(kernel):
        return gradient_flow(kernel, y, RATE).test(times, cross) ** 2

    for derivative in (jax.jacfwd, jax.jacrev):
        found, expected = (jax.jit(derivative(f))(kernel) for f in (through_flow, through_vectors))
        close(found, expected, 1e-11)
    expected = jax.jit(jax.hessian(through_vectors))(kernel)
    for outer in (jax.jacfwd, jax.jacrev):
        close(jax.jit(outer(jax.jacrev(through_flow)))(kernel), expected, 1e-9)


@pytest.mark.parametrize("solve", ["flow", "descent"])
def test_mixed_second_derivatives(solve):
    def slopes(kernel):
        def loss(y, rate):
            if solve == "flow":
                return gradient_flow(kernel, y, rate).loss(1.3)
            return gradient_descent(kernel, y, rate, 0.4).loss(9)

        by_y, by_rate = jax.grad(loss, (0, 1))(jnp.array(Y), 0.05)
        return jnp.append(by_y, by_rate)

    # No eigenvalue of this one is repeated; on the circle the eigenvectors have no derivative.
    distinct, symmetric = ABOVE_ZERO + np.diag(np.arange(16) / 8), (DIRECTION + DIRECTION.T) / 10
    found = jax.jvp(slopes, (distinct,), (symmetric,))[1]
    close(found, finite_difference(slopes, distinct, symmetric), 1e-8)
    assert np.isnan(jax.jvp(slopes, (ABOVE_ZERO,), (symmetric,))[1]).all()


def test_other_derivatives_do_not_pay_for_that_in_the_kernel():
    model = flow(ON_CIRCLE)
    for value in (model.loss, lambda t: model.train(t).sum()):
        assert "(16,16,16)" not in str(jax.make_jaxpr(jax.grad(value))(1.0)).replace(" ", "")
        assert "scan" not in str(jax.make_jaxpr(jax.grad(value))(1.0))
    loss = lambda k: flow(k).loss(1.0)  # noqa: E731
    assert "scan" in str(jax.make_jaxpr(jax.grad(loss))(ON_CIRCLE))


def test_a_kernel_of_both_kinds_moves_in_its_nngp_too():
    nngp, ntk = (np.array(part) for part in (NET.kernel(circle(16)).nngp, ON_CIRCLE))

    def spread(s):
        return gradient_flow(Kernel(nngp + s * np.eye(16), ntk), Y, RATE).ensemble(0.5)[1].sum()

    close(jax.grad(spread)(0.0), finite_difference(spread, 0.0, 1.0), 1e-9)
