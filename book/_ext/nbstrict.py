"""A pytest plug-in that closes nbval's gaps: ``pytest --nbval -p nbstrict``.

nbval re-executes every notebook and compares what it prints. Left to itself it passes a notebook
without outputs, honours comments that switch it off, ignores the order of outputs and every
picture, and waits long for a kernel that has died. With this plug-in a cell passes when

* nothing in what is stored is a problem (see ``canonical.problems``),
* it runs, and prints nothing to stderr,
* stored and fresh outputs agree in number, order, kind, content and metadata, figures included,

and a notebook has one more item, ``form``, which passes when the file is in canonical form.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Empty
from typing import Any

import pytest
from canonical import (
    NotebookError,
    canonical,
    code_cells,
    differences,
    merged,
    problems,
    read,
    write,
)
from nbval import plugin
from nbval.kernel import RunningKernel

POLL = 0.5  # seconds between two looks at whether the kernel is alive


class Form(pytest.Item):
    """One item per notebook: is the stored file what freeze.py would have written?"""

    def runtest(self) -> None:
        notebook = read(self.path)
        wrong = [problem.text for problem in problems(notebook) if problem.cell is None]
        if write(canonical(notebook)).encode() != self.path.read_bytes():
            wrong.append("not in canonical form (python book/_ext/freeze.py writes it)")
        if wrong:
            raise NotebookError(f"{self.path}: " + "; ".join(wrong))

    def repr_failure(self, excinfo: pytest.ExceptionInfo, style: Any = None) -> str:
        known = isinstance(excinfo.value, NotebookError)
        return str(excinfo.value) if known else str(super().repr_failure(excinfo))

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, 0, f"{self.path.name}::form"


def pytest_configure(config: pytest.Config) -> None:
    if config.pluginmanager.hasplugin("nbval") and not hasattr(plugin, "strict"):
        plugin.strict = True  # once per process: pytester runs pytest inside pytest
        plugin.IPyNbFile.collect = _collect(plugin.IPyNbFile.collect)
        plugin.IPyNbCell.runtest = _runtest(plugin.IPyNbCell.runtest)
        plugin.IPyNbCell.compare_outputs = _compare(plugin.IPyNbCell.compare_outputs)
        RunningKernel.get_message = _get_message(RunningKernel.get_message)


def _collect(original: Callable) -> Callable:
    @functools.wraps(original)
    def collect(self: plugin.IPyNbFile) -> Iterator[pytest.Item]:
        try:
            notebook = read(self.path)
        except NotebookError as error:
            raise self.CollectError(str(error)) from None
        wrong: dict[int, list[str]] = {}
        for problem in problems(notebook):
            if problem.cell is not None:
                wrong.setdefault(problem.cell, []).append(problem.text)
        yield Form.from_parent(self, name="form")
        for item in original(self):
            item.problems = wrong.get(item.cell_num, [])
            item.stored = code_cells(notebook)[item.cell_num].outputs  # nbval alters its own
            item.options.update(check=True, skip=False, check_exception=False)
            yield item

    return collect


def _runtest(original: Callable) -> Callable:
    @functools.wraps(original)
    def runtest(self: plugin.IPyNbCell) -> None:
        name, wrong = self.cell.id, list(self.problems)
        try:
            original(self)
        except plugin.NbCellError as error:
            if not wrong:
                raise
            wrong.append(f"{error}{error.inner_traceback or ''}")
        if wrong:
            self.raise_cell_error(f"[{name}] " + "\n".join(wrong))

    return runtest


def _compare(original: Callable) -> Callable:
    """Compare strictly first, then as nbval does; either may object."""

    @functools.wraps(original)
    def compare_outputs(self: plugin.IPyNbCell, test: list, ref: list, skip: Any = None) -> bool:
        found = differences(self.stored, test)
        found += [f"stderr: {out.text}" for out in merged(test) if out.get("name") == "stderr"]
        if found:
            self.comparison_traceback = [f"[{self.cell.id}] {text}" for text in found]
            return False
        return original(self, test, ref, skip)

    return compare_outputs


def _get_message(original: Callable) -> Callable:
    """Wait in short turns, so that a dead kernel is seen at once and not after the timeout."""

    @functools.wraps(original)
    def get_message(self: RunningKernel, stream: str, timeout: float | None = None) -> dict:
        end = time.monotonic() + (float("inf") if timeout is None else timeout)
        while True:
            try:
                return original(self, stream, timeout=min(POLL, max(end - time.monotonic(), 0)))
            except Empty:
                if time.monotonic() >= end:
                    raise
                if not self.is_alive():
                    raise RuntimeError("the kernel died") from None

    return get_message
