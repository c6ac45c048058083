"""Nothing public is forgotten: whatever an activation or a layer lacks is said, with the step.

The steps are those of book/contribute/activation.md and book/contribute/layer.md.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from exact_duals import CASES
from test_accuracy import FORMULAS

import ntkbook as ntk
from ntkbook import architectures, estimators, networks
from ntkbook.architectures.pooling import Mixing
from ntkbook.architectures.windows import Spatial
from ntkbook.gaussian import duals
from ntkbook.gaussian.pairs import Dual
from ntkbook.networks.activations import Nonlinearity
from ntkbook.networks.containers import Container
from ntkbook.networks.layer import Layer

ROOT = Path(__file__).parents[2]

# Classes that others are made from, and that nobody puts into a network.
BASES = (Layer, Nonlinearity, Container, Mixing, Spatial)

# What the tests compare with drawn pairs, where the class alone is not enough.
EXAMPLES = {
    "LeakyRelu": lambda: ntk.LeakyRelu(0.3),  # the default is hardly another function than ReLU
    "Polynomial": lambda: ntk.Polynomial((0.3, 1.0, -0.5)),
    "Elementwise": lambda: ntk.Elementwise(jax.nn.softplus, name="softplus", degree=30),
}
NUMERICAL = {  # no closed form, hence in no table of accuracy
    "Tanh": "a series, which tests/gaussian/test_quadrature.py holds against a finer rule",
    "Elementwise": "any function, by quadrature or by its Hermite series",
}
WITHOUT_A_NAME = {  # not in `estimators.ACTIVATIONS`, though there are no numbers to choose
    "Exp": "its variance grows as an exponential of an exponential, one more for each layer",
}


def public(kind: type) -> list[type]:
    """The public classes of this kind in the folders of layers, in the order of their modules."""
    found = []
    for shelf in (networks, architectures):
        for module in pkgutil.walk_packages(shelf.__path__, f"{shelf.__name__}."):
            members = vars(importlib.import_module(module.name)).values()
            found += [m for m in members if isinstance(m, type) and m.__module__ == module.name]
    return [c for c in found if issubclass(c, kind) and c not in BASES and c.__name__[0] != "_"]


LAYERS = public(Layer)
ACTIVATIONS = public(Nonlinearity)


def example(cls: type) -> Layer:
    if _without_example(cls):
        pytest.fail(_without_example(cls), pytrace=False)
    return EXAMPLES.get(cls.__name__, cls)()


def _without_example(cls: type) -> str:
    """What to do for a class that can't be made without arguments, and of which nobody said how."""
    parameters = inspect.signature(cls).parameters.values()
    if cls.__name__ in EXAMPLES or all(
        p.kind != p.VAR_POSITIONAL and p.default is not p.empty for p in parameters
    ):
        return ""
    return (
        f"{cls.__name__}: step {4 if issubclass(cls, Nonlinearity) else 5}, it asks for arguments: "
        "give an example in EXAMPLES of tests/networks/test_completeness.py"
    )


# What every layer needs


def missing(cls: type) -> Iterator[str]:
    """What a public layer lacks, a sentence for each, which names the step that was left out."""
    name, module = cls.__name__, cls.__module__
    activation = issubclass(cls, Nonlinearity)
    if not (dataclasses.is_dataclass(cls) and cls.__dataclass_params__.frozen):
        yield f"{name}: step 2, make it a frozen dataclass: @dataclass(frozen=True)"
    for method in ("apply", "propagate"):
        if getattr(cls, method) is getattr(Layer, method):
            yield f"{name}: step {'2' if method == 'apply' else '3'}, write {method}"
    if not (cls.__doc__ or "").strip() or (cls.__doc__ or "").startswith(f"{name}("):
        yield f"{name}: step 2, say in a docstring what it computes"
    if getattr(ntk, name, None) is not cls or name not in ntk.__all__:
        yield (
            f"{name}: step {3 if activation else 4}, export it from ntkbook/__init__.py, in an "
            "import and in __all__ (a class that others are made from goes into BASES of "
            "tests/networks/test_completeness.py)"
        )
    if not on_the_api_page(name, module):
        yield f"{name}: step {6 if activation else 4}, list {module} in book/appendix/api.md"
    if not activation:
        yield from _missing_of_a_layer(name, cls.spatial is not Layer.spatial)
    elif _without_example(cls):
        yield _without_example(cls)
    else:
        yield from _missing_of_an_activation(cls)


