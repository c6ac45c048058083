"""Record kernels that neural-tangents computes, for the tests to compare this package with.

    PYTHON tests/benchmarks/record_values.py

PYTHON is that of an environment with neural-tangents 0.6.5 in double precision, such as compare.py
makes below its PEERS; the book's own Python cannot import it.  Written is
tests/architectures/neural_tangents.json: the inputs, five examples of each kind, and for each
architecture the NNGP and the tangent kernel between them, all digits of both.  The third example
is 1e-7 away from the first, the fourth three times the first, the fifth its negative.
"""

import datetime
import json
import platform
from pathlib import Path

import jax
import neural_tangents as nt
import numpy as np
from neural_tangents import stax

RECORD = Path(__file__).parents[1] / "architectures" / "neural_tangents.json"
W_STD, B_STD = 1.3, 0.2
ATTENTION_STD = 1.1  # of query, key, value and output weights each
WIDTH = 64  # counts in the standard parametrization alone
SHAPES = {"vectors": (6,), "images": (6, 5, 2), "sequences": (7, 2), "graph": (5, 3)}
EDGES = (0, 1), (1, 2), (2, 3), (3, 0), (3, 4)


def examples(shape, seed=0):
    first, second, third = np.random.default_rng(seed).standard_normal((3, *shape))
    return np.stack([first, second, first + 1e-7 * third, 3 * first, -first])


def adjacency():
    """The graph with loops at its nodes, D^(-1/2) (A + I) D^(-1/2)."""
    matrix = np.eye(SHAPES["graph"][0])
    for i, j in EDGES:
        matrix[i, j] = matrix[j, i] = 1
    degrees = matrix.sum(1)
    return matrix / np.sqrt(np.outer(degrees, degrees))


def dense(width=WIDTH, **options):
    return stax.Dense(width, W_STD, B_STD, **options)


def conv(shape=(3, 3), strides=None, padding="SAME"):
    return stax.Conv(WIDTH, shape, strides, padding, W_STD, B_STD)


def attention(mechanism, linear_scaling):
    names = "W_key_std", "W_query_std", "W_value_std", "W_out_std"
    scales = dict.fromkeys(names, ATTENTION_STD)
    return stax.GlobalSelfAttention(
        WIDTH, WIDTH, WIDTH, WIDTH, linear_scaling, attention_mechanism=mechanism, **scales
    )


def residual(*layers):
    branch = stax.serial(*layers)
    return stax.serial(stax.FanOut(2), stax.parallel(branch, stax.Identity()), stax.FanInSum())


def tokens(mechanism, linear_scaling):
    """Attention between two dense layers of each token."""
    block = attention(mechanism, linear_scaling)
    return dense(), stax.Relu(), dense(), block, stax.Relu(), stax.GlobalAvgPool(), dense(1)


RELU, ERF, POOL, FLATTEN = stax.Relu(), stax.Erf(), stax.GlobalAvgPool(), stax.Flatten()
STANDARD = {"parameterization": "standard"}
CASES = {
    "dense-relu": ("vectors", *(dense(), RELU) * 3, dense(1)),
    "dense-erf": ("vectors", *(dense(), ERF) * 3, dense(1)),
    "standard": (
        "vectors",
        *(dense(**STANDARD), RELU) * 2,
        dense(1, **STANDARD),
    ),
    "layer-norm": (
        "vectors",
        *(dense(), stax.LayerNorm(), RELU, dense(), stax.LayerNorm(), ERF, dense(1)),
    ),
    "dropout": ("vectors", *(dense(), RELU, stax.Dropout(0.7)) * 2, dense(1)),
    "dropout-flatten": ("images", *(conv(), RELU, stax.Dropout(0.7)) * 2, FLATTEN, dense(1)),
    "dropout-pool": ("images", *(conv(), RELU, stax.Dropout(0.7)) * 2, POOL, dense(1)),
    "conv-flatten": ("images", *(conv(), RELU) * 2, FLATTEN, dense(1)),
    "conv-pool": ("images", *(conv(), RELU) * 2, POOL, dense(1)),
    "conv-strides": (
        "images",
        *(conv((2, 2), (1, 2), "VALID"), RELU, stax.AvgPool((2, 1), (1, 1))),
        *(conv((3, 2), (2, 1)), RELU, FLATTEN, dense(1)),
    ),
    "conv-circular": ("images", *(conv(padding="CIRCULAR"), RELU) * 2, POOL, dense(1)),
    "conv-residual": ("images", conv(), residual(RELU, conv(), RELU, conv()), RELU, POOL, dense(1)),
    "sequence": ("sequences", *(conv((3,)), ERF) * 2, POOL, dense(1)),
    "graph": (
        "graph",
        *(stax.Aggregate(), dense(), RELU) * 2,
        *(stax.Aggregate(), POOL, dense(1)),
    ),
    "attention-softmax": ("sequences", *tokens("SOFTMAX", True)),
    "attention-identity": ("sequences", *tokens("IDENTITY", True)),
    "attention-identity-root": ("sequences", *tokens("IDENTITY", False)),
}


def record(kind, layers, inputs):
    options = {}
    if kind == "graph":
        pattern = np.tile(adjacency(), (len(inputs[kind]), 1, 1))
        options = {"pattern": (pattern, pattern)}
    kernel = stax.serial(*layers)[2](inputs[kind], None, ("nngp", "ntk"), **options)
    matrices = {name: np.asarray(getattr(kernel, name)) for name in ("nngp", "ntk")}
    assert all(m.dtype == np.float64 and np.isfinite(m).all() for m in matrices.values())
    return {"inputs": kind} | {name: matrix.tolist() for name, matrix in matrices.items()}


def main():
    jax.config.update("jax_enable_x64", True)
    inputs = {kind: examples(shape) for kind, shape in SHAPES.items()}
    provenance = {
        "library": f"neural-tangents {nt.__version__}",
        "jax": jax.__version__,
        "python": platform.python_version(),
        "dtype": "float64",
        "date": datetime.date.today().isoformat(),
        "command": "python tests/benchmarks/record_values.py",
    }
    lines = [f'"provenance": {json.dumps(provenance)}', f'"scales": [{W_STD}, {B_STD}]']
    lines += [f'"attention_std": {ATTENTION_STD}', f'"width": {WIDTH}']
    lines += [f'"adjacency": {json.dumps(adjacency().tolist())}']
    parts = {
        "inputs": {kind: x.tolist() for kind, x in inputs.items()},
        "cases": {name: record(kind, layers, inputs) for name, (kind, *layers) in CASES.items()},
    }
    for name, part in parts.items():
        rows = ",\n  ".join(f'"{key}": {json.dumps(value)}' for key, value in part.items())
        lines.append(f'"{name}": {{\n  {rows}\n }}')
    RECORD.write_text("{\n " + ",\n ".join(lines) + "\n}\n", "utf-8")


if __name__ == "__main__":
    main()
