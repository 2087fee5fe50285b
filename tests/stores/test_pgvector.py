import numpy as np
import pytest
from sqlalchemy import event, insert, text

from learngate.stores import Memory, open_memory, tables
from learngate.stores.embeddings import Vectors
from learngate.stores.lexical import search_body
from learngate.stores.records import now
from tests.databases import needs_postgres
from tests.stores.conformance.backends import OnPostgres
from tests.stores.conformance.vectors import EMBEDDER, close_to, fill, index_of, token, unit
from tests.stores.support import Hashed, draft, go, processes, together

pgvector = pytest.importorskip("learngate.stores.pgvector", reason="pgvector is not installed")
pytestmark = needs_postgres
WIDE = Hashed(64)
VOCABULARY = [f"word{number}" for number in range(300)]


def learned(memory: Memory, space: str, insights: list[str]) -> None:
    """Write learnings past the gate, which signs and compares each: here only their vectors matter."""
    row = {
        "namespace": space, "title": "t", "applies_when": "", "status": "active", "revision": 1, "digest": "",
        "created_at": now(), "updated_at": now(), "proposal_id": 0, "scope": token(space),
    }  # fmt: skip
    with memory.database.write() as connection:
        connection.execute(
            insert(tables.learnings), [row | {"insight": one, "body": search_body(one)} for one in insights]
        )


def bodies(memory: Memory, *spaces: str) -> dict[int, str]:
    with memory.database.read() as connection:
        found = connection.execute(text("SELECT id, namespace, body FROM learnings WHERE status = 'active'"))
        return {row.id: row.body for row in found if row.namespace in spaces}


def indexes(memory: Memory) -> list[str]:
    with memory.database.read() as connection:
        named = "SELECT indexname FROM pg_indexes WHERE indexname LIKE 'embeddings_hnsw%' ORDER BY 1"
        return [*connection.scalars(text(named))]


def plan(memory: Memory, search) -> str:
    """Return how the server finds the nearest rows."""
    said: list[tuple[str, object]] = []

    def note(connection, cursor, statement, parameters, context, many):
        said.append((statement, parameters))

    event.listen(memory.database._engine, "before_cursor_execute", note)
    search()
    event.remove(memory.database._engine, "before_cursor_execute", note)
    statement, parameters = next(one for one in reversed(said) if "<#>" in one[0])
    with memory.database.read() as connection:
        connection.exec_driver_sql("SET LOCAL hnsw.iterative_scan = strict_order")
        return "\n".join(connection.exec_driver_sql(f"EXPLAIN {statement}", parameters).scalars())


