"""Infinite-width kernels against 50-digit arithmetic, to depth 50, at every angle."""

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
import sympy as sp
from exact_duals import cos, cubic, erf, gaussian, gelu, power, rbf, relu_like, sin

import ntkbook as ntk
from ntkbook._base.tiles import side_of
from ntkbook.gaussian.pairs import atan

DIGITS = 50
DEPTHS = (1, 3, 50)


# Activation, oracle, w_std, b_std: such that nothing underflows at depth 50.
CASES = {
    "relu": (ntk.Relu(), relu_like(0, 1), 2**0.5, 0.0),
    "relu with bias": (ntk.Relu(), relu_like(0, 1), 1.3, 0.2),
    "leaky": (ntk.LeakyRelu(0.25), relu_like(0.25, 1), 1.3, 0.1),
    "abs": (ntk.Abs(), relu_like(-1, 1), 1.0, 0.0),
    "erf": (ntk.Erf(), erf, 1.3, 0.2),
    "erf chaotic": (ntk.Erf(), erf, 2.5, 0.0),
    "sin": (ntk.Sin(), sin, 1.4, 0.3),
    "cos": (ntk.Cos(), cos, 1.2, 0.1),
    "rbf": (ntk.Rbf(0.3), rbf(mp.mpf(0.3)), 1.0, 0.1),
    "gaussian": (ntk.Gaussian(0.5), gaussian(mp.mpf(0.5)), 1.2, 0.4),
    "gelu": (ntk.Gelu(), gelu, 1.4, 0.1),
    "squared relu": (ntk.RectifiedPower(2), power(2), 0.8, 0.0),
    "cubic": (ntk.Polynomial((0, 1, 0, -0.1)), cubic, 0.9, 0.1),
}
# Faster than linear: the variance is squared or cubed by each layer, and so is its rounding.
SUPERLINEAR = ("squared relu", "cubic")


def pairs():
    """Inputs in the plane whose angles to the first one go through all scales, and edge cases."""
    one = np.array([1.2, -0.7])
    across = np.array([0.7, 1.2])
    angles = np.sqrt(2 * 10.0 ** -np.arange(2.0, 17.0, 2.0))
    near = [np.cos(t) * one + np.sin(t) * across for t in angles]
    far = [np.cos(t) * one + np.sin(t) * across for t in (0.3, 1.2, np.pi / 2, 2.0, 3.0)]
    lengths = [one, 3 * one, 0.1 * one, 1.7 * near[2], one * (1 + 1e-9)]
    opposite = [-one, -2 * one, -near[0], -near[4]]
    return np.array([one]), np.array(near + far + lengths + opposite)


def oracle(dual, w_std, b_std, depth, x1, x2):
    """nngp and ntk of one pair by the recursion, exactly as the textbook has it."""
    w2, b2 = mp.mpf(w_std) ** 2, mp.mpf(b_std) ** 2
    a, b = ([mp.mpf(float(v)) for v in x] for x in (x1, x2))

    def inner(u, v):
        return w2 * mp.fdot(u, v) / len(u) + b2

    q1, q2, c = inner(a, a), inner(b, b), inner(a, b)
    theta = c
    for _ in range(depth):
        value, slope = dual(q1, q2, c)
        q1, q2, c = w2 * dual(q1, q1, q1)[0] + b2, w2 * dual(q2, q2, q2)[0] + b2, w2 * value + b2
        theta = c + w2 * slope * theta
    return c, theta, mp.sqrt(q1 * q2)


def network(activation, w_std, b_std, depth):
    dense = ntk.Dense(64, w_std=w_std, b_std=b_std)
    return ntk.Serial(*(dense, activation) * depth, dense)


