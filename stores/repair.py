"""Repair: what is derived is made anew, what cannot be read is taken out of the way, and each step is told.

What was learned is never touched: of a learning only what follows from its text is mended, and where a proposal, a
decision or a revision cannot be read, that is said.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, get_args

from sqlalchemy import (
    Column,
    Connection,
    LargeBinary,
    Row,
    Table,
    Text,
    and_,
    cast,
    delete,
    insert,
    literal,
    select,
    type_coerce,
)
from sqlalchemy import update as put

from learngate.stores import codec, upkeep
from learngate.stores.changes import note_change
from learngate.stores.database import Database
from learngate.stores.derived import Mended, derived_columns, each, told_changes, vectors_in_use
from learngate.stores.embeddings import Vectors
from learngate.stores.errors import StoreError
from learngate.stores.records import ReflectionStatus, TurnStatus, now
from learngate.stores.tables import (
    Moment,
    checksum,
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

LEARNED = (proposals, decisions, learnings, revisions)
"""The tables of what was learned, and of what led to it: repair writes to none of their texts."""


def repair(database: Database, vectors: Vectors) -> Iterator[Mended]:
    """Mend a database whose pages can be read, a transaction for each step, and say what was done.

    Running it again finds nothing more to do.
    """
    yield from _indexes(database)
    # First, because a row with a damaged index cannot be written to; and again, for rows that were changed past it.
    yield from _terms(database)
    for step in (
        _unknown,
        _garbled,
        _times,
        _unreadable,
        _reworded,
        _orphans,
        _links,
        derived_columns,
        vectors_in_use,
        told_changes,
    ):
        try:
            with database.write() as connection:
                found = [*step(connection, vectors)]
        except (StoreError, ValueError) as error:
            found = [Mended("rows", str(error), done=False)]
        yield from found
    yield from (
        Mended("rows", f"{one}: it is of what was learned, and is left as it is", done=False)
        for one in upkeep.torn_links(database)
    )
    yield from (Mended("rows", one, done=False) for one in upkeep.integrity(database) if upkeep.of_a_row(one))
    yield from _terms(database)


def _terms(database: Database) -> Iterator[Mended]:
    for name in upkeep.unsound_terms(database):
        upkeep.rebuild_terms(database, name)
        yield Mended("search", f"built the full-text index of {name} anew")


def _indexes(database: Database) -> Iterator[Mended]:
    """Build SQLite's own indexes anew where they do not fit their tables."""
    found = [one for one in upkeep.integrity(database) if upkeep.of_an_index(one)]
    if not found:
        return
    try:
        with database.write() as connection:
            connection.exec_driver_sql("REINDEX")
    except StoreError as error:
        yield Mended("indexes", f"{found[0]}: {error}", done=False)
    else:
        yield Mended("indexes", f"built the indexes anew: {found[0]}", len(found))


# -- what cannot be read -------------------------------------------------------------------------------------


INSTEAD: tuple[tuple[Column[str], tuple[str, ...], str], ...] = (
    (turns.c.status, get_args(TurnStatus), "failed"),
    (turns.c.reflection, get_args(ReflectionStatus), "off"),
    (memory_revisions.c.change, ("added", "updated", "forgotten"), "updated"),
    (recalls.c.fate, ("shown", "cut", "withheld"), "withheld"),
)
"""What a column may say, and what it says where it said something else: what keeps the row out of every prompt."""


def _unknown(connection: Connection, _: Vectors) -> Iterator[Mended]:
    for column, known, instead in INSTEAD:
        wrong = put(column.table).where(column.not_in(known)).values({column: instead})
        count = connection.execute(wrong).rowcount
        if count:
            yield Mended("rows", f"{column} was a word that it cannot be, and is {instead!r} now", count)


OWNERS = {
    "messages": select(turns.c.user_id).where(turns.c.seq == messages.c.turn_seq).label("user_id"),
    "memory_revisions": select(user_memories.c.user_id)
    .where(user_memories.c.id == memory_revisions.c.memory_id)
    .label("user_id"),
}
"""Whose a row is, where another table says so."""


