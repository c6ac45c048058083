"""What a student handed in, read with care: the file may be anything.

It is read, never executed as it is: given cells and tests come from the source, so that a student's
changes to them have no effect.
"""

from __future__ import annotations

import json
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from grading.assignment import ANSWER, GIVEN, SCRATCH, TEST, WRITTEN, Assignment, Cell, stripped

LARGEST_FILE = 400 * 2**20


OWN = "own"  # a cell that the student has added


@dataclass
class Handed:
    """What was found in a notebook: its answers by name, and its own cells after each known one."""

    answers: dict[str, str] = field(default_factory=dict)
    own: dict[str | None, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def hand_in(path: Path, assignment: Assignment) -> Handed:
    """Read a notebook that may be anything.  Raises ValueError, with words for the student."""
    known = {cell.name: cell for cell in assignment.cells}
    notebook, last = _notebook(path), None
    handed = Handed(notes=_mix_up(notebook, assignment))
    for raw in notebook["cells"]:
        name, source = _name(raw, known), source_of(raw)
        if name is None:
            if raw.get("cell_type") == "code" and source.strip():
                handed.own.setdefault(last, []).append(source)
            continue
        cell, last = known[name], name
        if cell.role in (ANSWER, WRITTEN, SCRATCH):
            if name in handed.answers:
                handed.notes.append(f"Two cells are called {name!r}; the first one counts.")
            else:
                handed.answers[name] = source
        elif source.rstrip() != stripped(cell).rstrip():
            handed.notes.append(f"The locked cell {name!r} was changed; the original was used.")
    present = {_name(raw, known) for raw in notebook["cells"]}
    for cell in assignment.cells:
        if cell.name not in present and cell.role in (TEST, GIVEN) and cell.code:
            handed.notes.append(f"The locked cell {cell.name!r} was deleted; it was put back.")
        if cell.name not in present and cell.role in (ANSWER, WRITTEN):
            handed.notes.append(f"The cell for the answer {cell.name!r} is missing.")
    return handed


def _notebook(path: Path) -> dict[str, Any]:
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("expected a notebook, got a link or something that is no file")
        if status.st_size > LARGEST_FILE:
            raise ValueError(f"the file is larger than {LARGEST_FILE >> 20} MiB")
        notebook = json.loads(path.read_bytes())
    except OSError as error:
        raise ValueError(f"the file can't be read: {error.strerror}") from None
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError):
        raise ValueError("the file is not a notebook: it isn't JSON") from None
    cells = notebook.get("cells") if isinstance(notebook, dict) else None
    if not isinstance(cells, list) or not all(isinstance(cell, dict) for cell in cells):
        raise ValueError("the file is not a notebook: it has no list of cells")
    return notebook


def _mix_up(notebook: dict[str, Any], assignment: Assignment) -> list[str]:
    """A note when the notebook says that it is another assignment or another variant."""
    metadata = notebook.get("metadata")
    about = metadata.get("ntkbook") if isinstance(metadata, dict) else None
    expected = {"assignment": assignment.name, "seed": assignment.seed}
    if not isinstance(about, dict) or about == expected:
        return []
    said, graded = (
        ", ".join(f"{key} {source.get(key)!r}" for key in expected) for source in (about, expected)
    )
    return [f"This notebook says {said}; it was graded as {graded}."]


def source_of(raw: dict[str, Any]) -> str:
    source = raw.get("source", "")
    lines = source if isinstance(source, list) else [source]
    return "".join(line for line in lines if isinstance(line, str))


def _name(raw: dict[str, Any], known: dict[str, Cell]) -> str | None:
    """The cell of the source that this one is: some editors keep only one of these marks."""
    metadata = raw.get("metadata") if isinstance(raw.get("metadata"), dict) else {}
    assert isinstance(metadata, dict)
    marks = metadata.get("nbgrader")
    named = marks.get("grade_id") if isinstance(marks, dict) else None
    for name in (named, raw.get("id"), metadata.get("id")):
        if isinstance(name, str) and name in known:
            return name
    return None


def assembled(assignment: Assignment, handed: Handed) -> list[tuple[str, str, str]]:
    """(name, role, source) of each code cell in the source's order, with the student's own."""
    cells = [("", OWN, source) for source in handed.own.get(None, [])]
    for cell in assignment.cells:
        if cell.code:
            mine = cell.role in (ANSWER, SCRATCH)
            source = handed.answers.get(cell.name, "") if mine else cell.source
            cells.append((cell.name, OWN if cell.role == SCRATCH else cell.role, source))
        cells += [("", OWN, source) for source in handed.own.get(cell.name, [])]
    return cells
