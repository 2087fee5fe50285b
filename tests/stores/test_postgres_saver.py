"""Setting up the tables of checkpoints on PostgreSQL, beside whatever else is open there."""

import psycopg
import pytest

from learngate.stores import StoreUnavailable, open_memory
from tests.databases import needs_postgres
from tests.stores.support import Hashed, together
from tests.stores.test_savers import at, checkpoint, metadata

pytestmark = [needs_postgres, pytest.mark.parametrize("url", ["postgres"], indirect=True)]

WHOLE = {
    "checkpoints_thread_id_idx": True,
    "checkpoint_blobs_thread_id_idx": True,
    "checkpoint_writes_thread_id_idx": True,
}
NEW = "DROP TABLE IF EXISTS checkpoints, checkpoint_blobs, checkpoint_writes, checkpoint_migrations"
OPEN = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1"


@pytest.fixture
def other(url):
    """Somebody else's connection, to a server that has no checkpoints yet."""
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(NEW)
        yield connection
        connection.execute("ROLLBACK")


def indexes(connection) -> dict[str, bool]:
    its = "SELECT relname, indisvalid FROM pg_index JOIN pg_class ON oid = indexrelid"
    return dict(connection.execute(f"{its} WHERE relname LIKE '%thread_id_idx'").fetchall())


def start(url) -> list[str]:
    """Open the memory as another process would, use its checkpoints, and return its connections' limits."""
    with open_memory(url, embedder=Hashed()) as memory:
        saver = memory.checkpointer()
        saver.put(at("t"), checkpoint(1), metadata(1), {})
        assert saver.get_tuple(at("t")).metadata["step"] == 1
        with saver._pool.connection() as connection:
            names = ("lock_timeout", "statement_timeout")
            return [connection.execute(f"SHOW {name}").fetchone()[name] for name in names]


def test_beside_an_old_transaction_setting_up_gives_up_and_says_so_and_the_next_start_finishes(
    url, other, monkeypatch
):
    monkeypatch.setattr("learngate.stores.postgres_saver.SETUP_SECONDS", 0.2)
    other.execute(OPEN)
    # The address's own limits count as little as ours: what they cut off would be taken for whole.
    limited = f"{url}{'&' if '?' in url else '?'}options=-c%20statement_timeout=50%20-c%20lock_timeout=20"
    for _ in range(2):
        with open_memory(limited, embedder=Hashed()) as memory:
            with pytest.raises(StoreUnavailable, match=r"open for over 0\.2 s .* try again"):
                memory.checkpointer()
            assert memory.learnings.list(namespace="n") == []
    other.execute("ROLLBACK")
    assert indexes(other) == {"checkpoints_thread_id_idx": False}
    assert start(url) == ["5s", "30s"]
    assert indexes(other) == WHOLE


@pytest.mark.parametrize("left", ["invalid", "gone"])
def test_an_index_that_was_left_half_built_is_made_again_at_the_next_start(url, other, left):
    start(url)
    for name in WHOLE:
        if left == "invalid":
            other.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = %s::regclass", (name,))
        else:
            other.execute(f"DROP INDEX {name}")
    failed = [one for one in together(*[lambda: start(url)] * 3) if one != ["5s", "30s"]]
    assert failed == []
    assert indexes(other) == WHOLE
