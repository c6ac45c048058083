"""Does a layer's infinite-width kernel describe its finite networks?  For whoever writes one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from math import gcd

import jax
import jax.numpy as jnp
import numpy as np

from ntkbook._base.arguments import require_count, require_key
from ntkbook._base.arrays import gram
from ntkbook._base.hints import not_a_layer
from ntkbook._base.types import Array, Float, PRNGKeyArray
from ntkbook.networks import signal as signals
from ntkbook.networks.activations import Erf
from ntkbook.networks.containers import Serial
from ntkbook.networks.dense import Dense
from ntkbook.networks.layer import Layer
from ntkbook.networks.signal import Kernel, Signal

# With some seventy entries compared at a time, chance alone passes five standard errors once in
# twenty thousand checks.
_ERRORS = 5.0

# Allowance for finite width: this times the depth over the width, a share of
# sqrt(K(x, x) K(x', x')).  Measured at width 32, with Erf after
# them: up to 0.3 for layers of ReLU and erf, 1.3 for a squared ReLU.
_WIDTH = 2.0

# Width of the hidden layers around the one that is checked, where it does not ask for its own.
_FEATURES = 256

# Outputs and parameters drawn in all: the first are what precision costs, the second time.
_OUTPUTS, _PARAMETERS = 2**17, 2**24

# Entries of all Jacobians held at once.
_ENTRIES = 2**22


class LayerError(AssertionError):
    """Two faces of a layer contradict each other, or one of them is missing."""


@dataclass(frozen=True, repr=False)
class LayerReport:
    """What `check_layer` measured on a layer that passed.

    `nngp` and `ntk` are the largest deviations of the two kernels, in standard errors and after
    the finite-width allowance; up to 5 pass.  `resolution` is the largest share of
    sqrt(K(x, x) K(x', x')) by which an entry might be wrong unnoticed.
    """

    layer: Layer
    nngp: float
    ntk: float
    resolution: float
    width: int
    samples: int

    def __repr__(self) -> str:
        return (
            f"{self.layer!r} agrees with {self.samples} sampled networks of width {self.width}:\n"
            f"largest deviations {self.nngp:.1f} (nngp) and {self.ntk:.1f} (ntk) standard errors "
            f"of 5 allowed; resolves {self.resolution:.1%}"
        )


def check_layer(
    layer: Layer,
    *,
    features: int | None = None,
    samples: int | None = None,
    key: PRNGKeyArray | None = None,
) -> LayerReport:
    """Compare all faces of a layer with one another; a report if they agree, else `LayerError`.

    Meant for a new layer or nonlinearity.  The faces are checked in this order, and the error
    names the first two that part:

    1. `init` gives real floating arrays of the dtype asked for; `apply` takes them, keeps the
       dtype, gives (n, width) with the width that `width_after` says, and treats each row by
       itself.  It must be traceable by JAX and the layer hashable.
    2. `propagate` gives a `Signal` of that width, and the same diagonal by itself
       (`kernel_diagonal`) as within a matrix.
    3. Both kernels of Dense(features), layer are the averages over sampled networks: products of
       outputs for nngp, of gradients for ntk, on inputs of different length, nearly parallel,
       parallel and antipodal.
    4. If `propagate` says that its outputs are Gaussian, the kernels with Erf after it are, too.

    The Dense before the layer has w_std = 1 and no bias, so that the entries that arrive have
    variances from 0.3 to 1.

    **Tolerance**: an entry of the kernel K may miss the average by five standard errors plus a
    finite-width allowance of 2 · depth/width · sqrt(K(x, x) K(x', x')), `depth` being that of the
    layer, Erf included, and `width` the least of all hidden layers.  At the defaults that resolves
    2 to 5 % of sqrt(K(x, x) K(x', x')) for a bounded or piecewise linear nonlinearity: a factor of
    1.05 in its output, 10 % in the kernels, is refused.  Dense layers resolve 5 to 8 %, powers up
    to 16 %, narrow or deep layers less: the report says how much it was.

    **Not seen**: errors below the `resolution` (compare a dual with `quadrature` for digits);
    entries far larger or smaller than these; pairs closer than cos θ = 0.999 that are not
    parallel; correlations between entries, other than through Erf; derivatives of the kernel, and
    `hyperparameters` other than the layer's own; dtypes of half precision.
    Where averages over finite networks diverge, as for exp after exp, there is nothing to compare.

    **Arguments**: `layer`; `features`, the width that arrives at it, 256 or what its branches
    ask for if not given; `samples`, the networks drawn, 64 to 8192 if not given, fewer of wide
    layers; PRNG `key`, `jax.random.key(0)` if not given.

    **Returns**: `LayerReport`.  All is computed in float64 and float32, whatever JAX's setting.

    **Raises**: `LayerError`, an AssertionError; TypeError for what is no `Layer`.

    >>> from ntkbook import Relu
    >>> report = check_layer(Relu())
    >>> report.nngp < 5, report.ntk < 5, report.resolution < 0.05
    (True, True, True)
    """
    if not isinstance(layer, Layer):
        raise TypeError(f"layer must be a Layer, such as Dense(64), got {not_a_layer(layer)}")
    if samples is not None:
        samples = require_count("samples", samples, 2)
    with jax.enable_x64(True):
        key = jax.random.key(0) if key is None else require_key("key", key)
        features = _features(layer, features)
        width = _check_finite(layer, features, key)
        signal = _check_signal(layer, features, width)
        if samples is None:
            parameters = _count(Serial(Dense(features), layer))
            most = min(_OUTPUTS // width, _PARAMETERS // parameters)
            samples = _power_of_two(min(max(most, 64), 8192))
        # The last dense layer's entries are outputs: averaged over, not summed in a next layer.
        widths = [features, *_inner_widths(layer)]
        least = min(widths[:-1] or widths)
        net = Serial(Dense(features), layer)
        results = [_compare(net, signal, least, samples, key)]
        if signal.gaussian:
            signal = Erf().propagate(signal, ())
            results.append(_compare(Serial(*net.layers, Erf()), signal, least, samples, key))
    nngp, ntk, resolution = map(max, zip(*results, strict=True))
    return LayerReport(layer, nngp, ntk, resolution, least, samples)


def _inner_widths(layer: Layer) -> Iterator[int]:
    if isinstance(layer, Dense):
        yield layer.width
    for inner in getattr(layer, "layers", ()):
        yield from _inner_widths(inner)


def _features(layer: Layer, features: int | None) -> int:
    """The width to feed in: what is asked for, else the first that `width_after` accepts."""
    if features is not None:
        candidates = [require_count("features", features)]
    else:
        candidates = [_FEATURES, *_inner_widths(layer)]
    for candidate in candidates:
        try:
            layer.width_after(candidate)
        except ValueError as error:
            refused = error
        else:
            return candidate
    raise LayerError(
        f"width_after of {layer!r} refuses inputs of width {candidates}; "
        f"name another by features=...: {refused}"
    ) from refused


def _call(layer: Layer, face: str, what: str, function: Callable, *arguments: object):
    """function(*arguments), with an error that names the face of the layer that failed."""
    try:
        return function(*arguments)
    except NotImplementedError as error:
        hint = "propagate (a Nonlinearity needs its dual)" if face == "propagate" else face
        raise LayerError(f"{layer!r} lacks {hint}: write it, or inherit it") from error
    except jax.errors.JAXTypeError as error:
        raise LayerError(
            f"{face} of {layer!r} cannot be traced by JAX: use jax.numpy and no Python branches "
            f"on values; {str(error).splitlines()[0]}"
        ) from error
    except Exception as error:
        raise LayerError(
            f"{face} of {layer!r} fails {what}: {type(error).__name__}: {error}"
        ) from error


def _check_finite(layer: Layer, features: int, key: PRNGKeyArray) -> int:
    """The width of the finite layer's outputs, all that can be told without a limit being right."""
    try:
        hash(layer)
    except TypeError as error:
        raise LayerError(
            f"{type(layer).__name__} must be hashable, to be a static argument of jit: make it a "
            f"dataclass(frozen=True) with hashable fields; {error}"
        ) from error
    said = layer.width_after(features)
    x64 = jax.random.normal(key, (5, features), jnp.float64)
    for dtype in (jnp.float32, jnp.float64):
        name, x = jnp.dtype(dtype).name, x64.astype(dtype)
        params = _call(
            layer, "init", f"for inputs ({features},)", layer.init, key, (features,), dtype
        )
        for path, leaf in jax.tree_util.tree_leaves_with_path(params):
            got = getattr(leaf, "dtype", type(leaf).__name__)
            if got != dtype:
                where = jax.tree_util.keystr(path)
                raise LayerError(
                    f"init of {layer!r} must give parameters of the dtype asked for, {name}, "
                    f"got {got} in params{where}"
                )
        y = _call(layer, "apply", "on the parameters of init", layer.apply, params, x)
        _call(layer, "apply", "within jit", jax.eval_shape, layer.apply, params, x)
        shape, got = getattr(y, "shape", None), getattr(y, "dtype", type(y).__name__)
        if shape is None or len(shape) != 2 or shape[0] != 5:
            raise LayerError(
                f"apply of {layer!r} must map inputs (n, d) to outputs (n, width), "
                f"got {shape or got} from (5, {features})"
            )
        if shape[1] != said:
            raise LayerError(
                f"width_after contradicts apply in {layer!r}: after inputs of width {features} "
                f"it says {said}, and apply gives {shape[1]}"
            )
        if got != dtype:
            raise LayerError(f"apply of {layer!r} must keep the dtype {name}, got {got}")
        if not jnp.isfinite(y).all():
            bad = jnp.sum(~jnp.isfinite(y))
            raise LayerError(
                f"apply of {layer!r} must be finite on normal inputs, got {bad} NaN or infinite "
                f"of {y.size} entries"
            )
    rows = jnp.concatenate([layer.apply(params, row[None]) for row in x])
    # In float64, the last of the two, another summation order changes the twelfth digit or so.
    if not np.allclose(rows, y, rtol=0, atol=1e-6 * float(jnp.abs(y).max())):
        raise LayerError(
            f"apply of {layer!r} must treat each row by itself, got other outputs for a row alone "
            "than beside others: kernels of the network cannot exist"
        )
    return said


