"""What a person does about signatures: sign what is not signed, sign all anew, put back what was changed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, Row, Select, delete, select

from learngate.stores import gate
from learngate.stores.audit import Kind, Ledger, Link, Page, rows_of, signed
from learngate.stores.errors import ConfigurationError
from learngate.stores.head import START
from learngate.stores.tables import learnings, ledger, revisions


@dataclass(frozen=True, slots=True)
class Candidate:
    """A row that may be signed: what it says, and the commitment to just that."""

    link: Link
    decision_id: int
    says: str


@dataclass(frozen=True, slots=True)
class Mending:
    """A learning whose row is not its newest signed revision: what the row says, and what becomes of it."""

    learning_id: int
    says: str
    fate: Literal["put back", "removed"]
    version: int | None


def unsigned(book: Ledger) -> list[Candidate]:
    """Return the decisions and revisions that are not signed, in the order in which they were made."""
    return _candidates(book, all_of_them=False)


def everything(book: Ledger) -> list[Candidate]:
    """Return every decision and revision, in the order in which they were made."""
    return _candidates(book, all_of_them=True)


def sign(book: Ledger, shown: Sequence[Candidate]) -> int:
    """Sign rows as they were shown, and return how many; one that was changed since will not fit.

    Raises:
        StoreUnusable: the ledger's end does not fit the key or the head file.
    """
    with book.write() as page:
        for one in shown:
            page.add(one.link)
    return len(shown)


def restart(book: Ledger, shown: Sequence[Candidate]) -> int:
    """Begin the ledger and its head file anew with rows as they were shown, and return how many.

    What the old ledger proved is gone with it.
    """
    with book.database.write() as connection:
        connection.execute(delete(ledger))
        page = Page(connection, book.key, None)
        for one in shown:
            page.add(one.link)
    if book.head is not None:
        book.head.replace(page.tip or START)
    return len(shown)


def mendable(book: Ledger) -> list[Mending]:
    """Return the learnings whose row is not what their newest signed revision says, or that nobody decided."""
    with book.database.read() as connection:
        return [mending for mending, _ in _mendings(connection, book)]


def mend(book: Ledger, shown: Iterable[Mending]) -> int:
    """Put back what was shown, from signed revisions only; remove what nobody decided. Return how many."""
    wanted = {one.learning_id for one in shown}
    number = 0
    with book.database.write() as connection:
        for mending, version in _mendings(connection, book):
            if mending.learning_id not in wanted:
                continue
            if version is None:
                gate.remove(connection, mending.learning_id)
            else:
                first = _versions(mending.learning_id).order_by(revisions.c.revision).limit(1)
                created = connection.execute(first).one().at
                gate.put_back(connection, version, created_at=created)
            number += 1
    return number


def _candidates(book: Ledger, *, all_of_them: bool) -> list[Candidate]:
    if book.key is None:
        raise ConfigurationError("there is no audit key to sign with: make one with `learngate audit init`")
    found: list[Candidate] = []
    with book.database.read() as connection:
        for kind in ("decision", "revision"):
            query = rows_of(kind) if all_of_them else rows_of(kind).where(ledger.c.seq.is_(None))
            rows = connection.execute(query)
            found += [_candidate(kind, row, book.key.commitment(kind, row._asdict())) for row in rows]
    return sorted(found, key=lambda one: (one.decision_id, one.link.kind, one.link.row_id, one.link.revision))


def _candidate(kind: Kind, row: Row[Any], commitment: str) -> Candidate:
    if kind == "decision":
        says = f"decision {row.id}: {row.type} by {row.reviewer}"
        return Candidate(Link(kind, row.id, 0, commitment), row.id, says)
    which = f"learning {row.learning_id}, revision {row.revision} ({row.status}, {row.namespace})"
    says = f"{which}: {row.title}: {row.insight}"
    return Candidate(Link(kind, row.learning_id, row.revision, commitment), row.decision_id, says)


def _mendings(connection: Connection, book: Ledger) -> list[tuple[Mending, Row[Any] | None]]:
    """Return what is to be mended, with the revision it is mended from."""
    assert book.key is not None
    found: list[tuple[Mending, Row[Any] | None]] = []
    rows = {row.id: row for row in connection.execute(signed(select(learnings)))}
    gone = set(connection.scalars(select(revisions.c.learning_id).distinct())) - rows.keys()
    for learning_id in sorted(rows.keys() | gone):
        row = rows.get(learning_id)
        if row is not None and book.fault(row) is None:
            continue
        says = "the row is gone" if row is None else f"{row.title}: {row.insight}"
        version = _newest(connection, book, learning_id)
        if version is not None:
            found.append((Mending(learning_id, says, "put back", version.revision), version))
        elif row is not None and row.newest is None and row.decision_id is None:
            found.append((Mending(learning_id, says, "removed", None), None))
    return found


def _newest(connection: Connection, book: Ledger, learning_id: int) -> Row[Any] | None:
    """Return a learning's newest signed revision; `None` where that is gone or was changed, too."""
    assert book.key is not None
    query = rows_of("revision").where(ledger.c.row_id == learning_id).order_by(ledger.c.revision.desc())
    raw = connection.execute(query.limit(1)).first()
    if raw is None or not book.key.fits("revision", raw._asdict(), raw.commitment):
        return None
    return connection.execute(_versions(learning_id).where(revisions.c.revision == raw.revision)).one()


def _versions(learning_id: int) -> Select[Any]:
    return select(revisions).where(revisions.c.learning_id == learning_id)
