"""LaTeX is read as it looks, or not at all."""

import math
import random
import re

import pytest
import sympy as sp

from ntkbook.notation.linebreaks import read, width
from ntkbook.notation.printing import aligned, latex
from ntkbook.notation.reading import Unreadable, read_as, sides

a, b, c, p, q, theta, rho = sp.symbols("a b c p q theta rho")
x, x_i = sp.Symbol("x"), sp.Symbol("x_i")
sigma, primed = sp.Symbol("sigma_w"), sp.Symbol("x'")
k, n = sp.symbols("k n", integer=True)
f, ell = sp.Function("f"), sp.Function("ell_1")
N = sp.Symbol("N", integer=True, positive=True)
A, B, K = sp.MatrixSymbol("A", N, N), sp.MatrixSymbol("B", N, N), sp.MatrixSymbol("K_{**}", N, N)
half = sp.Rational(1, 2)
# All names that the texts may use.
WORDS = sp.Add(
    a, b, c, p, q, theta, rho, x, x_i, sigma, primed, n, sp.pi, f(x), ell(x), f(x).diff(x),
    sp.Sum(k**2, (k, 0, n)), sp.Integral(sp.exp(-x), (x, 0, sp.oo)),
)  # fmt: skip

READ = {
    r"\tfrac12 (a+b)^2": (a + b) ** 2 / 2,
    r"\frac{a}{b}c": a * c / b,
    r"\frac ab c": a * c / b,
    r"\frac12\dfrac{a}{2}": a / 4,
    r"\frac12 \cdot \frac34": sp.Rational(3, 8),
    r"a b/c": a * b / c,
    r"ab - \frac{1}{2} p q": a * b - p * q / 2,
    r"-a^2 b": -(a**2) * b,
    r"a^{12}": a**12,
    r"a^b c": a**b * c,
    r"\sqrt2\,a": sp.sqrt(2) * a,
    r"\sqrt[3]{a+b}": (a + b) ** sp.Rational(1, 3),
    r"\sqrt{p} \sqrt q": sp.sqrt(p) * sp.sqrt(q),
    r"\sigma_w^2": sigma**2,
    r"\sigma_{w}^{2} x'": sigma**2 * primed,
    r"x x' x_i": x * primed * x_i,
    r"\cos\theta\sin\theta": sp.cos(theta) * sp.sin(theta),
    r"\cos^2\theta": sp.cos(theta) ** 2,
    r"\cos(2\theta)": sp.cos(2 * theta),
    r"\arccos\frac{c}{\sqrt{pq}}": sp.acos(c / sp.sqrt(p * q)),
    r"\arcsin\!a": None,
    r"\ln\frac1a": sp.log(1 / a),
    r"\log(a)^2": sp.log(a) ** 2,
    r"e^{-x^2/2}": sp.exp(-(x**2) / 2),
    r"\exp\bigl(-\tfrac{x^2}{2}\bigr)": sp.exp(-(x**2) / 2),
    r"\mathrm e^{x}": sp.exp(x),
    r"\left|a-b\right|^{2}": sp.Abs(a - b) ** 2,
    r"|a| + |b|": sp.Abs(a) + sp.Abs(b),
    r"\lvert a \lvert b \rvert\rvert": sp.Abs(a * sp.Abs(b)),
    r"n!": sp.factorial(n),
    r"\frac{n!}{(n-2)!}": sp.factorial(n) / sp.factorial(n - 2),
    r"\binom{n}{2}": sp.binomial(n, 2),
    r"\Gamma(n+\tfrac12)": sp.gamma(n + half),
    r"\max(0, a)^2": sp.Max(0, a) ** 2,
    r"\operatorname{erf}(a)": sp.erf(a),
    r"f(x)^2 f(a+b)": f(x) ** 2 * f(a + b),
    r"\ell_1(x^2)": ell(x**2),
    r"\frac{d}{d x} f(x) \cdot a": a * f(x).diff(x),
    r"\int_0^\infty x\,e^{-x} \mathrm d x": sp.Integral(x * sp.exp(-x), (x, 0, sp.oo)),
    r"\int_0^1\int_0^a b\,dx\,\mathrm{d}\rho": sp.Integral(b, (x, 0, a), (rho, 0, 1)),
    r"\sum_{k=0}^{n} a^k b + c": sp.Sum(a**k * b, (k, 0, n)) + c,
    r"\prod_{k=1}^n k": sp.Product(k, (k, 1, n)),
    r"\begin{pmatrix} a & b \\ 0 & \tfrac12 \end{pmatrix}": sp.Matrix([[a, b], [0, half]]),
    r"2\pi a": 2 * sp.pi * a,
    r"0.5\,a": a / 2,
    r"{(a+b)}^2": (a + b) ** 2,
}


