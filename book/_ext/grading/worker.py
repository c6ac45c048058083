"""Runs the cells of one submission.  `sandbox.Sandbox` starts it as a process; nobody imports it.

Lines of JSON come in and go out: first the settings, then a cell at a time.  Limits are set and the
guard installed before any of the student's code runs.  The guard stops accidents and plain
attempts; code written to break out of Python needs a container around it (see the guide).
"""

from __future__ import annotations

import builtins
import importlib
import io
import json
import os
import resource
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

# Modules that tests use: what a submission has changed in them is undone before each test.
TRUSTED = ["builtins", "math", "numpy", "numpy.linalg", "numpy.testing", "unittest.mock"]
TRUSTED += ["jax", "jax.numpy", "sympy", "ntkbook"]

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# Audit events that change files, with the places of the paths among their arguments.
CHANGES = {
    "os.remove": (0,),
    "os.rmdir": (0,),
    "os.mkdir": (0,),
    "os.rename": (0, 1),
    "os.link": (0, 1),
    "os.symlink": (0, 1),
    "os.chmod": (0,),
    "os.chown": (0,),
    "os.truncate": (0,),
    "os.utime": (0,),
}
LOOKS = {"os.listdir": (0,), "os.scandir": (0,), "os.chdir": (0,)}
PROCESSES: tuple[str, ...] = ("subprocess.Popen", "pty.spawn", "os.kill", "os.killpg")
PROCESSES += tuple(f"os.{name}" for name in ("system", "exec", "fork", "forkpty", "posix_spawn"))
NETWORK = ("socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo")


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


def limit_resources(memory: int) -> None:
    """Address space (with room for what JAX reserves and never touches), file size, no core."""
    limits = {"RLIMIT_AS": memory + 8 * 2**30, "RLIMIT_FSIZE": 100 * 2**20, "RLIMIT_CORE": 0}
    for name, value in limits.items():
        try:
            resource.setrlimit(getattr(resource, name), (value, value))
        except (ValueError, OSError):  # macOS refuses some; the Sandbox watches memory as well
            continue


def guard(writable: list[str], secret: list[str]) -> Callable[[str, tuple], None]:
    """An audit hook: writes in `writable` only, nothing of `secret`, no process, no network."""

    def inside(path: Any, roots: list[str]) -> bool:
        real = os.path.realpath(os.fsdecode(path))
        return any(real == root or real.startswith(root + os.sep) for root in roots)

    own = [*map(os.path.realpath, writable), os.devnull]
    closed = [os.path.realpath(place) for place in secret]

    def refuse(what: str) -> None:
        raise PermissionError(f"not allowed while grading: {what}")

    def check_paths(paths: list, writes: bool) -> None:
        for path in paths:
            if isinstance(path, int):
                continue
            if inside(path, closed):
                refuse(f"reading {os.fsdecode(path)}")
            if writes and not inside(path, own):
                refuse(f"writing {os.fsdecode(path)}, outside the submission's folder")

    def hook(event: str, args: tuple) -> None:
        if event == "open" and args[0] is not None:
            mode, flags = args[1] or "", args[2] or 0
            check_paths([args[0]], bool(flags & WRITING) or any(c in mode for c in "wax+"))
        elif event in CHANGES or event in LOOKS:
            places = CHANGES.get(event) or LOOKS[event]
            paths = [args[k] for k in places if k < len(args) and args[k] is not None]
            check_paths(paths, event in CHANGES)
        elif event in PROCESSES:
            refuse(f"another process ({event})")
        elif event in NETWORK:
            refuse(f"the network ({event})")

    return hook


class Namespaces:
    """The student's names, and a copy of them for each test in which what was given is as given."""

    def __init__(self, names: dict[str, Any]):
        self.names = names
        self.given: dict[str, Any] = {}
        self.modules: dict[str, tuple[ModuleType, dict[str, Any]]] = {}

    def after_given(self, before: dict[str, Any]) -> None:
        changed = {k: v for k, v in self.names.items() if before.get(k, self) is not v}
        self.given |= {k: v for k, v in changed.items() if not k.startswith("_")}
        for name in TRUSTED:
            if name in sys.modules and name not in self.modules:
                module = sys.modules[name]
                self.modules[name] = (module, dict(vars(module)))

    def for_test(self) -> dict[str, Any]:
        for module, original in self.modules.values():
            vars(module).update(original)
        shadows = set(vars(builtins)) - set(self.given)
        own = {k: v for k, v in self.names.items() if k not in shadows or k.startswith("__")}
        return own | self.given


def answer(shell: Any, spaces: Namespaces, role: str, source: str, limit: int) -> dict[str, Any]:
    """Run a cell and say how it went: the error's name and message, and what was printed."""
    stream = CappedText(limit)
    streams, error = (sys.stdout, sys.stderr), None
    sys.stdout = sys.stderr = stream
    try:
        if role == "test":
            names = spaces.for_test()
            try:
                exec(compile(source, "<test>", "exec"), names)
            except (
                BaseException
            ) as raised:  # also SystemExit: a test that ends early has not passed
                error = raised
        else:
            before = dict(spaces.names)
            result = shell.run_cell(source, store_history=False)
            error = result.error_before_exec or result.error_in_exec
            if role == "given":
                spaces.after_given(before)
    finally:
        sys.stdout, sys.stderr = streams
    said = {"output": stream.kept, "cut": stream.cut, "error": None, "message": ""}
    if error is not None:
        said["error"], said["message"] = type(error).__name__, _text(error)[:2000]
    return said


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # an exception class of the student's own may be broken as well
        return "(its message can't be shown)"


def quiet_shell() -> Any:
    """IPython's shell, so that magics and display work, without a window for figures."""
    from IPython.core.interactiveshell import InteractiveShell

    class Shell(InteractiveShell):
        def enable_gui(self, gui: str | None = None) -> None:
            pass

    return Shell


def main() -> None:
    commands, replies = (os.fdopen(os.dup(n), mode) for n, mode in ((0, "r"), (1, "w")))
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):  # what the student prints or reads can't reach the grader
        os.dup2(nothing, descriptor)
    settings = json.loads(commands.readline())
    limit_resources(settings["memory"])
    sys.path[:] = [p for p in sys.path if p != os.path.dirname(os.path.abspath(__file__))]
    shell_class = quiet_shell()
    config = importlib.import_module("traitlets.config").Config()
    config.HistoryManager.enabled = False
    config.InteractiveShell.colors = "nocolor"
    shell = shell_class.instance(config=config)
    spaces = Namespaces(shell.user_ns)
    sys.addaudithook(guard(settings["writable"], settings["secret"]))
    for line in commands:
        command = json.loads(line)
        said = answer(shell, spaces, command["role"], command["source"], settings["output"])
        replies.write(json.dumps(said | {"token": command["token"]}) + "\n")
        replies.flush()


if __name__ == "__main__":
    main()
