"""What cannot be read as what it should be: texts that are none, times, words and JSON that are none."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, get_args

from sqlalchemy import (
    Boolean,
    Column,
    Float,
    Integer,
    LargeBinary,
    Row,
    String,
    Table,
    Text,
    and_,
    delete,
    func,
    literal,
    select,
    type_coerce,
)
from sqlalchemy import update as put

from learngate.stores import codec
from learngate.stores.quarantine import ROWID, Mended, Round, as_bytes, as_stored, mended_rows, text_of
from learngate.stores.records import ReflectionStatus, TurnStatus
from learngate.stores.tables import (
    Moment,
    decisions,
    effects,
    erased_sessions,
    excerpts,
    imports,
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

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
"""What stands where a time could not be read."""

READ = (
    sessions,
    erased_sessions,
    turns,
    messages,
    effects,
    recalls,
    user_memories,
    memory_revisions,
    imports,
    proposals,
    excerpts,
    decisions,
    learnings,
    revisions,
    quarantine,
)
"""The tables that are no mere derivation and no ledger."""

STANDS: dict[str, set[str]] = {
    "sessions": {"user_id", "opened_at", "deleted_at", "newest"},
    "turns": {column.name for column in turns.c} - {"seq", "session_id", "id"},
    "user_memories": {column.name for column in user_memories.c} - {"id", "uid", "user_id", "revision"},
    "imports": {"actor", "at", "digest"},
    "proposals": {
        *("base_revision", "title", "insight", "applies_when", "rationale", "taint", "proposer", "user_id"),
        *("session_id", "turn_id", "digest", "created_at", "expires_at", "import_id", "target_id"),
    },
    "decisions": {"reviewer", "note", "decided_at", "learning_id"},
    "revisions": {"uid", "namespace", "title", "insight", "applies_when", "at"},
    "learnings": {column.name for column in learnings.c} - {"id"},
    "quarantine": {"source", "user_id", "why", "row", "at"},
}
"""Without which of its columns a row still stands; any other takes the row with it."""

INSTEAD: tuple[tuple[Column[str], tuple[str, ...], str], ...] = (
    (turns.c.status, get_args(TurnStatus), "failed"),
    (turns.c.reflection, get_args(ReflectionStatus), "off"),
    (memory_revisions.c.change, ("added", "updated", "forgotten"), "updated"),
    (recalls.c.fate, ("shown", "cut", "withheld"), "withheld"),
    (learnings.c.status, ("active", "retired"), "retired"),
)
"""What a column may say, and what it says where it said something else: what keeps the row out of every prompt."""

KNOWN: tuple[tuple[Column[str], tuple[str, ...]], ...] = (
    (proposals.c.kind, ("new", "replace", "merge", "retire")),
    (proposals.c.status, ("pending", "approved", "rejected")),
    (decisions.c.type, ("approve", "edit", "reject")),
    (revisions.c.change, ("created", "edited", "reverted", "retired", "restored")),
    (revisions.c.status, ("active", "retired")),
    (recalls.c.kind, ("memory", "learning")),
)
"""What a column may say; a row that says something else cannot stand."""


def ill_stored(at: Round) -> Iterator[Mended]:
    """Set apart what SQLite stores though it is no UTF-8, or not of its column's type, and then fails to read."""
    if not at.lax:
        return
    if at.mends:
        # Else a row that fails one could not be written to.
        at.connection.exec_driver_sql("PRAGMA ignore_check_constraints = ON")
    try:
        for table in READ:
            yield from _of_table(at, table)
    finally:
        at.connection.exec_driver_sql("PRAGMA ignore_check_constraints = OFF")


