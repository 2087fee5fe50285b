import re

import numpy as np
import pytest
from sqlalchemy import select

from learngate.stores import Memory, open_memory
from learngate.stores.embedders import WordLlamaEmbeddings
from learngate.stores.embeddings import BATCH
from learngate.stores.tables import embeddings
from tests.stores.support import Hashed, draft


class Faulty(Hashed):
    """Fails, or answers with nonsense, when told to."""

    def __init__(self, dimensions: int = 16) -> None:
        super().__init__(dimensions)
        self.fail = False
        self.nonsense = False

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        if self.fail:
            raise ConnectionError("the provider is down")
        vectors = super().embed_documents(texts)
        return [[float("nan")] * self.length for _ in vectors] if self.nonsense else vectors


def stored(memory: Memory) -> list[tuple[int, str, int]]:
    with memory.database.read() as connection:
        rows = connection.execute(select(embeddings).order_by(embeddings.c.embedder, embeddings.c.row_id))
        return [(row.row_id, row.embedder, len(row.vector)) for row in rows]


def fill(memory: Memory, *insights: str) -> None:
    for insight in insights:
        memory.learnings.add(draft(insight, "rule"), namespace="n", actor="ana")


def find(memory: Memory, query: str) -> list[int]:
    return [hit.learning.id for hit in memory.learnings.search(query, namespace="n", floor=False)]


def test_each_text_is_embedded_once_and_again_only_when_it_changes(url):
    embedder = Hashed()
    with open_memory(url, embedder=embedder) as memory:
        fill(memory, "mind costs", "mind fees")
        assert embedder.asked == []
        find(memory, "costs")
        find(memory, "costs")
        assert sorted(embedder.asked) == ["rule\nmind costs", "rule\nmind fees"]
        memory.learnings.edit(1, insight="mind COSTS!", actor="ana")
        find(memory, "costs")
        assert embedder.asked[2:] == ["rule\nmind COSTS!"]
    embedder.asked.clear()
    with open_memory(url, embedder=embedder) as memory:
        assert sorted(find(memory, "costs")) == [1, 2]
        assert embedder.asked == []


def test_many_texts_are_embedded_and_stored_in_batches(memory):
    fill(memory, *[f"mind cost number {number}" for number in range(BATCH + 44)])
    find(memory, "cost number 7")
    assert [row for row, _, _ in stored(memory)] == list(range(1, BATCH + 45))


@pytest.mark.parametrize("sizes", [(16, 8), (8, 16)])
def test_another_size_under_the_same_name_never_reads_the_old_vectors(url, sizes):
    for size in (*sizes, *sizes):
        embedder = Hashed(size)
        with open_memory(url, embedder=embedder) as memory:
            if not memory.learnings.count(namespace="n"):
                fill(memory, "mind costs", "ask about risk")
            hits = memory.learnings.search("risk", namespace="n", floor=False)
            assert {hit.learning.id for hit in hits} == {1, 2}
            assert hits[0].learning.id == 2
            asked = np.asarray(embedder.embed_query("risk")) @ np.asarray(
                embedder.embed_query("rule\nask about risk")
            )
            length = np.linalg.norm(embedder.embed_query("rule\nask about risk"))
            assert hits[0].dense == pytest.approx(asked / length, abs=1e-5)
            assert {length for _, _, length in stored(memory)} == {size}


def test_an_embedder_that_changes_its_size_while_it_runs_is_followed():
    embedder = Hashed(16)
    with open_memory("sqlite://", embedder=embedder) as memory:
        fill(memory, "mind costs", "ask about risk")
        assert find(memory, "risk")[0] == 2
        embedder.length = 24
        assert find(memory, "risk")[0] == 2
        memory.learnings.add(draft("risk"), namespace="n", actor="ana")
        assert set(find(memory, "risk")) == {1, 2, 3}
        assert {length for _, _, length in stored(memory)} == {24}


def test_the_vectors_of_two_embedders_stand_side_by_side(url):
    class Other(Hashed):
        pass

    with open_memory(url, embedder=Hashed()) as one, open_memory(url, embedder=Other()) as other:
        fill(one, "mind costs")
        find(one, "costs")
        find(other, "costs")
        assert stored(one) == [(1, "Hashed", 16), (1, "Other", 16)]


def test_a_provider_that_is_down_says_so_and_is_asked_again(monkeypatch):
    monkeypatch.setattr("learngate.stores.asking.PAUSE_SECONDS", 0)
    embedder = Faulty()
    with open_memory("sqlite://", embedder=embedder) as memory:
        fill(memory, "mind costs")
        assert find(memory, "costs") == [1]
        embedder.fail = True
        fill(memory, "mind all costs")
        memory.learnings.retire(1, actor="ana")
        for _ in range(2):
            hits = memory.learnings.search("mind costs", namespace="n")
            assert [(hit.learning.id, hit.why, hit.dense) for hit in hits] == [(2, "lexical", 0.0)]
            assert re.fullmatch(
                r"searched by words alone: .*Faulty.* did not answer \(\w+\): see the log", hits.note
            )
        embedder.fail = False
        assert find(memory, "costs") == [2]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("sqlite:///{}/big.db", "`learngate embed --embedder wordllama --db {}/big.db`"),
        ("sqlite:///{}/my%20own.db", "`learngate embed --embedder wordllama --db '{}/my own.db'`"),
        ("sqlite://", "Memory.embed()"),
    ],
)
def test_what_makes_missing_vectors_is_said_so_that_it_may_be_copied(tmp_path, monkeypatch, url, said):
    monkeypatch.setattr(WordLlamaEmbeddings, "patience", -1.0)
    monkeypatch.setattr(WordLlamaEmbeddings, "batch", 1)
    with open_memory(url.format(tmp_path)) as memory:
        fill(memory, "mind costs", "mind fees")
        note = memory.learnings.search("costs", namespace="n").note
    assert note.endswith(f"yet: see {said.format(tmp_path)}")


