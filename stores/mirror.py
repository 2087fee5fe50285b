"""What of the database a vector store outside holds: a row for each document, from before it goes there on.

A document is known by a random id, and never comes back once it was to go. So two processes that do the same, or
one that is killed anywhere, leave nothing behind that is not written down, and lose nothing that is needed:

- ``putting``: it may be there. Whoever finds it puts it again, which changes nothing.
- ``there``: the store has said so, and nobody has asked it to drop it.
- ``dropping``: its row has changed or gone, and it is being dropped; it is forgotten when the store has said so.
- ``unsure``: the same of one that was ``putting``: somebody may still be at it, so it is dropped more than once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import uuid4

from sqlalchemy import ColumnElement, Connection, case, delete, exists, func, insert, select, update

from learngate.stores.database import Database
from learngate.stores.embeddings import SOURCES, Vector
from learngate.stores.records import now
from learngate.stores.tables import embeddings, mirrored, sealed

UNSURE_FOR = timedelta(minutes=10)
"""Longer than any attempt to put a document goes on."""
MARKER = "marker"
"""The kind of the one document by which a store shows that it is the one that is written down here."""

_its = mirrored.c
_current = exists().where(
    embeddings.c.kind == _its.kind,
    embeddings.c.row_id == _its.row_id,
    embeddings.c.embedder == _its.embedder,
    embeddings.c.digest == _its.digest,
)


@dataclass(frozen=True, slots=True)
class Document:
    """A vector on its way out."""

    id: str
    scope: str
    vector: Vector


class Mirror:
    """What one collection of a vector store holds of the rows, by the vectors of one embedder."""

    def __init__(self, database: Database, *, store: str, embedder: str, dimensions: int) -> None:
        self._db = database
        self._store = store
        self._embedder = embedder
        self._dimensions = dimensions
        self._mine = _its.store == store
        # A process with another embedder of this name may have put in vectors of another length.
        if database.dialect == "postgresql":
            self._as_long = func.vector_dims(embeddings.c.vector) == dimensions
        else:
            import numpy as np

            self._as_long = func.length(embeddings.c.vector) == len(sealed(np.zeros(dimensions, np.float32)))
        # A row's vectors go in the transaction that changes it, so that one with a vector is as it was.
        self._stale = ~_current & (_its.kind != MARKER) & self._mine

    def marker(self, connection: Connection) -> tuple[str, bool] | None:
        """Return the id of the marker, and whether it is known to be there."""
        row = connection.execute(select(_its.id, _its.state).where(self._mine, _its.kind == MARKER)).first()
        return None if row is None else (row.id, row.state == "there")

    def begin(self, lost: str | None) -> str:
        """Return the id of the marker to put; where the one there was is lost, all that was there is."""
        with self._db.write() as connection:
            known = self.marker(connection)
            if known is not None and known[0] != lost:
                return known[0]
            connection.execute(delete(mirrored).where(self._mine))
            made = self._new(MARKER, 0, scope="", digest="")
            connection.execute(insert(mirrored).values(made))
        return str(made["id"])

    def lacking(
        self, connection: Connection, kind: str, *, scope: str | None = None, rows: Collection[int] | None = None
    ) -> list[int]:
        """Return the active rows that have no document there: of a scope, or of these rows, or all."""
        source = SOURCES[kind]
        held = (
            exists()
            .select_from(mirrored)
            .where(
                self._mine,
                _its.kind == kind,
                _its.row_id == source.key,
                _its.state == "there",
                embeddings.c.kind == kind,
                embeddings.c.row_id == source.key,
                embeddings.c.embedder == self._embedder,
                embeddings.c.digest == _its.digest,
                self._as_long,
            )
        )
        query = select(source.key).where(source.active, ~held).order_by(source.key)
        if scope is not None:
            query = query.where(source.table.c.scope == scope)
        if rows is not None:
            query = query.where(source.key.in_(rows))
        return list(connection.scalars(query))

    def claim(self, kind: str, rows: Sequence[int]) -> list[Document]:
        """Write down what is about to be put of rows that have a vector, and return it.

        What somebody else is putting is put again under the same id.
        """
        source = SOURCES[kind]
        with self._db.write() as connection:
            held = connection.execute(
                select(embeddings.c.row_id, embeddings.c.scope, embeddings.c.digest, embeddings.c.vector)
                .join(source.table, source.key == embeddings.c.row_id)
                .where(
                    embeddings.c.kind == kind,
                    embeddings.c.row_id.in_(rows),
                    embeddings.c.embedder == self._embedder,
                    source.active,
                )
            ).all()
            living = _its.state.in_(["putting", "there"])
            known = {
                (row.row_id, row.digest): row
                for row in connection.execute(
                    select(mirrored).where(self._mine, _its.kind == kind, _its.row_id.in_(rows), living)
                )
            }
            made, again, documents = [], [], []
            for row in held:
                if row.vector is None or len(row.vector) != self._dimensions:
                    continue
                one = known.get((row.row_id, row.digest))
                if one is None:
                    new = self._new(kind, row.row_id, scope=row.scope, digest=row.digest)
                    made.append(new)
                elif one.state == "there":
                    continue
                else:
                    again.append(one.id)
                key = new["id"] if one is None else one.id
                documents.append(Document(key, row.scope, row.vector))
            if made:
                connection.execute(insert(mirrored), made)
            if again:
                connection.execute(update(mirrored).where(_its.id.in_(again)).values(since=now()))
        return documents

    def settle(self, documents: Iterable[Document]) -> list[str]:
        """Note that documents are there; return those that must go again: they were dropped meanwhile."""
        scopes = {document.id: document.scope for document in documents}
        with self._db.write() as connection:
            connection.execute(
                update(mirrored).where(_its.id.in_(scopes), _its.state == "putting").values(state="there")
            )
            states: dict[str, str] = {
                row.id: row.state
                for row in connection.execute(select(_its.id, _its.state).where(_its.id.in_(scopes)))
            }
            forgotten = [one for one in scopes if one not in states]
            if forgotten:
                back = [
                    self._new("", 0, scope=scopes[one], digest="") | {"id": one, "state": "dropping"}
                    for one in forgotten
                ]
                connection.execute(insert(mirrored), back)
        return [one for one in scopes if states.get(one) != "there"]

    def outdated(self, *, changed: Collection[tuple[str, int]] | None = None) -> list[str]:
        """Note that the documents of rows that changed or went are to go, and return them all.

        `changed` are the (kind, row) that may have; else every document is looked at.
        """
        of = self._stale if changed is None else self._stale & _among(changed)
        going = self._mine & _its.state.in_(["dropping", "unsure"])
        with self._db.read() as connection:
            found = connection.scalars(select(_its.id).where(of | going)).all()
        if not found:
            return []
        with self._db.write() as connection:
            to = case((_its.state == "there", "dropping"), else_="unsure")
            connection.execute(update(mirrored).where(of, _its.state.in_(["there", "putting"])).values(state=to))
            return list(connection.scalars(select(_its.id).where(going)))

    def dropped(self, ids: Collection[str]) -> None:
        """Forget documents that the store has dropped, but for those that may still be on their way to it."""
        sure = (_its.state == "dropping") | (_its.since < now() - UNSURE_FOR)
        with self._db.write() as connection:
            connection.execute(delete(mirrored).where(_its.id.in_(ids), sure))

    def lost(self, ids: Collection[str]) -> None:
        """Forget documents that the store does not have."""
        with self._db.write() as connection:
            connection.execute(delete(mirrored).where(_its.id.in_(ids)))

    def there(self) -> list[str]:
        """Return every document that is said to be there."""
        with self._db.read() as connection:
            query = select(_its.id).where(self._mine, _its.state == "there", _its.kind != MARKER)
            return list(connection.scalars(query))

    def cosines(
        self,
        connection: Connection,
        kind: str,
        scopes: Sequence[str],
        query: Vector,
        *,
        proposed: Collection[str] = (),
        rows: Collection[int] = (),
    ) -> dict[int, float]:
        """Return {row: cosine} of active rows of these scopes: those of proposed documents, and those of `rows`."""
        source = SOURCES[kind]
        named = select(_its.row_id).where(
            _its.id.in_(proposed), self._mine, _its.kind == kind, _its.state == "there"
        )
        held = connection.execute(
            select(embeddings.c.row_id, embeddings.c.vector)
            .join(source.table, source.key == embeddings.c.row_id)
            .where(
                embeddings.c.kind == kind,
                embeddings.c.embedder == self._embedder,
                embeddings.c.row_id.in_([*connection.scalars(named), *rows]),
                source.active,
                source.table.c.scope.in_(scopes),
            )
        )
        return {
            row.row_id: float(row.vector @ query)
            for row in held
            if row.vector is not None and len(row.vector) == len(query)
        }

    def _new(self, kind: str, row_id: int, *, scope: str, digest: str) -> dict[str, Any]:
        return {
            "id": str(uuid4()),
            "store": self._store,
            "kind": kind,
            "row_id": row_id,
            "scope": scope,
            "embedder": self._embedder,
            "digest": digest,
            "state": "putting",
            "since": now(),
        }


def held_outside(connection: Connection, scopes: Collection[str]) -> tuple[int, int]:
    """Return how many documents of these scopes are in vector stores, and how many may yet come there."""
    coming = (_its.state == "unsure") & (_its.since >= now() - UNSURE_FOR)
    held = select(coming.label("coming"), func.count().label("number")).where(_its.scope.in_(scopes))
    counted = {bool(row.coming): row.number for row in connection.execute(held.group_by(coming.label("coming")))}
    return counted.get(False, 0), counted.get(True, 0)


def any_outdated(connection: Connection) -> bool:
    """Whether any vector store has, or may have, a document of a row that changed or went."""
    going = _its.state.in_(["dropping", "unsure"])
    return (
        connection.execute(select(_its.id).where((~_current & (_its.kind != MARKER)) | going).limit(1)).first()
        is not None
    )


def _among(changed: Iterable[tuple[str, int]]) -> ColumnElement[bool]:
    by_kind: dict[str, set[int]] = {}
    for kind, row in changed:
        by_kind.setdefault(kind, set()).add(row)
    found: ColumnElement[bool] = _its.id.in_([])
    for kind, rows in by_kind.items():
        found |= (_its.kind == kind) & _its.row_id.in_(rows)
    return found
