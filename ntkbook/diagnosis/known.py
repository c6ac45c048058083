"""Norms, traces and changes of a kernel of which some products are known, with their errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from numpy.typing import NDArray

from ntkbook._base.types import PRNGKeyArray
from ntkbook.diagnosis.lanczos import Estimate, Vector

# Products: with the top modes of another kernel, with probes, and with a mean of each output.
MODES, PROBES, OUTPUTS = 6, 6, 10

# What is smaller, beside the whole kernel, is taken for rounding.
NOTHING = 1e-5


class Known(NamedTuple):
    """Θ on an orthonormal basis (M, q), and on p probes orthogonal to it, with their signs."""

    basis: Vector
    images: Vector
    signs: Vector
    probes: Vector
    probe_images: Vector


def first(known: Known) -> Estimate:
    """λ_max as `lanczos.largest` gives it, from all vectors that Θ is known on."""
    (vector,), (image,) = (a.T for a in leading(known, 1))
    value = float(vector @ image)
    return Estimate(value, float(np.linalg.norm(image - value * vector)))


def known_on(basis: Vector, images: Vector, signs: Vector, product: Callable) -> Known:
    """What is known of Θ from `images` = Θ basis, of any basis, and p products more.

    Directions that the basis hardly has are left to the probes: there rounding would be divided
    by their size.
    """
    left, sizes, right = np.linalg.svd(basis, full_matrices=False)
    kept = sizes > 1e-2 * sizes[0]
    onto = right[kept].T / sizes[kept]
    basis, images = left[:, kept], images @ onto
    probes = _off(basis, signs)
    return Known(basis, images, signs, probes, each(product, probes))


def extended(known: Known, vectors: Vector, images: Vector) -> Known:
    """With Θ on orthonormal `vectors` more, all orthogonal to the basis."""
    basis, on = np.hstack([known.basis, vectors]), np.hstack([known.images, images])
    probes = _off(basis, known.signs)
    return Known(basis, on, known.signs, probes, of_signs(known) - on @ (basis.T @ known.signs))


def of_signs(known: Known) -> Vector:
    """Θ on the signs: on what of them is in the basis, and on what isn't."""
    return known.probe_images + known.images @ (known.basis.T @ known.signs)


def _off(basis: Vector, signs: Vector) -> Vector:
    """The part of the signs that is orthogonal to the basis, zero if nothing is."""
    return without(basis, signs) if basis.shape[1] < len(basis) else 0 * signs


def each(product: Callable, vectors: Vector) -> Vector:
    """Products with the columns of `vectors`, none with those that are zero."""
    return np.stack([product(v) if v.any() else v for v in vectors.T], axis=1)


def leading(known: Known, count: int) -> tuple[Vector, Vector]:
    """The `count` largest Ritz vectors, and Θ on them."""
    _, vectors = np.linalg.eigh(known.basis.T @ known.images)
    top = vectors[:, ::-1][:, :count]
    return known.basis @ top, known.images @ top


def _squeezed(known: Known, out: Vector, images: Vector) -> tuple[Vector, Vector]:
    """CΘC on the basis and on the probes, C taking away the columns of `out`; Θ out = images.

    Exact norms and traces of the one and means of the other are those of CΘC (Hutch++).
    """
    pairs = (known.basis, known.images), (known.probes, known.probe_images)
    exact, sampled = (without(out, image - images @ (out.T @ v)) for v, image in pairs)
    return exact, sampled


def _norm(exact: Vector, sampled: Vector) -> Estimate:
    """The Frobenius norm of a matrix, of its products with a basis and with probes."""
    square = _sampled((exact**2).sum(), (sampled**2).sum(axis=0))
    value = float(np.sqrt(square.value))
    return Estimate(value, square.error / (2 * value) if value else 0.0)


def change(known: Known, product: Callable) -> tuple[Estimate, Estimate, Known]:
    """‖Θ' − Θ‖/‖Θ‖ in Frobenius norm, whole and off the top, and what `product` says of its Θ'."""
    vectors, images = leading(known, MODES)
    probes = _off(vectors, known.signs)
    after = Known(vectors, each(product, vectors), known.signs, probes, each(product, probes))
    exact = after.images - images
    sampled = after.probe_images - (of_signs(known) - images @ (vectors.T @ known.signs))
    sampled = sampled if vectors.shape[1] < len(vectors) else 0 * sampled
    nothing = np.zeros((len(vectors), 0))
    whole = _norm(*_squeezed(known, nothing, nothing))
    rest = _norm(*_squeezed(known, vectors, images))
    tail = _norm(nothing, without(vectors, sampled))
    none = rest.value <= NOTHING * whole.value
    tails = Estimate(0.0, 0.0) if none else _quotient(tail, rest)
    return _quotient(_norm(exact, sampled), whole), tails, after


def _quotient(part: Estimate, whole: Estimate) -> Estimate:
    if part.value == 0:
        return Estimate(0.0, 0.0)
    value = part.value / whole.value
    return Estimate(value, value * (part.error / part.value + whole.error / whole.value))


def _sampled(exact: float, samples: NDArray) -> Estimate:
    """A sum of which a part is the mean of samples, with the standard error."""
    return Estimate(
        float(exact + samples.mean()), float(samples.std(ddof=1) / np.sqrt(len(samples)))
    )


def without(vectors: Vector, v: Vector) -> Vector:
    """v less what lies in the span of orthonormal vectors."""
    for _ in range(2):
        v = v - vectors @ (vectors.T @ v)
    return v


def measured(
    shape: tuple[int, ...], theta: Callable, pairs: list[tuple[Vector, Vector]], y: Vector,
    key: PRNGKeyArray,
) -> tuple[Known, dict[str, Estimate]]:  # fmt: skip
    """What is known of Θ by now and from probes; effective rank and alignment, if k is small."""
    n, k = shape[0], int(np.prod(shape[1:]))
    signs = np.asarray(jax.random.rademacher(key, (n * k, PROBES)), np.float64)
    bases, images = map(list, zip(*pairs, strict=True))
    means = np.kron(np.ones((n, 1)), np.eye(k)) / np.sqrt(n)
    if few := k <= OUTPUTS and n > 1:
        bases, images = [*bases, means], [*images, each(theta, means)]
    known = known_on(np.hstack(bases), np.hstack(images), signs, theta)
    y = without(means, y)
    if not few or not np.linalg.norm(y) > 0:
        return known, {}
    between = y.reshape(n, k).T @ y.reshape(n, k)

    def weigh(v: Vector) -> Vector:
        return np.einsum("ab,nbp->nap", between, v.reshape(n, k, -1)).reshape(v.shape)

    exact, sampled = _squeezed(known, means, images[-1])
    norm = _norm(exact, sampled)
    if norm.value <= NOTHING * first(known).value:
        return known, {}
    trace = _sampled((known.basis * exact).sum(), (known.probes * sampled).sum(axis=0))
    signed = (weigh(known.signs) * sampled).sum(axis=0)
    permuted = _sampled((weigh(known.basis) * exact).sum(), signed)
    whole = norm.value * float(y @ y)
    off = norm.error / norm.value
    rank, aligned = (trace.value / norm.value) ** 2, float(y @ theta(y)) / whole
    shuffled = permuted.value / (n - 1) / whole
    return known, {
        "effective_rank": Estimate(rank, rank * 2 * (trace.error / trace.value + off)),
        "alignment": Estimate(aligned, abs(aligned) * off),
        "shuffled": Estimate(shuffled, permuted.error / (n - 1) / whole + abs(shuffled) * off),
    }
