"""Figures that say what they show.

`figure` wraps a finished matplotlib figure.  It displays the picture together with a plain-text
description made from the drawn data: titles, axes, every series with a few rounded landmarks.  The
description is the picture's alternative text for a reader who cannot see it, and it is what the
tests compare, so that a figure whose data changed fails.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection, PolyCollection, QuadMesh
from matplotlib.figure import Figure as MplFigure

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
    refer to it; `caption`.
    """

    png: bytes
    description: str
    name: str
    caption: str

    def __repr__(self) -> str:
        return self.description

    def _repr_mimebundle_(self, include=None, exclude=None) -> tuple[dict, dict]:
        data = {"image/png": self.png, "text/plain": self.description}
        metadata = {"alt": self.description, "caption": self.caption, "name": self.name}
        return data, {"image/png": metadata}


def figure(fig: MplFigure, *, name: str, caption: str) -> Figure:
    """A finished matplotlib figure as one that describes itself; the original is closed.

    **Arguments**:

    - `fig`: every panel needs an x label and a y label, every series a finite value and a label
      (``"_nolegend_"`` for guide lines).
    - `name`: ``"fig-…"``, unique in the book.
    - `caption`: one or two sentences on what the figure shows.

    **Returns**: `Figure`, with the picture as PNG and its description in words.

    **Raises**: ValueError for another form of name, for a caption that is no sentence, and naming
    the panel or series without a label or a finite point.

    >>> import matplotlib; matplotlib.use("Agg")
    >>> import matplotlib.pyplot as plt
    >>> fig, ax = plt.subplots()
    >>> _ = ax.plot([0, 1, 2], [0, 1, 4], label="parabola")
    >>> _ = ax.set(title="Growth", xlabel="time", ylabel="height")
    >>> figure(fig, name="fig-growth", caption="Height over time.")
    Figure. Height over time. Panel "Growth". Horizontal axis: time, 0 to 2. \
Vertical axis: height, 0 to 4. Line "parabola": 3 points, from (0, 0) to (2, 4).
    """
    if not re.fullmatch(r"fig-[a-z0-9]+(-[a-z0-9]+)*", name):
        raise ValueError(f"name must look like 'fig-loss-curve', not {name!r}")
    if not caption.strip().endswith("."):
        raise ValueError(f"{name}: the caption must be a sentence that ends with a period")
    panels = [ax for ax in fig.axes if ax.get_label() != "<colorbar>"]
    if not panels:
        raise ValueError(f"{name}: the figure has no axes")
    description = " ".join(["Figure.", _plain(caption), *(_describe(name, ax) for ax in panels)])
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png")
    plt.close(fig)
    return Figure(buffer.getvalue(), description, name, caption.strip())


def _describe(name: str, ax: Axes) -> str:
    title, xlabel, ylabel = (_plain(t) for t in (ax.get_title(), ax.get_xlabel(), ax.get_ylabel()))
    if not (xlabel and ylabel):
        raise ValueError(f"{name}: panel {title!r} needs an xlabel and a ylabel")
    parts = [f'Panel "{title}".' if title else "Panel."]
    series = list(_series(name, ax))
    for word, label, axis, scale in (
        ("Horizontal", xlabel, 0, ax.get_xscale()),
        ("Vertical", ylabel, 1, ax.get_yscale()),
    ):
        spans = [data[:, axis] for _, _, data in series if data.size]
        log = " (logarithmic)" if scale == "log" else ""
        if spans:
            values = np.concatenate(spans)
            span = f", {_number(values.min())} to {_number(values.max())}"
        else:
            span = ""
        parts.append(f"{word} axis{log}: {label}{span}.")
    parts += [_landmarks(kind, label, data) for kind, label, data in series if label]
    parts += [_image(ax, artist) for artist in (*ax.images, *ax.collections) if _is_image(artist)]
    return " ".join(parts)


