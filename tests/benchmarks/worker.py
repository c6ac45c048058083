"""Time one library on one family of cases, in whatever environment this file is run by.

    python worker.py LIBRARY CASE DTYPE      prints a JSON line per size

LIBRARY: ntkbook, neural-tangents, scikit-ntk, floor, the matrix products that nobody can avoid, or
angles, such a product and the three angles and roots of each pair that no ReLU network can avoid.
CASE: relu or erf, the kernels of three hidden layers of infinite width on 784 features; pool or
flatten, those of two convolutions of 3 × 3 on images of 8 × 8 pixels and three channels, read out
after an average over pixels or from all of them; empirical-1, empirical-10, the tangent kernel of a
finite network of three hidden layers of 512 units, 64 features and so many outputs; or
convolutional-10, that of two convolutions of 64 channels on such images, ten outputs.
"""

import importlib.util
import json
import resource
import statistics
import sys
import time
import types

W_STD, B_STD = 2**0.5, 0.1
SIZES = {"relu": (500, 1000, 2000, 4000), "empirical-1": (64, 128, 256)}
SIZES |= {"erf": SIZES["relu"], "empirical-10": SIZES["empirical-1"]}
SIZES |= {"pool": (50, 100), "flatten": (100, 400), "convolutional-10": (32, 64)}
IMAGE = 8, 8, 3


def neural_tangents():
    """The modules of neural-tangents 0.6.5, also under a JAX that has moved what they import.

    With a new JAX only the infinite-width part can be loaded; it is loaded by itself.
    """
    import jax

    if hasattr(jax.core, "Jaxpr"):
        import neural_tangents

        return neural_tangents
    import jax._src.core
    import jax._src.util

    for name in dir(jax._src.core):
        if not name.startswith("__") and name not in vars(jax.core):
            setattr(jax.core, name, getattr(jax._src.core, name))
    sys.modules["jax.util"] = jax._src.util
    package = types.ModuleType("neural_tangents")
    package.__path__ = list(importlib.util.find_spec("neural_tangents").submodule_search_locations)
    sys.modules["neural_tangents"] = package
    from neural_tangents import stax

    package.stax = stax
    return package


def infinite(library, activation):
    """x (n, 784) to the matrices of both kernels, ready to be called again and again."""
    import jax

    if library == "ntkbook":
        import ntkbook as ntk

        layer = {"relu": ntk.Relu(), "erf": ntk.Erf()}[activation]
        dense = ntk.Dense(512, W_STD, B_STD)
        net = ntk.Serial(*(dense, layer) * 3, ntk.Dense(1, W_STD, B_STD))
        return lambda x: jax.tree.leaves(net.kernel(x))
    if library == "neural-tangents":
        stax = neural_tangents().stax
        layer = {"relu": stax.Relu(), "erf": stax.Erf()}[activation]
        dense = stax.Dense(512, W_STD, B_STD)
        last = stax.Dense(1, W_STD, B_STD)
        _, _, kernel_fn = stax.serial(*(dense, layer) * 3, last)
        both = jax.jit(lambda x: tuple(kernel_fn(x, None, ("nngp", "ntk"))))
        return both
    if library == "scikit-ntk":
        from skntk import NeuralTangentKernel

        return NeuralTangentKernel(depth=3, bias=B_STD)
    return jax.jit(angles if library == "angles" else lambda x: x @ x.T)


def angles(x):
    """Cosines of rows of equal length after three ReLU layers without biases, as XLA has them."""
    import jax.numpy as jnp

    cosine = x @ x.T / x.shape[1]
    for _ in range(3):
        angle = jnp.arccos(jnp.clip(cosine, -1, 1))
        sine = jnp.sqrt(jnp.maximum(1 - cosine * cosine, 0))
        cosine = (sine + (jnp.pi - angle) * cosine) / jnp.pi
    return cosine


def convolutions(library, case, channels=64, outputs=1):
    """A network of two convolutions, as the library makes it."""
    if library == "ntkbook":
        import ntkbook as ntk

        conv = ntk.Conv(channels, (3, 3), w_std=W_STD, b_std=B_STD)
        readout = ntk.GlobalAveragePool() if case == "pool" else ntk.Flatten()
        last = ntk.Dense(outputs, W_STD, B_STD)
        return ntk.Serial(conv, ntk.Relu(), conv, ntk.Relu(), readout, last)
    stax = neural_tangents().stax
    conv = stax.Conv(channels, (3, 3), padding="SAME", W_std=W_STD, b_std=B_STD)
    readout = stax.GlobalAvgPool() if case == "pool" else stax.Flatten()
    last = stax.Dense(outputs, W_STD, B_STD)
    return stax.serial(conv, stax.Relu(), conv, stax.Relu(), readout, last)


