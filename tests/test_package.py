"""The package as it is written: its order, its size, its annotations and its documentation."""

from __future__ import annotations

import ast
import inspect
import io
import itertools
import re
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import jax.numpy as jnp
import pytest
import typed
from jaxtyping import Array, Float, Int

import ntkbook

PACKAGE = Path(ntkbook.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
FOLDERS = (
    "_base", "notation", "values", "algebra", "evidence", "gaussian", "signals", "networks",
    "architectures", "checking", "tangents", "training", "theory", "diagnosis", "scale",
)  # fmt: skip
Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def name(path: Path) -> str:
    return str(path.relative_to(PACKAGE.parent))


def folder(path: Path) -> str:
    """The folder of a module; empty for one at the top level."""
    inside = path.relative_to(PACKAGE).parts
    return inside[0] if len(inside) > 1 else ""


def imports(path: Path) -> set[Path]:
    """The modules of ntkbook that a module imports, wherever in it."""
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name(path)}: write imports in full, not relative ones"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
            found.add(f"{node.module}")
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    paths = {dotted: PACKAGE.parent / dotted.replace(".", "/") for dotted in found}
    files = {path.with_suffix(".py") for path in paths.values()}
    return files.intersection(MODULES)


def public(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The functions and classes of a module or class whose names have no underscore."""
    for node in body:
        if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
            yield node


def public_functions(path: Path) -> Iterator[tuple[str, ast.FunctionDef]]:
    """Public functions and methods, `__init__` and `__call__` among them, with their full names."""
    for node in public(tree(path).body):
        if isinstance(node, ast.FunctionDef):
            yield node.name, node
        elif isinstance(node, ast.ClassDef):
            for method in node.body:
                if isinstance(method, ast.FunctionDef) and (
                    not method.name.startswith("_") or method.name in ("__init__", "__call__")
                ):
                    yield f"{node.name}.{method.name}", method


# The order of the folders.


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_a_folder_imports_only_itself_and_those_before_it(path):
    here = folder(path)
    assert here in ("", *FOLDERS), f"{name(path)}: the folder has no place in the order {FOLDERS}"
    allowed = {*FOLDERS[: FOLDERS.index(here) + 1]} if here else {"", *FOLDERS}
    for other in imports(path):
        assert folder(other) in allowed, (
            f"{name(path)} imports {name(other)}: {here} may import only itself and the folders "
            f"before it, {', '.join(sorted(allowed))}"
        )


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_no_module_imports_itself_through_others(path):
    reached, waiting = set(), [path]
    while waiting:
        for other in imports(waiting.pop()) - reached:
            assert other != path, f"{name(path)}: it is in a cycle of imports with {reached}"
            reached.add(other)
            waiting.append(other)


@pytest.mark.parametrize("part", [part for part in FOLDERS if (PACKAGE / part).exists()])
def test_a_folder_says_what_goes_in_and_what_comes_out(part):
    path = PACKAGE / part / "__init__.py"
    text = ast.get_docstring(tree(path)) or ""
    for word in ("In:", "Out:"):
        assert word in text, f"{name(path)}: the docstring must say {word!r}"


# Size.


def code_lines(path: Path) -> int:
    """Lines that hold code: not blank, not a comment, not part of a docstring."""
    words = [
        node.value
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    ]
    silent = {line for node in words for line in range(node.lineno, (node.end_lineno or 0) + 1)}
    empty = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
    tokens = tokenize.generate_tokens(io.StringIO(path.read_text("utf-8")).readline)
    spoken = (range(t.start[0], t.end[0] + 1) for t in tokens if t.type not in empty and t.string)
    return len(set(itertools.chain.from_iterable(spoken)) - silent)


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_a_module_has_at_most_400_lines(path):
    lines = len(path.read_text("utf-8").splitlines())
    assert lines <= 400, f"{name(path)} has {lines} lines: no module has more than 400, split it"


@pytest.mark.parametrize("part", ["", *FOLDERS])
def test_a_folder_has_fewer_than_1200_lines_of_code(part):
    lines = sum(code_lines(path) for path in MODULES if folder(path) == part)
    assert lines < 1200, f"ntkbook/{part} has {lines} lines of code: a folder stays below 1200"


# Annotations.


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_every_public_name_is_annotated(path):
    for where, function in public_functions(path):
        given = function.args
        named = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
        static = any(getattr(d, "id", "") == "staticmethod" for d in function.decorator_list)
        skipped = 1 if "." in where and not static else 0  # self
        for argument in [argument for argument in named if argument][skipped:]:
            assert argument.annotation, (
                f"{name(path)}: annotate the argument {argument.arg} of {where}"
            )
        assert function.returns, f"{name(path)}: annotate what {where} returns"


def is_placeholder(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id == "Any"


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_no_public_function_takes_or_gives_just_anything(path):
    for where, function in public_functions(path):
        for argument in (*function.args.args, *function.args.kwonlyargs):
            assert not is_placeholder(argument.annotation), (
                f"{name(path)}: {where} says Any for {argument.arg}, write its type"
            )
        assert not is_placeholder(function.returns), f"{name(path)}: {where} must not return Any"


def test_the_package_is_typed_for_those_who_import_it():
    assert (PACKAGE / "py.typed").exists(), "ntkbook/py.typed must exist: mypy looks for it"


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_types_are_checked_by_the_tests_and_not_by_the_package(path):
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [getattr(node, "module", None), *(alias.name for alias in node.names)]
            assert not any(str(each).split(".")[0] == "beartype" for each in names), (
                f"{name(path)} imports beartype: annotations are checked in the tests alone"
            )


# Annotations hold when the tests run: conftest.py has installed the checker of helpers/typed.py.


def gives_floats(x: Float[Array, "n"]) -> Float[Array, "n n"]:
    return x


def takes_few(x: Int[Array, "n"]) -> Float[Array, "n"]:
    return x * 1.0


def refuses_some(x: Float[Array, "n d"]) -> Float[Array, "n"]:
    if x.ndim != 2:
        raise ValueError("x must have shape (n, d)")
    return x.sum(axis=1)


def test_an_annotation_that_promises_too_much_is_caught():
    with pytest.raises(AssertionError, match="gives_floats gives what its annotations do not"):
        typed.agreement(gives_floats, "gives_floats")(jnp.ones(2))


def test_an_annotation_that_refuses_too_much_is_caught():
    with pytest.raises(AssertionError, match="annotations of takes_few refuse what it accepts"):
        typed.agreement(takes_few, "takes_few")(jnp.ones(2))


def test_a_function_says_itself_what_it_refuses():
    checked = typed.agreement(refuses_some, "refuses_some")
    assert checked(jnp.ones((2, 3))).tolist() == [3.0, 3.0]
    with pytest.raises(ValueError, match=r"x must have shape \(n, d\)"):
        checked(jnp.ones(2))


def test_everything_public_is_checked():
    shown = {where for shelf, where, _ in typed.public() if shelf is ntkbook}
    assert shown == set(ntkbook.__all__) - {"COLORS", "duals", "quadrature"}
    for shelf, where, thing in typed.public():
        if not inspect.isclass(thing):
            assert typed.is_held(getattr(shelf, where)), f"{shelf.__name__}.{where} is unchecked"
            continue
        for method in typed.checked_methods(thing):
            assert typed.is_held(vars(thing)[method]), f"{where}.{method} is unchecked"


# Documentation.


def text_of(thing: object) -> str:
    return inspect.getdoc(thing) or ""


def is_made_by_an_example(result: type) -> bool:
    """Whether a public function or method that returns this class has an example itself."""
    makers = [thing for _, _, thing in typed.public() if not inspect.isclass(thing)]
    for _, _, thing in typed.public():
        if inspect.isclass(thing):
            makers += [getattr(thing, method) for method in typed.checked_methods(thing)]
    return any(
        inspect.signature(maker).return_annotation in (result, result.__name__)
        and ">>>" in text_of(maker)
        for maker in makers
    )


@pytest.mark.parametrize(
    ("where", "thing"), [(where, thing) for s, where, thing in typed.public() if s is ntkbook]
)
def test_every_public_name_has_an_example(where, thing):
    """Of its own; a result may leave it to the function that makes it; errors need none."""
    if inspect.isclass(thing) and (issubclass(thing, Exception) or is_made_by_an_example(thing)):
        assert text_of(thing), f"{where} has no docstring"
        return
    own = vars(thing).get("__doc__") if inspect.isclass(thing) else thing.__doc__
    assert ">>>" in (own or ""), f"{where} has no example (>>>) in its docstring"


FUNCTIONS = {
    f"{shelf.__name__}.{where}": thing
    for shelf, where, thing in typed.public()
    if not inspect.isclass(thing)
}


@pytest.mark.parametrize("where", FUNCTIONS)
def test_docstrings_of_functions_have_one_form(where):
    """A line that says what it gives, then **Arguments**, **Returns**, **Raises**, **Source**."""
    text = text_of(FUNCTIONS[where])
    first, *rest = text.split("\n\n")
    assert first.rstrip().endswith((".", ":")), f"{where}: the first line must be a sentence"
    headings = re.findall(r"^\*\*(\w+)\*\*:? ?", text, re.M)
    order = ["Arguments", "Returns", "Raises", "Source"]
    known = [heading for heading in headings if heading in order]
    assert known == sorted(known, key=order.index), f"{where}: the order is {', '.join(order)}"
    for heading in known:
        assert f"**{heading}**:" in text, f"{where}: write **{heading}**: with a colon"
    signature = inspect.signature(FUNCTIONS[where])
    if signature.parameters:
        assert "Arguments" in known, f"{where}: the docstring must have **Arguments**:"
    if signature.return_annotation not in (None, "None"):
        assert "Returns" in known, f"{where}: the docstring must have **Returns**:"
    assert not re.search(r"^Source:", text, re.M), f"{where}: write **Source**:, in bold"
    assert ">>>" in rest[-1], f"{where}: the docstring must end with an example"
