"""Hand-ins as a learning-management system exports them, put into one folder per student.

Nothing that is there is overwritten: a second hand-in is kept beside the first, with its time.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from grading.archives import BROKEN, Entry, copy, entries, unpacked
from grading.roster import FILE, add, read_roster
from grading.tables import key

MOST_OF_A_STUDENT = 2**30  # bytes
GRADESCOPE = "submission_metadata.yml"
TIMESTAMP = "timestamp.txt"  # nbgrader's, beside the notebooks
_MOODLE = re.compile(
    r"(?P<name>.+?)_(?P<id>\d+)_assignsubmission_(?:file|onlinetext)(?:_(?P<rest>.*))?$"
)
_CANVAS = re.compile(r"(?P<name>[^_]+)_(?P<late>LATE_)?(?P<id>\d+)_\d+_(?P<rest>.+)$")


@dataclass(frozen=True)
class Person:
    """Who handed something in, as far as the export says; `full` is a name that is unique in it."""

    full: str
    id: str = ""
    name: str = ""
    email: str = ""
    late: str = ""
    time: float | None = None


@dataclass
class Collected:
    """What was taken: new files by folder, and what a person should know."""

    new: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def collect(export: Path, submissions: Path) -> Collected:
    """Copy an export, a folder or a zip file, into SUBMISSIONS/<student>/, and note who is who.

    Known are the exports of Moodle (with and without folders), Canvas, Gradescope and nbgrader, and
    one folder per student.  Raises ValueError when it is none of these.
    """
    if submissions.resolve().is_relative_to(export.resolve()):
        raise ValueError(f"--to must lie outside the export, got {submissions}")
    done = Collected()
    taken, left = _assigned(_unwrapped(list(entries(export, done.notes))))
    if not taken:
        raise ValueError(
            f"EXPORT {export} holds no student's files; expected an export of Moodle, Canvas, "
            "Gradescope or nbgrader, or one folder per student"
        )
    done.notes += [f"not taken: {'/'.join(entry.parts)}" for entry in left]
    folders = _folders([person for person, _ in taken], submissions)
    spent: dict[str, int] = {}
    for person, entry in taken:
        folder = folders[person.full]
        done.new.setdefault(folder, 0)
        for inner in unpacked(entry, done.notes):
            spent[folder] = spent.get(folder, 0) + inner.size
            if spent[folder] > MOST_OF_A_STUDENT:
                done.notes.append(f"{folder}: more than {MOST_OF_A_STUDENT >> 30} GiB; cut here")
                break
            timed = replace(inner, time=person.time or inner.time)
            done.new[folder] += _keep(timed, submissions / folder, done.notes)
    add(submissions, _rows({folders[person.full]: person for person, _ in taken}))
    return done


def _rows(people: dict[str, Person]) -> list[dict[str, str]]:
    return [
        {"folder": folder, "id": p.id, "name": p.name, "email": p.email, "late": p.late}
        for folder, p in people.items()
    ]


def _unwrapped(found: list[Entry]) -> list[Entry]:
    """Without the folders around it all."""
    inside = [entry for entry in found if entry.parts[0] == "submitted" and len(entry.parts) > 2]
    if inside:  # nbgrader's course, of which nothing else was handed in
        return [replace(entry, parts=entry.parts[1:]) for entry in inside]
    tops = {entry.parts[0] for entry in found}
    flat = any(len(entry.parts) < 2 for entry in found)
    if len(tops) != 1 or flat or _MOODLE.match(found[0].parts[0]):
        return found
    inner = [replace(entry, parts=entry.parts[1:]) for entry in found]
    names = {entry.parts[0] for entry in inner}
    known = any(_MOODLE.match(n) or _CANVAS.match(n) or n == GRADESCOPE for n in names)
    folders = len(names) > 1 and all(len(entry.parts) > 1 for entry in inner)
    return _unwrapped(inner) if known or folders else found


# Whose they are


def _assigned(found: list[Entry]) -> tuple[list[tuple[Person, Entry]], list[Entry]]:
    """Each file with its student, its path within the student's folder, and the files of nobody."""
    known = {name: one for entry in found for name, one in _gradescope(entry).items()}
    stamps = {e.parts[:-1]: _stamp(e) for e in found if e.parts[-1] == TIMESTAMP}
    taken, left = [], []
    for entry in found:
        first, rest = entry.parts[0], entry.parts[1:]
        moodle, canvas = _MOODLE.match(first), _CANVAS.match(first)
        if moodle:
            person = Person(f"{moodle['name']} {moodle['id']}", moodle["id"], moodle["name"])
            rest = rest or tuple(filter(None, [moodle["rest"]]))
        elif canvas and not rest:
            late = "yes" if canvas["late"] else ""
            full = f"{canvas['name']} {canvas['id']}"
            person = Person(full, canvas["id"], canvas["name"], late=late)
            rest = (canvas["rest"],)
        else:
            person = known.get(first, Person(first, name=first))
            person = replace(person, time=stamps.get(entry.parts[:-1]) or person.time)
        if rest:
            taken.append((person, replace(entry, parts=rest)))
        elif first not in (GRADESCOPE, FILE):
            left.append(entry)
    return taken, left


