"""Taylor models of a finite network in its parameters, of first and second order."""

import jax

from ntkbook._base.arguments import require_shape
from ntkbook.tangents.features import checked_parameters


def linearize(f, params):
    """f's first-order Taylor model in its parameters, as a function (new_params, x) -> outputs.

    f_lin(θ, x) = f(θ_0, x) + J(x) (θ - θ_0), with J at θ_0 = `params`: affine in θ and as
    nonlinear in x as f (Lee et al. 2019).

    >>> import jax.numpy as jnp
    >>> f = lambda params, x: params**2 * x
    >>> linearize(f, jnp.array(1.0))(jnp.array(3.0), jnp.array([1.0])).tolist()
    [5.0]
    """
    return taylor(f, params, order=1)


def taylor(f, params, order=2):
    """f's Taylor model of order 1 or 2 about `params`, as a function (new_params, x) -> outputs.

    Needs no Jacobian: the derivatives are forward ones along θ - θ_0.  The model raises
    ValueError when `new_params` isn't of the structure and shapes of `params`.

    >>> import jax.numpy as jnp
    >>> f = lambda params, x: params**2 * x
    >>> taylor(f, jnp.array(1.0))(jnp.array(3.0), jnp.array([1.0])).tolist()
    [9.0]
    """
    if order not in (1, 2):
        raise ValueError(f"order must be 1 or 2, got {order!r}")
    params = checked_parameters(params)

    def model(new_params, x):
        step = _difference(new_params, params)

        def along(p):
            return jax.jvp(lambda p: f(p, x), (p,), (step,))

        if order == 1:
            value, slope = along(params)
            return value + slope
        (value, slope), (_, curvature) = jax.jvp(along, (params,), (step,))
        return value + slope + curvature / 2

    return model


def _difference(new_params, params):
    new = checked_parameters(new_params)
    expected: object = jax.tree.structure(params)
    got: object = jax.tree.structure(new)
    if got != expected:
        raise ValueError(f"new_params must have the structure of params, {expected}, got {got}")

    def subtract(path, a, b):
        require_shape(f"new_params{jax.tree_util.keystr(path)}", a, b.shape)
        return (a - b).astype(b.dtype)

    return jax.tree_util.tree_map_with_path(subtract, new, params)
