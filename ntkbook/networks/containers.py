"""Layers made of layers: one after the other (`Serial`), or beside a skip (`Residual`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np

from ntkbook._base.arguments import described, require_key, require_number, require_shape
from ntkbook._base.hints import guided, guided_layer, keep_number, not_a_layer
from ntkbook._base.rows import require_entries
from ntkbook._base.types import Array, ArrayLike, Num, PRNGKeyArray, PyTree
from ntkbook.networks.dropout import Dropout
from ntkbook.networks.layer import Layer
from ntkbook.networks.probe import is_foreign
from ntkbook.signals.range import Step
from ntkbook.signals.signal import Signal, add_branch, scaled


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
    def apply(
        self, params: Sequence[PyTree], x: Num[ArrayLike, "n *d"], key: PRNGKeyArray | None = None
    ) -> Num[Array, "n *k"]:
        """The layers applied to x in turn: `params` has one entry for each.

        Layers that drop units do so with a `key`; without it the network is the one that is
        evaluated, which drops none.
        """
        require_entries(x)
        keys: Iterable = [{}] * len(self.layers)
        if key is not None:
            parts = jax.random.split(require_key("key", key), len(self.layers))
            both = zip(self.layers, parts, strict=True)
            keys = ({"key": own} if layer.drops else {} for layer, own in both)
        for (layer, layer_params), given in zip(self.pairs(params), keys, strict=True):
            x = layer.apply(layer_params, x, **given)
        return x  # type: ignore[return-value]  # as it came only if there are no layers

    def hyperparameters(self) -> tuple[PyTree, ...]:
        return tuple(layer.hyperparameters() for layer in self.layers)

    @property
    def depth(self) -> int:
        return sum(layer.depth for layer in self.layers)

    def propagate(self, signal: Signal, hyperparameters: Sequence[PyTree]) -> Signal:
        for layer, scales in zip(self.layers, hyperparameters, strict=True):
            signal = through_layer(layer, signal, scales)
        return signal

    def steps(self, name: str, signal: Signal, hyperparameters: PyTree) -> Iterator[Step]:
        one = signal.identical  # which a layer from elsewhere may lose
        for position, (layer, scales) in enumerate(zip(self.layers, hyperparameters, strict=True)):
            for step in layer.steps(f"{name}.layers[{position}]", signal, scales):
                yield step
                signal = replace(step.signal, identical=one)

    @property
    def spatial(self) -> bool:
        return any(layer.spatial for layer in self.layers)

    @property
    def mixes_pixels(self) -> bool:
        return any(layer.mixes_pixels for layer in self.layers)

    @property
    def drops(self) -> bool:
        return any(layer.drops for layer in self.layers)

    def width_after(self, features: int) -> int:
        return self.shape_after((features,))[-1]

    def shape_after(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        for layer in self.layers:
            shape = layer.shape_after(shape)
        return shape

    def _foreign(self, shape: tuple[int, ...]) -> Iterator[tuple[Layer, int]]:
        if is_foreign(self):
            yield from super()._foreign(shape)
            return
        for layer in self.layers:
            yield from layer._foreign(shape)
            shape = layer.shape_after(shape)

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

    def _draw(
        self, key: PRNGKeyArray, shape: tuple[int, ...], dtype: np.dtype
    ) -> tuple[PyTree, ...]:
        params = []
        keys = jax.random.split(key, len(self.layers))
        for layer_key, layer in zip(keys, self.layers, strict=True):
            params.append(layer._draw(layer_key, shape, dtype))
            shape = layer.shape_after(shape)
        return tuple(params)


def through_layer(layer: Layer, signal: Signal, scales: PyTree) -> Signal:
    """The signal after one of the layers."""
    # What only some layers need is kept from the others' programs, which would otherwise be
    # compiled anew for each place in a network.
    aside: dict = {}
    if not layer.mixes_pixels and (signal.own1 or signal.own2):
        aside |= {"own1": (), "own2": ()}
    if not layer.drops and signal.identical is not None:
        aside |= {"identical": None}
    if not aside:
        return layer.propagate(signal, scales)
    after = layer.propagate(replace(signal, **aside), scales)
    return replace(after, **{name: getattr(signal, name) for name in aside})


def _end_in_weights(layers: Sequence[Layer]) -> bool:
    """Whether the last layer has weights of its own, but for Dropout, which keeps means zero."""
    last = [layer for layer in layers if not isinstance(layer, Dropout)][-1:]
    return bool(last) and last[0].ends_in_weights


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

    @property
    def ends_in_weights(self) -> bool:
        return _end_in_weights(self.layers)


_SCALE = (
    "of a network made with another scale than 1 pass hyperparameters, whose last entry for a "
    "Residual is {'scale': ...}"
)


@guided_layer
@dataclass(frozen=True, init=False, repr=False)
class Residual(Container):
    """x plus `scale` times the layers applied one after the other to x, which must keep the width.

    Its kernel asks for a branch that ends in a Dense layer, a Conv or an Attention, whose
    independent weights make the two summands uncorrelated.  With another scale than 1 its
    hyperparameters are those of the layers and, last, {"scale": scale}, in which kernels are
    differentiated; no value of it, 1 and 0 among them, needs another compilation.

    **Arguments**: `layers` of the branch, in the order in which they are applied; `scale`, any
    finite number.

    **Raises**: TypeError for anything that is not a layer or a number; ValueError for a scale that
    is not finite; later, ValueError for a branch that changes the width, or that ends in none of
    these layers when the kernel is asked for.

    >>> from ntkbook import Dense, Relu, Residual, Serial
    >>> net = Serial(Dense(64), Residual(Relu(), Dense(64, w_std=0.5)), Dense(1))
    >>> net.kernel(jnp.ones((1, 3))).nngp.round(12).tolist()   # 1 + 0.25 * 1/2
    [[1.125]]
    >>> Residual(Relu(), Dense(64), scale=0.1).hyperparameters()
    ((), {'w_std': 1.0, 'b_std': 0.0}, {'scale': 0.1})
    """

    scale: float = 1.0
    keeps_inputs = True

    def __init__(self, *layers: Layer, scale: float = 1.0) -> None:
        super().__init__(*layers)
        object.__setattr__(self, "scale", scale)
        keep_number(self, "scale", require_number, _SCALE)

    def __repr__(self) -> str:
        parts = [*map(repr, self.layers), *([f"scale={self.scale}"] if self._scaled else [])]
        return f"Residual({', '.join(parts)})"

    def apply(
        self, params: Sequence[PyTree], x: Num[ArrayLike, "n *d"], key: PRNGKeyArray | None = None
    ) -> Num[Array, "n *d"]:
        """x plus the branch of it: `params` has one entry for each layer of the branch.

        With a `key` layers of the branch that drop units do so.
        """
        branch = super().apply(params, x, key)
        branch = require_shape("the branch of a Residual", branch, jnp.shape(x))
        return self.joined(x, branch)

    def joined(self, x: Num[ArrayLike, "n *d"], branch: Num[Array, "n *d"]) -> Num[Array, "n *d"]:
        """x plus `scale` times its `branch`."""
        return (self.scale * branch if self._scaled else branch) + x

    @property
    def _scaled(self) -> bool:
        return self.scale != 1

    def hyperparameters(self) -> tuple[PyTree, ...]:
        return (*super().hyperparameters(), *([{"scale": self.scale}] if self._scaled else []))

    def propagate(self, signal: Signal, hyperparameters: Sequence[PyTree]) -> Signal:
        if not _end_in_weights(self.layers):
            raise ValueError(
                "kernel expects the branch of a Residual to end in a Dense layer, a Conv or an "
                f"Attention, got {self}"
            )
        inner, last = self._parted(hyperparameters)
        branch = super().propagate(signal, inner)
        return _add_scaled(signal, branch, last[0]["scale"]) if last else add_branch(signal, branch)

    def steps(self, name: str, signal: Signal, hyperparameters: PyTree) -> Iterator[Step]:
        yield from super().steps(name, signal, self._parted(hyperparameters)[0])
        yield Step(f"{name}, {self!r}", self.propagate(signal, hyperparameters))

    def _parted(self, scales: PyTree) -> tuple[PyTree, PyTree]:
        """The scales of the layers, and the scale of the branch, if it has one."""
        return scales[: len(self.layers)], scales[len(self.layers) :]

    def _checked_scales(self, name: str, scales: PyTree) -> PyTree:
        inner, last = self._parted(scales)
        for own in last:
            require_number(f"{name}[{len(inner)}]['scale']", own["scale"])
        return (*super()._checked_scales(name, inner), *last)

    def _with_gates(self, scales: PyTree, gates: PyTree) -> PyTree:
        inner, last = self._parted(scales)
        return (*super()._with_gates(inner, gates), *last)

    def _form(self, widths: bool) -> Residual:
        # Any number that is not one, whose networks have another form.
        scale = 2.0 if self._scaled else 1.0
        return type(self)(*(layer._form(widths) for layer in self.layers), scale=scale)

    def shape_after(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        after = super().shape_after(shape)
        if after != shape:
            kept, before, now = "shape", f"{shape}", f"{after}"
            if len(shape) == len(after) == 1:
                kept, before, now = "width", f"{shape[0]}", f"{after[0]}"
            raise ValueError(
                f"the branch of a Residual must keep the {kept}, got {before} in and {now} out"
            )
        return after


@jax.jit
def _add_scaled(signal: Signal, branch: Signal, scale: float) -> Signal:
    number = jnp.asarray(scale, signal.ntk.dtype)
    return add_branch(signal, scaled(branch, number, number))
