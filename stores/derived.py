"""What is derived from rows, compared with them and made anew: search columns, vectors, what processes are told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from sqlalchemy import Column, Connection, LargeBinary, Row, Table, cast, delete, func, select
from sqlalchemy import update as put

from learngate.stores import codec, lexical, tree
from learngate.stores.embeddings import SOURCES
from learngate.stores.quarantine import Mended, Round
from learngate.stores.records import Turn
from learngate.stores.tables import (
    changes,
    embeddings,
    learnings,
    messages,
    revisions,
    turns,
    unsealed,
    user_memories,
)
from learngate.stores.text import digest, fingerprint


def derived_columns(at: Round) -> Iterator[Mended]:
    """Set what follows from a row's text to what follows from it."""
    first = select(func.min(revisions.c.at)).where(revisions.c.learning_id == learnings.c.id).scalar_subquery()
    query = select(learnings, first.label("first_at"))
    yield from _mend(at, learnings, learnings.c.id, query, _of_learning, kind="learning")
    yield from _mend(at, user_memories, user_memories.c.id, select(user_memories), _of_memory, kind="memory")
    yield from _mend(at, turns, turns.c.seq, select(turns), lambda row: _of_turn(at.connection, row), kind="turn")


def _of_learning(row: Row[Any]) -> dict[str, Any]:
    return {
        "digest": digest(row.insight),
        "scope": lexical.scope_token("namespace", row.namespace),
        "body": lexical.search_body(row.title, row.insight, row.applies_when),
        "created_at": row.first_at or row.created_at,
    }


def _of_memory(row: Row[Any]) -> dict[str, Any]:
    return {
        "digest": digest(row.text),
        "scope": lexical.scope_token("user", row.user_id),
        "body": lexical.search_body(row.text),
    }


def _of_turn(connection: Connection, row: Row[Any]) -> dict[str, Any]:
    query = select(messages.c.data).where(messages.c.turn_seq == row.seq).order_by(messages.c.position)
    said = tuple(codec.from_text(data) for data in connection.scalars(query))
    turn = Turn(row.session_id, said, id=row.id, user_id=row.user_id, happened_at=row.happened_at)
    above = connection.scalar(select(turns.c.body).where(turns.c.seq == row.parent_seq))
    return {
        "scope": tree.turn_scope(row.user_id),
        "body": tree.body(turn),
        "before": tree.said_in(above) if above else "",
    }


def _mend(
    at: Round,
    table: Table,
    key: Column[Any],
    query: Any,
    values: Callable[[Row[Any]], dict[str, Any]],
    *,
    kind: str | None = None,
) -> Iterator[Mended]:
    count = 0
    for row in at.each(query, key):
        right = values(row)
        if all(getattr(row, name) == value for name, value in right.items()):
            continue
        count += 1
        row_id = getattr(row, key.name)
        at.write(put(table).where(key == row_id).values(**right))
        if kind is not None:
            at.note(kind, row_id, scope=row.scope, op="drop")
            op = "put" if _active(kind, row) else "drop"
            at.note(kind, row_id, scope=right["scope"], op=op)
    if count:
        yield Mended(
            "derived", f"what follows from the text of rows of {table.name} was not it, and is made anew", count
        )


def _active(kind: str, row: Row[Any]) -> bool:
    return row.valid_to is None if kind == "memory" else row.status in {"active", "complete"}


def vectors_in_use(at: Round) -> Iterator[Mended]:
    """Drop vectors that are of no row, of another text, or no unit vectors; a search makes them again."""
    right = len(at.vectors.of_query("learngate"))
    count = 0
    for kind, source in SOURCES.items():
        # As bytes: what is damaged may be no vector at all.
        raw = cast(embeddings.c.vector, LargeBinary) if at.lax else embeddings.c.vector
        query = select(
            embeddings.c.row_id,
            embeddings.c.embedder,
            embeddings.c.digest,
            embeddings.c.scope,
            raw.label("raw"),
            source.text.label("body"),
            source.table.c.scope.label("right_scope"),
        ).outerjoin(source.table, (source.key == embeddings.c.row_id) & source.active)
        for row in at.each(query.where(embeddings.c.kind == kind), embeddings.c.row_id, embeddings.c.embedder):
            length = right if row.embedder == at.vectors.name else None
            fits = row.body is not None and row.digest == fingerprint(row.body) and row.scope == row.right_scope
            if fits and _is_unit(row.raw, length):
                continue
            count += 1
            its = (embeddings.c.row_id == row.row_id) & (embeddings.c.embedder == row.embedder)
            at.write(delete(embeddings).where(embeddings.c.kind == kind, its))
            if row.body is not None:
                # Who holds it, or counts on it, makes it again.
                at.note(kind, row.row_id, scope=row.right_scope, op="put")
    known = embeddings.c.kind.in_(SOURCES)
    count += at.connection.scalar(select(func.count()).select_from(embeddings).where(~known)) or 0
    at.write(delete(embeddings).where(~known))
    if count:
        yield Mended("vectors", "dropped vectors that were stale or damaged; the next search makes them", count)


def _is_unit(raw: Any, length: int | None) -> bool:
    vector = np.asarray(unsealed(raw) if isinstance(raw, bytes) else raw, dtype=np.float64)
    if vector.ndim != 1 or (length is not None and len(vector) != length) or not np.isfinite(vector).all():
        return False
    size = float(np.linalg.norm(vector))
    return size == 0 or abs(size - 1) < 0.01


def told_changes(at: Round) -> Iterator[Mended]:
    """Tell every open process of rows whose last change says otherwise than the row."""
    count = 0
    for kind, source in SOURCES.items():
        last = select(changes.c.row_id, func.max(changes.c.seq).label("seq")).where(changes.c.kind == kind)
        newest = last.group_by(changes.c.row_id).subquery()
        query = (
            select(
                source.key,
                source.table.c.scope,
                source.active.label("active"),
                changes.c.op,
                changes.c.scope.label("told"),
            )
            .outerjoin(newest, newest.c.row_id == source.key)
            .outerjoin(changes, changes.c.seq == newest.c.seq)
        )
        for row in at.each(query, source.key):
            op = "put" if row.active else "drop"
            never = row.op is None and not row.active
            if not never and (row.op, row.told) != (op, row.scope):
                count += 1
                at.note(kind, getattr(row, source.key.name), scope=row.scope, op=op)
    if count:
        yield Mended("changes", "rows that open processes had not been told of are told of", count)
