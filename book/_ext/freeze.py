"""Execute notebooks and store what they print, in one canonical form.

    python book/_ext/freeze.py                     # every notebook of the table of contents
    python book/_ext/freeze.py book/x/y.ipynb      # these only
    python book/_ext/freeze.py --check             # write nothing; exit 1 where outputs differ
    python book/_ext/freeze.py --records           # what is stored becomes what must be shown
    python book/_ext/freeze.py --new part/subject  # write an empty chapter and its quiz
    python book/_ext/freeze.py --size gpu PATH     # only run, at another size

Each notebook is run twice and must print the same. It is replaced whole or not at all.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from notebooks.canonical import NotebookError
from notebooks.execute import TIMEOUT_S, cores
from notebooks.freezing import Plan, Result, freeze_all
from notebooks.new import new_chapter
from notebooks.records import rewrite
from notebooks.toc import chapters

ROOT = Path(__file__).resolve().parents[2]


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    plan = Plan(ROOT, options.check, options.timeout, options.jobs, options.size)
    try:
        if options.new:
            print(*new_chapter(ROOT, options.new), sep="\n")
            return 0
        if options.records:
            print(*rewrite(ROOT, options.paths) or ["book/records.yml is unchanged"], sep="\n")
            return 0
        return 0 if freeze_all(options.paths or chapters(ROOT), plan, _report) else 1
    except NotebookError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: unfinished notebooks are as they were", file=sys.stderr)
        return 130


def _report(result: Result) -> None:
    print(f"{result.verdict:<9} {result.path}", *result.details, sep="\n  ", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="freeze.py", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("paths", nargs="*", type=Path, help="notebooks (default: all in _toc.yml)")
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    parser.add_argument("--records", action="store_true", help="list what the stored outputs show")
    parser.add_argument("--new", metavar="PART/SUBJECT", help="write an empty chapter")
    parser.add_argument("--size", choices=("cpu", "gpu"), default="cpu", help="gpu: only run")
    parser.add_argument(
        "--timeout", type=_positive, default=TIMEOUT_S, metavar="S", help="for a cell"
    )
    parser.add_argument("--jobs", type=_positive, default=cores(), metavar="N", help="at a time")
    return parser


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, got {text!r}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
