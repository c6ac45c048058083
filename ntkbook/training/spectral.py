"""Functions of a symmetric matrix, and their derivatives where eigenvalues are repeated too.

f(K) = U f(λ) Uᵀ is as smooth in K as f is in λ.  The eigenvectors are not: where two eigenvalues
meet they may turn at once, and a derivative taken through them is 0 · ∞.  That of f(K) is

    d f(K)[E] = U (D ∘ UᵀEU) Uᵀ,    D_ij = (f(λ_i) − f(λ_j)) / (λ_i − λ_j),

f'(λ_i) where the two are equal (Daleckii & Krein 1965).  A `SpectralFunction` knows its divided
differences D to full accuracy, so that no difference of two nearly equal numbers is taken.

Results of `filtered` are coordinates in the eigenvectors U of K, which are held fixed: in them
f(K) is the diagonal f(λ), and its derivative is D ∘ UᵀEU.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import partial

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from ntkbook._base.arrays import matmul
from ntkbook._base.types import Array, Float
from ntkbook.training.modes import Modes


class SpectralFunction(ABC):
    """A function f of eigenvalues (N,) and of arguments, scalars or arrays of one shape (*t).

    Equal ones have equal hashes: it is a static argument of what is compiled.
    """

    @abstractmethod
    def value(self, values: Float[Array, "N"], args: tuple[Array, ...]) -> Float[Array, "*t N"]:
        """f at each eigenvalue."""

    @abstractmethod
    def divided(self, values: Float[Array, "N"], args: tuple[Array, ...]) -> Float[Array, "N N"]:
        """Divided differences of f between all pairs of eigenvalues, for scalar arguments."""


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _filtered(
    function: SpectralFunction,
    kernel: Float[Array, "N N"],
    modes: Modes,
    args: tuple[Array, ...],
    v: Float[Array, "*m N"],
) -> Float[Array, "*t *m N"]:
    """f(K) v for coordinates v (N,) or (m, N) in the modes, in the same coordinates.

    `modes` are those of `kernel`.  Derivatives exist in the kernel, the arguments and v, at
    repeated eigenvalues too.  A second derivative, once in the kernel, is taken through its
    eigenvectors, and NaN there.
    """
    factors = function.value(modes.values, args)
    return _rows(factors, v) * v


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _half_square(
    function: SpectralFunction,
    kernel: Float[Array, "N N"],
    modes: Modes,
    args: tuple[Array, ...],
    v: Float[Array, "m N"],
) -> Float[Array, "*t"]:
    """½ ‖f(K) v‖² of coordinates v (m, N), summed over m; arguments as in `filtered`."""
    return 0.5 * matmul(function.value(modes.values, args) ** 2, jnp.sum(v.T**2, axis=1))


def _filtered_jvp(function, primals, tangents):
    _, change, (vectors, fixed) = _change(function, primals, tangents)
    return filtered(function, *primals), matmul(matmul(change, vectors.T), fixed)


def _half_square_jvp(function, primals, tangents):
    value, change, _ = _change(function, primals, tangents)
    return half_square(function, *primals), jnp.sum(value * change, axis=(-2, -1))


_filtered.defjvp(_filtered_jvp, symbolic_zeros=True)
_half_square.defjvp(_half_square_jvp, symbolic_zeros=True)
filtered = jax.jit(_filtered, static_argnums=0)
half_square = jax.jit(_half_square, static_argnums=0)


def _change(function, primals, tangents):
    """f(K) v, its tangent, and the vectors (from, to) that lead back to the fixed coordinates.

    Both are in coordinates that turn with U: in numbers the same as the fixed ones, but a second
    derivative sees U turn.  What stands still costs nothing.
    """
    _, modes, args, v = primals
    d_kernel, _, d_args, d_v = tangents  # that of the modes is contained in that of the kernel
    vectors, fixed = _turning(modes.vectors, modes.values), jax.lax.stop_gradient(modes.vectors)

    rows = matmul(matmul(v, fixed.T), vectors)
    factors = _rows(function.value(modes.values, args), v)
    change = jnp.zeros_like(factors * rows)
    if not isinstance(d_v, SymbolicZero):
        change += factors * matmul(matmul(d_v, fixed.T), vectors)
    moved = {i: d for i, d in enumerate(d_args) if not isinstance(d, SymbolicZero)}
    if moved:
        change += _rows(_slope(function, modes.values, args, moved), v) * rows
    if not isinstance(d_kernel, SymbolicZero):
        inside = matmul(vectors.T, matmul((d_kernel + d_kernel.T) / 2, vectors))
        change += _turned(function, modes.values, args, rows, inside)
    return factors * rows, change, (vectors, fixed)


def _rows(factors, v):
    """Factors (*t, N) that go with `v` (N,) or (m, N)."""
    return factors if v.ndim == 1 else factors[..., None, :]


def _slope(function, values, args, moved):
    """Derivative (*t, N) of f at `values` along the tangents `moved` of some arguments."""

    def value(*some):
        new = dict(zip(moved, some, strict=True))
        return function.value(values, tuple(new.get(i, a) for i, a in enumerate(args)))

    return jax.jvp(value, tuple(args[i] for i in moved), tuple(moved.values()))[1]


def _turned(function, values, args, rows, inside):
    """`rows` (D ∘ `inside`), (*t, *m, N)."""

    def at(one):
        return matmul(rows, function.divided(values, one) * inside)

    shape = jnp.broadcast_shapes(*(jnp.shape(a) for a in args))
    each = tuple(jnp.broadcast_to(a, shape).reshape(-1) for a in args)
    # One time after the other, and made anew in the backward pass: D is N² for each of them.
    return jax.lax.map(jax.checkpoint(at), each).reshape(*shape, *rows.shape)


@jax.custom_jvp
def _turning(vectors, values):
    """`vectors` as they are; their derivative is NaN where eigenvalues are equal but for rounding.

    It would be the quotient of two roundings.
    """
    return vectors


@_turning.defjvp
def _turning_jvp(primals, tangents):
    vectors, values = primals
    gap = jnp.min(values[:-1] - values[1:], initial=jnp.inf)
    rounding = len(values) * jnp.finfo(values.dtype).eps * values[0]
    return vectors, jnp.where(gap > rounding, tangents[0], jnp.nan)
