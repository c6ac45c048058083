"""The gate: nbval's comparison of notebooks, made strict, on outputs that are computed once.

nbval collects the cells and compares what they print.  Left to itself it passes a notebook without
outputs, honours comments that switch it off, and ignores the order of outputs and every picture.
Here a cell passes when

* nothing in what is stored is a problem (see `problems`),
* it runs, and prints nothing to stderr,
* it shows the checks and derivations that it makes, and no others (see `register`),
* stored and fresh outputs agree in number, order, kind, content and metadata, figures included,

and a notebook has one more item, `form`, which passes when the file is in canonical form and shows
what `book/records.yml` says (see `records`).  Fresh outputs are those of the site: see `store`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from nbval import plugin

from notebooks import records, store
from notebooks.canonical import NotebookError, canonical, code_cells, merged, read, write
from notebooks.compare import differences
from notebooks.problems import problems


class Form(pytest.Item):
    """One item per notebook: is the stored file what freeze.py would have written, and whole?"""

    def runtest(self) -> None:
        notebook = read(self.path)
        wrong = [problem.text for problem in problems(notebook) if problem.cell is None]
        wrong += records.faults(self.config.rootpath, self.path, notebook)
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
        plugin.IPyNbFile.setup = _setup
        plugin.IPyNbCell.runtest = _runtest
        plugin.IPyNbCell.compare_outputs = _compare(plugin.IPyNbCell.compare_outputs)


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
        self.fresh = functools.cache(functools.partial(_fresh, self, notebook))
        yield Form.from_parent(self, name="form")
        for item in original(self):
            item.problems = wrong.get(item.cell_num, [])
            item.stored = code_cells(notebook)[item.cell_num].outputs  # nbval alters its own
            item.options.update(check=True, skip=False, check_exception=False)
            yield item

    return collect


def _setup(self: plugin.IPyNbFile) -> None:
    """No kernel here: the outputs come from one run of the notebook, made where it is needed."""
    self.setup_sanitize_files()


def _fresh(self: plugin.IPyNbFile, notebook: Any) -> store.Ran:
    timeout = float(self.config.option.nbval_cell_timeout)
    (ran,) = store.executed(self.config.rootpath, [(self.path, notebook)], 1, timeout)
    return ran


def _runtest(self: plugin.IPyNbCell) -> None:
    wrong = list(self.problems)
    try:
        ran = self.parent.fresh()
    except NotebookError as error:
        self.raise_cell_error(f"[{self.cell.id}] {error}")
    cell = code_cells(ran.notebook)[self.cell_num]
    if self.cell_num in ran.failures:
        raised = [out.traceback for out in cell.outputs if out.output_type == "error"]
        wrong += [ran.failures[self.cell_num], *("\n".join(lines) for lines in raised)]
    elif cell.execution_count is None:
        wrong.append("not run: an earlier cell ended the kernel")
    elif not self.compare_outputs(cell.outputs, self.cell.outputs):
        wrong += self.comparison_traceback
    wrong += ran.unseen.get(self.cell_num, [])
    if wrong:
        self.raise_cell_error(f"[{self.cell.id}] " + "\n".join(wrong))


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
