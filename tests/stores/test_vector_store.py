"""Dense search in vector stores: the same contract, and what only a store outside can do wrong."""

import re
import signal
import threading
from collections import Counter
from contextlib import ExitStack, suppress

import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import InMemoryVectorStore, VectorStore
from sqlalchemy import text

from learngate.stores import ConfigurationError, Conflict, Memory, Receipt, open_memory
from learngate.stores.embeddings import Vectors
from learngate.stores.lexical import scope_token
from learngate.stores.protocols import VectorIndex
from learngate.stores.vector_store import Make, StoredVectors, VectorStoreIndex, in_vector_store
from tests.databases import needs_postgres
from tests.stores.conformance.backends import InFile, OnPostgres, bound
from tests.stores.conformance.vectors import (
    EMBEDDER,
    Indexed,
    SharedVectorIndexConformance,
    VectorIndexConformance,
    brute,
    close_to,
    token,
    unit,
)
from tests.stores.support import Hashed, draft, go, processes, rows, together, turn
from tests.stores.vector_stores import chroma_at, chroma_in, chroma_server, qdrant


@pytest.fixture(autouse=True)
def _patient(monkeypatch):
    """Let a busy machine take its time; what is about time sets its own."""
    monkeypatch.setattr("learngate.stores.asking.CALL_SECONDS", 60.0)


class Outside(VectorIndexConformance, SharedVectorIndexConformance):
    make: Make

    def index_of(self, memory: Memory, embedder: Hashed = EMBEDDER) -> VectorIndex:
        return VectorStoreIndex(memory.database, Vectors(memory.database, embedder), self.make)


class TestChroma(InFile, Outside):
    @pytest.fixture(autouse=True)
    def _store(self, tmp_path):
        with chroma_in(tmp_path / "chroma") as self.make:
            yield

    def test_two_programs_change_the_same_rows_at_once_and_each_brings_the_store_up_to_date(self, url):
        with open_memory(url, embedder=EMBEDDER) as one, open_memory(url, embedder=EMBEDDER) as other:
            learn(one, *(f"rule {number}" for number in range(4)))
            programs = [(one, self.index_of(one)), (other, self.index_of(other))]
            query = unit("rule 1")

            def change(program: int) -> None:
                memory, index = programs[program]
                for number in range(12):
                    # The other may have done the same just before.
                    with suppress(Conflict):
                        how = (memory.learnings.retire, memory.learnings.restore)[(number + program) % 2]
                        how(number % 4 + 1, actor="ana")
                    index.search("learning", [token("n")], query, 100)

            assert together(lambda: change(0), lambda: change(1)) == [None, None]
            expected = brute(one, "n", query)
            for _, index in programs:
                assert index.search("learning", [token("n")], query, 100) == close_to(expected)
            assert rows(one, "mirrored", "state = 'there'") == len(expected) + 1
            assert rows(one, "mirrored", "state in ('putting', 'dropping')") == 0


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


class Breaking(InMemoryVectorStore):
    """LangChain's own store, which fails at the calls that it is told to fail at, and counts the others."""

    def __init__(self, embedder: Hashed) -> None:
        super().__init__(embedder)
        self.broken: set[str] = set()
        self.calls: Counter[str] = Counter()

    def _call(self, name: str) -> None:
        if name in self.broken:
            raise ConnectionError("the store is down")
        self.calls[name] += 1

    def add_documents(self, documents, ids=None, **more):
        self._call("put")
        return super().add_documents(documents, ids, **more)

    def delete(self, ids=None, **more):
        self._call("drop")
        super().delete(ids, **more)

    def similarity_search_by_vector(self, embedding, k=4, **more):
        self._call("search")
        return super().similarity_search_by_vector(embedding, k, **more)

    def get_by_ids(self, ids, /):
        self._call("look")
        return super().get_by_ids(ids)


