"""Near-copies: the same advice in other words is shown once, so that it does not take the place of other advice."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from sqlalchemy import Connection, and_, select

from learngate.stores.embeddings import SOURCES
from learngate.stores.fusion import Fused
from learngate.stores.tables import embeddings
from learngate.stores.text import words

COPY = 0.80
"""Cosine from which two rows say the same; of different advice no two came above 0.58 (see docs/decisions)."""
LOOKED_AT = 4
"""For each row that is asked for, so many are compared."""
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_NEGATIONS = frozenset("no not never none neither nor without cannot don t avoid".split())  # noqa: SIM905 - a list


def without_copies(
    connection: Connection, kind: str, embedder: str, ranked: Sequence[Fused], k: int
) -> list[Fused]:
    """Return the first `k` rows, best first, of which no two say the same.

    Two that differ in a number, or of which one denies, do not: "keep 3 months" is not "keep 6 months". Rows
    that have no vector of this embedder are compared with none.
    """
    first = ranked[: k * LOOKED_AT]
    if len(first) < 2:
        return list(first[:k])
    source = SOURCES[kind]
    its = and_(embeddings.c.kind == kind, embeddings.c.row_id == source.key, embeddings.c.embedder == embedder)
    rows = connection.execute(
        select(source.key.label("id"), source.text.label("text"), embeddings.c.vector)
        .join(embeddings, its)
        .where(source.key.in_([row.id for row in first]))
    )
    known = {
        row.id: (np.asarray(row.vector, dtype=np.float32), _told_apart(row.text))
        for row in rows
        if row.vector is not None
    }
    kept: list[Fused] = []
    for row in first:
        if len(kept) == k:
            break
        mine = known.get(row.id)
        others = [known[one.id] for one in kept if one.id in known]
        if mine is None or not any(mine[1] == other[1] and _alike(mine[0], other[0]) for other in others):
            kept.append(row)
    return kept


def _alike(one: np.ndarray, other: np.ndarray) -> bool:
    return one.shape == other.shape and float(one @ other) >= COPY


def _told_apart(text: str) -> tuple[frozenset[str], bool]:
    return frozenset(_NUMBER.findall(text)), not _NEGATIONS.isdisjoint(words(text))