def _check_signal(layer: Layer, features: int, width: int) -> Signal:
    """What `propagate` makes of the test inputs after a Dense layer, its form checked."""
    first, x = Dense(features), _inputs()
    scales = layer.hyperparameters()

    def propagate(start: Signal) -> Signal:
        before = first.propagate(start, first.hyperparameters())
        return _call(layer, "propagate", "after a Dense layer", layer.propagate, before, scales)

    inputs = signals.inputs(x)
    signal = propagate(signals.input_signal(inputs, inputs, True, jnp.eye(len(x), dtype=bool)))
    if not isinstance(signal, Signal):
        raise LayerError(f"propagate of {layer!r} must give a Signal, got {type(signal).__name__}")
    if signal.features != width:
        raise LayerError(
            f"propagate contradicts apply in {layer!r}: its Signal has features "
            f"{np.asarray(signal.features)}, and apply gives outputs of width {width}"
        )
    whole, alone = signals.kernel_of(signal), signals.kernel_of(propagate(signals.paired_signal(x)))
    for name in ("nngp", "ntk"):
        got, wanted = getattr(alone, name), getattr(whole, name)
        if wanted.shape != (len(x), len(x)) or got.shape != (len(x),):
            raise LayerError(
                f"propagate of {layer!r} must keep the shapes of the Signal, got {name} "
                f"{wanted.shape} from {(len(x), len(x))} and {got.shape} from {(len(x),)}"
            )
        if not (jnp.isfinite(wanted).all() and jnp.isfinite(got).all()):
            raise LayerError(f"propagate of {layer!r} gives {name} that is not finite")
        if not np.allclose(got, jnp.diag(wanted), rtol=1e-6, atol=1e-12):
            raise LayerError(
                f"propagate of {layer!r} contradicts itself: {name} of each input with itself is "
                f"{got}, and on the diagonal of the matrix {jnp.diag(wanted)}"
            )
    return signal


