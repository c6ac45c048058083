"""What JAX compiled: known again in every folder, and shared when it is written."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from notebooks.compiled import WRITTEN_S, kept_in, share

PROGRAM = "import jax; print(jax.jit(lambda x: 3 * x)(2.0))"


def test_a_program_is_known_in_another_folder(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"

    def run(folder):
        command = [sys.executable, "-c", PROGRAM]
        done = subprocess.run(
            command, env=os.environ | kept_in(folder), capture_output=True, check=True
        )
        assert done.stdout == b"6.0\n"

    run(one)
    before = {path.name: path.stat().st_ino for path in one.iterdir()}
    assert any("lambda" in name for name in before)
    for path in one.iterdir():
        os.utime(path, (0, 0))
    share(two, [one])
    run(two)
    assert {path.name: path.stat().st_ino for path in two.iterdir()} == before


def test_what_is_shared_is_written_and_replaces_nothing(tmp_path):
    own, others = tmp_path / "own", [tmp_path / "a", tmp_path / "b"]
    for folder in (own, *others):
        folder.mkdir()
        for name, age in ((folder.name, 60), (f"new-{folder.name}", 0), ("common", 60)):
            path = folder / name
            path.write_text(folder.name)
            os.utime(path, (time.time() - age * WRITTEN_S,) * 2)
    share(own, [own, *others])
    found = {path.name: path.read_text() for path in own.iterdir()}
    assert found == {"own": "own", "new-own": "own", "common": "own", "a": "a", "b": "b"}
    share(new := tmp_path / "not" / "yet", others)
    assert {path.name for path in new.iterdir()} == {"a", "b", "common"}
