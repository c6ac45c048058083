"""Full-batch gradient descent on a real model, with its whole trajectory recorded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from ntkbook._base.arguments import (
    as_floating,
    is_traced,
    require_count,
    require_flag,
)
from ntkbook._base.compiled import compiled
from ntkbook._base.hints import guided
from ntkbook._base.messages import Short, warn_of_labels
from ntkbook._base.progress import bar
from ntkbook._base.traced import fraction, positive
from ntkbook._base.types import Array, ArrayLike, Float, Int, Num, PyTree, Scalar
from ntkbook.tangents.model import Model, checked_parameters, explained, require_model
from ntkbook.training.losses import Loss, mse, require_loss


@jax.tree_util.register_dataclass
@dataclass(frozen=True, repr=False)
class Run(Short):
    """What `train` recorded, at T = 1 + steps / record_every moments; record 0 is the start.

    `steps` (T,) counts the steps taken; `losses` (T,); `train` (T, …) and `test` (T, …) are the
    outputs on the training and test points, `test` None without any; `params` are the last ones.
    """

    steps: Int[Array, "T"]
    losses: Float[Array, "T"]
    train: Float[Array, "T ..."]
    test: Float[Array, "T ..."] | None
    params: PyTree


@guided
def train(
    f: Model,
    params: PyTree,
    x: PyTree,
    y: Num[ArrayLike, "..."],
    *,
    learning_rate: Scalar,
    steps: int,
    loss: Loss = mse,
    momentum: Scalar = 0.0,
    x_test: PyTree = None,
    record_every: int = 1,
    progress: bool = False,
    allow_divergence: bool = False,
) -> Run:
    """Train `f(params, x)` by full-batch gradient descent: θ ← θ − η∇L + β(last change of θ).

    The whole run is one compiled scan; a second call with the same `f` and shapes, such as
    another seed, reuses it.  Memory grows with the number of records, not of steps.

    **Arguments**: `f`, hashable (a function, a bound method), from parameters and inputs to
    outputs; `params`, a pytree of real floating arrays; `x`, a pytree of arrays; `y`, of the very
    shape of `f(params, x)`; `learning_rate` η > 0;
    `steps` ≥ 0, a multiple of `record_every`; `loss(outputs, y)`, a scalar sum over examples;
    `momentum` 0 ≤ β < 1 (heavy ball, without velocity at the start); `x_test`, inputs where the
    outputs are recorded too; `progress=True` shows a bar (needs tqdm); `allow_divergence=True`
    returns a diverging run as it is, infinities and NaN included.  The parameters' dtypes are
    kept.

    **Returns**: `Run`.

    **Raises**: FloatingPointError naming the first step with a loss that is not finite, unless
    that is allowed; ValueError or TypeError for arguments other than above, targets that the loss
    refuses among them.  Class labels draw a warning as for `gradient_flow`.  Inside `jit`, where
    values can't be looked at, nothing is warned of, a run that diverges is returned as it is, and a
    value that would raise ValueError makes it NaN.

    >>> import jax.numpy as jnp
    >>> x = jnp.array([[1.0], [2.0]])
    >>> run = train(lambda w, x: x @ w, jnp.zeros(1), x, jnp.array([1.0, 2.0]),
    ...             learning_rate=0.1, steps=4, record_every=2)    # w ← w − 0.1 · 5 (w − 1)
    >>> print(run.steps, run.losses.round(2), run.params.round(4))
    [0 2 4] [2.5  0.16 0.01] [0.9375]
    """
    learning_rate = positive("learning_rate", learning_rate)
    steps = require_count("steps", steps, minimum=0)
    if steps > (largest := jnp.iinfo(jnp.int32).max):
        raise ValueError(f"steps must be at most {largest}, got {steps}")
    record_every = require_count("record_every", record_every)
    if steps % record_every:
        lower = steps - steps % record_every
        near = f"such as {lower} or {lower + record_every}"
        raise ValueError(
            f"steps must be a multiple of record_every={record_every}, {near}, got {steps}"
        )
    momentum = fraction("momentum", momentum)
    require_flag("progress", progress)
    require_flag("allow_divergence", allow_divergence)
    targets, x = as_floating("y", y), _arrays("x", x)
    require_model(f)
    params = checked_parameters(params)
    _require_fit(f, params, x, targets, loss)
    warn_of_labels("y", y)
    if x_test is not None:
        x_test = _arrays("x_test", x_test)
        made, got = (str(jax.tree.structure(tree)) for tree in (x, x_test))
        if made != got:
            raise ValueError(f"x_test must be made as x is, {made}, got {got}")
        with explained(f, params, x_test, "x_test"):
            jax.eval_shape(f, params, x_test)

    chunks = steps // record_every
    arguments = params, x, targets, x_test, learning_rate, momentum
    if progress:
        with bar(steps, "step") as shown:

            def report() -> None:
                shown.update(record_every)

            descend = compiled(_descend, (f, loss, report), chunks, record_every)
            run, broken = descend(*arguments)
            jax.effects_barrier()
    else:
        run, broken = compiled(_descend, (f, loss), None, chunks, record_every)(*arguments)
    if not allow_divergence and not is_traced(broken) and broken >= 0:
        cause = "lower the learning rate" if broken else "look for NaN in params, x and y"
        raise FloatingPointError(
            f"training diverged: the loss is not finite after step {broken} of {steps} with "
            f"learning_rate={learning_rate}, momentum={momentum}; {cause}, or pass "
            "allow_divergence=True to look at the run"
        )
    return run


def _descend(
    f: Model,
    loss: Loss,
    report: Callable[[], None] | None,
    chunks: int,
    record_every: int,
    params: PyTree,
    x: PyTree,
    y: Array,
    x_test: PyTree,
    eta: Scalar,
    beta: Scalar,
) -> tuple[Run, Array]:
    """The run, and the first step after which its loss was not finite, −1 if there is none."""

    def objective(params):
        outputs = f(params, x)
        return loss(outputs, y.astype(outputs.dtype)), outputs

    def observe(params, value, outputs):
        return value, outputs, None if x_test is None else f(params, x_test)

    def first_broken(broken, step, value):
        return jnp.where((broken < 0) & ~jnp.isfinite(value), step, broken)

    def move(state):
        params, velocity, broken, step = state
        (value, outputs), slope = jax.value_and_grad(objective, has_aux=True)(params)
        velocity = jax.tree.map(lambda v, g: (beta * v - eta * g).astype(g.dtype), velocity, slope)
        moved = jax.tree.map(jnp.add, params, velocity)
        return (moved, velocity, first_broken(broken, step, value), step + 1), (value, outputs)

    def chunk(state, _):
        params = state[0]
        # The forward pass of the first step is the record: a run recorded at every step costs
        # no more than the training itself.
        state, (value, outputs) = move(state)
        if record_every > 1:
            state = jax.lax.fori_loop(1, record_every, lambda _, s: move(s)[0], state)
        if report is not None:
            jax.debug.callback(report, ordered=True)
        return state, observe(params, value, outputs)

    still = jax.tree.map(jnp.zeros_like, params)
    state = (params, still, jnp.int32(-1), jnp.int32(0))
    (params, _, broken, step), records = jax.lax.scan(chunk, state, length=chunks)
    value, outputs = objective(params)
    last = observe(params, value, outputs)
    losses, train, test = jax.tree.map(lambda r, e: jnp.append(r, e[None], 0), records, last)
    counts = record_every * jnp.arange(chunks + 1)
    return Run(counts, losses, train, test, params), first_broken(broken, step, value)


def _arrays(name: str, x: PyTree) -> PyTree:
    """`x` with JAX arrays as leaves, such as numbers or random keys; TypeError for other leaves."""

    def check(path, leaf):
        try:
            return jnp.asarray(leaf)
        except TypeError:
            got = f"{type(leaf).__name__} {getattr(leaf, 'dtype', '')}".rstrip()
            raise TypeError(
                f"{name}{jax.tree_util.keystr(path)} must be an array of numbers, got {got}; "
                "what f needs besides arrays goes into f, for instance with functools.partial"
            ) from None

    return jax.tree_util.tree_map_with_path(check, x)


def _require_fit(f: Model, params: PyTree, x: PyTree, y: Array, loss: Loss) -> None:
    """Raise unless f(params, x) is an array of the shape of y and the loss a scalar."""
    with explained(f, params, x):
        outputs = jax.eval_shape(f, params, x)
    if getattr(outputs, "shape", None) != y.shape:
        made = getattr(outputs, "shape", type(outputs).__name__)
        labels = y.ndim == 1 and made[:1] == y.shape
        hint = "; of class labels pass jax.nn.one_hot(y, k)" if labels else ""
        raise ValueError(f"y must have the shape of f(params, x), {made}, got {y.shape}{hint}")
    if not jnp.issubdtype(outputs.dtype, jnp.floating):
        raise TypeError(f"f must give real floating outputs, got dtype {outputs.dtype}")
    require_loss(loss, outputs, y.astype(outputs.dtype))
