"""The cursor by which every process brings what it derived from rows up to date."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select

from learngate.stores.tables import changes, embeddings

MANY = 1000
"""So many changed rows are asked for by number; where there are more, the whole scope is looked at."""


def note_change(connection: Connection, kind: str, row_id: int, *, scope: str, op: str) -> None:
    """Tell every process, inside the transaction that changes the row, that it did; its vectors go with it."""
    connection.execute(insert(changes).values(kind=kind, row_id=row_id, scope=scope, op=op))
    connection.execute(delete(embeddings).where(embeddings.c.kind == kind, embeddings.c.row_id == row_id))


def changes_since(connection: Connection, cursor: int) -> Sequence[Row[Any]]:
    """Return the changes after a cursor, the oldest first."""
    return connection.execute(select(changes).where(changes.c.seq > cursor).order_by(changes.c.seq)).all()


def newest_change(connection: Connection) -> int:
    """Return the cursor as it stands; 0 before the first change."""
    return connection.scalar(select(func.coalesce(func.max(changes.c.seq), 0))) or 0