def _garbled(connection: Connection, _: Vectors) -> Iterator[Mended]:
    """Set texts apart that are no UTF-8: SQLite stores them, and fails every query that reads them."""
    for table in (sessions, turns, user_memories, memory_revisions, messages) if _lax(connection) else ():
        keys = [*table.primary_key.columns]
        texts = [column for column in table.c if not column.primary_key and not column.foreign_keys]
        count = 0
        whose = [OWNERS[table.name]] if table.name in OWNERS else []
        query = select(*keys, *(cast(column, LargeBinary).label(column.name) for column in [*texts, *whose]))
        for row in each(connection, query, *keys):
            wrong = [column for column in texts if _is_garbled(getattr(row, column.name))]
            if not wrong:
                continue
            count += 1
            user = getattr(row, "user_id", None)
            why = f"{', '.join(column.name for column in wrong)}: no UTF-8"
            # Where it cannot be told whose it is, it goes with whoever is erased next.
            _set_apart(connection, table, row, why, user if user is None or _is_garbled(user) else user.decode())
            if messages.c.data in wrong:
                _take_out(connection, row)
                continue
            its = and_(*(key == getattr(row, key.name) for key in keys))
            values = {column: _legible(column, getattr(row, column.name)) for column in wrong}
            connection.execute(put(table).where(its).values(values))
        if count:
            yield Mended("rows", f"rows of {table.name} with bytes that are no text are in quarantine", count)


def _lax(connection: Connection) -> bool:
    """Whether the database takes bytes for a text that are none."""
    return connection.dialect.name == "sqlite"


def _is_garbled(value: bytes | None) -> bool:
    try:
        (value or b"").decode()
    except UnicodeDecodeError:
        return True
    return False


def _legible(column: Column[Any], value: bytes) -> Any:
    """Return what stands where a text was no UTF-8; the later steps see that it is not what was written."""
    if isinstance(column.type, Moment):
        return None if column.nullable else EPOCH
    if column in {turns.c.usage, turns.c.noted}:
        return None
    return literal(value.decode(errors="replace"), Text)


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
"""What stands where a time could not be read."""


def _times(connection: Connection, _: Vectors) -> Iterator[Mended]:
    """Set times that are no times to none, or to 1970 where there must be one; of what was learned, say so."""
    for table in (sessions, turns, effects, user_memories, memory_revisions, *LEARNED):
        for column in (one for one in table.c if isinstance(one.type, Moment)):
            keys = [*table.primary_key.columns]
            of = [table.c.user_id] if "user_id" in table.c else []
            time = cast(column, LargeBinary) if _lax(connection) else type_coerce(column, Text)
            query = select(*keys, *of, time.label("time")).where(column.is_not(None))
            bad = [row for row in each(connection, query, *keys) if not _is_time(row.time)]
            said = f"{column.name} of rows of {table.name} cannot be read"
            if bad and table in LEARNED:
                yield Mended(
                    "rows", f"{said}: it is of what was learned, and is left as it is", len(bad), done=False
                )
                continue
            for row in bad:
                _set_apart(connection, table, row, f"{column.name} is no time", getattr(row, "user_id", None))
                its = and_(*(key == getattr(row, key.name) for key in keys))
                connection.execute(put(table).where(its).values({column: None if column.nullable else EPOCH}))
            if bad:
                yield Mended("rows", f"{said}, and is none now, or 1970; as it was, it is in quarantine", len(bad))


def _is_time(value: Any) -> bool:
    try:
        text = value.decode() if isinstance(value, bytes) else value
        return datetime.fromisoformat(text).tzinfo is not None
    except (ValueError, TypeError):
        return False


def _unreadable(connection: Connection, _: Vectors) -> Iterator[Mended]:
    """Take messages that do not parse out of their turns, which count as failed from then on."""
    bad = 0
    of = select(messages, turns.c.user_id).outerjoin(turns, turns.c.seq == messages.c.turn_seq)
    for row in each(connection, of, messages.c.turn_seq, messages.c.position):
        why = _unparsed(row.data)
        if why is None:
            continue
        bad += 1
        _set_apart(connection, messages, row, why, row.user_id)
        _take_out(connection, row)
    if bad:
        yield Mended("rows", "messages that cannot be read are in quarantine, their turns out of every prompt", bad)
    for column in (turns.c.usage, turns.c.noted):
        count = 0
        plain = select(turns.c.seq, turns.c.user_id, type_coerce(column, Text).label("data")).where(
            column.is_not(None)
        )
        for row in each(connection, plain, turns.c.seq):
            if isinstance(row.data, str) and (why := _not_json(row.data)):
                count += 1
                _set_apart(connection, turns, row, why, row.user_id)
                connection.execute(put(turns).where(turns.c.seq == row.seq).values({column: None}))
        if count:
            yield Mended("rows", f"what cannot be read of turns' {column.name} is in quarantine", count)


