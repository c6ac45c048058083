r"""LaTeX in lines that fit a page.

MathJax breaks no formula, and one that runs off the page reads like a whole one.  So a formula is
read in pieces whose widths are estimated (to 4 % of what MathJax draws, root mean square), and one
that is too wide is broken: before a sign, between factors, or inside the bracket, fraction or
matrix that holds too much.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from sympy.printing.latex import accepted_latex_functions


class Piece(NamedTuple):
    """A symbol, command or bracket with its arguments, subscripts and superscripts."""

    text: str
    width: float  # em
    kind: str = ""  # space, sign, operator, bracket, fraction, root or matrix
    inside: tuple[Piece, ...] = ()
    ends: tuple[str, str] = ("", "")


Pieces = Sequence[Piece]

_TOKEN = re.compile(
    r"\\(?:left|right)(?:\\[a-zA-Z]+|\\.|[^a-zA-Z])|\\(?:begin|end)\{\w+\}"
    r"|\\sqrt\[\w+\]|\\[a-zA-Z]+|\\.|\s+|."
)
_OPEN = re.compile(r"[{(\[]|\\lvert|\\lVert|\\left[^a-z].*|\\begin.*")
_CLOSE = re.compile(r"[})\]]|\\rvert|\\rVert|\\right[^a-z].*|\\end.*")
_SCALE = (1.0, 1.0, 0.707, 0.5)  # of TeX's styles: display, text, script, script of a script
_SIGNS = {r"\cdot": 0.28, r"\circ": 0.5, r"\times": 0.78, "+": 0.78, "-": 0.78}
_RELATIONS = ("=", "<", ">", r"\to", r"\leq", r"\geq", r"\approx", r"\rightarrow", r"\sim")
_OPERATORS = {r"\int": 1.0, r"\sum": 1.6, r"\prod": 1.4, r"\lim": 1.6}
_STYLES = {r"\frac": (1, 2, 3, 3), r"\tfrac": (2, 2, 3, 3), r"\dfrac": (1, 1, 1, 1)}  # of the parts
_ARGUMENTS = (*_STYLES, r"\binom", r"\overset", r"\sqrt", r"\text", r"\operatorname")
_NO_WIDTH = (r"\mathbb", r"\mathcal", r"\mathrm", r"\dot", r"\tilde", r"\hat", r"\bar", r"\limits")
_GROWING = {"(": 0.8, "[": 0.6, "|": 0.35, ".": 0.15}  # drawn larger than (, and with more room
_EM = dict.fromkeys("ijlt,.;:'!|", 0.32) | dict.fromkeys("mMW", 0.9) | _SIGNS | _OPERATORS
_EM |= dict.fromkeys(_RELATIONS, 1.33) | dict.fromkeys((*_NO_WIDTH, "&"), 0.0)
_EM |= {r"\quad": 1.0, r"\qquad": 2.0, r"\,": 0.17, r"\infty": 1.0, r"\top": 0.78, "w": 0.72}


def read(tex: str) -> list[Piece]:
    """The pieces of a formula; their texts, put together, are the formula."""
    tokens = _TOKEN.findall(tex)[::-1]
    pieces = _read_group(tokens, 0)
    while tokens:  # a bracket is closed that was not opened
        pieces += [Piece(tokens.pop(), 0.4), *_read_group(tokens, 0)]
    return pieces


def text(pieces: Pieces) -> str:
    """The LaTeX of the pieces."""
    return "".join(piece.text for piece in pieces)


def width(pieces: Pieces) -> float:
    """The estimated width in em."""
    return sum(piece.width for piece in pieces)


def lines(pieces: Pieces, first: float, rest: float) -> list[str]:
    """Lines of at most `first` em, then `rest`; what nothing can break stays too wide."""
    if not pieces or width(pieces) <= first:
        return [text(pieces).strip()]
    terms, factors = _split(pieces, "sign"), _factors(pieces)
    if len(terms) > 1:
        return _filled(terms, first, rest)
    widths = [width(factor) for factor in factors]
    widest = widths.index(max(widths))
    before, after = sum(widths[:widest]), sum(widths[widest + 1 :])
    crowded = len(factors) > 1 and (3 * before > first or 3 * after > rest)
    opened = [] if crowded else _opened(pieces, first, rest)
    if crowded or (len(opened) == 1 and len(factors) > 1):
        return _filled(factors, first, rest, sign=r"\cdot ")
    return opened


# Reading -------------------------------------------------------------------------------------


def _read_group(tokens: list[str], style: int) -> list[Piece]:
    """The pieces up to the next closing bracket, in one of TeX's styles."""
    pieces: list[Piece] = []
    operand = False
    while tokens and not _CLOSE.fullmatch(tokens[-1]):
        piece = _read_piece(tokens, style)
        if piece.text in _SIGNS and operand:
            piece = piece._replace(kind="sign", width=piece.width + 0.44 * (style < 2))
        pieces.append(piece)
        if piece.kind != "space":
            operand = piece.text not in (*_SIGNS, *_RELATIONS, ",", "&", r"\\")
    return pieces


