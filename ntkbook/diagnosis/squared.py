"""The path of descent on ½Σr², by quadrature of Lanczos' matrix."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ntkbook.diagnosis import lanczos as spectral
from ntkbook.diagnosis.lanczos import Krylov, Rule, Vector


@dataclass(frozen=True)
class Squared:
    """r(t) = (1 − ηΘ)^t r(0) under a kernel, as far as its products with r(0) tell."""

    krylov: Krylov
    lower: Rule
    upper: Rule
    rate: float
    start: Vector

    def between(self, t: NDArray) -> tuple[Vector, Vector]:
        """Bounds of the loss after t steps beside that of the start."""
        return self.lower.left(self.rate, t), self.upper.left(self.rate, t)

    def left(self, t: NDArray) -> Vector:
        """The lower bound, from the kernel's own Gauss rule."""
        return self.lower.left(self.rate, t)

    def residuals(self, steps: int) -> tuple[Vector, float]:
        """What is left of r, within an error in norm."""
        return spectral.descended(self.krylov, self.rate, steps)

    def pulled(self, steps: int) -> Vector:
        """v with θ(t) = θ(0) − J^T v."""
        return spectral.summed(self.krylov, self.rate, steps)

    def grows(self, steps: int) -> bool:
        """Whether the loss is larger in the end, or would be soon."""
        high = self.rate * self.lower.nodes[-1] >= 2
        return bool(high or self.lower.left(self.rate, steps) > 1)


def follow(
    product: Callable, residual: Vector, rate: float, highest: float, steps: int,
    tolerance: float, most: int, rounding: float,
) -> Squared:  # fmt: skip
    """The path with at most so many products; `highest` is above λ_max of the start's kernel."""

    def enough(krylov: Krylov) -> bool:
        low, up = (
            float(each.left(rate, steps)) for each in spectral.bracket(krylov, rate, highest)
        )
        if not low < 1:  # it grows: what is above does not matter
            return True
        left, missed = spectral.descended(krylov, rate, steps)
        close = missed <= tolerance * max(5 * float(np.linalg.norm(left)), 0.1 * krylov.norm)
        return close and up - low <= tolerance * max(low, 1e-4)

    krylov = spectral.lanczos(product, residual, most, enough, rounding)
    return Squared(krylov, *spectral.bracket(krylov, rate, highest), rate, residual)
