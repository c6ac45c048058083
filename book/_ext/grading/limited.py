"""Reads a notebook that may be anything, in a process of its own with little memory and time.

A few megabytes of brackets become gigabytes of Python's lists, and what a cell printed can be
large as well.  Only what grading looks at comes back: texts, names of cells, pasted pictures.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

from grading.confinement import python

LARGEST_FILE = 400 * 2**20
LARGEST_TEXT = 32 * 2**20  # without outputs
MOST_CELLS = 5000
MEMORY, SECONDS = 4 * 2**30, 120


def read_notebook(path: Path, below: Path | None = None) -> dict[str, Any]:
    """The cells of a notebook, and what it says about its assignment.

    **Arguments** `path`, of a file that may be anything; `below`, the student's folder, out of
    which the path may not lead.

    **Returns** `{"cells": [...], "metadata": {...}}`: of each cell `id`, `cell_type`, `source` as
    one string, `metadata` (`id`, `nbgrader.grade_id`) and `attachments`, all of them strings.

    **Raises** ValueError, with words for the student.
    """
    if below is not None and not path.resolve().is_relative_to(below.resolve()):
        raise ValueError("expected a notebook, got a link that leads out of the student's folder")
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if path.is_symlink():
            raise ValueError(
                "expected a notebook, got a link or something that is no file"
            ) from None
        raise ValueError(f"the file can't be read: {error.strerror}") from None
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("expected a notebook, got a link or something that is no file")
        if status.st_nlink > 1:
            raise ValueError("expected a notebook, got a second name (hard link) of another file")
        if status.st_size > LARGEST_FILE:
            raise ValueError(f"the file is larger than {LARGEST_FILE >> 20} MiB")
        run = subprocess.run(
            python("limited", "reduce"),
            stdin=file,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"PYTHONDONTWRITEBYTECODE": "1", "PYTHONUTF8": "1"},
            check=False,
        )
    finally:
        os.close(file)
    if run.returncode:
        raise ValueError("the file is not a notebook: reading it takes too much memory or time")
    reply = json.loads(run.stdout)
    if "refused" in reply:
        raise ValueError(reply["refused"])
    return reply


def reduce() -> None:
    """Read a notebook from standard input and print what is left of it: runs as a process."""
    import resource  # not on Windows, where the other commands run

    if sys.platform != "darwin":  # which refuses a limit of memory
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    try:
        reply: dict[str, Any] = _reduced(json.loads(sys.stdin.buffer.read()))
    except (ValueError, RecursionError) as error:
        said = str(error) if isinstance(error, _Refused) else "it isn't JSON"
        reply = {"refused": f"the file is not a notebook: {said}"}
    print(json.dumps(reply))


class _Refused(ValueError):
    """JSON that is no notebook, with the reason."""


def _reduced(notebook: Any) -> dict[str, Any]:
    cells = notebook.get("cells") if isinstance(notebook, dict) else None
    if not isinstance(cells, list) or not all(isinstance(cell, dict) for cell in cells):
        raise _Refused("it has no list of cells")
    if len(cells) > MOST_CELLS:
        raise _Refused(f"it has more than {MOST_CELLS} cells")
    kept = [_cell(cell) for cell in cells]
    about = _dict(_dict(notebook.get("metadata")).get("ntkbook"))
    about = {
        k: v for k, v in about.items() if isinstance(v, str | int | float) and len(str(v)) < 99
    }
    if sum(map(_length, kept)) > LARGEST_TEXT or len(about) > 9:
        raise _Refused(f"its text is longer than {LARGEST_TEXT >> 20} MiB")
    return {"cells": kept, "metadata": {"ntkbook": about} if about else {}}


def _cell(raw: dict[str, Any]) -> dict[str, Any]:
    marks = _dict(raw.get("metadata"))
    named = _texts({"grade_id": _dict(marks.get("nbgrader")).get("grade_id")})
    pictures = {
        name: {kind: _joined(data) for kind, data in _dict(kinds).items()}
        for name, kinds in _dict(raw.get("attachments")).items()
    }
    cell: dict[str, Any] = _texts({"id": raw.get("id"), "cell_type": raw.get("cell_type")})
    cell["metadata"] = _texts({"id": marks.get("id")}) | ({"nbgrader": named} if named else {})
    return cell | {"source": _joined(raw.get("source")), "attachments": pictures}


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _texts(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if isinstance(value, str)}


def _joined(value: Any) -> str:
    lines = value if isinstance(value, list) else [value]
    return "".join(line for line in lines if isinstance(line, str))


def _length(value: Any) -> int:
    """Characters in a value made of dictionaries and strings, their number included."""
    if isinstance(value, dict):
        return sum(16 + _length(key) + _length(part) for key, part in value.items())
    return len(value)
