"""User memory: facts and preferences about one user, kept across sessions, never seen by another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

from sqlalchemy import Connection, Integer, Row, bindparam, insert, or_, select, update

from learngate.stores import lexical
from learngate.stores.changes import note_change
from learngate.stores.database import Database
from learngate.stores.erasing import erase_memories
from learngate.stores.errors import InvalidInput, NotFound, StoreUnusable
from learngate.stores.fusion import Fused
from learngate.stores.guard import AnyText, Count, Name, Namespace, guarded
from learngate.stores.hybrid import CANDIDATES, HybridSearch
from learngate.stores.lists import among
from learngate.stores.meaning import Hits
from learngate.stores.prepared import Prepared
from learngate.stores.records import MemoryHit, MemoryOperation, UserMemory, now
from learngate.stores.tables import checksum, is_reworded, memory_revisions, user_memories
from learngate.stores.text import MEMORY_LIMIT, check_text, clean, digest, lineage
from learngate.stores.tree import claim_effect, reflected, settled

_memories = user_memories.c

_FIELDS = tuple(field.name for field in fields(UserMemory))
"""What a memory is made of: columns of the same names, which come first in the rows that are read here."""
ITEM_COST = 24
"""Characters that an item costs in a prompt beside its text: its dash, kind and id, and rounding to tokens."""
ITEM_USUAL = 72
"""What one costs as a rule, or more: so many as fit at that are looked at before all that could fit are."""
MANY = 1000
"""So many are ranked where some of the first are kept for other namespaces."""


# Built once: building a statement takes longer than it takes to run. A recall reads a hundred rows: no more of each
# than it takes.
_READ = select(*(_memories[name] for name in (*_FIELDS, "checksum", "valid_to")))
_THESE = Prepared(_READ.where(among(_memories.id)))
_ACTIVE = _READ.where(_memories.user_id == bindparam("user_id"), _memories.valid_to.is_(None)).order_by(
    _memories.pinned.desc(), _memories.updated_at.desc(), _memories.id.desc()
)
_LATEST = _ACTIVE.limit(bindparam("most", type_=Integer))
_MINE = Prepared(_LATEST)
_SERVED = Prepared(_LATEST.where(or_(_memories.namespace.is_(None), among(_memories.namespace, "spaces"))))
_MINE_BY_ID = _ACTIVE.where(_memories.id == bindparam("id"))


@guarded
class Users:
    """The memories of every user. Each method is about one user, named first; there is no default user."""

    def __init__(self, database: Database, search: HybridSearch) -> None:
        self._db = database
        self._search = search

    def remember(
        self,
        user_id: Name,
        text: AnyText,
        *,
        namespace: Namespace | None = None,
        pinned: bool = False,
        source: tuple[Name, Name] | None = None,
    ) -> UserMemory:
        """Store a fact about a user; one that is already stored, word for word, is not stored again.

        `source` is the (session, turn) that it was learned from. A pinned memory is always recalled first. One that
        is stored is pinned where `pinned` says so, and is recalled more widely where no namespace is named, or one
        above its own; in one beside its own it is not.

        Raises:
            InvalidInput: no user, or a text that cannot be stored.
        """
        checked = check_text(text, what="the memory", limit=MEMORY_LIMIT)
        with self._db.write() as connection:
            memory_id = _add(connection, user_id, checked, namespace=namespace, pinned=pinned, source=source)
            return _memory(_row(connection, user_id, memory_id))

    def update(
        self, user_id: Name, memory_id: int, text: AnyText | None = None, *, pinned: bool | None = None
    ) -> UserMemory:
        """Change a memory's text, or pin or unpin it; its earlier text stays in its history.

        Raises:
            NotFound: the user has no such memory.
            InvalidInput: a text that cannot be stored, or one that another memory of the user already has.
        """
        checked = None if text is None else check_text(text, what="the memory", limit=MEMORY_LIMIT)
        with self._db.write() as connection:
            _row(connection, user_id, memory_id)
            if checked is not None:
                _replace(connection, user_id, memory_id, checked, source=None)
            if pinned is not None:
                connection.execute(update(user_memories).where(_memories.id == memory_id).values(pinned=pinned))
            return _memory(_row(connection, user_id, memory_id))

    def forget(self, user_id: Name, memory_id: int) -> UserMemory:
        """Stop recalling a memory; return what it was.

        Raises:
            NotFound: the user has no such memory.
        """
        with self._db.write() as connection:
            forgotten = _as_it_is(_row(connection, user_id, memory_id))
            _forget(connection, user_id, memory_id, source=None)
        return forgotten

    def apply(
        self,
        user_id: Name,
        operations: Sequence[MemoryOperation],
        *,
        source: tuple[Name, Name],
        effect: str = "remember",
        final: bool = True,
        settles: bool = False,
    ) -> list[UserMemory]:
        """Apply what a turn brought, in one transaction and exactly once, and return what was stored.

        An operation on a memory that the user does not have (any more) changes nothing: a model may name
        one that was forgotten meanwhile. `source` is the (session, turn); `final` marks its reflection done,
        `settles` what its tools noted.

        Raises:
            InvalidInput: no user, or a text that cannot be stored.
        """
        operations = [_checked(operation) for operation in operations]
        stored: list[UserMemory] = []
        with self._db.write() as connection:
            if final:
                reflected(connection, *source)
            if settles:
                settled(connection, *source)
            if not claim_effect(connection, *source, effect):
                return []
            for operation in operations:
                touched = _apply(connection, user_id, operation, source)
                if touched is not None:
                    stored.append(_memory(_row(connection, user_id, touched)))
        return stored

    def recall(
        self, user_id: Name, query: AnyText, *, budget: Count = 600, namespace: Namespace | None = None
    ) -> Hits[MemoryHit]:
        """Return the memories that matter to a message, within `budget` tokens (of four characters).

        All of them while they fit, pinned ones first; else the pinned, the most relevant, and the latest where
        there is room left. What was found but did not fit any more comes last, with `shown=False`. A memory that
        was kept for one namespace is recalled in it and below it only; without `namespace` all are.
        """
        room = budget * 4
        spaces = None if namespace is None else lineage(namespace)
        first = self._first(user_id, spaces, room)
        if sum(len(row.text) + ITEM_COST for row in first) <= room:
            return Hits(MemoryHit(_memory(row), 1.0) for row in first)
        if not query.strip():
            # A picture without a word asks for nothing in particular: then the latest go first.
            return Hits(_within(room, [(row, 1.0 if row.pinned else 0.0) for row in first]))
        pinned = [row.id for row in first if row.pinned]
        ranked, rows = self._relevant(user_id, spaces, query, pinned)
        scores = {row.id: row.score for row in ranked}
        names = [name for name in dict.fromkeys([*pinned, *scores]) if name in rows]
        hits = _within(room, [(rows[name], 1.0 if rows[name].pinned else scores[name]) for name in names])
        left = room - sum(len(hit.text) + ITEM_COST for hit in hits if hit.shown)
        # Where what was found leaves room, the latest that may be recalled here have it.
        latest = [row.id for row in first if row.id not in rows and len(row.text) + ITEM_COST <= left]
        if latest:
            there = self._seen(user_id, spaces, latest)
            more = _within(left, [(there[name], 0.0) for name in latest if name in there])
            hits = sorted(hits + [hit for hit in more if hit.shown], key=lambda hit: not hit.shown)
        return Hits(hits, note=ranked.note)

    def _first(self, user_id: str, spaces: Sequence[str] | None, room: int) -> Sequence[Any]:
        """Return a user's memories, pinned ones first: all of them, or more than fit."""
        mine, within = (_MINE, {}) if spaces is None else (_SERVED, {"spaces": spaces})
        for cost in (ITEM_USUAL, ITEM_COST):
            most = room // cost + 1
            with self._db.look() as connection:
                first = mine.all(connection, {"user_id": user_id, "most": most, **within})
            sizes = [len(row.text) + ITEM_COST for row in first]
            left = room
            for size in sizes:
                left -= size if size <= left else 0
            # More are looked at where all of these fit, where others may be pinned, and where one more has room.
            if len(first) < most or (sum(sizes) > room and not first[-1].pinned and left < ITEM_USUAL):
                break
        return first

    def _relevant(
        self, user_id: str, spaces: Sequence[str] | None, query: str, pinned: Sequence[int]
    ) -> tuple[Hits[Fused], dict[int, Row[Any]]]:
        """Return what was found for a query, and what of it and of the pinned may be recalled."""
        ranked: Hits[Fused] = Hits()
        rows: dict[int, Row[Any]] = {}
        for k in (CANDIDATES, MANY):
            ranked = self._search("memory", [_scope(user_id)], clean(query), k=k, floor=False)
            rows = self._seen(user_id, spaces, [*pinned, *(row.id for row in ranked)])
            # What is kept for other namespaces is ranked with the rest, and must not crowd it out.
            if len(ranked) < k or all(row.id in rows for row in ranked):
                break
        return ranked, rows

    def _seen(self, user_id: str, spaces: Sequence[str] | None, ids: Sequence[int]) -> dict[int, Row[Any]]:
        """Return those of some memories, as they are now, that may be recalled."""
        # By their keys alone: asked for the user's, too, SQLite looks through all that the user has.
        with self._db.look() as connection:
            rows = _THESE.all(connection, {"ids": ids})
        return {row.id: row for row in rows if _may_see(row, user_id, spaces)}

    def erase(self, user_id: Name) -> int:
        """Delete every memory of a user with its history and vectors; return how many there were.

        `Memory.erase` takes the rest of a user, too, and what is left on the disk.
        """
        with self._db.write() as connection:
            return erase_memories(connection, user_id)["memories"]

    # `list` stands last, because below it the word means this method.
    def list(self, user_id: Name, *, limit: Count = 1000) -> list[UserMemory]:
        """Return a user's memories: pinned first, then the latest."""
        with self._db.look() as connection:
            return [_memory(row) for row in _MINE.all(connection, {"user_id": user_id, "most": limit})]


