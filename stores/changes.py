"""The cursor by which every process brings what it derived from rows up to date."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, func, insert, select

from learngate.stores.tables import changes, embeddings

# Built once: building a statement takes longer than these take to run.
_NOTE = insert(changes)
_DROP_VECTORS = delete(embeddings).where(
    embeddings.c.kind == bindparam("of"), embeddings.c.row_id == bindparam("row")
)
_SINCE = select(changes).where(changes.c.seq > bindparam("cursor")).order_by(changes.c.seq)

MANY = 1000
"""So many changed rows are asked for by number; where there are more, the whole scope is looked at."""


def note_change(connection: Connection, kind: str, row_id: int, *, scope: str, op: str) -> None:
    """Tell every process, inside the transaction that changes the row, that it did; its vectors go with it."""
    connection.execute(_NOTE, {"kind": kind, "row_id": row_id, "scope": scope, "op": op})
    connection.execute(_DROP_VECTORS, {"of": kind, "row": row_id})


def changes_since(connection: Connection, cursor: int) -> Sequence[Row[Any]]:
    """Return the changes after a cursor, the oldest first."""
    return connection.execute(_SINCE, {"cursor": cursor}).all()


def newest_change(connection: Connection) -> int:
    """Return the cursor as it stands; 0 before the first change."""
    return connection.scalar(select(func.coalesce(func.max(changes.c.seq), 0))) or 0