@pytest.mark.parametrize("tex", READ)
def test_a_text_is_read(tex):
    if READ[tex] is None:
        with pytest.raises(Unreadable):
            read_as(sides(tex)[1], WORDS)
    else:
        assert read_as(sides(tex)[1], WORDS).value == READ[tex]


UNCLEAR = {
    "a divided by what": r"a/2b",
    "a half that is a mixed number": r"2\frac12 a",
    "two numbers": r"1\,2 a",
    "a number behind": r"a 2",
    "digits of an exponent": r"a^12",
    "an argument without end": r"\cos 2\theta",
    "an argument before brackets": r"\cos\theta (a+b)",
    "an argument before a point": r"\cos 2\cdot\theta",
    "an inverse or a power": r"\sin^{-1}\theta",
    "a power of a function or of its argument": r"\sin(a)^2",
    "a power of a fraction": r"\frac ab^2",
    "a power of a root": r"\sqrt{a}^2",
    "a power of a derivative": r"\frac{d}{d x} f(x)^2",
    "a power of an exponential": r"e^{a}^2",
    "braces for brackets": r"{a+b} c",
    "a product in braces": r"{a b}^2",
    "a function in braces": r"{\sin a} b",
    "a sum in braces": r"{\sum_{k=0}^n a} k",
    "a fraction in braces": r"{\frac ab}^2",
    "a derivative of what": r"\frac{d}{d x} f(x) a",
    "a double factorial": r"n!!",
    "bars": r"|a|b + c|a|",
    "brackets that don't match": r"(a+b]",
    "a bracket that stays open": r"\bigl(a+b",
    "a brace that stays open": r"\frac{a}{b",
    "left without right": r"\left(a)",
    "two exponents": r"a^{2}^{3}",
    "a token for a group": r"\frac\sqrt{a}b",
    "a symbol for a group": r"\sqrt x_i",
    "a sign for a group": r"a^-1",
    "two signs": r"a--b",
    "nothing": "",
    "an empty group": r"a{}b",
    "nothing in brackets": r"a()",
    "a function without brackets": r"f x",
    "a function of too many": r"\cos(a,b)",
    "two decimal points": r"1.2.3",
    "an unknown name": r"z",
    "an unknown index": r"a_2",
    "an unknown prime": r"a'",
    "an unknown function": r"g(a)",
    "a sum of what": r"\sum_{2=1}^{n} a",
    "an integral in what": r"\int_0^1 a\,\mathrm d 2",
    "an integral without end": r"\int_0^1 a",
    "a matrix with a hole": r"\begin{pmatrix} a & \end{pmatrix}",
    "a matrix transposed that is none": r"a^\top",
    "a relation": r"a < b",
}
FORGED = [
    r"\text{proved} a", r"\mbox{a} b", r"\href{x}{a}", r"\color{white}a", r"\phantom{b}a", "a % b",
    r"\def\x{a}\x", r"\newcommand{\x}{a}", r"\htmlClass{x}{a}", r"\cancel{a}", r"a\\b", r"a & b",
    r"$a$", r"a\tag{1}", r"\label{a}a", r"\style{x}{a}", r"\unicode{65}a", r"\rlap{a}b", r"a\!\!b",
    r"a \hspace{9cm} b", r"\overset{a}{b}", r"\operatorname{a}", r"\mathrm{a}", r"\not a", "a ≠ b",
    "<b>a</b>", r"\begin{array}a\end{array}", r"\middle|a", r"\left.a\right)", r"a\quad b", "a±b",
    r"\require{a}a", r"\require a", r"\let\x a", r"a\ b", "a~b", "a#b", r"\limits a", r"\big a",
]  # fmt: skip


