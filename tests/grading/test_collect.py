"""Exports as they come, into one folder per student; strangers' files do no harm."""

from __future__ import annotations

import io
import os
import stat
import time
import zipfile
from datetime import UTC, datetime

import course
import pytest
from grading import archives, collect
from grading.collect import collect as take
from grading.roster import read_roster

MOODLE = "Zoë O'Neill_123_assignsubmission_file_"
EXPORTS = {
    "moodle, flat": {f"{MOODLE}toy.ipynb": "zoe", "Ben_7_assignsubmission_file_toy.ipynb": "ben"},
    "moodle, folders": {
        f"{MOODLE}/toy.ipynb": "zoe",
        "Ben_7_assignsubmission_file/toy.ipynb": "ben",
    },
    "canvas": {
        "oneillzoe_LATE_123_4567_toy-1.ipynb": "zoe",
        "ben_7_89_toy.ipynb": "ben",
        "index.html": "no student's",
    },
    "gradescope": {
        "assignment_9/submission_111/toy.ipynb": "zoe",
        "assignment_9/submission_222/toy.ipynb": "ben",
        "assignment_9/submission_metadata.yml": (
            "submission_111:\n  :submitters:\n  - :name: Zoë O'Neill\n    :sid: '0123'\n"
            "    :email: zoe@x.org\n  :created_at: 2027-03-01 12:00:00.000000 Z\n"
        ),
    },
    "nbgrader": {
        "course/submitted/zoe/toy/toy.ipynb": "zoe",
        "course/submitted/zoe/toy/timestamp.txt": "2027-03-01 12:00:00.5 UTC",
        "course/submitted/ben/toy/toy.ipynb": "ben",
        "course/source/toy/toy.ipynb": "the solution",
    },
    "folders": {"zoe/toy.ipynb": "zoe", "ben/homework/toy.ipynb": "ben"},
}
WHO = {
    "moodle, flat": ("Zoë O'Neill", "123"), "moodle, folders": ("Zoë O'Neill", "123"),
    "canvas": ("oneillzoe", "123"), "gradescope": ("Zoë O'Neill", "0123"),
    "nbgrader": ("zoe", ""), "folders": ("zoe", ""),
}  # fmt: skip


def export(tmp_path, files, packed):
    """An export as a folder or as a zip file."""
    if packed:
        place = tmp_path / "export.zip"
        with zipfile.ZipFile(place, "w") as archive:
            for name, text in files.items():
                archive.writestr(name, text)
        return place
    for name, text in files.items():
        path = tmp_path / "export" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text) if isinstance(text, str) else path.write_bytes(text)
    return tmp_path / "export"


def texts(folder):
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "students.csv"
    }


def zipped(**files):
    text = io.BytesIO()
    with zipfile.ZipFile(text, "w") as archive:
        for name, content in files.items():
            archive.writestr(name.replace("__", "/"), content)
    return text.getvalue()


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", EXPORTS)
def test_each_export_becomes_one_folder_per_student(tmp_path, capsys, kind, packed):
    place, to = export(tmp_path, EXPORTS[kind], packed), tmp_path / "submissions"
    assert course.main(["collect", str(place), "--to", str(to)]) == 0
    found = {text for name, text in texts(to).items() if name.endswith(".ipynb")}
    assert found == {"zoe", "ben"}
    name, number = WHO[kind]
    folder = next(path for path in to.iterdir() if path.is_dir() and name in path.name)
    roster = read_roster(to)
    assert roster.of(folder.name, "id") == number
    assert (to / "students.csv").read_text().startswith("folder,id,name,email,late,deadline\n")
    if kind == "canvas":
        assert "not taken: index.html" in capsys.readouterr().out
        assert roster.of("oneillzoe", "late") == "yes"
    if kind in ("gradescope", "nbgrader"):  # the export's own time, which is in UTC
        noon = datetime(2027, 3, 1, 12, tzinfo=UTC).timestamp()
        (notebook,) = folder.rglob("toy.ipynb")
        assert abs(notebook.stat().st_mtime - noon) < 1
    if kind == "gradescope":
        assert roster.of("Zoë O'Neill", "email") == "zoe@x.org"
        assert (to / "submission_222").is_dir()  # of whom the export says nothing


def test_nothing_is_overwritten_and_a_second_hand_in_is_kept_with_its_time(tmp_path):
    to, files = tmp_path / "submissions", EXPORTS["moodle, flat"]
    take(export(tmp_path, files, False), to)
    first = texts(to)
    roster = to / "students.csv"
    before = "folder;id;mine;deadline\nBen;;hello;2027-04-01\nZoë O'Neill;123;;\n"
    roster.write_text(before)
    take(tmp_path / "export", to)
    assert texts(to) == first
    people = read_roster(to)
    assert people.of("Ben", "mine") == "hello"
    assert people.of("Ben", "deadline") == "2027-04-01"
    assert people.of("Ben", "id") == "7"
    before = roster.read_text()
    notebook = tmp_path / "export" / f"{MOODLE}toy.ipynb"
    notebook.write_text("zoe again")
    at = time.mktime((2027, 3, 1, 14, 5, 0, 0, 0, -1))
    os.utime(notebook, (at, at))
    take(tmp_path / "export", to)
    added = {"Zoë O'Neill/toy (handed in 2027-03-01 14.05.00).ipynb": "zoe again"}
    assert texts(to) == first | added
    assert roster.read_text() == before


