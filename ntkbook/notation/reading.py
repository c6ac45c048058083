r"""LaTeX that an author writes for an expression, read back.

What a page shows must be what was proved.  So such a text is parsed, by a grammar that is small
enough to be sure of, and its words are the printed names in the expression itself: no other word
is known, neither text nor command.  What can be taken in two ways is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

import sympy as sp
from sympy.core.function import AppliedUndef

from ntkbook.notation.printing import latex, without_growing

_GROWING = (  # and what is read instead
    (r"\\left\s*\|", r"\\lvert "),
    (r"\\right\s*\|", r"\\rvert "),
    (r"\\(left|right)\s*(?=[()\[\]]|\\[lr]vert)", ""),
)
_BIG = (  # an author's sizes, and what grows instead
    (r"\\[bB]igg?l?\s*([(\[]|\\lvert)", r"\\left\1"),
    (r"\\[bB]igg?r?\s*([)\]]|\\rvert)", r"\\right\1"),
)
_TOKEN = re.compile(r"\\(?:begin|end){[a-z]+}|\\[a-zA-Z]+|\\.|\s+|.", re.DOTALL)
_DOTS = (r"\cdot", r"\times")
_SPACES = (r"\,", r"\:", r"\;")
_CLOSING = {"(": ")", "[": "]", r"\lvert": r"\rvert", "|": "|"}
_ENDS = ("+", "-", "&", r"\\", ",", "=", "}", ")", "]", r"\rvert")
_TRIGONOMETRIC = {
    r"\sin": sp.sin, r"\cos": sp.cos, r"\tan": sp.tan, r"\sinh": sp.sinh, r"\cosh": sp.cosh,
    r"\tanh": sp.tanh, r"\arcsin": sp.asin, r"\arccos": sp.acos, r"\arctan": sp.atan,
}  # fmt: skip
_FUNCTIONS = _TRIGONOMETRIC | {
    r"\log": sp.log, r"\ln": sp.log, r"\exp": sp.exp, r"\Gamma": sp.gamma, r"\max": sp.Max,
    r"\min": sp.Min, r"\operatorname{erf}": sp.erf, r"\operatorname{sign}": sp.sign,
}  # fmt: skip
_SERIES = {r"\sum": sp.Sum, r"\prod": sp.Product}
_OPEN = (sp.Sum, sp.Product, sp.Limit)  # what follows them belongs to them
_WHOLE = (sp.Derivative, sp.Integral, sp.Subs, *_TRIGONOMETRIC.values(), *_OPEN)
_ATOMS = (
    sp.Symbol, sp.MatrixSymbol, sp.Identity, sp.NumberSymbol, sp.core.numbers.ImaginaryUnit,
    sp.core.numbers.Infinity, sp.Function, sp.Order, *_WHOLE,
)  # fmt: skip
_READ_ALWAYS = (sp.exp, sp.factorial, sp.binomial, sp.Abs)  # by the grammar
_MATRIX = (sp.MatrixExpr, sp.MatrixBase)


class Unreadable(ValueError):
    """Why a text can't be read."""


class Reading(NamedTuple):
    """What a text says, and its quotients, powers and functions, before any of them cancels."""

    value: sp.Basic
    parts: tuple[sp.Basic, ...]


def sides(tex: str) -> tuple[str | None, str]:
    """What stands before and after ``=``, if anything stands before it, as it will be printed."""
    for big, growing in _BIG:
        tex = re.sub(big, growing, tex)
    tex, depth = without_growing(" ".join(tex.split())), 0
    for token in _TOKEN.finditer(tex):
        depth += (token[0] in "{([") - (token[0] in "})]")
        if token[0] == "=" and not depth:
            return tex[: token.start()].strip(), tex[token.end() :].strip()
    return None, tex.strip()