class EachOnes(Embeddings):
    """The embedders of all programs that have the one store: each knows the vectors that it hands over itself."""

    def __init__(self, of: list[StoredVectors]) -> None:
        self.of = of

    def embed_query(self, text: str) -> list[float]:
        for one in self.of[:-1]:
            with suppress(KeyError):
                return one.embed_query(text)
        return self.of[-1].embed_query(text)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed_query(text) for text in texts]


def taken(store: Breaking, embedder: StoredVectors) -> Breaking:
    known = store.embedding.of if isinstance(store.embedding, EachOnes) else []
    store.embedding = EachOnes([*known, embedder])
    return store


@pytest.fixture
def store(monkeypatch):
    """One store that every program finds again, as a server's is; it is there from the first search on."""
    monkeypatch.setattr("learngate.stores.asking.WAIT_SECONDS", 0.0)
    monkeypatch.setattr("learngate.stores.asking.PAUSE_SECONDS", 0.0)
    return Breaking(Hashed())


@pytest.fixture
def program(tmp_path, store):
    """Return what opens the memory once more."""
    with ExitStack() as open_:

        def program(**more):
            given = {"embedder": Hashed(), "index": in_vector_store(lambda one: taken(store, one))} | more
            return open_.enter_context(open_memory(f"sqlite:///{tmp_path}/learngate.db", **given))

        yield program


def learn(memory, *insights: str, namespace: str = "n") -> None:
    for insight in insights:
        memory.learnings.add(draft(insight), namespace=namespace, actor="ana")


def found(memory, query: str = "costs", namespace: str = "n") -> list[int]:
    hits = memory.learnings.search(query, namespace=namespace, k=50, floor=False)
    assert hits.note == ""
    return sorted(hit.learning.id for hit in hits if "dense" in hit.why or hit.why == "both")


def outside(store: Breaking) -> Counter[str]:
    """Return how many documents a store has, by kind."""
    return Counter(one["metadata"]["scope"].partition(":")[0] for one in store.store.values())


def test_no_text_no_name_and_no_number_of_a_row_goes_out_and_nothing_is_embedded_twice(program, store):
    embedder = Hashed()
    memory = program(embedder=embedder)
    learn(memory, "mind all costs", "bonds fall as rates rise")
    memory.users.remember("ana", "likes tea")
    memory.sessions.append(turn("s", "where is the tea?", user_id="ana"))
    list(memory.embed())
    assert outside(store) == {"marker": 1, "learning": 2, "memory": 1, "turn": 1}
    for key, one in store.store.items():
        assert one["text"] == f"learngate:{key}"
        assert one["metadata"].keys() == {"scope"}
        assert re.fullmatch(r"(learning|memory|turn):x[0-9b-df-h]{20}|marker:", one["metadata"]["scope"])
    assert sorted(embedder.asked) == sorted(set(embedder.asked))
    vector = next(one["vector"] for one in store.store.values() if one["metadata"]["scope"].startswith("memory"))
    assert vector == pytest.approx(unit("likes tea").tolist(), abs=1e-6)


def test_what_is_there_is_known_to_the_next_program(program, store):
    first = program()
    learn(first, "mind all costs", "costs of bonds")
    assert found(first) == [1, 2]
    store.calls.clear()
    second = program()
    assert found(second) == [1, 2]
    assert store.calls == {"look": 1, "search": 1}
    store.calls.clear()
    assert found(second) == [1, 2]
    assert store.calls == {"search": 1}
    learn(first, "costs of tea")
    first.learnings.retire(1, actor="ana")
    assert found(second) == [2, 3]
    assert outside(store) == {"marker": 1, "learning": 2}
    assert found(first) == [2, 3]
    assert store.calls == {"search": 3, "put": 1, "drop": 1}


