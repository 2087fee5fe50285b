import os
import sqlite3
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import text

from learngate.stores import (
    ConfigurationError,
    InvalidInput,
    LearngateError,
    Memory,
    StoreError,
    StoreUnavailable,
    StoreUnusable,
    open_memory,
    sqlite,
)
from learngate.stores import database as room
from learngate.stores.database import Database
from tests.stores.support import Hashed, draft, processes, together, turn

OPEN_FILES = Path("/proc/self/fd")

LOCKER = """
import sqlite3
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute(sys.argv[2] if len(sys.argv) > 2 else "BEGIN EXCLUSIVE")
ready()
"""


def held(folder: Path) -> list[str]:
    """Return the files under a folder that this process still has open."""
    return [path for path in map(os.path.realpath, OPEN_FILES.iterdir()) if str(path).startswith(str(folder))]


def table(name: str) -> str:
    return f"CREATE TABLE {name} (x)"


# -- what cannot be opened ---------------------------------------------------------------------------------


def folder(path: Path) -> str:
    path.mkdir()
    return f"sqlite:///{path}"


def random_bytes(path: Path) -> str:
    path.write_bytes(bytes(range(256)) * 40)
    return f"sqlite:///{path}"


def short_text(path: Path) -> str:
    path.write_text("hi")
    return f"sqlite:///{path}"


def torn(path: Path) -> str:
    open_memory(f"sqlite:///{path}").close()
    kept = path.read_bytes()
    path.write_bytes(kept[:4096] + b"\xff" * (len(kept) - 4096))
    return f"sqlite:///{path}"


@pytest.mark.parametrize(
    ("make", "kind", "said"),
    [
        (folder, StoreUnusable, "is a folder: name a file in it"),
        (lambda path: f"sqlite:///{path}/no/such.db", StoreUnusable, "must be a file in an existing folder"),
        (random_bytes, StoreUnusable, "is not an SQLite database"),
        (short_text, StoreUnusable, "is not an SQLite database"),
        (torn, StoreUnusable, "is damaged: restore a backup"),
        (lambda path: f"sqlite:///file:{path}?mode=ro&uri=true", StoreUnusable, "must be a file in an existing"),
        (lambda _: "postgresql+asyncpg://ana@localhost/x", ConfigurationError, "asyncpg' databases are not"),
        (lambda _: "mysql://localhost/x", ConfigurationError, "'mysql' databases are not"),
        (lambda _: "learngate.db", ConfigurationError, "write sqlite:///learngate.db"),
        (lambda _: "sqlite:///", ConfigurationError, "names no file"),
        (lambda _: "sqlite:", ConfigurationError, "is not a database URL"),
        (lambda _: " ", ConfigurationError, "is not a database URL"),
    ],
)
def test_what_cannot_be_opened_says_why_and_leaves_nothing_open(tmp_path, make, kind, said):
    url = make(tmp_path / "it")
    there = sorted(tmp_path.iterdir())
    with pytest.raises(kind, match=said):
        open_memory(url)
    assert sorted(tmp_path.iterdir()) == there
    if OPEN_FILES.exists():
        assert held(tmp_path) == []


def test_a_file_that_is_not_a_database_is_left_as_it_was(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("my notes\n" * 500)
    with pytest.raises(StoreUnusable):
        open_memory(f"sqlite:///{path}")
    assert path.read_text() == "my notes\n" * 500


def test_an_empty_file_becomes_a_database(tmp_path):
    (tmp_path / "new.db").touch()
    with open_memory(f"sqlite:///{tmp_path}/new.db") as memory:
        assert memory.users.remember("ana", "likes tea").id == 1


# -- read-only, locked, closed -----------------------------------------------------------------------------


def test_a_read_only_database_is_read_and_refuses_writes(tmp_path):
    path = tmp_path / "it.db"
    with open_memory(f"sqlite:///{path}") as memory:
        memory.users.remember("ana", "likes tea")
        memory.sessions.append(turn("s", user_id="ana"))
        learning = memory.learnings.add(draft("Compare costs first"), namespace="n", actor="ana")
        memory.learnings.search("compare costs", namespace="n")
    with open_memory(f"sqlite:///file:{path}?mode=ro&uri=true") as memory:
        assert [m.text for m in memory.users.list("ana")] == ["likes tea"]
        assert [hit.learning.id for hit in memory.learnings.search("compare costs", namespace="n")] == [1]
        for write in (
            lambda: memory.users.remember("ana", "likes coffee"),
            lambda: memory.sessions.append(turn("s", user_id="ana")),
            lambda: memory.learnings.retire(learning.id, actor="ana"),
            lambda: memory.sessions.claim("other", "ana"),
            lambda: memory.checkpointer(),
        ):
            with pytest.raises(StoreUnavailable, match="is read-only; nothing was stored"):
                write()
        assert [m.text for m in memory.users.list("ana")] == ["likes tea"]


def test_a_database_that_another_process_has_locked_says_so_and_stores_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.1)
    path = tmp_path / "it.db"
    with open_memory(f"sqlite:///{path}") as memory:
        memory.users.remember("ana", "likes tea")
        with processes(LOCKER, [str(path)]):
            for write in (
                lambda: memory.users.remember("ana", "likes coffee"),
                lambda: memory.sessions.append(turn("s")),
                lambda: memory.learnings.add(draft("Compare costs"), namespace="n", actor="ana"),
                lambda: memory.checkpointer(),
            ):
                with pytest.raises(StoreUnavailable, match="locked by another process"):
                    write()
            # Readers are not kept out.
            assert [m.text for m in memory.users.list("ana")] == ["likes tea"]
        assert memory.users.remember("ana", "likes coffee").id == 2
        assert memory.sessions.standing("s") is None


