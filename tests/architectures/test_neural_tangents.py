"""Kernels of many architectures against those that neural-tangents 0.6.5 computed.

`tests/benchmarks/record_values.py` made the record and says what its inputs are.  Where the two
differ, forty digits decide.
"""

from __future__ import annotations

import json
from pathlib import Path

import mpmath as mp
import numpy as np
import pytest

import ntkbook as ntk
from ntkbook import (
    AvgPool,
    Dropout,
    Erf,
    Flatten,
    GlobalAveragePool,
    LayerNorm,
    Relu,
    Residual,
    Serial,
)

RECORD = json.loads(Path(__file__).with_name("neural_tangents.json").read_text("utf8"))
W_STD, B_STD = RECORD["scales"]
WIDTH = RECORD["width"]
INPUTS = {kind: np.array(x) for kind, x in RECORD["inputs"].items()}
CLOSE = [0, 2, 3, 4]  # parallel examples, up to sign and to 1e-7 of the third


def dense(width=WIDTH, parametrization="ntk"):
    return ntk.Dense(width, W_STD, B_STD, parametrization)


def conv(shape=(3, 3), strides=1, padding="same"):
    return ntk.Conv(WIDTH, shape, strides, padding, W_STD, B_STD)


def tokens(mechanism, scaling):
    both = RECORD["attention_std"] ** 2  # each scale is that of two arrays of weights
    attention = ntk.Attention(WIDTH, qk_std=both, ov_std=both, mechanism=mechanism, scaling=scaling)
    each = conv((1,))
    return Serial(each, Relu(), each, attention, Relu(), POOL, dense(1))


POOL = GlobalAveragePool()
# The record's matrix has its loops and is normalised already.
GRAPH = ntk.Aggregate(np.array(RECORD["adjacency"]), self_loops=False, normalisation="none")
NETS = {
    "dense-relu": Serial(*(dense(), Relu()) * 3, dense(1)),
    "dense-erf": Serial(*(dense(), Erf()) * 3, dense(1)),
    "standard": Serial(*(dense(WIDTH, "standard"), Relu()) * 2, dense(1, "standard")),
    "layer-norm": Serial(dense(), LayerNorm(), Relu(), dense(), LayerNorm(), Erf(), dense(1)),
    "dropout": Serial(*(dense(), Relu(), Dropout(0.7)) * 2, dense(1)),
    "dropout-flatten": Serial(*(conv(), Relu(), Dropout(0.7)) * 2, Flatten(), dense(1)),
    "dropout-pool": Serial(*(conv(), Relu(), Dropout(0.7)) * 2, POOL, dense(1)),
    "conv-flatten": Serial(*(conv(), Relu()) * 2, Flatten(), dense(1)),
    "conv-pool": Serial(*(conv(), Relu()) * 2, POOL, dense(1)),
    "conv-strides": Serial(
        *(conv((2, 2), (1, 2), "valid"), Relu(), AvgPool((2, 1), 1)),
        *(conv((3, 2), (2, 1)), Relu(), Flatten(), dense(1)),
    ),
    "conv-circular": Serial(*(conv(padding="circular"), Relu()) * 2, POOL, dense(1)),
    "conv-residual": Serial(
        conv(), Residual(Relu(), conv(), Relu(), conv()), Relu(), POOL, dense(1)
    ),
    "sequence": Serial(*(conv((3,)), Erf()) * 2, POOL, dense(1)),
    "graph": Serial(*(GRAPH, conv((1,)), Relu()) * 2, GRAPH, POOL, dense(1)),
    "attention-softmax": tokens("softmax", "linear"),
    "attention-identity": tokens("identity", "linear"),
    "attention-identity-root": tokens("identity", "root"),
}


# Both compute in double precision and agree to a few units of rounding, but for one thing: for the
# angle of a ReLU neural-tangents takes sqrt(q1 q2 - k²), which is wrong by up to sqrt(eps), 1.5e-8,
# where inputs are parallel.  The tangent kernel is linear in it; the NNGP, whose rate of change in
# the angle vanishes there, does not notice.
ROUNDING = 1e-14
ANGLE = 1e-7
SMOOTH = {"dense-erf", "sequence"}  # no angle is taken here


