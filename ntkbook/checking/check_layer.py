"""Does a layer's infinite-width kernel describe its finite networks?  For whoever writes one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import prod

import jax
import jax.numpy as jnp
import numpy as np

from ntkbook._base.arguments import require_count, require_key
from ntkbook._base.hints import not_a_layer
from ntkbook._base.types import Array, Float, PRNGKeyArray
from ntkbook.architectures.convolution import Conv, Flatten
from ntkbook.architectures.pooling import GlobalAveragePool
from ntkbook.architectures.recurrent import Recurrent
from ntkbook.checking.sampled_layers import count, power_of_two, sampled_kernels, trial_inputs
from ntkbook.networks.activations import Erf
from ntkbook.networks.containers import Serial, through_layer
from ntkbook.networks.dense import Dense
from ntkbook.networks.layer import Layer
from ntkbook.signals.images import image_signal, own_signal
from ntkbook.signals.inputs import inputs
from ntkbook.signals.signal import Kernel, Signal, kernel_of

# With some seventy entries compared at a time, chance alone passes five standard errors once in
# twenty thousand checks.
_ERRORS = 5.0

# Allowance for finite width: this times the depth over the width, a share of
# sqrt(K(x, x) K(x', x')).  Measured at width 32, with Erf after
# them: up to 0.3 for layers of ReLU and erf, 1.3 for a squared ReLU.
_WIDTH = 2.0

# Width of the hidden layers around the one that is checked, where it does not ask for its own.
_FEATURES = 256

# Pixels of the images that a layer is tried on, if it knows any: a sequence, two axes or three,
# what a larger window asks for, and graphs of so many nodes.
_SPACES = ((5,), (4, 4), (3, 3, 3), (8, 8), *((length,) for length in range(2, 65)))

# Outputs and parameters drawn in all: the first are what precision costs, the second time.
_OUTPUTS, _PARAMETERS = 2**17, 2**24


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

    1. `init` gives real floating arrays of the dtype asked for; `apply` takes them, with a key as
       well if the layer drops, keeps the dtype, gives (n, width) with the width that `width_after`
       says, and treats each row by itself.  It must be traceable by JAX and the layer hashable.
    2. `propagate` gives a `Signal` of that width, and the same diagonal by itself
       (`kernel_diagonal`) as within a matrix.
    3. Both kernels of Dense(features), layer are the averages over sampled networks: products of
       outputs for nngp, of gradients for ntk, on inputs of different length, nearly parallel,
       parallel and antipodal.
    4. If `propagate` says that its outputs are Gaussian, the kernels with Erf after it are, too.

    The Dense before the layer has w_std = 1 and no bias, so that the entries that arrive have
    variances from 0.3 to 1.  Before a layer that knows pixels it is a Conv of one pixel, on
    sequences of 5 steps, images of 4 × 4 pixels or what else `shape_after` takes, and what has
    pixels left is compared through Flatten() and through GlobalAveragePool(), which sees all pairs
    of them.

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
        arriving = _arriving(layer, features)
        leaving = _check_finite(layer, arriving, key)
        first, x = _first(arriving), trial_inputs(arriving[:-1])
        # The last dense layer's entries are outputs: averaged over, not summed in a next layer.
        widths = [arriving[-1], *_inner_widths(layer)]
        least = min(widths[:-1] or widths)
        if samples is None:
            most = min(_OUTPUTS // prod(leaving), _PARAMETERS // count(Serial(first, layer), x))
            samples = power_of_two(min(max(most, 64), 8192))
        ends: list = [[Flatten()], [GlobalAveragePool()]] if len(leaving) > 1 else [[]]
        results = []
        for end in ends:
            for more in ([], [Erf()]):
                net = Serial(first, layer, *more, *end)
                limit, gaussian = _check_signal(net, leaving[-1], x)
                results.append(_compare(net, limit, least, samples, key, x))
                if not gaussian:
                    break
    nngp, ntk, resolution = map(max, zip(*results, strict=True))
    return LayerReport(layer, nngp, ntk, resolution, least, samples)


def _inner_widths(layer: Layer) -> Iterator[int]:
    names = ("key_width", "value_width", "width")
    yield from (getattr(layer, name) for name in names if hasattr(layer, name))
    if isinstance(layer, Recurrent):  # a state is summed in the next one
        yield layer.width
    for inner in getattr(layer, "layers", ()):
        yield from _inner_widths(inner)


def _first(arriving: tuple[int, ...]) -> Layer:
    """The layer that makes Gaussian entries of this shape."""
    *space, features = arriving
    return Conv(features, (1,) * len(space)) if space else Dense(features)


def _arriving(layer: Layer, features: int | None) -> tuple[int, ...]:
    """The shape to feed in, (*space, width): the first that `shape_after` accepts."""
    candidates = [_FEATURES, *_inner_widths(layer)]
    if features is not None:
        candidates = [require_count("features", features)]
    spaces = _SPACES if layer.spatial else ((),)
    for shape in ((*space, candidate) for space in spaces for candidate in candidates):
        try:
            layer.shape_after(shape)
        except ValueError as error:
            refused = error
        else:
            return shape
    face, pixels = "width_after", ""
    if layer.spatial:
        face, pixels = "shape_after", f" and pixels such as {_SPACES[0]} or {_SPACES[1]}"
    raise LayerError(
        f"{face} of {layer!r} refuses inputs of width {candidates}{pixels}; "
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


def _check_finite(layer: Layer, arriving: tuple[int, ...], key: PRNGKeyArray) -> tuple[int, ...]:
    """The shape of the finite layer's outputs, all that is told without a limit being right."""
    try:
        hash(layer)
    except TypeError as error:
        raise LayerError(
            f"{type(layer).__name__} must be hashable, to be a static argument of jit: make it a "
            f"dataclass(frozen=True) with hashable fields; {error}"
        ) from error
    said = layer.shape_after(arriving)
    x64 = jax.random.normal(key, (5, *arriving), jnp.float64)
    for dtype in (jnp.float32, jnp.float64):
        name, x = jnp.dtype(dtype).name, x64.astype(dtype)
        params = _call(layer, "init", f"for inputs {arriving}", layer.init, key, arriving, dtype)
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
        _check_outputs(layer, said, "apply", x, y)
        if layer.drops:
            dropped = _call(layer, "apply", "with a key", layer.apply, params, x, key)
            _check_outputs(layer, said, "apply with a key", x, dropped)
    rows = jnp.concatenate([layer.apply(params, row[None]) for row in x])
    # In float64, the last of the two, another summation order changes the twelfth digit or so.
    if not np.allclose(rows, y, rtol=0, atol=1e-6 * float(jnp.abs(y).max())):
        raise LayerError(
            f"apply of {layer!r} must treat each row by itself, got other outputs for a row alone "
            "than beside others: kernels of the network cannot exist"
        )
    return said


