"""Reflect: one structured model call, after the answer, that looks for what is worth keeping."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable

from learngate.nodes.flow import Call, Flow
from learngate.nodes.prompts import reflect_prompt
from learngate.nodes.reflection import Reflection
from learngate.nodes.state import Outcome, RecalledItem, State, TurnState, turn_messages
from learngate.stores.errors import ReflectionFailed
from learngate.stores.sessions import Sessions
from learngate.stores.users import Users

KNOWN_LIMIT = 50
"""How many of the user's memories a reflection is shown."""

_FENCE = re.compile(r"^\s*```(?:json)?\s*|\s*```\s*$")


def reflect(
    *, reflector: Runnable[Any, Any], proposer: str, sessions: Sessions, users: Users
) -> Callable[[State], Flow]:
    """Return the flow that reflects on the finished turn.

    `reflector` is the model bound to `Reflection`, tagged so that its JSON never streams to the user.
    """

    def flow(state: State) -> Flow:
        turn = state["turn"]
        found = yield from ask(reflector, turn_messages(state), known=_known(users, turn))
        outcome = combined(found, state.get("outcome"), proposer=proposer, user_id=turn["user_id"])
        if not (outcome["operations"] or outcome.get("noted") or outcome["candidate"]):
            sessions.mark_reflection(turn["session_id"], turn["id"], "done")
            return {"outcome": None}
        return {"outcome": outcome}

    return flow


def ask(reflector: Runnable[Any, Any], turn: Sequence[BaseMessage], *, known: Sequence[RecalledItem]) -> Any:
    """Ask for the reflection on a turn; a flow that returns a `Reflection`.

    Raises:
        ReflectionFailed: the model answered with something else.
    """
    reply = yield Call(reflector, reflect_prompt(turn=turn, known=known))
    return read_reflection(reply)


def read_reflection(reply: Any) -> Reflection:
    """Return what a structured call gave, as `include_raw` hands it over.

    Raises:
        ReflectionFailed: it cannot be read as a `Reflection`.
    """
    raw, parsed, error = reply.get("raw"), reply.get("parsed"), reply.get("parsing_error")
    said = getattr(raw, "text", "")
    if error is None and parsed is not None:
        try:
            if said and not getattr(raw, "tool_calls", None):
                # Parsers close a JSON text that was cut off; half a reflection is none.
                json.loads(_FENCE.sub("", said))
            return Reflection.model_validate(parsed)
        except ValueError as invalid:
            error = invalid
    raise ReflectionFailed(f"the model's reflection could not be read ({error or 'it was empty'}): {said[:200]!r}")


def combined(found: Reflection, noted: Outcome | None, *, proposer: str, user_id: str | None) -> Outcome:
    """Join what the reflection found with what the model's own tools noted; its tools' candidate goes first."""
    outcome = Outcome(
        source="reflection",
        operations=[change.model_dump() for change in found.memories] if user_id is not None else [],
        candidate=found.learning.model_dump() if found.learning is not None else None,
        proposer=proposer,
    )
    if noted is not None:
        outcome["noted"] = noted["operations"] if user_id is not None else []
        if noted["candidate"] is not None:
            outcome["candidate"], outcome["candidate_source"] = noted["candidate"], "tools"
    return outcome


def _known(users: Users, turn: TurnState) -> list[RecalledItem]:
    """Return the user's memories, the latest of them, so that the reflection can correct them.

    What this very turn brought is left out: a reflection that is taken again is asked the same as before.
    """
    if turn["user_id"] is None:
        return []
    return [
        RecalledItem(kind="memory", id=memory.id, text=memory.text, shown=True)
        for memory in users.list(turn["user_id"], limit=KNOWN_LIMIT)
        if (memory.source_session, memory.source_turn) != (turn["session_id"], turn["id"])
    ]
