"""Tools by which the model itself remembers and proposes; what they note takes the same road as a reflection's."""

from __future__ import annotations

from typing import Annotated, Any

from langchain_core.messages import ToolMessage
from langchain_core.tools import BaseTool, InjectedToolCallId, tool
from langgraph.types import Command

from learngate.nodes.reflection import Candidate, MemoryChange


@tool
def remember(text: str, tool_call_id: Annotated[str, InjectedToolCallId]) -> Command[Any]:
    """Remember a lasting fact or preference that the user stated about themselves, as one short sentence."""
    operation = MemoryChange(op="add", text=text).model_dump()
    return _noted({"operation": operation}, "noted", tool_call_id)


@tool
def propose_learning(
    title: str,
    insight: str,
    tool_call_id: Annotated[str, InjectedToolCallId],
    applies_when: str = "",
) -> Command[Any]:
    """Propose one reusable insight that would help anybody who asks something like this.

    It must be specific, actionable and general; a human reviews it before it is used.
    """
    candidate = Candidate(title=title, insight=insight, applies_when=applies_when).model_dump()
    return _noted({"candidate": candidate}, "noted, waiting for review", tool_call_id)


MEMORY_TOOLS: tuple[BaseTool, ...] = (remember, propose_learning)


def _noted(what: dict[str, Any], said: str, tool_call_id: str) -> Command[Any]:
    return Command(update={"noted": [what], "messages": [ToolMessage(said, tool_call_id=tool_call_id)]})
