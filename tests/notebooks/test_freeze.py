"""Freezing: one canonical form, all or nothing, and errors that a person can act on."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from notebooks import canonical
from notebooks.compare import differences
from notebooks.problems import problems
from notebooks.toc import chapters

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "book" / "_ext" / "freeze.py"


def make(path: Path, *sources: str, **metadata: object) -> Path:
    cells = [new_markdown_cell("# Title", id="title")]
    cells += [new_code_cell(source, id=f"cell-{n}") for n, source in enumerate(sources, 1)]
    notebook = new_notebook(cells=cells, metadata=metadata)
    path.write_text(canonical.write(notebook), encoding="utf-8")
    return path


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(PROGRAM), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture(scope="module")
def frozen(tmp_path_factory) -> tuple[Path, bytes, subprocess.CompletedProcess]:
    """A notebook frozen once: its path, its bytes, and what the command said."""
    path = make(
        tmp_path_factory.mktemp("frozen") / "a.ipynb",
        "import sys, os\nprint('one')\nsys.stdout.flush()\nprint('two')",
        "print(os.path.exists('a.ipynb'))\n6 * 7",
        kernelspec={"name": "python3", "display_name": "My Python"},
        widgets={"state": {}},
    )
    notebook = canonical.read(path)
    notebook.cells[1].metadata = {"tags": ["hide-input"], "ExecuteTime": {"end": "noon"}}
    notebook.cells[2].execution_count = 7
    path.write_bytes(canonical.write(notebook).replace("\n", "\r\n").encode())
    said = run(path)
    return path, path.read_bytes(), said


def test_the_canonical_form(frozen):
    path, content, said = frozen
    assert (said.returncode, said.stderr) == (0, "")
    assert said.stdout == f"frozen    {path}\n"
    assert b"\r" not in content
    assert content.endswith(b"}\n")
    notebook = canonical.read(path)
    assert notebook.metadata == canonical.METADATA
    assert [cell.id for cell in notebook.cells] == ["title", "cell-1", "cell-2"]
    first, second = canonical.code_cells(notebook)
    assert first.metadata == {"tags": ["hide-input"]}
    assert [out.text for out in first.outputs] == ["one\ntwo\n"]
    assert [cell.execution_count for cell in (first, second)] == [1, 2]
    assert second.outputs[0].text == "True\n"  # it runs in the notebook's folder
    assert second.outputs[1].data == {"text/plain": "42"}
    assert second.outputs[1].execution_count == 2


def test_freezing_again_changes_no_byte_and_no_time(frozen):
    path, content, _ = frozen
    before = path.stat().st_mtime_ns
    assert run(path).stdout == f"unchanged {path}\n"
    assert (path.read_bytes(), path.stat().st_mtime_ns) == (content, before)


def edits_itself(edit: str) -> str:
    """A cell that writes its own notebook, as an editor would while the notebook runs."""
    return f"from pathlib import Path\np = Path('a.ipynb')\n{edit}\nprint(1)"


@pytest.mark.parametrize(
    ("edit", "left"),
    [
        ("p.write_text(p.read_text().replace('Title', 'Subject'))", "Subject"),
        ("p.write_text('half a save')", "half a save"),
        ("p.unlink(missing_ok=True)", None),
    ],
    ids=["another text", "no notebook", "removed"],
)
def test_what_is_changed_while_it_runs_is_not_written_over(tmp_path, edit, left):
    path = make(tmp_path / "a.ipynb", edits_itself(f"_ = {edit}"))
    said = run(path)
    assert said.returncode == 1
    assert said.stdout == f"REFUSED   {path}\n  it was changed while it ran: freeze it again\n"
    assert path.exists() == (left is not None)
    assert left is None or left in path.read_text()


def test_check_writes_nothing(frozen, tmp_path):
    _, content, _ = frozen
    same, other, loose = (tmp_path / f"{name}.ipynb" for name in ("a", "other", "loose"))
    same.write_bytes(content)
    other.write_bytes(content.replace(b'"two\\n"', b'"three\\n"'))
    loose.write_bytes(content.replace(b'"42"', b'"43"').replace(b"\n ", b"\n  "))
    said = run("--check", same, other, loose)
    assert said.returncode == 1
    assert f"agrees    {same}\n" in said.stdout
    assert f"DIFFERS   {other}\n  code cell 1 [cell-1]: stdout differs" in said.stdout
    assert "-three\n" in said.stdout
    assert "+two\n" in said.stdout
    assert "-43\n" in said.stdout
    assert b'"three' in other.read_bytes()
    assert run("--check", same).returncode == 0


def test_check_reports_a_form_that_is_not_canonical(frozen, tmp_path):
    path = tmp_path / "a.ipynb"
    path.write_bytes(frozen[1] + b"\n")
    assert "not in canonical form" in run("--check", path).stdout


SQUARE = """\
import sympy as sp
import ntkbook as ntk
x = sp.Symbol("x", real=True)
ntk.Derivation("eq-s", (x + 1) ** 2).step(x**2 + 2*x + 1, "expand")"""
FAILURES = {
    "raises": ("1 / 0", "code cell 1 [cell-1]: ZeroDivisionError: division by zero"),
    "dies": ("import os\nos._exit(1)", "code cell 1 [cell-1]: the kernel died"),
    "warns": ("import warnings\nwarnings.warn('old')", "stderr output"),
    "address": ("object()", "a memory address"),
    "path": ("print(__import__('os').__file__)", "a path of one machine"),
    "colours": ("print('\\x1b[31mred')", "control characters"),
    "skips": ("# NBVAL_SKIP\n1", "opts out"),
    "empty": ("", "empty code cell"),
    "html": ("from IPython.display import HTML\nHTML('<b>1</b>')", "an output of kind text/html"),
    "muted": (SQUARE + ";", "the derivation eq-s is made and not shown"),
}


def test_failures_leave_notebooks_alone_and_are_named(tmp_path):
    paths = [make(tmp_path / f"{name}.ipynb", source) for name, (source, _) in FAILURES.items()]
    before = [path.read_bytes() for path in paths]
    said = run(*paths)
    assert said.returncode == 1
    assert "Traceback" not in said.stdout + said.stderr
    blocks = dict(re.findall(r"/(\w+)\.ipynb\n((?:  .*\n?)*)", said.stdout))
    for name, (_, message) in FAILURES.items():
        assert message in blocks[name]
    assert [path.read_bytes() for path in paths] == before
    assert sorted(tmp_path.iterdir()) == sorted(paths)


def test_a_cell_that_does_not_end_is_stopped(tmp_path):
    path = make(tmp_path / "a.ipynb", "import time\ntime.sleep(10**6)")
    assert "cell 1 [cell-1]: not done after 3 s" in run("--timeout", 3, path).stdout


def test_unreadable_notebooks_stop_the_run_before_any_is_executed(tmp_path):
    good, bad = make(tmp_path / "good.ipynb", "1"), tmp_path / "bad.ipynb"
    bad.write_text("{")
    before = good.read_bytes()
    said = run(good, bad)
    assert (said.returncode, said.stdout) == (1, "")
    assert said.stderr.startswith(f"{bad}: not a notebook, the JSON is broken")
    assert good.read_bytes() == before
    assert "no such file" in run(tmp_path / "none.ipynb").stderr


def test_another_kernel_is_refused(tmp_path):
    path = make(tmp_path / "a.ipynb", "1", kernelspec={"name": "julia", "display_name": "Julia"})
    assert "the kernel is 'julia', expected 'python3'" in run(path).stdout


def test_an_interrupt_leaves_the_notebook_and_no_kernel(tmp_path):
    mark = tmp_path / "started"
    source = f"import os, pathlib, time\npathlib.Path({str(mark)!r}).write_text(str(os.getpid()))"
    path = make(tmp_path / "a.ipynb", source, "time.sleep(60)")
    before = path.read_bytes()
    # Whoever runs the tests in the background of a shell hands down an ignored interrupt.
    inherited = signal.signal(signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(
        [sys.executable, PROGRAM, path], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    signal.signal(signal.SIGINT, inherited)
    while not (mark.exists() and mark.read_text()) and process.poll() is None:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 130
    assert said == "interrupted: unfinished notebooks are as they were\n"
    assert path.read_bytes() == before
    assert sorted(tmp_path.iterdir()) == sorted([path, mark])
    with pytest.raises(ProcessLookupError):
        os.kill(int(mark.read_text()), 0)


# The table of contents


def book(root: Path, toc: str, *notebooks: str) -> Path:
    (root / "_toc.yml").write_text(toc)
    for name in notebooks:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        make(root / name, "1")
    return root


TOC = """\
root: book/index
parts:
- chapters:
  - file: book/b/two
    sections:
    - file: book/a/one
