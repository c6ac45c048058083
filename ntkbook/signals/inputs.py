"""Where signals start: inputs, the angles between them, and what is kept of both.

Rounding must not set parallel inputs apart, nor take the digits of a small angle: nearly equal
numbers are subtracted before they are multiplied.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial, reduce
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ntkbook._base.arrays import gram
from ntkbook._base.types import Array, Bool, Float
from ntkbook.gaussian.pairs import once, safe_sqrt, well_kept
from ntkbook.signals.signal import Signal, paired, with_rates

# Up to this many features, differences of all pairs cost no more than the layers do.
FEW_FEATURES = 4

# Numbers that a fast cache holds.
_CACHED = 2**17


class Inputs(NamedTuple):
    """Raw inputs `x` (n, d) or (n, *space, d), with what the kernels need of them.

    **Fields**: `x` (n, d); `scale` (n,), a power of two, of which the largest entry is between one
    half and one; `variance` (n,), x · x / d; `unit` (n, d), x at length one; `length` (n,), the
    factor of `unit` in x/sqrt(d), not zero where x is; `own`, as in `Signal`.
    """

    x: Float[Array, "n d"]
    scale: Float[Array, "n"]
    variance: Float[Array, "n"]
    unit: Float[Array, "n d"]
    length: Float[Array, "n"]
    own: tuple[Array, ...] = ()


def inputs(x: Float[Array, "n *d"]) -> Inputs:
    """The `Inputs` of x (n, d), or of each pixel of x (n, *space, d)."""
    # Squares are taken of entries near one: those of x itself may overflow, or vanish, where x · x
    # / d or the angles are well within the dtype.  A power of two changes no digit.
    _, exponent = jnp.frexp(jax.lax.stop_gradient(jnp.abs(x).max(-1, initial=0)))
    scale = jnp.ldexp(jnp.ones((), x.dtype), exponent)
    near_one = x / scale[..., None]
    length2 = (near_one * near_one).sum(-1)
    # An input of length zero stays zero: its divisor is one, so that its derivative is finite.
    length = jnp.where(length2 == 0, 1, safe_sqrt(length2))
    variance = length2 / x.shape[-1] * scale * scale
    return Inputs(
        x, scale, variance, near_one / length[..., None], length * (scale / x.shape[-1] ** 0.5)
    )


def input_signal(
    inputs1: Inputs,
    inputs2: Inputs,
    exact: bool = False,
    identical: Bool[Array, "n1 n2"] | bool = False,
) -> Signal:
    """The `Signal` x1 · x2 / d of the raw `Inputs` (n1, d) and (n2, d).

    The Gram matrix gives 1 - |ρ| of nearly parallel inputs up to its own rounding, some sqrt(d)
    units; differences of the inputs give the angle to a few units, for n1 n2 d operations
    outside the matrix product.  With `exact`, or up to `FEW_FEATURES`, they are always taken,
    otherwise when a pair is closer than eps^(3/8), which is 1.4e-6 in float64 and 2.5e-3 in
    float32.  `identical`, a mask, marks pairs that are known to be one input.
    """
    if inputs1.x.shape[-1] <= FEW_FEATURES:
        rows = jax.tree.map(lambda a: a[:, None], inputs1)
        return signal_of_few(rows, jax.tree.map(lambda a: a[None], inputs2), identical)
    var1, var2 = inputs1.variance[:, None], inputs2.variance[None, :]
    product = gram(inputs1.unit, inputs2.unit)
    cosine, gap, parallel = _angles(var1, var2, product, identical)
    # eps^(3/8): below it the Gram matrix, right to eps or so, gives the angle sqrt(2 gap) to fewer
    # than 5/8 of its digits; a larger limit would make more matrices take the differences.
    limit = 2 if exact else jnp.finfo(gap.dtype).eps ** 0.375
    close = ((gap < limit) & ~parallel).any()
    near = (gap < 0.5) & ~parallel
    precise = partial(_gap_by_differences, inputs1, inputs2, cosine, near)
    # A condition on the whole tile, since `where` would compute the differences in any case.
    gap = jax.lax.cond(close, precise, lambda gap: gap, gap)
    inner = product * inputs1.length[:, None] * inputs2.length[None, :]
    return _started(var1, var2, inner, cosine, gap, inputs1.x.shape[-1])


def signal_of_few(
    inputs1: Inputs, inputs2: Inputs, identical: Bool[Array, "..."] | bool = False
) -> Signal:
    """The `Signal` of `Inputs` whose axes before the features broadcast to those of the pairs.

    Always by differences, and one feature after the other: an axis of few is too short to compute
    along.
    """
    features = range(inputs1.x.shape[-1])
    var1, var2 = inputs1.variance, inputs2.variance

    def each(array: Array) -> list[Array]:
        return [once(array[..., k]) for k in features]

    units = zip(each(inputs1.unit), each(inputs2.unit), strict=True)
    product = _total(a * b for a, b in units)
    cosine, gap, parallel = _angles(var1, var2, product, identical)

    ends = inputs1.x / inputs1.scale[..., None], inputs2.x / inputs2.scale[..., None]
    row, column = map(each, ends)
    ratio = inputs2.scale / inputs1.scale
    turn = jnp.where(cosine < 0, -1, 1) * jnp.where(_comparable(ratio), ratio, 1)
    apart = [turn * b - a for a, b in zip(row, column, strict=True)]
    length2, norm2 = (jnp.sum(end * end, -1) for end in ends)
    per_length2 = once(1 / jnp.where(length2 > 0, length2, 1))
    along = _total(c * a for a, c in zip(row, apart, strict=True)) * per_length2
    across2 = _total((c - along * a) ** 2 for a, c in zip(row, apart, strict=True))
    size2 = jnp.where(norm2 > 0, norm2, 1) * turn * turn
    precise = across2 / (size2 * (1 + jnp.abs(cosine)))
    gap = jnp.where((gap < 0.5) & ~parallel, precise, gap)
    inner = product * inputs1.length * inputs2.length
    return _started(var1, var2, inner, cosine, gap, len(features))


def _total(terms: Iterable[Array]) -> Array:
    return reduce(jnp.add, terms)


def _angles(
    var1: Array, var2: Array, product: Array, identical: Bool[Array, "..."] | bool
) -> tuple[Array, Array, Array]:
    """Cosine and gap of the product of two unit vectors, and which pairs have no angle to find."""
    parallel = (var1 == 0) | (var2 == 0) | identical
    # Not `clip`, which halves derivatives at the ends of its range.
    cosine = jnp.where(parallel | (product > 1), 1, jnp.where(product < -1, -1, product))
    return cosine, jnp.where(parallel, 0, 1 - jnp.abs(cosine)), parallel


def _comparable(ratio: Array) -> Array:
    """Whether one power of two may serve both inputs, `ratio` being that of their own.

    One keeps differences exact; of very different lengths, where the longer one would leave nothing
    of the other, each is brought near one by itself.
    """
    return (ratio > 0.2) & (ratio < 5)


def _started(
    var1: Array, var2: Array, inner: Array, cosine: Array, gap: Array, features: int
) -> Signal:
    zero = (var1 == 0) | (var2 == 0)
    cosine, gap = well_kept(*with_rates(zero, inner, cosine, gap))
    return Signal(var1, var2, cosine, gap, jnp.zeros_like(gap), features)


def _gap_by_differences(
    inputs1: Inputs,
    inputs2: Inputs,
    cosine: Float[Array, "n1 n2"],
    near: Bool[Array, "n1 n2"],
    gap: Float[Array, "n1 n2"],
) -> Float[Array, "n1 n2"]:
    """1 - |ρ| where `near`, from the part of x2 ∓ x1 that is orthogonal to x1."""
    # Nearly equal numbers are subtracted before they are multiplied, when the difference is exact;
    # 1 - cos θ from inner products would keep only what their rounding leaves.

    def sine2_of(args: tuple[Array, Array, Array]) -> Array:
        row, scale, signs = args
        row = row / scale
        scale2 = jnp.where(_comparable(inputs2.scale / scale), scale, inputs2.scale)
        x2 = inputs2.x / scale2[:, None]
        apart = x2 - signs[:, None] * row
        length2, norm2 = (row * row).sum(), (x2 * x2).sum(-1)
        along = (apart * row).sum(-1) / jnp.where(length2 > 0, length2, 1)
        across = apart - along[:, None] * row
        return (across * across).sum(-1) / jnp.where(norm2 > 0, norm2, 1)

    # As many rows at once as keep the differences, rows × n2 × d, in a fast cache.
    rows = max(1, min(len(inputs1.x), _CACHED // inputs2.x.size))
    signs = jnp.where(cosine < 0, -1.0, 1.0)
    sine2 = jax.lax.map(sine2_of, (inputs1.x, inputs1.scale, signs), batch_size=rows)
    return jnp.where(near, sine2 / (1 + jnp.abs(cosine)), gap)


def paired_signal(x: Float[Array, "n d"]) -> Signal:
    """The `Signal` of each input (n, d) with itself; everything in it has shape (n,)."""
    variance = inputs(x).variance
    return paired(variance, jnp.zeros_like(variance), x.shape[-1])
