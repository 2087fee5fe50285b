"""The engine and its two kinds of transaction: `read()` and `write()`."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import monotonic, sleep
from uuid import uuid4

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, DBAPIError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import QueuePool

from learngate.stores.errors import (
    ConfigurationError,
    InvalidInput,
    StoreError,
    StoreUnavailable,
    StoreUnusable,
)

BUSY_SECONDS = 5.0
"""How long a statement waits for another process's lock before it gives up."""
POOL_SECONDS = 30.0
"""How long a thread waits for one of the connections that other threads hold."""


class Database:
    """One database: an engine over a pool of connections, and the errors of its driver in our words.

    Writes are short `BEGIN IMMEDIATE` transactions: a deferred one that reads first and writes later fails
    with `SQLITE_BUSY_SNAPSHOT`, which no busy timeout helps.

    Raises:
        ConfigurationError: the URL names no database that learngate speaks to.
        StoreUnusable, StoreUnavailable: as `translate` sorts them.
    """

    def __init__(self, url: str) -> None:
        self.url = _parse(url)
        self.in_memory = _is_in_memory(self.url)
        self._open = _connector(self.url)
        self._closed = False
        self._anchor = self._open_anchor()
        self._engine = create_engine(
            "sqlite://", creator=self.connect, poolclass=QueuePool, pool_size=8, pool_timeout=POOL_SECONDS
        )
        event.listen(self._engine, "begin", _begin)
        self._writer = self._engine.execution_options(write=True)

    @property
    def name(self) -> str:
        """The database as a person would name it."""
        return "in memory" if self.in_memory else str(self.url.database)

    def connect(self) -> sqlite3.Connection:
        """Open one more connection; whoever asks for it closes it.

        Raises:
            StoreError: the database has been closed.
        """
        if self._closed:
            raise StoreError(f"the database {self.name} is closed: open it again with open_memory(…)")
        with self.translated():
            return self._open()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open a transaction that only reads and sees one moment of the database."""
        with self._transaction(self._engine) as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Open a transaction that may write; it commits at the end of the block, or leaves no trace."""
        with self._transaction(self._writer) as connection:
            yield connection

    def close(self) -> None:
        """Close every connection; an in-memory database is gone with them. Closing twice is harmless."""
        self._closed = True
        self._engine.dispose()
        self._anchor.close()

    @contextmanager
    def _transaction(self, engine: Engine) -> Iterator[Connection]:
        with self.translated(), engine.begin() as connection:
            yield connection

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Turn the driver's errors into ours, and name the database in them."""
        try:
            yield
        except (DBAPIError, sqlite3.Error) as error:
            raise translate(error, self.name) from error
        except PoolTimeout as error:
            raise StoreUnavailable(
                f"the database {self.name} has had all its connections in use for over {POOL_SECONDS:g} s;"
                " nothing was stored: try again"
            ) from error
        except (OverflowError, UnicodeEncodeError, StatementError) as error:
            # Builtin errors of the driver (a number beyond 64 bits, a lone surrogate in an id) and of what
            # writes a value for it (a year before the first, a usage that is not JSON).
            reason = error.orig if isinstance(error, StatementError) else error
            raise InvalidInput(f"the database {self.name} cannot hold what it was given: {reason}") from error

    def _open_anchor(self) -> sqlite3.Connection:
        """Open the connection that shows whether this is a database at all, and keeps one in memory alive."""
        anchor = self.connect()
        try:
            with self.translated():
                anchor.execute("SELECT count(*) FROM sqlite_master").fetchone()
                if not self.in_memory:
                    _use_wal(anchor)
        except BaseException:
            anchor.close()
            raise
        return anchor


def translate(error: DatabaseError | DBAPIError | sqlite3.Error, name: str) -> StoreError:
    """Say in our words what a driver's error means for the caller."""
    original = error.orig if isinstance(error, DBAPIError) else error
    reason = str(original)
    for said, kind, advice in _MEANINGS:
        if said in reason:
            return kind(f"the database {name} {advice} ({reason})")
    return StoreError(f"the database {name} refused a statement, and nothing was stored: {reason}")


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


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise ConfigurationError(
            f"{url!r} is not a database URL: write sqlite:///learngate.db, or sqlite:// for one in memory"
        ) from None
    if parsed.get_backend_name() == "sqlite" and parsed.database == "":
        raise ConfigurationError(
            f"{url!r} names no file: write sqlite:///learngate.db, or sqlite:// for one in memory"
        )
    if parsed.get_backend_name() != "sqlite":
        raise ConfigurationError(
            f"{parsed.get_backend_name()!r} databases are not supported by this version:"
            " write sqlite:///learngate.db, or sqlite:// for one in memory"
        )
    return parsed


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


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get("write")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
