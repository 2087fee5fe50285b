"""A memory to test on: each database there is, its own search, and the real default embedder."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from learngate.stores import Memory, open_memory
from learngate.stores.embedders import WordLlamaEmbeddings
from tests.databases import BOTH, database


@pytest.fixture(scope="session")
def embedder() -> WordLlamaEmbeddings:
    return WordLlamaEmbeddings()


@pytest.fixture(params=BOTH)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with database(request.param, tmp_path) as made:
        yield made


@pytest.fixture
def memory(url: str, embedder: WordLlamaEmbeddings) -> Iterator[Memory]:
    with open_memory("sqlite://" if url.startswith("sqlite") else url, embedder=embedder) as opened:
        yield opened
