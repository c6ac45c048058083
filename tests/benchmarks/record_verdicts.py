"""Record what `ntk.diagnose` said of networks and what training then did to them.

    python tests/benchmarks/record_verdicts.py             # all networks, a quarter of an hour
    python tests/benchmarks/record_verdicts.py "ReLU, 64"  # those whose names begin like this
    python tests/benchmarks/record_verdicts.py soft        # cross-entropy, some minutes
    python tests/benchmarks/record_verdicts.py cost        # one large network, by itself

Each replaces its part of book/use/your-network.json, from which the page "Your own network" draws.
What training did is found without the products of `diagnose`: by descent itself, by the kernels of
both ends as matrices, and by the linearised model in closed form; with cross-entropy, step by step.
"""

import datetime
import json
import os
import platform
import resource
import sys
import time
from pathlib import Path

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from compare import processor_name
from scipy.stats import spearmanr

import ntkbook as ntk

RECORD = Path(__file__).parents[2] / "book" / "use" / "your-network.json"
STEPS, TIMES = 200, (10, 50, 200)
HARDEST = 10


# Networks: from a key to f, its parameters and the data


def two_digits(count=256):
    x, y, _, _ = ntk.digits(count, 0, jax.random.key(0), classes=(3, 8))
    return x, y[:, None]


def ten_digits():
    return ntk.digits(128, 0, jax.random.key(0))[:2]


def images():
    x, y = two_digits(128)
    return x.reshape(-1, 8, 8, 1), y


def random_labels():
    x, y = two_digits(128)
    return x, jax.random.rademacher(jax.random.key(7), y.shape, y.dtype)


def drawn(net, data, key):
    x, y = data()
    return net.apply, net.init(key, x.shape[1:]), x, y


def dense(width, act=ntk.Relu, depth=1, data=two_digits, k=1):
    w_std = 2**0.5 if act is ntk.Relu else 1.5
    net = ntk.Serial(*(ntk.Dense(width, w_std=w_std), act()) * depth, ntk.Dense(k))
    return lambda key: drawn(net, data, key)


def conv(channels):
    block = ntk.Conv(channels, (3, 3), w_std=2**0.5), ntk.Relu()
    net = ntk.Serial(*block * 2, ntk.Flatten(), ntk.Dense(1))
    return lambda key: drawn(net, images, key)


def scaled(case, factor):
    """The outputs times a factor."""

    def make(key):
        f, params, x, y = case(key)
        return lambda p, x: factor * f(p, x), params, x, y

    return make


def centred(case, factor):
    """A factor times what training adds to the outputs."""

    def make(key):
        f, params, x, y = case(key)
        return lambda p, x: factor * (f(p, x) - f(params, x)), params, x, y

    return make


def equinox(width, depth):
    def make(key):
        model = eqx.nn.MLP(64, 10, width, depth, key=key)
        params, rest = eqx.partition(model, eqx.is_inexact_array)
        return lambda p, x: jax.vmap(eqx.combine(p, rest))(x), params, *ten_digits()

    return make


class Flax(nn.Module):
    width: int

    @nn.compact
    def __call__(self, x):
        for _ in range(2):
            x = nn.gelu(nn.Dense(self.width, param_dtype=float)(x))
        return nn.Dense(10, param_dtype=float)(x)


def flax(width):
    def make(key):
        x, y = ten_digits()
        return Flax(width).apply, Flax(width).init(key, x[:1]), x, y

    return make


TANH = ntk.Tanh
CASES = (
    {f"ReLU, {n}": dense(n) for n in (64, 128, 256, 512, 1024, 4096)}
    | {f"tanh, {n}": dense(n, TANH) for n in (64, 128, 256, 512, 1024, 4096)}
    | {f"ReLU, {n}-{n}": dense(n, depth=2) for n in (64, 256, 1024)}
    | {f"tanh, {n}-{n}": dense(n, TANH, depth=2) for n in (64, 256)}
    | {f"ten classes, {n}": dense(n, data=ten_digits, k=10) for n in (64, 256, 1024)}
    | {f"CNN, {c} channels": conv(c) for c in (8, 32)}
    | {f"random labels, {n}": dense(n, data=random_labels) for n in (64, 256, 1024)}
    | {f"tanh, 256, × {a}": scaled(dense(256, TANH), a) for a in (0.3, 0.1, 0.03)}
    | {f"ReLU, 256, × {a}": scaled(dense(256), a) for a in (0.3, 0.1, 0.03)}
    | {f"tanh, 64, × {a}": scaled(dense(64, TANH), a) for a in (0.3, 0.1, 0.03)}
    | {f"Equinox, 256, depth {h}": equinox(256, h) for h in (1, 2, 4)}
    | {"Flax, 128-128": flax(128), "Flax, 512-512": flax(512)}
    | {f"Flax, 128-128, centred × {a}": centred(flax(128), a) for a in (10, 0.2)}
)
SOFT = (
    {f"ReLU, {n}": dense(n, data=ten_digits, k=10) for n in (64, 256, 1024)}
    | {f"tanh, {n}": dense(n, TANH, data=ten_digits, k=10) for n in (64, 256, 1024)}
    | {"Equinox, 256, depth 2": equinox(256, 2), "Flax, 512-512": flax(512)}
)  # with cross-entropy, of ten classes
SEEDS = 3  # draws of each network, for a verdict is on a draw


# What was said, and what came


