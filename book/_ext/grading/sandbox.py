"""A process of its own that runs the cells of one submission, in a folder of its own, under limits.

Whatever a submission does, `run_cells` returns: an endless loop, a crash or too much memory costs
the cell that did it and no other.
"""

from __future__ import annotations

import json
import math
import os
import secrets as tokens
import selectors
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from notebooks.compiled import kept_in

WORKER = Path(__file__).with_name("worker.py")


PATIENCE = 10  # seconds on the clock for each second of processor time
STOPPED, LATE = "Stopped", "TimeLimit"  # beside the names of Python's errors


@dataclass(frozen=True)
class Limits:
    """What a submission may use.

    `cell` is in seconds of processor time, so that a busy machine costs nobody points; a cell that
    sleeps is stopped after `PATIENCE` times as many seconds on the clock.  `submission` is in
    seconds on the clock, `memory` in bytes, and `output`, of a cell, in characters.
    """

    cell: float = 60
    submission: float = 600
    memory: int = 4 * 2**30
    output: int = 20_000


@dataclass(frozen=True)
class Outcome:
    """How a cell went.  `error` is None when it ran through, else what kind; `message` says why."""

    error: str | None
    message: str = ""
    output: str = ""


class Stopped(Exception):
    """The process is gone, with the reason."""


class Sandbox:
    """A process of its own that runs cells, in a folder of its own, under limits."""

    def __init__(self, limits: Limits, secret: Iterable[Path] = (), compiled: Path | None = None):
        """`compiled`, where trusted code alone may run, is a folder that JAX keeps programs in."""
        self.limits = limits
        self.folder = Path(tempfile.mkdtemp(prefix="submission-"))
        _copy_font_cache(self.folder)
        self.process = subprocess.Popen(
            [sys.executable, str(WORKER)],
            cwd=self.folder,
            env=_environment(self.folder) | (kept_in(compiled) if compiled else {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        writable = [str(self.folder), *([str(compiled)] if compiled else [])]
        settings = {"writable": writable, "secret": [str(p.resolve()) for p in secret]}
        self._send(settings | {"memory": limits.memory, "output": limits.output})
        self._received = b""

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self._kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, role: str, source: str, seconds: float, clock: float = math.inf) -> Outcome:
        """Run a cell, for `seconds` of processor time and until `clock` at most.

        Raises Stopped when the process did not survive it.
        """
        clock = min(clock, PATIENCE * seconds)
        token = tokens.token_hex(16)
        self._send({"role": role, "source": source, "token": token})
        reply = self._reply(token, seconds, clock)
        output = reply["output"] + ("\n… cut here" if reply["cut"] else "")
        return Outcome(reply["error"], reply["message"], output)

    def _send(self, message: dict[str, Any]) -> None:
        assert self.process.stdin
        with suppress(BrokenPipeError):  # a dead process is noticed when its reply is missing
            self.process.stdin.write(json.dumps(message).encode() + b"\n")
            self.process.stdin.flush()

    def _reply(self, token: str, seconds: float, clock: float) -> dict[str, Any]:
        assert self.process.stdout
        begun, spent = time.monotonic(), self._processor_time()
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while True:
                if selector.select(timeout=0.1):
                    part = os.read(self.process.stdout.fileno(), 2**16)
                    self._received += part
                    if not part:
                        raise Stopped(f"Python died ({self._exit()})")
                    *lines, self._received = self._received.split(b"\n")
                    for line in lines:
                        with suppress(ValueError, TypeError, KeyError):
                            reply = json.loads(line)
                            if reply["token"] == token:
                                return reply
                if self._processor_time() - spent > seconds:
                    self._kill()
                    raise Stopped(f"not done after {seconds:.0f} s of processor time")
                if time.monotonic() - begun > clock:
                    self._kill()
                    raise Stopped(f"not done after {clock:.0f} s")
                if self._memory() > self.limits.memory:
                    self._kill()
                    raise Stopped(f"used more than {self.limits.memory / 2**30:.2g} GiB of memory")

    def _exit(self) -> str:
        try:
            code = self.process.wait(5)
        except subprocess.TimeoutExpired:
            return "it closed the connection to the grader"
        return f"signal {-code}" if code < 0 else f"exit code {code}"

    def _processor_time(self) -> float:
        try:
            used = psutil.Process(self.process.pid).cpu_times()
        except psutil.Error:
            return 0.0
        return used.user + used.system

    def _memory(self) -> int:
        try:
            return psutil.Process(self.process.pid).memory_info().rss
        except psutil.Error:
            return 0

    def _kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, 9)
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            with suppress(OSError):
                stream and stream.close()


def _environment(folder: Path) -> dict[str, str]:
    """What the process knows of the machine: nothing of the person who grades."""
    kept = ("PATH", "LANG", "LC_ALL", "SYSTEMROOT", "JAX_PLATFORMS", "LD_LIBRARY_PATH")
    own = {"HOME": folder, "TMPDIR": folder, "IPYTHONDIR": folder, "MPLCONFIGDIR": folder}
    # One thread, so that processor time is the same on a machine with more cores.
    fixed = {"MPLBACKEND": "agg", "NPROC": "1", "OMP_NUM_THREADS": "1"}
    fixed |= {"NTKBOOK_SIZE": "cpu", "PYTHONDONTWRITEBYTECODE": "1"}
    fixed |= {"PYTHONHASHSEED": "0", "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONUTF8": "1"}
    fixed |= {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "OPENBLAS_NUM_THREADS": "1"}
    inherited = {key: os.environ[key] for key in kept if key in os.environ}
    return inherited | {key: str(value) for key, value in own.items()} | fixed


def _copy_font_cache(folder: Path) -> None:
    """Matplotlib would look through the machine's fonts in every process."""
    import matplotlib

    for file in Path(matplotlib.get_cachedir()).glob("fontlist-*.json"):
        shutil.copy(file, folder)


def run_cells(
    cells: Sequence[tuple[str, str, str]], limits: Limits, secret: Iterable[Path] = ()
) -> list[Outcome]:
    """Run all cells in one process; after a cell that ends it, all others again in a new one."""
    secret, fatal = list(secret), dict[int, Outcome]()
    deadline = time.monotonic() + limits.submission
    while True:
        outcomes: list[Outcome] = []
        with Sandbox(limits, secret) as box:
            for place, (_, role, source) in enumerate(cells):
                left = deadline - time.monotonic()
                if place in fatal:
                    outcomes.append(fatal[place])
                elif left <= 0:
                    said = f"not run: the notebook took more than {limits.submission:.0f} s"
                    outcomes.append(Outcome(LATE, said))
                else:
                    try:
                        outcomes.append(box.run(role, source, limits.cell, max(left, 1)))
                    except Stopped as reason:
                        fatal[place] = Outcome(STOPPED, str(reason))
                        break
            else:
                return outcomes
