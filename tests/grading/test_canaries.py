"""Tests that know when they are lied to: they must refuse a wrong answer in the same process."""

from __future__ import annotations

from dataclasses import replace

import pytest
from grading.canary import canaries
from grading.sandbox import TAMPERED, imported, run_cells
from toy import QUICK, TOY_ANSWERS

WRONG = {"half": "def half(x):\n    return x", "square": "def square(x):\n    return x"}
RIGHT = {"half": "def half(x):\n    return x / 2", "square": "def square(x):\n    return x * x"}


def tried(toy, *, before="", after="", half=WRONG["half"], square=WRONG["square"]):
    """Outcomes by name, with cells of the student's own before the setup cell and after it."""
    answers, cells = {"half": half, "square": square}, [("", "own", before)]
    for cell in toy.cells:
        if cell.code:
            cells.append((cell.name, cell.role, answers.get(cell.name, cell.source)))
            cells += [("", "own", after)] if cell.name == "setup" else []
    outcomes = run_cells(cells, QUICK, (), canaries(toy))
    return {name: outcome for (name, *_), outcome in zip(cells, outcomes, strict=True) if name}


# All of these make a test pass whatever it is given, from outside the test.
FORGED = {
    "the reply": """
import json
true = json.JSONEncoder.encode
def forged(self, value):
    return true(self, value | {"error": None} if "error" in value else value)
json.JSONEncoder.encode = forged
""",
    "the reply's line": """
import fcntl, json, os, stat, threading
def pipe(flag):
    for number in range(3, 64):
        try:
            if stat.S_ISFIFO(os.fstat(number).st_mode):
                if fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE == flag:
                    return number
        except OSError:
            pass
replies = pipe(os.O_WRONLY)
grader = os.dup(replies)
reading, writing = os.pipe()
os.dup2(writing, replies)
def forge():
    for line in os.fdopen(reading):
        said = json.loads(line)
        os.write(grader, json.dumps(said | {"error": None}).encode() + b"\\n")
threading.Thread(target=forge, daemon=True).start()
""",
    "the names of tests": """
import gc
class Yes:
    def __getattr__(self, name): return lambda *a, **k: True
    def __eq__(self, other): return True
    def __pow__(self, other): return self
for thing in gc.get_objects():
    if type(thing).__name__ == "Namespaces":
        type(thing).for_test = lambda self: self.names | {"np": Yes(), "abs": lambda x: Yes()}
""",
    "the code below numpy's functions": """
import numpy as np, builtins
np.allclose.__wrapped__.__code__ = (
    lambda a, b, rtol=1, atol=1, equal_nan=False: True
).__code__
""",
}


@pytest.mark.parametrize("attack", FORGED)
def test_a_test_that_takes_wrong_answers_gives_no_points(toy, attack):
    """The empty answers of the attacker get nothing, nor do the right ones beside them."""
    found = tried(toy, after=FORGED[attack], square=RIGHT["square"])
    tests = [found["half-test"], found["square-test"]]
    assert [outcome.error for outcome in tests] == [TAMPERED, TAMPERED]
    assert all("tampered" in outcome.note for outcome in tests)


def test_a_function_that_changes_what_tests_use_when_it_is_called(toy):
    code = (
        "np.allclose.__wrapped__.__code__ = (lambda a, b, rtol=1, atol=1, equal_nan=1: 1).__code__"
    )
    found = tried(toy, half=f"def half(x):\n    {code}\n    return x")
    assert found["half-test"].error == TAMPERED
    frame = "sys._getframe(1).f_globals['abs'] = lambda x: Yes()"
    yes = "class Yes:\n    def __eq__(self, o): return True\n    __pow__ = lambda self, o: self\n"
    found = tried(toy, square=f"import sys\n{yes}def square(x):\n    {frame}\n    return x")
    assert found["square-test"].error == TAMPERED
    walk = """
def half(x):
    import sys
    class Yes:
        def allclose(self, *a, **k): return True
    frame = sys._getframe()
    while frame:
        if "spaces" in frame.f_locals:
            frame.f_locals["spaces"].given["np"] = Yes()
        frame = frame.f_back
    return x
"""
    found = tried(toy, half=walk)
    assert found["half-test"].error in (TAMPERED, "AssertionError")