def _checked(operation: MemoryOperation) -> MemoryOperation:
    if operation.text is None:
        return operation
    return replace(operation, text=check_text(operation.text, what="the memory", limit=MEMORY_LIMIT))


def _apply(connection: Connection, user_id: str, operation: MemoryOperation, source: tuple[str, str]) -> int | None:
    known = operation.id is not None and _find(connection, user_id, operation.id) is not None
    match operation:
        case MemoryOperation("forget", id=int(memory_id)) if known:
            _forget(connection, user_id, memory_id, source=source)
            return None
        case MemoryOperation("update", text=str(text), id=int(memory_id)) if known:
            there = _same(connection, user_id, text)
            if there is not None and there != memory_id:
                _forget(connection, user_id, memory_id, source=source)
                return None
            return _replace(connection, user_id, memory_id, text, source=source)
        case MemoryOperation("add", text=str(text)):
            return _add(connection, user_id, text, source=source)
    return None


def _add(
    connection: Connection,
    user_id: str,
    text: str,
    *,
    namespace: str | None = None,
    pinned: bool = False,
    source: tuple[str, str] | None = None,
) -> int:
    there = _same(connection, user_id, text)
    if there is not None:
        _widen(connection, _row(connection, user_id, there), namespace, pinned=pinned)
        return there
    session, turn = source or (None, None)
    at = now()
    added = connection.execute(
        insert(user_memories).values(
            user_id=user_id,
            namespace=namespace,
            text=text,
            digest=digest(text),
            pinned=pinned,
            source_session=session,
            source_turn=turn,
            valid_from=at,
            created_at=at,
            updated_at=at,
            scope=_scope(user_id),
            body=lexical.search_body(text),
        )
    ).inserted_primary_key
    assert added is not None
    memory_id: int = added[0]
    _note(connection, memory_id, 1, "added", text, user_id, source)
    return memory_id


