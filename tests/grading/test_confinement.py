"""What a submission can't reach, whatever it calls: files, processes, the network, the grader."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from grading import confinement, sandbox
from grading.assignment import COURSE
from grading.sandbox import Limits, run_cells
from toy import QUICK

SOURCES = Path(__file__).parents[2] / COURSE / "course.yml"
KERNEL = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(
            confinement.why_not(name) is not None,
            reason=f"{name} doesn't run here: {confinement.why_not(name)}",
        ),
    )
    for name in ("landlock", "bwrap")
]

# Each prints GOT where it gets through.  The audit hook is not asked, or it is deceived first.
SETUP = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
os.path.realpath = os.path.abspath = lambda *a, **k: os.getcwd()
def says(result):
    print("GOT" if result != -1 else "refused", result)
"""
READS = {
    "by C": "says(libc.open(b'{secret}', 0))",
    "by openat": "says(libc.openat(libc.open(b'/', 0x200000), b'{secret}'[1:], 0))",
    "by dir_fd": (
        "d = os.open(os.path.dirname('{secret}'), os.O_RDONLY | os.O_PATH)\n"
        "print('GOT', os.read(os.open(os.path.basename('{secret}'), os.O_RDONLY, dir_fd=d), 9))"
    ),
    "by Python": "print('GOT', open('{secret}').read())",
    "by a link": (
        "libc.symlink(b'{secret}', b'link')\nsays(libc.open(b'link', 0))\n"
        "says(libc.link(b'{secret}', b'second'))"
    ),
    "by a rename": "says(libc.rename(b'{secret}', b'mine'))",
    "a folder": "print('GOT', os.listdir(os.path.dirname('{secret}')))",
    "by proc": "says(libc.open(b'/proc/self/root{secret}', 0))",
    "by sqlite": (
        "import sqlite3\n"
        "c = sqlite3.connect('{secret}')\nprint('GOT', list(c.execute('select * from a')))"
    ),
    "the sources": "says(libc.open(b'{sources}', 0))",
    "users": "says(libc.open(b'/etc/passwd', 0))",
    "the grader's environment": "says(libc.open(b'/proc/{grader}/environ', 0))",
    "the grader's memory": "says(libc.open(b'/proc/{grader}/mem', 2))",
    "the grader's files": "print('GOT', os.listdir('/proc/{grader}/fd'))",
    "the kernel's log": "says(libc.klogctl(3, ctypes.create_string_buffer(99), 99))",
}
WRITES = {
    "by C": "says(libc.open(b'{folder}/new', 0o101, 0o644))",
    "by append": "says(libc.open(b'{secret}', 0o2001))",
    "truncated": "says(libc.truncate(b'{secret}', 0))",
    "removed": "says(libc.unlink(b'{secret}'))",
    "a folder": "says(libc.mkdir(b'{folder}/new', 0o755))",
    "a fifo": "says(libc.mkfifo(b'{folder}/new', 0o644))",
    "out of its own": "open('mine', 'w').close()\nsays(libc.rename(b'mine', b'{folder}/new'))",
    "an attribute": "says(libc.setxattr(b'{secret}', b'user.a', b'b', 1, 0))",
    "its owner": "says(libc.chown(b'{secret}', 12345, 12345))",
    "by dir_fd": (
        "d = os.open('{folder}', os.O_PATH)\nos.open('new', os.O_CREAT, dir_fd=d)\nprint('GOT')"
    ),
    "a library": "says(libc.open(os.__file__.encode(), 2))",
    "sqlite": (
        "import sqlite3\nc = sqlite3.connect('{folder}/new')\nc.execute('create table a(b)')\n"
        "print('GOT')"
    ),
    "numpy": "import numpy\nnumpy.zeros(3).tofile('{folder}/new')\nprint('GOT')",
}
PROCESSES = {
    "fork": "says(libc.fork())",
    "exec": "libc.execl(b'/bin/true', b'true', None)\nprint('refused')",
    "without an event": (
        "import multiprocessing.util as u\n"
        "print('GOT', u.spawnv_passfds(b'/bin/sh', [b'sh', b'-c', b'sleep 60'], []))"
    ),
    "by subprocess": (
        "import _posixsubprocess as p\nr, w = os.pipe()\n"
        "p.fork_exec([b'/bin/true'], [b'/bin/true'], True, (), None, None, -1, -1, -1, -1, -1, -1,"
        " r, w, True, True, 0, None, None, None, -1, None, False)\nprint('GOT')"
    ),
    "by clone": "says(libc.syscall(56, 17, 0, 0, 0, 0))",
    "by posix_spawn": (
        "p = ctypes.c_int()\n"
        "says(-1 if libc.posix_spawn(ctypes.byref(p), b'/bin/true', None, None, None, None) else 0)"
    ),
    "a signal to the grader": "says(libc.kill({grader}, 0))",
    "a signal to all": "says(libc.kill(-1, 0))",
    "a signal by its file": (
        "import fcntl\nr, w = os.pipe()\nfcntl.fcntl(r, fcntl.F_SETOWN, {grader})\nprint('GOT')"
    ),
    "limits of the grader": (
        "import resource\n"
        "print('GOT', resource.prlimit({grader}, resource.RLIMIT_FSIZE, (10**9, 10**9)))"
    ),
    "priority of the grader": "says(libc.setpriority(0, {grader}, 19))",
    "cores of the grader": "os.sched_setaffinity({grader}, [0])\nprint('GOT')",
    "tracing the grader": "says(libc.ptrace(16, {grader}, 0, 0))",
    "to outlive the grader": "says(libc.prctl(1, 0, 0, 0, 0))",
    "shared memory": "says(libc.shmget(0, 4096, 0o1600))",
    "memory of no file": "os.memfd_create('a')\nprint('GOT')",
}
NETWORK = {
    "TCP": "says(libc.socket(2, 1, 0))",
    "UDP": "says(libc.socket(2, 2, 0))",
    "IPv6": "says(libc.socket(10, 1, 0))",
    "a socket of the machine": "says(libc.socket(1, 1, 0))",
    "a pair with an address": "says(libc.socketpair(1, 2, 0, (ctypes.c_int * 2)()))",
    "packets": "says(libc.socket(17, 3, 0))",
    "sendmsg": (
        "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "s.sendmsg([b'hidden test'], [], 0, ('127.0.0.1', {port}))\nprint('GOT')"
    ),
}
KINDS = {"reading": READS, "writing": WRITES, "processes": PROCESSES, "network": NETWORK}