def differences(name):
    """Between the two NNGPs and the two tangent kernels, as shares of the two diagonal entries."""
    case = RECORD["cases"][name]
    kernel = NETS[name].kernel(INPUTS[case["inputs"]])
    for part in ("nngp", "ntk"):
        theirs = np.array(case[part])
        size = np.sqrt(np.diagonal(theirs))
        yield np.abs(np.asarray(getattr(kernel, part)) - theirs) / np.outer(size, size)


@pytest.mark.parametrize("name", NETS)
def test_agreement(name):
    nngp, ntk = differences(name)
    close = np.isin(range(len(nngp)), CLOSE)
    apart = ~np.outer(close, close) & ~np.eye(len(close), dtype=bool)
    assert nngp.max() < ROUNDING
    assert ntk[apart].max() < ROUNDING
    assert ntk.max() < (ROUNDING if name in SMOOTH else ANGLE)


def test_every_case_of_the_record_is_compared():
    assert set(NETS) == set(RECORD["cases"])
    for kind, x in INPUTS.items():
        assert 1e-8 < np.abs(x[2] - x[0]).max() < 1e-6, kind
        np.testing.assert_array_equal(x[3:], [3 * x[0], -x[0]])


# Forty digits: ReLU convolutions with a border of zeros, for all pairs of pixels.


def spread(pairs, side):
    """The mean over the taps of a filter."""
    (rows, columns), reach = pairs.shape[:2], side // 2
    wide = np.pad(pairs, reach)
    taps = [(slice(i, i + rows), slice(j, j + columns)) for i, j in np.ndindex(side, side)]
    return sum(wide[(*tap, *tap)] for tap in taps) / side**2


def relu(k, q1, q2):
    norm = mp.sqrt(q1 * q2)
    angle = mp.acos(max(-1, min(1, k / norm)))
    away = mp.pi - angle
    return norm * (mp.sin(angle) + away * mp.cos(angle)) / (2 * mp.pi), away / (2 * mp.pi)


def equal(pairs):
    """The entries of equal pixels (rows, columns)."""
    places = list(np.ndindex(*pairs.shape[:2]))
    return np.array([pairs[p + p] for p in places], object).reshape(pairs.shape[:2])


@mp.workdps(40)
def exact(x, y, side, layers, pool):
    """K and Θ of one pair of images (rows, columns, channels)."""
    ends = [np.frompyfunc(lambda v: mp.mpf(float(v)), 1, 1)(image) for image in (x, y)]
    w2, b2 = mp.mpf(W_STD) ** 2, mp.mpf(B_STD) ** 2
    k = {
        (a, b): np.tensordot(ends[a], ends[b], (-1, -1)) / x.shape[-1]
        for a, b in ((0, 0), (0, 1), (1, 1))
    }
    theta = 0 * k[0, 1]
    for _ in range(layers):
        k = {pair: w2 * spread(part, side) + b2 for pair, part in k.items()}
        theta = w2 * spread(theta, side) + k[0, 1]
        q = [equal(k[a, a]) for a in (0, 1)]
        moved = {
            (a, b): np.frompyfunc(relu, 3, 2)(part, q[a][..., None, None], q[b])
            for (a, b), part in k.items()
        }
        k, theta = {pair: value for pair, (value, _) in moved.items()}, theta * moved[0, 1][1]
    read = np.mean if pool else lambda pairs: np.mean(equal(pairs))
    nngp = w2 * read(k[0, 1]) + b2
    return float(nngp), float(nngp + w2 * read(theta))


@pytest.mark.parametrize(
    ("name", "side", "layers", "pool"),
    [("dense-relu", 1, 3, False), ("conv-flatten", 3, 2, False), ("conv-pool", 3, 2, True)],
)
@pytest.mark.parametrize("pair", [(0, 2), (1, 1)])
def test_forty_digits_decide_where_the_two_differ(name, side, layers, pool, pair):
    case = RECORD["cases"][name]
    x = INPUTS[case["inputs"]]
    images = x.reshape(len(x), *(x.shape[1:-1] or (1, 1)), -1)
    nngp, ntk = exact(*images[list(pair)], side, layers, pool)
    kernel = NETS[name].kernel(x)
    assert abs(kernel.nngp[pair] / nngp - 1) < 3e-15
    assert abs(kernel.ntk[pair] / ntk - 1) < 3e-15
    assert abs(case["nngp"][pair[0]][pair[1]] / nngp - 1) < 3e-15
    theirs = abs(case["ntk"][pair[0]][pair[1]] / ntk - 1)
    assert (1e-12 < theirs < ANGLE) == (not pool or pair == (0, 2))
