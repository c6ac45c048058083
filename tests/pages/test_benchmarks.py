"""The page on speed: what it makes of the record of the benchmark."""

import copy
import json

from pages import benchmarks
from site_build import ROOT

RECORD = json.loads((ROOT / benchmarks.SOURCE).read_text("utf8"))


def entry(library, **other):
    rows = [
        {"n": n, "jax": "0.10.2", "first": 1.5, "wall": n / 1000, "peak_kib": 2048}
        for n in (64, 3000)
    ]
    setting = {"date": "2030-01-02", "machine": "2 cores", "rounds": 3, "python": "3.11"}
    made = setting | {"ntkbook": "1.0", "case": "relu", "dtype": "float64", "library": library}
    return made | {"rows": rows, "ratios": [1.0, 2.5]} | other


def test_a_row_for_each_library_and_a_column_for_each_size():
    text = benchmarks.tables({"results": [entry("ntkbook"), entry("angles"), entry("other 1.0")]})
    assert "| library | N = 64 | N = 3000 | memory | first call | new size |" in text
    assert "| **ntkbook**, jax 0.10.2 | 64 ms | 3 s | 2 MiB | 1.5 s | 1.5 s |" in text
    assert f"| {benchmarks.FLOORS['angles']} | 64 ms (1×) | 3 s (2.5×) |" in text
    assert "| other 1.0 | 64 ms" in text


def test_when_and_where_is_said_of_each_table_where_it_differs():
    one = {"results": [entry("ntkbook"), entry("floor")]}
    words = "ecorded on 2030-01-02 on 2 cores, with Python 3.11 and ntkbook 1.0"
    assert benchmarks.setting(one).startswith("R" + words)
    two = copy.deepcopy(one)
    two["results"] += [entry("ntkbook", case=case, machine="8 cores") for case in ("erf", "pool")]
    first, second = benchmarks.setting(two).split("Tables ")
    assert first.startswith("Table 1 r" + words)
    assert second.startswith("2, 3 recorded on 2030-01-02 on 8 cores")


def test_the_record_has_a_ratio_for_each_time_and_every_table_a_title():
    for one in RECORD["results"]:
        assert len(one["rows"]) == len(one["ratios"])
        assert (one["library"] == "ntkbook") == (set(one["ratios"]) == {1.0})
    text = benchmarks.tables(RECORD)
    assert text.count("**ntkbook**") == text.count("| library |")
    assert all(title in text for title in benchmarks.TITLES.values())
    assert benchmarks.setting(RECORD)
