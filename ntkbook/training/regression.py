"""Kernel regression and the Gaussian process behind it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np

from ntkbook._base import rounding
from ntkbook._base.arguments import (
    as_floating,
    is_traced,
    require_choice,
    require_finite,
    require_shape,
)
from ntkbook._base.arrays import matmul
from ntkbook._base.hints import guided
from ntkbook._base.messages import Short
from ntkbook._base.traced import nonnegative
from ntkbook._base.types import Array, ArrayLike, Float, Num, Scalar
from ntkbook.signals.signal import Kernel
from ntkbook.training.factors import Factor, factorize
from ntkbook.training.modes import Modes, psd_modes
from ntkbook.training.problem import at_test_points, stacked, training_set, unstacked


@jax.tree_util.register_dataclass
@dataclass(frozen=True, repr=False)
class Regression(Short):
    """The regression made by `regression`; `coefficients` are over the training points.

    A pytree of `kernel`, `y` and `ridge`: where it enters a compiled function, the kernel is
    decomposed anew.  Of a kernel (N, N, k, k) all outputs are one list, `kernel` (N k, N k) and
    `y` (N k,), `outputs` being k; `kind` is the part of a `Kernel` that counts, None for arrays;
    `entries` the dtype whose rounding the kernel carries; `positive` whether the ridge is known
    to be.
    """

    kernel: Float[Array, "N N"]
    y: Float[Array, "N *k"]
    ridge: Float[Array, ""]
    kind: str | None = field(metadata={"static": True})
    outputs: int | None = field(metadata={"static": True})
    positive: bool = field(metadata={"static": True})
    entries: np.dtype = field(metadata={"static": True})

    @property
    def modes(self) -> Modes:
        """The modes of the kernel, eigenvalues that are only rounding being zero."""
        return psd_modes("k_train", self.kernel, self.entries)

    @property
    def coefficients(self) -> Float[Array, "N *k"]:
        """α = (K + δI)⁻¹ y, of the shape of y, so that f(x) = K(x, X) α."""
        return unstacked(self._computed(lambda factor, y: factor.solve(y), self.y), self.outputs)

    def predict(
        self, k_test_train: Num[ArrayLike, "M N"] | Num[ArrayLike, "M N k k"] | Kernel
    ) -> Float[Array, "M *k"]:
        """Predictions K(x, X) α.

        **Arguments**: `k_test_train`, the kernel between test and training points, of the kind
        of that of the training points: (M, N), (M, N, k, k), or a `Kernel`.

        **Returns**: (M,) or (M, k), as `y`.

        **Raises**: ValueError for another shape, or for NaN; not for a transposed kernel of as
        many test points as training points, which nothing tells.

        >>> import jax.numpy as jnp
        >>> fit = regression(jnp.eye(2), jnp.array([1.0, -1.0]), ridge=3.0)    # α = y/4
        >>> fit.predict(jnp.array([[1.0, 0.5]])).tolist()
        [0.125]
        """
        cross = self._cross(k_test_train)
        found = self._computed(lambda factor, y: factor.solve(y), self.y)
        given = as_floating("k_test_train", self._part("k_test_train", k_test_train)).dtype
        entries = rounding.coarsest(self.entries, given, self.y.dtype)
        rounding.warn_of_felt_rounding(cross, found, self.y, entries, "use a larger ridge")
        mean = self._computed(lambda factor, y, c: matmul(c, factor.solve(y)), self.y, cross)
        return unstacked(mean, self.outputs)

    def posterior(
        self,
        k_test_train: Num[ArrayLike, "M N"] | Num[ArrayLike, "M N k k"] | Kernel,
        k_test: Num[ArrayLike, "M M"]
        | Num[ArrayLike, "M"]
        | Num[ArrayLike, "M M k k"]
        | Num[ArrayLike, "M k"]
        | Kernel,
    ) -> tuple[
        Float[Array, "M *k"],
        Float[Array, "M M"] | Float[Array, "M"] | Float[Array, "M M k k"] | Float[Array, "M k"],
    ]:
        """Mean and covariance of the Gaussian process, given the data.

        The covariance K_** − K_*X (K + δI)⁻¹ K_X* is that of the function, without the noise δ
        of a new observation, and the same for each output that has no kernel of its own.

        **Arguments**: `k_test_train` as for `predict`; `k_test` (M, M), the kernel between test
        points, or (M,), its diagonal alone, of all outputs (M, M, k, k) or (M, k); or a `Kernel`,
        of `kernel_diagonal` too.

        **Returns**: mean (M,) or (M, k), and the covariance or, of the diagonal, the variances,
        cut off at zero, in the shape of `k_test`.

        **Raises**: ValueError for other shapes, or for NaN.

        **Source**: Rasmussen & Williams 2006, section 2.2.

        >>> import jax.numpy as jnp
        >>> fit = regression(jnp.eye(2), jnp.array([1.0, -1.0]), ridge=1.0)
        >>> mean, variances = fit.posterior(jnp.array([[1.0, 0.0]]), jnp.array([1.0]))
        >>> print(mean.round(4), variances.round(4))
        [0.5] [0.5]
        """
        mean, cross, k = self.predict(k_test_train), self._cross(k_test_train), self.outputs
        part = as_floating("k_test", self._part("k_test", k_test))
        tail = () if k is None else (k,)
        variances = part.ndim == 1 + len(tail)
        points = mean.shape[:1] * (1 if variances else 2)
        require_shape("k_test", part, points + tail * len(points))
        own = require_finite("k_test", stacked("k_test", part)[0].astype(self.y.dtype))

        # A root of the inverse on either side: what is taken off is a square, so a variance can
        # only shrink, and a covariance stays symmetric.
        def given_data(factor, cross, own):
            known = factor.whiten(cross.T)
            if variances:
                return jnp.maximum(own - jnp.sum(known**2, axis=0), 0)
            return own - matmul(known.T, known)

        left = self._computed(given_data, cross, own.reshape(-1) if variances else own)
        if k is None or variances:
            return mean, unstacked(left, k)
        return mean, left.reshape(len(mean), k, len(mean), k).transpose(0, 2, 1, 3)

    def log_marginal_likelihood(self) -> Float[Array, ""]:
        """log p(y) = −½ yᵀ(K + δI)⁻¹y − ½ log det(K + δI) − ½ N log 2π.

        **Returns**: a scalar, summed over outputs, for N observations with noise variance δ.

        **Raises**: ValueError for a singular kernel without a ridge; under `jit`, which cannot
        raise, it is −inf.

        **Source**: Rasmussen & Williams 2006, eq. 2.30.

        >>> import jax.numpy as jnp
        >>> fit = regression(jnp.eye(1), jnp.zeros(1), ridge=1.0)
        >>> round(float(fit.log_marginal_likelihood()), 4)    # −½ log 4π
        -1.2655
        """

        def likelihood(factor, y):
            white = factor.whiten(y.reshape(len(y), -1))
            volume = factor.log_determinant() + len(y) * jnp.log(2 * jnp.pi)
            value = -(jnp.sum(white**2) + white.shape[1] * volume) / 2
            return jnp.where(jnp.isneginf(volume), -jnp.inf, value)

        self._require_definite("log_marginal_likelihood")
        return self._computed(likelihood, self.y)

    def leave_one_out_residuals(self) -> Float[Array, "N *k"]:
        """f_{−i}(x_i) − y_i, f_{−i} being the regression without example i.

        Exact, without N regressions: −α_i / [(K + δI)⁻¹]_ii, where that is a k × k block if each
        output has a kernel of its own.

        **Returns**: the shape of `y`.

        **Raises**: ValueError for a singular kernel without a ridge; under `jit`, which cannot
        raise, it is NaN.

        **Source**: Rasmussen & Williams 2006, section 5.4.2.

        >>> import jax.numpy as jnp
        >>> regression(jnp.eye(2), jnp.array([1.0, -1.0])).leave_one_out_residuals().tolist()
        [-1.0, 1.0]
        """

        def residuals(factor, y):
            k = self.outputs or 1
            root = factor.whiten(jnp.eye(len(y), dtype=y.dtype)).reshape(len(y), -1, k)
            blocks = jnp.einsum("rna,rnb->nab", root, root, precision="highest")
            left = jnp.linalg.solve(blocks, factor.solve(y).reshape(len(blocks), k, -1))
            singular = jnp.isneginf(factor.log_determinant())
            return jnp.where(singular, jnp.nan, -left.reshape(y.shape))

        self._require_definite("leave_one_out_residuals")
        return unstacked(self._computed(residuals, self.y), self.outputs)

    def _part(self, name: str, kernel: ArrayLike | Kernel) -> ArrayLike:
        if not isinstance(kernel, Kernel):
            return kernel
        if self.kind is None:
            raise ValueError(f"{name} must be an array, as k_train is one, got a Kernel")
        return getattr(kernel, self.kind)

    def _cross(self, k_test_train: ArrayLike | Kernel) -> Array:
        part = self._part("k_test_train", k_test_train)
        return at_test_points(self.y, None, part, None, outputs=self.outputs)[0]

    def _require_definite(self, what: str) -> None:
        size = self._computed(lambda factor: factor.log_determinant())
        if not is_traced(size) and size == -np.inf:
            raise ValueError(f"{what} needs a positive ridge for a singular kernel, got ridge 0")

    def _factor(self) -> Factor:
        """The kernel's factor, kept with this very object, unless it belongs to a trace."""
        if "_kept" in vars(self):
            return vars(self)["_kept"]
        known, traced = (self.kernel, self.ridge), is_traced(self.kernel, self.ridge)
        with contextlib.nullcontext() if traced else _in_float64():
            kernel, ridge = known if traced else (jnp.asarray(a, jnp.float64) for a in known)
            made = factorize("k_train", kernel, ridge, self.positive, self.entries)
        if not traced:
            vars(self)["_kept"] = made
        return made

    def _computed(self, function: Callable[..., Array], *arrays: Array) -> Array:
        """function(factor, *arrays), in float64 unless something is traced, in the dtype of y."""
        factor, dtype = self._factor(), self.y.dtype
        if is_traced(*jax.tree.leaves(factor), *arrays):
            factor = jax.tree.map(lambda a: jnp.asarray(a, dtype), factor)
            return function(factor, *arrays)
        with _in_float64():
            return function(factor, *(jnp.asarray(a, jnp.float64) for a in arrays)).astype(dtype)


