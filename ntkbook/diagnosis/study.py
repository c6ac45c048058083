"""What `diagnose` finds of a network: the largest step, the path of training, and what it leaves.

Vectors are (M,) in float64, M = n k outputs of n examples.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ntkbook._base.arguments import require_finite
from ntkbook._base.types import PRNGKeyArray, PyTree
from ntkbook.diagnosis import lanczos as spectral
from ntkbook.diagnosis import softmax, squared
from ntkbook.diagnosis.known import MODES, OUTPUTS, PROBES, change, first, measured
from ntkbook.diagnosis.lanczos import Estimate, Vector
from ntkbook.diagnosis.products import Tangents
from ntkbook.diagnosis.softmax import Softmax
from ntkbook.diagnosis.squared import Squared
from ntkbook.tangents.model import common_dtype

Path = Squared | Softmax

# From these sizes on of the predicted change the regime is called mixed, and feature learning.
MIXED, RICH = 0.1, 1.0

# Products: for λ_max, for the curve, for that at the end point.
_TOP, _CURVE, _END = 16, 24, 18
BUDGET = _TOP + _CURVE + _END + MODES + 2 * PROBES + OUTPUTS + 1

# What is found of a path of training, and of the kernel as such.
_LATER = (
    "change", "tail_change", "linearisation", "late_share", "effective_rank", "alignment",
    "shuffled", "_path", "_end", "_residuals",
)  # fmt: skip


def study(
    net: Tangents, params: PyTree, y: Vector, rate: float | None, steps: int, tolerance: float,
    cross_entropy: bool, key: PRNGKeyArray,
) -> dict[str, Any]:  # fmt: skip
    """The fields of a diagnosis that products give.

    `rate` is that of the sum over examples of ½r², or of cross-entropy; 1/λ_max if None.
    """
    outputs = net.push(params, jax.tree.map(jnp.zeros_like, params))[0]
    require_finite("f(params, x)", outputs)
    theta = net.product(params)
    rounding = 32 * float(jnp.finfo(common_dtype(params)).eps)
    start, draw = jax.random.split(key)
    seen: list[tuple[Vector, Vector]] = []
    root = softmax.curvature_root(outputs, net.shape) if cross_entropy else lambda v: v

    def curvature(v: Vector) -> Vector:
        rooted = root(v)
        seen.append((rooted, theta(rooted)))
        return root(seen[-1][1])

    found = spectral.lanczos(
        curvature,
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
    facts: dict[str, Any] = dict.fromkeys(_LATER) | {"top": top, "_rate": rate}
    if rate * top.value >= 2:
        return facts | {"regime": "unstable step"}
    logits, labels = outputs.reshape(net.shape), y.reshape(net.shape)
    residual = outputs - y
    if cross_entropy:
        residual = softmax.cross_entropy(logits, labels)[1].reshape(-1)
    size = float(np.linalg.norm(residual))
    if size <= rounding * np.linalg.norm(residual + y):
        raise ValueError("y must differ from f(params, x), got targets that f fits already")
    vectors, images = (np.stack(each, axis=1) for each in zip(*seen, strict=True))
    pairs = [(vectors, images)]
    goal = steps, tolerance
    path: Path
    after: Path | None = None
    if cross_entropy:
        known, shape = measured(net.shape, theta, pairs, y, draw)
        path, known = softmax.follow(known, theta, logits, labels, rate, *goal, _CURVE, rounding)
        late = None
    else:
        path = squared.follow(theta, residual, rate, highest, *goal, _CURVE, rounding)
        pairs += [(path.krylov.basis, path.krylov.images)]
        known, shape = measured(net.shape, theta, pairs, y, draw)
        facts["top"] = min(top, first(known), key=lambda estimate: estimate.error)
        late = spectral.share_below(path.krylov, 1 / (rate * steps))
    facts |= shape | {"_path": path, "late_share": late}
    facts["_residuals"] = (residual, *path.residuals(steps))
    away = jax.tree.map(jnp.negative, net.pull(params, path.pulled(steps)))
    end = jax.tree.map(jnp.add, params, away)
    moves = net.push(params, away)[1]
    gap = float(np.linalg.norm(net.push(end, away)[0] - outputs - moves))
    error = gap / (float(np.linalg.norm(moves)) if cross_entropy else size)
    other = net.product(end)
    try:
        whole, tail, moved = change(known, other)
        if cross_entropy:
            after = softmax.follow(moved, other, logits, labels, rate, *goal, _END, rounding)[0]
        else:
            after = squared.follow(other, residual, rate, highest, *goal, _END, rounding)
    except FloatingPointError:
        whole = tail = Estimate(np.inf, 0.0)
        error = np.inf
    rich = after is None or after.grows(steps) or not max(whole.value, error) < RICH
    mixed = not max(whole.value, tail.value, error) < MIXED
    return facts | {
        "change": whole,
        "tail_change": tail,
        "linearisation": error,
        "_end": after,
        "regime": "feature learning" if rich else "mixed" if mixed else "kernel",
    }
