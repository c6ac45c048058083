"""A class in which most attack the grader, in the ways of a security review; five are honest.

Each attack succeeded on the grader as it was.  Nobody else's marks, files or run may be harmed, and
the honest ones get exactly what they deserve.
"""

from __future__ import annotations

import csv
import os
import sys
import time

import course
import psutil
import pytest
from grading import assignment, confinement
from test_canaries import FORGED, WRONG
from toy import hand_in, repository, solved

REASONS = [confinement.why_not(name) for name in ("bwrap", "landlock")]
pytestmark = pytest.mark.skipif(None not in REASONS, reason=f"no sandbox of the kernel: {REASONS}")

CHEATS = ("10", "13", "14")  # these replace what tests compare with, so that an answer is needed
EMPTY = "def half(x):\n    raise NotImplementedError()"
SPAWN = """
import multiprocessing.util as u, os
late = "import os, time; os.setsid(); time.sleep(1); " + LATE
u.spawnv_passfds(os.fsencode(PYTHON), [b"python", b"-c", late.encode()], [])
"""
# By number in the review; the names in capitals are filled in.
ATTACKS = {
    "01 reply": FORGED["the reply"],
    "02 pipe": FORGED["the reply's line"],
    "03 reading": "print(open(GRADES).read(), open(KEY).read())",
    "03 environment": "print(open(f'/proc/{PARENT}/environ').read())",
    "05 process": SPAWN,
    "06 dir_fd": (
        "import os\nd = os.open(os.path.dirname(KEY), os.O_RDONLY)\n"
        "print(os.read(os.open('key', os.O_RDONLY, dir_fd=d), 99))"
    ),
    "06 dir_fd, writing": (
        "import os\nd = os.open(os.path.dirname(KEY), os.O_RDONLY)\n"
        "os.write(os.open('key', os.O_WRONLY | os.O_APPEND, dir_fd=d), b'eve')"
    ),
    "07 realpath": (
        "import os\nos.path.realpath = lambda *a, **k: os.getcwd()\n"
        "print(open(KEY).read())\nopen(KEY, 'a').write('eve')"
    ),
    "09 the shell": (
        "names = type(get_ipython()).enable_gui.__globals__\nnames['PROCESSES'] = ()\n"
        "import os\nos.system(f'touch {LATE_FILE}')\n"
        "names['answer'] = lambda *a, **k: {'error': None, 'message': '', 'output': '', 'cut': 0}"
    ),
    "10 before the setup": "import numpy\nnumpy.allclose = lambda *a, **k: True",
    "13 other modules": "import builtins, math\nmath.isclose = builtins.abs = lambda *a: True",
    "14 tracing": "import sys\nsys.settrace(lambda *a: None)\nsys.setprofile(lambda *a: None)",
    "14 objects": FORGED["the names of tests"],
    "17 the grader's limits": (
        "import os, resource\nresource.prlimit(PARENT, resource.RLIMIT_FSIZE, (0, 0))\n"
        "os.setpriority(os.PRIO_PROCESS, PARENT, 19)"
    ),
    "19 C code": "import sqlite3\nsqlite3.connect(LATE_FILE).execute('create table a(b)')",
    "20 network": (
        "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "s.sendmsg([b'a'], [], 0, ('127.0.0.1', 9))"
    ),
    "21 memory": (
        "import os\nf = os.memfd_create('a')\nfor k in range(3000): os.write(f, bytes(2**20))"
    ),
    "25 a flood": (
        "import os\nfor n in range(3, 9):\n    try:\n"
        "        for k in range(3000): os.write(n, b'x' * 2**16)\n    except OSError: pass"
    ),
}


