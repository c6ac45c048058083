"""What a student handed in, read with care: the file may be anything.

It is read, never executed as it is: given cells and tests come from the source, so that a student's
changes to them have no effect.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from grading.assignment import ANSWER, GIVEN, SCRATCH, TEST, WRITTEN, Assignment, Cell, stripped
from grading.limited import read_notebook

OWN = "own"  # a cell that the student has added


@dataclass
class Handed:
    """What was found in a notebook.

    `answers` by name; `own` cells after each known one, and those that come `before` an answer,
    since they are earlier pieces of it; `texts` in cells of no name; `pictures` that were pasted
    into written answers, each as its kind and base64.
    """

    answers: dict[str, str] = field(default_factory=dict)
    own: dict[str | None, list[str]] = field(default_factory=dict)
    before: dict[str, list[str]] = field(default_factory=dict)
    texts: list[str] = field(default_factory=list)
    pictures: dict[str, dict[str, tuple[str, str]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    stranger: bool = False  # not one of its cells is known
    mixed: list[str] = field(default_factory=list)  # it says that it is another assignment

    @property
    def touched(self) -> bool:
        return any(self.answers.values()) or bool(self.own) or bool(self.texts)


def hand_in(path: Path, assignment: Assignment, below: Path | None = None) -> Handed:
    """Read a notebook that may be anything.

    Raises ValueError, with words for the student; also when `path` leads out of `below`.
    """
    known = {cell.name: cell for cell in assignment.cells}
    notebook, last = read_notebook(path, below), None
    mixed = _mix_up(notebook, assignment)
    handed = Handed(notes=list(mixed), mixed=mixed)
    present = [_name(raw, known) for raw in notebook["cells"]]
    for name, raw in zip(present, notebook["cells"], strict=True):
        source = source_of(raw)
        if name is None:
            if raw.get("cell_type") == "code" and source.strip():
                handed.own.setdefault(last, []).append(source)
            elif source.strip():
                handed.texts.append(source.strip())
            continue
        cell, last = known[name], name
        if cell.role in (ANSWER, WRITTEN, SCRATCH):
            _take(handed, cell, "" if _untouched(source, cell) else source)
            handed.pictures.setdefault(name, {}).update(_pictures(raw))
        elif cell.code and _lines(source) != _lines(stripped(cell)):
            handed.notes.append(f"The locked cell {name!r} was changed; the original was used.")
    handed.stranger = bool(notebook["cells"]) and not any(present)
    if handed.stranger:
        handed.notes.append("No cell of this notebook is one of the assignment's.")
        return handed
    for cell in assignment.cells:
        if cell.name not in present and cell.role in (TEST, GIVEN) and cell.code:
            handed.notes.append(f"The locked cell {cell.name!r} was deleted; it was put back.")
        if cell.name not in present and cell.role in (ANSWER, WRITTEN):
            handed.notes.append(f"The cell for the answer {cell.name!r} is missing.")
    return handed


def _take(handed: Handed, cell: Cell, source: str) -> None:
    """One more cell for an answer: it was copied or split, and counts as it ran."""
    earlier = handed.answers.get(cell.name)
    if not earlier or not source or earlier == source:
        handed.answers[cell.name] = earlier or source
        return
    if cell.role == WRITTEN:
        handed.answers[cell.name] = f"{earlier}\n\n{source}"
        said = "both count"
    else:
        pieces = [earlier, *handed.own.pop(cell.name, [])]
        handed.before.setdefault(cell.name, []).extend(pieces)
        handed.answers[cell.name] = source
        said = "they ran in their order, and the last one counts"
    handed.notes.append(f"Two cells are called {cell.name!r}; {said}.")


def _untouched(source: str, cell: Cell) -> bool:
    return source.strip() in ("", stripped(cell).strip()) and cell.role != SCRATCH


def _lines(source: str) -> list[str]:
    return [line.rstrip() for line in source.rstrip().split("\n")]


def _pictures(raw: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """The name, kind and base64 of what was pasted into a cell."""
    attachments: dict[str, dict[str, str]] = raw.get("attachments", {})
    return {
        name: (kind, data) for name, kinds in attachments.items() for kind, data in kinds.items()
    }


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
    """A cell's text, with line ends as they are here, whatever machine it comes from."""
    source = raw.get("source", "")
    lines = source if isinstance(source, list) else [source]
    text = "".join(line for line in lines if isinstance(line, str))
    return text.replace("\r\n", "\n").replace("\r", "\n")


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
        cells += [("", OWN, source) for source in handed.before.get(cell.name, [])]
        if cell.code:
            mine = cell.role in (ANSWER, SCRATCH)
            source = handed.answers.get(cell.name, "") if mine else cell.source
            cells.append((cell.name, OWN if cell.role == SCRATCH else cell.role, source))
        cells += [("", OWN, source) for source in handed.own.get(cell.name, [])]
    return cells
