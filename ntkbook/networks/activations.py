"""The nonlinearities: layers without parameters, each a function of every entry and its dual."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from ntkbook._base.arguments import (
    require_count,
    require_number,
    require_positive,
    require_shape,
)
from ntkbook._base.types import Array, ArrayLike, Num, PyTree
from ntkbook.gaussian import duals
from ntkbook.gaussian.pairs import Dual
from ntkbook.gaussian.quadrature import hermite_series, quadrature
from ntkbook.networks.layer import Layer
from ntkbook.networks.signal import Signal, through_dual


class Nonlinearity(Layer):
    """A function of each entry, `fn`, and its `dual`: the two that a nonlinearity must define."""

    fn: Callable[..., Array]

    @property
    def dual(self) -> Dual:
        """E[φ(u) φ(v)] and its slope: from `duals`, or by `quadrature.quadrature(fn)`."""
        raise NotImplementedError(
            f"{type(self).__name__} must define dual, the Dual of its function fn"
        )

    def apply(self, params: PyTree, x: Num[ArrayLike, "*n"]) -> Num[Array, "*n"]:
        """`fn` of every entry of x, of any shape; `params` is ()."""
        return self.fn(x)

    # Compiled by layer, not by network: equal layers share one program, however deep the network.
    @partial(jax.jit, static_argnums=0)
    def propagate(self, signal: Signal, hyperparameters: PyTree) -> Signal:
        return through_dual(signal, self.dual)


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


@dataclass(frozen=True)
class LeakyRelu(Nonlinearity):
    """z for z > 0 and negative_slope z for z < 0: `duals.abrelu`.

    **Arguments**: `negative_slope`, any finite number.

    >>> LeakyRelu(0.1).apply((), jnp.array([-2.0, 3.0])).tolist()
    [-0.2, 3.0]
    """

    negative_slope: float = 0.01

    def __post_init__(self) -> None:
        slope = float(require_number("negative_slope", self.negative_slope))
        object.__setattr__(self, "negative_slope", slope)

    def fn(self, z: Num[Array, "*n"]) -> Num[Array, "*n"]:
        return jnp.where(z > 0, z, self.negative_slope * z)

    @property
    def dual(self) -> Dual:
        return duals.abrelu(self.negative_slope, 1.0)


@dataclass(frozen=True)
class Abs(Nonlinearity):
    """The absolute value: `duals.abrelu`.

    >>> Abs().apply((), jnp.array([-2.0, 3.0])).tolist()
    [2.0, 3.0]
    """

    fn = staticmethod(jnp.abs)
    dual = duals.abrelu(-1, 1)


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


@dataclass(frozen=True)
class Erf(Nonlinearity):
    """The error function, erf(z) (not erf(z/√2)): `duals.erf`.

    >>> Erf().apply((), jnp.array([0.0, 1.0])).round(4).tolist()
    [0.0, 0.8427]
    """

    fn = staticmethod(jax.scipy.special.erf)
    dual = duals.erf


@dataclass(frozen=True)
class Sin(Nonlinearity):
    """sin(z): `duals.sin`.

    >>> Sin().apply((), jnp.array([0.0, jnp.pi / 2])).tolist()
    [0.0, 1.0]
    """

    fn = staticmethod(jnp.sin)
    dual = duals.sin


@dataclass(frozen=True)
class Cos(Nonlinearity):
    """cos(z): `duals.cos`.

    >>> Cos().apply((), jnp.array([0.0, jnp.pi])).tolist()
    [1.0, -1.0]
    """

    fn = staticmethod(jnp.cos)
    dual = duals.cos


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
        object.__setattr__(self, "gamma", float(require_positive("gamma", self.gamma)))

    def fn(self, z: Num[Array, "*n"]) -> Num[Array, "*n"]:
        return 2**0.5 * jnp.sin((2 * self.gamma) ** 0.5 * z + jnp.pi / 4)

    @property
    def dual(self) -> Dual:
        return duals.rbf(self.gamma)


@dataclass(frozen=True)
class Exp(Nonlinearity):
    """exp(z): `duals.exp`.

    >>> Exp().apply((), jnp.array([0.0, 1.0])).round(4).tolist()
    [1.0, 2.7183]
    """

    fn = staticmethod(jnp.exp)
    dual = duals.exp


@dataclass(frozen=True)
class Gaussian(Nonlinearity):
    """exp(-b z²): `duals.gaussian`.

    **Arguments**: `b` > 0.

    >>> Gaussian(b=0.5).apply((), jnp.array([0.0, 1.0])).round(4).tolist()
    [1.0, 0.6065]
    """

    b: float = 0.5

    def __post_init__(self) -> None:
        object.__setattr__(self, "b", float(require_positive("b", self.b)))

    def fn(self, z: Num[Array, "*n"]) -> Num[Array, "*n"]:
        return jnp.exp(-self.b * z * z)

    @property
    def dual(self) -> Dual:
        return duals.gaussian(self.b)


@dataclass(frozen=True)
class Gelu(Nonlinearity):
    """z Φ(z), Φ the normal distribution function (the exact one, not by tanh): `duals.gelu`.

    >>> Gelu().apply((), jnp.array([0.0, 1.0])).round(4).tolist()
    [0.0, 0.8413]
    """

    fn = staticmethod(partial(jax.nn.gelu, approximate=False))
    dual = duals.gelu


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

    >>> Tanh().apply((), jnp.array([0.0, 1.0])).round(4).tolist()
    [0.0, 0.7616]
    """

    fn = staticmethod(jnp.tanh)
    dual = quadrature(jnp.tanh)


@dataclass(frozen=True)
class Elementwise(Nonlinearity):
    """Any function of each entry, written in JAX; its kernel is by quadrature.

    **Arguments**: `fn`, continuous, and smooth but for a kink at zero: see `quadrature.expectation`
    for the accuracy; `name`, used in messages; `degree`, with which the kernel is the Hermite
    series of that degree instead, far cheaper and good for smooth functions: see
    `quadrature.hermite_series`.  Two layers are equal when they hold the same function object.

    **Raises**: TypeError for `fn` that can't be called, TypeError or ValueError for `degree`;
    later, ValueError when `fn` changes the shape.

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
        return require_shape(f"the output of {self.name}", self.fn(x), jnp.shape(x))

    @property
    def dual(self) -> Dual:
        return hermite_series(self.fn, self.degree) if self.degree else quadrature(self.fn)
