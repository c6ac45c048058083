"""Executing notebooks: each in a kernel of its own, as many side by side as there are cores."""

from __future__ import annotations

import asyncio
import atexit
import importlib.util
import os
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from jupyter_client import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from nbval.kernel import CURRENT_ENV_KERNEL_NAME, NbvalKernelspecManager

from notebooks import register
from notebooks.canonical import METADATA, NotebookError, canonical, code_cells
from notebooks.compiled import FOLDER, QUICKLY, kept_in
from notebooks.problems import opt_outs

T = TypeVar("T")

# A guard against cells that never end, not a measure of speed: a busy machine may be slow.
TIMEOUT_S = 1800

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


def same_instructions(flags: str = "", about: Path = Path("/proc/cpuinfo")) -> dict[str, str]:
    """The environment in which a processor with AVX2 sums in the order of any other one with it.

    Newer ones have longer vectors, whose sums differ in the last bits; what has no AVX2 keeps what
    it has.  `flags` are those of XLA that are set already.
    """
    if not about.exists() or "avx2" not in about.read_text().split():
        return {}
    return {
        "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
        "OPENBLAS_CORETYPE": "Haswell",
        "XLA_FLAGS": f"{flags} --xla_cpu_max_isa=AVX2".strip(),
    }


@dataclass(frozen=True)
class Ran:
    """A canonical copy with fresh outputs, the seconds it took, and what is wrong, by code cell.

    `failures` are errors; `unseen` is what was made and isn't shown, or the reverse (`register`).
    """

    notebook: NotebookNode
    seconds: float
    failures: dict[int, str]
    unseen: dict[int, list[str]] = field(default_factory=dict)


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


async def execute(
    path: Path,
    notebook: NotebookNode,
    timeout: float = TIMEOUT_S,
    *,
    to_the_end: bool = False,
    size: str = "cpu",
    caches: Path | None = None,
) -> Ran:
    """Run a notebook in its own folder, until a cell fails or, `to_the_end`, beyond.

    A cell that raises keeps its error as an output; what kills the kernel or does not end stops
    the run.  `caches` is a folder for what JAX compiles, which no other run may use meanwhile.
    Raises NotebookError for a notebook that may not be run as it is.
    """
    name = notebook.metadata.get("kernelspec", {}).get("name", "python3")
    if name != METADATA["kernelspec"]["name"]:
        raise NotebookError(f"the kernel is {name!r}, expected 'python3'")
    if importlib.util.find_spec("ipykernel") is None:
        raise NotebookError("the Python kernel is missing: pip install ipykernel")
    fresh, failures, unseen = canonical(notebook), dict[int, str](), dict[int, list[str]]()
    for number, cell in enumerate(code_cells(fresh)):
        for text in opt_outs(cell):
            if not to_the_end:
                raise NotebookError(at(number, cell, text))
            cell.metadata.pop("tags", None)  # reported elsewhere: it may not change the run
        cell.outputs, cell.execution_count = [], None
    manager = AsyncKernelManager(
        kernel_name=CURRENT_ENV_KERNEL_NAME, kernel_spec_manager=NbvalKernelspecManager()
    )  # the Python that runs this file, whatever kernels the machine has registered
    client = _Client(fresh, km=manager, timeout=timeout, record_timing=False)
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="ipython-") as home:
        kernel = client.async_setup_kernel(
            cwd=str(path.resolve().parent),
            env=_environment(home, size, caches),
            cleanup_kc=True,
            stderr=subprocess.DEVNULL,
        )
        try:
            async with kernel:
                await register.begin(client)
                if await _cells(client, fresh, timeout, to_the_end, failures):
                    unseen = register.unseen(await register.read(client), code_cells(fresh))
        except asyncio.CancelledError:
            if manager.has_kernel:  # interrupted while it came up, when nbclient does not clean up
                await manager.shutdown_kernel(now=True)
            raise
        except RuntimeError as error:  # what nbclient raises when a kernel does not come up
            if isinstance(error, DeadKernelError):
                raise
            raise NotebookError(f"the kernel does not start: {error}") from None
        finally:
            atexit.unregister(client._cleanup_kernel)  # an error may have left it there
    return Ran(canonical(fresh), time.monotonic() - start, failures, unseen)


class _Client(NotebookClient):
    """A client that, interrupted, does not look for its kernel after that was shut down."""

    async def _async_poll_kernel_alive(self) -> None:
        with suppress(AssertionError):  # nbclient asserts that there is a kernel to ask
            await super()._async_poll_kernel_alive()


async def _cells(
    client: NotebookClient,
    notebook: NotebookNode,
    timeout: float,
    to_the_end: bool,
    failures: dict[int, str],
) -> bool:
    """Run the cells, note what fails, and say whether the kernel came to the last one."""
    number = -1
    for index, cell in enumerate(notebook.cells):
        number += cell.cell_type == "code"
        try:
            await client.async_execute_cell(cell, index)
        except CellExecutionError as error:
            failures[number] = f"{error.ename}: {error.evalue}".rstrip()
            if not to_the_end:
                return False
        except CellTimeoutError:
            failures[number] = f"not done after {timeout} s (see --timeout)"
            return False
        except DeadKernelError:
            failures[number] = "the kernel died"
            return False
    return True


def _environment(home: str, size: str, caches: Path | None) -> dict[str, str]:
    own = ENVIRONMENT | {"IPYTHONDIR": home, "NTKBOOK_SIZE": size}
    if caches is not None:
        own |= kept_in(caches)
    flags = os.environ.get("XLA_FLAGS", "").replace(QUICKLY, "").strip()
    # Two kernels that keep programs in one folder may read what is half written, and warn of it.
    caller = {name: value for name, value in os.environ.items() if name != FOLDER}
    return caller | {"XLA_FLAGS": flags} | same_instructions(flags) | own


def at(number: int, cell: NotebookNode, text: str) -> str:
    """What is said of a code cell, counted from 0 here and from 1 in the message."""
    return f"code cell {number + 1} [{cell.id}]: " + text.replace("\n", "\n    ")


def listed_unseen(ran: Ran) -> list[str]:
    """What was made and isn't shown, or the reverse, as lines that name the cell."""
    cells = code_cells(ran.notebook)
    return [at(n, cells[n], text) for n in sorted(ran.unseen) for text in ran.unseen[n]]


def first_failure(ran: Ran) -> str | None:
    """The first cell that failed, and how."""
    if not ran.failures:
        return None
    number = min(ran.failures)
    return at(number, code_cells(ran.notebook)[number], ran.failures[number])


# Several at a time


def side_by_side(tasks: Sequence[Callable[[int], Awaitable[T]]], jobs: int) -> list[T]:
    """Await all tasks, `jobs` at a time; each is told the number of a slot that is its alone."""

    async def run() -> list[T]:
        slots: asyncio.Queue[int] = asyncio.Queue()
        for slot in range(max(jobs, 1)):
            slots.put_nowait(slot)

        async def one(task: Callable[[int], Awaitable[T]]) -> T:
            slot = await slots.get()
            try:
                return await task(slot)
            finally:
                slots.put_nowait(slot)

        return await asyncio.gather(*map(one, tasks))

    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(run())


class _Loop(asyncio.SelectorEventLoop):
    """A loop in which nbclient can't take the interrupt for itself (one handler serves one client).

    Without it, an interrupt cancels the whole run, and every kernel is shut down on the way out.
    """

    def add_signal_handler(self, *_: object) -> None:
        raise RuntimeError("signals belong to asyncio.Runner")

    def remove_signal_handler(self, *_: object) -> bool:
        return False
