"""Finite networks: tangent features, linearisation and the empirical tangent kernel.

Everything here takes a function f(params, x) that maps a batch of inputs (n, ...) to outputs
(n,) or (n, k), each row from the same row of x alone.  `params` is any pytree of real floating
arrays, so models of other libraries serve as well as those of `ntkbook.layers`.  Outputs (n, 1)
count as one output: kernels and features drop that axis.

f is traced once for each shape and kept by identity, so pass the same function object, not a
new lambda each time, where speed matters.
"""

from functools import partial
from math import prod

import jax
import jax.numpy as jnp

from ntkbook._validate import as_floating, require_choice, require_finite, require_shape
from ntkbook.activations import Nonlinearity
from ntkbook.kernels import gram
from ntkbook.layers import Dense, Layer, Residual, Serial

# The largest Jacobian held at once; larger problems are computed in blocks of examples.
JACOBIAN_BYTES = 2**28


def count_parameters(params):
    """The number P of entries in all leaves.

    >>> count_parameters({"w": jnp.ones((2, 3)), "b": jnp.ones(3)})
    9
    """
    return sum(jnp.size(leaf) for leaf in jax.tree.leaves(params))


def tangent_features(f, params, x):
    """The Jacobian of f in its parameters as a matrix: (n, P) for one output, else (n, k, P).

    The columns are in the order of `jax.flatten_util.ravel_pytree(params)`.  Raises TypeError
    for parameters that are not real floating arrays, ValueError when f doesn't give one row of
    outputs for each input, or when the Jacobian is not finite.

    >>> f = lambda params, x: x @ params["w"] + params["b"]
    >>> tangent_features(f, {"w": jnp.ones(2), "b": jnp.ones(())}, jnp.array([[3.0, 4.0]])).tolist()
    [[1.0, 3.0, 4.0]]
    """
    params, x = _parameters(params), jnp.asarray(x)
    outputs = _outputs(f, params, x)
    jacobian = jnp.concatenate(_jacobian(f, params, x), axis=-1)
    return require_finite("the Jacobian of f", jacobian if outputs > 1 else jacobian[:, 0])


def empirical_ntk(f, params, x1, x2=None, *, outputs="full", method="auto"):
    """The tangent kernel Θ(x1, x2) = J(x1) J(x2)^T of f at these parameters.

    Shape (n1, n2) for one output.  For k outputs, (n1, n2, k, k) with outputs="full", entry
    [i, j, a, b] belonging to outputs a at x1[i] and b at x2[j], or (n1, n2), summed over equal
    outputs (not averaged), with outputs="trace".  Without x2 the kernel of x1 with itself is
    computed, for half the work.  (Jacot et al. 2018, section 4.)

    Methods, all exact:

    - "contraction": the Jacobian, in blocks of at most `JACOBIAN_BYTES`, contracted leaf by leaf;
    - "products": one column at a time, forwards through f the gradient of each output in turn.
      Slower, without any Jacobian of more than one example;
    - "factorised": for `net.apply` of this package's own layers.  The share of a dense layer is
      the Gram matrix of its inputs times, entry by entry, that of the signals propagated back
      to it; no Jacobian appears, and the work no longer grows with n² P;
    - "auto": factorised where it applies, else contraction.

    Raises TypeError for parameters that are not real floating arrays; ValueError for another
    `outputs` or `method`, when f doesn't give one row of outputs for each input, when x1 and x2
    differ in shape beyond n, when "factorised" doesn't apply, or when the kernel is not finite.

    >>> f = lambda params, x: x @ params
    >>> empirical_ntk(f, jnp.ones(2), jnp.array([[1.0, 2.0], [3.0, 4.0]])).tolist()
    [[5.0, 11.0], [11.0, 25.0]]
    """
    require_choice("outputs", outputs, ("full", "trace"))
    require_choice("method", method, ("auto", "contraction", "products", "factorised"))
    params, x1, x2 = _parameters(params), jnp.asarray(x1), _second_inputs(x1, x2)
    k = _outputs(f, params, x1)
    net = _factorisable(f)
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
        theta = _factorised(net, trace, params, x1, x2)
    return require_finite("the empirical kernel", theta)


