"""Layer normalisation: its kernel against 50-digit arithmetic, its faces against one another."""

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from exact_duals import CASES, cos, erf, gelu, relu_like

import ntkbook as ntk
from ntkbook.gaussian.pairs import Dual
from ntkbook.networks.activations import Nonlinearity

DIGITS = 50
X = jnp.array([[1.2, -0.7], [1.2, -0.7 + 1e-6], [3.6, -2.1], [-1.2, 0.7], [0.3, 0.9], [1.0, 0.0]])
NEAR = jnp.array([[1.2, -0.7], [1.2, -0.7 + 1e-9], [2.4, -1.4 + 1e-7], [-1.2, 0.7 + 1e-8]])

PAIRS = {
    "relu": (ntk.Relu(), relu_like(0, 1)),
    "leaky": (ntk.LeakyRelu(0.25), relu_like(0.25, 1)),
    "erf": (ntk.Erf(), erf),
    "gelu": (ntk.Gelu(), gelu),
    "cos": (ntk.Cos(), cos),
}


def oracle(dual, depth, x1, x2, place, w_std, b_std):
    """nngp and ntk of one pair with a LayerNorm in each layer, after or before the nonlinearity."""
    w2, b2, eps = mp.mpf(w_std) ** 2, mp.mpf(b_std) ** 2, mp.mpf(1e-12)
    a, b = ([mp.mpf(float(v)) for v in x] for x in (x1, x2))
    ends = [w2 * mp.fdot(u, v) / 2 + b2 for u, v in ((a, a), (b, b), (a, b))]
    theta = ends[2]

    def divided(q1, q2, c, theta):
        size = mp.sqrt(q1 + eps) * mp.sqrt(q2 + eps)
        return q1 / (q1 + eps), q2 / (q2 + eps), c / size, theta / size

    for _ in range(depth):
        q1, q2, c = ends
        if place == "before":
            q1, q2, c, theta = divided(q1, q2, c, theta)
        value, slope = dual(q1, q2, c)
        theta *= slope
        after = [dual(q1, q1, q1)[0], dual(q2, q2, q2)[0], value]
        if place == "after":
            # E φ(u) E φ(v) is the dual of two independent ones: no formula of a mean is needed.
            square1, square2, product = (
                dual(*q, mp.mpf(0))[0] for q in ((q1, q1), (q2, q2), (q1, q2))
            )
            apart = after[0] - square1, after[1] - square2, value - product
            *after, theta = divided(*apart, theta)
        ends = [w2 * part + b2 for part in after]
        theta = ends[2] + w2 * theta
    return ends[2], theta, mp.sqrt(ends[0] * ends[1])


def network(activation, depth, place, w_std=1.3, b_std=0.2):
    dense = ntk.Dense(64, w_std=w_std, b_std=b_std)
    block = [activation, ntk.LayerNorm()] if place == "after" else [ntk.LayerNorm(), activation]
    return ntk.Serial(dense, *[part for _ in range(depth) for part in (*block, dense)])


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("name", PAIRS)
def test_kernels_keep_their_digits(name, place):
    activation, dual = PAIRS[name]
    rtol = 1e-10 if name == "cos" and place == "after" else 1e-13
    for depth, scales in ((1, (1.3, 0.2)), (4, (1.1, 0.0))):
        net = network(activation, depth, place, *scales)
        kernel, own = net.kernel(X), net.kernel_diagonal(X)
        np.testing.assert_allclose(own.ntk, np.diag(kernel.ntk), rtol=1e-13)
        with mp.workdps(DIGITS):
            for i, j in np.ndindex(kernel.nngp.shape):
                nngp, theta, scale = oracle(dual, depth, X[i], X[j], place, *scales)
                size = float(jnp.sqrt(own.ntk[i] * own.ntk[j]))
                assert abs(mp.mpf(float(kernel.nngp[i, j])) - nngp) <= rtol * scale
                assert abs(mp.mpf(float(kernel.ntk[i, j])) - theta) <= rtol * size


