"""Dense search in any LangChain `VectorStore`: it proposes rows, and SQL says which count and how near they are.

SQL stays the record: a store that is stale, shared with others or wrong about a filter can cost a search
candidates, and can never show a row that is not the asker's or move the floor. What goes out is a vector under a
random id, with its scope as a token: no text, no name, no number of a row.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import InMemoryVectorStore, VectorStore

from learngate.stores import asking
from learngate.stores.asking import Answer, NotCompared, Outsider
from learngate.stores.changes import MANY, Seen, changes_since, newest_change, to_look_at
from learngate.stores.database import Database
from learngate.stores.embeddings import SOURCES, Vector, Vectors
from learngate.stores.errors import ConfigurationError
from learngate.stores.mirror import MARKER, Mirror, any_outdated
from learngate.stores.mirror import Document as Outgoing

Make = Callable[["StoredVectors"], VectorStore]
ScopeFilter = Callable[[list[str]], dict[str, Any]]

PAGE = 500
"""Documents that are put or dropped together."""
PATIENCE = 5.0
"""Seconds that one search may spend on what the store lacks."""
WIDER = (4, 16)
"""How many times as many candidates are asked for, until enough of them count.

A store's own index is not exact: Chroma's, as it comes, has 0.87 of the nearest ten among 50 of 10,000, and 0.96
among 200, while SQL puts them in their right order.
"""
MAX_SCOPES = 100_000
"""How many scopes are remembered as looked at, before all are looked at again."""
FIELD = "scope"
PREFIX = "learngate:"


def in_vector_store(
    make: Make, *, scope_filter: ScopeFilter | None = None
) -> Callable[[Database, Vectors], VectorStoreIndex]:
    """Return what `open_memory(index=…)` takes to search in a LangChain `VectorStore`.

    `make` is called once, at the first search, with the embedder that the store is to have: it knows a `name`
    for the collection and its `dimensions`. `scope_filter` takes scopes and returns the keywords by which the
    store's `similarity_search_by_vector` keeps to documents whose metadata field "scope" is one of them; Chroma,
    Qdrant and LangChain's own `InMemoryVectorStore` need none.
    """
    return lambda database, vectors: VectorStoreIndex(database, vectors, make, scope_filter)


class StoredVectors(Embeddings):
    """The embedder of a vector store: it has the vectors that are in SQL, so that none is made twice."""

    def __init__(self, vectors: Vectors, dimensions: int, *, place: str) -> None:
        self.dimensions = dimensions
        plain = re.sub(r"[^a-z0-9]+", "-", vectors.name.lower())[:32].strip("-")
        # Of the database, too: a copy of it has a collection of its own.
        told = blake2b(f"{place}:{vectors.name}".encode(), digest_size=8).hexdigest()
        self.name = f"learngate-{plain}-{dimensions}-{told}"
        self._vectors = vectors
        self._handed: dict[str, Vector] = {}

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return the vectors of documents of ours, and of any other text what the embedder makes of it."""
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        """Return the vector of one document, or of a text."""
        # An attempt that was given up may still ask: what it gets must not be the vector of an id.
        vector = self._handed[text] if text.startswith(PREFIX) else self._vectors.of_query(text)
        return [float(number) for number in vector]

    @contextmanager
    def handing(self, vectors: dict[str, Vector]) -> Iterator[None]:
        """Have these vectors for the documents of these contents."""
        self._handed |= vectors
        try:
            yield
        finally:
            self._handed = {name: one for name, one in self._handed.items() if name not in vectors}


