import sqlite3

from sqlalchemy import event

from learngate.stores import MemoryOperation, open_memory
from tests.databases import needs_postgres
from tests.stores.conformance.backends import InFile, InMemory, OnPostgres, bound
from tests.stores.conformance.remembering import Remembering
from tests.stores.conformance.users import SharedUsersConformance, UsersConformance, fill
from tests.stores.support import Hashed, rows


class TestInMemory(InMemory, UsersConformance):
    pass


class TestInFile(InFile, UsersConformance, SharedUsersConformance):
    pass


@needs_postgres
class TestOnPostgres(OnPostgres, UsersConformance, SharedUsersConformance):
    pass


TestRememberingInMemory = bound(Remembering, "memory", share=0.4, steps=30)
TestRememberingInFile = bound(Remembering, "sqlite", share=0.06, steps=30)
TestRememberingOnPostgres = needs_postgres(bound(Remembering, "postgres", share=0.06, steps=30))


def test_a_user_who_is_erased_while_being_embedded_leaves_no_vector():
    class Interrupted(Hashed):
        def embed_documents(self, texts):
            memory.users.erase("ana")
            return super().embed_documents(texts)

    with open_memory("sqlite://", embedder=Interrupted()) as memory:
        fill(memory, 20)
        assert memory.users.recall("ana", "ordered item", budget=50) == []
        assert rows(memory, "embeddings") == 0
        assert memory.users.recall("ana", "ordered item", budget=50) == []


def test_without_an_embedder_and_a_shared_word_the_latest_are_recalled(monkeypatch):
    monkeypatch.setattr("learngate.stores.asking.WAIT_SECONDS", 0.0)

    class Down(Hashed):
        def embed_documents(self, texts):
            raise ConnectionError("down")

    with open_memory("sqlite://", embedder=Down()) as memory:
        fill(memory, 40)
        memory.users.remember("ana", "Pinned.", pinned=True)
        hits = memory.users.recall("ana", "Where was that again?", budget=60)
        assert hits.note
        assert [hit.text[:8] for hit in hits if hit.shown] == ["Pinned.", "Note 39:", "Note 38:", "Note 37:"]


def test_a_recall_looks_at_no_more_where_there_is_ten_times_as_much(tmp_path):
    """Counted in steps of SQLite's own machine: they are the same however busy this one is."""
    steps = 0

    def counted():
        nonlocal steps
        steps += 1

    with open_memory(f"sqlite:///{tmp_path / 'm.db'}", embedder=Hashed()) as memory:
        for user, count in (("few", 80), ("many", 800)):
            told = [MemoryOperation("add", text=f"Item {number} is ordered") for number in range(count)]
            memory.users.apply(user, told, source=(user, "t"))
            memory.users.recall(user, "items ordered")

        @event.listens_for(memory.database._engine, "checkout")
        def watch(connection: sqlite3.Connection, *_):
            connection.set_progress_handler(counted, 20)

        taken = {}
        for user in ("few", "many"):
            steps = 0
            assert memory.users.recall(user, "Is 17 there?", budget=50, namespace="n")
            taken[user] = steps
    assert 0 < taken["many"] < 1.5 * taken["few"]


def notes(*lengths):
    """Return texts of these lengths, the first the oldest."""
    return [
        MemoryOperation("add", text=f"{number:03} ".ljust(length, "x")) for number, length in enumerate(lengths)
    ]


def test_memories_that_fit_but_are_not_all_are_no_reason_to_stop():
    with open_memory("sqlite://", embedder=Hashed()) as memory:
        # So many of this length fill the room of 600 tokens, and are as many as are looked at first.
        memory.users.apply("ana", notes(*[46] * 34, *[46] * 6), source=("s", "t"))
        hits = memory.users.recall("ana", "what is 003?")
        assert "003" in hits[0].text
        assert len(hits) > sum(hit.shown for hit in hits)


def test_where_the_latest_are_too_long_shorter_ones_behind_them_have_the_room():
    with open_memory("sqlite://", embedder=Hashed()) as memory:
        memory.users.apply("ana", notes(*[160] * 60, *[700] * 40), source=("s", "t"))
        shown = [hit for hit in memory.users.recall("ana", "") if hit.shown]
        assert [len(hit.text) for hit in shown] == [700] * 3 + [160]
        for number in range(38):
            memory.users.update("ana", 61 + number, pinned=True)
        memory.users.update("ana", 1, pinned=True)
        assert memory.users.recall("ana", "anything")[3].memory.id == 1
