"""The list of what each notebook must show: written by one command, and held against the book."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from judged import small, store
from nbformat.v4 import new_output
from notebooks import canonical, records
from notebooks.toc import chapters

ROOT = Path(__file__).parents[2]
BUNDLES = {
    "checks": (canonical.CHECK, lambda name: [{"claim": name}]),
    "derivations": (canonical.DERIVATION, lambda name: {"label": name}),
}


def write(root: Path, name: str, **kinds: list[str]) -> Path:
    """A notebook below book/ with these records in the output of its cell."""
    (root / "book").mkdir(exist_ok=True)
    one = small("print(1)")
    for kind, names in kinds.items():
        mime, made = BUNDLES[kind]
        outputs = [new_output("display_data", data={mime: made(n)}) for n in names]
        one.cells[1].outputs += outputs
    return store(root / "book" / f"{name}.ipynb", one)


@pytest.fixture
def root(tmp_path) -> Path:
    write(tmp_path, "one", checks=["C01/a", "C01/b"], derivations=["eq-a"])
    write(tmp_path, "two", checks=["C02/a"])
    write(tmp_path, "none")
    (tmp_path / "_toc.yml").write_text(
        "root: book/one\nchapters: [{file: book/two}, {file: book/none}]"
    )
    return tmp_path


def said(root: Path, path: Path) -> list[str]:
    return list(records.faults(root, path, canonical.read(path)))


def test_the_list_of_the_book_names_its_notebooks():
    listed = yaml.safe_load((ROOT / records.FILE).read_text("utf-8"))
    names = [path.relative_to(ROOT).with_suffix("").as_posix() for path in chapters(ROOT)]
    assert [name for name in names if name in listed] == list(listed)


def test_it_is_written_by_one_command(root):
    changed = records.rewrite(root)
    assert "+  - C01/a" in changed
    assert yaml.safe_load((root / records.FILE).read_text()) == {
        "book/one": {"checks": ["C01/a", "C01/b"], "derivations": ["eq-a"]},
        "book/two": {"checks": ["C02/a"]},
    }
    assert records.rewrite(root) == []
    assert not any(said(root, path) for path in chapters(root))


def test_what_is_gone_and_what_is_new_are_named(root):
    records.rewrite(root)
    one = write(root, "one", checks=["C01/b", "C01/c", "C01/c"])
    gone, new, derivation = said(root, one)
    assert gone.startswith("the check C01/a is in book/records.yml, and no cell shows it: if this")
    assert new.startswith("the check C01/c is shown, and not in book/records.yml: if this is meant")
    assert derivation.startswith("the derivation eq-a is in book/records.yml")
    assert said(root, write(root, "none", derivations=["eq-n"]))


def test_other_notebooks_keep_their_entries(root):
    records.rewrite(root)
    write(root, "one")
    two = write(root, "two", checks=["C02/b"])
    assert records.rewrite(root, [two]) == [
        "--- before", "+++ book/records.yml", "@@ -10,2 +10,2 @@",
        "   checks:", "-  - C02/a", "+  - C02/b",
    ]  # fmt: skip
    assert said(root, root / "book" / "one.ipynb")


def test_what_was_not_run_keeps_its_entry(root):
    records.rewrite(root)
    two = write(root, "two")
    one = canonical.read(two)
    one.cells[1].execution_count = None
    store(two, one)
    said = "left as it is: book/two has a cell that was never run; freeze it first"
    assert records.rewrite(root) == [said]
    assert yaml.safe_load((root / records.FILE).read_text())["book/two"]


def test_without_a_list_nothing_is_expected(root, tmp_path_factory):
    assert said(root, root / "book" / "one.ipynb") == []
    records.rewrite(root)
    assert said(root, write(tmp_path_factory.mktemp("other"), "one", checks=["C01/z"])) == []


def test_mistakes_have_messages(root, tmp_path_factory):
    stray = write(tmp_path_factory.mktemp("other"), "stray")
    with pytest.raises(canonical.NotebookError, match="is not in _toc.yml"):
        records.rewrite(root, [stray])
    (root / records.FILE).write_text("[")
    with pytest.raises(canonical.NotebookError, match="not valid YAML"):
        said(root, root / "book" / "one.ipynb")
