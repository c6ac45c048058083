"""Copies are found though they are renamed; independent right answers are left alone."""

from __future__ import annotations

import ast
import subprocess
import sys
from difflib import SequenceMatcher
from pathlib import Path

import course
import pytest
from grading import assignment as assignments
from grading import similarity
from grading.similarity import ALIKE, SHORTEST, alike, likeness, shape, suspicious

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / assignments.COURSE / "source"
NAMES = assignments.names(ROOT)

MODEL = '''
def slopes(x, y):
    """Least squares."""
    total = np.zeros(3)  # a sum
    for k, (a, b) in enumerate(zip(x, y)):
        total[k % 3] += a * b - np.mean(x) * np.mean(y)
        if total[k % 3] > 7.5:
            total = total / np.linalg.norm(total)
    return total.sum(), [v**2 for v in total]
'''
RENAMED = '''
def slopes(data: list, labels) -> tuple:
    """My own idea."""
    out = np.zeros(3)

    for i, (u, v) in enumerate(zip(data, labels)):
        out[i % 3] += u * v - np.mean(data) * np.mean(labels)   # hm
        if (out[i % 3]) > 7.5:
            out = out / np.linalg.norm(out)
    return out.sum(), [w**2 for w in out]
'''


class Renamed(ast.NodeTransformer):
    """A copy: every name of the code's own is another one, and texts are added."""

    def __init__(self, own):
        self.own = own

    def new(self, name):
        return f"my_{name}" if name in self.own else name

    def visit_Name(self, node):
        node.id = self.new(node.id)
        return node

    def visit_arg(self, node):
        node.arg, node.annotation = self.new(node.arg), None
        return node

    def visit_alias(self, node):
        if node.asname or node.name.isidentifier():
            node.asname = self.new(node.asname or node.name)
        return node

    def visit_FunctionDef(self, node):
        self.generic_visit(node)
        node.name, node.returns = self.new(node.name), ast.Name("float")
        node.body.insert(0, ast.Expr(ast.Constant("In my own words.")))
        return node


def test_a_renamed_copy_has_the_same_shape():
    one, other = shape(MODEL), shape(RENAMED)
    assert len(one.pieces) > SHORTEST
    assert likeness(one, other) == 1


@pytest.mark.parametrize("name", NAMES)
def test_copies_of_the_book_are_found_and_its_other_right_answers_are_not(name):
    """Calibration: what is alike is nearly the same, what is independent is far from it."""
    one = assignments.load(SOURCE / name)
    copies, others = [], []
    for question in one.questions:
        source = question.answer.source
        tree = ast.parse(source)
        copy = ast.unparse(Renamed(similarity._own_names(tree)).visit(tree))
        copies.append(likeness(shape(source), shape(copy)))
        for answer in one.about["questions"][question.answer.name]["right"]:
            # The true ratio, since `likeness` stops at an upper bound of it.
            pair = [shape(text).pieces for text in (source, assignments.answer_code(
                question.answer, answer))]  # fmt: skip
            others.append(SequenceMatcher(None, *pair, autojunk=False).ratio())
    assert min(copies) > 0.99
    assert max(others) < ALIKE
    assert suspicious(question.answer.source for question in one.questions) == []


def test_the_bound_is_never_below_the_likeness():
    texts = [MODEL, RENAMED, MODEL.replace("7.5", "8"), MODEL.replace("a * b", "b + a * k")]
    for one in map(shape, texts):
        for other in map(shape, texts):
            exact = SequenceMatcher(None, one.pieces, other.pieces, autojunk=False).ratio()
            assert likeness(one, other) >= exact - 1e-12


def test_a_class_is_compared_with_what_is_public_and_with_itself():
    own = MODEL.replace("enumerate(zip(x, y))", "sorted(zip(y, x))").replace("sum()", "max()")
    own = own.replace("k, (a, b)", "b, a").replace("k % 3", "0").replace("> 7.5", "< len(x)")
    answers = {
        "ada": {"q": RENAMED, "short": "x = 1"},
        "ben": {"q": own, "short": "x = 1"},
        "cleo": {"q": own.replace("total", "s"), "short": "x = 1"},
        "dan": {"q": "def slopes(x:", "short": ""},
        "eve": {"short": "x = 1"},
    }
    found = alike(answers, {"q": [MODEL, "broken ("], "short": ["x = 1"]})
    assert found["ada"] == ["q: like a known solution (1.00)."]
    assert found["ben"] == ["q: like that of cleo (1.00)."]
    assert found["cleo"] == ["q: like that of ben (1.00)."]
    assert found["dan"] == found["eve"] == []


def test_many_copies_are_named_in_a_line():
    answers = {f"s{number}": {"q": MODEL} for number in range(9)}
    found = alike(answers, {"q": []})
    assert found["s0"] == ["q: like that of s1 (1.00), s2 (1.00), s3 (1.00) and 5 more."]


@pytest.mark.parametrize(
    ("code", "word"),
    [
        ("import sys; sys._getframe(1)", "_getframe"),
        ("sys.settrace(f)", "settrace"),
        ("from ctypes import *", "ctypes"),
        ("os.dup2(3, 1)", "dup2"),
        ("__builtins__['abs'] = f", "__builtins__"),
        ("open('/proc/1/environ')", "/proc/"),
        ("os.open('x', 0, dir_fd=3)", "dir_fd"),
        ("json.dumps = f", "json.dumps"),
        ("np.allclose = lambda *a: True", "np.allclose ="),
        ("setattr(np.linalg, 'norm', f)", "np.linalg ="),
        ("half.__code__", "__code__"),
    ],
)
def test_words_that_point_at_tampering_are_named(code, word):
    assert word in suspicious([f"x = 1\n{code}"])


@pytest.mark.parametrize(
    "code", ["np.allclose(a, b)", "x.code", "resetrace = 1", "y == np.pi", "processor = 3"]
)
def test_honest_code_is_not_accused(code):
    assert suspicious([code]) == []


@pytest.mark.parametrize(
    "code",
    ["'-' * 40000 + '1'", "'(' * 20000", "'a' + '.b' * 20000", "'1' + '<1' * 20000", "'\\ud800'"],
)
def test_code_that_breaks_parsers_is_no_code(code):
    """In a process of its own: a parser that runs out of stack would take pytest with it."""
    program = f"import sys; sys.path.insert(0, {str(Path(course.__file__).parent)!r})\n"
    program += f"from grading.similarity import shape\nprint(shape({code}))"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.stdout == "None\n", run.stderr
