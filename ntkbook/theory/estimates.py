"""The risk of kernel regression, estimated from the training set alone."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from ntkbook._base.messages import Short
from ntkbook._base.types import Array, ArrayLike, Float, Num
from ntkbook.signals.signal import Kernel
from ntkbook.theory.effective_ridge import nonnegative
from ntkbook.training.modes import psd_modes
from ntkbook.training.problem import trained_kernel, training_set


@jax.tree_util.register_dataclass
@dataclass(frozen=True, repr=False)
class RiskEstimates(Short):
    """Estimates made by `risk_estimates`, each for every ridge (…) that it was asked for.

    **Fields**: `train`, the mean squared residual on the training set, no estimate of the risk;
    `leave_one_out`, the mean of `Regression.leave_one_out_residuals` squared; `gcv`, generalised
    cross-validation.
    """

    train: Float[Array, "..."]
    leave_one_out: Float[Array, "..."]
    gcv: Float[Array, "..."]

    @property
    def kare(self) -> Float[Array, "..."]:
        """The kernel alignment risk estimator at λ = δ/N, which is the same number as `gcv`."""
        return self.gcv


def risk_estimates(
    k_train: Num[ArrayLike, "N N"] | Kernel,
    y_train: Num[ArrayLike, "N *k"],
    ridge: Num[ArrayLike, "..."] = 0.0,
) -> RiskEstimates:
    """Mean squared error on new samples, estimated from the training set, for one or many ridges.

    With α = (K + δI)⁻¹y and r = (K + δI)⁻¹ the residuals left out are α_i/r_ii, and generalised
    cross-validation puts the mean of the r_ii in place of each:

        leave one out = (1/N) Σ (α_i/r_ii)²,   GCV = (1/N) Σ α_i² / ((1/N) tr r)².

    One decomposition serves for all ridges.

    **Arguments**: `k_train` (N, N), an array or a `Kernel`, of which the NTK counts; `y_train`
    (N,) or (N, k), whose k squared errors are added; `ridge` δ ≥ 0, a number or an array.

    **Returns**: `RiskEstimates`, of the shape of `ridge`.

    **Raises**: ValueError for what `regression` refuses, and for a singular kernel, such as that
    of repeated samples, without a ridge.

    **Source**: Craven & Wahba 1978 and Golub, Heath & Wahba 1979; Jacot, Şimşek, Spadaro,
    Hongler & Gabriel 2020, with the kernel divided by N, λ = δ/N.

    >>> import jax.numpy as jnp
    >>> found = risk_estimates(jnp.diag(jnp.array([1.0, 3.0])), jnp.array([1.0, 1.0]))
    >>> print(found.train, found.leave_one_out, found.gcv.round(4))
    0.0 1.0 1.25
    """
    kernel, y, _, outputs = training_set(trained_kernel(k_train, "all"), y_train, None)
    if outputs is not None:
        raise ValueError(
            "k_train must be (N, N), one kernel for all outputs, got one for each pair"
        )
    ridges = nonnegative("ridge", ridge)
    modes = psd_modes("k_train", kernel)
    values, vectors = (np.asarray(part, float) for part in (modes.values, modes.vectors))
    if np.any(ridges == 0) and values.min() == 0:
        raise ValueError(
            "ridge must be positive where k_train is singular, as for repeated samples, got 0"
        )
    targets = np.asarray(y, float).reshape(len(y), -1)
    along, squares = vectors.T @ targets, vectors**2
    rows = [_estimates(vectors, squares, along, values + d, d) for d in np.ravel(ridges)]
    parts = np.reshape(np.transpose(rows), (3, *ridges.shape))
    return RiskEstimates(*(jnp.asarray(part, y.dtype) for part in parts))


def _estimates(vectors, squares, along, shifted, ridge):
    """Train, leave-one-out and GCV error, from targets in the modes and eigenvalues + δ."""
    alpha = vectors @ (along / shifted[:, None])
    inverse = squares @ (1 / shifted)  # the diagonal of (K + δI)⁻¹
    sizes = np.sum(alpha**2, axis=1)
    return (
        np.mean(sizes) * ridge**2,
        np.mean(sizes / inverse**2),
        np.mean(sizes) / np.mean(inverse) ** 2,
    )
