"""Tangent features: the Jacobian of a finite network in its parameters.

Everything in this folder takes a function f(params, x) that maps a batch of inputs (n, ...) to
outputs (n,) or (n, k), each row from the same row of x alone.  `params` is any pytree of real
floating arrays, so models of other libraries serve as well as those of `ntkbook.networks`.  Outputs
(n, 1) count as one output: kernels and features drop that axis.

f is compiled once for each shape and known by identity, so pass the same function object, not a
new lambda each time, where speed matters.  What was compiled for it is freed with it.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Jaxpr

from ntkbook._base.arguments import described, is_array, require_finite_result
from ntkbook._base.arrays import gram
from ntkbook._base.compiled import compiled
from ntkbook._base.types import Array, ArrayLike, Float, Num, PyTree
from ntkbook.tangents.model import Model
from ntkbook.tangents.probes import checked_arguments

# Entries of the signals of all outputs that are computed together: a few caches of a CPU, some
# gigabytes of an accelerator, which wants many examples at a time.
_SIGNALS, _SIGNALS_OF_A_CARD = 2**20, 2**28


def count_parameters(params: PyTree) -> int:
    """The number P of entries in all leaves.

    **Arguments**: `params`, a pytree of arrays and numbers.

    **Returns**: P, an integer; 0 for a tree without leaves.

    **Raises**: TypeError for leaves that are neither.

    >>> import jax.numpy as jnp
    >>> count_parameters({"w": jnp.ones((2, 3)), "b": jnp.ones(3)})
    9
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        dtype = getattr(leaf, "dtype", None if is_array(leaf) else object)
        if dtype is not None and not (jnp.issubdtype(dtype, jnp.number) or dtype is np.dtype(bool)):
            where = f"params{jax.tree_util.keystr(path)}"
            raise TypeError(f"{where} must be an array or a number, got {described(leaf)}")
    return sum(math.prod(getattr(leaf, "shape", ())) for leaf in jax.tree.leaves(params))


def tangent_features(
    f: Model, params: PyTree, x: Num[ArrayLike, "n *d"]
) -> Float[Array, "n P"] | Float[Array, "n k P"]:
    """The Jacobian of f in its parameters as a matrix, one row for each example.

    **Arguments**: `f(params, x)`, a network with outputs (n,) or (n, k); `params`, a pytree of
    real floating arrays with P entries in all; `x` (n, …).

    **Returns**: (n, P) for one output, else (n, k, P), in the parameters' dtype.  The columns
    are in the order of `jax.flatten_util.ravel_pytree(params)`.

    **Raises**: TypeError for parameters or outputs that are not real floating arrays; ValueError
    when f doesn't give one row of outputs for each input, each from its own row of x alone, or
    when the Jacobian is not finite.

    **Source**: Jacot et al. 2018, section 4.

    >>> import jax.numpy as jnp
    >>> f = lambda params, x: x @ params["w"] + params["b"]
    >>> params = {"w": jnp.ones(2), "b": jnp.ones(())}
    >>> tangent_features(f, params, jnp.array([[3.0, 4.0]])).tolist()
    [[1.0, 3.0, 4.0]]
    """
    params, x, _, outputs = checked_arguments(f, params, x, name="x")
    by_leaf = compiled(jacobian_of, (f,))(params, x)
    jacobian = jnp.concatenate(by_leaf, axis=-1)
    jacobian = jacobian if outputs > 1 else jacobian[:, 0]
    return require_finite_result("the Jacobian of f", jacobian, params=params, x=x)


def jacobian_of(f: Model, params: PyTree, x: Num[Array, "n *d"]) -> list[Float[Array, "n k size"]]:
    """A list with the Jacobian of each leaf as (n, k, size of the leaf)."""

    # One example at a time, under vmap: the gradients of one row's outputs are all there are,
    # where the Jacobian of the whole batch would be n² blocks, all but n of them zero.
    def one_example(x):
        jacobian = jax.jacrev(lambda p: f(p, x[None])[0].reshape(-1))(params)
        return [leaf.reshape(leaf.shape[0], -1) for leaf in jax.tree.leaves(jacobian)]

    together = examples_at_once(f, params, x)
    if together >= len(x):
        return jax.vmap(one_example)(x)
    return jax.lax.map(one_example, x, batch_size=together)


def examples_at_once(f: Model, params: PyTree, x: Num[Array, "n *d"]) -> int:
    """How many examples' gradients are computed together.

    Where a weight is used many times, as in a convolution, the signals of an example are larger
    than its gradients.  Those of all examples would fill the memory, those of a few stay in the
    cache: less memory and less time.
    """
    program = jax.make_jaxpr(f)(params, x[:1])
    signals = _entries(program.jaxpr)
    if signals <= count_parameters(params):
        return len(x)
    limit = _SIGNALS if jax.default_backend() == "cpu" else _SIGNALS_OF_A_CARD
    return max(1, limit // (signals * math.prod(program.out_avals[0].shape)))


def _entries(program: Jaxpr) -> int:
    """The entries of all that is computed on the way."""
    inside = [step.params["jaxpr"].jaxpr for step in program.eqns if step.primitive.name == "jit"]
    made = (variable.aval for step in program.eqns for variable in step.outvars)
    return sum(map(_entries, inside)) + sum(math.prod(getattr(a, "shape", ())) for a in made)


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
