"""Dense search on PostgreSQL: pgvector, exact in small scopes and by an HNSW index in large ones."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

from pgvector.sqlalchemy import HALFVEC, VECTOR
from sqlalchemy import (
    BindParameter,
    ColumnElement,
    CompoundSelect,
    Connection,
    Float,
    Integer,
    Select,
    and_,
    bindparam,
    cast,
    func,
    literal,
    select,
)

from learngate.stores.changes import MANY, Seen, to_look_at
from learngate.stores.database import Database
from learngate.stores.embeddings import SOURCES, Vector, Vectors
from learngate.stores.lists import among, parts
from learngate.stores.tables import embeddings

MAX_SCOPES = 100_000
"""How many scopes are remembered as looked at, before all are looked at again."""
EXACT_ROWS = 10_000
"""Up to so many rows in scope every one is compared; beyond, the index finds nearly all of the nearest."""
INDEXED = "learning"
"""The kind whose scopes grow beyond that."""

_rows = embeddings.c


@dataclass(frozen=True, slots=True)
class Held:
    """What is known of a scope: how it was when somebody looked, and how many rows it has, up to a large one's."""

    dimensions: int
    seen: Seen
    rows: int


class PgvectorIndex:
    """Search by inner product in the database itself: nothing to load, one truth for all processes."""

    def __init__(self, database: Database, vectors: Vectors) -> None:
        self._db = database
        self._vectors = vectors
        # Each entry is true whenever it was written: threads may write over each other's.
        self._held: dict[tuple[str, str], Held] = {}

    def search(
        self, kind: str, scopes: Iterable[str], query: Vector, k: int, *, also: Iterable[int] = ()
    ) -> dict[int, float]:
        """Return {row: cosine} of the `k` rows nearest to `query` in the scopes, and of the rows `also`."""
        within, wanted = list(scopes), list(also)
        held = {scope: self._held.get((kind, scope)) for scope in within}
        with self._db.read() as connection:
            current = [self._is_current(connection, *one, kind=kind, length=len(query)) for one in held.items()]
            if all(current):
                return self._near(connection, kind, within, query, k, wanted)
        for scope, is_current in zip(held, current, strict=True):
            if not is_current:
                self._complete(kind, scope, len(query))
        with self._db.read() as connection:
            return self._near(connection, kind, within, query, k, wanted)

    def _near(
        self, connection: Connection, kind: str, scopes: Sequence[str], query: Vector, k: int, also: Sequence[int]
    ) -> dict[int, float]:
        size = _indexable(len(query))
        held = [self._held.get((kind, scope)) for scope in scopes]
        count = sum(one.rows for one in held if one is not None)
        if size is None or count <= EXACT_ROWS:
            return self._exact(connection, kind, scopes, query, k, also)
        return self._approximate(connection, scopes, query, k, size) | (
            self._exact(connection, kind, scopes, query, None, also) if also else {}
        )

    def _scoped(self, kind: str, scopes: Sequence[str]) -> tuple[Any, ...]:
        return (_rows.kind == kind, _rows.embedder == self._vectors.name, _rows.scope.in_(scopes))

    def _exact(
        self,
        connection: Connection,
        kind: str,
        scopes: Sequence[str],
        query: Vector,
        k: int | None,
        also: Sequence[int],
    ) -> dict[int, float]:
        """Compare the query with every row; with none but the rows `also` where `k` is `None`."""
        given = {
            "kind": kind,
            "embedder": self._vectors.name,
            "scopes": [*scopes],
            "query": query,
            "also": [*also],
        }
        found = connection.execute(
            _compared(len(query), nearest=k is not None), given if k is None else given | {"k": k}
        )
        return {row.row_id: -row.distance for row in found.all()}

    def _approximate(
        self, connection: Connection, scopes: Sequence[str], query: Vector, k: int, size: VECTOR | HALFVEC
    ) -> dict[int, float]:
        # The index gives the nearest of all scopes; it goes on until enough of them are in these.
        connection.exec_driver_sql("SET LOCAL hnsw.iterative_scan = strict_order")
        connection.exec_driver_sql(f"SET LOCAL hnsw.ef_search = {min(max(k, 100), 1000)}")
        distance = cast(_rows.vector, size).op("<#>", return_type=Float())(cast(query, size))
        found = connection.execute(
            select(_rows.row_id, distance.label("distance"))
            .where(*self._indexed(len(query)), _rows.scope.in_(scopes))
            .order_by(distance)
            .limit(k)
        )
        return {row.row_id: -row.distance for row in found}

    def _is_current(self, connection: Connection, scope: str, held: Held | None, *, kind: str, length: int) -> bool:
        """Whether a scope has all its vectors still; `held` was read before the transaction's moment."""
        if held is None or held.dimensions != length:
            return False
        cursor, rows = to_look_at(connection, kind, scope, held.seen)
        if rows != set():
            return False
        self._held[kind, scope] = replace(held, seen=Seen(cursor))
        return True

    def _complete(self, kind: str, scope: str, dimensions: int) -> None:
        """Have made what has no vector yet: all of a scope at its first search, then what has changed."""
        look = partial(self._look, kind, scope, dimensions)
        missing = look()
        if kind == INDEXED and missing:
            self._make_index(dimensions)
        self._vectors.complete(kind, scope, look)
        if kind == INDEXED and len(missing) > MANY:
            self._count_rows()

    def _look(self, kind: str, scope: str, dimensions: int) -> dict[int, str]:
        """Note how a scope is now; return the texts of rows that have no vector."""
        held = self._held.get((kind, scope))
        seen = held.seen if held is not None and held.dimensions == dimensions else None
        with self._db.read() as connection:
            cursor, rows = to_look_at(connection, kind, scope, seen)
            missing = {} if rows == set() else self._missing(connection, kind, scope, rows, dimensions)
            count = self._count(connection, scope) if kind == INDEXED else 0
        if len(self._held) > MAX_SCOPES:
            self._held.clear()
        self._held[kind, scope] = Held(dimensions, Seen(cursor, frozenset(missing)), count)
        return missing

    def _count(self, connection: Connection, scope: str) -> int:
        rows = select(_rows.row_id).where(*self._scoped(INDEXED, [scope])).limit(EXACT_ROWS + 1).subquery()
        return connection.scalar(select(func.count()).select_from(rows)) or 0

    def _missing(
        self, connection: Connection, kind: str, scope: str, ids: set[int] | None, dimensions: int
    ) -> dict[int, str]:
        # Not as one statement: before the server has counted its rows, it would compare each with each.
        source = SOURCES[kind]
        held = select(_rows.row_id).where(
            *self._scoped(kind, [scope]),
            func.vector_dims(_rows.vector) == dimensions,
            # One without a direction is near to nothing.
            func.vector_norm(_rows.vector) > 0,
        )
        there = select(source.key).where(source.table.c.scope == scope, source.active)
        if ids is not None:
            held, there = held.where(_rows.row_id.in_(ids)), there.where(source.key.in_(ids))
        missing = set(connection.scalars(there)) - set(connection.scalars(held))
        texts: dict[int, str] = {}
        for part in parts(missing):
            rows = connection.execute(
                select(source.key.label("id"), source.text.label("text")).where(source.key.in_(part))
            )
            texts |= {row.id: row.text for row in rows}
        return texts

    def _count_rows(self) -> None:
        # Until the server comes round to it by itself, it takes a large scope for an empty one and sorts it all.
        with self._db.write() as connection:
            connection.exec_driver_sql("ANALYZE embeddings")

    def _indexed(self, dimensions: int) -> tuple[ColumnElement[bool], ...]:
        # Written out, so that the planner sees that it is what the index holds.
        name = literal(self._vectors.name, literal_execute=True)
        return (
            _rows.kind == literal(INDEXED, literal_execute=True),
            _rows.embedder == name,
            func.vector_dims(_rows.vector) == literal(dimensions, literal_execute=True),
        )

    def fill(self, dimensions: int) -> Iterator[tuple[int, int]]:
        """Make all vectors that are missing; the index first, while it is small, because very many are to come."""
        self._make_index(dimensions)
        yield from self._vectors.embed_missing(dimensions)
        self._count_rows()

    def sweep(self) -> None:
        """Do nothing: all of it is in the database."""

    def _make_index(self, dimensions: int) -> None:
        """Create the index of this embedder's vectors while there are few: each one put in later is quick."""
        size = _indexable(dimensions)
        if size is None:
            return
        told = hashlib.blake2b(f"{self._vectors.name}:{dimensions}".encode(), digest_size=8).hexdigest()
        name = f"embeddings_hnsw_{told}"
        with self._db.read() as connection:
            if connection.scalar(select(func.to_regclass(name))) is not None:
                return
            where = and_(*self._indexed(dimensions)).compile(
                dialect=connection.dialect, compile_kwargs={"literal_binds": True}
            )
        kind = "vector" if isinstance(size, VECTOR) else "halfvec"
        with self._db.write() as connection:
            connection.exec_driver_sql(
                f"CREATE INDEX IF NOT EXISTS {name} ON embeddings USING hnsw"
                f" ((vector::{kind}({dimensions})) {kind}_ip_ops) WHERE {where}".replace("%", "%%")
            )


