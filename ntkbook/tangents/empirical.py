"""The empirical tangent kernel of a finite network, whole or as a product with a vector."""

from __future__ import annotations

from functools import partial, reduce

import jax
import jax.numpy as jnp

from ntkbook._base.arguments import as_floating, require_choice, require_finite, require_shape
from ntkbook._base.types import Array, ArrayLike, Float, Num, PyTree
from ntkbook.tangents.factorised import factorisable, factorised_ntk
from ntkbook.tangents.features import (
    Model,
    checked_parameters,
    count_outputs,
    inner_products,
    jacobian_by_leaf,
    second_inputs,
)

# The largest Jacobian held at once; larger problems are computed in blocks of examples.
JACOBIAN_BYTES = 2**28


def empirical_ntk(
    f: Model,
    params: PyTree,
    x1: Num[ArrayLike, "n1 *d"],
    x2: Num[ArrayLike, "n2 *d"] | None = None,
    *,
    outputs: str = "full",
    method: str = "auto",
) -> Float[Array, "n1 n2"] | Float[Array, "n1 n2 k k"]:
    """The tangent kernel Θ(x1, x2) = J(x1) J(x2)^T of f at these parameters.

    **Arguments**: `f(params, x)`, a network with outputs (n,) or (n, k); `params`, a pytree of
    real floating arrays; `x1` (n1, …) and `x2` (n2, …), x1 itself if not given, for half the
    work; `outputs`, "full" or "trace"; `method`, one of these, all exact:

    - "contraction": the Jacobian, in blocks of at most `JACOBIAN_BYTES`, contracted leaf by leaf;
    - "products": one column at a time, forwards through f the gradient of each output in turn.
      Slower, without any Jacobian of more than one example;
    - "factorised": for `net.apply` of this package's own layers.  The share of a dense layer is
      the Gram matrix of its inputs times, entry by entry, that of the signals propagated back
      to it; no Jacobian appears, and the work no longer grows with n² P;
    - "auto": factorised where it applies, else contraction.

    **Returns**: (n1, n2) for one output.  For k outputs, (n1, n2, k, k) with outputs="full",
    entry [i, j, a, b] belonging to outputs a at x1[i] and b at x2[j], or (n1, n2), summed over
    equal outputs (not averaged), with outputs="trace".

    **Raises**: TypeError for parameters that are not real floating arrays; ValueError for another
    `outputs` or `method`, when f doesn't give one row of outputs for each input, when x1 and x2
    differ in shape beyond n, when "factorised" doesn't apply, or when the kernel is not finite.

    **Source**: Jacot et al. 2018, section 4.

    >>> import jax.numpy as jnp
    >>> f = lambda params, x: x @ params
    >>> empirical_ntk(f, jnp.ones(2), jnp.array([[1.0, 2.0], [3.0, 4.0]])).tolist()
    [[5.0, 11.0], [11.0, 25.0]]
    """
    require_choice("outputs", outputs, ("full", "trace"))
    require_choice("method", method, ("auto", "contraction", "products", "factorised"))
    params, x1, x2 = checked_parameters(params), jnp.asarray(x1), second_inputs(x1, x2)
    k = count_outputs(f, params, x1)
    net = factorisable(f)
    if method == "factorised" and net is None:
        raise ValueError(
            "method='factorised' expects f to be net.apply, net being Dense layers and "
            f"nonlinearities in Serial and Residual, got {f!r}"
        )
    trace = outputs == "trace" or k == 1
    if method == "products":
        theta = _by_products(f, trace, params, x1, x2)
    elif method == "contraction" or net is None:
        theta = _by_blocks(f, trace, params, x1, x2, k)
    else:
        theta = factorised_ntk(net, trace, params, x1, x2)
    return require_finite("the empirical kernel", theta)


