"""The empirical tangent kernel of a finite network, whole or as a product with a vector."""

from __future__ import annotations

from functools import partial

import jax

from ntkbook._base.arguments import (
    as_floating,
    is_traced,
    require_choice,
    require_finite_result,
    require_flag,
    require_shape,
)
from ntkbook._base.compiled import compiled
from ntkbook._base.hints import guided
from ntkbook._base.summed import remember_sum
from ntkbook._base.types import Array, ArrayLike, Float, Num, PyTree
from ntkbook.networks.layer import Layer
from ntkbook.tangents.costs import block_sizes, costs, faster_method, forward_operations
from ntkbook.tangents.factorised import Plan, by_factors, factorisable, plan_of
from ntkbook.tangents.features import count_parameters
from ntkbook.tangents.model import Model, common_dtype, forward_pass
from ntkbook.tangents.probes import checked_arguments
from ntkbook.tangents.strips import by_contraction, by_products

# The largest Jacobian held at once; larger problems are computed in blocks of examples.
JACOBIAN_BYTES = 2**29

# What a method chosen automatically may take in all.
MEMORY_BYTES = 2**32

OUTPUTS = ("full", "trace", "mean")


@guided
def empirical_ntk(
    f: Model,
    params: PyTree,
    x1: Num[ArrayLike, "n1 *d"],
    x2: Num[ArrayLike, "n2 *d"] | None = None,
    *,
    outputs: str = "full",
    method: str = "auto",
    progress: bool = False,
) -> Float[Array, "n1 n2"] | Float[Array, "n1 n2 k k"]:
    """The tangent kernel Θ(x1, x2) = J(x1) J(x2)^T of f at these parameters.

    **Arguments**: `f(params, x)`, a network with outputs (n,) or (n, k); `params`, a pytree of
    real floating arrays; `x1` (n1, …) and `x2` (n2, …), x1 itself if not given, for half the
    work; `outputs`, what is made of k of them:

    - "full": all k² blocks, which exact dynamics and `max_learning_rate` need;
    - "trace": the sum over equal outputs, k times as large as the kernel of one.  Training
      functions refuse this very array; a copy of it, a slice or a cast, they cannot tell from the
      kernel of one output, so divide it by k, or ask for the mean;
    - "mean": the trace divided by k, the default of neural-tangents, to compare with an infinite
      network, whose outputs share one kernel.

    `method`, one of these, all exact:

    - "contraction": the Jacobian, in blocks of at most `JACOBIAN_BYTES`, contracted leaf by leaf;
      of convolutions, whose signals are larger than their gradients, a few examples at a time;
    - "products": one column at a time, forwards through f the gradient of each output in turn,
      without any Jacobian of more than one example;
    - "factorised": for `net.apply` of this package's own layers.  The share of a dense layer is
      the Gram matrix of its inputs times, entry by entry, that of the signals propagated back
      to it; no Jacobian appears, and the work no longer grows with n² P.  The share of a
      convolution is a sum of such products over pairs of pixels or, layer by layer, that of its
      gradients, whichever takes fewer operations; blocks are of at most `JACOBIAN_BYTES`, too;
    - "auto": factorised where it applies, else contraction, in one block; where that needs more
      blocks of gradients, the faster of it and products by `ntkbook.tangents.costs`.

    `progress=True` shows a bar over the blocks (needs tqdm).

    Before that, up to 16 rows go through f together and one by one, except for this package's own
    layers and under tracing: a kernel exists only if each row of f comes from its own row of x.

    **Returns**: (n1, n2) for one output, else (n1, n2, k, k) with outputs="full", entry
    [i, j, a, b] belonging to outputs a at x1[i] and b at x2[j], or (n1, n2) with "trace" or "mean";
    in the parameters' dtype.

    **Raises**: TypeError for an f that is not a hashable function of (params, x), and for
    parameters that are not real floating arrays; ValueError for another `outputs` or `method`,
    when f doesn't give one row of outputs for each input, when a row changes with the others (batch
    statistics, dropout), when x1 and x2 differ in shape beyond n, when "factorised" doesn't apply,
    or when the kernel is not finite.

    **Source**: Jacot et al. 2018, section 4.

    >>> import jax.numpy as jnp
    >>> f = lambda params, x: x @ params
    >>> empirical_ntk(f, jnp.ones(2), jnp.array([[1.0, 2.0], [3.0, 4.0]])).tolist()
    [[5.0, 11.0], [11.0, 25.0]]
    """
    require_flag("progress", progress)
    require_choice("outputs", outputs, OUTPUTS)
    require_choice("method", method, ("auto", "contraction", "products", "factorised"))
    params, x1, x2, k = checked_arguments(f, params, x1, x2)
    net = factorisable(f)
    if method == "factorised" and net is None:
        raise ValueError(
            "method='factorised' expects f to be net.apply, net being Dense and Conv layers and "
            f"layers without parameters in Serial and Residual, got {f!r}"
        )
    trace = outputs != "full" or k == 1
    if method == "auto":
        method = _chosen_method(f, net, trace, params, x1, x2, k)
    if method == "products":
        theta = by_products(f, trace, params, x1, x2, progress)
    elif method == "contraction" or net is None:
        sizes = jacobian_sizes(params, x1, x2, k)
        (theta,) = by_contraction(f, trace, False, params, x1, x2, sizes, progress)
    else:
        plan = factorised_plan(net, trace, params, x1, x2)
        (theta,) = by_factors(net, plan, trace, False, params, x1, x2, progress)
    return finished(theta, outputs, params, k, x1=x1, x2=x2)