def read_as(tex: str, expr: sp.Basic) -> Reading:
    r"""What `tex` says in the words of `expr`.

    **Arguments**: `tex`, the LaTeX; `expr`, whose symbols, functions and opaque parts may occur.

    **Returns**: an expression, to be compared with `expr`, and its parts.

    **Raises**: Unreadable, for a word that is not known and for what can be taken in two ways.

    >>> a, b = sp.symbols("a b")
    >>> read_as(r"\tfrac12 (a + b)^2", a + b).value
    (a + b)**2/2
    >>> read_as(r"a/2b", a + b)
    Traceback (most recent call last):
    ...
    ntkbook.notation.reading.Unreadable: what '/' takes in is not clear before 'b'
    """
    pairs, still_open = {"}": "{", r"\right": r"\left"}, [""]
    for mark in re.findall(r"\\[a-zA-Z]+|\\.|[{}]", tex):
        if mark in pairs.values():
            still_open.append(mark)
        elif mark in pairs and still_open.pop() != pairs[mark]:
            raise Unreadable(f"{mark} closes nothing")
    if still_open != [""]:
        raise Unreadable(f"{still_open[-1]} is not closed")
    reader = _Reader(_words(tex), expr)
    try:
        value = reader.sum()
    except (TypeError, ValueError, AttributeError) as error:  # sympy's, for what has no meaning
        raise Unreadable(str(error)) from None
    if reader.rest:
        raise Unreadable(f"{reader.rest[0]!r} is not known here")
    return Reading(value, (*reader.parts, value))


def _words(tex: str) -> list[str]:
    """Tokens without white space, sizes of brackets, and braces that hold one token."""
    for size, bare in _GROWING:
        tex = re.sub(size, bare, tex)
    found = [t for t in _TOKEN.findall(tex) if not t.isspace()]
    words: list[str] = []
    for k, token in enumerate(found):
        apart = token in _SPACES and "".join(found[max(k - 1, 0) : k + 2 : 2]).isdigit()
        if token not in _SPACES or apart:  # 1\,000 is not read
            words.append(token)
        if words[-3::2] == ["{", "}"] and words[-2] not in "{}":
            words[-3:] = [words[-2]]
    return words