@pytest.mark.parametrize(
    ("name", "depth"),
    [(n, d) for n in CASES for d in DEPTHS if d <= 3 or n not in SUPERLINEAR],
)
def test_kernels_keep_thirteen_digits_at_every_angle_and_depth(name, depth):
    activation, dual, w_std, b_std = CASES[name]
    x1, x2 = pairs()
    net = network(activation, w_std, b_std, depth)
    # Inputs of different lengths are compared up to a unit of rounding in the angle, which this
    # network enlarges several thousand times.
    rtol = 1e-12 if (name, depth) == ("erf chaotic", 50) else 1e-13
    kernel = net.kernel(jnp.asarray(x1), jnp.asarray(x2))
    ntk_diagonal = np.sqrt(net.kernel_diagonal(jnp.asarray(x2)).ntk)
    with mp.workdps(DIGITS):
        for column, x in enumerate(x2):
            nngp, theta, scale = oracle(dual, w_std, b_std, depth, x1[0], x)
            got = kernel.nngp[0, column], kernel.ntk[0, column]
            # Relative to the entry, or, where a kernel changes sign, to the diagonal.
            own = float(net.kernel_diagonal(jnp.asarray(x1)).ntk[0]) ** 0.5 * ntk_diagonal[column]
            bounds = max(abs(nngp), scale / 10), max(abs(theta), own / 10)
            for value, exact, bound in zip(got, (nngp, theta), bounds, strict=True):
                assert abs(mp.mpf(float(value)) - exact) <= rtol * bound, (column, value, exact)


FORMULAS = {
    "relu": ntk.duals.relu,
    "leaky": ntk.duals.abrelu(0.25, 1),
    "square": ntk.duals.rectified_power(2),
    "erf": ntk.duals.erf,
    "sin": ntk.duals.sin,
    "cos": ntk.duals.cos,
    "rbf": ntk.duals.rbf(0.3),
    "exp": ntk.duals.exp,
    "gaussian": ntk.duals.gaussian(0.5),
    "gelu": ntk.duals.gelu,
    "polynomial": ntk.duals.polynomial((1, 2, 0, 3)),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_the_expression_that_is_proved_is_the_one_that_computes(name):
    q1, q2, c = sp.symbols("q1 q2 c", real=True)
    dual = FORMULAS[name]
    expression = dual.expression(q1, q2, c)
    slope = sp.diff(expression, c)
    for point in ((1.3, 0.6, 0.5), (0.7, 2.1, -0.9), (3.0, 0.2, 0.0)):
        at = dict(zip((q1, q2, c), point, strict=True))
        got = ntk.duals.value_and_slope(dual, *point)
        exact = [float(part.subs(at).evalf(30)) for part in (expression, slope)]
        np.testing.assert_allclose(got, exact, rtol=1e-13)


def special_inputs(dtype):
    rows = [[1, 2, 0], [1, 2, 0], [-1, -2, 0], [2, 4, 0], [0, 0, 0], [1, 2, 1e-6]]
    return jnp.array(rows, dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["relu", "relu with bias", "erf", "sin", "gelu", "abs"])
def test_no_input_makes_nan_at_depth_one_thousand(name, dtype):
    activation, _, w_std, b_std = CASES[name]
    net = network(activation, w_std, b_std, 1000)
    if dtype == "float32" and name in ("erf", "sin"):
        # In the chaotic phase the tangent kernel leaves the range of float32.
        with pytest.raises(ValueError, match="overflows float32 in net.layers"):
            net.kernel(special_inputs(dtype))
        return
    kernel = net.kernel(special_inputs(dtype))
    for matrix in (kernel.nngp, kernel.ntk):
        assert matrix.dtype == dtype
        assert not np.isnan(matrix).any()
        np.testing.assert_array_equal(matrix[0], matrix[1])
    if name == "relu":
        # Homogeneity: 1001 layers share the diagonal equally.
        scale = np.abs(np.diagonal(kernel.nngp)) * 1001
        rtol = 5e-4 if dtype == "float32" else 1e-12
        np.testing.assert_allclose(np.diagonal(kernel.ntk), scale, rtol=rtol)


@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 5e-13), ("float32", 2e-4)])
@pytest.mark.parametrize("name", ["relu", "erf"])
def test_one_thousand_layers_near_criticality(name, dtype, rtol):
    # Where E[φ'(u)²] σ_w² is 1, gradients neither grow nor decay: the kernels change by powers.
    activation, dual, w_std, b_std = CASES[name]
    if name == "erf":
        w_std, b_std = 0.5 * np.pi**0.5, 0.0
    x = np.array([[1.2, -0.7], [0.7, 1.2], [1.2, -0.6999], [-2.4, 1.4], [0.1, 0.9]], dtype)
    kernel = network(activation, w_std, b_std, 1000).kernel(x[:1], x)
    with mp.workdps(DIGITS):
        for column, row in enumerate(x):
            nngp, theta, scale = oracle(dual, w_std, b_std, 1000, x[0], row)
            for got, exact in ((kernel.nngp, nngp), (kernel.ntk, theta)):
                error = abs(mp.mpf(float(got[0, column])) - exact)
                assert error <= rtol * max(abs(exact), scale), column  # a unit or so per layer


