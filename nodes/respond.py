"""Respond: one model call on what was recalled, the window and this turn's own messages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage
from langchain_core.runnables import Runnable

from learngate.nodes.flow import Call, Flow
from learngate.nodes.prompts import answer_prompt
from learngate.nodes.state import State, turn_messages
from learngate.stores.sessions import Sessions


def respond(
    *,
    model: Runnable[Any, Any],
    model_with_tools: Runnable[Any, Any],
    sessions: Sessions,
    instructions: str,
    history_budget: int,
    max_tool_rounds: int,
) -> Callable[[State], Flow]:
    """Return the flow that answers.

    After `max_tool_rounds` rounds of tools the model is asked without them, so that it has to answer.
    """

    def flow(state: State) -> Flow:
        recall = state["recall"]
        past = [str(item["id"]) for item in recall.get("history", []) if item["shown"]]
        mine = turn_messages(state)
        prompt = answer_prompt(
            instructions=instructions,
            window=sessions.turns(state["turn"]["session_id"], past, recalled=False),
            recall=recall,
            turn=mine,
            room=history_budget * 4,
        )
        last = tool_rounds(mine) >= max_tool_rounds
        answer: AIMessage = yield Call(model if last else model_with_tools, prompt)
        if last and answer.tool_calls:
            answer = AIMessage(
                answer.text or f"I stopped after {max_tool_rounds} rounds of tools without an answer.",
                id=answer.id,
                usage_metadata=answer.usage_metadata,
            )
        return {"messages": [answer]}

    return flow


def tool_rounds(turn: list[AnyMessage]) -> int:
    """Return how often the model has asked for tools in this turn."""
    return sum(1 for message in turn if isinstance(message, AIMessage) and message.tool_calls)
