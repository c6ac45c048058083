"""The built site, made once per test run and shared by the processes that test it."""

import os
import subprocess
import sys
import tempfile
import time
from functools import lru_cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
LIMIT_S = 600


@lru_cache
def built_site():
    """The folder of the built HTML; fails with Sphinx's words if the build warns.

    Set NTKBOOK_SITE to the folder of an existing build to use that one instead.
    """
    if os.environ.get("NTKBOOK_SITE"):
        site = Path(os.environ["NTKBOOK_SITE"]).resolve()
        assert (site / "index.html").is_file(), f"NTKBOOK_SITE={site} holds no built site"
        return site
    # pytest-xdist gives its workers one id per run; the first to come builds, the others wait.
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))
    folder = Path(tempfile.gettempdir()) / f"ntkbook-site-{run}"
    result = folder / "result.txt"
    try:
        folder.mkdir()
    except FileExistsError:
        wait_for(result)
    else:
        result.with_suffix(".part").write_text(build(folder), encoding="utf8")
        result.with_suffix(".part").rename(result)
    problem = result.read_text(encoding="utf8")
    assert not problem, f"the site does not build cleanly:\n{problem}"
    return folder / "_build" / "html"


def build(folder):
    """Run the build; an empty string, or the end of what it said when it failed."""
    command = [
        str(Path(sys.executable).with_name("jupyter-book")),
        "build",
        str(ROOT),
        "--path-output",
        str(folder),
        "-W",
        "-n",
        "--keep-going",
    ]
    environment = {**os.environ, "NO_COLOR": "1", "PYTHONUTF8": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=LIMIT_S
    )
    if done.returncode == 0 and (folder / "_build" / "html" / "index.html").is_file():
        return ""
    lines = (done.stdout + done.stderr).splitlines()
    telling = [line for line in lines if "WARNING" in line or "ERROR" in line]
    return "\n".join([*telling[:30], "…", *lines[-25:]])


def wait_for(path):
    start = time.monotonic()
    while not path.is_file():
        assert time.monotonic() - start < LIMIT_S, (
            "another process never finished building the site"
        )
        time.sleep(0.5)
