"""The course's commands: hand out, collect, grade, export, and check assignments.

    python book/_ext/course.py release [NAME ...] [--seed 7] [--to FOLDER]
    python book/_ext/course.py collect EXPORT --to SUBMISSIONS
    python book/_ext/course.py grade NAME SUBMISSIONS [--seed 7] [--to FOLDER] [--only ADA,BEN]
    python book/_ext/course.py export NAME SUBMISSIONS --for moodle|canvas|csv [--to FOLDER]
    python book/_ext/course.py validate [NAME ...] [--seed 7]

`release` writes the students' notebooks, without solutions or hidden tests.  `collect` brings what
a learning-management system exports into one folder per student.  `grade` runs each notebook once,
and again when it has changed; it writes grades.csv, written.csv for the marks of a reader (which
it never changes once filled in), pages to read answers on, and a page of feedback per student.
`export` writes the totals for a learning-management system.  `validate` runs an assignment with its
reference answers, its empty stubs, and its wrong and alternative answers.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from grading.commands import grade_all, validate_all
from grading.options import parser
from notebooks.canonical import NotebookError

ROOT = Path(__file__).resolve().parents[2]


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    options = parser((__doc__ or "").split("\n")[0]).parse_args(arguments)
    if sys.platform == "win32" and options.command in (grade_all, validate_all):
        print("grading needs Linux or macOS; on Windows, use its Linux subsystem", file=sys.stderr)
        return 1
    try:
        return options.command(options, root)
    except (NotebookError, ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