@pytest.mark.parametrize("call", ["put", "drop", "search", "look"])
def test_a_store_that_fails_leaves_words_and_is_brought_up_to_date_later(program, store, call, caplog):
    memory = program()
    learn(memory, "mind all costs", "costs of bonds")
    if call != "look":
        assert found(memory) == [1, 2]
    else:
        assert found(program()) == [1, 2]
    store.broken = {call}
    learn(memory, "costs of tea")
    memory.learnings.retire(1, actor="ana")
    for _ in range(2):
        hits = memory.learnings.search("costs", namespace="n", floor=False)
        assert [hit.why for hit in hits] == ["lexical", "lexical"]
        assert hits.note.startswith(
            "searched by words alone: the vector store did not answer (ConnectionError): see the log"
        )
        assert "did not answer (ConnectionError: the store is" in caplog.text
    store.broken = set()
    assert found(memory) == [2, 3]
    assert outside(store) == {"marker": 1, "learning": 2}


def test_one_that_is_not_there_at_the_start_is_found_when_it_is(program, store):
    there = []

    def make(embedder):
        if not there:
            raise ConnectionError("no route to it")
        return taken(store, embedder)

    memory = program(index=in_vector_store(make))
    learn(memory, "mind all costs")
    assert "did not answer (ConnectionError): see the log" in memory.learnings.search("costs", namespace="n").note
    there.append(True)
    assert found(memory) == [1]


def test_one_that_hangs_is_waited_for_once_and_a_late_answer_does_no_harm(program, store, monkeypatch):
    memory = program()
    learn(memory, "mind all costs")
    assert found(memory) == [1]
    monkeypatch.setattr("learngate.stores.asking.PAUSE_SECONDS", 60.0)
    monkeypatch.setattr("learngate.stores.asking.CALL_SECONDS", 0.05)
    release, done = threading.Event(), threading.Event()
    put = store.add_documents

    def late(documents, ids=None, **more):
        release.wait()
        try:
            return put(documents, ids, **more)
        finally:
            done.set()

    monkeypatch.setattr(store, "add_documents", late)
    learn(memory, "costs of bonds")
    for said in ("did not answer (TimeoutError): see the log", "asked again in"):
        assert said in memory.learnings.search("costs", namespace="n").note
    release.set()
    assert done.wait(30)
    # The vectors that it asked for too late were not made of ids.
    assert outside(store) == {"marker": 1, "learning": 1}
    monkeypatch.setattr("learngate.stores.asking.CALL_SECONDS", 10.0)
    memory._index._outsider._paused_until = 0.0
    assert found(memory) == [1, 2]


def test_while_a_call_hangs_no_other_is_made(program, store, monkeypatch):
    memory = program()
    learn(memory, "mind all costs")
    assert found(memory) == [1]
    monkeypatch.setattr("learngate.stores.asking.CALL_SECONDS", 0.05)
    release, at_once = threading.Event(), []
    search = store.similarity_search_by_vector
    busy: set[threading.Thread] = set()

    def hanging(embedding, k=4, **more):
        busy.add(threading.current_thread())
        at_once.append(len(busy))
        release.wait()
        try:
            return search(embedding, k, **more)
        finally:
            busy.discard(threading.current_thread())

    monkeypatch.setattr(store, "similarity_search_by_vector", hanging)
    for _ in range(4):
        assert "did not answer (TimeoutError)" in memory.learnings.search("costs", namespace="n").note
    assert at_once == [1]
    assert [thread.name for thread in busy] == ["learngate-outsider"]
    # One that hangs for good does not keep the store from being asked for good.
    with monkeypatch.context() as patch:
        patch.setattr("learngate.stores.asking.HUNG_SECONDS", 0.0)
        memory.learnings.search("costs", namespace="n")
    assert at_once == [1, 2]
    release.set()
    monkeypatch.setattr("learngate.stores.asking.CALL_SECONDS", 60.0)
    assert found(memory) == [1]


