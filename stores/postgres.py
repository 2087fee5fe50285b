"""PostgreSQL over psycopg 3: one memory for many machines."""

from __future__ import annotations

import re
from collections.abc import Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.pool import ConnectionPoolEntry

from learngate.stores.errors import (
    ConfigurationError,
    InvalidInput,
    LearngateError,
    StoreUnavailable,
    StoreUnusable,
)

if TYPE_CHECKING:
    from learngate.stores.database import Mode

try:
    import psycopg
    from psycopg.conninfo import make_conninfo
except ImportError as missing:
    raise ConfigurationError(
        f"PostgreSQL needs packages that are not installed ({missing}): pip install 'learngate[postgres]'"
    ) from missing

STATEMENT_SECONDS = 30
"""How long one statement may take."""
LOCK_SECONDS = 5
"""How long a transaction waits for another one's lock, the writers' own included."""
IDLE_SECONDS = 60
"""How long the server keeps a transaction open whose client says nothing."""
CONNECT_SECONDS = 10
IDLE_CHECK_SECONDS = 1.0
WRITERS = 0x1EA26A7E
"""The advisory lock of whoever writes."""


class Postgres:
    """One PostgreSQL database.

    Whoever writes holds one lock until the commit. So two writers never decide on what the other is about to
    change, and a sequence's numbers are in the order of the commits, as the changes cursor needs them.
    """

    errors: tuple[type[Exception], ...] = (psycopg.Error,)
    in_memory = False

    def __init__(self, url: URL) -> None:
        self.name = f"{url.database or 'postgres'} on {url.host or url.query.get('host') or 'this machine'}"
        limits = {
            "statement_timeout": STATEMENT_SECONDS,
            "lock_timeout": LOCK_SECONDS,
            "idle_in_transaction_session_timeout": IDLE_SECONDS,
        }
        asked = str(url.query.get("options", ""))
        options = " ".join(f"-c {name}={seconds}s" for name, seconds in limits.items() if name not in asked)
        self._url = url.set(drivername="postgresql+psycopg").update_query_dict(
            {"options": f"{options} {asked}".strip(), "connect_timeout": str(CONNECT_SECONDS)}
        )
        named = self._url.translate_connect_args(username="user", database="dbname")
        self.conninfo = make_conninfo("", **named, **{key: str(value) for key, value in self._url.query.items()})

    def engine(self, *, pool_seconds: float) -> Engine:
        """Return an engine over a pool of connections; one that the server dropped meanwhile is replaced."""
        engine = create_engine(
            self._url,
            # `begin` says how each transaction begins, in the round trip that it takes anyway.
            isolation_level="AUTOCOMMIT",
            pool_size=8,
            max_overflow=8,
            pool_timeout=pool_seconds,
            hide_parameters=True,
        )
        event.listen(engine, "checkin", _note_use)
        event.listen(engine, "checkout", _check_idle)
        return engine

    def connect(self) -> psycopg.Connection[Any]:
        """Open one more connection."""
        return psycopg.connect(self.conninfo, autocommit=True)

    def attach(self) -> None:
        """Make sure that the server is there, and is one that can be used."""
        self.connect().close()

    def detach(self) -> None:
        """Let go of nothing: the pool holds the connections."""

    def begin(self, connection: Connection, mode: Mode) -> None:
        """Begin a transaction; one that writes waits until it is the only one that does."""
        if mode != "look":
            connection.exec_driver_sql(_BEGINS[mode])

    def reason(self, error: BaseException) -> str:
        """Return what an error says, on one line, without its details and its context, which quote rows."""
        said = error.diag.message_primary if isinstance(error, psycopg.Error) else None
        if said is None:
            return " ".join(str(error).split())
        # What is wrong with a value is said of the value.
        state = getattr(error, "sqlstate", None) or ""
        return f"{type(error).__name__}, {state}" if state.startswith("22") else " ".join(said.split())

    def meaning(self, error: BaseException) -> tuple[type[LearngateError], str] | None:
        """Return what an error of the driver is to the caller, and what to do; `None` where it is not known."""
        state = getattr(error, "sqlstate", None)
        if isinstance(error, psycopg.DataError) and state is None:
            # The driver refuses NUL before the server sees it.
            return _MEANINGS["22"]
        if state is None:
            return _lost(str(error)) if isinstance(error, psycopg.OperationalError) else None
        return _MEANINGS.get(state) or _MEANINGS.get(state[:2])


def _note_use(connection: Any, record: ConnectionPoolEntry) -> None:  # noqa: ARG001
    record.info["used"] = monotonic()


def _check_idle(connection: Any, record: ConnectionPoolEntry, proxy: Any) -> None:  # noqa: ARG001
    """Ask a connection that was idle whether it still is one: asking each time would cost every transaction."""
    if monotonic() - record.info.get("used", monotonic()) < IDLE_CHECK_SECONDS:
        return
    try:
        connection.execute("SELECT 1")
    except psycopg.Error as error:
        raise DisconnectionError from error


def _lost(reason: str) -> tuple[type[LearngateError], str]:
    """Sort what libpq says without a code: it could not connect, or the connection went away."""
    if re.search(r"does not exist|authentication failed|no pg_hba|no password", reason):
        return StoreUnusable, "cannot be opened: create it, or mend the name and the password in its URL"
    if re.search(
        r"get a connection|connection failed|could not connect|timeout expired|refused|translate host", reason
    ):
        return StoreUnavailable, "cannot be reached; nothing was stored: start the server, or mend its URL"
    return StoreUnavailable, (
        "dropped the connection; what was being written may or may not be stored: try again, a turn, a memory or"
        " a decision that is stored is not stored twice"
    )


# A read sees one moment of the database; a write what is committed when it gets its turn.
_WRITE = f"SELECT pg_advisory_xact_lock({WRITERS})"
_BEGINS: Mapping[Mode, str] = {
    "read": "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
    "write": f"BEGIN ISOLATION LEVEL READ COMMITTED; {_WRITE}",
    "derive": f"BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL synchronous_commit = off; {_WRITE}",
}
_AGAIN = "nothing was stored: try again"
_MEANINGS: dict[str, tuple[type[LearngateError], str]] = {
    "55P03": (StoreUnavailable, f"was being written to by others for over {LOCK_SECONDS} s; {_AGAIN}"),
    "57014": (StoreUnavailable, f"took over {STATEMENT_SECONDS} s for one statement; {_AGAIN}"),
    "57": (StoreUnavailable, f"is being shut down or started; {_AGAIN}"),
    "25P03": (StoreUnavailable, f"ended a transaction that was idle for over {IDLE_SECONDS} s; {_AGAIN}"),
    "25006": (StoreUnavailable, "is read-only (a replica?); nothing was stored: name the primary server"),
    "40": (StoreUnavailable, f"let another transaction go first; {_AGAIN}"),
    "53100": (StoreUnavailable, "has no room left; nothing was stored: free some space, then try again"),
    "53": (StoreUnavailable, f"is out of resources, such as connections; {_AGAIN}"),
    "08": (StoreUnavailable, f"lost the connection; {_AGAIN}"),
    "58": (StoreUnavailable, "could not be read or written: check the server's disk, then try again"),
    "22": (InvalidInput, "cannot hold what it was given"),
    "42501": (StoreUnusable, "does not let this user do that: grant the rights, or name another user"),
    "3F000": (StoreUnusable, "has no schema to create tables in: name one in the URL's search_path"),
    "XX001": (StoreUnusable, "is damaged: restore a backup"),
    "XX002": (StoreUnusable, "has a damaged index: REINDEX it, or restore a backup"),
}
