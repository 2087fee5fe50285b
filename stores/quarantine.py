"""The quarantine: what a repair takes out of the way, kept as it stood, and the round in which it does so."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Executable,
    Integer,
    LargeBinary,
    Row,
    Table,
    Text,
    cast,
    delete,
    func,
    insert,
    literal_column,
    null,
    select,
    tuple_,
    type_coerce,
)
from sqlalchemy import update as put

from learngate.stores.changes import note_change
from learngate.stores.database import Database
from learngate.stores.embeddings import Vectors
from learngate.stores.records import now
from learngate.stores.tables import (
    decisions,
    effects,
    excerpts,
    learnings,
    memory_revisions,
    messages,
    proposals,
    quarantine,
    recalls,
    revisions,
    sessions,
    turns,
    user_memories,
)

BATCH = 500


@dataclass(frozen=True, slots=True)
class Mended:
    """One step of a repair: what it was about, what was done to how many rows, or why it could not be.

    `rows` are the ids of those rows, where it is about single ones; `lost` says that something that was written
    is no longer where it was, or not as it was: it is in the quarantine.
    """

    what: Literal["pages", "indexes", "rows", "derived", "search", "vectors", "changes"]
    said: str
    count: int = 1
    done: bool = True
    lost: bool = False
    rows: tuple[str, ...] = ()


def mended_rows(said: str, ids: Collection[object], *, lost: bool = True) -> Iterator[Mended]:
    """Say what was done to rows of these ids; nothing where there are none."""
    if ids:
        yield Mended("rows", said, len(ids), lost=lost, rows=tuple(map(str, ids)))


@dataclass
class Round:
    """One look at a database, or one mending of it: where nothing is to be mended, nothing is written."""

    connection: Connection
    vectors: Vectors
    mends: bool = True
    looked: Callable[[int], None] = lambda _: None

    @property
    def lax(self) -> bool:
        """Whether the database takes anything for a text, a time or a number."""
        return self.connection.dialect.name == "sqlite"

    def write(self, statement: Executable) -> None:
        """Execute what mends."""
        if self.mends:
            self.connection.execute(statement)

    def note(self, kind: str, row_id: int, *, scope: str, op: str) -> None:
        """Tell every process of a row that was mended."""
        if self.mends:
            note_change(self.connection, kind, row_id, scope=scope, op=op)

    def each(self, query: Any, *keys: ColumnElement[Any]) -> Iterator[Row[Any]]:
        """Read a query in the order of a key, a batch at a time, so that what is read may be written to."""
        names = [str(getattr(key, "name", "")) for key in keys]
        ordered = query.order_by(*keys).limit(BATCH)
        rows = self.connection.execute(ordered).all()
        while rows:
            yield from rows
            self.looked(len(rows))
            last = [getattr(rows[-1], name) for name in names]
            after = tuple_(*keys) > tuple_(*last) if len(keys) > 1 else keys[0] > last[0]
            rows = self.connection.execute(ordered.where(after)).all()

    # -- setting apart -----------------------------------------------------------------------------------

    def keep(self, table: Table, row: dict[str, Any], why: str, user_id: str | None) -> None:
        """Put a copy of a row, as it stands, into the quarantine."""
        kept = {
            name: value if isinstance(value, str | int | float | None) else _shown(value)
            for name, value in row.items()
        }
        line = json.dumps(kept, default=repr)
        self.write(insert(quarantine).values(source=table.name, user_id=user_id, why=why[:500], row=line, at=now()))

    def take_away(self, table: Table, its: ColumnElement[bool], why: str) -> None:
        """Move rows to the quarantine, with all that belongs to them, and let go of them what only names them."""
        if not self.mends:
            return
        for child, parent in BELONGS:
            if parent.table is table:
                of = child.in_(select(parent).where(its))
                self.take_away(child.table, of, f"what it belongs to went: {why}")
        for child, parent in NAMES:
            if parent.table is table:
                # A turn's place is another then, and is sealed anew at the end.
                none = {child: None} | ({turns.c.checksum: None} if child.table is turns else {})
                self.write(put(child.table).where(child.in_(select(parent).where(its))).values(none))
        self.copy(table, its, why)
        self.write(delete(table).where(its))

    def copy(self, table: Table, its: ColumnElement[bool], why: str) -> None:
        """Put copies of rows into the quarantine, whatever they hold."""
        for found, whose in self._found(table, its) if self.mends else ():
            self.keep(table, found, why, whose)

    def _found(self, table: Table, its: ColumnElement[bool]) -> list[tuple[dict[str, Any], str | None]]:
        """Return rows as they are stored, and whose each is; they may hold what is no text."""
        read = as_bytes if self.lax else as_text
        whose = OWNERS.get(table.name, null())
        query = select(*(read(column).label(column.name) for column in table.c), read(whose).label("whose of"))
        found = []
        for row in self.connection.execute(query.where(its)).all():
            *values, user = row
            named = zip(table.c, values, strict=True)
            owner = _value(None, user)
            kept = {column.name: _value(column, value) for column, value in named}
            found.append((kept, owner if isinstance(owner, str) else None))
        return found


ROWID: ColumnElement[int] = literal_column("rowid", Integer)
"""What tells a row of an SQLite table, whatever became of its key."""

BELONGS: tuple[tuple[Column[Any], Column[Any]], ...] = (
    (turns.c.session_id, sessions.c.id),
    (messages.c.turn_seq, turns.c.seq),
    (effects.c.turn_seq, turns.c.seq),
    (recalls.c.turn_seq, turns.c.seq),
    (memory_revisions.c.memory_id, user_memories.c.id),
    (revisions.c.learning_id, learnings.c.id),
    (revisions.c.decision_id, decisions.c.id),
    (revisions.c.proposal_id, proposals.c.id),
    (decisions.c.proposal_id, proposals.c.id),
    (excerpts.c.proposal_id, proposals.c.id),
)
"""Each column by which a row belongs to another's: what has lost that cannot stand alone."""

