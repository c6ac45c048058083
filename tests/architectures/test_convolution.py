"""Kernels of convolutions and pooling against plain recursions, sampled networks and mpmath."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

import ntkbook as ntk
from ntkbook import AvgPool, Conv, Dense, Erf, Flatten, GlobalAveragePool, Relu, Residual, Serial
from ntkbook.architectures.windows import windows_of
from ntkbook.signals.images import image_signal
from ntkbook.signals.inputs import inputs


def images(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def convolutional(end, padding="same", shape=(3,), layers=2, w_std=1.3, b_std=0.2):
    conv = Conv(8, shape, padding=padding, w_std=w_std, b_std=b_std)
    return Serial(*(conv, Relu()) * layers, end, Dense(1, w_std, b_std))


# The recursion in plain NumPy: pixel pairs, one loop over the taps.


def shifted(matrix, space, shape, circular):
    """The mean over taps of a matrix (n1, n2, P, P), zeros beyond the border unless circular."""
    places = np.array(list(np.ndindex(*space)))
    total = np.zeros_like(matrix)
    for tap in np.ndindex(*shape):
        seen = places + np.array(tap) - (np.array(shape) - 1) // 2
        inside = ((seen >= 0) & (seen < space)).all(1) | circular
        where = np.ravel_multi_index(tuple((seen % space).T), space)
        total += matrix[:, :, where][..., where] * np.outer(inside, inside)
    return total / np.prod(shape)


def recursion(x, space, shape, circular, layers, w2, b2):
    """K and Θ (n, n, P, P) after the last ReLU."""
    flat = x.reshape(len(x), -1, x.shape[-1])
    k = np.einsum("ipc,jqc->ijpq", flat, flat) / x.shape[-1]
    theta = 0 * k
    for _ in range(layers):
        k, theta = (w2 * shifted(a, space, shape, circular) for a in (k, theta))
        k = k + b2
        theta = theta + k
        variance = np.einsum("iipp->ip", k)
        norm = np.sqrt(variance[:, None, :, None] * variance[None, :, None, :])
        angle = np.arccos(np.clip(k / norm, -1, 1))
        theta = theta * (np.pi - angle) / (2 * np.pi)
        k = norm * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / (2 * np.pi)
    return k, theta


READOUTS = {
    Flatten(): lambda a: np.einsum("ijpp->ij", a) / a.shape[-1],
    GlobalAveragePool(): lambda a: a.mean((2, 3)),
}


@pytest.mark.parametrize("end", READOUTS, ids=repr)
@pytest.mark.parametrize(
    ("space", "shape", "padding"), [((6,), (3,), "circular"), ((4, 3), (3, 2), "same")]
)
def test_the_recursion_over_pixel_pairs(end, space, shape, padding):
    x = images(0, 3, *space, 2)
    net = convolutional(end, padding, shape)
    kernel, diagonal = net.kernel(x), net.kernel_diagonal(x)
    parts = recursion(x, space, shape, padding == "circular", 2, 1.69, 0.04)
    k, theta = (1.69 * READOUTS[end](part) for part in parts)
    np.testing.assert_allclose(kernel.nngp, k + 0.04, rtol=1e-13)
    np.testing.assert_allclose(kernel.ntk, k + 0.04 + theta, rtol=1e-13)
    np.testing.assert_allclose(np.diagonal(kernel.ntk), diagonal.ntk, rtol=1e-14)
    assert (kernel.ntk == kernel.ntk.T).all()
    turn = np.array([2, 0, 1])
    np.testing.assert_allclose(net.kernel(x[turn]).ntk, kernel.ntk[turn][:, turn], rtol=1e-14)
    np.testing.assert_allclose(net.kernel(x, x[:2]).ntk, kernel.ntk[:, :2], rtol=1e-14)


def test_pixels_of_one_length_give_whole_numbers():
    # Θ = 3 K by homogeneity: twice the mean variance without a border, 44/27 beside zeros.
    x = images(1, 2, 6, 3)
    x /= np.sqrt((x**2).mean(-1, keepdims=True))
    for padding, value in (("circular", 6), ("same", 44 / 9)):
        net = convolutional(Flatten(), padding, w_std=2**0.5, b_std=0.0)
        net = Serial(*net.layers[:-1], Dense(1, 2**0.5))
        np.testing.assert_allclose(np.diagonal(net.kernel(x).ntk), value, rtol=1e-14)


def test_pooling_needs_all_pairs_of_pixels_and_flattening_equal_ones():
    x = images(2, 3, 5, 2)
    k, theta = recursion(x, (5,), (3,), True, 2, 1.69, 0.04)
    apart = ~np.eye(5, dtype=bool)
    for end, readout in READOUTS.items():
        net = convolutional(end, "circular")
        right = np.asarray(net.kernel(x).ntk)
        poor = 1.69 * readout(np.where(apart, 0, k) + np.where(apart, 0, theta)) + 0.04
        off = np.abs(poor - right).max() / right.max()
        assert off < 1e-12 if end == Flatten() else off > 0.3


def test_a_shift_changes_nothing_after_circular_convolutions_and_pooling():
    x = images(3, 2, 5, 2)
    net = convolutional(GlobalAveragePool(), "circular")
    np.testing.assert_allclose(net.kernel(x, np.roll(x, 2, 1)).ntk, net.kernel(x).ntk, rtol=1e-13)
    flat = convolutional(Flatten(), "circular")
    assert np.abs(flat.kernel(x, np.roll(x, 2, 1)).ntk - flat.kernel(x).ntk).max() > 0.1


def test_a_filter_of_one_pixel_on_one_pixel_is_a_dense_layer():
    x = images(4, 5, 1, 3)
    deep = Serial(*(Dense(8, 1.3, 0.2), Relu()) * 2, Dense(1, 1.3, 0.2)).kernel(x[:, 0])
    for end in READOUTS:
        kernel = convolutional(end, "same", (1,)).kernel(x)
        np.testing.assert_allclose(kernel.ntk, deep.ntk, rtol=1e-14)
        np.testing.assert_allclose(kernel.nngp, deep.nngp, rtol=1e-14)


# Against 50 digits: nearly equal, parallel and antipodal images.


def exact(a, b, layers):
    """Θ of circular ReLU convolutions of three taps, flattened; σ_w² = 2, no biases."""
    pixels = range(len(a))
    a, b = ([[mpmath.mpf(float(v)) for v in pixel] for pixel in x] for x in (a, b))

    def inner(x, y):
        return [mpmath.fsum(u * v for u, v in zip(x[p], y[p], strict=True)) for p in pixels]

    def spread(values):
        return [2 * sum(values[(p + s) % len(pixels)] for s in (-1, 0, 1)) / 3 for p in pixels]

    c = len(a[0])
    k, qa, qb = ([v / c for v in inner(*pair)] for pair in ((a, b), (a, a), (b, b)))
    theta = [mpmath.mpf(0)] * len(pixels)
    for _ in range(layers):
        k, qa, qb, theta = map(spread, (k, qa, qb, theta))
        theta = [t + v for t, v in zip(theta, k, strict=True)]
        for p in pixels:
            norm = mpmath.sqrt(qa[p] * qb[p])
            angle = mpmath.acos(max(-1, min(1, k[p] / norm)))
            rest = mpmath.pi - angle
            theta[p] *= rest / (2 * mpmath.pi)
            k[p] = norm * (mpmath.sin(angle) + rest * mpmath.cos(angle)) / (2 * mpmath.pi)
        qa, qb = ([v / 2 for v in q] for q in (qa, qb))
    return (sum(k) + sum(theta)) / len(pixels)


@pytest.mark.parametrize("layers", [1, 2, 30])
def test_nearly_equal_parallel_and_antipodal_images(layers):
    x = images(5, 2, 4, 2)
    near = x[0] + 1e-6 * x[1]
    x = np.stack([x[0], near, 3 * x[0], -x[0], x[1]])
    conv = Conv(8, 3, padding="circular", w_std=2**0.5)
    kernel = Serial(*(conv, Relu()) * layers, Flatten(), Dense(1)).kernel(x)
    with mpmath.workdps(60):
        for j in range(len(x)):
            truth = float(exact(x[0], x[j], layers))
            assert abs(kernel.ntk[0, j] - truth) < 2e-15 * layers * abs(kernel.ntk[0, 0]), j


def test_averages_that_nearly_or_exactly_vanish():
    """Each pixel is a hundred times the average: Θ(x, 3x) = 3 Θ(x, x), and of no average zero."""
    x, flat = images(2, 6, 2), images(0, 2, 6, 2)
    x, flat = x - x.mean(0) + 1e-2 * images(7, 1, 2), flat - flat.mean(1, keepdims=True)
    conv = Conv(8, 3, padding="circular", w_std=1.3)
    net = Serial(conv, GlobalAveragePool(), Relu(), Dense(1))
    kernel = net.kernel(np.stack([x, 3 * x, *flat]))
    theta = kernel.ntk
    np.testing.assert_allclose(theta[0, 1], [3 * theta[0, 0], theta[1, 1] / 3], rtol=1e-11)
    assert (kernel.nngp[2:] == 0).all()


def test_single_precision():
    x = images(6, 3, 5, 2).astype(np.float32)
    net = convolutional(GlobalAveragePool())
    single, double = net.kernel(x), net.kernel(x.astype(float))
    assert single.ntk.dtype == jnp.float32
    np.testing.assert_allclose(single.ntk, double.ntk, rtol=1e-6)


def test_a_thousand_residual_layers_of_all_sorts_of_images():
    x = images(7, 2, 5, 2)
    x = np.stack([x[0], 3 * x[0], -x[0], 0 * x[0], x[1]])
    conv = Conv(8, 3, w_std=2**0.5)
    block = Residual(Relu(), Conv(8, 3, padding="circular"), scale=0.05)
    for end in READOUTS:
        kernel = Serial(conv, *[block] * 1000, end, Dense(1)).kernel(x)
        assert jnp.isfinite(kernel.ntk).all()
        np.testing.assert_allclose(kernel.ntk[0, 1] / kernel.ntk[0, 0], 3, rtol=1e-12)
        assert (kernel.ntk[3] == 0).all()


def test_blank_images_and_pixels_have_derivatives():
    x = images(8, 2, 4, 2)
    x[0, 1:3] = 0
    x[1] = 0
    net = convolutional(GlobalAveragePool(), b_std=0.0, layers=1)
    direction = images(9, 2, 4, 2)

    slope = jax.grad(lambda t: net.kernel(x + t * direction).nngp.sum())(0.0)
    assert jnp.isfinite(slope)
    scales = net.hyperparameters()
    rates = jax.grad(lambda h: net.kernel(x, hyperparameters=h).ntk.sum())(scales)
    assert all(jnp.isfinite(r) for r in jax.tree.leaves(rates))


def test_the_derivative_at_a_blank_image_is_that_of_a_smooth_kernel():
    net = Serial(Conv(8, 3, w_std=1.3, padding="circular"), Erf(), Flatten(), Dense(1))
    x, direction = images(0, 1, 5, 2), images(1, 1, 5, 2)

    def value(t):
        return net.kernel(x, t * direction).ntk[0, 0]

    rate = (value(1e-4) - value(-1e-4)) / 2e-4
    np.testing.assert_allclose(jax.grad(value)(0.0), rate, rtol=1e-7)


# Gradients, shares, tracing.


def mixed(width=8, last=1):
    conv = Conv(width, 3, w_std=1.3, b_std=0.4)
    strided = Conv(width, 2, strides=2, padding="valid", w_std=1.1, b_std=0.3)
    head = (GlobalAveragePool(), Dense(width, 1.2, 0.1), Relu(), Dense(last, 0.9, 0.2))
    return Serial(conv, Erf(), AvgPool(2, 1), strided, Residual(Relu(), conv), Relu(), *head)


def test_gradients_in_scales_and_images():
    x = images(10, 2, 7, 2)
    net, step = mixed(), 1e-5
    leaves, tree = jax.tree.flatten(net.hyperparameters())

    def value(leaves, x):
        return net.kernel(x, hyperparameters=jax.tree.unflatten(tree, list(leaves))).ntk.sum()

    leaves = jnp.array(leaves)
    scales, pixels = jax.grad(value, (0, 1))(leaves, x)
    for i in (0, 1, 3, 6):
        nudge = step * jnp.eye(len(leaves))[i]
        rate = (value(leaves + nudge, x) - value(leaves - nudge, x)) / (2 * step)
        np.testing.assert_allclose(scales[i], rate, rtol=1e-7)
    nudge = step * images(11, *x.shape)
    rate = (value(leaves, x + nudge) - value(leaves, x - nudge)) / 2
    np.testing.assert_allclose((pixels * nudge).sum(), rate, rtol=1e-7)


def test_shares_jit_and_other_numbers_of_images():
    x = images(12, 3, 7, 2)
    net = mixed()
    kernel = net.kernel(x)
    np.testing.assert_allclose(sum(jax.tree.leaves(net.kernel_shares(x))), kernel.ntk, rtol=1e-13)
    np.testing.assert_allclose(jax.jit(lambda a: net.kernel(a).ntk)(x), kernel.ntk, rtol=1e-13)
    np.testing.assert_allclose(net.kernel(x[:1]).ntk, kernel.ntk[:1, :1], rtol=1e-13)
    np.testing.assert_allclose(net.kernel_diagonal(x).ntk, np.diagonal(kernel.ntk), rtol=1e-13)
    assert (kernel.ntk == kernel.ntk.T).all()


def test_many_images_in_tiles():
    x = images(13, 5, 12, 12, 1)  # tiles of two images, with all pairs of 144 pixels
    net = Serial(Conv(1, (3, 3)), Relu(), GlobalAveragePool(), Dense(1))
    kernel, cross = net.kernel(x), net.kernel(x[:2], x[2:5])
    np.testing.assert_allclose(kernel.ntk[:2, 2:5], cross.ntk, rtol=1e-14)
    assert np.linalg.eigvalsh(kernel.ntk).min() > 0


# Finite networks.


def test_a_finite_convolution_is_the_sum_over_windows():
    x = images(14, 2, 5, 4, 3)
    conv = Conv(2, (3, 2), strides=(2, 1), padding="same", w_std=1.5, b_std=0.5)
    params = conv.init(jax.random.key(0), x.shape[1:])
    y = np.asarray(conv.apply(params, x))
    assert y.shape == (2, 3, 4, 2)
    padded = np.pad(x, ((0, 0), (1, 1), (0, 1), (0, 0)))
    for p, q in np.ndindex(3, 4):
        patch = padded[:, 2 * p : 2 * p + 3, q : q + 2]
        value = 1.5 / np.sqrt(18) * np.einsum("nhwc,hwck->nk", patch, params["w"])
        np.testing.assert_allclose(y[:, p, q], value + 0.5 * params["b"], rtol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_sampled_networks_of_random_architecture(seed):
    draw = np.random.default_rng(seed)
    padding = ["same", "circular", "valid"]

    def conv(length):
        pad, shape = padding[draw.integers(3)], int(draw.integers(1, min(length, 3) + 1))
        return Conv(96, shape, int(draw.integers(1, 3)), pad, 1.2, float(draw.uniform(0, 0.5)))

    layers, length = [], 8
    for _ in range(2):
        layer = conv(length)
        layers += [layer, [Relu(), Erf()][draw.integers(2)]]
        length = layer.shape_after((length, 1))[0]
        if draw.integers(2) and length > 1:
            layers.append(AvgPool(2, 1, ["valid", "circular"][draw.integers(2)]))
            length = layers[-1].shape_after((length, 1))[0]
    layers += [[Flatten(), GlobalAveragePool()][draw.integers(2)], Dense(32, 1.1, 0.3)]
    net, x = Serial(*layers), images(seed, 3, 8, 2)
    kernel = net.kernel(x)
    drawn = ntk.monte_carlo_kernel(net, jax.random.key(seed), x, samples=128)
    size = np.sqrt(np.outer(np.diagonal(kernel.ntk), np.diagonal(kernel.ntk)))
    for name in ("nngp", "ntk"):
        off = np.abs(getattr(drawn.mean, name) - getattr(kernel, name))
        # Finite width: 2 · depth / width, as check_layer allows; four standard errors besides.
        allowed = 4 * getattr(drawn.standard_error, name) + 2 * 2 / 96 * size
        assert (off < allowed).all(), (name, net)


@pytest.mark.parametrize("pool", [AvgPool(2), GlobalAveragePool()], ids=repr)
def test_a_nonlinearity_may_follow_the_average_of_a_convolution(pool):
    x, end = jax.random.normal(jax.random.key(0), (2, 6, 2)), Dense(1, w_std=1.3)
    conv, flat = Conv(256, 3, w_std=1.5, b_std=0.3), [Flatten()] * isinstance(pool, AvgPool)
    net, wrong = Serial(conv, pool, Relu(), *flat, end), Serial(conv, Relu(), pool, *flat, end)
    keys = jax.random.split(jax.random.key(1), 60)
    draw = jax.vmap(lambda key: ntk.empirical_ntk(net.apply, net.init(key, (6, 2)), x))
    sampled = jax.jit(draw)(keys)
    mean, error = sampled.mean(0), sampled.std(0, ddof=1) / 60**0.5
    assert (abs(mean - net.kernel(x).ntk) < 4 * error).all()
    assert not (abs(mean - wrong.kernel(x).ntk) < 4 * error).all()


def test_finite_networks_train_and_linearise():
    x, y = images(15, 4, 7, 2), images(16, 4, 1)
    net = mixed(16)
    params = net.init(jax.random.key(1), x.shape[1:])
    theta = ntk.empirical_ntk(net.apply, params, x)
    jac = jax.jacrev(lambda p: net.apply(p, x)[:, 0])(params)
    rows = np.concatenate([a.reshape(len(x), -1) for a in jax.tree.leaves(jac)], axis=1)
    np.testing.assert_allclose(theta, rows @ rows.T, rtol=1e-11)
    linear = ntk.linearize(net.apply, params)
    np.testing.assert_allclose(linear(params, x), net.apply(params, x), rtol=1e-12)
    run = ntk.train(net.apply, params, x, y, learning_rate=0.05, steps=20)
    assert run.losses[-1] < run.losses[0]


# What has no answer.


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda x: convolutional(Flatten()).kernel(x[:, :, 0]), r"\(n, \*space, channels\)"),
        (lambda x: convolutional(Flatten()).kernel(x[..., None]), "1 axis of pixels, got"),
        (lambda x: convolutional(Flatten()).kernel(x * np.nan), "x1 must be finite"),
        (lambda x: convolutional(Flatten()).init(jax.random.key(0), (6,)), r"\(\*space, channels"),
        (lambda x: Serial(Dense(4), Relu(), Dense(1)).kernel(x), "begin the network with Flatten"),
        (lambda x: Serial(Conv(4, 3), Relu(), Dense(1)).kernel(x), r"put Flatten\(\) before it"),
        (lambda x: Serial(Conv(4, 3), Relu()).kernel(x), "expects outputs without pixels"),
        (lambda x: Serial(Conv(4, 9), Flatten()).kernel(x), "window larger than images"),
        (lambda x: Serial(AvgPool(9), Flatten()).kernel(x), "window larger than images"),
        (lambda x: Serial(Flatten(), GlobalAveragePool()).kernel(x), "got vectors"),
        (lambda x: Serial(Flatten(), AvgPool(2)).kernel(x), "got vectors; it comes before"),
        (lambda x: Serial(Flatten(), Flatten()).kernel(x), "got vectors"),
        (lambda x: Serial(Relu(), Flatten()).kernel(x), "follows the inputs"),
        (
            lambda x: Serial(Residual(Conv(3, 3)), Flatten()).kernel(x),
            r"keep the shape, got \(6, 2\) in and \(6, 3\) out",
        ),
        (lambda x: Conv(4, 3).apply({"w": jnp.ones((3, 1, 4))}, x), r"must have shape \(4, 6, 1\)"),
        (lambda x: Conv(4, 3).apply({"w": jnp.ones((3, 2, 5))}, x), "w must have shape"),
        (lambda x: Conv(4, (3, 3), strides=(1,)), "as many as in shape"),
        (lambda x: Conv(4, 3, padding="SAME"), "padding must be one of"),
        (lambda x: Conv(4, ()), "one to three lengths"),
        (lambda x: Conv(4, 0), "shape must be at least 1"),
    ],
)
def test_what_has_no_answer_is_refused(use, message):
    with pytest.raises((ValueError, AssertionError), match=message):
        use(images(17, 4, 6, 2))


def test_what_leaves_the_range_is_named():
    x = images(18, 2, 4, 2).astype(np.float32)
    net = Serial(Conv(4, 3, w_std=1e20), Relu(), GlobalAveragePool(), Dense(1))
    with pytest.raises(ValueError, match=r"overflows float32 in net.layers\[0\]"):
        net.kernel(x)
    net = Serial(Conv(4, 3, w_std=1e-20), Relu(), Flatten(), Dense(1))
    with pytest.raises(ValueError, match=r"underflows float32 in net.layers\[0\]"):
        net.kernel(x)


def test_windows_and_signals_of_their_own():
    assert windows_of((3, 2), 2, "same").after("it", (5, 4)) == (3, 2)
    assert windows_of(3, 1, "valid").after("it", (5,)) == (3,)
    ends = inputs(jnp.asarray(images(19, 2, 3, 2)))
    pairs = image_signal(ends, ends, True, jnp.eye(2, dtype=bool), True)
    equal = image_signal(ends, ends, True, jnp.eye(2, dtype=bool))
    assert pairs.cosine.shape == (2, 2, 3, 3)
    assert equal.cosine.shape == (2, 2, 3)
    diagonal = jnp.diagonal(pairs.cosine, 0, -2, -1)
    np.testing.assert_allclose(diagonal, equal.cosine, rtol=1e-14)
