"""Fusion: a weighted sum of two legs' scores, each scaled to 0…1, behind a floor on the raw scores.

Not reciprocal rank: measured on LoCoMo, rank fusion fell below its own BM25 leg where the dense leg was
weak, and the weighted sum won every like-for-like pair.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from learngate.stores.records import Why


class Fused(NamedTuple):
    """One row's place in a fused list, with the raw scores it came from."""

    id: int
    score: float
    dense: float
    lexical: float
    why: Why

    def behind(self, floor: float) -> Fused:
        """Return the row as it is found behind a floor: what is less near is found by its words alone."""
        return self._replace(why="lexical") if self.why == "both" and self.dense < floor else self


def fuse(
    dense: Mapping[int, float],
    lexical: Mapping[int, float],
    *,
    weight: float = 0.5,
    trust: Mapping[int, float] | None = None,
) -> list[Fused]:
    """Return the rows of both legs, best first; `weight` is the dense leg's share.

    `dense` holds cosines and `lexical` positive BM25 scores; a row that one leg lacks scores 0 there. `trust`
    is, by row, how much of its scaled lexical score counts (0…1); without it, all.
    """
    scaled_dense, scaled_lexical = _scaled(dense), _scaled(lexical)
    if trust is not None:
        scaled_lexical = {i: score * trust.get(i, 0.0) for i, score in scaled_lexical.items()}
    fused = [
        Fused(
            i,
            weight * scaled_dense.get(i, 0.0) + (1 - weight) * scaled_lexical.get(i, 0.0),
            dense.get(i, 0.0),
            lexical.get(i, 0.0),
            "lexical" if i not in dense else "both" if i in lexical else "dense",
        )
        for i in dense.keys() | lexical.keys()
    ]
    return sorted(fused, key=lambda row: (-row.score, row.id))


def _scaled(scores: Mapping[int, float]) -> dict[int, float]:
    """Scale scores to 0…1 by their range; a leg with one score, or one value, counts fully."""
    if not scores:
        return {}
    low, high = min(scores.values()), max(scores.values())
    if high == low:
        return dict.fromkeys(scores, 1.0)
    return {i: (score - low) / (high - low) for i, score in scores.items()}
