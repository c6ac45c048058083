"""Layers with three faces: `init` (finite parameters), `apply` (finite network), `kernel` (limit).

A layer is a small frozen object without state: it can be compared, hashed and given to `jit` as
a static argument.  A network is a layer too, made of others by `Serial` and `Residual`; the
nonlinearities are in `activations`.  Inputs are arrays (n, d), one example a row.
"""

import math
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp

from ntkbook import kernels
from ntkbook._validate import (
    as_floating,
    is_traced,
    require_choice,
    require_count,
    require_finite,
    require_nonnegative,
    require_positive,
    require_shape,
)


class Layer:
    """What every layer can do.  The defaults are those of a layer without parameters."""

    def init(self, key, input_shape, dtype=None):
        """Random parameters for inputs of shape (n, *input_shape), that is (d,).

        `dtype` is JAX's default float when it is not given.  Raises ValueError for a shape that
        is not (d,), and for branches of a Residual that change the width.
        """
        (features,) = _features(input_shape)
        dtype = jnp.dtype(jnp.result_type(float) if dtype is None else dtype)
        if not jnp.issubdtype(dtype, jnp.floating):
            raise TypeError(f"dtype must be a real floating type, got {dtype}")
        self.width_after(features)
        return self._init(key, features, dtype)

    def apply(self, params, x):
        """The finite layer: (n, d) to (n, width)."""
        raise NotImplementedError

    def kernel(self, x1, x2=None, *, hyperparameters=None, exact=False):
        """The infinite-width kernels between x1 (n1, d) and x2 (n2, d), or x1 and itself.

        Returns a `Kernel` whose `nngp` and `ntk` are (n1, n2), per output.  The widths of the
        hidden layers don't matter in the NTK parametrization; in the standard parametrization,
        where the tangent kernel grows with width, they do: see `Dense`.  `hyperparameters`, in
        the form of the method of that name, replaces the network's own and may be differentiated.

        The layers lose nothing between nearly parallel inputs; what is lost is lost in the Gram
        matrix of the inputs, whose rounding, ε sqrt(d) or so, changes an angle θ by ε sqrt(d)/θ.
        `exact` takes differences of the inputs instead, at n1 n2 d further operations; inputs
        of up to 4 features and pairs closer than 1 - cos θ = ε^(3/8) get them anyway.

        On a CPU, outside of `jit`, matrices are computed in tiles of a few sizes: another number
        of inputs that fits tiles already compiled for needs no compilation.  With x2 None they
        are symmetric to the last bit.

        Raises TypeError for inputs that are not real, and ValueError for other shapes, for NaN
        or infinity, for a nonlinearity whose input is not Gaussian (one that no Dense layer
        precedes), and for a Residual branch that doesn't end in a Dense layer.
        """
        x1 = _inputs("x1", x1)
        x2 = x2 if x2 is None else require_shape("x2", _inputs("x2", x2), (None, x1.shape[1]))
        if x2 is not None:
            x1, x2 = (x.astype(jnp.result_type(x1, x2)) for x in (x1, x2))
        own = self._scales(hyperparameters)
        exact = bool(exact) or x1.shape[1] <= _FEW_FEATURES
        if is_traced(x1, x2, *jax.tree.leaves(own)) or jax.default_backend() != "cpu":
            ends = kernels.inputs(x1), kernels.inputs(x1 if x2 is None else x2)
            identical = jnp.eye(len(x1), dtype=bool) if x2 is None else False
            return _stepwise(self, _start(*ends, exact, identical), own)
        large = max(len(x1), 0 if x2 is None else len(x2)) > kernels.SIDES[-1]
        through = _fused if large and self.depth <= _FUSED_DEPTH else _stepwise

        def compute(inputs1, inputs2, identical):
            return through(self, _start(inputs1, inputs2, exact, identical), own)

        return kernels.tiled(compute, x1, x2)

    def kernel_diagonal(self, x, *, hyperparameters=None):
        """The `Kernel` of each input (n, d) with itself, both parts (n,), in O(n) operations.

        >>> net = Serial(Dense(512, w_std=2**0.5), Dense(1))
        >>> net.kernel_diagonal(jnp.array([[1.0, 0.0], [2.0, 2.0]])).ntk.round(4).tolist()
        [2.0, 16.0]
        """
        own = self._scales(hyperparameters)
        signal = self.propagate(kernels.paired_signal(_inputs("x", x)), own)
        return kernels.kernel_of(signal)

    def hyperparameters(self):
        """The scales of the layer, a tree of numbers: {"w_std", "b_std"} for Dense.

        >>> net = Serial(Dense(8, w_std=2.0), Dense(1, b_std=0.5))
        >>> net.hyperparameters()
        ({'w_std': 2.0, 'b_std': 0.0}, {'w_std': 1.0, 'b_std': 0.5})
        >>> slope = jax.grad(lambda h: net.kernel(jnp.ones((1, 3)), hyperparameters=h).nngp[0, 0])
        >>> [float(g) for g in jax.tree.leaves(slope(net.hyperparameters()))]
        [0.0, 4.0, 1.0, 8.0]
        """
        return ()

    def _scales(self, hyperparameters):
        own = self.hyperparameters()
        if hyperparameters is None:
            return own
        forms: list = [jax.tree.structure(tree) for tree in (hyperparameters, own)]
        if forms[0] != forms[1]:
            raise ValueError(f"hyperparameters must have the form of {own}, got {hyperparameters}")
        return hyperparameters

    @property
    def depth(self):
        """The number of layers that hold no others."""
        return 1

    def width_after(self, features):
        """The width of the output for inputs of width `features`."""
        return features

    def propagate(self, signal, hyperparameters):
        """The `Signal` after this layer, from the `Signal` before it."""
        raise NotImplementedError

    def _init(self, key, features, dtype):
        return ()


