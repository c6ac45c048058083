"""What the package says besides errors: warnings, and short forms of what holds arrays."""

from __future__ import annotations

import dataclasses
import sys
import warnings

import jax
import numpy as np

from ntkbook._base.arguments import described, is_traced
from ntkbook._base.types import Array


def warn(message: str) -> None:
    """A UserWarning that names the line outside this package from which it was called."""
    level, frame = 1, sys._getframe()
    while frame.f_back and frame.f_globals.get("__name__", "").split(".")[0] == "ntkbook":
        level, frame = level + 1, frame.f_back
    warnings.warn(message, UserWarning, stacklevel=level)


def warn_of_labels(name: str, y: object) -> None:
    """Warn of integers that look like the labels of three classes or more."""
    values = np.asarray(y) if isinstance(y, (Array, np.ndarray)) and not is_traced(y) else None
    if values is None or values.dtype.kind not in "iu":
        return
    if values.ndim not in (1, 2) or values.size != len(values):
        return
    values = values.ravel()  # (N,) or (N, 1)
    classes = np.unique(values)
    if 3 <= len(classes) < len(values) and classes[0] >= 0:
        warn(
            f"{name} holds integers as labels of classes do, {len(classes)} different ones, and is "
            "fitted as numbers: class 2 as twice class 1; of labels pass one-hot rows, "
            f"jax.nn.one_hot({name}, k), and of numbers {name}.astype(float)"
        )


class Short:
    """A dataclass that shows of its arrays the dtypes, the shapes, and a vector's two ends.

    It is to be declared with repr=False.
    """

    def __repr__(self) -> str:
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        parts = (f"{field.name}={short(getattr(self, field.name))}" for field in fields)
        return f"{type(self).__name__}({', '.join(parts)})"


def short(value: object) -> str:
    """`value` in a few words: arrays by dtype and shape, dataclasses field by field."""
    if isinstance(value, (Array, np.ndarray)):
        shape = f"{value.dtype}[{', '.join(map(str, value.shape))}]"
        if is_traced(value) or value.ndim > 1 or value.size == 0:
            return shape
        return f"{shape} {value[0]:.4g} … {value[-1]:.4g}" if value.ndim else f"{value:.4g}"
    if isinstance(value, Short):
        return repr(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = (f"{f.name}={short(getattr(value, f.name))}" for f in dataclasses.fields(value))
        return f"{type(value).__name__}({', '.join(parts)})"
    if value is None or isinstance(value, (str, int, float, np.dtype)):
        return repr(value)
    leaves = jax.tree.leaves(value)
    return f"{type(value).__name__} of {len(leaves)} arrays" if leaves else described(value)
