"""Recurrent layers in plain NumPy: their kernels by loops over all pairs of steps."""

import numpy as np

from ntkbook import Cos, Dense, Erf, Flatten, GlobalAveragePool, LastStep, Recurrent, Relu, Serial

SCALES = {"w_std": 1.2, "u_std": 0.9, "b_std": 0.3}


def sequences(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def recurrent(end, nonlinearity=None, width=8, layers=1, **scales):
    layer = Recurrent(width, nonlinearity or Relu(), **(SCALES | scales))
    return Serial(*[layer] * layers, end, Dense(1, 1.1, 0.2))


# Duals written by hand.


def relu(c, q1, q2):
    norm = np.sqrt(q1 * q2)
    angle = np.arccos(np.clip(c / norm, -1, 1))
    value = norm * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / (2 * np.pi)
    return value, (np.pi - angle) / (2 * np.pi)


def erf(c, q1, q2):
    a, b = 1 + 2 * q1, 1 + 2 * q2
    return 2 / np.pi * np.arcsin(2 * c / np.sqrt(a * b)), 4 / np.pi / np.sqrt(a * b - 4 * c**2)


def cos(c, q1, q2):
    return np.exp(-(q1 + q2) / 2) * np.cosh(c), np.exp(-(q1 + q2) / 2) * np.sinh(c)


DUALS = {Relu(): relu, Erf(): erf, Cos(): cos}


def inputs_of(x):
    k = np.einsum("itc,jsc->ijts", x, x) / x.shape[-1]
    return k, 0 * k


def recursion(k, theta, dual, tied=True, start=0.0, gains=(1, 1, 1), **scales):
    """K and Θ (n, n, T, T) of the states for those of what comes in.

    Without `tied` each step has weights of its own; `start` is E[h_0²]; `gains` of the gradients in
    w, u and b.
    """
    w2, u2, b2 = ((SCALES | scales)[name] ** 2 for name in ("w_std", "u_std", "b_std"))
    value, tangent, before = np.zeros_like(k), np.zeros_like(k), np.zeros_like(k)
    # Equal steps first: the others need their variances.
    pairs = sorted(np.ndindex(k.shape[2:]), key=lambda pair: (pair[0] != pair[1], pair))
    for t, s in pairs:
        shared = tied or t == s
        state, slope = start * np.ones(k.shape[:2]), np.zeros(k.shape[:2])
        if min(t, s) > 0:
            state, slope = value[..., t - 1, s - 1], tangent[..., t - 1, s - 1]
        parts = [w2 * state, u2 * k[..., t, s], b2 * np.ones_like(state)]
        before[..., t, s] = sum(parts) * shared
        own = sum(gain * part for gain, part in zip(gains, parts, strict=True)) * shared
        rate = own + (w2 * slope + u2 * theta[..., t, s]) * shared
        q = np.diagonal(before[..., t, t]), np.diagonal(before[..., s, s])
        value[..., t, s], rise = dual(before[..., t, s], q[0][:, None], q[1][None])
        tangent[..., t, s] = rise * rate
    return value, tangent


READOUTS = {
    LastStep(): lambda a: a[..., -1, -1],
    GlobalAveragePool(): lambda a: a.mean((2, 3)),
    Flatten(): lambda a: np.einsum("ijtt->ij", a) / a.shape[-1],
}


def read_out(end, value, tangent):
    """K and Θ after the last Dense layer."""
    k = 1.21 * READOUTS[end](value) + 0.04
    return k, k + 1.21 * READOUTS[end](tangent)
