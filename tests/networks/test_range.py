"""Kernels at the ends of a dtype's range: right, or an error that names the layer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ntkbook as ntk


def growing(*last):
    """ReLU layers whose variance passes the largest float32 in net.layers[44]."""
    layers = [part for s in range(1, 25) for part in (ntk.Dense(1, w_std=float(s)), ntk.Relu())]
    return ntk.Serial(*layers, *last, ntk.Dense(1))


@pytest.fixture(scope="module")
def x():
    return jax.random.uniform(jax.random.key(0), (3, 100), jnp.float32)


LATE = {
    "relu": (),
    "erf": (ntk.Dense(1), ntk.Erf()),  # bounded: what overflowed comes back into the range
    "sin": (ntk.Dense(1), ntk.Sin()),
    "gaussian with bias": (ntk.Dense(1), ntk.Gaussian(), ntk.Dense(1, b_std=0.1)),
    "skip": (ntk.Dense(1), ntk.Residual(ntk.Relu(), ntk.Dense(1))),
}


@pytest.mark.parametrize("last", LATE)
@pytest.mark.parametrize(
    "call",
    [lambda net, x: net.kernel(x), lambda net, x: net.kernel(x, x[:2]), lambda net, x:
     net.kernel_diagonal(x), lambda net, x: net.kernel_shares(x)],
    ids=["symmetric", "cross", "diagonal", "shares"],
)  # fmt: skip
def test_overflow_names_the_layer_and_offers_float64(last, call, x):
    net = growing(*LATE[last])
    message = r"overflows float32 in net\.layers\[44\], Dense\(width=1, w_std=23.*ntk\.setup"
    with pytest.raises(ValueError, match=message):
        call(net, x)
    assert np.isfinite(jax.tree.leaves(call(net, x.astype(jnp.float64)))[0]).all()


def test_a_layer_inside_a_branch_is_named(x):
    branch = ntk.Residual(
        ntk.Relu(), ntk.Dense(1, w_std=1e15), ntk.Relu(), ntk.Dense(1, w_std=1e15)
    )
    with pytest.raises(ValueError, match=r"in net\.layers\[1\]\.layers\[3\], Dense"):
        ntk.Serial(ntk.Dense(1), branch).kernel(x)


def test_underflow_is_no_zero_kernel(x):
    net = ntk.Serial(*[ntk.Dense(1, w_std=1e-3), ntk.Relu()] * 10)
    with pytest.raises(ValueError, match=r"underflows float32 in net\.layers\[10\]"):
        net.kernel(x)
    with pytest.raises(ValueError, match="underflows float32 in the inputs"):
        ntk.Dense(1).kernel(x, x * 1e-25)
    # A bias makes the vanished part one of no consequence.
    biased = ntk.Serial(*net.layers, ntk.Dense(1, b_std=0.1)).kernel(x)
    np.testing.assert_allclose(biased.ntk, 0.01, rtol=1e-6)


@pytest.mark.parametrize("x", [np.ones((2, 3)), np.array([[0.0, 0, 0], [1, 1, 1]])])
def test_underflow_of_a_diagonal_is_that_of_the_inputs_that_are_not_zero(x):
    net = ntk.Serial(*[ntk.Dense(1, w_std=1e-3), ntk.Relu()] * 10)
    # From 1 on, layer 2k leaves 1e-6 (5e-7)^k: 1.6e-44 for k = 6, the first below 1.2e-38.
    with pytest.raises(ValueError, match=r"underflows float32 in net\.layers\[12\]"):
        net.kernel_diagonal(x.astype(np.float32))


def test_zero_inputs_and_antipodal_ones_are_no_underflow():
    net = ntk.Serial(ntk.Dense(1), ntk.Relu(), ntk.Dense(1))
    x = jnp.array([[1.0, 2.0], [-1.0, -2.0], [0.0, 0.0]])
    np.testing.assert_allclose(net.kernel(x).nngp, np.diag([1.25, 1.25, 0]), atol=1e-15)
    np.testing.assert_allclose(net.kernel_diagonal(x).ntk, [2.5, 2.5, 0.0], rtol=1e-15)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("features", [3, 40])
def test_lengths_near_the_ends_of_the_range_leave_the_angles_as_they_are(dtype, features):
    # x · x overflows, or vanishes, where x · x / d and the angles do not.
    x = jax.random.normal(jax.random.key(0), (20, features), dtype)
    x = x.at[1].set(x[0] * (1 + dtype(1e-3))).at[2].set(x[0].at[0].add(dtype(1e-4)))
    net = ntk.Serial(ntk.Dense(4, 2**0.5), ntk.Relu(), ntk.Dense(1))
    usual, finfo = net.kernel(x), jnp.finfo(dtype)
    for power in (finfo.maxexp // 2 - 5, finfo.minexp // 2 + 8):
        scale = dtype(2.0**power)
        kernel = net.kernel(x * scale)
        for name in ("nngp", "ntk"):
            got, wanted = (np.asarray(getattr(k, name)) for k in (kernel, usual))
            size = np.sqrt(np.outer(np.diag(wanted), np.diag(wanted)))
            np.testing.assert_allclose(got / scale / scale / size, wanted / size, atol=1e-12)


def test_very_different_lengths_keep_the_angle_between_them():
    near = jnp.array([1.0, 1e-9])
    net = ntk.Serial(ntk.Dense(4), ntk.Relu(), ntk.Dense(1))
    x = jnp.stack([jnp.array([1.0, 0.0]), near, near * 2.0**90])
    kernel = net.kernel(x)
    np.testing.assert_allclose(kernel.ntk[0, 2] / 2.0**90, kernel.ntk[0, 1], rtol=1e-15)
    # 1 - T(ρ) is 3 θ / 2π for the tangent part: the angle itself is seen, at θ = 1e-9.
    lost = 1 - kernel.ntk[0, 2] / jnp.sqrt(kernel.ntk[0, 0] * kernel.ntk[2, 2])
    np.testing.assert_allclose(lost, 1e-9 / (2 * np.pi), rtol=1e-6)


def test_scales_out_of_range_are_refused(x):
    net = ntk.Serial(ntk.Dense(1), ntk.Relu(), ntk.Dense(1, b_std=0.1))
    scales = [{"w_std": 1.0, "b_std": 0.0}, (), {"w_std": 1.0, "b_std": 0.1}]
    for value, place, name in ((-1.0, 0, "w_std"), (jnp.nan, 2, "b_std"), (-0.1, 2, "b_std")):
        wrong = tuple(dict(s) if s else () for s in scales)
        wrong[place][name] = value
        with pytest.raises(ValueError, match=rf"hyperparameters\[{place}\]\['{name}'\] must be"):
            net.kernel(x, hyperparameters=wrong)


def test_images_are_told_how_to_come():
    with pytest.raises(ValueError, match=r"x1 must have shape \(n, d\).*reshape\(len\(x\), -1\)"):
        ntk.Dense(8).kernel(jnp.ones((4, 8, 8, 1)))
