"""Which notebook of a student's folder is the one to grade; when in doubt a person decides."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from grading.assignment import Assignment
from grading.submission import Handed, hand_in
from grading.tables import key

SUFFIXES = (".ipynb", ".ipynb.json", ".ipynb.txt")  # browsers add the last ones when they save
JUNK = ("__MACOSX", "node_modules", "site-packages", "Thumbs.db", "desktop.ini", "venv")
MOST_FILES, MOST_NOTEBOOKS = 100_000, 20
SAME_TIME = 2  # seconds: a zip file knows no shorter ones

# toy-Copy1, toy (1), toy_copy, Copy of toy, toy-1 (Canvas), toy (handed in 2027-03-01 14.05)
_COPY = re.compile(r"([\s_-]*(copy|kopie)[\s_-]*\d*|\s*\([^()]*\)|-\d{1,3})$", re.I)
_COPY_OF = re.compile(r"^copy of\s+", re.I)


@dataclass(frozen=True)
class Found:
    """The notebook to grade, and notes on the choice; `doubt` says why a person must choose.

    Neither a path nor a doubt: nothing was handed in.
    """

    path: Path | None = None
    notes: tuple[str, ...] = ()
    doubt: str = ""


def students(folder: Path) -> dict[str, Path]:
    """Student to folder.  Raises ValueError when there is none, or when two have one name."""
    if not folder.is_dir():
        raise ValueError(f"SUBMISSIONS must be a folder with one folder per student, got {folder}")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not ignored(path.name):
            other = found.setdefault(key(path.name), path)
            if other != path:
                raise ValueError(f"{folder}: {other.name!r} and {path.name!r} look the same")
    if not found:
        files = any(path.is_file() and not ignored(path.name) for path in folder.iterdir())
        hint = "; bring an export into this form with course.py collect" if files else ""
        raise ValueError(f"{folder} holds no folder; expected one per student{hint}")
    return found


def ignored(name: str) -> bool:
    """Is this a file or folder that no student has handed in on purpose?"""
    return name.startswith(".") or name in JUNK


def find(student: Path, assignment: Assignment) -> Found:
    """The notebook to grade in a student's folder, wherever it lies and whatever it is called.

    The assignment's own name counts before any other, a notebook with answers before an empty one,
    and the newest of several.  Links are never followed.
    """
    if student.is_symlink():
        return Found(doubt="The student's folder is a link, which is not followed.")
    files, odd = _files(student)
    notebooks = [path for path in files if path.name.lower().endswith(SUFFIXES)]
    if not notebooks or len(notebooks) > MOST_NOTEBOOKS:
        return _none(student, files, odd, len(notebooks))
    named = [path for path in notebooks if stem(path) == assignment.name.lower()]
    if len(notebooks) == 1:
        return Found(notebooks[0], _called(student, notebooks[0], bool(named)))
    return _best(student, notebooks, named, assignment)


def stem(path: Path) -> str:
    """A notebook's name without what marks it as a copy."""
    name = path.name.lower()
    name = next(name.removesuffix(s) for s in reversed(SUFFIXES) if name.endswith(s))
    name = _COPY_OF.sub("", name)
    while (shorter := _COPY.sub("", name)) != name:
        name = shorter
    return key(name)


def _files(student: Path) -> tuple[list[Path], list[str]]:
    """The regular files below a folder, and the names of links and the like."""
    files, odd = [], []
    for path in _walk(student):
        if path.is_file() and not path.is_symlink():
            files.append(path)
        else:
            odd.append(str(path.relative_to(student)))
        if len(files) > MOST_FILES:
            raise ValueError(f"{student}: more than {MOST_FILES} files")
    return files, odd


def _walk(student: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(student, onerror=_raise):
        here = Path(folder)
        links = [name for name in folders if (here / name).is_symlink() and not ignored(name)]
        folders[:] = sorted(
            name
            for name in folders
            if not (ignored(name) or name in links or (here / name / "pyvenv.cfg").exists())
        )
        yield from (here / name for name in sorted([*names, *links]) if not ignored(name))


def _raise(error: OSError) -> None:
    raise error  # a folder that can't be read is not an empty one


def _none(student: Path, files: list[Path], odd: list[str], notebooks: int) -> Found:
    if notebooks:
        return Found(doubt=f"{notebooks} notebooks were handed in, too many to choose from.")
    if len(odd) == 1 and not files and odd[0].lower().endswith(SUFFIXES):
        return Found(student / odd[0])  # reading it says that it is a link
    others = [*(str(path.relative_to(student)) for path in files), *odd]
    if not others:
        return Found()
    return Found(doubt=f"No notebook was found among what was handed in: {_listed(others)}.")


def _best(student: Path, notebooks: list[Path], named: list[Path], assignment: Assignment) -> Found:
    read: dict[Path, Handed] = {}
    for path in notebooks:
        try:
            handed = hand_in(path, assignment, student)
        except ValueError:
            continue
        if not handed.stranger or path in named:
            read[path] = handed
    full = [path for path in read if read[path].touched] or list(read)
    choice = [path for path in full if path in named] or full
    choice.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    rest = [path for path in notebooks if path not in choice]
    if not choice:
        listed = _listed([str(path.relative_to(student)) for path in notebooks])
        return Found(doubt=f"None of several notebooks is certain to be this one: {listed}.")
    newest = choice[0]
    latest = newest.stat().st_mtime
    alike = [path for path in choice if latest - path.stat().st_mtime <= SAME_TIME]
    different = [path for path in alike if read[path].answers != read[newest].answers]
    if different or (len(choice) > 1 and newest not in named):
        listed = _listed(sorted(str(path.relative_to(student)) for path in choice))
        return Found(doubt=f"Several notebooks were handed in; which one counts? {listed}.")
    notes = _called(student, newest, newest in named)
    rest += [path for path in choice if path not in alike]
    if rest:
        listed = _listed(sorted(str(path.relative_to(student)) for path in rest))
        said = f"{newest.relative_to(student)} was graded; also handed in: {listed}."
        notes = (said,)
    return Found(newest, notes)


def _called(student: Path, path: Path, named: bool) -> tuple[str, ...]:
    return () if named else (f"The notebook is called {str(path.relative_to(student))!r}.",)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return ", ".join(names[:8]) + more
