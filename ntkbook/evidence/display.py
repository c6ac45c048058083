"""How a chain of equations is shown: as plain text, or as aligned equations with their reasons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import sympy as sp

from ntkbook.evidence import proof

Status = Literal["given", "proved", "checked"]
WORDS: dict[Status, str] = {
    "proved": "proved",
    "checked": "checked numerically",
    "given": "given",
}


class Line(Protocol):
    """What is read of a line: a `Derivation` is one."""

    @property
    def label(self) -> str: ...
    @property
    def lhs(self) -> sp.Basic | sp.MatrixBase: ...
    @property
    def rhs(self) -> sp.Basic | sp.MatrixBase: ...
    @property
    def because(self) -> str: ...
    @property
    def nonzero(self) -> tuple[sp.Basic, ...]: ...
    @property
    def status(self) -> Status: ...
    @property
    def lines(self) -> Sequence[Line]: ...
    @property
    def is_bare_start(self) -> bool: ...
    def count(self, status: Status) -> int: ...


def text(chain: Line) -> str:
    """The chain as plain text, a line and its reason on each row."""
    rows = [f"{chain.label}: {_tally(chain)}"]
    for lhs, line in _rows(chain):
        if line.is_bare_start:
            rows.append(f"  {_plain(line.lhs)}")
            continue
        head = "    " if lhs is None else f"  {_plain(lhs)} "
        rows.append(f"{head}= {_plain(line.rhs)}   [{line.status}: {line.because}]")
    if chain.nonzero:
        rows.append(f"  nonzero or invertible: {', '.join(map(sp.sstr, chain.nonzero))}")
    return "\n".join(rows)


def markdown(chain: Line) -> str:
    """Aligned equations, the reasons below: beside wide lines they would fall off a page."""
    rows: list[str] = []
    reasons: list[str] = []
    for lhs, line in _rows(chain):
        if line.is_bare_start:
            rows.append(f"{proof.latex(lhs)} &")
            continue
        letter = "abcdefghijklmnopqrstuvwxyz"[len(reasons)]
        left = "" if lhs is None else f"{proof.latex(lhs)} "
        rows.append(rf"{left}&\overset{{\text{{({letter})}}}}{{=}} {proof.latex(line.rhs)}")
        mark = {"given": ", given", "checked": ", checked numerically", "proved": ""}
        reasons.append(f"({letter}) {line.because}{mark[line.status]}")
    if len(rows) > 1 and rows[0].endswith(" &"):
        rows[:2] = [rows[0].removesuffix("&") + rows[1]]
    notes = ["; ".join(reasons), f"*{_tally(chain)}*"]
    if chain.nonzero:
        symbols = ", ".join(f"${proof.latex(s)}$" for s in chain.nonzero)
        notes.append(f"Taken as nonzero or invertible: {symbols}")
    body = " \\\\\n".join(rows)
    words = ". ".join(note for note in notes if note)
    return f"$$\n\\begin{{aligned}}\n{body}\n\\end{{aligned}}\n$$ ({chain.label})\n\n{words}."


def _rows(chain: Line) -> list[tuple[sp.Basic | None, Line]]:
    """Each line with the left side to show: None where it repeats the one above."""
    lines = chain.lines
    if len(lines) > 1 and lines[0].is_bare_start and lines[1].lhs != lines[0].lhs:
        lines = lines[1:]  # the next line shows the starting expression on its left side
    shown = [None if k and lines[k - 1].lhs == e.lhs else e.lhs for k, e in enumerate(lines)]
    return list(zip(shown, lines, strict=True))


def _tally(chain: Line) -> str:
    counts = [f"{chain.count(s)} {word}" for s, word in WORDS.items() if chain.count(s)]
    return ", ".join(counts) or "nothing derived yet"


def _plain(expr: sp.Basic | sp.MatrixBase) -> str:
    return str(expr.tolist()) if isinstance(expr, sp.MatrixBase) else sp.sstr(expr)
