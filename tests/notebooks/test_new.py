"""A new chapter freezes as it is written, lacks nothing, and takes the place of nothing."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import freeze
import pytest
from notebooks import layout, quiz
from notebooks.canonical import NotebookError, code_cells, read
from notebooks.freezing import Plan, freeze_all
from notebooks.new import new_chapter

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A repository with a ledger of claims and one new chapter, not yet frozen."""
    root = tmp_path_factory.mktemp("root")
    (root / "book").mkdir()
    shutil.copy(ROOT / "book" / "claims.yml", root / "book")
    said = new_chapter(root, "depth/order-and-chaos")
    assert (
        said[0] == "wrote book/depth/order-and-chaos.ipynb and book/depth/order-and-chaos.quiz.yml"
    )
    assert "_toc.yml" in said[1]
    return root


def test_a_new_chapter_lacks_nothing(root):
    path = root / "book" / "depth" / "order-and-chaos.ipynb"
    notebook = read(path)
    assert layout.faults(path.stem, notebook) == []
    questions = quiz.load(path.with_name("order-and-chaos.quiz.yml"))
    assert len({[o["right"] for o in q["options"]].index(True) for q in questions}) > 1
    assert [cell.id for cell in code_cells(notebook)][:2] == ["setup", "derivation"]
    text = "\n".join(cell.source for cell in notebook.cells)
    assert text.startswith("# Order and chaos\n")
    assert "SUBJECT" not in text
    assert "eq-order-and-chaos-kernel" in text


def test_a_new_chapter_freezes_as_it_is(root):
    said = []
    path = root / "book" / "depth" / "order-and-chaos.ipynb"
    assert freeze_all([path], Plan(root), said.append)
    assert [(result.verdict, result.details) for result in said] == [("frozen", ())]
    assert code_cells(read(path))[-1].execution_count


def test_a_new_chapter_has_the_style_of_the_others(tmp_path):
    (tmp_path / "book").mkdir()
    new_chapter(tmp_path, "part/a-subject-with-a-long-name-of-six-words")
    notebooks = tmp_path.rglob("*.ipynb")
    command = [sys.executable, "-m", "ruff", "check", "--line-length", "78", *notebooks]
    command += ["--config", str(ROOT / "pyproject.toml")]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("chaos", "must be part/subject in small letters and hyphens"),
        ("depth/Chaos", "got 'depth/Chaos'"),
        ("depth/order_and_chaos", "small letters and hyphens"),
        ("../chaos", "small letters and hyphens"),
        ("depth/chaos.ipynb", "small letters and hyphens"),
        ("a/b/c", "small letters and hyphens"),
        ("course/chaos", "book/course holds no chapters"),
    ],
)
def test_other_names_are_refused(name, message, tmp_path):
    with pytest.raises(NotebookError, match=message):
        new_chapter(tmp_path, name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("end", [".ipynb", ".quiz.yml"])
def test_nothing_is_overwritten(end, tmp_path):
    own = tmp_path / "book" / "depth" / f"chaos{end}"
    own.parent.mkdir(parents=True)
    own.write_text("mine")
    with pytest.raises(NotebookError, match="exists already; it is left as it is"):
        new_chapter(tmp_path, "depth/chaos")
    assert [path.name for path in own.parent.iterdir()] == [own.name]
    assert own.read_text() == "mine"


def test_a_subject_has_one_chapter(tmp_path):
    own = tmp_path / "book" / "depth" / "chaos.ipynb"
    own.parent.mkdir(parents=True)
    own.write_text("mine")
    with pytest.raises(NotebookError, match="has this subject already"):
        new_chapter(tmp_path, "spectrum/chaos")


def test_the_command_says_what_was_refused(capsys):
    assert freeze.main(["--new", "spectrum/spectral-decay"]) == 1
    assert "exists already" in capsys.readouterr().err
