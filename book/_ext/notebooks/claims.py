"""The claims page, collected from the outputs stored in the book's notebooks.

`collect` reads the records that checks and derivations leave in their cells' outputs; `page`
writes them, claim by claim, as MyST. Both are plain functions on plain data; the directives
`{claims-summary}` and `{claims-table}` join them while the site is built. Nothing on the page is
typed by hand except the statements of `book/claims.yml`.
"""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from notebooks.toc import chapters

CHECK = "application/vnd.ntkbook.check+json"
DERIVATION = "application/vnd.ntkbook.derivation+json"


class ClaimError(ValueError):
    """The notebooks and the ledger do not fit together."""


@dataclass(frozen=True)
class Record:
    """One check or one derivation, and the page that shows it."""

    doc: str  # "book/part/chapter"
    cell: int  # index of the cell in the notebook
    kind: str  # "check" or "derivation"
    data: dict

    @property
    def claim(self):
        """The ledger id: the part of a check's claim in front of the slash."""
        return (self.data.get("claim") or "").split("/")[0]


def notebooks(root):
    """The notebooks of `_toc.yml`, in reading order, as document names."""
    paths = (path.relative_to(root) for path in chapters(Path(root)))
    return [path.with_suffix("").as_posix() for path in paths]


def records(root, doc):
    """The records in the stored outputs of one notebook."""
    text = (Path(root) / f"{doc}.ipynb").read_text(encoding="utf8")
    return list(records_of(doc, json.loads(text)))


def records_of(doc, notebook):
    """The records in the outputs of a notebook that is called `doc`."""
    for index, cell in enumerate(notebook["cells"]):
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            for item in as_json(data.get(CHECK, [])):
                yield Record(doc, index, "check", item)
            if DERIVATION in data:
                yield Record(doc, index, "derivation", as_json(data[DERIVATION]))


def as_json(value):
    """Jupyter stores JSON outputs as objects; some tools write them as (lists of) text."""
    if isinstance(value, list) and value and all(isinstance(line, str) for line in value):
        value = "".join(value)
    return json.loads(value) if isinstance(value, str) else value


def faults(record, ledger):
    """Why the claims page could not place a record: its id, or its verdict."""
    if record.kind == "check" and "/" not in record.data["claim"]:
        yield (
            f"the check {record.data['claim']!r} has no name of its own; "
            "expected an id such as 'C01/remainder-slope'"
        )
    if record.claim and record.claim not in ledger:
        yield (
            f"the claim {record.claim!r} is not in book/claims.yml, "
            f"which knows {', '.join(sorted(ledger))}"
        )
    if record.kind == "check" and record.data["verdict"] != "pass":
        yield f"the check {record.data['claim']!r} did not pass"


def collect(root, docs, ledger):
    """All records of `docs`, grouped by ledger id; a claim that does not fit raises."""
    found = [record for doc in docs for record in records(root, doc)]
    for record in found:
        for fault in faults(record, ledger):
            raise ClaimError(f"{record.doc}.ipynb, cell {record.cell + 1}: {fault}")
    for kind, key in (("check", "claim"), ("derivation", "label")):
        counts = Counter(r.data[key] for r in found if r.kind == kind)
        for name, times in counts.items():
            if times > 1:
                cells = [
                    f"{r.doc}.ipynb, cell {r.cell + 1}"
                    for r in found
                    if r.kind == kind and r.data[key] == name
                ]
                raise ClaimError(f"the {kind} {name!r} is used {times} times: {'; '.join(cells)}")
    return {claim: [r for r in found if r.claim == claim] for claim in ledger}


def plural(count, noun, nouns=None):
    return f"{count} {noun if count == 1 else nouns or noun + 's'}"


def summary(found):
    """One sentence that counts what the page holds."""
    checks = [r.data for rs in found.values() for r in rs if r.kind == "check"]
    proofs = [r.data for rs in found.values() for r in rs if r.kind == "derivation"]
    rejected = sum(len(c.get("rejects") or []) for c in checks)
    claims = plural(sum(map(bool, found.values())), "claim")
    proved = plural(sum(p["proved"] for p in proofs), "step")
    tested = sum(p["checked"] + p.get("computed", 0) for p in proofs)
    numerically = f" and {plural(tested, 'step')} found by one route" if tested else ""
    return (
        f"This page holds {claims}. They rest on {plural(len(proofs), 'derivation')} with {proved} "
        f"proved by algebra{numerically}, and on {plural(len(checks), 'check')} that hold and "
        f"that refuse {plural(rejected, 'wrong theory', 'wrong theories')}."
    )