def _gradescope(entry: Entry) -> dict[str, Person]:
    """Folder to person, from the file that lies beside Gradescope's folders."""
    if entry.parts != (GRADESCOPE,):
        return {}
    with entry.open() as file:
        try:
            about = yaml.safe_load(file.read(64 * 2**20))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ValueError(f"{GRADESCOPE}: {error}") from None
    told = about.items() if isinstance(about, dict) else ()
    return {str(name): _submitter(str(name), one) for name, one in told if isinstance(one, dict)}


def _submitter(folder: str, told: dict[str, Any]) -> Person:
    people = [one for one in told.get(":submitters") or [] if isinstance(one, dict)]
    names, ids, emails = (
        " and ".join(str(one[what]) for one in people if one.get(what))
        for what in (":name", ":sid", ":email")
    )
    when = told.get(":created_at")
    at = _utc(when) if isinstance(when, datetime) else None
    return Person(f"{names} {folder}".strip(), ids, names or folder, emails, time=at)


def _stamp(entry: Entry) -> float | None:
    """The time in nbgrader's file, such as 2027-03-01 22:10:04.123456 UTC."""
    with entry.open() as file:
        text = file.read(100).decode("utf-8", "replace")
    with suppress(ValueError):
        return _utc(datetime.fromisoformat(text.strip().removesuffix(" UTC")))
    return None


def _utc(when: datetime) -> float:
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


def _folders(people: list[Person], submissions: Path) -> dict[str, str]:
    """The folder of each student: the name, with the number where two share one, as before."""
    roster = read_roster(submissions)
    before = {(roster.of(f, "id"), roster.of(f, "name")): f for f in roster.people}
    unique = {person.full: person for person in people}
    names = [_clean(person.name).lower() for person in unique.values()]
    chosen: dict[str, str] = {}
    for full, person in unique.items():
        name = _clean(person.name)
        taken = name in roster.people and roster.of(name, "id") not in ("", person.id)
        if person.id and (person.id, person.name) in before:
            chosen[full] = before[person.id, person.name]
        else:
            chosen[full] = _clean(full) if taken or names.count(name.lower()) > 1 else name
    return chosen


def _clean(name: str) -> str:
    """A name that is one folder or file, no hidden one, and not too long."""
    name = re.sub(r'[\x00-\x1f\x7f/\\:*?"<>|]+', " ", key(name)).strip().lstrip(".").strip()
    raw = name.encode()
    if len(raw) > 150:
        name = raw[:120].decode("utf-8", "ignore") + raw[-30:].decode("utf-8", "ignore")
    return name or "unnamed"


# How they are kept


def _keep(entry: Entry, student: Path, notes: list[str]) -> int:
    """Write a file where there is none, or beside one that differs.  Returns how many are new."""
    path = student.joinpath(*map(_clean, entry.parts))
    written: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
        written = Path(name)
        with os.fdopen(handle, "wb") as file, entry.open() as source:
            digest = copy(source, file)
        os.chmod(written, 0o644)
        os.utime(written, (entry.time, entry.time))
        at = datetime.fromtimestamp(entry.time)
        beside = path.with_stem(f"{path.stem} (handed in {at:%Y-%m-%d %H.%M.%S})")
        for place in (path, beside, path.with_stem(f"{beside.stem} ({digest[:8]})")):
            if not os.path.lexists(place):
                written.rename(place)
                return 1
            if place.is_file() and _digest(place) == digest:
                return 0
        raise ValueError("every name for it is taken")
    except BROKEN as error:
        notes.append(f"{student.name}: {'/'.join(entry.parts)} was not taken: {error}")
        return 0
    finally:
        if written:
            written.unlink(missing_ok=True)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
