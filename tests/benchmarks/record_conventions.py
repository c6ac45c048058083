"""Record what other libraries answer, for the chapter "Kernels in practice".

    python tests/benchmarks/record_conventions.py neural-tangents
    python tests/benchmarks/record_conventions.py scikit-ntk
    python tests/benchmarks/record_conventions.py uci NTK.py

Each line is run by an environment that has the library (`compare.py` makes those of the first two)
and replaces its own part of book/practice/kernels-in-practice.json.  NTK.py is that file of
github.com/LeoYu/neural-tangent-kernel-UCI.  Nothing here needs the book's own package.
"""

import datetime
import importlib.metadata
import importlib.util
import json
import sys
from pathlib import Path

import numpy as np

RECORD = Path(__file__).parents[2] / "book" / "practice" / "kernels-in-practice.json"
HIDDEN, WIDTH, BIAS = 2, 64, 0.3  # layers, their width where it counts, scale of the biases
RATE, TIME = 0.7, 20.0


def wave(*shape):
    """Numbers that need no random generator: sin 1, sin 2, …"""
    return np.sin(1.0 + np.arange(np.prod(shape))).reshape(shape)


X, Y = wave(6, 3), wave(6, 2)
# The first input, and ever closer ones, as single precision holds them.
NEAR = (wave(9, 8)[0] + np.append(0, 10.0 ** -np.arange(8))[:, None] * wave(9, 8)[1:2]).astype("f4")


def neural_tangents(_):
    import jax
    import neural_tangents as nt
    from neural_tangents import stax

    def kernel(x, bias=None, form="ntk"):
        scales = {"W_std": 2**0.5, "b_std": bias, "parameterization": form}
        hidden = [stax.Dense(WIDTH, **scales), stax.Relu()] * HIDDEN
        return stax.serial(*hidden, stax.Dense(1, **scales))[2](x, None, "ntk")

    single = kernel(NEAR)[0]  # with x64 even single inputs are computed in double
    jax.config.update("jax_enable_x64", True)
    ntk = kernel(X, BIAS)
    predict = nt.predict.gradient_descent_mse(ntk, Y, learning_rate=RATE)
    return {
        "version": importlib.metadata.version("neural-tangents"),
        "jax": jax.__version__,
        "plain": kernel(X),
        "biases": ntk,
        "standard": kernel(X, form="standard"),
        "standard, biases": kernel(X, BIAS, "standard"),
        "predicted": predict(TIME, 0.0),
        "largest rate": nt.predict.max_learning_rate(ntk, y_train_size=Y.size),
        "near in single precision": single,
        "near": kernel(NEAR.astype(float))[0],
    }


def scikit_ntk(_):
    from skntk import NeuralTangentKernel

    return {
        "version": importlib.metadata.version("scikit-ntk"),
        "plain": NeuralTangentKernel(depth=HIDDEN, bias=0.0)(X),
        "biases": NeuralTangentKernel(depth=HIDDEN, bias=BIAS)(X),
    }


def uci(path):
    spec = importlib.util.spec_from_file_location("NTK", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {
        "version": "of October 2019",
        "plain": module.kernel_value(X, HIDDEN + 1, 0),
        "readout": module.kernel_value(X, HIDDEN + 1, HIDDEN),
    }


LIBRARIES = {"neural-tangents": neural_tangents, "scikit-ntk": scikit_ntk, "uci": uci}


def main(name, path=None):
    record = json.loads(RECORD.read_text("utf-8")) if RECORD.exists() else {}
    setting = {"hidden": HIDDEN, "width": WIDTH, "bias": BIAS, "rate": RATE, "time": TIME}
    record["setting"] = setting | {"x": X.tolist(), "y": Y.tolist(), "near": NEAR.tolist()}
    part = {
        "date": datetime.date.today().isoformat(),
        "command": f"tests/benchmarks/record_conventions.py {name}",
        "numpy": np.__version__,
    }
    for key, value in LIBRARIES[name](path).items():
        part[key] = value if isinstance(value, str) else np.asarray(value).tolist()
    record[name] = part
    RECORD.parent.mkdir(exist_ok=True)
    RECORD.write_text(json.dumps(record, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