"""


def test_chapters_are_in_reading_order(tmp_path):
    book(tmp_path, TOC, "book/a/one.ipynb", "book/b/two.ipynb", "book/_build/x.ipynb")
    (tmp_path / "book/index.md").write_text("# Index")
    names = [path.relative_to(tmp_path).as_posix() for path in chapters(tmp_path)]
    assert names == ["book/b/two.ipynb", "book/a/one.ipynb"]


@pytest.mark.parametrize(
    ("toc", "message"),
    [
        (TOC, "lists book/index, which does not exist"),
        ("root: book/a/one", "not in the table of contents: book/b/two.ipynb"),
        ("root: [", "not valid YAML"),
    ],
)
def test_a_wrong_table_of_contents_is_an_error(tmp_path, toc, message):
    book(tmp_path, toc, "book/a/one.ipynb", "book/b/two.ipynb")
    with pytest.raises(canonical.NotebookError, match=message):
        chapters(tmp_path)


def test_without_a_table_of_contents(tmp_path):
    with pytest.raises(canonical.NotebookError, match="no table of contents"):
        chapters(tmp_path)


# Pieces


def test_of_long_lines_the_part_that_differs_is_shown():
    old, new = ("word " * 60 + f"from 1 to {n}. " + "more " * 60 for n in (2, 3))
    one, two = (new_output("stream", name="stdout", text=text) for text in (old, new))
    (said,) = differences([one], [two])
    assert "  -… word word" in said
    assert "from 1 to 2. more" in said
    assert "from 1 to 3. more" in said
    assert max(map(len, said.splitlines())) < 170


def test_only_neighbouring_pieces_of_one_stream_are_merged():
    pieces = [("stdout", "a"), ("stdout", "b"), ("stderr", "c"), ("stdout", "d")]
    outputs = [new_output("stream", name=name, text=text) for name, text in pieces]
    assert [out.text for out in canonical.merged(outputs)] == ["ab", "c", "d"]
    assert [out.text for out in outputs] == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("text", "finds"),
    [
        ("<f at 0x7f3a2b4c5d6e>", True),
        ("see /opt/me/book", True),
        ("C:\\Users\\me", True),
        ("lib/site-packages/jax", True),
        (r"\frac{1}{2}/opt/x", False),
        ("0x1F and 1e-08", False),
        ("https://example.org/home/page", False),
        ("a/b, x/usr", False),
    ],
)
def test_addresses_and_paths(text, finds):
    cell = new_code_cell("1", execution_count=1)
    cell.outputs = [new_output("stream", name="stdout", text=text)]
    assert bool(problems(new_notebook(cells=[cell]))) == finds


def test_a_notebook_is_read_as_it_was_written(tmp_path):
    notebook = canonical.canonical(new_notebook(cells=[new_code_cell("a\nb", id="x")]))
    path = tmp_path / "a.ipynb"
    path.write_text(canonical.write(notebook), encoding="utf-8")
    again = canonical.read(path)
    assert again == notebook
    assert canonical.write(again) == path.read_text(encoding="utf-8")
    nbformat.validate(again)
