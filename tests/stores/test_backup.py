"""A backup is whole and of one moment, though others write all the while; and it is there once it is whole."""

import sqlite3
import stat
import threading

import pytest
from langchain_core.messages import AIMessage, HumanMessage

from learngate.stores import ConfigurationError, InvalidInput, MemoryOperation, StoreUnusable, Turn, open_memory
from tests.databases import database, needs_postgres
from tests.stores.support import Hashed, check_index, draft


@pytest.fixture
def file(tmp_path):
    return tmp_path / "learngate.db"


@pytest.fixture
def memory(file):
    with open_memory(f"sqlite:///{file}", embedder=Hashed()) as opened:
        yield opened


def test_a_backup_opens_as_what_it_is_a_copy_of(memory, tmp_path):
    memory.users.remember("ana", "likes tea")
    memory.sessions.append(Turn("s", (HumanMessage("hello"), AIMessage("hi")), id="t", user_id="ana"))
    learned = memory.learnings.add(draft("Compare fees first."), namespace="n", actor="rita")
    size = memory.backup(tmp_path / "copy.db")
    assert size == (tmp_path / "copy.db").stat().st_size
    assert stat.S_IMODE((tmp_path / "copy.db").stat().st_mode) == 0o600
    memory.users.erase("ana")
    with open_memory(f"sqlite:///{tmp_path}/copy.db", embedder=Hashed()) as copy:
        assert [one.text for one in copy.users.list("ana")] == ["likes tea"]
        assert copy.sessions.get("s", "t").answer == "hi"
        assert copy.learnings.search("compare fees", namespace="n")[0].learning.id == learned.id
        check_index(copy)


def test_a_writer_goes_on_and_the_copy_is_of_the_moment_when_it_began(memory, file, tmp_path):
    """Between any two steps of the copy another connection commits; the copy neither sees it nor begins anew."""
    memory.users.apply(
        "ana", [MemoryOperation("add", f"fact {n} {'x' * 1900}") for n in range(900)], source=("s", "t")
    )
    seen, written = [], []
    with open_memory(f"sqlite:///{file}", embedder=Hashed()) as other:

        def write_between(done, total):
            seen.append(done)
            written.append(other.users.remember("ana", f"meanwhile {len(written)}").id)

        memory.backup(tmp_path / "copy.db", progress=write_between)
    assert len(seen) > 3
    assert seen == sorted(set(seen))
    with open_memory(f"sqlite:///{tmp_path}/copy.db", embedder=Hashed()) as copy:
        assert len(copy.users.list("ana")) == 900
    assert len(memory.users.list("ana")) == 900 + len(written)


def test_backups_are_taken_while_threads_write(memory, tmp_path):
    stop = threading.Event()
    failed = []

    def write(user):
        n = 0
        while not stop.is_set() and n < 500:
            n += 1
            try:
                memory.users.apply(
                    user, [MemoryOperation("add", f"{n} a"), MemoryOperation("add", f"{n} b")], source=("s", "t")
                )
            except Exception as error:  # noqa: BLE001 - it is handed to the test
                failed.append(error)

    threads = [threading.Thread(target=write, args=(user,)) for user in ("ana", "ben")]
    for thread in threads:
        thread.start()
    for n in range(5):
        memory.backup(tmp_path / f"{n}.db")
    stop.set()
    for thread in threads:
        thread.join()
    assert failed == []
    for n in range(5):
        with open_memory(f"sqlite:///{tmp_path}/{n}.db", embedder=Hashed()) as copy:
            for user in ("ana", "ben"):
                assert len(copy.users.list(user)) % 2 == 0  # a transaction is in it whole, or not at all


def test_a_database_in_memory_is_kept_in_a_file(tmp_path):
    with open_memory("sqlite://", embedder=Hashed()) as memory:
        memory.users.remember("ana", "likes tea")
        memory.backup(tmp_path / "kept.db")
    with open_memory(f"sqlite:///{tmp_path}/kept.db", embedder=Hashed()) as kept:
        assert len(kept.users.list("ana")) == 1


def test_a_file_that_is_there_or_cannot_be_made_is_refused(memory, file, tmp_path):
    for path in (file / "a file is no folder", tmp_path / "a\x00b"):
        with pytest.raises(InvalidInput, match="cannot be written"):
            memory.backup(path)
    with pytest.raises(InvalidInput, match="is there already"):
        memory.backup(file)
    with pytest.raises(InvalidInput, match="cannot be written"):
        memory.backup(tmp_path / "none" / "copy.db")


def test_a_copy_of_a_damaged_database_is_no_backup(memory, file, tmp_path):
    memory.users.apply(
        "ana", [MemoryOperation("add", f"fact {n} {'x' * 1900}") for n in range(50)], source=("s", "t")
    )
    memory.close()
    with sqlite3.connect(file) as raw:
        (page,) = raw.execute("SELECT rootpage FROM sqlite_master WHERE name = 'memory_revisions'").fetchone()
    raw.close()
    with file.open("r+b") as raw:
        raw.seek((page - 1) * 4096)
        raw.write(b"\xff" * 4096)
    with (
        open_memory(f"sqlite:///{file}", embedder=Hashed()) as damaged,
        pytest.raises(StoreUnusable, match="no backup was made"),
    ):
        damaged.backup(tmp_path / "copy.db")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("copy")] == []


@needs_postgres
def test_postgres_is_backed_up_by_its_own_tool_and_the_line_is_said_without_the_password(tmp_path):
    with (
        database("postgres", tmp_path) as url,
        open_memory(url, embedder=Hashed()) as memory,
        pytest.raises(ConfigurationError, match=r"pg_dump --format=custom --file=\S*copy\.dump"),
    ):
        memory.backup(tmp_path / "copy.dump")
