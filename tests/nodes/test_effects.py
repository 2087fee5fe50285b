"""remember_user, propose_learning and save_learning, called by hand: each takes effect exactly once."""

from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage

from learngate.nodes import State, propose_learning, remember_user, save_learning
from learngate.stores import Decision, Memory, ProposalDraft
from tests.nodes.support import outcome, record, state, turn

INSIGHT = "When comparing ETFs, check both expense ratio and tracking error."
CANDIDATE = {"title": "ETFs", "insight": INSIGHT, "applies_when": "comparing ETFs", "rationale": "She asked."}


def after(**fields: Any) -> State:
    """Return the state after a recorded turn."""
    messages = HumanMessage("1", id="id-1"), AIMessage("re: 1", id="a-1")
    return state(*messages, turn=turn(id="id-1"), **fields)


@pytest.fixture(autouse=True)
def recorded(memory: Memory) -> None:
    record(memory, "1", reflection="pending")


def reflection_of(memory: Memory) -> str:
    return memory.sessions.get("s", "id-1").reflection


# -- remember_user -----------------------------------------------------------------------------------------


def test_operations_are_applied_once(memory: Memory) -> None:
    given = after(outcome=outcome({"op": "add", "text": "Ana cycles."}))
    assert remember_user(given, users=memory.users) == {}
    memory.users.forget("ana", 1)
    assert remember_user(given, users=memory.users) == {}
    assert memory.users.list("ana") == []
    assert reflection_of(memory) == "done"


def test_with_a_candidate_to_come_the_reflection_is_not_done_yet(memory: Memory) -> None:
    given = after(outcome=outcome({"op": "add", "text": "Ana cycles."}, candidate=CANDIDATE))
    remember_user(given, users=memory.users)
    assert reflection_of(memory) == "pending"


def test_what_tools_noted_does_not_end_a_reflection(memory: Memory) -> None:
    noted = outcome({"op": "add", "text": "Ana cycles."}, source="tools")
    remember_user(after(outcome=noted), users=memory.users)
    assert reflection_of(memory) == "pending"
    # And is apart from what the reflection brings later.
    remember_user(after(outcome=outcome({"op": "add", "text": "Ana is brisk."})), users=memory.users)
    assert {one.text for one in memory.users.list("ana")} == {"Ana cycles.", "Ana is brisk."}


@pytest.mark.parametrize("text", [None, "", "  ", "a\x00b", "\ud800", "x" * 100_000, 5], ids=lambda t: repr(t)[:12])
def test_what_cannot_be_stored_is_left_out(memory: Memory, text: Any) -> None:
    operations = {"op": "add", "text": text}, {"op": "update", "id": 1, "text": text}, {"op": "add", "text": "Yes."}
    remember_user(after(outcome=outcome(*operations)), users=memory.users)
    assert [one.text for one in memory.users.list("ana")] == ["Yes."]


# -- propose_learning ----------------------------------------------------------------------------------------


def propose(memory: Memory, **fields: Any) -> Any:
    given = after(outcome=outcome(**{"candidate": CANDIDATE, **fields}))
    return propose_learning(given, learnings=memory.learnings, sessions=memory.sessions)["proposal"]


def test_a_candidate_becomes_a_pending_proposal_with_its_excerpt(memory: Memory) -> None:
    shown = propose(memory)
    assert (shown["id"], shown["status"], shown["insight"], shown["proposer"]) == (1, "pending", INSIGHT, "m")
    assert shown["excerpts"] == ["1"]
    proposal = memory.learnings.proposal(1)
    assert (proposal.session_id, proposal.turn_id, proposal.user_id) == ("s", "id-1", "ana")
    assert proposal.excerpts[0].speaker == "ana"
    assert reflection_of(memory) == "done"


def test_twice_is_once_and_gives_the_same_proposal(memory: Memory) -> None:
    assert propose(memory) == propose(memory)
    other = {**CANDIDATE, "insight": "Before comparing bond ETFs, match their average duration."}
    # A model that is asked again may word it anew: what the turn proposed first is what it proposed.
    assert propose(memory, candidate=other) is None
    assert len(memory.learnings.pending(namespace="finance")) == 1


