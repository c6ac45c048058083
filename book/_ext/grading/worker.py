"""Runs the cells of one submission, in a process that `sandbox.Sandbox` starts.

Lines of JSON come in and go out: first the settings, then a cell at a time.  The process gives up
all rights that it doesn't need before any of the student's code runs (confine.py).
"""

from __future__ import annotations

import functools
import importlib
import io
import json
import os
import sys
from collections.abc import Callable, Container
from contextlib import suppress
from types import FunctionType
from typing import Any

from grading.confine import confine, die_with, limit_resources
from grading.guard import guard
from grading.namespaces import Namespaces
from grading.strangers import Strangers


class CappedText(io.TextIOBase):
    """Keeps the first `limit` characters of what is printed."""

    def __init__(self, limit: int):
        self.limit, self.kept, self.cut = limit, "", False

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        room = self.limit - len(self.kept)
        self.kept += text[:room]
        self.cut = self.cut or len(text) > room
        return len(text)


def accompanied(function: Callable, companion: Callable, names: dict[str, Any]) -> Callable:
    """`function`, after a call of the student's: what that changes while a test runs is changed.

    Its globals are those of the test, where a companion that looks at its caller expects them.
    """
    quiet = suppress

    def both(*args: Any, **keywords: Any) -> Any:
        with quiet(BaseException):  # a wrong answer may call it as the test wouldn't
            companion(*args, **keywords)
        return function(*args, **keywords)

    code, cells = both.__code__, both.__closure__
    return functools.wraps(function)(FunctionType(code, names, "both", None, cells))


def words(error: BaseException, known: Container[type]) -> str:
    """What an error says, without a call of anything that the student may have written."""
    args = tuple(BaseException.args.__get__(error))  # type: ignore[attr-defined]
    if not all(type(part) in (str, int, float, bool, type(None)) for part in args):
        return "(its message can't be shown)"
    kind = type(error)
    if kind in known and kind.__str__ in (BaseException.__str__, KeyError.__str__):
        return str(error)
    return " ".join(map(str, args))


def runner(
    shell: Any, spaces: Namespaces, limit: int
) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """A function that runs a cell and says how it went: error, message, what was printed."""
    # Bound here, so that a submission which replaces them in their modules changes nothing.
    run, translate, with_companion, capped = exec, compile, accompanied, CappedText
    python, text_of, words_of, function_type = sys, str, words, FunctionType
    name_of = type.__dict__["__name__"].__get__  # a metaclass may have another idea of it
    strangers = Strangers()

    def test(source: str, wrong: str) -> BaseException | None:
        names = spaces.for_test()
        try:
            code = translate(source, "<test>", "exec")
            if wrong:
                before = dict(names)
                run(translate(wrong, "<answer>", "exec"), names)
                for name, value in names.items():
                    own = before.get(name)
                    if own is not value and isinstance(value, function_type) and callable(own):
                        names[name] = with_companion(value, own, names)
            else:
                strangers.watch(names, set(spaces.given), code)
            run(code, names)
        except BaseException as raised:  # also SystemExit: a test that ends early has not passed
            return raised
        return None

    def cell(source: str, given: bool) -> BaseException | None:
        before = spaces.before_given() if given else {}
        try:
            if given:  # not by the shell, which a submission can teach to read it otherwise
                run(translate(source, "<given>", "exec"), spaces.names)
                return None
            result = shell.run_cell(source, store_history=False)
            return result.error_before_exec or result.error_in_exec
        except BaseException as raised:
            return raised
        finally:
            if given:
                spaces.after_given(before)

    def answer(command: dict[str, Any]) -> dict[str, Any]:
        stream, streams = capped(limit), (python.stdout, python.stderr)
        python.stdout = python.stderr = stream
        role, source = command["role"], command["source"]
        try:
            if role == "test":
                error = test(source, command["wrong"])
            else:
                error = cell(source, role == "given")
        finally:
            python.stdout, python.stderr = streams
        said = {"output": stream.kept, "cut": stream.cut, "error": None, "message": ""}
        said["note"] = strangers.said() if role == "test" and not command["wrong"] else ""
        if error is not None:
            said["error"] = name_of(type(error))
            try:
                shown = words_of(error, strangers.known) if role == "test" else text_of(error)
                said["message"] = shown[:2000]
            except BaseException:  # an exception class of the student's own may be broken as well
                said["message"] = "(its message can't be shown)"
        return said

    return answer


def quiet_shell() -> Any:
    """IPython's shell, so that magics and display work, without a window for figures."""
    from IPython.core.interactiveshell import InteractiveShell

    class Shell(InteractiveShell):
        def enable_gui(self, gui: str | None = None) -> None:
            pass

    config = importlib.import_module("traitlets.config").Config()
    config.HistoryManager.enabled = False
    config.InteractiveShell.colors = "nocolor"
    return Shell.instance(config=config)


def main() -> None:
    commands, replies = (os.fdopen(os.dup(n), mode) for n, mode in ((0, "r"), (1, "w")))
    loads, dumps = json.loads, json.dumps
    settings = loads(commands.readline())
    die_with(settings["parent"])
    limit_resources(settings["memory"])
    readable, writable = settings["readable"], settings["writable"]
    confine(settings["sandbox"], readable, writable)
    own = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    sys.path[:] = [place for place in sys.path if place not in ("", own)]
    shell = quiet_shell()
    answer = runner(shell, Namespaces(shell.user_ns, settings["modules"]), settings["output"])
    sys.addaudithook(guard(readable, writable, settings["secret"]))
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):  # what the student prints or reads can't reach the grader
        os.dup2(nothing, descriptor)
    write, flush = replies.write, replies.flush
    said: dict[str, Any] = {"error": None, "message": "", "output": "", "cut": False}
    write(dumps(said | {"token": settings["token"]}) + "\n")
    flush()
    for line in commands:
        command = loads(line)
        write(dumps(answer(command) | {"token": command["token"]}) + "\n")
        flush()
