"""Kernels of float32 entries: what rounding there allows is kept, what it hides is said."""

import re
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkbook import (
    Dense,
    Erf,
    Kernel,
    Relu,
    Serial,
    condition_number,
    gradient_descent,
    gradient_flow,
    max_learning_rate,
    modes,
    regression,
)

EPS = np.finfo(np.float32).eps
NET = Serial(Dense(8, 2**0.5), Erf(), Dense(1))


@pytest.fixture(scope="module")
def thousand():
    """The same 1000 inputs in both precisions: kernels and targets."""
    x = jax.random.normal(jax.random.key(0), (1000, 8), jnp.float32)
    wide = np.array(x, np.float64)
    return NET.kernel(x), jnp.sin(3 * x[:, 0]), NET.kernel(wide), np.sin(3 * wide[:, 0])


@pytest.fixture
def silent():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.usefixtures("silent")
def test_the_forecast_is_that_of_float64_to_first_order_in_the_rounding_of_the_kernel(thousand):
    k32, y32, k, y = thousand
    error = np.array(k32.ntk, np.float64) - k.ntk
    flow, exact = gradient_flow(k32, y32), gradient_flow(k, y)
    assert (flow.modes.values > 0).all()
    assert flow.loss(1.0).dtype == flow.train(1.0).dtype == jnp.float32
    norm, lowest = np.linalg.norm(error, 2), float(exact.modes.values[-1]) - 1e-4
    for t in (1e2, 1e4, np.inf):
        # Duhamel: e^{−tK'} − e^{−tK} = −∫ e^{−(t−s)K} E e^{−sK'} ds, of norm t e^{−tλ}‖E‖ at most.
        bound = 0 if np.isinf(t) else t * np.exp(-t * lowest) * norm * np.linalg.norm(y)
        gap = np.linalg.norm(flow.train(t) - exact.train(t))
        assert gap <= bound + 8 * EPS * np.linalg.norm(y)
    times = np.array([1e2, 1e4])
    there, slope = jax.jvp(
        lambda kernel: jnp.log(gradient_flow(kernel, y).loss(times)), (k.ntk,), (error,)
    )
    change = np.log(flow.loss(times).astype(float)) - there
    assert (abs(change) < 1e-3).all()  # with the modes up to N·eps·λmax left out: 2 and 37
    np.testing.assert_allclose(change, slope, rtol=0.05, atol=10 * EPS)
    assert flow.loss(np.inf) == 0


@pytest.mark.usefixtures("silent")
def test_descent_forecasts_as_in_float64(thousand):
    k32, k = (kernel.ntk[:300, :300] for kernel in thousand[::2])
    y32, y = (targets[:300] for targets in thousand[1::2])
    rate = float(max_learning_rate(k32)) / 2
    np.testing.assert_allclose(rate, max_learning_rate(k) / 2, rtol=1e-6)
    descent = gradient_descent(k32, y32, rate, 0.9)
    exact = gradient_descent(k, y, rate, 0.9)
    # Rounding of ηλ and β, multiplied by the number of steps, is felt in a mode's decay.
    for steps, tolerance in ((10, 1e-5), (1000, 1e-3)):
        np.testing.assert_allclose(descent.loss(steps), exact.loss(steps), rtol=tolerance)
    assert descent.loss(10**6) < 1e-30


def test_what_is_null_stays_null():
    # A linear kernel of rank 8: 392 modes that are not there, however the entries are rounded.
    x = jax.random.normal(jax.random.key(1), (400, 8), jnp.float32)
    y = jnp.sin(3 * x[:, 0])
    with pytest.warns(UserWarning, match="392 of the 400 eigenvalues of k_train cannot be told"):
        flow = gradient_flow(Serial(Dense(1)).kernel(x), y)
    wide = np.array(x, np.float64)
    exact = gradient_flow(wide @ wide.T / 8, np.array(y, np.float64))
    assert (flow.modes.values > 0).sum() == 8
    for t in (1.0, np.inf):
        np.testing.assert_allclose(flow.loss(t), exact.loss(t), rtol=1e-5)
        np.testing.assert_allclose(flow.train(t), exact.train(t), atol=1e-5)
    assert condition_number(Serial(Dense(1)).kernel(x).ntk) == np.inf