def test_repeated_inputs_of_many_features_count_as_one():
    x = jax.random.normal(jax.random.key(0), (3, 300))
    net = network(ntk.Relu(), 2**0.5, 0.0, 3)
    both = net.kernel(x, jnp.concatenate([x, 3 * x]))
    diagonal = 4 * (np.asarray(x) ** 2).sum(-1) / 300 * 2
    np.testing.assert_allclose(np.diagonal(both.ntk[:, :3]), diagonal, rtol=1e-13)
    np.testing.assert_allclose(np.diagonal(both.ntk[:, 3:]), 3 * diagonal, rtol=1e-13)


def test_exact_differences_resolve_close_inputs_of_many_features():
    x = jax.random.normal(jax.random.key(1), (1, 200))
    steps = 10.0 ** -jnp.arange(1.0, 8.0)[:, None]
    near = x + steps * jax.random.normal(jax.random.key(2), (7, 200))
    kernel = network(ntk.Relu(), 2**0.5, 0.0, 3).kernel(x, near, exact=True)
    with mp.workdps(DIGITS):
        for column in range(len(near)):
            _, theta, _ = oracle(relu_like(0, 1), 2**0.5, 0.0, 3, x[0], near[column])
            assert abs(mp.mpf(float(kernel.ntk[0, column])) / theta - 1) < 1e-13


@pytest.mark.parametrize(("n1", "n2"), [(5, 3), (32, 33), (256, 40), (300, 260), (700, 20)])
def test_tiles_agree_with_whole_matrices(n1, n2):
    x = jax.random.normal(jax.random.key(3), (n1, 5))
    net = network(ntk.Erf(), 1.3, 0.2, 2)
    tiled, whole = net.kernel(x), jax.jit(lambda x: net.kernel(x))(x)
    cross = net.kernel(x, x[:n2])
    for name in ("nngp", "ntk"):
        matrix = getattr(tiled, name)
        np.testing.assert_array_equal(matrix, matrix.T)
        np.testing.assert_allclose(matrix, getattr(whole, name), rtol=1e-13, atol=1e-14)
        np.testing.assert_allclose(matrix[:, :n2], getattr(cross, name), rtol=1e-13, atol=1e-14)
        own = getattr(net.kernel_diagonal(x), name)
        np.testing.assert_allclose(np.diagonal(matrix), own, rtol=1e-14)


@pytest.mark.parametrize("sizes", [(40, 41, 47), (400, 401, 700)])
def test_another_number_of_inputs_compiles_nothing(sizes, caplog):
    x = jax.random.normal(jax.random.key(3), (max(sizes), 7))
    net = network(ntk.Erf(), 1.0 + sizes[0] / 1000, 0.2, 2)  # in no other test

    def compiled(n):
        caplog.clear()
        with jax.log_compiles(), caplog.at_level("WARNING"):
            net.kernel(inputs[n])
        return [entry.message for entry in caplog.records if "Compiling" in entry.message]

    inputs = {n: x[:n] for n in sizes}
    assert compiled(sizes[0])
    assert [compiled(n) for n in sizes[1:]] == [[], []]