def ntk_vector_product(
    f: Model,
    params: PyTree,
    x1: Num[ArrayLike, "n1 *d"],
    v: Num[ArrayLike, "n2 *k"],
    x2: Num[ArrayLike, "n2 *d"] | None = None,
) -> Float[Array, "n1 *k"]:
    """Θ(x1, x2) v, from one backward pass at x2 and one forward pass at x1; no matrix is formed.

    **Arguments**: `f`, `params`, `x1` (n1, …) and `x2` (n2, …), x1 itself if not given, as for
    `empirical_ntk`; `v`, of the shape of f(params, x2), or (n2,) for one output.

    **Returns**: an array of the shape of f(params, x1), or (n1,) where `v` is (n2,).

    **Raises**: as `empirical_ntk`; ValueError for `v` of another shape.

    >>> import jax.numpy as jnp
    >>> f = lambda params, x: x @ params
    >>> x = jnp.array([[1.0, 2.0], [3.0, 4.0]])
    >>> ntk_vector_product(f, jnp.ones(2), x, jnp.array([1.0, 0.0])).tolist()
    [5.0, 11.0]
    """
    params, x1, v = checked_parameters(params), jnp.asarray(x1), as_floating("v", v)
    second = second_inputs(x1, x2)
    x2 = x1 if second is None else second
    one_output = count_outputs(f, params, x1) == 1
    shape = jax.eval_shape(f, params, x2).shape
    flat = one_output and v.ndim == 1
    require_shape("v", v, shape[:1] if flat else shape)
    product = _product(f, params, x1, v.reshape(shape), x2)
    return require_finite("the product", product.reshape(-1) if flat else product)


@partial(jax.jit, static_argnums=0)
def _product(
    f: Model,
    params: PyTree,
    x1: Num[Array, "n1 *d"],
    v: Num[Array, "n2 *k"],
    x2: Num[Array, "n2 *d"],
) -> Float[Array, "n1 *k"]:
    # Θ v = J(x1) (J(x2)ᵀ v): the pullback is the product in brackets, a direction in parameters.
    y, pullback = jax.vjp(lambda p: f(p, x2), params)
    (direction,) = pullback(v.astype(y.dtype))
    return jax.jvp(lambda p: f(p, x1), (params,), (direction,))[1]


@partial(jax.jit, static_argnums=(0, 1))
def _by_contraction(f: Model, trace: bool, params: PyTree, x1: Array, x2: Array | None) -> Array:
    # Leaf by leaf, so that the Jacobian of no two leaves need be copied into one matrix.
    left = jacobian_by_leaf(f, params, x1)
    right = left if x2 is None else jacobian_by_leaf(f, params, x2)
    products = (inner_products(a, b, trace) for a, b in zip(left, right, strict=True))
    return reduce(jnp.add, products)


def _by_blocks(f: Model, trace: bool, params: PyTree, x1: Array, x2: Array | None, k: int) -> Array:
    """`_by_contraction` over blocks of examples; without x2, only those on or above the diagonal.

    A loop in Python, so that the blocks below the diagonal need not be computed.
    """
    size = max(1, JACOBIAN_BYTES // (k * _example_bytes(params)))
    rows = [x1[i : i + size] for i in range(0, len(x1), size)]
    if x2 is None:
        blocks: dict[tuple[int, int], Array] = {}
        for i, a in enumerate(rows):
            for j, b in enumerate(rows[i:], start=i):
                blocks[i, j] = _by_contraction(f, trace, params, a, None if i == j else b)
                blocks[j, i] = _transpose(blocks[i, j])
        table = [[blocks[i, j] for j in range(len(rows))] for i in range(len(rows))]
    else:
        columns = [x2[i : i + size] for i in range(0, len(x2), size)]
        table = [[_by_contraction(f, trace, params, a, b) for b in columns] for a in rows]
    return jnp.concatenate([jnp.concatenate(row, axis=1) for row in table])


def _example_bytes(params: PyTree) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(params))


def _transpose(theta: Array) -> Array:
    """Θ(x2, x1) from Θ(x1, x2): both pairs of axes swap."""
    return theta.T if theta.ndim == 2 else theta.transpose(1, 0, 3, 2)


@partial(jax.jit, static_argnums=(0, 1))
def _by_products(f: Model, trace: bool, params: PyTree, x1: Array, x2: Array | None) -> Array:
    def column(x):
        """The entries of Θ(x1, x) for one example x: (k, n1, k), its own output first."""
        y, pullback = jax.vjp(lambda p: f(p, x[None])[0].reshape(-1), params)

        def forward(cotangent):
            return jax.jvp(lambda p: f(p, x1), (params,), pullback(cotangent))[1]

        # `map` and not `vmap`: one gradient in memory at a time is what this method is for.
        return jax.lax.map(forward, jnp.eye(y.size, dtype=y.dtype)).reshape(y.size, len(x1), -1)

    columns = jax.lax.map(column, x1 if x2 is None else x2)
    return jnp.einsum("jbib->ij", columns) if trace else columns.transpose(2, 0, 3, 1)
