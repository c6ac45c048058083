"""A diagnosis against dense linear algebra, brute force, real training, and what it refuses."""

import importlib
import itertools
import json
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dense_diagnosis import Dense, drawn, flat, network

import ntkbook as ntk
from ntkbook.diagnose import Diagnosis, diagnose
from ntkbook.diagnosis.study import BUDGET

KEY = jax.random.key(0)
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def small():
    """Six examples of two outputs: all twelve directions are reached."""
    x = jax.random.normal(KEY, (6, 3))
    y = jnp.eye(2)[jnp.array([0, 1, 1, 0, 0, 0])]
    params, rate, steps = drawn(16), 0.02, 50
    report = diagnose(network, params, x, y, learning_rate=rate, steps=steps,
                      tolerance=1e-12)  # fmt: skip
    return report, Dense(network, params, x, y), y


def test_a_small_problem_agrees_with_dense_matrices(small):
    report, dense, _ = small
    rate, steps = report.learning_rate, report.steps
    np.testing.assert_allclose(report.top.value, dense.values[-1], rtol=1e-8)
    np.testing.assert_allclose(report.max_learning_rate.value, 2 / dense.values[-1], rtol=1e-8)
    t = np.array([0, 1, 7, steps])
    exact = [dense.left(rate, n) for n in t]
    curve = report.curve(t)
    np.testing.assert_allclose(curve.lower, exact, rtol=1e-8)
    np.testing.assert_allclose(curve.upper, exact, rtol=1e-8)
    late = report.late()
    left = (dense.after(rate, steps).reshape(6, 2) ** 2).sum(axis=1)
    np.testing.assert_allclose(late.end, np.sort(left)[::-1], rtol=1e-8)
    np.testing.assert_allclose(left[late.label], late.end, rtol=1e-8)
    inside = dense.values < 1 / (rate * steps)
    share = ((dense.vectors.T @ dense.residual) ** 2)[inside].sum() / (dense.residual**2).sum()
    np.testing.assert_allclose(report.late_share.value, share, rtol=1e-8)


def test_change_and_linear_error_are_those_at_the_end_of_the_linearised_run(small):
    report, dense, y = small
    for n, exactly in ((6, False), (3, True)):  # of three examples the six modes are all
        if exactly:
            dense = Dense(network, dense.params, dense.x[:n], y[:n])
            report = diagnose(network, dense.params, dense.x, y[:n], learning_rate=0.02, steps=50,
                              tolerance=1e-12)  # fmt: skip
        end = dense.end(report.learning_rate, report.steps)
        moved = dense.kernel(end)[0] - dense.theta
        change = np.linalg.norm(moved) / np.linalg.norm(dense.theta)
        allowed = 1e-8 * change if exactly else 4 * report.change.error
        np.testing.assert_allclose(report.change.value, change, atol=allowed)
        linear = dense.start + dense.jacobian @ (flat(end) - flat(dense.params))
        gap = np.asarray(network(end, dense.x)).ravel() - linear
        expected = np.linalg.norm(gap) / np.linalg.norm(dense.residual)
        np.testing.assert_allclose(report.linearisation, expected, rtol=1e-8)
        if not exactly:
            off = dense.vectors[:, :-6] @ dense.vectors[:, :-6].T  # the six largest away
            tail = np.linalg.norm(off @ moved @ off) / np.linalg.norm(off @ dense.theta @ off)
            error = report.tail_change.error
            np.testing.assert_allclose(report.tail_change.value, tail, atol=4 * error)
    assert report.tail_change == (0, 0)


def test_rank_and_alignment_are_of_the_centred_kernel_and_of_all_permutations(small):
    report, dense, y = small
    centre = np.kron(np.eye(6) - 1 / 6, np.eye(2))
    b = centre @ dense.theta @ centre
    y = np.asarray(y)
    np.testing.assert_allclose(
        report.effective_rank.value, np.trace(b) ** 2 / (b**2).sum(), rtol=1e-8
    )
    whole = np.linalg.norm(b) * ((centre @ y.ravel()) ** 2).sum()
    orders = map(list, itertools.permutations(range(6)))
    permuted = [y[order].ravel() @ b @ y[order].ravel() / whole for order in orders]
    np.testing.assert_allclose(report.alignment.value, permuted[0], rtol=1e-8)
    np.testing.assert_allclose(report.shuffled.value, np.mean(permuted), rtol=1e-8)


@pytest.fixture(scope="module")
def larger():
    x, y, _, _ = ntk.digits(180, 0, KEY, classes=(3, 8))
    params = drawn(48, d=64, k=1)
    return diagnose(network, params, x, y), Dense(network, params, x, y), y


