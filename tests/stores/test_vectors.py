from learngate.stores import open_memory, vectors
from learngate.stores.embeddings import Vectors
from learngate.stores.lexical import scope_token
from learngate.stores.vectors import FaissIndex
from tests.databases import needs_postgres
from tests.stores.conformance.backends import InFile, InMemory, OnPostgres, bound
from tests.stores.conformance.vectors import (
    EMBEDDER,
    SPACES,
    Faulty,
    Indexed,
    SharedVectorIndexConformance,
    VectorIndexConformance,
    brute,
    close_to,
    fill,
    index_of,
    token,
    unit,
)
from tests.stores.support import draft


class TestInMemory(InMemory, VectorIndexConformance):
    pass


class TestInFile(InFile, VectorIndexConformance, SharedVectorIndexConformance):
    pass


@needs_postgres
class TestOnPostgres(OnPostgres, VectorIndexConformance, SharedVectorIndexConformance):
    pass


TestIndexedInMemory = bound(Indexed, "memory", share=0.4, steps=25)
TestIndexedInFile = bound(Indexed, "sqlite", share=0.06, steps=25)
TestIndexedOnPostgres = needs_postgres(bound(Indexed, "postgres", share=0.1, steps=25))


def test_scopes_that_leave_memory_come_back_whole(monkeypatch):
    monkeypatch.setattr(vectors, "MAX_SCOPES", 2)
    with open_memory("sqlite://", embedder=EMBEDDER) as memory:
        fill(memory, 2)
        index, query = index_of(memory), unit("rule")
        for round_ in range(3):
            for space in SPACES:
                memory.learnings.add(draft(f"{space} more {round_}"), namespace=space, actor="a")
                expected = brute(memory, space, query)
                assert index.search("learning", [token(space)], query, 100) == close_to(expected)
        scopes = [token(space) for space in SPACES]
        everything = {i: s for space in SPACES for i, s in brute(memory, space, query).items()}
        assert index.search("learning", scopes, query, 100) == close_to(everything)


def held(index) -> set[tuple[str, str]]:
    return set(index._scopes)


def test_what_is_erased_leaves_this_process_too_and_what_it_holds_of_an_embedder_before(tmp_path, monkeypatch):
    monkeypatch.setattr("learngate.stores.asking.WAIT_SECONDS", 0.0)
    url = f"sqlite:///{tmp_path}/learngate.db"

    def known(memory, *users):
        for user in users:
            for number in range(3):
                memory.users.remember(user, f"likes tea {number}")
            assert memory.users.recall(user, "tea", budget=6)

    ana, ben, cleo = (("memory", scope_token("user", user)) for user in ("ana", "ben", "cleo"))
    with open_memory(url, embedder="wordllama") as memory:
        known(memory, "ana", "ben", "cleo")
        assert held(memory._index) == {ana, ben, cleo}
        memory.erase("cleo")
        assert held(memory._index) == {ana, ben}
    down = Faulty()
    with open_memory(url, embedder=down) as memory:
        down.down = True
        known(memory, "ana", "ben")
        before = memory._meaning._older["wordllama"].index
        assert held(before) == {ana, ben}
        memory.erase("ana")
        assert held(before) == {ben}
        assert ana not in held(memory._index)


class Counted(Vectors):
    """Counts what an index reads again."""

    reads = 0

    def load(self, *args, **more):
        self.reads += 1
        return super().load(*args, **more)


def test_only_what_has_changed_is_read_again():
    with open_memory("sqlite://", embedder=EMBEDDER) as memory:
        fill(memory)
        counted = Counted(memory.database, EMBEDDER)
        index, query = FaissIndex(memory.database, counted), unit("rule")
        reads = []
        for step in (None, None, "a", None, "b", None):
            if step is not None:
                memory.learnings.add(draft(f"{step} is new"), namespace=step, actor="a")
            before = counted.reads
            index.search("learning", [token("a")], query, 100)
            reads.append(counted.reads > before)
        assert reads == [True, False, True, False, False, False]
