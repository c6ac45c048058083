"""Results that are kept: a notebook is graded once, and again when something has changed."""

from __future__ import annotations

import functools
import hashlib
import json
import platform
import signal
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from grading.assignment import Assignment
from grading.marks import Graded, Mark, capped
from grading.sandbox import Limits
from grading.tables import replace_file

PACKAGES = ("jax", "jaxlib", "numpy", "scipy", "sympy", "ipython")
LARGEST_RESULT, MOST_BRACKETS = 64 * 2**20, 2_000_000
LONGEST_NAME = 200  # bytes of a file's name; most systems allow 255


@dataclass(frozen=True)
class Result:
    """What was found when a notebook was graded, and the key of all that it depends on."""

    key: str
    graded: Graded


def file_name(student: str) -> str:
    """A file's name for a student: theirs, or the start of it when it is too long for one."""
    raw = student.encode()
    if len(raw) <= LONGEST_NAME:
        return student
    return raw[: LONGEST_NAME - 16].decode("utf-8", "ignore") + hashlib.sha256(raw).hexdigest()[:12]


def key_of(notebook: Path | None, assignment: Assignment, limits: Limits, root: Path) -> str:
    """Another one when notebook, source, seed, limits, versions, grader or package differ."""
    whole = hashlib.sha256()
    whole.update(_programs(root).encode())
    whole.update(repr((assignment.name, assignment.seed, assignment.cells, limits)).encode())
    whole.update(json.dumps(assignment.about, sort_keys=True, default=str).encode())
    if notebook is not None and notebook.is_file() and not notebook.is_symlink():
        with notebook.open("rb") as file:
            whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()


@functools.cache
def _programs(root: Path) -> str:
    versions = [platform.python_version()]
    for name in PACKAGES:
        try:
            versions.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    files = sorted([*Path(__file__).parent.glob("*.py"), *(root / "ntkbook").rglob("*.py")])
    return "\n".join([*versions, *(hashlib.sha256(p.read_bytes()).hexdigest() for p in files)])


def save(path: Path, result: Result) -> None:
    text = json.dumps({"key": result.key} | asdict(result.graded), ensure_ascii=True)
    replace_file(path, text)


def load(path: Path, student: str, assignment: Assignment) -> Result | None:
    """A student's result without its pictures; None when there is none for these questions.

    The file may come from a container in which something had broken out: a result that grading
    could not have given is none.
    """
    raw = _raw(path)
    given = raw.get("marks")
    try:
        marks = tuple(Mark(**mark) for mark in given) if isinstance(given, list) else ()
        texts = [raw["key"], *raw["notes"], *raw["review"]]
    except (KeyError, TypeError):
        return None
    tops = {question.answer.name: question.points for question in assignment.questions}
    tops |= {cell.name: cell.points for cell in assignment.written}
    sound = {mark.name: mark.out_of for mark in marks} == tops and len(marks) == len(tops)
    sound = sound and raw.get("student") == student and all(isinstance(t, str) for t in texts)
    if not (sound and all(_sound(mark) for mark in marks)):
        return None
    notes, review = capped(raw["notes"]), capped(raw["review"])
    return Result(raw["key"], Graded(student, marks, notes, review))


def _sound(mark: Mark) -> bool:
    """Is every field of its kind, and are the points some of those that there are?"""
    texts = (mark.name, mark.title, mark.said, mark.work, mark.output, mark.answer)
    points = (type(mark.points) is int and 0 <= mark.points <= mark.out_of) or mark.points is None
    return points and type(mark.written) is bool and all(isinstance(text, str) for text in texts)


def pictures(path: Path, question: str) -> Mapping[str, tuple[str, str]]:
    """What a student has pasted into a written answer: name to kind and base64."""
    pasted = _raw(path).get("pictures")
    found = pasted.get(question) if isinstance(pasted, dict) else None
    return {
        name: (one[0], one[1])
        for name, one in (found if isinstance(found, dict) else {}).items()
        if isinstance(one, list) and len(one) == 2 and all(isinstance(text, str) for text in one)
    }


def _raw(path: Path) -> dict[str, Any]:
    try:
        text = path.read_bytes() if path.stat().st_size <= LARGEST_RESULT else b""
        if text.count(b"[") + text.count(b"{") > MOST_BRACKETS:
            return {}
        raw = json.loads(text)
    except (OSError, ValueError, RecursionError):
        return {}
    return raw if isinstance(raw, dict) else {}


def without_pictures(graded: Graded) -> Graded:
    """What stays in memory while the others are graded."""
    return replace(graded, pictures={})


def carry_out(
    tasks: Mapping[str, Callable[[], Graded]],
    jobs: int,
    done: Callable[[str, Future[Graded]], None],
) -> bool:
    """Do the tasks, some at a time, and say when each is done.

    Ctrl-C cancels what has not begun and waits for the rest; another one doesn't wait.  Returns
    whether everything was done.
    """
    pool, presses = ThreadPoolExecutor(max(jobs, 1)), 0

    def pressed(*_: object) -> None:
        nonlocal presses
        presses += 1

    # A handler of our own: Python's would raise anywhere, also while a result is being written.
    before = signal.signal(signal.SIGINT, pressed)
    try:
        waiting = {pool.submit(task): name for name, task in tasks.items()}
        stopping = False
        while waiting and presses < 2:
            for future in wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED).done:
                done(waiting.pop(future), future)
            if presses and not stopping:
                stopping = True
                waiting = {f: name for f, name in waiting.items() if not f.cancel()}
                names = ", ".join(waiting.values())
                print(f"stopping once these are done: {names} (Ctrl-C again: at once)", flush=True)
    finally:
        signal.signal(signal.SIGINT, before)
        pool.shutdown(wait=False, cancel_futures=True)
    return not presses
