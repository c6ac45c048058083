"""A bar that shows how far a long computation has come."""

from __future__ import annotations

from contextlib import AbstractContextManager


def bar(total: int, unit: str) -> AbstractContextManager:
    """A tqdm bar of so many steps, to be used in a with statement; ImportError without tqdm."""
    try:
        from tqdm import tqdm
    except ImportError as error:
        raise ImportError("progress=True needs tqdm: pip install tqdm") from error
    return tqdm(total=total, unit=unit)
