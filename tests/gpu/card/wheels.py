"""Wheels of the notebook stack, for a Python that has JAX and no network: see `tests/gpu/wheels`.

The versions are those of `requirements.txt`; which packages belong together is read off the
environment that runs this, where all of them are installed.
"""

from __future__ import annotations

import argparse
import platform
import re
import subprocess
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / ".gpu-wheels"
LIMIT_MIB = 60
WANTED = ("ipykernel", "nbclient", "nbformat", "nbval", "jupyter-cache", "filelock", "beartype")

# What comes with a Python that computes, and is not brought: with these, all that they need.
THERE = (
    *("jax", "jaxlib", "numpy", "scipy", "matplotlib", "sympy", "mpmath", "scikit-learn"),
    *("diffrax", "equinox", "optax", "jaxtyping", "pandas", "pyyaml", "psutil", "tqdm"),
    *("pytest", "pytest-xdist"),
)

# Brought although it is there: another version draws figures that differ by more than is allowed.
SAME = {"matplotlib"}

# Half of all files, for completion and debugging by hand; IPython and ipykernel run without.
SPARED = {"jedi", "parso", "debugpy"}

# pip matches these exactly: a wheel for an older C library is not found under a newer one's name.
PLATFORMS = (
    *(f"manylinux_2_{minor}_x86_64" for minor in (39, 35, 34, 31, 28, 27, 24, 17, 12, 5)),
    *("manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64"),
)


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    environment = _environment(options.python)
    names = (needed(WANTED, environment) - needed(THERE, environment) - SPARED) | SAME
    versions = pins((ROOT / "requirements.txt").read_text("utf-8"), environment)
    unknown = sorted(names - set(versions))
    if unknown:
        print(f"requirements.txt has no version of {', '.join(unknown)}", file=sys.stderr)
        return 1
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / ".gitignore").write_text("*\n", "utf-8")
    for old in FOLDER.glob("*.whl"):  # two versions of one package cannot be installed together
        old.unlink()
    command = [sys.executable, "-m", "pip", "download", "-qq", "--no-deps", "--dest", str(FOLDER)]
    command += ["--only-binary=:all:", "--implementation=cp", f"--python-version={options.python}"]
    command += [f"--platform={name}" for name in PLATFORMS]
    subprocess.run([*command, *(f"{n}=={versions[n]}" for n in sorted(names))], check=True)
    size = sum(wheel.stat().st_size for wheel in FOLDER.glob("*.whl")) / 2**20
    print(f"{len(names)} wheels, {size:.1f} MiB, in {FOLDER.name}")
    if size > LIMIT_MIB:
        print(f"more than the {LIMIT_MIB} MiB that may travel", file=sys.stderr)
        return 1
    return 0


def needed(names: Iterable[str], environment: dict[str, str]) -> set[str]:
    """These packages and all that they need in the target environment."""
    found: set[str] = set()
    waiting = list(map(canonicalize_name, names))
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        try:
            lines = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue  # not installed here: nothing that is installed here needs it
        for need in map(Requirement, lines):
            if _applies(need, environment):
                waiting.append(canonicalize_name(need.name))
    return found


def pins(lock: str, environment: dict[str, str]) -> dict[str, str]:
    """The versions that a lock gives for the target environment."""
    lines = (line for line in lock.splitlines() if line and line[0] not in "#-")
    held = [need for need in map(Requirement, lines) if _applies(need, environment)]
    return {canonicalize_name(need.name): next(iter(need.specifier)).version for need in held}


def _applies(need: Requirement, environment: dict[str, str]) -> bool:
    return need.marker is None or need.marker.evaluate(environment)


def _environment(python: str) -> dict[str, str]:
    linux = {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"}
    version = {"python_version": python, "python_full_version": f"{python}.0"}
    cpython = {"implementation_name": "cpython", "platform_python_implementation": "CPython"}
    return linux | version | cpython | {"platform_machine": "x86_64", "extra": ""}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tests/gpu/wheels", description=_purpose())
    here = ".".join(platform.python_version_tuple()[:2])
    text = f"that of the machine with a card (default: 3.12; here it is {here})"
    parser.add_argument("--python", type=_version, default="3.12", metavar="X.Y", help=text)
    return parser


def _purpose() -> str:
    return (
        "Gather in .gpu-wheels what a machine with a card and no network lacks to execute "
        "notebooks. Git ignores the folder: name it where a copy of the tree is made."
    )


def _version(text: str) -> str:
    if not re.fullmatch(r"3\.\d{1,2}", text):
        raise argparse.ArgumentTypeError(f"expected a version such as 3.12, got {text!r}")
    return text


if __name__ == "__main__":
    sys.exit(main())
