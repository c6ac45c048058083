"""Ways to tamper with a cell of a frozen notebook; each is a function of the cell."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable

import numpy as np
from nbformat.v4 import new_output
from notebooks import canonical
from PIL import Image, ImageOps, PngImagePlugin

CHECK, DERIVATION, PNG = canonical.CHECK, canonical.DERIVATION, canonical.PNG


def edit(old: str, new: str) -> Callable:
    def alter(cell):
        assert old in cell.source
        cell.source = cell.source.replace(old, new)

    return alter


def silenced(old: str, new: str) -> Callable:
    def alter(cell):
        edit(old, new)(cell)
        cell.outputs = []

    return alter


def printed(old: str, new: str) -> Callable:
    def alter(cell):
        assert old in cell.outputs[0].text
        cell.outputs[0].text = cell.outputs[0].text.replace(old, new)

    return alter


def shown(mime: str, old: str, new: str) -> Callable:
    def alter(cell):
        data = cell.outputs[0].data
        text = data[mime]
        assert old in text
        data[mime] = text.replace(old, new)

    return alter


def bundle(mime: str, value: object) -> Callable:
    return lambda cell: cell.outputs[0].data.update({mime: value})


def record(key: str, value: str) -> Callable:
    return lambda cell: cell.outputs[0].data[CHECK][0].update({key: value})


def record_twice(cell) -> None:
    cell.outputs[0].data[CHECK].append(cell.outputs[0].data[CHECK][0] | {"claim": "C01/other"})


def derived(key: str, value: object) -> Callable:
    return lambda cell: cell.outputs[0].data[DERIVATION].update({key: value})


def tag(name: str) -> Callable:
    return lambda cell: cell.metadata.update(tags=[name])


def metadata(**more: object) -> Callable:
    return lambda cell: cell.metadata.update(more)


def output_metadata(**more: object) -> Callable:
    return lambda cell: cell.outputs[0].metadata.update(more)


def described(key: str) -> Callable:
    return lambda cell: cell.outputs[0].metadata[PNG].update({key: "something else"})


def drop(mime: str) -> Callable:
    return lambda cell: cell.outputs[0].data.pop(mime)


def extra(kind: str, **more: object) -> Callable:
    return lambda cell: cell.outputs.append(new_output(kind, **more))


def as_display(cell) -> None:
    old = cell.outputs[0]
    cell.outputs[0] = new_output("display_data", data=old.data, metadata=old.metadata)


def strip(cell) -> None:
    cell.outputs, cell.execution_count = [], None


def stored_error(cell) -> None:
    edit("1 + 1", "1 / 0")(cell)
    tag("raises-exception")(cell)
    cell.outputs = [
        new_output("error", ename="ZeroDivisionError", evalue="division by zero", traceback=[])
    ]


def noise(cell) -> None:
    edit("1 + 1", "print('psst', file=sys.stderr)")(cell)
    cell.outputs = [new_output("stream", name="stderr", text="psst\n")]


# Pictures


def encoded(image: Image.Image, software: str | None, **more: object) -> str:
    facts = PngImagePlugin.PngInfo()
    if software is not None:
        facts.add_text("Software", software)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", pnginfo=facts, **more)
    return base64.b64encode(buffer.getvalue()).decode()


def redrawn(change: Callable, software: str | None = "", **more: object) -> Callable:
    """The picture changed by a function of it; `software` says who drew it, '' leaves that."""

    def alter(cell):
        data = cell.outputs[0].data
        stored = Image.open(io.BytesIO(base64.b64decode(data[PNG])))
        name = stored.info["Software"] if software == "" else software
        data[PNG] = encoded(change(stored.convert("RGB")), name, **more)

    return alter


def repaint(where: tuple[int, int, int, int]) -> Callable:
    """Invert a rectangle of the picture."""

    def change(image):
        image.paste(ImageOps.invert(image.crop(where)), where[:2])
        return image

    return change


def erase_blue(image: Image.Image) -> Image.Image:
    """The drawn curve painted over in white."""
    pixels = np.array(image)
    pixels[pixels[..., 2].astype(int) > pixels[..., 0].astype(int) + 30] = 255
    return Image.fromarray(pixels)


def dots(image: Image.Image) -> Image.Image:
    """Twenty-eight data points that nobody measured, each of eight pixels."""
    pixels = np.array(image)
    for k in range(28):
        row, column = 400 - 9 * k, 200 + 20 * k
        pixels[row : row + 2, column : column + 4] = 0
    return Image.fromarray(pixels)


def same(image: Image.Image) -> Image.Image:
    return image


def frames(cell) -> None:
    """A second picture that the first one turns into."""
    data = cell.outputs[0].data
    stored = Image.open(io.BytesIO(base64.b64decode(data[PNG]))).convert("RGB")
    redrawn(same, save_all=True, append_images=[ImageOps.invert(stored)])(cell)
