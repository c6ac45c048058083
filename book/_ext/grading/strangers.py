"""Values of a class of the student's own: one that claims to equal everything passes many a test.

An answer may well define classes, so that this is said to the instructor and costs no points.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType
from typing import Any

MOST, DEEPEST = 100, 3  # parts of a value that are looked at


class Strangers:
    """Knows all classes that there are now, before a submission defines its own."""

    def __init__(self) -> None:
        self.known = set(_classes())
        self.found: dict[str, str] = {}
        self._where = sys.modules

    def watch(self, names: dict[str, Any], given: set[str], test: CodeType) -> None:
        """Among the names for a test, let answers note what strange values they return."""
        self.found = {}
        own = {name: names[name] for name in set(_names(test)) & set(names) - given}
        for name, value in own.items():
            if type(value) is FunctionType:
                names[name] = self._watching(name, value, names)
            self._look(name, value, 0)

    def _watching(self, name: str, function: Callable, names: dict[str, Any]) -> Callable:
        look = self._look

        def watching(*args: Any, **keywords: Any) -> Any:
            value = function(*args, **keywords)
            look(name, value, 0)
            return value

        code, cells = watching.__code__, watching.__closure__
        return functools.wraps(function)(FunctionType(code, names, "watching", None, cells))

    def _look(self, name: str, value: Any, depth: int) -> None:
        kind = type(value)
        if kind in (list, tuple, dict) and depth < DEEPEST:
            parts = list(value.values()) if kind is dict else value
            for part in parts[:MOST]:
                self._look(name, part, depth + 1)
        elif kind not in self.known and not self._genuine(kind):
            self.found[name] = kind.__qualname__

    def _genuine(self, kind: type) -> bool:
        """A class of a module that was imported since, or a tuple whose parts have names."""
        place: Any = self._where.get(kind.__module__)
        if issubclass(kind, tuple) and hasattr(kind, "_fields"):
            return True
        if place is None or kind.__module__ == "__main__":
            return False
        for part in kind.__qualname__.split("."):
            place = getattr(place, part, None)
        return place is kind

    def said(self) -> str:
        """A note for the instructor, or nothing."""
        kinds = [f"{name} is or returns a value of its class {c}" for name, c in self.found.items()]
        return "; ".join(kinds)


def _classes() -> Iterator[type]:
    seen, left = {object}, [object]
    while left:
        kind = left.pop()
        yield kind
        for below in type.__subclasses__(kind):
            if below not in seen:
                seen.add(below)
                left.append(below)


def _names(code: CodeType) -> Iterator[str]:
    """The global names that code uses, functions inside it included."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
