"""Quizzes and exercises: every chapter has them, complete and explained; what lacks is said."""

from __future__ import annotations

from pathlib import Path

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from notebooks import layout, quiz
from notebooks.canonical import DERIVATION, read
from notebooks.toc import lessons

ROOT = Path(__file__).parents[2]
CHAPTERS = lessons(ROOT)


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
def test_a_chapter_is_laid_out_as_the_others(path):
    missing = layout.faults(path.stem, read(path))
    assert not missing, "\n".join(missing)


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
def test_a_chapter_is_read_in_short_cells(path):
    wrong = layout.form(path.stem, read(path))
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
def test_quiz_is_complete(path):
    questions = quiz.load(path.with_name(f"{path.stem}.quiz.yml"))
    places = {[o["right"] for o in q["options"]].index(True) for q in questions}
    assert len(places) > 1, f"{path.stem}: the right option always stands in the same place"


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
    change = dict(change)
    rights = change.pop("right", [True, False, False])
    options = [{"text": f"Option {k}.", "right": r, "why": "So."} for k, r in enumerate(rights)]
    for key in {"text", "why"} & set(change):
        value = change.pop(key)
        options = [option | {key: value} for option in options]
    question = {"question": "What?", "options": options}

    assert any(message in fault for fault in quiz.faults(question | change))


# A chapter as a text: markdown, with a line #code where a code cell stands.

EXERCISE = """
```{exercise} A name
:label: ex-waves-N
What?
```

:::{dropdown} Hint
There.
:::

```{solution-start} ex-waves-N
:class: dropdown
```
#code
```{solution-end}
```
"""
CHAPTER = (
    "# Waves\n#code\n## Where it breaks\n## Key takeaways\n## Quiz\n```{quiz} waves\n```\n"
    "## Exercises\n" + "".join(EXERCISE.replace("N", str(n)) for n in range(1, 5)) + "## Sources"
)


def said_of(text: str) -> list[str]:
    first, *others = text.split("#code\n")
    cells = [new_markdown_cell(first)]
    for other in others:
        cells += [new_code_cell("1 + 1"), new_markdown_cell(other)]
    return layout.faults("waves", new_notebook(cells=cells))


def test_a_complete_chapter_has_no_fault():
    assert said_of(CHAPTER) == []
    colons = CHAPTER.replace("```{exercise} A name", ":::{exercise}\n:class: x").replace(
        "What?\n```", "What?\n:::"
    )
    assert said_of(colons) == []


