"""What the code of a cell may not do, seen without running it.

The register (`recorder`) finds what was made and not shown; here are the ways around it, and
assertions that cannot fail.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

OWN = {"ntkbook": "ntk"}  # what a module of the package may be called beside its own name
RESERVED = {"ntk", "ntkbook", "check", "Check", "CheckError", "Derivation", "DerivationError"}
SPECIAL = {"__init__", "__call__", "__name__", "__doc__", "__version__"}
UNSEEN = {  # built-in functions that reach what no reader of the page sees
    "setattr", "delattr", "exec", "eval", "compile", "globals", "locals", "vars", "__import__",
    "get_ipython",
}  # fmt: skip
SHOWN = {"display", "Markdown"}  # all that may be taken from IPython

Places = Iterator[tuple[int, str]]


def faults(sources: Sequence[str]) -> Places:
    """What is wrong with the code cells of a notebook: the number of the cell, and a sentence."""
    trees: dict[int, ast.Module] = {}
    for number, source in enumerate(sources):
        try:
            trees[number] = ast.parse(source)
        except SyntaxError as error:
            yield number, f"not plain Python: {error.msg} (line {error.lineno})"
    imported = {name for tree in trees.values() for name in _imported(tree)}
    for number, tree in trees.items():
        for node in ast.walk(tree):
            for text in (*_bindings(node), *_reaching(node, imported), *_toothless(node)):
                yield number, text


def _imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                yield alias.asname or alias.name.partition(".")[0]


def _bindings(node: ast.AST) -> Iterator[str]:
    """Names that stand for the package may stand for nothing else."""
    names: list[tuple[str, bool]] = []  # and whether the package itself is meant
    if isinstance(node, ast.Import | ast.ImportFrom):
        module = (getattr(node, "module", "") or "").partition(".")[0]
        for alias in node.names:
            bound = alias.asname or alias.name.partition(".")[0]
            fits = bound in (alias.name, OWN.get(alias.name)) and module in ("", "ntkbook")
            names.append((bound, fits))
    elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
        names.append((node.id, False))
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        names.append((node.name, False))
    elif isinstance(node, ast.arg):
        names.append((node.arg, False))
    for name, fits in names:
        if name in RESERVED and not fits:
            yield f"gives the name {name} another meaning"


def _reaching(node: ast.AST, imported: set[str]) -> Iterator[str]:
    """Ways to alter what was imported, or to show what it did not make."""
    if isinstance(node, ast.Attribute):
        if not isinstance(node.ctx, ast.Load) and _root(node) in imported:
            yield f"assigns to {ast.unparse(node)}: what is imported stays as it is"
        if node.attr.startswith("_") and node.attr not in SPECIAL:
            yield f"reaches for {ast.unparse(node)}, which is private"
        if node.attr == "modules" and _root(node) == "sys":
            yield "reaches for sys.modules"
    elif isinstance(node, ast.Name) and node.id in UNSEEN:
        yield f"uses {node.id}, which hides from a reader what it does"
    elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("IPython"):
        for alias in node.names:
            if alias.name not in SHOWN:
                yield f"imports {alias.name} from IPython: only display and Markdown are allowed"
    elif isinstance(node, ast.Import):
        for alias in node.names:
            if alias.name.partition(".")[0] in ("IPython", "importlib", "builtins"):
                yield f"imports {alias.name}"
    elif isinstance(node, ast.Call):
        given = {keyword.arg for keyword in node.keywords}
        if ast.unparse(node.func).endswith("display") and given & {"raw", None}:
            yield "displays raw data: show the object itself"


def _root(node: ast.expr) -> str:
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def _toothless(node: ast.AST) -> Iterator[str]:
    """Comparisons that nothing could fail."""
    if isinstance(node, ast.Assert) and isinstance(node.test, ast.Constant):
        yield f"an assertion that cannot fail: {ast.unparse(node)}"
    if not isinstance(node, ast.Call):
        return
    given = {keyword.arg: keyword.value for keyword in node.keywords}
    rtol = given.get("rtol")
    if isinstance(rtol, ast.Constant) and isinstance(rtol.value, int | float) and rtol.value >= 1:
        yield f"rtol={rtol.value} accepts every number"
    if {"theory", "measured"} <= given.keys():
        both = [_bare(given[name]) for name in ("theory", "measured")]
        if both[0] == both[1]:
            yield f"theory and measured are both {both[0]}"


def _bare(node: ast.expr) -> str:
    """An expression without what leaves its numbers as they are: float(x), x.copy(), x + 0.0."""
    while True:
        if isinstance(node, ast.Call) and not node.keywords:
            name = ast.unparse(node.func).rpartition(".")[2]
            if name in ("copy", "item", "tolist") and isinstance(node.func, ast.Attribute):
                node = node.args[0] if node.args else node.func.value
                continue
            if name in ("float", "array", "asarray", "abs") and len(node.args) == 1:
                node = node.args[0]
                continue
        if isinstance(node, ast.BinOp) and isinstance(node.right, ast.Constant):
            kind, value = type(node.op), node.right.value
            if (kind in (ast.Add, ast.Sub) and value == 0) or (
                kind in (ast.Mult, ast.Div, ast.Pow) and value == 1
            ):
                node = node.left
                continue
        if isinstance(node, ast.Subscript) and ast.unparse(node.slice) in (":", "..."):
            node = node.value
            continue
        return ast.unparse(node)
