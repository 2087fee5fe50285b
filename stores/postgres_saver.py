"""LangGraph's `PostgresSaver` on the memory's own server, in both colours."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from time import monotonic, sleep
from typing import Any
from weakref import WeakKeyDictionary

from langgraph.checkpoint.postgres import PostgresSaver
from psycopg import Connection, Cursor, OperationalError
from psycopg.errors import LockNotAvailable
from psycopg.rows import DictRow, dict_row
from psycopg_pool import ConnectionPool, PoolTimeout

from learngate.stores.database import Database
from learngate.stores.errors import StoreUnavailable
from learngate.stores.group_commit import Outcome, Work
from learngate.stores.postgres import IDLE_CHECK_SECONDS
from learngate.stores.savers import Threaded

_log = logging.getLogger(__name__)
SETUP = 0x1EA26A7F
"""The advisory lock of whoever creates the tables of checkpoints."""
SETUP_SECONDS = 30.0
"""How long setting up waits for another process that does the same, and for each open transaction of others."""
INDEXES = {
    name: statement
    for statement in PostgresSaver.MIGRATIONS
    for name in re.findall(r"CREATE INDEX CONCURRENTLY IF NOT EXISTS (\w+)", statement)
}
"""The indexes of checkpoints, and what makes each: cut off half-way it leaves one that is no use and in the way."""


class LearngatePostgresSaver(Threaded, PostgresSaver):
    """LangGraph's `PostgresSaver` in both colours, over a pool, its errors of the driver in our words."""

    connections = 4

    def __init__(self, database: Database) -> None:
        self._db = database
        pool = ConnectionPool[Connection[DictRow]](
            database.conninfo,
            connection_class=Connection[DictRow],
            kwargs={"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row},
            min_size=1,
            max_size=self.connections,
            open=False,
            check=_check_idle,
            reset=_note_use,
            name="learngate-checkpoints",
        )
        super().__init__(pool)
        # LangGraph's saver takes one turn at a time even over a pool; each turn has a connection of its own here.
        self.lock = nullcontext()  # type: ignore[assignment]
        self._pool = pool
        self._shared = threading.local()
        try:
            with self._db.translated():
                pool.open()
            self.setup()
        except BaseException:
            self.close()
            raise

    def setup(self) -> None:
        """Create the tables of checkpoints, or bring them up to date, one process at a time.

        LangGraph creates indexes concurrently, which waits for every transaction, one that waits for a lock
        included: so whoever comes second asks again and again instead of waiting.
        """
        with self._db.translated(), self._pool.connection() as connection:
            if self._is_set_up(connection):
                return
            deadline = monotonic() + SETUP_SECONDS
            while not _locked(connection, SETUP):
                if monotonic() > deadline:
                    raise StoreUnavailable(
                        f"the database {self._db.name} is being set up by another process for over"
                        f" {SETUP_SECONDS:g} s: try again"
                    )
                sleep(0.02)
            try:
                self._bring_up(connection)
            except LockNotAvailable as error:
                raise StoreUnavailable(
                    f"the tables of checkpoints in {self._db.name} could not be set up: a transaction of somebody"
                    f" else was open for over {SETUP_SECONDS:g} s (see pg_stat_activity): end it, or try again when"
                    " it has ended"
                ) from error
            finally:
                connection.execute("SELECT pg_advisory_unlock(%s)", (SETUP,))

    def _is_set_up(self, connection: Connection[DictRow]) -> bool:
        there = connection.execute("SELECT to_regclass('checkpoint_migrations') AS name").fetchone()
        if there is None or there["name"] is None:
            return False
        newest = connection.execute("SELECT max(v) AS version FROM checkpoint_migrations").fetchone()
        if newest is None or newest["version"] != len(self.MIGRATIONS) - 1:
            return False
        return _indexes(connection) == dict.fromkeys(INDEXES, True)

    def _bring_up(self, connection: Connection[DictRow]) -> None:
        """Let LangGraph create what is not there, and make half-built indexes again, which it takes for whole."""
        # A large table's index takes its time; waiting for others does not.
        connection.execute("SELECT set_config('statement_timeout', '0', false)")
        connection.execute("SELECT set_config('lock_timeout', %s, false)", (f"{SETUP_SECONDS * 1000:.0f}ms",))
        try:
            for name in (one for one, whole in _indexes(connection).items() if not whole):
                connection.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            PostgresSaver(connection).setup()
            for name in INDEXES.keys() - _indexes(connection).keys():
                connection.execute(INDEXES[name])
        finally:
            connection.execute("RESET statement_timeout")
            connection.execute("RESET lock_timeout")

    def _write(self, works: Sequence[Work]) -> Sequence[Outcome]:
        """Store what came together in one transaction, in a few round trips; if that fails, each alone."""
        if len(works) > 1:
            try:
                return self._write_in_one(works)
            except BaseException as error:  # noqa: BLE001 - whose error it was shows when each is stored alone
                if isinstance(error.__cause__, PoolTimeout):
                    return [(None, error)] * len(works)
                _log.warning("%d checkpoints are stored one by one: %s", len(works), type(error).__name__)
        return super()._write(works)

    def _write_in_one(self, works: Sequence[Work]) -> Sequence[Outcome]:
        with (
            self._reached(),
            self._pool.connection() as connection,
            connection.pipeline(),
            connection.transaction(),
        ):
            self._shared.connection = connection
            try:
                return [(work(), None) for work in works]
            finally:
                del self._shared.connection

    @contextmanager
    def _cursor(self, *, pipeline: bool = False) -> Iterator[Cursor[DictRow]]:
        if connection := getattr(self._shared, "connection", None):
            with connection.cursor(binary=True, row_factory=dict_row) as cursor:
                yield cursor
            return
        with self._reached(), super()._cursor(pipeline=pipeline) as cursor:
            yield cursor

    @contextmanager
    def _reached(self) -> Iterator[None]:
        with self._db.translated():
            try:
                yield
            except OperationalError as error:
                if (error.sqlstate or "57P").startswith("57P"):
                    # The server went away, and with it every connection of the pool, not this one alone.
                    self._pool.check()
                raise

    def close(self) -> None:
        """Close the pool."""
        self._pool.close()


_used: WeakKeyDictionary[Connection[Any], float] = WeakKeyDictionary()


def _note_use(connection: Connection[Any]) -> None:
    _used[connection] = monotonic()


def _check_idle(connection: Connection[Any]) -> None:
    """Ask a connection that was idle whether it still is one."""
    if monotonic() - _used.get(connection, 0.0) > IDLE_CHECK_SECONDS:
        ConnectionPool.check_connection(connection)


def _indexes(connection: Connection[DictRow]) -> dict[str, bool]:
    """Return which of the indexes of checkpoints are there, and whether each is whole."""
    its = "SELECT name, indisvalid AS whole FROM unnest(%s::text[]) AS name"
    found = connection.execute(f"{its} JOIN pg_index ON indexrelid = to_regclass(name)", ([*INDEXES],))
    return {row["name"]: row["whole"] for row in found}


def _locked(connection: Any, key: int) -> bool:
    row = connection.execute("SELECT pg_try_advisory_lock(%s) AS locked", (key,)).fetchone()
    return bool(row["locked"])
