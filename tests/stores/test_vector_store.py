import pytest

from learngate.stores import Memory
from learngate.stores.embeddings import Vectors
from learngate.stores.protocols import VectorIndex
from learngate.stores.vector_store import Make, VectorStoreIndex
from tests.databases import needs_postgres
from tests.stores.conformance.backends import InFile, OnPostgres, bound
from tests.stores.conformance.vectors import (
    EMBEDDER,
    Indexed,
    SharedVectorIndexConformance,
    VectorIndexConformance,
)
from tests.stores.support import Hashed
from tests.stores.vector_stores import chroma_in, qdrant


class Outside(VectorIndexConformance, SharedVectorIndexConformance):
    make: Make

    def index_of(self, memory: Memory, embedder: Hashed = EMBEDDER) -> VectorIndex:
        return VectorStoreIndex(memory.database, Vectors(memory.database, embedder), self.make)


class TestChroma(InFile, Outside):
    @pytest.fixture(autouse=True)
    def _store(self, tmp_path):
        self.make = chroma_in(tmp_path / "chroma")


class TestQdrant(InFile, Outside):
    @pytest.fixture(autouse=True)
    def _store(self):
        self.make = qdrant()


@needs_postgres
class TestQdrantBesidePostgres(OnPostgres, Outside):
    @pytest.fixture(autouse=True)
    def _store(self):
        self.make = qdrant()


class IndexedOutside(Indexed):
    """The same, with both programs' vectors in one store."""

    def __init__(self) -> None:
        self.make = qdrant()
        super().__init__()

    def index_of(self, memory: Memory) -> VectorIndex:
        return VectorStoreIndex(memory.database, Vectors(memory.database, EMBEDDER), self.make)


TestIndexedOutside = bound(IndexedOutside, "memory", share=0.15, steps=25)
TestIndexedOutsideInFile = bound(IndexedOutside, "sqlite", share=0.05, steps=25)
