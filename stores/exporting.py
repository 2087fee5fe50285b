"""Export: everything a database holds, or a part of it, as JSON Lines.

The format, version 1. Each line is one JSON object in ASCII with a `kind`; times are ISO 8601 in UTC; rows are
known by `uid`, sessions and turns by their own ids. What is derived (search bodies, vectors) is not in it.

=========  =================================================================================================
learngate  the first line: `format`, `at`, and the `user` and `namespace` it is of (null: all)
erased     a session that was erased: the digest of its id, so that it stays closed
session    a conversation and its owner
memory     a user memory with all its `revisions`
proposal   a proposal with its `excerpts` and `decisions`; a decision that took effect has its `revision`
learning   a learning as it stands, to compare with what its revisions led to
turn       a turn with its `messages` (LangChain's own dicts), `effects` and `recalls`
end        the last line: `counts` by kind, and the `digest` (BLAKE2b) of all lines before it
=========  =================================================================================================

A row stands after those that it names, so that a reader needs one pass and keeps nothing in memory.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Row, Select, Table, func, or_, select, true

from learngate.stores.database import Database, outlast
from learngate.stores.errors import StoreUnusable
from learngate.stores.records import now
from learngate.stores.tables import (
    WORDS,
    decisions,
    effects,
    erased_sessions,
    excerpts,
    is_misquoted,
    is_reworded,
    learnings,
    memory_revisions,
    messages,
    proposals,
    recalls,
    revisions,
    sessions,
    turns,
    user_memories,
)
from learngate.stores.text import check_name, check_namespace

FORMAT = 1
BATCH = 200
"""How many rows are read at a time."""
RECALLED = {"memory": user_memories, "learning": learnings}


@dataclass
class Tally:
    """What has gone by: how many lines of each kind, and a digest of all of them."""

    counts: Counter[str] = field(default_factory=Counter)
    _hash: Any = field(default_factory=lambda: hashlib.blake2b(digest_size=32))

    def add(self, kind: str, line: bytes) -> None:
        """Take one line into account, its line break included."""
        self.counts[kind] += 1
        self._hash.update(line)

    @property
    def digest(self) -> str:
        """The digest of the lines so far."""
        return str(self._hash.hexdigest())


def exported(database: Database, *, user_id: str | None = None, namespace: str | None = None) -> Iterator[bytes]:
    """Return the lines of an export, each with its line break, all of one moment of the database.

    With `user_id` it is of one person: sessions, turns and memories. With `namespace` it is of what is learned
    there and below. With neither it is everything; with both, both parts. The moment is that of the first line;
    whoever takes the lines may take their time, and closes what they do not read to its end.

    Raises:
        InvalidInput: a user or a namespace that cannot be one.
        StoreUnusable: at its line, a memory that is not what was written.
    """
    user = None if user_id is None else check_name(user_id, what="the user id")
    space = None if namespace is None else check_namespace(namespace)
    return _exported(database, user, space)


def _exported(database: Database, user: str | None, space: str | None) -> Iterator[bytes]:
    tally = Tally()
    head = {"kind": "learngate", "format": FORMAT, "at": now(), "user": user, "namespace": space}
    yield _line(head, tally)
    with database.read() as connection:
        outlast(connection)
        for row in _rows(connection, user, space):
            yield _line(row, tally)
    yield _line({"kind": "end", "counts": dict(tally.counts), "digest": tally.digest}, tally)


def _line(row: dict[str, Any], tally: Tally) -> bytes:
    line = json.dumps(row, default=_as_text, separators=(",", ":")).encode() + b"\n"
    tally.add(row["kind"], line)
    return line


def _as_text(value: object) -> str:
    assert isinstance(value, datetime)
    return value.isoformat(timespec="microseconds")


def _rows(connection: Connection, user: str | None, space: str | None) -> Iterator[dict[str, Any]]:
    personal, learned = user is not None or space is None, space is not None or user is None
    if user is None and space is None:
        yield from _each(connection, erased_sessions, erased_sessions.c.token, true(), _erased)
    if personal:
        yield from _each(connection, sessions, sessions.c.id, _of(sessions, user), _session)
        yield from _each(connection, user_memories, user_memories.c.id, _of(user_memories, user), _memory)
    if learned:
        yield from _each(connection, proposals, proposals.c.id, _below(proposals.c.namespace, space), _proposal)
        yield from _each(connection, learnings, learnings.c.id, _below(learnings.c.namespace, space), _learning)
    if personal:
        yield from _each(connection, turns, turns.c.seq, _of(turns, user), _turn)


def every_row(connection: Connection) -> Iterator[dict[str, Any]]:
    """Return the rows of an export of everything, each as an import reads it."""
    for row in _rows(connection, None, None):
        yield json.loads(json.dumps(row, default=_as_text))


def _of(table: Table, user: str | None) -> ColumnElement[bool]:
    return true() if user is None else table.c.user_id == user


def _below(column: Column[str], space: str | None) -> ColumnElement[bool]:
    # Not LIKE: on SQLite it takes capital letters for small ones.
    below = f"{space}/"
    return true() if space is None else or_(column == space, func.substr(column, 1, len(below)) == below)


Lines = Callable[[Connection, Sequence[Row[Any]]], Iterable[dict[str, Any]]]


def _each(
    connection: Connection, table: Table, key: Column[Any], condition: ColumnElement[bool], lines: Lines
) -> Iterator[dict[str, Any]]:
    """Read a table in the order of a key, a batch at a time, and yield the lines for each batch."""
    query: Select[Any] = select(table).where(condition).order_by(key).limit(BATCH)
    rows = connection.execute(query).all()
    while rows:
        yield from lines(connection, rows)
        rows = connection.execute(query.where(key > getattr(rows[-1], key.name))).all()


def _erased(_: Connection, rows: Sequence[Row[Any]]) -> Iterator[dict[str, Any]]:
    for row in rows:
        yield {"kind": "erased", "token": row.token, "erased_at": row.erased_at}


def _session(_: Connection, rows: Sequence[Row[Any]]) -> Iterator[dict[str, Any]]:
    for row in rows:
        yield {"kind": "session", **_picked(row, "id", "user_id", "opened_at", "deleted_at", "newest")}


def _memory(connection: Connection, rows: Sequence[Row[Any]]) -> Iterator[dict[str, Any]]:
    history = _children(connection, memory_revisions, memory_revisions.c.memory_id, [row.id for row in rows])
    names = ("uid", "user_id", "namespace", "text", "pinned", "revision", "source_session", "source_turn")
    times = ("valid_from", "valid_to", "created_at", "updated_at")
    of_one = ("revision", "change", "text", "at", "source_session", "source_turn")
    for row in rows:
        if is_reworded(row):
            raise StoreUnusable(
                f"not exported: memory {row.id} of {row.user_id!r} is damaged: restore a backup, or let"
                " `learngate doctor --repair` put it back or set it aside"
            )
        versions = [_picked(one, *of_one) for one in history.get(row.id, ())]
        yield {"kind": "memory", **_picked(row, *names, *times), "revisions": versions}


def _proposal(connection: Connection, rows: Sequence[Row[Any]]) -> Iterator[dict[str, Any]]:
    ids = [row.id for row in rows]
    quoted = _children(connection, excerpts, excerpts.c.proposal_id, ids)
    taken = _children(connection, decisions, decisions.c.proposal_id, ids)
    made = {
        row.decision_id: row
        for row in connection.execute(select(revisions).where(revisions.c.proposal_id.in_(ids)))
    }
    uids = _uids(
        connection, learnings, {row.target_id for row in rows} | {one.learning_id for one in made.values()}
    )
    names = ("uid", "namespace", "kind", *WORDS, "rationale", "taint", "proposer", "status", "digest")
    of = ("user_id", "session_id", "turn_id", "created_at", "expires_at", "base_revision")
    for row in rows:
        if is_misquoted(row):
            raise StoreUnusable(
                f"not exported: proposal {row.id} is damaged: restore a backup, or let `learngate doctor --repair`"
                " set it aside"
            )
        line = _picked(row, *names, *of)
        line |= {"kind": "proposal", "of": row.kind, "target": uids.get(row.target_id)}
        line["excerpts"] = [
            _picked(one, "text", "speaker", "user_id", "session_id", "turn_id") for one in quoted.get(row.id, ())
        ]
        line["decisions"] = [
            _picked(one, "type", "reviewer", "note", "decided_at") | {"revision": _made(made.get(one.id), uids)}
            for one in taken.get(row.id, ())
        ]
        yield line


def _made(row: Row[Any] | None, uids: dict[int, str]) -> dict[str, Any] | None:
    if row is None:
        return None
    names = ("revision", "namespace", "change", "title", "insight", "applies_when", "status", "at")
    return {"learning": uids[row.learning_id], **_picked(row, *names)}


def _learning(_: Connection, rows: Sequence[Row[Any]]) -> Iterator[dict[str, Any]]:
    words = ("title", "insight", "applies_when")
    for row in rows:
        names = ("uid", "namespace", *words, "status", "revision", "created_at", "updated_at")
        yield {"kind": "learning", **_picked(row, *names)}


def _turn(connection: Connection, rows: Sequence[Row[Any]]) -> Iterator[dict[str, Any]]:
    seqs = [row.seq for row in rows]
    said = _children(connection, messages, messages.c.turn_seq, seqs)
    done = _children(connection, effects, effects.c.turn_seq, seqs)
    recalled = _children(connection, recalls, recalls.c.turn_seq, seqs)
    parents = select(turns.c.seq, turns.c.id).where(turns.c.seq.in_({row.parent_seq for row in rows} - {None}))
    of = {row.seq: row.id for row in connection.execute(parents)}
    every = [one for found in recalled.values() for one in found]
    uids = {
        kind: _uids(connection, table, {one.row_id for one in every if one.kind == kind})
        for kind, table in RECALLED.items()
    }
    names = ("id", "user_id", "namespace", "status", "reflection", "reflection_attempts", "reflection_error")
    more = ("happened_at", "recorded_at", "checkpoint_id", "usage", "noted")
    for row in rows:
        yield {
            "kind": "turn",
            "session": row.session_id,
            "parent": of.get(row.parent_seq),
            **_picked(row, *names, *more),
            "messages": [
                {**_picked(one, "id", "role", "format"), "data": _data(one)} for one in said.get(row.seq, ())
            ],
            "effects": [_picked(one, "effect", "at") for one in done.get(row.seq, ())],
            # A row that was erased since has left its number behind, which means nothing elsewhere.
            "recalls": [
                {
                    "of": one.kind,
                    "row": uids[one.kind][one.row_id],
                    **_picked(one, "revision", "rank", "score", "fate"),
                }
                for one in recalled.get(row.seq, ())
                if one.row_id in uids[one.kind]
            ],
        }


def _data(row: Row[Any]) -> Any:
    """Return a message as the object that it is; one that cannot be read, as the text it is stored as."""
    try:
        found = json.loads(row.data)
    except ValueError:
        return row.data
    return found if json.dumps(found, separators=(",", ":")) == row.data else row.data


def _picked(row: Row[Any], *names: str) -> dict[str, Any]:
    return {name: getattr(row, name) for name in names}


def _children(
    connection: Connection, table: Table, column: Column[Any], ids: Sequence[int]
) -> dict[int, list[Row[Any]]]:
    """Return the rows of a table that belong to some others, in the order of its primary key."""
    found: dict[int, list[Row[Any]]] = {}
    query = select(table).where(column.in_(ids)).order_by(*table.primary_key.columns)
    for row in connection.execute(query):
        found.setdefault(getattr(row, column.name), []).append(row)
    return found


def _uids(connection: Connection, table: Table, ids: Iterable[int | None]) -> dict[int, str]:
    wanted = [one for one in ids if one is not None]
    return {
        row.id: row.uid for row in connection.execute(select(table.c.id, table.c.uid).where(table.c.id.in_(wanted)))
    }
