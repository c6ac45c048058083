"""Lanczos' tridiagonal matrix of a symmetric operator, and what quadrature makes of it.

⟨r, g(Θ) r⟩ is the integral of g by a measure that puts r's squared coefficient on each eigenvalue
of Θ ⪰ 0.  After m products with Θ its Gauss rule is known, and with it rules that have nodes of
our choice.  For g(λ) = (1 − ηλ)^2t, whose even derivatives are not negative, Gauss is a lower
bound; with a node at 0 (Gauss–Radau) it is an upper one where ηλ ≤ 1, with nodes at 0 and above
the spectrum (Gauss–Lobatto) at any step.  Source: Golub & Meurant 1994.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]


class Estimate(NamedTuple):
    """A number and how far off it may be."""

    value: float
    error: float


class Rule(NamedTuple):
    """A quadrature rule: nodes, and weights that add up to one."""

    nodes: Vector
    weights: Vector

    def left(self, rate: float, t: NDArray | int) -> NDArray[np.float64]:
        """Σ w (1 − ηλ)^2t at each t."""
        with np.errstate(over="ignore"):
            powers = (1 - rate * self.nodes) ** (2.0 * np.asarray(t)[..., None])
        return np.sum(np.where(self.weights > 0, powers, 0) * self.weights, axis=-1)


@dataclass(frozen=True)
class Krylov:
    """An orthonormal basis (M, m) from the unit vector start/norm, and Θ on it.

    `diagonal` (m,) and `off` (m,) are the tridiagonal matrix; off[-1] leads out of the basis, and
    is zero if nothing does.
    """

    basis: Vector
    images: Vector
    diagonal: Vector
    off: Vector
    norm: float

    def modes(self) -> tuple[Vector, Vector]:
        """Ritz values, not below zero, and vectors of the tridiagonal matrix."""
        values, vectors = _decomposed(self.diagonal, self.off)
        return np.maximum(values, 0), vectors


def lanczos(
    product: Callable[[Vector], Vector],
    start: Vector,
    most: int,
    enough: Callable[[Krylov], bool],
    rounding: float,
) -> Krylov:
    """Products one by one until it is `enough`, or `most`, or all that `start` can reach.

    `rounding`, the size of errors of a product beside the largest eigenvalue.
    """
    norm = float(np.linalg.norm(start))
    vectors, images, diagonal, off = [start / norm], list[Vector](), list[float](), list[float]()
    while True:
        images.append(product(vectors[-1]))
        diagonal.append(float(vectors[-1] @ images[-1]))
        basis = np.stack(vectors, axis=1)
        rest = images[-1]
        for _ in range(2):  # once loses orthogonality to rounding, and with it the bounds
            rest = rest - basis @ (basis.T @ rest)
        off.append(float(np.linalg.norm(rest)))
        ended = off[-1] <= rounding * max(map(abs, diagonal + off[:-1])) or len(off) == start.size
        off[-1] = 0.0 if ended else off[-1]
        known = Krylov(basis, np.stack(images, axis=1), np.array(diagonal), np.array(off), norm)
        if ended or len(off) == most or enough(known):
            return known
        vectors.append(rest / off[-1])


def _decomposed(diagonal: Vector, off: Vector) -> tuple[Vector, Vector]:
    beside = off[: len(diagonal) - 1]
    return np.linalg.eigh(np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1))


def largest(krylov: Krylov) -> Estimate:
    """The largest Ritz value; some eigenvalue is no further from it than the error."""
    values, vectors = krylov.modes()
    return Estimate(float(values[-1]), float(krylov.off[-1] * abs(vectors[-1, -1])))


def rule(krylov: Krylov, *fixed: float) -> Rule:
    """The Gauss rule, or that with one or two nodes fixed, the second above the spectrum."""
    values, vectors = krylov.modes()
    out = krylov.off[-1]
    if not fixed or out == 0:  # Gauss is exact then
        return Rule(values, vectors[0] ** 2)
    tiny = np.finfo(float).eps * values[-1]

    def resolvent(node: float) -> float:  # the last entry of (T − node)⁻¹
        gaps = values - node
        return float(np.sum(vectors[-1] ** 2 / np.where(np.abs(gaps) < tiny, tiny, gaps)))

    first, *second = fixed
    last, square = first + out**2 * resolvent(first), out**2
    if second:
        square = (second[0] - first) / (resolvent(first) - resolvent(second[0]))
        last = first + square * resolvent(first)
    off = np.append(krylov.off[:-1], np.sqrt(square))
    nodes, vectors = _decomposed(np.append(krylov.diagonal, last), off)
    return Rule(np.maximum(nodes, 0), vectors[0] ** 2)


def bracket(krylov: Krylov, rate: float, top: float) -> tuple[Rule, Rule]:
    """Rules below and above ⟨r, (1 − ηΘ)^2t r⟩/‖r‖² for every t; `top` is above the spectrum."""
    top = max(top, float(krylov.modes()[0][-1])) * (1 + 1e-9)
    return rule(krylov), rule(krylov, 0.0) if rate * top <= 1 else rule(krylov, 0.0, top)


def share_below(krylov: Krylov, at: float) -> Estimate:
    """The share of ‖r‖² in eigenvalues below `at`, by the inequalities of Chebyshev and Markov.

    Nodes below `at` of a rule that has a node there weigh no more than that share, and with the
    node itself no less.
    """
    nodes, weights = rule(krylov, at)
    if krylov.off[-1] == 0:
        return Estimate(float(weights[nodes < at].sum()), 0.0)
    itself = int(np.argmin(np.abs(nodes - at)))
    return Estimate(float(weights[:itself].sum() + weights[itself] / 2), float(weights[itself] / 2))


def descended(krylov: Krylov, rate: float, steps: int) -> tuple[Vector, float]:
    """(1 − ηΘ)^T r within the basis, and a bound on the norm of what is missed, for ηλ ≤ 2.

    What is within the basis misses at each step η times what leads out of it, and no later step
    enlarges that.
    """
    values, vectors = krylov.modes()
    factors, start = 1 - rate * values, krylov.norm * vectors[0]
    missed = 0.0
    for first in range(0, steps, 4096):
        t = np.arange(first, min(steps, first + 4096))[:, None]
        missed += np.abs((factors**t * start) @ vectors[-1]).sum()
    left = krylov.basis @ (vectors @ (factors**steps * start))
    return left, float(rate * krylov.off[-1] * missed)


def summed(krylov: Krylov, rate: float, steps: int) -> Vector:
    """η Σ_{t<T} (1 − ηΘ)^t r within the basis."""
    values, vectors = krylov.modes()
    x = rate * values
    small = np.clip(x, 1e-300, 0.5)  # where 1 − (1 − x)^T would cancel
    slow = -np.expm1(steps * np.log1p(-small)) / small
    total = np.where(x < 0.5, slow, (1 - (1 - x) ** steps) / np.maximum(x, 0.5))
    return krylov.basis @ (vectors @ (rate * total * krylov.norm * vectors[0]))