def _of_table(at: Round, table: Table) -> Iterator[Mended]:
    mended: list[str] = []
    gone: list[str] = []
    taken: list[str] = []
    kinds = [func.typeof(column).label(f"kind_{column.name}") for column in table.c]
    raw = [as_bytes(column).label(column.name) for column in table.c]
    for row in at.each(select(ROWID, *kinds, *raw), ROWID):
        wrong = [column for column in table.c if _is_wrong(column, row)]
        if not wrong:
            continue
        why = f"{', '.join(column.name for column in wrong)}: no UTF-8, or of another type"
        its = row.rowid == ROWID
        name = "/".join(_name_of(row, column) for column in table.primary_key)
        if table is messages:
            taken.append(name)
            at.copy(table, its, why)
            take_out(at, its, seq=row.turn_seq, position=row.position)
        elif _stands(table, row, wrong):
            mended.append(name)
            at.copy(table, its, why)
            values = {column: _instead(column, row) for column in wrong}
            at.write(put(table).where(its).values(values))
        else:
            gone.append(name)
            at.take_away(table, its, why)
    what = f"rows of {table.name} that hold bytes that are no text, or what is of another type,"
    said = f"{what} are as far as they can be read; as they were, they are in quarantine"
    yield from mended_rows(said, mended)
    yield from mended_rows(f"{what} are in quarantine", gone + taken)


def _is_wrong(column: Column[Any], row: Row[Any]) -> bool:
    kind = getattr(row, f"kind_{column.name}")
    if kind == "null":
        return not column.nullable
    if isinstance(column.type, Boolean | Integer):
        return bool(kind != "integer")
    if isinstance(column.type, Float):
        return kind not in {"real", "integer"}
    if isinstance(column.type, LargeBinary):
        return False
    return kind != "text" or text_of(getattr(row, column.name)) is None


def _name_of(row: Row[Any], column: Column[Any]) -> str:
    value = getattr(row, column.name)
    return "?" if value is None else value.decode(errors="replace")


def _stands(table: Table, row: Row[Any], wrong: list[Column[Any]]) -> bool:
    words = {"title", "insight", "applies_when"} & {column.name for column in wrong}
    if table is proposals and row.status == b"pending" and words:  # nobody is to approve them
        return False
    return {column.name for column in wrong} <= STANDS.get(table.name, set())


def _instead(column: Column[Any], row: Row[Any]) -> Any:
    """Return what stands where something could not be read; later steps see that it is not what was written."""
    if isinstance(column.type, Moment):
        return None if column.nullable else EPOCH
    for other, _, word in INSTEAD:
        if other is column:
            return word
    if isinstance(column.type, Boolean | Integer):
        return None if column.nullable else 0
    if column in {turns.c.usage, turns.c.noted} or (
        column.nullable and getattr(row, f"kind_{column.name}") != "text"
    ):
        return None
    return literal((getattr(row, column.name) or b"").decode(errors="replace"), Text)


def take_out(at: Round, its: Any, *, seq: Any, position: Any) -> None:
    """Delete a message, whose turn counts as failed from then on: no prompt has half of it."""
    number, at_turn = (int(one) if isinstance(one, bytes | int) else one for one in (position, seq))
    at.write(delete(messages).where(its))
    reason = f"message {number} could not be read, and is in quarantine"
    at.write(put(turns).where(turns.c.seq == at_turn).values(status="failed", reflection_error=reason))


def unknown(at: Round) -> Iterator[Mended]:
    """Mend words that a column cannot say, or set their rows apart."""
    for column, known, instead in INSTEAD:
        ids = _ids(at, column.table, column.not_in(known))
        if ids:
            at.write(put(column.table).where(column.not_in(known)).values({column: instead}))
            said = f"{column} was a word that it cannot be, and is {instead!r} now"
            yield from mended_rows(said, ids)
    for column, known in KNOWN:
        ids = _ids(at, column.table, column.not_in(known))
        if ids:
            at.take_away(column.table, column.not_in(known), f"{column.name} is a word that it cannot be")
            said = f"rows of {column.table.name} whose {column.name} is no word of it are in quarantine"
            yield from mended_rows(said, ids)


def _ids(at: Round, table: Table, condition: Any) -> tuple[str, ...]:
    keys = select(*table.primary_key.columns).where(condition)
    return tuple("/".join(map(str, row)) for row in at.connection.execute(keys))


