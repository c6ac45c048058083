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
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import feedback
from assignments import (
    ANSWER,
    COURSE,
    SCRATCH,
    Assignment,
    Question,
    answer_code,
    faults,
    load,
    names,
    released,
    stripped,
)
from canonical import NotebookError
from grading import Graded, Limits, Outcome, Sandbox, Stopped, grade, ungraded

ROOT = Path(__file__).resolve().parents[2]


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    options = _parser().parse_args(arguments)
    if sys.platform == "win32" and options.command is not _release:
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
    release = commands.add_parser("release", help="write the students' notebooks")
    release.add_argument("names", nargs="*", metavar="NAME", help="default: all of course.yml")
    release.add_argument("--to", type=Path, help="folder (default: book/assignments/release)")
    release.set_defaults(command=_release)
    marking = commands.add_parser("grade", help="grade a folder of submissions")
    marking.add_argument("name", metavar="NAME")
    marking.add_argument("submissions", type=Path, metavar="SUBMISSIONS")
    marking.add_argument("--to", type=Path, help="folder (default: graded/NAME)")
    marking.add_argument("--cell-time", type=float, default=60, metavar="S")
    marking.add_argument("--time", type=float, default=600, metavar="S", help="for a submission")
    marking.add_argument("--memory", type=float, default=4, metavar="GIB")
    marking.set_defaults(command=_grade)
    validation = commands.add_parser("validate", help="try reference, wrong and other answers")
    validation.add_argument("names", nargs="*", metavar="NAME", help="default: all of course.yml")
    validation.set_defaults(command=_validate)
    for command in (release, marking, validation):
        command.add_argument("--seed", type=int, help="another variant (default: the source's)")
    for command in (marking, validation):
        command.add_argument("--jobs", type=int, default=2, metavar="N", help="processes at a time")
    return parser


def _folder(root: Path, name: str) -> Path:
    folder = root / COURSE / "source" / name
    if not folder.is_dir():
        known = ", ".join(names(root))
        raise NotebookError(f"NAME must be one of {known}; got {name!r}")
    return folder


# Handing out


def _release(options: argparse.Namespace, root: Path) -> int:
    target = options.to or root / COURSE / "release"
    for name in options.names or names(root):
        assignment = load(_folder(root, name), options.seed)
        path = target / f"{name}.ipynb"
        feedback.replace_file(path, released(assignment))
        print(f"{path}: seed {assignment.seed}, {assignment.points} points")
    return 0


# Grading


def submissions(folder: Path, name: str) -> dict[str, Path | None]:
    """Student to notebook: FOLDER/<student>/NAME.ipynb, or below it in a folder NAME.

    A notebook under another name counts when the student handed in only one; None stands for
    nothing.  Raises ValueError when the folder holds no student.
    """
    if not folder.is_dir():
        raise ValueError(f"SUBMISSIONS must be a folder with one folder per student, got {folder}")
    students = sorted(
        p for p in folder.iterdir() if p.is_dir() and not p.name.startswith((".", "_"))
    )
    if not students:
        raise ValueError(f"{folder} holds no folder; expected one per student")
    return {student.name: _notebook(student, name) for student in students}


def _notebook(student: Path, name: str) -> Path | None:
    for path in (student / f"{name}.ipynb", student / name / f"{name}.ipynb"):
        if path.exists() or path.is_symlink():
            return path
    others = [p for p in student.rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts]
    return others[0] if len(others) == 1 else None


def _grade(options: argparse.Namespace, root: Path) -> int:
    assignment = load(_folder(root, options.name), options.seed)
    handed = submissions(options.submissions, options.name)
    target = (options.to or Path("graded", options.name)).resolve()
    if target.is_relative_to(options.submissions.resolve()):
        raise ValueError(f"--to must lie outside the submissions, got {target}")
    known = feedback.read_marks(target / "written.csv", assignment)
    limits = Limits(options.cell_time, options.time, int(options.memory * 2**30))
    secret = [root / COURSE, options.submissions, target]
    graded = []
    for done, one in enumerate(_grade_all(handed, assignment, limits, secret, options.jobs), 1):
        points = sum(mark.points or 0 for mark in one.marks if not mark.written)
        print(
            f"{done}/{len(handed)} {one.student}: {points} points by tests", *one.notes, flush=True
        )
        feedback.replace_file(
            target / "feedback" / f"{one.student}.html", feedback.page(one, assignment, known)
        )
        graded.append(one)
    graded.sort(key=lambda one: one.student)
    feedback.replace_file(target / "written.csv", feedback.written_table(graded, assignment, known))
    feedback.replace_file(target / "grades.csv", feedback.grades_table(graded, assignment, known))
    print(f"{target / 'grades.csv'}: {len(graded)} students")
    return 0