def _missing_of_a_layer(name: str, spatial: bool) -> Iterator[str]:
    place, table = "tests/checking/test_check_layer.py", "SPATIAL" if spatial else "OTHERS"
    if f"    {name}(" not in (ROOT / place).read_text("utf-8"):
        yield f"{name}: step 5, add an example of it to {table} in {place}"


def on_the_api_page(name: str, module: str) -> bool:
    page = (ROOT / "book" / "appendix" / "api.md").read_text("utf-8")
    block = re.search(rf"automodule:: {re.escape(module)}\n((?:   .*\n)*)", page)
    left_out = re.findall(r":exclude-members: (.*)", block[1]) if block else []
    return bool(block) and ":members:" in block[1] and name not in ", ".join(left_out).split(", ")


# What an activation needs besides


def _missing_of_an_activation(cls: type) -> Iterator[str]:
    name = cls.__name__
    known = {type(layer): word for word, layer in estimators.ACTIVATIONS.items()}
    word = re.sub(r"(?<=.)(?=[A-Z])", "_", name).lower()
    if cls not in known and not dataclasses.fields(cls) and name not in WITHOUT_A_NAME:
        yield (
            f"{name}: step 5, it has no numbers to choose: name it in ACTIVATIONS of "
            "ntkbook/estimators.py, or give the reason in WITHOUT_A_NAME of "
            "tests/networks/test_completeness.py"
        )
    elif known.get(cls, word) != word:
        yield f"{name}: step 5, it is called {known[cls]!r} in ACTIVATIONS, expected {word!r}"
    if name in NUMERICAL:
        return
    dual = example(cls).dual
    own = names_of(dual)
    if not own & set(duals.__all__):
        yield (
            f"{name}: step 1, list its dual in __all__ of ntkbook/gaussian/duals.py (one without "
            "closed form goes into NUMERICAL of tests/networks/test_completeness.py)"
        )
    if dual.gap is None:
        yield f"{name}: step 1, give its dual a gap, 1 - |ρ| without cancellation"
    tables = {
        "FORMULAS of tests/networks/test_accuracy.py": FORMULAS.values(),
        "CASES of tests/helpers/exact_duals.py": [known for known, _ in CASES.values()],
    }
    for label, table in tables.items():
        if not any(_alike(dual, other) for other in table):
            yield f"{name}: step 4, put its dual into {label}"
    if not own & tabled(duals.__doc__ or ""):
        yield f"{name}: step 6, give its dual a row in the docstring of ntkbook/gaussian/duals.py"


def names_of(dual: Dual) -> set[str]:
    """What a dual may be called: the name that holds it in `duals`, and what made it."""
    made_by = dual.formula.__qualname__.split(".")[0]
    return {n for n, held in vars(duals).items() if held is dual} | {made_by}


def _alike(dual: Dual, other: Dual) -> bool:
    """The same dual, or one that the same public function made with other numbers."""
    made_by = {d.formula.__qualname__.split(".")[0] for d in (dual, other)}
    return dual is other or (len(made_by) == 1 and made_by <= set(duals.__all__))


def tabled(docstring: str) -> set[str]:
    """The names in the first column of its table."""
    rows = re.findall(r"(?m)^(`\w+`.*?)  +\d", docstring)
    return {name for row in rows for name in re.findall(r"`(\w+)`", row)}


# The tests


@pytest.mark.parametrize("cls", LAYERS, ids=lambda c: c.__name__)
def test_a_public_layer_lacks_nothing(cls):
    lacks = sorted(missing(cls))  # in the order of the steps
    if lacks:
        pytest.fail("\n".join(lacks), pytrace=False)


