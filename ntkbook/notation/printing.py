"""Expressions in print: as plain text, as LaTeX in the field's notation, as aligned equations."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeAlias

import sympy as sp
from sympy.core.function import AppliedUndef
from sympy.printing.latex import LatexPrinter
from sympy.printing.precedence import PRECEDENCE

from ntkbook.notation.linebreaks import lines, read, text, width

PAGE = 28.5  # em: the room beside the number of an equation, 29.5 in a window 1280 px wide


def plain(expr: sp.Basic) -> str:
    """`expr` as Python would read it, a matrix as a list of its rows."""
    return str(expr.tolist()) if isinstance(expr, sp.MatrixBase) else sp.sstr(expr)


def latex(expr: sp.Basic) -> str:
    r"""`expr` as LaTeX in the field's notation.

    >>> a, b, t = sp.symbols("a b t")
    >>> print(latex(sp.acos(b - a) * sp.Function("r")(t) ** 2))
    r(t)^{2} \arccos(b - a)
    """
    return _Printer({"inv_trig_style": "full", "fold_frac_powers": True}).doprint(expr)


Row: TypeAlias = "tuple[str | None, str, sp.Basic | str]"


def aligned(rows: Sequence[Row], page: float = PAGE) -> str:
    r"""The rows of an ``aligned`` environment, broken where they would be wider than the page.

    **Arguments**:

    - `rows`: for each line the LaTeX of its left side (None where it has none), that of the
      relation, and the right side or its LaTeX.
    - `page`: the width to keep to, in em.

    **Returns**: the rows, to be put between ``\begin{aligned}`` and ``\end{aligned}``.  Right sides
    begin below left ones that leave them too little room.

    >>> x = sp.symbols("x_1:9", positive=True)
    >>> print(aligned([("f", "=", sp.Add(*x)), (None, "<", sp.sqrt(2))], page=12))
    f &= x_{1} + x_{2} + x_{3} + x_{4} + x_{5} \\
    &\quad{} + x_{6} + x_{7} + x_{8} \\
    &< \sqrt{2}
    """
    tex = [(left or "", rel, e if isinstance(e, str) else latex(e)) for left, rel, e in rows]
    sides = [(read(left), read(f"{rel} "), read(right)) for left, rel, right in tex]
    indent = max((width(left) for left, _, _ in sides), default=0.0)
    out: list[str] = []
    for left, equals, right in sides:
        first, *more = lines(right, page - indent - width(equals), page - indent - 1)
        out += [f"{text(left)} &{text(equals)}{first}".lstrip()]
        out += [rf"&\quad {line}" for line in more]
    widest = max((width(read(line.partition("&")[2])) for line in out), default=0.0)
    if indent + widest > page or (3 * indent > page and len(out) > len(rows)):
        out = []
        for left, equals, right in sides:
            start = [*left, *read(" "), *equals]
            if left and (3 * width(left) <= page or width([*start, *right]) <= page):
                first, *more = lines(right, page - width(start), page - 2)
                out += [f"&{text(start)}{first}"]
            else:
                above = lines(left, page, page - 1) if left else []
                out += [("&" if k == 0 else r"&\quad ") + line for k, line in enumerate(above)]
                first, *more = lines(right, page - 1 - width(equals), page - 2)
                out += [rf"&\quad {text(equals)}{first}"]
            out += [rf"&\qquad {line}" for line in more]
    # a sign after {} has the space round it that it has within a line
    return re.sub(r"quad (?=[+-]|\\cdot)", r"quad{} ", " \\\\\n".join(out))


class _Printer(LatexPrinter):
    """sympy's printer, in the field's notation."""

    _in_exponent = False

    def doprint(self, expr):
        return without_growing(super().doprint(expr))

    def _print_Add(self, expr, order=None):
        """A positive term first, if there is one."""
        terms = [
            rf"\left({tex}\right)" if self._needs_add_brackets(term) else tex
            for term in self._as_ordered_terms(expr, order=order)
            for tex in [self._print(term)]
        ]
        if terms[0].startswith("-"):
            terms.sort(key=lambda t: (t.startswith(r"O\left("), t.startswith("-")))
        signed = (f" - {t[1:].lstrip()}" if t.startswith("-") else f" + {t}" for t in terms[1:])
        return terms[0] + "".join(signed)

    def _print_Mul(self, expr):
        """A short fraction in an exponent on one line."""
        top, bottom = sp.fraction(expr)
        if not self._in_exponent or bottom == 1 or not bottom.is_Atom or top.is_Add:
            return super()._print_Mul(expr)
        return f"{self._print(top)}/{self._print(bottom)}"

    def _print_Rational(self, expr):
        return str(expr) if self._in_exponent else super()._print_Rational(expr)

    def _print_Derivative(self, expr):
        """With brackets round a differentiated product."""
        tex = super()._print_Derivative(expr)
        if not expr.expr.is_Mul:
            return tex
        body = self.parenthesize(expr.expr, PRECEDENCE["Mul"], is_neg=False, strict=True)
        return rf"{tex.removesuffix(body)}\left({body}\right)"

    def _print_Symbol(self, expr, style="plain"):
        return re.sub(r"_\{(min|max)\}", r"_{\\\1}", super()._print_Symbol(expr, style))

    def _print_Function(self, expr, exp=None):
        """f(t)^2, not f^2(t): for an unknown f that may mean f(f(t))."""
        if exp is None or not isinstance(expr, AppliedUndef):
            return super()._print_Function(expr, exp)
        return f"{super()._print_Function(expr)}^{{{exp}}}"

    def _print_ExpBase(self, expr, exp=None):
        """An exponent that is long or holds a tall fraction in brackets."""
        outer, self._in_exponent = self._in_exponent, True
        short = self._print(expr.args[0])
        self._in_exponent = outer
        if r"\frac" not in short and width(read(short)) <= 12:
            return self._do_exponent(f"e^{{{short}}}", exp)
        return self._do_exponent(rf"\exp{{\left({self._print(expr.args[0])} \right)}}", exp)

    def _print_Transpose(self, expr):
        tex = self._print(expr.arg)
        if isinstance(expr.arg, sp.MatrixSymbol):
            return rf"{{{tex}}}^\top" if "^" in tex else rf"{tex}^\top"
        return rf"\left({tex}\right)^\top"

    def _print_Identity(self, expr):
        return "I"


def without_growing(tex: str) -> str:
    r"""No ``\left`` and ``\right`` where nothing is tall, innermost brackets first.

    >>> without_growing(r"\left(a + \left[b\right]\right)")
    '(a + [b])'
    """
    before = None
    tall = r"\\left|\\right|\\[td]?frac|\\binom|\\begin|\\int|\\sum|\\prod|\\lim"
    flat = rf"((?:(?!{tall}).)*?)"
    call = rf"\{{\\left\({flat} \\right\)\}}"  # sympy writes f{\left(x \right)}
    bracket = rf"\\left([(\[]){flat} ?\\right([)\]])"
    modulus = rf"\\left\|\{{{flat}\}}\\right\|"
    while tex != before:
        before = tex
        tex = re.sub(f"{call}|{bracket}|{modulus}", _flat, tex)
    return tex


def _flat(match: re.Match[str]) -> str:
    arguments, opener, inside, closer, modulus = match.groups()
    if modulus is not None:
        return rf"\lvert {modulus} \rvert"
    return f"({arguments})" if inside is None else f"{opener}{inside}{closer}"
