"""The repository as a whole: locked, tidy, and saying the same thing everywhere."""

from __future__ import annotations

import ast
import doctest
import itertools
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from notebooks import canonical
from notebooks.toc import chapters, lessons
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import ntkbook

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
PYTHONS = ("3.11.9", "3.12.8", "3.13.1")
MADE_BY_TOOLS = re.compile(r"\.(?!ci|github).*|_build|__pycache__|.*\.egg-info|venv.*")


def files(*suffixes: str) -> list[Path]:
    """The repository's own files; git need not be there."""
    found = []
    for folder, names, leaves in os.walk(ROOT):
        here = Path(folder).relative_to(ROOT)
        names[:] = [n for n in names if not MADE_BY_TOOLS.fullmatch(n)]
        found += [ROOT / here / leaf for leaf in leaves if leaf.endswith(suffixes)]
    return sorted(found)


def test_the_first_page_asks_the_question_of_every_chapter():
    index = (ROOT / "book" / "index.md").read_text("utf-8")
    named = re.findall(r"^\|.*\| \{doc\}`([^`]+)` \|.*\? \|$", index, re.MULTILINE)
    assert named == [
        path.relative_to(ROOT / "book").with_suffix("").as_posix() for path in lessons(ROOT)
    ]


COURSE = ROOT / "book" / "assignments"
NOTEBOOKS = [path for path in files(".ipynb") if path.is_relative_to(ROOT / "book")]
CHAPTERS = [path for path in NOTEBOOKS if not path.is_relative_to(COURSE)]
SOURCES = [path for path in NOTEBOOKS if path.is_relative_to(COURSE / "source")]


def written(path: Path) -> str:
    """The text that a person wrote: of a notebook the cells, without what they print."""
    if path.suffix != ".ipynb":
        return path.read_text("utf-8")
    return "\n".join(cell.source for cell in canonical.read(path).cells)


