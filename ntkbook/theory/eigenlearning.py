"""What a kernel learns of a target on average over training sets: the eigenlearning equations."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from ntkbook._base.arguments import as_floating, described, is_traced, require_shape
from ntkbook._base.summed import refuse_sum
from ntkbook._base.types import Array, ArrayLike, Float, Int, Num, Scalar
from ntkbook.signals.signal import Kernel
from ntkbook.theory.effective_ridge import Eigenlearning, Levels
from ntkbook.training.problem import trained_kernel
from ntkbook.training.regression import regression


def eigenlearning(
    eigenvalues: Num[ArrayLike, "m"],
    power: Num[ArrayLike, "m"],
    samples: Num[ArrayLike, "..."],
    ridge: Num[ArrayLike, "..."] = 0.0,
    noise_variance: Num[ArrayLike, "..."] = 0.0,
    multiplicity: Num[ArrayLike, "m"] | None = None,
) -> Eigenlearning:
    """Risk of kernel (ridge) regression, averaged over N random samples.

    The kernel is k(x, x') = Σ λ_i φ_i(x) φ_i(x'), with φ_i orthonormal under the law of the
    inputs; neither it nor its Gram matrix is divided by N, and the ridge δ is added to the Gram
    matrix.  The target is Σ v_i φ_i, observed with independent noise of variance ε².  Then

        N = Σ λ/(λ + ς) + δ/ς,  L = λ/(λ + ς),  E₀ = N/(N − Σ L²),
        test = E₀ (Σ (1 − L)² v² + ε²),  train = (δ/Nς)² test.

    It is exact for a Gaussian design as N and the number of modes grow, and an estimate for the
    eigenfunctions of a real kernel, better in high dimension than in low.

    **Arguments**: `eigenvalues` λ ≥ 0 (m,), in any order; `power` v² (m,), the target's, of each
    eigenspace as a whole; `samples` N > 0, `ridge` δ ≥ 0 and `noise_variance` ε² ≥ 0, numbers or
    arrays that broadcast; `multiplicity` (m,), the dimensions of the eigenspaces, 1 if not given.

    **Returns**: `Eigenlearning`, found in float64, of the dtype of the eigenvalues.

    **Raises**: ValueError for negative or not finite numbers, shapes that do not fit, and, without
    a ridge, N not below the number of positive eigenvalues: the kernel matrix is singular then.

    **Source**: Simon, Dickens, Karkada & DeWeese 2021; with other names Bordelon, Canatar &
    Pehlevan 2020, κ = Nς.

    >>> import jax.numpy as jnp
    >>> one, hundred = jnp.ones(1), jnp.array([100])
    >>> flat = eigenlearning(one, one, samples=25, noise_variance=1.0, multiplicity=hundred)
    >>> print(flat.effective_ridge.round(4), flat.learnability.round(4))    # N/100 of each mode
    3.0 [0.25]
    >>> print(flat.overfitting.round(2), flat.test_risk.round(2))    # 4/3, 25/12
    1.33 2.08
    """
    levels = Levels.of(eigenvalues, power, multiplicity)
    return levels.averaged(samples, np.inf, ridge, noise_variance)


def measured_learnability(
    kernel: Num[ArrayLike, "M M"] | Kernel,
    functions: Num[ArrayLike, "M *m"],
    train: Int[ArrayLike, "N"],
    ridge: Scalar = 0.0,
) -> Float[Array, "*m"]:
    """Learnability ⟨f, f̂⟩/⟨f, f⟩ of functions on a finite domain, f̂ learnt from a part of it.

    Over an orthonormal basis they sum to tr K_XX(K_XX + δI)⁻¹, for every training set: to the
    number of samples without a ridge, if K_XX is not singular.

    **Arguments**: `kernel` (M, M) on all points, an array or a `Kernel`, of which the NTK counts;
    `functions` (M,) or (M, m), one a column; `train` (N,), the indices of the training points, all
    different; `ridge` δ ≥ 0.

    **Returns**: a scalar or (m,).

    **Raises**: ValueError for indices out of range or repeated, for a function that is zero, and
    for what `regression` refuses.

    **Source**: Simon et al. 2021, definition of learnability.

    >>> import jax.numpy as jnp
    >>> kernel = jnp.eye(3) + 0.5                                   # learnt: one of three points
    >>> print(measured_learnability(kernel, jnp.eye(3), jnp.array([1])).round(4))
    [0. 1. 0.]
    """
    trained = trained_kernel(kernel, "all")
    refuse_sum("kernel", trained)  # before a part of it is taken, which is not known any more
    kernel = as_floating("kernel", trained)
    require_shape("kernel", kernel, (kernel.shape[0],) * 2)
    functions = as_floating("functions", functions)
    require_shape("functions", functions, kernel.shape[:1] + (None,) * (functions.ndim - 1))
    as_floating("train", train)  # a clear message for what is no array
    where = np.asarray(train)
    require_shape("train", where, (None,))
    if where.size == 0 or where.dtype.kind not in "iu":
        raise ValueError(f"train must hold indices of points, got {described(train)}")
    if where.min() < 0 or where.max() >= len(kernel):
        raise ValueError(
            f"train must hold indices of {len(kernel)} points, from 0 on, "
            f"got {where.min()} … {where.max()}"
        )
    if len(np.unique(where)) < len(where):
        raise ValueError("train must hold different points: a repeated one teaches nothing new")
    size = jnp.sum(functions**2, axis=0)
    if not is_traced(size) and not np.all(np.asarray(size) > 0):
        raise ValueError("functions must not be zero everywhere")
    fit = regression(kernel[where][:, where], functions[where], ridge)
    return jnp.sum(functions * fit.predict(kernel[:, where]), axis=0) / size