class VectorStoreIndex:
    """Search in a `VectorStore`, one call at a time. Safe under threads and with other processes."""

    def __init__(
        self, database: Database, vectors: Vectors, make: Make, scope_filter: ScopeFilter | None = None
    ) -> None:
        self._db = database
        self._vectors = vectors
        self._make = make
        self._given = scope_filter
        self._lock = threading.RLock()
        self._outsider = Outsider("the vector store", one_at_a_time=True)
        self._open: _Open | None = None
        self._made: dict[int, tuple[VectorStore, StoredVectors]] = {}
        # As far as which change documents of rows that changed were dropped.
        self._cursor = 0

    def search(
        self, kind: str, scopes: Iterable[str], query: Vector, k: int, *, also: Iterable[int] = ()
    ) -> dict[int, float]:
        """Return {row: cosine} of the `k` rows nearest to `query` in the scopes, and of the rows `also`.

        Raises:
            NotCompared: the store failed, took too long, did so a moment ago, or lacks too much to be given now.
            ConfigurationError: it is a store whose filter is not known, and no `scope_filter` was given.
        """
        within, wanted = list(scopes), list(also)
        with self._lock:
            held = self._opened(len(query))
            self._drop_changed(held)
        began = time.monotonic()
        for scope in within:
            for left in self._bring(held, kind, scope):
                if left and time.monotonic() - began > PATIENCE:
                    raise NotCompared(f"{left:,} rows are not in the vector store yet: see Memory.embed()")
        with self._lock:
            near = self._near(held, kind, within, query, k) if within and k else {}
        with self._db.read() as connection:
            return near | held.mirror.cosines(connection, kind, within, query, rows=wanted)

    def fill(self, dimensions: int) -> Iterator[tuple[int, int]]:
        """Embed all that has no vector yet, and bring to the store all that it lacks; yield how much is done."""
        total = 0
        for done, total in self._vectors.embed_missing(dimensions):
            yield done // 2, total
        with self._lock:
            held = self._opened(dimensions, bulk=True)
            self._drop(held, held.mirror.outdated(), bulk=True)
            self._compare(held)
            with self._db.read() as connection:
                missing = {kind: held.mirror.lacking(connection, kind) for kind in SOURCES}
        left = sum(map(len, missing.values()))
        half, rest = total // 2, max(left, 1)
        for kind, rows in missing.items():
            for start in range(0, len(rows), PAGE):
                with self._lock:
                    self._put(held, kind, rows[start : start + PAGE], bulk=True)
                left -= len(rows[start : start + PAGE])
                yield total - (total - half) * left // rest, total
        yield total, total

    def sweep(self) -> None:
        """Drop from the store what it has of rows that changed or went.

        Raises:
            NotCompared: the store failed, or the embedder, which knows how long its vectors are.
        """
        with self._db.read() as connection:
            if not any_outdated(connection):
                return
        with self._lock:
            held = self._open or self._opened(self._vectors.dimensions(), bulk=True)
            self._drop(held, held.mirror.outdated(), bulk=True)

    def _opened(self, dimensions: int, *, bulk: bool = False) -> _Open:
        """Return the store, if it is the one that is written down; else begin anew."""
        held = self._open
        if held is None or held.dimensions != dimensions:
            held = self._make_store(dimensions, bulk=bulk)
        with self._db.read() as connection:
            if self._open is held and held.mirror.marker(connection) == (held.marker, True):
                return held
            self._cursor = newest_change(connection)
        self._open = None
        self._mark(held, bulk=bulk)
        self._drop(held, held.mirror.outdated(), bulk=bulk)
        self._open = held
        return held

    def _make_store(self, dimensions: int, *, bulk: bool) -> _Open:
        def make() -> tuple[VectorStore, StoredVectors]:
            # One that comes too late is not made again: a folder may have one client only.
            if dimensions not in self._made:
                embedder = StoredVectors(self._vectors, dimensions, place=_place(self._db))
                self._made[dimensions] = self._make(embedder), embedder
            return self._made[dimensions]

        store, embedder = self._ask(make, bulk=bulk)
        mirror = Mirror(self._db, store=embedder.name, embedder=self._vectors.name, dimensions=dimensions)
        return _Open(store, embedder, mirror, self._given or known_filter(store))

    def _mark(self, held: _Open, *, bulk: bool) -> None:
        """Make sure that the store has our marker: one that was wiped, moved or replaced has not."""
        with self._db.read() as connection:
            known = held.mirror.marker(connection)
        lost = None
        if known is not None and known[1]:
            if self._has(held, [known[0]], bulk=bulk):
                held.marker = known[0]
                return
            lost = known[0]
        held.marker = held.mirror.begin(lost)
        first = np.zeros(held.dimensions, dtype=np.float32)
        first[0] = 1
        self._send(held, [Outgoing(held.marker, "", first)], MARKER, bulk=bulk)

    def _has(self, held: _Open, ids: Sequence[str], *, bulk: bool) -> set[str]:
        """Return which of these documents are in the store; all, where it cannot tell."""
        return self._ask(partial(_found, held.store, ids), bulk=bulk)

    def _drop_changed(self, held: _Open) -> None:
        """Drop what has changed since, of all scopes, but not more than one search can wait for."""
        with self._db.read() as connection:
            changed = changes_since(connection, self._cursor)
        if not changed:
            return
        rows = {(row.kind, row.row_id) for row in changed}
        outdated = held.mirror.outdated(changed=rows if len(rows) <= MANY else None)
        self._drop(held, outdated[:PAGE])
        if len(outdated) <= PAGE:
            self._cursor = changed[-1].seq

    def _bring(self, held: _Open, kind: str, scope: str) -> Iterator[int]:
        """Put what the store lacks of a scope, all of it at its first search; yield how many rows are left.

        Only the store is asked one call at a time: while this one's texts are embedded, others search.
        """
        with self._db.read() as connection:
            cursor, rows = to_look_at(connection, kind, scope, held.seen.get((kind, scope)))
            lacking = held.mirror.lacking(connection, kind, scope=scope, rows=rows) if rows != set() else []
        for start in range(0, len(lacking), PAGE):
            yield len(lacking) - start if start else 0
            page = lacking[start : start + PAGE]
            self._vectors.complete(kind, scope, partial(self._missing, held, kind, scope, page))
            with self._lock:
                self._put(held, kind, page)
        if lacking:
            # The embedder refused these, or they have changed meanwhile.
            with self._db.read() as connection:
                lacking = held.mirror.lacking(connection, kind, scope=scope, rows=rows)
        if len(held.seen) > MAX_SCOPES:
            held.seen.clear()
        held.seen[kind, scope] = Seen(cursor, frozenset(lacking))

    def _missing(self, held: _Open, kind: str, scope: str, rows: Sequence[int]) -> dict[int, str]:
        with self._db.read() as connection:
            _, missing = self._vectors.load(connection, kind, scope=scope, dimensions=held.dimensions, ids=rows)
        return missing

    def _put(self, held: _Open, kind: str, rows: Sequence[int], *, bulk: bool = False) -> None:
        documents = held.mirror.claim(kind, rows)
        if documents:
            self._send(held, documents, kind, bulk=bulk)

    def _send(self, held: _Open, documents: Sequence[Outgoing], kind: str, *, bulk: bool) -> None:
        made = [
            Document(id=one.id, page_content=PREFIX + one.id, metadata={FIELD: f"{kind}:{one.scope}"})
            for one in documents
        ]
        with held.embedder.handing({PREFIX + one.id: one.vector for one in documents}):
            self._ask(partial(held.store.add_documents, made, ids=[one.id for one in documents]), bulk=bulk)
        self._drop(held, held.mirror.settle(documents), bulk=bulk)

    def _drop(self, held: _Open, ids: Sequence[str], *, bulk: bool = False) -> None:
        for start in range(0, len(ids), PAGE):
            page = list(ids[start : start + PAGE])
            self._ask(partial(held.store.delete, page), bulk=bulk)
            held.mirror.dropped(page)

    def _compare(self, held: _Open) -> None:
        """Find what the store lost of what it had, so that it is brought again."""
        ids = held.mirror.there()
        for start in range(0, len(ids), PAGE):
            page = ids[start : start + PAGE]
            held.mirror.lost(set(page) - self._has(held, page, bulk=True))

    def _near(self, held: _Open, kind: str, scopes: Sequence[str], query: Vector, k: int) -> dict[int, float]:
        """Return the `k` nearest of what the store proposes, by their vectors in SQL."""
        only = held.filter([f"{kind}:{scope}" for scope in scopes])
        near: dict[int, float] = {}
        for times in WIDER:
            asked = k * times
            given = self._ask(partial(held.store.similarity_search_by_vector, query.tolist(), k=asked, **only))
            ids = {one.page_content.removeprefix(PREFIX) for one in given}
            with self._db.read() as connection:
                near = held.mirror.cosines(connection, kind, scopes, query, proposed=ids)
            if len(near) >= k or len(given) < asked:
                break
        best = sorted(near, key=near.__getitem__, reverse=True)[:k]
        return {row: near[row] for row in best}

    def _ask(self, call: Callable[[], Answer], *, bulk: bool = False) -> Answer:
        seconds = asking.BULK_SECONDS if bulk else asking.CALL_SECONDS
        try:
            return self._outsider.asked(call, seconds, anyway=bulk)
        except NotCompared:
            # What it has is looked at again before it is believed again.
            self._open = None
            raise