def _inputs() -> Float[Array, "6 3"]:
    """Inputs with squared lengths per feature of 0.3 to 1, in all the relations that matter."""
    a, b, c = np.array([[1.0, 1.2, 0.6], [-0.4, 1.0, -1.1], [1.1, -0.3, 0.5]])
    return jnp.array([a, 0.6 * a, -0.8 * a, a + 0.05 * b, b, c])


def _text(position: np.integer) -> str:
    return str(np.round(_inputs()[position], 2).tolist())


def _power_of_two(number: int) -> int:
    """The largest that is not above `number`."""
    return 1 << (number.bit_length() - 1)


def _count(net: Layer) -> int:
    """The number of parameters of a network of the test inputs."""
    shapes = jax.eval_shape(lambda key: net.init(key, (_inputs().shape[1],)), jax.random.key(0))
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


def _compare(
    net: Serial, signal: Signal, width: int, samples: int, key: PRNGKeyArray
) -> tuple[float, float, float]:
    """Largest deviations of nngp and ntk in standard errors, and the resolution of both."""
    _, layer, *after = net.layers
    limit = signals.kernel_of(signal)
    drawn = _call(layer, "apply", f"in {net!r}", _sample, net, samples, key, _inputs())
    found = []
    for name in ("nngp", "ntk"):
        theory = np.asarray(getattr(limit, name))
        mean, error = (np.asarray(getattr(k, name)) for k in drawn)
        size = np.sqrt(np.outer(np.diag(theory), np.diag(theory)))
        # Rounding of float32 is added, so that a constant function, without any spread, passes.
        spread = error + 1e-6 * size + np.finfo(np.float32).tiny
        # The first Dense adds no error: given the inputs, its entries are Gaussian at any width.
        allowance = _WIDTH * (net.depth - 1) / width * size
        off = np.maximum(np.abs(mean - theory) - allowance, 0) / spread
        worst = np.unravel_index(np.argmax(off), off.shape)
        if not off[worst] <= _ERRORS:
            what = _contradiction(layer, bool(after), name)
            raise LayerError(
                f"{what}: between inputs {_text(worst[0])} and {_text(worst[1])} {name} is "
                f"{theory[worst]:.4g} by propagate and {mean[worst]:.4g} ± {error[worst]:.2g} in "
                f"{samples} networks of width {width}, {_ratio(mean, theory)}; "
                f"allowed are 5 standard errors and {allowance[worst]:.2g} for the finite width"
            )
        alive = size > 0
        share = (_ERRORS * spread + allowance)[alive] / size[alive]
        found.append((float(off[worst]), float(share.max(initial=0))))
    (nngp, sharp), (ntk, blunt) = found
    return nngp, ntk, max(sharp, blunt)


