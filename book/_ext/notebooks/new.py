"""A new chapter: a notebook with all that a chapter has, small enough to be replaced, and its quiz.

What stands in it runs and is proved, so that it freezes as it is, and the author changes one thing
at a time.
"""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from notebooks.canonical import NotebookError, canonical, write
from notebooks.layout import FEWEST_EXERCISES

QUESTIONS = 3
# Folders of book/ without chapters.
OTHERS = ("appendix", "assignments", "contribute", "course", "use")

_WORDS = "[a-z0-9]+(?:-[a-z0-9]+)*"

# Cells as (id, text), SUBJECT and TITLE to be filled in; an id that ends in _ is that of markdown.
_CELLS = [
    (
        "question_",
        """\
# TITLE

The question, in two or three sentences, with a number or a picture that makes one want the answer.

After this chapter you can

- do one thing;
- and another.

You need what came before: link it, as {doc}`../notation`.""",
    ),
    (
        "setup",
        """\
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import sympy as sp

import ntkbook as ntk

book = ntk.setup()""",
    ),
    (
        "derive_",
        """\
## A statement

The idea first, in words; then the steps, each with its reason. A wrong step is refused, with
a point at which its two sides differ. The argument `claim="C02"` would show the derivation on the
page of claims, under that entry of `book/claims.yml`.""",
    ),
    (
        "derivation",
        """\
w, x, y = sp.symbols("w x x'", real=True)
slope_x, slope_y = (sp.diff(sp.sin(w * at), w) for at in (x, y))
(ntk.Derivation("eq-SUBJECT-kernel",
                slope_x * slope_y)
    .step(x * y * (sp.cos(w * (x - y)) + sp.cos(w * (x + y))) / 2,
          because="product to sum"))""",
    ),
    (
        "measure_",
        """\
## A measurement

The statement of {eq}`eq-SUBJECT-kernel` in a finite network, drawn in {numref}`fig-SUBJECT-kernel`:
keys from a seed, and `book.pick` for what may be larger on a graphics card. Say here how far theory
and measurement may part, and why. Then let a cell end with the check:

```python
ntk.check("C02/name-of-the-check", "what is compared, in words",
          theory=theory, measured=measured, rtol=0.05,
          rejects={"without the factor of two": theory / 2}, seeds="0")
```

The id before the slash is an entry of `book/claims.yml`; the name after it is yours, once in
the book. `rejects` holds the nearest wrong theories, computed: a bound that would accept one of
them is refused.""",
    ),
    (
        "network",
        """\
inputs = ntk.circle(32)
net = ntk.Serial(ntk.Dense(book.pick(cpu=512, gpu=4096)), ntk.Erf(),
                 ntk.Dense(1))
params = net.init(jax.random.key(0), inputs.shape[1:])
limit = net.kernel(inputs[:1], inputs).ntk[0]
finite = ntk.empirical_ntk(net.apply, params, inputs[:1], inputs)[0]""",
    ),
    (
        "kernel-figure",
        """\
angle = jnp.arange(32) * 2 * jnp.pi / 32
fig, ax = plt.subplots()
ax.plot(angle, limit, "-", color=ntk.COLORS["blue"], label="theory")
ax.plot(angle, finite, "o", color=ntk.COLORS["orange"], label="one network")
ax.set(title="A kernel on the circle", xlabel="angle", ylabel="kernel")
ax.legend()
ntk.figure(fig, name="fig-SUBJECT-kernel",
           caption="The kernel between one input and all others: of the "
           "limit, and of one network.")""",
    ),
    (
        "breaks_",
        """\
## Where it breaks

Drop one assumption on purpose, and measure the failure.""",
    ),
    (
        "takeaways_",
        """\
## Key takeaways

- What was shown, with the conditions that it needs.""",
    ),
    (
        "quiz_",
        """\
## Quiz

Choose an answer to read why it is right or wrong.

```{quiz} SUBJECT
```""",
    ),
    ("exercises_", "## Exercises"),
]
_EXERCISE = [
    (
        "exN_",
        """\
```{exercise}
:label: ex-SUBJECT-N
A question that can be answered in a few minutes, or measured in a few lines.
```

:::{dropdown} Hint
Where to look first.
:::

```{solution-start} ex-SUBJECT-N
:class: dropdown
```

The answer in words.""",
    ),
    ("exN", "assert jnp.allclose(limit[1:], limit[:0:-1])"),
    ("exN-end_", "```{solution-end}\n```"),
]
_SOURCES = [("sources_", "## Sources\n\nWho proved what first, read in the paper itself.")]

_QUIZ = """\
# Three to five questions, each of three or four options; every text ends like a sentence.
#   question  what is asked, in MyST
#   options   text; right, true or false; why, which is shown when the option is chosen
#   choose    "all" beside 'question' where two options or more are right, else left out
# The right option should change its place. One question at least is to be computed.
"""


def new_chapter(root: Path, name: str) -> list[str]:
    """Write `book/<name>.ipynb` and `book/<name>.quiz.yml`; what to do next, as lines.

    Raises NotebookError for a name that is not part/subject in small letters and hyphens, for a
    folder that holds no chapters, for a subject that another chapter has, and when one of the files
    exists: nothing is overwritten.
    """
    if not re.fullmatch(f"{_WORDS}/{_WORDS}", name):
        raise NotebookError(
            f"--new must be part/subject in small letters and hyphens, such as depth/chaos; "
            f"got {name!r}"
        )
    part, subject = name.split("/")
    if part in OTHERS:
        raise NotebookError(f"book/{part} holds no chapters; see book/contribute/map.md")
    notebook, questions = (root / "book" / f"{name}{end}" for end in (".ipynb", ".quiz.yml"))
    for path in (notebook, questions):
        if path.exists():
            raise NotebookError(f"{path} exists already; it is left as it is")
    for path in (root / "book").glob(f"*/{subject}.ipynb"):
        raise NotebookError(f"{path} has this subject already; the labels go by it")
    notebook.parent.mkdir(parents=True, exist_ok=True)
    notebook.write_text(write(canonical(_notebook(subject))), encoding="utf-8")
    questions.write_text(_quiz(), encoding="utf-8")
    return [
        f"wrote book/{name}.ipynb and book/{name}.quiz.yml",
        f"next: list '- file: book/{name}' in _toc.yml, after every chapter that it leans on,",
        f"write, and run freeze.py book/{name}.ipynb; see book/contribute/chapter.md",
    ]


def _notebook(subject: str) -> NotebookNode:
    cells = list(_CELLS)
    for number in range(1, FEWEST_EXERCISES + 1):
        cells += [(_numbered(a, number), _numbered(b, number)) for a, b in _EXERCISE]
    title = subject.replace("-", " ").capitalize()
    made = []
    for name, text in cells + _SOURCES:
        source = text.replace("SUBJECT", subject).replace("TITLE", title)
        if name.endswith("_"):
            made.append(new_markdown_cell(source, id=f"text-{name[:-1]}"))
        else:
            made.append(new_code_cell(source, id=name))
    return new_notebook(cells=made)


def _numbered(text: str, number: int) -> str:
    return re.sub(r"(?<=ex)N|(?<=SUBJECT-)N", str(number), text)


def _quiz() -> str:
    option = {"right": False, "why": "The mistake that leads here, and where it fails."}
    questions = []
    for place in range(QUESTIONS):
        options = [{"text": f"Answer {letter}."} | option for letter in "ABC"]
        options[place] |= {"right": True, "why": "Why this is so."}
        questions.append({"question": "What is asked?", "options": options})
    return _QUIZ + yaml.safe_dump({"questions": questions}, sort_keys=False)
