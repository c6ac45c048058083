"""How exact the duals are, as recorded: `{accuracy-table} float64`."""

import json
from pathlib import Path

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

SOURCE = Path("tests", "benchmarks", "accuracy.json")
ERRORS = ("value", "slope", "angle")


def table(rows, dtype):
    """MyST: a row per activation and range of variances, with the largest errors."""
    lines = ["| activation | variances | " + " | ".join(ERRORS) + " |", "|---" * 5 + "|"]
    before = None
    for row in rows:
        if row["dtype"] != dtype:
            continue
        low, high = (power(row["variance"][end]) for end in ("from", "to"))
        name = "" if row["activation"] == before else row["activation"]
        before = row["activation"]
        cells = [name, f"{low} to {high}", *(number(row[key]) for key in ERRORS)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def power(x):
    """1e-12 as $10^{-12}$, other numbers as they are."""
    mantissa, exponent = f"{x:e}".split("e")
    return f"$10^{{{int(exponent)}}}$" if float(mantissa) == 1 else f"{x:g}"


def number(error):
    return f"{error:.0e}" if error else "0"


class AccuracyTable(SphinxDirective):
    required_arguments = 1

    def run(self):
        source = Path(self.env.srcdir) / SOURCE
        self.env.note_dependency(str(source))
        record = json.loads(source.read_text(encoding="utf8"))
        text = table(record["rows"], self.arguments[0])
        box = nodes.Element()
        self.state.nested_parse(StringList(text.splitlines(), str(source)), 0, box)
        return box.children


def setup(app):
    app.add_directive("accuracy-table", AccuracyTable)
    return {"parallel_read_safe": True}
