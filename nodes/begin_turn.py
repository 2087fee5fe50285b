"""Begin a turn: who speaks, which message is asked, and where it stands in the session."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from langchain_core.messages import AnyMessage, BaseMessage, RemoveMessage
from langchain_core.runnables import RunnableConfig
from langgraph.graph.message import REMOVE_ALL_MESSAGES
from langgraph.runtime import Runtime

from learngate.nodes.context import Context, caller_of, session_of
from learngate.nodes.state import State, TurnState
from learngate.stores.errors import InvalidInput
from learngate.stores.sessions import Sessions


def begin_turn(
    state: State, config: RunnableConfig, runtime: Runtime[Context], *, sessions: Sessions, kept_turns: int
) -> dict[str, Any]:
    """Settle the turn and clear what the last one left in state.

    The question is the message that this run brought. Its id becomes the turn's, unless another branch has
    a turn of that id (an edited message, a fork, a regenerated answer): then it gets one of its own. A
    message that was recorded before, on this branch, is a redelivery: its recorded answer comes back.

    Raises:
        InvalidInput: there is no user message to answer.
    """
    caller = caller_of(config, runtime.context)
    session_id = session_of(config)
    question = _question(state)
    head = _head(state)
    place = sessions.place(session_id, head=head, message_id=str(question.id), keep=kept_turns)
    turn = TurnState(
        id=str(question.id),
        parent=place.head,
        session_id=session_id,
        user_id=caller.user_id,
        namespace=caller.namespace,
        redelivered=place.known == "behind",
    )
    owned = {message.id: message for message in state["messages"]}
    kept = [owned[message_id] for message_id in place.kept if message_id in owned]
    if turn["redelivered"]:
        # The recorded turn goes to the end: there callers look for their answer.
        recorded = sessions.get(session_id, turn["id"]).messages
        again = {message.id for message in recorded}
        wanted = [*(message for message in kept if message.id not in again), *recorded]
    else:
        if place.known == "elsewhere":
            turn["id"] = str(uuid4())
            question = question.model_copy(update={"id": turn["id"]})
        wanted = [*kept, *_asked(state, question)]
    return {
        "messages": rewrite(state["messages"], wanted),
        "head": place.head,
        "turn": turn,
        "recall": {"history": [], "memories": [], "learnings": []},
        "noted": None,
        "outcome": None,
        "proposal": None,
        "review": None,
    }


def rewrite(before: list[AnyMessage], after: list[BaseMessage]) -> list[BaseMessage]:
    """Return the update that turns `before` into `after`; only removals, where those are enough."""
    wanted = [message.id for message in after]
    if [message.id for message in before if message.id in set(wanted)] == wanted:
        gone = [message for message in before if message.id not in set(wanted)]
        return [RemoveMessage(id=str(message.id)) for message in gone]
    return [RemoveMessage(id=REMOVE_ALL_MESSAGES), *after]


def _question(state: State) -> BaseMessage:
    """Return the message that this run brought; without a word about it, the last that the user wrote."""
    messages = state.get("messages") or []
    delivery = state.get("delivery")
    delivered = delivery["message_id"] if delivery else None
    humans = [message for message in messages if message.type == "human"]
    if not humans:
        raise InvalidInput('there is nothing to answer: pass {"messages": [("user", "…")]}')
    # A caller who continues from an edited state (Studio's forks) brings no new delivery: then the last
    # message is the one that is asked.
    if messages[-1].type != "human":
        return next((message for message in humans if message.id == delivered), humans[-1])
    return humans[-1]


def _asked(state: State, question: BaseMessage) -> list[BaseMessage]:
    """Return the question and what stands behind it already, such as another agent's words in a parent graph.

    What an earlier, broken run of this very turn left behind it is dropped: the turn begins anew.
    """
    messages = state["messages"]
    earlier = state.get("turn")
    if earlier is not None and earlier["id"] == question.id:
        return [question]
    position = max(i for i, message in enumerate(messages) if message.type == "human")
    return [question, *messages[position + 1 :]]


def _head(state: State) -> str | None:
    """Return the branch's last turn: what state carries, else what was newest when the message came."""
    head = state.get("head")
    if head is not None:
        return head
    delivery = state.get("delivery")
    return delivery["newest"] if delivery else None
