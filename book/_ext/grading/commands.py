"""The course's commands: hand out, collect, grade, export, and try assignments out."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import psutil
from notebooks.canonical import NotebookError

from grading import exports, results
from grading.assignment import COURSE, Assignment, load, names, released
from grading.collect import collect
from grading.finding import Found, find, students
from grading.grades import Course, Timing
from grading.marks import Graded, grade, undecided, ungraded
from grading.outputs import NOT_YET, result_file, write_outputs
from grading.roster import Roster, moment, read_roster
from grading.sandbox import Limits, chosen
from grading.tables import key, replace_file, shown
from grading.validation import validate
from grading.written import read_marks

SOURCE = "NTKBOOK_ASSIGNMENTS"  # the variable that names a private folder of assignments
INTERRUPTED = 130


def source_of(options: argparse.Namespace, root: Path) -> Path:
    """The folder that holds the assignments: the book's, or a private one."""
    private = options.source or os.environ.get(SOURCE)
    folder = Path(private) if private else root / COURSE / "source"
    if not folder.is_dir():
        raise ValueError(f"--source must be a folder of assignments, got {folder}")
    return folder


def folder_of(options: argparse.Namespace, root: Path, name: str) -> Path:
    folder = source_of(options, root) / name
    if not folder.is_dir():
        raise NotebookError(f"NAME must be one of {', '.join(_all(options, root))}; got {name!r}")
    return folder


def _all(options: argparse.Namespace, root: Path) -> list[str]:
    """The assignments in their order: that of course.yml, or of their names."""
    folder = source_of(options, root)
    if folder == root / COURSE / "source":
        return names(root)
    return sorted(path.parent.name for path in folder.glob("*/answers.yml"))


# Handing out and taking in


def release(options: argparse.Namespace, root: Path) -> int:
    folder = source_of(options, root)
    public = folder == root / COURSE / "source"
    target = options.to or (root / COURSE if public else folder) / "release"
    for name in options.names or _all(options, root):
        assignment = load(folder_of(options, root, name), options.seed)
        path = target / f"{name}.ipynb"
        replace_file(path, released(assignment))
        print(f"{path}: seed {assignment.seed}, {assignment.points} points")
    return 0


def collect_all(options: argparse.Namespace, root: Path) -> int:
    done = collect(options.export, options.to)
    for student, new in sorted(done.new.items()):
        print(f"{student}: {new} new {'file' if new == 1 else 'files'}" if new else f"{student}: –")
    print(*map(shown, done.notes), sep="\n")
    print(f"{options.to}: {len(done.new)} students in this export")
    return 0


# Grading


@dataclass(frozen=True)
class HandIn:
    """A student's folder, the notebook in it, the result so far and the key it should have."""

    student: str
    folder: Path
    found: Found
    key: str
    result: results.Result | None

    @property
    def fresh(self) -> bool:
        return self.result is not None and self.result.key == self.key


def grade_all(options: argparse.Namespace, root: Path) -> int:
    assignment = load(folder_of(options, root, options.name), options.seed)
    folders, roster = students(options.submissions), read_roster(options.submissions)
    target = (options.to or Path("graded", options.name)).resolve()
    if target.is_relative_to(options.submissions.resolve()):
        raise ValueError(f"--to must lie outside the submissions, got {target}")
    only = _only(options.only, folders)
    deadline = moment(options.deadline or "")
    if not 0 <= options.penalty <= 100:
        raise ValueError(f"--penalty must be from 0 to 100 percent, got {options.penalty}")
    read_marks(target / "written.csv", assignment)  # what can't be read is said before all the work
    limits = Limits(options.cell_time, options.time, int(options.memory * 2**30))
    limits = replace(limits, sandbox=chosen(options.sandbox))
    secret = [root / COURSE, source_of(options, root), options.submissions, target]
    handed = {
        student: _hand_in(student, folder, assignment, limits, root, target)
        for student, folder in folders.items()
    }
    known = {one.student: one.result.graded for one in handed.values() if one.result}
    tasks = {
        student: _task(one, assignment, limits, secret)
        for student, one in handed.items()
        if student in only and (options.again or not one.fresh)
    }
    print(f"{len(tasks)} of {len(handed)} to grade; the others are as they were", flush=True)
    begun = iter(range(1, len(tasks) + 1))

    def done(student: str, future: Future[Graded]) -> None:
        error = future.exception()  # one notebook that breaks the grader may not stop the others
        one = ungraded(student, assignment, error) if error else future.result()
        if not error:
            result = results.Result(handed[student].key, one)
            results.save(result_file(target, student), result)
        known[student] = results.without_pictures(one)
        points = sum(mark.points or 0 for mark in one.marks if not mark.written)
        said = f"{student}: {points} points by tests"
        notes = dict.fromkeys([*one.review, *one.notes])
        print(shown(" ".join([f"{next(begun)}/{len(tasks)} {said}", *notes])), flush=True)

    whole = results.carry_out(tasks, options.jobs, done)
    graded = [_shown(one, known, tasks, assignment) for one in handed.values()]
    timing = {one.student: _timing(one, roster, deadline) for one in handed.values()}
    course = Course(assignment, timing=timing, penalty=options.penalty)
    answers = _known(options, root, assignment)
    said = write_outputs(target, graded, course, answers, options.show_output, options.anonymous)
    print(said, f"{target / 'grades.csv'}: {len(graded)} students", sep="\n", flush=True)
    return 0 if whole else _stop()


