"""What the theory of the tangent kernel says about a network before it is trained.

`diagnose` takes any f(params, x), squared error and cross-entropy.  It multiplies the kernel with
some dozens of vectors and never forms it.  What it said of many networks, and what training then
did, is on the page "Your own network", misses included.
"""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import dataclass

import jax
import numpy as np
from numpy.typing import NDArray

from ntkbook._base.arguments import (
    as_floating,
    require_choice,
    require_count,
    require_finite,
    require_flag,
    require_key,
    require_positive,
)
from ntkbook._base.hints import guided
from ntkbook._base.messages import warn_of_labels
from ntkbook._base.progress import bar
from ntkbook._base.times import as_steps
from ntkbook._base.types import Array, ArrayLike, Int, Num, PRNGKeyArray, PyTree, Scalar
from ntkbook.diagnosis.lanczos import Estimate, Vector
from ntkbook.diagnosis.products import Tangents, in_blocks
from ntkbook.diagnosis.report import Curve, Late, drawn, page
from ntkbook.diagnosis.study import BUDGET, Path, study
from ntkbook.evidence.figures import Figure
from ntkbook.tangents.features import count_parameters
from ntkbook.tangents.model import Model, forward_pass
from ntkbook.tangents.probes import checked_arguments

LOSSES = ("half-sum", "half-mean", "mean", "cross-entropy")