@cache
def _compared(length: int, *, nearest: bool) -> Select[Any] | CompoundSelect[Any]:
    """Return the query that compares rows: with `nearest` the nearest and the rows `also`, else these alone."""
    distance = _rows.vector.op("<#>", return_type=Float())(
        cast(bindparam("query", type_=VECTOR(length)), VECTOR(length))
    )
    held = select(_rows.row_id, distance.label("distance")).where(
        _rows.kind == bindparam("kind"),
        _rows.embedder == bindparam("embedder"),
        among(_rows.scope, "scopes"),
        # A process with another embedder of this name may have put in vectors of another length.
        func.vector_dims(_rows.vector) == length,
    )
    also: BindParameter[Any] = bindparam("also", expanding=True)
    if not nearest:
        return held.where(_rows.row_id.in_(also))
    # Materialized, or the planner may take the index after all, and give up inside a small scope.
    near = held.cte("held").prefix_with("MATERIALIZED")
    first = select(near).order_by(near.c.distance).limit(bindparam("k", type_=Integer))
    return first.union_all(select(near).where(near.c.row_id.in_(also)))


def _indexable(dimensions: int) -> VECTOR | HALFVEC | None:
    """Return the type that an HNSW index takes of so many dimensions, if any."""
    if dimensions <= 2_000:
        return VECTOR(dimensions)
    return HALFVEC(dimensions) if dimensions <= 4_000 else None
