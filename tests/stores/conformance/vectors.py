import logging
import threading
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import rule

from learngate.stores import Memory, StoreUnavailable, open_memory
from learngate.stores.embeddings import Vectors
from learngate.stores.lexical import scope_token
from learngate.stores.memory import index_on
from learngate.stores.protocols import VectorIndex
from tests.stores.conformance.backends import Machine
from tests.stores.support import Hashed, draft, together

CLOSE = 1e-3
"""Vectors may be held in half precision: a cosine is right to its third digit."""
SPACES = ("a", "b", "c")
EMBEDDER = Hashed()
SPACE, WORDS = st.sampled_from(SPACES), st.text("abcde ", min_size=3, max_size=12).filter(str.strip)


def index_of(memory: Memory, embedder: Hashed = EMBEDDER) -> VectorIndex:
    """Return one more index, as another process has it."""
    return index_on(memory.database, Vectors(memory.database, embedder))


def token(space: str) -> str:
    return scope_token("namespace", space)


def unit(text: str, embedder: Hashed = EMBEDDER) -> np.ndarray:
    vector = np.asarray(embedder.embed_query(text), dtype=np.float32)
    length = np.linalg.norm(vector)
    return vector / length if length else vector


def brute(memory: Memory, space: str, query: np.ndarray, embedder: Hashed = EMBEDDER) -> dict[int, float]:
    """Return the cosine of every active learning of a namespace, computed one by one."""
    active = [one for one in memory.learnings.list(namespace=space, limit=100_000) if one.namespace == space]
    return {one.id: float(unit(f"{one.title}\n{one.insight}", embedder) @ query) for one in active}


def fill(memory: Memory, count: int = 6) -> None:
    for number in range(count):
        for space in SPACES:
            memory.learnings.add(draft(f"{space} rule {number}"), namespace=space, actor="a")


def close_to(expected: dict[int, float]) -> object:
    return pytest.approx(expected, abs=CLOSE)


class Indexed(Machine):
    """Every change of a learning, through two programs; both their indexes find what counting finds."""

    def __init__(self) -> None:
        super().__init__()
        self.programs = [self.memory, self.program()]
        self.indexes = [self.index_of(program) for program in self.programs]
        self.number = 0

    def index_of(self, memory: Memory) -> VectorIndex:
        return index_of(memory)

    @property
    def store(self):
        self.number += 1
        return self.programs[self.number % 2].learnings

    @rule(space=SPACE, words=WORDS)
    def add(self, space, words):
        self.store.add(draft(f"{words} {self.number}", f"t{self.number}"), namespace=space, actor="a")

    @rule(space=SPACE, choice=st.integers(0, 20), how=st.sampled_from(["edit", "retire", "restore"]))
    def change(self, space, choice, how):
        status = "retired" if how == "restore" else "active"
        listed = self.store.list(namespace=space, status=status)
        if not listed:
            return
        one = listed[choice % len(listed)]
        more = {"title": f"new {self.number}"} if how == "edit" else {}
        getattr(self.store, how)(one.id, **more, actor="a")

    @rule(space=SPACE, words=WORDS, k=st.integers(1, 6))
    def search(self, space, words, k):
        query = unit(words)
        expected = brute(self.memory, space, query)
        best = sorted(expected.values(), reverse=True)[:k]
        for index in self.indexes:
            found = index.search("learning", [token(space)], query, k)
            assert found == close_to({row: expected[row] for row in found})
            assert sorted(found.values(), reverse=True) == pytest.approx(best, abs=CLOSE)

    @rule(words=WORDS)
    def search_everywhere(self, words):
        query, scopes = unit(words), [token(space) for space in SPACES]
        everything = {row: score for space in SPACES for row, score in brute(self.memory, space, query).items()}
        for index in self.indexes:
            assert index.search("learning", scopes, query, 100) == close_to(everything)
            assert index.search("learning", scopes, query, 0, also=[*everything, 99_999]) == close_to(everything)


