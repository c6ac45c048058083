"""What a run imports and this Python lacks, by name: `python -m card.needs`."""

from __future__ import annotations

from importlib.util import find_spec

MODULES = {  # those that the wheels bring first; the others are a Python's with JAX
    "ipykernel": "ipykernel",
    "nbclient": "nbclient",
    "nbformat": "nbformat",
    "nbval": "nbval",
    "jupyter_cache": "jupyter-cache",
    "filelock": "filelock",
    "PIL": "pillow",
    "yaml": "pyyaml",
    "jax": "jax",
    "numpy": "numpy",
    "scipy": "scipy",
    "sympy": "sympy",
    "matplotlib": "matplotlib",
    "sklearn": "scikit-learn",
    "diffrax": "diffrax",
    "equinox": "equinox",
    "optax": "optax",
    "jaxtyping": "jaxtyping",
    "tqdm": "tqdm",
    "psutil": "psutil",
}


def missing() -> list[str]:
    return [name for module, name in MODULES.items() if find_spec(module) is None]


if __name__ == "__main__":
    print(*missing())
