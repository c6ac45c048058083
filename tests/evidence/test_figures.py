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
        'Figure. A test. Panel "Growth". Horizontal axis: time t, -0.1 to 2.1. '
        'Vertical axis: height, -0.2 to 4.2. Line "parabola": 3 points, from (0, 0) to (2, 4).'
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


def test_what_rounding_has_made_of_zero_is_zero():
    def words(noise):
        ends = figure(draw((noise, 0.5, -noise)), **ARGUMENTS)
        image = figure(panel(lambda ax: ax.imshow([[noise, 1.0], [-0.5, noise]])), **ARGUMENTS)
        return repr(ends), ends.digest, repr(image), image.digest

    assert words(3e-17) == words(-8e-14) == words(0.0)
    fig = draw((1e-17, 1.0, 1e-9))  # on a logarithmic axis nothing is small
    fig.axes[0].set_yscale("log")
    assert "from (0, 1e-17) to (2, 1e-09)" in repr(figure(fig, **ARGUMENTS))


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
        "Horizontal axis (logarithmic): x, 0.891 to 11.2",
        'Points "measured": 10 points, from (1, 1) to (10, 100).',
        'Band "band": between 1 and 1e+03.',
        'Points "cloud": 10 points, from (1, 5) to (10, 50).',
        "Upright line for orientation: at 3.",
        "Colour map, 3 by 4: from 0 to 11, median 5.5; corners 0, 3, 8, 11.",
    ):
        assert part in text


def test_bundle_holds_picture_and_alternative_text():
    data, metadata = figure(draw(), **ARGUMENTS)._repr_mimebundle_()
    with Image.open(io.BytesIO(data["image/png"])) as image:
        assert image.width > 600
    digest = metadata["image/png"].pop("digest")
    assert len(digest) == 16
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


@pytest.mark.parametrize("label", [None, "_measured"])
def test_unlabelled_series_is_refused(label):
    fig = draw()
    fig.axes[0].plot([0, 1], [1, 2], label=label)
    with pytest.raises(ValueError, match="a series has no label"):
        figure(fig, **ARGUMENTS)


def panel(paint, **settings):
    fig, ax = plt.subplots()
    paint(ax)
    ax.set(xlabel="x", ylabel="y", **settings)
    return fig


@pytest.mark.parametrize(
    ("paint", "words"),
    [
        (
            lambda ax: ax.errorbar([1, 2], [3, 4], yerr=[0.1, 9], label="runs"),
            'Points "runs": 2 points, from (1, 3) to (2, 4). '
            'Error bars "runs": from end to end 0.2 to 18.',
        ),
        (lambda ax: ax.step([0, 1, 2], [1, 3, 2], label="stairs"), 'Steps "stairs": 3 points'),
        (
            lambda ax: ax.hist([1, 1, 2], bins=2, histtype="step", label="count"),
            'Shape "count": from (1, 0) to (2, 2).',
        ),
        (
            lambda ax: ax.stairs([1, 3], [0, 1, 2], label="edges"),
            'Shape "edges": from (0, 0) to (2, 3).',
        ),
        (
            lambda ax: ax.barh([1, 2], [3, 5], label="lengths"),
            'Bars "lengths": 2 points, from (3, 1) to (5, 2).',
        ),
        (
            lambda ax: ax.contour([[0, 1], [1, 2]], levels=[0.5, 1.5]),
            "Contours at 0.5, 1.5.",
        ),
        (
            lambda ax: ax.contourf([[0, 1], [1, 2]], levels=[0.5, 1.5]),
            "Filled contours at 0.5, 1.5.",
        ),
        (
            lambda ax: ax.fill([0, 1, 1], [0, 0, 2], label="area"),
            'Shape "area": from (0, 0) to (1, 2).',
        ),
        (
            lambda ax: ax.axvspan(1, 2, label="span"),
            'Shape "span": from (1, 0) to (2, 1).',
        ),
        (
            lambda ax: ax.quiver([0, 1], [0, 1], [3, 0], [4, 1], label="gradient"),
            'Arrows "gradient": 2, the longest of length 5.',
        ),
        (
            lambda ax: (ax.plot([0, 1], [0, 1], label="a"), ax.text(0.5, 0.2, "a word")),
            'Text "a word", (0.5, 0.2).',
        ),
        (
            lambda ax: (
                ax.plot([0, 1], [0, 1], label="a"),
                ax.annotate("here", (1, 1), (0.2, 0.7), arrowprops={}),
            ),
            'Text "here", pointing to (1, 1).',
        ),
        (
            lambda ax: (ax.plot([0, 1], [0, 1], label="a"), ax.axline((0, 0), slope=2, label="b")),
            'Straight line "b": slope 2 through (0, 0).',
        ),
        (
            lambda ax: (ax.plot([0, 1], [0, 1], label="a"), ax.axhline(0.5)),
            "Level line for orientation: at height 0.5.",
        ),
        (
            lambda ax: ax.hlines([1, 2], 0, [3, 4], label="lengths"),
            'Segments "lengths": 4 points, from (0, 1) to (4, 2)',
        ),
        (
            lambda ax: (
                ax.plot([0, 1], [0, 1], label="a"),
                ax.set_xticks([0, 0.5, 1], ["0", "5", "10"]),
            ),
            'marked "0" at 0, "5" at 0.5, "10" at 1.',
        ),
    ],
)
def test_every_artist_has_words(paint, words):
    assert words in repr(figure(panel(paint), **ARGUMENTS))


