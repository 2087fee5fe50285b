"""Search the learnings: approved insights that fit the message."""

from __future__ import annotations

from typing import Any

from learngate.nodes.state import RecalledItem, State, noted, turn_messages
from learngate.stores.learnings import Learnings
from learngate.stores.meaning import Hits


def search_learnings(state: State, *, learnings: Learnings, k: int, budget: int) -> dict[str, Any]:
    """Find up to `k` learnings that the namespace reads, within a budget of tokens; below the floor: none."""
    query, room = turn_messages(state)[0].text, budget * 4
    found: list[RecalledItem] = []
    # A picture without a word finds nothing.
    hits = learnings.search(query, namespace=state["turn"]["namespace"], k=k) if query.strip() else Hits()
    for hit in hits:
        size = len(hit.learning.title) + len(hit.learning.insight)
        shown = size <= room
        room -= size if shown else 0
        found.append(
            RecalledItem(
                kind="learning",
                id=hit.learning.id,
                revision=hit.learning.revision,
                score=round(hit.score, 4),
                why=hit.why,
                title=hit.learning.title if shown else "",
                text=hit.learning.insight if shown else "",
                shown=shown,
            )
        )
    return {"recall": noted("learnings", found, hits.note)}