def images(library, case):
    """Images to the matrices of both kernels of two convolutions of infinitely many channels."""
    import jax

    net = convolutions(library, case)
    if library == "ntkbook":
        return lambda x: jax.tree.leaves(net.kernel(x))
    return jax.jit(lambda x: tuple(net[2](x, None, ("nngp", "ntk"))))


def convolutional(library, outputs):
    """Images to the tangent kernel, summed over outputs, of finite convolutions."""
    import jax

    net = convolutions(library, "flatten", outputs=outputs)
    if library == "ntkbook":
        import ntkbook as ntk

        params = net.init(jax.random.key(0), IMAGE)
        return lambda x: ntk.empirical_ntk(net.apply, params, x, outputs="trace")
    nt = neural_tangents()
    _, params = net[0](jax.random.PRNGKey(0), (1, *IMAGE))
    # The best of its three methods here, as measured.
    method = nt.NtkImplementation.STRUCTURED_DERIVATIVES
    kernel = nt.empirical_ntk_fn(net[1], trace_axes=(-1,), vmap_axes=0, implementation=method)
    compiled = jax.jit(lambda x, params: kernel(x, None, params) * outputs)
    return lambda x: compiled(x, params)


def empirical(library, outputs):
    """x (n, 64) to the tangent kernel, summed over outputs, of a network at random parameters."""
    import jax
    import jax.numpy as jnp

    if library == "ntkbook":
        import ntkbook as ntk

        dense, last = ntk.Dense(512, W_STD, B_STD), ntk.Dense(outputs, W_STD, B_STD)
        net = ntk.Serial(*(dense, ntk.Relu()) * 3, last)
        params = net.init(jax.random.key(0), (64,))
        return lambda x: ntk.empirical_ntk(net.apply, params, x, outputs="trace")
    if library == "neural-tangents":
        nt = neural_tangents()
        dense = nt.stax.Dense(512, W_STD, B_STD)
        last = nt.stax.Dense(outputs, W_STD, B_STD)
        init, apply, _ = nt.stax.serial(*(dense, nt.stax.Relu()) * 3, last)
        _, params = init(jax.random.PRNGKey(0), (1, 64))
        structured = nt.NtkImplementation.STRUCTURED_DERIVATIVES
        kernel = nt.empirical_ntk_fn(
            apply, trace_axes=(-1,), vmap_axes=0, implementation=structured
        )
        compiled = jax.jit(lambda x, params: kernel(x, None, params) * outputs)
        return lambda x: compiled(x, params)

    def grams(x):
        widths = 64, 512, 512, 512
        signals = [jnp.tile(x, (1, width // 64)) for width in widths]
        back = [jnp.tile(x, (1, 8 * outputs))] * 3
        return sum(s @ s.T for s in signals) + sum(b @ b.T for b in back)

    return jax.jit(grams)


def measure(function, x, seconds=1.0):
    """Median wall and processor time of a call, after one that compiles."""
    import jax

    def call():
        wall, processor = time.perf_counter(), time.process_time()
        jax.block_until_ready(function(x))
        return time.perf_counter() - wall, time.process_time() - processor

    compiled = call()[0]
    begun, runs = time.perf_counter(), []
    while len(runs) < 3 or (time.perf_counter() - begun < seconds and len(runs) < 50):
        runs.append(call())
    wall, processor = map(statistics.median, zip(*runs, strict=True))
    return {"first": compiled, "wall": wall, "processor": processor}


def main(library, case, dtype):
    import jax
    import numpy as np

    jax.config.update("jax_enable_x64", dtype == "float64")
    builders = {"empirical": empirical, "convolutional": convolutional}
    name, _, outputs = case.partition("-")
    build = builders.get(name, images if case in ("pool", "flatten") else infinite)
    function = build(library, int(outputs) if outputs else case)
    shape = {infinite: (784,), empirical: (64,)}.get(build, IMAGE)
    rng = np.random.default_rng(0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for n in SIZES[case]:
        x = rng.standard_normal((n, *shape)).astype(dtype)
        times = measure(function, x if library == "scikit-ntk" else jax.numpy.asarray(x))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        print(json.dumps({"n": n, "jax": jax.__version__, "peak_kib": peak} | times), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
