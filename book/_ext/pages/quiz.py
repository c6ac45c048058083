"""The directive `{quiz} NAME`: the questions of NAME.quiz.yml beside the page, as disclosures.

Each option is an HTML <details>: it opens by click, Enter or Space, is announced by screen readers,
needs no script, and says whether it is right and why.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from notebooks.quiz import load
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective


def text(questions: list[dict[str, Any]]) -> str:
    """MyST for all questions of a page."""
    lines = []
    for number, question in enumerate(questions, start=1):
        lines += [
            f"::::::{{admonition}} Question {number}",
            ":class: quiz",
            "",
            question["question"],
        ]
        if question.get("choose") == "all":
            lines += ["", "More than one option is right."]
        for option in question["options"]:
            title = " ".join(option["text"].split())
            kind, verdict = ("right", "Right.") if option["right"] else ("wrong", "Not quite.")
            lines += ["", f":::::{{dropdown}} {title}", f":class-container: quiz-{kind}", ""]
            lines += [f"**{verdict}** {option['why']}", "", ":::::"]
        lines += ["::::::", ""]
    return "\n".join(lines)


class Quiz(SphinxDirective):
    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        page = Path(self.env.doc2path(self.env.docname))
        source = page.with_name(f"{self.arguments[0]}.quiz.yml")
        self.env.note_dependency(str(source))
        try:
            made = text(load(source))
        except ValueError as error:
            raise ExtensionError(f"quiz: {error}") from error
        box = nodes.Element()
        self.state.nested_parse(StringList(made.splitlines(), str(source)), 0, box)
        return box.children


def setup(app):
    app.add_directive("quiz", Quiz)
    return {"parallel_read_safe": True}
