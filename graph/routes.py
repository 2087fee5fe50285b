"""The edges that choose: pure functions of the state."""

from __future__ import annotations

from collections.abc import Sequence

from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig
from langgraph.constants import CONFIG_KEY_CHECKPOINTER
from langgraph.graph import END

from learngate.nodes.state import State

RECALL = ("load_history", "recall_user_memory", "search_learnings")
EFFECTS = ["remember_user", "propose_learning", END]


def after_begin(state: State) -> Sequence[str]:
    """Recall, unless the turn was answered before: then its recorded answer is the result."""
    return [END] if state["turn"]["redelivered"] else list(RECALL)


def after_respond(state: State) -> str:
    """Run the tools that the model asked for, else save the turn."""
    last = state["messages"][-1]
    return "tools" if isinstance(last, AIMessage) and last.tool_calls else "save_turn"


def next_effect(state: State) -> str:
    """Remember what concerns the user, then propose the candidate, as far as the turn brought either."""
    outcome = state.get("outcome")
    if outcome is None:
        return END
    if (outcome["operations"] or outcome.get("noted")) and state["turn"]["user_id"] is not None:
        return "remember_user"
    return after_remember(state)


def after_remember(state: State) -> str:
    """Propose the candidate, if the turn brought one."""
    outcome = state.get("outcome")
    return "propose_learning" if outcome is not None and outcome["candidate"] is not None else END


def after_propose(state: State, config: RunnableConfig) -> str:
    """Pause at the gate where a proposal was written, if there is a checkpointer to pause on."""
    proposal = state.get("proposal")
    if not config["configurable"].get(CONFIG_KEY_CHECKPOINTER):
        return END
    return "review_learning" if proposal is not None and proposal["status"] == "pending" else END


def after_review(state: State) -> str:
    """Ask again after an answer that cannot be read; leave the proposal in the inbox for later; else decide."""
    kind = (state.get("review") or {}).get("type")
    return {"unclear": "review_learning", "later": END}.get(str(kind), "save_learning")


def after_save_learning(state: State) -> str:
    """Ask again where the answer could not take effect."""
    return "review_learning" if state.get("review") else END
