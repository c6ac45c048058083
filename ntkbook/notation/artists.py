"""What a panel of a figure shows, in words and as a digest.

Every artist that matplotlib draws in a panel is described, or refused: a picture may hold nothing
that its text does not speak of.  Words give a few rounded landmarks; the digest also sees what
lies between them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import container, patches
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection, PolyCollection, QuadMesh
from matplotlib.contour import ContourSet
from matplotlib.image import AxesImage
from matplotlib.lines import AxLine, Line2D
from matplotlib.quiver import Quiver
from matplotlib.text import Annotation, Text
from matplotlib.ticker import LogFormatter, ScalarFormatter

QUANTUM = 1e-4  # of the panel's width or height: below it nobody sees a difference
ACROSS = "Level line", "Upright line"  # from one side of a panel to the other
NOTHING = 1e-6  # of an axis from end to end: words call it zero, whatever rounding has made of it
OFFSET = 0.36787944  # keeps simple fractions off the borders between two quanta


@dataclass(frozen=True)
class Shown:
    """One drawn thing: its words, and the data (n, 2) that it is drawn from."""

    words: str
    data: np.ndarray


def describe(name: str, ax: Axes) -> tuple[str, str]:
    """A panel's words and the digest of what is drawn in it.

    **Arguments**: the figure's `name`, for errors; `ax`, a finished rectangular panel.

    **Returns**: description and digest.

    **Raises**: ValueError for a panel without labels of its axes, an artist without a label, one
    that cannot be seen, and one of a kind that cannot be described.
    """
    title, xlabel, ylabel = (plain(t) for t in (ax.get_title(), ax.get_xlabel(), ax.get_ylabel()))
    if ax.name != "rectilinear":
        raise ValueError(f"{name}: a {ax.name} panel cannot be described; draw a rectangular one")
    if not (xlabel and ylabel):
        raise ValueError(f"{name}: panel {title!r} needs an xlabel and a ylabel")
    parts = [f'Panel "{title}".' if title else "Panel."]
    parts += [_axis("Horizontal", xlabel, ax, "x"), _axis("Vertical", ylabel, ax, "y")]
    shown = [item for group in _groups(name, ax) for item in group]
    parts += [item.words for item in shown if item.words]
    places = (ax.transScale + ax.transLimits).transform
    with np.errstate(divide="ignore", invalid="ignore"):
        drawn = [np.nan_to_num(places(item.data), nan=-9.0, posinf=9, neginf=-9) for item in shown]
    digest = hashlib.sha256()
    for item, points in zip(shown, drawn, strict=True):
        digest.update(item.words.encode())
        digest.update(np.floor(np.clip(points, -9, 9) / QUANTUM + OFFSET).astype("<i8").tobytes())
    return " ".join(parts), digest.hexdigest()[:16]


def plain(text: str) -> str:
    """LaTeX and line breaks out, so that the words can be read aloud."""
    text = re.sub(r"\\(?:mathrm|text|mathbf|mathcal)\{([^}]*)\}", r"\1", text)
    text = text.replace("$", "").replace("\\", "").replace("{", "").replace("}", "")
    return " ".join(text.split())


def _axis(word: str, label: str, ax: Axes, which: str) -> str:
    axis = getattr(ax, f"{which}axis")
    low, high = axis.get_view_interval()
    log = " (logarithmic)" if axis.get_scale() == "log" else ""
    text = f"{word} axis{log}: {label}, {_number(low)} to {_number(high)}"
    if not isinstance(axis.get_major_formatter(), ScalarFormatter | LogFormatter):
        ticks = zip(axis.get_majorticklocs(), axis.get_ticklabels(), strict=False)
        marks = [f'"{plain(t.get_text())}" at {_number(at)}' for at, t in ticks if t.get_text()]
        text += ", marked " + ", ".join(marks) if marks else ""
    return text + "."


def _groups(name: str, ax: Axes) -> Iterator[list[Shown]]:
    """What is drawn, in the order of drawing: first what belongs together, then single artists."""
    told: set[Artist] = {*ax.spines.values(), ax.xaxis, ax.yaxis, ax.patch, ax.title}
    told |= {child for child in ax.get_children() if isinstance(child, mpl.legend.Legend)}
    for group in ax.containers:
        if isinstance(group, container.BarContainer):
            yield [_bars(name, ax, group)]
        elif isinstance(group, container.ErrorbarContainer):
            yield _error_bars(name, ax, group)
        else:
            raise ValueError(f"{name}: {type(group).__name__} cannot be described")
        told |= set(group.get_children())
    for artist in ax.get_children():
        if artist in told or (isinstance(artist, Text) and not artist.get_text()):
            continue
        for kinds, words in KINDS:
            if isinstance(artist, kinds):
                yield [_visible(name, artist, words(name, ax, artist))]
                break
        else:
            raise ValueError(
                f"{name}: a {type(artist).__name__} cannot be described; draw it as a line, "
                "points, a band, bars, an image or text"
            )


def _label(name: str, artist: Any, kind: str) -> str:
    """How a series is called; guide lines have no name, everything else must have one."""
    text = str(artist.get_label() or "")
    if text == "_nolegend_" or (kind in ACROSS and text.startswith("_child")):
        return f"{kind} for orientation"
    if not text or text.startswith("_"):
        raise ValueError(
            f"{name}: a series has no label (it is {text!r}); give one, or '_nolegend_' for a "
            "guide line"
        )
    return f'{kind} "{plain(text)}"'


def _visible(name: str, artist: Any, shown: Shown) -> Shown:
    if not artist.get_visible() or artist.get_alpha() == 0:
        raise ValueError(f"{name}: {shown.words!r} is invisible")
    return shown


def _inside(name: str, ax: Axes, who: str, data: np.ndarray) -> np.ndarray:
    """The points that are seen; NaN and what the axis cuts off are none of them."""
    kept = data[np.isfinite(data).all(axis=1)]
    if not len(kept):
        raise ValueError(f"{name}: {who} has no finite point")
    with np.errstate(divide="ignore", invalid="ignore"):
        places = (ax.transScale + ax.transLimits).transform(kept)
    seen = ((places > -1e-9) & (places < 1 + 1e-9)).all(axis=1)
    if not seen.any():
        raise ValueError(f"{name}: {who} lies outside the axes")
    return kept[seen]


def _line(name: str, ax: Axes, line: Line2D) -> Shown:
    drawn = line.get_linestyle() not in ("None", "none", "", " ")
    marked = line.get_marker() not in ("None", "none", "", " ", None)
    if not (drawn and line.get_linewidth() > 0) and not (marked and line.get_markersize() > 0):
        raise ValueError(f"{name}: line {line.get_label()!r} has neither a line nor markers")
    if isinstance(line, AxLine):
        (x, y), other = _floats(line.get_xy1()), line.get_xy2()
        slope = line.get_slope()
        if slope is None:
            across, up = _floats(other) - (x, y)
            slope = up / across if across else np.inf
        words = f"{_label(name, line, 'Straight line')}: slope {_number(slope)} through "
        return Shown(f"{words}{_point((x, y))}.", np.array([[x, y]]))
    x, y = (_floats(v) for v in line.get_data(orig=False))
    if line.get_transform() == ax.get_yaxis_transform():
        return Shown(f"{_label(name, line, ACROSS[0])}: at height {_number(y[0])}.", _at(0, y))
    if line.get_transform() == ax.get_xaxis_transform():
        return Shown(f"{_label(name, line, ACROSS[1])}: at {_number(x[0])}.", _at(x, 0))
    if line.get_transform() != ax.transData:
        raise ValueError(f"{name}: line {line.get_label()!r} is not drawn in the panel's units")
    kind = "Line" if drawn else "Points"
    if drawn and str(line.get_drawstyle()).startswith("steps"):
        kind = "Steps"
    return _series(name, ax, _label(name, line, kind), np.column_stack(np.broadcast_arrays(x, y)))


def _series(name: str, ax: Axes, who: str, data: np.ndarray) -> Shown:
    """A series by its ends and its lowest and highest points, of those that are seen."""
    seen = _without_noise(ax, _inside(name, ax, who, data))
    count = (
        f"{len(seen)} points" if len(seen) == len(data) else f"{len(seen)} of {len(data)} points"
    )
    text = f"{who}: {count}, from {_point(seen[0])} to {_point(seen[-1])}"
    # Rounding is no landmark: the first of equal heights counts, and none if an end has it.
    size = np.abs(seen[:, 1]).max() or 1.0
    heights = np.round(seen[:, 1] / size, 9)
    for word, k in (("lowest", heights.argmin()), ("highest", heights.argmax())):
        if heights[k] not in (heights[0], heights[-1]):
            text += f", {word} {_point(seen[k])}"
    return Shown(text + ".", data)


def _scatter(name: str, ax: Axes, item: PathCollection) -> Shown:
    points = _floats(item.get_offsets())
    return _series(name, ax, _label(name, item, "Points"), points)


def _band(name: str, ax: Axes, item: PolyCollection) -> Shown:
    points: Any = np.concatenate([_floats(path.vertices) for path in item.get_paths()])
    who = _label(name, item, "Band")
    seen = _without_noise(ax, _inside(name, ax, who, points))
    low, high = seen[:, 1].min(), seen[:, 1].max()
    return Shown(f"{who}: between {_number(low)} and {_number(high)}.", points)


def _segments(name: str, ax: Axes, item: LineCollection) -> Shown:
    points: Any = np.concatenate([_floats(s) for s in item.get_segments()])
    return _series(name, ax, _label(name, item, "Segments"), points)


def _contours(name: str, ax: Axes, item: ContourSet) -> Shown:
    points = np.concatenate([_floats(path.vertices) for path in item.get_paths()])
    who = "Filled contours" if item.filled else "Contours"
    levels = ", ".join(map(_number, item.levels))
    return Shown(f"{who} at {levels}.", points)


def _arrows(name: str, ax: Axes, item: Quiver) -> Shown:
    tails, vectors = _floats(item.get_offsets()), np.column_stack([item.U, item.V])
    longest = np.hypot(*vectors.T).max()
    who = _label(name, item, "Arrows")
    words = f"{who}: {len(vectors)}, the longest of length {_number(longest)}."
    return Shown(words, np.vstack([tails, tails + vectors]))


def _image(name: str, ax: Axes, item: AxesImage | QuadMesh) -> Shown:
    values: Any = np.ma.masked_invalid(np.ma.asarray(item.get_array(), dtype=float))
    if not values.count():
        raise ValueError(f"{name}: a colour map has no finite value")
    bottom, top = item.get_clim()
    values[np.abs(values) < 1e-12 * np.abs(values).max()] = 0.0  # of any scale, perhaps logarithmic
    kept = values.compressed()
    low, middle, high = (_number(v) for v in (kept.min(), np.median(kept), kept.max()))
    words = f"Colour map of {kept.size} values: from {low} to {high}, median {middle}"
    if values.ndim == 2:
        corners = [values[i, j] for i, j in ((0, 0), (0, -1), (-1, 0), (-1, -1))]
        shape = " by ".join(map(str, values.shape))
        told = ", ".join("none" if np.ma.is_masked(v) else _number(v) for v in corners)
        words = f"Colour map, {shape}: from {low} to {high}, median {middle}; corners {told}"
    # Heights of a digest: each value between the colours' ends.
    heights = (values.filled(np.nan).ravel() - bottom) / ((top - bottom) or 1.0)
    places = np.column_stack([np.linspace(0, 1, heights.size), heights])
    return Shown(words + ".", (ax.transScale + ax.transLimits).inverted().transform(places))


def _patch(name: str, ax: Axes, item: patches.Patch) -> Shown:
    who = _label(name, item, "Shape")
    drawn = item.get_transform().transform_path(item.get_path()).vertices
    span = [np.ptp(axis.get_view_interval()) for axis in (ax.xaxis, ax.yaxis)]
    # Nine digits: the way to the screen and back costs some.
    points = np.round(ax.transData.inverted().transform(drawn) / span, 9) * span
    low, high = points.min(axis=0), points.max(axis=0)
    return Shown(f"{who}: from {_point(low)} to {_point(high)}.", points)


def _text(name: str, ax: Axes, item: Text) -> Shown:
    x, y = (float(v) for v in (item.xy if isinstance(item, Annotation) else item.get_position()))
    where = f"pointing to {_point((x, y))}" if isinstance(item, Annotation) else _point((x, y))
    if item.get_transform() == ax.transAxes and not isinstance(item, Annotation):
        where = f"in the panel at {where}"
    return Shown(f'Text "{plain(item.get_text())}", {where}.', np.array([[x, y]]))


def _bars(name: str, ax: Axes, group: container.BarContainer) -> Shown:
    who = _label(name, group, "Bars")
    if any(not bar.get_visible() or bar.get_alpha() == 0 for bar in group.patches):
        raise ValueError(f"{name}: {who} is invisible")
    corners = [(*bar.get_xy(), bar.get_width(), bar.get_height()) for bar in group.patches]
    x, y, width, height = np.array(corners, dtype=float).T
    ends = np.column_stack([x + width / 2, y + height])
    if group.orientation == "horizontal":
        ends = np.column_stack([x + width, y + height / 2])
    words = _series(name, ax, who, ends).words
    return Shown(words, np.vstack([ends, np.column_stack([x, y])]))


def _error_bars(name: str, ax: Axes, group: container.ErrorbarContainer) -> list[Shown]:
    who = _label(name, group, "Error bars")
    points, _caps, bars = group.lines
    shown = []
    if points is not None:
        label = who.replace("Error bars", "Points")
        shown.append(_series(name, ax, label, np.column_stack([*map(_floats, points.get_data())])))
    for bar in bars:
        if not bar.get_visible() or bar.get_alpha() == 0:
            raise ValueError(f"{name}: {who} is invisible")
        ends = np.array([_floats(s)[[0, -1]] for s in bar.get_segments()])
        size = np.abs(ends[:, 1] - ends[:, 0]).sum(axis=1)
        words = f"{who}: from end to end {_number(size.min())} to {_number(size.max())}."
        shown.append(Shown(words, ends.reshape(-1, 2)))
    return shown


KINDS: tuple[tuple[type | tuple[type, ...], Callable[[str, Axes, Any], Shown]], ...] = (
    (Line2D, _line),
    (PathCollection, _scatter),
    (ContourSet, _contours),
    (Quiver, _arrows),
    ((AxesImage, QuadMesh), _image),
    (PolyCollection, _band),
    (LineCollection, _segments),
    (patches.Patch, _patch),
    (Text, _text),
)


def _at(x: Any, y: Any) -> np.ndarray:
    return np.column_stack(np.broadcast_arrays(_floats(x), _floats(y)))


def _without_noise(ax: Axes, points: Any) -> np.ndarray:
    """Points whose coordinates are zero where that can't be told from zero on a linear axis."""
    clean = np.array(points)
    for k, (scale, ends) in enumerate(
        ((ax.get_xscale(), ax.get_xlim()), (ax.get_yscale(), ax.get_ylim()))
    ):
        if scale == "linear":
            clean[np.abs(clean[:, k]) < NOTHING * abs(ends[1] - ends[0]), k] = 0.0
    return clean


def _floats(values: Any) -> np.ndarray:
    return np.asarray(np.ma.filled(np.ma.asarray(values, dtype=float), np.nan))


def _point(point: Any) -> str:
    return f"({_number(point[0])}, {_number(point[1])})"


def _number(value: float) -> str:
    """Three significant digits, never a negative zero."""
    return f"{float(f'{value:.3g}') + 0.0:.3g}"
