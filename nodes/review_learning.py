"""Review the learning: pause until a human answers, and note who it was."""

from __future__ import annotations

from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.runtime import Runtime
from langgraph.types import interrupt

from learngate.nodes.context import GOES_ON, Context, caller_of
from learngate.nodes.review import Review, question
from learngate.nodes.state import State

ANONYMOUS = "anonymous"
NOT_KNOWN = (
    "the process that took the answer died, and it is not known any more who gave it: please answer once more"
)


def review_learning(state: State, config: RunnableConfig, runtime: Runtime[Context]) -> dict[str, Any]:
    """Ask at the gate. A resumed node runs again from its first line, so nothing else happens here.

    The reviewer is the server's authenticated user, else `Context.reviewer`, else the session's own user;
    never a name from the answer. It is noted with the answer, because a run that breaks between here and the
    decision goes on without their context. One that breaks before has the answer, but not who gave it: then it
    is asked for again, and not taken for somebody else's.
    """
    proposal = state["proposal"]
    assert proposal is not None
    problem = (state.get("review") or {}).get("message")
    answer = interrupt(question(proposal, problem), response_schema=Review)
    if config["configurable"].get(GOES_ON) and answer.type in {"approve", "edit", "reject"}:
        return {"review": {"type": "unclear", "message": NOT_KNOWN}}
    reviewer = caller_of(config, runtime.context).reviewer or state["turn"]["user_id"] or ANONYMOUS
    return {"review": {**answer.model_dump(), "reviewer": reviewer}}