def _grade_all(
    handed: dict[str, Path | None],
    assignment: Assignment,
    limits: Limits,
    secret: list[Path],
    jobs: int,
) -> Iterator[Graded]:
    with ThreadPoolExecutor(max(jobs, 1)) as pool:
        tasks = {
            pool.submit(grade, student, path, assignment, limits, secret): student
            for student, path in handed.items()
        }
        for task in as_completed(tasks):
            error = task.exception()  # one notebook that breaks the grader may not stop the others
            yield ungraded(tasks[task], assignment, error) if error else task.result()


# Checking an assignment


def _validate(options: argparse.Namespace, root: Path) -> int:
    chosen = options.names or names(root)
    with ThreadPoolExecutor(max(options.jobs, 1)) as pool:
        tasks = {name: pool.submit(validate, _folder(root, name), options.seed) for name in chosen}
        wrong = {name: task.result() for name, task in tasks.items()}
    for name, lines in wrong.items():
        print(f"{name}: {'WRONG' if lines else 'ok'}", *lines, sep="\n  ")
    return 1 if any(wrong.values()) else 0


def validate(folder: Path, seed: int | None = None, variants: bool = True) -> list[str]:
    """What is wrong with an assignment, in its form or when it is run; nothing when all is well.

    Each question must give full marks to the reference and to every alternative right answer, and
    none, in any of its tests, to the empty stub and to every wrong answer; the visible parts of
    its tests must run by themselves.  Without `variants` only reference and stub are tried.
    """
    assignment = load(folder, seed)
    wrong = faults(folder, assignment)
    if wrong:
        return wrong
    questions = {question.answer.name: question for question in assignment.questions}
    with Sandbox(Limits(), secret=[folder]) as box:
        for cell in assignment.cells:
            try:
                if cell.role == ANSWER:
                    wrong += _try_answers(box, assignment, questions[cell.name], variants)
                elif cell.code and cell.role in ("given", SCRATCH):
                    outcome = box.run("given", cell.source, box.limits.cell)
                    if outcome.error:
                        wrong.append(f"{cell.name}: {outcome.error}: {outcome.message}")
            except Stopped as reason:
                return [*wrong, f"{cell.name}: {reason}"]
    return wrong


def _try_answers(
    box: Sandbox, assignment: Assignment, question: Question, variants: bool
) -> list[str]:
    cell, answers = question.answer, assignment.about["questions"][question.answer.name]
    tried = [("the empty stub", stripped(cell), False)]
    if variants:
        tried += [(f"wrong: {a['name']}", answer_code(cell, a), False) for a in answers["wrong"]]
        tried += [(f"right: {a['name']}", answer_code(cell, a), True) for a in answers["right"]]
    tried.append(("the reference", cell.source, True))  # last, since later cells may use it
    wrong = []
    for name, source, good in tried:
        own = box.run("own", source, box.limits.cell)
        results = [box.run("test", test.source, box.limits.cell) for test in question.tests]
        if own.error and own.error != "NotImplementedError":
            wrong.append(f"{cell.name}, {name}: the answer ends with {own.error}: {own.message}")
        wrong += [
            f"{cell.name}, {name}: {_said(outcome)}"
            for outcome in results
            if (outcome.error is None) != good
        ]
    visible = [box.run("test", stripped(test), box.limits.cell) for test in question.tests]
    wrong += [
        f"{cell.name}: what students see of the test fails on the reference: {_said(outcome)}"
        for outcome in visible
        if outcome.error
    ]
    return wrong


def _said(outcome: Outcome) -> str:
    return f"refused: {outcome.message or outcome.error}" if outcome.error else "full marks"


if __name__ == "__main__":
    sys.exit(main())
