"""A figure's description follows its data, and a figure without words is refused."""

import io

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from ntkbook import figure, setup

ARGUMENTS = {"name": "fig-test", "caption": "A test."}


def draw(y=(0.0, 1.0, 4.0), **labels):
    fig, ax = plt.subplots()
    ax.plot(range(len(y)), y, label="parabola")
    ax.set(**({"title": "Growth", "xlabel": "time $t$", "ylabel": "height"} | labels))
    return fig


def test_description():
    text = repr(figure(draw(), **ARGUMENTS))
    assert text == (
        'Figure. A test. Panel "Growth". Horizontal axis: time t, 0 to 2. '
        'Vertical axis: height, 0 to 4. Line "parabola": 3 points, from (0, 0) to (2, 4).'
    )


def test_description_follows_the_data():
    texts = {repr(figure(draw(y), **ARGUMENTS)) for y in ([0, 1, 4], [0, 1.01, 4.01], [0, -1, 4])}
    assert len(texts) == 3


def test_rounding_is_no_landmark():
    eps = np.finfo(float).eps
    assert "est (" not in repr(figure(draw((2.0, 2 + 4 * eps, 2 - 4 * eps, 2.0)), **ARGUMENTS))
    for first, second in ((0, eps), (eps, 0)):  # of two equal heights the first, to rounding
        text = repr(figure(draw((0.0, 1 + first, 0.5, 1 + second, 0.2)), **ARGUMENTS))
        assert text.endswith("from (0, 0) to (4, 0.2), highest (1, 1).")


def test_every_kind_of_series():
    fig, axes = plt.subplots(1, 2)
    x = np.linspace(1, 10, 10)
    axes[0].loglog(x, x**2, "o", label="measured")
    axes[0].fill_between(x, x, x**3, label="band")
    axes[0].scatter(x, 5 * x, label="cloud")
    axes[0].axvline(3, color="k")
    axes[1].imshow(np.arange(12.0).reshape(3, 4))
    for ax in axes:
        ax.set(xlabel="x", ylabel="y")
    text = repr(figure(fig, **ARGUMENTS))
    for part in (
        "Horizontal axis (logarithmic): x, 1 to 10",
        'Points "measured": 10 points, from (1, 1) to (10, 100).',
        'Band "band": between 1 and 1e+03.',
        'Points "cloud": 10 points, from (1, 5) to (10, 50).',
        "Colour map of 12 values: from 0 to 11, median 5.5.",
    ):
        assert part in text


def test_bundle_holds_picture_and_alternative_text():
    data, metadata = figure(draw(), **ARGUMENTS)._repr_mimebundle_()
    with Image.open(io.BytesIO(data["image/png"])) as image:
        assert image.width > 600
    assert metadata["image/png"] == {
        "alt": data["text/plain"],
        "caption": "A test.",
        "name": "fig-test",
    }


def test_same_figure_same_bytes():
    setup()
    assert figure(draw(), **ARGUMENTS).png == figure(draw(), **ARGUMENTS).png


@pytest.mark.parametrize(
    ("fig", "arguments", "message"),
    [
        (lambda: draw(xlabel=""), {}, "needs an xlabel"),
        (lambda: draw([np.nan, np.nan]), {}, "no finite point"),
        (draw, {"name": "test"}, "name must look like"),
        (draw, {"caption": "no period"}, "ends with a period"),
        (plt.figure, {}, "no axes"),
    ],
)
def test_a_figure_without_words_is_refused(fig, arguments, message):
    with pytest.raises(ValueError, match=message):
        figure(fig(), **(ARGUMENTS | arguments))


def test_unlabelled_series_is_refused():
    fig = draw()
    fig.axes[0].plot([0, 1], [1, 2])
    with pytest.raises(ValueError, match="a series has no label"):
        figure(fig, **ARGUMENTS)


def test_setup_sizes(monkeypatch):
    assert setup("cpu").pick(cpu=1, gpu=2) == 1
    monkeypatch.setenv("NTKBOOK_SIZE", "gpu")
    assert setup().pick(cpu=1, gpu=2) == 2
    with pytest.raises(ValueError, match="size must be one of"):
        setup("huge")
