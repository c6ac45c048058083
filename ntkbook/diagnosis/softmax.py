"""The path of descent on cross-entropy, by the kernel's part in directions that gradients take.

Parameters that move within the span of J^T Q alone see the kernel F F^T = ΘQ (Q^T ΘQ)⁻¹ Q^T Θ
(Nyström), and descent under it costs no products.  Q grows by directions in which the gradients of
that descent leave it, until outputs hardly change: by how much they last did is the error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from ntkbook.diagnosis.known import Known, each, extended, without
from ntkbook.diagnosis.lanczos import Vector

# How many gradients of a path are looked at for new directions, and how many of these at a time.
_SEEN, _NEW = 32, 3


def curvature_root(outputs: Vector, shape: tuple[int, ...]) -> Callable[[Vector], Vector]:
    """v ↦ H^½ v, H = diag p − p p^T of each example, the curvature of its cross-entropy."""
    p = np.asarray(jax.nn.softmax(jnp.asarray(outputs.reshape(shape)), axis=1), np.float64)
    values, vectors = np.linalg.eigh(p[:, :, None] * (np.eye(shape[1]) - p[:, None, :]))
    root = np.einsum("nij,nj,nkj->nik", vectors, np.sqrt(np.maximum(values, 0)), vectors)
    return lambda v: np.einsum("nij,nj->ni", root, v.reshape(shape)).reshape(-1)


def cross_entropy(outputs: Vector, y: Vector) -> tuple[float, Vector]:
    """Its sum over examples, and the gradient p − y; outputs and y are (n, k)."""
    shifted = outputs - outputs.max(axis=1, keepdims=True)
    powers = np.exp(shifted)
    sums = powers.sum(axis=1, keepdims=True)
    return float((y * (np.log(sums) - shifted)).sum()), powers / sums - y


class Walk(NamedTuple):
    """At T times: losses, their errors, gradients (T, M), their errors in norm, and J^T's share."""

    losses: Vector
    loss_errors: Vector
    gradients: Vector
    errors: Vector
    moved: Vector


@dataclass(frozen=True)
class Softmax:
    """Descent on cross-entropy from `outputs` (n, k) under the kernel `factor` `factor`^T.

    `lift` (M, q) is what J^T turns into the orthonormal directions of the parameters of which
    `factor` (M, q) are the images; `rough` is the factor that had been known before the last
    directions, and `factor` itself where there are no others.
    """

    outputs: Vector
    targets: Vector
    lift: Vector
    factor: Vector
    rough: Vector
    rate: float

    def walk(self, times: NDArray) -> Walk:
        """The path at times that increase."""
        outputs, moved = self._descended(self.factor, times)
        rough = outputs if self.rough is self.factor else self._descended(self.rough, times)[0]
        losses, gradients = self._losses_and_gradients(outputs)
        gaps = np.linalg.norm((outputs - rough).reshape(len(times), -1), axis=1)
        slopes = np.linalg.norm(gradients, axis=1)
        # The curvature is at most ½ in each example, and so is the slope of p.
        return Walk(losses, gaps * slopes + gaps**2 / 4, gradients, gaps / 2, moved)

    def _descended(self, factor: Vector, times: NDArray) -> tuple[Vector, Vector]:
        """Outputs (T, n, k) at times that increase, and what they moved in each direction."""
        outputs = np.zeros((len(times), *self.outputs.shape))
        moves, moved, place = np.zeros((len(times), factor.shape[1])), np.zeros(factor.shape[1]), 0
        for t in range(int(times[-1]) + 1):
            now = self.outputs - (factor @ moved).reshape(self.outputs.shape)
            if t == times[place]:
                outputs[place], moves[place], place = now, moved, place + 1
            gradient = cross_entropy(now, self.targets)[1]
            moved = moved + self.rate * (factor.T @ gradient.reshape(-1))
        return outputs, moves

    def _losses_and_gradients(self, outputs: Vector) -> tuple[Vector, Vector]:
        both = [cross_entropy(now, self.targets) for now in outputs]
        return np.array([loss for loss, _ in both]), np.stack([g.reshape(-1) for _, g in both])

    def between(self, t: NDArray) -> tuple[Vector, Vector]:
        """The loss after t steps beside that of the start, less and plus its error."""
        return self._loss(t, -1.0), self._loss(t, 1.0)

    def left(self, t: NDArray) -> Vector:
        """That loss without its error."""
        return self._loss(t, 0.0)

    def _loss(self, t: NDArray, errors: float) -> Vector:
        times, place = np.unique(np.append(np.ravel(t), 0).astype(int), return_inverse=True)
        walk = self.walk(times)
        losses = np.maximum(walk.losses + errors * walk.loss_errors, 0) / walk.losses[0]
        return losses[place[:-1]].reshape(np.shape(t))

    def residuals(self, steps: int) -> tuple[Vector, float]:
        """p − y in the end, within an error in norm."""
        walk = self.walk(np.array([steps]))
        return walk.gradients[0], float(walk.errors[0])

    def pulled(self, steps: int) -> Vector:
        """v with θ(t) = θ(0) − J^T v."""
        return self.lift @ self.walk(np.array([steps])).moved[0]

    def grows(self, steps: int) -> bool:
        """Whether the loss is larger in the end."""
        return bool(self.left(np.array(steps)) > 1)


def follow(
    known: Known, product: Callable, outputs: Vector, y: Vector, rate: float, steps: int,
    tolerance: float, most: int, rounding: float,
) -> tuple[Softmax, Known]:  # fmt: skip
    """The path with at most so many products more, and what is known after them."""
    times = np.unique(np.append(np.geomspace(1, steps + 1, _SEEN).astype(int) - 1, steps))
    weights = np.sqrt(np.diff(times, append=steps))[:, None]
    lift, factor = _nystrom(known, rounding)
    path = Softmax(outputs, y, lift, factor, factor, rate)
    while most > 0:
        walk = path.walk(times)
        size, left = (float(np.linalg.norm(walk.gradients[place])) for place in (0, -1))
        close = walk.loss_errors[-1] <= tolerance / 2 * max(walk.losses[-1], 1e-4 * walk.losses[0])
        close = close and walk.errors[-1] <= tolerance * max(5 * left, 0.1 * size)
        if close and path.rough is not path.factor:
            break
        rest = without(known.basis, (weights * walk.gradients).T)
        vectors, sizes, _ = np.linalg.svd(rest, full_matrices=False)
        new = sizes > max(0.1 * sizes[0], rounding * size)
        vectors = vectors[:, new][:, : min(_NEW, most, len(vectors) - known.basis.shape[1])]
        if not vectors.size:  # no gradient leaves the basis: it is exact
            return replace(path, rough=path.factor), known
        most -= vectors.shape[1]
        # What is left may be little beside what was taken away, and its rounding of that size.
        vectors = np.linalg.qr(without(known.basis, vectors))[0]
        known = extended(known, vectors, each(product, vectors))
        rough, (lift, factor) = path.factor, _nystrom(known, rounding)
        path = Softmax(outputs, y, lift, factor, rough, rate)
    return path, known


def _nystrom(known: Known, rounding: float) -> tuple[Vector, Vector]:
    """QV, ΘQV with columns that J^T turns into orthonormal ones."""
    inner = known.basis.T @ known.images
    values, vectors = np.linalg.eigh((inner + inner.T) / 2)
    kept = values > rounding * values[-1]
    turn = vectors[:, kept] / np.sqrt(values[kept])
    return known.basis @ turn, known.images @ turn
