"""What the tests of the tangent folder share."""

import pytest
from small_network import X1, X2


@pytest.fixture(scope="module")
def inputs():
    return X1, X2
