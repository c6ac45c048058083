"""What is stored beside what the code prints today: readable differences, figures included."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Sequence
from itertools import pairwise, takewhile
from typing import Any

from nbformat import NotebookNode

from notebooks import pictures
from notebooks.canonical import PNG, kind_of, merged


def differences(stored: Sequence[NotebookNode], fresh: Sequence[NotebookNode]) -> list[str]:
    """Readable differences between two lists of outputs; empty when they tell the same."""
    old, new = merged(stored), merged(fresh)
    kinds = [[kind_of(output) for output in outputs] for outputs in (old, new)]
    if kinds[0] != kinds[1]:
        shown = ["; ".join(" ".join(kind) for kind in side) or "nothing" for side in kinds]
        return [f"other outputs\n  stored: {shown[0]}\n  fresh:  {shown[1]}"]
    return [text for pair in zip(old, new, strict=True) for text in _output_differences(*pair)]


def _output_differences(stored: NotebookNode, fresh: NotebookNode) -> Iterator[str]:
    if stored.output_type == "stream":
        yield from _text_difference(stored.name, stored.text, fresh.text)
        return
    if stored.output_type == "error":
        yield f"the code raises {fresh.ename}: {fresh.evalue}"
        return
    for mime, old in stored.data.items():
        new = fresh.data[mime]
        if mime == PNG:
            yield from pictures.difference(old, new)
        else:
            yield from _text_difference(mime, as_text(old), as_text(new))
    # Of a figure: its alternative text, name, caption, and the digest of the drawn data if any.
    yield from _text_difference(
        "metadata of the output", as_text(stored.metadata), as_text(fresh.metadata)
    )


def _text_difference(what: str, old: str, new: str) -> Iterator[str]:
    if old == new:
        return
    lines = difflib.unified_diff(
        old.splitlines(), new.splitlines(), "stored", "fresh", n=1, lineterm=""
    )
    shown = _windows([*lines][:24]) or ["only line ends differ"]
    yield "\n  ".join([f"{what} differs", *shown])


def _windows(lines: Sequence[str]) -> list[str]:
    """Lines cut to a length that is read; of two long ones what they share is left out."""
    shown = list(lines)
    for k, (a, b) in enumerate(pairwise(lines)):
        same = takewhile(lambda pair: pair[0] == pair[1], zip(a[1:], b[1:], strict=False))
        shared = sum(1 for _ in same)
        if a[0] == "-" and b[0] == "+" and shared > 80 and k > 1:
            shown[k : k + 2] = [f"{line[0]}…{line[shared - 40 :]}" for line in (a, b)]
    return [short(line, 160) for line in shown]


def as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, indent=1, sort_keys=True)


def short(text: str, length: int = 120) -> str:
    text = text.rstrip("\n").replace("\n", "⏎")
    return text if len(text) <= length else text[: length - 1] + "…"
