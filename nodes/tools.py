"""Tools by which the model itself remembers, proposes and looks back.

What the first two note takes the same road as a reflection's; they say "noted" only of what will take effect,
and else what is wrong with it.
"""

from __future__ import annotations

from itertools import takewhile
from typing import Annotated, Any

from langchain_core.messages import ToolMessage
from langchain_core.tools import BaseTool, InjectedToolCallId, tool
from langgraph.prebuilt import InjectedState
from langgraph.types import Command

from learngate.nodes.prompts import PAST_TOOL, past_lines
from learngate.nodes.reflection import APPLIES_WHEN, MemoryChange, cleaned, weakness
from learngate.stores.errors import InvalidInput
from learngate.stores.sessions import Sessions
from learngate.stores.text import MEMORY_LIMIT, check_text, clean


@tool
def remember(
    text: str, tool_call_id: Annotated[str, InjectedToolCallId], state: Annotated[dict[str, Any], InjectedState]
) -> Command[Any]:
    """Remember a lasting fact or preference that the user stated about themselves, as one short sentence."""
    if state["turn"]["user_id"] is None:
        return _said("not noted: nobody is signed in, so there is nobody to remember it about", tool_call_id)
    try:
        checked = check_text(clean(text), what="the memory", limit=MEMORY_LIMIT)
    except InvalidInput as problem:
        return _said(f"not noted: {problem}", tool_call_id)
    operation = MemoryChange(op="add", text=checked).model_dump()
    return _said("noted", tool_call_id, noted={"operation": operation})


@tool
def propose_learning(
    title: str,
    insight: str,
    tool_call_id: Annotated[str, InjectedToolCallId],
    state: Annotated[dict[str, Any], InjectedState],
    applies_when: Annotated[str, APPLIES_WHEN] = "",
) -> Command[Any]:
    """Propose one reusable insight that would help anybody who asks something like this.

    It must be specific, actionable and general; a human reviews it before it is used.
    """
    candidate = cleaned({"title": title, "insight": insight, "applies_when": applies_when})
    reason = weakness(candidate)
    if reason is not None:
        return _said(f"not noted: {reason}", tool_call_id)
    if _earlier(state, tool_call_id):
        return _said("not noted: one learning a turn is enough, and there is one already", tool_call_id)
    return _said("noted, waiting for review", tool_call_id, noted={"candidate": candidate.model_dump()})


MEMORY_TOOLS: tuple[BaseTool, ...] = (remember, propose_learning)


PAST_HITS = 5
PAST_SEARCHES = 4
"""So many searches' budgets all searches of one turn share: a model that asks on and on fills no prompt."""


def past_sessions(sessions: Sessions, *, budget: int) -> BaseTool:
    """Return the tool that searches the past sessions of whoever speaks, within `budget` tokens a search.

    Whose they are is taken from the state that the door wrote, never from what the model asks for.
    """

    @tool(PAST_TOOL)
    def search_past_sessions(query: str, state: Annotated[dict[str, Any], InjectedState]) -> str:
        """Search what this user and you said in earlier conversations.

        Ask in a few words for what it was about; name who said it and when ("last week", "in May 2024"), if known.
        """
        turn, recall = state["turn"], state.get("recall") or {}
        if turn["user_id"] is None:
            return "not searched: nobody is signed in, so there are no past sessions of theirs"
        if budget == 0:
            return "not searched: past sessions have no room in this conversation, answer without them"
        room = _room_for_past(state, budget * 4)
        if room == 0:
            return f"not searched: {PAST_SEARCHES} searches a turn are enough, answer with what they found"
        # What the window shows whole stands in the prompt already.
        whole = [item["id"] for item in recall.get("history", []) if item["shown"] and not item.get("cut")]
        known = {(turn["session_id"], past) for past in whole}
        try:
            hits = sessions.search(clean(query), user_id=turn["user_id"], k=PAST_HITS + len(known), beside=True)
        except InvalidInput as problem:
            return f"not searched: {problem}"
        new = [hit for hit in hits if (hit.turn.session_id, hit.turn.id) not in known][:PAST_HITS]
        return "\n".join(past_lines(new, room=room)) or "nothing was found in this user's past sessions"

    return search_past_sessions


def _room_for_past(state: dict[str, Any], room: int) -> int:
    """Return how many characters one more search may say: those that are asked for at once share what is left."""
    mine = [*takewhile(lambda message: message.id != state["turn"].get("id"), reversed(state["messages"]))]
    searched = sum(isinstance(message, ToolMessage) and message.name == PAST_TOOL for message in mine)
    at_once = sum(call["name"] == PAST_TOOL for call in getattr(mine[0], "tool_calls", [])) if mine else 1
    left = max(PAST_SEARCHES - searched, 0)
    return room * left // max(at_once, left, 1)


def _earlier(state: dict[str, Any], tool_call_id: str) -> bool:
    """Whether the turn has proposed before, in an earlier round or in an earlier call of this one."""
    if any("candidate" in one for one in state.get("noted") or []):
        return True
    calls = getattr(state["messages"][-1], "tool_calls", [])
    mine = [call["id"] for call in calls if call["name"] == propose_learning.name]
    return tool_call_id in mine[1:]


def _said(words: str, tool_call_id: str, *, noted: dict[str, Any] | None = None) -> Command[Any]:
    update: dict[str, Any] = {"messages": [ToolMessage(words, tool_call_id=tool_call_id)]}
    return Command(update=update | ({"noted": [noted]} if noted else {}))