def _check_outputs(layer: Layer, said: tuple[int, ...], face: str, x: Array, y: Array) -> None:
    """LayerError unless outputs are finite, of x's dtype and of the shape that the layer said."""
    shape, got = getattr(y, "shape", None), getattr(y, "dtype", type(y).__name__)
    form = "(n, *space, channels)" if len(said) > 1 else "(n, width)"
    if shape is None or len(shape) != 1 + len(said) or shape[0] != len(x):
        raise LayerError(
            f"{face} of {layer!r} must map inputs (n, d) to outputs {form}, "
            f"got {shape or got} from {x.shape}"
        )
    if shape[1:] != said:
        after, *values = "shape_after", x.shape[1:], said, shape[1:]
        if not layer.spatial:
            after, *values = "width_after", *(value[-1] for value in values)
        raise LayerError(
            f"{after} contradicts {face} in {layer!r}: after inputs of width {values[0]} "
            f"it says {values[1]}, and apply gives {values[2]}"
        )
    if got != x.dtype:
        raise LayerError(f"{face} of {layer!r} must keep the dtype {x.dtype}, got {got}")
    bad = jnp.sum(~jnp.isfinite(y))
    if bad:
        raise LayerError(
            f"{face} of {layer!r} must be finite on normal inputs, got {bad} NaN or infinite "
            f"of {y.size} entries"
        )


def _check_signal(net: Serial, width: int, x: Float[Array, "n *d"]) -> tuple[Kernel, bool]:
    """The limit of a network of the layer, and whether it says that its entries are Gaussian.

    The form of what its `propagate` makes of the test inputs is checked.
    """
    start, layer, end = Serial(net.layers[0]), net.layers[1], Serial(*net.layers[2:])
    pairs, same = net.mixes_pixels, jnp.eye(len(x), dtype=bool)
    found: list[Signal] = []

    def propagate(signal: Signal) -> Signal:
        signal = start.propagate(signal, start.hyperparameters())
        given = layer, signal, layer.hyperparameters()
        signal = _call(layer, "propagate", "after a Dense layer", through_layer, *given)
        if not isinstance(signal, Signal):
            raise LayerError(
                f"propagate of {layer!r} must give a Signal, got {type(signal).__name__}"
            )
        found.append(signal)
        return end.propagate(signal, end.hyperparameters())

    of_one: dict = {} if net.drops else {"identical": None}
    own = propagate(replace(own_signal(x, pairs), **of_one))
    ends = inputs(x), inputs(x)
    beside = replace(image_signal(*ends, True, same, pairs), identical=same)
    signal = propagate(replace(beside, own1=own.own1, own2=own.own1, **of_one))
    if found[0].features != width:
        raise LayerError(
            f"propagate contradicts apply in {layer!r}: its Signal has features "
            f"{np.asarray(found[0].features)}, and apply gives outputs of width {width}"
        )
    whole, alone = kernel_of(signal), kernel_of(own)
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
    return whole, found[0].gaussian


def _compare(
    net: Serial,
    limit: Kernel,
    width: int,
    samples: int,
    key: PRNGKeyArray,
    x: Float[Array, "n *d"],
) -> tuple[float, float, float]:
    """Largest deviations of nngp and ntk in standard errors, and the resolution of both."""
    _, layer, *after = net.layers
    drawn = _call(layer, "apply", f"in {net!r}", sampled_kernels, net, samples, key, x)
    found = []
    for name in ("nngp", "ntk"):
        theory = np.asarray(getattr(limit, name))
        mean, error = (np.asarray(getattr(k, name)) for k in drawn)
        size = np.sqrt(np.outer(np.diag(theory), np.diag(theory)))
        # Rounding of float32 is added, so that a constant function, without any spread, passes.
        spread = error + 1e-6 * size + np.finfo(np.float32).tiny
        # The first Dense adds no error: given the inputs, its entries are Gaussian at any width.
        allowance = _WIDTH * (layer.depth + (Erf() in after)) / width * size
        off = np.maximum(np.abs(mean - theory) - allowance, 0) / spread
        worst = np.unravel_index(np.argmax(off), off.shape)
        if not off[worst] <= _ERRORS:
            what = _contradiction(layer, Erf() in after, name)
            pair = [str(np.round(x[i], 2).tolist()) if x.ndim == 2 else str(i) for i in worst]
            raise LayerError(
                f"{what}: between inputs {pair[0]} and {pair[1]} {name} is "
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
