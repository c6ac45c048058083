"""Lanczos and its quadrature against dense spectra: bounds, and what breaks them."""

import numpy as np
import pytest

from ntkbook.diagnosis.lanczos import (
    bracket,
    descended,
    lanczos,
    largest,
    rule,
    share_below,
    summed,
)

VALUES = np.geomspace(1e-4, 1, 60)


def never(krylov):
    return False


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(0)
    vectors = np.linalg.qr(rng.normal(size=(60, 60)))[0]
    return vectors * VALUES @ vectors.T, vectors, rng.normal(size=60)


def run(matrix, start, most):
    return lanczos(lambda v: matrix @ v, start, most, never, 1e-14)


def exact(vectors, start, g):
    return ((vectors.T @ start) ** 2 * g(VALUES)).sum() / (start @ start)


@pytest.mark.parametrize("rate", [0.3, 1.0 - 1e-8, 1.7, 2.5])
def test_gauss_is_below_and_radau_or_lobatto_above(problem, rate):
    matrix, vectors, start = problem
    for m in range(1, 11):
        lower, upper = bracket(run(matrix, start, m), rate, 1.0)
        for t in (1, 5, 20, 200):
            truth = exact(vectors, start, lambda v, t=t: (1 - rate * v) ** (2 * t))
            assert lower.left(rate, t) <= truth * (1 + 1e-9)
            assert truth <= upper.left(rate, t) * (1 + 1e-6)
    assert upper.left(0.9, 200) - lower.left(0.9, 200) > 1e-4  # no bound is met by having ended


def test_a_node_at_the_top_is_no_upper_bound_nor_is_another_start(problem):
    matrix, vectors, start = problem
    truth = exact(vectors, start, lambda v: (1 - v) ** 40)
    assert rule(run(matrix, start, 4), 1.0 + 1e-9).left(1.0, 20) < truth
    other = run(matrix, np.roll(start, 1), 10)
    assert abs(rule(other).left(1.0, 20) / truth - 1) > 0.01


@pytest.mark.parametrize("at", [1e-3, 0.02, 0.3, 0.77])
def test_shares_are_within_their_errors(problem, at):
    matrix, vectors, start = problem
    truth = exact(vectors, start, lambda v: v < at)
    for m in (3, 8, 16):
        value, error = share_below(run(matrix, start, m), at)
        assert abs(value - truth) <= error + 1e-12
    assert error < 0.2


def test_descent_misses_no_more_than_it_says(problem):
    matrix, _, start = problem
    whole = np.linalg.matrix_power(np.eye(60) - matrix, 200) @ start
    for m in (5, 10, 20):
        left, bound = descended(run(matrix, start, m), 1.0, 200)
        missed = np.linalg.norm(whole - left)
        assert missed <= bound <= 30 * missed
    sums = sum(np.linalg.matrix_power(np.eye(60) - matrix, t) @ start for t in range(30))
    np.testing.assert_allclose(summed(run(matrix, start, 60), 1.0, 30), sums, rtol=1e-6)


def test_the_largest_eigenvalue_is_within_its_error(problem):
    matrix, _, start = problem
    for m in (3, 6, 12):
        value, error = largest(run(matrix, start, m))
        assert np.abs(VALUES - value).min() <= error
    assert abs(value - 1) < 1e-3


def test_single_precision_keeps_the_basis_orthonormal(problem):
    matrix, vectors, start = problem
    low = matrix.astype(np.float32)

    def product(v):
        return (low @ v.astype(np.float32)).astype(float)

    known = lanczos(product, start, 40, never, 32 * np.finfo(np.float32).eps)
    np.testing.assert_allclose(known.basis.T @ known.basis, np.eye(40), atol=1e-12)
    truth = exact(vectors, start, lambda v: (1 - v) ** 40)
    np.testing.assert_allclose(rule(known).left(1.0, 20), truth, rtol=1e-5)


def test_it_ends_where_nothing_leads_out(problem):
    _, vectors, _ = problem
    start = vectors[:, 3] + vectors[:, 50]
    matrix = vectors * VALUES @ vectors.T
    known = run(matrix, start, 30)
    assert len(known.off) == 2
    np.testing.assert_allclose(rule(known).nodes, VALUES[[3, 50]], rtol=1e-9)
    assert share_below(known, 0.01).error == 0
