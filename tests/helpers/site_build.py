"""The built site, made once per test run and shared by the tests that look at it."""

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from functools import lru_cache
from pathlib import Path

ROOT = Path(__file__).parents[2]


@lru_cache
def built_site():
    """The folder of the built HTML; fails with Sphinx's words if the build warns.

    Set NTKBOOK_SITE to the folder of an existing build to use that one instead.
    """
    if os.environ.get("NTKBOOK_SITE"):
        site = Path(os.environ["NTKBOOK_SITE"]).resolve()
        assert (site / "index.html").is_file(), f"NTKBOOK_SITE={site} holds no built site"
        return site
    # conftest.py gives all tests of the site to one process, so that it is built once.
    folder = Path(tempfile.mkdtemp(prefix="ntkbook-site-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    problem = build(folder)
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
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode == 0 and (folder / "_build" / "html" / "index.html").is_file():
        return ""
    lines = (done.stdout + done.stderr).splitlines()
    telling = [line for line in lines if "WARNING" in line or "ERROR" in line]
    return "\n".join([*telling[:30], "…", *lines[-25:]])
