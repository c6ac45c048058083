"""The pair of kernels of an infinitely wide network, and what moves it through the layers.

A network starts with `input_kernel`; a dense layer is `through_dense`, a nonlinearity
`through_dual`, a skip connection `add_branch`.  All are elementwise in the (n1, n2) matrices
after the first inner product.
"""

from dataclasses import dataclass, field, replace

import jax
import jax.numpy as jnp

from ntkbook import duals


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Kernel:
    """The NNGP and the tangent kernel of a network between n1 and n2 inputs.

    `nngp` (n1, n2) is E[f(x1) f(x2)] per output; `ntk` (n1, n2) is the limit of the inner
    product of the gradients of f.  `var1` (n1,) and `var2` (n2,) are the NNGP of each input
    with itself, from which the next layer is computed.  The rest is known without data:
    `features`, the width that arrives at the next layer; `gaussian`, whether the entries are
    Gaussian there, so that a nonlinearity may follow; `symmetric`, whether both sets of inputs
    are one.
    """

    nngp: jax.Array
    ntk: jax.Array
    var1: jax.Array
    var2: jax.Array
    features: int = field(metadata={"static": True})
    gaussian: bool = field(default=False, metadata={"static": True})
    symmetric: bool = field(default=False, metadata={"static": True})


def gram(x1, x2):
    """x1 x2^T at full precision (accelerators would round float32 factors to ten bits)."""
    return jnp.matmul(x1, x2.T, precision=jax.lax.Precision.HIGHEST)


@jax.jit
def input_kernel(x1, x2=None):
    """The kernel x1 · x2 / d of raw inputs (n1, d) and (n2, d): fixed features, no tangent.

    >>> input_kernel(jnp.array([[1.0, 1.0], [2.0, 0.0]])).nngp.tolist()
    [[1.0, 1.0], [1.0, 2.0]]
    """
    features = x1.shape[-1]
    nngp = gram(x1, x1 if x2 is None else x2) / features
    var1 = jnp.diagonal(nngp) if x2 is None else (x1 * x1).sum(-1) / features
    var2 = var1 if x2 is None else (x2 * x2).sum(-1) / features
    return Kernel(nngp, jnp.zeros_like(nngp), var1, var2, features, symmetric=x2 is None)


def through_dense(kernel, width, weight_variance, bias_variance, weight_gain, bias_gain):
    """K becomes σ_w² K + σ_b², and Θ becomes the layer's own gradients plus σ_w² Θ.

    The gradients in the weights have inner product `weight_gain` K, those in the biases
    `bias_gain`.  In the NTK parametrization the gains are the variances, and the layer's own
    part is the new K (Jacot et al. 2018, theorem 1).
    """

    def variance(q):
        return weight_variance * q + bias_variance

    own = weight_gain * kernel.nngp + bias_gain
    return replace(
        kernel,
        nngp=variance(kernel.nngp),
        ntk=own + weight_variance * kernel.ntk,
        var1=variance(kernel.var1),
        var2=variance(kernel.var2),
        features=width,
        gaussian=True,
    )


def through_dual(kernel, dual):
    """K becomes E[φ(u) φ(v)], and Θ is multiplied by E[φ'(u) φ'(v)].

    Raises ValueError when the entries are not Gaussian, that is when no dense layer comes
    between this nonlinearity and the inputs or another nonlinearity.
    """
    if not kernel.gaussian:
        raise ValueError(
            "kernel expects a Dense layer before each nonlinearity, got a nonlinearity that "
            "follows the inputs or another nonlinearity, where the signal is not Gaussian"
        )
    q1, q2 = kernel.var1, kernel.var2
    nngp, slope = duals.value_and_slope(dual, q1[:, None], q2[None, :], kernel.nngp)
    # The diagonal serves as the variances, so that equal inputs stay equal to the last bit.
    var1 = jnp.diagonal(nngp) if kernel.symmetric else dual(q1, q1, q1)
    var2 = var1 if kernel.symmetric else dual(q2, q2, q2)
    moved = replace(kernel, nngp=nngp, ntk=slope * kernel.ntk, var1=var1, var2=var2, gaussian=False)
    # Without the barrier XLA would compute the diagonal anew for each entry of the next layer.
    return jax.lax.optimization_barrier(moved)


def add_branch(kernel, branch):
    """The kernel of x + h(x), where `branch` is that of h and h ends in a dense layer.

    The last weights of h are independent of x and have mean zero, so every cross term vanishes
    and both kernels add up.
    """
    return replace(
        kernel,
        nngp=kernel.nngp + branch.nngp,
        ntk=kernel.ntk + branch.ntk,
        var1=kernel.var1 + branch.var1,
        var2=kernel.var2 + branch.var2,
        gaussian=kernel.gaussian and branch.gaussian,
    )
