"""A repository that holds the toy assignment only, and that assignment."""

import pytest
from grading import assignment
from toy import repository


@pytest.fixture
def root(tmp_path):
    """A repository that holds the toy assignment only."""
    return repository(tmp_path)


@pytest.fixture
def toy(root):
    return assignment.load(root / assignment.COURSE / "source" / "toy")