NAMES: tuple[tuple[Column[Any], Column[Any]], ...] = (
    (turns.c.parent_seq, turns.c.seq),
    (proposals.c.target_id, learnings.c.id),
    (decisions.c.learning_id, learnings.c.id),
)
"""Each column by which a row names another and may do without."""

OWNERS: dict[str, ColumnElement[Any]] = {
    "messages": select(turns.c.user_id).where(turns.c.seq == messages.c.turn_seq).scalar_subquery(),
    "effects": select(turns.c.user_id).where(turns.c.seq == effects.c.turn_seq).scalar_subquery(),
    "recalls": select(turns.c.user_id).where(turns.c.seq == recalls.c.turn_seq).scalar_subquery(),
    "memory_revisions": select(user_memories.c.user_id)
    .where(user_memories.c.id == memory_revisions.c.memory_id)
    .scalar_subquery(),
} | {table.name: table.c.user_id for table in (sessions, turns, user_memories, proposals, excerpts)}
"""Whose a row is; where it cannot be told, it goes with whoever is erased next."""


def as_stored(table: Table) -> Sequence[Any]:
    """Return a table's columns as they are stored, for rows that may not be readable as what they should be."""
    return [as_text(column).label(column.name) for column in table.c]


def as_text(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return what a column holds as it is stored."""
    return type_coerce(column, Text)


def as_bytes(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return what a column holds as bytes: what is no text cannot be read as one."""
    return cast(column, LargeBinary)


def text_of(value: bytes | None) -> str | None:
    """Return the text that bytes are; `None` where they are none."""
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None


def _value(column: Column[Any] | None, value: Any) -> Any:
    text = text_of(value) if isinstance(value, bytes) else value
    if column is not None and isinstance(column.type, Integer) and isinstance(text, str):
        return int(text) if text.lstrip("-").isdecimal() else text
    return value if text is None else text


def _shown(value: object) -> str:
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else repr(value)


@dataclass(frozen=True, slots=True)
class Apart:
    """A row in the quarantine: where it was, whose it was, why it is not there, and the row as JSON."""

    id: int
    source: str
    user_id: str | None
    why: str
    row: str


def set_apart(database: Database) -> list[Apart]:
    """Return what is in the quarantine, in the order in which it came there."""
    with database.read() as connection:
        rows = connection.execute(select(quarantine).with_only_columns(*(quarantine.c[n] for n in _NAMES)))
        return sorted((Apart(*row) for row in rows), key=lambda one: one.id)


_NAMES = ("id", "source", "user_id", "why", "row")


def count_apart(database: Database) -> dict[str, int]:
    """Return how many rows of each table are in the quarantine."""
    source = quarantine.c.source
    query = select(source, func.count().label("number")).group_by(source).order_by(source)
    with database.read() as connection:
        return {row.source: row.number for row in connection.execute(query)}
