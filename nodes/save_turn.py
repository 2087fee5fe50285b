"""Save the turn: before anything that may still fail, losslessly and exactly once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from langchain_core.messages import AIMessage, BaseMessage, RemoveMessage
from langchain_core.messages.ai import add_usage
from langchain_core.runnables import RunnableConfig

from learngate.nodes.state import Outcome, State, turn_messages
from learngate.stores.records import Recalled, ReflectionStatus, Turn
from learngate.stores.sessions import Sessions


def save_turn(
    state: State, config: RunnableConfig, *, sessions: Sessions, reflection: ReflectionStatus, proposer: str
) -> dict[str, Any]:
    """Record the turn and move the head to it; what the model's tools noted becomes the turn's outcome."""
    turn, mine = state["turn"], turn_messages(state)
    noted = _noted(state, proposer)
    earlier = sessions.record(
        Turn(
            session_id=turn["session_id"],
            messages=tuple(mine),
            id=turn["id"],
            user_id=turn["user_id"],
            namespace=turn["namespace"],
            parent=turn["parent"],
            reflection=reflection,
            checkpoint_id=config.get("configurable", {}).get("checkpoint_id"),
            usage=_usage(mine),
            noted=cast("dict[str, Any] | None", noted),
            recalled=_recalled(state),
        )
    )
    update: dict[str, Any] = {"head": turn["id"], "outcome": noted}
    stored = [message.id for message in (earlier.messages if earlier else mine)]
    if earlier is not None and stored != [message.id for message in mine]:
        # The same turn was delivered twice at once and the other run was first: its answer stands.
        gone = [RemoveMessage(id=str(message.id)) for message in mine if message.id not in stored]
        update["messages"] = [*gone, *earlier.messages]
    return update


def _noted(state: State, proposer: str) -> Outcome | None:
    noted = state.get("noted") or []
    if not noted:
        return None
    candidates = [one["candidate"] for one in noted if "candidate" in one]
    return Outcome(
        source="tools",
        operations=[one["operation"] for one in noted if "operation" in one],
        candidate=candidates[0] if candidates else None,
        proposer=proposer,
    )


def _recalled(state: State) -> tuple[Recalled, ...]:
    recall = state["recall"]
    return tuple(
        Recalled(
            kind="memory" if item["kind"] == "memory" else "learning",
            id=int(item["id"]),
            revision=item.get("revision", 1),
            score=item.get("score", 0.0),
            shown=item["shown"],
        )
        for item in [*recall.get("memories", []), *recall.get("learnings", [])]
    )


def _usage(mine: Sequence[BaseMessage]) -> dict[str, Any] | None:
    total = None
    for message in mine:
        if isinstance(message, AIMessage) and message.usage_metadata:
            total = add_usage(total, message.usage_metadata)
    return dict(total) if total else None
