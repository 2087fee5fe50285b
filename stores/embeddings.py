"""Vectors in SQL: derived from the rows' texts, kept by embedder, made where they are first needed."""

from __future__ import annotations

import logging
import shlex
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import WeakValueDictionary

from langchain_core.embeddings import Embeddings
from sqlalchemy import Column, ColumnElement, Connection, Row, Select, Table, and_, bindparam, case, func, select

from learngate.stores.asking import Asking, NotEmbedded, Refused
from learngate.stores.database import Database, upsert, without_password
from learngate.stores.embedders import LocalEmbeddings, embedder_name, floor_of
from learngate.stores.lists import among
from learngate.stores.tables import embeddings, learnings, turns, user_memories
from learngate.stores.text import fingerprint, words

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Vector: TypeAlias = "NDArray[np.float32]"
BATCH = 100
"""Texts that an embedder which is not local is given at once: what most providers take."""
PATIENCE = 5.0
"""Seconds that one search may spend on vectors that are missing, where the embedder is not local."""
PART = 10_000
"""So many vectors are handed over at a time."""
PAGE = 2_000
"""Rows that are looked at together for what they lack."""
EMBEDDED = 8_000
"""Characters of a text that are embedded."""
REFUSED_SECONDS = 3_600.0
"""How long searches do without a text that the embedder refused, before it is given it again."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Source:
    """Where the texts of one kind of row come from."""

    kind: str
    table: Table
    key: Column[int]
    text: ColumnElement[str]
    active: ColumnElement[bool]


_before = case((turns.c.before == "", ""), else_=turns.c.before + "\n")
SOURCES = {
    "learning": Source("learning", learnings, learnings.c.id, learnings.c.body, learnings.c.status == "active"),
    "memory": Source(
        "memory", user_memories, user_memories.c.id, user_memories.c.body, user_memories.c.valid_to.is_(None)
    ),
    "turn": Source("turn", turns, turns.c.seq, _before + turns.c.body, turns.c.status == "complete"),
}


# Built once each, when it is needed: building a statement takes longer than it takes to run.
@cache
def _texts(kind: str) -> Select[Any]:
    source = SOURCES[kind]
    return select(source.key.label("id"), source.table.c.scope, source.text.label("text")).where(
        among(source.key), source.active
    )


@cache
def _with_vectors(kind: str) -> Select[Any]:
    source = SOURCES[kind]
    return select(
        source.key.label("id"), source.text.label("text"), embeddings.c.digest, embeddings.c.vector
    ).outerjoin(
        embeddings,
        and_(
            embeddings.c.kind == kind,
            embeddings.c.row_id == source.key,
            embeddings.c.embedder == bindparam("embedder"),
        ),
    )


@cache
def _of_scope(kind: str, *, some: bool) -> Select[Any]:
    source = SOURCES[kind]
    query = _with_vectors(kind).where(source.table.c.scope == bindparam("its"), source.active)
    return query.where(among(source.key)) if some else query


class Vectors:
    """The vectors of one embedder. A row without one, or with one of an older text, is embedded when read."""

    def __init__(self, database: Database, embedder: Embeddings) -> None:
        self._db = database
        self._asking = Asking(embedder)
        local = embedder if isinstance(embedder, LocalEmbeddings) else None
        self._batch = local.batch if local else BATCH
        self._patience = local.patience if local else PATIENCE
        self._called = local.called if local else None
        self.name = embedder_name(embedder)
        self.floor = floor_of(embedder)
        # Of each text that was refused: which it was, and when.
        self._refused: dict[tuple[str, int], tuple[str, float]] = {}
        self._lock = threading.Lock()
        self._making: WeakValueDictionary[tuple[str, str], Making] = WeakValueDictionary()

    @property
    def remedy(self) -> str:
        """What makes the vectors that are missing: a command that may be copied, where one can do it."""
        url = self._db.url
        if self._called is None or (self._db.dialect == "sqlite" and url.database in {None, "", ":memory:"}):
            return "Memory.embed()"
        plain = self._db.dialect == "sqlite" and not str(url.database).startswith("file:")
        where = str(url.database) if plain else without_password(url)
        return f"`{shlex.join(('learngate', 'embed', '--embedder', self._called, '--db', where))}`"

    def of_query(self, text: str) -> Vector:
        """Return the unit vector of a query.

        Raises:
            NotEmbedded: the embedder failed, took too long, did so a moment ago, or had no direction for words.
        """
        vector: Vector = _unit(self._asking.query(text))[0]
        if not vector.any() and words(text):
            # The next question may have one.
            raise Refused(f"{self.name} gave a vector without a direction")
        return vector

    def load(
        self,
        connection: Connection,
        kind: str,
        *,
        scope: str,
        dimensions: int,
        ids: Sequence[int] | None = None,
        part: Callable[[dict[int, Vector]], None] | None = None,
    ) -> tuple[dict[int, Vector], dict[int, str]]:
        """Return the vectors of a scope's active rows, and the texts of those that have none yet.

        A vector of another length is none: two embedders may go by one name. Of many, each `PART` goes to `part`
        as soon as it is read, so that they are never all in memory at once; the rest is returned.
        """
        given = {"embedder": self.name, "its": scope} | ({} if ids is None else {"ids": ids})
        vectors: dict[int, Vector] = {}
        missing: dict[int, str] = {}
        for row in connection.execute(_of_scope(kind, some=ids is not None), given):
            if _fits(row, dimensions):
                vectors[row.id] = row.vector
                if part is not None and len(vectors) == PART:
                    part(vectors)
                    vectors = {}
            elif row.text is not None:  # as in a damaged row
                missing[row.id] = row.text
        return vectors, missing

    def complete(self, kind: str, scope: str, look: Callable[[], dict[int, str]]) -> None:
        """Make the vectors of a scope that `look` finds missing, and look again when they are there.

        `look` takes its index's lock, and the embedder works outside it: whoever asks for another scope waits for
        nothing of this. Of those who ask for the same at once, one has it made, and the others find it made.

        Raises:
            NotEmbedded: the embedder failed, or there is more to do than one search can wait for.
        """
        with self._lock:
            making = self._making.setdefault((kind, scope), Making())
        made = making.times
        missing = look()
        if self._askable(kind, missing):
            with self._alone(making):
                # Another search may have had it made since.
                self.embed(kind, missing if making.times == made else look())
            look()

    def embed(self, kind: str, texts: dict[int, str], *, bulk: bool = False) -> None:
        """Embed rows' texts in batches, and store the vectors; `bulk` takes as long as it takes.

        What a batch brought is stored before the next one begins. A text that the embedder refuses, while it takes
        others, is left out: words find it.

        Raises:
            NotEmbedded: the embedder failed, or there is more to do than one search can wait for.
        """
        rows = list((texts if bulk else self._askable(kind, texts)).items())
        waiting = [dict(rows[start : start + self._batch]) for start in range(0, len(rows), self._batch)][::-1]
        began, settled = time.monotonic(), False
        while waiting:
            late = not bulk and self._patience is not None and time.monotonic() - began > self._patience
            if settled and late:
                raise NotEmbedded(
                    f"{sum(map(len, waiting)):,} texts have no vector of {self.name} yet: see {self.remedy}"
                )
            batch = waiting.pop()
            halves = self._embed_batch(kind, batch, bulk=bulk)
            waiting += halves
            settled = settled or not halves

    def _askable(self, kind: str, texts: dict[int, str]) -> dict[int, str]:
        """Leave out what was refused a while ago."""
        since = time.monotonic() - REFUSED_SECONDS
        refused = {row: self._refused.get((kind, row), ("", 0.0)) for row in texts} if self._refused else {}
        left_out = {row for row, (text, at) in refused.items() if at > since and text == fingerprint(texts[row])}
        return {row: text for row, text in texts.items() if row not in left_out}

    @contextmanager
    def _alone(self, making: Making) -> Iterator[None]:
        if not making.lock.acquire(timeout=-1 if self._patience is None else max(self._patience, 0.0)):
            raise NotEmbedded(f"another search is having texts embedded by {self.name}")
        try:
            yield
        finally:
            making.times += 1
            making.lock.release()

    def dimensions(self) -> int:
        """Return the length of the embedder's vectors, however long it takes to answer.

        Raises:
            NotEmbedded: the embedder failed.
        """
        return len(self._asking.documents(["learngate"], bulk=True)[0])

    def embed_missing(self, dimensions: int) -> Iterator[tuple[int, int]]:
        """Embed every active row that has no vector of this length yet; yield how many rows are done, of how many.

        Each batch is stored before the next one begins: whoever is stopped goes on where they were.

        Raises:
            NotEmbedded: the embedder failed.
        """
        with self._db.read() as connection:
            total = sum(
                connection.scalar(select(func.count()).select_from(source.table).where(source.active)) or 0
                for source in SOURCES.values()
            )
        done = 0
        yield done, total
        for kind in SOURCES:
            last = 0
            while True:
                with self._db.read() as connection:
                    size, last, missing = self._page(connection, kind, after=last, dimensions=dimensions)
                if not size:
                    break
                rows = list(missing.items())
                for start in range(0, len(rows), self._batch):
                    batch = dict(rows[start : start + self._batch])
                    self.embed(kind, batch, bulk=True)
                    yield min(total, done + start + len(batch)), total
                done += size
                yield min(total, done), total

    def _page(
        self, connection: Connection, kind: str, *, after: int, dimensions: int
    ) -> tuple[int, int, dict[int, str]]:
        """Return how many rows come next, the last of them, and the texts of those without a vector."""
        source = SOURCES[kind]
        rows = connection.execute(
            _with_vectors(kind).where(source.active, source.key > after).order_by(source.key).limit(PAGE),
            {"embedder": self.name},
        ).all()
        missing = {row.id: row.text for row in rows if row.text is not None and not _fits(row, dimensions)}
        return len(rows), rows[-1].id if rows else after, missing

    def _embed_batch(self, kind: str, texts: dict[int, str], *, bulk: bool) -> list[dict[int, str]]:
        """Embed and store a batch; return its halves where it is refused, of which one may be taken."""
        given = [text[:EMBEDDED] for text in texts.values()]
        try:
            try:
                raw = self._asking.documents(given, bulk=bulk)
            except Refused:
                if len(texts) > 1:
                    rows = list(texts.items())
                    return [dict(rows[len(rows) // 2 :]), dict(rows[: len(rows) // 2])]
                # Once more, because one that has hiccups takes what is harmless, too.
                raw = self._asking.documents(given, bulk=bulk)
        except Refused as error:
            self._leave_out(kind, texts, error)
            return []
        made = dict(zip(texts, _unit(raw), strict=True))
        directed = {row: vector for row, vector in made.items() if vector.any()}
        if len(directed) < len(made):
            without = {row: text for row, text in texts.items() if row not in directed}
            self._leave_out(kind, without, Refused(f"{self.name} gave a vector without a direction"))
        self._store(kind, texts, directed)
        return []

    def _leave_out(self, kind: str, texts: dict[int, str], error: Refused) -> None:
        for row, text in texts.items():
            known, _ = self._refused.get((kind, row), ("", 0.0))
            self._refused[kind, row] = fingerprint(text), time.monotonic()
            if known != fingerprint(text):
                # By its number: what a provider says may quote the text.
                _log.warning("%s: %s %d is found by words alone", error, kind, row)

    def _store(self, kind: str, texts: dict[int, str], vectors: dict[int, Vector]) -> None:
        with self._db.derive() as connection:
            # What was erased or reworded while it was being embedded does not come back as a vector.
            rows = connection.execute(_texts(kind), {"ids": [*texts]}).all()
            made = [
                {
                    "kind": kind,
                    "row_id": row.id,
                    "embedder": self.name,
                    "scope": row.scope,
                    "digest": fingerprint(row.text),
                    "vector": vectors[row.id],
                }
                for row in rows
                if row.id in vectors and row.text == texts[row.id]
            ]
            if not made:
                return
            put = upsert(connection, embeddings)
            connection.execute(
                put.on_conflict_do_update(
                    index_elements=["kind", "row_id", "embedder"],
                    set_={"digest": put.excluded.digest, "vector": put.excluded.vector},
                ),
                made,
            )


class Making:
    """Held by whoever has the vectors of a scope made."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.times = 0


def _fits(row: Row[Any], dimensions: int) -> bool:
    if row.text is None or row.vector is None:
        return False
    if len(row.vector) != dimensions or row.digest != fingerprint(row.text):
        return False
    # One without a direction is near to nothing, and was a mistake of its embedder.
    return any(row.vector)


def _unit(vectors: Vector) -> Vector:
    import numpy as np

    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Vector = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    return unit
