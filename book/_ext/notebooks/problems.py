"""What makes a stored notebook untrustworthy, seen without running it.

`freeze.py` writes notebooks that have no `problems`, and `nbstrict.py` fails those that have some.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from nbformat import NotebookNode

from notebooks.canonical import CHECK, PNG, code_cells
from notebooks.compare import as_text, image_of, short, software_of

_OPT_OUT_TAG = re.compile(r"(?i)nbval|raises-exception|skip-execution|validate-ignore")


_OPT_OUT_COMMENT = re.compile(r"(?im)^\s*#.*\b(?:nbval|pytest_validate)[_-]")


_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{7,}")


_MACHINE_PATH = re.compile(
    r"(?<![\w.}/\\])/(?:home|root|tmp|usr|var|opt|mnt|private|work|content|Users)/[\w.]"
    r"|\b[A-Z]:\\\\?\w|file://|site-packages"
)


_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


@dataclass(frozen=True)
class Problem:
    """What is wrong with a stored notebook; ``cell`` counts code cells from 0, None: the whole."""

    cell: int | None
    text: str


def problems(notebook: NotebookNode) -> list[Problem]:
    """All that makes a stored notebook untrustworthy without running it."""
    cells = code_cells(notebook)
    found = [Problem(i, text) for i, cell in enumerate(cells) for text in _cell_problems(cell, i)]
    return found if cells else [Problem(None, "no code cell")]


def opt_outs(cell: NotebookNode) -> Iterator[str]:
    """Tags and comments that would keep a cell out of the comparison, or out of the run."""
    for tag in cell.metadata.get("tags", []):
        if _OPT_OUT_TAG.search(str(tag)):
            yield f"the tag {tag!r} opts out of the comparison"
    for match in _OPT_OUT_COMMENT.finditer(cell.source):
        yield f"the comment {match.group().strip()!r}… opts out of the comparison"


def _cell_problems(cell: NotebookNode, position: int) -> Iterator[str]:
    yield from opt_outs(cell)
    if not cell.source.strip():
        yield "empty code cell"
    if cell.execution_count is None:
        yield "the output is stripped: the cell was never executed"
    elif cell.execution_count != position + 1:
        yield f"execution count {cell.execution_count}, expected {position + 1}"
    streams = Counter(out.name for out in cell.outputs if out.output_type == "stream")
    if streams["stdout"] > 1:
        yield "printed text in several pieces: split the cell, or print before the display"
    for output in cell.outputs:
        yield from _output_problems(output, cell.execution_count)
    try:
        wanted = _calls_of_check(cell.source)
    except SyntaxError as error:
        yield f"not plain Python: {error.msg} (line {error.lineno})"
        return
    records = [record for output in cell.outputs for record in _records(output)]
    if len(records) < wanted:
        yield (
            f"{wanted} call(s) of check in the source, {len(records)} record(s) in the output: "
            "end the cell with the check, or with ntk.report(...)"
        )
    for record in records:
        verdict = record.get("verdict") if isinstance(record, dict) else None
        if verdict != "pass":
            yield f"a recorded check has the verdict {verdict!r}"


def _output_problems(output: NotebookNode, count: int | None) -> Iterator[str]:
    if output.output_type == "error":
        yield f"an error is stored: {output.ename}: {output.evalue}"
        return
    if output.output_type == "stream":
        if output.name != "stdout":
            yield f"{output.name} output: {short(output.text)}"
        if _CONTROL.search(output.text):
            yield "printed control characters (a progress bar, colours?)"
        yield from _text_problems(output.text)
        return
    if output.output_type == "execute_result" and output.execution_count != count:
        yield f"an output has the count {output.execution_count}, its cell {count}"
    for mime, value in output.data.items():
        if mime.startswith("application/vnd.jupyter.widget"):
            yield "a widget has no canonical output"
        elif not mime.startswith("image/") or mime == "image/svg+xml":
            yield from _text_problems(as_text(value))
    if PNG in output.data:
        yield from _figure_problems(output)


def _text_problems(text: str) -> Iterator[str]:
    for pattern, what in ((_ADDRESS, "a memory address"), (_MACHINE_PATH, "a path of one machine")):
        if match := pattern.search(text):
            line = text[: match.end() + 40].splitlines()[-1]
            yield f"{what} in the output: {short(line[-100:])}"


def _figure_problems(output: NotebookNode) -> Iterator[str]:
    described = output.metadata.get(PNG, {})
    alt = described.get("alt")
    if not alt or alt != output.data.get("text/plain"):
        yield "a figure's alternative text is not its description: end the cell with ntk.figure"
    for key in ("name", "caption"):
        if not described.get(key):
            yield f"a figure without {key}: end the cell with ntk.figure"
    try:
        image = image_of(output.data[PNG])
    except (ValueError, OSError) as error:
        yield f"a figure that can't be read: {error}"
    else:
        if "matplotlib" not in software_of(image):
            yield "a figure that matplotlib did not draw (no Software entry in the PNG)"


def _calls_of_check(source: str) -> int:
    """How often ``check`` or ``ntk.check`` is mentioned: each mention owes a record.

    Except in the body of a ``try`` that catches `CheckError`: there a page shows a check refused.
    """
    tree = ast.parse(source)
    refused = {
        node
        for attempt in ast.walk(tree)
        if isinstance(attempt, ast.Try)
        and any("CheckError" in ast.dump(h.type) for h in attempt.handlers if h.type)
        for statement in attempt.body
        for node in ast.walk(statement)
    }
    found = 0
    for node in ast.walk(tree):
        if node in refused:
            continue
        if isinstance(node, ast.Attribute) and node.attr == "check":
            found += isinstance(node.value, ast.Name) and node.value.id in ("ntk", "ntkbook")
        elif isinstance(node, ast.Name) and node.id == "check":
            found += isinstance(node.ctx, ast.Load)
    return found


def _records(output: NotebookNode) -> list[Any]:
    records = output.get("data", {}).get(CHECK, [])
    return records if isinstance(records, list) else [records]
