"""How a chain of equations is shown: as plain text, or as aligned equations with their reasons."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Literal, Protocol, Self

import sympy as sp

from ntkbook.algebra.hypotheses import Hypothesis, Statement, nonzero_of
from ntkbook.notation.printing import Row, aligned, latex, plain
from ntkbook.notation.reading import sides

Status = Literal["given", "proved", "computed", "checked"]
WEAKNESS: tuple[Status, ...] = ("given", "proved", "computed", "checked")  # the last is weakest
WORDS: dict[Status, str] = {
    "proved": "proved",
    "computed": "computed by one route",
    "checked": "checked numerically",
}
_CITATION = re.compile(r"\{eq\}`(eq-[a-z0-9-]+)`")
_LONGEST = 60  # characters of LaTeX beyond which a premise is named by its left side


class Line(Statement, Protocol):
    """What is read of a line: a `Derivation` is one."""

    @property
    def because(self) -> str: ...
    @property
    def claim(self) -> str | None: ...
    @property
    def latex(self) -> str | None: ...
    @property
    def status(self) -> Status: ...
    @property
    def uses(self) -> Sequence[Self]: ...
    @property
    def previous(self) -> Self | None: ...
    @property
    def lines(self) -> Sequence[Self]: ...
    @property
    def is_bare_start(self) -> bool: ...
    def count(self, status: Status) -> int: ...


def text(chain: Line) -> str:
    """The chain as plain text, a line and its reason on each row."""
    rows = [f"{chain.label}: {_tally(chain)}"]
    for lhs, line in _rows(chain):
        if line.is_bare_start:
            rows.append(f"  {plain(line.lhs)}")
            continue
        head = "    " if lhs is None else f"  {plain(lhs)} "
        reason = f": {line.because}" if _reason(line) == line.because else ""
        rows.append(f"{head}= {plain(line.rhs)}   [{_status(line)}{reason}]")
    nonzero = nonzero_of(chain)
    if nonzero:
        rows.append(f"  nonzero or invertible: {', '.join(map(sp.sstr, nonzero))}")
    return "\n".join(rows)


def markdown(chain: Line) -> str:
    """Aligned equations, the reasons below: beside wide lines they would fall off a page."""
    rows, start, words = _typeset(chain)
    return f"{_equations(aligned(rows) if rows else f'& {start}')} ({chain.label})\n\n{words}."


def markdown_with_gap(chain: Line, lhs: sp.Basic, rule: str, because: str) -> str:
    """The same without a number, its next line ``lhs = ?`` left open."""
    rows, start, words = _typeset(chain)
    rows.append((start if lhs == chain.lhs else latex(lhs), "=", r"\ ?"))
    missing = f"**One line is missing**, by `{rule}`: {because}"
    return f"{_equations(aligned(rows))}\n\n{words}. {missing}."


def gap(chain: Line, lhs: sp.Basic, rule: str, because: str) -> str:
    """The plain text of a missing line."""
    left = "   " if lhs == chain.lhs else f"  {plain(lhs)}"
    return f"{left} = ?   [missing, by {rule}: {because}]"


def _equations(body: str) -> str:
    return f"$$\n\\begin{{aligned}}\n{body}\n\\end{{aligned}}\n$$"


def _typeset(chain: Line) -> tuple[list[Row], str | None, str]:
    """The rows of the equations, an expression that none of them shows, and the words below."""
    rows: list[Row] = []
    reasons: list[str] = []
    start = None
    for lhs, line in _rows(chain):
        given_left, given_right = sides(line.latex) if line.latex else (None, None)
        if line.is_bare_start:
            start = given_right or latex(line.lhs)
            continue
        left = given_left or (start if lhs is None else latex(lhs))
        start = None
        letter = "abcdefghijklmnopqrstuvwxyz"[len(reasons)]
        rows.append((left, rf"\overset{{\text{{({letter})}}}}{{=}}", given_right or line.rhs))
        reasons.append(f"({letter}) {_reason(line)}{_used(line)}")
    notes = ["; ".join(reasons), f"*{_tally(chain)}*"]
    nonzero = nonzero_of(chain)
    if nonzero:
        notes.append(
            f"Taken as nonzero or invertible: {', '.join(f'${latex(s)}$' for s in nonzero)}"
        )
    words = ". ".join(note for note in notes if note)
    return rows, start, words


def record(chain: Line) -> dict[str, object]:
    """What the claims page and the gate read of a chain."""
    used = dict.fromkeys(u.label for line in chain.lines for u in line.uses)
    # Where a reason names an equation, that one proves the premise, in another chapter perhaps.
    cited = (name for line in chain.lines for name in _CITATION.findall(line.because))
    return {
        "label": chain.label,
        "claim": chain.claim,
        **{status: chain.count(status) for status in (*WORDS, "given")},
        "kinds": dict(Counter(h.kind for h in chain.rests_on if h.kind != "nonzero")),
        "rests on": [f"{h.kind}: {_statement(h)} ({h.label})" for h in chain.rests_on],
        "uses": list(used),
        "cites": list(dict.fromkeys(cited)),
    }


def _rows(chain: Line) -> list[tuple[sp.Basic | None, Line]]:
    """Each line with the left side to show: None where it repeats the one above."""
    lines = chain.lines
    if len(lines) > 1 and lines[0].is_bare_start and lines[1].lhs != lines[0].lhs:
        lines = lines[1:]  # the next line shows the starting expression on its left side
    shown = [None if k and lines[k - 1].lhs == e.lhs else e.lhs for k, e in enumerate(lines)]
    return list(zip(shown, lines, strict=True))


def _tally(chain: Line) -> str:
    done = [f"{chain.count(s)} {word}" for s, word in WORDS.items() if chain.count(s)]
    kinds = Counter(h.kind for h in chain.rests_on if h.kind != "nonzero")
    given = [f"{n} {kind}{'s' if n > 1 else ''}" for kind, n in kinds.items()]
    if given and done:
        listed = ", ".join(given[:-1]) + " and " * (len(given) > 1) + given[-1]
        return f"{', '.join(done)}, from {listed}"
    return ", ".join(
        done or [f"{g}, nothing derived yet" for g in given] or ["nothing derived yet"]
    )


def _status(line: Line) -> str:
    """The status of a line, for a given one its kind."""
    return line.rests_on[0].kind if line.status == "given" else line.status


def _reason(line: Line) -> str:
    """The reason as the author gave it, none if it is only the default."""
    silent = line.status == "given" and line.because == "definition"
    return _status(line) if silent else line.because


def _used(line: Line) -> str:
    """What a line takes from elsewhere: other derivations, and what it states itself."""
    before = line.previous.rests_on if line.previous else ()
    inherited = {h for u in line.uses for h in u.rests_on}
    own = [h for h in line.rests_on if h not in before and h not in inherited]
    parts = [f"by {{eq}}`{u.label}`" for u in dict.fromkeys(line.uses)]
    if line.status == "given":
        kind = line.rests_on[0].kind
        return "" if _reason(line) == kind else f", {kind}"
    stated = [_mathematics(h) for h in own if h.kind != "nonzero"]
    if stated:
        parts.append("given " + ", ".join(stated))
    if line.status in ("computed", "checked"):
        parts.append(WORDS[line.status])
    return "".join(f", {part}" for part in parts)


def _mathematics(h: Hypothesis) -> str:
    if h.kind == "law":
        return f"${latex_law(h)}$"
    left, right = latex(h.lhs), latex(h.rhs)
    relation = r"\in" if isinstance(h.rhs, sp.Set) else "="
    return (
        f"${left} {relation} {right}$" if len(left + right) < _LONGEST else f"the value of ${left}$"
    )


def latex_law(h: Hypothesis) -> str:
    """u ∼ N(0, q), or a vector with its covariance matrix."""
    names, q = h.lhs.args, h.rhs
    if q.is_diagonal():
        equal = len(set(q.diagonal())) == 1
        if equal:
            return rf"{', '.join(map(latex, names))}\sim\mathcal{{N}}(0, {latex(q[0, 0])})"
        pairs = zip(names, q.diagonal(), strict=True)
        return r",\ ".join(rf"{latex(u)}\sim\mathcal{{N}}(0, {latex(v)})" for u, v in pairs)
    return rf"({', '.join(map(latex, names))})\sim\mathcal{{N}}(0, {latex(q)})"


def _statement(h: Hypothesis) -> str:
    if h.kind == "nonzero":
        return sp.sstr(h.lhs)
    return f"{plain(h.lhs)} {'~' if h.kind == 'law' else '='} {plain(h.rhs)}"
