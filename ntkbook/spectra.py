"""Spectra of kernels: modes on data, exact eigenvalues on the circle, and fits of their decay.

The eigenvectors of the Gram matrix Θ are the modes that gradient descent learns, and its
eigenvalues are the rates at which it learns them.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from ntkbook._validate import (
    as_floating,
    is_traced,
    require_count,
    require_finite,
    require_nonnegative,
    require_positive,
    require_psd,
    require_shape,
    require_symmetric,
)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Modes:
    """Eigenvalues `values` (N,), in descending order, and eigenvectors `vectors` (N, N).

    Column i of `vectors` is the unit eigenvector of `values[i]`; its sign is arbitrary, and so is
    the basis within the eigenspace of a repeated eigenvalue.
    """

    values: jax.Array
    vectors: jax.Array

    def project(self, v):
        """Coefficients Uᵀv of `v`, (N,) or (N, k), in the modes: the same shape, mode by mode."""
        v = as_floating("v", v)
        size = self.values.shape[0]
        require_shape("v", v, (size,) if v.ndim == 1 else (size, None))
        return matmul(self.vectors.T, v)

    def rates(self, learning_rate=1.0, discrete=False):
        """Rates (N,) at which the residual of each mode decays under the loss ½ Σ (f − y)².

        ηλ per unit of time for the gradient flow; with `discrete=True` −log|1 − ηλ| per step of
        gradient descent, which is negative for a mode that diverges and infinite for one that is
        learnt in a single step.
        """
        require_positive("learning_rate", learning_rate)
        speeds = learning_rate * self.values
        return -jnp.log(jnp.abs(1 - speeds)) if discrete else speeds


def matmul(a, b):
    """Product a @ b in the full precision of its dtype, which GPUs give up for speed if let."""
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def modes(kernel):
    """Eigen-decomposition Θ = U diag(λ) Uᵀ of a symmetric kernel matrix.

    **Arguments**: `kernel` (N, N), symmetric up to rounding; its dtype is kept.

    **Returns**: `Modes`, eigenvalues in descending order, as `eigh` finds them: an eigenvalue
    that is zero in exact arithmetic comes out as rounding of either sign.

    **Raises**: ValueError for a kernel that is not square, finite and symmetric.

    >>> import jax.numpy as jnp
    >>> found = modes(jnp.array([[2.0, 1.0], [1.0, 2.0]]))
    >>> print(found.values.round(4))
    [3. 1.]
    >>> print(jnp.abs(found.project(jnp.array([1.0, -1.0]))).round(4))
    [0.     1.4142]
    """
    kernel = require_symmetric("kernel", as_floating("kernel", kernel))
    values, vectors = jnp.linalg.eigh(kernel)
    return Modes(values[::-1], vectors[:, ::-1])


def zero_cutoff(values):
    """N·eps·λmax: eigenvalues (N,) of a PSD matrix below this are rounding, not information."""
    return values.shape[0] * jnp.finfo(values.dtype).eps * jnp.max(values)


def clear_null_modes(values):
    """Eigenvalues (N,) with those up to `zero_cutoff` set to exactly zero."""
    return jnp.where(values > zero_cutoff(values), values, 0)


def _spectrum(name, kernel):
    """Eigenvalues of a PSD matrix in ascending order, rounding cleared."""
    kernel = require_symmetric(name, as_floating(name, kernel))
    return clear_null_modes(require_psd(name, jnp.linalg.eigvalsh(kernel)))


def condition_number(kernel):
    """Condition number λmax/λmin of a PSD kernel (N, N); infinite for a singular one.

    An eigenvalue up to N·eps·λmax counts as zero.

    **Raises**: ValueError for a kernel that is not symmetric and PSD, or that is zero.

    >>> import jax.numpy as jnp
    >>> round(float(condition_number(jnp.array([[2.0, 1.0], [1.0, 2.0]]))), 4)
    3.0
    >>> float(condition_number(jnp.ones((2, 2))))
    inf
    """
    values = _spectrum("kernel", kernel)
    if not is_traced(values) and not values[-1] > 0:
        raise ValueError("kernel must have a positive eigenvalue, got a zero matrix")
    return values[-1] / values[0]


def effective_dimension(kernel, ridge):
    """Effective dimension tr Θ(Θ + δI)⁻¹ = Σ λ/(λ + δ) of a PSD kernel (N, N) at ridge δ.

    It falls from the rank of Θ at δ = 0 (an eigenvalue up to N·eps·λmax counts as zero) to 0.

    **Raises**: ValueError for a kernel that is not symmetric and PSD, or a negative ridge.

    >>> import jax.numpy as jnp
    >>> kernel = jnp.array([[2.0, 1.0], [1.0, 2.0]])    # eigenvalues 1 and 3
    >>> round(float(effective_dimension(kernel, ridge=1.0)), 4)
    1.25
    """
    require_nonnegative("ridge", ridge)
    values = _spectrum("kernel", kernel)
    learnt = values > 0
    return jnp.sum(jnp.where(learnt, values / jnp.where(learnt, values + ridge, 1), 0))


def fit_decay(k, values):
    """Exponent p of a power law values ≈ c·k^p, by least squares in log-log coordinates.

    **Arguments**: `k` (m,) and `values` (m,), positive, m ≥ 2.

    **Returns**: the slope, a scalar; negative for a decay.

    **Raises**: ValueError for unequal lengths, for fewer than two points or two different `k`,
    and for numbers that are not positive.

    >>> import jax.numpy as jnp
    >>> k = jnp.arange(1.0, 9.0)
    >>> round(float(fit_decay(k, 5.0 * k**-2)), 4)
    -2.0
    """
    k, values = as_floating("k", k), as_floating("values", values)
    require_shape("k", k, (None,))
    require_shape("values", values, k.shape)
    return _slope(_log("k", k), _log("values", values))


def fit_rate(times, amplitudes):
    """Rate γ of an exponential decay |amplitude| ≈ c·e^{−γt}, by least squares on its logarithm.

    **Arguments**: `times` (T,), T ≥ 2; `amplitudes` (T,) or (T, m), one column for each mode, of
    either sign and nowhere zero.

    **Returns**: the rate, a scalar or (m,); positive for a decay.

    **Raises**: ValueError for unequal lengths, for fewer than two different times, and for an
    amplitude that is zero: it has no logarithm.

    >>> import jax.numpy as jnp
    >>> times = jnp.linspace(0.0, 2.0, 5)
    >>> round(float(fit_rate(times, -3.0 * jnp.exp(-1.5 * times))), 4)
    1.5
    """
    times = as_floating("times", times)
    amplitudes = as_floating("amplitudes", amplitudes)
    require_shape("times", times, (None,))
    require_shape("amplitudes", amplitudes, times.shape + (None,) * (amplitudes.ndim == 2))
    return -_slope(require_finite("times", times), _log("|amplitudes|", jnp.abs(amplitudes)))


def _log(name, positive):
    require_finite(name, positive)
    if not is_traced(positive) and not np.all(np.asarray(positive) > 0):
        raise ValueError(f"{name} must be positive to be fitted, got {np.min(positive):.3g}")
    return jnp.log(positive)


def _slope(x, y):
    """Least-squares slope of y (m,) or (m, columns) against x (m,)."""
    if x.size < 2 or (not is_traced(x) and np.ptp(np.asarray(x)) == 0):
        raise ValueError(f"a fit needs at least two different points, got {x.size} point(s)")
    x = x - x.mean()
    return matmul(x, y - y.mean(axis=0)) / jnp.sum(x**2)


def circle_eigenvalues(kappa, k_max, points=2**16):
    """Eigenvalues of a kernel on the circle that depends on the angle θ between inputs only.

    The k-th is (1/π) ∫₀^π κ(θ) cos kθ dθ, k = 0 … k_max, with respect to the uniform probability
    measure; the eigenfunctions are cos kθ and sin kθ.

    The trapezium rule on `points` equispaced angles, one FFT for all k, errs by O(points⁻²) for
    the kernels of ReLU networks, which have a kink at θ = 0.  That error is the same multiple of
    points⁻² up to O(points⁻⁴) wherever κ is smooth between 0 and π, so the rule on every second
    angle removes it (Richardson's extrapolation).  The result is as exact as the values of κ:
    use float64 for eigenvalues below 1e-7 of the largest.

    **Arguments**: `kappa`, a function from angles (m,) in [0, π] to kernel values (m,), smooth in
    between; `k_max` ≥ 0; `points`, a multiple of 4 and at least 8·k_max.

    **Returns**: eigenvalues (k_max + 1,).

    **Raises**: ValueError for too few points, or for values of κ that are not finite.

    >>> import jax.numpy as jnp
    >>> values = circle_eigenvalues(lambda angle: 1 + jnp.cos(3 * angle), k_max=3, points=64)
    >>> print(jnp.abs(values).round(4))
    [1.  0.  0.  0.5]
    """
    k_max, points = require_count("k_max", k_max, minimum=0), require_count("points", points)
    if points % 4 or points < 8 * max(k_max, 1):
        raise ValueError(
            f"points must be a multiple of 4 and at least 8 k_max = {8 * k_max}, got {points}"
        )
    half = points // 2
    angles = jnp.arange(half + 1) * (jnp.pi / half)
    values = as_floating("kappa(angles)", kappa(angles))
    require_finite("kappa(angles)", require_shape("kappa(angles)", values, angles.shape))
    fine, coarse = (_trapezium(v)[: k_max + 1] for v in (values, values[::2]))
    return (4 * fine - coarse) / 3


def _trapezium(values):
    """Cosine coefficients of an even periodic function from its values (m + 1,) on [0, π]."""
    around = jnp.concatenate([values, values[-2:0:-1]])
    return jnp.fft.rfft(around).real / around.shape[0]
