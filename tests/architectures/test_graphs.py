"""Kernels between nodes against plain recursions, sampled networks and mpmath."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from nodes import STAR, at_nodes, features

import ntkbook as ntk
from ntkbook import Aggregate, Conv, Flatten, GlobalSumPool, Relu, Residual, Serial
from ntkbook.architectures import graphs

PAIRS = np.kron(np.eye(3), [[0.0, 1.0], [1.0, 0.0]])


def convolutional(aggregate, width=8, b_std=0.2):
    """A graph convolution with two hidden layers, one output at each node."""
    hidden = aggregate, at_nodes(width, b_std=b_std), Relu()
    return Serial(*hidden, *hidden, aggregate, at_nodes(1, b_std=b_std))


# The recursion in plain NumPy.


def divided(a, self_loops=True, normalisation="symmetric"):
    a = a + self_loops * np.eye(len(a))
    degree = a.sum(1)
    return {
        "none": a,
        "row": a / degree[:, None],
        "symmetric": a / np.sqrt(np.outer(degree, degree)),
    }[normalisation]


def around(left, k, right):
    return np.einsum("pu,ijuv,qv->ijpq", left, k, right)


def rectified(k, theta):
    variance = np.einsum("iipp->ip", k)
    norm = np.sqrt(variance[:, None, :, None] * variance[None, :, None, :])
    angle = np.arccos(np.clip(k / norm, -1, 1))
    value = norm * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / (2 * np.pi)
    return value, theta * (np.pi - angle) / (2 * np.pi)


def recursion(x, lefts, rights=None, theta_rights=None, w2=1.69, b2=0.04):
    """K and Θ (n, n, P, P) of `convolutional`, with matrices for each of its layers."""
    rights = lefts if rights is None else rights
    theta_rights = rights if theta_rights is None else theta_rights
    k = np.einsum("ipc,jqc->ijpq", x, x) / x.shape[-1]
    theta = 0 * k
    for layer, (left, right, other) in enumerate(zip(lefts, rights, theta_rights, strict=True)):
        if layer:
            k, theta = rectified(k, theta)
        k = w2 * around(left, k, right) + b2
        theta = k + w2 * around(left, theta, other)
    return k, theta


@pytest.mark.parametrize(
    ("self_loops", "normalisation"), [(True, "symmetric"), (False, "row"), (True, "none")]
)
def test_the_recursion_over_pairs_of_nodes(self_loops, normalisation):
    x = features(0, 2, 6, 3)
    net = convolutional(Aggregate(STAR, self_loops, normalisation))
    kernel, diagonal = net.kernel(x), net.kernel_diagonal(x)
    k, theta = recursion(x, [divided(STAR, self_loops, normalisation)] * 3)
    assert kernel.ntk.shape == (2, 2, 6, 6)
    np.testing.assert_allclose(kernel.nngp, k, rtol=1e-13)
    # The reference takes the angle of a node with itself from its cosine, to half the digits.
    np.testing.assert_allclose(kernel.ntk, theta, rtol=1e-7)
    np.testing.assert_allclose(kernel.ntk, np.transpose(kernel.ntk, (1, 0, 3, 2)), rtol=1e-13)
    np.testing.assert_allclose(diagonal.ntk, np.einsum("iipq->ipq", kernel.ntk), rtol=1e-13)
    np.testing.assert_allclose(net.kernel(x, x[::-1]).ntk, kernel.ntk[:, ::-1], rtol=1e-13)


def test_single_precision_and_shares():
    x = features(0, 2, 6, 3)
    net = convolutional(Aggregate(STAR))
    double, single = net.kernel(x), net.kernel(x.astype(np.float32))
    assert single.ntk.dtype == jnp.float32
    np.testing.assert_allclose(single.ntk, double.ntk, rtol=2e-6)
    shares = net.kernel_shares(x)
    assert shares[0] == ()
    np.testing.assert_allclose(sum(jax.tree.leaves(shares)), double.ntk, rtol=1e-13)


def test_a_skip_around_an_aggregation():
    x, a = features(1, 2, 6, 3), divided(STAR)
    aggregate, conv = Aggregate(STAR), at_nodes()
    net = Serial(conv, Residual(Relu(), aggregate, conv), aggregate, GlobalSumPool())
    k = 1.69 * np.einsum("ipc,jqc->ijpq", x, x) / 3 + 0.04
    inner, slope = rectified(k, k)
    branch = 1.69 * around(a, inner, a) + 0.04
    parts = k + branch, k + branch + 1.69 * around(a, slope, a)
    kernel = net.kernel(x)
    for part, name in zip(parts, ("nngp", "ntk"), strict=True):
        total = around(a, part, a).sum((2, 3))
        np.testing.assert_allclose(getattr(kernel, name), total, rtol=1e-7)


# Finite networks.


@pytest.mark.parametrize("normalisation", graphs.NORMALISATIONS)
def test_a_finite_aggregation_is_the_sum_over_neighbours(normalisation):
    x, path = features(2, 4, 3, 2), np.array([[0, 2, 0], [2, 0, 1], [0, 1, 0]])
    y = Aggregate(path, normalisation=normalisation).apply((), x)
    degree = {"none": np.ones(3), "row": np.array([3, 4, 2]), "symmetric": np.array([3, 4, 2])}
    degree = degree[normalisation]
    for u in range(3):
        total = np.zeros((4, 2))
        for v in range(3):
            both = degree[u] * (degree[v] if normalisation == "symmetric" else degree[u])
            total += (path[u, v] + (u == v)) / np.sqrt(both) * x[:, v]
        np.testing.assert_allclose(y[:, u], total, rtol=1e-14)


def test_sampled_networks_on_a_star():
    """Where a factor of A is forgotten, the kernel is 10 % off or more, and sampling sees it."""
    x, width, count = features(3, 2, 6, 3), 512, 60
    net = convolutional(Aggregate(STAR), width)

    def draw(key):
        params = net.init(key, (6, 3))

        def nodes(params):
            return net.apply(params, x[:1])[0, :, 0]

        rows = jax.tree.leaves(jax.jacrev(nodes)(params))
        return nodes(params), sum(r.reshape(6, -1) @ r.reshape(6, -1).T for r in rows)

    outputs, drawn = jax.jit(lambda keys: jax.lax.map(draw, keys))(
        jax.random.split(jax.random.key(0), count)
    )
    sampled = {
        "nngp": outputs[:, :, None] * outputs[:, None],
        "ntk": drawn,
    }

    def worst(name, theory):
        values = np.asarray(sampled[name])
        error = values.std(0, ddof=1) / count**0.5
        return np.abs((values.mean(0) - theory) / error).max()

    kernel = net.kernel(x)
    assert worst("nngp", kernel.nngp[0, 0]) < 4
    assert worst("ntk", kernel.ntk[0, 0]) < 4
    a, one = divided(STAR), np.eye(6)
    right = recursion(x, [a] * 3)[1]
    for wrong in (
        recursion(x, [a] * 3, [a, one, one]),
        recursion(x, [a] * 3, theta_rights=[one] * 3),
        recursion(x, [a, one, one]),
    ):
        off = np.linalg.norm(wrong[1] - right) / np.linalg.norm(right)
        assert off > 0.1
        assert worst("ntk", wrong[1][0, 0]) > 8


# Digits.


def exact(x, a):
    """Θ of one hidden layer on one graph, in as many digits as mpmath is set to; σ_w² = 2."""
    x, a = mpmath.matrix(x.tolist()), mpmath.matrix(a.tolist())
    k = 2 * (a * x * x.T * a.T) / x.cols
    value, theta = k.copy(), k.copy()
    for u in range(k.rows):
        for v in range(k.rows):
            norm = mpmath.sqrt(k[u, u] * k[v, v])
            angle = mpmath.acos(max(-1, min(1, k[u, v] / norm)))
            rest = (mpmath.pi - angle) / (2 * mpmath.pi)
            value[u, v] = norm * (mpmath.sin(angle) / (2 * mpmath.pi) + rest * mpmath.cos(angle))
            theta[u, v] = k[u, v] * rest
    return a * (value + theta) * a.T


def test_nodes_that_are_nearly_parallel_keep_their_digits():
    near = 1 + 1e-7 * features(6, 1, 6, 1) * np.array([1.0, -2.0])
    a = divided(STAR, normalisation="row")
    aggregate = Aggregate(STAR, normalisation="row")
    net = Serial(aggregate, at_nodes(8, 2**0.5, 0.0), Relu(), aggregate, Conv(1, 1))
    with mpmath.workdps(50):
        truth = np.array(exact(near[0], a).tolist(), float)
    # By covariances alone Θ would be off by 4e-10.
    np.testing.assert_allclose(net.kernel(near).ntk[0, 0], truth, rtol=2e-14)


# Derivatives, and graphs as numbers.


def small(adjacency):
    return Serial(Aggregate(adjacency), at_nodes(), Relu(), Aggregate(adjacency), Conv(1, 1))


SMALL = small(STAR)


@jax.jit
def with_rates(adjacency, w_std, x):
    """The sum of Θ and its derivatives in edges, in a scale and in what is at the nodes."""

    def value(adjacency, w_std, x):
        step, weights = {"adjacency": adjacency}, {"w_std": w_std, "b_std": 0.2}
        scales = step, weights, (), step, {"w_std": 1.0, "b_std": 0.0}
        return SMALL.kernel(x, hyperparameters=scales).ntk.sum()

    return jax.value_and_grad(value, (0, 1, 2))(adjacency, w_std, x)


def test_neighbours_that_cancel_leave_nothing():
    x = features(7, 2, 3, 1, 3) * [[1.0], [-1.0]]
    x = x.reshape(2, 6, 3)
    net = Serial(at_nodes(8, b_std=0.0), Aggregate(PAIRS), at_nodes(1))
    np.testing.assert_allclose(net.kernel(x).nngp, 0.04, rtol=1e-14)
    np.testing.assert_allclose(small(PAIRS).kernel(x).nngp, 0.02, rtol=1e-14)
    value, rates = with_rates(PAIRS, np.float64(1.3), x)
    assert all(jnp.isfinite(part).all() for part in (value, *rates))


def test_gradients_in_edges_scales_and_features():
    at, step = (STAR + 3, np.float64(1.3), features(8, 2, 6, 3)), 1e-5
    value, rates = with_rates(*at)
    kernel = small(STAR + 3).kernel(at[2])
    np.testing.assert_allclose(value, kernel.ntk.sum(), rtol=1e-13)
    for place, shape in enumerate([(6, 6), (), (2, 6, 3)]):
        nudge = features(9, *shape)
        nudge = step * (nudge + nudge.T if place == 0 else nudge)
        ahead, behind = (
            with_rates(*at[:place], at[place] + sign * nudge, *at[place + 1 :])[0]
            for sign in (1, -1)
        )
        np.testing.assert_allclose((rates[place] * nudge).sum(), (ahead - behind) / 2, rtol=1e-7)


def test_another_graph_needs_no_program():
    x = features(8, 2, 6, 3)
    SMALL.kernel(x)
    compiled = graphs._mixed._cache_size()
    small(STAR[::-1, ::-1]).kernel(x)
    assert graphs._mixed._cache_size() == compiled


def test_layers_with_equal_graphs_are_equal():
    assert Aggregate(STAR) == Aggregate(STAR.astype(int))
    assert hash(Aggregate(STAR)) == hash(Aggregate(jnp.asarray(STAR)))
    others = [
        Aggregate(),
        Aggregate(2 * STAR),
        Aggregate(STAR, False),
        Aggregate(STAR, True, "row"),
    ]
    assert len({Aggregate(STAR), *others}) == 5
    assert "graph of 6 nodes" in repr(Aggregate(STAR))


# What has no answer.

X = features(22, 2, 6, 3)


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda: Aggregate(np.triu(STAR)), "adjacency must be symmetric"),
        (lambda: Aggregate(STAR[:2]), r"square matrix \(N, N\), got shape \(2, 6\)"),
        (lambda: Aggregate(-STAR), "not negative, got a smallest of -1"),
        (lambda: Aggregate(STAR * np.nan), "adjacency must be finite"),
        (lambda: Aggregate(0 * STAR), "no.* edge.* its 6 nodes: an edgeless graph|have an edge"),
        (lambda: Aggregate(np.eye(6), False), "an edgeless graph aggregates nothing"),
        (lambda: Aggregate(STAR, 1), "self_loops must be True or False"),
        (lambda: Aggregate(STAR, True, "column"), "normalisation must be one of"),
        (lambda: jax.jit(lambda a: Aggregate(a).apply((), X))(STAR), "got a traced one"),
        (lambda: Aggregate(STAR).apply((), X[:, :5]), r"expects 6 nodes, got .* \(5, 3\)"),
        (lambda: Aggregate(STAR).kernel(X[:, 0]), r"\(n, \*space, channels\)"),
        (lambda: Aggregate(STAR).kernel(X[:, None]), "got images of shape"),
        (lambda: Serial(Flatten(), Aggregate(STAR)).kernel(X), "got vectors; it comes before"),
        (lambda: Serial(Flatten(), GlobalSumPool()).kernel(X), "got vectors; it comes instead"),
        (lambda: Aggregate().kernel(X), "has no graph: give it an adjacency, or use on_graph"),
        (lambda: Aggregate().init(jax.random.key(0), (6, 3)), "has no graph"),
        (
            lambda: Aggregate(STAR).kernel(X, hyperparameters={"adjacency": -STAR}),
            r"hyperparameters\['adjacency'\] must have weights",
        ),
        (lambda: ntk.check_layer(Aggregate()), "shape_after of .* refuses .* has no graph"),
    ],
)
def test_what_has_no_answer_is_refused(use, message):
    with pytest.raises((ValueError, TypeError, AssertionError), match=message):
        use()
