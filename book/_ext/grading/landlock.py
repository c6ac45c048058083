"""Landlock: a process of Linux gives up its rights to files for good, without being root.

What isn't allowed here is refused by the kernel, whatever language asks.  The numbers are those of
linux/landlock.h; the manual page landlock(7) says what each version (ABI) of it covers.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

CREATE, ADD, RESTRICT = 444, 445, 446  # system calls, the same on every architecture
ASK_VERSION, PATH_BENEATH = 1, 1
NO_NEW_PRIVILEGES = 38

WRITE_FILE, READ_FILE, READ_DIR = 1 << 1, 1 << 2, 1 << 3
REMOVE_DIR, REMOVE_FILE, MAKE_DIR, MAKE_REG, MAKE_SYM = 1 << 4, 1 << 5, 1 << 7, 1 << 8, 1 << 12
REFER, TRUNCATE = 1 << 13, 1 << 14

READ = READ_FILE | READ_DIR
WRITE = READ | WRITE_FILE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | MAKE_SYM
WRITE |= REFER | TRUNCATE
OF_FILES = READ_FILE | WRITE_FILE | TRUNCATE  # the rights that a path which is no folder can have

RIGHTS = {1: 1 << 13, 2: 1 << 14, 3: 1 << 15, 5: 1 << 16}  # ABI to the first right it lacks
TCP, SCOPES = (4, 0b11), (6, 0b11)  # since which ABI; both rights, both scopes


class _Ruleset(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("files", "net", "scoped")]


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("allowed", ctypes.c_uint64), ("folder", ctypes.c_int32)]


def abi() -> int:
    """The kernel's version of Landlock, 0 where it has none."""
    try:
        return max(_call(CREATE, None, ctypes.c_size_t(0), ASK_VERSION), 0)
    except (OSError, AttributeError):
        return 0


def restrict(paths: Mapping[str | Path, int]) -> None:
    """Give up all access to files but these rights, TCP, and signals to others, for good.

    `paths` to READ or WRITE, for what lies beneath as well; a path that isn't there is skipped.
    Only this thread and its children are bound: call it while there is no other.
    Raises OSError where the kernel can't.
    """
    version = abi()
    if not version:
        raise OSError("this kernel has no Landlock")
    handled = RIGHTS[max(known for known in RIGHTS if known <= version)] - 1
    scoped = [bits if version >= since else 0 for since, bits in (TCP, SCOPES)]
    size = 8 if version < TCP[0] else 16 if version < SCOPES[0] else 24
    attributes = _Ruleset(handled, *scoped)
    ruleset = _call(CREATE, ctypes.byref(attributes), ctypes.c_size_t(size), 0)
    try:
        for path, rights in paths.items():
            _allow(ruleset, path, rights & handled)
        # Without this a process that isn't root would have to be it.
        ctypes.CDLL(None).prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)
        _call(RESTRICT, ruleset, 0)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str | Path, rights: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not os.path.isdir(path):
            rights &= OF_FILES
        beneath = _Beneath(rights, place)
        _call(ADD, ruleset, PATH_BENEATH, ctypes.byref(beneath), 0)
    finally:
        os.close(place)


def _call(number: int, *arguments: object) -> int:
    """A system call.  Raises OSError with the kernel's reason."""
    libc = ctypes.CDLL(None, use_errno=True)
    result = libc.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def readable(paths: Iterable[str | Path]) -> dict[str | Path, int]:
    """The same right, to read, for each path."""
    return dict.fromkeys(paths, READ)
