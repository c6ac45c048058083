"""Wrong theories for every check of the book: which of them would the measurement accept?

    python tests/benchmarks/theories.py [book/PART/CHAPTER.ipynb ...] [--out theories.json]

The chapters run, and whenever one of them calls `check`, its theory is spoilt: doubled, each of
its terms dropped, each of its exponents a quarter larger and smaller.  Terms and exponents are
those of the expression that the cell gives as `theory`, of what its names were last assigned, and
of the functions of the chapter that it calls.
Every spoilt theory that is a number of the right shape, and another one, is offered to the same
check beside those that it rejects anyway.  `theories.json` beside this file keeps what was tried
and what was accepted, with the largest change against the largest number of the theory; the reasons
there are written by hand and kept from run to run.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import functools
import inspect
import io
import json
import multiprocessing
import os
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
RECORD = Path(__file__).with_suffix(".json")
SECONDS = 3.0  # to evaluate an expression once more; what takes longer is not spoilt inside
IN_ALL = 90.0  # for the wrong theories of one check
DEPTH = 3  # names within names
PLAIN = (ast.Add, ast.Sub)
Spoilt = tuple[str, ast.expr, ast.FunctionDef | None]


class Notebook:
    """The cells of a chapter that ran so far, to find what a name stands for."""

    def __init__(self) -> None:
        self.trees: dict[str, ast.Module] = {}
        self.assigned: dict[str, ast.expr] = {}
        self.functions: dict[str, ast.FunctionDef] = {}

    def add(self, name: str, tree: ast.Module) -> None:
        self.trees[name] = tree
        for node in tree.body:
            match node:
                case ast.FunctionDef(name=target):
                    self.functions[target] = node
                case ast.Assign(targets=[ast.Name(id=target)], value=value):
                    self.assigned[target] = value
                case ast.Assign(targets=[ast.Tuple(elts=names)], value=ast.Tuple(elts=values)):
                    if len(names) == len(values):
                        pairs = zip(names, values, strict=True)
                        self.assigned |= {n.id: v for n, v in pairs if isinstance(n, ast.Name)}
                case _:
                    for part in ast.walk(node):
                        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
                            self.assigned.pop(part.id, None)

    def theory_of(self, frame: FrameType) -> ast.expr | None:
        """The expression given as `theory` in the call that this frame is in."""
        at = inspect.getframeinfo(frame).positions
        cell = self.trees.get(frame.f_code.co_filename, ast.Module([], []))
        calls = (node for node in ast.walk(cell) if isinstance(node, ast.Call))
        for node in calls:
            place = node.lineno, node.col_offset, node.end_lineno
            if at is not None and place == (at.lineno, at.col_offset, at.end_lineno):
                return {word.arg: word.value for word in node.keywords}.get("theory")
        return None

    def spoilt(self, expression: ast.expr, depth: int = DEPTH) -> Iterator[Spoilt]:
        """What was done to an expression, the result, and the function that was changed for it."""
        for done, changed in self._itself(expression):
            yield done, changed, None
        for path, node in _nodes(expression):
            if isinstance(node, ast.Name) and depth and node.id in self.assigned:
                for done, inner, function in self.spoilt(self.assigned[node.id], depth - 1):
                    yield f"{node.id}: {done}", _replaced(expression, path, inner), function
            match node:
                case ast.Call(func=ast.Name(id=name)) if depth and name in self.functions:
                    for done, function in self._function(self.functions[name]):
                        yield f"{name}(): {done}", expression, function

    def _function(self, function: ast.FunctionDef) -> Iterator[tuple[str, ast.FunctionDef]]:
        for path, node in _nodes(function):
            if isinstance(node, ast.Assign | ast.Return) and node.value is not None:
                for done, changed in self._itself(node.value):
                    yield done, _replaced(function, (*path, ("value", None)), changed)

    def _itself(self, expression: ast.expr) -> Iterator[tuple[str, ast.expr]]:
        for path, node in _nodes(expression):
            if isinstance(node, ast.BinOp) and isinstance(node.op, PLAIN):
                right = node.right
                if isinstance(node.op, ast.Sub):
                    right = ast.UnaryOp(ast.USub(), node.right)
                yield f"without {_said(node.right)}", _replaced(expression, path, node.left)
                yield f"without {_said(node.left)}", _replaced(expression, path, right)
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
                for sign, op in (("+", ast.Add()), ("−", ast.Sub())):
                    exponent = ast.BinOp(node.right, op, ast.Constant(0.25))
                    changed = ast.BinOp(node.left, ast.Pow(), exponent)
                    said = f"exponent of {_said(node)} {sign} ¼"
                    yield said, _replaced(expression, path, changed)


def _nodes(tree: ast.AST) -> Iterator[tuple[tuple[Any, ...], ast.AST]]:
    """The parts of an expression that are numbers, with the way to each; no index, no function."""
    waiting: list[tuple[tuple[Any, ...], ast.AST]] = [((), tree)]
    while waiting:
        path, node = waiting.pop(0)
        yield path, node
        for name, value in ast.iter_fields(node):
            call = isinstance(node, ast.Call)
            if name in ("slice", "test", "target") or (name == "args" and not call):
                continue
            if name == "func" and isinstance(value, ast.Name):
                continue
            parts = enumerate(value) if isinstance(value, list) else [(None, value)]
            waiting += [((*path, (name, i)), v) for i, v in parts if isinstance(v, ast.AST)]


def _replaced(tree: Any, path: tuple[Any, ...], new: ast.expr) -> Any:
    if not path:
        return new
    tree = copy.deepcopy(tree)
    node: Any = tree
    for name, i in path[:-1]:
        node = getattr(node, name) if i is None else getattr(node, name)[i]
    name, i = path[-1]
    if i is None:
        setattr(node, name, new)
    else:
        getattr(node, name)[i] = new
    return tree


def _said(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= 60 else text[:57] + "..."


def value_of(
    expression: ast.expr, names: dict[str, Any], function: ast.FunctionDef | None = None
) -> np.ndarray | None:
    """The numbers that an expression stands for, or None where it stands for none."""
    body: list[ast.stmt] = [] if function is None else [copy.deepcopy(function)]
    module = ast.fix_missing_locations(ast.Module(body, []))
    tree = ast.fix_missing_locations(ast.Expression(copy.deepcopy(expression)))
    names = dict(names)
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            exec(compile(module, "theory", "exec"), names)
            value = np.asarray(eval(compile(tree, "theory", "eval"), names), dtype=float)
    except Exception:  # a spoilt expression may fail in any way
        return None
    return value if np.isfinite(value).all() else None


def tried(check: Any, book: Notebook, frame: FrameType, given: dict[str, Any]) -> dict[str, Any]:
    """A record of the wrong theories of one check, and of those that it accepts."""
    theory = np.asarray(given["theory"], dtype=float)
    wrong = {"doubled": 2 * theory}
    if given.get("kind") == "scaling":
        wrong |= {"exponent + ¼": theory + 0.25, "exponent − ¼": theory - 0.25}
    expression = book.theory_of(frame)
    if expression is not None:
        names = {**frame.f_globals, **frame.f_locals}
        begun = time.perf_counter()
        same = value_of(expression, names)
        short = time.perf_counter() - begun < SECONDS
        if short and same is not None and same.shape == theory.shape and (same == theory).all():
            for done, spoilt, function in book.spoilt(expression):
                if time.perf_counter() - begun > IN_ALL:
                    break
                value = value_of(spoilt, names, function)
                if value is not None and value.shape in ((), theory.shape):
                    wrong.setdefault(done, value)
    # What is the same theory, to rounding, is no wrong one.
    wrong = {k: v for k, v in wrong.items() if not np.allclose(v, theory, rtol=1e-12, atol=0)}
    accepted = {
        done: {"change": float(f"{np.abs(value - theory).max() / np.abs(theory).max():.2g}")}
        for done, value in wrong.items()
        if _accepts(check, given, done, value)
    }
    return {"claim": given["claim"], "tried": len(wrong), "accepted": accepted}


def _accepts(check: Any, given: dict[str, Any], done: str, value: np.ndarray) -> bool:
    try:
        check(**(given | {"rejects": {done: value}}))
    except Exception as error:
        return "would also accept" in str(error)
    return False


def chapter(path: str) -> list[dict[str, Any]]:
    """The records of all checks of a chapter, which is run as its readers run it."""
    os.environ.setdefault("MPLBACKEND", "Agg")
    os.chdir(Path(path).parent)
    import ntkbook

    book, records, original = Notebook(), [], ntkbook.check

    @functools.wraps(original)
    def check(claim: str, what: str, **options: Any) -> Any:
        made = original(claim, what, **options)
        frame = inspect.currentframe()
        assert frame is not None
        assert frame.f_back is not None
        given = {"claim": claim, "what": what, **options}
        records.append(tried(original, book, frame.f_back, given))
        return made

    ntkbook.check = check
    names: dict[str, Any] = {"__name__": "__main__"}
    for cell in json.loads(Path(path).read_text("utf8"))["cells"]:
        if cell["cell_type"] == "code":
            tree = ast.parse("".join(cell["source"]), cell["id"])
            book.add(cell["id"], tree)
            try:
                with contextlib.redirect_stdout(io.StringIO()):
                    exec(compile(tree, cell["id"], "exec"), names)
            except Exception:
                if "raises-exception" not in cell["metadata"].get("tags", []):
                    raise
    return [{"chapter": Path(path).stem, **record} for record in records]


def with_reasons(records: list[dict[str, Any]], before: list[dict[str, Any]]) -> None:
    """What is accepted, each with the reason that an earlier record has for it."""
    known = {(r["chapter"], r["claim"]): r["accepted"] for r in before}
    for record in records:
        reasons = known.get((record["chapter"], record["claim"]), {})
        for done, one in record["accepted"].items():
            one["reason"] = reasons.get(done, {}).get("reason", "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("chapters", nargs="*", type=Path)
    parser.add_argument("--out", type=Path, default=RECORD)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    paths = [str(path.resolve()) for path in given.chapters or sorted(ROOT.glob("book/*/*.ipynb"))]
    before = json.loads(RECORD.read_text("utf8")) if RECORD.exists() else []
    records: list[dict[str, Any]] = []
    spawn = multiprocessing.get_context("spawn")  # JAX has threads, which a fork would not copy
    with spawn.Pool(given.jobs, maxtasksperchild=1) as pool:
        for found in pool.imap(chapter, paths, chunksize=1):
            with_reasons(found, before)
            records += found
            for record in found:
                for done, one in record["accepted"].items():
                    print(record["chapter"], record["claim"], done, one, flush=True)
    ran = {record["chapter"] for record in records}
    records += [record for record in before if record["chapter"] not in ran]
    given.out.write_text(json.dumps(records, indent=1, ensure_ascii=False) + "\n", "utf8")
    total = sum(record["tried"] for record in records)
    survived = sum(len(record["accepted"]) for record in records)
    print(f"{len(records)} checks, {total} wrong theories, {survived} accepted")


if __name__ == "__main__":
    main()