def _series(name: str, ax: Axes) -> Iterator[tuple[str, str, np.ndarray]]:
    """Every drawn series as (kind, label, points (n, 2)); the label is empty for guide lines."""
    for line in ax.get_lines():
        data = np.column_stack(np.broadcast_arrays(*map(_floats, line.get_data())))
        spans_axes = line.get_transform() != ax.transData
        kind = "Line" if line.get_linestyle() not in ("None", "none", "") else "Points"
        if not spans_axes:
            yield kind, _label(name, line.get_label()), _finite(name, line.get_label(), data)
    for item in ax.collections:
        label = str(item.get_label())
        if isinstance(item, PathCollection):
            points = _floats(np.ma.filled(np.ma.asarray(item.get_offsets(), dtype=float), np.nan))
            yield "Points", _label(name, label), _finite(name, label, points)
        elif isinstance(item, PolyCollection) and not isinstance(item, QuadMesh):
            points = np.concatenate([path.vertices for path in item.get_paths()])
            yield "Band", _label(name, label), _finite(name, label, points)
        elif isinstance(item, LineCollection) and not label.startswith("_"):
            points = np.concatenate([np.asarray(s) for s in item.get_segments()])
            yield "Segments", _label(name, label), _finite(name, label, points)
    for container in ax.containers:
        if isinstance(container, mpl.container.BarContainer):
            bars = [(p.get_x() + p.get_width() / 2, p.get_height()) for p in container.patches]
            label = str(container.get_label())
            yield "Bars", _label(name, label), _finite(name, label, np.asarray(bars))


def _label(name: str, label: object) -> str:
    text = str(label)
    if re.fullmatch(r"_(child|container)\d+", text):
        raise ValueError(
            f"{name}: a series has no label; give one, or '_nolegend_' for a guide line"
        )
    return "" if text.startswith("_") else _plain(text)


def _finite(name: str, label: object, data: np.ndarray) -> np.ndarray:
    kept = data[np.isfinite(data).all(axis=1)]
    if not len(kept):
        raise ValueError(f"{name}: series {label!r} has no finite point")
    return kept


def _floats(values) -> np.ndarray:
    return np.asarray(values, dtype=float)


def _landmarks(kind: str, label: str, data: np.ndarray) -> str:
    first, last = data[0], data[-1]
    if kind == "Band":
        low, high = data[:, 1].min(), data[:, 1].max()
        return f'Band "{label}": between {_number(low)} and {_number(high)}.'
    text = f'{kind} "{label}": {len(data)} points, from {_point(first)} to {_point(last)}'
    inner = []
    # Rounding is no landmark: the first of equal heights counts, and none if an end has it.
    size = np.max(np.abs(data[:, 1]), initial=0, where=np.isfinite(data[:, 1])) or 1.0
    heights = np.round(data[:, 1] / size, 9)
    for word, k in (("lowest", heights.argmin()), ("highest", heights.argmax())):
        if heights[k] not in (heights[0], heights[-1]):
            inner.append(f"{word} {_point(data[k])}")
    return text + "".join(f", {item}" for item in inner) + "."


def _is_image(artist: object) -> bool:
    return isinstance(artist, mpl.image.AxesImage | QuadMesh)


def _image(ax: Axes, artist) -> str:
    values = np.ma.masked_invalid(artist.get_array()).compressed()
    low, middle, high = (_number(v) for v in (values.min(), np.median(values), values.max()))
    return f"Colour map of {values.size} values: from {low} to {high}, median {middle}."


def _point(point: np.ndarray) -> str:
    return f"({_number(point[0])}, {_number(point[1])})"


def _number(value: float) -> str:
    """Three significant digits, never a negative zero."""
    return f"{float(f'{value:.3g}') + 0.0:.3g}"


def _plain(text: str) -> str:
    """LaTeX and line breaks out, so that the words can be read aloud."""
    text = re.sub(r"\\(?:mathrm|text|mathbf|mathcal)\{([^}]*)\}", r"\1", text)
    text = text.replace("$", "").replace("\\", "").replace("{", "").replace("}", "")
    return " ".join(text.split())
