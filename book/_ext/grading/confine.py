"""What a worker gives up before it runs a student's first line."""

from __future__ import annotations

import ctypes
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path

from grading import landlock, seccomp

DIE_WITH_PARENT, KILLED = 1, 9

DEVICES: dict[str | Path, int] = {"/dev/null": landlock.READ | landlock.WRITE_FILE}
DEVICES |= landlock.readable(["/dev/zero", "/dev/random", "/dev/urandom"])
# Of /proc a worker sees itself, and what the numerical libraries ask about the machine.
MACHINE: tuple[str, ...] = (
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/self",
    "/proc/version",
)
MACHINE += ("/sys/devices/system/cpu", "/sys/kernel/mm/transparent_hugepage")


def confine(mode: str, readable: Sequence[str], writable: Sequence[str]) -> None:
    """Give up everything but reading and writing these paths; `bwrap` has seen to the files itself.

    Raises OSError where the kernel can't.  `guard` takes what there is.
    """
    if mode == "landlock":
        if len(os.listdir("/proc/self/task")) > 1:
            raise OSError("Landlock binds one thread, and there are others already")
        rights = landlock.readable([*readable, *MACHINE]) | DEVICES
        landlock.restrict(rights | dict.fromkeys(writable, landlock.WRITE))
    with suppress(OSError) if mode == "guard" else nullcontext():
        seccomp.install()


def die_with(parent: int | None) -> None:
    """End when the grader ends, however it ends; `parent` is its number, if it is visible."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(DIE_WITH_PARENT, KILLED, 0, 0, 0)
        if parent and os.getppid() != parent:
            sys.exit("the grader has ended")


def limit_resources(memory: int) -> None:
    """Address space (with room for what JAX reserves and never touches), files, no core."""
    limits = {"RLIMIT_AS": memory + 8 * 2**30, "RLIMIT_FSIZE": 100 * 2**20, "RLIMIT_CORE": 0}
    import resource  # not on Windows, where the other commands run

    for name, value in (limits | {"RLIMIT_NOFILE": 256}).items():
        try:
            resource.setrlimit(getattr(resource, name), (value, value))
        except (ValueError, OSError):  # macOS refuses some; the Sandbox watches memory as well
            continue


def try_out(mode: str) -> None:
    """Raises OSError where a confined process can do what it may not, or not what it must."""
    with tempfile.TemporaryDirectory() as folder:
        own, other = Path(folder, "own"), Path(folder, "other")
        own.mkdir()
        other.write_text("")
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        if os.fork():
            _, status = os.wait()
            if status or os.read(reading, 1) != b"+":
                raise OSError(f"the kernel confines no process (status {status})")
            return
        confine(mode, [], [str(own)])
        Path(own, "file").write_text("mine")
        attempts: list[Callable[[], object]] = [os.fork, lambda: os.kill(os.getppid(), 0)]
        attempts += [other.read_text, lambda: os.listdir("/")] if mode == "landlock" else []
        for attempt in attempts:
            try:
                attempt()
            except PermissionError:
                continue
            os._exit(1)
        os.write(writing, b"+")
        os._exit(0)