@pytest.mark.parametrize("tex", [*UNCLEAR.values(), *FORGED])
def test_what_is_unclear_or_no_mathematics_is_refused(tex):
    with pytest.raises(Unreadable):
        read_as(sides(tex)[1], WORDS)


def test_words_are_those_of_the_expression():
    assert read_as("f(a+b)", f(a) + b).value == f(a + b)
    assert read_as("f(a+b)", sp.Symbol("f") * (a + b)).value == sp.Symbol("f") * (a + b)
    with pytest.raises(Unreadable, match="a symbol and a function"):
        read_as("f(a+b)", f(a) + sp.Symbol("f") + b)
    with pytest.raises(Unreadable, match="two different things"):
        read_as("a b", a * b + sp.Symbol("a", positive=True))
    e, d = sp.symbols("e d")
    assert read_as("e^a", e * a).value == e**a
    assert read_as(r"\int_0^1 d\,\mathrm d a", sp.Integral(d, (a, 0, 1))).value.function == d
    with pytest.raises(Unreadable):
        read_as(r"\int_0^1 d\,d a", sp.Integral(d, (a, 0, 1)))


def test_what_cancels_is_kept_among_the_parts():
    assert 1 / x in read_as(r"\frac{x^2}{x}", x).parts
    assert sp.tan(x) in read_as(r"\tan(x) - \tan(x) + x", x).parts
    assert sp.zoo in read_as(r"x + 0 \cdot \frac{1}{0}", x).parts


def test_matrices_keep_their_order():
    words = A * B * A.I + sp.Identity(N) + K
    assert read_as("A B", words).value == A * B
    assert read_as(r"(A B)^\top - B A", words).value == B.T * A.T - B * A
    assert read_as(r"\tfrac12 A^{-1}(I + K_{**})", words).value == half * A.I * (sp.Identity(N) + K)
    for tex in (r"\frac{A}{B}", r"A/B", r"A + 1", r"\sqrt A_1"):
        with pytest.raises(Unreadable):
            read_as(tex, words)


def test_two_sides():
    assert sides("f(x) = a + b") == ("f(x)", "a + b")
    assert sides(r"\sum_{k=1}^{n} a") == (None, r"\sum_{k=1}^{n} a")
    assert sides("a\n\n+ b") == (None, "a + b")
    assert sides(r"\Bigl(\frac ab\Bigr) \big( c \big)") == (None, r"\left(\frac ab\right) ( c)")


PRINTED = [
    (a + b + c) ** 3 / (2 * sp.pi * sp.sqrt(p * q)),
    sp.exp(-a / (b + c)) * sp.sin(theta) ** 2 * sp.cos(theta),
    sp.acos(c / sp.sqrt(p * q)) * (1 - c**2 / (p * q)) ** sp.Rational(5, 2),
    f(f(x)).diff(x) * sp.Derivative(a * f(x), x) ** 2,
    sp.Abs(a / b + c) * sp.Abs(a) + sp.Max(0, a, b) ** 2,
    sp.Sum(k * a**k, (k, 1, n)) + sp.factorial(n) * sp.binomial(n, 2),
    sp.Integral(f(x) * sp.exp(-x), (x, 0, sp.oo)) ** 2,
    sp.Matrix([[a, f(x)], [sp.exp(a), 1]]),
    a * A * (B - a * A.T) * A.I,
    1 + 5 * a + sp.Order(a**2),
]


@pytest.mark.parametrize("expr", PRINTED, ids=str)
def test_what_is_printed_is_read_back(expr):
    value = read_as(sides(latex(expr))[1], expr).value
    assert value == expr or sp.expand(value - expr) == 0


