"""Chapters executed on this machine, several side by side, and compared with what is stored."""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from nbformat import NotebookNode
from notebooks import claims
from notebooks.canonical import PNG, code_cells, merged, read
from notebooks.compare import as_text, differences
from notebooks.execute import Ran, execute, side_by_side
from notebooks.toc import chapters as listed

from card.records import ROOT, plain

Add = Callable[[dict[str, Any]], None]

# A number as the book prints it; the digits of a name, as in C01 or x1, are not one.
NUMBER = re.compile(r"(?<![\w.])[-−]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")


def all_chapters() -> list[Path]:
    return listed(ROOT)


def has_sizes(path: Path) -> bool:
    """Whether anything in a chapter is larger at size gpu."""
    return any(".pick(" in cell.source for cell in code_cells(read(path)))


def run(paths: Sequence[Path], size: str, jobs: int, until: float, add: Add) -> None:
    """Execute notebooks, `jobs` at a time, up to the time `until`; `add` a record of each."""
    side_by_side([partial(_one, path, size, until, add) for path in paths], jobs)


async def _one(path: Path, size: str, until: float, add: Add, _: int) -> None:
    item: dict[str, Any] = {"chapter": str(path.relative_to(ROOT / "book").with_suffix(""))}
    left = until - time.monotonic()
    if left <= 0:
        add(item | {"verdict": "not reached"})
        return
    try:
        notebook = read(path)
        async with asyncio.timeout(left) as limit:
            cell_s = math.ceil(left) + 60  # it is the chapter that is cut short, not a cell
            ran = await execute(path, notebook, cell_s, to_the_end=True, size=size)
        if limit.expired():  # nbclient took it for the death of the kernel
            add(item | cut_short(notebook, ran, compare=size == "cpu"))
            return
    except TimeoutError:  # it came between two cells
        add(item | {"verdict": "cut short", "seconds": round(left, 1)})
    except Exception as error:  # whatever it is, the other chapters go on
        add(item | {"verdict": "failed", "failures": [plain(f"{type(error).__name__}: {error}")]})
    else:
        add(item | judged(path, notebook, ran, compare=size == "cpu"))


def judged(path: Path, stored: NotebookNode, ran: Ran, compare: bool) -> dict[str, Any]:
    """The verdict on a run: which cells failed, which checks hold, which outputs are others."""
    names = [cell.id for cell in code_cells(stored)]
    kept = [r for r in claims.records_of(path.stem, ran.notebook) if r.kind == "check"]
    verdicts = Counter(record.data["verdict"] for record in kept)
    item: dict[str, Any] = {"seconds": round(ran.seconds, 1), "checks": dict(verdicts)}
    failures = [plain(f"{names[n]}: {text}") for n, text in sorted(ran.failures.items())]
    if failures:
        item["failures"] = failures
    cells = compared(stored, ran.notebook) if compare else []
    if cells:
        item["cells"] = cells
    fine = not failures and set(verdicts) <= {"pass"}
    word = ("differs" if cells else "agrees") if compare else "holds"
    return {"verdict": word if fine else "failed"} | item


def cut_short(stored: NotebookNode, ran: Ran, compare: bool) -> dict[str, Any]:
    """What a run that was ended in its last failing cell had shown up to there."""
    done = max(ran.failures)
    item: dict[str, Any] = {"verdict": "cut short", "seconds": round(ran.seconds, 1)}
    item["reached"] = f"{done} of {len(code_cells(stored))} cells"
    cells = compared(stored, ran.notebook, done) if compare else []
    return item | ({"cells": cells} if cells else {})


def compared(
    stored: NotebookNode, fresh: NotebookNode, first: int | None = None
) -> list[dict[str, Any]]:
    """The cells that print something else: which, what, and by how much their numbers moved.

    With `first`, only so many cells are compared.
    """
    found = []
    for old, new in list(zip(code_cells(stored), code_cells(fresh), strict=True))[:first]:
        texts = differences(old.outputs, new.outputs)
        if texts:
            moved = deviation(_words(old.outputs), _words(new.outputs))
            shown = [plain(text) for text in texts]
            found.append({"cell": old.id, "deviation": moved, "differences": shown})
    return found


def _words(outputs: Sequence[NotebookNode]) -> str:
    """All that a cell prints, without its pictures."""
    texts = []
    for output in merged(outputs):
        texts.append(output.get("text", ""))
        texts += [as_text(v) for k, v in sorted(output.get("data", {}).items()) if k != PNG]
    return "\n".join(texts)


def deviation(old: str, new: str) -> float | None:
    """The largest relative difference of numbers in the same places; None if the words differ."""
    if NUMBER.sub("#", old) != NUMBER.sub("#", new):
        return None
    pairs = zip(_numbers(old), _numbers(new), strict=True)
    apart = (abs(a - b) / max(abs(a), abs(b)) for a, b in pairs if a != b)
    return float(f"{max(apart, default=0.0):.2g}")


def _numbers(text: str) -> list[float]:
    return [float(found.replace("−", "-")) for found in NUMBER.findall(text)]
