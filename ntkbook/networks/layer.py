"""What every layer has: `init` (finite parameters), `apply` (finite network), `kernel` (limit).

A layer is a small frozen object without state: it can be compared, hashed and given to `jit` as
a static argument.  A network is a layer too, made of others by the containers.  Inputs are arrays
(n, d), one example a row.
"""

import jax
import jax.numpy as jnp

from ntkbook._base.arguments import (
    as_floating,
    is_traced,
    require_count,
    require_finite,
    require_shape,
)
from ntkbook.networks import signal as signals
from ntkbook.networks import tiles


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
            ends = signals.inputs(x1), signals.inputs(x1 if x2 is None else x2)
            identical = jnp.eye(len(x1), dtype=bool) if x2 is None else False
            return _stepwise(self, _start(*ends, exact, identical), own)
        large = max(len(x1), 0 if x2 is None else len(x2)) > tiles.SIDES[-1]
        through = _fused if large and self.depth <= _FUSED_DEPTH else _stepwise

        def compute(inputs1, inputs2, identical):
            return through(self, _start(inputs1, inputs2, exact, identical), own)

        return tiles.tiled(compute, x1, x2)

    def kernel_diagonal(self, x, *, hyperparameters=None):
        """The `Kernel` of each input (n, d) with itself, both parts (n,), in O(n) operations.

        >>> from ntkbook import Dense, Serial
        >>> net = Serial(Dense(512, w_std=2**0.5), Dense(1))
        >>> net.kernel_diagonal(jnp.array([[1.0, 0.0], [2.0, 2.0]])).ntk.round(4).tolist()
        [2.0, 16.0]
        """
        own = self._scales(hyperparameters)
        signal = self.propagate(signals.paired_signal(_inputs("x", x)), own)
        return signals.kernel_of(signal)

    def hyperparameters(self):
        """The scales of the layer, a tree of numbers: {"w_std", "b_std"} for Dense.

        >>> from ntkbook import Dense, Serial
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


_start = jax.jit(signals.input_signal, static_argnames="exact")


_end = jax.jit(signals.kernel_of)


def _inputs(name, x):
    return require_finite(name, require_shape(name, as_floating(name, x), (None, None)))


def _features(input_shape):
    shape = tuple(input_shape)
    if len(shape) != 1:
        raise ValueError(f"input_shape must be (d,), the shape of one example, got {shape}")
    return (require_count("input_shape[0]", shape[0]),)
