"""A change of embedder: all is embedded anew, resumably; the old vectors serve until a scope is complete."""

import signal
import subprocess
import sys
from textwrap import dedent

import pytest
from sqlalchemy import text

from learngate.stores import StoreUnavailable, open_memory
from learngate.stores.embedders import WordLlamaEmbeddings
from learngate.stores.embeddings import BATCH
from tests.databases import needs_postgres, new_postgres
from tests.stores.support import Hashed, draft, rows, turn

DOG = "The puppy needs a veterinarian"
ASKED = "my dog is ill"


class Failing(Hashed):
    """Is down from a text that holds a word on."""

    def __init__(self, at: str = "") -> None:
        super().__init__(16)
        self.at = at
        self.down = False

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        self.down = bool(self.at) and (self.down or any(self.at in one for one in texts))
        if self.down:
            raise ConnectionError("the provider is down")
        return super().embed_documents(texts)


def fill(memory, count: int) -> None:
    for number in range(count):
        memory.learnings.add(draft(f"mind cost {number}"), namespace="n", actor="ana")


def names(memory) -> dict[str, int]:
    with memory.database.read() as connection:
        counted = connection.execute(text("SELECT embedder, count(*) FROM embeddings GROUP BY embedder"))
        return {name.partition(":")[0]: number for name, number in counted}


def test_every_kind_is_embedded_once_and_searches_find_it_made(url):
    embedder = Hashed()
    with open_memory(url, embedder=embedder) as memory:
        fill(memory, 2 * BATCH + 1)
        memory.learnings.retire(1, actor="ana")
        memory.users.remember("ana", "likes tea")
        memory.sessions.append(turn("s", user_id="ana"))
        told = list(memory.embed())
        total = 2 * BATCH + 2
        assert told[0] == (0, total)
        assert told[-1] == (total, total)
        assert [done for done, _ in told] == sorted(done for done, _ in told)
        assert rows(memory, "embeddings") == total
        embedder.asked.clear()
        memory.learnings.search("mind cost", namespace="n")
        assert list(memory.embed())[-1] == (total, total)
        assert embedder.asked == ["learngate"]
        memory.learnings.edit(2, insight="mind COSTS!", actor="ana")
        list(memory.embed())
        assert embedder.asked[-1].endswith("mind COSTS!")


def test_an_error_in_the_middle_keeps_what_was_made(monkeypatch):
    monkeypatch.setattr("learngate.stores.asking.WAIT_SECONDS", 0)
    embedder = Failing(f"cost {BATCH}")
    with open_memory("sqlite://", embedder=embedder) as memory:
        fill(memory, BATCH + 5)
        with pytest.raises(StoreUnavailable, match="did not answer"):
            list(memory.embed())
        assert rows(memory, "embeddings") == BATCH
        # There is a pause for searches, and none for somebody who says: now.
        embedder.at = ""
        embedder.asked.clear()
        list(memory.embed())
        assert rows(memory, "embeddings") == BATCH + 5
        assert len(embedder.asked) == 1 + 5


def test_a_text_that_is_refused_is_passed_and_found_once_it_is_taken(url, monkeypatch):
    monkeypatch.setattr("learngate.stores.asking.WAIT_SECONDS", 0)

    class Choosy(Hashed):
        refuses = "cost 1"

        def embed_documents(self, texts):
            if any(self.refuses in one for one in texts):
                raise ValueError("too long")
            return super().embed_documents(texts)

    embedder = Choosy()
    with open_memory(url, embedder=embedder) as memory:
        fill(memory, 5)
        assert list(memory.embed())[-1] == (5, 5)
        assert rows(memory, "embeddings") == 4
        hits = memory.learnings.search("mind cost", namespace="n", floor=False)
        assert ({hit.learning.id: hit.why for hit in hits}[2], hits.note) == ("lexical", "")
        embedder.refuses = "nothing"
        assert list(memory.embed())[-1] == (5, 5)
        hits = memory.learnings.search("mind cost", namespace="n", floor=False)
        assert {hit.why for hit in hits} == {"both"}