def test_a_weak_candidate_is_not_proposed(memory: Memory) -> None:
    assert propose(memory, candidate={"title": "t", "insight": "Check costs."}) is None
    assert reflection_of(memory) == "done"
    assert memory.learnings.pending(namespace="finance") == []


def test_a_weak_candidate_of_the_tools_leaves_the_reflection_pending(memory: Memory) -> None:
    assert propose(memory, candidate={"title": "t", "insight": "Check costs."}, source="tools") is None
    assert reflection_of(memory) == "pending"


def test_what_is_known_is_not_proposed(memory: Memory) -> None:
    memory.learnings.add(ProposalDraft("Other title", INSIGHT.lower()), namespace="finance", actor="kim")
    assert propose(memory) is None
    assert reflection_of(memory) == "done"


def test_near_learnings_are_shown_and_far_ones_are_not(memory: Memory) -> None:
    near = "When comparing ETFs, check the expense ratio and the cost."
    for insight in (near, "Bread rises better in a warm kitchen overnight."):
        memory.learnings.add(ProposalDraft(insight[:10], insight), namespace="finance", actor="kim")
    [shown] = propose(memory)["nearest"]
    assert (shown["id"], shown["title"]) == (1, near[:10])
    assert shown["similarity"] >= 0.35


def test_a_long_question_is_quoted_in_part(memory: Memory) -> None:
    given = after(outcome=outcome(candidate=CANDIDATE))
    given["messages"] = [HumanMessage("w" * 5_000, id="id-1")]
    shown = propose_learning(given, learnings=memory.learnings, sessions=memory.sessions)["proposal"]
    assert shown["excerpts"] == ["w" * 600]


# -- save_learning -------------------------------------------------------------------------------------------


def save(memory: Memory, shown: Any, reviewer: str = "kim", **review: Any) -> dict[str, Any]:
    given = after(proposal=shown, review={**review, "reviewer": reviewer})
    return save_learning(given, learnings=memory.learnings)


def test_an_approval_is_saved_once(memory: Memory) -> None:
    shown = propose(memory)
    first = save(memory, shown, type="approve")
    assert first["review"] is None
    assert (first["proposal"]["status"], first["proposal"]["learning_id"]) == ("approved", 1)
    assert first["proposal"]["decided_by"] == "kim"
    assert save(memory, shown, "mallory", type="reject") == first
    assert len(memory.learnings.history(1)) == 1


def test_an_edit_and_a_rejection(memory: Memory) -> None:
    shown = propose(memory)
    edited = save(memory, shown, type="edit", insight="Check the expense ratio of both funds.", title=None)
    assert edited["proposal"]["status"] == "approved"
    assert memory.learnings.get(1).insight == "Check the expense ratio of both funds."
    memory.learnings.propose(ProposalDraft("Bonds", "Match the duration of both funds."), namespace="finance")
    rejected = save(memory, {**shown, "id": 2}, type="reject", message="no")
    assert (rejected["proposal"]["status"], rejected["proposal"]["learning_id"]) == ("rejected", None)
    assert memory.learnings.decision(2).note == "no"


@pytest.mark.parametrize(
    ("review", "says"),
    [
        ({"type": "edit", "insight": ""}, "insight is empty"),
        ({"type": "edit", "title": "x" * 500}, "at most 200"),
        ({"type": "reject", "message": "\x00"}, "NUL"),
        ({"type": "decided"}, "has not been decided"),
        ({"type": "unclear", "message": "?"}, "has not been decided"),
        ({"type": "later"}, "has not been decided"),
    ],
    ids=repr,
)
def test_what_cannot_take_effect_is_asked_again(memory: Memory, review: dict[str, Any], says: str) -> None:
    update = save(memory, propose(memory), **review)
    assert update["review"]["type"] == "unclear"
    assert says in update["review"]["message"]
    assert memory.learnings.proposal(1).status == "pending"


def test_what_was_decided_in_the_inbox_is_found(memory: Memory) -> None:
    shown = propose(memory)
    memory.learnings.decide(1, Decision.reject("no"), reviewer="lee")
    for kind in ("decided", "approve", "reject"):
        proposal = save(memory, shown, type=kind)["proposal"]
        assert (proposal["status"], proposal["decided_by"]) == ("rejected", "lee")
