"""Dense search: one FAISS index per scope, in memory, kept up to date by the changes cursor.

There is no index file to lose, lock or corrupt: SQL holds the vectors, and the index is built from them
when a scope is first searched.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from learngate.stores.changes import MANY, changes_since, newest_change
from learngate.stores.database import Database
from learngate.stores.embeddings import Vector, Vectors

MAX_SCOPES = 1024
"""How many scopes (namespaces, users) stay in memory; the least recently searched leave first."""


class Scope:
    """One scope's vectors, in half precision: a cosine differs in its fourth digit, in half the memory and time."""

    def __init__(self, dimensions: int) -> None:
        import faiss

        half = faiss.IndexScalarQuantizer(dimensions, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
        self._index: Any = faiss.IndexIDMap2(half)
        # FAISS tells who is in an index by reading all of it.
        self._ids: set[int] = set()

    def put(self, vectors: dict[int, Vector]) -> None:
        """Add rows that are not there."""
        if vectors:
            self._index.add_with_ids(np.stack(list(vectors.values())), np.fromiter(vectors, dtype=np.int64))
            self._ids.update(vectors)

    def drop(self, rows: Iterable[int]) -> None:
        """Take rows out; those that are not there cost nothing."""
        there = self._ids.intersection(rows)
        if there:
            self._index.remove_ids(np.fromiter(there, dtype=np.int64))
            self._ids -= there

    def nearest(self, query: Vector, k: int) -> dict[int, float]:
        """Return {row: cosine} of the `k` rows nearest to a query.

        With this thread alone: LangGraph's threads are new ones in each run, and OpenMP would make helpers for
        each of them. Their number is this thread's own, and is set back, because the thread is the host's.
        """
        import faiss

        k = min(k, len(self._ids))
        if not k:
            return {}
        helpers = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(1)
        try:
            scores, rows = self._index.search(query.reshape(1, -1), k)
        finally:
            faiss.omp_set_num_threads(helpers)
        return {int(row): float(score) for row, score in zip(rows[0], scores[0], strict=True) if row >= 0}

    def cosines(self, query: Vector, rows: Iterable[int]) -> dict[int, float]:
        """Return {row: cosine} of those of the rows that are there."""
        return {row: float(self._index.reconstruct(row) @ query) for row in self._ids.intersection(rows)}


class FaissIndex:
    """Search of every unit vector, by inner product. Safe under threads: FAISS itself is not."""

    def __init__(self, database: Database, vectors: Vectors) -> None:
        self._db = database
        self._vectors = vectors
        self._lock = threading.Lock()
        self._scopes: OrderedDict[tuple[str, str], Scope] = OrderedDict()
        self._cursor = 0
        self._dimensions = 0

    def search(
        self, kind: str, scopes: Iterable[str], query: Vector, k: int, *, also: Iterable[int] = ()
    ) -> dict[int, float]:
        """Return {row: cosine} of the `k` rows nearest to `query` in each of the scopes, and of the rows `also`."""
        found: dict[int, float] = {}
        wanted = set(also)
        with self._lock:
            if len(query) != self._dimensions:
                self._scopes.clear()
                self._dimensions = len(query)
            self._catch_up()
            for scope in scopes:
                index = self._scope(kind, scope)
                found |= index.nearest(query, k)
                wanted -= found.keys()
                found |= index.cosines(query, wanted)
        return found

    def fill(self, dimensions: int) -> Iterator[tuple[int, int]]:
        """Make all vectors that are missing; a scope is read when it is first searched."""
        return self._vectors.embed_missing(dimensions)

    def sweep(self) -> None:
        """Do nothing: what is in memory goes with the next search, and with the process."""

    def _scope(self, kind: str, scope: str) -> Scope:
        key = (kind, scope)
        if key not in self._scopes:
            with self._db.read() as connection:
                if not self._scopes:
                    self._cursor = newest_change(connection)
                made = Scope(self._dimensions)
                vectors, missing = self._vectors.load(
                    connection, kind, scope=scope, dimensions=self._dimensions, part=made.put
                )
            made.put(vectors)
            made.put(self._vectors.embed(kind, missing))
            self._scopes[key] = made
            if len(self._scopes) > MAX_SCOPES:
                self._scopes.popitem(last=False)
        self._scopes.move_to_end(key)
        return self._scopes[key]

    def _catch_up(self) -> None:
        if not self._scopes:
            return
        with self._db.read() as connection:
            changed = changes_since(connection, self._cursor)
            dirty: dict[tuple[str, str], set[int]] = {}
            for row in changed:
                if (row.kind, row.scope) in self._scopes:
                    dirty.setdefault((row.kind, row.scope), set()).add(row.row_id)
            for key in [key for key, ids in dirty.items() if len(ids) > MANY]:
                del self._scopes[key], dirty[key]
            current = {
                (kind, scope): self._vectors.load(
                    connection, kind, scope=scope, dimensions=self._dimensions, ids=sorted(ids)
                )
                for (kind, scope), ids in dirty.items()
            }
        for (kind, scope), (vectors, missing) in current.items():
            vectors |= self._vectors.embed(kind, missing)
            self._scopes[kind, scope].drop(dirty[kind, scope])
            self._scopes[kind, scope].put(vectors)
        if changed:
            self._cursor = changed[-1].seq
