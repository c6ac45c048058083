"""The nonlinearities: layers without parameters, each a function of every entry and its dual."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from ntkbook._base.arguments import (
    require_count,
    require_number,
    require_positive,
    require_shape,
)
from ntkbook.gaussian import duals
from ntkbook.gaussian.quadrature import hermite_series, quadrature
from ntkbook.networks.layer import Layer
from ntkbook.networks.signal import through_dual


class Nonlinearity(Layer):
    """A function of each entry, `fn`, and its `dual`."""

    fn: Callable

    @property
    def dual(self) -> Any:
        raise NotImplementedError

    def apply(self, params, x):
        return self.fn(x)

    # Compiled by layer, not by network: equal layers share one program, however deep the network.
    @partial(jax.jit, static_argnums=0)
    def propagate(self, signal, hyperparameters):
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
    """z for z > 0 and negative_slope z for z < 0: `duals.abrelu`."""

    negative_slope: float = 0.01

    def __post_init__(self):
        slope = float(require_number("negative_slope", self.negative_slope))
        object.__setattr__(self, "negative_slope", slope)

    def fn(self, z):
        return jnp.where(z > 0, z, self.negative_slope * z)

    @property
    def dual(self):
        return duals.abrelu(self.negative_slope, 1.0)


@dataclass(frozen=True)
class Abs(Nonlinearity):
    """The absolute value: `duals.abrelu`."""

    fn = staticmethod(jnp.abs)
    dual = duals.abrelu(-1, 1)


@dataclass(frozen=True)
class RectifiedPower(Nonlinearity):
    """max(z, 0)^order, order a whole number from 0, the step: `duals.rectified_power`."""

    order: int = 2

    def __post_init__(self):
        object.__setattr__(self, "order", require_count("order", self.order, 0))

    def fn(self, z):
        return jnp.where(z > 0, z**self.order, 0)

    @property
    def dual(self):
        return duals.rectified_power(self.order)


@dataclass(frozen=True)
class Erf(Nonlinearity):
    """The error function, erf(z) (not erf(z/√2)): `duals.erf`."""

    fn = staticmethod(jax.scipy.special.erf)
    dual = duals.erf


@dataclass(frozen=True)
class Sin(Nonlinearity):
    """sin(z): `duals.sin`."""

    fn = staticmethod(jnp.sin)
    dual = duals.sin


@dataclass(frozen=True)
class Cos(Nonlinearity):
    """cos(z): `duals.cos`."""

    fn = staticmethod(jnp.cos)
    dual = duals.cos


@dataclass(frozen=True)
class Rbf(Nonlinearity):
    """√2 sin(√(2γ) z + π/4), whose dual is the Gaussian kernel exp(-γ E(u - v)²): `duals.rbf`."""

    gamma: float = 1.0

    def __post_init__(self):
        object.__setattr__(self, "gamma", float(require_positive("gamma", self.gamma)))

    def fn(self, z):
        return 2**0.5 * jnp.sin((2 * self.gamma) ** 0.5 * z + jnp.pi / 4)

    @property
    def dual(self):
        return duals.rbf(self.gamma)


@dataclass(frozen=True)
class Exp(Nonlinearity):
    """exp(z): `duals.exp`."""

    fn = staticmethod(jnp.exp)
    dual = duals.exp


@dataclass(frozen=True)
class Gaussian(Nonlinearity):
    """exp(-b z²): `duals.gaussian`."""

    b: float = 0.5

    def __post_init__(self):
        object.__setattr__(self, "b", float(require_positive("b", self.b)))

    def fn(self, z):
        return jnp.exp(-self.b * z * z)

    @property
    def dual(self):
        return duals.gaussian(self.b)


@dataclass(frozen=True)
class Gelu(Nonlinearity):
    """z Φ(z), Φ the normal distribution function (the exact one, not by tanh): `duals.gelu`."""

    fn = staticmethod(partial(jax.nn.gelu, approximate=False))
    dual = duals.gelu


@dataclass(frozen=True)
class Polynomial(Nonlinearity):
    """Σ_m coefficients[m] z^m: `duals.polynomial`.

    A monomial z³ is Polynomial((0, 0, 0, 1)), a Hermite polynomial
    Polynomial(numpy.polynomial.hermite_e.herme2poly(...)).
    """

    coefficients: tuple[float, ...]

    def __post_init__(self):
        numbers = tuple(float(require_number("coefficients", a)) for a in self.coefficients)
        if not any(numbers):
            raise ValueError(f"coefficients must have one that is not zero, got {numbers}")
        object.__setattr__(self, "coefficients", numbers)

    def fn(self, z):
        return jnp.polyval(jnp.array(self.coefficients[::-1], z.dtype), z)

    @property
    def dual(self):
        return duals.polynomial(self.coefficients)


@dataclass(frozen=True)
class Tanh(Nonlinearity):
    """tanh(z), whose dual has no closed form: `quadrature.quadrature`."""

    fn = staticmethod(jnp.tanh)
    dual = quadrature(jnp.tanh)


@dataclass(frozen=True)
class Elementwise(Nonlinearity):
    """Any function of each entry, written in JAX; its kernel is by quadrature.

    `fn` should be continuous, and smooth but for a kink at zero; see `quadrature.expectation` for
    the accuracy.  With a `degree` the kernel is the Hermite series of that degree instead, far
    cheaper and good for smooth functions: see `quadrature.hermite_series`.  Two layers are equal
    when they hold the same function object.

    >>> from ntkbook import Dense, Serial
    >>> softplus = Elementwise(jax.nn.softplus, name="softplus")
    >>> Serial(Dense(8), softplus).kernel(jnp.ones((1, 2))).nngp.round(4).tolist()
    [[0.9212]]
    """

    fn: Callable
    name: str = "elementwise"
    degree: int | None = None

    def __post_init__(self):
        if not callable(self.fn):
            raise TypeError(f"fn must be a function, got {type(self.fn).__name__}")
        if self.degree is not None:
            require_count("degree", self.degree)

    def apply(self, params, x):
        return require_shape(f"the output of {self.name}", self.fn(x), jnp.shape(x))

    @property
    def dual(self):
        return hermite_series(self.fn, self.degree) if self.degree else quadrature(self.fn)
