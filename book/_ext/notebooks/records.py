"""What each notebook must show: its checks, derivations and figures, by their names.

The list is `book/records.yml`.  A check that is deleted, or that becomes a cell of another kind,
leaves no trace in a run; here it does.  `freeze.py --records` writes the list anew from the stored
outputs, and its difference is what a reviewer reads.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from nbformat import NotebookNode

from notebooks.canonical import CHECK, DERIVATION, PNG, NotebookError, code_cells, read
from notebooks.toc import chapters

FILE = Path("book", "records.yml")
MEANT = "if this is meant, python book/_ext/freeze.py --records puts it right"
KINDS = ("checks", "derivations", "figures")
_HEAD = """\
# What each notebook must show, in the order of its page: checks, derivations, figures.
# Written by `python book/_ext/freeze.py --records` from the stored outputs: read what it changes.
"""


def shown(notebook: NotebookNode) -> dict[str, list[str]]:
    """The names of all records in the stored outputs, by kind."""
    found: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for output in (out for cell in code_cells(notebook) for out in cell.outputs):
        data = output.get("data", {})
        records = data.get(CHECK, [])
        found["checks"] += [str(r["claim"]) for r in _list(records) if "claim" in r]
        if DERIVATION in data:
            found["derivations"] += [str(r["label"]) for r in _list(data[DERIVATION])]
        if PNG in data:
            found["figures"].append(str(output.metadata.get(PNG, {}).get("name", "no name")))
    return found


def _list(records: Any) -> list[dict[str, Any]]:
    return records if isinstance(records, list) else [records]


def faults(root: Path, path: Path, notebook: NotebookNode) -> Iterator[str]:
    """How the stored outputs part from the list; nothing where there is no list."""
    if not (root / FILE).is_file() or not path.resolve().is_relative_to(root.resolve() / "book"):
        return
    expected = _listed(root).get(_name(root, path), {})
    for kind, names in shown(notebook).items():
        missing = Counter(expected.get(kind, []))
        missing.subtract(names)
        for name, times in missing.items():
            what = f"the {kind.removesuffix('s')} {name}"
            if times > 0:
                yield f"{what} is in {FILE.as_posix()}, and no cell shows it: {MEANT}"
            elif times < 0:
                yield f"{what} is shown, and not in {FILE.as_posix()}: {MEANT}"


def rewrite(root: Path, paths: Sequence[Path] = ()) -> list[str]:
    """Write the list of these notebooks anew, or of all; the lines that changed.

    A notebook with a cell that was never run keeps its old entry, and a line says so.
    Raises NotebookError for a notebook that isn't in the table of contents.
    """
    order = [path.resolve() for path in chapters(root)]
    strays = [path for path in paths if path.resolve() not in order]
    if strays:
        raise NotebookError(f"{strays[0]} is not in _toc.yml")
    file = root / FILE
    old = file.read_text("utf-8") if file.is_file() else ""
    before = _listed(root) if old else {}
    todo = {path.resolve() for path in paths} or {*order}
    now, left = {}, []
    for path in order:
        name, notebook = _name(root, path), read(path)
        found = before.get(name, {})
        if path in todo and any(c.execution_count is None for c in code_cells(notebook)):
            left.append(f"left as it is: {name} has a cell that was never run; freeze it first")
        elif path in todo:
            found = shown(notebook)
        if any(found.values()):
            now[name] = {kind: names for kind, names in found.items() if names}
    text = _HEAD + yaml.safe_dump(now, sort_keys=False, allow_unicode=True, width=100)
    if text != old:
        file.write_text(text, "utf-8")
    a, b, name = old.splitlines(), text.splitlines(), FILE.as_posix()
    return [*difflib.unified_diff(a, b, "before", name, n=1, lineterm=""), *left]


def _listed(root: Path) -> dict[str, dict[str, list[str]]]:
    try:
        return yaml.safe_load((root / FILE).read_text("utf-8")) or {}
    except yaml.YAMLError as error:
        raise NotebookError(f"{root / FILE}: not valid YAML: {error}") from None


def _name(root: Path, path: Path) -> str:
    return path.resolve().relative_to(root.resolve()).with_suffix("").as_posix()