def jacobian_sizes(params: PyTree, x1: Array, x2: Array | None, k: int) -> tuple[int, int]:
    """How many rows' and columns' Jacobians are held at once."""
    example = k * sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(params))
    return block_sizes(len(x1), None if x2 is None else len(x2), example, JACOBIAN_BYTES)


def factorised_plan(net: Layer, trace: bool, params: PyTree, x1: Array, x2: Array | None) -> Plan:
    """How the factorised path goes within `JACOBIAN_BYTES`."""
    return plan_of(net, trace, x1, x2, common_dtype(params).itemsize, JACOBIAN_BYTES)


def finished(theta: Array, outputs: str, params: PyTree, k: int, **inputs: Array | None) -> Array:
    """`theta`, in the parameters' dtype, averaged if asked for, and known as a sum if it is one."""
    theta = theta.astype(common_dtype(params))
    theta = theta / k if outputs == "mean" and k > 1 else theta
    theta = require_finite_result("the empirical kernel", theta, params=params, **inputs)
    if outputs == "trace" and k > 1 and not is_traced(theta):
        remember_sum(theta, k)
    return theta


def _chosen_method(
    f: Model,
    net: Layer | None,
    trace: bool,
    params: PyTree,
    x1: Array,
    x2: Array | None,
    k: int,
) -> str:
    n1, n2 = len(x1), None if x2 is None else len(x2)
    plan = None if net is None else factorised_plan(net, trace, params, x1, x2)
    best, blocks = "contraction", jacobian_sizes(params, x1, x2, k)
    if plan is not None:
        best, blocks = "factorised", plan.blocks
    if blocks == (n1, n2 or n1) or (plan is not None and not plan.gradients):
        return best
    estimated = partial(
        costs,
        n1,
        n2,
        k,
        jacobian_bytes=JACOBIAN_BYTES,
        itemsize=common_dtype(params).itemsize,
        forward=forward_operations(f, params, x1),
        trace=trace,
    )
    estimates = estimated(parameters=count_parameters(params))
    if plan is not None:
        # What takes no gradients costs less than products do.
        gradients = estimated(parameters=plan.gradients)["contraction"]
        estimates = {"products": estimates["products"], "factorised": gradients}
    return faster_method(estimates, MEMORY_BYTES)


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
    v = as_floating("v", v)
    params, x1, second, k = checked_arguments(f, params, x1, x2)
    x2 = x1 if second is None else second
    shape = jax.eval_shape(forward_pass(f), params, x2).shape
    flat = k == 1 and v.ndim == 1
    require_shape("v", v, shape[:1] if flat else shape)
    product = compiled(_product, (f,))(params, x1, v.reshape(shape), x2)
    product = product.reshape(-1) if flat else product
    return require_finite_result("the product", product, params=params, x1=x1, x2=x2, v=v)


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
