import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from learngate.stores import Memory, open_memory, vectors
from learngate.stores.embeddings import Vectors
from learngate.stores.lexical import scope_token
from learngate.stores.vectors import FaissIndex
from tests.stores.support import Hashed, draft, together

SPACES = ("a", "b", "c")
EMBEDDER = Hashed()
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["add", "add", "edit", "retire", "restore", "search"]),
        st.sampled_from(SPACES),
        st.integers(0, 20),
        st.text("abcde ", min_size=3, max_size=12).filter(str.strip),
    ),
    max_size=25,
)


def index_of(memory: Memory) -> FaissIndex:
    return FaissIndex(memory.database, Vectors(memory.database, EMBEDDER))


def token(space: str) -> str:
    return scope_token("namespace", space)


def unit(text: str) -> np.ndarray:
    vector = np.asarray(EMBEDDER.embed_query(text), dtype=np.float32)
    length = np.linalg.norm(vector)
    return vector / length if length else vector


def brute(memory: Memory, space: str, query: np.ndarray) -> dict[int, float]:
    """Return the cosine of every active learning, computed one by one."""
    return {
        one.id: float(unit(f"{one.title}\n{one.insight}") @ query) for one in memory.learnings.list(namespace=space)
    }


def take(memory: Memory, step: str, space: str, number: int, words: str) -> None:
    listed = memory.learnings.list(namespace=space, status=None)
    one = listed[number % len(listed)] if listed else None
    title = f"t{memory.learnings.count(namespace=space)} {number}"
    if step == "add":
        memory.learnings.add(
            draft(f"{words} {memory.database.name} {len(listed)}", title), namespace=space, actor="a"
        )
    elif one and step == "edit" and one.status == "active":
        memory.learnings.edit(one.id, title=title, actor="a")
    elif one and step == "retire" and one.status == "active":
        memory.learnings.retire(one.id, actor="a")
    elif one and step == "restore" and one.status == "retired":
        memory.learnings.restore(one.id, actor="a")


@given(STEPS, st.integers(1, 6))
def test_after_any_changes_the_index_finds_what_counting_finds(steps, k):
    with open_memory("sqlite://", embedder=EMBEDDER) as memory:
        index = index_of(memory)
        for step, space, number, words in steps:
            take(memory, step, space, number, words)
            query = unit(words)
            expected = brute(memory, space, query)
            found = index.search("learning", [token(space)], query, k)
            assert len(found) == min(k, len(expected))
            assert found == pytest.approx({i: expected[i] for i in found}, abs=1e-5)
            best = sorted(expected.values(), reverse=True)[:k]
            assert sorted(found.values(), reverse=True) == pytest.approx(best, abs=1e-5)
        query = unit("abc")
        everything = {i: s for space in SPACES for i, s in brute(memory, space, query).items()}
        scopes = [token(space) for space in SPACES]
        assert index.search("learning", scopes, query, 100) == pytest.approx(everything, abs=1e-5)
        assert index.cosines("learning", scopes, query, [*everything, 998]) == pytest.approx(everything, abs=1e-5)


def fill(memory: Memory, count: int = 6) -> None:
    for number in range(count):
        for space in SPACES:
            memory.learnings.add(draft(f"{space} rule {number}"), namespace=space, actor="a")


def test_scopes_and_kinds_are_apart():
    with open_memory("sqlite://", embedder=EMBEDDER) as memory:
        fill(memory)
        memory.users.remember("a", "a rule")
        index, query = index_of(memory), unit("rule")
        assert index.search("learning", [token("a")], query, 100).keys() == brute(memory, "a", query).keys()
        assert index.search("learning", [token("nobody's")], query, 100) == {}
        assert index.search("learning", [], query, 100) == {}
        assert index.search("memory", [scope_token("user", "a")], query, 100).keys() == {1}
        assert index.search("memory", [token("a")], query, 100) == {}
        assert index.cosines("learning", [token("a")], query, []) == {}
        others = brute(memory, "b", query)
        assert index.cosines("learning", [token("a")], query, others) == {}


def test_scopes_that_leave_memory_come_back_whole(monkeypatch):
    monkeypatch.setattr(vectors, "MAX_SCOPES", 2)
    with open_memory("sqlite://", embedder=EMBEDDER) as memory:
        fill(memory, 2)
        index, query = index_of(memory), unit("rule")
        for round_ in range(3):
            for space in SPACES:
                memory.learnings.add(draft(f"{space} more {round_}"), namespace=space, actor="a")
                assert index.search("learning", [token(space)], query, 100) == pytest.approx(
                    brute(memory, space, query), abs=1e-5
                )
        scopes = [token(space) for space in SPACES]
        everything = {i: s for space in SPACES for i, s in brute(memory, space, query).items()}
        assert index.search("learning", scopes, query, 100) == pytest.approx(everything, abs=1e-5)


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
            index.search("learning", [token("a")], query, 100)
            reads.append(counted.reads)
        assert reads == [1, 1, 2, 2, 2, 2]


def test_two_indexes_on_one_database_see_each_others_changes(url):
    with open_memory(url, embedder=EMBEDDER) as one, open_memory(url, embedder=EMBEDDER) as other:
        indexes, query = [index_of(one), index_of(other)], unit("rule 3")
        for number in range(12):
            writer = (one, other)[number % 2]
            writer.learnings.add(draft(f"a rule {number}"), namespace="a", actor="a")
            if number % 3 == 2:
                writer.learnings.retire(number, actor="a")
            expected = brute(one, "a", query)
            for index in indexes:
                assert index.search("learning", [token("a")], query, 100) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("where", ["sqlite://", "sqlite:///{}/it.db"])
def test_threads_search_while_others_learn_and_retire(tmp_path, where):
    with open_memory(where.format(tmp_path), embedder=EMBEDDER) as memory:
        fill(memory, 3)
        index, query = index_of(memory), unit("rule 1")

        def search() -> None:
            for number in range(25):
                space = SPACES[number % 3]
                found = index.search("learning", [token(space)], query, 100)
                assert all(-1.001 <= score <= 1.001 for score in found.values())

        def learn(space: str) -> None:
            for number in range(8):
                made = memory.learnings.add(draft(f"{space} new rule {number}"), namespace=space, actor="a")
                if number % 2:
                    memory.learnings.retire(made.id, actor="a")

        calls = [search] * 5 + [lambda s=s: learn(s) for s in SPACES]
        assert together(*calls) == [None] * 8
        for space in SPACES:
            expected = brute(memory, space, query)
            assert len(expected) == 7
            assert index.search("learning", [token(space)], query, 100) == pytest.approx(expected, abs=1e-5)