# Up to this many features, differences of all pairs cost no more than the layers do.
_FEW_FEATURES = 4
# For matrices of several tiles, a network of up to this many layers is one program.  Otherwise each
# layer is a program, which equal layers of all networks share.
_FUSED_DEPTH = 24


def _stepwise(net, signal, hyperparameters):
    return _end(net.propagate(signal, hyperparameters))


_fused = jax.jit(_stepwise, static_argnames="net")
_start = jax.jit(kernels.input_signal, static_argnames="exact")
_end = jax.jit(kernels.kernel_of)


def _inputs(name, x):
    return require_finite(name, require_shape(name, as_floating(name, x), (None, None)))


def _features(input_shape):
    shape = tuple(input_shape)
    if len(shape) != 1:
        raise ValueError(f"input_shape must be (d,), the shape of one example, got {shape}")
    return (require_count("input_shape[0]", shape[0]),)


@dataclass(frozen=True)
class Dense(Layer):
    """A fully connected layer, w_std/sqrt(d) x W + b_std b.

    In the NTK parametrization W and b are standard normal and the scales stay outside (Jacot et
    al. 2018).  In the standard parametrization they are drawn with standard deviations
    w_std/sqrt(d) and b_std and used as they are, x W + b: the same function at initialisation,
    other gradients.  Its tangent kernel grows with width and has no limit; `kernel` then gives
    the leading order at the widths stated, with d K for the gradients of the weights and 1 for
    those of the biases, as neural-tangents does.

    Parameters are {"w": (d, width), "b": (width,)}; "b" is absent when b_std is zero.  Raises
    ValueError for a width below 1, w_std <= 0, b_std < 0 or another parametrization.

    >>> layer = Dense(3, w_std=2.0, b_std=0.1)
    >>> params = layer.init(jax.random.key(0), (5,))
    >>> {name: leaf.shape for name, leaf in params.items()}
    {'w': (5, 3), 'b': (3,)}
    >>> layer.apply(params, jnp.ones((7, 5))).shape
    (7, 3)
    >>> layer.kernel(jnp.ones((1, 5))).ntk.round(2).tolist()
    [[4.01]]
    """

    width: int
    w_std: float = 1.0
    b_std: float = 0.0
    parametrization: str = "ntk"

    def __post_init__(self):
        # Plain numbers, since NumPy scalars would turn float32 parameters into float64.
        object.__setattr__(self, "width", require_count("width", self.width))
        object.__setattr__(self, "w_std", float(require_positive("w_std", self.w_std)))
        object.__setattr__(self, "b_std", float(require_nonnegative("b_std", self.b_std)))
        require_choice("parametrization", self.parametrization, ("ntk", "standard"))

    def scales(self, features):
        """The factors of W and b in the forward pass for inputs of width `features`."""
        if self.parametrization == "standard":
            return 1.0, float(self.b_std > 0)
        return self.w_std / math.sqrt(features), self.b_std

    def apply(self, params, x):
        w = params["w"]
        require_shape("x", x, (None, w.shape[0]))
        w_scale, b_scale = self.scales(w.shape[0])
        z = w_scale * (x @ w)
        return z + b_scale * params["b"] if self.b_std else z

    def hyperparameters(self):
        return {"w_std": self.w_std, "b_std": self.b_std}

    @partial(jax.jit, static_argnums=0)
    def propagate(self, signal, hyperparameters):
        w_std, b_std = (
            jnp.asarray(hyperparameters[name], signal.ntk.dtype) for name in ("w_std", "b_std")
        )
        standard = self.parametrization == "standard"
        return kernels.through_dense(
            signal,
            width=self.width,
            weight_variance=w_std**2,
            bias_variance=b_std**2,
            weight_gain=signal.features if standard else w_std**2,
            bias_gain=float(self.b_std > 0) if standard else b_std**2,
        )

    def width_after(self, features):
        return self.width

    def _init(self, key, features, dtype):
        w_key, b_key = jax.random.split(key)
        standard = self.parametrization == "standard"
        w_std, b_std = (self.w_std / math.sqrt(features), self.b_std) if standard else (1, 1)
        params = {"w": w_std * jax.random.normal(w_key, (features, self.width), dtype)}
        if self.b_std:
            params["b"] = b_std * jax.random.normal(b_key, (self.width,), dtype)
        return params


