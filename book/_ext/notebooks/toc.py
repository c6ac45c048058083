"""The table of contents: which notebooks are chapters, in reading order."""

from __future__ import annotations

from pathlib import Path

import yaml

from notebooks.canonical import NotebookError

GUIDES = Path("book", "use")


def chapters(root: Path) -> list[Path]:
    """The notebooks of ``_toc.yml`` in reading order.

    Raises NotebookError when a listed file is missing, or a notebook under book/ is not listed.
    """
    toc = root / "_toc.yml"
    if not toc.exists():
        raise NotebookError(f"{toc}: no table of contents")
    try:
        listed = [_find(root, name) for name in _names(yaml.safe_load(toc.read_text("utf-8")))]
    except yaml.YAMLError as error:
        raise NotebookError(f"{toc}: not valid YAML: {error}") from None
    notebooks = [path for path in listed if path.suffix == ".ipynb"]
    strays = sorted(set(_notebooks_below(root / "book")) - set(notebooks))
    if strays:
        names = ", ".join(str(path.relative_to(root)) for path in strays)
        raise NotebookError(f"{toc}: not in the table of contents: {names}")
    return notebooks


def lessons(root: Path) -> list[Path]:
    """The chapters that teach, with a quiz and exercises: all but the guides below book/use."""
    return [path for path in chapters(root) if not is_guide(root, path)]


def is_guide(root: Path, path: Path) -> bool:
    """Whether a notebook tells how to use the package, without a quiz and exercises."""
    return path.resolve().is_relative_to((root / GUIDES).resolve())


def _names(node: object) -> list[str]:
    """Every ``root`` and ``file`` of a table of contents, depth first."""
    if isinstance(node, list):
        return [name for item in node for name in _names(item)]
    if not isinstance(node, dict):
        return []
    own = [str(node[key]) for key in ("root", "file") if key in node]
    return own + [name for value in node.values() for name in _names(value)]


def _find(root: Path, name: str) -> Path:
    for path in (root / name, root / f"{name}.ipynb", root / f"{name}.md"):
        if path.is_file():
            return path
    raise NotebookError(f"{root / '_toc.yml'}: lists {name}, which does not exist")


def _notebooks_below(folder: Path) -> list[Path]:
    """All chapters: not what is in hidden folders, made by tools, or part of an assignment."""
    return [
        path
        for path in folder.rglob("*.ipynb")
        if not any(
            part.startswith((".", "_")) or part == "assignments"  # course.py validates those
            for part in path.relative_to(folder).parts
        )
    ]
