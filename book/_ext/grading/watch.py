"""What a process and all that it started use, and the end of all of them."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

BLOCK = 4096  # what an entry of a folder takes at least
PREFIX = "submission-"


@dataclass(frozen=True)
class Usage:
    """Of a whole tree of processes: seconds of processor time, bytes of memory, threads."""

    seconds: float = 0
    memory: int = 0
    threads: int = 0


def tree(pid: int) -> list[psutil.Process]:
    """A process and all below it, also those that left its session."""
    try:
        top = psutil.Process(pid)
        return [top, *top.children(recursive=True)]
    except psutil.Error:
        return []


def usage(processes: list[psutil.Process]) -> Usage:
    seconds, memory, threads = 0.0, 0, 0
    for process in processes:
        with suppress(psutil.Error), process.oneshot():
            times = process.cpu_times()
            seconds += times.user + times.system
            memory += process.memory_info().rss
            threads += process.num_threads()
    return Usage(seconds, memory, threads)


def kill(pid: int) -> None:
    """End a process and all below it; again, until none is left that could start another."""
    for _ in range(100):
        alive = [one for one in tree(pid) if _runs(one)]
        if not alive:
            return
        for one in alive:
            with suppress(psutil.Error):
                one.kill()
        time.sleep(0.02)


def _runs(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return process.status() != psutil.STATUS_ZOMBIE
    return False


def disk(folder: Path, processes: list[psutil.Process], limit: int) -> int:
    """Bytes in a folder, and in files without a name that are still open, until above `limit`.

    What can't be looked into counts as too much: nobody makes such a folder by accident.
    """
    total, seen, folders = 0, set(), [str(folder)]
    while folders and total <= limit:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISDIR(status.st_mode):
                        folders.append(entry.path)
                    if (status.st_dev, status.st_ino) not in seen:
                        seen.add((status.st_dev, status.st_ino))
                        total += max(status.st_blocks * 512, BLOCK)
                    if total > limit:
                        break
        except FileNotFoundError:
            continue
        except OSError:
            return limit + 1
    return total + sum(_open_without_name(process.pid, seen) for process in processes)


def _open_without_name(pid: int, seen: set[tuple[int, int]]) -> int:
    total = 0
    with suppress(OSError):  # gone, or a system without /proc
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                status = os.stat(entry.path)
                place = (status.st_dev, status.st_ino)
                if stat.S_ISREG(status.st_mode) and not status.st_nlink and place not in seen:
                    seen.add(place)
                    total += status.st_blocks * 512
    return total


# Folders


def new_folder() -> Path:
    """A folder for a submission; what a grader that was killed has left is removed."""
    top = Path(tempfile.gettempdir())
    for old in top.glob(f"{PREFIX}*"):
        grader = re.match(rf"{PREFIX}(\d+)-", old.name)
        with suppress(OSError):
            mine = old.lstat().st_uid == os.getuid()
            if grader and mine and not psutil.pid_exists(int(grader[1])):
                remove(old)
    return Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))


def remove(folder: Path) -> None:
    """Remove a folder, however deep, whatever its modes; links are removed, not followed."""
    with suppress(RecursionError):
        shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        for mode in (["chmod", "-R", "u+rwx"], ["rm", "-rf"]):
            subprocess.run([*mode, str(folder)], stderr=subprocess.DEVNULL, check=False)