def test_a_store_that_was_wiped_is_filled_again(program, store):
    memory = program()
    learn(memory, "mind all costs", "costs of bonds")
    assert found(memory) == [1, 2]
    store.store.clear()
    # Another program notices when it opens; this one then does, too.
    assert found(program()) == [1, 2]
    learn(memory, "tea", namespace="other")
    assert found(memory) == [1, 2]
    assert outside(store) == {"marker": 1, "learning": 2}


def test_what_was_lost_alone_is_brought_by_embed(program, store):
    memory = program()
    learn(memory, "mind all costs", "costs of bonds")
    list(memory.embed())
    held = set(store.store)
    gone = next(key for key, one in store.store.items() if one["metadata"]["scope"] != "marker:")
    del store.store[gone]
    assert list(memory.embed())[-1] == (2, 2)
    assert outside(store) == {"marker": 1, "learning": 2}
    assert len(held & set(store.store)) == 2


def test_a_wrong_filter_and_strangers_in_the_store_show_nobody_elses_rows(program, store):
    memory = program(index=in_vector_store(lambda embedder: taken(store, embedder), scope_filter=lambda scopes: {}))
    for number in range(30):
        learn(memory, f"mind cost {number}", namespace="theirs")
    learn(memory, "costs of tea")
    memory.users.remember("ben", "costs")
    list(memory.embed())
    stranger = Document(page_content="costs", id="a", metadata={"scope": "learning:" + token("n")})
    spoofed = Document(page_content="learngate:nothing", id="b", metadata={"scope": "learning:" + token("n")})
    store.embedding = Hashed()
    store.add_documents([stranger, spoofed], ids=["a", "b"])
    assert found(memory) == [31]
    query = unit("costs")
    near = memory._index.search("learning", [token("n")], query, 5)
    assert near == close_to(brute(memory, "n", query))
    assert memory._index.search("memory", [token("n")], query, 5) == {}


def test_a_store_whose_filter_is_not_known_is_refused_until_it_is_told(program, store):
    class Other(VectorStore):
        def add_documents(self, documents, **more):
            return store.add_documents(documents, **more)

        def delete(self, ids=None, **more):
            store.delete(ids)

        def similarity_search(self, query, k=4, **more):
            raise NotImplementedError

        def similarity_search_by_vector(self, embedding, k=4, *, only=None, **more):
            return store.similarity_search_by_vector(embedding, k, filter=lambda one: one.metadata["scope"] in only)

        @classmethod
        def from_texts(cls, texts, embedding, metadatas=None, **more):
            raise NotImplementedError

    def make(embedder):
        taken(store, embedder)
        return Other()

    memory = program(index=in_vector_store(make))
    learn(memory, "mind all costs")
    with pytest.raises(ConfigurationError, match="how Other filters is not known: give in_vector_store"):
        memory.learnings.search("costs", namespace="n")
    told = program(index=in_vector_store(make, scope_filter=lambda scopes: {"only": scopes}))
    assert found(told) == [1]
    assert list(told.embed())[-1] == (1, 1)


def test_erasing_reaches_the_store_and_the_receipt_counts_it(program, store):
    memory = program()
    learn(memory, "mind all costs")
    for number in range(3):
        memory.users.remember("ana", f"likes tea {number}")
    memory.users.remember("ben", "likes rice")
    memory.sessions.append(turn("s", "where is the tea?", user_id="ana"))
    list(memory.embed())
    assert outside(store) == {"marker": 1, "learning": 1, "memory": 4, "turn": 1}
    receipt = memory.erase("ana")
    assert receipt.erased["documents in a vector store"] == 4
    assert not any("vector store" in one for one in receipt.unreached)
    assert outside(store) == {"marker": 1, "learning": 1, "memory": 1}
    assert rows(memory, "mirrored", f"scope = '{scope_token('user', 'ana')}'") == 0
    assert "documents in a vector store" not in memory.erase("ana").erased