def tool(*arguments: object) -> None:
    """Run a module of this Python from the root; fail with what it said."""
    command = [sys.executable, "-m", *map(str, arguments)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, (run.stdout + run.stderr)[-4000:]


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


# The lock


def direct(extra: str | None = None) -> list[Requirement]:
    """Direct dependencies, those of the extras that an extra names included."""
    texts = PROJECT["optional-dependencies"][extra] if extra else PROJECT["dependencies"]
    found = []
    for requirement in map(Requirement, texts):
        if requirement.name == PROJECT["name"]:
            found += [r for inner in requirement.extras for r in direct(inner)]
        else:
            found.append(requirement)
    return found


def pins(python: str) -> dict[str, str]:
    """What requirements.txt installs on Linux under one version of Python."""
    environment = {
        "python_version": python.rpartition(".")[0], "python_full_version": python,
        "sys_platform": "linux", "platform_system": "Linux",
        "implementation_name": "cpython", "platform_python_implementation": "CPython",
    }  # fmt: skip
    found: dict[str, str] = {}
    for line in (ROOT / "requirements.txt").read_text("utf-8").splitlines():
        if not line or line.startswith(("#", "-e")):
            continue
        pinned = Requirement(line)
        if pinned.marker and not pinned.marker.evaluate(environment):
            continue
        (only,) = pinned.specifier
        assert only.operator == "==", line
        key = canonicalize_name(pinned.name)
        assert key not in found, f"two pins of {key} under Python {python}"
        found[key] = only.version
    return found


@pytest.mark.parametrize("python", PYTHONS)
def test_every_direct_dependency_is_pinned_within_its_range(python):
    locked = pins(python)
    for requirement in direct() + direct("dev"):
        version = locked.get(canonicalize_name(requirement.name))
        assert version, f"{requirement.name} is not in requirements.txt"
        assert requirement.specifier.contains(version, prereleases=True), (requirement, version)


def test_the_lock_installs_the_package_itself():
    assert "-e ." in (ROOT / "requirements.txt").read_text("utf-8").splitlines()
    assert PROJECT["requires-python"] == ">=3.11"


# Style and types


def test_ruff():
    tool("ruff", "check", *files(".py"))


def test_ruff_format():
    tool("ruff", "format", "--check", *files(".py"))


def test_ruff_on_notebooks():
    """Only checked: the formatter would give each argument of a check a line of its own."""
    tool("ruff", "check", "--line-length", 78, *CHAPTERS, *SOURCES)


def test_mypy():
    tool("mypy")


def test_codespell():
    tool("codespell_lib", *files(".py", ".md", ".ipynb", ".toml", ".yml", ".yaml", ".cff", ".css"))


def test_no_file_is_long():
    """What a person writes and reads as one piece has at most 400 lines."""
    long = {name(path): len(path.read_text("utf-8").splitlines()) for path in files(".py", ".js")}
    assert {path: lines for path, lines in long.items() if lines > 400} == {}


ROOMS = ("notebooks", "grading", "pages")  # of book/_ext, in the order of their imports


@pytest.mark.parametrize("path", sorted((ROOT / "book" / "_ext").rglob("*.py")), ids=name)
def test_a_room_imports_only_itself_and_those_before_it(path):
    inside = path.relative_to(ROOT / "book" / "_ext").parts
    here = ROOMS.index(inside[0]) if len(inside) > 1 else len(ROOMS)
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        for room in {dotted.split(".")[0] for dotted in names} & set(ROOMS):
            assert ROOMS.index(room) <= here, f"{name(path)} imports {room}, a room after its own"


def test_every_file_of_tests_has_a_name_of_its_own():
    """Two of one name can't be collected together, and each alone doesn't show it."""
    names = sorted(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert [a for a, b in itertools.pairwise(names) if a == b] == []


def test_the_doors_are_short():
    for path in (ROOT / "book" / "_ext").glob("*.py"):
        lines = len(path.read_text("utf-8").splitlines())
        assert lines <= 80, f"{name(path)} has {lines} lines: what it does belongs into a room"


TEXT = (".py", ".md", ".ipynb", ".toml", ".yml", ".cff", ".css", ".bib", ".txt", ".js", ".svg")


def test_texts_have_unix_line_ends_and_end_in_one():
    for path in files(*TEXT):
        content = path.read_bytes()
        assert b"\r" not in content, name(path)
        assert content.endswith(b"\n") or not content, name(path)
        assert not content.endswith(b"\n\n"), name(path)


def test_no_text_holds_a_path_of_one_machine():
    own = re.compile(r"(?<![\w.}/:])/(?:root|home|Users|work)/[\w.]")
    for path in files(*TEXT, "run"):
        found = own.search(written(path))
        assert not found, (name(path), found)


def test_nothing_is_left_to_do():
    for path in files(".py", ".md", ".ipynb", ".yml", ".toml"):
        if "tests" not in path.relative_to(ROOT).parts:
            assert not re.search(r"\b(TODO|FIXME|XXX)\b", written(path)), name(path)


# Notebooks


def cells(path: Path, kind: str) -> list:
    return [cell for cell in canonical.read(path).cells if cell.cell_type == kind]


def test_every_notebook_is_in_the_table_of_contents():
    assert sorted(chapters(ROOT)) == CHAPTERS


def test_the_gate_covers_every_notebook():
    """pytest collects every cell of every notebook, and its form."""
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-n0", "book"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    collected = run.stdout.splitlines()
    for path in CHAPTERS:
        items = sum(line.startswith(f"{name(path)}::") for line in collected)
        assert items == len(cells(path, "code")) + 1, (name(path), run.stdout)


FILLER = re.compile(r"(?i)\b(simply|obviously|trivially|of course|it is easy to see|note that)\b")


@pytest.mark.parametrize("path", [*CHAPTERS, *SOURCES, *files(".md")], ids=name)
def test_prose_has_no_filler(path):
    found = FILLER.search(written(path))
    assert not found, found


def proves(source: str) -> bool:
    """Whether a cell asserts something, or holds a derivation, a check or a figure."""
    nodes = list(ast.walk(ast.parse(source)))
    calls = [ast.unparse(node.func) for node in nodes if isinstance(node, ast.Call)]
    known = ("ntk.Derivation", "ntk.check", "ntk.figure", "np.testing")
    return any(isinstance(node, ast.Assert) for node in nodes) or any(
        call.startswith(known) for call in calls
    )


def test_solutions_are_tested():
    for path in CHAPTERS:
        inside = ""
        proved = True
        for cell in canonical.read(path).cells:
            if cell.cell_type == "markdown" and "{solution-start}" in cell.source:
                inside, proved = cell.source.splitlines()[0], False
            elif cell.cell_type == "markdown" and "{solution-end}" in cell.source:
                assert proved, f"{name(path)}: {inside}"
                inside = ""
            elif inside and cell.cell_type == "code":
                proved |= proves(cell.source)


# Documents


def command(which: str) -> str:
    readme = (ROOT / "README.md").read_text("utf-8")
    found = re.search(rf"<!-- command: {which} -->\n```bash\n(.+)\n```", readme)
    assert found, which
    return found.group(1)


def test_commands_start_from_nothing_and_agree_everywhere():
    start = "python3 -m venv .venv && .venv/bin/pip install -r requirements.txt && .venv/bin/"
    assert command("build") == start + "jupyter-book build ."
    assert command("test") == start + "pytest"
    page = re.sub(r"\s*\\\n\s*", " ", (ROOT / "book" / "how-to-run.md").read_text("utf-8"))
    assert command("build") in page
    assert command("test") in page


def test_ci_runs_the_commands_of_the_readme():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "command_of build" in script.read_text()
    assert "command_of test" in script.read_text()
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "book.yml").read_text())
    job = workflow["jobs"]["test"]
    assert job["strategy"]["matrix"]["python"] == [v.rpartition(".")[0] for v in PYTHONS]
    assert any(".ci/run" in step.get("run", "") for step in job["steps"])


def test_the_readme_example_runs():
    failures, tried = doctest.testfile(str(ROOT / "README.md"), module_relative=False)
    assert tried >= 8
    assert failures == 0


def test_links_between_documents_exist():
    for path in ROOT.glob("*.md"):
        for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", path.read_text("utf-8")):
            assert (ROOT / link).exists(), (path.name, link)


def test_one_version_and_one_name():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert PROJECT["version"] == ntkbook.__version__ == str(citation["version"])
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    title = citation["title"]
    assert yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))["title"] == title
    assert (ROOT / "README.md").read_text("utf-8").startswith(f"# {title}\n")
    readme = (ROOT / "README.md").read_text("utf-8")
    assert f"version {PROJECT['version']}" in readme
    changes = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert "## [Unreleased]" in changes or f"## [{PROJECT['version']}]" in changes
    for pair in itertools.pairwise(re.findall(r"(?m)^## \[(\d+\.\d+\.\d+)\]", changes)):
        assert [int(x) for x in pair[0].split(".")] > [int(x) for x in pair[1].split(".")]


def test_licences():
    assert "Apache License" in (ROOT / "LICENSE").read_text()
    assert PROJECT["license"] == "Apache-2.0"
    notice = (ROOT / "LICENSE-book").read_text()
    assert "https://creativecommons.org/licenses/by/4.0/legalcode" in notice