@pytest.mark.parametrize("lock", ["BEGIN EXCLUSIVE", "BEGIN IMMEDIATE"])
def test_a_new_database_that_another_process_has_locked_is_waited_for_and_refused(tmp_path, monkeypatch, lock):
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.1)
    path = tmp_path / "it.db"
    with processes(LOCKER, [str(path), lock]):
        with pytest.raises(StoreUnavailable, match="locked by another process"):
            open_memory(f"sqlite:///{path}")
        if OPEN_FILES.exists():
            assert held(tmp_path) == []
    open_memory(f"sqlite:///{path}").close()


def test_a_first_opener_waits_for_another_one(tmp_path, monkeypatch):
    """SQLite itself does not wait where a database changes to WAL: the first openers' race."""
    path = tmp_path / "it.db"
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    other.execute(table("anything"))
    waited = []

    def the_other_one_ends(seconds: float) -> None:
        waited.append(seconds)
        if other.in_transaction:
            other.execute("COMMIT")

    monkeypatch.setattr(sqlite, "sleep", the_other_one_ends)
    with open_memory(f"sqlite:///{path}") as memory:
        assert waited
        assert memory.users.remember("ana", "likes tea").id == 1
    other.close()


@pytest.mark.parametrize("where", ["sqlite://", "sqlite:///{}/it.db"])
def test_a_closed_memory_says_that_it_is_closed(tmp_path, where):
    memory = open_memory(where.format(tmp_path), embedder=Hashed())
    memory.close()
    memory.close()
    for use in (
        lambda: memory.users.list("ana"),
        lambda: memory.users.remember("ana", "likes tea"),
        lambda: memory.learnings.search("costs", namespace="n"),
        lambda: memory.checkpointer(),
    ):
        with pytest.raises(StoreError, match="is closed: open it again"):
            use()
    if OPEN_FILES.exists():
        assert held(tmp_path) == []


def test_closing_closes_what_every_thread_had_open(tmp_path):
    if not OPEN_FILES.exists():
        pytest.skip("this system does not list a process's open files")
    memory = open_memory(f"sqlite:///{tmp_path}/it.db", embedder=Hashed())
    memory.checkpointer()
    together(*[lambda: memory.users.remember("ana", "likes tea")] * 6)
    assert held(tmp_path)
    memory.close()
    assert held(tmp_path) == []


def test_threads_that_find_every_connection_in_use_are_told_so(tmp_path, monkeypatch):
    monkeypatch.setattr(room, "POOL_SECONDS", 0.05)
    with open_memory(f"sqlite:///{tmp_path}/it.db") as memory:
        with ExitStack() as stack:
            engaged = stack.enter_context(memory.database.read()).engine.pool
            while engaged.checkedout() < 18:
                stack.enter_context(memory.database.read())
            with pytest.raises(StoreUnavailable, match=r"all its connections in use .* nothing was stored"):
                memory.users.list("ana")
        assert memory.users.list("ana") == []


# -- transactions ------------------------------------------------------------------------------------------


@pytest.fixture
def plain(tmp_path):
    opened = Database(f"sqlite:///{tmp_path}/it.db")
    with opened.write() as connection:
        connection.execute(text(table("t")))
    yield opened
    opened.close()


def count(database: Database) -> int:
    with database.read() as connection:
        return connection.scalar(text("SELECT count(*) FROM t"))


def test_a_write_that_fails_leaves_no_trace(plain):
    def fail() -> None:
        with plain.write() as connection:
            connection.execute(text("INSERT INTO t VALUES (1)"))
            connection.execute(text(table("made_on_the_way")))
            raise RuntimeError("the power is gone")

    with pytest.raises(RuntimeError, match="the power is gone"):
        fail()
    assert count(plain) == 0
    with pytest.raises(StoreError, match="no such table"), plain.read() as connection:
        connection.execute(text("SELECT * FROM made_on_the_way"))