def test_padding_little_more_than_doubles_the_work():
    def padded(n):
        side = side_of(n)
        return -(-n // side) * side

    assert max((padded(n) / n) ** 2 for n in range(16, 3000)) < 2.3


def test_kernels_near_the_largest_number_stay_finite():
    x = 3e18 * np.random.default_rng(0).standard_normal((20, 3)).astype(np.float32)
    ntk_matrix = network(ntk.Relu(), 2.0, 0.0, 1).kernel(x).ntk
    assert float(ntk_matrix.max()) > jnp.finfo(jnp.float32).max / 2
    assert bool(jnp.isfinite(ntk_matrix).all())


def test_no_inputs_give_empty_matrices():
    net, x = network(ntk.Relu(), 2**0.5, 0.1, 2), jnp.ones((3, 5))
    assert net.kernel(x[:0]).ntk.shape == (0, 0)
    assert net.kernel(x, x[:0]).nngp.shape == (3, 0)


@pytest.mark.parametrize("activation", [ntk.Relu(), ntk.Gelu()])
def test_gradients_in_hyperparameters_agree_with_differences(activation):
    x = special_inputs("float64")
    net = network(activation, 1.3, 0.2, 2)
    leaves, tree = jax.tree.flatten(net.hyperparameters())

    @jax.jit
    def total(leaves):
        kernel = net.kernel(x, hyperparameters=jax.tree.unflatten(tree, leaves))
        return (jnp.cos(jnp.arange(36.0)).reshape(6, 6) * (kernel.ntk + kernel.nngp)).sum()

    leaves = jnp.array(leaves)
    gradient = jax.jit(jax.grad(total))(leaves)
    steps = 1e-5 * np.eye(len(leaves))
    expected = [(total(leaves + h) - total(leaves - h)) / 2e-5 for h in steps]
    np.testing.assert_allclose(gradient, expected, rtol=1e-7, atol=1e-6)


def test_hyperparameters_of_another_form_are_refused():
    net = network(ntk.Relu(), 1.3, 0.2, 1)
    with pytest.raises(ValueError, match="hyperparameters must have the form"):
        net.kernel(special_inputs("float64"), hyperparameters={"w_std": 1.0})


@pytest.mark.parametrize(
    "activation",
    [ntk.LeakyRelu(0.3), ntk.Abs(), ntk.RectifiedPower(2), ntk.Cos(), ntk.Rbf(0.7)]
    + [ntk.Exp(), ntk.Gaussian(0.4), ntk.Gelu(), ntk.Polynomial((0.3, 1, -0.5))]
    + [ntk.Elementwise(jnp.tanh, "tanh", degree=40)],
)
def test_each_activation_is_the_function_of_its_dual(activation):
    u, w = np.random.default_rng(0).standard_normal((2, 400_000))
    u, v = 0.8 * u, 0.9 * (0.6 * u + 0.8 * w)
    c = 0.8 * 0.9 * 0.6
    got = ntk.duals.value_and_slope(activation.dual, 0.64, 0.81, c)
    slope = jax.vmap(jax.grad(activation.fn))
    for part, fn in zip(got, (activation.fn, slope), strict=True):
        samples = np.asarray(fn(jnp.asarray(u)) * fn(jnp.asarray(v)))
        assert abs(samples.mean() - part) < 4.5 * samples.std() / np.sqrt(samples.size)


@pytest.mark.parametrize(("dtype", "units"), [("float64", 3), ("float32", 1.5)])
def test_arctangent_is_good_to_a_few_units(dtype, units):
    random = np.random.default_rng(0)
    t = np.concatenate([random.uniform(-1, 1, 2000), 10 ** random.uniform(-12, 0, 500), [-1, 0, 1]])
    t = t.astype(dtype)
    values = np.asarray(atan(jnp.asarray(t)))
    assert values.dtype == dtype
    exact = [mp.atan(mp.mpf(float(a))) for a in t]
    unit = np.spacing(np.abs(np.array(exact, dtype)))
    errors = [float(abs(mp.mpf(float(v)) - e)) for v, e in zip(values, exact, strict=True)]
    assert (np.array(errors) <= units * unit).all()
