"""Mutants of the package's mathematics: how many of them do its tests kill?

    python tests/benchmarks/mutation.py --folder gaussian --sample 30 --seed 0 --out mutants.json

A mutant is the package with one operator, number or comparison changed.  `cosmic-ray` (to be
installed beside the package: `pip install cosmic-ray`) makes all mutants of a folder; of these a
sample is drawn, and the tests of that folder are run on each, in a copy of the repository.  What
survives is listed: either a test is missing there, or the mutant computes the same.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("algebra", "evidence", "gaussian", "networks", "tangents", "training", "theory")
TESTS = {"algebra": ("evidence",)}  # folders of tests, where they have another name
SECONDS = 1800.0  # for the tests of one mutant; a mutant may loop for ever
CONFIG = """
[cosmic-ray]
module-path = "ntkbook/{folder}"
timeout = {seconds}
excluded-modules = ["ntkbook/{folder}/__init__.py"]
test-command = "{python} -m pytest -x -q -n0 -p no:cacheprovider {tests}"

[cosmic-ray.distributor]
name = "local"
"""


def run(folder: str, sample: int, seed: int, cosmic: str) -> dict[str, object]:
    """Draw `sample` mutants of a folder, test each, and say which survive."""
    with tempfile.TemporaryDirectory() as place:
        copy = Path(place, "copy")
        ignored = shutil.ignore_patterns(".venv", "_build", ".git", ".gpu-wheels", "__pycache__")
        shutil.copytree(ROOT, copy, ignore=ignored, symlinks=True)
        tests = " ".join(f"tests/{name}" for name in TESTS.get(folder, (folder,)))
        settings = {"folder": folder, "seconds": SECONDS, "python": sys.executable, "tests": tests}
        Path(copy, "mutation.toml").write_text(CONFIG.format(**settings), encoding="utf8")
        subprocess.run([cosmic, "init", "mutation.toml", "mutants.sqlite"], cwd=copy, check=True)
        total = draw(copy / "mutants.sqlite", sample, seed)
        subprocess.run([cosmic, "exec", "mutation.toml", "mutants.sqlite"], cwd=copy, check=True)
        outcomes = read(copy / "mutants.sqlite")
    survivors = [mutant for outcome, mutant in outcomes if outcome == "SURVIVED"]
    return {
        "folder": folder,
        "mutants": total,
        "tested": len(outcomes),
        "killed": len(outcomes) - len(survivors),
        "seed": seed,
        "survivors": survivors,
    }


def draw(database: Path, sample: int, seed: int) -> int:
    """Keep a random sample of the mutants, and say how many there were.

    The bar in `X | None` is no mathematics: mutants of annotations are not counted.
    """
    with sqlite3.connect(database) as data:
        everything = [job for (job,) in data.execute("select job_id from work_items")]
        ordered = [
            job
            for (job,) in data.execute(
                "select job_id from mutation_specs where operator_name not like '%BitOr%' "
                "order by module_path, operator_name, occurrence"
            )
        ]
        kept = set(random.Random(seed).sample(ordered, min(sample, len(ordered))))
        dropped = [(job,) for job in everything if job not in kept]
        data.executemany("delete from mutation_specs where job_id = ?", dropped)
        data.executemany("delete from work_items where job_id = ?", dropped)
    return len(ordered)


def read(database: Path) -> list[tuple[str, dict[str, object]]]:
    """Each mutant's outcome, where it is and what it changed."""
    with sqlite3.connect(database) as data:
        rows = data.execute(
            "select r.test_outcome, m.module_path, m.start_pos_row, m.operator_name, r.diff "
            "from work_results r join mutation_specs m on r.job_id = m.job_id "
            "order by m.module_path, m.start_pos_row"
        ).fetchall()
    return [
        (
            outcome.rsplit(".", 1)[-1],
            {
                "file": path,
                "line": line,
                "operator": operator.rsplit("/", 1)[-1],
                "change": [
                    text
                    for text in (diff or "").splitlines()
                    if text[:1] in "+-" and text[:3] not in ("+++", "---")
                ],
            },
        )
        for outcome, path, line, operator, diff in rows
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--folder", choices=FOLDERS, required=True)
    parser.add_argument("--sample", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cosmic-ray", default="cosmic-ray", help="the command, if not on PATH")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    report = run(given.folder, given.sample, given.seed, given.cosmic_ray)
    given.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf8")
    print(f"{report['folder']}: {report['killed']} of {report['tested']} killed")


if __name__ == "__main__":
    main()
