"""A small network, and by dense matrices what `diagnose` finds without them."""

import jax
import jax.numpy as jnp
import numpy as np


def network(params, x):
    """Two outputs of a tanh network of any width."""
    first, second = params
    return jnp.tanh(x @ first) @ second


def drawn(width, d=3, k=2, seed=1):
    keys = jax.random.split(jax.random.key(seed), 2)
    scales = d**-0.5, width**-0.5
    shapes = (d, width), (width, k)
    return tuple(s * jax.random.normal(*a) for s, *a in zip(scales, keys, shapes, strict=True))


def flat(params):
    return jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(params)])


class Dense:
    """The same by matrices: Jacobians, eigenvalues, powers."""

    def __init__(self, f, params, x, y):
        self.f, self.params, self.x = f, params, x
        self.theta, self.jacobian = self.kernel(params)
        self.values, self.vectors = np.linalg.eigh(self.theta)
        self.start = np.asarray(f(params, x)).ravel()
        self.residual = self.start - np.asarray(y).ravel()

    def kernel(self, params):
        jacobian = jax.jacrev(lambda p: self.f(p, self.x).ravel())(params)
        rows = [np.asarray(leaf).reshape(len(leaf), -1) for leaf in jax.tree.leaves(jacobian)]
        whole = np.concatenate(rows, axis=1)
        return whole @ whole.T, whole

    def after(self, rate, t):
        step = np.eye(len(self.theta)) - rate * self.theta
        return np.linalg.matrix_power(step, t) @ self.residual

    def left(self, rate, t):
        return (self.after(rate, t) ** 2).sum() / (self.residual**2).sum()

    def end(self, rate, steps):
        """Parameters after descent of the linearised model, one step after the other."""
        residual, moved = self.residual, 0
        for _ in range(steps):
            residual, moved = residual - rate * self.theta @ residual, moved + residual
        away, at = -rate * self.jacobian.T @ moved, 0
        leaves = []
        for leaf in jax.tree.leaves(self.params):
            leaves.append(leaf + away[at : at + leaf.size].reshape(leaf.shape))
            at += leaf.size
        return jax.tree.unflatten(jax.tree.structure(self.params), leaves)
