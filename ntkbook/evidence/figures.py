"""Figures that say what they show.

`figure` wraps a finished matplotlib figure.  It displays the picture together with a plain-text
description made from what is drawn: titles, axes, every artist with a few rounded landmarks.  The
description is the picture's alternative text for a reader who cannot see it, and it is what the
tests compare, so that a figure whose data changed fails.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
from cycler import cycler
from matplotlib.figure import Figure as MplFigure

from ntkbook.notation.artists import describe, plain

# Okabe & Ito's palette, which keeps its contrasts under every common form of colour blindness.
COLORS: Mapping[str, str] = {
    "blue": "#0072B2",
    "orange": "#D55E00",
    "green": "#009E73",
    "purple": "#CC79A7",
    "sky": "#56B4E9",
    "yellow": "#E69F00",
    "black": "#000000",
}

STYLE: Any = {
    "figure.figsize": (6.4, 4.0),
    "figure.dpi": 100,
    "savefig.dpi": 160,
    "figure.constrained_layout.use": True,
    "figure.facecolor": "white",
    "font.family": "DejaVu Sans",
    "font.size": 13,
    "axes.titlesize": 14,
    "axes.labelsize": 13,
    "legend.fontsize": 11.5,
    "legend.frameon": False,
    "xtick.labelsize": 12,
    "ytick.labelsize": 12,
    "lines.linewidth": 2.0,
    "lines.markersize": 6.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "axes.prop_cycle": cycler(
        color=list(COLORS.values()), linestyle=["-", "--", "-.", ":", "-", "--", "-"]
    ),
}


@dataclass(frozen=True, repr=False)
class Figure:
    """A picture that describes itself, made by `figure`; the last expression of its cell.

    **Fields**: `png`, the picture; `description`, its alternative text; `name`, by which pages
    refer to it; `caption`; `digest`, which tells whether what is drawn has changed.
    """

    png: bytes
    description: str
    name: str
    caption: str
    digest: str

    def __repr__(self) -> str:
        return self.description

    def _repr_mimebundle_(self, include=None, exclude=None) -> tuple[dict, dict]:
        data = {"image/png": self.png, "text/plain": self.description}
        metadata = {"alt": self.description, "caption": self.caption, "name": self.name}
        return data, {"image/png": metadata | {"digest": self.digest}}


def figure(fig: MplFigure, *, name: str, caption: str) -> Figure:
    """A finished matplotlib figure as one that describes itself; the original is closed.

    **Arguments**:

    - `fig`: every panel needs an x label and a y label, every series a point that is seen and a
      label (``"_nolegend_"`` for guide lines).
    - `name`: ``"fig-…"``, unique in the book.
    - `caption`: one or two sentences on what the figure shows.

    **Returns**: `Figure`, with the picture as PNG and its description in words.

    **Raises**: ValueError for another form of name, for a caption that is no sentence, and naming
    the panel or series without a label, what cannot be seen, or what cannot be described.

    >>> import matplotlib; matplotlib.use("Agg")
    >>> import matplotlib.pyplot as plt
    >>> fig, ax = plt.subplots()
    >>> _ = ax.plot([0, 1, 2], [0, 1, 4], label="parabola")
    >>> _ = ax.set(title="Growth", xlabel="time", ylabel="height")
    >>> figure(fig, name="fig-growth", caption="Height over time.")
    Figure. Height over time. Panel "Growth". Horizontal axis: time, -0.1 to 2.1. \
Vertical axis: height, -0.2 to 4.2. Line "parabola": 3 points, from (0, 0) to (2, 4).
    """
    if not re.fullmatch(r"fig-[a-z0-9]+(-[a-z0-9]+)*", name):
        raise ValueError(f"name must look like 'fig-loss-curve', not {name!r}")
    if not caption.strip().endswith("."):
        raise ValueError(f"{name}: the caption must be a sentence that ends with a period")
    panels = [ax for ax in fig.axes if ax.get_label() != "<colorbar>"]
    if not panels:
        raise ValueError(f"{name}: the figure has no axes")
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png")
    # Described when drawn: only then are ticks and limits what the picture has.
    words, digests = zip(*(describe(name, ax) for ax in panels), strict=True)
    plt.close(fig)
    description = " ".join(["Figure.", plain(caption), *words])
    return Figure(buffer.getvalue(), description, name, caption.strip(), "-".join(digests))
