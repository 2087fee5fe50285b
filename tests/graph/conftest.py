"""Fixtures of the graph's tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from learngate.stores import Memory
from tests.databases import BOTH, database
from tests.graph.support import opened


@pytest.fixture
def memory() -> Iterator[Memory]:
    with opened("sqlite://") as memory:
        yield memory


@pytest.fixture(params=BOTH)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with database(request.param, tmp_path) as made:
        yield made
