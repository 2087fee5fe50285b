"""Setting up the tables of checkpoints on PostgreSQL, beside whatever else is open there."""

import asyncio
import random
import select
import socket
import threading
from functools import partial

import psycopg
import pytest
from sqlalchemy import make_url

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


async def aput(saver, number: int, value: object = 1) -> None:
    """Store a checkpoint of a thread of its own, and what a task wrote."""
    made = {**checkpoint(number), "channel_values": {"x": value}}
    config = await saver.aput(at(f"t{number}"), made, metadata(number), {"x": 1})
    await saver.aput_writes(config, [("x", value)], "task")


def held(saver, number: int) -> bool:
    found = saver.get_tuple(at(f"t{number}"))
    return found is not None and found.metadata["step"] == number and len(found.pending_writes) == 1


@pytest.mark.anyio
async def test_many_checkpoints_take_few_round_trips_and_one_that_cannot_be_stored_fails_alone(url, caplog):
    with open_memory(url, embedder=Hashed()) as memory:
        saver = memory.checkpointer()
        taken = []
        write = saver._write
        saver._write = lambda works: taken.append(len(works)) or write(works)  # type: ignore[method-assign]
        bad = {3: lambda: None, 17: "NUL \0 here"}
        told = await asyncio.gather(
            *[aput(saver, n, bad.get(n, [n, "text"])) for n in range(60)], return_exceptions=True
        )
        assert {n for n, error in enumerate(told) if error is not None} == bad.keys()
        assert [n for n in range(60) if not held(saver, n)] == [*bad]
        assert sum(taken) == 120 - len(bad)
        assert len(taken) < 30
    assert "stored one by one" in caplog.text


class Wire:
    """A relay on loopback to the tests' server, which counts how often a client speaks after it was answered."""

    def __init__(self, url: str) -> None:
        to = make_url(url)
        folder = to.host or str(to.query.get("host", ""))
        self._server = (
            f"{folder}/.s.PGSQL.{to.port or 5432}" if folder.startswith("/") else (to.host, to.port or 5432)
        )
        self._listener = socket.create_server(("127.0.0.1", 0))
        here = to.set(host="127.0.0.1", port=self._listener.getsockname()[1])
        self.url = here.difference_update_query(["host"]).render_as_string(hide_password=False)
        self.trips = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            family = socket.AF_UNIX if isinstance(self._server, str) else socket.AF_INET
            server = socket.socket(family)
            server.connect(self._server)
            threading.Thread(target=self._pass, args=(client, server), daemon=True).start()

    def _pass(self, client: socket.socket, server: socket.socket) -> None:
        answered = True
        with client, server:
            while True:
                for ready in select.select([client, server], [], [])[0]:
                    given = ready.recv(1 << 20)
                    if not given:
                        return
                    self.trips += ready is client and answered
                    answered = ready is server
                    (server if ready is client else client).sendall(given)

    def close(self) -> None:
        self._listener.close()


@pytest.mark.anyio
async def test_what_comes_together_is_stored_in_one_go_however_much_it_is(url):
    wire = Wire(url)
    with open_memory(wire.url, embedder=Hashed()) as memory:
        saver = memory.checkpointer()
        trips = {}
        for many in (1, 2, 100):
            works = [
                partial(saver.put, at(f"{many}-{n}"), checkpoint(n), metadata(n), {"x": 1}) for n in range(many)
            ]
            saver._write(works)
            began = wire.trips
            outcomes = saver._write(works)
            trips[many] = wire.trips - began
            assert [error for _, error in outcomes] == [None] * many
        assert all(saver.get_tuple(at(f"100-{n}")) for n in range(100))
    wire.close()
    assert trips[100] <= trips[2] + 2 <= 8


@pytest.mark.anyio
async def test_who_waits_for_a_lock_in_vain_fails_alone(url, other):
    with open_memory(f"{url}{'&' if '?' in url else '?'}options=-c%20lock_timeout=50", embedder=Hashed()) as memory:
        saver = memory.checkpointer()
        for number in range(6):
            await aput(saver, number)
        other.execute("BEGIN")
        other.execute("SELECT 1 FROM checkpoints WHERE thread_id = 't2' FOR UPDATE")
        told = await asyncio.gather(*[aput(saver, number, [2]) for number in range(6)], return_exceptions=True)
        assert [isinstance(error, StoreUnavailable) for error in told] == [number == 2 for number in range(6)]


@pytest.mark.anyio
async def test_when_connections_are_cut_off_again_and_again_what_is_acknowledged_is_stored(url, other):
    cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
    with open_memory(url, embedder=Hashed()) as memory:
        saver = memory.checkpointer()
        stored = {}

        async def run(number: int) -> None:
            try:
                await aput(saver, number, [number] * 50)
            except StoreUnavailable:
                stored[number] = False
            else:
                stored[number] = True

        for start in range(0, 800, 80):
            runs = [asyncio.create_task(run(number)) for number in range(start, start + 80)]
            await asyncio.sleep(random.uniform(0, 0.1))
            await asyncio.to_thread(other.execute, cut)
            await asyncio.wait(runs)
    assert len(stored) == 800
    assert any(stored.values())
    with open_memory(url, embedder=Hashed()) as memory:
        saver = memory.checkpointer()
        assert [number for number, kept in stored.items() if kept and not held(saver, number)] == []
        await aput(saver, 1000)
        assert held(saver, 1000)
