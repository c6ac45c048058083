"""The angles of raw inputs: against 60 digits, and few features against many."""

import itertools

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

from ntkbook import Conv, Flatten, GlobalAveragePool, Relu, Serial
from ntkbook.signals.inputs import FEW_FEATURES, input_signal, inputs

DTYPES = [np.float64, np.float32]


def rows(features, dtype):
    """Inputs in all the relations that matter: near, opposite, equal, longer, zero, tiny, huge."""
    rng = np.random.default_rng(features)
    one, other = rng.normal(size=(2, features))
    bump = np.zeros(features)
    bump[-1] = 1
    far = 1e150 if dtype == np.float64 else 1e15
    family = [one, other, -one, 3 * one, one + 1e-5 * bump, -2.9 * one + 1e-4 * bump]
    family += [one * (1 + 1e-6), 1e3 * one + 1e-2 * bump, one * far, one / far, 0 * one]
    return np.array(family, dtype)


def acute_angle(x, y):
    """The angle between the lines of two float rows, and how far apart they are for their length.

    In 60 digits, and from the sine, which keeps those of a small angle.
    """
    x, y = ([mpmath.mpf(float(v)) for v in row] for row in (x, y))
    inner, x2, y2 = (mpmath.fdot(*pair) for pair in ((x, y), (x, x), (y, y)))
    across2 = sum((b - inner / x2 * a) ** 2 for a, b in zip(x, y, strict=True))
    sign = -1 if inner < 0 else 1
    apart2 = sum((b - sign * a) ** 2 for a, b in zip(x, y, strict=True))
    angle = mpmath.atan2(mpmath.sqrt(across2), abs(inner) / mpmath.sqrt(x2))
    return angle, mpmath.sqrt(apart2 / max(x2, y2)), sign


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("features", [1, 2, 3, FEW_FEATURES, FEW_FEATURES + 2])
def test_angles_of_inputs_keep_their_digits(features, dtype):
    x = rows(features, dtype)
    signal = input_signal(*[inputs(jnp.asarray(x))] * 2, exact=True)
    eps = float(np.finfo(dtype).eps)
    for i, j in itertools.product(range(len(x) - 1), repeat=2):
        cosine, gap = float(signal.cosine[i, j]), float(signal.gap[i, j])
        with mpmath.workdps(60):
            angle, apart, sign = acute_angle(x[i], x[j])
            found = 2 * mpmath.asin(mpmath.sqrt(mpmath.mpf(gap) / 2))
            assert abs(found - angle) <= 4 * eps * apart, (i, j)
        assert abs(sign * cosine - (1 - gap)) <= eps
    assert (signal.gap[-1] == 0).all()
    assert (signal.cosine[-1] == 1).all()


@pytest.mark.parametrize("features", [2, FEW_FEATURES])
def test_few_features_have_the_derivatives_of_many(features):
    x = jnp.asarray(rows(features, np.float64)[:7])
    wide = jnp.pad(x, [(0, 0), (0, FEW_FEATURES)])
    weights = jax.random.normal(jax.random.key(0), (2, 7, 7))

    def total(x):
        signal = input_signal(inputs(x), inputs(x), exact=True)
        return (weights[0] * signal.cosine + weights[1] * signal.gap).sum()

    got, wanted = jax.grad(total)(x), jax.grad(total)(wide)[:, :features]
    np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-9 * np.abs(wanted).max())


@pytest.mark.parametrize("readout", [Flatten(), GlobalAveragePool()])
@pytest.mark.parametrize("space", [(5,), (3, 4)])
def test_images_of_few_channels_have_the_kernel_of_padded_ones(readout, space):
    shape = (2,) * len(space)
    first, second = jax.random.normal(jax.random.key(1), (2, 3, *space, 2))
    net = Serial(Conv(1, shape), Relu(), Conv(1, shape), readout)
    scale = ((2 + FEW_FEATURES) / 2) ** 0.5  # blank channels count in the mean over channels
    wide = [
        jnp.pad(x * scale, [(0, 0)] * (x.ndim - 1) + [(0, FEW_FEATURES)]) for x in (first, second)
    ]
    for x1, x2, wide1, wide2 in ((first, second, *wide), (first, None, wide[0], None)):
        got, wanted = net.kernel(x1, x2), net.kernel(wide1, wide2, exact=True)
        np.testing.assert_allclose(got.nngp, wanted.nngp, rtol=1e-13)
        np.testing.assert_allclose(got.ntk, wanted.ntk, rtol=1e-13)
