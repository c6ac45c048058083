"""Data sets: scales, uniformity, reproducibility, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkbook.data import circle, digits, gaussian_inputs, sphere, toy_regression

KEY = jax.random.key(0)


def test_circle_is_equispaced_on_squared_norm_two():
    x = np.asarray(circle(7))
    np.testing.assert_allclose((x**2).sum(axis=1), 2, rtol=1e-14)
    np.testing.assert_allclose((x * np.roll(x, -1, 0)).sum(1), 2 * np.cos(2 * np.pi / 7))
    np.testing.assert_allclose(np.exp(2j * np.pi * np.arange(7) / 7) * 2**0.5, x @ [1, 1j])


@pytest.mark.parametrize("d", [2, 3, 40])
def test_sphere_has_squared_norm_d_and_the_moments_of_the_uniform_law(d):
    x = np.asarray(sphere(KEY, 20_000, d))
    np.testing.assert_allclose((x**2).sum(axis=1), d, rtol=1e-13)
    np.testing.assert_allclose(x.mean(axis=0), 0, atol=5 / 20_000**0.5)
    np.testing.assert_allclose((x**2).mean(axis=0), 1, atol=5 * 2**0.5 / 20_000**0.5)
    fourth = 3 * d / (d + 2)  # E x⁴, which a mere normalised cube would miss
    np.testing.assert_allclose((x**4).mean(), fourth, rtol=0.05)


def test_gaussian_inputs_are_standard_normal():
    x = np.asarray(gaussian_inputs(KEY, 20_000, 3))
    np.testing.assert_allclose(np.cov(x.T), np.eye(3), atol=0.05)


def test_toy_regression_is_its_target_plus_noise():
    x_train, y_train, x_test, y_test = toy_regression(KEY, 200, 11, noise=0.3)
    assert x_train.shape == (200, 1)
    assert y_train.shape == (200,)
    assert (np.diff(x_train[:, 0]) >= 0).all()
    np.testing.assert_allclose(x_test[:, 0], np.linspace(-1, 1, 11), atol=1e-15)

    def target(x):
        return np.sin(np.pi * x) + np.sin(3 * np.pi * x) / 2

    np.testing.assert_allclose(y_test, target(x_test[:, 0]), atol=1e-14)
    noise = y_train - target(x_train[:, 0])
    assert 0.25 < noise.std() < 0.35
    clean = toy_regression(KEY, 200, 11)
    np.testing.assert_allclose(clean.y_train, target(clean.x_train[:, 0]), atol=1e-14)


def test_digits_are_scaled_by_the_training_set_alone():
    split = digits(300, 100, KEY)
    assert split.x_train.shape == (300, 64)
    assert split.y_test.shape == (100, 10)
    np.testing.assert_allclose(split.x_train.mean(axis=0), 0, atol=1e-13)
    np.testing.assert_allclose((split.x_train**2).sum(axis=1).mean(), 64, rtol=1e-13)
    assert (split.y_train.sum(axis=1) == 1).all()
    fewer = digits(300, 5, KEY)
    np.testing.assert_array_equal(fewer.x_train, split.x_train)
    np.testing.assert_array_equal(fewer.x_test, split.x_test[:5])


def test_digits_are_scikit_learns_without_repetition():
    from sklearn.datasets import load_digits

    split = digits(1000, 797, KEY)
    x, y = np.concatenate([split.x_train, split.x_test]), np.concatenate([split[1], split[3]])
    pixels, labels = load_digits(return_X_y=True)
    assert len(np.unique(x.round(9), axis=0)) == len(np.unique(pixels, axis=0))
    assert (np.bincount(y.argmax(axis=1)) == np.bincount(labels)).all()
    scale = np.linalg.norm(x - x.mean(0)) / np.linalg.norm(pixels - pixels.mean(0))
    restored = (x - x.min(axis=0)) / scale
    np.testing.assert_allclose(np.sort(restored, axis=0), np.sort(pixels, axis=0), atol=1e-12)


def test_two_classes_are_minus_and_plus_one():
    split = digits(100, 50, KEY, classes=(7, 1))
    assert split.y_train.shape == (100,)
    assert set(np.unique(split.y_train)) == {-1.0, 1.0}
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    everything = digits(361, 0, KEY, classes=(7, 1))
    assert (everything.y_train == 1).sum() == (labels == 1).sum()
    mean = everything.x_train[everything.y_train == 1].mean(axis=0)
    centred = pixels[labels == 1].mean(0) - pixels[(labels == 1) | (labels == 7)].mean(0)
    assert np.corrcoef(mean, centred)[0, 1] == pytest.approx(1)


@pytest.mark.parametrize(
    "make",
    [
        lambda **more: circle(4, **more),
        lambda **more: sphere(KEY, 4, 3, **more),
        lambda **more: gaussian_inputs(KEY, 4, 3, **more),
        lambda **more: toy_regression(KEY, noise=0.1, **more),
        lambda **more: digits(5, 2, KEY, **more),
        lambda **more: digits(5, 2, KEY, classes=(0, 1), **more),
    ],
)
def test_dtype_and_reproducibility(make):
    for dtype, expected in ((None, jnp.float64), (jnp.float32, jnp.float32)):
        leaves, again = jax.tree.leaves(make(dtype=dtype)), jax.tree.leaves(make(dtype=dtype))
        for one, two in zip(leaves, again, strict=True):
            assert one.dtype == expected
            np.testing.assert_array_equal(one, two)
    with pytest.raises(TypeError, match="floating"):
        make(dtype=jnp.int32)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="n must be at least 1"):
        circle(0)
    with pytest.raises(TypeError, match="n must be an integer"):
        circle(2.0)
    with pytest.raises(ValueError, match="d must be at least 2"):
        sphere(KEY, 3, 1)
    with pytest.raises(ValueError, match="noise"):
        toy_regression(KEY, noise=-1.0)
    with pytest.raises(ValueError, match="images that differ"):
        digits(1, 5, KEY)
    with pytest.raises(ValueError, match="at most 1797"):
        digits(1797, 1, KEY)
    for classes in ((1,), (1, 1), (1, 10), (1, 2, 3)):
        with pytest.raises(ValueError, match="two different digits"):
            digits(5, 1, KEY, classes=classes)