@dataclass(frozen=True, repr=False)
class Diagnosis:
    """What `diagnose` found; `print` gives it as a page.  Numbers are pairs (value, error).

    **Fields**:

    - `regime`: "kernel" if `change`, `tail_change` and `linearisation` are below 0.1; "feature
      learning" if the first or the last is 1 or more, or if the kernel at the predicted end point
      lets the loss grow; "mixed" between; "unstable step" without a path;
    - `change`, ‖Θ(θ_T) − Θ(θ_0)‖/‖Θ(θ_0)‖ in Frobenius norm at the end point θ_T of the
      linearised model, and `tail_change`, the same off the six largest modes (zero where
      the kernel has no others).  Training ends elsewhere, and changes the kernel by another
      factor, in the NTK parametrization at any width: mostly 0.4 to 1 of it, and up to 3.5 where
      outputs at the start are small beside the targets, or labels are random;
    - `linearisation`, ‖f(θ_T) − f_lin(θ_T)‖/‖f(θ_0) − y‖, at that end point too: the gap that
      training leaves was smaller in all runs that did not diverge; with cross-entropy, whose
      outputs have no end to go to, beside what they moved, ‖f_lin(θ_T) − f(θ_0)‖, and there the
      gap and the change of the kernel came out up to three times as large as predicted;
    - `max_learning_rate`, the largest step that is free of spikes at the start, 2/λ_max in the
      units of the loss, and `top`, λ_max of the examples used;
    - `late_share`, of the squared residual, in modes slower than the run, λ < 1/(ηT); of squared
      error alone, for the modes of cross-entropy change as it goes;
    - `effective_rank`, (tr Θ)²/‖Θ‖_F², `alignment`, ⟨y, Θ y⟩/(‖Θ‖_F ‖y‖²), and its mean
      `shuffled` over permutations of the examples, all of the kernel centred in each output,
      None with more than ten outputs, or where it is constant;
    - `learning_rate`, `steps`, `loss`, `examples` (numbers of rows of x that were used),
      `outputs`, `parameters`, `total` (rows of x), `products` and `seconds` that it took.

    What is not given is None: with a step above the largest, all that belongs to a path of
    training.
    """

    regime: str
    loss: str
    learning_rate: float
    steps: int
    total: int
    examples: NDArray[np.integer]
    outputs: int
    parameters: int
    top: Estimate
    max_learning_rate: Estimate
    change: Estimate | None
    tail_change: Estimate | None
    linearisation: float | None
    late_share: Estimate | None
    effective_rank: Estimate | None
    alignment: Estimate | None
    shuffled: Estimate | None
    products: int
    seconds: float
    _rate: float
    _path: Path | None
    _end: Path | None
    _residuals: tuple[Vector, Vector, float] | None
    _classes: NDArray | None

    def curve(self, t: Int[ArrayLike, "*t"]) -> Curve:
        """The predicted loss after t steps beside that of the start.

        **Arguments**: `t` ≥ 0, a number of steps or an array of them.

        **Returns**: `Curve`, arrays of the shape of `t`: `lower` ≤ exact ≤ `upper` for the
        linearised model, and `end` for the kernel at the predicted end point, None if the network
        isn't finite there.  With cross-entropy `lower` and `upper` are no bounds but estimates,
        with what the last products still changed as the error.  Of squared error, most trained
        networks were found between start and end, which is no bound: those with small outputs at
        the start or random labels, and some of tanh, ran ahead of both.

        **Raises**: ValueError where no path of training is given, and for other `t`.

        >>> import jax.numpy as jnp
        >>> x = jnp.array([[1.0], [2.0]])
        >>> report = diagnose(lambda w, x: x @ w, jnp.zeros(1), x, x[:, 0], learning_rate=0.1)
        >>> print(report.curve(1).lower.round(4), report.curve(1).upper.round(4))   # (1 - 0.5)²
        0.25 0.25
        """
        steps = np.asarray(as_steps(t))
        lower, upper = self._followed()[0].between(steps)
        end = None if self._end is None else self._end.left(steps)
        return Curve(lower, upper, end)

    def late(self, by: str = "example") -> Late:
        """What will be learned late: the largest predicted residuals at the end, in that order.

        **Arguments**: `by`, "example" or "class".

        **Returns**: `Late`: rows of x, or classes (of one-hot rows the index), with squared
        residuals, f − y, or p − y with cross-entropy.  Trust the order of examples in the kernel
        regime alone: where the kernel moves, others are the last ones.

        **Raises**: ValueError for another `by`, for classes of targets that have none, and where
        no path of training is given.

        >>> import jax.numpy as jnp
        >>> x = jnp.array([[1.0, 0.0], [0.0, 2.0]])
        >>> report = diagnose(lambda w, x: x @ w, jnp.zeros(2), x, jnp.ones(2), steps=1)
        >>> print(report.late().label, report.late().end.round(4))      # (1 - 1/4)²
        [0 1] [0.5625 0.    ]
        """
        require_choice("by", by, ("example", "class"))
        start, end, error = self._followed()[1]
        label: NDArray = self.examples
        parts = [(r.reshape(len(label), -1) ** 2).sum(axis=1) for r in (start, end)]
        errors = np.full(len(label), error)
        if by == "class":
            if self._classes is None:
                raise ValueError(
                    "by='class' needs targets of classes, one-hot rows or one number for each of "
                    "at most 20 classes; use by='example'"
                )
            label, place = np.unique(self._classes, return_inverse=True)
            parts = [np.bincount(place, part) for part in parts]
            errors = np.full(len(label), error)
        first, last = parts
        order = np.argsort(-last, kind="stable")
        bound = errors * (2 * np.sqrt(last) + errors)
        return Late(label[order], first[order], last[order], bound[order])

    def figure(self, name: str = "fig-diagnosis") -> Figure:
        """The report as a picture: the predicted loss, what is left late, the sizes of change.

        **Arguments**: `name` of the figure, "fig-…".

        **Returns**: `Figure`.

        **Raises**: ValueError for another name, and where no path of training is given.

        >>> import matplotlib; matplotlib.use("Agg")
        >>> import jax.numpy as jnp
        >>> x = jnp.array([[1.0, 0.0], [0.0, 2.0]])
        >>> diagnose(lambda w, x: x @ w, jnp.zeros(2), x, jnp.ones(2), steps=5).figure().name
        'fig-diagnosis'
        """
        return self._drawn(name, None)

    def compare(
        self, losses: Num[ArrayLike, "T"], every: int = 1, name: str = "fig-diagnosis"
    ) -> Figure:
        """The figure with a real run in it.

        **Arguments**: `losses` (T,) of the run, the first before training, then after `every` and
        2·`every` steps and so on, such as `ntk.train(…).losses`; `every` ≥ 1; `name` as of
        `figure`.

        **Returns**: `Figure`, whose caption says where the run ended and where it was predicted.

        **Raises**: as `figure`; ValueError for losses that aren't a vector beginning with a
        positive number.

        >>> import matplotlib; matplotlib.use("Agg")
        >>> import jax.numpy as jnp
        >>> x = jnp.array([[1.0, 0.0], [0.0, 2.0]])
        >>> report = diagnose(lambda w, x: x @ w, jnp.zeros(2), x, jnp.ones(2), steps=5)
        >>> report.compare(jnp.array([1.0, 0.3, 0.15])).caption[:30]
        'The run of 2 steps ended at 0.'
        """
        values = np.asarray(as_floating("losses", losses), np.float64)
        if values.ndim != 1 or len(values) < 2 or not (np.isfinite(values[0]) and values[0] > 0):
            got = values.shape if values.ndim != 1 or len(values) < 2 else values[0]
            raise ValueError(f"losses must be (T,), T > 1, from a positive loss on, got {got}")
        times = np.arange(len(values), dtype=float) * require_count("every", every)
        return self._drawn(name, (times, values / values[0]))

    def __str__(self) -> str:
        given = self._path is not None
        shares = self.late("class") if given and self._classes is not None else None
        last, hard = (self.curve(self.steps), self.late()) if given else (None, None)
        return page(vars(self), last, shares, hard)

    __repr__ = __str__

    def _drawn(self, name: str, run: tuple[Vector, Vector] | None) -> Figure:
        self._followed()
        late = self.late("example" if self._classes is None else "class")
        sizes = {"linear model": self.linearisation, "kernel": self.change}
        sizes |= {"its tail": self.tail_change}
        return drawn(self.curve, late, sizes, self.steps, name, run)

    def _followed(self) -> tuple[Path, tuple[Vector, Vector, float]]:
        if self._path is None or self._residuals is None:
            raise ValueError(
                "with a step above the largest no path of training is given, only the largest step"
            )
        return self._path, self._residuals


