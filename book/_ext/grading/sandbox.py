"""A process of its own that runs the cells of one submission, in a folder of its own, under limits.

Whatever a submission does, `run_cells` returns: an endless loop, a crash or too much memory costs
the cell that did it and no other.  What it can reach is in confinement.py and confine.py.
"""

from __future__ import annotations

import ast
import json
import math
import os
import secrets as tokens
import selectors
import shutil
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from notebooks.compiled import kept_in

from grading import watch
from grading.confinement import SANDBOXES as SANDBOXES
from grading.confinement import check_apart, command, python, readable, resolved
from grading.confinement import chosen as chosen

PATIENCE = 10  # seconds on the clock for each second of processor time
START = 60  # seconds of processor time for a worker to import what tests use
THREADS = 1000
LONGEST_REPLY = 2**20
STOPPED, LATE, TAMPERED = "Stopped", "TimeLimit", "Tampered"  # beside the names of Python's errors
VOID = "The tests take wrong answers as well in this notebook, so they give no points."
FOUND = "tampered: a test takes a wrong answer in this notebook; read its cells."
UNPROVEN = "{}: a wrong answer stopped the process instead of failing; read this notebook's cells."

Cells = Sequence[tuple[str, str, str]]


@dataclass(frozen=True)
class Limits:
    """What a submission may use, and what keeps it in.

    `cell` is in seconds of processor time, so that a busy machine costs nobody points; a cell that
    sleeps is stopped after `PATIENCE` times as many seconds on the clock.  `submission` is in
    seconds on the clock, `memory` and `disk` in bytes, and `output`, of a cell, in characters.
    """

    cell: float = 60
    submission: float = 600
    memory: int = 4 * 2**30
    output: int = 20_000
    sandbox: str = "auto"
    disk: int = 2**28


@dataclass(frozen=True)
class Outcome:
    """How a cell went.  `error` is None when it ran through, else what kind; `message` says why.

    `note` is for the instructor alone.
    """

    error: str | None
    message: str = ""
    output: str = ""
    note: str = ""


class Stopped(Exception):
    """The process is gone, with the reason."""


