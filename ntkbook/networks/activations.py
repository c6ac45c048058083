"""The nonlinearities: layers without parameters, each a function of every entry and its dual."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from ntkbook._base.arguments import (
    described,
    is_traced,
    require_count,
    require_number,
    require_positive,
    require_shape,
)
from ntkbook._base.hints import guided, guided_layer, keep_number, require_known
from ntkbook._base.rows import require_entries
from ntkbook._base.types import Array, ArrayLike, Num, PyTree
from ntkbook.gaussian import duals, functions
from ntkbook.gaussian.pairs import Dual
from ntkbook.gaussian.quadrature import quadrature
from ntkbook.networks.layer import Layer
from ntkbook.signals.range import lost, missed, within_reach
from ntkbook.signals.signal import Signal, through_dual

_DUALS = "for a parameter that varies use ntkbook.duals"


class Nonlinearity(Layer):
    """A function of each entry, `fn`, and its `dual`: the two that a nonlinearity must define."""

    fn: Callable[..., Array]

    @property
    def dual(self) -> Dual:
        """E[φ(u) φ(v)] and its slope: from `duals`, or by `quadrature.quadrature(fn)`."""
        raise NotImplementedError(
            f"{type(self).__name__} must define dual, the Dual of its function fn"
        )

    @guided
    def apply(self, params: PyTree, x: Num[ArrayLike, "*n"]) -> Num[Array, "*n"]:
        """`fn` of every entry of x, of any shape; `params` is ()."""
        require_entries(x)
        return self.fn(x)

    def propagate(self, signal: Signal, hyperparameters: PyTree) -> Signal:
        return _through(self, signal)

    def _probe(self, signal: Signal) -> None:
        """Raise TypeError or ValueError for an `fn` without a dual, where any may be chosen."""


# Compiled by layer, not by network: equal layers share one program, however deep the network.
@partial(jax.jit, static_argnums=0)
def _through(layer: Nonlinearity, signal: Signal) -> Signal:
    return through_dual(signal, layer.dual)


# The same for a family of activations, one program for all: its number is given to the program.
@partial(jax.jit, static_argnums=0)
def _through_one_of(family: Callable[..., Dual], number: float, signal: Signal) -> Signal:
    return through_dual(signal, family(jnp.asarray(number, signal.gap.dtype)))


@dataclass(frozen=True)
class Relu(Nonlinearity):
    """max(z, 0): `duals.relu`.

    >>> from ntkbook import Dense, Serial
    >>> net = Serial(Dense(512, w_std=2**0.5), Relu(), Dense(1))
    >>> net.kernel(jnp.array([[1.0, 0.0]])).ntk.round(12).tolist()   # E[relu(u)²] + E[relu'(u)²]
    [[1.0]]
    """

    fn = staticmethod(jax.nn.relu)
    dual = duals.relu


@guided_layer
@dataclass(frozen=True)
class LeakyRelu(Nonlinearity):
    """z for z > 0 and negative_slope z for z < 0: `duals.abrelu`.

    **Arguments**: `negative_slope`, any finite number.

    >>> LeakyRelu(0.1).apply((), jnp.array([-2.0, 3.0])).tolist()
    [-0.2, 3.0]
    """

    negative_slope: float = 0.01

    def __post_init__(self) -> None:
        keep_number(self, "negative_slope", require_number, f"{_DUALS}.abrelu(a, b)")

    def fn(self, z: Num[Array, "*n"]) -> Num[Array, "*n"]:
        return jnp.where(z > 0, z, self.negative_slope * z)

    @property
    def dual(self) -> Dual:
        return _leaky(self.negative_slope)

    def propagate(self, signal: Signal, hyperparameters: PyTree) -> Signal:
        return _through_one_of(_leaky, self.negative_slope, signal)


def _leaky(negative_slope: float) -> Dual:
    return duals.abrelu(negative_slope, 1.0)


@dataclass(frozen=True)
class Abs(Nonlinearity):
    """The absolute value: `duals.abrelu`.

    >>> Abs().apply((), jnp.array([-2.0, 3.0])).tolist()
    [2.0, 3.0]
    """

    fn = staticmethod(jnp.abs)
    dual = duals.abrelu(-1, 1)


@guided_layer
@dataclass(frozen=True)
class RectifiedPower(Nonlinearity):
    """max(z, 0)^order: `duals.rectified_power`.

    **Arguments**: `order`, a whole number from 0, the step.

    >>> RectifiedPower(2).apply((), jnp.array([-2.0, 3.0])).tolist()
    [0.0, 9.0]
    """

    order: int = 2

    def __post_init__(self) -> None:
        object.__setattr__(self, "order", require_count("order", self.order, 0))

    def fn(self, z: Num[Array, "*n"]) -> Num[Array, "*n"]:
        return jnp.where(z > 0, z**self.order, 0)

    @property
    def dual(self) -> Dual:
        return duals.rectified_power(self.order)


@guided_layer
@dataclass(frozen=True)
class Erf(Nonlinearity):
    """The error function, erf(z) (not erf(z/√2)): `duals.erf`.

    >>> Erf().apply((), jnp.array([0.0, 1.0])).round(4).tolist()
    [0.0, 0.8427]
    """

    fn = staticmethod(jax.scipy.special.erf)
    dual = duals.erf


@guided_layer
@dataclass(frozen=True)
class Sin(Nonlinearity):
    """sin(z): `duals.sin`.

    >>> Sin().apply((), jnp.array([0.0, jnp.pi / 2])).tolist()
    [0.0, 1.0]
    """

    fn = staticmethod(jnp.sin)
    dual = duals.sin


@guided_layer
@dataclass(frozen=True)
class Cos(Nonlinearity):
    """cos(z): `duals.cos`.

    >>> Cos().apply((), jnp.array([0.0, jnp.pi])).tolist()
    [1.0, -1.0]
    """

    fn = staticmethod(jnp.cos)
    dual = duals.cos


@guided_layer
@dataclass(frozen=True)
class Rbf(Nonlinearity):
    """√2 sin(√(2γ) z + π/4), whose dual is the Gaussian kernel exp(-γ E(u - v)²): `duals.rbf`.

    **Arguments**: `gamma` > 0.

    >>> from ntkbook import Dense, Serial
    >>> x = jnp.array([[1.0, 0.0], [0.0, 1.0]])      # through Dense, E(u - v)² is ‖x - x'‖²/2
    >>> Serial(Dense(8), Rbf(gamma=0.5)).kernel(x).nngp.round(4).tolist()
    [[1.0, 0.6065], [0.6065, 1.0]]
    """

    gamma: float = 1.0

    def __post_init__(self) -> None:
        keep_number(self, "gamma", require_positive, f"{_DUALS}.rbf(gamma)")

    def fn(self, z: Num[Array, "*n"]) -> Num[Array, "*n"]:
        return 2**0.5 * jnp.sin((2 * self.gamma) ** 0.5 * z + jnp.pi / 4)

    @property
    def dual(self) -> Dual:
        return duals.rbf(self.gamma)

    def propagate(self, signal: Signal, hyperparameters: PyTree) -> Signal:
        return _through_one_of(duals.rbf, self.gamma, signal)


@dataclass(frozen=True)
class Exp(Nonlinearity):
    """exp(z): `duals.exp`.

    >>> Exp().apply((), jnp.array([0.0, 1.0])).round(4).tolist()
    [1.0, 2.7183]
    """

    fn = staticmethod(jnp.exp)
    dual = duals.exp


@guided_layer
@dataclass(frozen=True)
class Gaussian(Nonlinearity):
    """exp(-b z²): `duals.gaussian`.

    **Arguments**: `b` > 0.

    >>> Gaussian(b=0.5).apply((), jnp.array([0.0, 1.0])).round(4).tolist()
    [1.0, 0.6065]
    """

    b: float = 0.5

    def __post_init__(self) -> None:
        keep_number(self, "b", require_positive, f"{_DUALS}.gaussian(b)")

    def fn(self, z: Num[Array, "*n"]) -> Num[Array, "*n"]:
        return jnp.exp(-self.b * z * z)

    @property
    def dual(self) -> Dual:
        return duals.gaussian(self.b)

    def propagate(self, signal: Signal, hyperparameters: PyTree) -> Signal:
        return _through_one_of(duals.gaussian, self.b, signal)


@dataclass(frozen=True)
class Gelu(Nonlinearity):
    """z Φ(z), Φ the normal distribution function (the exact one, not by tanh): `duals.gelu`.

    >>> Gelu().apply((), jnp.array([0.0, 1.0])).round(4).tolist()
    [0.0, 0.8413]
    """

    fn = staticmethod(partial(jax.nn.gelu, approximate=False))
    dual = duals.gelu


@guided_layer
@dataclass(frozen=True)
class Polynomial(Nonlinearity):
    """Σ_m coefficients[m] z^m: `duals.polynomial`.

    A monomial z³ is Polynomial((0, 0, 0, 1)), a Hermite polynomial
    Polynomial(numpy.polynomial.hermite_e.herme2poly(...)).

    **Arguments**: `coefficients`, ascending; a tuple of floats is kept.

    **Raises**: TypeError or ValueError for entries that are no finite numbers, ValueError when all
    are zero.

    >>> Polynomial((1, 0, 2)).apply((), jnp.array([0.0, 3.0])).tolist()
    [1.0, 19.0]
    """

    coefficients: Sequence[float] | Num[np.ndarray, "degree"]

    def __post_init__(self) -> None:
        require_known("coefficients", self.coefficients, f"{_DUALS}.polynomial(…)")
        if np.ndim(self.coefficients) != 1:
            raise TypeError(
                "coefficients must be a sequence of numbers, that of z^0 first, got "
                f"{described(self.coefficients)}; z³ is Polynomial((0, 0, 0, 1))"
            )
        numbers = tuple(float(require_number("coefficients", a)) for a in self.coefficients)
        if not any(numbers):
            raise ValueError(f"coefficients must have one that is not zero, got {numbers}")
        object.__setattr__(self, "coefficients", numbers)

    def fn(self, z: Num[Array, "*n"]) -> Num[Array, "*n"]:
        return jnp.polyval(jnp.array(self.coefficients[::-1], z.dtype), z)

    @property
    def dual(self) -> Dual:
        return duals.polynomial(self.coefficients)


@dataclass(frozen=True)
class Tanh(Nonlinearity):
    """tanh(z), whose dual has no closed form: `quadrature.quadrature`.

    For n inputs its kernel costs some 100 (w_std)² n² operations a layer, and more for
    variances above 5; see `quadrature.expectation` for the errors.

    **Raises**: for a kernel, ValueError for variances above 1e14 (1e7 in float32), where it is a
    step that no quadrature resolves; within `jit` the kernel is NaN there.

    >>> Tanh().apply((), jnp.array([0.0, 1.0])).round(4).tolist()
    [0.0, 0.7616]
    """

    fn = staticmethod(jnp.tanh)
    dual = quadrature(jnp.tanh)

    def propagate(self, signal: Signal, hyperparameters: PyTree) -> Signal:
        return within_reach("Tanh", signal, super().propagate(signal, hyperparameters))


@guided_layer
@dataclass(frozen=True)
class Elementwise(Nonlinearity):
    """Any function of each entry, written in JAX; its kernel is by Hermite series and quadrature.

    **Arguments**: `fn`, continuous, and smooth but for a kink at zero, of which it may also have a
    jump: see `quadrature.expectation` for accuracy and cost; `name`, used in messages; `degree`,
    the last of the Hermite series, after which quadrature takes over: it changes the time that a
    kernel takes, not its values.  Two layers are equal when they hold the same function object.

    **Raises**: TypeError for `fn` that can't be called, TypeError or ValueError for `degree`;
    later, ValueError when `fn` changes the shape, and TypeError when it changes the dtype.  For a
    kernel, ValueError when `fn` doesn't act on each entry by itself, is random or not finite, or
    when quadrature misses a tenth of E[fn(z)²] or E[fn'(z)²].  It warns of an error that is smaller
    and above 4e-10 (7e-5 in float32), as for a kink away from zero.  Within `jit`, where nothing
    can be raised, it warns in both cases and gives NaN in the first.

    >>> from ntkbook import Dense, Serial
    >>> softplus = Elementwise(jax.nn.softplus, name="softplus")
    >>> Serial(Dense(8), softplus).kernel(jnp.ones((1, 2))).nngp.round(4).tolist()
    [[0.9212]]
    """

    fn: Callable[..., Array]
    name: str = "elementwise"
    degree: int | None = None

    def __post_init__(self) -> None:
        if not callable(self.fn):
            raise TypeError(f"fn must be a function, got {type(self.fn).__name__}")
        if self.degree is not None:
            require_count("degree", self.degree)

    def apply(self, params: PyTree, x: Num[ArrayLike, "*n"]) -> Num[Array, "*n"]:
        """`fn` of every entry of x, of any shape; `params` is ()."""
        require_entries(x)
        try:
            y = require_shape(f"the output of {self.name}", self.fn(x), jnp.shape(x))
        except jax.errors.TracerArrayConversionError as error:
            wanted = "must be written in JAX, with jax.numpy (jnp.tanh, not np.tanh)"
            raise TypeError(f"fn of {self.name} {wanted}, got one that JAX can't trace") from error
        return functions.require_dtype(f"the output of {self.name}", y, x)

    @property
    def dual(self) -> Dual:
        return quadrature(self.fn) if self.degree is None else quadrature(self.fn, self.degree)

    def propagate(self, signal: Signal, hyperparameters: PyTree) -> Signal:
        self._probe(signal)
        after = within_reach(self.name, signal, super().propagate(signal, hyperparameters))
        error, q = missed(self.fn, signal.var1, signal.var2)
        tolerance = functions.tolerable(signal.var1.dtype)
        if is_traced(error):
            jax.debug.callback(partial(functions.judge, self.name, tolerance), error, q)
            return lost(after, error > functions.MISSED)
        functions.judge(self.name, tolerance, error, q, refuse=True)
        return after

    def _probe(self, signal: Signal) -> None:
        if "_probed" not in vars(self):
            functions.require_entrywise(f"fn of {self.name}", self.fn)
            object.__setattr__(self, "_probed", True)
        z = jax.ShapeDtypeStruct(signal.gap.shape, signal.gap.dtype)
        functions.require_dtype(f"fn of {self.name}", jax.eval_shape(self.fn, z), z)