class TestLarge(OnPostgres):
    """Scopes beyond what is compared row by row."""

    @pytest.fixture
    def memory(self, url, monkeypatch):
        monkeypatch.setattr(pgvector, "EXACT_ROWS", 400)
        chosen = np.random.default_rng(7)
        with open_memory(url, embedder=WIDE) as opened:
            # The database may be one that an earlier test is done with.
            with opened.database.write() as connection:
                for name in indexes(opened):
                    connection.execute(text(f"DROP INDEX {name}"))
            for space, count in (("big", 2_000), ("small", 60), ("other", 900)):
                learned(
                    opened, space, [f"{space} " + " ".join(chosen.choice(VOCABULARY, 10)) for _ in range(count)]
                )
            yield opened

    def recall(self, memory: Memory, index, spaces: tuple[str, ...], k: int = 10) -> float:
        """Return the share of the truly nearest that is found, over some queries."""
        held = bodies(memory, *spaces)
        matrix, ids = np.stack([unit(body, WIDE) for body in held.values()]), np.asarray([*held])
        chosen, shares = np.random.default_rng(11), []
        for _ in range(40):
            query = unit(" ".join(chosen.choice(VOCABULARY, 4)), WIDE)
            cosines = matrix @ query
            found = index.search("learning", [token(space) for space in spaces], query, k)
            assert len(found) == k
            assert found == close_to({row: float(cosines[np.flatnonzero(ids == row)[0]]) for row in found})
            worst = np.sort(cosines)[-k]
            shares.append(sum(score >= worst - 1e-5 for score in found.values()) / k)
        return float(np.mean(shares))

    def test_the_index_finds_nearly_all_of_the_nearest_and_exact_search_all(self, memory):
        index = index_of(memory, WIDE)
        assert self.recall(memory, index, ("big",)) >= 0.95
        assert self.recall(memory, index, ("big", "small")) >= 0.95
        assert self.recall(memory, index, ("small",)) == 1.0
        query = unit("word1 word2", WIDE)
        assert "embeddings_hnsw" in plan(memory, lambda: index.search("learning", [token("big")], query, 9))
        exact = plan(memory, lambda: index.search("learning", [token("small")], query, 9))
        assert "embeddings_hnsw" not in exact
        assert len(indexes(memory)) == 1

    def test_what_is_retired_or_put_in_later_is_gone_or_found_at_once(self, memory):
        index = index_of(memory, WIDE)
        query = unit("zebra crossing rules", WIDE)
        before = index.search("learning", [token("big")], query, 5)
        made = memory.learnings.add(draft("zebra crossing rules", "zebra"), namespace="big", actor="a")
        found = index.search("learning", [token("big")], query, 5)
        assert max(found, key=found.get) == made.id
        memory.learnings.retire(made.id, actor="a")
        assert index.search("learning", [token("big")], query, 5) == close_to(before)

    def test_threads_and_programs_that_search_first_at_once_make_one_index(self, memory, url):
        query = unit("word1 word2", WIDE)
        with open_memory(url, embedder=WIDE) as other:
            made = [index_of(one, WIDE) for one in (memory, other)]
            calls = [lambda i=i: made[i % 2].search("learning", [token("big")], query, 5) for i in range(8)]
            results = together(*calls)
        assert all(isinstance(one, dict) and len(one) == 5 for one in results), results
        assert len(indexes(memory)) == 1
        with memory.database.read() as connection:
            assert connection.scalar(text("SELECT count(*) FROM embeddings")) == 2_000

    def test_each_length_has_an_index_of_its_own(self, memory):
        for embedder in (WIDE, Hashed(32)):
            query = unit("word1 word2", embedder)
            assert len(index_of(memory, embedder).search("learning", [token("other")], query, 5)) == 5
        assert len(indexes(memory)) == 2


class TestSmall(OnPostgres):
    """Scopes in which every row is compared."""

    def test_processes_that_open_and_search_at_once_all_find_everything(self, url):
        with open_memory(url, embedder=EMBEDDER) as memory:
            fill(memory, 5)
        script = """
            from learngate.stores import open_memory
            from tests.stores.conformance.vectors import EMBEDDER, index_of, token, unit
            with open_memory(sys.argv[1], embedder=EMBEDDER) as memory:
                index = index_of(memory)
                ready()
                print(sorted(index.search("learning", [token("a"), token("b")], unit("rule 1"), 100)))
            """
        with processes(script, [url], [url], [url]) as started:
            said = go(started)
        assert said == [[str(sorted([*range(1, 16, 3), *range(2, 16, 3)]))]] * 3

    def test_a_vector_that_another_length_brought_in_meanwhile_is_passed_over(self, url):
        with open_memory(url, embedder=EMBEDDER) as memory:
            fill(memory, 2)
            index, query = index_of(memory), unit("rule 1")
            before = index.search("learning", [token("a")], query, 9)
            Vectors(memory.database, Hashed(24)).embed("learning", {1: bodies(memory, "a")[1]})
            assert index.search("learning", [token("a")], query, 9) == close_to({4: before[4]})
            assert index.search("learning", [token("a")], query, 0, also=[1, 4]) == close_to({4: before[4]})

    def test_scopes_beyond_the_limit_are_looked_at_again(self, url, monkeypatch):
        monkeypatch.setattr(pgvector, "MAX_SCOPES", 1)
        with open_memory(url, embedder=EMBEDDER) as memory:
            fill(memory, 2)
            index, query = index_of(memory), unit("rule")
            for round_ in range(3):
                for space in "abc":
                    memory.learnings.add(draft(f"{space} more {round_}"), namespace=space, actor="a")
                    assert len(index.search("learning", [token(space)], query, 100)) == 3 + round_
