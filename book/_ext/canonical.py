"""The canonical form of an executed notebook: reading, writing, inspecting and comparing it.

Everything that decides whether a stored output can be trusted is here, once: ``freeze.py`` writes
notebooks that have no `problems`, and ``nbstrict.py`` fails those that have some, or whose outputs
have `differences` from what the code prints today.
"""

from __future__ import annotations

import ast
import base64
import copy
import difflib
import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
from nbformat import NotebookNode, v4
from PIL import Image

METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
CELL_METADATA = ("mystnb", "nbgrader", "tags")  # whatever else an editor leaves behind is dropped
CHECK = "application/vnd.ntkbook.check+json"
PNG = "image/png"

# Block by block, in grey levels of 255. One matplotlib version draws the same pixels everywhere, up
# to rounding at the edge of a glyph or a marker; two versions differ by up to 18 in a block's mean.
SAME_MATPLOTLIB = 2.0
OTHER_MATPLOTLIB = 25.0
BLOCK = 32

_OPT_OUT_TAG = re.compile(r"(?i)nbval|raises-exception|skip-execution|validate-ignore")
_OPT_OUT_COMMENT = re.compile(r"(?im)^\s*#.*\b(?:nbval|pytest_validate)[_-]")
_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{7,}")
_MACHINE_PATH = re.compile(
    r"(?<![\w.}/\\])/(?:home|root|tmp|usr|var|opt|mnt|private|work|content|Users)/[\w.]"
    r"|\b[A-Z]:\\\\?\w|file://|site-packages"
)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")


class NotebookError(Exception):
    """A notebook that can't be read or frozen; the message says which, where and why."""


@dataclass(frozen=True)
class Problem:
    """What is wrong with a stored notebook; ``cell`` counts code cells from 0, None: the whole."""

    cell: int | None
    text: str


# Reading and writing


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
        if result and _kind(output) == _kind(result[-1]) and output.output_type == "stream":
            result[-1].text += output.text
        else:
            result.append(copy.deepcopy(output))
    return result


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


# Inspecting what is stored


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
            yield f"{output.name} output: {_short(output.text)}"
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
            yield from _text_problems(_as_text(value))
    if PNG in output.data:
        yield from _figure_problems(output)


def _text_problems(text: str) -> Iterator[str]:
    for pattern, what in ((_ADDRESS, "a memory address"), (_MACHINE_PATH, "a path of one machine")):
        if match := pattern.search(text):
            line = text[: match.end() + 40].splitlines()[-1]
            yield f"{what} in the output: {_short(line[-100:])}"


def _figure_problems(output: NotebookNode) -> Iterator[str]:
    described = output.metadata.get(PNG, {})
    alt = described.get("alt")
    if not alt or alt != output.data.get("text/plain"):
        yield "a figure's alternative text is not its description: end the cell with ntk.figure"
    for key in ("name", "caption"):
        if not described.get(key):
            yield f"a figure without {key}: end the cell with ntk.figure"
    try:
        image = _image(output.data[PNG])
    except (ValueError, OSError) as error:
        yield f"a figure that can't be read: {error}"
    else:
        if "matplotlib" not in _software(image):
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


# Comparing what is stored with what the code prints


def differences(stored: Sequence[NotebookNode], fresh: Sequence[NotebookNode]) -> list[str]:
    """Readable differences between two lists of outputs; empty when they tell the same."""
    old, new = merged(stored), merged(fresh)
    kinds = [[_kind(output) for output in outputs] for outputs in (old, new)]
    if kinds[0] != kinds[1]:
        shown = ["; ".join(" ".join(kind) for kind in side) or "nothing" for side in kinds]
        return [f"other outputs\n  stored: {shown[0]}\n  fresh:  {shown[1]}"]
    return [text for pair in zip(old, new, strict=True) for text in _output_differences(*pair)]


def _kind(output: NotebookNode) -> tuple[str, ...]:
    if output.output_type == "stream":
        return ("stream", output.name)
    return (output.output_type, *sorted(output.get("data", {})))


def _output_differences(stored: NotebookNode, fresh: NotebookNode) -> Iterator[str]:
    if stored.output_type == "stream":
        yield from _text_difference(stored.name, stored.text, fresh.text)
        return
    if stored.output_type == "error":
        yield f"the code raises {fresh.ename}: {fresh.evalue}"
        return
    for mime, old in stored.data.items():
        new = fresh.data[mime]
        if mime == PNG:
            yield from figure_difference(old, new)
        else:
            yield from _text_difference(mime, _as_text(old), _as_text(new))
    yield from _text_difference(
        "metadata of the output", _as_text(stored.metadata), _as_text(fresh.metadata)
    )


def _text_difference(what: str, old: str, new: str) -> Iterator[str]:
    if old == new:
        return
    lines = difflib.unified_diff(
        old.splitlines(), new.splitlines(), "stored", "fresh", n=1, lineterm=""
    )
    shown = [_short(line, 160) for line in lines][:24] or ["only line ends differ"]
    yield "\n  ".join([f"{what} differs", *shown])


def figure_difference(old: str, new: str) -> list[str]:
    """How two base64 PNGs differ, block by block; empty when they show the same."""
    if old.strip() == new.strip():
        return []
    try:
        images = _image(old), _image(new)
    except (ValueError, OSError) as error:
        return [f"a figure that can't be read: {error}"]
    if images[0].size != images[1].size:
        return [f"figure sizes differ: stored {images[0].size}, fresh {images[1].size}"]
    a, b = (np.asarray(image.convert("RGBA"), dtype=float) for image in images)
    if _software(images[0]) == _software(images[1]):
        parted, bound = _block_means(abs(a - b)), SAME_MATPLOTLIB
    else:
        parted, bound = abs(_block_means(a) - _block_means(b)), OTHER_MATPLOTLIB
    worst = float(parted.max())
    if worst <= bound:
        return []
    row, column, _ = np.unravel_index(int(parted.argmax()), parted.shape)
    where = f"x = {column * BLOCK}, y = {row * BLOCK} pixels"
    return [f"figures differ by {worst:.1f} grey levels near {where} (allowed {bound})"]


def _block_means(pixels: np.ndarray) -> np.ndarray:
    """Means of (height, width, channels) over blocks of 32 × 32; the last ones may be smaller."""
    height, width, _ = pixels.shape
    rows, columns = np.arange(0, height, BLOCK), np.arange(0, width, BLOCK)
    sums = np.add.reduceat(np.add.reduceat(pixels, rows, axis=0), columns, axis=1)
    counts = np.outer(np.diff([*rows, height]), np.diff([*columns, width]))
    return sums / counts[:, :, None]


def _image(encoded: str) -> Image.Image:
    image = Image.open(io.BytesIO(base64.b64decode(encoded)))
    image.load()
    return image


def _software(image: Image.Image) -> str:
    return str(image.info.get("Software", ""))


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, indent=1, sort_keys=True)


def _short(text: str, length: int = 120) -> str:
    text = text.rstrip("\n").replace("\n", "⏎")
    return text if len(text) <= length else text[: length - 1] + "…"
