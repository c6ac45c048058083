"""Freezing: what fresh outputs must be before they are stored, and all or nothing when they are."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import yaml
from nbformat import NotebookNode

from notebooks import claims, layout, quiz, records, store
from notebooks.canonical import NotebookError, canonical, code_cells, read, write
from notebooks.compare import differences
from notebooks.execute import Ran, at, execute, first_failure, listed_unseen, side_by_side
from notebooks.problems import problems
from notebooks.toc import is_guide


@dataclass(frozen=True)
class Result:
    """What came of one notebook: `verdict` is a word for the log, `details` are lines."""

    path: Path
    ok: bool
    verdict: str
    details: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """What to do with each notebook: `check` writes nothing; other sizes are only run."""

    root: Path
    check: bool = False
    timeout: float = 600
    jobs: int = 2
    size: str = "cpu"


def freeze_all(paths: Sequence[Path], plan: Plan, report: Callable[[Result], None]) -> bool:
    """Freeze or check notebooks, several at a time; report each, and say whether all are well.

    To be frozen, a notebook is run twice: what it prints once only has no place in it.  One that
    was changed while it ran is left as it is: what is in it now has not been run.
    """
    sources = [(path, read(path)) for path in paths]  # all must be readable before any is run
    copies = 1 if plan.check or plan.size != "cpu" else 2
    ended: dict[Path, list[Ran | NotebookError]] = {path: [] for path in paths}
    judged: dict[Path, Result] = {}

    async def one(path: Path, notebook: NotebookNode, _: int) -> None:
        if path in judged:
            return  # it has failed already: why once more?
        try:
            ran: Ran | NotebookError
            ran = await execute(path, notebook, plan.timeout, size=plan.size)
        except NotebookError as error:
            ran = error
        ended[path].append(ran)
        broken = isinstance(ran, NotebookError) or bool(ran.failures)
        if path not in judged and (broken or len(ended[path]) == copies):
            judged[path] = _judged(path, notebook, ended[path], plan)
            report(judged[path])

    tasks = [partial(one, *source) for source in sources for _ in range(copies)]
    side_by_side(tasks, plan.jobs)
    return all(result.ok for result in judged.values())


def _judged(path: Path, notebook: NotebookNode, runs: list, plan: Plan) -> Result:
    for run in runs:
        said = str(run) if isinstance(run, NotebookError) else first_failure(run)
        if said:
            return Result(path, False, "FAILED", (said,))
    if plan.size != "cpu":
        return Result(path, True, "ran", (f"{runs[0].seconds:.0f} s at size {plan.size}",))
    if plan.check:
        return _checked(path, notebook, runs[0], plan.root)
    return _frozen(path, notebook, runs, plan.root)


def _frozen(path: Path, notebook: NotebookNode, runs: list[Ran], root: Path) -> Result:
    if _changed(path, notebook):
        return Result(path, False, "REFUSED", ("it was changed while it ran: freeze it again",))
    fresh, again = (run.notebook for run in runs)
    wrong = [*listed(fresh), *_unknown_claims(path, fresh, root), *_quiz_faults(path, fresh, root)]
    wrong += listed_unseen(runs[0])
    wrong += [f"prints something else the second time: {text}" for text in _parted(fresh, again)]
    if wrong:
        return Result(path, False, "REFUSED", tuple(wrong))
    missing = layout.faults(path.stem, fresh) if _is_chapter(path, root) else []
    long = layout.form(path.stem, fresh) if _is_chapter(path, root) else []
    notes = (*(f"still missing: {text}" for text in missing), *long)
    notes += tuple(records.faults(root, path, fresh))
    text = write(fresh).encode()
    if path.resolve().is_relative_to(root):
        store.keep(root, path, runs[0])
    if text == path.read_bytes():
        return Result(path, True, "unchanged", notes)
    _replace(path, text)
    return Result(path, True, "frozen", notes)


def _checked(path: Path, notebook: NotebookNode, ran: Ran, root: Path) -> Result:
    wrong = [*listed(notebook), *listed_unseen(ran), *_parted(notebook, ran.notebook)]
    wrong += records.faults(root, path, notebook)
    if not wrong and write(canonical(notebook)).encode() != path.read_bytes():
        wrong.append("the outputs are right, but the file is not in canonical form: freeze it")
    return Result(path, not wrong, "DIFFERS" if wrong else "agrees", tuple(wrong))


def _changed(path: Path, notebook: NotebookNode) -> bool:
    """Whether the file is no longer the notebook that was read from it."""
    try:
        return read(path) != notebook
    except NotebookError:
        return True


def _parted(old: NotebookNode, new: NotebookNode) -> list[str]:
    pairs = zip(code_cells(old), code_cells(new), strict=True)
    return [
        at(number, a, text)
        for number, (a, b) in enumerate(pairs)
        for text in differences(a.outputs, b.outputs)
    ]


def listed(notebook: NotebookNode) -> list[str]:
    """The problems of a notebook, as lines that name the cell."""
    cells = code_cells(notebook)
    return [
        p.text if p.cell is None else at(p.cell, cells[p.cell], p.text) for p in problems(notebook)
    ]


def _is_chapter(path: Path, root: Path) -> bool:
    return path.resolve().is_relative_to(root / "book") and not is_guide(root, path)


def _unknown_claims(path: Path, notebook: NotebookNode, root: Path) -> list[str]:
    """Records that the claims page could not place."""
    ledger = yaml.safe_load((root / "book" / "claims.yml").read_text("utf-8"))
    found = claims.records_of(path.stem, notebook)
    return [text for record in found for text in claims.faults(record, ledger)]


def _quiz_faults(path: Path, notebook: NotebookNode, root: Path) -> list[str]:
    """What is wrong with the quiz that the chapter shows, or ought to show."""
    prose = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    if not _is_chapter(path, root) and not re.search(r"\{quiz\}", prose):
        return []
    try:
        quiz.load(path.with_name(f"{path.stem}.quiz.yml"))
    except ValueError as error:
        return [str(error)]
    return []


def _replace(path: Path, content: bytes) -> None:
    """Write beside the notebook, then rename: a reader sees the old file or the new one."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, path.stat().st_mode)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