@pytest.mark.parametrize("solve", [gradient_flow, lambda *a, **b: gradient_descent(*a, 0.1, **b)])
def test_one_warning_says_how_much_is_lost(solve):
    kernel, y = np.ones((2, 2)), np.array([0.0, 1.0])
    said = r"1 of the 2 eigenvalues .* in float32, .* late times, 70\.7 % of .* ntk.setup\(\)"
    with pytest.warns(UserWarning, match=said) as caught:
        solve(np.float32(kernel), np.float32(y))
    assert len(caught) == 1
    with pytest.warns(UserWarning, match=r"70\.7 % of"):  # the entries are what counts
        solve(np.float32(kernel), y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        solve(kernel, y)  # float64, where a null mode is one
        solve(np.float32(kernel), np.float32([1.0, 1.001]))  # off by 0.0005 of |y|
        solve(np.float32(kernel), np.float32([0.0, 1.0]), f0=np.float32([0.0, 1.0]))
        jax.jit(lambda k: solve(k, y).modes.values)(np.float32(kernel))


def test_the_warning_says_by_how_much_late_forecasts_are_off():
    # Noise that a smooth kernel holds in modes below the rounding of float32.
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 2)).astype(np.float32)
    wide = np.array(x, np.float64)
    for noise, said in ((0.0, False), (0.1, True)):
        y = wide[:, 0] + noise * rng.normal(size=200)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            flow = gradient_flow(NET.kernel(x).ntk, y)
            fit = regression(NET.kernel(x).ntk, y)
        exact = gradient_flow(NET.kernel(wide).ntk, y)
        late = 1e12 / float(exact.modes.values[0])
        gap = np.linalg.norm(flow.residual(late) - exact.residual(late)) / np.linalg.norm(y)
        parts = [re.search(r"([\d.e-]+) % of", str(w.message)) for w in caught]
        assert len(parts) == 2 * said
        assert said == (gap > 1e-3)
        for part in parts:  # of the modes that are lost float64 has learnt most by then
            assert 0.5 < gap / (float(part[1]) / 100) < 1.01
        assert np.linalg.norm(fit.coefficients) > 0


def test_entries_of_float32_among_wider_numbers_are_known_for_what_they_are():
    x = jnp.linspace(-1, 1, 60, dtype=jnp.float32)[:, None]
    kernel, y = NET.kernel(x).ntk, np.array(x[:, 0], np.float64)
    assert np.linalg.eigvalsh(np.array(kernel, np.float64))[0] < -1e-8  # refused, were it float64
    flow = gradient_flow(kernel, y)
    assert flow.loss(1.0).dtype == np.float64
    assert (flow.modes.values >= 0).all()
    assert 0 < (flow.modes.values == 0).sum() < 60


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_narrower_dtypes_are_decomposed_too(dtype):
    kernel = jnp.array([[2.0, 1.0], [1.0, 2.0]], dtype)
    flow = gradient_flow(kernel, jnp.array([1.0, -1.0], dtype))
    assert flow.train(1.0).dtype == dtype
    np.testing.assert_allclose(np.float64(flow.train(1.0)), [0.632, -0.632], atol=0.01)


def test_modes_of_float32_are_those_of_float64_rounded_once():
    rng = np.random.default_rng(0)
    j = rng.normal(size=(50, 60)).astype(np.float32)
    kernel = jnp.array(j @ j.T)
    found, exact = modes(kernel), np.linalg.eigvalsh(np.array(kernel, np.float64))[::-1]
    np.testing.assert_allclose(found.values, exact, rtol=2 * EPS)
    assert found.values.dtype == found.vectors.dtype == jnp.float32
    np.testing.assert_allclose(condition_number(kernel), exact[0] / exact[-1], rtol=4 * EPS)
    np.testing.assert_allclose(jax.jit(modes)(kernel).values, exact, atol=50 * EPS * exact[0])


DEEP = Serial(*[layer for _ in range(10) for layer in (Dense(1, 2**0.5), Relu())], Dense(1))


