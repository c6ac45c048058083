"""Calls and names of other libraries, answered with what to write here."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from ntkbook._base.arguments import described, is_traced
from ntkbook._base.messages import warn
from ntkbook._base.types import PyTree

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C", bound=type)

_PAGE = "see the page 'Coming from neural-tangents'"
_KERNEL = f"net.kernel(x1, x2) has both, .nngp and .ntk; {_PAGE}"
_KEYWORDS = {
    "W_std": f"it is w_std here; {_PAGE}",
    "parameterization": f"it is parametrization here; {_PAGE}",
    "get": _KERNEL,
    "trace_axes": f"it is outputs='mean' here, what () means is outputs='full'; {_PAGE}",
    "diagonal_axes": f"take the diagonal of outputs='full'; {_PAGE}",
    "implementation": f"it is method here; {_PAGE}",
    "vmap_axes": f"every row is taken to depend on its own example; {_PAGE}",
    "diag_reg": f"regression has ridge, which is absolute; {_PAGE}",
    "diag_reg_absolute_scale": f"regression has ridge, which is absolute; {_PAGE}",
    "y_train_size": f"losses are sums here: multiply by y.size for a mean; {_PAGE}",
    "n_samples": f"it is samples here; {_PAGE}",
    "alpha": "it is negative_slope here",
    "features": "it is width here, the number of outputs",
    "out_features": "it is width here, the number of outputs",
    "in_features": "the width of what arrives is found out: give the outputs alone, Dense(64)",
    "use_bias": "b_std=0.0, as by default, is a layer without bias",
    "bias": "b_std=0.0, as by default, is a layer without bias",
    "epochs": "it is steps here, each of all examples",
    "lr": "it is learning_rate here",
}
_LAYERS = "layers are ntk.Dense(64), ntk.Relu() and others, a network is ntk.Serial(…)"
_SKLEARN = "from ntkbook.estimators import {}"
_NAMES = {
    "stax": f"{_LAYERS}; {_PAGE}",
    "serial": f"{_LAYERS}; {_PAGE}",
    "predict": f"use ntk.gradient_flow, ntk.gradient_descent or ntk.regression; {_PAGE}",
    "empirical_ntk_fn": f"use ntk.empirical_ntk(f, params, x1, x2); {_PAGE}",
    "monte_carlo_kernel_fn": f"use ntk.monte_carlo_kernel; {_PAGE}",
    "taylor_expand": f"use ntk.taylor; {_PAGE}",
    "batch": f"kernels are computed in tiles without being asked; {_PAGE}",
    "ElementwiseNumerical": f"use ntk.Elementwise(f); {_PAGE}",
    "Monomial": f"use ntk.Polynomial; {_PAGE}",
    "RectifiedMonomial": f"use ntk.RectifiedPower; {_PAGE}",
    "GlobalAvgPool": f"it is ntk.GlobalAveragePool here; {_PAGE}",
} | {name: _SKLEARN.format(name) for name in ("NetworkKernel", "NTKRegressor", "NTKClassifier")}
_ABSENT = ("Conv", "Pool", "Norm", "Dropout", "Attention", "Aggregate", "Fan", "Flatten", "Embed")

_FUNCTIONS = (
    (jax.nn.relu, "Relu()"), (jax.nn.leaky_relu, "LeakyRelu()"), (jnp.abs, "Abs()"),
    (jax.scipy.special.erf, "Erf()"), (jax.lax.erf, "Erf()"), (jnp.sin, "Sin()"),
    (jnp.cos, "Cos()"), (jnp.exp, "Exp()"), (jnp.tanh, "Tanh()"), (jax.nn.tanh, "Tanh()"),
)  # fmt: skip

# A scale that is an integer of this size is a width to those who know layers by two widths.
_WIDTH = 8


def absent(name: str) -> str:
    """What an AttributeError says of a name that the package does not have."""
    advice = _NAMES.get(name, "")
    if not advice and any(part in name for part in _ABSENT):
        advice = "see 'What the package does not do' on the page of the package for what to use"
    return f"module 'ntkbook' has no attribute {name!r}{advice and '; '}{advice}"


def guided(function: Callable[P, R]) -> Callable[P, R]:
    """`function`; a call that its signature refuses is answered with how it is to be called."""
    signature = inspect.signature(function)
    bare = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    if bare and bare[0].name == "self":
        bare = bare[1:]
    form = f"{function.__name__}{inspect.Signature(bare)}"

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except TypeError:
            try:
                signature.bind(*args, **kwargs)
            except TypeError as refused:
                mismatch = str(refused)
            else:
                raise
        hints = [_KEYWORDS[name] for name in kwargs if name in _KEYWORDS]
        if not hints and any(isinstance(a, str) and a in ("ntk", "nngp") for a in args):
            hints = [_KERNEL]
        raise TypeError(f"{function.__qualname__}: {mismatch}; {(hints or [f'it is {form}'])[0]}")

    return call


def guided_layer(layer: C) -> C:
    """A class of layers whose `__init__` is `guided`."""
    layer.__init__ = guided(layer.__init__)  # type: ignore[misc]
    return layer


def not_a_layer(value: object) -> str:
    """What came in place of a layer, and what to write for it."""
    if isinstance(value, type):
        made = "Dense(64)" if value.__name__ == "Dense" else f"{value.__name__}()"
        return f"the class {value.__name__}; pass a layer, such as ntk.{made}"
    for function, layer in _FUNCTIONS:
        if value is function:
            return f"a function; pass ntk.{layer}"
    if isinstance(value, (tuple, list)):
        return f"{type(value).__name__}; pass the layers one by one, Serial(*layers)"
    if callable(value) and not hasattr(value, "apply"):
        name = getattr(value, "__name__", "f")
        return f"a function; pass ntk.Elementwise({name if name.isidentifier() else 'f'})"
    return described(value)


def warn_of_width(w_std: object) -> None:
    """Warn of a scale that looks like the second width of a layer."""
    if isinstance(w_std, (int, np.integer)) and w_std >= _WIDTH:
        warn(
            f"w_std={w_std} is the scale of the weights, not a width: a Dense layer is given the "
            f"number of its outputs alone, Dense({w_std}); of a scale meant so pass {w_std}.0"
        )


def require_known(name: str, number: PyTree, instead: str) -> None:
    """Raise TypeError for a parameter of a layer that is traced."""
    if is_traced(*jax.tree.leaves(number)):
        raise TypeError(
            f"{name} must be a known number, got a traced one; make the network outside of jit, "
            f"grad and vmap, and {instead}"
        )


def keep_number(
    layer: object, name: str, check: Callable[[str, float], float], instead: str
) -> None:
    """Make a frozen layer's parameter a plain float, checked, and not traced."""
    number = getattr(layer, name)
    require_known(name, number, instead)
    object.__setattr__(layer, name, float(check(name, number)))
