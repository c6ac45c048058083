"""Layers made of layers: one after the other (`Serial`), or beside a skip (`Residual`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from ntkbook._base.arguments import described, require_shape
from ntkbook._base.hints import guided, not_a_layer
from ntkbook._base.types import Array, ArrayLike, Num, PRNGKeyArray, PyTree
from ntkbook.networks.dense import Dense
from ntkbook.networks.layer import Layer
from ntkbook.networks.probe import is_foreign
from ntkbook.networks.range import Step
from ntkbook.networks.rows import require_entries
from ntkbook.networks.signal import Signal, add_branch


@dataclass(frozen=True, init=False)
class Container(Layer):
    """Layers applied one after the other, in the finite and in the infinite network."""

    layers: tuple[Layer, ...]

    def __init__(self, *layers: Layer) -> None:
        for position, layer in enumerate(layers):
            if not isinstance(layer, Layer):
                raise TypeError(
                    f"layers[{position}] must be a layer, such as Dense(64), "
                    f"got {not_a_layer(layer)}"
                )
        object.__setattr__(self, "layers", layers)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.layers))})"

    def pairs(self, params: Sequence[PyTree]) -> Iterator[tuple[Layer, PyTree]]:
        """Each layer with its parameters; TypeError or ValueError for `params` of another form."""
        if not isinstance(params, (tuple, list)):
            raise TypeError(
                "params must be a tuple with an entry for each layer, as init makes it, got "
                f"{described(params)}; the order is apply(params, x)"
            )
        if len(params) != len(self.layers):
            raise ValueError(
                f"params must have one entry for each of the {len(self.layers)} layers, "
                f"got {len(params)}"
            )
        return zip(self.layers, params, strict=True)

    @guided
    def apply(self, params: Sequence[PyTree], x: Num[ArrayLike, "n d"]) -> Num[Array, "n k"]:
        """The layers applied to x in turn: `params` has one entry for each."""
        require_entries(x)
        for layer, layer_params in self.pairs(params):
            x = layer.apply(layer_params, x)
        return x  # type: ignore[return-value]  # as it came only if there are no layers

    def hyperparameters(self) -> tuple[PyTree, ...]:
        return tuple(layer.hyperparameters() for layer in self.layers)

    @property
    def depth(self) -> int:
        return sum(layer.depth for layer in self.layers)

    def propagate(self, signal: Signal, hyperparameters: Sequence[PyTree]) -> Signal:
        for layer, scales in zip(self.layers, hyperparameters, strict=True):
            signal = layer.propagate(signal, scales)
        return signal

    def steps(self, name: str, signal: Signal, hyperparameters: PyTree) -> Iterator[Step]:
        for position, (layer, scales) in enumerate(zip(self.layers, hyperparameters, strict=True)):
            for step in layer.steps(f"{name}.layers[{position}]", signal, scales):
                yield step
                signal = step.signal

    def width_after(self, features: int) -> int:
        for layer in self.layers:
            features = layer.width_after(features)
        return features

    def _foreign(self, features: int) -> Iterator[tuple[Layer, int]]:
        if is_foreign(self):
            yield self, features
            return
        for layer in self.layers:
            yield from layer._foreign(features)
            features = layer.width_after(features)

    def _checked_scales(self, name: str, scales: PyTree) -> PyTree:
        parts = enumerate(zip(self.layers, scales, strict=True))
        return tuple(layer._checked_scales(f"{name}[{i}]", own) for i, (layer, own) in parts)

    def _parameter_names(self) -> tuple[PyTree, ...]:
        return tuple(layer._parameter_names() for layer in self.layers)

    def _with_gates(self, scales: PyTree, gates: PyTree) -> PyTree:
        parts = zip(self.layers, scales, gates, strict=True)
        return tuple(layer._with_gates(own, gate) for layer, own, gate in parts)

    @property
    def _needs_widths(self) -> bool:
        return any(layer._needs_widths for layer in self.layers)

    def _form(self, widths: bool) -> Container:
        return type(self)(*(layer._form(widths) for layer in self.layers))

    def _init(self, key: PRNGKeyArray, features: int, dtype: np.dtype) -> tuple[PyTree, ...]:
        params = []
        keys = jax.random.split(key, len(self.layers))
        for layer_key, layer in zip(keys, self.layers, strict=True):
            params.append(layer._init(layer_key, features, dtype))
            features = layer.width_after(features)
        return tuple(params)


@dataclass(frozen=True, init=False, repr=False)
class Serial(Container):
    """Layers one after the other; its parameters are the tuple of theirs.

    **Arguments**: `layers`, in the order in which they are applied.

    **Raises**: TypeError for anything that is not a layer.

    >>> from ntkbook import Dense, Erf, Serial
    >>> net = Serial(Dense(512, w_std=1.5, b_std=0.05), Erf(), Dense(1, w_std=1.5, b_std=0.05))
    >>> x = jnp.array([[1.0, 0.0], [0.0, 1.0]])
    >>> params = net.init(jax.random.key(0), x.shape[1:])
    >>> net.apply(params, x).shape
    (2, 1)
    >>> net.kernel(x).ntk.round(3).tolist()
    [[2.475, 0.007], [0.007, 2.475]]
    """


@dataclass(frozen=True, init=False, repr=False)
class Residual(Container):
    """x plus the layers applied one after the other to x, which must keep the width.

    Its kernel asks for a branch that ends in a Dense layer, whose independent weights make the
    two summands uncorrelated.

    **Arguments**: `layers` of the branch, in the order in which they are applied.

    **Raises**: TypeError for anything that is not a layer; later, ValueError for a branch that
    changes the width, or whose last layer is not Dense when the kernel is asked for.

    >>> from ntkbook import Dense, Relu, Residual, Serial
    >>> net = Serial(Dense(64), Residual(Relu(), Dense(64, w_std=0.5)), Dense(1))
    >>> net.kernel(jnp.ones((1, 3))).nngp.round(12).tolist()   # 1 + 0.25 * 1/2
    [[1.125]]
    """

    def apply(self, params: Sequence[PyTree], x: Num[ArrayLike, "n d"]) -> Num[Array, "n d"]:
        """x plus the branch of it: `params` has one entry for each layer of the branch."""
        branch = super().apply(params, x)
        return require_shape("the branch of a Residual", branch, jnp.shape(x)) + x

    def propagate(self, signal: Signal, hyperparameters: Sequence[PyTree]) -> Signal:
        if not _ends_in_dense(self):
            raise ValueError(
                f"kernel expects the branch of a Residual to end in a Dense layer, got {self}"
            )
        return add_branch(signal, super().propagate(signal, hyperparameters))

    def steps(self, name: str, signal: Signal, hyperparameters: PyTree) -> Iterator[Step]:
        yield from super().steps(name, signal, hyperparameters)
        yield Step(f"{name}, {self!r}", self.propagate(signal, hyperparameters))

    def width_after(self, features: int) -> int:
        width = super().width_after(features)
        if width != features:
            raise ValueError(
                f"the branch of a Residual must keep the width, got {features} in and {width} out"
            )
        return width


def _ends_in_dense(container: Container) -> bool:
    last = container.layers[-1] if container.layers else None
    return isinstance(last, Dense) or (isinstance(last, Serial) and _ends_in_dense(last))
