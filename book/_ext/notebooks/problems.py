"""What makes a stored notebook untrustworthy, seen without running it.

`freeze.py` writes notebooks that have no `problems`, and `nbstrict.py` fails those that have some.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from nbformat import NotebookNode

from notebooks import pictures, prose, sources
from notebooks.canonical import CHECK, DERIVATION, PNG, code_cells
from notebooks.compare import as_text, short

TAGS = ("hide-input",)
SHOWN = ("text/plain", "text/markdown", "text/latex", PNG, CHECK, DERIVATION)

_OPT_OUT_TAG = re.compile(r"(?i)nbval|raises-exception|skip-execution|validate-ignore")


_OPT_OUT_COMMENT = re.compile(r"(?im)^\s*#.*\b(?:nbval|pytest_validate)[_-]")


_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{7,}")


_MACHINE_PATH = re.compile(
    r"(?<![\w.}/\\])/(?:home|root|tmp|usr|var|opt|mnt|private|work|content|Users)/[\w.]"
    r"|\b[A-Z]:\\\\?\w|file://|site-packages"
)


_FIGURE = {"alt", "caption", "name", "digest"}


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
    found += [Problem(i, text) for i, text in sources.faults([cell.source for cell in cells])]
    for cell in notebook.cells:
        if cell.cell_type != "code":
            what = f"{cell.cell_type} cell [{cell.id}]"
            found += [Problem(None, f"{what}: {text}") for text in _text_cell_problems(cell)]
    return found if cells else [*found, Problem(None, "no code cell")]


def opt_outs(cell: NotebookNode) -> Iterator[str]:
    """Tags and comments that would keep a cell out of the comparison, the run, or the page."""
    for tag in cell.metadata.get("tags", []):
        if _OPT_OUT_TAG.search(str(tag)):
            yield f"the tag {tag!r} opts out of the comparison"
        elif tag not in TAGS:
            yield f"the tag {tag!r} is not allowed, only {', '.join(TAGS)}"
    for match in _OPT_OUT_COMMENT.finditer(cell.source):
        yield f"the comment {match.group().strip()!r}… opts out of the comparison"


def _metadata_problems(cell: NotebookNode) -> Iterator[str]:
    for key in sorted(set(cell.metadata) - {"tags"}):
        yield f"the metadata {key!r} may hide or change what a reader sees"


def _text_cell_problems(cell: NotebookNode) -> Iterator[str]:
    """Of markdown; a raw cell is none of a page."""
    if cell.cell_type == "raw":
        yield "a raw cell is neither run nor compared: make it code or markdown"
        return
    if cell.metadata.get("tags"):
        yield "tags belong to code cells"
    if cell.get("attachments"):
        yield "a file is attached"
    yield from _metadata_problems(cell)
    yield from prose.faults(cell.source)


def _cell_problems(cell: NotebookNode, position: int) -> Iterator[str]:
    yield from opt_outs(cell)
    yield from _metadata_problems(cell)
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
        for record in _records(output):
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
        if mime not in SHOWN:
            widget = mime.startswith("application/vnd.jupyter.widget")
            yield "a widget has no canonical output" if widget else f"an output of kind {mime}"
        elif mime != PNG:
            yield from _text_problems(as_text(value))
        if mime == "text/markdown" and CHECK not in output.data:
            yield from prose.faults(as_text(value))
        elif mime == "text/markdown":
            yield from prose.markup(as_text(value))
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
    for key in sorted(set(described) - _FIGURE):
        yield f"the metadata {key!r} may change how a figure is shown"
    yield from pictures.faults(output.data[PNG])


def _records(output: NotebookNode) -> list[Any]:
    records = output.get("data", {}).get(CHECK, [])
    return records if isinstance(records, list) else [records]
