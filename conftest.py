"""What every test shares: the strict notebook plug-in, float64, and the order of the work."""

from __future__ import annotations

import ctypes
import gc
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from notebooks.compiled import QUICKLY, kept_in, share
from processes import DIGITS, Scheduling, flags_of, turn

pytest_plugins = ["nbstrict"]

# This script runs in an environment of its own: it imports a library that ours cannot have.
collect_ignore = ["tests/benchmarks/record_values.py"]

CACHE = Path(__file__).parent / ".pytest_cache"
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "main")

COMPILED = CACHE / f"jax-{WORKER}"

# No settings of the person who runs the tests, a share of the accelerator instead of all of it, how
# programs are compiled, and those that JAX compiled in earlier runs.
os.environ["IPYTHONDIR"] = str(CACHE / "ipython")
os.environ["NTKBOOK_SIZE"] = "cpu"
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
os.environ["XLA_FLAGS"] = flags_of(WORKER, os.environ.get("XLA_FLAGS", ""))
os.environ.update(kept_in(COMPILED))

import jax  # noqa: E402  (it reads the variables above)

jax.config.update("jax_enable_x64", True)  # the tests' own; the package never touches it

import typed  # noqa: E402  (it imports the package, after the settings above)

typed.install()  # every public function is held to its annotations in all tests


MAPS, PAGES = Path("/proc/self/maps"), Path("/proc/self/statm")
MANY = 20_000  # Linux allows a process 65,530 pieces of memory; a compiled program takes several
MUCH = 2**31  # bytes: three processes shall have room on a laptop


@pytest.fixture(scope="module", autouse=True)
def compiled_by_others() -> None:
    """Before a file, take what other processes have compiled by now, in this run and before."""
    share(COMPILED, CACHE.glob("jax-*"))


@pytest.fixture(scope="module", autouse=True)
def forgotten_programs() -> Iterator[None]:
    """After a file, forget what was compiled if it is much: for want of room a process crashes."""
    yield
    if not MAPS.exists():
        return
    memory = int(PAGES.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    if len(MAPS.read_bytes().splitlines()) > MANY or memory > MUCH:
        jax.clear_caches()
        gc.collect()
        with suppress(AttributeError):  # of glibc, which keeps what was freed
            ctypes.CDLL(None).malloc_trim(0)


@pytest.fixture(scope="module", autouse=True)
def compiled_as_users_do(request: pytest.FixtureRequest) -> None:
    """What is about digits is not run in a process that compiles in another way."""
    assert request.path.name not in DIGITS or QUICKLY not in os.environ["XLA_FLAGS"], (
        f"{request.path.name} is about digits and was given to process {WORKER}, which compiles "
        "without optimisation: the one for it has crashed; run the file alone with -n0"
    )


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Scheduling:
    return Scheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=turn)
