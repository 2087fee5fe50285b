"""Recall the user's memory: what is known about whoever speaks."""

from __future__ import annotations

from typing import Any

from learngate.nodes.state import RecalledItem, State, noted, turn_messages
from learngate.stores.users import Users


def recall_user_memory(state: State, *, users: Users, budget: int) -> dict[str, Any]:
    """Recall the user's memories that matter to the message, within a budget of tokens; nobody's: none."""
    turn = state["turn"]
    if turn["user_id"] is None:
        return {"recall": {"memories": []}}
    query = turn_messages(state)[0].text
    hits = users.recall(turn["user_id"], query, budget=budget, namespace=turn["namespace"])
    memories = [
        RecalledItem(
            kind="memory",
            id=hit.memory.id,
            revision=hit.memory.revision,
            score=round(hit.score, 4),
            text=hit.text if hit.shown else "",
            shown=hit.shown,
        )
        for hit in hits
    ]
    return {"recall": noted("memories", memories, hits.note)}
