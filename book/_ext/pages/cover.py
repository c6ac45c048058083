"""Compute and draw the cover: wide networks trained on six points, and the kernel's prediction.

    python book/_ext/pages/cover.py

writes `cover.json` (the curves), `cover.svg` (the landing page) and `cover.png` (link previews)
into `book/_static`. A test computes the curves again and draws the SVG again.
"""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

import ntkbook as ntk

STATIC = Path(__file__).parents[2] / "_static"
ANGLES = np.array([-2.6, -1.7, -0.6, 0.5, 1.3, 2.5])
TARGETS = np.array([0.6, -0.5, 0.9, -0.7, 0.5, -0.2])
GRID = np.linspace(-np.pi, np.pi, 121)
NETWORKS, WIDTH, STEPS = 8, 512, 500


def on_circle(angles):
    """Points of the circle with ‖x‖² = d = 2."""
    return jnp.sqrt(2.0) * jnp.stack([jnp.cos(angles), jnp.sin(angles)], axis=1)


def network(width):
    hidden = [
        layer for _ in range(2) for layer in (ntk.Dense(width, w_std=1.5, b_std=0.3), ntk.Relu())
    ]
    return ntk.Serial(*hidden, ntk.Dense(1, w_std=1.5, b_std=0.3))


def curves(networks=NETWORKS):
    """The first trained networks on the grid (networks, 121), and the kernel's mean (121,)."""
    x, grid, y = on_circle(ANGLES), on_circle(GRID), jnp.asarray(TARGETS)
    net = network(WIDTH)
    theta = net.kernel(x).ntk
    flow = ntk.gradient_flow(theta, y)
    mean = flow.test(jnp.inf, net.kernel(grid, x).ntk)
    rate = 0.5 * ntk.max_learning_rate(theta)

    def trained(key):
        params = net.init(key, x.shape[1:])
        run = ntk.train(
            net.apply, params, x, y[:, None], learning_rate=rate, steps=STEPS, record_every=STEPS
        )
        return net.apply(run.params, grid)[:, 0]

    keys = jax.random.split(jax.random.key(0), NETWORKS)
    draws = [np.asarray(trained(key)) for key in keys[:networks]]
    return {
        "angle": GRID.round(4).tolist(),
        "networks": np.stack(draws).round(3).tolist(),
        "mean": np.asarray(mean).round(3).tolist(),
    }


def svg(data):
    """The cover as an SVG whose colours are the page's own, so that it follows light and dark."""
    width, height, low, high = 720, 230, -1.25, 1.3

    def place(angle, value):
        px = 8 + (angle + np.pi) / (2 * np.pi) * (width - 16)
        py = height - 8 - (value - low) / (high - low) * (height - 16)
        return f"{px:.1f},{py:.1f}"

    def line(kind, values, stroke):
        points = " ".join(map(place, data["angle"], values))
        return f'<polyline class="{kind}" fill="none" stroke-width="{stroke}" points="{points}"/>'

    dots = []
    for angle, value in zip(ANGLES, TARGETS, strict=True):
        px, py = place(angle, value).split(",")
        dots.append(f'<circle class="data" cx="{px}" cy="{py}" r="6" stroke-width="2"/>')
    label = (
        f"{NETWORKS} wide networks, trained on {len(ANGLES)} points of a circle, pass through "
        "the points and scatter between them around one bold curve, the prediction of the "
        "neural tangent kernel."
    )
    return "\n".join(
        [
            '<svg class="ntk-cover" xmlns="http://www.w3.org/2000/svg" '
            f'viewBox="0 0 {width} {height}" role="img" aria-label="{label}">',
            *[line("draw", values, 1.6) for values in data["networks"]],
            line("mean", data["mean"], 3.5),
            *dots,
            "</svg>",
            "",
        ]
    )


def png(data, path):
    """The same picture in fixed colours, 1200 × 630, for previews of links."""
    fig, ax = plt.subplots(figsize=(12, 6.3), dpi=100)
    for values in data["networks"]:
        ax.plot(data["angle"], values, color="0.75", linewidth=2)
    ax.plot(data["angle"], data["mean"], color="#0b5fa5", linewidth=5)
    ax.plot(ANGLES, TARGETS, "o", color="black", markersize=12)
    ax.set_axis_off()
    ax.set_title("The Neural Tangent Kernel, derived and measured", fontsize=26)
    fig.savefig(path)
    plt.close(fig)
    Image.open(path).convert("P", palette=Image.Palette.ADAPTIVE, colors=32).save(
        path, optimize=True
    )


def main():
    jax.config.update("jax_enable_x64", True)
    data = curves()
    (STATIC / "cover.json").write_text(json.dumps(data) + "\n", encoding="utf8")
    (STATIC / "cover.svg").write_text(svg(data), encoding="utf8")
    png(data, STATIC / "cover.png")


if __name__ == "__main__":
    main()
