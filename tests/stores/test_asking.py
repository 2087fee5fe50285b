import logging
import threading

import numpy as np
import pytest
from langchain_google_genai import GoogleGenerativeAIEmbeddings
from pydantic import SecretStr

from learngate.stores import open_memory
from learngate.stores.asking import ATTEMPTS, PAUSE_SECONDS, Asking, NotEmbedded
from learngate.stores.embeddings import BATCH
from tests.doubles.gemini import Cut, GeminiDouble, HttpError, Slow, Vectors
from tests.stores.support import Hashed, draft, rows, together, turn


class Counted(Hashed):
    """Fails as told, and counts how often it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.fail: BaseException | None = None
        self.calls = 0

    def embed_query(self, text: str) -> list[float]:
        self.calls += 1
        if self.fail is not None:
            raise self.fail
        return super().embed_query(text)


def gemini_embedder(gemini: GeminiDouble) -> GoogleGenerativeAIEmbeddings:
    return GoogleGenerativeAIEmbeddings(
        model="gemini-embedding-001", base_url=gemini.url, api_key=SecretStr("test")
    )


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr("learngate.stores.asking.WAIT_SECONDS", 0.0)


def test_a_broken_embedder_is_asked_once_in_a_while_and_not_at_each_search(caplog):
    embedder = Counted()
    with open_memory("sqlite://", embedder=embedder) as memory, caplog.at_level(logging.WARNING):
        memory.learnings.add(draft("mind all costs"), namespace="n", actor="ana")
        embedder.fail = ConnectionError("the provider\nis down")
        notes = {memory.learnings.search("mind costs", namespace="n").note for _ in range(9)}
        assert embedder.calls == ATTEMPTS
        assert all("did not answer (ConnectionError): see the log" in note for note in notes)
        assert not any("provider" in note for note in notes)
        [logged] = [record.message for record in caplog.records]
        assert "did not answer (ConnectionError: the provider is down): searches go by words for" in logged


def test_after_the_pause_it_is_asked_again():
    now = [0.0]
    embedder = Counted()
    asking = Asking(embedder, clock=lambda: now[0])
    embedder.fail = ConnectionError("down")
    for _ in range(3):
        with pytest.raises(NotEmbedded):
            asking.query("x")
    assert embedder.calls == ATTEMPTS
    now[0] = PAUSE_SECONDS - 1
    embedder.fail = None
    with pytest.raises(NotEmbedded, match="asked again in 1 s"):
        asking.query("x")
    now[0] = PAUSE_SECONDS
    assert asking.query("x").shape == (1, 16)
    now[0] = 0.0
    assert asking.query("x").shape == (1, 16)
    assert embedder.calls == ATTEMPTS + 2


def test_a_second_attempt_that_succeeds_is_no_failure():
    class Once(Counted):
        def embed_query(self, text):
            if self.calls == 0:
                self.calls += 1
                raise ConnectionError("once")
            return super().embed_query(text)

    assert Asking(Once()).query("x").shape == (1, 16)


def test_ctrl_c_and_an_exit_are_no_failure_of_the_embedder():
    embedder = Counted()
    embedder.fail = KeyboardInterrupt()
    asking = Asking(embedder)
    with pytest.raises(KeyboardInterrupt):
        asking.query("x")
    assert embedder.calls == 1
    embedder.fail = None
    assert asking.query("x").shape == (1, 16)


@pytest.mark.parametrize("answer", [[], [[]], [[1.0], [2.0]], [1.0], [["x"]], None])
def test_an_answer_that_is_no_vectors_is_a_failure(answer):
    class Odd(Hashed):
        def embed_documents(self, texts):
            return answer

    with pytest.raises(NotEmbedded):
        Asking(Odd()).documents(["one"])


def test_one_that_hangs_is_left_alone_by_all_who_ask_at_once(monkeypatch, caplog):
    monkeypatch.setattr("learngate.stores.asking.CALL_SECONDS", 0.05)
    release = threading.Event()

    class Hanging(Counted):
        def embed_query(self, text):
            self.calls += 1
            release.wait()
            return super().embed_query(text)

    embedder = Hanging()
    with open_memory("sqlite://", embedder=embedder) as memory:
        memory.learnings.add(draft("mind all costs"), namespace="n", actor="ana")

        def search():
            return memory.learnings.search("mind costs", namespace="n")

        for hits in together(*[search] * 4):
            assert [hit.why for hit in hits] == ["lexical"]
        before = embedder.calls
        assert "did not answer (TimeoutError): see the log" in search().note
        assert "nothing came within 0.05 s" in caplog.text
        assert embedder.calls == before <= 4
        release.set()


# At the query, and at the texts: a reply each; the query's vector comes first.
@pytest.mark.parametrize("at", ["query", "texts"])
@pytest.mark.parametrize(
    ("reply", "said"),
    [(HttpError(429), "429"), (HttpError(500), "500"), (Cut(), ""), (Slow(60), "nothing came within 0.5 s")],
    ids=["429", "500", "cut", "slow"],
)
def test_gemini_that_fails_leaves_words_and_what_was_written_is_embedded_later(
    monkeypatch, tmp_path, caplog, at, reply, said
):
    monkeypatch.setattr("learngate.stores.asking.CALL_SECONDS", 0.5 if isinstance(reply, Slow) else 10.0)
    with GeminiDouble() as gemini, open_memory(f"sqlite:///{tmp_path}/g.db", embedder=gemini_embedder(gemini)) as m:
        m.learnings.add(draft("mind all costs"), namespace="n", actor="ana")
        if at == "texts":
            gemini.embeddings.append(Vectors())
        # What is harmless fails, too.
        gemini.embeddings.extend([reply] * (2 * ATTEMPTS if at == "texts" else ATTEMPTS))
        hits = m.learnings.search("mind costs", namespace="n")
        assert [(hit.learning.id, hit.why) for hit in hits] == [(1, "lexical")]
        assert "searched by words alone: the embedder" in hits.note
        assert hits.note.endswith("Error): see the log")
        assert said in caplog.text
        gemini.embeddings.clear()
        # Texts that fail do not keep questions from being asked.
        asked = len(gemini.requests) + (at == "texts")
        m.learnings.add(draft("costs of bonds rise with their duration", "Bonds"), namespace="n", actor="ana")
        assert "asked again in" in m.learnings.search("mind costs", namespace="n").note
        assert (len(gemini.requests), rows(m, "embeddings")) == (asked, 0)
        monkeypatch.setattr("learngate.stores.asking.CALL_SECONDS", 10.0)
        for outsider in (m.vectors._asking.queries, m.vectors._asking.texts):
            outsider._paused_until = 0.0
        hits = m.learnings.search("mind costs", namespace="n", floor=False)
        assert ([hit.why for hit in hits], hits.note) == (["both", "both"], "")
        assert rows(m, "embeddings") == 2


def test_gemini_is_given_batches_that_it_takes():
    with GeminiDouble() as gemini, open_memory("sqlite://", embedder=gemini_embedder(gemini)) as memory:
        for number in range(BATCH + 1):
            memory.learnings.add(draft(f"mind cost {number}"), namespace="n", actor="ana")
        memory.learnings.search("mind costs", namespace="n")
        assert [len(request.texts) for request in gemini.requests] == [1, BATCH, 1]


def test_every_kind_of_search_says_so():
    embedder = Counted()
    with open_memory("sqlite://", embedder=embedder) as memory:
        for number in range(3):
            memory.users.remember("ana", f"likes tea number {number}")
        memory.sessions.append(turn("s", "where is the tea?", user_id="ana"))
        embedder.fail = ConnectionError("down")
        found = [
            memory.users.recall("ana", "tea", budget=12),
            memory.sessions.search("tea", user_id="ana"),
            memory.learnings.search("tea", namespace="n"),
        ]
        assert all(hits.note.startswith("searched by words alone") for hits in found)
        assert [bool(hits) for hits in found] == [True, True, False]
        assert memory.users.recall("ana", "tea").note == ""


def test_what_took_too_long_in_one_search_is_gone_on_with_in_the_next(monkeypatch):
    monkeypatch.setattr("learngate.stores.embeddings.PATIENCE", -1.0)
    with open_memory("sqlite://", embedder=Hashed()) as memory:
        for number in range(2 * BATCH + 1):
            memory.learnings.add(draft(f"mind cost {number}"), namespace="n", actor="ana")
        for left in (BATCH + 1, 1):
            hits = memory.learnings.search("mind cost", namespace="n")
            assert hits
            assert {hit.dense for hit in hits} == {0.0}
            assert f"{left} texts have no vector of Hashed yet: see Memory.embed()" in hits.note
        hits = memory.learnings.search("mind cost", namespace="n")
        assert (hits.note, rows(memory, "embeddings")) == ("", 2 * BATCH + 1)
        assert np.isfinite([hit.dense for hit in hits]).all()
        assert hits[0].why == "both"
