"""The engine, and what is done with it: `look()`, `read()`, `write()` and `derive()`, on SQLite or PostgreSQL."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, Protocol

from sqlalchemy import URL, Connection, Engine, Table, make_url
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from learngate.stores.errors import (
    ConfigurationError,
    InvalidInput,
    LearngateError,
    StoreError,
    StoreUnavailable,
    StoreUnusable,
)
from learngate.stores.sqlite import Sqlite

POOL_SECONDS = 30.0
"""How long a thread waits for one of the connections that other threads hold."""
URLS = "sqlite:///learngate.db, sqlite:// for one in memory, or postgresql+psycopg://user:password@host/name"


Mode = Literal["look", "read", "write", "derive"]
"""One SELECT, several of one moment, some that write, or that write what can be made again."""
_WRITING: tuple[Mode, ...] = ("write", "derive")


class Backend(Protocol):
    """What differs from one kind of database to the next."""

    name: str
    in_memory: bool
    conninfo: str
    errors: tuple[type[Exception], ...]

    def engine(self, *, pool_seconds: float) -> Engine:
        """Return an engine over a pool of connections."""

    def connect(self) -> Any:
        """Open one more connection of the driver's own."""

    def attach(self) -> None:
        """Make sure that there is a database that can be used."""

    def detach(self) -> None:
        """Let go of what `attach` holds."""

    def begin(self, connection: Connection, mode: Mode) -> None:
        """Begin a transaction; of those that write one runs at a time. A look needs none."""

    def reason(self, error: BaseException) -> str:
        """Return what an error of the driver says, on one line, without the values that it quotes."""

    def meaning(self, error: BaseException) -> tuple[type[LearngateError], str] | None:
        """Return what an error of the driver is to the caller, and what to do; `None` where it is not known."""


