"""Which process runs which tests: those on digits are run as users' programs are compiled."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace

import pytest
from notebooks.compiled import QUICKLY
from processes import AS_USERS, DIGITS, LONGEST, Scheduling, flags_of

TESTS = Path(__file__).parent


class Node:
    """What the scheduling asks of a process, and what it was given to run."""

    def __init__(self, name: str) -> None:
        self.gateway, self.shutting_down, self.given = SimpleNamespace(id=name), False, []

    def shutdown(self) -> None:
        self.shutting_down = True

    def send_runtest_some(self, indices: list[int]) -> None:
        self.given += indices


def shared_out(files: list[str], *names: str) -> dict[str, list[str]]:
    """The files that each process is given when it asks again and again."""
    scheduling = Scheduling(SimpleNamespace(getvalue=lambda _: ["popen"] * len(names)))
    scheduling.workqueue = OrderedDict((file, {f"{file}::test": False}) for file in files)
    nodes = [Node(name) for name in names]
    for node in nodes:
        scheduling.add_node(node)
        scheduling.registered_collections[node] = [f"{file}::test" for file in files]
    while scheduling.workqueue and not all(node.shutting_down for node in nodes):
        for node in nodes:
            if scheduling.workqueue and not node.shutting_down:
                scheduling._assign_work_unit(node)
    assert not scheduling.workqueue
    return {node.gateway.id: [files[index] for index in node.given] for node in nodes}


FILES = ["tests/test_a.py", "tests/test_b.py", "tests/test_range.py", "tests/test_c.py"]


def test_digits_have_a_process_of_their_own():
    given = shared_out(FILES, "gw0", "gw1", "gw2")
    assert given["gw0"] == ["tests/test_range.py"]
    assert sorted(given["gw1"] + given["gw2"]) == [f for f in FILES if "range" not in f]


def test_two_processes_are_both_kept_busy():
    given = shared_out(FILES, "gw0", "gw1")
    assert given["gw0"] == ["tests/test_range.py", "tests/test_b.py"]
    assert given["gw1"] == ["tests/test_a.py", "tests/test_c.py"]


@pytest.mark.parametrize("names", [["gw0"], ["gw1", "gw2"], ["gw3"]])
def test_what_has_no_process_of_its_own_is_run_all_the_same(names):
    given = shared_out(FILES, *names)
    assert sorted(file for files in given.values() for file in files) == sorted(FILES)


def test_nothing_about_digits_leaves_that_process_without_work():
    given = shared_out(FILES[:2], "gw0", "gw1", "gw2")
    assert given == {"gw0": [], "gw1": FILES[:1], "gw2": FILES[1:2]}


def test_one_process_compiles_as_users_do():
    assert [flags_of(name, "--a") for name in ("main", AS_USERS)] == ["--a", "--a"]
    assert flags_of("gw1", "--a") == f"--a {QUICKLY}"
    assert flags_of("gw1", "") == QUICKLY


@pytest.mark.parametrize("name", [*DIGITS, *LONGEST])
def test_each_file_that_is_named_is_there(name):
    assert len(list(TESTS.rglob(name))) == 1
