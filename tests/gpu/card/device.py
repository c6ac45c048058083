"""What the card is, whether it computes, and how fast it can be: `python -m card.device SIDE`.

Prints a JSON object a line: facts, a product compared with NumPy's, and rates that were measured
here, so that a share of the peak refers to this card as it runs today and to no data sheet.
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

PACKAGES = (
    *("jax", "jaxlib", "jax-cuda13-plugin", "jax-cuda12-plugin", "numpy", "scipy"),
    *("matplotlib", "sympy", "diffrax", "equinox", "optax", "ipykernel"),
)


def facts() -> dict[str, Any]:
    device = jax.devices()[0]
    driver, mebibytes = asked()
    return {
        "platform": device.platform,
        "device": device.device_kind if device.platform != "cpu" else "cpu",
        "devices": jax.device_count(),
        "driver": driver,
        "backend": device.client.platform_version.splitlines()[0],
        "memory_gib": mebibytes and round(mebibytes / 1024, 1),
        "versions": {"python": platform.python_version()} | versions(),
    }


def asked() -> tuple[str | None, float | None]:
    """The driver's version and the card's memory in MiB, where the driver's tool is at hand."""
    command = ["nvidia-smi", "--query-gpu=driver_version,memory.total"]
    command += ["--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
        driver, memory = said.stdout.splitlines()[0].split(",")
        return driver.strip(), float(memory)
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None, None


def versions() -> dict[str, str]:
    import ntkbook

    found = {"ntkbook": ntkbook.__version__}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def product_error(side: int = 1024) -> float:
    """The largest error of a float64 product here against NumPy's, over the largest entry."""
    a = np.random.default_rng(0).standard_normal((side, side))
    theirs = np.asarray(jnp.matmul(a, a.T, precision=jax.lax.Precision.HIGHEST))
    ours = a @ a.T
    return float(abs(theirs - ours).max() / abs(ours).max())


def product_rate(side: int, dtype: str) -> float:
    """Operations a second, 2 side³ of them, of a large product in the full precision of its dtype.

    The precision is that of the package's Gram matrices: a card that rounds the factors of a
    float32 product is faster, and gives something else.
    """
    a = jax.random.normal(jax.random.key(0), (side, side), dtype)
    product = jax.jit(lambda a: jnp.matmul(a, a.T, precision=jax.lax.Precision.HIGHEST))
    return 2 * side**3 / _seconds(lambda: product(a))


def copy_rate(side: int) -> float:
    """Bytes a second, read and written, of adding one to a large float64 matrix."""
    a = jnp.zeros((side, side))
    add = jax.jit(lambda a: a + 1)
    return 2 * a.nbytes / _seconds(lambda: add(a))


def _seconds(call: Callable[[], jax.Array], runs: int = 10) -> float:
    jax.block_until_ready(call())  # compiles
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main(side: int) -> None:
    jax.config.update("jax_enable_x64", True)

    def say(**fields: Any) -> None:
        print(json.dumps(fields), flush=True)

    say(**facts())
    say(float64_product_error=product_error())
    for dtype in ("float64", "float32"):
        say(**{f"{dtype}_product_rate": product_rate(side, dtype)}, side=side)
    say(copy_rate=copy_rate(2 * side))


if __name__ == "__main__":
    main(int(sys.argv[1]))