def derivation_line(record):
    data = record.data
    parts = [f"{plural(data['proved'], 'step')} proved"]
    parts += [f"{data['computed']} by one route"] if data.get("computed") else []
    parts += [f"{data['checked']} tested numerically"] if data.get("checked") else []
    given = [plural(n, kind) for kind, n in (data.get("kinds") or {}).items()]
    rests = f", from {' and '.join(given)}" if given else ""
    used = [f"{{eq}}`{label}`" for label in data.get("uses") or []]
    uses = f" It uses {', '.join(used)}." if used else ""
    cited = [f"{{eq}}`{label}`" for label in data.get("cites") or []]
    cited = [label for label in cited if label not in used]
    uses += f" Premises are shown in {', '.join(cited)}." if cited else ""
    where = f"Equation {{eq}}`{data['label']}` in {{doc}}`/{record.doc}`"
    return f"- {where}: {', '.join(parts)}{rests}.{uses}"


def anchor(claim):
    """The anchor of a check: `C01/remainder-slope` -> `check-c01-remainder-slope`."""
    return "check-" + claim.lower().replace("/", "-")


def refused(data):
    """The wrong theories that a check refuses, each with its margin."""
    both = zip(data.get("rejects") or [], data.get("margins") or [], strict=True)
    return "; ".join(f"{name} ({margin}×)" for name, margin in both)


def check_row(record):
    data = record.data
    seeds = f"seeds {data['seeds']}" if data.get("seeds") else ""
    setting = ", ".join(filter(None, [data.get("size"), seeds]))
    name = data["claim"].split("/", 1)[1]
    cells = [
        f"✓ {{ref}}`{name} <{anchor(data['claim'])}>`",
        data["what"] + (f" ({setting})" if setting else ""),
        data["theory"],
        data["measured"],
        data["bound"],
        refused(data) or "–",
    ]
    lines = [" ".join(str(cell).split()) for cell in cells]
    return "\n".join(("* - " if i == 0 else "  - ") + line for i, line in enumerate(lines))


def links(found):
    """Pairs (claim, claim that rests on it), each once, in the order of the records."""
    home = {
        r.data["label"]: claim
        for claim, records in found.items()
        for r in records
        if r.kind == "derivation"
    }
    pairs = (
        (home[label], claim)
        for claim, records in found.items()
        for r in records
        if r.kind == "derivation"
        for label in (*r.data.get("uses", ()), *r.data.get("cites", ()))
        if label in home and home[label] != claim
    )
    return list(dict.fromkeys(pairs))


def neighbours(claim, pairs):
    """What a claim rests on, and what rests on it."""
    return [a for a, b in pairs if b == claim], [b for a, b in pairs if a == claim]


def section(claim, entry, found, pairs=()):
    """One claim: statement, source, derivations, checks, and the claims next to it."""
    checks = [r for r in found if r.kind == "check"]
    proofs = [r for r in found if r.kind == "derivation"]
    chapters = list(dict.fromkeys(r.doc for r in found))
    lines = [
        f"(claim-{claim.lower()})=",
        f"## {claim}. {entry['title']}",
        "",
        entry["statement"].strip(),
        "",
        f"Source: {entry['source'].strip()} "
        f"Chapter: {', '.join(f'{{doc}}`/{doc}`' for doc in chapters)}.",
        "",
        *[derivation_line(r) for r in proofs],
        "",
        *[
            f"{words} {', '.join(f'{{ref}}`{other} <claim-{other.lower()}>`' for other in others)}."
            for words, others in zip(("Rests on", "Used by"), neighbours(claim, pairs), strict=True)
            if others
        ],
        "",
    ]
    if checks:
        lines += [
            "````{list-table}",
            ":header-rows: 1",
            ":class: ntk-checks",
            "",
            "* - check\n  - what is measured\n  - theory\n  - measured\n  - bound\n"
            "  - theories refused",
            *[check_row(r) for r in checks],
            "````",
            "",
        ]
    return "\n".join(lines)


def page(ledger, found):
    """All claims that have records, as MyST."""
    pairs = links(found)
    sections = (section(claim, ledger[claim], rs, pairs) for claim, rs in found.items() if rs)
    return "\n\n".join(sections)
