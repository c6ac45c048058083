"""Grades one submission: puts its answers among the tests, runs them apart, and gives the marks.

Whatever a submission does, `grade` returns: an endless loop, a crash or too much memory costs the
cell that did it and no other.  The file is read, never executed as it is: given cells and tests
come from the source, so that a student's changes to them have no effect.
"""

from __future__ import annotations

import json
import os
import re
import secrets as tokens
import selectors
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil
from assignments import ANSWER, GIVEN, SCRATCH, TEST, WRITTEN, Assignment, Cell, stripped

WORKER = Path(__file__).with_name("grading_worker.py")
LARGEST_FILE = 400 * 2**20
OWN = "own"  # a cell that the student has added
STOPPED, LATE = "Stopped", "TimeLimit"  # beside the names of Python's errors


@dataclass(frozen=True)
class Limits:
    """Seconds for a cell and for a submission, bytes of memory, characters of output of a cell."""

    cell: float = 60
    submission: float = 600
    memory: int = 4 * 2**30
    output: int = 20_000


@dataclass(frozen=True)
class Outcome:
    """How a cell went.  `error` is None when it ran through, else what kind; `message` says why."""

    error: str | None
    message: str = ""
    output: str = ""


@dataclass(frozen=True)
class Mark:
    """The points for a question.  `points` is None while a written answer waits for a reader."""

    name: str
    title: str
    points: int | None
    out_of: int
    said: str
    work: str = ""
    output: str = ""
    written: bool = False


@dataclass(frozen=True)
class Graded:
    """One student's marks, and notes on the submission as a whole."""

    student: str
    marks: tuple[Mark, ...]
    notes: tuple[str, ...] = ()


@dataclass
class Handed:
    """What was found in a notebook: its answers by name, and its own cells after each known one."""

    answers: dict[str, str] = field(default_factory=dict)
    own: dict[str | None, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


class Stopped(Exception):
    """The process is gone, with the reason."""


class Sandbox:
    """A process of its own that runs cells, in a folder of its own, under limits."""

    def __init__(self, limits: Limits, secret: Iterable[Path] = ()):
        self.limits = limits
        self.folder = Path(tempfile.mkdtemp(prefix="submission-"))
        _copy_font_cache(self.folder)
        self.process = subprocess.Popen(
            [sys.executable, str(WORKER)],
            cwd=self.folder,
            env=_environment(self.folder),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        settings = {"folder": str(self.folder), "secret": [str(p.resolve()) for p in secret]}
        self._send(settings | {"memory": limits.memory, "output": limits.output})
        self._received = b""

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self._kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, role: str, source: str, seconds: float) -> Outcome:
        """Run a cell.  Raises Stopped when the process did not survive it."""
        token = tokens.token_hex(16)
        self._send({"role": role, "source": source, "token": token})
        reply = self._reply(token, seconds)
        output = reply["output"] + ("\n… cut here" if reply["cut"] else "")
        return Outcome(reply["error"], reply["message"], output)

    def _send(self, message: dict[str, Any]) -> None:
        assert self.process.stdin
        with suppress(BrokenPipeError):  # a dead process is noticed when its reply is missing
            self.process.stdin.write(json.dumps(message).encode() + b"\n")
            self.process.stdin.flush()

    def _reply(self, token: str, seconds: float) -> dict[str, Any]:
        assert self.process.stdout
        deadline = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while True:
                if selector.select(timeout=0.1):
                    part = os.read(self.process.stdout.fileno(), 2**16)
                    self._received += part
                    if not part:
                        raise Stopped(f"Python died ({self._exit()})")
                    *lines, self._received = self._received.split(b"\n")
                    for line in lines:
                        with suppress(ValueError, TypeError, KeyError):
                            reply = json.loads(line)
                            if reply["token"] == token:
                                return reply
                if time.monotonic() > deadline:
                    self._kill()
                    raise Stopped(f"not done after {seconds:.0f} s")
                if self._memory() > self.limits.memory:
                    self._kill()
                    raise Stopped(f"used more than {self.limits.memory / 2**30:.2g} GiB of memory")

    def _exit(self) -> str:
        try:
            code = self.process.wait(5)
        except subprocess.TimeoutExpired:
            return "it closed the connection to the grader"
        return f"signal {-code}" if code < 0 else f"exit code {code}"

    def _memory(self) -> int:
        try:
            return psutil.Process(self.process.pid).memory_info().rss
        except psutil.Error:
            return 0

    def _kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, 9)
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            with suppress(OSError):
                stream and stream.close()


def _environment(folder: Path) -> dict[str, str]:
    """What the process knows of the machine: nothing of the person who grades."""
    kept = ("PATH", "LANG", "LC_ALL", "SYSTEMROOT", "JAX_PLATFORMS", "LD_LIBRARY_PATH")
    own = {"HOME": folder, "TMPDIR": folder, "IPYTHONDIR": folder, "MPLCONFIGDIR": folder}
    fixed = {"MPLBACKEND": "agg", "NTKBOOK_SIZE": "cpu", "PYTHONDONTWRITEBYTECODE": "1"}
    fixed |= {"PYTHONHASHSEED": "0", "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONUTF8": "1"}
    fixed |= {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "OPENBLAS_NUM_THREADS": "1"}
    inherited = {key: os.environ[key] for key in kept if key in os.environ}
    return inherited | {key: str(value) for key, value in own.items()} | fixed