def test_with_more_outputs_than_products_the_errors_hold(larger):
    report, dense, y = larger
    assert report.products <= BUDGET <= 90
    rate = report.learning_rate
    np.testing.assert_allclose(report.top.value, dense.values[-1], rtol=1e-8)
    for t in (5, 50, 200):
        curve, exact = report.curve(t), dense.left(rate, t)
        assert curve.lower <= exact * (1 + 1e-9)
        assert exact <= curve.upper * (1 + 1e-9)
    assert report.curve(200).upper - report.curve(200).lower <= 0.011 * report.curve(200).upper
    late = report.late()
    left = dense.after(rate, 200)[late.label] ** 2
    assert (np.abs(left - late.end) <= late.error).all()
    assert set(late.label[:5]) == set(np.argsort(-(dense.after(rate, 200) ** 2))[:5])
    centre = np.eye(180) - 1 / 180
    b = centre @ dense.theta @ centre
    rank, error = report.effective_rank
    assert abs(rank - np.trace(b) ** 2 / (b**2).sum()) <= 4 * error
    assert error <= 0.1 * rank
    aligned = float(y @ b @ y / np.linalg.norm(b) / (y @ centre @ y))
    assert abs(report.alignment.value - aligned) <= 4 * report.alignment.error
    moved = dense.kernel(dense.end(rate, 200))[0] - dense.theta
    change = np.linalg.norm(moved) / np.linalg.norm(dense.theta)
    assert abs(report.change.value - change) <= 4 * report.change.error + 0.01 * change


def test_a_linear_model_never_changes():
    x = jax.random.normal(KEY, (100, 40))
    report = diagnose(lambda w, x: jnp.tanh(x) @ w, jnp.zeros((40, 1)), x, x[:, 0])
    assert report.regime == "kernel"
    assert max(report.change.value, report.tail_change.value, report.linearisation) <= 1e-12
    curve = report.curve(jnp.arange(0, 201, 50))
    np.testing.assert_allclose(curve.end, curve.lower, rtol=0.02)


def test_a_small_output_of_a_narrow_network_is_feature_learning():
    x, y, _, _ = ntk.digits(100, 0, KEY, classes=(3, 8))

    def shrunk(params, x):
        return 0.03 * network(params, x)

    report = diagnose(shrunk, drawn(64, d=64, k=1), x, y)
    assert report.regime == "feature learning"
    assert "void" in str(report)


def test_the_change_falls_as_one_over_the_width():
    x, y, _, _ = ntk.digits(40, 0, KEY, classes=(3, 8))
    net = [ntk.Serial(ntk.Dense(n, w_std=2**0.5), ntk.Relu(), ntk.Dense(1)) for n in (64, 1024)]
    sizes = [
        np.mean([
            diagnose(f.apply, f.init(jax.random.key(s), (64,)), x, y).change.value
            for s in range(3)
        ])
        for f in net
    ]  # fmt: skip
    assert -1.3 <= np.log(sizes[1] / sizes[0]) / np.log(16) <= -0.7


def test_what_the_change_leaves_out_is_of_its_order_at_any_width():
    """On random labels training changes the kernel more than the end of the linearised run does."""
    x = ntk.digits(60, 0, KEY, classes=(3, 8))[0]
    y = jax.random.rademacher(jax.random.key(7), (60, 1), float)
    for width in (128, 2048):
        net = ntk.Serial(ntk.Dense(width, w_std=2**0.5), ntk.Relu(), ntk.Dense(1))
        params = net.init(KEY, (64,))
        report = diagnose(net.apply, params, x, y)
        run = ntk.train(net.apply, params, x, y, learning_rate=report.learning_rate, steps=200,
                        record_every=200)  # fmt: skip
        before, after = (Dense(net.apply, at, x, y).theta for at in (params, run.params))
        change = np.linalg.norm(after - before) / np.linalg.norm(before)
        assert 1.4 < change / report.change.value < 4


def test_the_record_is_of_the_networks_of_its_program(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "tests" / "benchmarks")
    program = importlib.import_module("record_verdicts")
    record = json.loads(program.RECORD.read_text("utf-8"))
    for name, cases in (("rows", program.CASES), ("soft rows", program.SOFT)):
        assert list(record[name]) == list(cases)
        for draws in record[name].values():
            assert [row["seed"] for row in draws] == list(range(program.SEEDS))


def test_the_late_digits_are_those_that_training_leaves():
    x, y, _, _ = ntk.digits(100, 0, KEY)
    net = ntk.Serial(ntk.Dense(512, w_std=2**0.5), ntk.Relu(), ntk.Dense(10))
    params = net.init(jax.random.key(3), (64,))
    report = diagnose(net.apply, params, x, y, steps=100)
    run = ntk.train(net.apply, params, x, y, learning_rate=report.learning_rate, steps=100,
                    record_every=100)  # fmt: skip
    left = np.asarray(((run.train[-1] - y) ** 2).sum(axis=1))
    late = report.late()
    assert np.corrcoef(left[late.label], late.end)[0, 1] > 0.9
    curve = report.curve(100)
    assert 0.9 * curve.lower <= run.losses[-1] / run.losses[0] <= 1.1 * curve.end
    by_class = report.late("class")
    real = np.array([left[np.asarray(y).argmax(1) == c].sum() for c in by_class.label])
    assert np.corrcoef(real, by_class.end)[0, 1] > 0.9


