"""A network of any library as a function f(params, x), and what is asked of the two and of x."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from math import prod

import jax
import jax.numpy as jnp
import numpy as np
from jax.stages import Wrapped

from ntkbook._base.arguments import described, is_array, require_shape
from ntkbook._base.compiled import compiled
from ntkbook._base.messages import warn
from ntkbook._base.mistakes import ORDER, is_batch, mistake, shape_of
from ntkbook._base.types import Array, ArrayLike, Float, Num, PyTree
from ntkbook.networks.layer import Layer

Model = Callable[[PyTree, Num[Array, "n *d"]], Float[Array, "n *k"]]
"""A network of any library: f(params, x), each row of its outputs from that row of x alone."""

_EQUINOX = (
    "of an Equinox model, with params, static = equinox.partition(model, "
    "equinox.is_inexact_array), pass f = lambda params, x: "
    "jax.vmap(equinox.combine(params, static))(x) and these params "
    "(see the guide 'Your own network')"
)
_MODELS = f"of a model that has it, pass model.apply; {_EQUINOX}"


def require_model(f: object) -> None:
    """Raise TypeError for what is not a function of two arguments that JAX can keep."""
    name = type(f).__name__
    if not callable(f) or isinstance(f, type):
        hint = ORDER if is_array(f) or isinstance(f, (tuple, list)) else f"{ORDER}; {_MODELS}"
        raise TypeError(f"f must be a function f(params, x), got {described(f)}; {hint}")
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


def checked_parameters(params: PyTree, name: str = "params") -> PyTree:
    """`params` with JAX arrays as leaves; TypeError for leaves that cannot be differentiated."""

    def check(path, leaf):
        dtype = getattr(leaf, "dtype", None)
        if dtype is None and isinstance(leaf, float):
            dtype = jnp.result_type(float)
        if dtype is None or not jnp.issubdtype(dtype, jnp.floating):
            hint = f"keep what is not trained out of {name}; {_EQUINOX}"
            if isinstance(leaf, Layer):
                hint = "the parameters of a network are what net.init(key, (d,)) gives"
            elif callable(leaf) and not path:
                hint = ORDER
            raise TypeError(
                f"{name}{jax.tree_util.keystr(path)} must be a real floating array, got "
                f"{described(leaf) if dtype is None else dtype}; {hint}"
            )
        return jnp.asarray(leaf)

    if not jax.tree.leaves(params):
        raise ValueError(f"{name} must hold at least one array, got none")
    checked = jax.tree_util.tree_map_with_path(check, params)
    if isinstance(params, Mapping) and "params" in params and "batch_stats" in params:
        warn(
            f"{name} holds 'batch_stats' beside 'params', and they count as parameters that are "
            "trained; of a Flax model pass variables['params'] alone, and f = lambda params, x: "
            "model.apply({**variables, 'params': params}, x)"
        )
    return checked


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
            f"{type(x).__name__}{got}; {ORDER}; put what else f needs into the columns of x, or "
            "into f"
        )
    if array.ndim == 0 or array.shape[0] == 0:
        raise ValueError(
            f"{name} must hold at least one example along its first axis, got shape {array.shape}"
        )
    return array


def second_inputs(
    x1: Num[Array, "n1 *d"], x2: Num[ArrayLike, "n2 *d"] | None
) -> Num[Array, "n2 *d"] | None:
    """`x2` as an array whose examples have the shape of those of `x1`, or None."""
    if x2 is None:
        return None
    second = require_shape("x2", checked_inputs("x2", x2), (None, *jnp.shape(x1)[1:]))
    if jnp.iscomplexobj(second) != jnp.iscomplexobj(x1):
        raise TypeError(f"x2 must be of the kind of x1, {x1.dtype}, got {second.dtype}")
    return second


def count_outputs(f: Model, params: PyTree, x: Num[Array, "n *d"]) -> int:
    """The number of outputs of f, which must give (n,) or (n, k) for n inputs."""
    with explained(f, params, x):
        # Abstract evaluation: shapes and dtypes without the work of a forward pass.
        y = jax.eval_shape(forward_pass(f), params, x)
    if not is_batch(y, len(x)):
        raise mistake(f, params, x, alone=x.ndim == 1) or ValueError(
            f"f must map inputs {x.shape} to outputs ({x.shape[0]},) or ({x.shape[0]}, k), "
            f"got {getattr(y, 'shape', type(y).__name__)}"
        )
    if not jnp.issubdtype(y.dtype, jnp.floating):
        raise TypeError(f"f must give real floating outputs, got dtype {y.dtype}")
    return prod(y.shape[1:])


@contextmanager
def explained(f: Model, params: PyTree, x: PyTree, name: str = "x") -> Iterator[None]:
    """Errors of f(params, x) itself say what the mistake is, if that can be found by trying."""
    try:
        yield
    except jax.errors.JAXTypeError as error:
        raise TypeError(
            "f must be traceable by JAX, with jax.numpy instead of numpy and without Python "
            f"branches on values, got: {str(error).splitlines()[0]}"
        ) from None
    except Exception as error:
        found = mistake(f, params, x, alone=True)
        if found is not None:
            raise found from error
        parts = ((shape_of(leaf), getattr(leaf, "dtype", "")) for leaf in jax.tree.leaves(x))
        of = "; ".join(f"{shape}, {dtype}" for shape, dtype in parts)
        whole = f"; {_EQUINOX}" if callable(params) else ""
        error.add_note(f"raised by f(params, {name}) itself, for {name} of shape {of}{whole}")
        raise


def forward_pass(f: Model) -> Wrapped:
    """f compiled."""
    return compiled(_forward_pass, (f,))


def _forward_pass(f: Model, params: PyTree, x: Array) -> Array:
    return f(params, x)


def network_of(f: object) -> Layer | None:
    """The network of this package whose `apply` f is, else None."""
    net = getattr(f, "__self__", None)
    return net if isinstance(net, Layer) and f == net.apply else None