class _Reader:
    """A recursive descent through the words; `parts` keeps what may be undefined."""

    def __init__(self, words: list[str], expr: sp.Basic):
        self.rest = words
        self.parts: list[sp.Basic] = []
        self.inside = [""]  # how the brackets that are open will be closed
        self.bars = words.count("|")
        self.atoms: dict[tuple[str, ...], set] = {}
        own: dict[tuple[str, ...], set] = {}
        entries = list(expr) if isinstance(expr, sp.MatrixBase) else [expr]
        for node in (n for e in entries for n in sp.preorder_traversal(e)):
            if isinstance(node, _ATOMS) and not isinstance(node, _READ_ALWAYS):
                name = tuple(_words(latex(node)))
                self.atoms.setdefault(name, set()).add(node)
                if isinstance(node, AppliedUndef):
                    plain = _words(latex(node.func(*(sp.Symbol("x") for _ in node.args))))
                    own.setdefault(tuple(plain[: plain.index("(")]), set()).add((node.func, ()))
                elif hasattr(node, "_latex") and "[" in name:  # a mean: its law is not printed
                    key = name[: name.index("[")]
                    own.setdefault(key, set()).add((node.func, node.args[1:]))
        self.functions = {tuple(_words(k)): {(f, ())} for k, f in _FUNCTIONS.items()} | own

    def take(self, word: str) -> bool:
        found = self.rest[:1] == [word]
        if found:
            del self.rest[0]
        return found

    def expect(self, *words: str) -> None:
        for word in words:
            if not self.take(word):
                raise Unreadable(f"{word!r} is missing before {self.next!r}")

    @property
    def next(self) -> str:
        return self.rest[0] if self.rest else "the end"

    def ends(self) -> bool:
        """Whether no factor follows."""
        differential = self.rest[:2] == [r"\mathrm", "d"]
        differential = differential or (self.next == "d" and ("d",) not in self.atoms)
        closes = self.next in _ENDS or (self.next == "|" and self.inside[-1] == "|")
        return not self.rest or closes or self.next.startswith(r"\end") or differential

    def one_of(self, table: Mapping[tuple[str, ...], set]) -> tuple[tuple[str, ...], sp.Basic]:
        """The longest name that stands here, and what it names; an empty name if there is none."""
        fits = (name for name in table if tuple(self.rest[: len(name)]) == name)
        name = max(fits, key=len, default=())
        if name and len(table[name]) > 1:
            raise Unreadable(f"two different things are printed as {' '.join(name)}")
        return name, next(iter(table[name])) if name else None

    def made(self, value: sp.Basic) -> sp.Basic:
        self.parts.append(value)
        return value

    def sum(self) -> sp.Basic:
        total = -self.product() if self.take("-") else self.product()
        while self.next in ("+", "-"):
            sign = 1 if self.rest.pop(0) == "+" else -1
            total = total + sign * self.product()
        return total

    def product(self) -> sp.Basic:
        total = self.factor()
        while not self.ends():
            if self.take("/"):
                total = total * self.inverse(self.factor())
                self.require_end("/")
                break
            if self.next == "|" and self.bars > 2:
                raise Unreadable("which '|' closes which? Write \\lvert and \\rvert")
            dot = any(map(self.take, _DOTS))
            number = self.next in "0123456789"
            factor = self.factor()
            if not dot and (number or (total.is_Rational and factor.is_Rational)):
                raise Unreadable(f"a sign is missing before the number {factor}")
            total = total * factor
        return total

    def require_end(self, what: str) -> None:
        if not self.ends():
            raise Unreadable(f"what {what!r} takes in is not clear before {self.next!r}")

    def inverse(self, value: sp.Basic) -> sp.Basic:
        if isinstance(value, _MATRIX):
            raise Unreadable("a matrix stands below a fraction")
        return self.made(1 / value)

    def factor(self) -> sp.Basic:
        value, bare = self.primary()
        if self.take("!"):
            value = self.made(sp.factorial(value))
        elif self.next == "^":
            if not bare:
                raise Unreadable("what is raised by '^' is not clear: put it in brackets")
            self.expect("^")
            if self.take(r"\top"):
                value = value.T
            else:
                power = self.argument()
                inverse = power == -1 and isinstance(value, _MATRIX)
                value = self.made(value.I if inverse else value**power)
        if self.next in ("^", "!", "'", "_"):
            raise Unreadable(f"{self.next!r} is not known here")
        return value

    def argument(self) -> sp.Basic:
        """What a command or ^ takes: a group, or one token."""
        if self.take("{"):
            return self.until("}")
        word = self.next
        if word in "0123456789":
            return sp.Integer(self.rest.pop(0))
        if (word,) not in self.atoms:
            raise Unreadable(f"{word!r} is not known here, or needs braces")
        _, atom = self.one_of({(word,): self.atoms[(word,)]})
        del self.rest[0]
        return atom

    def until(self, closing: str) -> sp.Basic:
        self.inside.append(closing)
        value = self.sum()
        self.inside.pop()
        if closing != "d":
            self.expect(closing)
        return value

    def primary(self) -> tuple[sp.Basic, bool]:
        """What stands here, and whether ^ after it can only mean all of it."""
        word = self.next
        name, atom = self.one_of(self.atoms)
        function, what = self.one_of(self.functions)
        if function and len(function) >= len(name):
            after = self.rest[len(function) : len(function) + 1]
            if name and after in (["("], ["["]):
                raise Unreadable(f"{' '.join(name)} is a symbol and a function")
            if not name:
                del self.rest[: len(function)]
                return self.applied(function, *what)
        if name:
            del self.rest[: len(name)]
            apart = self.next in _DOTS or isinstance(self.one_of(self.atoms)[1], sp.Derivative)
            if isinstance(atom, _OPEN) or (isinstance(atom, sp.Derivative) and not apart):
                self.require_end(name[0])
            call = isinstance(atom, sp.Function) and name[-1] in ")]"
            return atom, (call or "^" not in name) and not isinstance(atom, _WHOLE)
        if word in "0123456789":
            digits = ""
            while self.rest and self.next in "0123456789.":
                digits += self.rest.pop(0)
            return sp.Rational(digits), True
        if not self.rest or word in _ENDS:
            raise Unreadable(f"something is missing before {word!r}")
        self.rest.pop(0)
        if word in _CLOSING:
            braced = word == r"\lvert" and self.take("{")  # so it is printed
            value = self.until("}" if braced else _CLOSING[word])
            if braced:
                self.expect(_CLOSING[word])
            return (self.made(sp.Abs(value)) if word in ("|", r"\lvert") else value), True
        if word == "{":  # braces are not seen: they may hold what is one thing without them
            binomial = self.next == r"\binom"
            value, bare = self.primary()
            self.expect("}")
            if not (bare or binomial or isinstance(value, sp.Symbol | sp.MatrixSymbol)):
                raise Unreadable("braces are not seen: brackets are missing")
            return value, True
        if word in (r"\frac", r"\tfrac", r"\dfrac"):
            return self.argument() * self.inverse(self.argument()), False
        if word == r"\binom":
            return self.made(sp.binomial(self.argument(), self.argument())), False
        if word == r"\sqrt":
            degree = self.until("]") if self.take("[") else sp.Integer(2)
            return self.made(self.argument() ** self.inverse(degree)), False
        if word == "e" or (word == r"\mathrm" and self.take("e")):
            return (self.made(sp.exp(self.argument())), False) if self.take("^") else (sp.E, False)
        if word == r"\int":
            return self.integral(), False
        if word in _SERIES:
            self.expect("_", "{")
            k = self.symbol()
            self.expect("=")
            low = self.until("}")
            self.expect("^")
            high = self.argument()
            return _SERIES[word](self.product(), (k, low, high)), False
        if word in (r"\begin{matrix}", r"\begin{pmatrix}", r"\begin{bmatrix}"):
            return self.matrix(word.replace("begin", "end")), False
        raise Unreadable(f"{word!r} is not known here")

    def symbol(self) -> sp.Basic:
        name, atom = self.one_of(self.atoms)
        if not isinstance(atom, sp.Symbol):
            raise Unreadable(f"a symbol is missing before {self.next!r}")
        del self.rest[: len(name)]
        return atom

    def applied(self, name: tuple[str, ...], function, more: tuple) -> tuple[sp.Basic, bool]:
        """A function of what follows it: in brackets, or one factor that nothing follows."""
        power, trigonometric = sp.S.One, name[0] in _TRIGONOMETRIC
        if trigonometric and self.take("^"):
            power = self.argument()
            if not (power.is_Integer and power.is_positive):
                raise Unreadable(f"a power of {name[0]} must be a positive number")
        braces = self.rest[:2] == ["{", "("] and self.take("{")
        opening = self.next
        if opening in ("(", "["):
            self.expect(opening)
            self.inside.append(_CLOSING[opening])
            args = [self.sum()]
            while self.take(","):
                args.append(self.sum())
            self.inside.pop()
            self.expect(_CLOSING[opening], *(["}"] if braces else []))
        elif name not in [tuple(_words(k)) for k in _FUNCTIONS]:
            raise Unreadable(f"brackets are missing after {' '.join(name)}")
        else:
            args = [self.factor()]
            if self.next not in _FUNCTIONS:
                self.require_end(name[0])
        value = self.made(function(*args, *more))
        return value**power, opening in ("(", "[") and not trigonometric

    def integral(self) -> sp.Basic:
        limits: tuple[sp.Basic, ...] = ()
        self.take(r"\limits")
        if self.take("_"):
            low = self.argument()
            self.expect("^")
            limits = (low, self.argument())
        value = self.until("d")
        self.take(r"\mathrm")
        self.expect("d")
        return sp.Integral(value, (self.symbol(), *limits))

    def matrix(self, end: str) -> sp.Basic:
        rows = [[self.sum()]]
        while not self.take(end):
            if self.take("&"):
                rows[-1].append(self.sum())
            else:
                self.expect(r"\\")
                rows.append([self.sum()])
        return sp.ImmutableMatrix(rows)