@pytest.mark.parametrize("page", [9, 14])
@pytest.mark.parametrize(
    "tex",
    [
        r"\tfrac12 (a+b)^2 + \frac{pq}{2\pi}\Bigl(\arccos\tfrac{c}{\sqrt{pq}} + c\Bigr) - abc",
        r"\bigl(a + b + c + p + q + \tfrac12 ab + \tfrac13 bc + \sqrt[3]{pq}\bigr)\,e^{-x^2/2}",
        r"\dfrac{a+b+c+p+q+ab+bc}{2\pi} (a + b) (b + c) \sqrt{a + b + c + p + q + ab + bc}",
        r"\binom{n}{2} + \lvert a + b \rvert + \sum_{k=0}^{n} a^k b + \tfrac{(a+b+c+p+q)^2}{2}",
    ],
)
def test_a_broken_text_says_what_the_whole_one_says(tex, page):
    whole = sides(tex)[1]
    rows = aligned([(None, "", whole)], page=page)
    assert "\\\\\n" in rows
    assert max(width(read(line)) for line in rows.split("\\\\\n")) < 1.1 * page
    together = re.sub(r"\\\\\n|&|\\q+uad|{}", " ", rows)
    value, meant = (read_as(sides(t)[1], WORDS).value for t in (together, whole))
    assert sp.simplify(value - meant) == 0


NUMBERS = {"a": 0.7, "b": 1.3, "c": 0.4, r"\theta": 0.9, "x_i": 1.1, "2": 2.0, "12": 12.0}
MAPS = {r"\sin": math.sin, r"\cos": math.cos, r"\arctan": math.atan}


def grown(rng, depth):
    """A text, its value, and how tightly it binds: 0 a sum, 1 a product, 2 a power, 3 one thing."""
    if depth == 0:
        name = rng.choice(list(NUMBERS))
        return name, NUMBERS[name], 3
    (s, x, bound), (t, y, other) = (grown(rng, rng.randrange(depth)) for _ in "12")
    left, right = rng.choice([("(", ")"), (r"\left(", r"\right)"), (r"\bigl[", r"\bigr]")])
    inside = f"{left}{s}{right}"
    kind = rng.choice(["sum", "product", "product", "fraction", "power", "root", "map", "bars"])
    if kind == "sum":
        sign = rng.choice((1, -1))
        return f"{s} {'+' if sign > 0 else '-'} {t if other else f'({t})'}", x + sign * y, 0
    if kind == "product":
        dot = rng.choice([r" \cdot ", r"\times "])
        if s[-1] in "ab)]" and t[0] in "abcx" and other:
            dot = rng.choice([" ", "", r"\,"])
        return f"{s if bound else inside}{dot}{t if other else f'({t})'}", x * y, 1
    if kind == "fraction" and abs(y) > 1e-2:
        command = rng.choice([r"\frac", r"\tfrac", r"\dfrac"])
        return f"{command}{{{s}}}{{{t}}}", x / y, 2
    if kind == "power":
        return f"{s if bound == 3 else inside}^{rng.choice(['3', '{3}'])}", x**3, 2
    if kind == "root":
        return rf"\sqrt{{{inside}^2}}", abs(x), 2
    if kind == "map":
        name = rng.choice(list(MAPS))
        return f"{name}{inside}", MAPS[name](x), 2
    return rf"\left|{s}\right|", abs(x), 3


def test_texts_of_every_form_have_the_value_that_they_show():
    rng, known = random.Random(0), 0
    point = {a: 0.7, b: 1.3, c: 0.4, theta: 0.9, x_i: 1.1}
    for _ in range(400):
        tex, value, _ = grown(rng, rng.randint(1, 6))
        try:
            said = read_as(sides(tex)[1], a + b + c + theta + x_i).value
        except Unreadable:
            continue  # what is unclear is tested above
        assert complex(said.evalf(20, subs=point)) == pytest.approx(value, rel=1e-8, abs=1e-8), tex
        known += 1
    assert known > 300
