"""A database that is busy is asked again: within a bound, and so that it can be seen."""

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from learngate.graph import build_graph
from learngate.graph.scripted import ScriptedChat
from learngate.stores import Memory, StoreUnavailable, sqlite
from tests.graph.support import ANA, opened, say, thread


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Memory]:
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.05)
    with opened(f"sqlite:///{tmp_path / 'it.db'}") as memory:
        memory.sessions.claim("s", "ana")
        yield memory


@pytest.fixture
def lock(memory: Memory) -> Iterator[sqlite3.Connection]:
    """Another program's connection, which holds the lock."""
    with closing(sqlite3.connect(memory.database.name, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield connection


def ask(memory: Memory) -> Any:
    # Without a checkpointer, the first to write is the step that records the turn.
    graph = build_graph(memory, model=ScriptedChat(), reflection="off", checkpointer=None)
    return graph.invoke(say("What is an ETF?", "m"), thread("s"), context=ANA)


def tried(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.name == "learngate.graph.build"]


def test_a_lock_that_stays_is_given_up_after_three_tries(
    memory: Memory, lock: sqlite3.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(StoreUnavailable, match="nothing was stored: try again"):
        ask(memory)
    assert len(tried(caplog)) == 3
    assert all("was locked" in line and "3 times at most" in line for line in tried(caplog))
    lock.execute("ROLLBACK")
    assert memory.sessions.window("s") == []


def test_a_lock_that_goes_is_waited_for_and_the_turn_is_stored_once(
    memory: Memory, lock: sqlite3.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    class Release(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lock.execute("ROLLBACK")

    log = logging.getLogger("learngate.graph.build")
    log.addHandler(release := Release())
    try:
        result = ask(memory)
    finally:
        log.removeHandler(release)
    assert result["messages"][-1].text == "ok"
    assert len(tried(caplog)) == 1
    assert [turn.id for turn in memory.sessions.window("s")] == ["m"]