class Faulty(Hashed):
    """Is down, refuses texts that hold a word, or is at them for long, as it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.down = False
        self.refuses = self.waits_at = "nothing"
        self.calls = 0
        self.waiting, self.go_on = threading.Event(), threading.Event()

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        self.calls += 1
        if self.down:
            raise ConnectionError("the provider is down")
        if any(self.refuses in text for text in texts):
            raise ValueError(f"too long: {texts}")
        if any(self.waits_at in text for text in texts):
            self.waiting.set()
            assert self.go_on.wait(60)
        return super().embed_documents(texts)

    @contextmanager
    def busy(self, at: str, call):
        """Let a thread make a call that has the embedder at work on a text that holds a word."""
        self.waits_at = at
        thread = threading.Thread(target=call)
        thread.start()
        assert self.waiting.wait(60)
        try:
            yield
        finally:
            self.waits_at = "nothing"
            self.go_on.set()
            thread.join()


class VectorIndexConformance:
    """What holds of dense search, on every database and in every vector store."""

    def index_of(self, memory: Memory, embedder: Hashed = EMBEDDER) -> VectorIndex:
        return index_of(memory, embedder)

    @pytest.fixture
    def index(self, memory: Memory) -> VectorIndex:
        return self.index_of(memory)

    def test_scopes_and_kinds_are_apart(self, memory, index):
        fill(memory)
        memory.users.remember("a", "a rule")
        query = unit("rule")
        assert index.search("learning", [token("a")], query, 100).keys() == brute(memory, "a", query).keys()
        assert index.search("learning", [token("nobody's")], query, 100) == {}
        assert index.search("learning", [], query, 100) == {}
        assert index.search("memory", [scope_token("user", "a")], query, 100).keys() == {1}
        assert index.search("memory", [token("a")], query, 100) == {}
        assert index.search("learning", [token("a")], query, 0, also=[]) == {}
        assert index.search("learning", [], query, 0, also=[1]) == {}
        others = brute(memory, "b", query)
        assert index.search("learning", [token("a")], query, 0, also=others) == {}

    def test_what_is_retired_erased_or_forgotten_is_found_no_more_and_what_is_restored_is(self, memory, index):
        fill(memory, 1)
        memory.users.remember("ana", "a rule of tea")
        query, mine = unit("rule"), [scope_token("user", "ana")]
        assert index.search("learning", [token("a")], query, 9).keys() == {1}
        assert index.search("memory", mine, query, 9).keys() == {1}
        memory.learnings.retire(1, actor="a")
        assert index.search("learning", [token("a")], query, 9) == {}
        assert index.search("learning", [token("a")], query, 0, also=[1]) == {}
        memory.learnings.restore(1, actor="a")
        assert index.search("learning", [token("a")], query, 9).keys() == {1}
        memory.users.erase("ana")
        assert index.search("memory", mine, query, 9) == {}
        memory.users.remember("ana", "a rule of rice")
        memory.users.forget("ana", 2)
        assert index.search("memory", mine, query, 9) == {}

    def test_an_embedder_that_fails_in_the_middle_loses_no_row(self, memory, monkeypatch):
        monkeypatch.setattr("learngate.stores.asking.PAUSE_SECONDS", 0)
        monkeypatch.setattr("learngate.stores.asking.WAIT_SECONDS", 0)
        embedder = Faulty()
        index, query = self.index_of(memory, embedder), unit("rule")
        fill(memory, 3)
        for space in "ac":
            assert len(index.search("learning", [token(space)], query, 9)) == 3
        for space in "ab":
            memory.learnings.add(draft(f"{space} rule more"), namespace=space, actor="a")
        embedder.down = True
        for scopes in (SPACES, ["a"], ["b"]):
            with pytest.raises(StoreUnavailable, match="did not answer"):
                index.search("learning", [token(one) for one in scopes], query, 100)
        # Nothing is missing here.
        assert index.search("learning", [token("c")], query, 9) == close_to(brute(memory, "c", query))
        embedder.down = False
        for space in SPACES:
            assert index.search("learning", [token(space)], query, 9) == close_to(brute(memory, space, query))

    @pytest.mark.parametrize("count", [1, 7])
    def test_a_text_that_is_refused_is_left_out_alone_and_costs_no_other_scope(
        self, memory, monkeypatch, caplog, count
    ):
        monkeypatch.setattr("learngate.stores.asking.WAIT_SECONDS", 0)
        embedder = Faulty()
        index, query = self.index_of(memory, embedder), unit("rule")
        for space in "ab":
            index.search("learning", [token(space)], query, 9)
        for number in range(count):
            word = "forbidden" if number == count // 2 else "new"
            memory.learnings.add(draft(f"b {word} rule {number}"), namespace="b", actor="a")
        memory.learnings.add(draft("a rule"), namespace="a", actor="a")
        refused = count // 2 + 1
        embedder.refuses = "forbidden"
        assert index.search("learning", [token("a")], query, 9) == close_to(brute(memory, "a", query))
        assert embedder.calls == 1
        rest = brute(memory, "b", query)
        del rest[refused]
        with caplog.at_level(logging.WARNING):
            assert index.search("learning", [token("b")], query, 9) == close_to(rest)
        [said] = [one.getMessage() for one in caplog.records]
        assert said == (f"the embedder Faulty refused it (ValueError): learning {refused} is found by words alone")
        calls = embedder.calls
        for _ in range(2):
            assert index.search("learning", [token("b")], query, 9) == close_to(rest)
        assert embedder.calls == calls
        memory.learnings.edit(refused, insight="b rule again", actor="a")
        assert index.search("learning", [token("b")], query, 9) == close_to(brute(memory, "b", query))

    def test_a_text_that_was_refused_is_tried_again_after_a_while(self, memory, monkeypatch):
        monkeypatch.setattr("learngate.stores.asking.WAIT_SECONDS", 0)
        embedder = Faulty()
        index, query = self.index_of(memory, embedder), unit("rule")
        fill(memory, 2)
        embedder.refuses = "a rule 1"
        assert index.search("learning", [token("a")], query, 9).keys() == {1}
        embedder.refuses = "nothing"
        assert index.search("learning", [token("a")], query, 9).keys() == {1}
        monkeypatch.setattr("learngate.stores.embeddings.REFUSED_SECONDS", 0.0)
        assert index.search("learning", [token("a")], query, 9) == close_to(brute(memory, "a", query))

    def test_while_one_scope_is_embedded_others_are_searched_and_what_changes_in_it_counts(
        self, memory, monkeypatch
    ):
        monkeypatch.setattr("learngate.stores.asking.CALL_SECONDS", 60.0)
        embedder = Faulty()
        index, query = self.index_of(memory, embedder), unit("rule")
        fill(memory, 4)
        index.search("learning", [token("c")], query, 9)
        memory.learnings.add(draft("c rule new"), namespace="c", actor="a")
        found = []

        def search() -> None:
            found.append(index.search("learning", [token("b")], query, 9))

        with embedder.busy("b rule", search):
            for space in "ac":
                assert index.search("learning", [token(space)], query, 9) == close_to(brute(memory, space, query))
            memory.learnings.retire(2, actor="a")
            memory.learnings.edit(5, insight="b changed", actor="a")
            assert found == []
        expected = brute(memory, "b", query)
        assert found[0].keys() <= expected.keys()
        assert index.search("learning", [token("b")], query, 9) == close_to(expected)

    def test_of_those_who_lack_the_same_at_once_one_has_it_made(self, memory):
        embedder = Faulty()
        index, query = self.index_of(memory, embedder), unit("rule")
        fill(memory, 4)
        expected = close_to(brute(memory, "a", query))
        calls = [lambda: index.search("learning", [token("a")], query, 9)] * 6
        assert together(*calls) == [expected] * 6
        assert len(embedder.asked) == 4

    def test_an_embedder_of_another_length_has_vectors_of_its_own(self, memory):
        fill(memory, 2)
        for length in (16, 24, 16):
            embedder = Hashed(length)
            index, query = self.index_of(memory, embedder), unit("rule 1", embedder)
            expected = brute(memory, "a", query, embedder)
            assert index.search("learning", [token("a")], query, 9) == close_to(expected)
            assert index.search("learning", [token("a")], query, 0, also=expected) == close_to(expected)

    def test_two_embedders_of_one_name_and_two_lengths_take_turns(self, memory):
        fill(memory, 2)
        pairs = [(self.index_of(memory, one), one) for one in (Hashed(16), Hashed(24))]
        for number in range(4):
            memory.learnings.add(draft(f"a new rule {number}"), namespace="a", actor="a")
            for index, embedder in pairs:
                query = unit("rule 1", embedder)
                expected = brute(memory, "a", query, embedder)
                found = index.search("learning", [token("a")], query, 99)
                assert found == close_to({row: expected[row] for row in found})
                found = index.search("learning", [token("a")], query, 0, also=expected)
                assert found == close_to({row: expected[row] for row in found})

    def test_threads_search_while_others_learn_and_retire(self, memory, index):
        fill(memory, 3)
        query = unit("rule 1")

        def search() -> None:
            for number in range(25):
                found = index.search("learning", [token(SPACES[number % 3])], query, 100)
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
            assert index.search("learning", [token(space)], query, 100) == close_to(expected)


class SharedVectorIndexConformance:
    """What holds of dense search where several programs have an index each."""

    def index_of(self, memory: Memory, embedder: Hashed = EMBEDDER) -> VectorIndex:
        return index_of(memory, embedder)

    def test_two_indexes_on_one_database_see_each_others_changes(self, url):
        with open_memory(url, embedder=EMBEDDER) as one, open_memory(url, embedder=EMBEDDER) as other:
            indexes, query = [self.index_of(one), self.index_of(other)], unit("rule 3")
            for number in range(12):
                writer = (one, other)[number % 2]
                writer.learnings.add(draft(f"a rule {number}"), namespace="a", actor="a")
                if number % 3 == 2:
                    writer.learnings.retire(number, actor="a")
                expected = brute(one, "a", query)
                for index in indexes:
                    assert index.search("learning", [token("a")], query, 100) == close_to(expected)
