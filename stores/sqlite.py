"""SQLite: a file, or one of its `memdb` files in memory, opened so that what is acknowledged is stored."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from sqlalchemy import URL, Connection, Engine, create_engine
from sqlalchemy.pool import QueuePool

from learngate.stores.errors import LearngateError, StoreError, StoreUnavailable, StoreUnusable

if TYPE_CHECKING:
    from learngate.stores.database import Mode

BUSY_SECONDS = 5.0
"""How long a statement waits for another process's lock before it gives up."""


class Sqlite:
    """One SQLite database.

    Writes are short `BEGIN IMMEDIATE` transactions: a deferred one that reads first and writes later fails
    with `SQLITE_BUSY_SNAPSHOT`, which no busy timeout helps.
    """

    errors: tuple[type[Exception], ...] = (sqlite3.Error,)

    def __init__(self, url: URL) -> None:
        self.in_memory = _is_in_memory(url)
        self.name = "in memory" if self.in_memory else str(url.database)
        self.conninfo = str(url.database)
        self.connect = _connector(url)
        self._anchor: sqlite3.Connection | None = None

    def engine(self, *, pool_seconds: float) -> Engine:
        """Return an engine over a pool of connections."""
        return create_engine(
            "sqlite://",
            creator=self.connect,
            poolclass=QueuePool,
            pool_size=8,
            pool_timeout=pool_seconds,
            hide_parameters=True,
        )

    def attach(self) -> None:
        """Open the connection that shows whether this is a database at all, and keeps one in memory alive."""
        self._anchor = self.connect()
        self._anchor.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if not self.in_memory:
            _use_wal(self._anchor)

    def detach(self) -> None:
        """Close that connection; an in-memory database is gone with the last one."""
        if self._anchor is not None:
            self._anchor.close()

    def begin(self, connection: Connection, mode: Mode) -> None:
        """Begin a transaction, past SQLAlchemy, for which it is as much work as any statement."""
        driver: Any = connection.connection.dbapi_connection
        for statement in _BEGINS[mode]:
            driver.execute(statement)

    def reason(self, error: BaseException) -> str:
        """Return what an error says, on one line, without the text that it could not decode."""
        return " ".join(str(error).split()).partition(" with text ")[0]

    def meaning(self, error: BaseException) -> tuple[type[LearngateError], str] | None:
        """Return what an error of the driver is to the caller, and what to do; `None` where it is not known."""
        reason = str(error)
        return next(((kind, advice) for said, kind, advice in _MEANINGS if said in reason), None)


_BEGINS: Mapping[Mode, tuple[str, ...]] = {
    "look": (),
    "read": ("BEGIN",),
    "write": ("PRAGMA synchronous = FULL", "BEGIN IMMEDIATE"),
    "derive": ("PRAGMA synchronous = NORMAL", "BEGIN IMMEDIATE"),
}
_MEANINGS: tuple[tuple[str, type[StoreError], str], ...] = (
    (
        "locked",
        StoreUnavailable,
        f"was locked by another process for over {BUSY_SECONDS:g} s; nothing was stored: try again",
    ),
    ("readonly", StoreUnavailable, "is read-only; nothing was stored: make it and its folder writable"),
    (
        "disk is full",
        StoreUnavailable,
        "has no room left; nothing was stored: free some space, then try again",
    ),
    ("disk I/O error", StoreUnavailable, "could not be read or written: check the disk, then try again"),
    (
        "unable to open database file",
        StoreUnusable,
        "cannot be opened: it must be a file in an existing folder that you may write to",
    ),
    ("file is not a database", StoreUnusable, "is not an SQLite database: name another file"),
    ("malformed", StoreUnusable, "is damaged: restore a backup, or see `learngate doctor`"),
)


def _is_in_memory(url: URL) -> bool:
    return url.database in {None, "", ":memory:", "file::memory:"} or url.query.get("mode") == "memory"


def _connector(url: URL) -> Callable[[], sqlite3.Connection]:
    """Return what opens one more connection to the database.

    A database in memory is one of SQLite's `memdb` files, so that it has as many connections, with the same
    locks between them, as a file has.
    """
    if _is_in_memory(url):
        return partial(_connect, f"file:/learngate-{uuid4().hex}?vfs=memdb", uri=True)
    path = str(url.database)
    uri = path.startswith("file:")
    if not uri and Path(path).is_dir():
        raise StoreUnusable(f"the database {path} is a folder: name a file in it, such as {path}/learngate.db")
    query = "&".join(f"{key}={value}" for key, value in url.query.items() if key != "uri")
    return partial(_connect, f"{path}?{query}" if uri and query else path, uri=uri)


def _connect(path: str, *, uri: bool) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, uri=uri)
    try:
        connection.execute("PRAGMA foreign_keys = ON")
        # What a user was told is stored survives a power cut, too.
        connection.execute("PRAGMA synchronous = FULL")
    except BaseException:
        connection.close()
        raise
    return connection


def _use_wal(connection: sqlite3.Connection) -> None:
    """Let readers and a writer work side by side from now on.

    SQLite does not wait for a lock here, so that of several first openers all but one would fail.
    """
    deadline = monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or monotonic() > deadline:
                raise
            sleep(0.01)
        else:
            return