def test_the_axis_is_told_and_not_the_data():
    fig = panel(lambda ax: ax.plot([0, 1, 400], [1, 2, 1e18], label="loss"))
    fig.axes[0].set(xlim=(0, 34), ylim=(0, 5))
    text = repr(figure(fig, **ARGUMENTS))
    assert "Horizontal axis: x, 0 to 34. Vertical axis: y, 0 to 5." in text
    assert 'Line "loss": 2 of 3 points, from (0, 1) to (1, 2).' in text


@pytest.mark.parametrize(
    ("paint", "message"),
    [
        (lambda ax: ax.plot([0, 1], [0, 1], label="a", alpha=0), "is invisible"),
        (lambda ax: ax.plot([0, 1], [0, 1], label="a", visible=False), "is invisible"),
        (lambda ax: ax.plot([0, 1], [0, 1], ls="", label="a"), "neither a line nor markers"),
        (lambda ax: (ax.plot([0, 1], [0, 1], label="a"), ax.set_xlim(5, 6)), "outside the axes"),
        (lambda ax: (ax.semilogy([0, 1], [-2, -1], label="a"), ax.set_ylim(1, 9)), "outside the"),
        (lambda ax: ax.stem([1, 2]), "StemContainer cannot be described"),
        (lambda ax: ax.table([["1", "2"]]), "Table cannot be described"),
        (lambda ax: ax.fill([0, 1, 1], [0, 0, 2]), "a series has no label"),
        (lambda ax: ax.imshow([[np.nan]]), "no finite value"),
    ],
)
@pytest.mark.filterwarnings("ignore:Data has no positive values")
def test_what_cannot_be_seen_or_described_is_refused(paint, message):
    with pytest.raises(ValueError, match=message):
        figure(panel(paint), **ARGUMENTS)


def test_a_round_panel_is_refused():
    fig, ax = plt.subplots(subplot_kw={"projection": "polar"})
    ax.plot([0, 1], [0, 1], label="a")
    with pytest.raises(ValueError, match="a polar panel cannot be described"):
        figure(fig, **ARGUMENTS)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([0, 1, 2, 3], [0, 2.9, 0.1, 3]),
        ([0, 1, 2, 3], [0, 1.001, 2, 3]),
        ([0, 1, np.nan, 3], [0, 1, 2, 3]),
    ],
)
def test_the_digest_sees_what_lies_between_the_landmarks(one, other):
    first, second = (figure(draw(y), **ARGUMENTS).digest for y in (one, other))
    assert first != second


def test_the_digest_sees_an_image_turned_over_and_no_rounding():
    values = np.arange(12.0).reshape(3, 4)
    turned, same = (
        figure(panel(lambda ax, v=v: ax.imshow(v)), **ARGUMENTS) for v in (values[::-1], values)
    )
    assert turned.digest != same.digest
    assert repr(turned) != repr(same)
    noisy = figure(draw(np.array([0, 1, 4]) * (1 + 1e-13)), **ARGUMENTS)
    assert noisy.digest == figure(draw(), **ARGUMENTS).digest


def test_setup_sizes(monkeypatch):
    assert setup("cpu").pick(cpu=1, gpu=2) == 1
    monkeypatch.setenv("NTKBOOK_SIZE", "gpu")
    assert setup().pick(cpu=1, gpu=2) == 2
    with pytest.raises(ValueError, match="size must be one of"):
        setup("huge")