@guided
def diagnose(
    f: Model,
    params: PyTree,
    x: Num[ArrayLike, "N *d"],
    y: Num[ArrayLike, "N *k"],
    *,
    learning_rate: Scalar | None = None,
    steps: int = 200,
    loss: str = "half-sum",
    examples: int = 512,
    tolerance: Scalar = 0.01,
    key: PRNGKeyArray | None = None,
    progress: bool = False,
) -> Diagnosis:
    """What NTK theory says about training f from `params` by full-batch descent.

    At most 87 products with the tangent kernel, each about a gradient of the loss over the
    examples, and one such gradient; in memory three times the parameters, and no Jacobian.

    **Arguments**: `f`, `params`, `x` as for `empirical_ntk`, batch statistics and dropout frozen;
    `y` of the shape of f(params, x), or (N,) for one output; `learning_rate` of the `loss`, by
    default 1/λ_max less its error; `steps` ≥ 1; `loss`, in whose units rates are: "half-sum" ½Σr²,
    "half-mean" and "mean", ½r² and r² averaged over examples and outputs, or "cross-entropy",
    averaged over examples, with y rows of probabilities and f their logits, whose curvature at the
    start gives the largest step and whose descent in the linearised model gives the curve;
    `examples`, how many are used, drawn from x by `key` (jax.random.key(0) if not given), which
    also draws the probes; `tolerance`, the width of the curve's bracket beside the curve at which
    no more products are taken, if there are any left; `progress=True` shows a bar (needs tqdm).

    Fewer examples than x has stand for all of it: steps and λ_max/N extrapolate, for the large
    eigenvalues grow as N; what is learned late does so as a lower estimate only, for more
    examples have more slow modes.

    **Returns**: `Diagnosis`.

    **Raises**: as `empirical_ntk`, a row that changes with others among them; ValueError for
    targets that f fits already, or of another shape, for another `loss`, and for a kernel that is
    zero.

    **Source**: Chizat et al. 2019 for the regime as a relative change; Golub & Meurant 1994 for
    the bounds of squared error; Meyer et al. 2021 (Hutch++) for the norms; Halko
    et al. 2011, §5.4 (Nyström), for the part of the kernel that cross-entropy is followed in.

    >>> import jax.numpy as jnp
    >>> x = jnp.array([[1.0, 0.0], [0.0, 2.0]])
    >>> report = diagnose(lambda w, x: x @ w, jnp.zeros(2), x, jnp.ones(2), steps=10)
    >>> report.regime, report.max_learning_rate.value, report.products <= 87
    ('kernel', 0.5, True)
    """
    began = time.perf_counter()
    require_choice("loss", loss, LOSSES)
    steps, most = require_count("steps", steps), require_count("examples", examples)
    require_positive("tolerance", tolerance)
    if learning_rate is not None:
        require_positive("learning_rate", learning_rate)
    require_flag("progress", progress)
    key = jax.random.key(0) if key is None else require_key("key", key)
    params, x, _, k = checked_arguments(f, params, x, name="x")
    y = _targets(f, params, x, y, loss)
    pick, draw = jax.random.split(key)
    rows = np.sort(np.asarray(jax.random.permutation(pick, len(x)))[:most])
    calls: list[int] = []
    with bar(BUDGET, "product") if progress else nullcontext() as shown:

        def done() -> None:
            calls.append(1)
            if shown is not None:
                shown.update()

        output = jax.eval_shape(forward_pass(f), params, x).dtype
        blocks = in_blocks(x[rows])
        net = Tangents(f, blocks, (len(rows), *y.shape[1:]), output, done)
        n, size = len(rows), len(rows) * k
        scale = {"half-sum": len(x) / n, "half-mean": 1 / size, "mean": 2 / size}.get(loss, 1 / n)
        units = None if learning_rate is None else np.asarray(learning_rate).item() * scale
        near = np.asarray(tolerance).item()
        targets = np.asarray(y[rows], np.float64)
        cross = loss == "cross-entropy"
        facts = study(net, params, targets.reshape(-1), units, steps, near, cross, draw)
    most_rate = 2 / facts["top"].value / scale
    return Diagnosis(
        **facts,
        loss=loss,
        learning_rate=facts["_rate"] / scale,
        steps=steps,
        total=len(x),
        examples=rows,
        outputs=k,
        parameters=count_parameters(params),
        max_learning_rate=Estimate(most_rate, most_rate * facts["top"].error / facts["top"].value),
        products=len(calls),
        seconds=time.perf_counter() - began,
        _classes=_classes(targets, k),
    )