def times(at: Round) -> Iterator[Mended]:
    """Set times that are no times to none, or to 1970 where there must be one."""
    for table in READ:
        columns = [column for column in table.c if isinstance(column.type, Moment)]
        keys = [*table.primary_key.columns]
        bad: dict[str, list[str]] = defaultdict(list)
        for row in at.each(select(*as_stored(table)), *keys) if columns else ():
            wrong = [
                one for one in columns if getattr(row, one.name) is not None and not is_time(getattr(row, one.name))
            ]
            if not wrong:
                continue
            why = f"{', '.join(one.name for one in wrong)}: no time"
            at.keep(table, row._asdict(), why, getattr(row, "user_id", None))
            its = and_(*(key == getattr(row, key.name) for key in keys))
            at.write(put(table).where(its).values({one: None if one.nullable else EPOCH for one in wrong}))
            bad[why].append("/".join(str(getattr(row, key.name)) for key in keys))
        for why, ids in bad.items():
            said = f"rows of {table.name} ({why}) have none now, or 1970; as they were, they are in quarantine"
            yield from mended_rows(said, ids)
    yield from _times_of_one_act(at)


def _times_of_one_act(at: Round) -> Iterator[Mended]:
    """Take the time of a decision from the revision that it wrote, and the other way round."""
    made = select(revisions.c.at).where(revisions.c.decision_id == decisions.c.id, revisions.c.at != EPOCH)
    took = select(decisions.c.decided_at).where(
        decisions.c.id == revisions.c.decision_id, decisions.c.decided_at != EPOCH
    )
    for column, other in ((decisions.c.decided_at, made), (revisions.c.at, took)):
        lost = (column == EPOCH) & other.exists()
        ids = _ids(at, column.table, lost)
        if ids:
            at.write(put(column.table).where(lost).values({column: other.limit(1).scalar_subquery()}))
            said = f"{column.name} of rows of {column.table.name} is that of the other half of the same act"
            yield from mended_rows(said, ids)


def is_time(value: object) -> bool:
    """Whether it is a time as it is written: in UTC, to the microsecond."""
    try:
        moment = datetime.fromisoformat(str(value))
        return moment.tzinfo is not None and moment.astimezone(UTC).isoformat(timespec="microseconds") == value
    except (ValueError, OverflowError):
        return False


def unreadable(at: Round) -> Iterator[Mended]:
    """Take messages that do not parse out of their turns, which count as failed from then on."""
    bad = []
    of = select(messages, turns.c.user_id).outerjoin(turns, turns.c.seq == messages.c.turn_seq)
    for row in at.each(of, messages.c.turn_seq, messages.c.position):
        why = _unparsed(row.data)
        if why is None:
            continue
        bad.append(f"{row.turn_seq}/{row.position}")
        at.keep(messages, row._asdict(), why, row.user_id)
        its = (messages.c.turn_seq == row.turn_seq) & (messages.c.position == row.position)
        take_out(at, its, seq=row.turn_seq, position=row.position)
    yield from mended_rows("messages that cannot be read are in quarantine, their turns out of every prompt", bad)
    for column in (turns.c.usage, turns.c.noted):
        bad = []
        text = type_coerce(column, String).label("data")
        plain = select(turns.c.seq, turns.c.user_id, text).where(column.is_not(None))
        for row in at.each(plain, turns.c.seq):
            if isinstance(row.data, str) and (why := _no_object(row.data)):
                bad.append(str(row.seq))
                at.keep(turns, row._asdict(), why, row.user_id)
                at.write(put(turns).where(turns.c.seq == row.seq).values({column: None}))
        yield from mended_rows(f"what cannot be read of turns' {column.name} is in quarantine", bad)


def _unparsed(data: Any) -> str | None:
    try:
        codec.from_text(data)
    except (*codec.UNREADABLE, NotImplementedError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def _no_object(data: str) -> str | None:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        return f"{type(error).__name__}: {error}"
    return None if found is None or isinstance(found, dict) else "no object"
