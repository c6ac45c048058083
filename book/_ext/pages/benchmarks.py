"""What was recorded of speed: `{benchmark-setting}`, `{benchmark-tables}` and `{gpu-records}`.

The first two show the comparison with other packages, the third the runs on machines with a card.
"""

import json
from pathlib import Path

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

SOURCE = Path("tests", "benchmarks", "results.json")
GPU_RECORDS = Path("tests", "gpu", "records")
LAYERS = "three {} layers, 784 features"
CONVOLUTIONS = "two 3 × 3 convolutions, images of 8 × 8 pixels"
TITLES = {
    "relu": f"Infinite width, {LAYERS.format('ReLU')}",
    "erf": f"Infinite width, {LAYERS.format('erf')}",
    "pool": f"Infinite width, {CONVOLUTIONS}, averaged over pixels",
    "flatten": f"Infinite width, {CONVOLUTIONS}, read out pixel by pixel",
    "empirical-1": "Empirical kernel, three layers of 512 ReLU units, one output",
    "empirical-10": "Empirical kernel, three layers of 512 ReLU units, ten outputs",
    "convolutional-10": f"Empirical kernel, {CONVOLUTIONS}, 64 channels, ten outputs",
}
FLOORS = {"floor": "matrix products alone", "angles": "one product, three angles and roots a pair"}


def duration(seconds):
    return f"{1000 * seconds:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def setting(record):
    """A sentence for each time and machine, if there are several with the cases of each."""
    places: dict[tuple, list] = {}
    for entry in record["results"]:
        keys = ("date", "machine", "python", "ntkbook", "rounds")
        cases = places.setdefault(tuple(entry[key] for key in keys), [])
        if entry["case"] not in cases:
            cases.append(entry["case"])
    ordered = sorted(places.items())
    return " ".join(
        f"{'Recorded' if len(places) == 1 else numbers(cases) + ' recorded'} on {date} on "
        f"{machine}, with Python {python} and ntkbook {version}; rounds of fresh processes: "
        f"{rounds}."
        for (date, machine, python, version, rounds), cases in ordered
    )


def numbers(cases):
    """Which tables, by their numbers."""
    found = [str(list(TITLES).index(case) + 1) for case in cases]
    return f"Table{'s' * (len(found) > 1)} {', '.join(found)}"


def tables(record):
    """MyST: one table for each case and precision, a row per library, a column per size."""
    groups: dict[tuple[str, str], list] = {}
    for entry in record["results"]:
        groups.setdefault((entry["case"], entry["dtype"]), []).append(entry)
    lines = []
    for (case, dtype), entries in groups.items():
        sizes = [row["n"] for row in entries[0]["rows"]]
        lines += [f"**{list(TITLES).index(case) + 1}. {TITLES[case]}, {dtype}**", ""]
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
    if entry["library"] == "ntkbook":
        return f"**ntkbook**, jax {entry['rows'][0]['jax']}"
    return FLOORS.get(entry["library"], entry["library"])


# Cards


def gpu_records(records):
    """MyST: what the records of runs on cards say, card by card; a rehearsal on a CPU is none."""
    cards: dict[str, dict[str, dict]] = {}
    for record in records:
        if record.get("platform") != "cpu":
            cards.setdefault(record["device"], {})[record["stage"]] = record
    if not cards:
        return (
            "No record is stored yet: no card has been at hand so far. On a machine with one, "
            f"`tests/gpu/run` writes its records to `{GPU_RECORDS.as_posix()}`, and this page is "
            "made from them."
        )
    return "\n\n".join(part for name in sorted(cards) for part in card(name, cards[name]))


def card(name, stages):
    """The parts of one card: where the numbers are from, its rates, kernels and chapters."""
    known = {k: v for item in stages.get("device", {}).get("items", []) for k, v in item.items()}
    memory = f", {known['memory_gib']:.0f} GiB" if known.get("memory_gib") else ""
    yield f"**{name}{memory}**"
    yield " ".join(dict.fromkeys(map(provenance, stages.values())))
    if known.get("float32_product_rate") and known.get("copy_rate"):
        yield rates(known)
    if "kernels" in stages:
        yield kernel_table(stages["kernels"]["items"], known)
    if stages.keys() & {"chapters", "chapters-gpu"}:
        yield chapter_table(
            *(stages.get(stage, {}).get("items", []) for stage in ("chapters", "chapters-gpu"))
        )