def _read_piece(tokens: list[str], style: int) -> Piece:
    token = tokens.pop()
    if token.isspace():
        return Piece(token, 0.0, "space")
    scale, script = _SCALE[style], (2, 2, 3, 3)[style]
    if _OPEN.fullmatch(token):
        piece = _read_bracket(token, tokens, style)
    elif token.partition("[")[0] in _ARGUMENTS:
        piece = _read_arguments(token, tokens, style)
    elif token[1:] in accepted_latex_functions and token not in _OPERATORS:
        piece = Piece(token, scale * (0.5 * len(token) - 0.2))
    else:
        letter = 0.77 if token.strip("\\")[:1].isupper() else 0.53
        kind = "operator" if token in _OPERATORS else ""
        piece = Piece(token, scale * _EM.get(token, letter), kind)
    scripts: list[Piece] = []
    while tokens and tokens[-1] in ("^", "_"):
        mark = Piece(tokens.pop(), 0.0)
        scripts += [mark, _read_piece(tokens, script)] if tokens else [mark]
    beside = max((part.width for part in scripts), default=0.0)
    stacked = token in (r"\limits", r"\lim", r"\sum", r"\prod")
    return piece._replace(
        text=piece.text + text(scripts),
        width=max(piece.width, beside) if stacked else piece.width + beside,
        ends=(piece.ends[0], piece.ends[1] + text(scripts)),
    )


def _read_bracket(token: str, tokens: list[str], style: int) -> Piece:
    matrix = token.startswith(r"\begin")
    inside = tuple(_read_group(tokens, max(style, 1) if matrix else style))
    ends = (token, tokens.pop() if tokens else "")
    whole = f"{token}{text(inside)}{ends[1]}"
    if token == "{" and len(inside) == 1 and inside[0].kind == "bracket":
        return inside[0]._replace(text=whole)  # the brackets of a function
    if matrix:
        rows = [_split(row, "&") for row in _split(inside, r"\\")]
        columns = [max(map(width, column)) for column in zip(*rows, strict=False)]
        return Piece(whole, sum(columns) + len(columns) - 1, "matrix", inside, ends)
    margin = _GROWING.get(token[-1], 0.5) if token.startswith(r"\left") else 0.33 * (token != "{")
    kind = "" if token in ("{", r"\left.") else "bracket"
    return Piece(whole, width(inside) + 2 * margin * _SCALE[style], kind, inside, ends)


def _read_arguments(token: str, tokens: list[str], style: int) -> Piece:
    smaller = _STYLES.get(token, _STYLES[r"\frac"])[style]
    two = token in _STYLES or token == r"\binom"
    styles = (smaller, smaller) if two else (style,)
    if token == r"\overset":
        styles = ((2, 2, 3, 3)[style], style)
    parts = tuple(_read_piece(tokens, part_style) for part_style in styles if tokens)
    derivative = re.match(r"\{(d|\\partial)\b", text(parts))
    kinds = {r"\sqrt": "root"} | dict.fromkeys(_STYLES, "operator" if derivative else "fraction")
    kind = kinds.get(token, "") if len(parts) == len(styles) else ""
    margin = {"operator": 0.6, "fraction": 0.4, "root": 0.9}.get(kind, 1.0 if two else 0.0)
    widest = max((part.width for part in parts), default=0.0)
    return Piece(token + text(parts), widest + margin * _SCALE[style], kind, parts)


# Breaking ------------------------------------------------------------------------------------


def _split(pieces: Pieces, at: str) -> list[list[Piece]]:
    """The terms of a sum for "sign", each with its sign; else what stands between two `at`."""
    parts: list[list[Piece]] = [[]]
    for piece in pieces:
        if piece.text == at or (piece.kind == at and piece.text in "+-" and parts[-1]):
            parts.append([])
        if piece.text != at and (parts[-1] or piece.kind != "space"):
            parts[-1].append(piece)
    for part in parts:
        while part and part[-1].kind == "space":
            part.pop()
    return parts