INPUTS = np.array([[1.2, -0.7, 0.1], [0.3, 0.9, -0.8], [-1.0, 0.5, 0.4]])


@pytest.mark.parametrize("cls", ACTIVATIONS, ids=lambda c: c.__name__)
def test_the_kernel_of_an_activation_is_that_of_its_apply(cls):
    """One hidden layer, whose kernels are means over a Gaussian pair: drawn here, pair by pair."""
    layer = example(cls)
    kernel = ntk.Serial(ntk.Dense(8, 0.9, 0.3), layer, ntk.Dense(1, 1.1, 0.2)).kernel(INPUTS)
    before = 0.81 * INPUTS @ INPUTS.T / 3 + 0.09
    draws = np.random.default_rng(0).standard_normal((200_000, 3)) @ np.linalg.cholesky(before).T
    draws = jnp.asarray(draws)
    value, slope = jax.jvp(lambda z: layer.apply((), z), (draws,), (jnp.ones_like(draws),))
    for i, j in ((0, 0), (0, 1), (1, 2)):
        values, slopes = (np.asarray(part[:, i] * part[:, j]) for part in (value, slope))
        nngp = 1.21 * values + 0.04
        theory = kernel.nngp[i, j], kernel.ntk[i, j]
        for exact, drawn in zip(theory, (nngp, nngp + 1.21 * before[i, j] * slopes), strict=True):
            assert abs(drawn.mean() - exact) < 4.5 * drawn.std() / np.sqrt(drawn.size)


def test_explanations_belong_to_something():
    names = {cls.__name__ for cls in LAYERS}
    assert set(EXAMPLES) | set(NUMERICAL) | set(WITHOUT_A_NAME) <= names
    assert tabled(duals.__doc__) <= set(duals.__all__)
    assert len(ACTIVATIONS) >= 14


# And what the sentences say


def made_up(a, b):
    return Dual(lambda pair, m: a * a * duals.sin.formula(pair, m))


@dataclasses.dataclass(frozen=True)
class Sinus(Nonlinearity):
    """sin z, with everything left out that may be left out."""

    fn = staticmethod(jnp.sin)
    dual = made_up(1.0, 0.0)


class Pool(Layer):
    pass


def test_what_a_new_activation_lacks_is_said_step_by_step():
    said = sorted(missing(Sinus))
    assert [re.match(r"Sinus: step (\d), ", text)[1] for text in said] == list("11344566")
    assert said[0] == "Sinus: step 1, give its dual a gap, 1 - |ρ| without cancellation"
    assert said[1].startswith("Sinus: step 1, list its dual in __all__")
    assert said[2].startswith("Sinus: step 3, export it from ntkbook/__init__.py")
    assert said[3:5] == [
        "Sinus: step 4, put its dual into CASES of tests/helpers/exact_duals.py",
        "Sinus: step 4, put its dual into FORMULAS of tests/networks/test_accuracy.py",
    ]
    assert said[5].startswith("Sinus: step 5, it has no numbers to choose: name it in ACTIVATIONS")
    assert said[7] == f"Sinus: step 6, list {__name__} in book/appendix/api.md"


def test_what_a_new_layer_lacks_is_said_step_by_step():
    assert sorted(missing(Pool)) == [
        "Pool: step 2, make it a frozen dataclass: @dataclass(frozen=True)",
        "Pool: step 2, say in a docstring what it computes",
        "Pool: step 2, write apply",
        "Pool: step 3, write propagate",
        "Pool: step 4, export it from ntkbook/__init__.py, in an import and in __all__ (a class "
        "that others are made from goes into BASES of tests/networks/test_completeness.py)",
        f"Pool: step 4, list {__name__} in book/appendix/api.md",
        "Pool: step 5, add an example of it to OTHERS in tests/checking/test_check_layer.py",
    ]


def test_what_is_not_on_the_api_page_is_seen():
    module = "ntkbook.networks.activations"
    assert on_the_api_page("Relu", module)
    assert not on_the_api_page("fn", module)
    assert not on_the_api_page("Relu", "ntkbook.networks.unlisted")
