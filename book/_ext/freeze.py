"""Execute notebooks and store what they print, in one canonical form.

    python book/_ext/freeze.py                 # every notebook of the table of contents
    python book/_ext/freeze.py book/x/y.ipynb  # these only
    python book/_ext/freeze.py --check         # write nothing; exit 1 where stored and fresh differ

Freezing twice gives the same bytes. A notebook is replaced whole or not at all.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from canonical import (
    METADATA,
    NotebookError,
    canonical,
    code_cells,
    differences,
    opt_outs,
    problems,
    read,
    write,
)
from jupyter_client import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from nbval.kernel import CURRENT_ENV_KERNEL_NAME, NbvalKernelspecManager

ROOT = Path(__file__).resolve().parents[2]

# A canonical run has one thread, so that the last bits are those of any machine, and reads no
# settings of the person who runs it. JAX_PLATFORMS is the caller's: outputs may not depend on it.
ENVIRONMENT = {
    "COLUMNS": "80",
    "NPROC": "1",
    "NTKBOOK_SIZE": "cpu",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONHASHSEED": "0",
    "TF_CPP_MIN_LOG_LEVEL": "3",  # what the accelerator's driver says is not the notebook's output
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
}


@dataclass(frozen=True)
class Result:
    """What came of one notebook: ``verdict`` is a word for the log, ``details`` are lines."""

    path: Path
    ok: bool
    verdict: str
    details: tuple[str, ...] = ()


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        paths = [Path(p) for p in options.paths] or chapters(ROOT)
        results = execute_all(paths, options.check, options.timeout, options.jobs)
    except NotebookError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: unfinished notebooks are as they were", file=sys.stderr)
        return 130
    return 0 if all(result.ok for result in results) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="freeze.py", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("paths", nargs="*", help="notebooks (default: all in _toc.yml)")
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    parser.add_argument("--timeout", type=int, default=120, metavar="S", help="seconds per cell")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="notebooks at a time")
    return parser


# Which notebooks


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


# Executing


def execute_all(paths: Sequence[Path], check: bool, timeout: int, jobs: int) -> list[Result]:
    """Freeze or check notebooks, ``jobs`` at a time, and report each as it ends."""
    if importlib.util.find_spec("ipykernel") is None:
        raise NotebookError("the Python kernel is missing: pip install ipykernel")
    sources = [(path, read(path)) for path in paths]  # all must be readable before any is run
    work = _check if check else _freeze

    async def run() -> list[Result]:
        turn = asyncio.Semaphore(max(jobs, 1))

        async def one(path: Path, notebook: NotebookNode) -> Result:
            async with turn:
                result = await _guarded(work, path, notebook, timeout)
            print(f"{result.verdict:<9} {path}", *result.details, sep="\n  ", flush=True)
            return result

        return await asyncio.gather(*(one(*source) for source in sources))

    with (
        tempfile.TemporaryDirectory(prefix="freeze-") as home,
        asyncio.Runner(loop_factory=_Loop) as runner,
    ):
        os.environ.update(ENVIRONMENT | {"IPYTHONDIR": home})  # inherited by the kernels
        return runner.run(run())


class _Loop(asyncio.SelectorEventLoop):
    """A loop in which nbclient can't take the interrupt for itself (one handler serves one client).

    Without it, an interrupt cancels the whole run, and every kernel is shut down on the way out.
    """

    def add_signal_handler(self, *_: object) -> None:
        raise RuntimeError("signals belong to asyncio.Runner")

    def remove_signal_handler(self, *_: object) -> bool:
        return False


async def _guarded(work: Callable, path: Path, notebook: NotebookNode, timeout: int) -> Result:
    try:
        return await work(path, notebook, timeout)
    except NotebookError as error:
        return Result(path, False, "FAILED", (str(error),))
    except RuntimeError as error:  # what nbclient raises when a kernel does not come up
        return Result(path, False, "FAILED", (f"the kernel does not start: {error}",))


async def _freeze(path: Path, notebook: NotebookNode, timeout: int) -> Result:
    fresh = await _execute(path, notebook, timeout)
    wrong = _listed(fresh)
    if wrong:
        return Result(path, False, "REFUSED", wrong)
    text = write(fresh).encode()
    if text == path.read_bytes():
        return Result(path, True, "unchanged")
    _replace(path, text)
    return Result(path, True, "frozen")


async def _check(path: Path, notebook: NotebookNode, timeout: int) -> Result:
    fresh = await _execute(path, notebook, timeout)
    wrong = list(_listed(notebook))
    for number, (old, new) in enumerate(
        zip(code_cells(notebook), code_cells(fresh), strict=True), start=1
    ):
        for text in differences(old.outputs, new.outputs):
            wrong.append(_at(number, old, text))
    if not wrong and write(canonical(notebook)).encode() != path.read_bytes():
        wrong.append("the outputs are right, but the file is not in canonical form: freeze it")
    return Result(path, not wrong, "DIFFERS" if wrong else "agrees", tuple(wrong))


def _listed(notebook: NotebookNode) -> tuple[str, ...]:
    cells = code_cells(notebook)
    return tuple(
        p.text if p.cell is None else _at(p.cell + 1, cells[p.cell], p.text)
        for p in problems(notebook)
    )


def _at(number: int, cell: NotebookNode, text: str) -> str:
    return f"code cell {number} [{cell.id}]: " + text.replace("\n", "\n    ")


async def _execute(path: Path, notebook: NotebookNode, timeout: int) -> NotebookNode:
    """A canonical copy with fresh outputs. Raises NotebookError naming the cell that fails."""
    name = notebook.metadata.get("kernelspec", {}).get("name", "python3")
    if name != METADATA["kernelspec"]["name"]:
        raise NotebookError(f"the kernel is {name!r}, expected 'python3'")
    fresh = canonical(notebook)
    for number, cell in enumerate(code_cells(fresh), start=1):
        for text in opt_outs(cell):
            raise NotebookError(_at(number, cell, text))
        cell.outputs, cell.execution_count = [], None
    manager = AsyncKernelManager(
        kernel_name=CURRENT_ENV_KERNEL_NAME, kernel_spec_manager=NbvalKernelspecManager()
    )  # the Python that runs this file, whatever kernels the machine has registered
    client = NotebookClient(fresh, km=manager, timeout=timeout, record_timing=False)
    async with client.async_setup_kernel(
        cwd=str(path.resolve().parent), cleanup_kc=True, stderr=subprocess.DEVNULL
    ):
        number = 0
        for index, cell in enumerate(fresh.cells):
            number += cell.cell_type == "code"
            try:
                await client.async_execute_cell(cell, index)
            except CellExecutionError as error:
                said = f"{error.ename}: {error.evalue}".rstrip()
                raise NotebookError(_at(number, cell, said)) from None
            except CellTimeoutError:
                said = f"not done after {timeout} s (see --timeout)"
                raise NotebookError(_at(number, cell, said)) from None
            except DeadKernelError:
                raise NotebookError(_at(number, cell, "the kernel died")) from None
    return canonical(fresh)


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


if __name__ == "__main__":
    sys.exit(main())