def _take_out(connection: Connection, row: Row[Any]) -> None:
    """Delete a message, whose turn counts as failed from then on."""
    its = (messages.c.turn_seq == row.turn_seq) & (messages.c.position == row.position)
    connection.execute(delete(messages).where(its))
    reason = f"message {row.position} could not be read, and is in quarantine"
    connection.execute(
        put(turns).where(turns.c.seq == row.turn_seq).values(status="failed", reflection_error=reason)
    )


def _reworded(connection: Connection, _: Vectors) -> Iterator[Mended]:
    """Put back memories whose text is not what was written, from their history; else take them out of the way."""
    back = gone = 0
    for row in each(connection, select(user_memories), user_memories.c.id):
        if row.checksum in {None, checksum(row.text)}:
            continue
        _set_apart(connection, user_memories, row, "its text is not what was written", row.user_id)
        of = memory_revisions.c.memory_id == row.id
        history = connection.scalars(select(memory_revisions.c.text).where(of))
        text = next((one for one in history if checksum(one) == row.checksum), None)
        its = user_memories.c.id == row.id
        if text is not None:
            back += 1
            connection.execute(put(user_memories).where(its).values(text=text))
        else:
            gone += 1
            connection.execute(delete(user_memories).where(its))
            note_change(connection, "memory", row.id, scope=row.scope, op="drop")
    if back:
        yield Mended("rows", "memories whose text was damaged have it back from their history", back)
    if gone:
        yield Mended("rows", "memories whose text is damaged are in quarantine", gone)


def _unparsed(data: Any) -> str | None:
    try:
        codec.from_text(data)
    except codec.UNREADABLE as error:
        return f"{type(error).__name__}: {error}"
    return None


def _not_json(data: str) -> str | None:
    try:
        json.loads(data)
    except (ValueError, RecursionError) as error:
        return f"{type(error).__name__}: {error}"
    return None


PARENTS: tuple[tuple[Table, Column[Any], Column[Any]], ...] = (
    (turns, turns.c.session_id, sessions.c.id),
    (messages, messages.c.turn_seq, turns.c.seq),
    (effects, effects.c.turn_seq, turns.c.seq),
    (recalls, recalls.c.turn_seq, turns.c.seq),
    (memory_revisions, memory_revisions.c.memory_id, user_memories.c.id),
    (excerpts, excerpts.c.proposal_id, proposals.c.id),
)
"""Each table whose rows belong to another's: what has lost it is out of reach of every search."""


def _orphans(connection: Connection, _: Vectors) -> Iterator[Mended]:
    for table, child, parent in PARENTS:
        lost = child.not_in(select(parent))
        rows = connection.execute(select(*_plain(table)).where(lost)).all()
        for row in rows:
            _set_apart(connection, table, row, f"its {child.name} is not there", getattr(row, "user_id", None))
        if rows:
            connection.execute(delete(table).where(lost))
            yield Mended("rows", f"rows of {table.name} that belong to nothing are in quarantine", len(rows))


def _links(connection: Connection, _: Vectors) -> Iterator[Mended]:
    """Mend where a turn follows one that is gone, and where a session's newest turn is."""
    above = turns.alias()
    torn = turns.c.parent_seq.is_not(None) & turns.c.parent_seq.not_in(select(above.c.seq))
    count = connection.execute(put(turns).where(torn).values(parent_seq=None)).rowcount
    if count:
        yield Mended("rows", "turns that followed one that is gone begin a branch", count)
    there = select(turns.c.id).where(
        turns.c.session_id == sessions.c.id, turns.c.id == sessions.c.newest, turns.c.status == "complete"
    )
    last = select(turns.c.id).where(turns.c.session_id == sessions.c.id, turns.c.status == "complete")
    lost = sessions.c.newest.is_not(None) & ~there.exists()
    newest = last.order_by(turns.c.seq.desc()).limit(1).scalar_subquery()
    count = connection.execute(put(sessions).where(lost).values(newest=newest)).rowcount
    if count:
        yield Mended("rows", "sessions whose newest turn was gone go on from the newest that is there", count)


def _set_apart(connection: Connection, table: Table, row: Row[Any], why: str, user_id: str | None) -> None:
    kept = {
        name: value if isinstance(value, str | int | float | None) else _shown(value)
        for name, value in row._asdict().items()
    }
    connection.execute(
        insert(quarantine).values(
            source=table.name, user_id=user_id, why=why[:500], row=json.dumps(kept, default=repr), at=now()
        )
    )


def _shown(value: object) -> str:
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else repr(value)


def _plain(table: Table) -> Sequence[Any]:
    """Return a table's columns as they are stored, for rows that may not be readable as what they should be."""
    return [type_coerce(column, Text).label(column.name) for column in table.c]
