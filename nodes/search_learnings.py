"""Search the learnings: approved insights that fit the message."""

from __future__ import annotations

from typing import Any

from learngate.nodes.state import RecalledItem, State, turn_messages
from learngate.stores.learnings import Learnings


def search_learnings(state: State, *, learnings: Learnings, k: int, budget: int) -> dict[str, Any]:
    """Find up to `k` learnings that the namespace reads, within a budget of tokens; below the floor: none."""
    room = budget * 4
    found: list[RecalledItem] = []
    for hit in learnings.search(turn_messages(state)[0].text, namespace=state["turn"]["namespace"], k=k):
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
    return {"recall": {"learnings": found}}
