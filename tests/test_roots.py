"""Roots between the points of a grid against polynomials whose roots are known."""

import numpy as np

from ntkbook._base.roots import crossings, first_false, refined, sign_changes

GRID = np.concatenate([[0.0], np.geomspace(1e-3, 100, 61)])


def test_all_crossings_are_found_to_rounding():
    roots = np.array([0.02, 0.7, 31.0])
    found = crossings(lambda x: (x - 0.02) * (x - 0.7) * (x - 31), GRID, 0.0)
    np.testing.assert_allclose(found, roots, rtol=1e-14)
    np.testing.assert_allclose(crossings(lambda x: x * (x - 2), GRID, 0.0), [0, 2], rtol=1e-14)


def test_what_vanishes_everywhere_or_touches_has_no_crossing():
    assert crossings(lambda x: 0 * x, GRID, 0.0).size == 0
    assert crossings(lambda x: (x - 2) ** 2, GRID, 0.0).size == 0
    assert crossings(lambda x: 1e-15 * (x - 2), GRID, 1e-12).size == 0


def test_the_grid_ends_where_values_are_not_finite():
    def function(x):
        with np.errstate(over="ignore", invalid="ignore"):
            return np.where(x > 50, np.inf, x - 3)

    np.testing.assert_allclose(crossings(function, GRID, 0.0), [3], rtol=1e-14)
    assert first_false(np.array([True, True, False, True])) == 2
    assert first_false(np.array([True, True])) == 2


def test_derivatives_shorten_the_search_and_change_nothing():
    calls = []

    def cubes(x):
        calls.append(x)
        return x**3 - np.array([2.0, 30.0]), 3 * x**2

    low, high, sign = np.zeros(2), np.full(2, 10.0), -np.ones(2)
    np.testing.assert_allclose(refined(cubes, low, high, sign), np.cbrt([2, 30]), rtol=1e-15)
    with_slope, calls[:] = len(calls), []
    refined(lambda x: (cubes(x)[0], np.full(2, np.nan)), low, high, sign)
    assert with_slope < 15 < len(calls)


def test_zeros_count_as_the_sign_before_them():
    rows, before, left, right = sign_changes(np.array([[0, 0, 1, 0, -1, -1], [1, 0, 1, 0, 0, 0]]))
    assert rows.tolist() == [0, 0]
    assert before.tolist() == [1, 3]
    assert (left.tolist(), right.tolist()) == ([0, 1], [1, -1])