@pytest.mark.parametrize("mode", KERNEL)
def test_nothing_gets_out(tmp_path, mode):
    """Every attempt in one process, whatever of Python's own protection is gone."""
    folder = tmp_path / "graded"
    folder.mkdir()
    secret = folder / "grades.csv"
    secret.write_text("ada,5")
    attempts = {(kind, name): text for kind, some in KINDS.items() for name, text in some.items()}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.setblocking(False)
        values = {"secret": str(secret), "folder": str(folder)}
        values["sources"] = str(SOURCES)
        values |= {"grader": os.getpid(), "port": listener.getsockname()[1]}
        cells = [("", "own", SETUP)]
        for text in attempts.values():
            for name, value in values.items():
                text = text.replace(f"{{{name}}}", str(value))
            cells.append(("", "own", text))
        cells.append(("", "own", "open('mine', 'w').write('fine'); print(open('mine').read())"))
        limits = replace(QUICK, sandbox=mode, cell=60)
        first, *outcomes, last = run_cells(cells, limits)
        with pytest.raises(BlockingIOError):
            listener.recv(99)
    assert first.error is None
    assert last.output == "fine\n"
    through = {
        attempt: outcome
        for attempt, outcome in zip(attempts, outcomes, strict=True)
        if any(line.startswith("GOT") for line in outcome.output.splitlines())
    }
    # Under bwrap there is no such number of a process, or it is another's: nothing is reached.
    assert through == {}
    assert [path.name for path in folder.iterdir()] == ["grades.csv"]
    assert secret.read_text() == "ada,5"
    assert secret.stat().st_uid == os.getuid()


@pytest.mark.parametrize("mode", KERNEL)
def test_what_honest_work_needs_is_there(mode):
    """Modes and times change in appearance only; threads, pairs of sockets and figures work."""
    cells = [
        ("", "given", "import numpy as np\nimport jax, ntkbook"),
        ("", "own", "import jax.numpy as jnp\nprint(jax.jit(lambda x: jnp.sum(x @ x))(np.eye(9)))"),
        ("", "own", "import shutil\nopen('a', 'w').write('b')\nprint(shutil.copy2('a', 'c'))"),
        ("", "own", "np.savez('d', np.eye(2))\nprint(np.load('d.npz')['arr_0'].sum())"),
        (
            "",
            "own",
            "import matplotlib.pyplot as p\np.plot([1, 2])\np.savefig('f.png')\nprint('drawn')",
        ),
        ("", "own", "import asyncio\nasyncio.run(asyncio.sleep(0))\nprint('awaited')"),
        (
            "",
            "own",
            "import threading\nt = threading.Thread(target=print, args=[1])\nt.start()\nt.join()",
        ),
        ("", "own", "import sklearn.linear_model, scipy.stats, sympy, tqdm\nprint('imported')"),
        ("", "own", "%timeit -n 1 -r 1 1 + 1"),
    ]
    outcomes = run_cells(cells, Limits(sandbox=mode))
    assert [o for o in outcomes if o.error] == []
    printed = [outcome.output.strip() for outcome in outcomes[1:8]]
    assert printed == ["9.0", "c", "2.0", "drawn", "awaited", "1", "imported"]


