"""What Python itself refuses a submission, with words for the student.

The kernel guards where it can (confine.py); a message of its own says only "Permission denied".
Where the kernel can't, this hook stops accidents and plain attempts, and no more.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

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
    "os.setxattr": (0,),
    "os.removexattr": (0,),
    "sqlite3.connect": (0,),
}
LOOKS = {"os.listdir": (0,), "os.scandir": (0,), "os.chdir": (0,)}
PROCESSES: tuple[str, ...] = ("subprocess.Popen", "pty.spawn", "os.kill", "os.killpg")
PROCESSES += tuple(f"os.{name}" for name in ("system", "exec", "fork", "forkpty", "posix_spawn"))
NETWORK: tuple[str, ...] = (
    "socket.connect",
    "socket.bind",
    "socket.getaddrinfo",
    "socket.gethostbyname",
)
NETWORK += ("socket.sendto", "socket.sendmsg")
ALWAYS: tuple[str, ...] = (
    "/dev/null",
    "/dev/zero",
    "/dev/random",
    "/dev/urandom",
    "/sys/devices/system/cpu",
)
ALWAYS += ("/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/version")


def guard(
    readable: Sequence[str], writable: Sequence[str], secret: Sequence[str]
) -> Callable[[str, tuple], None]:
    """An audit hook: reads these paths only, writes those only, no process, no network."""
    # Bound here, so that a submission which replaces them in their modules changes nothing.
    real, text, exists, separator = os.path.realpath, os.fsdecode, os.path.lexists, os.sep
    own = tuple(real(place) for place in writable)
    may_write = (*own, real(os.devnull))
    itself = f"/proc/{os.getpid()}"
    may_read = (*may_write, *(real(place) for place in readable), *ALWAYS, itself)
    closed = tuple(real(place) for place in secret)
    changes, looks, processes, network = dict(CHANGES), dict(LOOKS), (*PROCESSES,), (*NETWORK,)

    def inside(path: str, roots: Sequence[str]) -> bool:
        return any(path == root or path.startswith(root + separator) for root in roots)

    def refuse(what: str) -> None:
        raise PermissionError(f"not allowed while grading: {what}")

    def check(path: Any, writes: bool) -> None:
        if isinstance(path, int):
            return
        name = text(path)
        place = real(name)
        if writes and not inside(place, may_write):
            refuse(f"writing {name}, outside the submission's folder")
        if inside(place, closed) or not (inside(place, may_read) or not exists(place)):
            refuse(f"reading {name}, outside the submission's folder")

    def hook(event: str, args: tuple) -> None:
        if event == "open" and args[0] is not None:
            mode, flags = args[1] or "", args[2] or 0
            check(args[0], bool(flags & WRITING) or any(c in mode for c in "wax+"))
        elif event in changes or event in looks:
            for k in changes.get(event) or looks[event]:
                if k < len(args) and args[k] is not None:
                    check(args[k], event in changes)
        elif event in processes:
            refuse(f"another process ({event})")
        elif event in network:
            refuse(f"the network ({event})")

    return hook
