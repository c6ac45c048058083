"""Measure how accurate the duals in closed form are, and record it for the book's page on that.

    python tests/benchmarks/accuracy.py            measures and writes accuracy.json

For each activation, dtype and range of variances: the largest errors of value and slope relative
to their diagonals sqrt(T(u, u) T(v, v)), and of the angle after the layer in radians, against
mpmath, over pairs of every kind.  They are stated rounded up to one digit.  No clock is involved.
"""

import json
import math
import sys
from pathlib import Path

import jax

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))

from exact_duals import CASES, errors, random_pairs

RECORD = Path(__file__).with_suffix(".json")
RANGES = ((1e-12, 1e-3), (1e-3, 100.0), (100.0, 1e8))
DTYPES = ("float64", "float32")
PAIRS = 2000
LARGEST_EXPONENT = 20.0  # the variance up to which exp is measured: exp(2q) soon overflows


def ranges(name):
    """The ranges of variances that are measured for an activation."""
    if name != "exp":
        return RANGES
    return tuple((low, min(high, LARGEST_EXPONENT)) for low, high in RANGES if low < 20)


def rounded_up(error):
    """To one digit."""
    if error == 0:
        return 0.0
    unit = 10.0 ** math.floor(math.log10(error))
    return float(f"{math.ceil(error / unit) * unit:.0e}")


def rows():
    for name, (dual, truth) in CASES.items():
        for dtype in DTYPES:
            for low, high in ranges(name):
                pairs = random_pairs(low, high, dtype, PAIRS)
                largest = errors(dual, truth, *pairs).max(1)
                value, slope, angle = (rounded_up(float(error)) for error in largest)
                variance = {"from": low, "to": high}
                yield {"activation": name, "dtype": dtype, "variance": variance} | {
                    "value": value,
                    "slope": slope,
                    "angle": angle,
                }


def main():
    jax.config.update("jax_enable_x64", True)
    table = list(rows())
    lines = ",\n".join(f"  {json.dumps(row, ensure_ascii=False)}" for row in table)
    RECORD.write_text(f'{{\n "pairs": {PAIRS},\n "rows": [\n{lines}\n ]\n}}\n', "utf-8")


if __name__ == "__main__":
    main()
