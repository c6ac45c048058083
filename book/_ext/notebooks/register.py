"""What a run made beside what it shows: every check, derivation and refusal must be on the page.

`recorder` keeps a register in the kernel.  Here it is started, read, and compared with the outputs:
a check that nobody sees, an error that was swallowed, a record that no check made, a cell that
alters the package, each is a sentence that belongs to a cell.
"""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nbclient import NotebookClient
from nbformat import NotebookNode

from notebooks.canonical import CHECK, DERIVATION, PNG, NotebookError
from notebooks.recorder import digest

SOURCE = Path(__file__).with_name("recorder.py")
NAME = "_recorder"  # in the kernel's sys.modules
VERDICT = re.compile(r"pass C\d\d/.*|eq-[\w-]+: \d+ (?:proved|computed|checked)\b.*")
_BEGIN = """\
def begin(source):
    import sys, types
    module = sys.modules[{name!r}] = types.ModuleType({name!r})
    exec(compile(source, {name!r}, "exec"), vars(module))
    module.recorder = module.begin(get_ipython())
begin({source!r})
del begin"""


async def begin(client: NotebookClient) -> None:
    """Start the register, before the first cell."""
    await _reply(client, _BEGIN.format(name=NAME, source=SOURCE.read_text("utf-8")))


async def read(client: NotebookClient) -> dict[str, Any]:
    """What the register holds, after the last cell."""
    wanted = f"__import__('sys').modules[{NAME!r}].recorder.found"
    content = await _reply(client, "", found=wanted)
    said = content["user_expressions"]["found"]
    if said["status"] != "ok":
        raise NotebookError(f"the register can't be read: {said['evalue']}")
    return json.loads(ast.literal_eval(said["data"]["text/plain"]))


async def _reply(client: NotebookClient, code: str, **wanted: str) -> dict[str, Any]:
    assert client.kc is not None
    sent = client.kc.execute(code, silent=True, user_expressions=wanted)
    reply = await client.async_wait_for_reply(sent)
    content = reply["content"] if reply else {"status": "no answer"}
    if content["status"] != "ok":
        raise NotebookError(f"the register can't be kept: {content.get('evalue', 'no answer')}")
    return content


def unseen(found: Mapping[str, Any], cells: Sequence[NotebookNode]) -> dict[int, list[str]]:
    """By code cell, what was made and is not shown, and what is shown and was not made.

    `cells` are the code cells as they ran, with the kernel's own execution counts.
    """
    if found["missing"] and not any(_failed(cell) for cell in cells):
        raise NotebookError(f"the register saw no {', '.join(found['missing'])}: see recorder.py")
    numbers = {cell.execution_count: number for number, cell in enumerate(cells)}
    failed = {cell.execution_count for cell in cells if _failed(cell)}  # it shows its error instead
    said: dict[int, list[str]] = {}
    for count, text in (
        *_strangers(found, cells),
        *_typed(found, cells),
        *_checks(found, cells),
        *_lines(found, cells),
        *_refusals(found, cells),
        *((count, f"alters {name}") for count, name in found["altered"]),
    ):
        if count not in failed:
            said.setdefault(numbers.get(count, 0), []).append(text)
    return said


Said = Iterator[tuple[int, str]]


def _strangers(found: Mapping[str, Any], cells: Sequence[NotebookNode]) -> Said:
    """Records that something else wrote than the package's own display of what it made."""
    own = {(count, word) for count, word in found["shown"]}
    for cell in cells:
        for data in _bundles(cell):
            if (cell.execution_count, digest(data)) in own:
                continue
            for name, maker in ((CHECK, "ntk.check"), (DERIVATION, "ntk.Derivation")):
                if name in data:
                    what = ", ".join(_names(data[name])) or "a record"
                    yield cell.execution_count, f"shows {what}, which {maker} did not make"
            if PNG in data:
                yield cell.execution_count, "shows a picture that ntk.figure did not make"


def _typed(found: Mapping[str, Any], cells: Sequence[NotebookNode]) -> Said:
    """Verdicts that were printed and are not the text of what the package made."""
    for cell in cells:
        count = cell.execution_count
        spoken = _squeezed("\n".join(text for number, text in found["spoken"] if number == count))
        for match in VERDICT.finditer(_printed(cell)):
            if _squeezed(match[0]) not in spoken:
                yield count, f"prints a verdict that nothing in the package made: {match[0]}"


def _checks(found: Mapping[str, Any], cells: Sequence[NotebookNode]) -> Said:
    shown = Counter(_key(r) for c in cells for d in _bundles(c) for r in _list(d.get(CHECK, [])))
    advice = "end a cell with it, or with ntk.report(…)"
    for count, claim, record in found["checks"]:
        if shown[_key(record)] < 1:
            yield count, f"the check {claim} is made and not shown: {advice}"
        shown[_key(record)] -= 1


def _lines(found: Mapping[str, Any], cells: Sequence[NotebookNode]) -> Said:
    shown = {digest(data) for cell in cells for data in _bundles(cell)}
    printed = "".join(_squeezed(_printed(cell)) for cell in cells)
    advice = "end a cell with it, or print it"
    for count, label, digests, text in found["lines"]:
        if not shown & {*digests} and not (text and _squeezed(text) in printed):
            yield count, f"the derivation {label} is made and not shown: {advice}"


def _refusals(found: Mapping[str, Any], cells: Sequence[NotebookNode]) -> Said:
    """Errors that were caught: what they say must be printed by their cell."""
    by_count = {cell.execution_count: cell for cell in cells}
    for count, name, message in found["refused"]:
        cell, reason = by_count.get(count), message.rsplit(": ", 1)[-1]
        if cell is None or _squeezed(reason) not in _squeezed(_printed(cell)):
            yield count, f"{name} is refused, and the cell does not print why: {message}"


def _failed(cell: NotebookNode) -> bool:
    return any(out.output_type == "error" for out in cell.outputs)


def _bundles(cell: NotebookNode) -> list[dict[str, Any]]:
    return [out.data for out in cell.outputs if "data" in out]


def _printed(cell: NotebookNode) -> str:
    parts = [out.text for out in cell.outputs if out.output_type == "stream"]
    return "\n".join(parts + [str(data.get("text/plain", "")) for data in _bundles(cell)])


def _squeezed(text: str) -> str:
    """Without white space: a message may be wrapped."""
    return re.sub(r"\s+", "", text)


def _key(record: Any) -> str:
    return json.dumps(record, sort_keys=True)


def _list(records: Any) -> list[Any]:
    return records if isinstance(records, list) else [records]


def _names(records: Any) -> list[str]:
    found = [r for r in _list(records) if isinstance(r, dict)]
    return [str(r.get("claim") if "verdict" in r else r.get("label")) for r in found]