ONE = EXERCISE.replace("N", "1")
NO_SECTION = "waves: the heading '## {}' occurs {} times, expected once"
NO_HINT = "waves: exercise ex-waves-1 has no hint (a dropdown called Hint, before the solution)"
NO_QUIZ = "waves: no quiz: expected the lines ```{quiz} waves and ``` below '## Quiz'"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("# Waves\n", "", "waves: 0 titles (lines that begin with '# '), exactly 1 is needed"),
        (
            "# Waves",
            "# Waves\n# Again",
            "waves: 2 titles (lines that begin with '# '), exactly 1 is needed",
        ),
        ("# Waves", "## First\n# Waves", "waves: a section comes before the title"),
        ("## Sources", "", NO_SECTION.format("Sources", 0)),
        ("## Sources", "## Sources\n## Sources", NO_SECTION.format("Sources", 2)),
        (
            "## Where it breaks\n## Key takeaways",
            "## Key takeaways\n## Where it breaks",
            "waves: the last sections must come in the order Where it breaks, Key takeaways, "
            "Quiz, Exercises, Sources",
        ),
        ("{quiz} waves", "{quiz} ripples", NO_QUIZ),
        ("{quiz} waves\n```", "{quiz} waves\n\n```", NO_QUIZ),
        (ONE, "", "waves: 3 exercises, at least 4 are needed"),
        (
            ":label: ex-waves-1\n",
            "",
            "waves: an exercise has no label (:label: on the line below ```{exercise})",
        ),
        (ONE, ONE + ONE, "waves: exercise ex-waves-1 is asked 2 times"),
        (
            "} Hint",
            "} Tip",
            NO_HINT,
        ),
        (
            ONE,
            ONE.replace(":::{dropdown} Hint\n", "").replace("#code", ":::{dropdown} Hint\n#code"),
            NO_HINT,
        ),
        (
            ONE,
            ONE[: ONE.index("```{solution-start}")],
            "waves: exercise ex-waves-1 has no solution (```{solution-start} ex-waves-1)",
        ),
        (
            "{solution-start} ex-waves-1",
            "{solution-start} ex-wave-1",
            "waves: a solution of ex-wave-1 is the second one, or does not follow that exercise",
        ),
        (
            ONE,
            ONE + ONE[ONE.index("```{solution-start}") :],
            "waves: a solution of ex-waves-1 is the second one, or does not follow that exercise",
        ),
        (
            "ex-waves-1\n:class: dropdown",
            "ex-waves-1",
            "waves: the solution of ex-waves-1 is not folded (:class: dropdown)",
        ),
        (ONE, ONE.replace("#code\n", ""), "waves: the solution of ex-waves-1 holds no code"),
        (
            ONE,
            ONE.replace("#code\n", "") + "#code\n",
            "waves: the solution of ex-waves-1 holds no code",
        ),
        (
            ONE,
            ONE.replace("```{solution-end}\n```\n", ""),
            "waves: the solution of ex-waves-1 does not end before the next exercise "
            "({solution-end})",
        ),
    ],
)  # fmt: skip
def test_each_fault_has_its_sentence(old, new, expected):
    assert old in CHAPTER
    assert expected in said_of(CHAPTER.replace(old, new, 1))


def test_a_fault_is_said_once():
    assert said_of(CHAPTER.replace("} Hint", "} Tip", 1)) == [NO_HINT]
    assert said_of(CHAPTER[: CHAPTER.index("```{exercise}")] + ONE + "## Sources") == [
        "waves: 1 exercise, at least 4 are needed"
    ]


# How much code a reader meets


def coded(*lines: int, folded: bool = False, solves: bool = False, label: str = "") -> list[str]:
    """What is said of code cells of so many lines, with a blank one in each."""
    cells = [new_markdown_cell("```{solution-start} ex-a\n```" if solves else "Text")]
    for number, count in enumerate(lines):
        source = "\n\n".join(["1"] * min(count, 2)) + "\n1" * (count - 2)
        cell = new_code_cell(source, id=f"c{number}", metadata={"tags": ["hide-input"] * folded})
        if label:
            data = {DERIVATION: {"label": label}}
            cell.outputs = [new_output("execute_result", data=data, execution_count=1)]
        cells.append(cell)
    cells += [new_markdown_cell("```{solution-end}\n```"), new_code_cell("1", id="last")]
    return layout.form("waves", new_notebook(cells=cells))


def test_short_cells_are_fine():
    assert coded(*[8] * 24) == []
    assert coded(20, 8, 1) == []
    assert coded(*[30] * 40, folded=True) == []
    assert coded(*[30] * 40, solves=True) == []
    assert coded(8, label="eq-a") == []


def test_long_ones_are_counted():
    assert coded(*[8] * 30) == ["waves: 31 visible code cells, at most 25 are allowed"]
    assert coded(9, 9, 9) == [
        "waves: the visible code cells have 9 lines in the median, at most 8 are allowed"
    ]
    assert coded(21, 1) == ["waves: [c0] has 21 lines, at most 20 are allowed in a cell in sight"]
    assert coded(31, folded=True) == [
        "waves: [c0] has 31 lines, at most 30 are allowed in a folded cell"
    ]
    assert coded(31, solves=True) == [
        "waves: [c0] has 31 lines, at most 30 are allowed in a solution"
    ]


def test_a_derivation_is_in_sight():
    assert coded(3, folded=True, label="eq-a") == [
        "waves: [c0] folds the derivation eq-a: derivations are in sight"
    ]
