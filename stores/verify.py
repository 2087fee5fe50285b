"""Looks for what is not as it was signed: rows changed, inserted, deleted or reordered, and whole older copies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Connection, Row, String, func, literal, select, type_coerce

from learngate.stores import lexical
from learngate.stores.audit import (
    NO_KEY,
    UNSIGNED,
    Key,
    Kind,
    Ledger,
    behind,
    has_head,
    on_chain,
    readable,
    rows_of,
    signed,
)
from learngate.stores.head import START, Head, Tip
from learngate.stores.lists import among
from learngate.stores.signing import newest_signed, removable
from learngate.stores.tables import decisions, learnings, ledger, revisions
from learngate.stores.text import digest

BATCH = 500

ACCEPT = "restore a backup, or take everything as it is now: `learngate audit restart`"
MEND = "put back what was signed: `learngate audit mend`"
TORN = "restore a backup, or set it apart with `learngate doctor --repair`, then `learngate audit restart`"
REMOVE = "take it out: `learngate audit mend`"
LOST = (
    "what was signed of it is gone or was changed, too: restore a backup, or take everything as it is now:"
    " `learngate audit restart`"
)
REBUILD = "rebuild what is derived: `learngate doctor --repair`"
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is not as it was signed: where, what is wrong with it, and what to do."""

    where: str
    says: str
    todo: str


def recall_faults(book: Ledger) -> Iterator[Fault]:
    """Find what a search would refuse, and whether the database is an older copy; the history is not read."""
    return _faults(book, lambda walk: walk.current(active_only=True))


def all_faults(book: Ledger, progress: Progress = lambda _done, _total: None) -> Iterator[Fault]:
    """Walk the whole ledger, and compare every decision, revision and learning with what was signed.

    `progress` is told how many links were read, of how many.
    """
    return _faults(book, lambda walk: walk.everything(progress))


def _faults(book: Ledger, look: Callable[[_Walk], Iterator[Fault]]) -> Iterator[Fault]:
    # Before the rows: the head file is never ahead of a transaction that begins after it was read.
    known = None if book.head is None else book.head.read()
    with book.database.read() as connection:
        count, end = _end(connection)
        if book.key is None:
            if count:
                yield Fault("key", f"{count:,} links are signed, and {NO_KEY}", LOST_KEY)
            return
        if count and not _key_fits(connection, book.key):
            says = f"neither end of the ledger was signed with the key from {book.key.source}"
            yield Fault("key", f"{says}: it is another key, or the database was changed", LOST_KEY)
            return
        if book.head is not None:
            yield from _head_faults(connection, book.head, known, end, book.key)
        yield from look(_Walk(connection, book, book.key, count))


LOST_KEY = "put the key back that signed; lost: sign everything as it is now with `learngate audit restart`"


def _end(connection: Connection) -> tuple[int, Tip]:
    count = connection.scalar(select(func.count()).select_from(ledger)) or 0
    return count, Tip(connection.scalar(select(func.max(ledger.c.seq))) or 0, "")


def _key_fits(connection: Connection, key: Key) -> bool:
    """Whether the key signed the ledger's first link or its last: both changed is rarer than a wrong key."""
    seqs = [ledger.c.seq.asc(), ledger.c.seq.desc()]
    first, last = (list(connection.scalars(select(ledger.c.seq).order_by(by).limit(2))) for by in seqs)
    rows, _ = readable(connection, select(ledger).where(among(ledger.c.seq)), [*first, *last])
    tips = {row.seq: Tip(row.seq, row.mac) for row in rows}
    ends = [row for row in rows if row.seq in {first[0], last[0]}]
    return any(key.follows(tips.get(row.seq - 1, START), row._asdict()) for row in ends)


def _head_faults(connection: Connection, head: Head, known: Tip | None, end: Tip, key: Key) -> Iterator[Fault]:
    if known is None:
        if end.seq and has_head(connection, key):
            yield Fault("head", head.lost(), f"put the file back, or copy it to there; or {ACCEPT}")
    elif not on_chain(connection, known):
        yield Fault("head", behind(head, known, end), f"take back the newer database; or {ACCEPT}")


