"""What a person does about signatures: sign what is not signed, sign all anew, put back what was changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, Row, Select, delete, func, select

from learngate.stores import gate
from learngate.stores.audit import NO_KEY, Kind, Ledger, Link, Page, readable, rows_of, signed
from learngate.stores.errors import ConfigurationError, Conflict
from learngate.stores.head import START, Head, Tip
from learngate.stores.lists import among
from learngate.stores.tables import decisions, learnings, ledger, proposals, revisions

BATCH = 500
KEY_LOST = (
    f"what is learned here is signed, and {NO_KEY}; lost: sign everything anew with `learngate audit restart`"
)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A row that may be signed: what it says, and the commitment to just that."""

    link: Link
    decision_id: int
    says: str


@dataclass(frozen=True, slots=True)
class Everything:
    """All there is to sign at one moment, and where the ledger ended then."""

    rows: tuple[Candidate, ...]
    end: Tip


@dataclass(frozen=True, slots=True)
class Mending:
    """A learning whose row is not its newest signed revision: what the row says, and what becomes of it."""

    learning_id: int
    says: str
    fate: Literal["put back", "removed"]
    version: int | None


@dataclass(frozen=True, slots=True)
class SignedVersion:
    """What was signed of a learning, wherever its row stands now."""

    revision: int
    status: str
    namespace: str
    title: str
    insight: str
    applies_when: str


def unsigned(book: Ledger) -> list[Candidate]:
    """Return the decisions and revisions that are not signed, in the order in which they were made."""
    with book.database.read() as connection:
        return _candidates(connection, book, all_of_them=False)


def everything(book: Ledger) -> Everything:
    """Return every decision and revision, in the order in which they were made."""
    with book.database.read() as connection:
        end = _tip(connection, connection.scalar(select(func.max(ledger.c.seq))) or 0)
        return Everything(tuple(_candidates(connection, book, all_of_them=True)), end)


def sign(book: Ledger, shown: Sequence[Candidate]) -> int:
    """Sign rows as they were shown, and return how many; one that was changed since will not fit.

    What somebody else has signed meanwhile is left as it is. A head file that lags is brought up.

    Raises:
        ConfigurationError: the head file cannot be written; unless it says otherwise, nothing was stored.
        StoreUnusable: the ledger's end does not fit the key or the head file.
    """
    with _signing(book) as page:
        links = page.connection.execute(select(ledger.c.kind, ledger.c.row_id, ledger.c.revision))
        known = {_row(link) for link in links}
        fresh = [one.link for one in shown if _row(one.link) not in known]
        for link in fresh:
            page.add(link)
        page.tip = page.tip or page.end()
    return len(fresh)


def begin_head(book: Ledger) -> None:
    """Begin the head file of a ledger that never had one; whoever does has verified the whole chain.

    A ledger that has had one is left alone: that its file is missing is an alarm.

    Raises:
        ConfigurationError: the head file cannot be written; unless it says otherwise, nothing was stored.
        StoreUnusable: the ledger's end does not fit the key or the head file.
    """
    with _signing(book) as page:
        page.begin_head()


@contextmanager
def _signing(book: Ledger) -> Iterator[Page]:
    """Open a transaction that signs; once it is committed, the head file follows."""
    if book.head is not None:
        book.head.check()
    with book.database.write() as connection:
        page = Page(connection, book)
        yield page
    if page.head is not None:
        with _at_last(page.head, "sign"):
            page.publish()


def restart(book: Ledger, shown: Everything) -> int:
    """Begin the ledger and its head file anew with rows as they were shown, and return how many.

    What was signed with the same key since they were shown stays signed, behind them; what was signed with
    another one is not, because nobody has seen it. What the old ledger proved is gone with it.

    Raises:
        ConfigurationError: the head file cannot be replaced; unless it says otherwise, nothing was stored.
        Conflict: the ledger was begun anew or changed since.
    """
    if book.head is not None:
        book.head.check_replace()
    with book.database.write() as connection:
        later = _signed_since(connection, book, shown)
        connection.execute(delete(ledger))
        page = Page(connection, book, START)
        for link in (*(one.link for one in shown.rows), *later):
            page.add(link)
        if book.head is not None:
            book.head.stage(page.tip or START)
    if book.head is not None:
        with _at_last(book.head, "restart"):
            book.head.install()
    return len(shown.rows)


def _signed_since(connection: Connection, book: Ledger, shown: Everything) -> list[Link]:
    """Return the links that were added since, in their order, as far as they are this key's."""
    assert book.key is not None
    if _tip(connection, shown.end.seq) != shown.end:
        raise Conflict(
            "the ledger is not what it was when this was shown, and nothing was changed: look at it again"
        )
    before, kept = shown.end, []
    seen = {_row(one.link) for one in shown.rows}
    for row in connection.execute(select(ledger).where(ledger.c.seq > shown.end.seq).order_by(ledger.c.seq)):
        if row.seq != before.seq + 1 or not book.key.follows(before, row._asdict()):
            break
        before = Tip(row.seq, row.mac)
        if row.kind != "head" and _row(row) not in seen:
            kept.append(Link(row.kind, row.row_id, row.revision, row.commitment))
    return kept


