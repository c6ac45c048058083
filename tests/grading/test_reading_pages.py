"""Pages for readers and for students: whole, harmless, and right on a phone."""

from __future__ import annotations

import base64
import os
import re
import shutil
from dataclasses import replace

import course
import pytest
from grading import reading
from grading.feedback import page
from grading.grades import Course, Timing
from grading.marks import Graded, Mark
from grading.reading import rendered, write_pages
from grading.written import Marks, Reading
from toy import hand_in, solved

DOT = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"0" * 30).decode()
# One red dot, which a browser really shows.
PICTURE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGA"
PICTURE += "hKmMIQAAAABJRU5ErkJggg=="
ANSWER = r"""Since $\lambda_k\sim k^{-2}$ and **not** $a_1*b_1*c$:

$$\sum_k \lambda_k < \infty$$

\begin{align} a &= b \end{align}

| mode | rate |
|---|---|
| $1$ | 2 |

![my derivation](attachment:photo.png)
<script>alert(1)</script> <img src=x onerror=alert(1)> [x](javascript:alert(1))
![far](https://example.org/track.png)
"""


def graded(student, work="Because.", said="Waits for a reader.", points=None):
    half = Mark("half", "1 · Halve", 1, 2, "Wrong.", "def half(x): pass", output="printed " * 3)
    code = f"code{student}"
    why = Mark("why", "3 · Why", points, 4, said, work, written=True, answer=code)
    return Graded(student, (half, why), ("A note.",))


def test_an_answer_is_rendered_as_it_was_meant():
    html, missing = rendered(ANSWER, {"photo.png": ("image/png", DOT)})
    for part in (
        r"\(\lambda_k\sim k^{-2}\)", "<strong>not</strong>", r"\(a_1*b_1*c\)",
        r"\[\sum_k \lambda_k &lt; \infty\]", r"\begin{align} a &amp;= b \end{align}",
        "<td>2</td>", f'<img src="data:image/png;base64,{DOT}" alt="my derivation">',
    ):  # fmt: skip
        assert part in html, part
    assert "<script" not in html
    assert "onerror" not in re.sub("&lt;.*?&gt;", "", html)
    assert 'href="javascript' not in html
    assert 'src="http' not in html
    assert missing == ["A picture is not shown: https://example.org/track.png"]


@pytest.mark.parametrize(
    ("kind", "data", "said"),
    [
        ("image/svg+xml", base64.b64encode(b"<svg onload=alert(1)>").decode(), "is no PNG"),
        ("image/png", base64.b64encode(b"<html>").decode(), "is no PNG"),
        ("image/png", 'x" onerror="alert(1)', "is no PNG"),
        ("image/png", DOT, "too large"),
    ],
)
def test_what_is_no_picture_or_too_large_is_left_out_with_a_word(monkeypatch, kind, data, said):
    if said == "too large":
        monkeypatch.setattr(reading, "LARGEST_PICTURE", 10)
    html, missing = rendered("![a](attachment:a.png)", {"a.png": (kind, data)})
    assert "<img" not in html
    assert said in " ".join(missing)


def test_a_picture_that_the_text_does_not_name_is_shown_at_its_end():
    html, _ = rendered("Photo below.", {"a b.png": ("image/png", DOT)})
    assert html.endswith(f'<p><img src="data:image/png;base64,{DOT}" alt=""></p>')
    html, _ = rendered("![p](attachment:a%20b.png)", {"a b.png": ("image/png", DOT)})
    assert html.count("<img") == 1


def test_a_page_holds_rubric_model_answer_and_every_answer(toy, tmp_path):
    marks = Marks({("ada", "why"): Reading(None, "Well.\nBut short.", (3.0,), "older")})
    course_ = Course(toy, marks)
    write_pages(tmp_path, [graded("ada"), graded("<ben>")], course_, lambda *_: {}, False)
    text = (tmp_path / "why.html").read_text()
    for part in (
        "Says because.", "entry 1", "Model answer", "3 / 4", "to be read / 4", "&lt;ben&gt;",
        "has changed since it was marked", "Well.\nBut short.",
    ):  # fmt: skip
        assert part in text
    assert (tmp_path / "mathjax" / "tex-chtml.js").is_file()
    assert "http" not in re.sub(r'http-equiv="', "", text)