def _widen(connection: Connection, known: Row[Any], namespace: str | None, *, pinned: bool) -> None:
    """Let a memory that is told again be recalled wherever it was told, as far as one namespace can say."""
    wider: dict[str, Any] = {"pinned": True} if pinned and not known.pinned else {}
    if known.namespace is not None and (namespace is None or namespace in lineage(known.namespace)[1:]):
        wider["namespace"] = namespace
    if wider:
        connection.execute(update(user_memories).where(_memories.id == known.id).values(wider))


def _replace(
    connection: Connection, user_id: str, memory_id: int, text: str, *, source: tuple[str, str] | None
) -> int:
    there = _same(connection, user_id, text)
    if there is not None and there != memory_id:
        raise InvalidInput(f"memory {there} already says that: forget memory {memory_id} instead")
    row = _row(connection, user_id, memory_id)
    if row.text == text:
        return memory_id
    connection.execute(
        update(user_memories)
        .where(_memories.id == memory_id)
        .values(
            text=text,
            checksum=checksum(text),
            digest=digest(text),
            revision=row.revision + 1,
            updated_at=now(),
            body=lexical.search_body(text),
        )
    )
    _note(connection, memory_id, row.revision + 1, "updated", text, user_id, source)
    return memory_id


def _forget(connection: Connection, user_id: str, memory_id: int, *, source: tuple[str, str] | None) -> None:
    row = _row(connection, user_id, memory_id)
    connection.execute(
        update(user_memories)
        .where(_memories.id == memory_id)
        .values(valid_to=now(), updated_at=now(), revision=row.revision + 1)
    )
    _note(connection, memory_id, row.revision + 1, "forgotten", row.text, user_id, source)