def _only(text: str | None, folders: Mapping[str, Path]) -> set[str]:
    if text is None:
        return set(folders)
    names_ = [text] if key(text) in folders else text.split(",")  # a name may have a comma
    only = {key(name) for name in names_ if name.strip()}
    unknown = sorted(only - set(folders))
    if unknown:
        raise ValueError(f"--only must name students of SUBMISSIONS, got {', '.join(unknown)!r}")
    return only


def _hand_in(
    student: str, folder: Path, assignment: Assignment, limits: Limits, root: Path, target: Path
) -> HandIn:
    try:
        found = find(folder, assignment)
    except (ValueError, OSError) as error:
        found = Found(doubt=f"The folder can't be read: {error}.")
    whole = results.key_of(found.path, assignment, limits, root)
    whole += f" {found.doubt} {' '.join(found.notes)}"
    return HandIn(
        student,
        folder,
        found,
        whole,
        results.load(result_file(target, student), student, assignment),
    )


def _task(
    one: HandIn, assignment: Assignment, limits: Limits, secret: list[Path]
) -> Callable[[], Graded]:
    def task() -> Graded:
        if one.found.doubt:
            return undecided(one.student, assignment, one.found.doubt)
        graded = grade(one.student, one.found.path, assignment, limits, secret, one.folder)
        return replace(graded, notes=(*one.found.notes, *graded.notes))

    return task


def _shown(
    one: HandIn, known: Mapping[str, Graded], tasks: Mapping[str, object], assignment: Assignment
) -> Graded:
    """The result of this run or of an earlier one, or that there is none yet."""
    graded = known.get(one.student)
    if graded is None:
        return undecided(one.student, assignment, NOT_YET)
    if one.student in tasks or one.fresh:
        return graded
    old = "An earlier result: the notebook, the source or the grader has changed since."
    return replace(graded, review=(*graded.review, old))


def _timing(one: HandIn, roster: Roster, deadline: datetime | None) -> Timing:
    called = roster.of(one.student, "late") != ""
    until = moment(roster.of(one.student, "deadline")) or deadline
    if one.found.path is None:
        return Timing()
    at = datetime.fromtimestamp(one.found.path.lstat().st_mtime).astimezone()
    late = max(at - until, timedelta()) if until else timedelta()
    return Timing(at, late, called and not roster.of(one.student, "deadline"))


def _known(options: argparse.Namespace, root: Path, assignment: Assignment) -> list[Assignment]:
    """The assignment itself and, when it is a private one, the book's of the same name."""
    public = root / COURSE / "source" / assignment.name
    private = source_of(options, root) != root / COURSE / "source"
    return [assignment, *([load(public)] if private and public.is_dir() else [])]


def _stop() -> int:
    """After Ctrl-C; a second one has left notebooks running, which end here."""
    running = psutil.Process().children(recursive=True)
    if running:
        for process in running:
            process.kill()
        sys.stdout.flush()
        os._exit(INTERRUPTED)
    return INTERRUPTED


def export_all(options: argparse.Namespace, root: Path) -> int:
    target = options.to or Path("graded", options.name)
    roster = read_roster(options.submissions)
    text, missing = exports.export(target / "grades.csv", roster, options.system)
    path = target / f"{options.system}.csv" if options.system != "csv" else target / "totals.csv"
    replace_file(path, text)
    print(*missing, path, sep="\n")
    return 0


# Checking assignments


def validate_all(options: argparse.Namespace, root: Path) -> int:
    names_ = options.names or _all(options, root)
    with ThreadPoolExecutor(max(options.jobs, 1)) as pool:
        tasks = {
            name: pool.submit(validate, folder_of(options, root, name), options.seed)
            for name in names_
        }
        wrong: dict[str, Sequence[str]] = {name: task.result() for name, task in tasks.items()}
    for name, lines in wrong.items():
        print(f"{name}: {'WRONG' if lines else 'ok'}", *lines, sep="\n  ")
    return 1 if any(wrong.values()) else 0
