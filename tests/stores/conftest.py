"""A memory to test on: real SQLite, real FAISS, the real default embedder."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from learngate.stores import Memory, open_memory
from learngate.stores.embedders import WordLlamaEmbeddings


@pytest.fixture(scope="session")
def embedder() -> WordLlamaEmbeddings:
    return WordLlamaEmbeddings()


@pytest.fixture
def memory(embedder: WordLlamaEmbeddings) -> Iterator[Memory]:
    with open_memory("sqlite://", embedder=embedder) as opened:
        yield opened


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/learngate.db"