def _note(
    connection: Connection,
    memory_id: int,
    revision: int,
    change: str,
    text: str,
    user_id: str,
    source: tuple[str, str] | None,
) -> None:
    session, turn = source or (None, None)
    connection.execute(
        insert(memory_revisions).values(
            memory_id=memory_id,
            revision=revision,
            change=change,
            text=text,
            at=now(),
            source_session=session,
            source_turn=turn,
        )
    )
    op = "drop" if change == "forgotten" else "put"
    note_change(connection, "memory", memory_id, scope=_scope(user_id), op=op)


def _same(connection: Connection, user_id: str, text: str) -> int | None:
    found: int | None = connection.scalar(
        select(_memories.id).where(
            _memories.user_id == user_id, _memories.digest == digest(text), _memories.valid_to.is_(None)
        )
    )
    return found


def _find(connection: Connection, user_id: str, memory_id: int) -> Row[Any] | None:
    found: Row[Any] | None = connection.execute(_MINE_BY_ID, {"user_id": user_id, "id": memory_id}).first()
    return found


def _row(connection: Connection, user_id: str, memory_id: int) -> Row[Any]:
    row = _find(connection, user_id, memory_id)
    if row is None:
        raise NotFound(f"{user_id!r} has no memory {memory_id}: see `learngate memories list --user {user_id}`")
    return row


def _memory(row: Row[Any]) -> UserMemory:
    if is_reworded(row):
        raise StoreUnusable(
            f"memory {row.id} of {row.user_id!r} is damaged (it is not what was written):"
            " restore a backup, or forget it"
        )
    return _as_it_is(row)


def _as_it_is(row: Row[Any]) -> UserMemory:
    return UserMemory(*row[: len(_FIELDS)])


def _may_see(row: Row[Any], user_id: str, spaces: Sequence[str] | None) -> bool:
    within = spaces is None or row.namespace is None or row.namespace in spaces
    return row.user_id == user_id and row.valid_to is None and within


def _within(room: int, ordered: Sequence[tuple[Row[Any], float]]) -> list[MemoryHit]:
    shown: list[MemoryHit] = []
    cut: list[MemoryHit] = []
    for row, score in ordered:
        size = len(row.text) + ITEM_COST
        if size <= room:
            room -= size
            shown.append(MemoryHit(_memory(row), score))
        elif len(cut) < 5:
            cut.append(MemoryHit(_memory(row), score, shown=False))
    return shown + cut


def _scope(user_id: str) -> str:
    return lexical.scope_token("user", user_id)
