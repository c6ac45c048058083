"""What is printed says what the expression says, in lines that fit."""

import re
import subprocess
import sys

import pytest
import sympy as sp
from sympy.parsing.sympy_parser import (
    convert_xor,
    implicit_multiplication,
    parse_expr,
    standard_transformations,
)

from ntkbook.notation.linebreaks import read, text, width
from ntkbook.notation.printing import PAGE, aligned, latex, plain

a, b, c, d, e, f, t = sp.symbols("a b c d e f t")
theta = sp.Symbol("theta", real=True)
r, ell = sp.Function("r")(t), sp.Function("ell_1")
n = sp.Symbol("n", integer=True, positive=True)
A, B = sp.MatrixSymbol("A", n, n), sp.MatrixSymbol("B", n, n)
star = sp.MatrixSymbol(r"v^\star", n, 1)


@pytest.mark.parametrize(
    ("expr", "printed"),
    [
        (b - a, "b - a"),
        (-a - b, "- a - b"),
        (1 - a**2, "1 - a^{2}"),
        (a - 2 * b + c, "a - 2 b + c"),
        (-a + b + sp.Order(a**2), "b - a + O(a^{2})"),
        (B - A, "B - A"),
        (-a * A - a * (B - A), "- a (B - A) - a A"),
        (sp.acos(a), r"\arccos(a)"),
        (sp.asin(a) ** 2, r"\arcsin^{2}(a)"),
        (sp.atan(a / b), r"\arctan{\left(\frac{a}{b} \right)}"),
        (sp.erf(a), r"\operatorname{erf}(a)"),
        (sp.log(a), r"\log(a)"),
        (r, "r(t)"),
        (r**2, "r(t)^{2}"),
        (ell(r), r"\ell_{1}(r(t))"),
        (r.diff(t), r"\frac{d}{d t} r(t)"),
        (sp.Derivative(a * r, t), r"\frac{\partial}{\partial t} (a r(t))"),
        (sp.Abs(a - b) ** 2, r"\lvert a - b \rvert^{2}"),
        (sp.Abs(a / b), r"\left|{\frac{a}{b}}\right|"),
        ((a + 1 / b) ** 2, r"\left(a + \frac{1}{b}\right)^{2}"),
        (a * (b + c), "a (b + c)"),
        (sp.Rational(1, 2) * a, r"\frac{a}{2}"),
        (a ** sp.Rational(5, 2), "a^{5/2}"),
        (sp.exp(-(a**2) / 2), "e^{- a^{2}/2}"),
        (sp.exp(sp.Rational(1, 25)), "e^{1/25}"),
        (sp.exp(-a / (b + c)), r"\exp{\left(- \frac{a}{b + c} \right)}"),
        (A.T, r"A^\top"),
        ((A * B).T, r"B^\top A^\top"),
        (sp.Transpose(A * B), r"(A B)^\top"),
        (star.T * A, r"{v^{\star}}^\top A"),
        (A.I * (a * sp.Identity(n) + B), "A^{-1} (a I + B)"),
        (sp.Symbol("lambda_max"), r"\lambda_{\max}"),
        (sp.Matrix([[a, r]]), r"\left[\begin{matrix}a & r(t)\end{matrix}\right]"),
    ],
    ids=str,
)
def test_notation(expr, printed):
    assert latex(expr) == printed


def test_plain_text():
    assert plain(sp.Matrix([[a, b - a]])) == "[[a, -a + b]]"
    assert plain(sp.acos(a) / 2) == "acos(a)/2"


