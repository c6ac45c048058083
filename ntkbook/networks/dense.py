"""The dense layer, in the NTK and in the standard parametrization."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from ntkbook._base.arguments import (
    require_choice,
    require_count,
    require_nonnegative,
    require_parameters,
    require_positive,
    require_shape,
)
from ntkbook._base.hints import guided, guided_layer, require_known, warn_of_width
from ntkbook._base.traced import nonnegative, positive
from ntkbook._base.types import Array, ArrayLike, Float, Num, PRNGKeyArray, PyTree
from ntkbook.networks.layer import Layer
from ntkbook.signals.signal import Signal, through_dense

_SCALES = "pass scales in the form of net.hyperparameters() as net.kernel(x, hyperparameters=...)"


@guided_layer
@dataclass(frozen=True)
class Dense(Layer):
    """A fully connected layer, w_std/sqrt(d) x W + b_std b.

    In the NTK parametrization W and b are standard normal and the scales stay outside.  In the
    standard one they are drawn with standard deviations w_std/sqrt(d) and b_std and used as they
    are, x W + b: the same function at initialisation, other gradients.  Its tangent kernel grows
    with width and has no limit; `kernel` then gives the leading order at the widths stated, with
    d K for the gradients of the weights and 1 for those of the biases, as neural-tangents does.

    **Arguments**: `width` ≥ 1, the number of outputs; `w_std` > 0; `b_std` ≥ 0, zero for no bias;
    `parametrization`, "ntk" or "standard".  Its parameters are {"w": (d, width), "b": (width,)};
    "b" is absent when b_std is zero.

    **Raises**: TypeError or ValueError for other values.  An integer `w_std` of 8 or more draws a
    UserWarning: it looks like a width.

    **Source**: Jacot et al. 2018 for the NTK parametrization.

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
    parametrization: Literal["ntk", "standard"] = "ntk"

    def __post_init__(self) -> None:
        for name in ("w_std", "b_std"):
            require_known(name, getattr(self, name), _SCALES)
        warn_of_width(self.w_std)
        # Plain numbers, since NumPy scalars would turn float32 parameters into float64.
        object.__setattr__(self, "width", require_count("width", self.width))
        object.__setattr__(self, "w_std", float(require_positive("w_std", self.w_std)))
        object.__setattr__(self, "b_std", float(require_nonnegative("b_std", self.b_std)))
        require_choice("parametrization", self.parametrization, ("ntk", "standard"))

    def scales(self, features: int) -> tuple[float, float]:
        """The factors of W and b in the forward pass for inputs of width `features`."""
        if self.parametrization == "standard":
            return 1.0, float(self.b_std > 0)
        return self.w_std / math.sqrt(features), self.b_std

    @guided
    def apply(self, params: PyTree, x: Num[ArrayLike, "n d"]) -> Float[Array, "n k"]:
        """x W and b, each with its scale: inputs (n, d), outputs (n, width)."""
        shapes = {"w": (None, self.width), "b": (self.width,)}
        advice = '; a layer has "b" if its b_std is positive'
        require_parameters(self, params, self._parameter_names(), shapes, advice)
        w = params["w"]
        require_shape("x", x, (None, w.shape[0]))
        w_scale, b_scale = self.scales(w.shape[0])
        z = w_scale * (x @ w)
        return z + b_scale * params["b"] if "b" in params else z

    def hyperparameters(self) -> dict[str, float]:
        return {"w_std": self.w_std, "b_std": self.b_std}

    def propagate(self, signal: Signal, hyperparameters: PyTree) -> Signal:
        standard = self.parametrization == "standard"
        return _through(signal, hyperparameters, self.width, standard=standard)

    def _checked_scales(self, name: str, scales: PyTree) -> PyTree:
        return scales | {
            "w_std": positive(f"{name}['w_std']", scales["w_std"]),
            "b_std": nonnegative(f"{name}['b_std']", scales["b_std"]),
        }

    def _parameter_names(self) -> dict[str, str]:
        return {"w": "w", "b": "b"} if self.b_std else {"w": "w"}

    def _with_gates(self, scales: PyTree, gates: PyTree) -> PyTree:
        return scales | {"gates": gates}

    @property
    def _needs_widths(self) -> bool:
        return self.parametrization == "standard"

    def _form(self, widths: bool) -> Dense:
        width = self.width if widths else 1
        return replace(self, width=width, w_std=1.0, b_std=0.0)

    @property
    def ends_in_weights(self) -> bool:
        return True

    def width_after(self, features: int) -> int:
        return self.width

    def shape_after(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if len(shape) > 1:
            raise ValueError(
                f"{self!r} expects vectors, got images of shape {shape}; put Flatten() before it, "
                f"or for a dense layer at each pixel Conv({self.width}, {(1,) * (len(shape) - 1)})"
            )
        return super().shape_after(shape)

    def _init(self, key: PRNGKeyArray, features: int, dtype: np.dtype) -> dict[str, Array]:
        w_key, b_key = jax.random.split(key)
        standard = self.parametrization == "standard"
        w_std, b_std = (self.w_std / math.sqrt(features), self.b_std) if standard else (1, 1)
        params = {"w": w_std * jax.random.normal(w_key, (features, self.width), dtype)}
        if self.b_std:
            params["b"] = b_std * jax.random.normal(b_key, (self.width,), dtype)
        return params


# One program for all dense layers: widths and scales are numbers that it is given, so that a sweep
# over either compiles nothing.
@partial(jax.jit, static_argnames="standard")
def _through(signal: Signal, hyperparameters: PyTree, width: int, standard: bool) -> Signal:
    # In the signal's dtype: a float64 scale would make the kernels of float32 inputs float64.
    w_std, b_std = (
        jnp.asarray(hyperparameters[name], signal.ntk.dtype) for name in ("w_std", "b_std")
    )
    gates: dict = {"w": 1, "b": 1}
    if "gates" in hyperparameters:  # the shares come before all other axes
        axes = [1] * signal.cosine.ndim
        gates = {name: g.reshape(-1, *axes) for name, g in hyperparameters["gates"].items()}
    return through_dense(
        signal,
        width=width,
        weight_variance=w_std**2,
        bias_variance=b_std**2,
        weight_gain=gates["w"] * (signal.features if standard else w_std**2),
        bias_gain=gates.get("b", 0) * (jnp.where(b_std > 0, 1, 0) if standard else b_std**2),
    )
