"""The names that tests see: the student's answers, and all else as it was given.

What a submission has replaced is put back before each test and each given cell: names, functions
of the modules that tests use, their code, tracing.  It stops accidents and plain attempts; what
gets around it is found by the wrong answers that each test must refuse (canary.py).
"""

from __future__ import annotations

import builtins
import copy
import importlib
import re
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import FunctionType, ModuleType
from typing import Any

# Packages that tests use besides those which they import, and the interpreter's own tools.
ALWAYS: tuple[str, ...] = (
    "builtins",
    "math",
    "cmath",
    "numpy",
    "unittest.mock",
    "functools",
    "itertools",
)
ALWAYS += ("contextlib", "collections", "fractions", "decimal", "copy", "types", "enum", "abc")
ALWAYS += ("operator", "inspect", "time", "random", "re", "warnings", "statistics", "typing")

_IPYTHON = re.compile(r"_+|_(i*|\d+|i\d+|[iod]h|exit_code)|In|Out|exit|quit|get_ipython|open")
Code = tuple[FunctionType, Any, Any, Any]


class Namespaces:
    """The student's names, and a copy of them for each test in which what was given is as given."""

    def __init__(self, names: dict[str, Any], modules: Iterable[str]):
        """`modules` are those that tests and given cells import; they are imported here and now."""
        self.names = names
        self.given: dict[str, Any] = {}
        self.originals: dict[str, Any] = {}
        self.modules: dict[str, tuple[ModuleType, dict[str, Any]]] = {}
        self.code: dict[int, Code] = {}
        asked = [*ALWAYS, *modules]
        for name in asked:
            _import(name)
        self.packages = {name.partition(".")[0] for name in asked}
        self._remember()
        # Bound now: a submission can't replace what is called here by another name's function.
        self._builtins, self._copy, self._quiet = builtins, copy.deepcopy, _no_tracing()
        self._changeable = (sys.modules["numpy"].ndarray, list, dict, set)

    def _remember(self) -> None:
        """What modules of these packages hold by now that can be called, if it is new."""
        for name, module in list(sys.modules.items()):
            if name in self.modules or name.partition(".")[0] not in self.packages:
                continue
            if isinstance(module, ModuleType):
                held = vars(module).items()
                kept = {k: v for k, v in held if callable(v) or isinstance(v, ModuleType)}
                self.modules[name] = (module, kept)
                for value in kept.values():
                    self._remember_code(value)

    def _remember_code(self, value: Any) -> None:
        if type(value) is FunctionType:
            parts = (value, value.__code__, value.__defaults__, value.__kwdefaults__)
            self.code.setdefault(id(value), parts)

    def restore(self) -> None:
        """Put back what modules held, the code of their functions, and end tracing."""
        self._quiet()
        for name, (module, kept) in self.modules.items():
            sys.modules[name] = module
            vars(module).update(kept)
        for function, code, defaults, keywords in self.code.values():
            if function.__code__ is not code:
                function.__code__ = code
            if function.__defaults__ is not defaults:
                function.__defaults__ = defaults
            if function.__kwdefaults__ is not keywords:
                function.__kwdefaults__ = keywords

    def before_given(self) -> dict[str, Any]:
        """Let a given cell see what was given before it; returns the names as they were."""
        self.restore()
        before = dict(self.names)
        for name in self._shadows():
            del self.names[name]
        self.names.update(self.given)
        self._started = dict(self.names)
        return before

    def after_given(self, before: dict[str, Any]) -> None:
        """Keep what a given cell has defined, and give the student's other names back."""
        started = self._started
        made = {k: v for k, v in self.names.items() if started.get(k, self) is not v}
        made = {k: v for k, v in made.items() if not _IPYTHON.fullmatch(k)}
        self.names.update({k: v for k, v in before.items() if k not in made})
        self.originals |= made
        self.given |= {k: self._copied(v) for k, v in made.items()}
        for value in made.values():
            self._remember_code(value)
        self._remember()

    def _shadows(self) -> set[str]:
        """Names of the student that hide something of Python's own."""
        hidden = (set(vars(self._builtins)) | {"__builtins__"}) - set(self.given)
        return {name for name in self.names if name in hidden and not _IPYTHON.fullmatch(name)}

    def _copied(self, value: Any) -> Any:
        """A value that no later line can change; the student's code has the original."""
        if type(value) in self._changeable:
            with suppress(Exception):  # a list may hold what has no copy
                return self._copy(value)
        return value

    def for_test(self) -> dict[str, Any]:
        """Names for a test: a copy, so that a test changes nothing for the next one."""
        self.restore()
        hidden = self._shadows()
        own = {
            name: value
            for name, value in self.names.items()
            if type(name) is str and name not in hidden and not name.startswith("__")
        }
        given = {k: self._copied(v) for k, v in self.given.items()}
        names = own | given | {"__builtins__": self._builtins, "__name__": "__main__"}
        if any(self.names.get(k, self) is not v for k, v in self.originals.items()):
            for name, value in given.items():  # given functions call one another by these names
                if type(value) is FunctionType and value.__globals__ is self.names:
                    names[name] = self._rebound(value, names)
        return names

    @staticmethod
    def _rebound(function: FunctionType, names: dict[str, Any]) -> FunctionType:
        """A function that looks its global names up in `names`."""
        made = FunctionType(
            function.__code__, names, function.__name__, function.__defaults__, function.__closure__
        )
        made.__kwdefaults__ = function.__kwdefaults__
        made.__dict__.update(function.__dict__)
        return made


def _import(name: str) -> None:
    """Import a module if it is there: a test that needs it will say when it isn't."""
    try:
        importlib.import_module(name)
    except ImportError:
        return


def _no_tracing() -> Callable[[], None]:
    """A function that ends tracing and profiling, whatever became of `sys` meanwhile."""
    ends = [sys.settrace, sys.setprofile, threading.settrace, threading.setprofile]
    monitoring: Any = getattr(sys, "monitoring", None)  # since Python 3.12

    def quiet() -> None:
        for end in ends:
            end(None)
        for tool in range(6) if monitoring else ():
            if monitoring.get_tool(tool) is not None:
                monitoring.set_events(tool, 0)

    return quiet
