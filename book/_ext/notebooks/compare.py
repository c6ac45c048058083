"""What is stored beside what the code prints today: readable differences, figures included."""

from __future__ import annotations

import base64
import difflib
import io
import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from nbformat import NotebookNode
from PIL import Image

from notebooks.canonical import PNG, kind_of, merged

# Block by block, in grey levels of 255. One matplotlib version draws the same pixels everywhere, up
# to rounding at the edge of a glyph or a marker; two versions differ by up to 18 in a block's mean.
SAME_MATPLOTLIB = 2.0


OTHER_MATPLOTLIB = 25.0


BLOCK = 32


def differences(stored: Sequence[NotebookNode], fresh: Sequence[NotebookNode]) -> list[str]:
    """Readable differences between two lists of outputs; empty when they tell the same."""
    old, new = merged(stored), merged(fresh)
    kinds = [[kind_of(output) for output in outputs] for outputs in (old, new)]
    if kinds[0] != kinds[1]:
        shown = ["; ".join(" ".join(kind) for kind in side) or "nothing" for side in kinds]
        return [f"other outputs\n  stored: {shown[0]}\n  fresh:  {shown[1]}"]
    return [text for pair in zip(old, new, strict=True) for text in _output_differences(*pair)]


def _output_differences(stored: NotebookNode, fresh: NotebookNode) -> Iterator[str]:
    if stored.output_type == "stream":
        yield from _text_difference(stored.name, stored.text, fresh.text)
        return
    if stored.output_type == "error":
        yield f"the code raises {fresh.ename}: {fresh.evalue}"
        return
    for mime, old in stored.data.items():
        new = fresh.data[mime]
        if mime == PNG:
            yield from figure_difference(old, new)
        else:
            yield from _text_difference(mime, as_text(old), as_text(new))
    yield from _text_difference(
        "metadata of the output", as_text(stored.metadata), as_text(fresh.metadata)
    )


def _text_difference(what: str, old: str, new: str) -> Iterator[str]:
    if old == new:
        return
    lines = difflib.unified_diff(
        old.splitlines(), new.splitlines(), "stored", "fresh", n=1, lineterm=""
    )
    shown = [short(line, 160) for line in lines][:24] or ["only line ends differ"]
    yield "\n  ".join([f"{what} differs", *shown])


def figure_difference(old: str, new: str) -> list[str]:
    """How two base64 PNGs differ, block by block; empty when they show the same."""
    if old.strip() == new.strip():
        return []
    try:
        images = image_of(old), image_of(new)
    except (ValueError, OSError) as error:
        return [f"a figure that can't be read: {error}"]
    if images[0].size != images[1].size:
        return [f"figure sizes differ: stored {images[0].size}, fresh {images[1].size}"]
    a, b = (np.asarray(image.convert("RGBA"), dtype=float) for image in images)
    if software_of(images[0]) == software_of(images[1]):
        parted, bound = _block_means(abs(a - b)), SAME_MATPLOTLIB
    else:
        parted, bound = abs(_block_means(a) - _block_means(b)), OTHER_MATPLOTLIB
    worst = float(parted.max())
    if worst <= bound:
        return []
    row, column, _ = np.unravel_index(int(parted.argmax()), parted.shape)
    where = f"x = {column * BLOCK}, y = {row * BLOCK} pixels"
    return [f"figures differ by {worst:.1f} grey levels near {where} (allowed {bound})"]


def _block_means(pixels: np.ndarray) -> np.ndarray:
    """Means of (height, width, channels) over blocks of 32 × 32; the last ones may be smaller."""
    height, width, _ = pixels.shape
    rows, columns = np.arange(0, height, BLOCK), np.arange(0, width, BLOCK)
    sums = np.add.reduceat(np.add.reduceat(pixels, rows, axis=0), columns, axis=1)
    counts = np.outer(np.diff([*rows, height]), np.diff([*columns, width]))
    return sums / counts[:, :, None]


def image_of(encoded: str) -> Image.Image:
    image = Image.open(io.BytesIO(base64.b64decode(encoded)))
    image.load()
    return image


def software_of(image: Image.Image) -> str:
    return str(image.info.get("Software", ""))


def as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, indent=1, sort_keys=True)


def short(text: str, length: int = 120) -> str:
    text = text.rstrip("\n").replace("\n", "⏎")
    return text if len(text) <= length else text[: length - 1] + "…"