def provenance(record):
    versions = record["versions"]
    shown = ", ".join(f"{k} {versions[k]}" for k in ("jax", "numpy", "ntkbook") if k in versions)
    driver = f", driver {record['driver']}" if record.get("driver") else ""
    return (
        f"Recorded on {record['date']} by `{record['command']}`, with Python "
        f"{versions['python']}, {shown}{driver}."
    )


def rates(known):
    doubles, singles = (known[f"{dtype}_product_rate"] / 1e12 for dtype in PRECISIONS)
    side = known["side"]
    return (
        f"A product of two matrices of side {side} reaches {doubles:.3g} TFLOP/s in float64 and "
        f"{singles:.3g} in float32, at full precision; a copy moves "
        f"{known['copy_rate'] / 1e12:.2g} TB/s. In float64 a product differs from NumPy's by at "
        f"most {known['float64_product_error']:.1e} of its largest entry."
    )


PRECISIONS = ("float64", "float32")


def kernel_table(items, known):
    """A row per number of inputs; for both precisions the time and the share of the peak."""
    cells = {(item["n"], item["dtype"]): kernel_cells(item, known) for item in items}
    lines = ["| N | float64 | share of peak | float32 | share of peak |", "|---" * 5 + "|"]
    for n in sorted({item["n"] for item in items}):
        parts = [text for dtype in PRECISIONS for text in cells.get((n, dtype), ("–", "–"))]
        lines.append(f"| {n} | " + " | ".join(parts) + " |")
    return "\n".join(lines)


def kernel_cells(item, known):
    if "seconds" not in item:
        return item["error"].split(":")[0], "–"
    peak = known.get(f"{item['dtype']}_product_rate")
    share = item["operations"] / item["seconds"] / peak if peak and item["operations"] else None
    return duration(item["seconds"]), f"{share:.0%}" if share else "–"


def chapter_table(default, large):
    """A row per chapter: whether it prints what is stored, and what its larger size took."""
    by_size = [{item["chapter"]: item for item in items} for items in (default, large)]
    names = dict.fromkeys(name for items in by_size for name in items)
    lines = ["| chapter | default size | time | size `gpu` | time |", "|---" * 5 + "|"]
    for name in names:
        parts = [part for items in by_size for part in chapter_cells(items.get(name))]
        lines.append(f"| {{doc}}`/book/{name}` | " + " | ".join(parts) + " |")
    return "\n".join(lines)


def chapter_cells(item):
    """The verdict in words, and the seconds."""
    if item is None:
        return "–", "–"
    seconds = f"{item['seconds']:.0f} s" if "seconds" in item else "–"
    verdict = item["verdict"]
    if verdict == "agrees":
        return "prints what is stored", seconds
    if verdict == "holds":
        return f"{item['checks'].get('pass', 0)} checks hold", seconds
    if verdict == "differs":
        moved = [cell["deviation"] for cell in item["cells"]]
        cells = f"{len(moved)} cell{'s' * (len(moved) > 1)} differ{'s' * (len(moved) == 1)}"
        worst = "in more than numbers" if None in moved else f"by up to {max(moved):.1g}"
        return f"{cells} {worst}", seconds
    if verdict == "failed":
        failed = len(item.get("failures", []))
        return f"fails in {failed} cell{'s' * (failed > 1)}" if failed else "fails", seconds
    return f"{verdict} after {item['reached']}" if "reached" in item else verdict, seconds


# Directives


class Benchmark(SphinxDirective):
    def text(self, record):
        raise NotImplementedError

    def run(self):
        source = Path(self.env.srcdir) / SOURCE
        return self.parsed(self.text(self.read(source)), source)

    def read(self, source):
        self.env.note_dependency(str(source))
        return json.loads(source.read_text(encoding="utf8"))

    def parsed(self, text, source):
        lines = StringList(text.splitlines(), str(source))
        box = nodes.Element()
        self.state.nested_parse(lines, self.content_offset, box)
        return box.children


class BenchmarkSetting(Benchmark):
    def text(self, record):
        return setting(record)


class BenchmarkTables(Benchmark):
    def text(self, record):
        return tables(record)


class GpuRecords(Benchmark):
    def run(self):
        folder = Path(self.env.srcdir) / GPU_RECORDS
        records = [self.read(path) for path in sorted(folder.glob("*.json"))]
        return self.parsed(gpu_records(records), folder)


def setup(app):
    app.add_directive("benchmark-setting", BenchmarkSetting)
    app.add_directive("benchmark-tables", BenchmarkTables)
    app.add_directive("gpu-records", GpuRecords)
    return {"parallel_read_safe": True}
