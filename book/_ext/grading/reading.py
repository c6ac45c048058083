"""A page for each written question, for whoever reads the answers: all of them, as they were meant.

Answers are rendered as Jupyter does, tables, mathematics and pasted pictures included; HTML in them
is shown as text, and nothing is fetched from anywhere.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import importlib.util
import shutil
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from markdown_it import MarkdownIt
from mdit_py_plugins.amsmath import amsmath_plugin
from mdit_py_plugins.dollarmath import dollarmath_plugin

from grading.assignment import Assignment, Cell
from grading.feedback import GENERATOR, STYLE
from grading.grades import Course
from grading.marks import Graded, Mark
from grading.tables import number, replace_file
from grading.written import rubric

LARGEST_PICTURE, ALL_PICTURES = 8 * 2**20, 24 * 2**20  # bytes, of one and of an answer's
KINDS = {  # what a picture begins with
    "image/png": (b"\x89PNG\r\n\x1a\n",),
    "image/jpeg": (b"\xff\xd8\xff",),
    "image/gif": (b"GIF87a", b"GIF89a"),
    "image/webp": (b"RIFF",),
}
MATHJAX = ("tex-chtml.js", "input/tex/extensions", "output/chtml/fonts/woff-v2", "ui/safe.js")
# Without what could load a page, run a script or dress up as something else.
SETTINGS = """
MathJax = {
  tex: { packages: { '[-]': ['require', 'html'] }, maxBuffer: 10240, maxMacros: 1000 },
  loader: { load: ['ui/safe'] },
  options: { enableMenu: false, ignoreHtmlClass: 'page', processHtmlClass: 'math' },
};
"""
SCRIPT_HASH = base64.b64encode(hashlib.sha256(SETTINGS.encode()).digest()).decode()
POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; font-src 'self' file:; "
    f"script-src 'self' file: 'sha256-{SCRIPT_HASH}'"
)
MORE_STYLE = """
body { max-width: 60rem; }
.answer img { max-width: 100%; }
.answer td, .answer th { border: 1px solid var(--line); padding: .25rem .75rem; }
.left-out { font-style: italic; } .math.block { overflow-x: auto; }
"""
Pictures = Mapping[str, tuple[str, str]]  # name to kind and base64  # a student's, for a question


def write_pages(
    target: Path,
    graded: Sequence[Graded],
    course: Course,
    pictures: Callable[[str, str], Pictures],
    anonymous: bool,
) -> None:
    """Write FOLDER/<question>.html for every written question, and MathJax beside them."""
    if not course.assignment.written:
        return
    _copy_mathjax(target / "mathjax")
    for cell in course.assignment.written:
        answers = [(one, mark) for one in graded for mark in one.marks if mark.name == cell.name]
        if anonymous:
            answers.sort(key=lambda pair: pair[1].answer)
        parts = [_head(cell, course.assignment, anonymous)]
        for one, mark in answers:
            found = pictures(one.student, cell.name)
            parts.append(_answer(one, mark, course, found, anonymous))
        replace_file(target / f"{cell.name}.html", "\n".join([*parts, "</body></html>\n"]))


def _copy_mathjax(target: Path) -> None:
    package = importlib.util.find_spec("sphinx-mathjax-offline")
    if package is None or package.origin is None:
        raise ValueError("MathJax is missing: pip install -r requirements.txt")
    source = Path(package.origin).parent / "static" / "mathjax"
    for part in MATHJAX:
        if (target / part).exists():
            continue
        (target / part).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (source / part).is_dir() else shutil.copy2
        copy(source / part, target / part)


def _head(cell: Cell, assignment: Assignment, anonymous: bool) -> str:
    title = f"{assignment.title_of(cell)}: {assignment.about['title']}"
    entries = "".join(
        f"<tr><td>entry {place}</td><td>{entry['points']}</td>"
        f"<td>{rendered(str(entry['for']))[0]}</td></tr>"
        for place, entry in enumerate(rubric(assignment, cell.name), 1)
    )
    model = cell.source.replace("### BEGIN SOLUTION", "").replace("### END SOLUTION", "")
    where = "the column answer" if anonymous else "student and question"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">{GENERATOR}'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(POLICY)}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}{MORE_STYLE}</style>"
        f'<script>{SETTINGS}</script><script defer src="mathjax/tex-chtml.js"></script></head>'
        f'<body class="page"><h1>{escape(title)}</h1>'
        f"<p>Out of {cell.points} points. Enter them in written.csv, in the row found by "
        f"{escape(where)}: by the rubric in entry 1, entry 2 … or as a whole in mark.</p>"
        f"<table><tr><th></th><th>Points</th><th>For</th></tr>{entries}</table>"
        f'<details><summary>Model answer</summary><div class="answer">{rendered(model)[0]}</div>'
        "</details>"
    )


def _answer(
    one: Graded,
    mark: Mark,
    course: Course,
    pictures: Mapping[str, tuple[str, str]],
    anonymous: bool,
) -> str:
    reading, value = course.marks.of(one.student, mark), course.marks.points(one.student, mark)
    shown = "to be read" if value is None else f"{value:g}"
    named = mark.answer or mark.said
    who = named if anonymous else one.student
    entries = ", ".join(number(entry) or "–" for entry in reading.entries)
    said = [f"By the rubric: {entries}." if any(e is not None for e in reading.entries) else ""]
    outdated = value is not None and reading.answer not in ("", mark.answer)
    said.append("The answer has changed since it was marked." if outdated else "")
    said.append(reading.comment)
    text, missing = rendered(mark.work, pictures)
    left = "".join(f'<p class="left-out">{escape(line)}</p>' for line in missing)
    body = f'<div class="answer">{text}</div>' if mark.work or pictures else "<p>Not answered.</p>"
    comments = "".join(f'<p class="comment">{escape(line)}</p>' for line in said if line)
    points = f'<span class="points">{shown} / {mark.out_of}</span>'
    return f"<section><h2>{points}{escape(who)}</h2>{comments}{body}{left}</section>"


def rendered(text: str, pictures: Pictures | None = None) -> tuple[str, list[str]]:
    """An answer as HTML, and a line for each picture that was left out.

    Pictures that were pasted stand where the text puts them, those that it doesn't name at its end.
    """
    missing: list[str] = []
    inline = _inlined(pictures or {}, missing)
    used = set()
    markdown = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    markdown.use(dollarmath_plugin, renderer=_mathematics, double_inline=True, allow_labels=False)
    markdown.use(amsmath_plugin)

    def image(self: Any, tokens: Any, place: int, options: Any, env: Any) -> str:
        address = unquote(str(tokens[place].attrGet("src")))
        name = address.removeprefix("attachment:")
        if name in inline:
            used.add(name)
            return f'<img src="{inline[name]}" alt="{escape(tokens[place].content)}">'
        if not any(name in line for line in missing):
            missing.append(f"A picture is not shown: {address[:200]}")
        return ""

    markdown.add_render_rule("image", image)
    html = markdown.render(text)
    html += "".join(
        f'<p><img src="{inline[name]}" alt=""></p>' for name in inline if name not in used
    )
    return html, missing


def _mathematics(content: str, options: Mapping[str, Any]) -> str:
    opening, closing = ("\\[", "\\]") if options["display_mode"] else ("\\(", "\\)")
    return f"{opening}{escape(content.strip())}{closing}"


def _inlined(pictures: Pictures, missing: list[str]) -> dict[str, str]:
    """Name to address, for pictures that are what they claim to be and not too large."""
    found, left = {}, ALL_PICTURES
    for name, (kind, data) in pictures.items():
        try:
            raw = base64.b64decode("".join(data.split()), validate=True)
        except (binascii.Error, ValueError):
            raw = b""
        if not raw.startswith(KINDS.get(kind, ())):
            missing.append(f"{name} is not shown: it is no PNG, JPEG, GIF or WebP picture.")
        elif len(raw) > min(LARGEST_PICTURE, left):
            missing.append(f"{name} is not shown: {len(raw) / 2**20:.1f} MiB, too large.")
        else:
            left -= len(raw)
            found[name] = f"data:{kind};base64,{base64.b64encode(raw).decode()}"
    return found