def _tip(connection: Connection, seq: int) -> Tip:
    """Return a link of the ledger, which may be damaged: then nothing follows it."""
    rows, _ = readable(connection, select(ledger.c.mac).where(among(ledger.c.seq)), [seq])
    return Tip(seq, rows[0].mac if rows else START.mac)


def _row(link: Any) -> tuple[str, int, int]:
    return link.kind, link.row_id, link.revision


@contextmanager
def _at_last(head: Head, command: str) -> Iterator[None]:
    """Say what to do where the head file, which was checked before, fails after the commit."""
    try:
        yield
    except OSError as error:
        raise ConfigurationError(
            head.unwritten(error, f"what was shown is signed: then run `learngate audit {command}` again")
        ) from error


def signed_version(book: Ledger, learning_id: int) -> SignedVersion | None:
    """Return what was signed of a learning the last; `None` where that is gone or was changed, too."""
    if book.key is None:
        return None
    with book.database.read() as connection:
        row = newest_signed(connection, book, learning_id)
    if row is None:
        return None
    return SignedVersion(row.revision, row.status, row.namespace, row.title, row.insight, row.applies_when)


def mendable(book: Ledger) -> list[Mending]:
    """Return the learnings whose row is not what their newest signed revision says, or that nobody decided."""
    with book.database.read() as connection:
        return [mending for mending, _ in _mendings(connection, book)]


def mend(book: Ledger, shown: Iterable[Mending]) -> int:
    """Put back what was shown, from signed revisions only; remove what nobody decided. Return how many.

    A row that is no more what was shown stays as it is.
    """
    wanted = set(shown)
    with book.database.write() as connection:
        found = [one for one in _mendings(connection, book) if one[0] in wanted]
        for mending, version in found:
            if version is None:
                gate.remove(connection, mending.learning_id)
            else:
                gate.let_go(connection, mending.learning_id)
        for mending, version in found:
            if version is not None:
                first = _versions(mending.learning_id).order_by(revisions.c.revision).limit(1)
                created = connection.execute(first).one().at
                gate.put_back(connection, version, created_at=created)
    return len(found)


def _candidates(connection: Connection, book: Ledger, *, all_of_them: bool) -> list[Candidate]:
    if book.key is None and connection.scalar(select(func.max(ledger.c.seq))) is not None:
        raise ConfigurationError(KEY_LOST)
    if book.key is None:
        raise ConfigurationError("there is no audit key to sign with: make one with `learngate audit init`")
    found: list[Candidate] = []
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
    rows: dict[int, Row[Any]] = {}
    ids, garbled = list(connection.scalars(select(learnings.c.id))), set()
    for start in range(0, len(ids), BATCH):
        each = signed(select(learnings)).where(among(learnings.c.id))
        read, bad = readable(connection, each, ids[start : start + BATCH])
        rows |= {row.id: row for row in read}
        garbled |= set(bad)
    with_history = set(connection.scalars(select(revisions.c.learning_id).distinct()))
    for learning_id in sorted(rows.keys() | garbled | with_history):
        row = rows.get(learning_id)
        if row is not None and book.fault(row) is None:
            continue
        missing = "the row cannot be read" if learning_id in garbled else "the row is gone"
        says = missing if row is None else f"{row.title}: {row.insight}"
        version = newest_signed(connection, book, learning_id)
        if version is not None:
            found.append((Mending(learning_id, says, "put back", version.revision), version))
        elif row is not None and row.newest is None and removable(connection, learning_id):
            found.append((Mending(learning_id, says, "removed", None), None))
    return found


def removable(connection: Connection, learning_id: int) -> bool:
    """Whether nothing led to a learning and nothing came of it: no revision, no decision, no proposal."""
    return not any(
        connection.scalar(select(func.count()).where(column == learning_id))
        for column in (revisions.c.learning_id, decisions.c.learning_id, proposals.c.target_id)
    )


def newest_signed(connection: Connection, book: Ledger, learning_id: int) -> Row[Any] | None:
    """Return a learning's newest signed revision; `None` where that is gone or was changed, too."""
    assert book.key is not None
    newest = select(func.max(ledger.c.revision)).where(ledger.c.kind == "revision", ledger.c.row_id == learning_id)
    query = rows_of("revision").where(revisions.c.revision == newest.scalar_subquery())
    rows, _ = readable(connection, query.where(among(revisions.c.learning_id)), [learning_id])
    raw = rows[0] if rows else None
    if raw is None or not book.key.fits("revision", raw._asdict(), raw.commitment):
        return None
    return connection.execute(_versions(learning_id).where(revisions.c.revision == raw.revision)).one()


def _versions(learning_id: int) -> Select[Any]:
    return select(revisions).where(revisions.c.learning_id == learning_id)
