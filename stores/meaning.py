"""The dense leg of a search: by the chosen embedder, else by the one before it, else not at all, and it says so."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from langchain_core.embeddings import Embeddings
from sqlalchemy import select

from learngate.stores.asking import NotCompared
from learngate.stores.database import Database
from learngate.stores.embedders import LOCAL, Floor, chosen_embedder, embedder_name
from learngate.stores.embeddings import Vectors
from learngate.stores.errors import ConfigurationError
from learngate.stores.protocols import VectorIndex
from learngate.stores.tables import embeddings

Item = TypeVar("Item")


class Hits(list[Item]):
    """What a search found; `note` says why it was not searched by the chosen embedder, where it was not."""

    def __init__(self, items: Iterable[Item] = (), *, note: str = "", floor: float = 0.0) -> None:
        super().__init__(items)
        self.note = note
        self.floor = floor


@dataclass(frozen=True, slots=True)
class Near:
    """Rows by their cosine, the floor that goes with them, and what is to be said about them."""

    rows: dict[int, float]
    floor: Floor
    note: str = ""


@dataclass(frozen=True, slots=True)
class Leg:
    """An embedder's vectors, the index on them, and the cosine below which they are noise."""

    vectors: Vectors
    index: VectorIndex
    floor: Floor

    def search(self, kind: str, scopes: Sequence[str], query: str, k: int, also: Iterable[int]) -> dict[int, float]:
        """Return {row: cosine}, as the index does."""
        return self.index.search(kind, scopes, self.vectors.of_query(query), k, also=also)


class Meaning:
    """Searches by meaning whatever the chosen embedder does."""

    def __init__(self, database: Database, chosen: Leg, leg: Callable[[Embeddings], Leg]) -> None:
        self._db = database
        self._chosen = chosen
        self._leg = leg
        self._lock = threading.Lock()
        self._older: dict[str, Leg | None] = {}

    @property
    def floor(self) -> Floor:
        """The chosen embedder's."""
        return self._chosen.floor

    def search(self, kind: str, scopes: Sequence[str], query: str, k: int, *, also: Iterable[int] = ()) -> Near:
        """Return the rows nearest to a query; none, with a note, where nothing could be compared."""
        wanted = list(also)
        try:
            rows = self._chosen.search(kind, scopes, query, k, wanted)
            return Near(rows, self._chosen.floor)
        except NotCompared as error:
            reason = str(error)
        for name in LOCAL:
            leg = self._other(name, kind, scopes)
            if leg is None:
                continue
            try:
                found = leg.search(kind, scopes, query, k, wanted)
            except NotCompared:
                continue
            return Near(found, leg.floor, f"searched by {name}: {reason}")
        return Near({}, self._chosen.floor, f"searched by words alone: {reason}")

    def sweep(self) -> None:
        """Let every index drop what it holds outside the database of rows that have changed or are gone."""
        with self._lock:
            older = [leg for leg in self._older.values() if leg is not None]
        # The chosen one last: it alone may fail.
        for leg in (*older, self._chosen):
            leg.index.sweep()

    def _other(self, name: str, kind: str, scopes: Sequence[str]) -> Leg | None:
        """Return a local embedder that was used here before, if it still can be loaded."""
        with self._lock:
            if name not in self._older:
                self._older[name] = self._loaded(name)
            leg = self._older[name]
        if leg is None:
            return None
        there = select(embeddings.c.row_id).where(
            embeddings.c.kind == kind, embeddings.c.embedder == leg.vectors.name, embeddings.c.scope.in_(scopes)
        )
        with self._db.read() as connection:
            return leg if connection.execute(there.limit(1)).first() is not None else None

    def _loaded(self, name: str) -> Leg | None:
        try:
            embedder = chosen_embedder(name)
        except ConfigurationError:
            return None
        return None if embedder_name(embedder) == self._chosen.vectors.name else self._leg(embedder)
