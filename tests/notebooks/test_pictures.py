"""Pictures compared: rounding passes, a dot that nobody measured does not."""

from __future__ import annotations

import base64
import io
import struct
import zlib

import matplotlib.pyplot as plt
import numpy as np
import pytest
from notebooks import pictures
from PIL import Image
from tampering import dots, encoded, erase_blue

from ntkbook.evidence.figures import STYLE

HERE = "Matplotlib version3.10.8, https://matplotlib.org/"
OTHER = "Matplotlib version3.9.9, https://matplotlib.org/"


def drawn(error: float = 0.0) -> str:
    """Lines, markers, bars and a map, their data off by a relative error."""
    values, noise = np.random.default_rng(0), np.random.default_rng(1)

    def some(*shape: int) -> np.ndarray:
        return values.standard_normal(shape) * (1 + error * noise.standard_normal(shape))

    with plt.rc_context(STYLE):
        fig, axes = plt.subplots(1, 2, figsize=(8, 4))
        axes[0].plot(np.arange(40), some(40), "o-", color="#0072B2")
        axes[0].plot(np.arange(40) / 3, np.round(some(40), 1), "s", color="#0072B2")
        axes[0].bar(np.arange(10), abs(some(10)))
        axes[1].imshow(some(20, 20), cmap="gray")
        buffer = io.BytesIO()
        fig.savefig(buffer, format="png", metadata={"Software": HERE})
        plt.close(fig)
    return base64.b64encode(buffer.getvalue()).decode()


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    return pictures.image_of(drawn()).convert("RGB")


def spotted(image: Image.Image, width: int, times: int = 1) -> Image.Image:
    """Rows of so many black pixels."""
    pixels = np.array(image)
    for k in range(times):
        pixels[20 + 40 * k, 40 : 40 + width] = 255 - pixels[20 + 40 * k, 40 : 40 + width]
    return Image.fromarray(pixels)


@pytest.mark.parametrize("error", [1e-12, 1e-9])
def test_rounding_is_no_difference(error):
    assert pictures.difference(drawn(), drawn(error)) == []


def test_a_change_of_data_is_one():
    assert "neighbouring pixels" in pictures.difference(drawn(), drawn(1e-2))[0]


def test_a_cluster_is_one_and_a_few_pixels_are_none(picture):
    whole = encoded(picture, HERE)
    assert pictures.difference(encoded(spotted(picture, pictures.CLUSTER, 3), HERE), whole) == []
    (said,) = pictures.difference(encoded(spotted(picture, pictures.CLUSTER + 1, 3), HERE), whole)
    assert said.startswith("figures differ in 5 neighbouring pixels near x = 40, y = 20")
    assert said.endswith("in 3 such places")


@pytest.mark.parametrize("change", [dots, erase_blue])
@pytest.mark.parametrize("software", [HERE, OTHER, "anything"])
def test_what_the_file_says_counts_for_nothing(picture, change, software):
    said = pictures.difference(encoded(change(picture.copy()), software), encoded(picture, HERE))
    assert "figures differ" in said[0]
    assert ("NTKBOOK_FIGURES=loose" in said[-1]) == (software != HERE)


def test_two_versions_are_compared_roughly_on_request_only(picture, monkeypatch):
    shifted = Image.fromarray(np.roll(np.array(picture), 1, axis=1))
    both = encoded(shifted, OTHER), encoded(picture, HERE)
    assert pictures.difference(*both)
    monkeypatch.setenv(pictures.LOOSE, "yes")
    assert pictures.difference(*both)
    monkeypatch.setenv(pictures.LOOSE, "loose")
    assert pictures.difference(*both) == []
    inverted = Image.fromarray(255 - np.array(picture))
    assert pictures.difference(encoded(inverted, OTHER), both[1])


def test_sizes_count(picture):
    small = encoded(picture.resize((100, 50)), HERE)
    assert "figure sizes differ" in pictures.difference(small, encoded(picture, HERE))[0]


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def with_chunk(text: str, made: bytes) -> str:
    data = base64.b64decode(text)
    end = data.index(b"IEND") - 4
    return base64.b64encode(data[:end] + made + data[end:]).decode()


def test_what_a_picture_may_not_be(picture):
    whole = encoded(picture, HERE)
    assert not list(pictures.faults(whole))
    assert not list(pictures.faults(drawn()))
    for software in (None, "", "see https://matplotlib.org/", "Matplotlib version"):
        assert "did not draw" in next(pictures.faults(encoded(picture, software)))
    for made in (chunk(b"gAMA", struct.pack(">I", 45455)), chunk(b"zTXt", b"a\0\0" + b"x")):
        assert "more than a picture" in list(pictures.faults(with_chunk(whole, made)))[-1]
    two = encoded(picture, HERE, save_all=True, append_images=[erase_blue(picture)])
    assert "a figure of several frames" in list(pictures.faults(two))
    tail = base64.b64encode(base64.b64decode(whole) + b"more to come").decode()
    assert "more than a picture" in list(pictures.faults(tail))[-1]
    assert "can't be read" in next(pictures.faults("AAAA"))
