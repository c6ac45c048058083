"""The course's three commands: hand out, grade, and check assignments.

    python book/_ext/course.py release [NAME ...] [--seed 7] [--to FOLDER]
    python book/_ext/course.py grade NAME SUBMISSIONS [--seed 7] [--to FOLDER]
    python book/_ext/course.py validate [NAME ...] [--seed 7]

`release` writes the students' notebooks, without solutions or hidden tests.  `grade` reads
SUBMISSIONS/<student>/NAME.ipynb and writes grades.csv, written.csv for the marks of a reader (which
it never changes once filled in), and a page of feedback per student.  `validate` runs an
assignment with its reference answers, its empty stubs, and its wrong and alternative answers.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from grading.commands import grade_all, release, validate_all
from grading.sandbox import Limits
from notebooks.canonical import NotebookError

ROOT = Path(__file__).resolve().parents[2]


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    options = _parser().parse_args(arguments)
    if sys.platform == "win32" and options.command is not release:
        print("grading needs Linux or macOS; on Windows, use its Linux subsystem", file=sys.stderr)
        return 1
    try:
        return options.command(options, root)
    except (NotebookError, ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="course.py", description=(__doc__ or "").split("\n")[0])
    commands = parser.add_subparsers(required=True)
    handing = commands.add_parser("release", help="write the students' notebooks")
    handing.add_argument("names", nargs="*", metavar="NAME", help="default: all of course.yml")
    handing.add_argument("--to", type=Path, help="folder (default: book/assignments/release)")
    handing.set_defaults(command=release)
    marking = commands.add_parser("grade", help="grade a folder of submissions")
    marking.add_argument("name", metavar="NAME")
    marking.add_argument("submissions", type=Path, metavar="SUBMISSIONS")
    marking.add_argument("--to", type=Path, help="folder (default: graded/NAME)")
    marking.add_argument("--cell-time", type=float, default=Limits.cell, metavar="S")
    marking.add_argument("--time", type=float, default=Limits.submission, metavar="S")
    marking.add_argument("--memory", type=float, default=Limits.memory / 2**30, metavar="GIB")
    marking.set_defaults(command=grade_all)
    validation = commands.add_parser("validate", help="try reference, wrong and other answers")
    validation.add_argument("names", nargs="*", metavar="NAME", help="default: all of course.yml")
    validation.set_defaults(command=validate_all)
    for command in (handing, marking, validation):
        command.add_argument("--seed", type=int, help="another variant (default: the source's)")
    for command in (marking, validation):
        command.add_argument("--jobs", type=int, default=2, metavar="N", help="processes at a time")
    return parser


if __name__ == "__main__":
    sys.exit(main())
