"""Which mistake it was that made f(params, x) fail, found by other calls of f that work."""

from __future__ import annotations

from collections.abc import Callable

import jax

from ntkbook._base.types import Array, PyTree

ORDER = "the order of arguments is f, params, x"


def mistake(
    f: Callable[[PyTree, PyTree], Array], params: PyTree, x: PyTree, alone: bool
) -> Exception | None:
    """The error to raise for an f that fails, if it is another call of f that works.

    `alone`, whether x may be a single example.
    """

    def works(count: int, function: Callable, *arguments: PyTree) -> bool:
        try:
            return is_batch(jax.eval_shape(function, *arguments), count)
        except Exception:
            return False

    def of_one(params: PyTree, x: PyTree) -> Array:
        return f(params, jax.tree.map(lambda leaf: leaf[None], x))

    first, second = (
        next(filter(None, map(shape_of, jax.tree.leaves(tree))), (0,)) for tree in (params, x)
    )
    if works(second[0], jax.vmap(f, (None, 0)), params, x):
        return TypeError(
            f"f must take a batch x of shape {second}, got one that takes a single example; "
            "pass jax.vmap(f, (None, 0))"
        )
    # In place of one another, it is `params` that holds the examples.
    if works(second[0], f, x, params) or works(first[0], f, x, params):
        return TypeError(
            "f must take (params, x), got two with which f(x, params) works instead; "
            f"{ORDER}; of an f that takes x first pass lambda params, x: f(x, params)"
        )
    if alone and works(1, of_one, params, x):
        return ValueError(
            f"x must hold examples along its first axis, got a single one of shape {second}; "
            "pass x[None]"
        )
    return None


def is_batch(y: object, count: int) -> bool:
    """Whether outputs have the shape (count,) or (count, k)."""
    return len(shape_of(y)) in (1, 2) and shape_of(y)[0] == count


def shape_of(array: object) -> tuple[int, ...]:
    """The shape of an array; () of anything else."""
    return getattr(array, "shape", ())
