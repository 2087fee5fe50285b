"""Fixtures of the graph's tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from learngate.stores import Memory
from tests.graph.support import opened


@pytest.fixture
def memory() -> Iterator[Memory]:
    with opened("sqlite://") as memory:
        yield memory


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'learngate.db'}"
