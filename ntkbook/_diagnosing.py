"""What `diagnose` asks of a network: products with its tangent kernel, and traces from probes.

Vectors are (M,) in float64, M = n k outputs of n examples; the network computes in its own dtype.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from ntkbook import _lanczos as spectral
from ntkbook._base.arguments import require_finite
from ntkbook._base.compiled import compiled
from ntkbook._base.types import Array, PRNGKeyArray, PyTree
from ntkbook._lanczos import Estimate, Krylov, Vector
from ntkbook.tangents.model import Model, common_dtype

# From these sizes on of the predicted change the regime is called mixed, and feature learning.
MIXED, RICH = 0.1, 1.0

# What is smaller, beside the whole kernel, is taken for rounding.
NOTHING = 1e-5

# Products: for λ_max, for the curve, for that at the end point, of top modes, probes, outputs.
_TOP, _CURVE, _END, _MODES, _PROBES, _OUTPUTS = 16, 24, 18, 6, 6, 10
BUDGET = _TOP + _CURVE + _END + _MODES + 2 * _PROBES + _OUTPUTS + 1

# Examples that pass through the network together: what bounds the memory of its activations.
BLOCK = 64


@dataclass(frozen=True)
class Tangents:
    """Derivatives of f over n examples in blocks xs (B, b, …), one after the other.

    Besides `params` a product holds two of their size: the sum over blocks, and a block's share.
    """

    f: Model
    xs: Array
    shape: tuple[int, ...]
    dtype: np.dtype
    done: Callable[[], Any]

    def pull(self, params: PyTree, v: Vector) -> PyTree:
        """J^T v."""
        n = self.xs.shape[0] * self.xs.shape[1]
        padded = np.zeros((n, *self.shape[1:]))
        padded[: self.shape[0]] = v.reshape(self.shape)
        blocks = jnp.asarray(padded.reshape(*self.xs.shape[:2], *self.shape[1:]), self.dtype)
        return compiled(_pull, (self.f,))(params, self.xs, blocks)

    def push(self, params: PyTree, direction: PyTree) -> tuple[Vector, Vector]:
        """f(params, x) and J · direction."""
        both = compiled(_push, (self.f,))(params, direction, self.xs)
        n, k = self.shape[0], self.shape[1:]
        outputs, slope = (np.asarray(a, np.float64).reshape(-1, *k)[:n].reshape(-1) for a in both)
        return outputs, slope

    def product(self, params: PyTree) -> Callable[[Vector], Vector]:
        """The map v ↦ Θ v, Θ = J J^T."""

        def multiply(v: Vector) -> Vector:
            self.done()
            image = self.push(params, self.pull(params, v))[1]
            if not np.isfinite(image).all():
                raise FloatingPointError("f must have finite derivatives in params, got NaN or inf")
            return image

        return multiply


def in_blocks(x: Array) -> Array:
    """x (n, …) as (B, b, …), the last block filled up with first examples."""
    size = min(BLOCK, len(x))
    count = -(-len(x) // size)
    return x[np.arange(count * size) % len(x)].reshape(count, size, *x.shape[1:])


def _pull(f: Model, params: PyTree, xs: Array, vs: Array) -> PyTree:
    def add(total, block):
        x, v = block
        _, pullback = jax.vjp(lambda p: f(p, x), params)
        return jax.tree.map(jnp.add, total, pullback(v)[0]), None

    with jax.default_matmul_precision("highest"):
        return jax.lax.scan(add, jax.tree.map(jnp.zeros_like, params), (xs, vs))[0]


def _push(f: Model, params: PyTree, direction: PyTree, xs: Array) -> tuple[Array, Array]:
    def along(x):
        return jax.jvp(lambda p: f(p, x), (params,), (direction,))

    with jax.default_matmul_precision("highest"):
        return jax.lax.map(along, xs)


class Known(NamedTuple):
    """Θ on an orthonormal basis (M, q), and on p probes orthogonal to it, with their signs."""

    basis: Vector
    images: Vector
    signs: Vector
    probes: Vector
    probe_images: Vector


def _first(known: Known) -> Estimate:
    """λ_max as `largest` gives it, from all vectors that Θ is known on."""
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
    probes = _without(basis, signs)
    probes = probes if basis.shape[1] < len(basis) else 0 * probes
    return Known(basis, images, signs, probes, _each(product, probes))


def _each(product: Callable, vectors: Vector) -> Vector:
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
    exact, sampled = (_without(out, image - images @ (out.T @ v)) for v, image in pairs)
    return exact, sampled


def _norm(exact: Vector, sampled: Vector) -> Estimate:
    """The Frobenius norm of a matrix, of its products with a basis and with probes."""
    square = _sampled((exact**2).sum(), (sampled**2).sum(axis=0))
    value = float(np.sqrt(square.value))
    return Estimate(value, square.error / (2 * value) if value else 0.0)


def change(known: Known, product: Callable) -> tuple[Estimate, Estimate]:
    """‖Θ' − Θ‖/‖Θ‖ in Frobenius norm, for the kernel Θ' of `product`: whole, and off the top."""
    vectors, images = leading(known, _MODES)
    exact = _each(product, vectors) - images
    # Θ on all of the probes is known: on what is in the basis, and on what isn't.
    probes = _without(vectors, known.signs)
    before = known.probe_images + known.images @ (known.basis.T @ known.signs)
    sampled = _each(product, probes) - (before - images @ (vectors.T @ known.signs))
    sampled = sampled if vectors.shape[1] < len(vectors) else 0 * sampled
    nothing = np.zeros((len(vectors), 0))
    whole = _norm(*_squeezed(known, nothing, nothing))
    rest = _norm(*_squeezed(known, vectors, images))
    tail = _norm(nothing, _without(vectors, sampled))
    none = rest.value <= NOTHING * whole.value
    tails = Estimate(0.0, 0.0) if none else _quotient(tail, rest)
    return _quotient(_norm(exact, sampled), whole), tails


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


def _without(vectors: Vector, v: Vector) -> Vector:
    """v less what lies in the span of orthonormal vectors."""
    for _ in range(2):
        v = v - vectors @ (vectors.T @ v)
    return v


def curvature_root(outputs: Vector, shape: tuple[int, ...]) -> Callable[[Vector], Vector]:
    """v ↦ H^½ v, H = diag p − p p^T of each example, the curvature of its cross-entropy."""
    p = np.asarray(jax.nn.softmax(jnp.asarray(outputs.reshape(shape)), axis=1), np.float64)
    values, vectors = np.linalg.eigh(p[:, :, None] * (np.eye(shape[1]) - p[:, None, :]))
    root = np.einsum("nij,nj,nkj->nik", vectors, np.sqrt(np.maximum(values, 0)), vectors)
    return lambda v: np.einsum("nij,nj->ni", root, v.reshape(shape)).reshape(-1)


# What is found of a path of training, and of the kernel as such.
PATH = (
    "change", "tail_change", "linearisation", "late_share", "effective_rank", "alignment",
    "shuffled", "_fixed", "_end", "_residuals",
)  # fmt: skip


def study(
    net: Tangents, params: PyTree, y: Vector, rate: float | None, steps: int, tolerance: float,
    cross_entropy: bool, key: PRNGKeyArray,
) -> dict[str, Any]:  # fmt: skip
    """The fields of a diagnosis that products give; `rate` is that of ½Σr², 1/λ_max if None."""
    outputs = net.push(params, jax.tree.map(jnp.zeros_like, params))[0]
    require_finite("f(params, x)", outputs)
    theta = net.product(params)
    rounding = 32 * float(jnp.finfo(common_dtype(params)).eps)
    start, draw = jax.random.split(key)
    root = curvature_root(outputs, net.shape) if cross_entropy else None
    found = spectral.lanczos(
        theta if root is None else lambda v: root(theta(root(v))),
        np.asarray(jax.random.normal(start, y.shape), np.float64),
        _TOP,
        lambda krylov: spectral.largest(krylov).error <= 1e-5 * spectral.largest(krylov).value,
        rounding,
    )
    top = spectral.largest(found)
    if not top.value > 0:
        raise ValueError("f must depend on params at these x, got a tangent kernel of zero")
    highest = top.value + top.error
    rate = (1 - 1e-8) / highest if rate is None else rate  # within what Radau's rule bounds
    facts: dict[str, Any] = dict.fromkeys(PATH) | {"top": top, "_rate": rate}
    if cross_entropy or rate * top.value >= 2:
        return facts | {"regime": "not given" if cross_entropy else "unstable step"}
    residual = outputs - y
    size = float(np.linalg.norm(residual))
    if size <= rounding * np.linalg.norm(outputs):
        raise ValueError("y must differ from f(params, x), got targets that f fits already")

    def enough(krylov: Krylov) -> bool:
        low, up = (
            float(each.left(rate, steps)) for each in spectral.bracket(krylov, rate, highest)
        )
        if not low < 1:  # it grows: what is above does not matter
            return True
        left, missed = spectral.descended(krylov, rate, steps)
        close = missed <= tolerance * max(5 * float(np.linalg.norm(left)), 0.1 * krylov.norm)
        return close and up - low <= tolerance * max(low, 1e-4)

    path = spectral.lanczos(theta, residual, _CURVE, enough, rounding)
    known, shape = _shape(net, theta, (found, path), y, draw)
    facts |= shape | {
        "top": min(top, _first(known), key=lambda estimate: estimate.error),
        "_fixed": spectral.bracket(path, rate, highest),
        "_residuals": (residual, *spectral.descended(path, rate, steps)),
        "late_share": spectral.share_below(path, 1 / (rate * steps)),
    }
    away = jax.tree.map(jnp.negative, net.pull(params, spectral.summed(path, rate, steps)))
    end = jax.tree.map(jnp.add, params, away)
    linear = outputs + net.push(params, away)[1]
    error = float(np.linalg.norm(net.push(end, away)[0] - linear)) / size
    try:
        moved = change(known, net.product(end))
        last = spectral.lanczos(net.product(end), residual, _END, enough, rounding)
    except FloatingPointError:
        lost = dict.fromkeys(("change", "tail_change"), Estimate(np.inf, 0.0))
        return facts | lost | {"linearisation": np.inf, "regime": "feature learning"}
    after = spectral.bracket(last, rate, highest)[0]
    grows = bool(after.left(rate, steps) > 1 or rate * after.nodes[-1] >= 2)
    rich = grows or not max(moved[0].value, error) < RICH
    mixed = not max(moved[0].value, moved[1].value, error) < MIXED
    return facts | {
        "change": moved[0],
        "tail_change": moved[1],
        "linearisation": error,
        "_end": after,
        "regime": "feature learning" if rich else "mixed" if mixed else "kernel",
    }


def _shape(
    net: Tangents, theta: Callable, found: tuple[Krylov, Krylov], y: Vector, key: PRNGKeyArray
) -> tuple[Known, dict[str, Estimate]]:
    """What is known of Θ by now and from probes; effective rank and alignment, if k is small."""
    n, k = net.shape[0], int(np.prod(net.shape[1:]))
    signs = np.asarray(jax.random.rademacher(key, (n * k, _PROBES)), np.float64)
    bases, images = [f.basis for f in found], [f.images for f in found]
    means = np.kron(np.ones((n, 1)), np.eye(k)) / np.sqrt(n)
    if few := k <= _OUTPUTS and n > 1:
        bases, images = [*bases, means], [*images, _each(theta, means)]
    known = known_on(np.hstack(bases), np.hstack(images), signs, theta)
    y = _without(means, y)
    if not few or not np.linalg.norm(y) > 0:
        return known, {}
    between = y.reshape(n, k).T @ y.reshape(n, k)

    def weigh(v: Vector) -> Vector:
        return np.einsum("ab,nbp->nap", between, v.reshape(n, k, -1)).reshape(v.shape)

    exact, sampled = _squeezed(known, means, images[-1])
    norm = _norm(exact, sampled)
    if norm.value <= NOTHING * spectral.largest(found[0]).value:
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
