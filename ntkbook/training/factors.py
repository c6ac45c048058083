"""Roots of K + δI: what regression needs of its kernel, for a solve, a square or a determinant.

A positive ridge makes the matrix definite, and its Cholesky factor costs a tenth of the
eigenvectors.  Without a ridge, or with one that only the run will know, a root of the
pseudo-inverse is made of them.  Both have derivatives of every order, at repeated eigenvalues too:
neither differentiates an eigenvector, which may turn at once where two eigenvalues meet.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular

from ntkbook._base.arguments import is_traced
from ntkbook._base.arrays import matmul
from ntkbook._base.types import Array, DTypeLike, Float
from ntkbook.training.modes import psd_modes


class Factor(ABC):
    """A matrix R with RᵀR = (K + δI)⁻¹, or the pseudo-inverse where K + δI is singular."""

    @abstractmethod
    def whiten(self, v: Float[Array, "N *m"]) -> Float[Array, "N *m"]:
        """R v, whose square is vᵀ(K + δI)⁻¹v."""

    @abstractmethod
    def solve(self, v: Float[Array, "N *m"]) -> Float[Array, "N *m"]:
        """(K + δI)⁻¹ v."""

    @abstractmethod
    def log_determinant(self) -> Float[Array, ""]:
        """log det(K + δI), −inf where it is singular."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Cholesky(Factor):
    """R = L⁻¹ with L Lᵀ = K + δI, `lower` being L."""

    lower: Float[Array, "N N"]

    def whiten(self, v: Float[Array, "N *m"]) -> Float[Array, "N *m"]:
        return solve_triangular(self.lower, v, lower=True)

    def solve(self, v: Float[Array, "N *m"]) -> Float[Array, "N *m"]:
        return solve_triangular(self.lower, self.whiten(v), lower=True, trans=1)

    def log_determinant(self) -> Float[Array, ""]:
        return 2 * jnp.sum(jnp.log(jnp.diagonal(self.lower)))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class PseudoRoot(Factor):
    """R = `root` itself, with the eigenvalues `values` of K + δI."""

    root: Float[Array, "N N"]
    values: Float[Array, "N"]

    def whiten(self, v: Float[Array, "N *m"]) -> Float[Array, "N *m"]:
        return matmul(self.root, v)

    def solve(self, v: Float[Array, "N *m"]) -> Float[Array, "N *m"]:
        return matmul(self.root.T, self.whiten(v))

    def log_determinant(self) -> Float[Array, ""]:
        return jnp.sum(jnp.log(self.values))


def factorize(
    name: str,
    kernel: Float[Array, "N N"],
    ridge: Float[Array, ""],
    positive: bool,
    entries: DTypeLike,
) -> Factor:
    """The `Factor` of kernel + ridge, by Cholesky where the ridge is known to be `positive`.

    `entries` is the dtype whose rounding the kernel's entries carry.  Raises ValueError, naming
    the kernel, where it is not PSD up to that.
    """
    if not positive:
        return PseudoRoot(*_pseudo_root(name, entries, kernel, ridge)[:2])
    if not is_traced(kernel):
        # A definite matrix K + τI with a τ of rounding is quicker to tell than eigenvalues.
        tau = jnp.minimum(ridge, 16 * _rounding(kernel, entries))
        if not jnp.isfinite(_cholesky(kernel, tau)).all():
            psd_modes(name, kernel, entries)  # which raises, or knows better
    return Cholesky(_lower(name, entries, kernel, ridge))


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _lower(name, entries, kernel, ridge):
    # The largest sum of a row is no less than λmax.
    size = len(kernel) * jnp.max(jnp.sum(jnp.abs(kernel), axis=1))
    rounding = jnp.maximum(jnp.finfo(kernel.dtype).eps * size, _rounding(kernel, entries))

    # A ridge within the rounding of the kernel, or of its factor, need not make it definite: then
    # L is made of the modes.  An eigenvalue that is only rounding counts as the size of that, lest
    # the rounding of other entries be divided by next to nothing.
    def from_modes():
        found = psd_modes(name, kernel, entries)
        values = ridge + jnp.where(found.values == 0, rounding, found.values)
        upper = jnp.linalg.qr(jnp.sqrt(values)[:, None] * found.vectors.T, mode="r")
        return (upper * jnp.where(jnp.diagonal(upper) < 0, -1, 1)[:, None]).T

    if is_traced(rounding, ridge):
        clear = ridge > rounding
        return jax.lax.cond(clear, lambda: _cholesky(kernel, ridge), from_modes)
    lower = _cholesky(kernel, ridge) if ridge > rounding else jnp.nan
    return lower if jnp.isfinite(lower).all() else from_modes()


@_lower.defjvp
def _lower_jvp(name, entries, primals, tangents):
    # dL = L Φ(L⁻¹ dA L⁻ᵀ), Φ being the lower half with half the diagonal (Murray 2016, eq. 8).
    lower = _lower(name, entries, *primals)
    inside = solve_triangular(lower, _shifted(*tangents), lower=True)
    inside = solve_triangular(lower, inside.T, lower=True)
    half = jnp.tril(inside) - jnp.diag(jnp.diagonal(inside)) / 2
    return lower, matmul(lower, half)


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _pseudo_root(name, entries, kernel, ridge):
    """R, the eigenvalues of K + δI, and the projection on its null space."""
    found = psd_modes(name, kernel, entries)
    values = found.values + ridge
    null = values == 0
    # The divisor 1 keeps NaN out of the branch not taken, where it would spoil derivatives.
    scales = jnp.where(null, 0, 1 / jnp.sqrt(jnp.where(null, 1, values)))
    projection = matmul(found.vectors * null, found.vectors.T)
    return scales[:, None] * found.vectors.T, values, projection


@_pseudo_root.defjvp
def _pseudo_root_jvp(name, entries, primals, tangents):
    # R is known up to a rotation from the left, so any dR with the right d(RᵀR) will do.  With
    # G = RᵀR, the projection P and E = d(K + δI) this is, at constant rank, −G E G + G² E P +
    # P E G², and dP is −G E P − P E G (Golub & Pereyra 1973).
    root, values, null = _pseudo_root(name, entries, *primals)
    change = _shifted(*tangents)
    inverse = matmul(root.T, root)
    rows = matmul(root, change)
    turned = matmul(matmul(matmul(root, inverse), change), null) - matmul(rows, inverse) / 2
    # dλ_i = u_iᵀ E u_i with u_i = √λ_i R_i, which serves the sum of the logarithms alone.
    moved = values * jnp.sum(rows * root, axis=1)
    into_null = matmul(matmul(inverse, change), null)
    return (root, values, null), (turned, moved, -into_null - into_null.T)


def _rounding(kernel, entries):
    """What the rounding of its entries may do to an eigenvalue, if it is independent."""
    return jnp.finfo(entries).eps * len(kernel) ** 0.5 * jnp.max(jnp.abs(kernel))


def _shifted(kernel, ridge):
    return (kernel + kernel.T) / 2 + ridge * jnp.eye(len(kernel), dtype=kernel.dtype)


@jax.jit
def _cholesky(kernel, ridge):
    return jnp.linalg.cholesky(_shifted(kernel, ridge), symmetrize_input=False)