@guided
def regression(
    k_train: Num[ArrayLike, "N N"] | Num[ArrayLike, "N N k k"] | Kernel,
    y_train: Num[ArrayLike, "N *k"],
    ridge: Scalar = 0.0,
    kind: str = "ntk",
) -> Regression:
    """Kernel regression: the minimum of Σ (f(x_i) − y_i)² + δ ‖f‖², and of least ‖f‖ for δ = 0.

    f(x) = K(x, X) (K + δI)⁻¹ y, in the space of the kernel K, is the limit of the gradient flow
    under K at δ = 0, and the posterior mean of the Gaussian process of covariance K for
    observations with noise of variance δ.  A ridge is solved for by Cholesky.  At δ = 0 modes
    whose eigenvalues are only rounding, such as N·eps·λmax in float64, are left out, as
    `gradient_flow` does at t = ∞.  Outside of `jit` and `grad` all is computed in float64; what a
    float32 kernel has lost already is lost, and a UserWarning says so where that is more than
    1/1000 of |y|.  Another one comes from `predict` where rounding of the kernels' entries, in the
    dtype they came in, times the coefficients moves predictions by 1 % of the largest target.

    **Arguments**: `k_train`, symmetric and positive semi-definite, an array (N, N) or, with a
    kernel for each pair of outputs, (N, N, k, k), or a `Kernel`; `y_train` (N,) or (N, k);
    `ridge` δ ≥ 0; `kind`, the part of a `Kernel` that counts: "ntk", as for a network trained
    to the end, or "nngp", the Gaussian process of the untrained ones.  Results have the
    arguments' dtype.

    **Returns**: `Regression` with `predict(k_test_train)`, `posterior(k_test_train, k_test)`,
    `coefficients`, `log_marginal_likelihood()` and `leave_one_out_residuals()`, a pytree.  All
    can be differentiated in the kernel and the ridge, at repeated eigenvalues too.

    **Raises**: ValueError for a kernel that is not square, finite, symmetric and, up to rounding,
    positive semi-definite, for shapes that do not fit, for NaN, for a negative ridge, for a
    `kind` of an array, and, of the last two methods, for a singular kernel without a ridge.
    Class labels draw a warning as for `gradient_flow`.  Inside `jit`, where values can't be looked
    at, nothing is warned of, and a value that would raise ValueError makes the results NaN.

    **Source**: Rasmussen & Williams 2006, sections 2.2, 2.3, 5.4.2 and 6.2.

    >>> import jax.numpy as jnp
    >>> kernel, y = jnp.array([[2.0, 1.0], [1.0, 2.0]]), jnp.array([1.0, -1.0])
    >>> fit = regression(kernel, y, ridge=1.0)       # y is the mode of eigenvalue 1: α = y/2
    >>> print(fit.predict(jnp.array([[1.0, 0.5]])).round(4))
    [0.25]
    >>> print(fit.posterior(jnp.array([[1.0, 1.0]]), jnp.array([[2.0]]))[1].round(4))
    [[1.5]]
    >>> print(fit.leave_one_out_residuals().round(4))       # −1/3 from the other example, minus 1
    [-1.3333  1.3333]
    """
    ridge = nonnegative("ridge", ridge)
    require_choice("kind", kind, ("ntk", "nngp"))
    whole = isinstance(k_train, Kernel)
    if kind != "ntk" and not whole:
        raise ValueError(f"kind={kind!r} needs k_train as a Kernel, got an array")
    part = getattr(k_train, kind) if isinstance(k_train, Kernel) else k_train
    kernel, y, _, outputs = training_set(part, y_train, None)
    fit = Regression(
        kernel=kernel,
        y=y,
        ridge=rounding.represented("ridge", ridge, y.dtype),
        kind=kind if whole else None,
        outputs=outputs,
        positive=not is_traced(ridge) and bool(np.asarray(ridge) > 0),
        entries=as_floating("k_train", part).dtype,
    )
    vars(fit)["_kept"] = fit._factor()  # within a trace too: whoever made it wants it
    if fit.entries != jnp.float64:
        _warn_of_lost_modes(fit)
    return fit


def _warn_of_lost_modes(fit):
    """Warn when rounding has taken a good part of what the coefficients are to fit."""

    def missed(factor, kernel, ridge, y):
        found = factor.solve(y)
        gap = y - matmul(kernel, found) - ridge * found
        return jnp.sum(gap**2) / jnp.maximum(jnp.sum(y**2), jnp.finfo(y.dtype).tiny)

    share = fit._computed(missed, fit.kernel, fit.ridge, fit.y)
    if not is_traced(share) and share > rounding.NOTICED:  # or the modes need not be computed
        of = "(K + δI) α = y is missed by {} of |y|"
        rounding.warn_of_lost_modes(fit.modes.values, fit.entries, share, of)


@contextlib.contextmanager
def _in_float64() -> Iterator[None]:
    """Compute in float64, and at once where a function is traced that holds known numbers."""
    with jax.ensure_compile_time_eval(), jax.enable_x64(True):
        yield
