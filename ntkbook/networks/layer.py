"""What every layer has: `init` (finite parameters), `apply` (finite network), `kernel` (limit).

A layer is a small frozen object without state: it can be compared, hashed and given to `jit` as
a static argument.  A network is a layer too, made of others by the containers.  Inputs are arrays
(n, d), one example a row; of networks with a layer that is `spatial`, images (n, *space, channels).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from ntkbook._base.arguments import (
    floating_dtype,
    is_traced,
    outlined,
    require_flag,
    require_key,
    require_shape,
)
from ntkbook._base.hints import guided
from ntkbook._base.rows import checked_rows, shape_of
from ntkbook._base.types import Array, ArrayLike, DTypeLike, Float, Num, PRNGKeyArray, PyTree
from ntkbook.networks.probe import is_foreign, probe, require_weights_before_drops
from ntkbook.signals import signal as signals
from ntkbook.signals.between import kernel_between
from ntkbook.signals.images import largest, own_signal
from ntkbook.signals.range import Step, Walk, require_diagonal_in_range, require_in_range
from ntkbook.signals.signal import Kernel, Signal


class Layer:
    """What every layer can do: `init`, `apply`, `kernel`, `kernel_diagonal`, `hyperparameters`.

    A new layer is a frozen dataclass, so that equal layers are equal, hash alike and share a
    compiled program.  It writes `apply` and `propagate`, for the finite and for the infinite
    network.  With parameters it also writes `_init`, with scales that are differentiated
    `hyperparameters`, and `width_after` when the width changes.

    >>> from dataclasses import dataclass, replace
    >>> from ntkbook import Dense, Serial
    >>> @dataclass(frozen=True)
    ... class Scale(Layer):
    ...     factor: float
    ...     def apply(self, params, x):
    ...         return self.factor * x
    ...     def propagate(self, signal, hyperparameters):
    ...         parts = {"var1": signal.var1, "var2": signal.var2, "ntk": signal.ntk}
    ...         return replace(signal, **{k: self.factor**2 * v for k, v in parts.items()})
    >>> Serial(Dense(8), Scale(3.0)).kernel(jnp.ones((1, 2))).ntk.round(12).tolist()
    [[9.0]]
    """

    @guided
    def init(
        self, key: PRNGKeyArray, input_shape: Sequence[int], dtype: DTypeLike | None = None
    ) -> PyTree[Float[Array, "..."]]:
        """Random parameters, for inputs (n, d) or images (n, *space, channels).

        **Arguments**: a PRNG `key`; `input_shape`, (d,) or (*space, channels), the shape of one
        example; `dtype`, JAX's default float if not given.

        **Returns**: a pytree of arrays, independent of one another; () for a layer without any.

        **Raises**: TypeError or ValueError for another key or shape; ValueError for branches of a
        Residual that change the width; TypeError for a dtype that is no float.
        """
        key, shape = require_key("key", key), shape_of(input_shape, self.spatial)
        dtype = floating_dtype("dtype", dtype)
        self.shape_after(shape)
        return self._draw(key, shape, dtype)

    def apply(self, params: PyTree, x: Num[ArrayLike, "n d"]) -> Num[Array, "n k"]:
        """The finite layer.  Every layer writes it: a pure function in JAX, each row on its own.

        **Arguments**: `params`, as made by `init`; inputs `x` (n, d).

        **Returns**: outputs (n, k), k being what `width_after` gives for d.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must define apply(self, params, x), the outputs (n, k) of the "
            "finite layer for inputs (n, d)"
        )

    @guided
    def kernel(
        self,
        x1: Num[ArrayLike, "n1 *d"],
        x2: Num[ArrayLike, "n2 *d"] | None = None,
        *,
        hyperparameters: PyTree | None = None,
        exact: bool = False,
        progress: bool = False,
    ) -> Kernel:
        """The infinite-width kernels between x1 (n1, d) and x2 (n2, d), or x1 and itself.

        **Arguments**: `x1` (n1, d), or images (n1, *space, channels) for a network with a layer
        such as Conv; `x2` (n2, …), x1 itself if not given; `hyperparameters`, in
        the form of the method of that name, which replace the network's own and may be
        differentiated; `exact`, whether to take differences of the inputs for their angles;
        `progress=True` shows a bar over the tiles (needs tqdm).

        **Returns**: `Kernel` whose `nngp` and `ntk` are (n1, n2), per output, in the inputs'
        floating dtype.  The widths of the hidden layers don't matter in the NTK parametrization;
        in the standard parametrization, where the tangent kernel grows with width, they do: see
        `Dense`.  Where pixels are left and were mixed, as by `Aggregate`, they are those of all
        pairs of them, (n1, n2, *space, *space), in one program.

        The layers lose nothing between nearly parallel inputs; what is lost is lost in the Gram
        matrix of the inputs, whose rounding, ε sqrt(d) or so, changes an angle θ by ε sqrt(d)/θ.
        Differences, at n1 n2 d further operations, do not; inputs of up to 4 features and pairs
        closer than 1 - cos θ = ε^(3/8) get them anyway.

        On a CPU, outside of `jit`, matrices are computed in tiles of a few sizes: another number
        of inputs that fits tiles already compiled for needs no compilation, and neither do other
        scales or widths.  With x2 None they are then symmetric to the last bit, elsewhere up to
        rounding.

        **Raises**: TypeError for inputs that are not real; ValueError for other shapes, for NaN or
        infinity, for scales out of range, for a nonlinearity whose input is not Gaussian (one that
        no Dense layer precedes), for a Residual branch that changes the width or doesn't end in a
        Dense layer, for a layer from elsewhere whose `propagate` contradicts its `apply`, and,
        outside of `jit`, for a kernel that leaves the range of the dtype, naming the layer.

        **Source**: Jacot et al. 2018, theorem 1, for the NTK of dense layers.

        >>> from ntkbook import Dense, Relu, Serial
        >>> net = Serial(Dense(512, w_std=2**0.5), Relu(), Dense(1))
        >>> net.kernel(jnp.eye(2)).ntk.round(3).tolist()
        [[1.0, 0.159], [0.159, 1.0]]
        """
        return self._between(x1, x2, hyperparameters, exact, progress)

    @guided
    def kernel_shares(
        self,
        x1: Num[ArrayLike, "n1 *d"],
        x2: Num[ArrayLike, "n2 *d"] | None = None,
        *,
        hyperparameters: PyTree | None = None,
        exact: bool = False,
        progress: bool = False,
    ) -> PyTree[Float[Array, "n1 n2 *pixels"]]:
        """What each array of parameters contributes to the tangent kernel at infinite width.

        **Arguments**: as for `kernel`.

        **Returns**: a pytree of the form of the parameters, such as ({"w": …, "b": …}, (), …),
        with a matrix (n1, n2) for each array; their sum is `kernel(…).ntk`, up to rounding.
        `empirical_shares` gives the same of a finite network.

        **Raises**: as `kernel`; TypeError for a layer from elsewhere that has parameters.

        **Source**: Jacot et al. 2018, theorem 1, whose sum over layers these are the terms of.

        >>> from ntkbook import Dense, Relu, Serial
        >>> net = Serial(Dense(512, w_std=2**0.5), Relu(), Dense(1, b_std=0.5))
        >>> shares = net.kernel_shares(jnp.eye(2))
        >>> shares[0]["w"].round(3).tolist()      # σ_w² E[relu'(u) relu'(v)] of the first layer
        [[0.5, 0.0], [0.0, 0.5]]
        >>> shares[2]["b"].tolist()
        [[0.25, 0.25], [0.25, 0.25]]
        """
        names = self._parameter_names()
        if not jax.tree.leaves(names):
            return names
        ntk = self._between(x1, x2, hyperparameters, exact, progress, names).ntk
        return jax.tree.unflatten(jax.tree.structure(names), list(ntk))

    def _between(
        self,
        x1: object,
        x2: object,
        hyperparameters: PyTree | None,
        exact: bool,
        progress: bool,
        parts: PyTree | None = None,
    ) -> Kernel:
        """The `Kernel` of `kernel`; with `parts`, its ntk is the stack of shares (S, n1, n2)."""
        require_flag("progress", progress)
        x1 = checked_rows("x1", x1, self.spatial)
        if x2 is not None:
            advice = "; images of both sets must be of one size, sequences of one length"
            advice, x2 = advice if self.spatial else "", checked_rows("x2", x2, self.spatial)
            x2 = require_shape("x2", x2, (None, *x1.shape[1:]), advice)
            x1, x2 = (x.astype(jnp.result_type(x1, x2)) for x in (x1, x2))
        scales = self._scales(hyperparameters)
        whole = self._check(x1.shape[1:])
        names = [] if parts is None else jax.tree.leaves(parts)
        gated = scales
        if parts is not None:
            gates = list(jnp.eye(len(names), dtype=x1.dtype))
            gated = self._with_gates(scales, jax.tree.unflatten(jax.tree.structure(parts), gates))
        form = self._form(self._needs_widths)
        given = len(names), require_flag("exact", exact), progress, whole
        kernel, finite = kernel_between(self, form, scales, gated, x1, x2, *given)
        if not is_traced(x1, x2, *jax.tree.leaves(scales)):
            require_in_range(self._walk(hyperparameters), largest(kernel, 2), finite, x1, x2)
        return kernel

    def _walk(self, hyperparameters: PyTree | None) -> Walk:
        scales = self._scales(hyperparameters)

        def walk(x: Array) -> Iterator[Step]:
            start = own_signal(x, self.mixes_pixels)
            yield Step("the inputs", start)
            yield from self.steps("net", start, scales)

        return walk

    def _check(self, shape: tuple[int, ...]) -> bool:
        """Whether pixels are left; ValueError unless widths fit and layers from elsewhere agree."""
        after = self.shape_after(shape)
        if len(after) > 1 and not self.mixes_pixels:
            raise ValueError(
                f"kernel expects outputs without pixels, got {after} for each image of shape "
                f"{shape}; let Flatten() or GlobalAveragePool() come before the last Dense layer"
            )
        for layer, arriving in self._foreign(shape):
            probe(layer, arriving)
        require_weights_before_drops(self)
        return len(after) > 1

    @guided
    def kernel_diagonal(
        self, x: Num[ArrayLike, "n *d"], *, hyperparameters: PyTree | None = None
    ) -> Kernel:
        """The `Kernel` of each input with itself, in O(n) operations.

        **Arguments**: `x` (n, d), or images; `hyperparameters`, as for `kernel`.

        **Returns**: `Kernel` whose `nngp` and `ntk` are (n,), or (n, *space, *space).

        **Raises**: as `kernel`.

        >>> from ntkbook import Dense, Serial
        >>> net = Serial(Dense(512, w_std=2**0.5), Dense(1))
        >>> net.kernel_diagonal(jnp.array([[1.0, 0.0], [2.0, 2.0]])).ntk.round(4).tolist()
        [2.0, 16.0]
        """
        x, own = checked_rows("x", x, self.spatial), self._scales(hyperparameters)
        self._check(x.shape[1:])
        kernel = signals.kernel_of(self.propagate(own_signal(x, self.mixes_pixels), own))
        if not is_traced(kernel.nngp, kernel.ntk):
            require_diagonal_in_range(self._walk(hyperparameters), largest(kernel, 1), x)
        return kernel

    def hyperparameters(self) -> PyTree[float]:
        """The scales of the layer, which `kernel` takes back and may be differentiated in.

        **Returns**: a pytree of numbers: {"w_std", "b_std"} for Dense, () for a layer without.

        >>> from ntkbook import Dense, Serial
        >>> net = Serial(Dense(8, w_std=2.0), Dense(1, b_std=0.5))
        >>> net.hyperparameters()
        ({'w_std': 2.0, 'b_std': 0.0}, {'w_std': 1.0, 'b_std': 0.5})
        >>> slope = jax.grad(lambda h: net.kernel(jnp.ones((1, 3)), hyperparameters=h).nngp[0, 0])
        >>> [float(g) for g in jax.tree.leaves(slope(net.hyperparameters()))]
        [0.0, 4.0, 1.0, 8.0]
        """
        return ()

    def _scales(self, hyperparameters: PyTree | None) -> PyTree:
        own = self.hyperparameters()
        if hyperparameters is None:
            return own
        forms: list = [jax.tree.structure(tree) for tree in (hyperparameters, own)]
        if forms[0] != forms[1]:
            raise ValueError(
                f"hyperparameters must have the form of {own}, got {outlined(hyperparameters)}"
            )
        return self._checked_scales("hyperparameters", hyperparameters)

    def _checked_scales(self, name: str, scales: PyTree) -> PyTree:
        """`scales`, called `name` in messages, once their values are known to be in range."""
        return scales

    def __iter__(self) -> Iterator:
        raise TypeError(
            f"a network is one object with init, apply and kernel, got {type(self).__name__} to "
            "be unpacked or iterated; see the page 'Coming from neural-tangents'"
        )

    def _parameter_names(self) -> PyTree:
        """The form of the parameters, without any random numbers."""
        if type(self)._init is not Layer._init:
            raise TypeError(
                "kernel_shares knows Dense layers and layers without parameters, in Serial and "
                f"Residual, got {self!r}"
            )
        return ()

    def _with_gates(self, scales: PyTree, gates: PyTree) -> PyTree:
        """`scales` with a factor for the gradients of each parameter, for `kernel_shares`."""
        return scales

    @property
    def _needs_widths(self) -> bool:
        """Whether the kernel depends on widths."""
        return False

    def _form(self, widths: bool) -> Layer:
        """The layer as its program knows it: numbers are one, also the width unless `widths`."""
        return self

    def _foreign(self, shape: tuple[int, ...]) -> Iterator[tuple[Layer, int]]:
        """The layers from elsewhere that know no pixels, each with the width that arrives."""
        if is_foreign(self) and not self.spatial:
            yield self, shape[-1]

    def steps(self, name: str, signal: Signal, hyperparameters: PyTree) -> Iterator[Step]:
        """The signal after each of the layers inside in turn, and last after this one.

        **Arguments**: `name`, of this layer in messages; `signal` and `hyperparameters`, as for
        `propagate`.

        **Returns**: an iterator of `Step`.
        """
        yield Step(f"{name}, {self!r}", self.propagate(signal, hyperparameters))

    @property
    def depth(self) -> int:
        """The number of layers that hold no others."""
        return 1

    @property
    def spatial(self) -> bool:
        """Whether inputs are images, since some layer inside knows pixels."""
        return False

    @property
    def mixes_pixels(self) -> bool:
        """Whether outputs average over pixels, so that all pairs of pixels are needed."""
        return False

    @property
    def drops(self) -> bool:
        """Whether some layer inside drops units at random, so that `apply` takes a key."""
        return False

    @property
    def draws(self) -> bool:
        """Whether the layer draws parameters."""
        return (type(self)._init, type(self)._draw) != (Layer._init, Layer._draw)

    @property
    def ends_in_weights(self) -> bool:
        """Whether outputs have weights of their own, so that they may be added to other signals."""
        return False

    def width_after(self, features: int) -> int:
        """The width of the output for inputs of width `features`, unchanged unless a layer says so.

        Raises ValueError for a width that the layer can't take; `init` asks before it draws.
        """
        return features

    def shape_after(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of an output for inputs of this one: of images, their pixels and channels.

        Raises ValueError for a shape that the layer can't take.
        """
        return (*shape[:-1], self.width_after(shape[-1]))

    def propagate(self, signal: Signal, hyperparameters: PyTree) -> Signal:
        """The `Signal` after this layer in the infinite network.  Every layer writes it.

        A pure function in JAX, elementwise in the (n1, n2) matrices; in `kernel_diagonal` the same
        arrays are (n,).  It moves the variances, the angle (`cosine` and `gap`, without
        cancellation) and `ntk`, keeps `features`, the width that reaches the next layer, and says
        in `gaussian` whether the entries are Gaussian after it.  See `signal.through_dense` and
        `signal.through_dual`.

        **Arguments**: `signal` before the layer; `hyperparameters`, in the form of the method of
        that name, and perhaps traced: they, not the fields, are what to compute with.

        **Returns**: the `Signal` after it, its arrays in the dtype they came in.

        **Raises**: ValueError where the layer has no infinite limit after such a signal.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must define propagate(self, signal, hyperparameters), the "
            "Signal after the layer in the infinite network"
        )

    def _init(self, key: PRNGKeyArray, features: int, dtype: np.dtype) -> PyTree:
        """Parameters for inputs of width `features`, all of them of this floating dtype.

        What `init` calls once it has checked its arguments; a layer with parameters writes it, and
        splits `key` for each array that it draws.
        """
        return ()

    def _draw(self, key: PRNGKeyArray, shape: tuple[int, ...], dtype: np.dtype) -> PyTree:
        """`_init` for examples of this shape."""
        return self._init(key, shape[-1], dtype)
