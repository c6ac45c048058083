"""Mutants of the package's mathematics: how many of them do its tests kill?

    python tests/benchmarks/mutation.py --folders gaussian theory --sample 14 --out mutants.json

A mutant is the package with one operator, number or comparison changed.  `cosmic-ray` (to be
installed beside the package: `pip install cosmic-ray`) makes all mutants of a folder; of these a
sample is drawn, and each is tried in a copy of the last commit until a test fails.  First every
mutant meets the examples of its module and one case of each test of its folder, or those named
after what the module defines: tests that name it come before those that name what modules define
that import it, and these before the others.  Mutants that survive then meet all other cases.  At
the end the tests that killed are run without a mutant, where they have to pass.  What survives is
listed: either a test is missing there, or the mutant computes the same.  `mutants.json` beside
this file keeps such lists, to which the reasons were added by hand.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import inspect
import json
import os
import random
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = (
    "algebra", "architectures", "checking", "diagnosis", "evidence", "gaussian", "networks",
    "signals", "tangents", "theory", "training",
)  # fmt: skip
# Where tests of a folder are, if not in one of its name alone.
TESTS = {
    "algebra": ("evidence",),
    "gaussian": ("gaussian", "evidence"),
    "signals": ("networks", "architectures"),
    "tangents": ("tangents", "test_arguments.py"),
}
SECONDS = 1800.0  # for all tests; a mutant may loop for ever, and then counts as killed
# The bar in `X | None` is no mathematics, and a bit of a float is an error at once.
TRIVIAL = re.compile(r"Operator_(BitOr_|(Add|Sub|Mul|Div|FloorDiv|Mod|Pow)_(Bit|LShift|RShift))")
PYTEST = (sys.executable, "-m", "pytest", "-q", "-n0", "--tb=no", "-p", "no:cacheprovider")
PLUGIN = ("-x", "-p", "mutation")  # this file, for the order of the tests
CONFIG = """
[cosmic-ray]
module-path = "ntkbook/{folder}"
timeout = 1
excluded-modules = ["ntkbook/{folder}/__init__.py"]
test-command = "none"

[cosmic-ray.distributor]
name = "local"
"""


def run(folders: list[str], sample: int, seed: int, cosmic: str, out: Path) -> None:
    """Draw `sample` mutants of each folder, try them, and write which survive."""
    with tempfile.TemporaryDirectory() as place:
        copy, archive = Path(place, "copy"), Path(place, "commit.tar")
        subprocess.run(["git", "archive", "-o", str(archive), "HEAD"], cwd=ROOT, check=True)
        shutil.unpack_archive(archive, copy, filter="data")
        reports: dict[str, dict[str, Any]] = {}
        for folder in folders:
            mutants, total = draw(folder, sample, seed, cosmic, copy)
            reports[folder] = {
                "folder": folder, "commit": commit(), "seed": seed, "mutants": total,
                "tested": len(mutants), "killed": 0, "broken": [], "survivors": mutants,
            }  # fmt: skip
        killers: dict[str, list[str]] = {folder: [] for folder in folders}
        for cases in ("first", "other"):
            for folder, report in reports.items():
                tried = [(one, killer(one, cases, cosmic, copy)) for one in report["survivors"]]
                report["survivors"] = [one for one, name in tried if name is None]
                report["killed"] = report["tested"] - len(report["survivors"])
                killers[folder] += [name for _, name in tried if name is not None]
                print("{folder}: {killed} of {tested} killed".format(**report), flush=True)
                out.write_text(json.dumps(list(reports.values()), indent=1) + "\n", "utf8")
        for folder, names in killers.items():  # what fails without a mutant as well is no killer
            tests = sorted({name for name in names if "(" not in name})
            reports[folder]["broken"] = failed(copy, tests, ()) if tests else []
        out.write_text(json.dumps(list(reports.values()), indent=1) + "\n", "utf8")


def commit() -> str:
    found = subprocess.check_output(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, text=True)
    return found.strip()


def draw(
    folder: str, sample: int, seed: int, cosmic: str, copy: Path
) -> tuple[list[dict[str, Any]], int]:
    """A random sample of a folder's mutants that are not trivial, and how many there were."""
    Path(copy, "mutation.toml").write_text(CONFIG.format(folder=folder), encoding="utf8")
    subprocess.run([cosmic, "init", "--force", "mutation.toml", "m.sqlite"], cwd=copy, check=True)
    with sqlite3.connect(copy / "m.sqlite") as data:
        rows = data.execute(
            "select module_path, start_pos_row, operator_name, occurrence from mutation_specs "
            "order by module_path, operator_name, occurrence"
        ).fetchall()
    rows = [row for row in rows if not TRIVIAL.search(row[2])]
    drawn = sorted(random.Random(seed).sample(rows, min(sample, len(rows))))
    names = ("file", "line", "operator", "occurrence")
    return [dict(zip(names, row, strict=True)) for row in drawn], len(rows)


