"""Which process runs which tests, and how it compiles.

The tests are thousands of small programs that run once. Most processes compile them without
optimisation, in a third of the time; one compiles as users do, and is given the files whose subject
is what the compiler may do to a digit.
"""

from __future__ import annotations

import os

import pytest
from notebooks.compiled import QUICKLY
from xdist.scheduler import LoadFileScheduling
from xdist.workermanage import WorkerController

AS_USERS = "gw0"  # compiles as users do, as does a process alone
DIGITS = (
    "test_accuracy.py",
    "test_beyond_range.py",
    "test_duals.py",
    "test_neural_tangents.py",
    "test_range.py",
    "test_scales.py",
)

SITE = ("test_site.py", "test_browser.py", "test_leaks.py")  # they share one build of the site
# What takes longest, in this order: begun first, so that no process waits for another at the end.
LONGEST = (
    *SITE,
    "test_assignments.py",
    "test_gate.py",
    "test_forged.py",
    "test_check_layer.py",
)


def flags_of(worker: str, flags: str) -> str:
    """XLA's flags in the process of this name, `flags` being those that are set already."""
    return flags if worker in ("main", AS_USERS) else f"{flags} {QUICKLY}".strip()


def turn(item: pytest.Item) -> tuple[bool, int]:
    """The longest work first; notebooks last, whose outputs the build of the site computes."""
    name = item.path.name
    place = LONGEST.index(name) if name in LONGEST else len(LONGEST)
    return item.path.suffix == ".ipynb", place


class Scheduling(LoadFileScheduling):
    """A file's tests run in one process, in order; files that build the site share theirs.

    Assignments take minutes together and need nothing of one another: each goes where room is.
    What is about digits goes to the process that compiles as users do.  That one takes no more,
    unless the others are fewer than two: it is the slowest.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        if file.endswith("test_assignments.py"):
            return nodeid
        return "site" if file.endswith(SITE) and not os.environ.get("NTKBOOK_SITE") else file

    def _assign_work_unit(self, node: WorkerController) -> None:
        files = self._open_to(node)
        if not files:
            node.shutdown()
            return
        self.workqueue.move_to_end(files[0], last=False)
        super()._assign_work_unit(node)

    def _open_to(self, node: WorkerController) -> list[str]:
        names = [other.gateway.id for other in self.nodes]
        digits = [file for file in self.workqueue if file.endswith(DIGITS)]
        others = [file for file in self.workqueue if not file.endswith(DIGITS)]
        if node.gateway.id == AS_USERS:
            return digits or (others if len(names) < 3 else [])
        return others if AS_USERS in names else [*others, *digits]
