"""Both infinite-width kernels of a ReLU network, timed: `python -m card.kernels DTYPE N…`.

Prints a JSON object for each number of inputs, as it is done. Three ReLU layers on 784 features,
as in the comparison with other packages, by whose program the network is built and timed.
"""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from typing import Any

import jax
import numpy as np

FEATURES = 784


def timed(n: int, dtype: str) -> dict[str, Any]:
    """Seconds and operations for n inputs, or that memory ran out."""
    from worker import infinite, measure  # of tests/benchmarks, which the door puts on the path

    net = infinite("ntkbook", "relu")
    item: dict[str, Any] = {"n": n, "dtype": dtype, "features": FEATURES, "operations": None}
    with suppress(Exception):  # a count that fails must not cost the measurement
        item["operations"] = operations(net, n, dtype)
    item["product"] = 2.0 * n * n * FEATURES
    x = np.random.default_rng(0).standard_normal((n, FEATURES)).astype(dtype)
    try:
        times = measure(net, jax.numpy.asarray(x))
    except (jax.errors.JaxRuntimeError, MemoryError) as error:
        exhausted = isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)
        return item | {"error": "out of memory" if exhausted else str(error).splitlines()[0]}
    peak = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    item |= {"first": times["first"], "seconds": times["wall"]}
    return item | {"peak_gib": peak and round(peak / 2**30, 2)}


def operations(net: Any, n: int, dtype: str) -> float | None:
    """The operations that the program asks for, as XLA counts them.

    They are 2 n² FEATURES of the Gram product, and one for each addition, multiplication, division,
    comparison or choice that the layers make for a pair of inputs, roots not among them.  Counted
    before XLA optimises, without running it, for whole matrices as a card computes them.
    """
    shape = jax.ShapeDtypeStruct((n, FEATURES), dtype)
    counted = jax.jit(net).lower(shape).cost_analysis()
    return counted.get("flops") if counted else None


def main(dtype: str, *sizes: str) -> None:
    jax.config.update("jax_enable_x64", dtype == "float64")
    for n in map(int, sizes):
        print(json.dumps(timed(n, dtype)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
