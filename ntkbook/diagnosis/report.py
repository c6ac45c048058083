"""A diagnosis in words and as a picture."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping
from functools import partial
from types import SimpleNamespace
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray

from ntkbook.diagnosis.lanczos import Estimate, Vector
from ntkbook.evidence.figures import COLORS, Figure, figure

_VERDICTS = {
    "kernel": "KERNEL REGIME: the kernel of the start predicts this run, within the band",
    "mixed": "MIXED: the kernel moves, read the band and not the line",
    "feature learning": "FEATURE LEARNING: every kernel prediction below is void",
    "unstable step": "UNSTABLE STEP: above the largest, where no path of training can be predicted",
}
_SAMPLE = """λmax and the largest step are scaled from the sample to all examples, large eigenvalues
growing as their number; more examples have more slow modes, so what is late is a lower estimate"""
_RISK = "the kernel may grow in training, and no step is safe by this alone"
_CATAPULT = """above it the loss spikes, and a network may then settle where its kernel is smaller
(catapult) or diverge"""
_SHAPE = "effective rank, alignment: with at most ten outputs, and where inputs and targets differ"
_KAPPA = "condition number: it grows with the number of examples and ignores the targets"


class Curve(NamedTuple):
    """L(t)/L(0) under the kernel of the start, between two bounds, and of the predicted end."""

    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    end: NDArray[np.float64] | None


class Late(NamedTuple):
    """Classes or examples, and their squared residuals at the start and predicted at the end.

    `end` is within `error` of what descent of the linearised model leaves.
    """

    label: NDArray
    start: NDArray[np.float64]
    end: NDArray[np.float64]
    error: NDArray[np.float64]


def page(
    found: Mapping[str, Any], last: Curve | None, shares: Late | None, hard: Late | None
) -> str:
    """The fields of a diagnosis as plain text; `last` is its curve at the last step."""
    at = SimpleNamespace(**found)
    n, size = len(at.examples), len(at.examples) * at.outputs
    most, regime = at.max_learning_rate.value, at.regime
    lines = {
        "ntk.diagnose": f"{n:,} of {at.total:,} examples, outputs: {at.outputs}, parameters: "
        f"{at.parameters:,}; loss: {at.loss}; {at.steps} steps of {at.learning_rate:.3g}",
        "verdict": _VERDICTS[regime],
        "steps": f"no spike at the start below {most:.3g} (λmax of {n} examples {at.top.value:.4g} "
        f"± {at.top.error:.1g}); yours is {at.learning_rate / most:.2g} of it; "
        + (_CATAPULT if regime == "kernel" else _RISK),
    }
    absent = f"change, curve, late modes: with a stable step alone; {_KAPPA}"
    if last is not None and hard is not None:
        absent = _KAPPA if at.alignment is not None else f"{_SHAPE}; {_KAPPA}"
        lines["verdict"] += (
            f"; predicted change of the kernel {_said(at.change)} (off its six largest modes "
            f"{_said(at.tail_change)}), error of the linear model {at.linearisation:.2g}"
        )
        share = at.late_share
        lines["late"] = f"{_said(share)} of r² is in modes slower than this run; " if share else ""
        lines["late"] += _late(shares, hard)
        end = "growth" if last.end is None or not last.end < 1 else f"{float(last.end):.3g}"
        lines["curve"] = (
            f"L/L0 at the end: {float(last.lower):.4g} to {float(last.upper):.4g} with the kernel "
            f"of the start (bounds of the linearised model), {end} with that of the predicted end"
        )
    if at.alignment is not None:
        lines["shape"] = (
            f"effective rank {_said(at.effective_rank)} of {size:,}, alignment with y "
            f"{_said(at.alignment)}, with shuffled y {_said(at.shuffled)}; of the centred kernel"
        )
    lines["not given"] = absent
    lines |= {"sample": _SAMPLE} if n < at.total else {}
    lines["cost"] = f"{at.products} products with Θ, {at.seconds:.1f} s"
    wrap = partial(textwrap.fill, width=98, subsequent_indent=" " * 14)
    return "\n".join(wrap(t, initial_indent=f"{head:<14}") for head, t in lines.items())


def _late(shares: Late | None, hard: Late) -> str:
    text = ""
    if shares is not None:
        left = [(e / s, name) for name, s, e, _ in zip(*shares, strict=True) if s > 0]
        worst = (f"{name}: {100 * share:.2g} %" for share, name in sorted(left, reverse=True)[:10])
        text = f"r² left at the end, by class: {', '.join(worst)}; "
    off = np.sqrt(hard.error[0] + hard.end[0]) - np.sqrt(hard.end[0])
    text += f"hardest rows of x: {', '.join(map(str, hard.label[:8]))} (‖r‖ left "
    return text + f"{np.sqrt(hard.end.sum()):.3g}, of the linearised model within {off:.1g})"


def _said(estimate: Estimate) -> str:
    return f"{estimate.value:.2g} ± {estimate.error:.1g}"


def drawn(
    curve: Callable, late: Late, sizes: Mapping[str, Any], steps: int, name: str,
    run: tuple[Vector, Vector] | None,
) -> Figure:  # fmt: skip
    """Three panels: the loss, what is left late, sizes of change; `run` are times and L/L0."""
    fig, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 4))
    times = np.unique(np.round(np.geomspace(1, steps + 1, 60)).astype(int)) - 1
    predicted = curve(times)
    fixed = (predicted.lower + predicted.upper) / 2
    left.plot(times, fixed, color=COLORS["blue"], label="kernel of the start")
    text = f"Predicted loss, {fixed[-1]:.3g} of its start after {steps} steps."
    if predicted.end is not None:
        look = {"color": COLORS["sky"], "alpha": 0.3, "label": "to that of the end point"}
        left.fill_between(times, fixed, np.minimum(predicted.end, 1e3), **look)
    if run is not None:
        at, losses = run
        seen = np.isfinite(losses) & (losses > 0)
        left.plot(at[seen], losses[seen], ".", color="black", label="trained")
        low, up, end = curve(int(at[-1]))
        text = f"The run of {at[-1]:.0f} steps ended at {losses[-1]:.3g} of its first loss; "
        text += f"predicted was {(low + up) / 2:.3g}" + ("." if end is None else f" to {end:.3g}.")
    left.set(yscale="log", title="Training loss", xlabel="steps", ylabel="L / L(0)")
    rank = np.arange(1, len(late.label) + 1)
    middle.plot(rank, np.sqrt(late.start), "o", color=COLORS["sky"], label="at the start")
    middle.plot(rank, np.sqrt(late.end), "s", color=COLORS["orange"], label="predicted at the end")
    if few := len(rank) <= 20:
        middle.set_xticks(rank, [str(label) for label in late.label])
    what = "class or example" if few else "example"
    middle.set(title="Learned late", xlabel=what, ylabel="size of the residual", ylim=(0, None))
    # What is zero or infinite has its place at the edge.
    numbers = np.clip([getattr(size, "value", size) for size in sizes.values()], 1e-4, 1e2)
    right.plot(numbers, list(sizes), "o", color=COLORS["purple"], label="predicted")
    for limit in (0.1, 1.0):
        right.axvline(limit, color="black", lw=1, ls=":", label="_nolegend_")
    right.set(xscale="log", xlim=(0.8e-4, 1.25e2), title="How far from linear")
    right.set(xlabel="relative size (or beyond the edge)", ylabel="what changes")
    left.legend()
    middle.legend()
    return figure(fig, name=name, caption=text)
