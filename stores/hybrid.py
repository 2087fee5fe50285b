"""Hybrid search: dense and lexical over the same scopes, fused, behind a floor."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, select

from learngate.stores import lexical
from learngate.stores.database import Database
from learngate.stores.embeddings import SOURCES
from learngate.stores.fusion import Fused, fuse
from learngate.stores.meaning import Hits, Meaning
from learngate.stores.text import words

CANDIDATES = 50
"""How many rows each leg brings before fusion."""
LEXICAL_FLOOR = 0.50
"""Share of the query's content words that a row must hold where its cosine is below the floor."""


class HybridSearch:
    """Finds rows of one kind by meaning and by words at once."""

    def __init__(self, database: Database, meaning: Meaning) -> None:
        self._db = database
        self._meaning = meaning

    def __call__(self, kind: str, scopes: Sequence[str], query: str, *, k: int, floor: bool = True) -> Hits[Fused]:
        """Return up to `k` rows of these scopes, best first; with `floor`, none that is merely the nearest.

        Where the embedder gives nothing to compare, words alone find them, and the hits' `note` says so.
        """
        source = SOURCES[kind]
        with self._db.read() as connection:
            found = dict(
                lexical.search(connection, source.table, scopes=scopes, query=query, limit=max(k, CANDIDATES))
            )
            held = self._coverage(connection, kind, query, found) if floor else {}
        near = self._meaning.search(kind, scopes, query, max(k, CANDIDATES), also=found)
        ranked = fuse(near.rows, found)
        if floor:
            ranked = [row for row in ranked if row.dense >= near.floor or held.get(row.id, 0.0) >= LEXICAL_FLOOR]
        return Hits(ranked[:k], note=near.note, floor=near.floor)

    def _coverage(self, connection: Connection, kind: str, query: str, found: dict[int, float]) -> dict[int, float]:
        """Return the share of the query's content words that each row holds; two words at the least."""
        asked = {_stem(word) for word in lexical.content_words(query)}
        if len(asked) < 2 or not found:
            return {}
        source = SOURCES[kind]
        bodies = connection.execute(
            select(source.key.label("id"), source.text.label("text")).where(source.key.in_(found), source.active)
        )
        return {row.id: len(asked & {_stem(w) for w in words(row.text)}) / len(asked) for row in bodies}


def _stem(word: str) -> str:
    """Fold an English plural; enough to compare a question's words with a row's."""
    if len(word) > 3 and word.endswith("s") and not word.endswith("ss"):
        return word[:-1]
    return word
