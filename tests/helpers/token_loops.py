"""Attention in plain NumPy: its kernels by loops over tokens, and the layers that tests share."""

import numpy as np

from ntkbook import Attention, GlobalAveragePool

POOL = GlobalAveragePool()
TIED = Attention(8, qk_std=1.5, ov_std=1.3)
FREE = Attention(8, qk_std=1.5, ov_std=1.3, tied=False)
LINEAR = Attention(8, qk_std=0.8, ov_std=1.3, mechanism="identity")
ROOT = Attention(8, qk_std=0.8, ov_std=0.9, mechanism="identity", scaling="root")
SOFTMAX = Attention(8, qk_std=1.5, ov_std=1.3, scaling="root")
VARIANTS = {"tied": TIED, "free": FREE, "linear": LINEAR, "root": ROOT}


def sequences(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


# Kernels of all pairs of tokens, (n, n, T, T).


def embedded(x, w_std, b_std):
    k = w_std**2 * np.einsum("ipc,jqc->ijpq", x, x) / x.shape[-1] + b_std**2
    return k, k.copy()


def weights_of(layer, own):
    """What each token of one sequence gives the others in the limit."""
    logits = layer.qk_std * own * layer.tied
    if layer.mechanism == "identity":
        return logits
    return np.array([[np.exp(v) / np.exp(row).sum() for v in row] for row in logits])


def attended(layer, k, theta):
    """K and Θ after an attention, by loops over examples and tokens."""
    new_k, new_theta = np.zeros_like(k), np.zeros_like(k)
    for i, j in np.ndindex(*k.shape[:2]):
        a, t = k[i, j], theta[i, j]
        if layer.scaling == "root":
            scale = (layer.qk_std * layer.ov_std) ** 2
            new_k[i, j] = scale * (a * a).sum() * a
            new_theta[i, j] = scale * (2 * (a * t).sum() * a + (a * a).sum() * t)
            new_theta[i, j] += 4 * new_k[i, j]
            continue
        left, right = (weights_of(layer, k[m, m]) for m in (i, j))
        for p, q in np.ndindex(*a.shape):
            both = layer.ov_std**2 * np.outer(left[p], right[q])
            new_k[i, j, p, q] = (both * a).sum()
            new_theta[i, j, p, q] = 2 * (both * a).sum() + (both * t).sum()
    return new_k, new_theta
