"""What a part of the memory does for the others, whatever it is made of."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from learngate.stores.embeddings import Vector


class VectorIndex(Protocol):
    """Dense search over the active rows of a kind, inside scopes; as current as the last commit."""

    def search(self, kind: str, scopes: Iterable[str], query: Vector, k: int) -> dict[int, float]:
        """Return {row: cosine} of the `k` rows nearest to `query` in each of the scopes, or in all of them."""

    def cosines(self, kind: str, scopes: Iterable[str], query: Vector, ids: Iterable[int]) -> dict[int, float]:
        """Return {row: cosine} of particular rows, as far as they are in the scopes."""