@pytest.mark.parametrize("name", ["relu", "erf", "gelu"])
def test_the_angle_between_near_inputs_survives_centring(name):
    """1 - T'(ρ) of a further ReLU is the angle itself: some 1e-9 of it would be lost by T - m m'.

    The inputs have different lengths as well; of GELU, which has a scale, only equal ones count.
    """
    activation, dual = PAIRS[name]
    x = NEAR[jnp.array([0, 1])] if name == "gelu" else NEAR
    net = ntk.Serial(*network(activation, 1, "after", 1.3, 0.0).layers, ntk.Relu(), ntk.Dense(1))
    kernel = net.kernel(x)
    own = net.kernel_diagonal(x)
    lost = 1 - np.asarray(kernel.ntk[0]) / np.sqrt(own.ntk[0] * own.ntk)
    with mp.workdps(DIGITS):
        for column, row in enumerate(x):
            ends = [oracle(dual, 1, *pair, "after", 1.3, 0.0) for pair in ((x[0],) * 2, (row,) * 2)]
            c, theta, norm = oracle(dual, 1, x[0], row, "after", 1.3, 0.0)
            relu = relu_like(0, 1)
            value, slope = relu(norm, norm, c)
            values = [relu(e[0], e[0], e[0]) for e in ends]
            tops = [v[0] + v[1] * e[1] for v, e in zip(values, ends, strict=True)]
            exact = 1 - (value + slope * theta) / mp.sqrt(tops[0] * tops[1])
            assert abs(lost[column] - exact) <= 4e-15 + 1e-7 * exact


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("q", [0.0, 0.3, 2.7])
def test_means_of_duals_are_those_of_independent_pairs(name, q):
    dual, exact = CASES[name]
    q = 0.3 if name == "step" and q == 0 else q  # what jumps at zero has no value there
    mean = dual.mean(jnp.array([q, 1.7]))
    with mp.workdps(30):
        product = exact(mp.mpf(q), mp.mpf(1.7), mp.mpf(0))[0]
    np.testing.assert_allclose(float(mean[0] * mean[1]), float(product), rtol=1e-14, atol=1e-16)


@pytest.mark.parametrize("layer", [ntk.Tanh(), ntk.Elementwise(jax.nn.softplus, "softplus")])
def test_means_without_closed_form_are_integrals(layer):
    q = jnp.array([0.4, 2.0])
    fn = {"Tanh": mp.tanh}.get(type(layer).__name__, lambda z: mp.log(1 + mp.exp(z)))
    for got, variance in zip(layer.dual.mean(q), q, strict=True):
        root = mp.sqrt(float(variance))
        exact = mp.quad(lambda z: fn(root * z) * mp.npdf(z), [-12, 0, 12])  # noqa: B023
        assert abs(float(got) - exact) < 1e-13


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "block",
    [
        [ntk.LayerNorm(), ntk.Relu(), ntk.Dense(8, 2**0.5)],
        [ntk.Erf(), ntk.LayerNorm(), ntk.Dense(8, 0.05)],  # nearly linear: not very chaotic
        [ntk.Residual(ntk.LayerNorm(), ntk.Relu(), ntk.Dense(8), scale=0.1)],
        [ntk.Residual(ntk.Erf(), ntk.Dense(8)), ntk.LayerNorm()],
    ],
)
def test_no_input_makes_nan_at_depth_one_thousand(block, dtype):
    rows = [[1, 2, 0], [1, 2, 0], [-1, -2, 0], [2, 4, 0], [0, 0, 0], [1, 2, 1e-6]]
    x = jnp.array(rows, dtype)
    net = ntk.Serial(ntk.Dense(8), *block * 1000)
    for kernel in (net.kernel(x), net.kernel_diagonal(x)):
        for matrix in (kernel.nngp, kernel.ntk):
            assert matrix.dtype == dtype
            assert np.isfinite(matrix).all()
            np.testing.assert_array_equal(matrix[0], matrix[1])
            assert (matrix[4] == 0).all()  # zeros stay zeros without biases


def test_the_finite_layer_is_the_formula():
    x = np.random.default_rng(0).standard_normal((4, 9))
    expected = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 0.1)
    np.testing.assert_allclose(ntk.LayerNorm(0.1).apply((), x), expected, rtol=1e-14)
    np.testing.assert_array_equal(ntk.LayerNorm().apply((), jnp.full((1, 3), 2.5)), [[0.0] * 3])


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("point", [0.4, 1.1])
def test_derivatives_are_those_of_the_plain_formula(place, point):
    """ReLU, where m = sqrt(q/2π), against the recursion in terms of the covariance."""
    net = network(ntk.Relu(), 1, place, 1.3, 0.3)
    a, b = jnp.array([1.0, 0.2]), jnp.array([-0.4, 0.8])

    def plain(p):
        ends = [1.69 * u @ v / 2 + 0.09 for u, v in ((p * a, p * a), (b, b), (p * a, b))]
        theta = ends[2]

        def divided(q1, q2, c, theta):
            size = jnp.sqrt((q1 + 1e-12) * (q2 + 1e-12))
            return q1 / (q1 + 1e-12), q2 / (q2 + 1e-12), c / size, theta / size

        if place == "before":
            *ends, theta = divided(*ends, theta)
        q1, q2, c = ends
        angle = jnp.arccos(c / jnp.sqrt(q1 * q2))
        slope = (jnp.pi - angle) / (2 * jnp.pi)
        value = jnp.sqrt(q1 * q2 - c * c) / (2 * jnp.pi) + slope * c
        after, theta = (q1 / 2, q2 / 2, value), slope * theta
        if place == "after":
            means = jnp.sqrt(jnp.array([q1 * q1, q2 * q2, q1 * q2])) / (2 * jnp.pi)
            *after, theta = divided(*(t - m for t, m in zip(after, means, strict=True)), theta)
        c = 1.69 * after[2] + 0.09
        return jnp.stack([c, c + 1.69 * theta])

    def kernels(p):
        kernel = net.kernel(p * a[None], b[None])
        return jnp.stack([kernel.nngp[0, 0], kernel.ntk[0, 0]])

    for turn in (lambda f: f, jax.jacfwd, lambda f: jax.jacfwd(jax.jacrev(f))):
        np.testing.assert_allclose(turn(kernels)(point), turn(plain)(point), rtol=1e-9, atol=1e-11)


