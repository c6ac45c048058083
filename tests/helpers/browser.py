"""A Chromium to test the site in: found on the machine, or installed."""

import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
QUIET = [  # nothing that Chromium does for itself may look like a request of a page
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def find_chromium(playwright):
    """The path of a Chromium, installing one if need be; RuntimeError says what to install."""
    return on_path() or playwrights_own(playwright) or install(playwright)


def on_path():
    return next(filter(None, map(shutil.which, NAMES)), None)


def playwrights_own(playwright):
    path = playwright.chromium.executable_path
    return path if Path(path).is_file() else None


def install(playwright):
    succeeded([sys.executable, "-m", "playwright", "install", "chromium"])
    found = playwrights_own(playwright)
    if found is None and hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("apt-get"):
        succeeded(["apt-get", "install", "-y", "chromium"])
        found = on_path()
    if found is None:
        raise RuntimeError(
            "The browser tests need Chromium: install it with your system's package manager, such "
            "as `apt-get install chromium`, or with `python -m playwright install chromium`."
        )
    return found


def succeeded(command):
    try:
        return subprocess.run(command, capture_output=True, timeout=300).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


@contextmanager
def served(folder):
    """Serve a folder on this machine; yields its address, with a slash at the end."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory=str(folder)))
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


class Silent(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass
