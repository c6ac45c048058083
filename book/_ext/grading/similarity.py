"""Code that is the same but for its names: of two students, or of a student and a known solution.

It finds what was copied and renamed, for a person to judge; it proves nothing.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

ALIKE = 0.95
SHORTEST = 60  # pieces of syntax: in less, the task leaves little choice
LONGEST = 50_000  # characters, and a twentieth of it in pieces: comparing takes their square
MOST_NAMED = 3

# Words that point at code written for the grader.  Honest answers to these assignments have none.
_SUSPICIOUS = re.compile(
    r"""(?<!\w)(
    _getframe | settrace | setprofile | ctypes | cffi | dup2 | dir_fd | prlimit | memfd_create |
    setsid | /proc/ | get_objects | get_referrers | f_back | f_globals | f_locals | f_builtins |
    gi_frame | tb_frame | __builtins__ | __globals__ | __code__ | __closure__ | __subclasses__ |
    __loader__ | _posixsubprocess | sys\.modules | multiprocessing | subprocess | socket |
    os\.(?:system|fork|exec|kill|environ) | builtins\. | json\.(?:dumps|loads) |
    os\.path\.realpath | addaudithook | meta_path | sys\.(?:stdout|argv)
    )""",
    re.X,
)
_REBOUND = re.compile(
    r"^[ \t]*((?:np|numpy|jnp|jax|sp|sympy|math|builtins)(?:\.\w+)+)\s*=[^=]|"
    r"setattr\(\s*((?:np|numpy|jnp|jax|sp|sympy|math|builtins)\b[\w.]*)",
    re.M,
)


def suspicious(sources: Iterable[str]) -> list[str]:
    """The words in a student's code that point at tampering with the grader."""
    text = "\n".join(sources)
    found = sorted(set(_SUSPICIOUS.findall(text)))
    return found + sorted({f"{a or b} =" for a, b in _REBOUND.findall(text)})


@dataclass(frozen=True)
class Shape:
    """The syntax of a piece of code as a sequence, and how often each piece of it occurs."""

    pieces: tuple[str, ...]
    count: Counter[str]


def shape(source: str) -> Shape | None:
    """The syntax without names, comments, docstrings and annotations; None for what isn't code."""
    if len(source) > LONGEST:
        return None
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    own = _own_names(tree)
    pieces, places = [], dict[str, int]()
    waiting: list[ast.AST] = [tree]
    while waiting:  # no recursion: the code may be nested deeply
        node = waiting.pop()
        pieces.append(_piece(node, own, places))
        waiting.extend(reversed(_children(node)))
    return Shape(tuple(pieces), Counter(pieces)) if len(pieces) <= LONGEST // 20 else None


def _own_names(tree: ast.AST) -> set[str]:
    """The names that the code gives itself: those can be changed in a copy."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.alias):
            names.add(node.asname or node.name)
    return names


def _piece(node: ast.AST, own: set[str], places: dict[str, int]) -> str:
    kind = type(node).__name__
    if isinstance(node, ast.Name):
        # Own names by the order of their first use, so that exchanging two of them is a change.
        return f"own {places.setdefault(node.id, len(places))}" if node.id in own else node.id
    if isinstance(node, ast.Attribute):
        return f".{node.attr}"
    if isinstance(node, ast.Constant):
        return "text" if isinstance(node.value, str) else repr(node.value)[:40]
    if isinstance(node, ast.arg):
        return f"argument {places.setdefault(node.arg, len(places))}"
    return kind


def _children(node: ast.AST) -> list[ast.AST]:
    kept = []
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "type_comment", "ctx"):
            continue
        values = value if isinstance(value, list) else [value]
        if name == "body" and isinstance(value, list):
            values = [one for one in value if not _docstring(one)]
        kept += [one for one in values if isinstance(one, ast.AST)]
    return kept


def _docstring(node: ast.AST) -> bool:
    constant = node.value if isinstance(node, ast.Expr) else None
    return isinstance(constant, ast.Constant) and isinstance(constant.value, str)


def likeness(one: Shape, other: Shape) -> float:
    """Between 0 and 1; what cannot reach `ALIKE` is given its upper bound, which is quick."""
    both = len(one.pieces) + len(other.pieces)
    bound = 2 * sum((one.count & other.count).values()) / both
    if bound < ALIKE:
        return bound
    return SequenceMatcher(None, one.pieces, other.pieces, autojunk=False).ratio()


def alike(
    answers: Mapping[str, Mapping[str, str]], solutions: Mapping[str, Sequence[str]]
) -> dict[str, list[str]]:
    """For each student a line per answer that is like a known solution's or another student's.

    `answers` are the code by student and question, `solutions` by question.
    """
    found: dict[str, list[str]] = {student: [] for student in answers}
    for question, known in solutions.items():
        models = [made for source in known if (made := shape(source))]
        shapes = {student: shape(code.get(question, "")) for student, code in answers.items()}
        long = {s: made for s, made in shapes.items() if made and len(made.pieces) >= SHORTEST}
        public = {}
        for student, made in long.items():
            best = max((likeness(made, model) for model in models), default=0.0)
            if best >= ALIKE:
                public[student] = best
                found[student].append(f"{question}: like a known solution ({best:.2f}).")
        for student, names in _pairs({s: m for s, m in long.items() if s not in public}).items():
            more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
            listed = ", ".join(names[:MOST_NAMED])
            found[student].append(f"{question}: like that of {listed}{more}.")
    return found


def _pairs(shapes: Mapping[str, Shape]) -> dict[str, list[str]]:
    pairs: dict[str, list[str]] = {}
    students = sorted(shapes)
    for place, student in enumerate(students):
        for other in students[:place]:
            near = likeness(shapes[student], shapes[other])
            if near >= ALIKE:
                pairs.setdefault(student, []).append(f"{other} ({near:.2f})")
                pairs.setdefault(other, []).append(f"{student} ({near:.2f})")
    return pairs
