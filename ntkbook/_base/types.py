"""The types that annotations of the whole package are written in.

`Num[ArrayLike, "n d"]` is what a user may pass, with integers that become floats;
`Float[Array, "n1 n2"]` is what comes back.  The names of axes are those of the docstrings.
"""

from __future__ import annotations

from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Bool, Float, Int, Num, PRNGKeyArray, PyTree

Scalar = Num[ArrayLike, ""]
"""One number: a Python or NumPy number, or an array without axes."""

__all__ = [
    "Array",
    "ArrayLike",
    "Bool",
    "DTypeLike",
    "Float",
    "Int",
    "Num",
    "PRNGKeyArray",
    "PyTree",
    "Scalar",
]