def test_a_reader_sees_one_moment(plain):
    with plain.read() as reader:
        before = reader.scalar(text("SELECT count(*) FROM t"))
        with plain.write() as writer:
            writer.execute(text("INSERT INTO t VALUES (1)"))
        assert reader.scalar(text("SELECT count(*) FROM t")) == before
    assert count(plain) == before + 1


def test_a_writer_that_read_first_is_never_thrown_out(plain):
    """A deferred transaction would fail here with a snapshot that no busy timeout helps."""

    def increase() -> None:
        for _ in range(20):
            with plain.write() as connection:
                seen = connection.scalar(text("SELECT coalesce(max(x), 0) FROM t"))
                connection.execute(text("INSERT INTO t VALUES (:x)"), {"x": seen + 1})

    assert together(*[increase] * 8) == [None] * 8
    with plain.read() as connection:
        assert connection.scalar(text("SELECT count(DISTINCT x) FROM t")) == 160


@pytest.mark.parametrize(
    ("value", "said"), [(2**63, "too large"), ("\ud800", "surrogates"), (object(), "not supported|binding")]
)
def test_what_the_driver_cannot_take_is_an_error_of_ours(plain, value, said):
    with pytest.raises(LearngateError, match=said), plain.write() as connection:
        connection.execute(text("INSERT INTO t VALUES (:x)"), {"x": value})
    assert count(plain) == 0


def test_a_broken_rule_of_the_schema_is_an_error_of_ours(plain):
    with plain.write() as connection:
        connection.execute(text("CREATE UNIQUE INDEX once ON t (x)"))
    refused = pytest.raises(StoreError, match="refused a statement, and nothing was stored: UNIQUE")
    with refused, plain.write() as connection:
        connection.execute(text("INSERT INTO t VALUES (1), (1)"))
    assert count(plain) == 0


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("database is locked", StoreUnavailable),
        ("database table is locked", StoreUnavailable),
        ("attempt to write a readonly database", StoreUnavailable),
        ("database or disk is full", StoreUnavailable),
        ("disk I/O error", StoreUnavailable),
        ("unable to open database file", StoreUnusable),
        ("file is not a database", StoreUnusable),
        ("database disk image is malformed", StoreUnusable),
        ("no such column: x", StoreError),
    ],
)
def test_each_error_of_the_driver_has_a_meaning(reason, kind):
    database = Database("sqlite://")
    meant = database.translate(sqlite3.OperationalError(reason))
    database.close()
    assert type(meant) is kind
    assert "in memory" in str(meant)
    assert reason in str(meant)


# -- in memory ---------------------------------------------------------------------------------------------

IN_MEMORY = [
    "sqlite://",
    "sqlite:///:memory:",
    "sqlite:///file::memory:?uri=true",
    "sqlite:///file:shared?mode=memory&cache=shared&uri=true",
]


@pytest.mark.parametrize("url", IN_MEMORY)
def test_databases_in_memory_are_strangers_to_each_other(url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with open_memory(url) as one, open_memory(url) as other:
        one.users.remember("ana", "likes tea")
        assert other.users.list("ana") == []
        assert one.database.name == "in memory"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///{}/it.db"])
def test_twenty_threads_read_and_write_one_database(url, tmp_path):
    with open_memory(url.format(tmp_path), embedder=Hashed()) as memory:

        def work(number: int) -> int:
            for step in range(6):
                memory.sessions.append(turn(f"s{number}", f"question {step}"))
                memory.users.remember(f"user{number % 3}", f"fact {step}")
                memory.learnings.add(draft(f"insight {number} {step}"), namespace="n", actor="ana")
                memory.learnings.search(f"insight {step}", namespace="n")
            return len(memory.sessions.window(f"s{number}", turns=10))

        assert together(*[lambda n=n: work(n) for n in range(20)]) == [6] * 20
        _check_all_is_there(memory)


def _check_all_is_there(memory: Memory) -> None:
    assert [len(memory.users.list(f"user{n}")) for n in range(3)] == [6, 6, 6]
    assert memory.learnings.count(namespace="n") == 120
    assert len(memory.sessions.list(user_id=None)) == 20


def test_a_number_beyond_64_bits_is_bad_input_and_not_a_crash():
    with open_memory("sqlite://", embedder=Hashed()) as memory:
        for use in (
            lambda: memory.learnings.get(2**70),
            lambda: memory.learnings.proposal(2**70),
            lambda: memory.users.forget("ana", 2**70),
            lambda: memory.sessions.show("\ud800"),
            lambda: memory.sessions.window("\ud800"),
        ):
            with pytest.raises(InvalidInput):
                use()