def _factors(pieces: Pieces) -> list[list[Piece]]:
    """The factors of a product; what an operator acts on is one with it."""
    factors: list[list[Piece]] = [[]]
    for piece in pieces:
        last = factors[-1]
        bound = not last or last[-1].text in _SIGNS or any(p.kind == "operator" for p in last)
        if piece.kind == "space" and not bound:
            factors.append([])
        elif last or piece.kind != "space":
            last.append(piece)
    return [factor for factor in factors if factor]


def _filled(parts: Sequence[Pieces], first: float, rest: float, sign: str = "") -> list[str]:
    """As many parts on a line as it holds, `sign` before a new line; a part too wide is broken."""
    done: list[str] = []
    line: list[Piece] = []
    for part in parts:
        if line and width([*line, *part]) > (rest if done else first):
            done.append(text(line).strip())
            line = []
        line += [*read(" " if line else sign if done else ""), *part]
        if width(line) > (rest if done else first):
            done += lines(line, rest if done else first, rest - 1)
            line = []
    return [*done, text(line).strip()] if line else done


def _opened(pieces: Pieces, first: float, rest: float) -> list[str]:
    """Lines broken inside the widest fraction, bracket or matrix, as far as that can be."""
    kinds = ("fraction", "root", "bracket", "matrix")
    may_open = [p.width * (p.kind in kinds) for p in pieces]
    k = may_open.index(max(may_open))
    head, piece, tail = text(pieces[:k]), pieces[k], text(pieces[k + 1 :])
    room = first - width(pieces[:k]) - 0.6
    if piece.kind == "root" and piece.inside[0].text.startswith("{"):
        power = rf"\left({text(piece.inside[0].inside)}\right)^{{1/2}}"
        return lines(read(f"{head}{power}{tail}"), first, rest)
    if piece.kind == "fraction":
        top, bottom = piece.inside
        factors = [text(factor) for factor in _factors(top.inside or [top])]
        if len(_split(top.inside, "sign")) > 1:
            factors = [rf"\left({text(top.inside)}\right)"]
        wide = max(range(len(factors)), key=lambda j: width(read(factors[j])))
        if bottom.width > rest:
            out = " ".join(f for f in factors if f != "1")
            power = rf"\left({text(bottom.inside)}\right)^{{-1}}"
            return lines(read(f"{head}{out} {power}{tail}"), first, rest)
        if "(" in factors[wide]:
            over, out = " ".join(factors[:wide]) or "1", " ".join(factors[wide:])
            return lines(read(rf"{head}\frac{{{over}}}{bottom.text} {out}{tail}"), first, rest)
    if piece.kind == "bracket":
        indented = rest - 1 - width(read(piece.ends[1] + tail))
        widest = max(map(width, _split(piece.inside, "sign")))
        if room < widest <= indented:
            inner = ["", *lines(piece.inside, indented, indented)]
        else:
            inner = lines(piece.inside, room, indented)
        if len(inner) == 1:
            return [f"{head}{piece.ends[0]}{inner[0]}{piece.ends[1]}{tail}"]
        tall = re.search(r"\\(frac|begin|int|lim|sum|prod)", text(piece.inside))
        left, right = (end.removeprefix(r"\left").removeprefix(r"\right") for end in piece.ends)
        size = r"\Big" if tall else r"\big"
        inner[-1] += f"{size}r{right}{tail}"
        return [f"{head}{size}l{left}{inner[0]}", *(rf"\quad {line}" for line in inner[1:])]
    if piece.kind == "matrix":
        rows = [_split(row, "&") for row in _split(piece.inside, r"\\")]
        if max(map(len, rows)) > 1:
            return [f"{head}{piece.text.replace('{matrix}', '{smallmatrix}')}{tail}"]
        cells = [lines(row[0], room, room - 1) for row in rows]
        inside = r"\\".join(
            cell[0]
            if len(cell) == 1
            else r"\begin{array}{l}" + r"\\\quad ".join(cell) + r"\end{array}"
            for cell in cells
        )
        return [f"{head}{piece.ends[0]}{inside}{piece.ends[1]}{tail}"]
    return [text(pieces).strip()]
