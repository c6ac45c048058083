"""The empirical kernel array by array: what each layer's weights and biases contribute."""

from __future__ import annotations

import jax

from ntkbook._base.arguments import require_choice, require_flag
from ntkbook._base.types import Array, ArrayLike, Float, Num, PyTree
from ntkbook.tangents.empirical import OUTPUTS, factorised_plan, finished, jacobian_sizes
from ntkbook.tangents.factorised import by_factors, factorisable
from ntkbook.tangents.model import Model
from ntkbook.tangents.probes import checked_arguments
from ntkbook.tangents.strips import by_contraction


def empirical_shares(
    f: Model,
    params: PyTree,
    x1: Num[ArrayLike, "n1 *d"],
    x2: Num[ArrayLike, "n2 *d"] | None = None,
    *,
    outputs: str = "full",
    progress: bool = False,
) -> PyTree[Float[Array, "..."]]:
    """What each array of parameters contributes to the tangent kernel of f.

    Θ = Σ_l J_l(x1) J_l(x2)^T, J_l being the derivative of the outputs in the leaf l of `params`.
    Layers of this package take the factorised way, as cheap as their kernel; other networks take
    contraction, in blocks.

    **Arguments**: as for `empirical_ntk`.

    **Returns**: a pytree of the form of `params`, with a kernel of the shape and dtype of
    `empirical_ntk`'s for each array.  Their sum in the order of `jax.tree.leaves` is
    `empirical_ntk(…)`, up to rounding.  `net.kernel_shares` gives the same at infinite width.

    **Raises**: as `empirical_ntk`.

    **Source**: Jacot et al. 2018, section 4.

    >>> import jax.numpy as jnp
    >>> f = lambda params, x: x @ params["w"] + params["b"]
    >>> params = {"w": jnp.ones(2), "b": jnp.ones(())}
    >>> shares = empirical_shares(f, params, jnp.array([[1.0, 2.0], [3.0, 4.0]]))
    >>> {name: share.tolist() for name, share in shares.items()}
    {'b': [[1.0, 1.0], [1.0, 1.0]], 'w': [[5.0, 11.0], [11.0, 25.0]]}
    """
    require_flag("progress", progress)
    require_choice("outputs", outputs, OUTPUTS)
    params, x1, x2, k = checked_arguments(f, params, x1, x2)
    trace = outputs != "full" or k == 1
    net = factorisable(f)
    if net is None:
        sizes = jacobian_sizes(params, x1, x2, k)
        shares = by_contraction(f, trace, True, params, x1, x2, sizes, progress)
    else:
        plan = factorised_plan(net, trace, params, x1, x2)
        shares = by_factors(net, plan, trace, True, params, x1, x2, progress)
    tree = jax.tree.structure(params)
    done = [finished(share, outputs, params, k, x1=x1, x2=x2) for share in shares]
    return jax.tree.unflatten(tree, done)
