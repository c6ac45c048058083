"""Eigenvalues and a target against samples, features and a ridge: the equations and their root."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from ntkbook._base.arguments import as_floating, is_traced, require_finite, require_shape
from ntkbook._base.messages import Short
from ntkbook._base.types import Array, ArrayLike, Float


@jax.tree_util.register_dataclass
@dataclass(frozen=True, repr=False)
class Eigenlearning(Short):
    """What `eigenlearning` or `random_features` predicts, in each case (…) that it was asked for.

    **Fields**: `eigenvalues` (m,); `effective_ridge` ς; `overfitting` E₀, the factor by which
    fitting the samples raises the risk; `test_risk`, the mean squared error on new samples *with*
    their noise; `train_risk`, that on the training samples.
    """

    eigenvalues: Float[Array, "m"]
    effective_ridge: Float[Array, "..."]
    overfitting: Float[Array, "..."]
    test_risk: Float[Array, "..."]
    train_risk: Float[Array, "..."]

    @property
    def learnability(self) -> Float[Array, "... m"]:
        """The share of each eigenfunction that is learnt, λ/(λ + ς), from 0 to 1."""
        return self.eigenvalues / (self.eigenvalues + self.effective_ridge[..., None])


@dataclass(frozen=True)
class Levels:
    """A spectrum as float64 of NumPy: positive `values` and their `counts`; `power` of each.

    `unseen` is the power at eigenvalue zero; `given` the eigenvalues as they came.
    """

    values: np.ndarray
    counts: np.ndarray
    power: np.ndarray
    unseen: float
    given: Array

    @classmethod
    def of(cls, eigenvalues: ArrayLike, power: ArrayLike, multiplicity: ArrayLike | None) -> Levels:
        given = as_floating("eigenvalues", eigenvalues)
        require_shape("eigenvalues", given, (None,))
        values = nonnegative("eigenvalues", eigenvalues)
        if multiplicity is None:
            multiplicity = np.ones(values.shape)
        parts = (("power", power), ("multiplicity", multiplicity))
        power, counts = (
            require_shape(name, nonnegative(name, part), values.shape) for name, part in parts
        )
        seen = (values > 0) & (counts > 0)
        if not seen.any():
            raise ValueError("eigenvalues must have a positive one, of positive multiplicity")
        unseen = power[~seen].sum()
        return cls(values[seen], counts[seen], power[seen], unseen, given)

    def averaged(
        self, samples: ArrayLike, features: ArrayLike, ridge: ArrayLike, noise_variance: ArrayLike
    ) -> Eigenlearning:
        cases = np.broadcast_arrays(
            positive("samples", samples),
            positive("features", features, infinite=True),
            nonnegative("ridge", ridge),
            nonnegative("noise_variance", noise_variance),
        )
        rows = [self._case(*map(float, case)) for case in zip(*map(np.ravel, cases), strict=True)]
        parts = np.reshape(np.transpose(rows), (4, *cases[0].shape))
        return Eigenlearning(self.given, *(jnp.asarray(p, self.given.dtype) for p in parts))

    def _case(self, samples, width, ridge, noise):
        """Effective ridge, E₀, test and train risk of one case."""
        varsigma, a, b = self._solved(samples, width, ridge)
        left, learnt = (x / (self.values + varsigma) for x in (varsigma, self.values))
        w = self.counts @ (left * learnt)
        # bw/(b + w) and w/(b + w), for b from zero to infinity.
        inner, share = (w, 0.0) if np.isinf(b) else (b * w / (b + w), w / (b + w))
        scale = samples / (a + inner) if a + inner > 0 else np.inf
        wrong = self.power @ (left * (left + share * learnt)) + self.unseen + noise
        test = scale * wrong if wrong > 0 else 0.0  # not ∞ · 0
        return varsigma, scale, test, (a / samples) ** 2 * test if a > 0 else 0.0

    def _solved(self, samples, width, ridge):
        """ς with ς a b = nδ, by Newton's method on log ς within a bracket; and a, b.

        The smaller of a and b is e, the larger e + |N − n|, so that ς e (e + |N − n|) = nδ, and
        one equation is left, z + e = min(N, n), whose left side falls with ς.
        """
        small, gap, modes = min(samples, width), abs(samples - width), self.counts.sum()
        if ridge == 0 and small >= modes:
            which = "samples" if samples <= width else "features"
            raise ValueError(
                f"{which} must be fewer than the {modes:g} modes of positive eigenvalue where the "
                f"ridge is 0, got {small:g}: pass a ridge, small if need be"
            )

        def slack(varsigma):
            """e and its derivative in log ς; for n = ∞ it is δ/ς."""
            c = ridge / varsigma if np.isinf(width) else width * ridge / varsigma
            if np.isinf(width):
                return c, -c
            if c == 0:
                return 0.0, 0.0
            e = c / ((gap + np.hypot(gap, 2 * np.sqrt(c))) / 2)
            return e, -c / (2 * e + gap)

        # z = modes − Σ ς/(λ + ς) cancels near all modes: there the sum of what is left is used.
        full = small > modes / 2
        per = 1.0 if np.isinf(width) else width / (small / 2 + gap)
        high = max(2 * (self.counts @ self.values), 2 * ridge * per) / small
        low = max(self.values.min() * (modes - small) / small, ridge * per / (2 * small))
        low, varsigma = max(low, np.finfo(float).tiny), high
        for _ in range(200):
            per_unit = 1 / (self.values + varsigma)
            learnt = self.values * per_unit
            slope, (e, de) = varsigma * (self.counts @ (learnt * per_unit)), slack(varsigma)
            if full:
                top = varsigma * (self.counts @ per_unit) + max(small - modes, 0)
                bottom = e + max(modes - small, 0)
                excess, rise = np.log(top / bottom), slope / top - de / bottom
            else:
                total = self.counts @ learnt + e
                excess, rise = -np.log(total / small), (slope - de) / total
            low, high = (varsigma, high) if excess < 0 else (low, varsigma)
            new = varsigma * np.exp(np.clip(-excess / rise, -700, 700))
            if abs(excess) < 1e-14 or high <= low:
                break
            varsigma = new if low < new < high else np.sqrt(low) * np.sqrt(high)
        e = slack(new)[0]
        large = np.inf if np.isinf(width) else e + gap
        return (new, e, large) if samples <= width else (new, large, e)


def _known(name: str, value: ArrayLike) -> np.ndarray:
    """`value` in float64, which JAX need not be set to."""
    if is_traced(value):
        raise TypeError(f"{name} must be known, got a tracer: the solution is iterated to the end")
    as_floating(name, value)
    return np.asarray(value, float)


def nonnegative(name: str, value: ArrayLike) -> np.ndarray:
    """`value` in float64; raises ValueError for an entry that is negative or not finite."""
    array = require_finite(name, _known(name, value))
    if np.any(array < 0):
        raise ValueError(f"{name} must not be negative, got {array.min():.3g}")
    return array


def positive(name: str, value: ArrayLike, infinite: bool = False) -> np.ndarray:
    """`value` in float64; raises ValueError for an entry that is not positive, or not finite."""
    array = _known(name, value)
    if not np.all(array > 0):  # NaN neither
        raise ValueError(f"{name} must be positive, got {array.min():.3g}")
    return array if infinite else require_finite(name, array)