# The widths that MathJax 3 draws in a browser, in em.
DRAWN = [
    (9.86, r"\frac{4 (m_{2}^{2} n (n - 1) + m_{4} n)}{n^{2}}"),
    (15.19, r"x_{1} a(t) e^{x_{1} w(t)} \frac{d}{d t} w(t) + e^{x_{1} w(t)} \frac{d}{d t} a(t)"),
    (22.74, r"54 c^{3} + \frac{c^{2}}{2} + c (9 p - 2) (9 q - 2) + (0.5 p + 1) (0.5 q + 1)"),
    (11.54, r"4 b^{2} (2 - b^{2})^{2} \sin^{2}(a) \cos^{4}(a)"),
    (11.27, r"\frac{1}{\delta} (I - J^\top J (\delta I + J^\top J)^{-1})"),
    (21.14, r"4 b^{2} \cos^{4}(a) + (2 \sin(a) \cos(a) - 2 b^{2} \sin(a) \cos(a))^{2}"),
    (9.02, r"\left[\begin{matrix}- \eta q r_{1}(t) - \eta q r_{2}(t)\\0\end{matrix}\right]"),
    (8.58, r"\frac{16 (v_{11}^{2} - v_{12}^{2})^{2} e^{- 4 u_{1}^{2}}}{\pi^{2}}"),
    (7.22, r"a^{2} k - 2 a k_{*} + k_{**}"),
    (
        17.67,
        r"\sin{\left(\psi + \frac{z_{+}}{2} - \frac{z_{-}}{2} \right)}"
        r" \sin{\left(\psi + \frac{z_{+}}{2} + \frac{z_{-}}{2} \right)}",
    ),
    (
        30.64,
        r"\frac{(p + q) (p q + p + q + 1 - c^{2}) + (3 p + 3) (q + 1)"
        r" + (p q + p + q + 1 - c^{2})^{2}}{2 \pi (p q + p + q + 1 - c^{2})^{5/2}}",
    ),
]


@pytest.mark.parametrize(("drawn", "tex"), DRAWN)
def test_width_is_that_of_the_browser(drawn, tex):
    assert width(read(tex)) == pytest.approx(drawn, rel=0.12)


@pytest.mark.parametrize(
    "tex",
    [
        *(tex for _, tex in DRAWN),
        "[0, 1)",
        "]0, 1[",
        "a) + (b",
        r"{x'}_1^{2",
        r"\frac\pi2",
        "}",
        "",
    ],
)
def test_a_formula_read_is_the_formula(tex):
    assert text(read(tex)) == tex


def lines_of(tex):
    return tex.split(" \\\\\n")


def value_of(tex):
    """The expression that rows in single letters say, read with rules of this test's own."""
    tex = re.sub(
        r"\\\\\n|&|\\q?quad|\{\}|\\left|\\right|\\[bB]igg?[lr]|\\(?=exp|sqrt|sin)", " ", tex
    )
    tex = tex.replace(r"\cdot", "*").replace("}{", ")/(").replace(r"\frac", "")
    tex = tex.replace(r"\lvert", "Abs(").replace(r"\rvert", ")")
    tex = tex.replace("{", "(").replace("}", ")").replace("[", "(").replace("]", ")")
    rules = (*standard_transformations, convert_xor, implicit_multiplication)
    return parse_expr(tex.removeprefix(" "), {"e": sp.E}, rules)


S = a + b + c + d + f
WIDE = {
    "sum": sp.Add(*(k * x**k for k in range(1, 6) for x in (a, b, c))),
    "differences": -sp.Add(*(k * x**k for k in range(1, 6) for x in (a, b, c))) + 7,
    "product": (a + b + 1) * (b + c + 2) * (c + d + 3) * (d + f + 4) * (a + f + 5),
    "bracket": a * (S**2 + a**3 + b**3 + c**3 + d**3),
    "nested": a - b * (a**2 + b**2 - c * (b**3 + c**3 - d * (a**4 + d + 5))),
    "fraction": sp.Add(S**2, a**3, b**3, c**3, evaluate=False) / (7 * sp.sqrt(d)),
    "product in a fraction": a**2 * (S**2 + a**3 + b**3 + c**3) / (d + f),
    "denominator": (a + b) / (S**2 + a**3 + b**3 + c**3 + d**3),
    "root": a * sp.sqrt(S**2 + a**3 + b**3 + c**3 + d**3),
    "exponent": b + c * sp.exp(-(S**2) - a**3 - b**3 - c**3 - a / (b + c)),
    "argument": sp.sin(S**2 + a**3 + b**3 + c**3 + d**3) + 1 / a,
    "modulus": a * sp.Abs(S**2 + a**3 + b**3 + c**3 - d**3),
    "one power of a sum": (S + a**2 + b**2 + c**2 + d**2) ** 3,
}


