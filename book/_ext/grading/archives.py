"""The files of a folder or a zip file that strangers have filled.

Links are not followed, names can't lead out of a folder, and what a zip file grows to is counted
while it is unpacked.
"""

from __future__ import annotations

import hashlib
import lzma
import os
import struct
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from grading.finding import MOST_FILES, ignored
from grading.limited import LARGEST_FILE

MOST_ENTRIES = 200_000  # of an export
LARGEST_DIRECTORY = 4 * 2**20  # bytes of the list of names in a student's zip file
BROKEN = (
    OSError, EOFError, ValueError, RuntimeError, NotImplementedError,
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error,
)  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """A file: where it lies, its size and time, and how to open it."""

    parts: tuple[str, ...]
    size: int
    time: float
    open: Callable[[], IO[bytes]]


def entries(export: Path, notes: list[str]) -> Iterator[Entry]:
    """The files of an export but for what nobody handed in; `notes` say what was left out."""
    if export.is_dir():
        yield from _of_folder(export, notes)
        return
    try:
        archive = zipfile.ZipFile(export)
    except BROKEN as error:
        said = f"EXPORT must be a folder or a zip file, got {export}: {error}"
        raise ValueError(said) from None
    yield from _of_zip(archive, (), notes, MOST_ENTRIES)


def _of_folder(folder: Path, notes: list[str]) -> Iterator[Entry]:
    count = 0
    for here, folders, names in os.walk(folder):
        at = Path(here)
        inside = at.relative_to(folder)
        links = [name for name in [*folders, *names] if (at / name).is_symlink()]
        notes += [f"a link, not followed: {inside / name}" for name in links]
        folders[:] = sorted(name for name in folders if name not in links and not ignored(name))
        for name in sorted(names):
            path, count = at / name, count + 1
            if count > MOST_ENTRIES:
                raise ValueError(f"EXPORT {folder} holds more than {MOST_ENTRIES} files")
            if name not in links and path.is_file() and not ignored(name):
                status = path.stat()
                opened = _opener(path)
                yield Entry((inside / name).parts, status.st_size, status.st_mtime, opened)


def _opener(path: Path) -> Callable[[], IO[bytes]]:
    return lambda: path.open("rb")


def _of_zip(
    archive: zipfile.ZipFile, below: tuple[str, ...], notes: list[str], most: int
) -> Iterator[Entry]:
    members = archive.infolist()
    if len(members) > most:
        raise ValueError(f"more than {most} files")
    for member in members:
        name = member.filename.replace("\\", "/")
        parts = PurePosixPath(name).parts
        if member.is_dir() or any(ignored(part) for part in parts if part != ".."):
            continue
        kind = member.external_attr >> 16 & 0o170000
        if kind not in (0, 0o100000):
            notes.append(f"a link, not followed: {name}")
        elif ".." in parts or not parts or name.startswith("/") or ":" in parts[0]:
            notes.append(f"leads out of its folder, not taken: {name}")
        else:
            yield Entry((*below, *parts), member.file_size, _time(member), _member(archive, member))


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Callable[[], IO[bytes]]:
    return lambda: archive.open(member)


def _time(member: zipfile.ZipInfo) -> float:
    try:
        return time.mktime((*member.date_time, 0, 0, -1))
    except (ValueError, OverflowError):
        return 0.0


def unpacked(entry: Entry, notes: list[str]) -> Iterator[Entry]:
    """The file itself, or the files of the zip file that a student handed in."""
    if not entry.parts[-1].lower().endswith(".zip"):
        yield entry
        return
    with tempfile.TemporaryFile() as file:
        try:
            with entry.open() as source:
                copy(source, file)
            _check_directory(file)
            below = (*entry.parts[:-1], entry.parts[-1][: -len(".zip")])
            inner = list(_of_zip(zipfile.ZipFile(file), below, notes, MOST_FILES))
        except BROKEN as error:
            notes.append(f"{'/'.join(entry.parts)} can't be unpacked: {error}")
            inner = [entry]
        yield from inner  # within `with`: they are read from the file


def _check_directory(file: IO[bytes]) -> None:
    """Refuse a list of names that would fill the memory, before anybody reads it."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(size - 2**16 - 42, 0))
    tail = file.read()
    place = tail.rfind(b"PK\x05\x06")
    if place < 0:
        raise zipfile.BadZipFile("it is no zip file")
    (listed,) = struct.unpack("<L", tail[place + 12 : place + 16])
    if listed > LARGEST_DIRECTORY or b"PK\x06\x07" in tail[:place]:
        raise ValueError("it lists too many files")


def copy(source: IO[bytes], target: IO[bytes]) -> str:
    """Copy at most `LARGEST_FILE` bytes, whatever the file says of itself; their digest."""
    size, digest = 0, hashlib.sha256()
    while part := source.read(2**20):
        size += len(part)
        if size > LARGEST_FILE:
            raise ValueError(f"larger than {LARGEST_FILE >> 20} MiB")
        target.write(part)
        digest.update(part)
    return digest.hexdigest()
