"""Kernels that are sums over outputs, told from the kernel of one output that they look like.

A trace over k outputs has the shape (N, N) of a kernel that every output shares, and is k times
as large: nothing in its numbers says so.  The array that `empirical_ntk` hands out is therefore
known by its identity for as long as it lives; what a user makes of it, such as its quotient by k,
is another array and theirs.  So is any copy, slice or cast, and what `jit` returns: those are not
told any more.  `outputs="mean"`, which is the kernel of one output where outputs are alike, needs
no such guard.
"""

from __future__ import annotations

import weakref

_SUMMED: dict[int, tuple[weakref.ref, int]] = {}


def remember_sum(kernel: object, outputs: int) -> None:
    """Note that this array is a sum over so many outputs; it is not kept alive by that."""
    key = id(kernel)
    _SUMMED[key] = weakref.ref(kernel, lambda _: _SUMMED.pop(key, None)), outputs


def refuse_sum(name: str, kernel: object) -> None:
    """Raise ValueError for an array that `remember_sum` was told of."""
    known = _SUMMED.get(id(kernel))
    if known and known[0]() is kernel:
        raise ValueError(
            f"{name} must be the kernel of one output or of all, got the trace over {known[1]} "
            f"outputs, {known[1]} times too large; use empirical_ntk(…, outputs='full'), which is "
            "exact, or outputs='mean'"
        )