class Database:
    """One database: an engine over a pool of connections, and the errors of its driver in our words.

    One transaction writes at a time, on either database: what was read in it holds until it commits, and the
    order of changes is the order of commits.

    Raises:
        ConfigurationError: the URL names no database that learngate speaks to.
        StoreUnusable, StoreUnavailable: as the driver's errors are sorted.
    """

    def __init__(self, url: str) -> None:
        self.url = _parse(url)
        self.dialect = self.url.get_backend_name()
        self._backend = _backend(self.url)
        self.name = self._backend.name
        self.in_memory = self._backend.in_memory
        self._closed = False
        try:
            with self.translated():
                self._backend.attach()
        except BaseException:
            self._backend.detach()
            raise
        self._engine = self._backend.engine(pool_seconds=POOL_SECONDS)

    def connect(self) -> Any:
        """Open one more connection of the driver's own; whoever asks for it closes it.

        Raises:
            StoreError: the database has been closed.
        """
        if self._closed:
            raise StoreError(f"the database {self.name} is closed: open it again with open_memory(…)")
        with self.translated():
            return self._backend.connect()

    @property
    def conninfo(self) -> str:
        """The address as the driver takes it, password included."""
        return self._backend.conninfo

    @contextmanager
    def look(self) -> Iterator[Connection]:
        """Open a connection for one SELECT, which sees one moment by itself: so it takes one round trip."""
        with self._transaction("look") as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open a transaction that only reads and sees one moment of the database."""
        with self._transaction("read") as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Open a transaction that may write; it commits at the end of the block, or leaves no trace."""
        with self._transaction("write") as connection:
            yield connection

    @contextmanager
    def derive(self) -> Iterator[Connection]:
        """Open one that writes what can be made again: it waits for no disk, and a power cut may take it."""
        with self._transaction("derive") as connection:
            yield connection

    def close(self) -> None:
        """Close every connection; an in-memory database is gone with them. Closing twice is harmless."""
        self._closed = True
        self._engine.dispose()
        self._backend.detach()

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Turn the driver's errors into ours, and name the database in them."""
        drivers: tuple[type[Exception], ...] = (DBAPIError, *self._backend.errors)
        try:
            yield
        except drivers as error:
            raise self.translate(error) from error
        except PoolTimeout as error:
            raise StoreUnavailable(
                f"the database {self.name} has had all its connections in use for over {POOL_SECONDS:g} s;"
                " nothing was stored: try again"
            ) from error
        except UnicodeDecodeError as error:
            # SQLite names what is malformed in its schema, and the driver cannot read the name.
            raise StoreUnusable(
                f"the database {self.name} is damaged: restore a backup, or see `learngate doctor`"
            ) from error
        except (OverflowError, UnicodeEncodeError, StatementError) as error:
            # Builtin errors of the driver (a number beyond 64 bits, a lone surrogate in an id) and of what
            # writes a value for it (a year before the first, a usage that is not JSON).
            reason = error.orig if isinstance(error, StatementError) else error
            raise InvalidInput(f"the database {self.name} cannot hold what it was given: {reason}") from error

    @contextmanager
    def _transaction(self, mode: Mode) -> Iterator[Connection]:
        if self._closed:
            raise StoreError(f"the database {self.name} is closed: open it again with open_memory(…)")
        with self.translated(), self._engine.connect() as connection:
            if mode in _WRITING:
                with connection.begin():
                    self._backend.begin(connection, mode)
                    yield connection
            else:
                # There is nothing to commit: the pool rolls back what is returned to it.
                self._backend.begin(connection, mode)
                yield connection

    def translate(self, error: Exception) -> LearngateError:
        """Say in our words what a driver's error means for the caller.

        Drivers quote the rows and values that they refuse, and that is what somebody said: the error itself loses
        them, too, because whoever prints a traceback prints the causes of ours.
        """
        original = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
        reason, meaning = self._backend.reason(original), self._backend.meaning(original)
        self._hush(error)
        if meaning is None:
            return StoreError(f"the database {self.name} refused a statement, and nothing was stored: {reason}")
        kind, advice = meaning
        return kind(f"the database {self.name} {advice} ({reason})")

    def _hush(self, error: BaseException) -> None:
        """Take the quoted values out of an error of the driver, and out of those that led to it."""
        causes: list[BaseException] = []
        waiting = [error]
        while waiting:
            one = waiting.pop()
            if one not in causes:
                causes.append(one)
                waiting += [cause for cause in (one.__cause__, one.__context__) if cause is not None]
        for one in causes:
            if isinstance(one, DBAPIError) and one.orig is not None:
                one.args = (f"({type(one.orig).__name__}) {self._backend.reason(one.orig)}",)
        for one in causes:
            if isinstance(one, self._backend.errors):
                one.args = (self._backend.reason(one),)


def outlast(connection: Connection) -> None:
    """Let a transaction idle for as long as whoever takes what it reads needs: PostgreSQL would end it."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")


def upsert(connection: Connection, table: Table) -> Any:
    """Return an INSERT that can say what to do ON CONFLICT, in the connection's own dialect."""
    if connection.dialect.name != "postgresql":
        return sqlite.insert(table)
    from sqlalchemy.dialects import postgresql

    return postgresql.insert(table)


def without_password(url: URL) -> str:
    """Return a URL as it may be shown: what is shown is copied into tickets."""
    hidden = {"password": "***"} if "password" in url.query else {}
    return url.update_query_dict(hidden).render_as_string(hide_password=True)


def _backend(url: URL) -> Backend:
    if url.get_backend_name() == "sqlite":
        return Sqlite(url)
    from learngate.stores.postgres import Postgres

    return Postgres(url)


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # the latter for a port that is no number
        shown = re.sub(r"//[^@]*@", "//…@", str(url))
        raise ConfigurationError(f"{shown!r} is not a database URL: write {URLS}") from None
    kind = parsed.get_backend_name()
    if kind == "sqlite" and parsed.database == "":
        raise ConfigurationError(f"{url!r} names no file: write {URLS}")
    if kind != "sqlite" and parsed.drivername not in {"postgresql", "postgresql+psycopg"}:
        raise ConfigurationError(f"{parsed.drivername!r} databases are not supported: write {URLS}")
    return parsed
