"""Duals in closed form at every scale: values, slopes, angles and derivatives against mpmath."""

import json
import math
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from exact_duals import CASES, KINKED, errors, random_pairs

from ntkbook import duals
from ntkbook.gaussian.pairs import Dual
from ntkbook.gaussian.pairs import pair as gaussian_pair

RECORD = json.loads((Path(__file__).parents[1] / "benchmarks/accuracy.json").read_text("utf-8"))
# Other pairs than those of the record, fewer; another machine rounds differently.
FACTOR = 2
NUMBERS = {"float32": (1e-30, 1e-19, 1e-8, 1.0, 1e8, 1e19, 3e38)}
NUMBERS["float64"] = (1e-300, 1e-154, 1e-8, 1.0, 1e8, 1e154, 1.7e308)


@pytest.mark.parametrize("name", CASES)
def test_errors_are_those_of_the_record(name):
    rows = [row for row in RECORD["rows"] if row["activation"] == name]
    assert len(rows) >= 4
    for row in rows:
        low, high = row["variance"].values()
        pairs = random_pairs(low, high, row["dtype"], 60, seed=1)
        largest = errors(*CASES[name], *pairs).max(1)
        bounds = [FACTOR * row[part] for part in ("value", "slope", "angle")]
        assert (largest <= bounds).all(), (row, largest)


def test_the_table_of_the_docstring_is_that_of_the_record():
    groups = {"polynomial": ("z - z³/10", "1 + 2z + z²/2"), "abrelu": ("relu", "leaky relu", "abs")}
    groups["rectified_power"] = KINKED[3:]
    shown = re.findall(r"^`(\w+)`.*?((?: +\de-\d+){6})$", duals.__doc__, flags=re.MULTILINE)
    assert {name for name, _ in shown} == set(duals.__all__) - {"relu", "value_and_slope"}
    for name, numbers in shown:
        rows = [r for r in RECORD["rows"] if r["activation"] in groups.get(name, (name,))]
        for dtype, three in zip(
            ("float64", "float32"), np.array(numbers.split(), float).reshape(2, 3), strict=True
        ):
            parts = ("value", "slope", "angle")
            worst = [max(r[part] for r in rows if r["dtype"] == dtype) for part in parts]
            np.testing.assert_array_equal(three, worst, err_msg=f"{name} {dtype}")


def extreme_pairs(dtype):
    """Tiny beside huge variances at every kind of angle."""
    numbers = NUMBERS[dtype]
    angles = [(0, 1), (0, -1), (1e-12, 1), (1e-5, -1), (0.3, 1), (0.3, -1), (1, 1)]
    grid = [(a, b, s * (1 - g), g) for a in numbers for b in numbers for g, s in angles]
    return [np.array(column, dtype) for column in zip(*grid, strict=True)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CASES)
def test_tiny_beside_huge_variances(name, dtype):
    dual, truth = CASES[name]
    pairs = extreme_pairs(dtype)
    if name in ("exp", "sin", "cos", "rbf"):  # below the exponents that mpmath is asked for
        pairs = [column[np.maximum(*pairs[:2]) <= 1] for column in pairs]
    value, slope, angle = errors(dual, truth, *pairs).max(1)
    eps = np.finfo(dtype).eps
    assert max(value, slope) < 12 * eps
    assert angle < (eps**0.75 if name in ("erf", "gelu", "sin") else 12 * eps)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["sin", "cos", "rbf"])
def test_waves_of_any_length_are_finite(name, dtype):
    dual, _ = CASES[name]
    pair = gaussian_pair(*map(jnp.asarray, extreme_pairs(dtype)))
    value, slope = dual.value_and_slope(pair)
    assert np.isfinite([value, slope, *dual.cosine_and_gap(pair, value)]).all()
    # E[sin²] = (1 - exp(-2q))/2, and at most 1 anyway.
    limit = np.array([1.0, 0.6] if name == "rbf" else [1.0, 1.0]) * (1 + 8 * np.finfo(dtype).eps)
    assert (np.abs([value, slope]).max(1) <= limit).all()


def test_exp_is_finite_wherever_its_dual_is():
    q1, q2 = jnp.array([700.0, 400.0, 400.0, 800.0, 300.0]), jnp.array([0.1, 400, 400, 0.1, 300])
    c = jnp.array([5.0, 0.0, -400.0, -8.0, 300.0])
    exact = [
        mp.exp((mp.mpf(a) + mp.mpf(b)) / 2 + mp.mpf(z))
        for a, b, z in zip(q1.tolist(), q2.tolist(), c.tolist(), strict=True)
    ]
    np.testing.assert_allclose(duals.exp(q1, q2, c), np.array(exact, float), rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CASES)
