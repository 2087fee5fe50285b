"""Dense search: one FAISS index per scope, in memory, kept up to date by the changes cursor.

There is no index file to lose, lock or corrupt: SQL holds the vectors, and the index is built from them
when a scope is first searched.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

import numpy as np

from learngate.stores.changes import MANY, changes_since, newest_change
from learngate.stores.database import Database
from learngate.stores.embeddings import Vector, Vectors

MAX_SCOPES = 1024
"""How many scopes (namespaces, users) stay in memory; the least recently searched leave first."""


class FaissIndex:
    """Exact search over unit vectors, by inner product. Safe under threads: FAISS itself is not."""

    def __init__(self, database: Database, vectors: Vectors) -> None:
        self._db = database
        self._vectors = vectors
        self._lock = threading.Lock()
        self._scopes: OrderedDict[tuple[str, str], Any] = OrderedDict()
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
                index = self._index(kind, scope)
                if index is None or index.ntotal == 0:
                    continue
                if k:
                    scores, ids = _nearest(index, query, min(k, index.ntotal))
                    found |= {int(i): float(s) for i, s in zip(ids[0], scores[0], strict=True) if i >= 0}
                wanted -= found.keys()
                held = wanted.intersection(_ids(index)) if wanted else ()
                found |= {i: float(index.reconstruct(i) @ query) for i in held}
        return found

    def _index(self, kind: str, scope: str) -> Any:
        key = (kind, scope)
        if key not in self._scopes:
            with self._db.read() as connection:
                if not self._scopes:
                    self._cursor = newest_change(connection)
                vectors, missing = self._vectors.load(connection, kind, scope=scope, dimensions=self._dimensions)
            self._scopes[key] = _put(None, vectors | self._vectors.embed(kind, missing))
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
            index = _drop(self._scopes[kind, scope], dirty[kind, scope])
            self._scopes[kind, scope] = _put(index, vectors | self._vectors.embed(kind, missing))
        if changed:
            self._cursor = changed[-1].seq


def _nearest(index: Any, query: Vector, k: int) -> tuple[Any, Any]:
    """Search with this thread alone: LangGraph's threads are new ones in each run, and each would make helpers.

    The number of helpers is OpenMP's, of this thread only, and is set back: it is the host's, too.
    """
    import faiss

    helpers = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        scores, ids = index.search(query.reshape(1, -1), k)
    finally:
        faiss.omp_set_num_threads(helpers)
    return scores, ids


def _ids(index: Any) -> set[int]:
    import faiss

    return set(faiss.vector_to_array(index.id_map).tolist())


def _put(index: Any, vectors: dict[int, Vector]) -> Any:
    import faiss

    if vectors:
        matrix = np.stack(list(vectors.values()))
        if index is None:
            index = faiss.IndexIDMap2(faiss.IndexFlatIP(matrix.shape[1]))
        index.add_with_ids(matrix, np.fromiter(vectors, dtype=np.int64))
    return index


def _drop(index: Any, ids: Iterable[int]) -> Any:
    if index is not None:
        index.remove_ids(np.fromiter(ids, dtype=np.int64))
    return index
