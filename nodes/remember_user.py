"""Remember the user: apply what a turn brought about them, exactly once."""

from __future__ import annotations

from typing import Any

from learngate.nodes.state import State
from learngate.stores.errors import InvalidInput
from learngate.stores.records import MemoryOperation
from learngate.stores.text import MEMORY_LIMIT, check_text
from learngate.stores.users import Users


def remember_user(state: State, *, users: Users) -> dict[str, Any]:
    """Apply the outcome's memory operations in one transaction; those that cannot be stored are left out."""
    turn, outcome = state["turn"], state["outcome"]
    assert outcome is not None
    assert turn["user_id"] is not None
    reflected = outcome["source"] == "reflection"
    users.apply(
        turn["user_id"],
        [operation for given in outcome["operations"] if (operation := _sound(given)) is not None],
        source=(turn["session_id"], turn["id"]),
        effect=f"remember:{outcome['source']}",
        final=reflected and outcome["candidate"] is None,
    )
    return {}


def _sound(given: dict[str, Any]) -> MemoryOperation | None:
    """Return an operation whose text can be stored; a model may name one that cannot."""
    if given["op"] == "forget":
        return MemoryOperation("forget", id=given.get("id"))
    try:
        text = check_text(given.get("text"), what="the memory", limit=MEMORY_LIMIT)
    except InvalidInput:
        return None
    return MemoryOperation(given["op"], text=text, id=given.get("id"))
