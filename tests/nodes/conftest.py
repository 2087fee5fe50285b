"""Fixtures of the nodes' tests."""

from collections.abc import Iterator

import pytest

from learngate.stores import Memory
from tests.graph.support import opened


@pytest.fixture
def memory() -> Iterator[Memory]:
    with opened() as memory:
        yield memory