def test_an_input_and_itself_have_no_angle_at_any_scale(name, dtype):
    dual, _ = CASES[name]
    q = jnp.array([0.0, *NUMBERS[dtype]], dtype)
    pair = gaussian_pair(q, q, jnp.ones_like(q), jnp.zeros_like(q))
    value, _ = dual.value_and_slope(pair)
    cosine, gap = dual.cosine_and_gap(pair, value)
    finite = np.isfinite(value)
    assert finite[q <= 1].all()
    np.testing.assert_array_equal(gap[finite], 0)
    np.testing.assert_array_equal(cosine[finite], 1)
    assert not ((gap == 0) & (cosine == 1))[~finite].any()  # no angle known, none told
    np.testing.assert_allclose(
        value[finite], dual.diagonal(q)[finite], rtol=8 * jnp.finfo(dtype).eps
    )


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("name", CASES)
def test_nothing_makes_a_number_of_what_is_none(name, bad):
    dual, _ = CASES[name]
    knows_angle_only = name == "step"  # value and slope of the step are those of the angle
    for place in range(3 if math.isnan(bad) else 2):
        arguments = [jnp.array(0.8), jnp.array(1.3), jnp.array(0.4)]
        arguments[place] = jnp.array(bad)
        pair = gaussian_pair(*arguments[:2], arguments[2], 1 - arguments[2])
        value, _ = dual.value_and_slope(pair)
        assert not np.isfinite(dual.cosine_and_gap(pair, value)).any()
        if place < 2 and not knows_angle_only:
            assert not np.isfinite([value, dual(*arguments)]).any()
            assert not np.isfinite(dual.diagonal(arguments[place]))


@pytest.mark.parametrize("name", [name for name in CASES if name != "step"])
def test_slope_is_the_derivative_of_the_formula(name):
    # Without `derivative`, a Dual made from a formula of the catalogue gets the same slope.
    dual, _ = CASES[name]
    pairs = random_pairs(1e-3, 10, "float64", 100, seed=2)
    pair = gaussian_pair(*map(jnp.asarray, pairs))
    first, second = (d.value_and_slope(pair)[1] for d in (dual, Dual(dual.formula)))
    size = np.abs(first).max()
    np.testing.assert_allclose(second, first, rtol=1e-9, atol=1e-9 * size)


# Any angle, orthogonal, the same input, the opposite one, parallel, antiparallel; one zero, both.
POINTS = [(1.3, 0.6, 0.5), (0.7, 2.1, -0.9), (3.0, 0.2, 0.0), (1.3, 1.3, 1.3), (1.3, 1.3, -1.3)]
POINTS += [(4.0, 1.0, 2.0), (4.0, 1.0, -2.0), (1.3, 0.0, 0.0), (0.0, 1.3, 0.0), (0.0, 0.0, 0.0)]


def differences(truth, point):
    """Gradients and Hessians of value and slope, by central differences with 60 digits."""
    step = mp.mpf(10) ** -18
    unit = np.eye(3, dtype=int)
    with mp.workdps(60):

        def at(move):
            return np.array(
                truth(*(mp.mpf(x) + k * step for x, k in zip(point, move.tolist(), strict=True)))
            )

        gradient = [(at(e) - at(-e)) / (2 * step) for e in unit]
        hessian = [
            [(at(e + d) - at(e - d) - at(d - e) + at(-e - d)) / (4 * step**2) for d in unit]
            for e in unit
        ]
        return np.array(gradient, float).T, np.moveaxis(np.array(hessian, float), -1, 0)


@pytest.mark.parametrize("name", CASES)
def test_first_and_second_derivatives_in_every_argument(name):
    dual, truth = CASES[name]

    def both(point):
        return jnp.stack(duals.value_and_slope(dual, *point))

    got = jax.jit(jax.vmap(lambda p: (jax.jacfwd(both)(p), jax.hessian(both)(p))))
    gradients, hessians = got(jnp.array(POINTS))
    assert np.isfinite(gradients).all()
    assert np.isfinite(hessians).all()
    for point, *parts in zip(POINTS, gradients, hessians, strict=True):
        if name in KINKED and point[2] ** 2 >= point[0] * point[1]:
            continue  # the exact ones of the slope are infinite
        for part, exact in zip(parts, differences(truth, point), strict=True):
            np.testing.assert_allclose(part, exact, rtol=1e-11, atol=1e-11 * np.abs(exact).max())


@pytest.mark.parametrize("name", ["relu", "leaky relu", "abs", "rectified power 1"])
def test_derivatives_of_a_kink_at_parallel_inputs(name):
    # ∂T/∂c is the slope, and ∂T/∂q1 = E[φ''(u) φ(v)]/2 vanishes there like the sine of the angle.
    dual, truth = CASES[name]
    for q1, q2, c in ((1.3, 1.3, 1.3), (1.3, 1.3, -1.3), (4.0, 1.0, 2.0), (4.0, 1.0, -2.0)):
        gradient = jax.grad(lambda p: dual(*p))(jnp.array([q1, q2, c]))
        slope = float(truth(mp.mpf(q1), mp.mpf(q2), mp.mpf(c))[1])
        np.testing.assert_allclose(gradient, [0, 0, slope], atol=1e-15)


@pytest.mark.parametrize("name", CASES)
def test_second_derivatives_of_the_angle_at_equal_inputs(name):
    # gap' = f(gap, q1, q2); its rate in the gap, which carries every second derivative in inputs.
    dual, truth = CASES[name]

    def gap_after(gap, q1, q2):
        pair = gaussian_pair(q1, q2, 1 - gap, gap)
        return dual.cosine_and_gap(pair, dual.value_and_slope(pair)[0])[1]

    q = jnp.array(0.8)
    rate = jax.grad(gap_after)(jnp.array(0.0), q, q)
    value, slope = (float(x) for x in truth(*[mp.mpf(0.8)] * 3))
    if name == "step":
        assert math.isfinite(rate)  # the gap after it grows like a root
    else:
        np.testing.assert_allclose(rate, slope * 0.8 / value, rtol=1e-12)
    assert np.isfinite(jax.grad(jax.grad(gap_after, 1), 2)(jnp.array(0.0), q, q))
