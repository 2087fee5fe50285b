"""Review the learning: pause until a human answers, and nothing else."""

from __future__ import annotations

from typing import Any

from langgraph.types import interrupt

from learngate.nodes.review import Review, question
from learngate.nodes.state import State


def review_learning(state: State) -> dict[str, Any]:
    """Ask at the gate. A resumed node runs again from its first line, so this one does nothing but ask."""
    proposal = state["proposal"]
    assert proposal is not None
    problem = (state.get("review") or {}).get("message")
    answer = interrupt(question(proposal, problem), response_schema=Review)
    return {"review": answer.model_dump()}