def _contradiction(layer: Layer, through_erf: bool, name: str) -> str:
    if through_erf:
        return (
            f"propagate of {layer!r} says that its outputs are Gaussian of mean zero, and apply "
            "contradicts that, with Erf() after it"
        )
    if name == "nngp":
        return f"propagate contradicts apply in {layer!r}"
    return f"propagate contradicts the gradients of apply in {layer!r}, although nngp agrees"


def _ratio(mean: np.ndarray, theory: np.ndarray) -> str:
    """The ratio of the diagonals: the same for all inputs, it is a forgotten factor."""
    sampled, said = np.diag(mean), np.diag(theory)
    if not (said > 0).all():
        return "propagate giving zero on the diagonal"
    low, high = (sampled / said).min(), (sampled / said).max()
    return f"on the diagonal {low:.3g} to {high:.3g} times as much"


@partial(jax.jit, static_argnums=(0, 1))
def _sample(
    net: Layer, samples: int, key: PRNGKeyArray, x: Float[Array, "n d"]
) -> tuple[Kernel, Kernel]:
    """Mean kernels of sampled networks per output, and their standard errors."""
    x = x.astype(jnp.float32)

    def draw(key: PRNGKeyArray) -> Kernel:
        init_key, sign_key = jax.random.split(key)
        params = net.init(init_key, x.shape[1:], x.dtype)
        y = net.apply(params, x)
        # Gradients of one random combination of all outputs, each with sign ±1, have the trace
        # over outputs as their expected kernel (Hutchinson), at the price of a single output;
        # for a function of each entry, whose outputs share no parameters, it is exact.
        signs = jax.random.rademacher(sign_key, y.shape[1:], y.dtype)
        slope = jax.grad(lambda params, row: net.apply(params, row[None])[0] @ signs)
        slopes = jax.vmap(slope, in_axes=(None, 0))(params, x)
        parts = (leaf.reshape(len(x), -1) for leaf in jax.tree.leaves(slopes))
        ntk = sum((gram(part, part) for part in parts), start=jnp.asarray(0))
        return Kernel(gram(y, y) / y.shape[1], ntk / y.shape[1])

    # A divisor of the number of samples, or the remainder would be compiled as a second program.
    fitting = _power_of_two(max(1, _ENTRIES // (len(x) * _count(net))))
    keys = jax.random.split(key, samples)
    drawn = jax.lax.map(draw, keys, batch_size=gcd(samples, fitting))
    mean = jax.tree.map(lambda k: k.mean(axis=0, dtype=jnp.float64), drawn)
    error = jax.tree.map(lambda k: k.std(axis=0, ddof=1, dtype=jnp.float64) / samples**0.5, drawn)
    return mean, error
