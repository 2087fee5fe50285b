"""Begin a turn: who speaks, which message is asked, and where it stands in the session."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from langchain_core.messages import AnyMessage, BaseMessage, RemoveMessage
from langchain_core.runnables import RunnableConfig
from langgraph.graph.message import REMOVE_ALL_MESSAGES
from langgraph.runtime import Runtime

from learngate.nodes.context import GOES_ON, Context, caller_of, session_of
from learngate.nodes.state import State, TurnState
from learngate.stores.errors import InvalidInput
from learngate.stores.records import ROOT, Turn
from learngate.stores.sessions import Placement, Sessions

LEFT = ("noted", "outcome", "proposal", "review")
"""What the last turn may have left."""


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
    session_id = session_of(config)
    user_id, namespace = _speaker(state, config, runtime, sessions)
    question = _question(state)
    place = sessions.place(session_id, head=_head(state), message_id=str(question.id), keep=kept_turns)
    recorded = _recorded(state, question, config, place, sessions)
    owned = {message.id: message for message in state["messages"]}
    kept = [owned[message_id] for message_id in place.kept if message_id in owned]
    head = place.head
    if recorded is not None:
        head = recorded.id if place.known == "elsewhere" else head
        # The recorded turn goes to the end: there callers look for their answer.
        again = {message.id for message in recorded.messages}
        wanted = [*(message for message in kept if message.id not in again), *recorded.messages]
    else:
        if place.known == "elsewhere":
            question = question.model_copy(update={"id": str(uuid4())})
        wanted = [*kept, *_asked(state, question)]
    turn = TurnState(
        id=str(question.id),
        parent=place.head,
        session_id=session_id,
        user_id=user_id,
        namespace=namespace,
        redelivered=recorded is not None,
    )
    return {
        "messages": rewrite(state["messages"], wanted),
        "head": head,
        "turn": turn,
        "recall": {"history": [], "memories": [], "learnings": []},
        # A checkpoint keeps what is written: nothing is not written over nothing, but once where there was no key.
        **{key: None for key in LEFT if state.get(key, ...) not in (None, [])},
    }


def rewrite(before: list[AnyMessage], after: list[BaseMessage]) -> list[BaseMessage]:
    """Return the update that turns `before` into `after`; no more of it than is needed."""
    wanted = [message.id for message in after]
    if [message.id for message in before if message.id in set(wanted)] == wanted:
        gone = [RemoveMessage(id=str(message.id)) for message in before if message.id not in set(wanted)]
        there = {message.id: message.content for message in before}
        # A message that was delivered again in other words: what is recorded stands.
        return [*gone, *(message for message in after if message.content != there[message.id])]
    return [RemoveMessage(id=REMOVE_ALL_MESSAGES), *after]


def _question(state: State) -> BaseMessage:
    """Return the message that this run brought; without a word about it, the last that the user wrote."""
    messages = state.get("messages") or []
    humans = [message for message in messages if message.type == "human"]
    if not humans:
        raise InvalidInput('there is nothing to answer: pass {"messages": [("user", "…")]}')
    last, delivery, earlier = humans[-1], state.get("delivery"), state.get("turn")
    delivered = next((m for m in humans if delivery is not None and m.id == delivery["message_id"]), last)
    # A message delivered again stands where it stood, before the answers since, or before what a failed turn
    # left behind. A caller who wrote a message into the state (Studio's forks) delivered none: then it is last.
    left_behind = earlier is not None and earlier["id"] == last.id
    return delivered if messages[-1].type != "human" or left_behind else last


def _speaker(
    state: State, config: RunnableConfig, runtime: Runtime[Context], sessions: Sessions
) -> tuple[str | None, str]:
    """Return whose turn it is, and the namespace that serves it: as when the message came.

    A run that goes on after a stop, or answers again, comes without a context.
    """
    delivery = state.get("delivery")
    if delivery is not None:
        return delivery["user_id"], delivery["namespace"]
    # Studio's forks edit the state and go on from it: no input, so no delivery, and often no context either.
    caller, standing = caller_of(config, runtime.context), sessions.standing(session_of(config))
    return (caller.user_id if standing is None else standing.owner), caller.namespace


def _asked(state: State, question: BaseMessage) -> list[BaseMessage]:
    """Return the question and what stands behind it already, such as another agent's words in a parent graph.

    What an earlier, broken run of this very turn left behind it is dropped: the turn begins anew.
    """
    messages = state["messages"]
    earlier = state.get("turn")
    position = max(i for i, message in enumerate(messages) if message.type == "human")
    if earlier is not None and earlier["id"] == messages[position].id:
        return [question]
    return [question, *messages[position + 1 :]]


def _head(state: State) -> str | None:
    """Return the branch's last turn: what state carries, else what was newest when the message came.

    A process that died between recording its turn and the next checkpoint left the head behind that turn.
    A fork that edits the first message has neither, and begins anew.
    """
    head, earlier, delivery = state.get("head"), state.get("turn"), state.get("delivery")
    newest = delivery["newest"] if delivery else ROOT
    if head is None or (earlier is not None and earlier["id"] == newest):
        return newest
    return head


def _recorded(
    state: State, question: BaseMessage, config: RunnableConfig, place: Placement, sessions: Sessions
) -> Turn | None:
    """Return the turn that answered this very message before, on this branch, if one did.

    Where the process died with its checkpoint unwritten, or another run answers the same message at this
    moment, the head does not know of that turn: then the message is a redelivery if its turn follows the head,
    says the same, and is the newest of all or was recorded after this run had begun.
    """
    if place.known == "new":
        return None
    turn = sessions.get(session_of(config), str(question.id))
    if place.known == "behind":
        return turn
    delivery = state.get("delivery")
    if delivery is None or turn.parent != place.head:
        return None
    lost = delivery["newest"] == turn.id
    # One that goes back to a checkpoint is to answer anew what had been answered when it began.
    goes_back = delivery.get("forks") or config["configurable"].get(GOES_ON)
    raced = delivery["newest"] == turn.parent and not goes_back
    return turn if (lost or raced) and turn.messages[0].content == question.content else None
