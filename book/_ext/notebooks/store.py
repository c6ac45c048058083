"""Outputs that were just computed, kept so that each notebook runs once for all who need it.

The build of the site, the comparison with what is stored, and a later run of either read the same
outputs.  They are kept as a jupyter-cache, which MyST-NB reads, below `_build/.jupyter_cache`, in a
folder whose name says what the outputs depend on beside the notebook: the package's code, data
files of the book, the register, every installed version, Python and the kind of processor.  Where
one of these changes, everything runs anew.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path

from filelock import FileLock, Timeout
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn
from nbformat import NotebookNode

from notebooks.canonical import canonical, code_cells
from notebooks.compiled import share
from notebooks.execute import ENVIRONMENT, TIMEOUT_S, Ran, execute, side_by_side

DATA = (".json", ".csv", ".npy", ".npz")
POLL_S = 0.5  # between two looks at whether another process is done with a notebook


@cache
def folder(root: Path) -> Path:
    """Where the outputs of today's package and versions are kept."""
    return root / "_build" / ".jupyter_cache" / fingerprint(root)


def fingerprint(root: Path) -> str:
    """Twelve digits that differ wherever anything differs that outputs may depend on."""
    spec = importlib.util.find_spec("ntkbook")
    package = sorted(Path(spec.origin).parent.rglob("*.py")) if spec and spec.origin else []
    book = (path for path in sorted((root / "book").rglob("*")) if path.suffix in DATA)
    own = [path for path in book if not any(p.startswith((".", "_")) for p in path.parts)]
    register = [Path(__file__).with_name(f"{name}.py") for name in ("recorder", "register")]
    found = hashlib.sha256()
    for path in [*package, *own, *register]:
        found.update(f"{path.name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    versions = {(d.name, d.version) for d in importlib.metadata.distributions()}
    device = os.environ.get("JAX_PLATFORMS", "")
    rest = sys.version, platform.machine(), device, sorted(ENVIRONMENT.items()), sorted(versions)
    found.update(repr(rest).encode())
    return found.hexdigest()[:12]


def known(root: Path, notebook: NotebookNode) -> Ran | None:
    """The outputs kept for this code, in a copy of the notebook; None if it has to be run."""
    kept, notebook = get_cache(str(folder(root))), canonical(notebook)
    try:
        record = kept.match_cache_notebook(notebook)
        _, fresh = kept.merge_match_into_notebook(notebook)
    except KeyError:
        return None
    if "unseen" not in record.data:
        return None
    unseen = {int(number): said for number, said in record.data["unseen"].items()}
    return Ran(canonical(fresh), record.data["execution_seconds"], {}, unseen)


def keep(root: Path, path: Path, ran: Ran) -> None:
    """Keep the outputs of a run in which no cell failed."""
    if not ran.failures:
        data = {"execution_seconds": ran.seconds, "unseen": ran.unseen}
        _write(root, str(path), ran.notebook, data)


def _write(root: Path, uri: str, notebook: NotebookNode, data: dict) -> None:
    bundle = CacheBundleIn(notebook, uri, data=data)
    with FileLock(folder(root) / "writing.lock"):
        get_cache(str(folder(root))).cache_notebook_bundle(
            bundle, check_validity=False, overwrite=True
        )


def executed(
    root: Path,
    notebooks: Sequence[tuple[Path, NotebookNode]],
    jobs: int,
    timeout: float = TIMEOUT_S,
    report: Callable[[Path, Ran, bool], None] = lambda *_: None,
) -> list[Ran]:
    """Fresh outputs of all notebooks: those kept, and the rest run `jobs` at a time.

    `report(path, ran, kept)` is called as each is done.  What another process is running right now
    is waited for.
    """
    folder(root).mkdir(parents=True, exist_ok=True)

    async def one(path: Path, notebook: NotebookNode, _: int) -> Ran:
        lock = FileLock(folder(root) / f"{_digest(notebook)}.lock", thread_local=False)
        while True:
            with suppress(Timeout):
                lock.acquire(blocking=False)
                break
            await asyncio.sleep(POLL_S)
        try:
            found = known(root, notebook)
            ran = found
            if ran is None:
                with _compiled(root) as caches:
                    ran = await execute(path, notebook, timeout, to_the_end=True, caches=caches)
                keep(root, path, ran)
        finally:
            lock.release()
        report(path, ran, found is not None)
        return ran

    return side_by_side([partial(one, *both) for both in notebooks], jobs)


def _digest(notebook: NotebookNode) -> str:
    sources = "\0".join(cell.source for cell in code_cells(notebook))
    return hashlib.sha256(sources.encode()).hexdigest()[:16]


@contextmanager
def _compiled(root: Path) -> Iterator[Path]:
    """A folder for what JAX compiles, one notebook's at a time, with what is in the others."""
    place = root / "_build" / ".jupyter_cache" / "compiled"
    place.mkdir(parents=True, exist_ok=True)
    for number in range(1000):
        lock = FileLock(place / f"{number}.lock", thread_local=False)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            continue
        try:
            share(own := place / str(number), [path for path in place.iterdir() if path.is_dir()])
            yield own
        finally:
            lock.release()
        return
