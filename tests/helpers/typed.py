"""Annotations that are held to: every public function of ntkbook, checked whenever a test calls it.

`install` puts a checker in place of each one.  An annotation must promise what comes back, and it
may refuse only what the function itself refuses, by an error of its own.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
import typing
from collections.abc import Callable, Iterator
from types import ModuleType

import jax
from beartype import BeartypeConf, beartype
from jaxtyping import TypeCheckError, jaxtyped

import ntkbook
import ntkbook.estimators

CHECKER = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int may stand for a float
SHELVES = (ntkbook.duals, ntkbook.quadrature, ntkbook.estimators)


def agreement(function: Callable, name: str) -> Callable:
    """`function`, which raises an AssertionError where it and its annotations disagree."""
    entered: list[bool] = []  # for each call in progress, whether its arguments were accepted

    @functools.cache  # made when first called: resolving names may import what is imported late
    def checked() -> Callable:
        @functools.wraps(function)
        def body(*args, **kwargs):
            entered[-1] = True
            return function(*args, **kwargs)

        body.__signature__ = _resolved(function)
        return jaxtyped(typechecker=CHECKER)(body)

    @functools.wraps(function)
    def call(*args, **kwargs):
        entered.append(False)
        try:
            return checked()(*args, **kwargs)
        except TypeCheckError as error:
            problem = str(error)
        finally:
            accepted = entered.pop()
        if accepted:
            raise AssertionError(f"{name} gives what its annotations do not promise: {problem}")
        function(*args, **kwargs)  # it should refuse them too, and say so in its own words
        raise AssertionError(f"annotations of {name} refuse what it accepts: {problem}")

    call.held_to_its_annotations = True
    return call


def install() -> None:
    """Wrap what is public where it is defined, and where it is shown: once for each process."""
    wrapped: dict[int, Callable] = {}
    for shelf, name, thing in list(public()):
        if inspect.isclass(thing):
            for owner in _own_classes(thing):
                for method in checked_methods(owner):
                    function = vars(owner)[method]
                    if not is_held(function):
                        setattr(owner, method, agreement(function, f"{owner.__name__}.{method}"))
        elif not is_held(thing):
            new = wrapped.setdefault(id(thing), agreement(thing, name))
            for place in (shelf, sys.modules[thing.__module__]):
                if getattr(place, name, None) is thing:
                    setattr(place, name, new)


def public() -> Iterator[tuple[ModuleType, str, Callable]]:
    """Where it is shown, its name, and each public function and class; of an object, its class."""
    for shelf in (ntkbook, *SHELVES):
        own = [name for name, thing in vars(shelf).items() if _home(thing) == shelf.__name__]
        for name in getattr(shelf, "__all__", own):
            thing = getattr(shelf, name)
            if not (inspect.isfunction(inspect.unwrap(thing)) or inspect.isclass(thing)):
                thing = type(thing)
            if not name.startswith("_") and _home(thing).startswith("ntkbook"):
                yield shelf, name, thing


def checked_methods(owner: type) -> list[str]:
    """The methods of a class that are checked: the public ones, `__call__` and `__init__`.

    Not the `__init__` of pytrees, which JAX fills with placeholders, and of scikit-learn's
    estimators, which by its convention keep whatever they get until they are fitted.
    """
    special = {"__call__"} if is_pytree(owner) or hasattr(owner, "get_params") else SPECIAL
    return [
        name
        for name, value in vars(owner).items()
        if (name in special or not name.startswith("_"))
        and inspect.isfunction(inspect.unwrap(value))  # compiled ones too
        and not isinstance(value, staticmethod | classmethod)
    ]


SPECIAL = {"__call__", "__init__"}


def is_held(function: object) -> bool:
    return hasattr(function, "held_to_its_annotations")


def is_pytree(owner: type) -> bool:
    """Whether JAX knows how to flatten the instances of a class."""
    try:
        blank = object.__new__(owner)
        return jax.tree.structure(blank) != jax.tree.structure(0)
    except TypeError:  # no blank instance: an exception, a named tuple
        return issubclass(owner, tuple)
    except AttributeError:  # it does, and looked for the fields
        return True


def _home(thing: object) -> str:
    """The module in which a function or class is defined."""
    return getattr(thing, "__module__", None) or ""


def _own_classes(thing: type) -> list[type]:
    """The class and its parents, as far as they are ntkbook's."""
    return [owner for owner in thing.__mro__ if owner.__module__.startswith("ntkbook")]


def _resolved(function: Callable) -> inspect.Signature:
    """The signature, its annotations no longer strings: they are read where they were written."""
    plain = inspect.unwrap(function)
    hints = None
    late: dict[str, ModuleType] = {}  # modules that the function imports only when it runs
    while hints is None:
        try:
            hints = typing.get_type_hints(plain, localns=late, include_extras=True)
        except NameError as error:
            late[error.name] = importlib.import_module(error.name)
    signature = inspect.signature(plain)
    parameters = [
        parameter.replace(annotation=hints.get(name, parameter.annotation))
        for name, parameter in signature.parameters.items()
    ]
    # "-> None" reads NoneType once resolved; nothing at all is left open.
    returned = hints.get("return", inspect.Signature.empty)
    return signature.replace(parameters=parameters, return_annotation=returned)
