"""Memory, threads, disk and time of all that a submission starts, and the end of it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from grading import watch
from grading.sandbox import run_cells
from toy import QUICK

EXT = Path(watch.__file__).parents[1]
SLOW = replace(QUICK, cell=60, disk=2**25)
DEEP = "for k in range(3000):\n    os.mkdir('d' * 100)\n    os.chdir('d' * 100)\n"
WAITS = "import time\nwhile True: time.sleep(0.1)"
GREEDY = {
    "large files": (
        "import itertools\nfor k in itertools.count():\n"
        "    with open(str(k), 'wb') as f: f.write(bytes(2**24))",
        "wrote more than 32 MiB",
    ),
    "many files": (
        "for k in range(10**6): open(str(k), 'w').close()",
        "wrote more than 32 MiB",
    ),
    "files without a name": (
        "import os\nfiles = []\nwhile 1:\n    files.append(open('a', 'wb'))\n    os.remove('a')\n"
        "    files[-1].write(bytes(2**22))\n    files[-1].flush()",
        "wrote more than 32 MiB",
    ),
    "a folder too deep to look through": (
        "import ctypes\nc = ctypes.CDLL(None)\nfor k in range(3000):\n"
        f"    c.mkdir(b'd' * 100, 0o755)\n    c.chdir(b'd' * 100)\n{WAITS}",
        "wrote more than 32 MiB",
    ),
    "threads": (
        "import threading, time\nthreading.stack_size(2**16)\n"
        "while True: threading.Thread(target=time.sleep, args=[999], daemon=True).start()",
        "used more than 1000 threads",
    ),
    "a reply without end": (
        "import os, stat, fcntl\nfor n in range(3, 64):\n    try:\n"
        "        if stat.S_ISFIFO(os.fstat(n).st_mode) and fcntl.fcntl(n, 3) & 1:\n"
        "            while True: os.write(n, b'x' * 2**16)\n    except OSError: pass",
        "sent the grader more than a reply holds",
    ),
}


@pytest.mark.parametrize("case", GREEDY)
def test_greed_costs_its_own_cell_only(case):
    source, message = GREEDY[case]
    before = set(Path(tempfile.gettempdir()).glob(f"{watch.PREFIX}{os.getpid()}-*"))
    greedy, after = run_cells([("", "own", source), ("", "own", "print(1)")], SLOW)
    assert message in greedy.message
    assert after.output == "1\n"
    assert set(Path(tempfile.gettempdir()).glob(f"{watch.PREFIX}{os.getpid()}-*")) == before


def test_a_worker_that_reads_nothing_does_not_hold_the_grader():
    """The message is longer than a pipe holds, and nobody takes it."""
    cells = [
        ("", "own", "import os\nfor n in range(3, 64):\n    try: os.dup2(os.pipe()[0], n)\n"
         "    except OSError: pass\nimport time; time.sleep(999)"),
        ("", "own", "# " + "x" * 2**20),
    ]  # fmt: skip
    stuck, long = run_cells(cells, replace(QUICK, cell=1))
    assert stuck.error == "Stopped"
    assert long.error is None


def test_memory_is_that_of_the_whole_tree():
    """Where children can be started: the sum counts, and all end, whatever their session."""
    eat = "import os, time; os.setsid(); x = bytearray(3 * 10**7); x[::4096] = x[::4096]"
    child = f"import sys; exec({eat!r}); print('ready', flush=True); time.sleep(999)"
    top = (
        "import subprocess, sys, time\n"
        f"some = [subprocess.Popen([sys.executable, '-c', {child!r}], stdout=-1) for k in 'abc']\n"
        "for one in some: one.stdout.readline()\n"
        "print('ready', flush=True); time.sleep(999)"
    )
    with subprocess.Popen([sys.executable, "-c", top], stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        processes = watch.tree(process.pid)
        assert len(processes) == 4
        assert watch.usage(processes).memory > 9 * 10**7
        watch.kill(process.pid)
        gone, alive = psutil.wait_procs(processes[1:], timeout=60)
        assert alive == []
        assert len(gone) == 3


GRADER = """
import sys
sys.path.insert(0, {ext!r})
from grading.sandbox import Limits, Sandbox
box = Sandbox(Limits(sandbox={mode!r}))
print(box.folder, flush=True)
box.run("own", "while True: pass", 999)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a process ends with its parent on Linux only")
@pytest.mark.parametrize("mode", ["auto", "guard"])
def test_a_worker_ends_with_the_grader(mode):
    code = GRADER.format(ext=str(EXT), mode=mode)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as grader:
        assert grader.stdout
        folder = Path(grader.stdout.readline().decode().strip())
        workers = watch.tree(grader.pid)[1:]
        assert workers
        grader.send_signal(signal.SIGKILL)
    _, alive = psutil.wait_procs(workers, timeout=60)
    assert [w for w in alive if w.status() != psutil.STATUS_ZOMBIE] == []
    watch.remove(watch.new_folder())  # any new one sweeps what a killed grader has left
    assert not folder.exists()


def test_only_folders_of_graders_that_are_gone_are_swept(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    names = {
        f"{watch.PREFIX}{os.getpid()}-x": True,
        f"{watch.PREFIX}{gone.pid}-x": False,
        f"{watch.PREFIX}notes": True,
        "other": True,
    }
    for name in names:
        (tmp_path / name).mkdir()
    precious = tmp_path / "other" / "file"
    precious.write_text("kept")
    (tmp_path / f"{watch.PREFIX}{gone.pid}-x" / "link").symlink_to(tmp_path / "other")
    folder = watch.new_folder()
    assert re.fullmatch(rf"{watch.PREFIX}{os.getpid()}-\w+", folder.name)
    assert {name: (tmp_path / name).exists() for name in names} == names
    assert precious.read_text() == "kept"


def test_disk_counts_each_file_once(tmp_path):
    (tmp_path / "a").write_bytes(bytes(10**6))
    os.link(tmp_path / "a", tmp_path / "b")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "d").symlink_to("/")
    used = watch.disk(tmp_path, [], 2**30)
    assert 10**6 <= used < 1.1 * 10**6
    assert watch.disk(tmp_path, [], 1000) > 1000
    assert watch.disk(tmp_path / "none", [], 1000) == 0


def test_a_folder_that_resists_is_removed(tmp_path):
    target = tmp_path / "deep"
    target.mkdir()
    here = os.getcwd()
    try:
        os.chdir(target)
        exec(DEEP, {"os": os})
    finally:
        os.chdir(here)
    (target / "closed").mkdir(0)
    watch.remove(target)
    assert not target.exists()
    with contextlib.suppress(FileNotFoundError):
        watch.remove(target)


def test_time_is_that_of_the_processor():
    """A cell that waits is not stopped at the number of seconds that one that works is."""
    cells = [("", "own", "import time; time.sleep(2.5)")]
    begun = time.monotonic()
    (outcome,) = run_cells(cells, replace(QUICK, cell=2))
    assert outcome.error is None
    assert time.monotonic() - begun > 2.5
