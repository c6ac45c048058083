"""Two pictures compared: pixel by pixel, and in clusters, trusting nothing that a file says."""

from __future__ import annotations

import base64
import io
import os
import re
import struct
from collections.abc import Iterator

import numpy as np
from PIL import Image
from scipy import ndimage

# In grey levels of 255. One matplotlib version draws the same pixels everywhere, up to rounding at
# the edge of a glyph or a marker: single pixels may differ much, whole blocks and clusters do not.
PIXEL = 60.0
CLUSTER = 4  # pixels beside one another that differ by more than PIXEL
MEAN = 2.0  # of the difference over a block
BLOCK = 32

# Two versions of matplotlib set text and markers elsewhere, by up to 18 in the mean of a block. Who
# compares with another version than the one that drew what is stored says so in the environment.
LOOSE = "NTKBOOK_FIGURES"  # =loose
MEAN_LOOSE = 25.0

CHUNKS = {"IHDR", "tEXt", "pHYs", "IDAT", "IEND"}  # what matplotlib writes: one still picture
_START = b"\x89PNG\r\n\x1a\n"
_MATPLOTLIB = re.compile(r"^Matplotlib version\d")


def difference(old: str, new: str) -> list[str]:
    """How two base64 PNGs differ; empty when they show the same."""
    if old.strip() == new.strip():
        return []
    try:
        pair = image_of(old), image_of(new)
    except (ValueError, OSError) as error:
        return [f"a figure that can't be read: {error}"]
    if pair[0].size != pair[1].size:
        return [f"figure sizes differ: stored {pair[0].size}, fresh {pair[1].size}"]
    a, b = (np.asarray(image.convert("RGBA"), dtype=float) for image in pair)
    if os.environ.get(LOOSE) == "loose":
        return list(_blocks(abs(_block_means(a) - _block_means(b)), MEAN_LOOSE))
    found = [*_clusters(abs(a - b).max(axis=2)), *_blocks(_block_means(abs(a - b)), MEAN)]
    if found and software_of(pair[0]) != software_of(pair[1]):
        both = " and ".join(repr(software_of(image)) for image in pair)
        found.append(f"the pictures say they are by {both}: {LOOSE}=loose compares them roughly")
    return found


def _clusters(apart: np.ndarray) -> Iterator[str]:
    """The largest group of neighbouring pixels that are far apart, if it is no rounding."""
    groups, count = ndimage.label(apart > PIXEL, structure=np.ones((3, 3)))
    if not count:
        return
    sizes = np.bincount(groups.ravel())[1:]
    largest = int(sizes.argmax())
    if sizes[largest] > CLUSTER:
        row, column = np.argwhere(groups == largest + 1)[0]
        yield (
            f"figures differ in {sizes[largest]} neighbouring pixels near x = {column}, y = {row} "
            f"(allowed {CLUSTER}), and in {int((sizes > CLUSTER).sum())} such places"
        )


def _blocks(parted: np.ndarray, bound: float) -> Iterator[str]:
    worst = float(parted.max())
    if worst > bound:
        row, column, _ = np.unravel_index(int(parted.argmax()), parted.shape)
        where = f"x = {column * BLOCK}, y = {row * BLOCK} pixels"
        yield f"figures differ by {worst:.1f} grey levels near {where} (allowed {bound})"


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


def faults(encoded: str) -> Iterator[str]:
    """What a stored picture may not be: broken, moving, or drawn by something else."""
    try:
        image = image_of(encoded)
        names = list(_chunks(base64.b64decode(encoded)))
    except (ValueError, OSError, struct.error) as error:
        yield f"a figure that can't be read: {error}"
        return
    if not _MATPLOTLIB.match(software_of(image)):
        yield "a figure that matplotlib did not draw (no Software entry in the PNG)"
    if getattr(image, "n_frames", 1) != 1:
        yield "a figure of several frames"
    strange = sorted({*names} - CHUNKS)
    if strange or names[-1:] != ["IEND"]:
        yield f"a figure with more than a picture in its file: {', '.join(strange) or 'no end'}"


def _chunks(data: bytes) -> Iterator[str]:
    """The names of a PNG's parts; what follows its end counts as a part, too."""
    place = len(_START)
    while place < len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        yield data[place + 4 : place + 8].decode("ascii", "replace")
        place += length + 12
