"""Erasing a user: their rows, what is derived from them, their checkpoints, and the pages where they stood."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol, get_args

from sqlalchemy import ColumnElement, Connection, Table, delete, func, insert, inspect, literal, or_, select, update

from learngate.stores import lexical, upkeep
from learngate.stores.audit import Ledger
from learngate.stores.changes import note_change
from learngate.stores.database import Database
from learngate.stores.errors import ConfigurationError, InvalidInput, StoreUnavailable
from learngate.stores.mirror import UNSURE_FOR, held_outside
from learngate.stores.provenance import count_of, forget_person
from learngate.stores.records import now
from learngate.stores.tables import (
    changes,
    effects,
    embeddings,
    erased_sessions,
    excerpts,
    memory_revisions,
    messages,
    quarantine,
    recalls,
    sessions,
    turns,
    user_memories,
)
from learngate.stores.text import check_name, fingerprint

Fate = Literal["keep", "retire"]
"""What becomes of learnings that came of the user's turns: they stay, or leave recall."""


class ThreadSaver(Protocol):
    """What erasing needs of a checkpointer."""

    def delete_thread(self, thread_id: str) -> None:
        """Delete every checkpoint of a thread."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What erasing a user did.

    `erased` counts what went, by kind; `learnings` are the ids of what came of the user's turns, or of their own
    hand, and keeps its approved text without a link; `retired` are those that left recall; `alias` stands where the
    user's name stood as proposer or reviewer; `scrubbed` says that free pages and the write-ahead log hold nothing
    of it either; `unreached` lists what somebody else has to look after.
    """

    user_id: str
    at: datetime
    erased: dict[str, int]
    learnings: tuple[int, ...] = ()
    retired: tuple[int, ...] = ()
    alias: str | None = None
    scrubbed: bool = True
    unreached: tuple[str, ...] = field(default=())


def erase_user(
    ledger: Ledger,
    user_id: str,
    *,
    savers: Sequence[ThreadSaver],
    sweep: Callable[[], None],
    learnings: Fate = "keep",
    actor: str | None = None,
) -> Receipt:
    """Erase a user from a database and from the checkpointers given, and say what went and what is left.

    `sweep` drops what is held outside the database of rows that are gone: in this process, or in a vector store.

    Checkpoints go first and once more at the end, so that a process that is killed between leaves the list
    of the user's sessions to whoever erases again. Erasing again is harmless.

    Raises:
        InvalidInput: no user, an unknown fate of the learnings, or one that needs an actor without one.
    """
    database = ledger.database
    check_name(user_id, what="the user id")
    if learnings not in get_args(Fate):
        raise InvalidInput(f"learnings must be one of {', '.join(get_args(Fate))}, not {learnings!r}")
    if learnings == "retire" and actor is None:
        raise InvalidInput("retiring learnings is a decision: name who takes it, with actor=")
    with database.read() as connection:
        threads = connection.scalars(select(sessions.c.id).where(sessions.c.user_id == user_id)).all()
    for saver in savers:
        for thread in threads:
            saver.delete_thread(thread)
    at = now()
    with ledger.write() as page:
        connection = page.connection
        # A session may have been opened since.
        owned = connection.scalars(select(sessions.c.id).where(sessions.c.user_id == user_id)).all()
        forgotten = forget_person(page, user_id, retire_as=actor if learnings == "retire" else None)
        said, known = erase_turns(connection, owned), erase_memories(connection, user_id)
        erased = {"sessions": len(owned)} | said | known | {"vectors": said["vectors"] + known["vectors"]}
        erased |= forgotten.counts
        erased["quarantined rows"] = connection.execute(delete(quarantine).where(_set_apart(user_id))).rowcount
        outside = sum(held_outside(connection, _scopes(user_id)))
        _bury(connection, owned, at)
        upkeep.purge_terms(connection)
    erased["checkpoint threads"] = _checkpoints(database, savers, owned)
    left, kept = _swept(database, user_id, sweep)
    if outside:
        erased["documents in a vector store"] = max(0, outside - left)
    problem = upkeep.scrub(database)
    return Receipt(
        user_id=user_id,
        at=at,
        erased=erased,
        learnings=forgotten.learnings,
        retired=forgotten.retired,
        alias=forgotten.alias,
        scrubbed=problem is None,
        unreached=(*filter(None, [problem]), *kept, *_unreached(database, len(savers) - 1)),
    )


def _scopes(user_id: str) -> list[str]:
    return [lexical.scope_token("user", user_id)]


def _swept(database: Database, user_id: str, sweep: Callable[[], None]) -> tuple[int, list[str]]:
    """Let go of what is gone; return how many documents of a user a vector store may still have, and why."""
    why, failed = "it is not what open_memory(embedder=…, index=…) names here", False
    try:
        sweep()
    except (StoreUnavailable, ConfigurationError) as error:
        # The rows are gone by now: what is left is said, not raised.
        why, failed = str(error), True
    with database.read() as connection:
        left, coming = held_outside(connection, _scopes(user_id))
    if failed:
        left, coming = left + coming, 0
    said = []
    if left:
        said.append(
            f"{left:,} documents in a vector store, each a vector under a random id: {why}; erase once more"
        )
    if coming:
        minutes = f"{UNSURE_FOR.total_seconds() / 60:.0f} minutes"
        said.append(
            f"{coming:,} documents in a vector store, each a vector under a random id: dropped, but another process"
            f" may have been putting them there just then; erase once more in {minutes}"
        )
    return left + coming, said


