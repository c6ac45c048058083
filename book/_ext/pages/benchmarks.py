"""The directives `{benchmark-setting}` and `{benchmark-tables}`: what the benchmark recorded."""

import json
from pathlib import Path

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

SOURCE = Path("tests", "benchmarks", "results.json")
TITLES = {
    "relu": "Infinite width, three ReLU layers, 784 features",
    "erf": "Infinite width, three erf layers, 784 features",
    "empirical-1": "Empirical kernel, three layers of 512 ReLU units, one output",
    "empirical-10": "Empirical kernel, three layers of 512 ReLU units, ten outputs",
}


def duration(seconds):
    return f"{1000 * seconds:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def setting(record):
    """One sentence on where and when the times were taken."""
    return (
        f"Recorded on {record['date']} on {record['machine']}, with Python {record['python']} and "
        f"ntkbook {record['ntkbook']}; rounds of fresh processes: {record['rounds']}."
    )


def tables(record):
    """MyST: one table for each case and precision, a row per library, a column per size."""
    groups: dict[tuple[str, str], list] = {}
    for entry in record["results"]:
        groups.setdefault((entry["case"], entry["dtype"]), []).append(entry)
    lines = []
    for (case, dtype), entries in groups.items():
        sizes = [row["n"] for row in entries[0]["rows"]]
        lines += [f"**{TITLES[case]}, {dtype}**", ""]
        lines += [
            "| library | "
            + " | ".join(f"N = {n}" for n in sizes)
            + " | memory | first call | new size |"
        ]
        lines += ["|---" * (len(sizes) + 4) + "|"]
        for entry in entries:
            cells = [name(entry)]
            for row, ratio in zip(entry["rows"], entry["ratios"], strict=True):
                own = entry["library"] == "ntkbook"
                cells.append(duration(row["wall"]) + ("" if own else f" ({ratio:.2g}×)"))
            cells.append(f"{entry['rows'][-1]['peak_kib'] / 1024:.0f} MiB")
            cells += [duration(entry["rows"][k]["first"]) for k in (0, -1)]
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def name(entry):
    if entry["library"] == "floor":
        return "matrix products alone"
    if entry["library"] == "ntkbook":
        return f"**ntkbook**, jax {entry['rows'][0]['jax']}"
    return entry["library"]


class Benchmark(SphinxDirective):
    def text(self, record):
        raise NotImplementedError

    def run(self):
        source = Path(self.env.srcdir) / SOURCE
        self.env.note_dependency(str(source))
        record = json.loads(source.read_text(encoding="utf8"))
        lines = StringList(self.text(record).splitlines(), str(source))
        box = nodes.Element()
        self.state.nested_parse(lines, self.content_offset, box)
        return box.children


class BenchmarkSetting(Benchmark):
    def text(self, record):
        return setting(record)


class BenchmarkTables(Benchmark):
    def text(self, record):
        return tables(record)


def setup(app):
    app.add_directive("benchmark-setting", BenchmarkSetting)
    app.add_directive("benchmark-tables", BenchmarkTables)
    return {"parallel_read_safe": True}