def test_two_students_of_one_name_stay_apart(tmp_path):
    to = tmp_path / "submissions"
    one, two = ({f"Anna_{n}_assignsubmission_file_toy.ipynb": f"anna {n}"} for n in (12, 13))
    take(export(tmp_path, one, False), to)
    take(export(tmp_path, two, False), to)  # both are in the export now
    assert texts(to) == {"Anna/toy.ipynb": "anna 12", "Anna 13/toy.ipynb": "anna 13"}
    other = {"Ben_12_assignsubmission_file_toy.ipynb": "ben"}  # a number of another assignment
    take(export(tmp_path / "next", other, False), to)
    assert texts(to)["Ben/toy.ipynb"] == "ben"


def test_what_nobody_hands_in_is_left_and_zip_files_are_unpacked(tmp_path):
    files = {
        "ada/__MACOSX/._toy.ipynb": "", "ada/._toy.ipynb": "", "ada/.venv/x.ipynb": "",
        "ada/.ipynb_checkpoints/toy.ipynb": "", "ada/mine.zip": zipped(my__toy="ada", venv__x=""),
        "ben/toy.ipynb": "ben", "cleo/broken.zip": "PK no zip", "cleo/toy.ipynb": "cleo",
    }  # fmt: skip
    to = tmp_path / "submissions"
    done = take(export(tmp_path, files, False), to)
    assert texts(to) == {
        "ada/mine/my/toy": "ada", "ben/toy.ipynb": "ben",
        "cleo/broken.zip": "PK no zip", "cleo/toy.ipynb": "cleo",
    }  # fmt: skip
    assert any("broken.zip can't be unpacked" in note for note in done.notes)


def test_links_and_names_that_lead_out_are_not_followed(tmp_path):
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "toy.ipynb").write_text("secret")
    place = export(tmp_path, {"ada/toy.ipynb": "ada", "ben/x.txt": ""}, False)
    (place / "ben" / "toy").symlink_to(secret)
    (place / "ben" / "toy.ipynb").symlink_to(secret / "toy.ipynb")
    (place / "eve").symlink_to(secret)
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(place / "ada" / "evil.zip", "w") as archive:
        archive.writestr(link, str(secret / "toy.ipynb"))
        for name in ("../../out", "/abs", "a/../../out", "C:/x", "..\\..\\out", "fine"):
            archive.writestr(name, "evil")
    to = tmp_path / "submissions"
    done = take(place, to)
    assert texts(to) == {"ada/toy.ipynb": "ada", "ada/evil/fine": "evil", "ben/x.txt": ""}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["export", "secret", "submissions"]
    assert sum("a link, not followed" in note for note in done.notes) == 4
    assert sum("leads out" in note for note in done.notes) == 5


def test_zip_bombs_are_stopped_by_what_they_grow_to(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "LARGEST_FILE", 2**20)
    monkeypatch.setattr(archives, "MOST_FILES", 20)
    monkeypatch.setattr(archives, "LARGEST_DIRECTORY", 2**12)
    monkeypatch.setattr(collect, "MOST_OF_A_STUDENT", 3 * 2**20)
    zeros = b"\0" * 2**20
    text = io.BytesIO()
    with zipfile.ZipFile(text, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("large", zeros + b"1")
        for number in range(8):
            archive.writestr(f"part{number}", zeros)
    many = {f"n{number}": "x" for number in range(30)}
    names = {"n" * 250 + str(number): "x" for number in range(15)}
    files = {
        "ada/bomb.zip": text.getvalue(), "ben/many.zip": zipped(**many),
        "cleo/names.zip": zipped(**names), "dan/toy.ipynb": "dan",
    }  # fmt: skip
    done = take(export(tmp_path, files, False), tmp_path / "submissions")
    said = "\n".join(done.notes)
    for part in ("larger than 1 MiB", "ada: more than", "more than 20 files", "lists too many"):
        assert part in said
    size = sum(p.stat().st_size for p in (tmp_path / "submissions").rglob("*") if p.is_file())
    assert size < 4 * 2**20
    assert texts(tmp_path / "submissions" / "dan") == {"toy.ipynb": "dan"}


def test_broken_and_encrypted_files_cost_nobody_else_anything(tmp_path):
    broken = bytearray(zipped(toy="a" * 1000))
    broken[60:70] = b"\xff" * 10
    locked = bytearray(zipped(toy="a"))
    for place in (locked.find(b"PK\x03\x04") + 6, locked.find(b"PK\x01\x02") + 8):
        locked[place] |= 1
    files = {"ada/a.zip": bytes(broken), "ben/b.zip": bytes(locked), "cleo/toy.ipynb": "cleo"}
    done = take(export(tmp_path, files, False), tmp_path / "submissions")
    assert texts(tmp_path / "submissions") == {"cleo/toy.ipynb": "cleo"}
    assert sum("was not taken" in note for note in done.notes) == 2


def test_names_do_not_steer_the_terminal(tmp_path, capsys):
    place = export(tmp_path, {"ada/toy.ipynb": "", "\x1b[2Jbad\x07.txt": ""}, False)
    assert course.main(["collect", str(place), "--to", str(tmp_path / "to")]) == 0
    said = capsys.readouterr().out
    assert "bad" in said
    assert "\x1b" not in said


@pytest.mark.parametrize(
    ("files", "message"),
    [({"toy.ipynb": "x"}, "expected an export of Moodle"), ({}, "must be a folder or a zip file")],
)
def test_what_is_no_export_is_refused(tmp_path, capsys, files, message):
    place = export(tmp_path, files, False)
    assert course.main(["collect", str(place), "--to", str(tmp_path / "to")]) == 1
    assert message in capsys.readouterr().err
