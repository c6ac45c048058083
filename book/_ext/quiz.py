"""The directive `{quiz} NAME`: the questions of NAME.quiz.yml beside the page, as disclosures.

Each option is an HTML <details>: it opens by click, Enter or Space, is announced by screen readers,
needs no script, and says whether it is right and why.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from docutils import nodes
from docutils.statemachine import StringList
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective

ENDS = (".", "?", "$.", "$?")


def load(path: Path) -> list[dict[str, Any]]:
    """The questions of a file.  Raises ValueError naming the question that can't be asked."""
    try:
        questions = yaml.safe_load(path.read_text("utf-8"))["questions"]
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: expected a list under 'questions': {error}") from None
    wrong = [f"expected 3 to 5 questions, got {len(questions)}"] * (not 3 <= len(questions) <= 5)
    for number, question in enumerate(questions, start=1):
        wrong += [f"question {number}: {fault}" for fault in faults(question)]
    if wrong:
        raise ValueError(f"{path}: " + "; ".join(wrong))
    return questions


def faults(question: dict[str, Any]) -> list[str]:
    """What is wrong with a question: keys, the number of right options, unfinished sentences."""
    if not {"question", "options"} <= set(question) <= {"question", "options", "choose"}:
        return [f"expected question, options and perhaps choose, got {', '.join(question)}"]
    options = question["options"]
    if any(set(option) != {"text", "right", "why"} for option in options):
        return ["each option needs text, right and why, and nothing else"]
    right = [option["right"] for option in options]
    wrong = []
    if not 3 <= len(options) <= 4:
        wrong.append(f"expected 3 or 4 options, got {len(options)}")
    if not all(isinstance(value, bool) for value in right):
        wrong.append("right must be true or false")
    if question.get("choose", "one") not in ("one", "all"):
        wrong.append(f"choose must be one or all, got {question['choose']!r}")
    elif question.get("choose") == "all" and sum(right) < 2:
        wrong.append("choose: all needs two right options or more")
    elif question.get("choose", "one") == "one" and sum(right) != 1:
        wrong.append(f"expected one right option, got {sum(right)}")
    texts = [option["text"].strip() for option in options]
    if len(set(texts)) < len(texts):
        wrong.append("two options say the same")
    sentences = [question["question"], *texts, *(option["why"] for option in options)]
    wrong += [f"no end of sentence: {s.strip()[-40:]!r}" for s in sentences if not _ends(s)]
    return wrong


def _ends(sentence: str) -> bool:
    return sentence.strip().endswith(ENDS)


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
