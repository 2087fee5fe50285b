"""What a database's own tools do for it: clearing what deleted rows leave, checking, rebuilding what is derived.

The statements of SQLite and of PostgreSQL stand here side by side.
"""

from __future__ import annotations

from contextlib import closing
from typing import Any

from sqlalchemy import Connection, text

from learngate.stores.database import Database
from learngate.stores.errors import StoreError, StoreUnusable
from learngate.stores.tables import learnings, metadata, turns, user_memories

SEARCHED = (learnings.name, user_memories.name, turns.name)
"""The tables with a full-text index."""

CHECKPOINTS = {"checkpoints", "checkpoint_blobs", "checkpoint_writes"}
"""LangGraph's tables on PostgreSQL."""


def purge_terms(connection: Connection) -> None:
    """Let the full-text indexes drop the words of deleted rows, which they keep until their segments are merged."""
    if connection.dialect.name == "sqlite":
        for name in SEARCHED:
            connection.exec_driver_sql(f"INSERT INTO {name}_fts({name}_fts) VALUES ('optimize')")


def scrub(database: Database) -> str | None:
    """Clear what deleted rows leave in free pages and in the log; return why, where it could not be done.

    SQLite rewrites the file and empties its write-ahead log, for which no other process may be reading or
    writing. PostgreSQL builds the full-text indexes and its statistics anew, gives the dead rows' space free, and
    writes over it in time.
    """
    try:
        with closing(database.connect()) as raw, database.translated():
            if database.dialect != "sqlite":
                raw.execute("SET statement_timeout = 0")
                # ANALYZE, because the planner's statistics hold frequent words and names; REINDEX, because GIN
                # keeps every word that it has ever seen.
                here = "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"
                there = {row[0] for row in raw.execute(here).fetchall()}
                _drop_half_built(raw)
                raw.execute(f"VACUUM (ANALYZE) {', '.join([*metadata.tables, *(there & CHECKPOINTS)])}")
                try:
                    for name in SEARCHED:
                        raw.execute(f"REINDEX INDEX CONCURRENTLY {name}_searchable")
                finally:
                    remaining = _drop_half_built(raw)
                if not remaining:
                    return None
                return f"the indexes {', '.join(remaining)} of {database.name}, half built: erase once more"
            raw.execute("VACUUM")
            if database.in_memory or not raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                return None
            reason = "another process is reading the database"
    except StoreError as error:
        reason = str(error)
    left = "free pages and the write-ahead log" if database.dialect == "sqlite" else "dead rows and statistics"
    return f"{left} of {database.name} ({reason}): erase once more"


def _drop_half_built(raw: Any) -> list[str]:
    """Drop the indexes that a failed REINDEX CONCURRENTLY has left, words and all; return those that remain."""
    query = r"""
        SELECT quote_ident(one.relname)
        FROM pg_index JOIN pg_class one ON one.oid = indexrelid JOIN pg_class its ON its.oid = indrelid
        WHERE NOT indisvalid AND one.relname ~ '_cc(new|old)[0-9]*$' AND its.relname = ANY(%s)
            AND one.relnamespace = current_schema()::regnamespace
    """
    ours = [[*metadata.tables]]
    for (name,) in raw.execute(query, ours).fetchall():
        raw.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
    return [name for (name,) in raw.execute(query, ours).fetchall()]


def size(database: Database) -> int:
    """Return how many bytes a database takes."""
    with database.read() as connection:
        if database.dialect != "sqlite":
            return int(connection.scalar(text("SELECT pg_database_size(current_database())")) or 0)
        pages, page = (connection.scalar(text(f"PRAGMA {name}")) or 0 for name in ("page_count", "page_size"))
        return int(pages * page)


def server(database: Database) -> str:
    """Return which database it is, with its version."""
    with database.read() as connection:
        if database.dialect != "sqlite":
            return f"PostgreSQL {connection.scalar(text('SHOW server_version'))}"
        return f"SQLite {connection.scalar(text('SELECT sqlite_version()'))}"


def integrity(database: Database, *, limit: int = 20) -> list[str]:
    """Return what the database itself finds wrong with its pages and its indexes; nothing where it is sound.

    PostgreSQL has no such check without an extension: there the list is empty.
    """
    if database.dialect != "sqlite":
        return []
    try:
        with database.read() as connection:
            said = [str(row[0]) for row in connection.exec_driver_sql(f"PRAGMA integrity_check({limit})")]
    except StoreUnusable as error:
        said = [str(error)]
    return [] if said == ["ok"] else said


def of_an_index(said: str) -> bool:
    """Whether what `integrity` says is of an index alone, which can be made anew from its table."""
    return any(words in said for words in ("missing from index", "entries in index", "non-unique entry in index"))


def of_a_row(said: str) -> bool:
    """Whether what `integrity` says is of what a row holds, while its page can be read."""
    return "CHECK constraint failed" in said or "NULL value in" in said


def torn_links(database: Database, *, limit: int = 20) -> list[str]:
    """Return the rows that point at rows that are not there; PostgreSQL has none."""
    if database.dialect != "sqlite":
        return []
    with database.read() as connection:
        rows = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchmany(limit)
    return [f"row {row[1]} of {row[0]} points at a row of {row[2]} that is not there" for row in rows]


def unsound_terms(database: Database) -> list[str]:
    """Return the tables whose full-text index does not hold the words of their rows."""
    unsound = []
    for name in SEARCHED if database.dialect == "sqlite" else ():
        try:
            with database.write() as connection:
                connection.exec_driver_sql(
                    f"INSERT INTO {name}_fts({name}_fts, rank) VALUES ('integrity-check', 1)"
                )
        except StoreUnusable:
            unsound.append(name)
    return unsound


def rebuild_terms(database: Database, name: str) -> None:
    """Make the full-text index of a table anew, from its rows."""
    with database.write() as connection:
        if database.dialect == "sqlite":
            connection.exec_driver_sql(f"INSERT INTO {name}_fts({name}_fts) VALUES ('rebuild')")
        else:
            connection.exec_driver_sql(f"REINDEX INDEX {name}_searchable")
