"""The stages of a run, the most telling first, each with a share of the time that is left."""

from __future__ import annotations

import argparse
import datetime
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from card import records
from card.processes import lines_of

RESERVE_S = 20  # at the end: kernels that are cut short, and the wheels' files, take time to go
SIZES = ((4_000, 10_000), (20_000, 30_000, 50_000))  # a quick first pass, then what memory allows
REHEARSAL = ((200, 400), (800,))
SHARES = {"device": 0.3, "kernels": 0.45, "chapters": 0.75, "chapters-gpu": 1.0}  # of what is left


@dataclass(frozen=True)
class Run:
    """What all stages need: the options, when the run ends, and what heads every record."""

    options: argparse.Namespace
    end: float
    head: dict[str, Any]

    def log(self, stage: str, **more: Any) -> records.Log:
        name = f"{records.slug(self.head['device'])}-{stage}.json"
        return records.Log(self.options.out / name, {"stage": stage} | self.head | more)

    def until(self, stage: str) -> float:
        """When a stage has to be done: what it leaves goes to the next ones."""
        now = time.monotonic()
        return now + max(self.end - now, 0) * SHARES[stage]


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    spent = float(os.environ.get("NTKBOOK_SPENT_S", "0"))  # by the door, on wheels
    end = time.monotonic() + 60 * options.minutes - RESERVE_S - spent
    now = datetime.datetime.now(datetime.UTC)
    head = {"date": now.date().isoformat(), "command": _command(options), "device": "unknown"}
    run = _device(Run(options, end, head))
    if run is None:
        return 1
    done = [STAGES[name](run) for name in STAGES if name in options.stages]
    return 0 if all(done) else 1


# Stages


def _device(run: Run) -> Run | None:
    """Facts, a smoke test and rates; the run with the card's name, or None without a card."""
    found: dict[str, Any] = {}
    side = 1024 if run.options.rehearse else 8192
    stage_s = run.until("device") - time.monotonic()
    for line in lines_of("card.device", side, seconds=stage_s):
        found |= line
        print(f"{_since(run)} device", *line.items(), flush=True)
        if found.get("platform") == "cpu" and not run.options.rehearse:
            print("no card: JAX sees only the CPU (--rehearse runs there)", file=sys.stderr)
            return None
        head = run.head | {k: found[k] for k in _HEAD if k in found}
        run = Run(run.options, run.end, head)
        run.log("device").add(found)
    if "platform" not in found:
        print("JAX does not start on this machine", file=sys.stderr)
        return None
    return run


_HEAD = ("platform", "device", "driver", "versions")


def _kernels(run: Run) -> bool:
    """Kernels of random inputs: a quick pass in both precisions, then larger ones."""
    log, until = run.log("kernels"), run.until("kernels")
    settings = {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.95"}  # nothing else runs meanwhile
    for sizes in REHEARSAL if run.options.rehearse else SIZES:
        for dtype in ("float64", "float32"):
            waiting, left = list(sizes), until - time.monotonic()
            for item in lines_of("card.kernels", dtype, *sizes, seconds=left, settings=settings):
                if not waiting:
                    break  # all was done, and what fails later does not matter
                item = {"n": waiting.pop(0), "dtype": dtype} | item  # an error does not say of what
                log.add(item)
                print(f"{_since(run)} kernels", *item.items(), flush=True)
            for n in waiting:
                log.add({"n": n, "dtype": dtype, "error": "not reached"})
    return any("seconds" in item for item in log.items)


def _chapters(run: Run, size: str) -> bool:
    """Chapters at one of their sizes; at the default one their outputs are the stored ones."""
    from card import chapters  # imports slowly, and --help needs none of it

    stage = "chapters" if size == "cpu" else "chapters-gpu"
    paths = run.options.chapters or chapters.all_chapters()
    if size == "gpu":
        paths = [path for path in paths if chapters.has_sizes(path)]
    # What is large shares the card with little else: it needs memory, and its seconds are recorded.
    jobs = run.options.jobs if size == "cpu" else min(run.options.jobs, 2)
    log = run.log(stage, size=size, jobs=jobs)

    def add(item: dict[str, Any]) -> None:
        log.add(item)
        cells = [(cell["cell"], cell["deviation"]) for cell in item.get("cells", [])]
        words = [item.get("seconds", ""), *cells, *item.get("failures", [])]
        print(f"{_since(run)} {stage}", item["chapter"], item["verdict"], *words, flush=True)

    chapters.run(paths, size, jobs, run.until(stage), add)
    return all(item["verdict"] in ("agrees", "holds") for item in log.items)


STAGES: dict[str, Callable[[Run], bool]] = {
    "kernels": _kernels,
    "chapters": partial(_chapters, size="cpu"),
    "chapters-gpu": partial(_chapters, size="gpu"),
}


def _since(run: Run) -> str:
    left = run.end - time.monotonic()
    return f"[{left:4.0f} s left]"


# Options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tests/gpu/run",
        description="Measure the book on this machine's card: what it is, the speed of kernels, "
        "whether the chapters print what is stored, and a few at their larger size.",
        epilog="On a machine without a network, first gather wheels elsewhere with "
        "tests/gpu/wheels; git ignores their folder, .gpu-wheels, so that it has to be named "
        "where a copy of the working tree is made.",
    )
    here = Path(__file__).resolve().parents[1] / "records"
    add = parser.add_argument
    add("--minutes", type=_minutes, default=9.0, metavar="M", help="ends by then (default: 9)")
    add("--out", type=_folder, default=here, metavar="FOLDER", help="default: tests/gpu/records")
    add("--chapters", type=_notebook, nargs="+", metavar="NOTEBOOK", help="these only")
    add("--stages", nargs="+", choices=STAGES, default=tuple(STAGES), help="these only")
    add("--jobs", type=_jobs, default=_cores(), metavar="N", help="notebooks at a time")
    add("--rehearse", action="store_true", help="with tiny kernels, and on a CPU if need be")
    return parser


def _command(options: argparse.Namespace) -> str:
    """The command without what is of this machine alone."""
    words = ["tests/gpu/run", "--minutes", f"{options.minutes:g}", "--jobs", str(options.jobs)]
    if len(options.stages) < len(STAGES):
        words += ["--stages", *options.stages]
    if options.chapters:
        words += ["--chapters", *(str(p.relative_to(records.ROOT)) for p in options.chapters)]
    return " ".join(words + ["--rehearse"] * options.rehearse)


def _minutes(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.5 <= value <= 60:
        raise argparse.ArgumentTypeError(f"expected a number from 0.5 to 60, got {text!r}")
    return value


def _jobs(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, got {text!r}")
    return int(text)


def _folder(text: str) -> Path:
    path = Path(text).resolve()
    if path.exists() and not path.is_dir():
        raise argparse.ArgumentTypeError(f"expected a folder, got the file {text!r}")
    return path


def _notebook(text: str) -> Path:
    path = Path(text).resolve()
    if path.suffix != ".ipynb" or not path.is_file() or not path.is_relative_to(_BOOK):
        raise argparse.ArgumentTypeError(f"expected a notebook of the book, got {text!r}")
    return path


_BOOK = records.ROOT / "book"


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("interrupted: the records hold what was done", file=sys.stderr)
        sys.exit(130)
