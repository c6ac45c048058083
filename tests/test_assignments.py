"""The assignments of the book: right answers get all points, wrong ones none, nothing leaks."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

import assignments
import course
import freeze
import grading
import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / assignments.COURSE / "source"
NAMES = assignments.names(ROOT)


@pytest.mark.parametrize("name", NAMES)
def test_assignment_gives_points_for_right_answers_only(name):
    """Reference and alternatives: all points; the stub and every wrong answer: none."""
    assert course.validate(SOURCE / name) == []


@pytest.mark.parametrize("name", NAMES)
def test_assignment_adapts_to_another_seed(name):
    assert course.validate(SOURCE / name, seed=41, variants=False) == []
    first, other = (assignments.released(assignments.load(SOURCE / name, s)) for s in (None, 41))
    assert first != other


@pytest.mark.parametrize("name", NAMES)
def test_assignment_is_a_real_piece_of_work(name):
    one = assignments.load(SOURCE / name)
    assert one.points == 30
    assert 4 <= len(one.questions) <= 7
    assert one.written
    assert 1 <= one.about["hours"] <= 4
    assert (ROOT / "book" / f"{one.about['chapter']}.ipynb").is_file()


def test_every_chapter_but_the_orientation_has_an_assignment():
    paths = [path.relative_to(ROOT / "book") for path in freeze.chapters(ROOT)]
    chapters = {path.with_suffix("").as_posix() for path in paths}
    given = {assignments.load(SOURCE / name).about["chapter"] for name in NAMES}
    assert chapters - given == {"orientation/how-this-book-checks-itself"}
    assert sorted(p.name for p in SOURCE.iterdir() if p.is_dir()) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_stored_release_is_what_the_command_writes(name, tmp_path):
    assert course.main(["release", name, "--to", str(tmp_path)]) == 0
    stored = ROOT / assignments.COURSE / "release" / f"{name}.ipynb"
    assert (tmp_path / f"{name}.ipynb").read_bytes() == stored.read_bytes()


def squeezed(text):
    return re.sub(r"\s+", "", text)


def published_texts(site):
    """What readers can open: pages without their tags, notebooks cell by cell, other texts."""
    for path in sorted([*site.rglob("*"), *(ROOT / assignments.COURSE / "release").iterdir()]):
        if path.suffix == ".ipynb":
            cells = json.loads(path.read_text("utf-8"))["cells"]
            yield path, squeezed("\n".join(grading._source(cell) for cell in cells))
        elif path.suffix == ".html":
            plain = re.sub(
                r"<(script|style)\b.*?</\1>|<[^>]*>", "", path.read_text("utf-8"), flags=re.S
            )
            yield path, squeezed(html.unescape(plain))
        elif path.suffix in (".md", ".txt", ".js", ".json", ".yml", ".inv"):
            yield path, squeezed(path.read_text("utf-8", errors="replace"))


def leaks(texts, blocks):
    """(file, block) for each secret block that stands in a text, whatever its spaces."""
    found = []
    for path, text in texts:
        found += [(path.name, block) for block in blocks if squeezed(block) in text]
    return found


def test_no_solution_or_hidden_test_is_published():
    from site_build import built_site

    blocks = [b for name in NAMES for b in assignments.secrets(assignments.load(SOURCE / name))]
    assert len(blocks) >= 9 * len(NAMES)
    blocks = [block for block in blocks if len(squeezed(block)) > 25]
    assert leaks(published_texts(built_site()), blocks) == []


def test_no_line_of_a_solution_is_in_a_release():
    """Not even a single line, unless it stands in a given cell as well."""
    for name in NAMES:
        one = assignments.load(SOURCE / name)
        shown = squeezed("\n".join(assignments.stripped(cell) for cell in one.cells))
        released = squeezed(assignments.released(one))
        lines = {line.strip() for block in assignments.secrets(one) for line in block.splitlines()}
        secret = [line for line in lines if len(line) > 30 and squeezed(line) not in shown]
        assert len(secret) > 10
        assert [line for line in secret if squeezed(json.dumps(line)[1:-1]) in released] == []


def test_a_leak_would_be_noticed(tmp_path):
    page = tmp_path / "leak.html"
    block = max(assignments.secrets(assignments.load(SOURCE / NAMES[0])), key=len)
    first, rest = html.escape(block[:40]), html.escape(block[40:])
    page.write_text(f"<pre><b>{first}</b>\n {rest}</pre>")
    assert leaks(published_texts(tmp_path), [block]) == [("leak.html", block)]
