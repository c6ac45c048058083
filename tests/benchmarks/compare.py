"""Time ntkbook beside its peers and record the result for the book's page on speed.

    python tests/benchmarks/compare.py PEERS [--rounds 3] [--cases pool flatten …]
    python tests/benchmarks/compare.py --against CHECKOUT [--rounds 3]

The second form times another checkout of this package instead, such as the commit before, and
records nothing.  Run it on an idle machine with the book's own Python.  PEERS is a folder in which
each peer gets an environment of its own on the first run (their requirements contradict the book's
and are never among them).  The libraries run in turn, in fresh processes, several rounds; a ratio
is the median over rounds of the ratios within one round, so that a machine that slows down slows
down all.  With --cases only these are timed, and the record keeps its other rows, each of which
says when and on which machine it was measured.
"""

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
PEERS = {
    "neural-tangents 0.6.5, jax 0.4.25": [
        ["neural-tangents==0.6.5", "jax==0.4.25", "jaxlib==0.4.25", "numpy<2", "scipy<1.13"]
    ],
    "neural-tangents 0.6.5, jax 0.10.2": [
        ["--no-deps", "neural-tangents==0.6.5"],
        ["jax==0.10.2", "jaxlib==0.10.2", "frozendict"],
    ],
    "scikit-ntk 1.2.1": [["scikit-ntk==1.2.1", "jax==0.10.2", "jaxlib==0.10.2"]],
}
INFINITE = ("relu", "erf", "pool", "flatten")
CASES = [(case, dtype) for case in INFINITE for dtype in ("float64", "float32")]
CASES += [(case, "float64") for case in ("empirical-1", "empirical-10", "convolutional-10")]


def environment(folder, name):
    """The Python of a peer's environment, made when it is missing."""
    place = folder / name.replace(" ", "-").replace(",", "")
    python = place / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", place], check=True)
        for step in PEERS[name]:
            subprocess.run([python, "-m", "pip", "install", "-q", *step], check=True)
    return python


def takes_part(name, case, dtype):
    if name.startswith("scikit-ntk"):
        return (case, dtype) == ("relu", "float64")
    if name == "floor":
        return case.startswith(("relu", "erf", "empirical"))
    if name == "angles":
        return case == "relu"
    return not (name.endswith("jax 0.10.2") and "-" in case)


def run(python, library, case, dtype, checkout=HERE.parents[1]):
    command = [python, HERE / "worker.py", library, case, dtype]
    settings = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONWARNINGS": "ignore"}
    settings["PYTHONPATH"] = str(checkout) if library == "ntkbook" else ""
    result = subprocess.run(command, env=settings, check=True, capture_output=True, text=True)
    return [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]


def combine(rounds):
    """Medians over rounds of the numbers of each size."""
    rows = []
    for same in zip(*rounds, strict=True):
        row = {"n": same[0]["n"], "jax": same[0]["jax"]}
        for key in ("first", "wall", "processor", "peak_kib"):
            row[key] = statistics.median(part[key] for part in same)
        rows.append(row)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("peers", type=Path, nargs="?")
    parser.add_argument("--against", type=Path, metavar="CHECKOUT")
    parser.add_argument("--rounds", type=int, default=3)
    named = sorted({case for case, _ in CASES})
    parser.add_argument("--cases", nargs="+", choices=named, default=named)
    options = parser.parse_args()
    if (options.peers is None) == (options.against is None):
        parser.error("expected either PEERS or --against CHECKOUT")
    if options.against:
        against(options.against.resolve(), options)
    else:
        record_peers(options)


def against(checkout, options):
    """Print how long the other checkout takes, as multiples of this one, for each size."""
    if not (checkout / "ntkbook" / "__init__.py").is_file():
        raise SystemExit(f"--against must be a checkout of this package, got {checkout}")
    for case, dtype in chosen(options):
        pairs = []
        for _ in range(options.rounds):
            ours = run(sys.executable, "ntkbook", case, dtype)
            pairs.append((ours, run(sys.executable, "ntkbook", case, dtype, checkout)))
        for i, row in enumerate(pairs[0][0]):
            ratios = [theirs[i]["wall"] / ours[i]["wall"] for ours, theirs in pairs]
            ends = f"{min(ratios):.2f} to {max(ratios):.2f}"
            print(case, dtype, f"n = {row['n']}: {statistics.median(ratios):.2f} ({ends})")


def chosen(options):
    return [(case, dtype) for case, dtype in CASES if case in options.cases]


def record_peers(options):
    pythons = dict.fromkeys(("ntkbook", "floor", "angles"), Path(sys.executable))
    pythons |= {name: environment(options.peers, name) for name in PEERS}
    place = HERE / "results.json"
    before = json.loads(place.read_text("utf-8"))
    results = [entry for entry in before["results"] if entry["case"] not in options.cases]
    setting = {
        "date": datetime.date.today().isoformat(),
        "machine": f"{os.cpu_count()} cores, {processor_name()}",
        "rounds": options.rounds,
        "python": platform.python_version(),
        "ntkbook": importlib.metadata.version("ntkbook"),
    }
    for case, dtype in chosen(options):
        names = ["ntkbook", *(name for name in pythons if name != "ntkbook")]
        names = [name for name in names if name == "ntkbook" or takes_part(name, case, dtype)]
        rounds = {name: [] for name in names}
        for _ in range(options.rounds):
            for name in names:
                library = name.split(" ")[0]
                rounds[name].append(run(pythons[name], library, case, dtype))
        print(case, dtype, flush=True)
        for name in names:
            pairs = list(zip(rounds["ntkbook"], rounds[name], strict=True))
            ratios = [
                statistics.median(theirs[i]["wall"] / ours[i]["wall"] for ours, theirs in pairs)
                for i in range(len(pairs[0][0]))
            ]
            entry = {"case": case, "dtype": dtype, "library": name, "rows": combine(rounds[name])}
            results.append(setting | entry | {"ratios": ratios})
            print("  ", name, [round(ratio, 2) for ratio in ratios], flush=True)
    order = [case for case, _ in CASES]
    results.sort(key=lambda entry: order.index(entry["case"]))
    place.write_text(json.dumps({"results": results}, indent=1) + "\n", "utf-8")


def processor_name():
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), "")


if __name__ == "__main__":
    main()