@pytest.mark.parametrize("page", [11, 14])
@pytest.mark.parametrize("name", WIDE)
def test_broken_lines_say_the_same_and_fit(name, page):
    expr = WIDE[name]
    assert width(read(latex(expr))) > page
    rows = aligned([(None, "", expr)], page=page)
    assert len(lines_of(rows)) > 1
    assert max(width(read(line)) for line in lines_of(rows)) <= page
    point = {a: 0.3, b: 0.7, c: 1.1, d: 0.2, f: 0.9}
    read_back = value_of(rows).subs(point).evalf(30)
    assert read_back == pytest.approx(complex(expr.subs(point).evalf(30)), rel=1e-12)


def test_what_fits_is_not_broken():
    rows = aligned([("f", "=", a + b), (None, "<", (a + b + c) ** 2)])
    assert rows == "f &= a + b \\\\\n&< (a + b + c)^{2}"
    assert aligned([]) == ""


def test_brackets_are_never_cut():
    for expr in WIDE.values():
        for line in lines_of(aligned([("f", "=", expr)], page=14)):
            assert line.count(r"\left") == line.count(r"\right")
            assert line.count("{") == line.count("}")


def test_a_long_left_side_stands_above():
    left = latex(WIDE["product"])
    rows = aligned([(left, "=", S**2 + a**3 + b**3), (None, "=", S), ("f", "=", WIDE["sum"])])
    first, second, *_, last = lines_of(rows)
    assert first == f"&{left}"
    assert second == r"&\quad = a^{3} + b^{3} + (a + b + c + d + f)^{2}"
    assert max(width(read(line)) for line in lines_of(rows)) <= PAGE
    assert last.startswith(r"&\qquad{} + ")


def test_a_left_side_wider_than_the_page_is_broken():
    rows = lines_of(aligned([(latex(WIDE["differences"]), "=", a)], page=20))
    assert len(rows) > 2
    assert max(width(read(line)) for line in rows) <= 20


def test_a_column_breaks_inside_its_entries_and_a_table_is_set_small():
    column = aligned([("f", "=", sp.Matrix([WIDE["sum"], a]))])
    assert column.count(r"\begin{array}{l}") == 1
    assert width(read(column)) <= PAGE < width(read(latex(sp.Matrix([WIDE["sum"], a]))))
    table = sp.Matrix(3, 3, lambda i, j: (a + i) * (b + j) ** 2 - c)
    assert "smallmatrix" in aligned([("f", "=", table)], page=width(read(latex(table))) - 2)


def test_what_nothing_can_break_is_left_whole():
    power = a ** (S**2 + b**3 + c**3)
    assert aligned([("f", "=", power)], page=5) == f"&f = {latex(power)}"


def test_the_same_text_in_every_process():
    program = (
        "import sympy as sp; from ntkbook.notation.printing import aligned;"
        "x = sp.symbols('a:h p:z', real=True); g = sp.Function('g')(*x);"
        "print(aligned([('y', '=', (sum(x) - g)**2 - sp.prod(x) * sum(u**2 for u in x))]))"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed, "JAX_PLATFORMS": "cpu"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in "12"
    }
    assert len(printed) == 1
    assert printed.pop().count("&") > 2


def test_brackets_nested_deeply():
    expr = a
    for k in range(12):  # work that doubled with every bracket would take hours here
        expr = b - c * (expr * d + a**k + S * f)
    rows = lines_of(aligned([("f", "=", expr)]))
    assert sum(line.count(r"\bigl(") for line in rows) == sum(
        line.count(r"\bigr)") for line in rows
    )
    assert len(rows) > 12


def test_a_factor_on_a_new_line_has_its_sign_and_beside_others_none():
    first, *more = lines_of(aligned([("f", "=", WIDE["product"])], page=14))
    assert r"\cdot" not in first
    assert more
    assert all(re.fullmatch(r"&\\quad\{\} \\cdot (?!.*cdot).*", line) for line in more)
