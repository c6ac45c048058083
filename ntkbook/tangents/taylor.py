"""Taylor models of a finite network in its parameters, of first and second order."""

from __future__ import annotations

import jax

from ntkbook._base.arguments import described, require_shape
from ntkbook._base.types import Array, PyTree
from ntkbook.tangents.model import Model, checked_parameters, explained, require_model


def linearize(f: Model, params: PyTree) -> Model:
    """f's first-order Taylor model in its parameters, as a function (new_params, x) -> outputs.

    f_lin(θ, x) = f(θ_0, x) + J(x) (θ - θ_0), with J at θ_0 = `params`: affine in θ and as
    nonlinear in x as f.

    **Arguments**: `f(params, x)`, a network with outputs (n,) or (n, k); `params`, a pytree of
    real floating arrays, where the model touches f.

    **Returns**: the model, a function of parameters like `params` and of inputs (n, …), with
    outputs of the shape of f's.

    **Raises**: TypeError for an f that is no function of (params, x), and for parameters that are
    not real floating arrays; the model, ValueError for parameters of another structure or shape.

    **Source**: Lee et al. 2019, section 2.

    >>> import jax.numpy as jnp
    >>> f = lambda params, x: params**2 * x
    >>> linearize(f, jnp.array(1.0))(jnp.array(3.0), jnp.array([1.0])).tolist()
    [5.0]
    """
    return taylor(f, params, order=1)


def taylor(f: Model, params: PyTree, order: int = 2) -> Model:
    """f's Taylor model of order 1 or 2 about `params`, as a function (new_params, x) -> outputs.

    **Arguments**: `f` and `params` as for `linearize`; `order`, 1 or 2.

    **Returns**: the model, as of `linearize`, with the term ½ (θ - θ_0)ᵀ ∇²f (θ - θ_0) of the
    second order added.

    **Raises**: as `linearize`; ValueError for another `order`.

    >>> import jax.numpy as jnp
    >>> f = lambda params, x: params**2 * x
    >>> taylor(f, jnp.array(1.0))(jnp.array(3.0), jnp.array([1.0])).tolist()
    [9.0]
    """
    if type(order) is not int or order not in (1, 2):
        got = order if type(order) is int else described(order)
        raise ValueError(f"order must be 1 or 2, got {got}")
    require_model(f)
    params = checked_parameters(params)

    def model(new_params: PyTree, x: Array) -> Array:
        step = _difference(new_params, params)

        # Derivatives forward along θ - θ_0, and for the second order the derivative of that: two
        # or four passes through f, where a Jacobian would take one for each output.
        def along(p):
            return jax.jvp(lambda p: f(p, x), (p,), (step,))

        with explained(f, params, x):
            if order == 1:
                value, slope = along(params)
                return value + slope
            (value, slope), (_, curvature) = jax.jvp(along, (params,), (step,))
            return value + slope + curvature / 2

    return model


def _difference(new_params: PyTree, params: PyTree) -> PyTree:
    new = checked_parameters(new_params, "new_params")
    expected: object = jax.tree.structure(params)
    got: object = jax.tree.structure(new)
    if got != expected:
        raise ValueError(
            f"new_params must have the structure of params, {expected}, got {got}; the order is "
            "model(new_params, x)"
        )

    def subtract(path, a, b):
        require_shape(f"new_params{jax.tree_util.keystr(path)}", a, b.shape)
        return (a - b).astype(b.dtype)

    return jax.tree_util.tree_map_with_path(subtract, new, params)
