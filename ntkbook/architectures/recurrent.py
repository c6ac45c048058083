"""Recurrent layers: one cell at each step of a sequence, with the same weights at all of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from ntkbook._base.arguments import require_parameters, require_positive, require_shape
from ntkbook._base.hints import guided, guided_layer, keep_number, not_a_layer
from ntkbook._base.rows import require_entries
from ntkbook._base.traced import positive
from ntkbook._base.types import Array, ArrayLike, Float, Num, PRNGKeyArray, PyTree
from ntkbook.architectures.windows import Spatial, bare
from ntkbook.gaussian.pairs import Dual
from ntkbook.networks.activations import Nonlinearity
from ntkbook.networks.dense import Dense
from ntkbook.networks.layer import Layer
from ntkbook.signals.signal import Signal, add_branch, scaled, through_dense, through_dual

_SCALES = "pass scales in the form of net.hyperparameters() as net.kernel(x, hyperparameters=...)"


@guided_layer
@dataclass(frozen=True)
class Recurrent(Spatial):
    """A recurrent layer on sequences (n, T, channels): its states h_1 … h_T, (n, T, width).

    h_t = φ(w_std/√width · h_{t-1} W + u_std/√channels · x_t U + b_std b) from h_0 = 0, with W, U
    and b the same at all steps and φ the `nonlinearity`.  In the limit a step t of one sequence and
    a step s of another have, for their arguments of φ,

        K_{t,s} = w_std² T(K_{t-1,s-1}) + u_std² X_{t,s} + b_std²,
        Θ_{t,s} = K_{t,s} + w_std² Ṫ(K_{t-1,s-1}) Θ_{t-1,s-1} + u_std² Ξ_{t,s},

    where X and Ξ are the two kernels of what comes in, and T and Ṫ are zero for the step before the
    first, whatever φ makes of zero.  The last steps see equal steps alone, as if weights were drawn
    anew at each step; averages over time see that they are not.

    **Arguments**: `width` ≥ 1 of the state; `nonlinearity`, such as Relu() or Erf(); `w_std` > 0;
    `u_std` > 0; `b_std` ≥ 0.  Its parameters are {"w": (width, width), "u": (channels, width),
    "b": (width,)}, "b" absent when b_std is zero.  `LastStep` or `GlobalAveragePool` make vectors
    of the states; layers may be stacked.

    **Raises**: TypeError or ValueError for other values; later, ValueError for inputs that are no
    sequences, and for two sets of sequences of different lengths.  Where b_std and φ(0) are zero
    the state stays zero before the first entry, so that zeros put *before* the shorter ones change
    nothing at the last step.

    **Source**: Yang 2020 (Tensor Programs II), section 6.2.1 for the last state, appendix E.2 for
    averages over time.

    >>> from ntkbook import Relu, Serial
    >>> net = Serial(Recurrent(64, Relu(), w_std=2**0.5), LastStep(), Dense(1))
    >>> x = jnp.ones((1, 4, 3))
    >>> net.kernel(x).ntk.round(12).tolist()               # 4/2 + (1 + 2 + 3 + 4)/2
    [[7.0]]
    >>> params = net.init(jax.random.key(0), x.shape[1:])
    >>> params[0]["w"].shape, params[0]["u"].shape, net.apply(params, x).shape
    ((64, 64), (3, 64), (1, 1))
    """

    width: int
    nonlinearity: Nonlinearity
    w_std: float = 1.0
    u_std: float = 1.0
    b_std: float = 0.0

    def __post_init__(self) -> None:
        dense = self.dense
        for name in ("width", "w_std", "b_std"):
            object.__setattr__(self, name, getattr(dense, name))
        keep_number(self, "u_std", require_positive, _SCALES)
        if not isinstance(self.nonlinearity, Nonlinearity):
            raise TypeError(
                "nonlinearity must be a layer with a dual, such as Relu() or Erf(), got "
                f"{not_a_layer(self.nonlinearity)}"
            )

    @property
    def dense(self) -> Dense:
        """The dense layer from one state to the next."""
        return Dense(self.width, self.w_std, self.b_std)

    @guided
    def apply(self, params: PyTree, x: Num[ArrayLike, "n T c"]) -> Float[Array, "n T k"]:
        """The states h_1 … h_T of `params` on sequences x (n, T, channels)."""
        require_entries(x)
        x = jnp.asarray(x)
        self.shape_after(x.shape[1:])
        width = (self.width,)
        shapes = {"w": width * 2, "u": (None, *width), "b": width}
        require_parameters(self, params, self._parameter_names(), shapes)
        w, u = params["w"], params["u"]
        require_shape("x", x, (*x.shape[:2], len(u)))
        w_scale, b_scale = self.dense.scales(self.width)
        drive = self.u_std / len(u) ** 0.5 * (x @ u)
        drive = drive + b_scale * params["b"] if "b" in params else drive

        def step(state: Array, entry: Array) -> tuple[Array, Array]:
            state = self.nonlinearity.apply((), w_scale * (state @ w) + entry)
            return state, state

        _, states = jax.lax.scan(step, jnp.zeros_like(drive[:, 0]), drive.swapaxes(0, 1))
        return states.swapaxes(0, 1)

    def hyperparameters(self) -> dict[str, float]:
        return {"w_std": self.w_std, "u_std": self.u_std, "b_std": self.b_std}

    def propagate(self, signal: Signal, hyperparameters: PyTree) -> Signal:
        _require_sequence(repr(self), signal.space)
        self.nonlinearity._probe(signal)  # before it is traced among the steps
        z = _arguments(bare(signal), hyperparameters, self.nonlinearity)
        return self.nonlinearity.propagate(replace(z, features=self.width), ())

    def shape_after(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (*_require_sequence(repr(self), shape[:-1]), self.width)

    def _foreign(self, shape: tuple[int, ...]) -> Iterator[tuple[Layer, int]]:
        return self.nonlinearity._foreign((self.width,))

    def _checked_scales(self, name: str, scales: PyTree) -> PyTree:
        scales = self.dense._checked_scales(name, scales)
        return scales | {"u_std": positive(f"{name}['u_std']", scales["u_std"])}

    def _parameter_names(self) -> dict[str, str]:
        return self.dense._parameter_names() | {"u": "u"}

    def _with_gates(self, scales: PyTree, gates: PyTree) -> PyTree:
        return scales | {"gates": gates}

    def _form(self, widths: bool) -> Recurrent:
        width = self.width if widths else 1
        return replace(self, width=width, w_std=1.0, u_std=1.0, b_std=0.0)

    def _init(self, key: PRNGKeyArray, features: int, dtype: np.dtype) -> dict[str, Array]:
        state_key, u_key = jax.random.split(key)
        params = self.dense._init(state_key, self.width, dtype)
        return params | {"u": jax.random.normal(u_key, (features, self.width), dtype)}


@dataclass(frozen=True)
class LastStep(Spatial):
    """The last step of each sequence (n, T, channels), vectors (n, channels).

    >>> LastStep().apply((), jnp.arange(6.0).reshape(1, 3, 2)).tolist()
    [[4.0, 5.0]]
    """

    @guided
    def apply(self, params: PyTree, x: Num[ArrayLike, "n T c"]) -> Num[Array, "n c"]:
        """The last step of the sequences x; `params` is ()."""
        require_entries(x)
        self.shape_after(jnp.shape(x)[1:])
        return jnp.asarray(x)[:, -1]

    def propagate(self, signal: Signal, hyperparameters: PyTree) -> Signal:
        self.shape_after((*signal.space, 1))
        last = (..., -1, -1) if signal.pixel_pairs else (..., -1)
        arrays = {name: getattr(signal, name) for name in (*_ZERO, "mean1", "mean2")}
        picked: dict = {name: None if a is None else a[last] for name, a in arrays.items()}
        return replace(signal, **picked, space=(), pixel_pairs=False)

    def shape_after(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        _require_sequence("LastStep()", shape[:-1])
        return (shape[-1],)


def _require_sequence(name: str, space: tuple[int, ...]) -> tuple[int, ...]:
    """`space`, if it has one axis, that of time; ValueError of the layer `name` otherwise."""
    if len(space) != 1:
        got = f"images with {len(space)} axes of pixels, {space}" if space else "vectors"
        hint = "" if space else "; it comes before LastStep(), Flatten() and GlobalAveragePool()"
        raise ValueError(f"{name} expects sequences (n, T, channels), got {got}{hint}")
    return space


# What moves from step to step, and what it is of a state that is zero.
_ZERO = {"var1": 0, "var2": 0, "cosine": 1, "gap": 0, "ntk": 0}


@partial(jax.jit, static_argnames="nonlinearity")
def _arguments(signal: Signal, hyperparameters: PyTree, nonlinearity: Nonlinearity) -> Signal:
    """The signal of what the nonlinearity is applied to, at all steps.

    The steps of the first sequence are taken one after the other.  With each goes the same step of
    the second; or, with all pairs of steps, a row of them all, which moves on by one each time.
    """
    # In the signal's dtype: a float64 scale would make the kernels of float32 inputs float64.
    scales = (hyperparameters[name] for name in ("w_std", "u_std", "b_std"))
    w, u, b = (jnp.asarray(scale, signal.ntk.dtype) for scale in scales)
    gates: dict = {"w": jnp.ones((), w.dtype), "u": 1, "b": 1}
    if "gates" in hyperparameters:  # the shares come before all other axes
        axes = [1] * signal.cosine.ndim
        gates = {name: g.reshape(-1, *axes) for name, g in hyperparameters["gates"].items()}
    entries = through_dense(
        signal,
        width=1,
        weight_variance=u**2,
        bias_variance=b**2,
        weight_gain=gates["u"] * u**2,
        bias_gain=gates.get("b", 0) * b**2,
    )
    pairs, dual = signal.pixel_pairs, nonlinearity.dual
    time = -2 if pairs else -1
    gate = gates["w"].reshape(gates["w"].shape[:1] + gates["w"].shape[2:])
    rows = {name: jnp.moveaxis(a, time, 0) for name, a in _parts(entries).items()}
    rows = {name: jnp.broadcast_to(a, (*signal.space, *a.shape[1:])) for name, a in rows.items()}
    start = {name: jnp.full_like(rows[name][0], zero) for name, zero in _ZERO.items()}
    if pairs:
        start["var2"] = _moved(_variances(rows["var2"][0], w, dual), 0)

    def step(state: dict, entry: dict) -> tuple[dict, dict]:
        weights = scaled(Signal(**state, features=1), w, w)
        ntk = weights.ntk + gate * weights.nngp
        weights = replace(weights, ntk=ntk, gaussian=True)
        z = add_branch(Signal(**entry, features=1, gaussian=True), weights)
        after = _parts(through_dual(z, dual))
        if pairs:
            others = {name: zero for name, zero in _ZERO.items() if name != "var1"}
            after |= {name: _moved(after[name], zero) for name, zero in others.items()}
        return after, _parts(z)

    _, steps = jax.lax.scan(step, start, rows)
    if pairs:  # the same at all steps of the first
        steps["var2"] = steps["var2"][:1]
    parts: dict = {name: jnp.moveaxis(a, 0, time) for name, a in steps.items()}
    return replace(entries, **parts)


def _parts(signal: Signal) -> dict:
    return {name: getattr(signal, name) for name in _ZERO}


def _variances(entries: Array, w: Array, dual: Dual) -> Array:
    """The variances of the states for those of the entries that come in, steps behind."""

    def step(state: Array, entry: Array) -> tuple[Array, Array]:
        state = dual.diagonal(w**2 * state + entry)
        return state, state

    rows = jnp.moveaxis(entries, -1, 0)
    return jnp.moveaxis(jax.lax.scan(step, jnp.zeros_like(rows[0]), rows)[1], 0, -1)


def _moved(row: Array, zero: int) -> Array:
    """A row of steps moved on by one, with `zero` before the first."""
    return jnp.concatenate([jnp.full_like(row[..., :1], zero), row[..., :-1]], -1)
