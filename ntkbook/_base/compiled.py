"""Programs compiled for a user's function, kept for as long as that function lives.

`jax.jit(…, static_argnums=0)` would keep the function as well, and with it every array that it
captured, for as long as the process lives.
"""

from __future__ import annotations

import types
import weakref
from collections.abc import Callable, Hashable
from typing import Any

import jax
from jax.stages import Wrapped

_PROGRAMS: dict[tuple, Wrapped] = {}


def compiled(program: Callable, functions: tuple[Callable, ...], *static: Hashable) -> Wrapped:
    """`program(*functions, *static, ...)` as a compiled function of its other arguments.

    The same functions, by identity, and equal static values give the same compiled function.  A
    bound method counts by the object that it is bound to, so net.apply is the same each time.
    When one of the functions is freed the program goes with it; a function that can't be
    referred to weakly is kept.
    """
    key = (program, *map(_identity, functions), *static)
    if key not in _PROGRAMS:
        references = [_reference(function, key) for function in functions]

        def run(*arguments: Any) -> Any:
            return program(*(refer() for refer in references), *static, *arguments)

        _PROGRAMS[key] = jax.jit(run)
    return _PROGRAMS[key]


def _identity(function: Callable) -> tuple:
    if isinstance(function, types.MethodType):
        return id(function.__self__), function.__func__
    return (id(function),)


def _reference(function: Callable, key: tuple) -> Callable[[], Callable]:
    """A function that gives `function` back without keeping it alive."""
    # Of a method its object: the method itself is made anew each time and dies at once.
    owner: Any = function
    bound = None
    if isinstance(function, types.MethodType):
        owner, bound = function.__self__, function.__func__
    try:
        # Before an identity can be used again its owner is dead, and the program forgotten.
        refer = weakref.ref(owner, lambda _: _PROGRAMS.pop(key, None))
    except TypeError:
        return lambda: function

    def restored() -> Any:
        alive = refer()
        return alive if bound is None else types.MethodType(bound, alive)

    return restored