class _Walk:
    """One look at one moment of the database."""

    def __init__(self, connection: Connection, book: Ledger, key: Key, count: int) -> None:
        self._connection, self._book, self._key, self._count = connection, book, key, count

    def everything(self, progress: Progress) -> Iterator[Fault]:
        """Compare every row with the ledger, and the ledger with itself."""
        yield from self._chain(progress)
        yield from self._unsigned("decision", decisions.c.id)
        yield from self._unsigned("revision", revisions.c.learning_id)
        yield from self.current(active_only=False)
        yield from self._gone()

    def current(self, *, active_only: bool) -> Iterator[Fault]:
        """Compare the learnings, as they are recalled, with their newest signed revision."""
        version = revisions.alias()
        first = select(type_coerce(version.c.at, String)).where(
            version.c.learning_id == learnings.c.id, version.c.revision == 1
        )
        raw = select(
            *(column for column in learnings.c if column.name not in {"created_at", "updated_at"}),
            type_coerce(learnings.c.created_at, String).label("created_at"),
            first.scalar_subquery().label("first_at"),
        )
        active = learnings.c.status == "active" if active_only else True
        for ids in self._batches(learnings.c.id, active):
            rows, garbled = readable(self._connection, signed(raw).where(among(learnings.c.id)), ids)
            for one in garbled:
                yield Fault(f"learning {one}", "it cannot be read", self._mend(one, otherwise=TORN))
            for row in rows:
                says = self._book.fault(row)
                if row.newest is None and row.decision_id is not None:
                    if active_only:
                        yield Fault(f"learning {row.id}", f"it is not signed: {UNSIGNED}", _sign(row.id))
                elif says is not None:
                    gone = REMOVE if removable(self._connection, row.id) else TORN
                    yield Fault(
                        f"learning {row.id}", says, self._mend(row.id, LOST if row.newest is not None else gone)
                    )
                elif not active_only and (column := _underived(row)):
                    yield Fault(f"learning {row.id}", f"its {column} does not belong to its text", REBUILD)

    def _chain(self, progress: Progress) -> Iterator[Fault]:
        """Follow the links from the first on, and look at the row that each stands for."""
        before, done = START, 0
        for seqs in self._batches(ledger.c.seq, True):
            links, garbled = readable(self._connection, select(ledger).where(among(ledger.c.seq)), seqs)
            rows = {kind: self._rows(kind, seqs) for kind in ("decision", "revision")}
            yield from (Fault(f"link {seq}", "it cannot be read", ACCEPT) for seq in garbled)
            for link in sorted(links, key=lambda link: link.seq):
                name = _name(link.kind, link.row_id, link.revision)
                if link.seq != before.seq + 1:
                    yield Fault(_between(before.seq, link.seq), "missing: somebody deleted it", ACCEPT)
                elif not self._key.follows(before, link._asdict()):
                    yield Fault(f"link {link.seq} ({name})", "somebody changed or moved it", ACCEPT)
                before = Tip(link.seq, link.mac)
                if link.kind == "head":
                    continue
                says = rows.get(link.kind, {}).get(link.seq, "it was signed, and somebody deleted it")
                if says is not None:
                    yield Fault(name, says, ACCEPT)
            done += len(seqs)
            progress(done, self._count)

    def _rows(self, kind: Kind, seqs: list[int]) -> dict[int, str | None]:
        """Return what is wrong with the rows that these links stand for; those that are gone are not in it."""
        linked = rows_of(kind).add_columns(ledger.c.seq).where(among(ledger.c.seq))
        found, garbled = readable(self._connection, linked, seqs)
        said: dict[int, str | None] = dict.fromkeys(garbled, "it cannot be read")
        for row in found:
            fits = self._key.fits(kind, row._asdict(), row.commitment)
            said[row.seq] = None if fits else "it is not what was signed: somebody changed it past the gate"
        return said

    def _unsigned(self, kind: Kind, key: Column[int]) -> Iterator[Fault]:
        columns = (key, literal(0)) if kind == "decision" else (key, revisions.c.revision)
        query = rows_of(kind).where(ledger.c.seq.is_(None)).with_only_columns(*columns)
        for row_id, revision in self._connection.execute(query):
            says = f"it is not signed: {UNSIGNED}"
            yield Fault(_name(kind, row_id, revision), says, _sign(row_id if kind == "revision" else None))

    def _gone(self) -> Iterator[Fault]:
        """Find learnings that were signed and are no row any more."""
        query = (
            select(ledger.c.row_id)
            .distinct()
            .outerjoin(learnings, learnings.c.id == ledger.c.row_id)
            .where(ledger.c.kind == "revision", learnings.c.id.is_(None))
        )
        for learning_id in self._connection.scalars(query):
            yield Fault(
                f"learning {learning_id}",
                "it was signed, and somebody deleted it",
                self._mend(learning_id),
            )

    def _mend(self, learning_id: int, otherwise: str = LOST) -> str:
        """Say what to do for a learning: its signed revision can be put back only where it is there."""
        return otherwise if newest_signed(self._connection, self._book, learning_id) is None else MEND

    def _batches(self, key: Column[int], condition: Any) -> Iterator[list[int]]:
        last = -(2**63)
        while ids := list(
            self._connection.scalars(select(key).where(key > last, condition).order_by(key).limit(BATCH))
        ):
            yield ids
            last = ids[-1]


def _name(kind: str, row_id: int, revision: int) -> str:
    if kind == "revision":
        return f"revision {revision} of learning {row_id}"
    return f"decision {row_id}" if kind == "decision" else "whether there is a head file"


def _between(before: int, after: int) -> str:
    return f"link {before + 1}" if after == before + 2 else f"links {before + 1} to {after - 1}"


def _sign(learning_id: int | None) -> str:
    look = "look at it" if learning_id is None else f"look at it (`learngate learnings show {learning_id}`)"
    return f"{look}, then sign it with `learngate audit sign`"


def _underived(row: Row[Any]) -> str | None:
    """Return the column of a learning that is not what follows from its text, if any."""
    derived = {
        "digest": digest(row.insight),
        "scope": lexical.scope_token("namespace", row.namespace),
        "created_at": row.first_at,
        "body": lexical.search_body(row.title, row.insight, row.applies_when),
    }
    return next((name for name, value in derived.items() if getattr(row, name) != value), None)
