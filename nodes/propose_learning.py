"""Propose a learning: screen the candidate, look for its like, write the pending proposal."""

from __future__ import annotations

from typing import Any

from learngate.nodes.reflection import cleaned, weakness
from learngate.nodes.state import ProposalState, State, candidate_source, turn_messages
from learngate.stores.learnings import Learnings
from learngate.stores.records import Excerpt, Proposal, ProposalDraft
from learngate.stores.sessions import Sessions

EXCERPT_LIMIT = 600


def propose_learning(state: State, *, learnings: Learnings, sessions: Sessions) -> dict[str, Any]:
    """Put the turn's candidate into the inbox, unless it is not a good learning or its like is known."""
    turn, outcome = state["turn"], state["outcome"]
    assert outcome is not None
    assert outcome["candidate"] is not None
    candidate = cleaned(outcome["candidate"])
    final = outcome["source"] == "reflection"
    source = candidate_source(outcome)
    if weakness(candidate) is not None:
        sessions.settle(turn["session_id"], turn["id"], reflected=final)
        return {"proposal": None}
    question = turn_messages(state)[0]
    proposal = learnings.propose_once(
        ProposalDraft(
            title=candidate.title,
            insight=candidate.insight,
            applies_when=candidate.applies_when,
            rationale=candidate.rationale,
            excerpts=(
                Excerpt(
                    text=question.text[:EXCERPT_LIMIT],
                    speaker=turn["user_id"] or "user",
                    user_id=turn["user_id"],
                    session_id=turn["session_id"],
                    turn_id=turn["id"],
                ),
            ),
        ),
        namespace=turn["namespace"],
        proposer=outcome["proposer"],
        user_id=turn["user_id"],
        source=(turn["session_id"], turn["id"]),
        effect=f"propose:{source}",
        final=final,
        settles=source == "tools",
    )
    return {"proposal": None if proposal is None else as_state(proposal, learnings)}


def as_state(proposal: Proposal, learnings: Learnings) -> ProposalState:
    """Return a proposal as a reviewer sees it, with the nearest learnings that exist."""
    near = learnings.search(f"{proposal.title}\n{proposal.insight}", namespace=proposal.namespace, k=3, floor=False)
    return ProposalState(
        id=proposal.id,
        status=proposal.status,
        namespace=proposal.namespace,
        title=proposal.title,
        insight=proposal.insight,
        applies_when=proposal.applies_when,
        rationale=proposal.rationale,
        proposer=proposal.proposer,
        excerpts=[excerpt.text for excerpt in proposal.excerpts],
        nearest=[
            {"id": hit.learning.id, "title": hit.learning.title, "similarity": round(hit.dense, 2)}
            for hit in near
            if hit.dense >= NEAR
        ],
        learning_id=proposal.learning_id,
        decided_by=None,
    )


NEAR = 0.35
"""Cosine from which an existing learning is worth a reviewer's look."""