def ntk_vector_product(f, params, x1, v, x2=None):
    """Θ(x1, x2) v, from one backward pass at x2 and one forward pass at x1; no matrix is formed.

    `v` has the shape of f(params, x2), and so has the result of f(params, x1); for one output
    `v` may be (n2,) and the result is then (n1,).  Without x2 it is x1.

    >>> f = lambda params, x: x @ params
    >>> x = jnp.array([[1.0, 2.0], [3.0, 4.0]])
    >>> ntk_vector_product(f, jnp.ones(2), x, jnp.array([1.0, 0.0])).tolist()
    [5.0, 11.0]
    """
    params, x1, v = _parameters(params), jnp.asarray(x1), as_floating("v", v)
    second = _second_inputs(x1, x2)
    x2 = x1 if second is None else second
    one_output = _outputs(f, params, x1) == 1
    shape = jax.eval_shape(f, params, x2).shape
    flat = one_output and v.ndim == 1
    require_shape("v", v, shape[:1] if flat else shape)
    product = _product(f, params, x1, v.reshape(shape), x2)
    return require_finite("the product", product.reshape(-1) if flat else product)


@partial(jax.jit, static_argnums=0)
def _product(f, params, x1, v, x2):
    y, pullback = jax.vjp(lambda p: f(p, x2), params)
    (direction,) = pullback(v.astype(y.dtype))
    return jax.jvp(lambda p: f(p, x1), (params,), (direction,))[1]


def linearize(f, params):
    """f's first-order Taylor model in its parameters, as a function (new_params, x) -> outputs.

    f_lin(θ, x) = f(θ_0, x) + J(x) (θ - θ_0), with J at θ_0 = `params`: affine in θ and as
    nonlinear in x as f (Lee et al. 2019).

    >>> f = lambda params, x: params**2 * x
    >>> linearize(f, jnp.array(1.0))(jnp.array(3.0), jnp.array([1.0])).tolist()
    [5.0]
    """
    return taylor(f, params, order=1)


def taylor(f, params, order=2):
    """f's Taylor model of order 1 or 2 about `params`, as a function (new_params, x) -> outputs.

    Needs no Jacobian: the derivatives are forward ones along θ - θ_0.  The model raises
    ValueError when `new_params` isn't of the structure and shapes of `params`.

    >>> f = lambda params, x: params**2 * x
    >>> taylor(f, jnp.array(1.0))(jnp.array(3.0), jnp.array([1.0])).tolist()
    [9.0]
    """
    if order not in (1, 2):
        raise ValueError(f"order must be 1 or 2, got {order!r}")
    params = _parameters(params)

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
    new = _parameters(new_params)
    expected: object = jax.tree.structure(params)
    got: object = jax.tree.structure(new)
    if got != expected:
        raise ValueError(f"new_params must have the structure of params, {expected}, got {got}")

    def subtract(path, a, b):
        require_shape(f"new_params{jax.tree_util.keystr(path)}", a, b.shape)
        return (a - b).astype(b.dtype)

    return jax.tree_util.tree_map_with_path(subtract, new, params)


def _parameters(params):
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


def _second_inputs(x1, x2):
    if x2 is None:
        return None
    return require_shape("x2", jnp.asarray(x2), (None, *jnp.shape(x1)[1:]))


def _outputs(f, params, x):
    """The number of outputs of f, which must give (n,) or (n, k) for n inputs."""
    if x.ndim == 0 or x.shape[0] == 0:
        raise ValueError(f"x must hold at least one example along its first axis, got {x.shape}")
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
def _jacobian(f, params, x):
    """A list with the Jacobian of each leaf as (n, k, size of the leaf)."""

    def one_example(x):
        jacobian = jax.jacrev(lambda p: f(p, x[None])[0].reshape(-1))(params)
        return [leaf.reshape(leaf.shape[0], -1) for leaf in jax.tree.leaves(jacobian)]

    return jax.vmap(one_example)(x)


@partial(jax.jit, static_argnums=(0, 1))
def _by_contraction(f, trace, params, x1, x2):
    left = _jacobian(f, params, x1)
    right = left if x2 is None else _jacobian(f, params, x2)
    return sum(_pair(a, b, trace) for a, b in zip(left, right, strict=True))


def _pair(a, b, trace):
    """Inner products of (n1, k, p) and (n2, k, p): (n1, n2), or (n1, n2, k, k) without trace."""
    (n1, k, _), n2 = a.shape, b.shape[0]
    if trace:
        return gram(a.reshape(n1, -1), b.reshape(n2, -1))
    product = gram(a.reshape(n1 * k, -1), b.reshape(n2 * k, -1))
    return product.reshape(n1, k, n2, k).transpose(0, 2, 1, 3)