def _copy_font_cache(folder: Path) -> None:
    """Matplotlib would look through the machine's fonts in every process."""
    import matplotlib

    for file in Path(matplotlib.get_cachedir()).glob("fontlist-*.json"):
        shutil.copy(file, folder)


# What was handed in


def hand_in(path: Path, assignment: Assignment) -> Handed:
    """Read a notebook that may be anything.  Raises ValueError, with words for the student."""
    known = {cell.name: cell for cell in assignment.cells}
    notebook, last = _notebook(path), None
    handed = Handed(notes=_mix_up(notebook, assignment))
    for raw in notebook["cells"]:
        name, source = _name(raw, known), _source(raw)
        if name is None:
            if raw.get("cell_type") == "code" and source.strip():
                handed.own.setdefault(last, []).append(source)
            continue
        cell, last = known[name], name
        if cell.role in (ANSWER, WRITTEN, SCRATCH):
            if name in handed.answers:
                handed.notes.append(f"Two cells are called {name!r}; the first one counts.")
            else:
                handed.answers[name] = source
        elif source.rstrip() != stripped(cell).rstrip():
            handed.notes.append(f"The locked cell {name!r} was changed; the original was used.")
    present = {_name(raw, known) for raw in notebook["cells"]}
    for cell in assignment.cells:
        if cell.name not in present and cell.role in (TEST, GIVEN) and cell.code:
            handed.notes.append(f"The locked cell {cell.name!r} was deleted; it was put back.")
        if cell.name not in present and cell.role in (ANSWER, WRITTEN):
            handed.notes.append(f"The cell for the answer {cell.name!r} is missing.")
    return handed


def _notebook(path: Path) -> dict[str, Any]:
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("expected a notebook, got a link or something that is no file")
        if status.st_size > LARGEST_FILE:
            raise ValueError(f"the file is larger than {LARGEST_FILE >> 20} MiB")
        notebook = json.loads(path.read_bytes())
    except OSError as error:
        raise ValueError(f"the file can't be read: {error.strerror}") from None
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError):
        raise ValueError("the file is not a notebook: it isn't JSON") from None
    cells = notebook.get("cells") if isinstance(notebook, dict) else None
    if not isinstance(cells, list) or not all(isinstance(cell, dict) for cell in cells):
        raise ValueError("the file is not a notebook: it has no list of cells")
    return notebook


def _mix_up(notebook: dict[str, Any], assignment: Assignment) -> list[str]:
    """A note when the notebook says that it is another assignment or another variant."""
    metadata = notebook.get("metadata")
    about = metadata.get("ntkbook") if isinstance(metadata, dict) else None
    expected = {"assignment": assignment.name, "seed": assignment.seed}
    if not isinstance(about, dict) or about == expected:
        return []
    said, graded = (
        ", ".join(f"{key} {source.get(key)!r}" for key in expected) for source in (about, expected)
    )
    return [f"This notebook says {said}; it was graded as {graded}."]


def _source(raw: dict[str, Any]) -> str:
    source = raw.get("source", "")
    lines = source if isinstance(source, list) else [source]
    return "".join(line for line in lines if isinstance(line, str))


def _name(raw: dict[str, Any], known: dict[str, Cell]) -> str | None:
    """The cell of the source that this one is: some editors keep only one of these marks."""
    metadata = raw.get("metadata") if isinstance(raw.get("metadata"), dict) else {}
    assert isinstance(metadata, dict)
    marks = metadata.get("nbgrader")
    named = marks.get("grade_id") if isinstance(marks, dict) else None
    for name in (named, raw.get("id"), metadata.get("id")):
        if isinstance(name, str) and name in known:
            return name
    return None


def assembled(assignment: Assignment, handed: Handed) -> list[tuple[str, str, str]]:
    """(name, role, source) of each code cell in the source's order, with the student's own."""
    cells = [("", OWN, source) for source in handed.own.get(None, [])]
    for cell in assignment.cells:
        if cell.code:
            mine = cell.role in (ANSWER, SCRATCH)
            source = handed.answers.get(cell.name, "") if mine else cell.source
            cells.append((cell.name, OWN if cell.role == SCRATCH else cell.role, source))
        cells += [("", OWN, source) for source in handed.own.get(cell.name, [])]
    return cells


# Running and marking