def verdict(make, seed):
    f, params, x, y = make(jax.random.key(seed))
    report = ntk.diagnose(f, params, x, y, steps=STEPS)
    rate = report.learning_rate
    run = ntk.train(f, params, x, y, learning_rate=rate, steps=STEPS, allow_divergence=True)
    said = report.curve(np.array(TIMES))
    row = {
        "examples": len(x), "outputs": y.shape[1], "parameters": report.parameters,
        "regime": report.regime, "change": report.change, "tail": report.tail_change,
        "linearisation": report.linearisation, "products": report.products,
        "lower": said.lower, "upper": said.upper, "end": said.end,
        "loss": run.losses[np.array(TIMES)] / run.losses[0],
    }  # fmt: skip
    return {"seed": seed} | {name: plain(value) for name, value in (row | came(
        f, params, x, y, run, report)).items()}  # fmt: skip


def came(f, params, x, y, run, report):
    """The change of the kernel and the gap to the linearised model, and who was last."""
    if not jnp.isfinite(run.losses[-1]):
        return {"real change": np.inf, "real gap": np.inf}
    theta, start = ntk.empirical_ntk(f, params, x), f(params, x)
    after = ntk.empirical_ntk(f, run.params, x)
    line = ntk.gradient_descent(theta, y, report.learning_rate, f0=start).train(STEPS)
    late = report.late()
    left = np.asarray(((run.train[-1] - y) ** 2).sum(axis=1))
    last = set(np.argsort(-left)[:HARDEST]) & set(late.label[:HARDEST])
    return {
        "real change": jnp.linalg.norm(after - theta) / jnp.linalg.norm(theta),
        "real gap": jnp.linalg.norm(run.train[-1] - line) / jnp.linalg.norm(start - y),
        "rank": spearmanr(left[late.label], late.end).statistic,
        "hardest": len(last),
    }


def soft_verdict(make, seed):
    """The same with cross-entropy, and descent of the linearised model step by step."""
    f, params, x, y = make(jax.random.key(seed))
    report = ntk.diagnose(f, params, x, y, steps=STEPS, loss="cross-entropy")
    rate = report.learning_rate / len(x)  # of the sum over examples
    run = ntk.train(f, params, x, y, learning_rate=rate, steps=STEPS, allow_divergence=True,
                    loss=ntk.softmax_cross_entropy)  # fmt: skip
    theta, start = ntk.empirical_ntk(f, params, x), f(params, x)
    after = ntk.empirical_ntk(f, run.params, x)
    line, losses = start, [ntk.softmax_cross_entropy(start, y)]
    for _ in range(STEPS):
        line = line - rate * jnp.einsum("ijab,jb->ia", theta, jax.nn.softmax(line) - y)
        losses.append(ntk.softmax_cross_entropy(line, y))
    said, at = report.curve(np.array(TIMES)), np.array(TIMES)
    row = {
        "regime": report.regime, "change": report.change, "linearisation": report.linearisation,
        "products": report.products, "lower": said.lower, "upper": said.upper, "end": said.end,
        "line": np.array(losses)[at] / losses[0], "loss": run.losses[at] / run.losses[0],
        "real change": jnp.linalg.norm(after - theta) / jnp.linalg.norm(theta),
        "real gap": jnp.linalg.norm(run.train[-1] - line) / jnp.linalg.norm(line - start),
    }  # fmt: skip
    return {"seed": seed} | {name: plain(value) for name, value in row.items()}


def plain(value):
    """What JSON can hold, five digits of it: null for what is not finite."""
    if value is None or isinstance(value, str | int):
        return value
    array = np.asarray(value, float)
    if array.ndim:
        return [plain(float(v)) for v in array]
    return float(f"{array:.5g}") if np.isfinite(array) else None


def cost():
    """One diagnosis of a network of ten million parameters, in single precision."""
    x, y, _, _ = ntk.digits(1024, 0, jax.random.key(0))
    model = eqx.nn.MLP(64, 10, 1820, 4, key=jax.random.key(1))
    params, rest = eqx.partition(model, eqx.is_inexact_array)

    def f(params, x):
        return jax.vmap(eqx.combine(params, rest))(x)

    before = time.process_time()
    report = ntk.diagnose(f, params, x, y)
    return {
        "parameters": report.parameters,
        "examples": len(report.examples),
        "outputs": report.outputs,
        "dtype": str(x.dtype),
        "products": report.products,
        "seconds": round(report.seconds),
        "cpu_seconds": round(time.process_time() - before),
        "gigabytes": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, 2),
    }


def provenance(argument):
    return {
        "command": " ".join(["tests/benchmarks/record_verdicts.py", *argument]),
        "date": datetime.date.today().isoformat(),
        "machine": f"{os.cpu_count()} cores, {processor_name()}",
        "python": platform.python_version(),
        "jax": jax.__version__,
    }


def main(*argument):
    record = json.loads(RECORD.read_text("utf-8")) if RECORD.exists() else {}
    jax.config.update("jax_enable_x64", argument != ("cost",))
    if argument == ("cost",):
        record["cost"] = provenance(argument) | cost()
    elif argument == ("soft",):
        rows = {name: [soft_verdict(make, i) for i in range(SEEDS)] for name, make in SOFT.items()}
        record |= {"soft": provenance(argument), "soft rows": rows}
    else:
        record |= {"times": TIMES, "provenance": provenance(argument)}
        rows = record.setdefault("rows", {})
        for name, make in CASES.items():
            if name.startswith(argument or ""):
                rows[name] = [verdict(make, seed) for seed in range(SEEDS)]
                print(name, *(row["regime"] for row in rows[name]), flush=True)
    lines = [f'"{name}": {json.dumps(part, ensure_ascii=False)}' for name, part in record.items()]
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    RECORD.write_text(text.replace("}], ", "}],\n  ").replace("}, {", "},\n   {"), "utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