def test_anonymous_pages_name_the_code_of_the_answer_only(toy, tmp_path):
    class_ = [graded(name) for name in ("ada", "ben", "cleo")]
    codes = {"ada": "zzz", "ben": "aaa", "cleo": "mmm"}
    class_ = [
        replace(g, marks=tuple(replace(m, answer=codes[g.student]) for m in g.marks))
        for g in class_
    ]
    write_pages(tmp_path, class_, Course(toy), lambda *_: {}, True)
    text = (tmp_path / "why.html").read_text()
    assert not any(name in text for name in codes)
    assert re.findall("</span>(.{3})</h2>", text) == ["aaa", "mmm", "zzz"]


def test_feedback_shows_which_entries_were_earned_and_keeps_line_breaks(toy):
    entries = [{"points": 1, "for": "a < b"}, {"points": 3, "for": "second"}]
    two = replace(toy, about=toy.about | {"written": {"why": {"rubric": entries}}})
    marks = Marks({("ada", "why"): Reading(None, "-1: no reason\nnext", (1.0, 0.5))})
    text = page(graded("ada"), Course(two, marks))
    assert "<td>1 / 1</td><td>a &lt; b</td>" in text
    assert "<td>0.5 / 3</td><td>second</td>" in text
    assert '<p class="comment">-1: no reason\nnext</p>' in text
    assert "white-space: pre-line" in text
    assert "2.5 of 9 points" in text
    assert "second" not in page(graded("ada"), Course(two))  # not before it is marked


def test_feedback_shows_what_was_printed_on_request_only(toy):
    assert "printed" not in page(graded("ada"), Course(toy))
    assert "printed printed" in page(graded("ada"), Course(toy), show_output=True)


def test_a_persons_points_for_code_and_their_reason_are_shown(toy):
    marks = Marks({("ada", "half"): Reading(2.0, "Right, see your second cell.")})
    text = page(graded("ada"), Course(toy, marks))
    assert "2 / 2" in text
    assert "Right, see your second cell." in text


def test_pasted_pictures_come_from_the_notebook_to_the_reader(root, toy, tmp_path):
    notebook = solved(toy, why="![p](attachment:photo.png)")
    notebook["cells"][-1]["attachments"] = {"photo.png": {"image/png": PICTURE}}
    hand_in(tmp_path / "in", "ada", notebook)
    command = ["grade", "toy", str(tmp_path / "in"), "--to", str(tmp_path / "out")]
    for _ in range(2):  # the second time from the stored result
        assert course.main(command, root) == 0
        text = (tmp_path / "out" / "reading" / "why.html").read_text()
        assert f'src="data:image/png;base64,{PICTURE}"' in text


@pytest.fixture
def browser():
    """A page of a phone's size; skipped without a browser."""
    api = pytest.importorskip("playwright.sync_api")
    if not (program := shutil.which("chromium")):
        pytest.skip("needs chromium")
    with api.sync_playwright() as play:
        options = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
        window = play.chromium.launch(executable_path=program, args=options)
        yield window.new_page(viewport={"width": 390, "height": 800})
        window.close()


def test_no_line_is_wider_than_a_phone_and_mathematics_is_set_offline(toy, tmp_path, browser):
    long = "x" * 3000
    one = graded("Zoë " + "n" * 80, work=f"{long}\n\n{ANSWER}")
    marks = tuple(
        replace(m, said=long, output=long, title=f"A title and {long}") for m in one.marks
    )
    one = replace(one, marks=marks, notes=(long,))
    late = Course(toy, timing={one.student: Timing(called_late=True)}, penalty=10)
    (tmp_path / "feedback.html").write_text(page(one, late, show_output=True))
    pictures = {"photo.png": ("image/png", PICTURE)}
    write_pages(tmp_path, [one, graded("evil", r"$\href{javascript:alert(1)}{x}$")],
                Course(toy), lambda *_: pictures, False)  # fmt: skip
    asked, dialogs = [], []
    browser.on("request", lambda request: asked.append(request.url))
    browser.on("dialog", lambda dialog: (dialogs.append(1), dialog.dismiss()))
    for name in ("feedback.html", "why.html"):
        browser.goto((tmp_path / name).as_uri())
        browser.wait_for_load_state("load")
        if name == "why.html":
            browser.wait_for_selector("mjx-container", timeout=120_000)
            browser.wait_for_function("MathJax.startup.promise.then(() => true)")
            assert browser.evaluate("document.querySelectorAll('mjx-container').length") >= 5
            assert browser.evaluate("document.querySelector('.answer img').naturalWidth") == 1
            assert browser.query_selector("a[href^=javascript]") is None
        assert browser.evaluate("document.documentElement.scrollWidth") <= 390
    assert dialogs == []
    assert all(url.startswith(("file://", "data:")) for url in asked)
