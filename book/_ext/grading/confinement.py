"""What keeps a submission in: bubblewrap where it runs, else Landlock, else the guard in Python."""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import site
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

SANDBOXES = ("auto", "bwrap", "landlock", "guard", "require")
HERE = Path(__file__).parent

# Shared libraries, fonts and time zones; whatever isn't there is skipped.
SYSTEM: tuple[str, ...] = (
    "/usr/lib",
    "/usr/lib64",
    "/lib",
    "/lib64",
    "/usr/local/lib",
    "/etc/ld.so.cache",
)
SYSTEM += ("/usr/share/fonts", "/usr/local/share/fonts", "/etc/fonts", "/usr/share/zoneinfo")
SYSTEM += ("/etc/localtime", "/etc/mime.types", "/System/Library", "/Library/Fonts")

WARNING = """\
WARNING: neither bubblewrap nor Landlock runs here ({why}).
Submissions are kept in by a guard in Python only: it stops accidents and plain attempts, and code
written to break out of it can read and write whatever you can.  See the guide for instructors.
`--sandbox require` refuses to grade like this."""


def chosen(sandbox: str) -> str:
    """The sandbox that a choice stands for here, with a warning on stderr when it is the guard.

    Raises ValueError where the choice can't be met.
    """
    name, reasons = resolved(sandbox)
    if name == "guard":
        print(WARNING.format(why="; ".join(reasons)), file=sys.stderr)
    return name


def resolved(sandbox: str) -> tuple[str, list[str]]:
    """bwrap, landlock or guard, and why not one before it.  Raises ValueError as `chosen` does."""
    if sandbox not in SANDBOXES:
        raise ValueError(f"sandbox must be one of {', '.join(SANDBOXES)}; got {sandbox!r}")
    if sandbox == "guard":
        return sandbox, ["the guard was asked for"]
    reasons: list[str] = []
    for name in ("bwrap", "landlock") if sandbox in ("auto", "require") else (sandbox,):
        fails = why_not(name)
        if fails is None:
            return name, reasons
        reasons.append(f"{name}: {fails}")
    if sandbox == "auto":
        return "guard", reasons
    raise ValueError(f"--sandbox {sandbox} can't be had here: {'; '.join(reasons)}")


@functools.cache
def why_not(sandbox: str) -> str | None:
    """Why bwrap or landlock doesn't run here, tried out once; None when it does."""
    if sys.platform != "linux":
        return "it needs Linux"
    if sandbox == "bwrap" and not shutil.which("bwrap"):
        return "not installed"
    with tempfile.TemporaryDirectory() as folder:
        tried = command(sandbox, Path(folder), readable(), [folder])
        tried += python("confine", "try_out", sandbox)
        environment = {"TMPDIR": folder, "PYTHONDONTWRITEBYTECODE": "1"}
        try:
            run = subprocess.run(
                tried, capture_output=True, timeout=120, check=False, env=environment
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
    lines = run.stderr.decode(errors="replace").strip().splitlines()
    return None if run.returncode == 0 else (lines[-1] if lines else f"exit code {run.returncode}")


def readable() -> list[str]:
    """All that a submission may read beside its folder: Python, its packages, and the book's."""
    paths = sysconfig.get_paths()
    python = [paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    python += [*site.getsitepackages(), *([site.getusersitepackages()] if _user_site() else [])]
    for prefix in (sys.prefix, sys.base_prefix):
        python += [os.path.join(prefix, name) for name in ("lib", "lib64", "pyvenv.cfg")]
    python += [os.path.abspath(sys.executable), os.path.realpath(sys.executable)]
    book = importlib.util.find_spec("ntkbook")
    python += list(book.submodule_search_locations or []) if book else []
    libraries = os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)
    python += [path for path in libraries if os.path.basename(path).startswith("lib")]
    found = [path for path in dict.fromkeys((*SYSTEM, *python)) if path and os.path.exists(path)]
    return [path for path in found if not _inside_another(path, found)]


def _user_site() -> bool:
    return bool(site.ENABLE_USER_SITE) and os.path.isdir(site.getusersitepackages())


def _inside_another(path: str, paths: Sequence[str]) -> bool:
    return any(path.startswith(other.rstrip("/") + "/") for other in paths)


def python(module: str, function: str, *arguments: str) -> list[str]:
    """The command that calls a function of this package in a Python of its own."""
    start = f"import sys; sys.path.insert(0, {str(HERE.parent)!r}); "
    start += f"from grading.{module} import {function}; {function}(*{arguments!r})"
    return [os.path.abspath(sys.executable), "-c", start]


def worker_files() -> list[str]:
    names = "__init__ worker confine landlock seccomp guard namespaces strangers"
    return [str(HERE / f"{name}.py") for name in names.split()]


def check_apart(secret: Iterable[Path], allowed: Iterable[str]) -> None:
    """Raises ValueError when something secret lies where every submission may read."""
    for place in secret:
        for root in allowed:
            if place.resolve().is_relative_to(Path(root).resolve()):
                raise ValueError(
                    f"{place} lies in {root}, which every submission may read; move it elsewhere"
                )


def command(
    sandbox: str, folder: Path, reads: Sequence[str], writes: Sequence[str | Path]
) -> list[str]:
    """What stands before a Python that runs in `folder`: bubblewrap and its options, or nothing.

    Inside there is nothing but the files named, an empty network, and no other process; it ends
    with the grader.
    """
    if sandbox != "bwrap":
        return []
    options = ["--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    options += ["--proc", "/proc", "--dev", "/dev"]
    for path in sorted([*reads, *worker_files()]):
        if os.path.islink(path) and path in SYSTEM:
            options += ["--symlink", os.readlink(path), path]
        elif os.path.exists(path):
            options += ["--ro-bind", path, path]
    for place in writes:
        options += ["--bind", str(place), str(place)]
    options += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", str(folder)]
    return [shutil.which("bwrap") or "bwrap", *options, "--"]
