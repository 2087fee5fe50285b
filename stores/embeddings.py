"""Vectors in SQL: derived from the rows' texts, kept by embedder, made where they are first needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from langchain_core.embeddings import Embeddings
from numpy.typing import NDArray
from sqlalchemy import Column, ColumnElement, Connection, Table, and_, case, select

from learngate.stores.database import Database, upsert
from learngate.stores.embedders import embedder_name
from learngate.stores.errors import StoreUnavailable
from learngate.stores.tables import embeddings, learnings, turns, user_memories
from learngate.stores.text import fingerprint

Vector = NDArray[np.float32]
BATCH = 256
EMBEDDED = 8_000
"""Characters of a text that are embedded."""


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


class Vectors:
    """The vectors of one embedder. A row without one, or with one of an older text, is embedded when read."""

    def __init__(self, database: Database, embedder: Embeddings) -> None:
        self._db = database
        self._embedder = embedder
        self.name = embedder_name(embedder)

    def of_query(self, text: str) -> Vector:
        """Return the unit vector of a query."""
        with self._translated():
            raw = self._embedder.embed_query(text)
        vector: Vector = _unit(np.asarray([raw], dtype=np.float32))[0]
        return vector

    def load(
        self, connection: Connection, kind: str, *, scope: str, dimensions: int, ids: Sequence[int] | None = None
    ) -> tuple[dict[int, Vector], dict[int, str]]:
        """Return the vectors of a scope's active rows, and the texts of those that have none yet.

        A vector of another length is none: two embedders may go by one name.
        """
        source = SOURCES[kind]
        query = (
            select(source.key.label("id"), source.text.label("text"), embeddings.c.digest, embeddings.c.vector)
            .outerjoin(
                embeddings,
                and_(
                    embeddings.c.kind == kind,
                    embeddings.c.row_id == source.key,
                    embeddings.c.embedder == self.name,
                ),
            )
            .where(source.table.c.scope == scope, source.active)
        )
        if ids is not None:
            query = query.where(source.key.in_(ids))
        vectors: dict[int, Vector] = {}
        missing: dict[int, str] = {}
        for row in connection.execute(query):
            if row.vector is not None and len(row.vector) == dimensions and row.digest == fingerprint(row.text):
                vectors[row.id] = row.vector
            else:
                missing[row.id] = row.text
        return vectors, missing

    def embed(self, kind: str, texts: dict[int, str]) -> dict[int, Vector]:
        """Embed rows' texts in batches, store the vectors and return them."""
        made: dict[int, Vector] = {}
        rows = list(texts.items())
        for start in range(0, len(rows), BATCH):
            batch = rows[start : start + BATCH]
            with self._translated():
                raw = self._embedder.embed_documents([text[:EMBEDDED] for _, text in batch])
            vectors = _unit(np.asarray(raw, dtype=np.float32))
            made |= {row_id: vector for (row_id, _), vector in zip(batch, vectors, strict=True)}
            self._store(kind, dict(batch), made)
        return made

    def _store(self, kind: str, texts: dict[int, str], vectors: dict[int, Vector]) -> None:
        source = SOURCES[kind]
        with self._db.write() as connection:
            # What was erased or reworded while it was being embedded does not come back as a vector.
            rows = connection.execute(
                select(source.key.label("id"), source.table.c.scope, source.text.label("text")).where(
                    source.key.in_(texts), source.active
                )
            ).all()
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
                if row.text == texts[row.id]
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

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            # Every provider has errors of its own, and none is importable without its package.
            reason = f"{type(error).__name__}: {error}"
            raise StoreUnavailable(f"the embedder {self.name} did not answer ({reason}): try again") from error


def _unit(vectors: Vector) -> Vector:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Vector = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    return unit
