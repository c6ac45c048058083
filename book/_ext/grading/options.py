"""The options of the course's commands, and what each command calls."""

from __future__ import annotations

import argparse
from pathlib import Path

from grading.commands import SOURCE, collect_all, export_all, grade_all, release, validate_all
from grading.exports import SYSTEMS
from grading.sandbox import SANDBOXES, Limits


def parser(said: str) -> argparse.ArgumentParser:
    """The parser of `course.py`; `said` is what it says of itself."""
    whole = argparse.ArgumentParser(prog="course.py", description=said)
    commands = whole.add_subparsers(required=True)
    handing = commands.add_parser("release", help="write the students' notebooks")
    handing.add_argument("names", nargs="*", metavar="NAME", help="default: all of them")
    handing.add_argument("--to", type=Path, help="folder (default: book/assignments/release)")
    handing.set_defaults(command=release)
    taking = commands.add_parser("collect", help="put an export into one folder per student")
    taking.add_argument("export", type=Path, metavar="EXPORT", help="a folder or a zip file")
    taking.add_argument("--to", type=Path, required=True, metavar="SUBMISSIONS")
    taking.set_defaults(command=collect_all)
    marking = commands.add_parser("grade", help="grade a folder of submissions")
    marking.add_argument("name", metavar="NAME")
    marking.add_argument("submissions", type=Path, metavar="SUBMISSIONS")
    marking.add_argument("--to", type=Path, help="folder (default: graded/NAME)")
    marking.add_argument(
        "--only", metavar="ADA,BEN", help="run these students' notebooks only ('': none)"
    )
    marking.add_argument("--again", action="store_true", help="also what has not changed")
    marking.add_argument("--deadline", metavar="TIME", help="such as '2027-03-01 23:59'")
    marking.add_argument(
        "--penalty", type=float, default=0, metavar="P", help="percent for each day begun after it"
    )
    marking.add_argument("--anonymous", action="store_true", help="pages to read without names")
    marking.add_argument("--show-output", action="store_true", help="what cells printed, as well")
    marking.add_argument("--cell-time", type=float, default=Limits.cell, metavar="S")
    marking.add_argument("--time", type=float, default=Limits.submission, metavar="S")
    marking.add_argument("--memory", type=float, default=Limits.memory / 2**30, metavar="GIB")
    marking.add_argument(
        "--sandbox",
        choices=SANDBOXES,
        default="auto",
        help="what keeps a submission in (default: the best that runs)",
    )
    marking.set_defaults(command=grade_all)
    giving = commands.add_parser("export", help="write totals for a learning-management system")
    giving.add_argument("name", metavar="NAME")
    giving.add_argument("submissions", type=Path, metavar="SUBMISSIONS", help="with students.csv")
    giving.add_argument("--for", dest="system", choices=SYSTEMS, required=True)
    giving.add_argument("--to", type=Path, help="folder of grades.csv (default: graded/NAME)")
    giving.set_defaults(command=export_all)
    validation = commands.add_parser("validate", help="try reference, wrong and other answers")
    validation.add_argument("names", nargs="*", metavar="NAME", help="default: all of them")
    validation.set_defaults(command=validate_all)
    for command in (handing, marking, validation):
        command.add_argument("--seed", type=int, help="another variant (default: the source's)")
        command.add_argument(
            "--source", type=Path, metavar="DIR", help=f"private assignments (or ${SOURCE})"
        )
    for command in (marking, validation):
        command.add_argument("--jobs", type=int, default=2, metavar="N", help="processes at a time")
    return whole