class Odd(Hashed):
    """Gives what is told instead of the vectors of texts, or of questions, that hold a word."""

    def __init__(self, instead: list[float], *, at: str = "texts", word: str = "") -> None:
        super().__init__()
        self.instead: list[float] | None = instead
        self.at, self.word = at, word

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self._or_odd(text, "texts") for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return self._or_odd(text, "questions")

    def _or_odd(self, text: str, at: str) -> list[float]:
        return self.instead if self.instead and at == self.at and self.word in text else self._one(text)


NONSENSE = [[float("nan")] * 16, [1.0] * 15 + [float("inf")], [0.0] * 16, [1.0] * 8]


@pytest.mark.parametrize("nonsense", NONSENSE, ids=["nan", "infinite", "zero", "another length"])
@pytest.mark.parametrize("at", ["texts", "questions"])
def test_vectors_that_compare_with_nothing_are_said_and_never_kept(monkeypatch, caplog, nonsense, at):
    monkeypatch.setattr("learngate.stores.asking.WAIT_SECONDS", 0.0)
    monkeypatch.setattr("learngate.stores.asking.PAUSE_SECONDS", 0.0)
    monkeypatch.setattr("learngate.stores.embeddings.REFUSED_SECONDS", 0.0)
    embedder = Odd(nonsense, at=at)
    with open_memory("sqlite://", embedder=embedder) as memory:
        fill(memory, "mind costs", "mind fees")
        hits = memory.learnings.search("costs", namespace="n", floor=False)
        assert (hits[0].learning.id, {hit.why for hit in hits}) == (1, {"lexical"})
        assert hits.note or "without a direction: learning 1" in caplog.text
        assert stored(memory) == []
        embedder.instead = None
        hits = memory.learnings.search("costs", namespace="n", floor=False)
        assert ([hit.why for hit in hits], hits.note) == (["both", "dense"], "")
        assert len(stored(memory)) == 2


@pytest.mark.parametrize("nonsense", NONSENSE, ids=["nan", "infinite", "zero", "another length"])
def test_one_text_without_a_vector_keeps_none_of_the_others_from_theirs(monkeypatch, nonsense):
    monkeypatch.setattr("learngate.stores.asking.WAIT_SECONDS", 0.0)
    with open_memory("sqlite://", embedder=Odd(nonsense, word="fees")) as memory:
        fill(memory, "mind costs", "mind fees", "mind cost of bonds")
        for _ in range(2):
            hits = memory.learnings.search("mind", namespace="n", floor=False)
            assert ({hit.learning.id: hit.why for hit in hits}, hits.note) == (
                {1: "both", 2: "lexical", 3: "both"},
                "",
            )
        assert [row for row, _, _ in stored(memory)] == [1, 3]
        assert list(memory.embed())[-1] == (3, 3)


@pytest.mark.parametrize("by", ["search", "embed"])
def test_a_vector_without_a_direction_that_is_there_is_made_anew(url, by):
    with open_memory(url, embedder=Hashed()) as memory:
        fill(memory, "mind costs")
        find(memory, "costs")
        with memory.database.derive() as connection:
            connection.execute(embeddings.update().values(vector=np.zeros(16, dtype=np.float32)))
    with open_memory(url, embedder=Hashed()) as memory:
        if by == "search":
            [hit] = memory.learnings.search("mind costs", namespace="n")
            assert (hit.why, hit.dense > 0) == ("both", True)
        else:
            list(memory.embed())
        with memory.database.read() as connection:
            assert any(connection.execute(select(embeddings.c.vector)).scalar_one())


def test_a_query_without_a_direction_is_near_to_nothing():
    with open_memory("sqlite://", embedder=Hashed()) as memory:
        fill(memory, "mind costs")
        assert [hit.dense for hit in memory.learnings.search("?!…", namespace="n", floor=False)] == [0.0]
        assert memory.learnings.search("?!…", namespace="n") == []


@pytest.mark.parametrize("text", ["?!…", "☕", "___", "-"])
def test_a_text_of_marks_alone_is_stored_and_searched_without_a_nan(memory, text):
    fill(memory, "mind costs", text)
    for query in (text, "mind costs"):
        hits = memory.learnings.search(query, namespace="n", floor=False)
        assert {hit.learning.id for hit in hits} == {1, 2}
        assert all(np.isfinite([hit.score, hit.dense, hit.lexical]).all() for hit in hits)
    assert memory.learnings.search("mind costs", namespace="n")[0].learning.id == 1


def test_a_search_after_very_many_changes_finds_what_is_there(url, monkeypatch):
    for part in ("vectors", "pgvector"):
        monkeypatch.setattr(f"learngate.stores.{part}.MANY", 5, raising=False)
    with open_memory(url, embedder=Hashed()) as one, open_memory(url, embedder=Hashed()) as other:
        fill(one, "mind costs")
        find(other, "costs")
        fill(one, *(f"mind fee {number}" for number in range(12)))
        assert len(find(other, "mind fee")) == 5
        assert 13 in {
            hit.learning.id for hit in other.learnings.search("mind fee 11", namespace="n", k=20, floor=False)
        }