@pytest.mark.parametrize("how", ["down", "not named"])
def test_what_erasing_could_not_reach_is_said_and_reached_by_erasing_again(program, store, how):
    memory = program()
    memory.users.remember("ana", "likes tea")
    list(memory.embed())
    store.broken = {"drop"} if how == "down" else set()
    receipt = (memory if how == "down" else program(index=None)).erase("ana")
    assert receipt.erased["documents in a vector store"] == 0
    why = "did not answer" if how == "down" else "it is not what open_memory(embedder=…, index=…) names here"
    [said] = [one for one in receipt.unreached if "vector store" in one]
    assert said.startswith("1 documents in a vector store")
    assert why in said
    assert outside(store)["memory"] == 1
    store.broken = set()
    assert memory.erase("ana").erased["documents in a vector store"] == 1
    assert outside(store) == {"marker": 1}


def test_what_is_forgotten_deleted_or_retired_leaves_with_the_next_search_of_anybody(program, store):
    memory = program()
    learn(memory, "mind all costs")
    memory.users.remember("ana", "likes tea")
    memory.sessions.append(turn("s", "where is the tea?", user_id="ana"))
    list(memory.embed())
    other = program(index=None)
    other.users.forget("ana", 1)
    other.sessions.delete("s", user_id="ana")
    other.learnings.retire(1, actor="ana")
    found(program(), namespace="elsewhere")
    assert outside(store) == {"marker": 1}
    assert rows(memory, "mirrored") == 1


def test_a_row_that_is_erased_while_it_is_on_its_way_does_not_stay_outside(program, store, monkeypatch):
    memory, other = program(), program()
    found(other)
    memory.users.remember("ana", "likes tea")
    put = store.add_documents
    receipts: list[Receipt] = []

    def erased_meanwhile(documents, ids=None, **more):
        if documents[0].metadata["scope"].startswith("memory"):
            monkeypatch.setattr(store, "add_documents", put)
            receipts.append(other.erase("ana"))
        return put(documents, ids, **more)

    monkeypatch.setattr(store, "add_documents", erased_meanwhile)
    list(memory.embed())
    assert outside(store) == {"marker": 1}
    [told] = [one for one in receipts[0].unreached if "vector store" in one]
    assert told.startswith("1 documents in a vector store")
    assert "may have been putting them there just then; erase once more in 10 minutes" in told
    assert receipts[0].erased["documents in a vector store"] == 0
    with memory.database.write() as connection:
        connection.execute(text("UPDATE mirrored SET since = '2000-01-01T00:00:00.000000+00:00'"))
    again = other.erase("ana")
    assert again.erased["documents in a vector store"] == 1
    assert not any("vector store" in one for one in again.unreached)


def test_what_is_put_there_while_a_user_is_erased_is_dropped_and_counted(program, store):
    memory = program()
    memory.users.remember("ana", "likes tea")
    memory.sessions.append(turn("s", "where is the tea?", user_id="ana"))

    class Meanwhile:
        asked = 0

        def delete_thread(self, thread_id: str) -> None:
            self.asked += 1
            if self.asked == 1:
                list(memory.embed())

    receipt = memory.erase("ana", savers=[Meanwhile()])
    assert outside(store) == {"marker": 1}
    assert receipt.erased["documents in a vector store"] == 2
    assert not any("vector store" in one for one in receipt.unreached)


def test_erasing_asks_nothing_of_a_store_that_has_nothing_of_the_user(program, store):
    down = Hashed()
    memory = program(embedder=down)
    memory.users.remember("ana", "likes tea")
    down.embed_documents = None
    store.broken = {"look", "put", "drop"}
    receipt = memory.erase("ana")
    assert "documents in a vector store" not in receipt.erased
    assert store.calls == {}


