"""Remember the user: apply what a turn brought about them, exactly once."""

from __future__ import annotations

from typing import Any

from learngate.nodes.state import State, candidate_source
from learngate.stores.errors import InvalidInput
from learngate.stores.records import MemoryOperation
from learngate.stores.text import MEMORY_LIMIT, check_text
from learngate.stores.users import Users


def remember_user(state: State, *, users: Users) -> dict[str, Any]:
    """Apply the outcome's memory operations; those that cannot be stored are left out.

    What the tools noted and what the reflection found are a transaction each, under a name each.
    """
    turn, outcome = state["turn"], state["outcome"]
    assert outcome is not None
    assert turn["user_id"] is not None
    parts = {outcome["source"]: outcome["operations"]}
    if outcome.get("noted"):
        parts = {"tools": outcome["noted"], **parts}
    proposes = outcome["candidate"] is not None
    tools_propose = proposes and candidate_source(outcome) == "tools"
    for source, operations in parts.items():
        users.apply(
            turn["user_id"],
            [operation for given in operations if (operation := _sound(given)) is not None],
            source=(turn["session_id"], turn["id"]),
            effect=f"remember:{source}",
            final=source == "reflection" and not proposes,
            settles=source == "tools" and not tools_propose,
        )
    return {}


def _sound(given: dict[str, Any]) -> MemoryOperation | None:
    """Return an operation whose text can be stored; a model may name one that cannot."""
    memory_id = given.get("id")
    if memory_id is not None and not 0 < memory_id < 2**63:
        return None
    if given["op"] == "forget":
        return MemoryOperation("forget", id=memory_id)
    try:
        text = check_text(given.get("text"), what="the memory", limit=MEMORY_LIMIT)
    except InvalidInput:
        return None
    return MemoryOperation(given["op"], text=text, id=memory_id)
