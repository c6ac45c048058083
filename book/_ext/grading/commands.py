"""The course's commands: hand out, grade a folder of submissions, try assignments out."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from notebooks.canonical import NotebookError

from grading import feedback
from grading.assignment import COURSE, Assignment, load, names, released
from grading.marks import Graded, grade, ungraded
from grading.sandbox import Limits
from grading.validation import validate


def folder_of(root: Path, name: str) -> Path:
    folder = root / COURSE / "source" / name
    if not folder.is_dir():
        known = ", ".join(names(root))
        raise NotebookError(f"NAME must be one of {known}; got {name!r}")
    return folder


# Handing out


def release(options: argparse.Namespace, root: Path) -> int:
    target = options.to or root / COURSE / "release"
    for name in options.names or names(root):
        assignment = load(folder_of(root, name), options.seed)
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


def grade_all(options: argparse.Namespace, root: Path) -> int:
    assignment = load(folder_of(root, options.name), options.seed)
    handed = submissions(options.submissions, options.name)
    target = (options.to or Path("graded", options.name)).resolve()
    if target.is_relative_to(options.submissions.resolve()):
        raise ValueError(f"--to must lie outside the submissions, got {target}")
    known = feedback.read_marks(target / "written.csv", assignment)
    limits = Limits(options.cell_time, options.time, int(options.memory * 2**30))
    secret = [root / COURSE, options.submissions, target]
    graded = []
    for done, one in enumerate(_each(handed, assignment, limits, secret, options.jobs), 1):
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


def _each(
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


# Checking assignments


def validate_all(options: argparse.Namespace, root: Path) -> int:
    chosen = options.names or names(root)
    with ThreadPoolExecutor(max(options.jobs, 1)) as pool:
        tasks = {
            name: pool.submit(validate, folder_of(root, name), options.seed) for name in chosen
        }
        wrong = {name: task.result() for name, task in tasks.items()}
    for name, lines in wrong.items():
        print(f"{name}: {'WRONG' if lines else 'ok'}", *lines, sep="\n  ")
    return 1 if any(wrong.values()) else 0