def test_all_estimators_take_it():
    x = jax.random.normal(jax.random.key(0), (3, 5))
    block = ntk.Residual(ntk.LayerNorm(), ntk.Relu(), ntk.Dense(32), scale=0.5)
    net = ntk.Serial(ntk.Dense(32), block, ntk.Relu(), ntk.LayerNorm(), ntk.Dense(2))
    params = net.init(jax.random.key(1), (5,))
    kernels = [
        ntk.empirical_ntk(net.apply, params, x, method=method)
        for method in ("factorised", "contraction", "products")
    ]
    for kernel in kernels[1:]:
        np.testing.assert_allclose(kernel, kernels[0], rtol=1e-10, atol=1e-12)
    shares = jax.tree.leaves(ntk.empirical_shares(net.apply, params, x))
    np.testing.assert_allclose(sum(shares), kernels[0], rtol=1e-10, atol=1e-12)
    parts = jax.tree.leaves(net.kernel_shares(x))
    np.testing.assert_allclose(sum(parts), net.kernel(x).ntk, rtol=1e-12)
    linear = ntk.linearize(net.apply, params)
    np.testing.assert_allclose(linear(params, x), net.apply(params, x), rtol=1e-12)


def test_epsilon_is_a_number_and_needs_no_compilation(caplog):
    def kernel(epsilon):
        caplog.clear()
        net = ntk.Serial(ntk.Dense(3), ntk.LayerNorm(epsilon), ntk.Erf(), ntk.Dense(1))
        with jax.log_compiles(), caplog.at_level("WARNING"):
            ntk_matrix = net.kernel(X[:2]).ntk
        return ntk_matrix, [e.message for e in caplog.records if "Compiling" in e.message]

    kernel(0.1)
    again, compiled = kernel(0.2)
    assert not compiled
    assert not np.allclose(again, kernel(0.1)[0])


class Unknown(Nonlinearity):
    """A nonlinearity whose dual doesn't say the mean."""

    fn = staticmethod(jnp.sin)
    dual = Dual(ntk.duals.sin.formula)


def test_what_has_no_answer_is_refused():
    norm = ntk.LayerNorm()
    for layers in ([norm], [ntk.Dense(4), Unknown(), norm]):
        with pytest.raises(ValueError, match=r"entries of known mean .* got other entries"):
            ntk.Serial(*layers, ntk.Dense(1)).kernel(X)
    with pytest.raises(ValueError, match=r"two features or more .* got shape \(6, 1\)"):
        norm.apply((), X[:, :1])
    with pytest.raises(ValueError, match="epsilon must be a positive finite number, got 0"):
        ntk.LayerNorm(0)
    with pytest.raises(TypeError, match="epsilon must be a known number"):
        jax.jit(lambda e: ntk.LayerNorm(e).apply((), X))(0.1)


def test_channels_of_images_are_normalised_pixel_by_pixel():
    """Two layers of images against sampled networks: the limit carries pairs of pixels."""
    x = jax.random.normal(jax.random.key(0), (2, 3, 3, 2))

    def conv():
        return ntk.Conv(64, (2, 2), w_std=1.4)

    head = [ntk.GlobalAveragePool(), ntk.Dense(1)]
    net = ntk.Serial(
        conv(), ntk.Relu(), ntk.LayerNorm(), conv(), ntk.LayerNorm(), ntk.Relu(), *head
    )

    def draw(key):
        return ntk.empirical_ntk(net.apply, net.init(key, x.shape[1:]), x)

    drawn = np.array(jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(1), 48)))
    error = drawn.std(0, ddof=1) / 48**0.5
    theory = np.asarray(net.kernel(x).ntk)
    assert (np.abs(drawn.mean(0) - theory) < 4.5 * error + 0.02 * np.abs(theory)).all()
    assert (error < 0.05 * np.abs(theory).max()).all()