def run_cells(
    cells: Sequence[tuple[str, str, str]], limits: Limits, secret: Iterable[Path] = ()
) -> list[Outcome]:
    """Run all cells in one process; after a cell that ends it, all others again in a new one."""
    secret, fatal = list(secret), dict[int, Outcome]()
    deadline = time.monotonic() + limits.submission
    while True:
        outcomes: list[Outcome] = []
        with Sandbox(limits, secret) as box:
            for place, (_, role, source) in enumerate(cells):
                left = deadline - time.monotonic()
                if place in fatal:
                    outcomes.append(fatal[place])
                elif left <= 0:
                    said = f"not run: the notebook took more than {limits.submission:.0f} s"
                    outcomes.append(Outcome(LATE, said))
                else:
                    try:
                        outcomes.append(box.run(role, source, min(limits.cell, max(left, 1))))
                    except Stopped as reason:
                        fatal[place] = Outcome(STOPPED, str(reason))
                        break
            else:
                return outcomes


def grade(
    student: str,
    path: Path | None,
    assignment: Assignment,
    limits: Limits | None = None,
    secret: Iterable[Path] = (),
) -> Graded:
    """The marks for one notebook; `secret` are the places that its code may not read."""
    if path is None:
        return Graded(student, _none(assignment, "Nothing was handed in."), ("No notebook.",))
    try:
        handed = hand_in(path, assignment)
    except ValueError as error:
        said = str(error)[0].upper() + str(error)[1:] + "."
        return Graded(student, _none(assignment, said), (said,))
    cells = assembled(assignment, handed)
    outcomes = run_cells(cells, limits or Limits(), secret)
    by_name = {name: outcome for (name, *_), outcome in zip(cells, outcomes, strict=True) if name}
    failed = [
        f"A cell of your own ended with {o.error}: {_short(o.message)}"
        for (name, *_), o in zip(cells, outcomes, strict=True)
        if not name and o.error
    ]
    return Graded(student, _marks(assignment, handed, by_name), (*handed.notes, *failed))


def ungraded(student: str, assignment: Assignment, error: BaseException) -> Graded:
    """No points either way for a notebook on which the grader itself failed."""
    said = f"The grader failed ({type(error).__name__}: {error}); grade this notebook by hand."
    marks = tuple(replace(mark, points=None) for mark in _none(assignment, said))
    return Graded(student, marks, (said,))


def _none(assignment: Assignment, said: str) -> tuple[Mark, ...]:
    marks = [Mark(q.answer.name, q.title, 0, q.points, said) for q in assignment.questions]
    marks += [
        Mark(cell.name, assignment.title_of(cell), 0, cell.points, said, written=True)
        for cell in assignment.written
    ]
    return _in_order(assignment, marks)


def _marks(
    assignment: Assignment, handed: Handed, outcomes: dict[str, Outcome]
) -> tuple[Mark, ...]:
    marks = []
    for question in assignment.questions:
        name, own = question.answer.name, outcomes[question.answer.name]
        results = [(test, outcomes[test.name]) for test in question.tests]
        points = sum(test.points for test, outcome in results if outcome.error is None)
        said = [_verdict(outcome, own) for _, outcome in results if outcome.error]
        if name not in handed.answers:
            said = ["The cell for this answer is missing."]
        text = " ".join(dict.fromkeys(said)) or "All tests pass."
        work = handed.answers.get(name, "")
        marks.append(Mark(name, question.title, points, question.points, text, work, own.output))
    for cell in assignment.written:
        text = handed.answers.get(cell.name, "").strip()
        empty = text in ("", stripped(cell).strip())
        said_ = "Not answered." if empty else "Waits for a reader."
        title = assignment.title_of(cell)
        points_ = 0 if empty else None
        marks.append(Mark(cell.name, title, points_, cell.points, said_, text, written=True))
    return _in_order(assignment, marks)


def _in_order(assignment: Assignment, marks: list[Mark]) -> tuple[Mark, ...]:
    order = [cell.name for cell in assignment.cells]
    return tuple(sorted(marks, key=lambda mark: order.index(mark.name)))


def _verdict(test: Outcome, answer: Outcome) -> str:
    """Why a test failed, in words for the student; hidden tests and their values stay hidden."""
    if "NotImplementedError" in (test.error, answer.error):
        return "Not answered."
    if answer.error in (STOPPED, LATE):
        return f"Your cell was stopped: {_short(answer.message)}"
    if answer.error:
        return f"Your cell ended with {answer.error}: {_short(answer.message)}"
    if test.error in (STOPPED, LATE):
        return f"The test was stopped: {_short(test.message)}"
    if test.error == "NameError":
        missing = _short(test.message)
        return f"{missing} Was it renamed, or did its cell not run?"
    if test.error == "AssertionError":
        return _short(test.message) or "A test failed."
    return f"The test ended with {test.error}: {_short(test.message)}"


def _short(message: str) -> str:
    """The first telling lines; numpy's tables of expected values are left out."""
    kept = []
    for line in message.split("\n"):
        if re.match(r"\s*(Mismatch|Max absolute|Max relative| ?ACTUAL|nan location|x and y)", line):
            break
        if line.strip() and not line.startswith("Not equal to tolerance"):
            kept.append(line.strip())
    text = " ".join(kept)[:400]
    return text if not text or text.endswith((".", "!", "?")) else text + "."
