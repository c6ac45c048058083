"""The recipe of the guide, read: what goes into the image, and what the container may do."""

from __future__ import annotations

import itertools
import re
import shlex
from fnmatch import fnmatch
from pathlib import Path

from grading.commands import grade_all
from grading.options import parser

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "book" / "course" / "Dockerfile"


def let_in(path):
    """Whether .dockerignore lets a path of the repository into the image: the last line counts."""
    inside = True
    for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        kept, pattern = line.startswith("!"), line.lstrip("!").removeprefix("**/")
        parts = path.split("/")
        heads = ["/".join(parts[: k + 1]) for k in range(len(parts))]
        if any(fnmatch(head, pattern) for head in heads) or (
            "**/" in line and any(fnmatch(part, pattern) for part in parts)
        ):
            inside = kept
    return inside


def test_hand_ins_and_marks_stay_outside():
    private = ("submissions/ada/toy.ipynb", "graded/toy/written.csv", "fresh/results/ada.json")
    private += (".venv/bin/python", ".git/config", "_build/html/index.html", "notes.txt", ".env")
    private += ("book/submissions/ada.ipynb", "book/course/graded/x.csv")
    assert [path for path in private if let_in(path)] == []
    needed = ("pyproject.toml", "requirements.txt", "README.md", "LICENSE", "LICENSE-book")
    needed += ("ntkbook/__init__.py", "book/_ext/course.py", "book/assignments/course.yml")
    assert [path for path in needed if not let_in(path)] == []


def test_what_the_recipe_copies_is_there():
    lines = [line.split() for line in RECIPE.read_text("utf-8").splitlines() if line]
    copied = [path for first, *rest in lines if first == "COPY" for path in rest[:-1]]
    assert copied
    for path in copied:
        assert (ROOT / path).exists(), path
        assert let_in(path), path
    users = [rest[0] for first, *rest in lines if first == "USER"]
    assert users
    assert users[-1].split(":")[0] not in ("0", "root")
    entry = next(line for line in RECIPE.read_text("utf-8").splitlines() if "ENTRYPOINT" in line)
    assert (ROOT / "book/_ext/course.py").exists()
    assert "/book/book/_ext/course.py" in entry


def test_the_guide_runs_it_with_nothing_to_lose():
    text = (ROOT / "book" / "course" / "instructors.md").read_text("utf-8")
    block = next(b for b in re.findall(r"```bash\n(.*?)```", text, re.S) if "docker run" in b)
    commands = [shlex.split(line) for line in block.replace("\\\n", " ").splitlines()]
    run = next(words for words in commands if words[:2] == ["docker", "run"])
    pairs = list(itertools.pairwise(run))
    for pair in (
        ("--network", "none"),
        ("--cap-drop", "ALL"),
        ("--security-opt", "no-new-privileges"),
        ("--tmpfs", "/tmp"),
    ):
        assert pair in pairs
    for option in ("--rm", "--read-only", "--user", "--memory", "--pids-limit"):
        assert option in run
    mounts = [second for first, second in pairs if first == "-v"]
    assert [m for m in mounts if not m.endswith(":ro")] == ["$PWD/fresh:/graded"]
    inside = run[run.index("ntk-course") + 1 :]
    outside = next(words for words in commands if words[0].endswith("python"))[2:]
    for words in (inside, outside):
        assert parser("").parse_args(words).command is grade_all
