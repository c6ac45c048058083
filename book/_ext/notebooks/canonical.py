"""Reading and writing a notebook in its canonical form: one text, on every machine and editor."""

from __future__ import annotations

import copy
import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode, v4

METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


CELL_METADATA = ("mystnb", "nbgrader", "tags")  # whatever else an editor leaves behind is dropped


CHECK = "application/vnd.ntkbook.check+json"
DERIVATION = "application/vnd.ntkbook.derivation+json"


PNG = "image/png"


_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")


class NotebookError(Exception):
    """A notebook that can't be read or frozen; the message says which, where and why."""


def read(path: Path) -> NotebookNode:
    """The notebook at ``path``, unchanged. Raises NotebookError unless it is valid nbformat 4.5."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NotebookError(f"{path}: no such file") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise NotebookError(f"{path}: not a notebook, the JSON is broken: {error}") from None
    if not isinstance(raw, dict) or (raw.get("nbformat"), raw.get("nbformat_minor")) != (4, 5):
        raise NotebookError(f"{path}: expected a notebook of nbformat 4.5")
    wrong = _id_problem(raw.get("cells"))
    if wrong:
        raise NotebookError(f"{path}: {wrong}")
    try:
        nbformat.validate(nbformat.from_dict(raw))
    except nbformat.ValidationError as error:
        said = str(error).splitlines()[0]
        raise NotebookError(f"{path}: not valid nbformat 4.5: {said}") from None
    return v4.reads_json(json.dumps(raw))  # joins what is stored as lists of lines


def _id_problem(cells: Any) -> str | None:
    if not isinstance(cells, list) or not all(isinstance(cell, dict) for cell in cells):
        return "expected a list of cells"
    ids = [cell.get("id") for cell in cells]
    for number, name in enumerate(ids):
        if not isinstance(name, str) or not _ID.fullmatch(name):
            return f"cell {number} has the id {name!r}; expected 1 to 64 letters, digits, - or _"
    repeated = [name for name, count in Counter(ids).items() if count > 1]
    return f"cell ids must be unique; repeated: {', '.join(repeated)}" if repeated else None


def write(notebook: NotebookNode) -> str:
    """The one text of a notebook: sorted keys, one space of indent, LF, one newline at the end."""
    return v4.writes_json(notebook).rstrip("\n") + "\n"


def canonical(notebook: NotebookNode) -> NotebookNode:
    """A copy without what differs between editors, machines and runs; outputs are kept."""
    notebook = copy.deepcopy(notebook)
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        cell.metadata = {k: cell.metadata[k] for k in CELL_METADATA if cell.metadata.get(k)}
        cell.source = cell.source.replace("\r\n", "\n")
        if cell.cell_type == "code":
            cell.outputs = merged(cell.outputs)
    for count, cell in enumerate(code_cells(notebook), start=1):
        if cell.execution_count is None:
            continue  # never executed: left for `problems` to report
        cell.execution_count = count
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = count
    return nbformat.from_dict(notebook)


def merged(outputs: Sequence[NotebookNode]) -> list[NotebookNode]:
    """The outputs with neighbouring pieces of the same stream joined: a kernel cuts at random."""
    result: list[NotebookNode] = []
    for output in outputs:
        if result and kind_of(output) == kind_of(result[-1]) and output.output_type == "stream":
            result[-1].text += output.text
        else:
            result.append(copy.deepcopy(output))
    return result


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def kind_of(output: NotebookNode) -> tuple[str, ...]:
    if output.output_type == "stream":
        return ("stream", output.name)
    return (output.output_type, *sorted(output.get("data", {})))
