"""Graphs, features of their nodes and a dense layer at each, for tests of kernels of graphs."""

import numpy as np

from ntkbook import Conv

STAR = np.zeros((6, 6))
STAR[0, 1:] = STAR[1:, 0] = 1


def features(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def a_graph(seed, nodes, channels=3):
    draw = np.random.default_rng(seed)
    edges = np.triu(draw.random((nodes, nodes)) < 0.4, 1)
    return draw.standard_normal((nodes, channels)), (edges | edges.T).astype(float)


def at_nodes(width=8, w_std=1.3, b_std=0.2):
    return Conv(width, 1, w_std=w_std, b_std=b_std)
