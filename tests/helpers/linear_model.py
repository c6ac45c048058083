"""A linear model with random Jacobians, for tests of training dynamics."""

import numpy as np

N, M, P = 6, 4, 9
RATE = 0.3


def problem(rank=P, outputs=None, seed=0):
    """Jacobians of a linear model on training and test points, targets, and starts."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(rank, P))
    j, j_test = rng.normal(size=(N, rank)) @ mixing / P, rng.normal(size=(M, rank)) @ mixing / P
    tail = () if outputs is None else (outputs,)
    return (j, j_test, *(rng.normal(size=(rows, *tail)) for rows in (N, N, M)))


def close(actual, expected, tolerance=1e-12):
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)
