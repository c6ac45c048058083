"""The pair of kernels of an infinitely wide network, and what moves it through the layers.

A network starts with the signal of its inputs (see `inputs`); a dense layer is `through_dense`,
a nonlinearity `through_dual`, a skip connection `add_branch`; `kernel_of` reads the kernels off at
the end.  All are elementwise in the (n1, n2) matrices after the first inner product.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import jax
import jax.numpy as jnp

from ntkbook._base.types import Array, ArrayLike, Bool, Float, Int
from ntkbook.gaussian.pairs import (
    Dual,
    covariance,
    inverse_root,
    once,
    pair,
    replaced,
    rest,
    safe_sqrt,
    well_kept,
)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Kernel:
    """The NNGP and the tangent kernel of a network between n1 and n2 inputs.

    **Fields**: `nngp` (n1, n2), E[f(x1) f(x2)] per output; `ntk` (n1, n2), the limit of the inner
    product of the gradients of f.  Of `kernel_diagonal` both are (n,).  Of a network that keeps
    pixels, axes of both pixels follow.
    """

    nngp: Float[Array, "n1 n2 *pixels"] | Float[Array, "n *pixels"]
    ntk: Float[Array, "n1 n2 *pixels"] | Float[Array, "n *pixels"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Signal:
    """What travels through the layers of an infinitely wide network.

    **Fields**: `var1` (n1, 1) and `var2` (1, n2), the variances of each entry; `cosine` and `gap`
    (n1, n2), the angle between two inputs, gap being 1 - |cosine| without cancellation; `ntk`, the
    tangent kernel, or a stack of its shares (S, n1, n2); `features`, the width that arrives at the
    next layer; known without data, `gaussian`, whether the entries are Gaussian there, so that
    a nonlinearity may follow; and `mean1`, `mean2`, of the shapes of `var1` and `var2`, the mean of
    the entries over their root mean square, which is zero for Gaussian ones, and otherwise None if
    nobody knows it.  On the diagonal alone all arrays are (n,).

    An image has such numbers at each pixel, with axes `space` behind those above: of equal pixels
    (n1, n2, *space), or of all pairs of pixels (n1, n2, *space, *space) if `pixel_pairs` says so,
    where `var1` and `var2` have length one along the other one's pixels.  `own1` and `own2`
    hold what the layers to come that mix pixels need of one image alone, in order, such as the
    variances after pooling, which no single pair of images tells.  On the diagonal alone each such
    layer appends its arrays to `own1`; elsewhere it takes as many from the front of both.
    `identical` (n1, n2), of a network that `drops`, marks the pairs that are one input, as two
    equal inputs are not: each of them loses units of its own.

    Where an input is zero there is no angle: cosine is one, and its derivatives are those of the
    covariance (of gap, the opposite ones), so that kernels are differentiated there as well.  A
    layer that multiplies the variances leaves these derivatives as they are.
    """

    var1: Float[Array, "n1 1"] | Float[Array, "n"]
    var2: Float[Array, "1 n2"] | Float[Array, "n"]
    cosine: Float[Array, "n1 n2"] | Float[Array, "n"]
    gap: Float[Array, "n1 n2"] | Float[Array, "n"]
    ntk: Float[Array, "n1 n2"] | Float[Array, "n"]
    features: Int[ArrayLike, ""]
    gaussian: bool = field(default=False, metadata={"static": True})
    mean1: Float[Array, "n1 1"] | Float[Array, "n"] | None = None
    mean2: Float[Array, "1 n2"] | Float[Array, "n"] | None = None
    space: tuple[int, ...] = field(default=(), metadata={"static": True})
    pixel_pairs: bool = field(default=False, metadata={"static": True})
    own1: tuple[Array, ...] = ()
    own2: tuple[Array, ...] = ()
    identical: Bool[Array, "n1 n2"] | Bool[Array, "n"] | None = None

    @property
    def nngp(self) -> Float[Array, "n1 n2"] | Float[Array, "n"]:
        """The covariance; the two roots are stored, one per input, not one per pair."""
        return covariance(self.norm, self.cosine)

    @property
    def norm(self) -> Array:
        return once(safe_sqrt(self.var1)) * once(safe_sqrt(self.var2))

    @property
    def rest(self) -> Array:
        return rest(self.norm, self.cosine)


def kernel_of(signal: Signal) -> Kernel:
    """The `Kernel` that a `Signal` stands for."""
    return Kernel(signal.nngp, signal.ntk)


def through_dense(
    signal: Signal,
    width: int,
    weight_variance: Array | float,
    bias_variance: Array | float,
    weight_gain: Array | float,
    bias_gain: Array | float,
) -> Signal:
    """K becomes σ_w² K + σ_b², and Θ becomes the layer's own gradients plus σ_w² Θ.

    The gradients in the weights have inner product `weight_gain` K, those in the biases
    `bias_gain`.  In the NTK parametrization the gains are the variances, and the layer's own
    part is the new K (Jacot et al. 2018, theorem 1).
    """
    own = weight_gain * signal.nngp + bias_gain
    zero = (signal.var1 == 0) | (signal.var2 == 0)
    angle = with_rates(zero, weight_variance * signal.rest, signal.cosine, signal.gap)
    var1, var2 = weight_variance * signal.var1, weight_variance * signal.var2
    ntk = own + weight_variance * signal.ntk
    bare = replace(signal, features=width, gaussian=True, mean1=None, mean2=None)
    weights = replace(bare, var1=var1, var2=var2, cosine=angle[0], gap=angle[1], ntk=ntk)
    bias = jnp.asarray(bias_variance, signal.ntk.dtype)
    return add_branch(weights, paired(bias, jnp.zeros_like(bias), width, gaussian=True))


def through_dual(signal: Signal, dual: Dual) -> Signal:
    """K becomes E[φ(u) φ(v)], and Θ is multiplied by E[φ'(u) φ'(v)].

    Raises ValueError when the entries are not Gaussian, that is when no dense layer comes
    between this nonlinearity and the inputs, another nonlinearity or Flatten().
    """
    if not signal.gaussian:
        raise ValueError(
            "kernel expects a Dense layer before each nonlinearity, got a nonlinearity that "
            "follows the inputs, another nonlinearity or Flatten(), where entries are not Gaussian "
            "of one variance"
        )
    before = pair(signal.var1, signal.var2, signal.cosine, signal.gap)
    value, slope = dual.value_and_slope(before)
    cosine, gap = dual.cosine_and_gap(before, value)
    var1, var2 = dual.diagonal(signal.var1), dual.diagonal(signal.var2)
    mean1 = mean2 = None
    if dual.mean is not None:
        mean1 = dual.mean(signal.var1) * inverse_root(var1)
        mean2 = dual.mean(signal.var2) * inverse_root(var2)
    return replace(
        signal,
        var1=var1,
        var2=var2,
        cosine=cosine,
        gap=gap,
        ntk=slope * signal.ntk,
        gaussian=False,
        mean1=mean1,
        mean2=mean2,
    )


def scaled(signal: Signal, factor1: Array, factor2: Array) -> Signal:
    """The signal in which the entries of each input are multiplied by a factor of its own.

    `factor1` is of the shape of `var1`, `factor2` of that of `var2`, none negative; or both are one
    number.
    """
    both = factor1 * factor2
    var1, var2 = factor1 * factor1 * signal.var1, factor2 * factor2 * signal.var2
    zero = (var1 == 0) | (var2 == 0)
    cosine, gap = with_rates(zero, both * signal.rest, signal.cosine, signal.gap)
    ntk = both * signal.ntk
    return replace(signal, var1=var1, var2=var2, cosine=cosine, gap=gap, ntk=ntk)


def centred(signal: Signal) -> Signal:
    """The signal whose entries have lost their mean over the features of each example.

    The covariance loses the product of the two means.  In the limit the tangent kernel stays: the
    gradient of a mean over n entries, each with n gradients alike, is of order 1/n.

    Raises ValueError where the mean is not known.
    """
    if signal.gaussian:
        return signal
    if signal.mean1 is None or signal.mean2 is None:
        raise ValueError(
            "kernel expects entries of known mean where they are centred, that is a Dense layer or "
            "a nonlinearity whose dual has `mean`, got other entries, such as the inputs "
            "themselves, which are data and can be normalised before they are passed"
        )
    # With the shares u² of the variance and w² of the squared mean in the mean square, ρ is
    # u1 u2 ρ' + w1 w2: 1 - ρ' is a difference whose terms are all small when it is.
    w1, w2 = signal.mean1, signal.mean2
    share1, share2 = (jnp.maximum(1 - w * w, 0) for w in (w1, w2))
    var1, var2 = once(share1) * signal.var1, once(share2) * signal.var2
    u1, u2 = once(safe_sqrt(share1)), once(safe_sqrt(share2))
    zero = (var1 == 0) | (var2 == 0)
    product = jnp.where(zero, 1, u1 * u2)
    near, far = signed_gaps(signal)
    stretch = (u1 - u2) ** 2
    near = (near - (stretch + (w1 - w2) ** 2) / 2) / product
    far = (far - (stretch + (w1 + w2) ** 2) / 2) / product
    cosine = jnp.where(zero, 1, (signal.cosine - w1 * w2) / product)
    gap = jnp.where(zero, 0, jnp.maximum(jnp.minimum(near, far), 0))
    cosine, gap = well_kept(*with_rates(zero, signal.rest, cosine, gap))
    nothing = jnp.zeros_like(w1), jnp.zeros_like(w2)
    return replace(
        signal, var1=var1, var2=var2, cosine=cosine, gap=gap, mean1=nothing[0], mean2=nothing[1]
    )


def add_branch(signal: Signal, branch: Signal) -> Signal:
    """The signal x + h(x), where `branch` is that of h and independent of x, with mean zero.

    Every cross term vanishes and both kernels add up.  What layers to come need of one image alone
    is what those of the branch have left, if it has pixels: biases have none.  For the angle let u²
    and v² = 1 - u² be the shares of `signal` and `branch` in a variance.  Then ρ = u1 u2 ρ_x +
    v1 v2 ρ_h, and 1 ± ρ is a sum of terms that are all small when it is: 1 - u1 u2 - v1 v2 is half
    a squared distance.
    """
    var1, var2 = signal.var1 + branch.var1, signal.var2 + branch.var2
    u1, u2 = _root_share(signal.var1, var1, 1), _root_share(signal.var2, var2, 1)
    v1, v2 = _root_share(branch.var1, var1, 0), _root_share(branch.var2, var2, 0)
    u, v = u1 * u2, v1 * v2
    apart = ((u1 - u2) ** 2 + (v1 - v2) ** 2) / 2
    # Zero, with the derivatives that the roots u and v of shares that are zero have not.
    inner = signal.rest + branch.rest
    left = inner * inverse_root(var1) * inverse_root(var2)
    apart += _rest_of_shares(signal.var1, branch.var1) + _rest_of_shares(signal.var2, branch.var2)
    (near, far), (near_branch, far_branch) = signed_gaps(signal), signed_gaps(branch)
    # The smaller of 1 ∓ ρ, whose sign rounding may turn at ρ = 0; `minimum` gives each of two equal
    # ones half its derivative, which is the derivative zero of |ρ| there.
    gap = jnp.minimum(
        apart + u * near + v * near_branch - left, apart + u * far + v * far_branch + left
    )
    cosine = u * signal.cosine + v * branch.cosine + left
    cosine, gap = well_kept(*with_rates((var1 == 0) | (var2 == 0), inner, cosine, gap))
    last = branch if branch.space else signal
    return replace(
        signal,
        var1=var1,
        var2=var2,
        cosine=cosine,
        gap=gap,
        own1=last.own1,
        own2=last.own2,
        ntk=signal.ntk + branch.ntk,
        gaussian=signal.gaussian and branch.gaussian,
        mean1=None if signal.mean1 is None else u1 * signal.mean1,
        mean2=None if signal.mean2 is None else u2 * signal.mean2,
    )


def _root_share(part: Array, whole: Array, if_zero: int) -> Array:
    """sqrt(part/whole), and `if_zero` where the whole vanishes."""
    dead = whole == 0
    return once(jnp.where(dead, if_zero, safe_sqrt(part / jnp.where(dead, 1, whole))))


def _rest_of_shares(*parts: Array) -> Array:
    """Zero, with the derivatives of half of u² + v² for the shares u² or v² that are zero."""
    whole = sum(parts)
    whole = jnp.where(whole == 0, 1, whole)
    shares = sum(jnp.where(part == 0, part / whole, 0) for part in parts)
    return replaced(shares / 2, jnp.zeros_like(shares))


def with_rates(zero: Array, inner: Array, cosine: Array, gap: Array) -> tuple[Array, Array]:
    """cosine and gap, with the derivatives of the covariance `inner` where an input is `zero`."""
    rates = jnp.where(zero, inner, cosine), jnp.where(zero, -inner, gap)
    return replaced(rates[0], cosine), replaced(rates[1], gap)


def paired(variance: Array, ntk: Array, features: int, gaussian: bool = False) -> Signal:
    """The `Signal` of entries with themselves."""
    one, zero = jnp.ones_like(variance), jnp.zeros_like(variance)
    angle = with_rates(variance == 0, variance, one, zero)
    return Signal(variance, variance, *angle, ntk, features, gaussian=gaussian)


def signed_gaps(signal: Signal) -> tuple[Array, Array]:
    """1 - ρ and 1 + ρ."""
    obtuse = signal.cosine < 0
    near, far = signal.gap, 2 - signal.gap
    return jnp.where(obtuse, far, near), jnp.where(obtuse, near, far)
