"""Dense search: one FAISS index per scope, in memory, kept up to date by the changes cursor.

There is no index file to lose, lock or corrupt: SQL holds the vectors, and the index is built from them
when a scope is first searched.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

from learngate.stores.changes import Seen, to_look_at
from learngate.stores.database import Database
from learngate.stores.embeddings import Vector, Vectors

MAX_SCOPES = 1024
"""How many scopes (namespaces, users) stay in memory; the least recently searched leave first."""


class Scope:
    """One scope's vectors, in half precision: a cosine differs in its fourth digit, in half the memory and time."""

    def __init__(self, dimensions: int) -> None:
        import faiss

        self.lock = threading.Lock()
        self.seen: Seen | None = None
        self.dimensions = dimensions

        half = faiss.IndexScalarQuantizer(dimensions, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
        self._index: Any = faiss.IndexIDMap2(half)
        # FAISS tells who is in an index by reading all of it.
        self._ids: set[int] = set()

    def put(self, vectors: dict[int, Vector]) -> None:
        """Add rows that are not there."""
        import numpy as np

        if vectors:
            self._index.add_with_ids(np.stack(list(vectors.values())), np.fromiter(vectors, dtype=np.int64))
            self._ids.update(vectors)

    def take(self, other: Scope) -> None:
        """Have what another one has."""
        self._index, self._ids = other._index, other._ids

    def drop(self, rows: Iterable[int]) -> None:
        """Take rows out; those that are not there cost nothing."""
        import numpy as np

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

    def search(
        self, kind: str, scopes: Iterable[str], query: Vector, k: int, *, also: Iterable[int] = ()
    ) -> dict[int, float]:
        """Return {row: cosine} of the `k` rows nearest to `query` in each of the scopes, and of the rows `also`."""
        found: dict[int, float] = {}
        wanted = set(also)
        for scope in scopes:
            held = self._scope(kind, scope, len(query))
            self._vectors.complete(kind, scope, partial(self._look, held, kind, scope))
            with held.lock:
                found |= held.nearest(query, k)
                wanted -= found.keys()
                found |= held.cosines(query, wanted)
        return found

    def fill(self, dimensions: int) -> Iterator[tuple[int, int]]:
        """Make all vectors that are missing; a scope is read when it is first searched."""
        return self._vectors.embed_missing(dimensions)

    def sweep(self) -> None:
        """Let go of every scope that has changed: a search reads it again."""
        with self._lock:
            scopes = list(self._scopes.items())
        with self._db.read() as connection:
            changed = [key for key, held in scopes if to_look_at(connection, *key, held.seen)[1] != set()]
        with self._lock:
            for key in changed:
                self._scopes.pop(key, None)

    def _scope(self, kind: str, scope: str, dimensions: int) -> Scope:
        key = (kind, scope)
        with self._lock:
            held = self._scopes.get(key)
            if held is None or held.dimensions != dimensions:
                held = self._scopes[key] = Scope(dimensions)
                if len(self._scopes) > MAX_SCOPES:
                    self._scopes.popitem(last=False)
            self._scopes.move_to_end(key)
        return held

    def _look(self, held: Scope, kind: str, scope: str) -> dict[int, str]:
        """Bring a scope up to date with the vectors that are in SQL; return the texts of rows that have none."""
        with held.lock, self._db.read() as connection:
            cursor, rows = to_look_at(connection, kind, scope, held.seen)
            if rows is None:
                made = Scope(held.dimensions)
                vectors, missing = self._vectors.load(
                    connection, kind, scope=scope, dimensions=held.dimensions, part=made.put
                )
                made.put(vectors)
                held.take(made)
            elif rows:
                vectors, missing = self._vectors.load(
                    connection, kind, scope=scope, dimensions=held.dimensions, ids=sorted(rows)
                )
                held.drop(rows)
                held.put(vectors)
            else:
                missing = {}
            held.seen = Seen(cursor, frozenset(missing))
        return missing