class Sandbox:
    """A process of its own that runs cells, in a folder of its own, under limits."""

    def __init__(
        self,
        limits: Limits,
        secret: Iterable[Path] = (),
        compiled: Path | None = None,
        modules: Iterable[str] = (),
    ):
        """`modules` are those that tests use, imported before anything of the student's.

        `compiled`, where trusted code alone may run, is a folder that JAX keeps programs in.
        Raises OSError when the process doesn't start.
        """
        self.limits = limits
        self.mode, _ = resolved(limits.sandbox)
        allowed, secret = readable(), [place.resolve() for place in secret]
        check_apart(secret, allowed)
        self.folder = watch.new_folder()
        _copy_font_cache(self.folder)
        writable = [str(self.folder), *([str(compiled)] if compiled else [])]
        self.process = subprocess.Popen(
            command(self.mode, self.folder, allowed, writable) + python("worker", "main"),
            cwd=self.folder,
            env=_environment(self.folder) | (kept_in(compiled) if compiled else {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert self.process.stdin
        assert self.process.stdout
        for stream in (self.process.stdin, self.process.stdout):
            os.set_blocking(stream.fileno(), False)
        settings: dict[str, Any] = {"sandbox": self.mode, "readable": allowed, "writable": writable}
        settings |= {"secret": [str(place) for place in secret], "modules": sorted(modules)}
        settings |= {"memory": limits.memory, "output": limits.output}
        settings["parent"] = None if self.mode == "bwrap" else os.getpid()
        try:
            self._ask(settings, START, math.inf)
        except Stopped as reason:
            said = self._errors()
            self.__exit__()
            raise OSError(f"a worker did not start ({reason}): {said}") from None

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self._kill()
        watch.remove(self.folder)

    def run(
        self, role: str, source: str, seconds: float, clock: float = math.inf, wrong: str = ""
    ) -> Outcome:
        """Run a cell, for `seconds` of processor time and until `clock` at most.

        A test with `wrong` is run on this answer instead of the student's.
        Raises Stopped when the process did not survive it.
        """
        message = {"role": role, "source": source, "wrong": wrong}
        reply = self._ask(message, seconds, min(clock, PATIENCE * seconds))
        return _outcome(reply, self.limits.output)

    def _ask(self, message: dict[str, Any], seconds: float, clock: float) -> dict[str, Any]:
        """Send a message and wait for its reply, watching what is used meanwhile."""
        assert self.process.stdin
        assert self.process.stdout
        token = tokens.token_hex(16)
        unsent = json.dumps(message | {"token": token}).encode() + b"\n"
        begun, spent = time.monotonic(), watch.usage(watch.tree(self.process.pid)).seconds
        looked, received = begun, bytearray()
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            selector.register(self.process.stdin, selectors.EVENT_WRITE)
            while True:
                for key, _ in selector.select(timeout=0.1):
                    if key.fileobj is self.process.stdin:
                        unsent = self._send(unsent)
                        if not unsent:
                            selector.unregister(self.process.stdin)
                        continue
                    part = os.read(self.process.stdout.fileno(), 2**16)
                    if not part:
                        raise Stopped(f"Python died ({self._exit()})")
                    received += part
                    if b"\n" in part:
                        *lines, rest = bytes(received).split(b"\n")
                        reply = _reply(lines, token)
                        if reply is not None:
                            return reply
                        received = bytearray(rest)
                    if len(received) > LONGEST_REPLY:
                        self._stop("sent the grader more than a reply holds")
                if time.monotonic() - looked > 0.1:
                    looked = time.monotonic()
                    self._check(seconds, spent, looked - begun, clock)

    def _send(self, data: bytes) -> bytes:
        """Write what there is room for; a dead process is noticed when its reply is missing."""
        assert self.process.stdin
        try:
            return data[os.write(self.process.stdin.fileno(), data) :]
        except BlockingIOError:
            return data
        except BrokenPipeError:
            return b""

    def _check(self, seconds: float, spent: float, passed: float, clock: float) -> None:
        """Raises Stopped, the processes killed, when they use more than they may."""
        processes = watch.tree(self.process.pid)
        used = watch.usage(processes)
        if used.seconds - spent > seconds:
            self._stop(f"not done after {seconds:.0f} s of processor time")
        if passed > clock:
            self._stop(f"not done after {clock:.0f} s")
        if used.memory > self.limits.memory:
            self._stop(f"used more than {self.limits.memory / 2**30:.2g} GiB of memory")
        if used.threads > THREADS:
            self._stop(f"used more than {THREADS} threads")
        if watch.disk(self.folder, processes, self.limits.disk) > self.limits.disk:
            self._stop(f"wrote more than {self.limits.disk / 2**20:.0f} MiB into its folder")

    def _stop(self, reason: str) -> None:
        self._kill()
        raise Stopped(reason)

    def _exit(self) -> str:
        try:
            code = self.process.wait(5)
        except subprocess.TimeoutExpired:
            return "it closed the connection to the grader"
        if self.mode == "bwrap" and code > 128:  # as a shell says it
            code = 128 - code
        return f"signal {-code}" if code < 0 else f"exit code {code}"

    def _errors(self) -> str:
        """What a worker that didn't start has said."""
        self._kill()
        assert self.process.stderr
        lines = self.process.stderr.read(2**16).decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    def _kill(self) -> None:
        if self.process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, 9)
            watch.kill(self.process.pid)
            self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            with suppress(OSError):
                stream and stream.close()


def _reply(lines: Iterable[bytes], token: str) -> dict[str, Any] | None:
    """The reply to a message among lines that a submission may have written."""
    for line in lines:
        if token.encode() in line:
            with suppress(ValueError, RecursionError):
                reply = json.loads(line)
                if isinstance(reply, dict) and reply.get("token") == token:
                    return reply
    return None


def _outcome(reply: dict[str, Any], output: int) -> Outcome:
    """A reply, whatever stands in it: it comes from the student's process."""
    error, printed = reply.get("error"), str(reply.get("output", ""))[:output]
    printed += "\n… cut here" if reply.get("cut") else ""
    message = str(reply.get("message", ""))[:2000]
    note = str(reply.get("note", ""))[:200]
    return Outcome(None if error is None else str(error)[:100], message, printed, note)


def _environment(folder: Path) -> dict[str, str]:
    """What the process knows of the machine: nothing of the person who grades."""
    kept = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH")
    own = {"HOME": folder, "TMPDIR": folder, "IPYTHONDIR": folder, "MPLCONFIGDIR": folder}
    # One thread, so that processor time is the same on a machine with more cores.
    fixed = {"MPLBACKEND": "agg", "NPROC": "1", "OMP_NUM_THREADS": "1", "JAX_PLATFORMS": "cpu"}
    fixed |= {"NTKBOOK_SIZE": "cpu", "PYTHONDONTWRITEBYTECODE": "1"}
    fixed |= {"PYTHONHASHSEED": "0", "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONUTF8": "1"}
    fixed |= {"JOBLIB_MULTIPROCESSING": "0", "USER": "student"}
    fixed |= {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "OPENBLAS_NUM_THREADS": "1"}
    inherited = {key: os.environ[key] for key in kept if key in os.environ}
    return inherited | {key: str(value) for key, value in own.items()} | fixed


def _copy_font_cache(folder: Path) -> None:
    """Matplotlib would look through the machine's fonts in every process."""
    import matplotlib

    for file in Path(matplotlib.get_cachedir()).glob("fontlist-*.json"):
        shutil.copy(file, folder)


def run_cells(
    cells: Cells,
    limits: Limits,
    secret: Iterable[Path] = (),
    canaries: Mapping[str, Sequence[str]] | None = None,
) -> list[Outcome]:
    """Run all cells in one process; after a cell that ends it, all others again in a new one.

    `secret` are places that lie apart from all that a submission may read.  `canaries` are wrong
    answers for each test: a process in which a test takes one is tampered with, and none of its
    tests counts.
    """
    secret, settled, tampered, unproven = list(secret), dict[int, Outcome](), set[int](), set[int]()
    limits = replace(limits, sandbox=resolved(limits.sandbox)[0])
    deadline = time.monotonic() + limits.submission
    modules = imported(source for _, role, source in cells if role in ("given", "test"))
    while True:
        outcomes: list[Outcome] = []
        with Sandbox(limits, secret, modules=modules) as box:
            for place, (name, role, source) in enumerate(cells):
                left = deadline - time.monotonic()
                wrong = canaries.get(name, ()) if canaries and role == "test" else ()
                if place in settled:
                    outcomes.append(settled[place])
                elif left <= 0:
                    said = f"not run: the notebook took more than {limits.submission:.0f} s"
                    outcomes.append(Outcome(LATE, said))
                else:
                    try:
                        if wrong and place not in unproven:
                            outcomes.append(_proven(box, source, max(left, 1), wrong))
                        else:
                            outcomes.append(box.run(role, source, limits.cell, max(left, 1)))
                    except _CanaryStopped:
                        unproven.add(place)
                        break
                    except Stopped as reason:
                        settled[place] = Outcome(STOPPED, str(reason))
                        break
                    tampered |= {place} if outcomes[-1].error == TAMPERED else set()
            else:
                noted = [
                    replace(outcome, note=UNPROVEN.format(name)) if place in unproven else outcome
                    for place, ((name, *_), outcome) in enumerate(zip(cells, outcomes, strict=True))
                ]
                return _void(cells, noted) if tampered else noted


class _CanaryStopped(Exception):
    """The process did not survive a wrong answer."""


def _proven(box: Sandbox, source: str, left: float, wrong: Sequence[str]) -> Outcome:
    """A test, and after it the same test with a wrong answer, which it must refuse.

    Now and then one comes before it too: who sees a message can't tell by its place which it is.
    """

    def takes_a_wrong_answer() -> bool:
        canary = tokens.choice(wrong)
        try:
            outcome = box.run("test", source, box.limits.cell, left, wrong=canary)
        except Stopped:
            raise _CanaryStopped from None
        return outcome.error is None

    if tokens.randbelow(2) and takes_a_wrong_answer():
        return Outcome(TAMPERED)
    outcome = box.run("test", source, box.limits.cell, left)
    if takes_a_wrong_answer():
        return Outcome(TAMPERED)
    return outcome


def _void(cells: Cells, outcomes: Sequence[Outcome]) -> list[Outcome]:
    void = Outcome(TAMPERED, VOID, note=FOUND)
    return [
        replace(void, output=outcome.output) if role == "test" else outcome
        for (_, role, _), outcome in zip(cells, outcomes, strict=True)
    ]


def imported(sources: Iterable[str]) -> set[str]:
    """The modules that cells import, and what may be one: `from a import b` gives a and a.b."""
    found = set()
    for source in sources:
        with suppress(SyntaxError):  # a magic of IPython
            for node in ast.walk(ast.parse(source)):
                if isinstance(node, ast.Import):
                    found |= {alias.name for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module:
                    found |= {node.module, *(f"{node.module}.{a.name}" for a in node.names)}
    return found