def test_a_row_that_comes_back_while_it_is_dropped_is_there_again(program, store, monkeypatch):
    slow, quick = program(), program()
    learn(slow, "mind all costs", "costs of bonds")
    assert found(slow) == found(quick) == [1, 2]
    drop = store.delete

    def too_late(ids=None, **more):
        monkeypatch.setattr(store, "delete", drop)
        slow.learnings.restore(1, actor="ana")
        assert found(quick) == [1, 2]
        drop(ids, **more)

    monkeypatch.setattr(store, "delete", too_late)
    slow.learnings.retire(1, actor="ana")
    found(slow)
    assert found(slow) == found(quick) == [1, 2]
    assert outside(store) == {"marker": 1, "learning": 2}


def test_a_row_that_comes_back_before_it_is_dropped_stays(program, store, monkeypatch):
    slow, quick, without = program(), program(), program(index=None)
    learn(slow, "mind all costs", "costs of bonds")
    assert found(slow) == found(quick) == [1, 2]
    write = slow.database.write

    def too_late():
        monkeypatch.setattr(slow.database, "write", write)
        without.learnings.restore(1, actor="ana")
        # This one has the vector made again, of the same text; the next finds that nothing is missing.
        assert found(without) == found(quick) == [1, 2]
        store.broken = {"put"}
        return write()

    without.learnings.retire(1, actor="ana")
    monkeypatch.setattr(slow.database, "write", too_late)
    found(slow)
    assert found(quick) == found(slow) == [1, 2]
    assert outside(store) == {"marker": 1, "learning": 2}


def test_more_than_one_search_can_bring_is_brought_by_the_next(program, store, monkeypatch):
    monkeypatch.setattr("learngate.stores.vector_store.PAGE", 2)
    monkeypatch.setattr("learngate.stores.vector_store.PATIENCE", -1.0)
    memory = program()
    learn(memory, *(f"mind cost {number}" for number in range(5)))
    for left in (3, 1):
        note = memory.learnings.search("cost", namespace="n").note
        assert f"{left} rows are not in the vector store yet" in note
    assert found(memory, "cost") == [1, 2, 3, 4, 5]


def test_a_search_drops_no_more_of_what_others_left_than_it_can_wait_for(program, store, monkeypatch):
    monkeypatch.setattr("learngate.stores.vector_store.PAGE", 2)
    memory = program()
    learn(memory, "mind all costs", namespace="other")
    for number in range(5):
        memory.users.remember("ana", f"likes tea {number}")
    list(memory.embed())
    found(memory, namespace="other")
    memory.users.erase("ana")
    left = []
    for _ in range(4):
        found(memory, namespace="other")
        left.append(outside(store)["memory"])
    assert left == [3, 1, 0, 0]