def changed(before: str, after: str) -> list[str]:
    """The lines that a mutant changed."""
    lines = list(difflib.unified_diff(before.splitlines(), after.splitlines(), n=0))
    return [line for line in lines[2:] if not line.startswith("@@")]


def killer(mutant: dict[str, Any], cases: str, cosmic: str, copy: Path) -> str | None:
    """The test of its folder, among these cases, that kills a mutant: its name, or None."""
    module = copy / mutant["file"]
    before, folder = module.read_text("utf8"), module.parent.name
    change = (mutant["file"], mutant["operator"], str(mutant["occurrence"]))
    subprocess.run([cosmic, "apply", *change], cwd=copy, check=True)
    mutant["change"] = changed(before, module.read_text("utf8"))
    tests = [mutant["file"], *(f"tests/{name}" for name in TESTS.get(folder, (folder,)))]
    found = failed(copy, tests, PLUGIN, MUTANT=mutant["file"], CASES=cases)
    module.write_text(before, encoding="utf8")
    print(f"{mutant} {'killed by ' + found[0] if found else 'SURVIVED'}", flush=True)
    return found[0] if found else None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of each test the first case or the others, and the tests about the mutant's module first."""
    module = config.rootpath / os.environ["MUTANT"]
    own, near = public(module), set()
    for other in module.parent.glob("*.py"):
        if re.search(rf"\b{module.parent.name}\.{module.stem}\b", other.read_text("utf8")):
            near |= public(other)
    names = [(item.path, getattr(item, "originalname", item.name)) for item in items]
    first = [name not in names[:place] for place, name in enumerate(names)]
    first = [one or bool(words(x.name) & own) for x, one in zip(items, first, strict=True)]
    wanted = os.environ["CASES"] == "first"
    kept = [item for item, one in zip(items, first, strict=True) if one == wanted]

    def turn(item: pytest.Item) -> tuple[bool, ...]:
        source = inspect.getsource(item.function) if isinstance(item, pytest.Function) else ""
        said = words(source)
        return item.path != module, not words(item.name) & own, not said & own, not said & near

    items[:] = sorted(kept, key=turn)


def words(text: str) -> set[str]:
    return set(re.findall(r"[^\W_]\w*", text))


def public(module: Path) -> set[str]:
    """The functions, classes and constants that a module offers."""
    body = ast.parse(module.read_text("utf8")).body
    names = [node.name for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    assigned = [part for node in body if isinstance(node, ast.Assign) for part in ast.walk(node)]
    names += [n.id for n in assigned if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
    return {name for name in names if not name.startswith("_")}


def failed(copy: Path, tests: list[str], options: Sequence[str], **settings: str) -> list[str]:
    """Those of these tests that fail; where none can be run, the first and why."""
    # A mutant as long as the module and of the same second would be taken for it, once compiled.
    settings |= {"PYTHONDONTWRITEBYTECODE": "1"}
    settings |= {"PYTHONPATH": f"{copy}{os.pathsep}{Path(__file__).parent}"}
    try:
        done = subprocess.run(
            [*PYTEST, *options, *tests],
            cwd=copy, env={**os.environ, **settings}, timeout=SECONDS,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return [f"{tests[0]} (no end within {SECONDS:g} s)"]
    if done.returncode in (0, 5):  # 5: no test left
        return []
    found = re.findall(r"^(?:FAILED|ERROR) (\S.*?)(?: - .*)?$", done.stdout, re.MULTILINE)
    return found or [f"{tests[0]} (no test ran: {done.stdout.strip()[-200:]})"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--folders", nargs="+", choices=FOLDERS, required=True)
    parser.add_argument("--sample", type=int, default=14, help="mutants of each folder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cosmic-ray", default="cosmic-ray", help="the command, if not on PATH")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    run(given.folders, given.sample, given.seed, given.cosmic_ray, given.out)


if __name__ == "__main__":
    main()