ERRORS = {
    "a name that is none": "class M(type): __name__ = None\nclass E(Exception, metaclass=M): pass",
    "a message that changes the reply": (
        "class E(Exception):\n    def __str__(self):\n        import sys\n"
        "        frame = sys._getframe()\n        while frame:\n"
        "            for held in list(frame.f_locals.values()):\n"
        "                if isinstance(held, dict) and 'error' in held: held['error'] = None\n"
        "            frame = frame.f_back\n        return 'fine'"
    ),
    "a part of a message that does": (
        "class P:\n    def __repr__(self):\n        import sys\n"
        "        sys._getframe(1).f_locals['said']['error'] = None\n        return 'fine'\n"
        "    __str__ = __repr__\nE = lambda: OSError(1, 'a', P())"
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_an_error_of_ones_own_is_an_error(toy, case):
    """Nothing of the student's runs between the end of a test and the grader's note of it."""
    found = tried(toy, half=f"{ERRORS[case]}\ndef half(x):\n    raise E()")
    assert found["half-test"].error not in (None, "")


def test_given_cells_are_read_by_python_alone(toy):
    """A submission can teach the shell to read the next cell otherwise."""
    teach = (
        "shell = get_ipython()\nshell.input_transformers_post.append(\n"
        "    lambda lines: [line.replace('arange(4.0) + SEED', 'zeros(4)') for line in lines])"
    )
    found = tried(toy, before=teach)
    assert found["half-test"].message == "half: wrong for an array"


# All of these are undone before a test, which then judges the answer as it is.
UNDONE = {
    "before the setup": {"before": "import numpy\nnumpy.allclose = lambda *a, **k: True"},
    "another module": {
        "before": "import sys, types\nfake = types.ModuleType('numpy')\n"
        "fake.allclose = fake.arange = lambda *a, **k: 0\nsys.modules['numpy'] = fake"
    },
    "after the setup": {"after": "np.allclose = np.isclose = lambda *a, **k: True"},
    "names of Python": {
        "after": "class Yes:\n    def __eq__(self, o): return True\n"
        "    def __pow__(self, o): return self\n"
        "import builtins\nbuiltins.abs = abs = lambda x: Yes()\n"
        "__builtins__ = dict(vars(builtins), abs=abs)"
    },
    "names of what was given": {"after": "np = data = None"},
    "data in place": {"after": "data[:] = 0"},
    "the seed": {"before": "class int(int): pass\nrange = arange = lambda *a: []"},
    "tracing": {
        "after": "import sys, threading\ndef jump(*a):\n    raise SystemExit\n"
        "sys.setprofile(lambda *a: None)\nsys.settrace(lambda *a: None)"
    },
}


@pytest.mark.parametrize("attack", UNDONE)
def test_what_tests_use_is_put_back(toy, attack):
    found = tried(toy, **UNDONE[attack])
    assert found["half-test"].message == "half: wrong for an array"
    assert found["square-test"].message == "square: wrong for a number"
    honest = tried(toy, **UNDONE[attack], **RIGHT)
    assert [honest[f"{name}-test"].error for name in RIGHT] == [None, None]


def test_what_was_given_is_as_given_whatever_its_name(toy):
    """Names with an underscore, the code of functions, and what they call in their turn."""
    given = "_scale, data = 2, [1, 2]\ndef _inner(x):\n    return _scale * x\n"
    given += "def outer(x, *, more=1):\n    return _inner(x) + more"
    test = "assert (outer(3), outer(3, more=0), _inner(1), data) == (7, 6, 2, [1, 2]), answer"
    for spoil in (
        "_scale = 0",
        "def _inner(x):\n    return 0",
        "outer.__code__ = (lambda x, *, more: 0).__code__",
        "outer.__kwdefaults__ = {'more': 5}",
        "_inner.__defaults__ = (9,)\ndata.append(3)",
        "del _scale, _inner, outer, data",
    ):
        cells = [
            ("given", "given", given),
            ("answer", "answer", f"{spoil}\nanswer = 1"),
            ("answer-test", "test", test),
            ("again", "given", "assert outer(3) == 7\nnew = outer(1)"),
            ("new-test", "test", "assert new == 3"),
        ]
        outcomes = run_cells(cells, QUICK)
        assert [outcome.error for outcome in outcomes] == [None] * 5, (spoil, outcomes)


def test_modules_that_tests_import_are_known_before_anything_runs(toy):
    """Whatever package a test uses: here one that nobody had thought of."""
    test = "import colorsys\nassert colorsys.rgb_to_hls(0, 0, 0) == wanted, 'wrong'"
    cells = [
        ("", "own", "import colorsys\ncolorsys.rgb_to_hls = lambda *a: 1"),
        ("", "own", "import colorsys\ncolorsys.rgb_to_hsv.__code__ = (lambda r, g, b: 1).__code__"),
        ("wanted", "answer", "wanted = 1"),
        ("wanted-test", "test", test),
        ("code-test", "test", test.replace("hls", "hsv")),
    ]
    outcomes = run_cells(cells, QUICK)
    assert [outcome.message for outcome in outcomes[-2:]] == ["wrong", "wrong"]


def test_imported_names_modules():
    cells = ["import a.b, c as d\nfrom e.f import g", "%magic", "def f():\n    import h"]
    assert imported(cells) == {"a.b", "c", "e.f", "e.f.g", "h"}


def test_honest_answers_raise_no_alarm(toy):
    """Right and wrong ones, on every draw of the canary and of the order."""
    for half, square in ((RIGHT, WRONG), (WRONG, RIGHT), (RIGHT, RIGHT), (WRONG, WRONG)) * 2:
        found = tried(toy, half=half["half"], square=square["square"])
        for name, answer in (("half", half), ("square", square)):
            outcome = found[f"{name}-test"]
            assert (outcome.error is None) == (answer is RIGHT)
            assert outcome.error != TAMPERED
            assert outcome.note == ""


def test_a_canary_that_stops_the_process_is_said(toy):
    """Its test counts as it came out, and the instructor is told."""
    cells = [("half", "answer", RIGHT["half"]), ("half-test", "test", "assert half(2) == 1")]
    end = {"half-test": ["import os\nos._exit(3)"]}
    outcomes = run_cells(cells, QUICK, (), end)
    assert [outcome.error for outcome in outcomes] == [None, None]
    assert "half-test: a wrong answer stopped the process" in outcomes[1].note


def test_canaries_are_the_wrong_answers_of_the_source(toy):
    found = canaries(toy)
    assert sorted(found) == ["half-test", "square-test"]
    assert [len(some) for some in found.values()] == [3, 3]
    assert TOY_ANSWERS.count("replace") == 7  # six wrong answers and a right one
    assert any("2 * x" in code for code in found["half-test"])


LIAR = """
import numpy as np
class Liar(BASE):
    def __array_function__(self, *a): return True
    def __eq__(self, other): return True
"""


@pytest.mark.parametrize("base", ["object", "np.ndarray"])
def test_values_that_claim_to_equal_everything_are_named(toy, base):
    """They pass where a test asks them, so that a person is told to read."""
    answer = LIAR.replace("BASE", base) + "\ndef {0}(x):\n    return {1}"
    liar = "Liar()" if base == "object" else "np.ones(4).view(Liar)"
    found = tried(toy, half=answer.format("half", liar), square=answer.format("square", liar))
    assert "half is or returns a value of its class Liar" in found["half-test"].note
    assert "square is or returns a value of its class Liar" in found["square-test"].note


def test_classes_that_are_no_strangers():
    """What libraries return, imported before or after, and tuples whose parts have names."""
    answer = """
import collections, fractions, typing
import sympy as sp, jax.numpy as jnp, numpy as np
class Pair(typing.NamedTuple):
    a: int
    b: float
def answer():
    first = [1, 2.0, 3j, "a", None, np.ones(2), np.float64(1), np.True_, slice(2)]
    return first, {"b": jnp.ones(2), "c": sp.Symbol("x") ** 2, "d": fractions.Fraction(1, 2)}, \\
        Pair(1, 2), collections.Counter("aab"), np.random.default_rng(1), answer
"""
    cells = [("answer", "answer", answer), ("answer-test", "test", "answer()")]
    outcomes = run_cells(cells, replace(QUICK, cell=60))
    assert [(outcome.error, outcome.note) for outcome in outcomes] == [(None, "")] * 2
