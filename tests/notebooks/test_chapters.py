"""Quizzes and exercises: every chapter has them, complete and explained."""

from __future__ import annotations

import re
from pathlib import Path

import freeze
import pytest
import quiz
from canonical import read

ROOT = Path(__file__).parents[2]
CHAPTERS = freeze.chapters(ROOT)


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
def test_quiz_is_complete(path):
    questions = quiz.load(path.with_name(f"{path.stem}.quiz.yml"))
    text = "\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")
    assert f"```{{quiz}} {path.stem}\n```" in text
    places = {[o["right"] for o in q["options"]].index(True) for q in questions}
    assert len(places) > 1, "the right option always stands in the same place"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"question": "What"}, "no end of sentence"),
        ({"options": []}, "3 or 4 options"),
        ({"choose": "some"}, "choose must be"),
        ({"choose": "all"}, "two right options"),
        ({"title": "x"}, "expected question, options"),
        ({"right": [True, True, False]}, "one right option, got 2"),
        ({"right": [False, False, False]}, "one right option, got 0"),
        ({"right": [1, False, False]}, "true or false"),
        ({"text": "Same."}, "say the same"),
        ({"why": ""}, "no end of sentence"),
    ],
)
def test_faulty_questions_are_refused(change, message):
    rights = change.pop("right", [True, False, False])
    options = [{"text": f"Option {k}.", "right": r, "why": "So."} for k, r in enumerate(rights)]
    for key in {"text", "why"} & set(change):
        value = change.pop(key)
        options = [option | {key: value} for option in options]
    question = {"question": "What?", "options": options}

    assert any(message in fault for fault in quiz.faults(question | change))


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
def test_every_exercise_has_a_hint_and_a_folded_solution_that_runs(path):
    state, seen, hinted, folded, ran = "", 0, False, False, False
    for cell in read(path).cells:
        if cell.cell_type == "code":
            ran = ran or state == "solution"
            continue
        for line in cell.source.splitlines():
            if re.match(r"(`{3}|:{3})\{exercise\}", line):
                assert state == "", f"{line} begins before the last one ended"
                state, hinted = "exercise", False
            elif "{dropdown} Hint" in line:
                hinted = True
            elif "{solution-start}" in line:
                assert hinted, f"no hint before {line}"
                state, ran, folded = "solution", False, False
            elif line == ":class: dropdown" and state == "solution":
                folded = True
            elif "{solution-end}" in line:
                assert ran, "a solution without code"
                assert folded, "a solution that is not folded"
                state, seen = "", seen + 1
    assert state == ""
    assert seen >= 4
