"""What these tests share: states and runtimes made by hand, with no graph around them."""

from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langgraph.graph.message import add_messages
from langgraph.runtime import Runtime

from learngate.nodes import Context, State
from learngate.nodes.state import Outcome, TurnState, collect, merge_recall
from learngate.stores import Memory, Turn

CONFIG = {"configurable": {"thread_id": "s"}}


def runtime(context: Any = None) -> Runtime[Context]:
    return Runtime(context=context)


def turn(**fields: Any) -> TurnState:
    """Return the turn that is being answered: Ana's, in finance, the first of session `s`."""
    settled: dict[str, Any] = {
        "id": "q",
        "parent": "",
        "session_id": "s",
        "user_id": "ana",
        "namespace": "finance",
        "redelivered": False,
    }
    return TurnState(**{**settled, **fields})


def state(*messages: BaseMessage | str, **fields: Any) -> State:
    """Return a state in the middle of a turn; its messages default to one question."""
    said = [HumanMessage(m, id="q") if isinstance(m, str) else m for m in messages]
    return State(
        **{"messages": said or [HumanMessage("Which ETF?", id="q")], "turn": turn(), "recall": {}, **fields}
    )


def outcome(*operations: dict[str, Any], **fields: Any) -> Outcome:
    return Outcome(
        **{"source": "reflection", "operations": list(operations), "candidate": None, "proposer": "m", **fields}
    )


def applied(before: State, update: dict[str, Any]) -> State:
    """Return the state with a node's update in it, as a graph would reduce it."""
    after: dict[str, Any] = {**before, **update}
    if "messages" in update:
        after["messages"] = add_messages(before["messages"], update["messages"])  # type: ignore[arg-type]
    if "recall" in update:
        after["recall"] = merge_recall(before.get("recall"), update["recall"])
    if "noted" in update:
        after["noted"] = collect(before.get("noted"), update["noted"])
    return State(**after)


def record(
    memory: Memory, *questions: str, session: str = "s", user: str | None = "ana", **fields: Any
) -> list[Turn]:
    """Record past turns, one after the other."""
    return [
        memory.sessions.append(
            Turn(
                session_id=session,
                user_id=user,
                id=f"id-{question}",
                messages=(HumanMessage(question), AIMessage(f"re: {question}", id=f"a-{question}")),
                **fields,
            )
        )
        for question in questions
    ]
