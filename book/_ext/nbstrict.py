"""A pytest plug-in that closes nbval's gaps: `pytest --nbval -p nbstrict`."""

from notebooks.gate import pytest_configure

__all__ = ["pytest_configure"]
