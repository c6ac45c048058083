"""The questions of a chapter, in NAME.quiz.yml beside it: read, and what may be wrong with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

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