DYING = """
    import os, signal
    from learngate.stores import open_memory
    from learngate.stores.vector_store import in_vector_store
    from tests.stores.support import Hashed
    from tests.stores.vector_stores import chroma_at

    url, port, where, call = sys.argv[1:]

    def dying(embedder):
        store = make(embedder)
        inner = getattr(store, call)

        def outer(*given, **more):
            if where == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            inner(*given, **more)
            os.kill(os.getpid(), signal.SIGKILL)

        if where:
            setattr(store, call, outer)
        return store

    opening = open_memory(url, embedder=Hashed(), index=in_vector_store(dying))
    with chroma_at(int(port)) as make, opening as memory:
        ready()
        list(memory.embed())
        print("done")
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with chroma_server(tmp_path_factory.mktemp("server") / "data") as (port, _):
        yield port


class OnServer:
    """A memory whose vectors are in a Chroma server, and what that holds."""

    def __init__(self, url: str, make: Make) -> None:
        self.made: list = []

        def kept(embedder: StoredVectors):
            self.made.append(make(embedder))
            return self.made[-1]

        self.memory = open_memory(url, embedder=EMBEDDER, index=in_vector_store(kept))

    def ids(self) -> set[str]:
        return set(self.made[-1].get()["ids"])

    def written_down(self, where: str = "true") -> set[str]:
        with self.memory.database.read() as connection:
            return set(connection.scalars(text(f"SELECT id FROM mirrored WHERE {where}")))

    def check(self, count: int) -> None:
        """Check that what is outside is what is written down, and is found."""
        assert self.ids() == self.written_down("state = 'there'") == self.written_down()
        assert len(self.ids()) == count + 1
        for word in ("rule 3", "costs"):
            query = unit(word)
            near = self.memory._index.search("learning", [token("n")], query, 100)
            assert near == close_to(brute(self.memory, "n", query))


@pytest.fixture
def served(tmp_path, server):
    url = f"sqlite:///{tmp_path}/learngate.db"
    with chroma_at(server) as make:
        made = OnServer(url, make)
        with made.memory:
            yield made, url, str(server)


@pytest.mark.parametrize("where", ["before", "after"])
def test_a_program_that_is_killed_while_it_puts_leaves_nothing_that_is_not_known(served, where):
    outside, url, port = served
    learn(outside.memory, *(f"rule {number}" for number in range(5)))
    outside.memory.users.remember("ana", "likes tea")
    list(outside.memory.embed())
    learn(outside.memory, *(f"more rule {number}" for number in range(5)))
    outside.memory.users.remember("ana", "likes rice")
    with processes(DYING, [url, port, where, "add_documents"]) as started:
        assert go(started) == [[]]
        assert started[0].returncode == -signal.SIGKILL
    assert outside.ids() <= outside.written_down()
    assert len(outside.ids()) == (7 if where == "before" else 12)
    outside.memory.learnings.retire(6, actor="ana")
    list(outside.memory.embed())
    assert outside.memory.erase("ana").erased["documents in a vector store"] == 2
    assert len(outside.ids()) == 10
    # The one that was on its way is dropped again for a while, and then forgotten.
    assert outside.written_down("state <> 'there'") == outside.written_down("state = 'unsure'")
    with outside.memory.database.write() as connection:
        connection.execute(text("UPDATE mirrored SET since = '2000-01-01T00:00:00.000000+00:00'"))
    list(outside.memory.embed())
    outside.check(9)


def test_a_program_that_is_killed_while_it_drops_is_gone_on_with(served):
    outside, url, port = served
    learn(outside.memory, *(f"rule {number}" for number in range(5)))
    list(outside.memory.embed())
    with open_memory(url, embedder=EMBEDDER) as other:
        other.learnings.retire(2, actor="ana")
        other.learnings.edit(3, insight="costs", actor="ana")
    with processes(DYING, [url, port, "after", "delete"]) as started:
        assert go(started) == [[]]
        assert started[0].returncode == -signal.SIGKILL
    assert outside.ids() <= outside.written_down()
    list(outside.memory.embed())
    outside.check(4)


def test_programs_that_fill_a_store_at_once_put_each_row_once(served):
    outside, url, port = served
    learn(outside.memory, *(f"rule {number}" for number in range(60)))
    with processes(DYING, *[[url, port, "", "delete"]] * 2) as started:
        assert go(started) == [["done"]] * 2
    list(outside.memory.embed())
    outside.check(60)


def test_a_server_that_goes_and_comes_back(tmp_path, monkeypatch):
    monkeypatch.setattr("learngate.stores.asking.WAIT_SECONDS", 0.0)
    monkeypatch.setattr("learngate.stores.asking.PAUSE_SECONDS", 0.0)
    url = f"sqlite:///{tmp_path}/learngate.db"
    with ExitStack() as open_:
        with chroma_server(tmp_path / "data") as (port, _):
            outside = OnServer(url, open_.enter_context(chroma_at(port)))
            memory = open_.enter_context(outside.memory)
            learn(memory, "mind all costs")
            assert found(memory) == [1]
        learn(memory, "costs of bonds")
        hits = memory.learnings.search("costs", namespace="n")
        assert "searched by words alone: the vector store did not answer" in hits.note
        with chroma_server(tmp_path / "data", port):
            assert found(memory) == [1, 2]
            outside.check(2)
