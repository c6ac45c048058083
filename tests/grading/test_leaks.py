"""No solution and no hidden test is in anything that a student can open."""

from __future__ import annotations

import html
import json
import re

from grading import assignment as assignments
from grading.submission import source_of
from site_build import ROOT, built_site

SOURCE = ROOT / assignments.COURSE / "source"
NAMES = assignments.names(ROOT)


def squeezed(text):
    return re.sub(r"\s+", "", text)


def published_texts(site):
    """What readers can open: pages without their tags, notebooks cell by cell, other texts."""
    for path in sorted([*site.rglob("*"), *(ROOT / assignments.COURSE / "release").iterdir()]):
        if path.suffix == ".ipynb":
            cells = json.loads(path.read_text("utf-8"))["cells"]
            yield path, squeezed("\n".join(source_of(cell) for cell in cells))
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
    blocks = [b for name in NAMES for b in assignments.secrets(assignments.load(SOURCE / name))]
    assert len(blocks) >= 9 * len(NAMES)
    blocks = [block for block in blocks if len(squeezed(block)) > 25]
    assert leaks(published_texts(built_site()), blocks) == []


def test_no_rubric_and_no_alternative_answer_is_published():
    blocks = []
    for name in NAMES:
        about = assignments.load(SOURCE / name).about
        for entry in about["questions"].values():
            answers = [*entry["right"], *entry["wrong"]]
            blocks += [answer["code"] for answer in answers if "code" in answer]
        for entry in about["written"].values():
            blocks += [line["for"] for line in entry["rubric"]]
    assert len(blocks) > 5 * len(NAMES)
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