def test_the_old_vectors_serve_until_a_scope_is_complete(url, monkeypatch):
    monkeypatch.setattr("learngate.stores.asking.WAIT_SECONDS", 0)
    monkeypatch.setattr("learngate.stores.asking.PAUSE_SECONDS", 0)
    with open_memory(url, embedder="wordllama") as memory:
        for space in ("a", "b"):
            memory.learnings.add(draft(DOG, "Animals"), namespace=space, actor="ana")
            assert [hit.why for hit in memory.learnings.search(ASKED, namespace=space, floor=False)] == ["dense"]
    with open_memory(url, embedder=Failing(DOG)) as memory:
        hits = memory.learnings.search(ASKED, namespace="a", floor=False)
        assert [(hit.learning.id, hit.why) for hit in hits] == [(1, "dense")]
        assert hits.note.startswith("searched by wordllama: the embedder Failing did not answer")
        # What is written meanwhile is found by the old one, too.
        memory.learnings.add(draft(DOG + " soon", "Animals"), namespace="a", actor="ana")
        assert len(memory.learnings.search(ASKED, namespace="a", floor=False)) == 2
        assert names(memory) == {"WordLlamaEmbeddings": 3}
    with open_memory(url, embedder=Failing()) as memory:
        list(memory.embed())
        assert names(memory) == {"WordLlamaEmbeddings": 3, "Failing": 3}
        hits = memory.learnings.search(ASKED, namespace="a", floor=False)
        assert (len(hits), hits.note) == (2, "")


def test_each_scope_switches_by_itself(monkeypatch):
    monkeypatch.setattr("learngate.stores.asking.WAIT_SECONDS", 0)
    monkeypatch.setattr("learngate.stores.asking.PAUSE_SECONDS", 0)
    with open_memory("sqlite://", embedder=Failing("puppy")) as memory:
        memory.learnings.add(draft("mind costs"), namespace="a", actor="ana")
        memory.learnings.add(draft(DOG), namespace="b", actor="ana")
        assert memory.learnings.search("costs", namespace="a", floor=False).note == ""
        assert "words alone" in memory.learnings.search("puppy", namespace="b", floor=False).note


def test_an_old_embedder_that_is_not_installed_any_more_leaves_words(url, monkeypatch):
    with open_memory(url, embedder=WordLlamaEmbeddings()) as memory:
        memory.learnings.add(draft("mind all costs"), namespace="n", actor="ana")
        memory.learnings.search("costs", namespace="n")
    monkeypatch.setattr(WordLlamaEmbeddings, "_model", lambda self: 1 / 0)
    with open_memory(url, embedder=Failing("mind")) as memory:
        hits = memory.learnings.search("mind costs", namespace="n")
        assert [hit.why for hit in hits] == ["lexical"]
        assert "words alone" in hits.note


KILLED = """
    import os, signal, sys
    from learngate.stores import open_memory
    from tests.stores.support import Hashed

    class Dying(Hashed):
        def embed_documents(self, texts):
            if len(self.asked) > {after}:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().embed_documents(texts)

    Dying.__name__ = "Hashed"
    with open_memory(sys.argv[1], embedder=Dying()) as memory:
        for _ in memory.embed():
            pass
"""


def killed_and_continued(url: str) -> None:
    total = 3 * BATCH + 7
    with open_memory(url, embedder=Hashed()) as memory:
        fill(memory, total)
    script = dedent(KILLED.format(after=2 * BATCH))
    killed = subprocess.run([sys.executable, "-c", script, url], check=False)
    assert killed.returncode == -signal.SIGKILL
    embedder = Hashed()
    with open_memory(url, embedder=embedder) as memory:
        assert rows(memory, "embeddings") == 2 * BATCH
        list(memory.embed())
        assert rows(memory, "embeddings") == total
        assert len(embedder.asked) == 1 + total - 2 * BATCH
        embedder.asked.clear()
        assert memory.learnings.search("mind cost 3", namespace="n")[0].why == "both"
        assert embedder.asked == []


def test_it_goes_on_after_a_kill(tmp_path):
    killed_and_continued(f"sqlite:///{tmp_path}/k.db")


@needs_postgres
def test_it_goes_on_after_a_kill_on_postgres_with_its_index_made():
    with new_postgres() as url:
        killed_and_continued(url)
        with open_memory(url, embedder=Hashed()) as memory, memory.database.read() as connection:
            indexes = connection.scalar(
                text("SELECT count(*) FROM pg_indexes WHERE indexname LIKE 'embeddings_hnsw%'")
            )
            assert indexes