def _by_blocks(f, trace, params, x1, x2, k):
    """`_by_contraction` over blocks of examples; without x2, only those on or above the diagonal.

    A loop in Python, so that the blocks below the diagonal need not be computed.
    """
    size = max(1, JACOBIAN_BYTES // (k * _example_bytes(params)))
    rows = [x1[i : i + size] for i in range(0, len(x1), size)]
    if x2 is None:
        blocks = {}
        for i, a in enumerate(rows):
            for j, b in enumerate(rows[i:], start=i):
                blocks[i, j] = _by_contraction(f, trace, params, a, None if i == j else b)
                blocks[j, i] = _transpose(blocks[i, j])
        table = [[blocks[i, j] for j in range(len(rows))] for i in range(len(rows))]
    else:
        columns = [x2[i : i + size] for i in range(0, len(x2), size)]
        table = [[_by_contraction(f, trace, params, a, b) for b in columns] for a in rows]
    return jnp.concatenate([jnp.concatenate(row, axis=1) for row in table])


def _example_bytes(params):
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(params))


def _transpose(theta):
    """Θ(x2, x1) from Θ(x1, x2): both pairs of axes swap."""
    return theta.T if theta.ndim == 2 else theta.transpose(1, 0, 3, 2)


@partial(jax.jit, static_argnums=(0, 1))
def _by_products(f, trace, params, x1, x2):
    def column(x):
        """The entries of Θ(x1, x) for one example x: (k, n1, k), its own output first."""
        y, pullback = jax.vjp(lambda p: f(p, x[None])[0].reshape(-1), params)

        def forward(cotangent):
            return jax.jvp(lambda p: f(p, x1), (params,), pullback(cotangent))[1]

        return jax.lax.map(forward, jnp.eye(y.size, dtype=y.dtype)).reshape(y.size, len(x1), -1)

    columns = jax.lax.map(column, x1 if x2 is None else x2)
    return jnp.einsum("jbib->ij", columns) if trace else columns.transpose(2, 0, 3, 1)


def _factorisable(f):
    """The network whose `apply` f is, when all its layers are this package's; else None."""
    net = getattr(f, "__self__", None)
    own = isinstance(net, Layer) and f == net.apply
    return net if own and _supported(net) else None


def _supported(layer):
    if type(layer) in (Serial, Residual):
        return all(map(_supported, layer.layers))
    return type(layer) is Dense or isinstance(layer, Nonlinearity)


@partial(jax.jit, static_argnums=(0, 1))
def _factorised(net, trace, params, x1, x2):
    left = _dense_factors(net, params, x1)
    right = left if x2 is None else _dense_factors(net, params, x2)
    theta = 0
    for (scales, a, g), (_, b, h) in zip(left, right, strict=True):
        weights, biases = scales
        inputs = weights**2 * gram(a, b) + biases**2
        signals = _pair(g, h, trace)
        theta = theta + (inputs if trace else inputs[:, :, None, None]) * signals
    return theta


def _dense_factors(net, params, x):
    """For each dense layer its scales, inputs (n, d), and back-propagated signals (n, k, width).

    The signals are the gradients of the k outputs in zeros added to the pre-activations, so
    that any arrangement of layers will do.
    """
    layers = list(_dense_layers(net))
    dtype = jnp.result_type(x, *jax.tree.leaves(params))
    zeros = [jnp.zeros((len(x), layer.width), dtype) for layer in layers]

    def outputs(shifts):
        inputs = []

        def visit(x, z):
            inputs.append(x)
            return z + shifts[len(inputs) - 1]

        return _run(net, params, x, visit), inputs

    y, pullback, inputs = jax.vjp(outputs, zeros, has_aux=True)
    # Rows are independent, so one pass serves all examples: all ones in one output.
    unit = jnp.eye(y.shape[1], dtype=y.dtype)
    (signals,) = jax.vmap(lambda row: pullback(jnp.zeros_like(y) + row), out_axes=1)(unit)
    scales = [layer.scales(a.shape[1]) for layer, a in zip(layers, inputs, strict=True)]
    return list(zip(scales, inputs, signals, strict=True))


def _dense_layers(layer):
    """The dense layers in the order in which `_run` visits them."""
    if isinstance(layer, Dense):
        yield layer
    for inner in getattr(layer, "layers", ()):
        yield from _dense_layers(inner)


def _run(layer, params, x, visit):
    """`layer.apply(params, x)`, with visit(x, z) for the output z of each dense layer."""
    if isinstance(layer, Dense):
        return visit(x, layer.apply(params, x))
    if not isinstance(layer, (Serial, Residual)):
        return layer.apply(params, x)
    z = x
    for inner, inner_params in layer.pairs(params):
        z = _run(inner, inner_params, z, visit)
    return x + z if isinstance(layer, Residual) else z