class _Open:
    """A store that was made, and what is written down of it."""

    def __init__(self, store: VectorStore, embedder: StoredVectors, mirror: Mirror, only: ScopeFilter) -> None:
        self.store = store
        self.embedder = embedder
        self.dimensions = embedder.dimensions
        self.mirror = mirror
        self.filter = only
        self.marker = ""
        # What is known of the scopes that have been looked at.
        self.seen: dict[tuple[str, str], Seen] = {}


def known_filter(store: VectorStore) -> ScopeFilter:
    """Return how a store is told to keep to scopes.

    Raises:
        ConfigurationError: it is none of those that are known.
    """
    kinds = {f"{kind.__module__.partition('.')[0]}.{kind.__name__}" for kind in type(store).__mro__}
    if isinstance(store, InMemoryVectorStore):
        return lambda scopes: {"filter": lambda document: document.metadata[FIELD] in scopes}
    if "langchain_chroma.Chroma" in kinds:
        return lambda scopes: {"filter": {FIELD: {"$in": scopes}}}
    if "langchain_qdrant.QdrantVectorStore" in kinds:
        key = f"{getattr(store, 'metadata_payload_key', 'metadata')}.{FIELD}"
        return lambda scopes: {"filter": _qdrant(key, scopes)}
    raise ConfigurationError(
        f"how {type(store).__name__} filters is not known: give in_vector_store(…, scope_filter=…), which takes a"
        ' list of scopes and returns keywords of its search, such as {"filter": {"scope": {"$in": scopes}}}'
    )


def _place(database: Database) -> str:
    """Return where a database is, however its URL says so and whoever connects."""
    url = database.url
    if database.dialect != "sqlite" or not url.database:
        return f"{url.host}:{url.port}/{url.database}"
    return str(Path(url.database.removeprefix("file:")).resolve())


def _qdrant(key: str, scopes: list[str]) -> Any:
    from qdrant_client import models

    return models.Filter(must=[models.FieldCondition(key=key, match=models.MatchAny(any=scopes))])


def _found(store: VectorStore, ids: Sequence[str]) -> set[str]:
    try:
        return {one.page_content.removeprefix(PREFIX) for one in store.get_by_ids(ids)}
    except NotImplementedError:
        return set(ids)
