"""Tamper evidence for what was learned: MACs and a chain, under a key that is kept outside the database.

Each decision and each revision of a learning has a link in the `ledger`, written by the gate in the same
transaction. A link holds a commitment, which is a MAC over the row, and a MAC over that and the link before.
So a changed row does not fit its commitment, and a link that was deleted or moved breaks the chain. The chain's
newest link is also written to a head file, which shows when the whole database is an older copy.

What may be erased (a decision's reviewer and note) has a commitment of its own; excerpts, rationales and links to
users are not covered at all: erasing them is no alarm.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import (
    Connection,
    Row,
    Select,
    String,
    and_,
    func,
    insert,
    literal,
    select,
    type_coerce,
)
from sqlalchemy.exc import DBAPIError

from learngate.stores.database import Database
from learngate.stores.errors import ConfigurationError, Conflict, StoreUnusable
from learngate.stores.head import START, FileId, Head, Tip
from learngate.stores.lexical import search_body
from learngate.stores.lists import among, parts
from learngate.stores.prepared import Prepared
from learngate.stores.tables import decisions, learnings, ledger, revisions
from learngate.stores.text import is_alias

Kind = Literal["decision", "revision"]
"""What is signed; a link of the kind `head` says whether the ledger has a head file."""

_log = logging.getLogger(__name__)

_COVERED: dict[Kind, tuple[str, ...]] = {
    "decision": ("id", "proposal_id", "type", "decided_at", "learning_id"),
    "revision": (
        "learning_id",
        "revision",
        "uid",
        "namespace",
        "status",
        "title",
        "insight",
        "applies_when",
        "proposal_id",
        "decision_id",
        "change",
        "at",
    ),
}
_ERASABLE: dict[Kind, tuple[str, ...]] = {"decision": ("reviewer", "note"), "revision": ()}


@dataclass(frozen=True, slots=True)
class Key:
    """The secret that signs; `source` says where it is kept."""

    secret: bytes = field(repr=False)
    source: str

    def mac(self, *parts: object) -> str:
        """Return the HMAC-SHA256 of some values, as hexadecimal digits."""
        text = json.dumps(parts, default=_plain, separators=(",", ":"))
        return hmac.new(self.secret, text.encode(), hashlib.sha256).hexdigest()

    def commitment(self, kind: Kind, row: Mapping[str, Any]) -> str:
        """Return what is signed of a row: a MAC over what is covered, and one for each value that may be erased."""
        fixed = self.mac(kind, *(row[name] for name in _COVERED[kind]))
        return ".".join([fixed, *(self.mac(kind, name, row["id"], row[name]) for name in _ERASABLE[kind])])

    def fits(self, kind: Kind, row: Mapping[str, Any], commitment: object) -> bool:
        """Whether a row is what was committed to, but for what was erased from it."""
        signed, found = str(commitment).split("."), self.commitment(kind, row).split(".")
        erased = [False, *(_is_erased(name, row[name]) for name in _ERASABLE[kind])]
        return len(signed) == len(found) and all(
            gone or hmac.compare_digest(one.encode(), other.encode())
            for gone, one, other in zip(erased, signed, found, strict=True)
        )

    def link(self, before: Tip, link: Mapping[str, Any]) -> str:
        """Return the MAC of a link that follows `before`."""
        names = ("seq", "kind", "row_id", "revision", "commitment")
        return self.mac("link", before.mac, *(link[name] for name in names))

    def follows(self, before: Tip, link: Mapping[str, Any]) -> bool:
        """Whether a link was signed as the one after `before`."""
        return hmac.compare_digest(self.link(before, link).encode(), str(link["mac"]).encode())


class Page:
    """One transaction that may learn, and what it adds to the ledger."""

    def __init__(self, connection: Connection, book: Ledger, tip: Tip | None = None) -> None:
        self.connection = connection
        self._key = book.key
        self.head = book.head
        self._headless = book.head is None and not book.database.in_memory
        self._file: FileId | None = None
        self.tip = tip

    def sign(self, kind: Kind, row: Mapping[str, Any]) -> None:
        """Add a link for a row that this transaction has written; with no key and no ledger, do nothing.

        Raises:
            ConfigurationError: the database is signed, and its key is not here.
            StoreUnusable: the ledger's end does not fit the key or the head file.
        """
        if self._key is None:
            if self.connection.scalar(select(func.max(ledger.c.seq))) is not None:
                raise ConfigurationError(f"what is learned here is signed, and {NO_KEY}; nothing was stored")
            return
        revision = 0 if kind == "decision" else row["revision"]
        row_id = row["id"] if kind == "decision" else row["learning_id"]
        self.add(Link(kind, row_id, revision, self._key.commitment(kind, row)))

    def check(self, learning_id: int) -> None:
        """Refuse to build on a learning that is not what was signed: what stays of it would be signed anew.

        Raises:
            Conflict: it is not.
        """
        if self._key is None:
            return
        query = signed(select(learnings)).where(learnings.c.id == learning_id)
        row = self.connection.execute(query).first()
        fault = None if row is None else _fault(self._key, row)
        if fault is not None:
            raise Conflict(f"learning {learning_id} cannot be changed: {fault}; {LOOK}")

    def add(self, link: Link) -> None:
        """Add a link with a commitment that was made before, as `sign` does."""
        assert self._key is not None
        before = self.tip or self.end()
        if before == START and self._headless:
            self._append(before, HEADLESS)
            before = self.tip or before
        self._append(before, link)

    def _append(self, before: Tip, link: Link) -> None:
        assert self._key is not None
        seq = before.seq + 1
        values = {
            "seq": seq,
            "kind": link.kind,
            "row_id": link.row_id,
            "revision": link.revision,
            "commitment": link.commitment,
        }
        self.tip = Tip(seq, self._key.link(before, values))
        self.connection.execute(insert(ledger).values(**values, mac=self.tip.mac))

    def end(self) -> Tip:
        """Return the ledger's end, once it fits the key and the head file: nobody builds on a forged one.

        Raises:
            ConfigurationError: the head file of a ledger without a link cannot be made.
            StoreUnusable: it does not fit.
        """
        assert self._key is not None
        last = self.connection.execute(select(ledger).order_by(ledger.c.seq.desc()).limit(2)).all()
        if not last:
            end = START
        else:
            before = Tip(last[1].seq, last[1].mac) if len(last) > 1 else START
            end = Tip(last[0].seq, last[0].mac)
            if end.seq != before.seq + 1 or not self._key.follows(before, last[0]._asdict()):
                raise StoreUnusable(
                    f"the ledger's end was not signed with the key from {self._key.source}, and nothing was stored:"
                    " it is another key, or the database was changed: see `learngate doctor --verify`"
                )
        if self.head is not None:
            self._compare(self.head, end)
        return end

    def begin_head(self) -> None:
        """Begin the head file of a ledger that never had one, and let the ledger say so from now on.

        Raises:
            ConfigurationError: the file cannot be made, or is there and holds no head.
            StoreUnusable: the ledger's end does not fit the key or what the file knows.
        """
        assert self._key is not None
        if self.head is None or has_head(self.connection, self._key):
            return
        path = self.head.path
        self.head.begin()
        self.tip = self.end()
        if self.head is None:
            raise ConfigurationError(
                f"{path} is there and holds no head; nothing was stored: move it away, or name another place in"
                " LEARNGATE_AUDIT_HEAD"
            )
        self.add(BEGUN)

    def publish(self) -> None:
        """Write the ledger's new end, which is committed by now, to the head file.

        Raises:
            OSError: it cannot be written.
        """
        if self.tip is not None and self.head is not None:
            self.head.advance(self.tip, self._file)

    def _compare(self, head: Head, end: Tip) -> None:
        assert self._key is not None
        if end == START:
            head.begin()
        self._file = head.file_id()
        known = head.read()
        if known is None:
            if has_head(self.connection, self._key):
                _log.error(head.lost())
            else:
                _log.info(head.unbegun())
            self.head = None
        elif not on_chain(self.connection, known):
            raise StoreUnusable(f"{behind(head, known, end)}; nothing was stored: see `learngate doctor --verify`")


@dataclass(frozen=True, slots=True)
class Link:
    """What is to be signed: a row of a kind, and the commitment to it."""

    kind: Kind | Literal["head"]
    row_id: int
    revision: int
    commitment: str


HEADLESS = Link("head", 0, 0, "none")
"""The first link of a ledger that is begun where no head file is named."""
BEGUN = Link("head", 1, 0, "begun")
"""The link of such a ledger from which on it has one."""


class Ledger:
    """The chain of everything that was decided and learned, and the check of what is recalled."""

    def __init__(self, database: Database, key: Key | None, head: Head | None) -> None:
        self.database = database
        self.key = key
        self.head = head

    @contextmanager
    def write(self) -> Iterator[Page]:
        """Open a write transaction that may learn; once it is committed, the head file follows."""
        with self.database.write() as connection:
            page = Page(connection, self)
            yield page
        try:
            page.publish()
        except OSError as error:
            # What is committed stands: the file lags, and `learngate doctor` says so.
            path = None if page.head is None else page.head.path
            _log.error("the decision is stored, but its head file %s was not written: %s", path, error)

    def links(self) -> int:
        """Return how many links the ledger has."""
        with self.database.read() as connection:
            return connection.scalar(select(func.count()).select_from(ledger)) or 0

    def has_head(self) -> bool:
        """Whether a head file was ever begun for this ledger, so that a missing one is an alarm."""
        if self.key is None:
            return True
        with self.database.read() as connection:
            return has_head(connection, self.key)

    def changed(self, ids: Sequence[int]) -> dict[int, str]:
        """Return which of these learnings are not what was signed, or written, and why."""
        with self.database.read() as connection:
            return {
                one: fault
                for part in parts(ids)
                for one, _, fault in self._looked_at(connection, "any", {"ids": part})
                if fault is not None
            }

    # -- recall ------------------------------------------------------------------------------------------

    def standing(self, connection: Connection, ids: Sequence[int], *, spaces: Sequence[str]) -> list[Row[Any]]:
        """Return those of some learnings that are active in these namespaces, and as they were signed.

        Without a key it is as they were written. A row that is not is left out, and named in the log.
        """
        kept = []
        for one, row, fault in self._looked_at(connection, "active", {"ids": ids, "spaces": spaces}):
            if row is not None and fault is None:
                kept.append(row)
            else:
                _log.error("learning %s is not recalled: %s; %s", one, fault, LOOK)
        return kept

    def _looked_at(
        self, connection: Connection, which: Literal["any", "active"], given: dict[str, Any]
    ) -> Iterator[tuple[int, Row[Any] | None, str | None]]:
        """Yield learnings, as far as they can be read, and what is wrong with each."""
        rows, garbled = readable(connection, _LEARNINGS[which, self.key is not None], **given)
        for one in garbled:
            yield one, None, "it cannot be read"
        for row in rows:
            yield row.id, row, self.fault(row)

    def fault(self, row: Row[Any]) -> str | None:
        """Say why a row is not to be trusted, `None` where it is what was signed; without a key, what was written.

        With a key, the row is one of a `signed` query.
        """
        if self.key is not None:
            return _fault(self.key, row)
        whole = row.body == search_body(row.title, row.insight, row.applies_when)
        return None if whole else "it is not what was written"

    def check_version(self, connection: Connection, learning_id: int, revision: int) -> None:
        """Refuse to bring back a revision that is not what was signed.

        Raises:
            Conflict: it is not.
        """
        if self.key is None:
            return
        query = rows_of("revision").where(revisions.c.learning_id == learning_id, revisions.c.revision == revision)
        row = connection.execute(query).first()
        if row is not None and not (row.commitment and self.key.fits("revision", row._asdict(), row.commitment)):
            raise Conflict(
                f"revision {revision} of learning {learning_id} cannot be brought back:"
                f" it is not what was signed; {LOOK}"
            )


NO_KEY = "its key is not here: set LEARNGATE_AUDIT_KEY, or put the key file back beside the database"
UNSIGNED = "it is from before there was a key, or somebody inserted it"
UNDECIDED = "it has no history: somebody inserted it, or deleted that"
LOOK = "see `learngate doctor`"


def _fault(key: Key, row: Row[Any]) -> str | None:
    if row.newest is None:
        return f"it is not signed: {UNSIGNED if row.decision_id is not None else UNDECIDED}"
    if row.revision != row.newest:
        return f"it is at revision {row.revision}, and the newest that was signed is {row.newest}"
    if row.commitment is None or row.decision_id is None:
        return "the revision that it stands for is gone"
    values = {**row._asdict(), "learning_id": row.id, "at": row.stamp}
    if not key.fits("revision", values, row.commitment):
        return "it, or its revision, is not what was signed: somebody changed it past the gate"
    return None


def signed(query: Select[Any]) -> Select[Any]:
    """Add to a query over `learnings` what `Ledger.fault` needs to see."""
    return query.add_columns(*_SIGNATURE).outerjoin_from(learnings, revisions, _CURRENT).outerjoin(ledger, _LINK)


# Every recall needs them: they are made once.
_CURRENT = and_(revisions.c.learning_id == learnings.c.id, revisions.c.revision == learnings.c.revision)
_LINK = and_(
    ledger.c.kind == "revision", ledger.c.row_id == learnings.c.id, ledger.c.revision == learnings.c.revision
)
_links = ledger.alias()
_NEWEST = select(func.max(_links.c.revision)).where(_links.c.kind == "revision", _links.c.row_id == learnings.c.id)
_SIGNATURE = (
    type_coerce(learnings.c.updated_at, String).label("stamp"),
    revisions.c.decision_id,
    revisions.c.change,
    ledger.c.commitment,
    _NEWEST.scalar_subquery().label("newest"),
)


_ANY = select(learnings).where(among(learnings.c.id))
_ACTIVE = _ANY.where(among(learnings.c.namespace, "spaces"), learnings.c.status == "active")
_LEARNINGS = {
    (which, has_key): Prepared(signed(query) if has_key else query)
    for which, query in (("any", _ANY), ("active", _ACTIVE))
    for has_key in (False, True)
}


def rows_of(kind: Kind) -> Select[Any]:
    """Return every row of a kind as it is signed, with the commitment to it: null where there is none."""
    table = decisions if kind == "decision" else revisions
    time = table.c.decided_at if kind == "decision" else table.c.at
    key = table.c.id if kind == "decision" else table.c.learning_id
    revision = literal(0) if kind == "decision" else table.c.revision
    link = and_(ledger.c.kind == kind, ledger.c.row_id == key, ledger.c.revision == revision)
    covered = [table.c[name] for name in (*_COVERED[kind], *_ERASABLE[kind]) if name != time.name]
    return select(*covered, type_coerce(time, String).label(time.name), ledger.c.commitment).outerjoin(ledger, link)


def on_chain(connection: Connection, known: Tip) -> bool:
    """Whether the ledger holds the link that a head file knows."""
    rows, _ = readable(connection, select(ledger.c.mac).where(among(ledger.c.seq)), [known.seq])
    return known == START or [row.mac for row in rows] == [known.mac]


def has_head(connection: Connection, key: Key) -> bool:
    """Whether a head file was ever begun for a ledger: only one that began without says no, under its key."""
    rows, _ = readable(connection, select(ledger).where(among(ledger.c.seq)), [1])
    names = ("kind", "row_id", "revision", "commitment")
    if not any(Link(*(getattr(row, name) for name in names)) == HEADLESS for row in rows):
        return True
    later = select(func.count()).select_from(ledger).where(ledger.c.kind == "head", ledger.c.seq > 1)
    return not key.follows(START, rows[0]._asdict()) or bool(connection.scalar(later))


def behind(head: Head, known: Tip, end: Tip) -> str:
    """Say what it means that a head file's link is not in the ledger."""
    if known.seq > end.seq:
        known_to = f"the ledger ends at link {end.seq}, but {head.path} knows link {known.seq}"
        return f"{known_to}: the database is an older copy, or its newest rows were deleted"
    return f"link {known.seq} is not the one that {head.path} knows: the database is another copy"