@dataclass(frozen=True, init=False)
class _Container(Layer):
    layers: tuple[Layer, ...]

    def __init__(self, *layers):
        for position, layer in enumerate(layers):
            if not isinstance(layer, Layer):
                raise TypeError(
                    f"layers[{position}] must be a layer, such as Dense(64), "
                    f"got {type(layer).__name__}"
                )
        object.__setattr__(self, "layers", layers)

    def __repr__(self):
        return f"{type(self).__name__}({', '.join(map(repr, self.layers))})"

    def pairs(self, params):
        """Each layer with its parameters; ValueError when `params` has another length."""
        if len(params) != len(self.layers):
            raise ValueError(
                f"params must have one entry for each of the {len(self.layers)} layers, "
                f"got {len(params)}"
            )
        return zip(self.layers, params, strict=True)

    def apply(self, params, x):
        for layer, layer_params in self.pairs(params):
            x = layer.apply(layer_params, x)
        return x

    def hyperparameters(self):
        return tuple(layer.hyperparameters() for layer in self.layers)

    @property
    def depth(self):
        return sum(layer.depth for layer in self.layers)

    def propagate(self, signal, hyperparameters):
        for layer, scales in zip(self.layers, hyperparameters, strict=True):
            signal = layer.propagate(signal, scales)
        return signal

    def width_after(self, features):
        for layer in self.layers:
            features = layer.width_after(features)
        return features

    def _init(self, key, features, dtype):
        params = []
        keys = jax.random.split(key, len(self.layers))
        for layer_key, layer in zip(keys, self.layers, strict=True):
            params.append(layer._init(layer_key, features, dtype))
            features = layer.width_after(features)
        return tuple(params)


@dataclass(frozen=True, init=False, repr=False)
class Serial(_Container):
    """Layers one after the other; its parameters are the tuple of theirs.

    >>> from ntkbook import Erf
    >>> net = Serial(Dense(512, w_std=1.5, b_std=0.05), Erf(), Dense(1, w_std=1.5, b_std=0.05))
    >>> x = jnp.array([[1.0, 0.0], [0.0, 1.0]])
    >>> params = net.init(jax.random.key(0), x.shape[1:])
    >>> net.apply(params, x).shape
    (2, 1)
    >>> net.kernel(x).ntk.round(3).tolist()
    [[2.475, 0.007], [0.007, 2.475]]
    """


@dataclass(frozen=True, init=False, repr=False)
class Residual(_Container):
    """x plus the layers applied one after the other to x, which must keep the width.

    Its kernel asks for a branch that ends in a Dense layer, whose independent weights make the
    two summands uncorrelated.

    >>> from ntkbook import Relu
    >>> net = Serial(Dense(64), Residual(Relu(), Dense(64, w_std=0.5)), Dense(1))
    >>> net.kernel(jnp.ones((1, 3))).nngp.round(12).tolist()   # 1 + 0.25 * 1/2
    [[1.125]]
    """

    def apply(self, params, x):
        branch = super().apply(params, x)
        return x + require_shape("the branch of a Residual", branch, jnp.shape(x))

    def propagate(self, signal, hyperparameters):
        if not _ends_in_dense(self):
            raise ValueError(
                f"kernel expects the branch of a Residual to end in a Dense layer, got {self}"
            )
        self.width_after(signal.features)
        return kernels.add_branch(signal, super().propagate(signal, hyperparameters))

    def width_after(self, features):
        width = super().width_after(features)
        if width != features:
            raise ValueError(
                f"the branch of a Residual must keep the width, got {features} in and {width} out"
            )
        return width


def _ends_in_dense(container):
    last = container.layers[-1] if container.layers else None
    return isinstance(last, Dense) or (isinstance(last, Serial) and _ends_in_dense(last))
