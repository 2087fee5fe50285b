"""Save the learning: the decision and its effect in one transaction, claimed once."""

from __future__ import annotations

from typing import Any

from learngate.nodes.review import HOW_TO_ANSWER, Review
from learngate.nodes.state import ProposalState, State
from learngate.stores.errors import AlreadyDecided, Conflict, InvalidInput, NotFound
from learngate.stores.learnings import Learnings


def save_learning(state: State, *, learnings: Learnings) -> dict[str, Any]:
    """Take the reviewer's decision, or find the one that was taken in the inbox meanwhile.

    An answer that cannot take effect is asked for again, with the reason.
    """
    proposal, answered = state["proposal"], state["review"]
    assert proposal is not None
    assert answered is not None
    review = Review.model_validate(answered)
    if review.type in {"approve", "edit", "reject"}:
        try:
            seen = (proposal["title"], proposal["insight"], proposal["applies_when"])
            learnings.decide(proposal["id"], review.decision(), reviewer=answered["reviewer"], seen=seen)
        except AlreadyDecided:
            pass  # in the inbox, or by a racing resume: what was decided first stands, and is reported below
        except (InvalidInput, Conflict) as problem:
            return _again(str(problem))
    try:
        return {"proposal": _decided(proposal, learnings), "review": None}
    except NotFound:
        return _again(f"proposal {proposal['id']} has not been decided: {HOW_TO_ANSWER}")


def _decided(proposal: ProposalState, learnings: Learnings) -> ProposalState:
    taken = learnings.decision(proposal["id"])
    decided = ProposalState(**proposal)
    decided["status"] = "rejected" if taken.type == "reject" else "approved"
    decided["decided_by"] = taken.reviewer
    decided["learning_id"] = taken.learning_id
    return decided


def _again(problem: str) -> dict[str, Any]:
    return {"review": {"type": "unclear", "message": problem}}
