"""A new chapter: a notebook with every heading that a chapter has, and its quiz."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from notebooks.canonical import NotebookError, canonical, write

QUESTIONS = 3


def new_chapter(root: Path, name: str) -> list[str]:
    """Write `book/<name>.ipynb` and `book/<name>.quiz.yml`; what to do next, as lines.

    Raises NotebookError for a name that is not part/subject in small letters and hyphens, and when
    one of the files exists: nothing is overwritten.
    """
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*/[a-z0-9]+(-[a-z0-9]+)*", name):
        raise NotebookError(
            f"--new must be part/subject in small letters and hyphens, such as depth/chaos; "
            f"got {name!r}"
        )
    notebook, questions = (root / "book" / f"{name}{end}" for end in (".ipynb", ".quiz.yml"))
    for path in (notebook, questions):
        if path.exists():
            raise NotebookError(f"{path} exists already; it is left as it is")
    subject = notebook.stem
    notebook.parent.mkdir(parents=True, exist_ok=True)
    notebook.write_text(write(canonical(new_notebook(cells=_cells(subject)))), encoding="utf-8")
    questions.write_text(_quiz(), encoding="utf-8")
    return [
        f"wrote {notebook.relative_to(root)} and {questions.relative_to(root)}",
        f"next: list 'book/{name}' in _toc.yml, write, and run freeze.py {notebook}",
    ]


def _cells(subject: str) -> list:
    title = subject.replace("-", " ").capitalize()
    short = "".join(word[0] for word in subject.split("-")) if "-" in subject else subject
    cells = [
        ("title", f"# {title}\n\nThe question, and what the reader will be able to do."),
        ("setup", "import jax\n\nimport ntkbook as ntk\n\nbook = ntk.setup()", "code"),
        ("derive", "## Derivation\n\nThe idea first, then the steps."),
        (
            "derivation",
            "import sympy as sp\n\nx = sp.symbols('x', real=True)\n"
            f'(ntk.Derivation("eq-{short}-example", (x + 1)**2)\n'
            '    .step(x**2 + 2*x + 1, because="expand"))',
            "code",
        ),
        ("measure", "## Experiment\n\nThe bound, with its reason, before the cell that needs it."),
        ("breaks", "## Where it breaks\n\nAn assumption dropped on purpose, the failure measured."),
        ("takeaways", "## Key takeaways\n\n- One sentence, with the conditions that it needs."),
        ("quiz", f"## Quiz\n\n```{{quiz}} {subject}\n```"),
        ("exercises", "## Exercises"),
    ]
    for number in range(1, 5):
        label = f"ex-{subject}-{number}"
        cells += [
            (
                f"ex-{number}",
                f"```{{exercise}}\n:label: {label}\n\nA question.\n```\n\n"
                "```{dropdown} Hint\nWhere to look first.\n```",
            ),
            (f"ex-{number}-start", f"```{{solution-start}} {label}\n:class: dropdown\n```"),
            (f"ex-{number}-solution", "assert 1 + 1 == 2", "code"),
            (f"ex-{number}-end", "```{solution-end}\n```"),
        ]
    cells.append(("sources", "## Sources\n\nWho proved what first, looked up."))
    make = {"code": new_code_cell, "markdown": new_markdown_cell}
    return [make["code" if rest else "markdown"](source, id=name) for name, source, *rest in cells]


def _quiz() -> str:
    option = {"text": "An option.", "right": False, "why": "Why it is not right."}
    questions = []
    for place in range(QUESTIONS):
        options = [option | {"text": f"Option {letter}."} for letter in "ABC"]
        options[place] |= {"right": True, "why": "Why it is right."}
        questions.append({"question": "What follows?", "options": options})
    note = (
        "# Three to five questions of three or four options; 'why' is shown when its option is\n"
        "# opened. 'choose: all' beside 'question' allows several right ones. Sentences end in .?\n"
    )
    return note + yaml.safe_dump({"questions": questions}, sort_keys=False)
