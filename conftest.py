"""What every test shares: the strict notebook plug-in, float64, and the order of the work."""

from __future__ import annotations

import os
from pathlib import Path

import jax
import pytest
from xdist.scheduler import LoadFileScheduling

pytest_plugins = ["nbstrict"]

SITE = ("test_site.py", "test_browser.py")  # they share one build of the site

jax.config.update("jax_enable_x64", True)  # the tests' own; the package never touches it

# Notebooks' kernels inherit these: no settings of the person who runs the tests, and a share of
# the accelerator instead of all of it.
os.environ["IPYTHONDIR"] = str(Path(__file__).parent / ".pytest_cache" / "ipython")
os.environ["NTKBOOK_SIZE"] = "cpu"
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")


class Scheduling(LoadFileScheduling):
    """A file's tests run in one process, in order; all files that need the site share theirs."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return "site" if file.endswith(SITE) else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Scheduling:
    return Scheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The site first, then the notebooks: the longest work starts earliest."""
    items.sort(key=lambda item: (item.path.name not in SITE, item.path.suffix != ".ipynb"))