def held(database: Database, user_id: str) -> dict[str, int]:
    """Return what there is of a user, by kind, as `erase_user` would find it; checkpoints are not counted.

    Raises:
        InvalidInput: no user.
    """
    check_name(user_id, what="the user id")
    with database.read() as connection:
        return {
            "sessions": _count(connection, sessions, sessions.c.user_id == user_id),
            "turns": _count(connection, turns, turns.c.user_id == user_id),
            "memories": _count(connection, user_memories, user_memories.c.user_id == user_id),
            **count_of(connection, user_id),
            "rows that cannot be read, theirs or nobody's": _count(connection, quarantine, _set_apart(user_id)),
        }


def _set_apart(user_id: str) -> ColumnElement[bool]:
    """Return which rows that cannot be read go with a user: those of nobody may be theirs."""
    return or_(quarantine.c.user_id == user_id, quarantine.c.user_id.is_(None))


def erase_memories(connection: Connection, user_id: str) -> dict[str, int]:
    """Delete a user's memories, with their revisions and vectors, and tell every process's index."""
    mine = select(user_memories.c.id).where(user_memories.c.user_id == user_id)
    scope = lexical.scope_token("user", user_id)
    ids = connection.scalars(mine).all()
    counts = {
        "memories": len(ids),
        "memory revisions": _count(connection, memory_revisions, memory_revisions.c.memory_id.in_(mine)),
        "vectors": connection.execute(
            delete(embeddings).where(embeddings.c.kind == "memory", embeddings.c.row_id.in_(mine))
        ).rowcount,
    }
    connection.execute(delete(changes).where(changes.c.kind == "memory", changes.c.scope == scope))
    for memory_id in ids:
        note_change(connection, "memory", memory_id, scope=scope, op="drop")
    connection.execute(delete(user_memories).where(user_memories.c.user_id == user_id))
    return counts


def erase_turns(connection: Connection, session_ids: Sequence[str]) -> dict[str, int]:
    """Delete the turns of sessions, with all that hangs on them, and every excerpt that quotes them."""
    counts = dict.fromkeys(("turns", "messages", "effects", "recalls", "excerpts", "vectors"), 0)
    for session_id in session_ids:
        its = turns.c.session_id == session_id
        seqs = select(turns.c.seq).where(its)
        gone = select(literal("turn"), turns.c.seq, turns.c.scope, literal("drop")).where(its)
        connection.execute(insert(changes).from_select(["kind", "row_id", "scope", "op"], gone))
        counts["vectors"] += connection.execute(
            delete(embeddings).where(embeddings.c.kind == "turn", embeddings.c.row_id.in_(seqs))
        ).rowcount
        for table in (messages, effects, recalls):
            counts[table.name] += _count(connection, table, table.c.turn_seq.in_(seqs))
        counts["excerpts"] += connection.execute(
            delete(excerpts).where(excerpts.c.session_id == session_id)
        ).rowcount
        connection.execute(update(turns).where(its).values(parent_seq=None))
        counts["turns"] += connection.execute(delete(turns).where(its)).rowcount
    return counts


def token(session_id: str) -> str:
    """Return what stands for the id of an erased session: enough to know it again, not to read it."""
    return fingerprint(f"erased session:{session_id}")


def is_erased(connection: Connection, session_id: str) -> bool:
    """Whether a session of this id was erased with its user; nobody opens it again."""
    known = select(erased_sessions.c.token).where(erased_sessions.c.token == token(session_id))
    return connection.scalar(known) is not None


def erased_at(connection: Connection, session_id: str) -> datetime:
    """Return when a session that was erased was."""
    known = select(erased_sessions.c.erased_at).where(erased_sessions.c.token == token(session_id))
    at: datetime = connection.execute(known).scalar_one()
    return at


def _bury(connection: Connection, session_ids: Sequence[str], at: datetime) -> None:
    """Replace sessions by tombstones that hold neither their user's name nor their own."""
    for session_id in session_ids:
        connection.execute(insert(erased_sessions).values(token=token(session_id), erased_at=at))
        connection.execute(delete(sessions).where(sessions.c.id == session_id))


def _checkpoints(database: Database, savers: Sequence[ThreadSaver], owned: Iterable[str]) -> int:
    """Delete what runs wrote while their user was being erased, and what an earlier try left behind."""
    owned = [*owned]
    with database.read() as connection:
        buried = set(connection.scalars(select(erased_sessions.c.token)))
        living = set(connection.scalars(select(sessions.c.id)))
        left = [one for one in _threads(connection) if token(one) in buried and one not in living]
    for saver in savers:
        for thread in {*owned, *left}:
            saver.delete_thread(thread)
    return len(owned)


def _threads(connection: Connection) -> Sequence[str]:
    """Return the threads of the database's own checkpoints."""
    if not inspect(connection).has_table("checkpoints"):
        return []
    return connection.exec_driver_sql("SELECT DISTINCT thread_id FROM checkpoints").scalars().all()


def _unreached(database: Database, others: int) -> Sequence[str]:
    copies = "backups, snapshots, exported files and copies of the database"
    if database.dialect != "sqlite":
        copies = (
            "PostgreSQL's write-ahead log, replicas, backups and dumps; until it is rewritten (VACUUM FULL), dead"
            " space inside its tables' files; statistics of tables that are empty now"
        )
    given = f"checkpointers other than the {others} that were given" if others else "other checkpointers"
    return (
        copies,
        f"{given}: `Memory.erase(…, savers=[…])` in Python takes them",
        "traces and logs (LangSmith, the model's provider, your own)",
        "runs of the user's that are still going: end them, then erase once more",
    )


def _count(connection: Connection, table: Table, condition: Any) -> int:
    return connection.scalar(select(func.count()).select_from(table).where(condition)) or 0