def _targets(f: Model, params: PyTree, x: Array, y: object, loss: str) -> Array:
    """`y` of the shape of f(params, x), with rows of probabilities for cross-entropy."""
    warn_of_labels("y", y)
    targets = require_finite("y", as_floating("y", y))
    shape = jax.eval_shape(forward_pass(f), params, x).shape
    if targets.shape == shape[:1] and shape[1:] == (1,):
        targets = targets[:, None]
    if targets.shape != shape:
        hint = "; of class labels pass jax.nn.one_hot(y, k)" if targets.shape == shape[:1] else ""
        got = f"{targets.shape}{hint}"
        raise ValueError(f"y must have the shape of f(params, x), {shape}, got {got}")
    if loss == "cross-entropy":
        off = np.inf if len(shape) == 1 else np.abs(np.asarray(targets).sum(axis=1) - 1).max()
        if not off < 1e-3 or np.min(targets) < 0:
            raise ValueError(
                "y must hold a row of probabilities for each example, such as one-hot rows, with "
                f"loss='cross-entropy', got shape {targets.shape}, from {np.min(targets):.3g}"
            )
    return targets


def _classes(y: NDArray, k: int) -> NDArray | None:
    """The class of each example, of one-hot rows or of at most 20 numbers, else None."""
    if k > 1:
        hot = (y == y.max(axis=1, keepdims=True)).sum(axis=1) == 1
        return y.argmax(axis=1) if hot.all() and len(np.unique(y)) == 2 else None
    few = len(np.unique(y)) <= min(20, len(y) // 2)
    return y.reshape(-1) if few else None
