"""One call that prepares a chapter: precision, figure style and sizes, in one place.

Importing `ntkbook` changes nothing in JAX or matplotlib; `setup` does, because a chapter asks.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

import jax
import matplotlib.pyplot as plt

from ntkbook.evidence.figures import STYLE

Size = Literal["cpu", "gpu"]
T = TypeVar("T")


@dataclass(frozen=True)
class Settings:
    """The size at which experiments run, made by `setup`.

    **Fields**: `size`, ``"cpu"`` or ``"gpu"``.
    """

    size: Size

    def pick(self, *, cpu: T, gpu: T) -> T:
        """The value for the chosen size.

        **Arguments**: `cpu`, `gpu`: what to use at either size, of one type.

        **Returns**: one of the two.

        >>> Settings("cpu").pick(cpu=512, gpu=8192)
        512
        """
        return cpu if self.size == "cpu" else gpu


def setup(size: Size | None = None) -> Settings:
    """The settings of a chapter: float64 in JAX, the book's figure style, the experiments' size.

    **Arguments**: `size`, ``"cpu"`` (the stored outputs) or ``"gpu"`` (larger); by default the
    environment variable ``NTKBOOK_SIZE``, else ``"cpu"``.

    **Returns**: `Settings`, whose `pick` chooses a value by size.

    **Raises**: ValueError for any other size.

    >>> setup("gpu").pick(cpu=512, gpu=8192)
    8192
    """
    chosen = os.environ.get("NTKBOOK_SIZE", "cpu") if size is None else size
    if chosen not in get_args(Size):
        raise ValueError(f"size must be one of {get_args(Size)}, not {chosen!r}")
    jax.config.update("jax_enable_x64", True)
    plt.rcParams.update(STYLE)
    return Settings(chosen)  # type: ignore[arg-type]
