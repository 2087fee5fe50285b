"""The schema's history: numbered functions, run on open. A step that has been released is never edited."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqlalchemy import Connection, func, insert, inspect, select
from sqlalchemy.exc import DBAPIError

from learngate.stores import lexical
from learngate.stores.database import Database
from learngate.stores.errors import StoreUnusable
from learngate.stores.records import now
from learngate.stores.tables import learnings, metadata, schema, turns, user_memories

Migration = Callable[[Connection], None]


def first_schema(connection: Connection) -> None:
    """Create every table and index of version 1."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("CREATE EXTENSION IF NOT EXISTS vector")
    metadata.create_all(connection, checkfirst=False)
    lexical.prepare(connection)
    lexical.create(connection, learnings, active="{row}.status = 'active'")
    lexical.create(connection, user_memories, active="{row}.valid_to IS NULL")
    lexical.create(connection, turns, active="{row}.status = 'complete'")


MIGRATIONS: tuple[Migration, ...] = (first_schema,)


def migrate(database: Database, migrations: Sequence[Migration] = MIGRATIONS) -> int:
    """Bring a database to the newest schema, in one transaction, and return its version.

    Processes that open a new database at once wait for the one that creates it.

    Raises:
        StoreUnusable: it was written by a newer learngate, or it holds somebody else's tables.
    """
    newest = len(migrations)
    with database.read() as connection:
        if version(connection, database.name, newest) == newest:
            return newest
    with database.write() as connection:
        current = version(connection, database.name, newest)
        for number, step in enumerate(migrations[current:], start=current + 1):
            try:
                step(connection)
            except DBAPIError as error:
                if "already exists" not in str(error.orig):
                    raise
                raise StoreUnusable(
                    f"the database {database.name} holds tables of another program ({error.orig}):"
                    " give learngate a database of its own"
                ) from error
            connection.execute(insert(schema).values(version=number, applied_at=now()))
    return newest


def version(connection: Connection, name: str, newest: int = len(MIGRATIONS)) -> int:
    """Return the schema version of a database; 0 for one that learngate has not written to."""
    if not inspect(connection).has_table(schema.name):
        return 0
    found: int = connection.scalar(select(func.coalesce(func.max(schema.c.version), 0))) or 0
    if found > newest:
        raise StoreUnusable(
            f"the database {name} has schema {found}, this learngate knows {newest}:"
            " upgrade learngate (`pip install -U learngate`)"
        )
    return found