def test_single_precision_says_the_same():
    x, y, _, _ = ntk.digits(120, 0, KEY, classes=(3, 8))
    params = drawn(32, d=64, k=1)
    double = diagnose(network, params, x, y)
    single = [jax.tree.map(lambda a: a.astype(jnp.float32), tree) for tree in (params, x, y)]
    report = diagnose(network, *single, learning_rate=double.learning_rate)
    np.testing.assert_allclose(report.top.value, double.top.value, rtol=1e-5)
    t = np.array([1, 20, 200])
    np.testing.assert_allclose(report.curve(t).lower, double.curve(t).lower, rtol=2e-2)
    np.testing.assert_allclose(report.change.value, double.change.value, rtol=0.2)
    assert list(report.late().label[:3]) == list(double.late().label[:3])


def test_what_is_not_there_is_not_divided_by():
    x = jax.random.normal(KEY, (50, 3))
    low = diagnose(lambda w, x: jnp.tanh(x @ w), jnp.ones((3, 1)), x, x[:, 0])
    assert low.tail_change == (0, 0)  # of three parameters: no seventh mode
    same = diagnose(lambda w, x: x @ w, jnp.ones(2), jnp.ones((3, 2)), jnp.arange(3.0))
    assert same.alignment is same.shuffled is same.effective_rank is None
    assert "not given     effective rank, alignment" in str(same)
    many = diagnose(network, drawn(8, k=11), x[:5], jnp.eye(11)[:5])
    assert many.alignment is None
    assert diagnose(network, drawn(8, k=1), x[:1], x[:1, 0]).change.value > 0


def test_a_step_above_the_largest_is_said_to_be_unstable(small):
    _, dense, y = small
    given = 2.1 / dense.values[-1]
    high = diagnose(network, dense.params, dense.x, y, learning_rate=given)
    assert high.regime == "unstable step"
    assert "UNSTABLE" in str(high)
    with pytest.raises(ValueError, match="a step above the largest"):
        high.figure()


def test_units_of_the_loss_and_a_sample_of_the_examples(small):
    report, dense, y = small
    alike = partial(diagnose, network, dense.params, dense.x, y, steps=50, tolerance=1e-12)
    for loss, scale in (("half-mean", 12), ("mean", 6)):
        other = alike(loss=loss, learning_rate=report.learning_rate * scale)
        np.testing.assert_allclose(
            other.max_learning_rate.value, report.max_learning_rate.value * scale, rtol=1e-12
        )
        np.testing.assert_allclose(other.curve(50).lower, report.curve(50).lower, rtol=1e-9)
    twice = jnp.concatenate([dense.x, dense.x]), jnp.concatenate([y, y])
    whole = diagnose(network, dense.params, *twice)
    part = diagnose(network, dense.params, *twice, examples=6)
    assert len(part.examples) == 6
    assert "is scaled" in str(part) or "are scaled" in str(part)
    ratio = part.max_learning_rate.value / whole.max_learning_rate.value
    assert 0.5 < ratio < 2


def test_the_page_and_the_figure(larger):
    report = larger[0]
    text = str(report)
    assert repr(report) == text
    assert isinstance(report, Diagnosis)
    assert max(map(len, text.splitlines())) <= 98
    for word in ("verdict", "steps", "late", "curve", "shape", "not given", "cost"):
        assert f"\n{word}" in text
    assert 'Line "kernel of the start"' in report.figure().description
    shown = report.compare(jnp.array([3.0, 1.5, 0.6]), every=100)
    assert "The run of 200 steps ended at 0.2 of its first loss" in shown.caption
    assert 'Points "trained": 3 points, from (0, 1) to (200, 0.2)' in shown.description
    with pytest.raises(ValueError, match="losses must be"):
        report.compare(jnp.array([0.0, 1.0]))
    with pytest.raises(ValueError, match="by must be one of"):
        report.late("digit")


def test_what_is_refused():
    x, y = jax.random.normal(KEY, (6, 3)), jnp.zeros((6, 2))
    params = drawn(8)

    def normalised(p, x):
        return network(p, (x - x.mean(axis=0)) / x.std(axis=0))

    with pytest.raises(ValueError, match="changes with the other rows"):
        diagnose(normalised, params, x, y)
    with pytest.raises(ValueError, match="y must have the shape of f.*one_hot"):
        diagnose(network, params, x, jnp.zeros(6))
    with pytest.raises(ValueError, match="f fits already"):
        diagnose(network, params, x, network(params, x))
    with pytest.raises(ValueError, match="f must depend on params"):
        diagnose(lambda p, x: 0 * network(p, x), params, x, y)
    with pytest.raises(ValueError, match="loss must be one of"):
        diagnose(network, params, x, y, loss="hinge")
    with pytest.raises(ValueError, match="steps must be at least 1"):
        diagnose(network, params, x, y, steps=0)
    with pytest.raises(ValueError, match="by='class' needs targets of classes"):
        diagnose(network, params, x, jax.random.normal(KEY, (6, 2))).late("class")
