"""Kernels of whole graphs against published formulas, sampled networks and graphs alone."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from nodes import STAR, a_graph, at_nodes, features

from ntkbook import (
    Aggregate,
    AvgPool,
    Conv,
    Cos,
    Dense,
    GlobalAveragePool,
    GlobalSumPool,
    Relu,
    Residual,
    Serial,
    graph_kernel,
    on_graph,
)

X = features(22, 2, 6, 3)


def blocks(normalisation, width=64, b_std=0.0, end=None):
    """Two blocks of an aggregation and two layers each, as in Du et al."""
    first, conv = at_nodes(width, 3**0.5, b_std), at_nodes(width, 2**0.5, b_std)
    step = Aggregate(normalisation=normalisation)
    layers = step, first, Relu(), conv, Relu(), step, conv, Relu(), conv, Relu()
    return Serial(*layers, end or GlobalSumPool(), Dense(1, 2**0.5))


def published(one, two, degrees):
    """The two kernels of Du et al. 2019, of two blocks with two layers, by their formulas."""

    def pass_through(g, h, norms):
        a, b = (adjacency + np.eye(len(adjacency)) for _, adjacency in (g, h))
        if degrees:
            a, b = a / a.sum(1)[:, None], b / b.sum(1)[:, None]
        sigma, theta, roots = g[0] @ h[0].T, 0, []
        for block in range(2):
            sigma = a @ sigma @ b.T
            theta = a @ theta @ b.T if block else sigma
            for layer in range(2):
                if norms is None:
                    roots.append(np.sqrt(np.diag(sigma)))
                norm = np.outer(*((n or roots)[2 * block + layer] for n in norms or ([], [])))
                angle = np.arccos(np.clip(sigma / norm, -1, 1))
                sigma = norm * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / np.pi
                theta = theta * (np.pi - angle) / np.pi + sigma
        return sigma.sum(), theta.sum(), roots

    norms = [pass_through(g, g, None)[2] for g in (one, two)]
    return pass_through(one, two, norms)[:2]


GRAPHS = [a_graph(10 + i, nodes) for i, nodes in enumerate((5, 20, 3, 7, 11))]


@pytest.mark.parametrize(("normalisation", "degrees"), [("none", False), ("row", True)])
def test_the_graph_neural_tangent_kernel_as_published(normalisation, degrees):
    kernel = graph_kernel(blocks(normalisation), GRAPHS)
    truth = np.array([[published(g, h, degrees) for h in GRAPHS] for g in GRAPHS])
    np.testing.assert_allclose(kernel.nngp, truth[..., 0], rtol=1e-12)
    np.testing.assert_allclose(kernel.ntk, truth[..., 1], rtol=1e-7)  # arccos near one
    assert (kernel.ntk == kernel.ntk.T).all()
    cross = graph_kernel(blocks(normalisation), GRAPHS, GRAPHS[1:3])
    np.testing.assert_allclose(cross.ntk, kernel.ntk[:, 1:3], rtol=1e-13)


def test_the_order_of_nodes_does_not_count():
    draw = np.random.default_rng(20)
    turned = []
    for x, adjacency in GRAPHS:
        order = draw.permutation(len(x))
        turned.append((x[order], adjacency[np.ix_(order, order)]))
    net = blocks("none")
    kernel = graph_kernel(net, GRAPHS)
    np.testing.assert_allclose(graph_kernel(net, turned).ntk, kernel.ntk, rtol=1e-13)
    # Not so for another graph with the same features.
    other = [(x, 1 - np.eye(len(x))) for x, _ in GRAPHS]
    assert np.abs(graph_kernel(net, other).ntk / kernel.ntk - 1).max() > 0.1


@pytest.mark.parametrize("end", [GlobalSumPool(), GlobalAveragePool()], ids=repr)
def test_nodes_that_pad_change_nothing(end):
    """Biases, and a nonlinearity that is not zero at zero, act on them too."""
    conv, step = at_nodes(), Aggregate(normalisation="symmetric")
    net = Serial(conv, Cos(), step, conv, Residual(Relu(), step, conv), end, Dense(1))
    x, adjacency = GRAPHS[0]
    kernel, alone = graph_kernel(net, GRAPHS[:1]), on_graph(net, adjacency).kernel(x[None])
    np.testing.assert_allclose(kernel.nngp, alone.nngp, rtol=1e-13)
    np.testing.assert_allclose(kernel.ntk, alone.ntk, rtol=1e-13)


def test_gradients_and_single_precision_of_whole_graphs():
    net, step = Serial(Aggregate(), at_nodes(), Relu(), GlobalSumPool(), Dense(1)), 1e-5
    few = [GRAPHS[0], GRAPHS[2]]
    scales = net.hyperparameters()

    def value(w):
        moved = (scales[0], {"w_std": w, "b_std": 0.2}, *scales[2:])
        return graph_kernel(net, few, hyperparameters=moved).ntk[0, 1]

    rate = (value(1.5 + step) - value(1.5 - step)) / (2 * step)
    np.testing.assert_allclose(jax.jvp(value, (1.5,), (1.0,))[1], rate, rtol=1e-7)
    small = [tuple(part.astype(np.float32) for part in graph) for graph in few]
    single = graph_kernel(net, small).ntk
    assert single.dtype == jnp.float32
    np.testing.assert_allclose(single, graph_kernel(net, few).ntk, rtol=3e-6)


def test_sampled_networks_on_two_graphs_of_different_size():
    net = blocks("none", width=256, b_std=0.3)
    pair = [a_graph(4, 5), a_graph(5, 3)]
    nets = [on_graph(net, adjacency) for _, adjacency in pair]

    def draw(key):
        params = nets[0].init(key, (5, 3))
        ends = [
            jax.value_and_grad(lambda p, n=n, x=x: n.apply(p, x[None])[0, 0])(params)
            for n, (x, _) in zip(nets, pair, strict=True)
        ]
        rows = [jnp.concatenate([g.ravel() for g in jax.tree.leaves(end[1])]) for end in ends]
        return ends[0][0] * ends[1][0], jnp.array([a @ b for a in rows for b in rows])

    nngp, drawn = map(np.asarray, jax.jit(lambda keys: jax.lax.map(draw, keys))(
        jax.random.split(jax.random.key(1), 100)
    ))  # fmt: skip
    kernel = graph_kernel(net, pair)
    z = (drawn.mean(0) - kernel.ntk.ravel()) / (drawn.std(0, ddof=1) / 10)
    assert np.abs(z).max() < 4
    assert abs(nngp.mean() - kernel.nngp[0, 1]) < 4 * nngp.std(ddof=1) / 10


def test_sums_are_averages_times_the_number_of_pixels():
    x = features(21, 2, 4, 3, 2)
    head = Conv(8, (3, 3), b_std=0.3), Relu()
    total = Serial(*head, GlobalSumPool(), Dense(1, b_std=0.1)).kernel(x)
    mean = Serial(*head, GlobalAveragePool(), Dense(1, 12.0, b_std=0.1)).kernel(x)
    np.testing.assert_allclose(total.nngp, mean.nngp, rtol=1e-13)
    np.testing.assert_allclose(GlobalSumPool().apply((), x), x.sum((1, 2)), rtol=1e-13)


# What has no answer.


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda: on_graph(Serial(Relu()), STAR), r"must have an Aggregate\(\) without"),
        (lambda: on_graph(Aggregate, STAR), "pass a layer"),
        (lambda: graph_kernel(blocks("none"), GRAPHS[0]), r"graphs1\[0\] must be a pair"),
        (lambda: graph_kernel(blocks("none"), []), r"list of pairs \(x, adjacency\)"),
        (lambda: graph_kernel(blocks("none"), [(X[0], STAR[:3, :3])]), r"shape \(6, 6\), got"),
        (
            lambda: graph_kernel(blocks("none"), [GRAPHS[0], a_graph(0, 4, 2)]),
            r"equally many channels, got \[2, 3\]",
        ),
        (
            lambda: graph_kernel(Serial(Aggregate(), Conv(1, 1)), GRAPHS),
            "one vector for each graph",
        ),
        (lambda: graph_kernel(Serial(Conv(8, 3), GlobalSumPool()), GRAPHS), "each node alone"),
        (lambda: graph_kernel(Serial(AvgPool(2), GlobalSumPool()), GRAPHS), "each node alone"),
        (lambda: graph_kernel(Aggregate(STAR), GRAPHS), "without an adjacency, got"),
    ],
)
def test_what_has_no_answer_is_refused(use, message):
    with pytest.raises((ValueError, TypeError), match=message):
        use()
