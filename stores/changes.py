"""The cursor by which every process brings what it derived from rows up to date."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, func, insert, null, select, union_all

from learngate.stores.prepared import Prepared
from learngate.stores.tables import changes, embeddings

MANY = 1000
"""So many changed rows are asked for by number; where there are more, the whole scope is looked at."""
FAR = 20_000
"""A scope that was last looked at so many changes ago, in whatever scope, is looked at as a whole."""

# Built once: building a statement takes longer than these take to run.
_NOTE = Prepared(insert(changes))
_DROP_VECTORS = delete(embeddings).where(
    embeddings.c.kind == bindparam("of"), embeddings.c.row_id == bindparam("row")
)
_SINCE = select(changes).where(changes.c.seq > bindparam("cursor")).order_by(changes.c.seq)
_NEWEST = select(func.coalesce(func.max(changes.c.seq), 0).label("newest"))
_OF_SCOPE = Prepared(
    union_all(
        _NEWEST.add_columns(null().label("row_id")),
        select(changes.c.seq, changes.c.row_id).where(
            changes.c.seq > bindparam("cursor"),
            changes.c.seq <= bindparam("cursor") + FAR,
            changes.c.kind == bindparam("of"),
            changes.c.scope == bindparam("within"),
        ),
    )
)
"""Where the cursor stands, and behind it what changed of a scope, in one question: each search asks it."""


@dataclass(frozen=True, slots=True)
class Seen:
    """How a scope was when somebody looked: as of a change, all its rows had what they need but for a few."""

    cursor: int
    lacking: frozenset[int] = frozenset()


def note_new(connection: Connection, kind: str, row_id: int, *, scope: str) -> None:
    """Tell every process, inside the transaction that adds the row, that it is there."""
    _NOTE.run(connection, {"kind": kind, "row_id": row_id, "scope": scope, "op": "put"})


def note_change(connection: Connection, kind: str, row_id: int, *, scope: str, op: str) -> None:
    """Tell every process, inside the transaction that changes the row, that it did; its vectors go with it."""
    _NOTE.run(connection, {"kind": kind, "row_id": row_id, "scope": scope, "op": op})
    connection.execute(_DROP_VECTORS, {"of": kind, "row": row_id})


def changes_since(connection: Connection, cursor: int) -> Sequence[Row[Any]]:
    """Return the changes after a cursor, the oldest first."""
    return connection.execute(_SINCE, {"cursor": cursor}).all()


def newest_change(connection: Connection) -> int:
    """Return the cursor as it stands; 0 before the first change."""
    return connection.scalar(_NEWEST) or 0


def to_look_at(connection: Connection, kind: str, scope: str, seen: Seen | None) -> tuple[int, set[int] | None]:
    """Return the cursor as it stands, and the rows of a scope to look at since; `None`: all of them.

    Each scope has a cursor of its own, so that nobody works on a scope that they have not asked for.
    """
    if seen is None:
        return newest_change(connection), None
    found = _OF_SCOPE.all(connection, {"cursor": seen.cursor, "of": kind, "within": scope})
    newest: int = next(seq for seq, row in found if row is None)
    rows = {*seen.lacking, *(row for _, row in found if row is not None)}
    return newest, rows if newest - seen.cursor <= FAR and len(rows) <= MANY else None
