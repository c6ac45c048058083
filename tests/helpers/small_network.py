"""A small network with every kind of layer, and inputs of it, for tests of finite networks."""

import jax
import jax.numpy as jnp

from ntkbook import Dense, Elementwise, Erf, Residual, Serial, Tanh

X1, X2 = jnp.split(jax.random.normal(jax.random.key(0), (7, 4)), [4])


def network(outputs, parametrization="ntk"):
    return Serial(
        Dense(6, 1.4, 0.3, parametrization),
        Tanh(),
        Serial(Residual(Elementwise(jnp.sin, "sine"), Dense(6, 0.7, 0.1)), Erf()),
        Dense(outputs, 1.1, 0.0, parametrization),
    )
