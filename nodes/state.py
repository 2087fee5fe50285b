"""What a turn carries from node to node: small, JSON-native, and the same after every stop."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from langchain_core.messages import AnyMessage
from langgraph.graph.message import add_messages
from typing_extensions import TypedDict


class Delivery(TypedDict):
    """Which message a run brought, from whom, and what the session's newest turn was then (`""`: none).

    `forks`: the run names the checkpoint that it goes back to.

    It is written with the input, so that a run that was stopped before its first node still knows.
    """

    message_id: str
    newest: str
    forks: bool
    user_id: str | None
    namespace: str


class TurnState(TypedDict):
    """The turn that is being answered, and whose it is."""

    id: str
    parent: str
    session_id: str
    user_id: str | None
    namespace: str
    redelivered: bool


class RecalledItem(TypedDict):
    """One thing put before the model; not `shown` where the budget had ended, `cut` where it ended within."""

    kind: Literal["turn", "memory", "learning"]
    id: str | int
    text: str
    shown: bool
    cut: NotRequired[bool]
    revision: NotRequired[int]
    score: NotRequired[float]
    title: NotRequired[str]
    why: NotRequired[str]
    tokens: NotRequired[int]


class Recall(TypedDict, total=False):
    """What was recalled for this turn, by kind."""

    history: list[RecalledItem]
    memories: list[RecalledItem]
    learnings: list[RecalledItem]
    notes: dict[str, str]
    """By kind, why it was not searched by the chosen embedder; only where it was not."""
    query: str
    """What learnings were searched for, where that was more than the message."""


class Outcome(TypedDict):
    """What a turn brought: memory operations and at most one candidate learning.

    `source` says whether the reflection found it or the model's own tools noted it. A reflection's outcome
    carries what the tools noted apart, in `noted` and `candidate_source`: it takes effect under a name of its
    own, so that neither hides the other when a turn is reflected on again.
    """

    source: Literal["reflection", "tools"]
    operations: list[dict[str, Any]]
    candidate: dict[str, Any] | None
    proposer: str
    noted: NotRequired[list[dict[str, Any]]]
    candidate_source: NotRequired[Literal["reflection", "tools"]]


class ProposalState(TypedDict):
    """The proposal of this turn as a reviewer sees it, and what became of it."""

    id: int
    status: str
    namespace: str
    title: str
    insight: str
    applies_when: str
    rationale: str
    proposer: str
    excerpts: list[str]
    nearest: list[dict[str, Any]]
    learning_id: int | None
    decided_by: str | None


def merge_recall(old: Recall | None, new: Recall | None) -> Recall:
    """Let the three recalling nodes, side by side, each write their own kind; all kinds at once begin anew."""
    old, new = old or {}, new or {}
    if new.keys() >= {"history", "memories", "learnings"}:
        return new
    merged: Recall = {**old, **new}
    if "notes" in merged:
        merged["notes"] = {**old.get("notes", {}), **new.get("notes", {})}
    return merged


def noted(kind: Literal["memories", "learnings"], items: list[RecalledItem], note: str) -> Recall:
    """Return what a node recalled of a kind, with its note if there is one."""
    recalled: Recall = {"memories": items} if kind == "memories" else {"learnings": items}
    if note:
        recalled["notes"] = {kind: note}
    return recalled


def collect(old: list[dict[str, Any]] | None, new: list[dict[str, Any]] | None) -> list[dict[str, Any]]:
    """Append what tools noted; `None` starts anew."""
    return [] if new is None else [*(old or []), *new]


class Input(TypedDict):
    """What a run takes: the user's message."""

    messages: Annotated[list[AnyMessage], add_messages]
    delivery: NotRequired[Delivery]


class Output(TypedDict):
    """What a run gives: the messages, what was recalled, and the proposal if there is one."""

    messages: Annotated[list[AnyMessage], add_messages]
    recall: Annotated[Recall, merge_recall]
    proposal: ProposalState | None


class State(TypedDict, total=False):
    """Everything between input and output. `messages` is what UIs show; prompts are built from SQL."""

    messages: Annotated[list[AnyMessage], add_messages]
    delivery: Delivery
    head: str | None
    turn: TurnState
    recall: Annotated[Recall, merge_recall]
    noted: Annotated[list[dict[str, Any]], collect]
    outcome: Outcome | None
    proposal: ProposalState | None
    review: dict[str, Any] | None


def candidate_source(outcome: Outcome) -> Literal["reflection", "tools"]:
    """Return who brought the candidate: what the outcome says of it, else the outcome's own source."""
    return outcome.get("candidate_source", outcome["source"])


def turn_messages(state: State) -> list[AnyMessage]:
    """Return this turn's own messages: the user's and all that has answered it so far."""
    messages = state["messages"]
    start = next(i for i, message in enumerate(messages) if message.id == state["turn"]["id"])
    return list(messages[start:])