def readable(
    connection: Connection, query: Select[Any] | Prepared, ids: Sequence[int], **given: Any
) -> tuple[list[Any], list[int]]:
    """Return the rows of a query `among` these keys, and the keys of those that hold what cannot be read."""
    try:
        if isinstance(query, Prepared):
            return list(query.all(connection, {"ids": [*ids], **given})), []
        return list(connection.execute(query, {"ids": [*ids], **given}).all()), []
    except (DBAPIError, StoreUnusable, ValueError) as error:
        # Bytes that are no UTF-8, or a time that is none: one row must not hide the others.
        if isinstance(error, DBAPIError) and "decode to UTF-8" not in str(error):
            raise
        if len(ids) == 1:
            return [], list(ids)
    halves = (ids[: len(ids) // 2], ids[len(ids) // 2 :])
    (first, lost), (second, more) = (readable(connection, query, half, **given) for half in halves)
    return first + second, lost + more


def _is_erased(name: str, value: object) -> bool:
    """Whether a value is what erasing leaves: an alias for a reviewer, nothing for a note."""
    return is_alias(value) if name == "reviewer" else value is None


def _plain(value: object) -> object:
    # In SQLite any column may hold any type: none of these may be taken for a text.
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds")
    return {type(value).__name__: repr(value)}
