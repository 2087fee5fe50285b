"""Hybrid search: dense and lexical over the same scopes, fused, behind a floor."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from math import log

from sqlalchemy import func, select

from learngate.stores import lexical
from learngate.stores.database import Database
from learngate.stores.embedders import MANY
from learngate.stores.embeddings import SOURCES
from learngate.stores.fusion import Fused, fuse
from learngate.stores.lists import among
from learngate.stores.meaning import Hits, Meaning
from learngate.stores.text import words

CANDIDATES = 50
"""How many rows each leg brings before fusion."""
LEXICAL_FLOOR = 0.50
"""Share of the query's words, two at the least, that lowers the floor of a row, by that share."""
WEIGHED = frozenset({"learning"})
"""Kinds whose words count by the share of the question that they are.

A row that has one word of six says little about the question: without this, a question in other words than its
learning's was found by meaning and lost again to such rows.
"""


# Built once: building a statement takes longer than it takes to run.
_FEW = {
    kind: select(func.count()).select_from(
        select(source.key).where(among(source.table.c.scope, "scopes"), source.active).limit(MANY).subquery()
    )
    for kind, source in SOURCES.items()
}


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
        asked = lexical.content_stems(query)
        weighed = floor or kind in WEIGHED
        with self._db.look() as connection:
            worded = lexical.search(
                connection,
                source.table,
                scopes=scopes,
                query=query,
                limit=max(k, CANDIDATES),
                bodies=weighed,
            )
        found = {row: score for row, score, _ in worded}
        held = words_held(asked, {row: body for row, _, body in worded}) if weighed else {}
        # Their number scales a cosine: behind a floor as many as it was chosen with.
        near = self._meaning.search(kind, scopes, query, max(k, MANY if floor else CANDIDATES), also=found)
        least = near.floor.among(self._rows(kind, scopes, near.rows) if floor else MANY)
        ranked = fuse(near.rows, found, trust=_trust(asked, held) if weighed else None)
        if floor:
            shares = shares_named(asked, held)
            compared = near.rows if near.floor.measured else ()
            ranked = [row.behind(least) for row in ranked if kept(row, shares.get(row.id, 0.0), least, compared)]
        return Hits(ranked[:k], note=near.note, floor=least)

    def _rows(self, kind: str, scopes: Sequence[str], near: Collection[int]) -> int:
        """Return how many rows there are, as far as a floor asks."""
        if len(near) >= MANY:
            return MANY
        # An index may bring fewer of them than it was asked for.
        with self._db.look() as connection:
            rows: int = connection.execute(_FEW[kind], {"scopes": [*scopes]}).scalar_one()
        return rows


def words_held(asked: set[str], bodies: Mapping[int, str]) -> dict[int, set[str]]:
    """Return which of the query's content words each row holds."""
    # Most words of a row need no stem to be told apart.
    starts = lexical.starts(asked)
    stem = cache(lexical.stem)
    return {
        row: asked & {stem(word) for word in words(lexical.plain(body)) if word[:3] in starts}
        for row, body in bodies.items()
    }


def kept(row: Fused, share: float, floor: float, compared: Collection[int]) -> bool:
    """Whether a row is more than chance: what it lacks in words it has in meaning.

    With all the words, or with half of them where it is not in what was `compared`, it needs no more.
    """
    return share == 1 or row.dense >= floor * (1 - share) or (share > 0 and row.id not in compared)


def shares_named(asked: set[str], held: Mapping[int, set[str]]) -> dict[int, float]:
    """Return the share of the query's words that a row holds, of rows that it names: half of them, and two."""
    # One word that is shared may be chance, even where it is half of the question.
    return {
        row: len(shared) / len(asked)
        for row, shared in held.items()
        if len(shared) >= max(2, LEXICAL_FLOOR * len(asked))
    }


def _trust(asked: set[str], held: dict[int, set[str]]) -> dict[int, float]:
    """Return, by row, how much its words say: fully from half of the question on, else the share of it, squared.

    A word that few of the rows hold is a larger share.
    """
    counts = Counter(word for shared in held.values() for word in shared)
    weight = {word: log(1 + (len(held) + 1) / (counts[word] + 0.5)) for word in asked}
    whole = sum(weight.values()) or 1.0
    shares = {row: sum(weight[word] for word in shared) / whole for row, shared in held.items()}
    return {row: 1.0 if share >= LEXICAL_FLOOR else share**2 for row, share in shares.items()}