@pytest.mark.parametrize("mode", ["landlock", "bwrap"])
def test_nobody_has_to_be_root(mode):
    """What a worker gives up, it gives up without rights of its own."""
    if confinement.why_not("landlock") is not None:
        pytest.skip(f"Landlock doesn't run here: {confinement.why_not('landlock')}")
    user = {"user": 65534, "group": 65534, "extra_groups": []} if os.getuid() == 0 else {}
    ext, pythons = str(Path(confinement.__file__).parents[1]), [sys.executable, "/usr/bin/python3"]
    code = f"import sys; sys.path.insert(0, {ext!r}); sys.dont_write_bytecode = True\n"
    code += f"from grading.confine import try_out; try_out({mode!r})"
    for python in pythons:  # that of root may lie where nobody else looks
        try:
            subprocess.run([python, "-S", "-c", code], check=True, cwd="/", **user)
            return
        except PermissionError:
            continue
    pytest.skip("no Python here that another user may start")


def test_the_choice_of_a_sandbox(monkeypatch, capsys):
    with pytest.raises(ValueError, match="sandbox must be one of auto, bwrap"):
        sandbox.chosen("docker")
    monkeypatch.setattr(confinement, "why_not", {"bwrap": None, "landlock": None}.get)
    assert [sandbox.chosen(s) for s in ("auto", "require", "landlock")] == [
        "bwrap", "bwrap", "landlock"
    ]  # fmt: skip
    monkeypatch.setattr(confinement, "why_not", {"bwrap": "not installed", "landlock": None}.get)
    assert sandbox.chosen("auto") == sandbox.chosen("require") == "landlock"
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(confinement, "why_not", lambda name: "an old kernel")
    for choice in ("require", "bwrap", "landlock"):
        with pytest.raises(ValueError, match="an old kernel"):
            sandbox.chosen(choice)
    assert sandbox.chosen("auto") == "guard"
    assert "WARNING: neither bubblewrap nor Landlock runs here" in capsys.readouterr().err


def test_the_command_line_of_bubblewrap(tmp_path):
    """Nothing but Python, its packages, the book's package and the folder is in the sandbox."""
    reads = confinement.readable()
    line = confinement.command("bwrap", tmp_path, reads, [tmp_path])
    for option in ("--unshare-all", "--die-with-parent", "--new-session"):
        assert option in line
    assert line[line.index("--cap-drop") + 1] == "ALL"
    assert line[-1] == "--"
    bound = [line[k + 1] for k, word in enumerate(line) if word == "--ro-bind"]
    written = [line[k + 1] for k, word in enumerate(line) if word == "--bind"]
    assert written == [str(tmp_path)]
    assert set(bound) <= {*reads, *confinement.worker_files()}
    root = Path(confinement.__file__).parents[3]
    for place in (Path.home(), Path("/"), Path("/etc"), Path("/tmp"), root, root / "book"):
        assert str(place) not in bound
    assert confinement.command("landlock", tmp_path, reads, [tmp_path]) == []


def test_what_is_secret_may_not_lie_where_all_may_read(tmp_path):
    (tmp_path / "lib").mkdir()
    with pytest.raises(ValueError, match="which every submission may read; move it elsewhere"):
        confinement.check_apart([Path(os.__file__).parent / "submissions"], confinement.readable())
    confinement.check_apart([tmp_path], confinement.readable())


@pytest.mark.skipif(sys.platform != "linux", reason="the filter is Linux's")
def test_the_guard_alone_has_the_filter_too(capsys):
    """Without Landlock no process is started either, and no socket opened."""
    cells = [("", "own", SETUP)]
    cells += [("", "own", PROCESSES["fork"]), ("", "own", NETWORK["UDP"])]
    outcomes = run_cells(cells, replace(QUICK, sandbox="guard"))
    assert [outcome.output[:7] for outcome in outcomes] == ["", "refused", "refused"]
