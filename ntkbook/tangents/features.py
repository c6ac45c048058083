"""Tangent features: the Jacobian of a finite network in its parameters.

Everything in this folder takes a function f(params, x) that maps a batch of inputs (n, ...) to
outputs (n,) or (n, k), each row from the same row of x alone.  `params` is any pytree of real
floating arrays, so models of other libraries serve as well as those of `ntkbook.networks`.  Outputs
(n, 1) count as one output: kernels and features drop that axis.

f is traced once for each shape and kept by identity, so pass the same function object, not a
new lambda each time, where speed matters.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import prod

import jax
import jax.numpy as jnp

from ntkbook._base.arguments import require_finite, require_shape
from ntkbook._base.arrays import gram
from ntkbook._base.types import Array, ArrayLike, Float, Num, PyTree

Model = Callable[[PyTree, Num[Array, "n *d"]], Float[Array, "n *k"]]
"""A network of any library: f(params, x), each row of its outputs from that row of x alone."""


def count_parameters(params: PyTree) -> int:
    """The number P of entries in all leaves.

    **Arguments**: `params`, a pytree of arrays and numbers.

    **Returns**: P, an integer; 0 for a tree without leaves.

    >>> import jax.numpy as jnp
    >>> count_parameters({"w": jnp.ones((2, 3)), "b": jnp.ones(3)})
    9
    """
    return sum(jnp.size(leaf) for leaf in jax.tree.leaves(params))


def tangent_features(
    f: Model, params: PyTree, x: Num[ArrayLike, "n *d"]
) -> Float[Array, "n P"] | Float[Array, "n k P"]:
    """The Jacobian of f in its parameters as a matrix, one row for each example.

    **Arguments**: `f(params, x)`, a network with outputs (n,) or (n, k); `params`, a pytree of
    real floating arrays with P entries in all; `x` (n, …).

    **Returns**: (n, P) for one output, else (n, k, P), in the parameters' dtype.  The columns
    are in the order of `jax.flatten_util.ravel_pytree(params)`.

    **Raises**: TypeError for parameters or outputs that are not real floating arrays; ValueError
    when f doesn't give one row of outputs for each input, or when the Jacobian is not finite.

    **Source**: Jacot et al. 2018, section 4.

    >>> import jax.numpy as jnp
    >>> f = lambda params, x: x @ params["w"] + params["b"]
    >>> params = {"w": jnp.ones(2), "b": jnp.ones(())}
    >>> tangent_features(f, params, jnp.array([[3.0, 4.0]])).tolist()
    [[1.0, 3.0, 4.0]]
    """
    params, x = checked_parameters(params), jnp.asarray(x)
    outputs = count_outputs(f, params, x)
    jacobian = jnp.concatenate(jacobian_by_leaf(f, params, x), axis=-1)
    return require_finite("the Jacobian of f", jacobian if outputs > 1 else jacobian[:, 0])


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


def second_inputs(
    x1: Num[ArrayLike, "n1 *d"], x2: Num[ArrayLike, "n2 *d"] | None
) -> Num[Array, "n2 *d"] | None:
    """`x2` as an array whose examples have the shape of those of `x1`, or None."""
    if x2 is None:
        return None
    return require_shape("x2", jnp.asarray(x2), (None, *jnp.shape(x1)[1:]))


def count_outputs(f: Model, params: PyTree, x: Num[Array, "*n"]) -> int:
    """The number of outputs of f, which must give (n,) or (n, k) for n inputs."""
    if x.ndim == 0 or x.shape[0] == 0:
        raise ValueError(f"x must hold at least one example along its first axis, got {x.shape}")
    # Abstract evaluation: shapes and dtypes without the work of a forward pass.
    y = jax.eval_shape(f, params, x)
    shape = getattr(y, "shape", None)
    if shape is None or len(shape) not in (1, 2) or shape[0] != x.shape[0]:
        raise ValueError(
            f"f must map inputs {x.shape} to outputs ({x.shape[0]},) or ({x.shape[0]}, k), "
            f"got {type(y).__name__ if shape is None else shape}"
        )
    if not jnp.issubdtype(y.dtype, jnp.floating):
        raise TypeError(f"f must give real floating outputs, got dtype {y.dtype}")
    return prod(shape[1:])


@partial(jax.jit, static_argnums=0)
def jacobian_by_leaf(
    f: Model, params: PyTree, x: Num[Array, "n *d"]
) -> list[Float[Array, "n k size"]]:
    """A list with the Jacobian of each leaf as (n, k, size of the leaf)."""

    # One example at a time, under vmap: the gradients of one row's outputs are all there are,
    # where the Jacobian of the whole batch would be n² blocks, all but n of them zero.
    def one_example(x):
        jacobian = jax.jacrev(lambda p: f(p, x[None])[0].reshape(-1))(params)
        return [leaf.reshape(leaf.shape[0], -1) for leaf in jax.tree.leaves(jacobian)]

    return jax.vmap(one_example)(x)


def inner_products(
    a: Float[Array, "n1 k p"], b: Float[Array, "n2 k p"], trace: bool
) -> Float[Array, "n1 n2"] | Float[Array, "n1 n2 k k"]:
    """Inner products of (n1, k, p) and (n2, k, p): (n1, n2), or (n1, n2, k, k) without trace."""
    (n1, k, _), n2 = a.shape, b.shape[0]
    # Rows made of examples and outputs together: one matrix product, the fastest contraction.
    if trace:
        return gram(a.reshape(n1, -1), b.reshape(n2, -1))
    product = gram(a.reshape(n1 * k, -1), b.reshape(n2 * k, -1))
    return product.reshape(n1, k, n2, k).transpose(0, 2, 1, 3)