@pytest.mark.filterwarnings("ignore:.*cannot be told from zero")
@pytest.mark.parametrize("net", [NET, DEEP, Serial(Dense(1))])
def test_psd_kernels_in_float32_are_not_refused(net):
    # Inputs on a line, the first two nearly equal: most eigenvalues are below the rounding.
    x = np.linspace(-2, 2, 300, dtype=np.float32)[:, None]
    x[1] = -2.0001
    whole = net.kernel(x)
    for size in (2, 30, 300):  # the first two and some of the others, evenly
        some = np.r_[0, 1, np.linspace(2, 299, size - 2, dtype=int)]
        k = Kernel(*(np.array(part)[np.ix_(some, some)] for part in (whole.nngp, whole.ntk)))
        for kernel in (k.nngp, k.ntk):
            assert max_learning_rate(kernel) > 0
            gradient_flow(kernel, np.ones(size, np.float32))
        covariance = gradient_flow(k, np.ones(size, np.float32)).ensemble(1.0)[1]
        assert np.isfinite(covariance).all()


@pytest.mark.parametrize(("size", "lowest"), [(2, -1e-2), (2, -1e-3), (30, -1e-3), (300, -1e-3)])
def test_indefinite_matrices_in_float32_are_refused(size, lowest):
    basis = np.linalg.qr(np.random.default_rng(0).normal(size=(size, size)))[0]
    for spectrum, refuse in (
        (np.linspace(lowest, 1, size), lambda k: gradient_flow(k, np.ones(size, np.float32))),
        (np.geomspace(1e-9, 1, size), max_learning_rate),
    ):
        kernel = (basis * np.append(lowest, spectrum[1:])) @ basis.T
        kernel = ((kernel + kernel.T) / 2).astype(np.float32)
        with pytest.raises(ValueError, match=f"positive semi-definite.* {lowest:.3g} beside"):
            refuse(kernel)


def test_predictions_made_of_rounding_are_said_to_be(recwarn):
    u = jnp.linspace(-1, 1, 40, dtype=jnp.float32)
    x = jnp.stack([jnp.cos(3 * u), jnp.sin(3 * u)], axis=1)
    net = Serial(Dense(8, 1.0, 0.5), Erf(), Dense(1))
    y = jnp.sin(7 * u)
    point = jnp.array([[0.6, 0.8]], jnp.float32)
    flow, cross = gradient_flow(net.kernel(x).ntk, y), net.kernel(point, x).ntk
    recwarn.clear()
    for t in (1.0, 1e3):
        flow.test(t, cross)
    assert not [w for w in recwarn if "predictions at test points" in str(w.message)]
    for t in (1e6, 1e9):
        with pytest.warns(UserWarning, match="predictions at test points are off by some"):
            flow.test(t, cross)


@pytest.mark.filterwarnings("ignore:.*cannot be told from zero")
@pytest.mark.parametrize("which", ["both", "k_train", "k_test_train"])
def test_rounding_is_that_of_the_dtype_that_kernels_came_in(which):
    # Float32 entries among float64 numbers; at the end, by the flow and by regression.
    rng = np.random.default_rng(1)
    x, point = (rng.normal(size=(n, 2)).astype(np.float32) for n in (100, 50))
    y = np.sin(3 * x[:, 0]) + 0.1 * rng.normal(size=100)
    narrow = NET.kernel(x).ntk, NET.kernel(point, x).ntk
    x, point = x.astype(float), point.astype(float)
    wide = NET.kernel(x).ntk, NET.kernel(point, x).ntk
    k = narrow[0] if which != "k_test_train" else wide[0]
    cross = narrow[1] if which != "k_train" else wide[1]
    exact = regression(wide[0], y, 3e-6).predict(wide[1])
    fit = regression(k, y, 3e-6)
    with pytest.warns(UserWarning, match="off by some .* entries in float32") as caught:
        found = fit.predict(cross)
    felt = float(re.search(r"off by some ([\d.e-]+) or more", str(caught[0].message))[1])
    off = abs(found - exact).max()
    assert off > felt / 20
    assert off < 20 * felt or which != "k_test_train"  # K itself is felt more: it is inverted
    with pytest.warns(UserWarning, match="off by some .* entries in float32"):
        fit.posterior(cross, np.ones(50))
    if which != "k_train":
        with pytest.warns(UserWarning, match="off by some .* entries in float32"):
            gradient_flow(wide[0], y).test(np.inf, cross)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        regression(k, y, 1e-2).predict(cross)
        regression(wide[0], y, 3e-6).predict(wide[1])
        gradient_flow(wide[0], y).test(1.0, cross)
