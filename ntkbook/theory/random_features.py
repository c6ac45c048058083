"""Regression on finitely many random features: samples, width and ridge in one formula."""

from __future__ import annotations

from ntkbook._base.types import ArrayLike, Num
from ntkbook.theory.effective_ridge import Eigenlearning, Levels


def random_features(
    eigenvalues: Num[ArrayLike, "m"],
    power: Num[ArrayLike, "m"],
    samples: Num[ArrayLike, "..."],
    features: Num[ArrayLike, "..."],
    ridge: Num[ArrayLike, "..."] = 0.0,
    noise_variance: Num[ArrayLike, "..."] = 0.0,
    multiplicity: Num[ArrayLike, "m"] | None = None,
) -> Eigenlearning:
    """Risk of (ridge) regression on n random features, averaged over features and N samples.

    The feature map is a random one whose kernel is Σ λ_i φ_i(x) φ_i(x') on average, as for the
    readout of a network with one hidden layer of width n: the Gram matrix is that of features
    divided by √n.  With z = Σ λ/(λ + ς) and a = N − z, b = n − z, w = Σ λς/(λ + ς)²,

        ς a b = n δ,  L = λ/(λ + ς),  E₀ = N/(a + bw/(b + w)),
        test = E₀ (Σ (1 − L)² v² + w/(b + w) Σ L (1 − L) v² + ε²),  train = (a/N)² test.

    For n → ∞ it is `eigenlearning`.  Without a ridge z is the smaller of N and n, and the risk is
    infinite at N = n.

    **Arguments**: as for `eigenlearning`; `features` n > 0 likewise, which may be
    infinite.

    **Returns**: `Eigenlearning`.

    **Raises**: ValueError as there; without a ridge, for min(N, n) not below the number of
    positive eigenvalues.

    **Source**: Simon, Karkada, Ghosh & Belkin 2023, in the form without differences of large
    numbers that chapter "Learning curves" derives.

    >>> import jax.numpy as jnp
    >>> one, hundred = jnp.ones(1), jnp.array([100])
    >>> n = jnp.array([20.0, 25.0, 30.0, 1e9])
    >>> found = random_features(one, one, 25, n, noise_variance=1.0, multiplicity=hundred)
    >>> print(found.test_risk.round(2))
    [ 9.     inf 10.83  2.08]
    """
    levels = Levels.of(eigenvalues, power, multiplicity)
    return levels.averaged(samples, features, ridge, noise_variance)
