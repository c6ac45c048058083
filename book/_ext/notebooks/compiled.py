"""What JAX compiled, kept: the same program again takes a third of the time.

JAX does not lock the folder that it keeps programs in, so that every process has one of its own;
what the others have kept is linked into it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

# Flags of XLA with which small programs compile in a third of the time, and run slower: the tests'.
# Outputs that are compared are made without them.
QUICKLY = "--xla_cpu_use_fusion_emitters=false --xla_backend_optimization_level=0"

FOLDER = "JAX_COMPILATION_CACHE_DIR"  # what JAX calls the folder that it keeps programs in

WRITTEN_S = 2  # JAX writes a file at once: one of this age is whole


def kept_in(folder: Path) -> dict[str, str]:
    """The environment of a process that keeps in this folder whatever it compiles.

    The keys hold the program, the options and the versions, and, with XLA's caches on, the path of
    the folder as well: these are off, and a program is known in every folder.
    """
    return {
        FOLDER: str(folder),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES": "none",
    }


def share(own: Path, others: Iterable[Path]) -> None:
    """Link into `own` what other processes keep in their folders, as far as it is written."""
    own.mkdir(parents=True, exist_ok=True)
    known, written = set(os.listdir(own)), time.time() - WRITTEN_S
    for folder in others:
        for name in set(os.listdir(folder)) - known:
            with suppress(OSError):  # gone, or linked by now, or on a file system without links
                if (folder / name).stat().st_mtime < written:
                    os.link(folder / name, own / name)
                    known.add(name)
