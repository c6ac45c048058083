"""A network of any library as a function f(params, x), and what is asked of the two and of x."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from math import prod

import jax
import jax.numpy as jnp
import numpy as np
from jax.stages import Wrapped

from ntkbook._base.arguments import require_finite, require_shape
from ntkbook._base.compiled import compiled
from ntkbook._base.types import Array, ArrayLike, Float, Num, PyTree
from ntkbook.networks.layer import Layer

Model = Callable[[PyTree, Num[Array, "n *d"]], Float[Array, "n *k"]]
"""A network of any library: f(params, x), each row of its outputs from that row of x alone."""

_MODELS = (
    "of a model that has it, pass model.apply; of an Equinox model, with params, static = "
    "equinox.partition(model, equinox.is_inexact_array), pass "
    "f = lambda params, x: jax.vmap(equinox.combine(params, static))(x)"
)


def require_model(f: object) -> None:
    """Raise TypeError for what is not a function of two arguments that JAX can keep."""
    name = type(f).__name__
    if not callable(f):
        raise TypeError(f"f must be a function f(params, x), got {name}; {_MODELS}")
    try:
        inspect.signature(f).bind(None, None)
    except TypeError as error:
        raise TypeError(f"f must take (params, x), got {name}: {error}; {_MODELS}") from None
    except ValueError:  # no signature to be had, as of some functions written in C
        pass
    try:
        hash(f)
    except TypeError:
        raise TypeError(
            f"f must be hashable, as functions are, got {name}; pass a function, such as "
            f"f = lambda params, x: ...; {_MODELS}"
        ) from None


def checked_parameters(params: PyTree) -> PyTree:
    """`params` with JAX arrays as leaves; TypeError for leaves that cannot be differentiated."""

    def check(path, leaf):
        dtype = getattr(leaf, "dtype", None)
        if dtype is None and isinstance(leaf, float):
            dtype = jnp.result_type(float)
        if dtype is None or not jnp.issubdtype(dtype, jnp.floating):
            raise TypeError(
                f"params{jax.tree_util.keystr(path)} must be a real floating array, got "
                f"{type(leaf).__name__ if dtype is None else dtype}; keep what is not trained "
                "out of params, for instance with equinox.partition"
            )
        return jnp.asarray(leaf)

    if not jax.tree.leaves(params):
        raise ValueError("params must hold at least one array, got none")
    return jax.tree_util.tree_map_with_path(check, params)


def common_dtype(params: PyTree) -> np.dtype:
    """The dtype of the parameters, the widest if they have several."""
    return jnp.result_type(*jax.tree.leaves(params))


def checked_inputs(name: str, x: object) -> Num[Array, "n *d"]:
    """`x` as one array with at least one example, else TypeError or ValueError."""
    try:
        array = jnp.asarray(x)
        numbers = jnp.issubdtype(array.dtype, jnp.number) or array.dtype == bool
        got = "" if numbers else f" of {array.dtype}"
    except (TypeError, ValueError):
        numbers, got = False, ""
    if not numbers:
        raise TypeError(
            f"{name} must be one array of numbers (n, ...), an example in each row, got "
            f"{type(x).__name__}{got}; put what else f needs into its columns, or into f"
        )
    if array.ndim == 0 or array.shape[0] == 0:
        raise ValueError(
            f"{name} must hold at least one example along its first axis, got {array.shape}"
        )
    return array


def second_inputs(
    x1: Num[Array, "n1 *d"], x2: Num[ArrayLike, "n2 *d"] | None
) -> Num[Array, "n2 *d"] | None:
    """`x2` as an array whose examples have the shape of those of `x1`, or None."""
    if x2 is None:
        return None
    return require_shape("x2", checked_inputs("x2", x2), (None, *jnp.shape(x1)[1:]))


def count_outputs(f: Model, params: PyTree, x: Num[Array, "n *d"]) -> int:
    """The number of outputs of f, which must give (n,) or (n, k) for n inputs."""
    try:
        # Abstract evaluation: shapes and dtypes without the work of a forward pass.
        y = jax.eval_shape(forward_pass(f), params, x)
    except jax.errors.JAXTypeError as error:
        raise TypeError(
            "f must be traceable by JAX, with jax.numpy instead of numpy and without Python "
            f"branches on values, got: {str(error).splitlines()[0]}"
        ) from None
    except Exception as error:
        error.add_note(f"raised by f(params, x) itself, for x of shape {x.shape}, {x.dtype}")
        raise
    shape = getattr(y, "shape", None)
    if shape is None or len(shape) not in (1, 2) or shape[0] != x.shape[0]:
        raise ValueError(
            f"f must map inputs {x.shape} to outputs ({x.shape[0]},) or ({x.shape[0]}, k), "
            f"got {type(y).__name__ if shape is None else shape}"
        )
    if not jnp.issubdtype(y.dtype, jnp.floating):
        raise TypeError(f"f must give real floating outputs, got dtype {y.dtype}")
    return prod(shape[1:])


def forward_pass(f: Model) -> Wrapped:
    """f compiled."""
    return compiled(_forward_pass, (f,))


def _forward_pass(f: Model, params: PyTree, x: Array) -> Array:
    return f(params, x)


def network_of(f: object) -> Layer | None:
    """The network of this package whose `apply` f is, else None."""
    net = getattr(f, "__self__", None)
    return net if isinstance(net, Layer) and f == net.apply else None


def require_finite_result(name: str, array: Array) -> Array:
    """`require_finite`, whose error names the range of half precision where that is the reason."""
    try:
        return require_finite(name, array)
    except ValueError as error:
        if array.dtype.itemsize > 2:
            raise
        raise ValueError(
            f"{error}; {array.dtype} ends at {float(jnp.finfo(array.dtype).max):.3g}, "
            "so convert params and x to float32"
        ) from None
