"""The directive `{claims-map}`: which claim rests on which, as a picture that one can click.

A claim rests on another if one of its derivations uses a derivation of the other, or names it as
the proof of a premise; both stand in the records.  The picture is static: each claim is a link
with a name that a screen reader reads out, and the keyboard reaches them in the order of the book.
"""

from __future__ import annotations

import html
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from docutils import nodes
from notebooks import claims
from notebooks.canonical import read
from notebooks.claims import Record

from pages.claims_table import ClaimsDirective

WIDTH, HEADINGS, ROW = 760, 200, 66  # of the picture, of the chapters' names beside it, of a row
BOX, HEIGHT, GAP = 44, 24, 16
LETTERS = 29  # of a chapter's name
PER_ROW = (WIDTH - HEADINGS) // (BOX + GAP)


def places(
    found: Mapping[str, list[Record]], docs: Sequence[str]
) -> tuple[list[tuple[str, float]], dict[str, tuple[float, float]]]:
    """Headings (document, y) in reading order, and the upper left corner of each claim's box.

    A claim stands where it is proved, or first measured.
    """
    order: dict[str, list[str]] = {}
    for claim, records in found.items():
        if records:
            proofs = [r for r in records if r.kind == "derivation"]
            order.setdefault((proofs or records)[0].doc, []).append(claim)
    headings: list[tuple[str, float]] = []
    corners: dict[str, tuple[float, float]] = {}
    y = 30.0
    for row, doc in enumerate(sorted(order, key=docs.index)):
        headings.append((doc, y + HEIGHT / 2 + 4))
        shift = HEADINGS + row % 2 * (BOX + GAP) / 2  # so that lines run between boxes
        for k, claim in enumerate(order[doc]):
            corners[claim] = (
                shift + k % PER_ROW * (BOX + GAP),
                y + k // PER_ROW * (HEIGHT + GAP),
            )
        y += ROW + (len(order[doc]) - 1) // PER_ROW * (HEIGHT + GAP)
    return headings, corners


def picture(
    ledger: Mapping[str, Mapping[str, str]],
    found: Mapping[str, list[Record]],
    titles: Mapping[str, str],
) -> str:
    """The map as SVG; `titles` are those of the documents, in reading order."""
    headings, corners = places(found, list(titles))
    pairs = claims.links(found)
    height = max((y for _, y in corners.values()), default=0) + HEIGHT + GAP
    parts = [
        f'<svg class="ntk-map" viewBox="0 0 {WIDTH} {height:g}" role="group" '
        'aria-label="Which claim rests on which">'
    ]
    parts += [_curve(corners[a], corners[b]) for a, b in pairs]
    for doc, y in headings:
        parts.append(f'<text class="chapter" x="0" y="{y:g}">{_text(titles[doc])}</text>')
    for claim, (x, y) in corners.items():
        below, above = claims.neighbours(claim, pairs)
        words = f"{claim}, {ledger[claim]['title']}."
        words += f" Rests on {_listed(below)}." if below else ""
        words += f" Used by {_listed(above)}." if above else ""
        parts.append(
            f'<a href="#claim-{claim.lower()}" aria-label="{_text(words)}">'
            f"<title>{_text(words)}</title>"
            f'<rect x="{x:g}" y="{y:g}" width="{BOX}" height="{HEIGHT}" rx="4"/>'
            f'<text x="{x + BOX / 2:g}" y="{y + HEIGHT / 2 + 5:g}">{claim}</text></a>'
        )
    return "\n".join([*parts, "</svg>"])


def _curve(start: tuple[float, float], end: tuple[float, float]) -> str:
    """From the lower edge of one box to the upper edge of the other, or an arc above one row."""
    (x0, y0), (x1, y1) = start, end
    a, b = x0 + BOX / 2, x1 + BOX / 2
    if y0 == y1:
        return f'<path d="M{a:g} {y0:g}C{a:g} {y0 - 24:g} {b:g} {y0 - 24:g} {b:g} {y0:g}"/>'
    top, bottom = (y0 + HEIGHT, y1) if y1 > y0 else (y0, y1 + HEIGHT)
    middle = (top + bottom) / 2
    return f'<path d="M{a:g} {top:g}C{a:g} {middle:g} {b:g} {middle:g} {b:g} {bottom:g}"/>'


def _listed(claims: Iterable[str]) -> str:
    return ", ".join(claims)


def _text(words: str) -> str:
    return html.escape(words.replace("$", ""), quote=True)


class ClaimsMap(ClaimsDirective):
    """The picture, in the place of the directive."""

    def made_of(self, ledger, found):
        root = Path(self.env.srcdir)
        titles = {doc: _title(root / f"{doc}.ipynb") for doc in claims.notebooks(root)}
        return [nodes.raw("", picture(ledger, found, titles), format="html")]


def _title(path: Path) -> str:
    """The heading of a chapter, up to its colon or comma, and as far as there is room."""
    text = "\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")
    heading = next(line for line in text.splitlines() if line.startswith("# "))
    short = re.split("[:,]", heading.removeprefix("# "))[0]
    return textwrap.shorten(short, LETTERS, placeholder=" …")


def setup(app):
    app.add_directive("claims-map", ClaimsMap)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