@pytest.fixture(scope="module")
def marked(tmp_path_factory):
    """The class, graded once: rows of grades.csv, and the folder that holds all."""
    top = tmp_path_factory.mktemp("class")
    root = repository(top)
    source = root / assignment.COURSE / "source" / "toy"
    toy = assignment.load(source)
    folder, target = top / "submissions", top / "graded"
    (top / "private").mkdir()
    (top / "private" / "key").write_text("the private key")
    (target / "other").mkdir(parents=True)
    (target / "other" / "grades.csv").write_text("ben,5")
    late = top / "late"
    values = {"GRADES": str(target / "other" / "grades.csv"), "KEY": str(top / "private" / "key")}
    values |= {"PARENT": os.getpid(), "PYTHON": sys.executable}
    values |= {"LATE_FILE": str(late), "LATE": f"open({str(late)!r}, 'w')"}
    setup = "".join(f"{name} = {value!r}\n" for name, value in values.items())

    hand_in(folder, "ada", solved(toy))
    hand_in(folder, "ben", solved(toy, half="def half(x):\n    return x"))
    hand_in(folder, "cleo", solved(toy, half="half = lambda x: 0.5 * x", square="square = pow"))
    hand_in(folder, "dan", solved(toy, square=EMPTY, half="data[:] = 1\nhalf = lambda x: x / 2"))
    notebook = solved(toy, square="def square(x):\n    return x**2")
    notebook["cells"].insert(2, {"cell_type": "code", "metadata": {}, "source": "1 / 0"})
    hand_in(folder, "fay", notebook)
    for name, attack in ATTACKS.items():
        half, square = (WRONG["half"], WRONG["square"]) if name[:2] in CHEATS else (EMPTY, EMPTY)
        notebook = solved(toy, half=f"{setup}{attack}\n{half}", square=square)
        early = {"cell_type": "code", "metadata": {}, "source": setup + attack}
        notebook["cells"].insert(1, early)
        hand_in(folder, name, notebook)
    (folder / "04 folder").mkdir()
    (folder / "04 folder" / "toy").symlink_to("../ada")
    (folder / "04 source").mkdir()
    (folder / "04 source" / "toy").symlink_to(source)
    bomb = '{"cells": [{"outputs": [' + "[[],[]]," * 2**20 + "[]]}, [], {}"
    hand_in(folder, "23 brackets", bomb)
    notebook = solved(toy, half=EMPTY, square=EMPTY)
    failing = {"cell_type": "code", "metadata": {}, "source": "raise ValueError('x' * 400)"}
    notebook["cells"] += [failing] * 200
    hand_in(folder, "24 notes", notebook)

    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    kept = {p: p.read_bytes() for p in (top / "private").iterdir()}
    command = ["grade", "toy", str(folder), "--to", str(target / "toy"), "--jobs", "2"]
    options = ["--cell-time", "10", "--memory", "1", "--show-output"]
    code = course.main([*command, *options], root)
    time.sleep(1.5)  # for what might have outlived it
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before
    assert {p: p.read_bytes() for p in (top / "private").iterdir()} == kept
    with (target / "toy" / "grades.csv").open(newline="") as file:
        rows = {row["student"]: row for row in csv.DictReader(file)}
    return code, rows, top


def test_honest_students_get_what_they_deserve(marked):
    code, rows, _ = marked
    assert code == 0
    found = {name: (rows[name]["half"], rows[name]["square"]) for name in sorted(rows)[-5:]}
    assert found == {
        "ada": ("2", "3"), "ben": ("0", "3"), "cleo": ("2", "0"), "dan": ("2", "0"),
        "fay": ("2", "3"),
    }  # fmt: skip
    for name in found:
        assert "tampered" not in rows[name]["notes"]
    assert "ZeroDivisionError" in rows["fay"]["notes"]


@pytest.mark.parametrize("name", [*ATTACKS, "04 folder", "04 source", "23 brackets", "24 notes"])
def test_an_attacker_gets_nothing(marked, name):
    _, rows, top = marked
    row = rows[name]
    assert {row["half"], row["square"]} <= {"0", ""}
    page = next((top / "graded" / "toy" / "feedback").glob(f"{name}*.html")).read_text()
    for secret in ("the private key", "ben,5", "np.allclose(half", "the reference", "Because."):
        assert secret not in page, secret
    assert len(row["notes"]) < 32767


def test_what_forges_is_named(marked):
    _, rows, _ = marked
    for name in ("01 reply", "02 pipe", "14 objects"):
        assert "tampered" in rows[name]["notes"], rows[name]["notes"]


def test_nothing_outlives_the_run(marked):
    _, _, top = marked
    assert not (top / "late").exists()
    assert [p.name for p in (top / "graded" / "other").iterdir()] == ["grades.csv"]
    left = [p.cmdline() for p in psutil.Process().children(recursive=True)]
    assert [line for line in left if "grading.worker" in " ".join(line)] == []
