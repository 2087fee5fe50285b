"""The gate: every answer that people and UIs send, and what a nonsense answer does (ask again, lose nothing)."""

import json
from typing import Any

import pytest
from langgraph.types import Command

from learngate.graph import Context, build_graph
from learngate.graph.scripted import ScriptedChat
from learngate.stores import Conflict, Decision, InvalidInput, Memory, NotFound, ProposalDraft
from tests.graph.support import ANA, INSIGHT, everything, proposing, rows, say, spoken, thread

EDITED = "When comparing ETFs, check the expense ratio first."
WORDS = {"title": "ETFs", "insight": EDITED}
S = thread("s")


@pytest.fixture
def graph(memory: Memory) -> Any:
    """A graph whose thread waits at the gate."""
    graph = build_graph(memory, model=proposing(applies_when="comparing ETFs"))
    graph.invoke(say("How do I go about comparing ETFs?"), S, context=ANA)
    return graph


def waits(graph: Any) -> dict[str, Any]:
    [interrupt] = graph.get_state(S).interrupts
    return interrupt.value


APPROVALS = [
    "approve", "Approve", " approve ", "accept", "yes", "y", "ok", '"approve"', True,
    {"type": "approve"}, {"type": "APPROVE"}, {"decision": "approve"}, {"type": "accept", "args": None},
    {"decisions": [{"type": "approve"}]}, {"decisions": {"type": "approve"}}, [{"type": "approve"}],
    [{"type": "accept", "args": None}], [{"type": "accept", "args": {"action": "save_learning", "args": WORDS}}],
    ["approve"], [True], '{"type": "approve"}', '{"decisions": [{"type": "approve"}]}', '["approve"]',
]  # fmt: skip
REJECTIONS = [
    ("reject", None), ("no", None), ("n", None), (False, None), ({"type": "reject"}, None),
    ({"type": "reject", "message": "too vague"}, "too vague"),
    ({"decisions": [{"type": "reject", "message": "too vague"}]}, "too vague"),
    ({"decisions": [{"type": "respond", "message": "too vague"}]}, "too vague"),
    ({"type": "reject", "note": "too vague"}, "too vague"),
    ([{"type": "response", "args": "too vague"}], "too vague"),
    ([{"type": "response", "args": {"why": "vague"}}], '{"why": "vague"}'),
    ('{"type": "reject", "message": "too vague"}', "too vague"),
]  # fmt: skip
EDITS = [
    {"type": "edit", "edited_action": {"name": "save_learning", "args": WORDS}},
    {"type": "edit", "edited_action": {"name": "save_learning", "arguments": WORDS}},
    {"type": "edit", "editedAction": {"name": "save_learning", "args": json.dumps(WORDS)}},
    {"type": "edit", "edited_action": json.dumps({"name": "save_learning", "args": WORDS})},
    {"decisions": [{"type": "edit", "edited_action": {"name": "save_learning", "args": WORDS}}]},
    [{"type": "edit", "args": {"action": "save_learning", "args": WORDS}}],
    [{"type": "edit", "args": {"action": "save_learning", "args": json.dumps(WORDS)}}],
    {"type": "edit", "args": WORDS},
    {"type": "edit", **WORDS},
    {"type": "edit", "insight": EDITED},
    json.dumps({"type": "edit", "edited_action": {"name": "save_learning", "args": WORDS}}),
]
NONSENSE = [
    0, 1, 3.5, [], "", "   ", "maybe", "approve!", "{", "[", '{"type": ', b"approve", {"type": "dance"},
    {"type": None}, {"type": ["approve"]}, {"no": "type"}, {"decisions": []}, {"decisions": None},
    {"decisions": "dance"}, [{"type": "approve"}, {"type": "reject"}], [[]], [None], "edit", {"type": "edit"},
    {"type": "edit", "args": None},
    {"type": "edit", "edited_action": "not json"}, {"type": "edit", "edited_action": 5},
    {"type": "edit", "edited_action": {"name": "save_learning", "args": {}}},
    {"type": "edit", "edited_action": {"name": "save_learning", "args": []}},
    {"type": "edit", "insight": 5}, {"type": "edit", "insight": ["a"]}, {"type": "edit", "insight": ""},
    {"type": "edit", "insight": "   "}, {"type": "edit", "title": ""}, {"type": "edit", "insight": "x" * 100_000},
    {"type": "edit", "title": "x" * 1_000}, {"type": "edit", "insight": "a\x00b"},
    {"type": "edit", "insight": "a\ud800b"}, {"type": "edit", "title": "\udfff"},
    {"type": "approve", "message": "x" * 100_000}, {"type": "reject", "message": "a\x00b"},
    {"type": "reject", "message": "a\ud800b"}, "\ud800", "\x00", {"type": "\ud800"}, "[" * 100_000,
]  # fmt: skip


@pytest.mark.parametrize("answer", APPROVALS, ids=repr)
def test_an_approval(graph: Any, memory: Memory, answer: Any) -> None:
    result = graph.invoke(Command(resume=answer), S)
    assert "__interrupt__" not in result
    assert result["proposal"]["status"] == "approved"
    [learning] = memory.learnings.list(namespace="finance")
    assert (learning.insight, learning.revision) == (INSIGHT, 1)
    assert memory.learnings.decision(1).type == "approve"
    assert memory.learnings.decision(1).note is None


@pytest.mark.parametrize(("answer", "note"), REJECTIONS, ids=repr)
def test_a_rejection(graph: Any, memory: Memory, answer: Any, note: str | None) -> None:
    result = graph.invoke(Command(resume=answer), S)
    assert "__interrupt__" not in result
    assert (result["proposal"]["status"], result["proposal"]["learning_id"]) == ("rejected", None)
    assert memory.learnings.list(namespace="finance", status=None) == []
    decision = memory.learnings.decision(1)
    assert (decision.type, decision.note) == ("reject", note)


@pytest.mark.parametrize("answer", EDITS, ids=repr)
def test_an_edit(graph: Any, memory: Memory, answer: Any) -> None:
    result = graph.invoke(Command(resume=answer), S)
    assert result["proposal"]["status"] == "approved"
    [learning] = memory.learnings.list(namespace="finance")
    assert (learning.title, learning.insight, learning.applies_when) == ("ETFs", EDITED, "comparing ETFs")
    assert memory.learnings.decision(1).type == "edit"
    # The proposal keeps the words in which it was made.
    assert memory.learnings.proposal(1).insight == INSIGHT


@pytest.mark.parametrize("answer", NONSENSE, ids=lambda answer: repr(answer)[:60])
def test_nonsense_asks_again_with_the_reason_and_loses_nothing(graph: Any, memory: Memory, answer: Any) -> None:
    before = rows(memory)
    result = graph.invoke(Command(resume=answer), S)
    [asked] = result["__interrupt__"]
    assert asked.value["problem"]
    assert asked.value["problem"] in asked.value["action_requests"][0]["description"]
    assert rows(memory) == before
    # And the gate still takes an answer.
    assert graph.invoke(Command(resume="approve"), S)["proposal"]["status"] == "approved"
    assert [one.insight for one in memory.learnings.list(namespace="finance")] == [INSIGHT]


def test_nonsense_after_nonsense(graph: Any, memory: Memory) -> None:
    for answer in ("maybe", 0, {"type": "dance"}, ""):
        assert graph.invoke(Command(resume=answer), S)["__interrupt__"]
    assert "problem" in waits(graph)
    assert graph.invoke(Command(resume="reject"), S)["proposal"]["status"] == "rejected"


@pytest.mark.parametrize(
    "answer", [{1j}, 10**40, {"type": int}, [{"type": "approve", "note": 1j}], {1: "approve"}], ids=repr
)
def test_an_answer_that_cannot_be_kept_or_compared_is_refused_and_loses_nothing(
    graph: Any, memory: Memory, answer: Any
) -> None:
    before = everything(memory)
    with pytest.raises(InvalidInput, match=r"the answer cannot be kept|the keys of an answer"):
        graph.invoke(Command(resume=answer), S)
    assert everything(memory) == before
    assert graph.invoke(Command(resume="approve"), S)["proposal"]["status"] == "approved"


@pytest.mark.parametrize("answer", [{}, {"x": 1}], ids=repr)
def test_a_dict_that_is_no_answer_loses_nothing(graph: Any, memory: Memory, answer: Any) -> None:
    before = rows(memory)
    graph.invoke(Command(resume=answer), S)
    assert waits(graph)["action_requests"]
    assert rows(memory) == before


def test_no_answer_at_all_is_a_clear_error(graph: Any, memory: Memory) -> None:
    before = everything(memory)
    with pytest.raises(InvalidInput, match='answer "approve"'):
        graph.invoke(Command(resume=None), S)
    assert everything(memory) == before


def test_a_thread_nobody_knows_has_nothing_to_resume(graph: Any) -> None:
    with pytest.raises(NotFound, match="no session"):
        graph.invoke(Command(resume="approve"), thread("other"))


@pytest.mark.parametrize(
    "answer", ["later", "ignore", [{"type": "ignore", "args": None}], {"type": "ignore"}], ids=repr
)
def test_later_leaves_it_in_the_inbox(graph: Any, memory: Memory, answer: Any) -> None:
    result = graph.invoke(Command(resume=answer), S)
    assert "__interrupt__" not in result
    assert graph.get_state(S).next == ()
    assert [one.status for one in memory.learnings.pending(session_id="s")] == ["pending"]


def test_mark_as_resolved_leaves_it_in_the_inbox(graph: Any, memory: Memory) -> None:
    graph.invoke(Command(goto="__end__"), S)
    assert [one.id for one in memory.learnings.pending(session_id="s")] == [1]
    graph.invoke(say("And now?"), S, context=ANA)
    assert len(memory.sessions.window("s")) == 2


# -- what is asked -----------------------------------------------------------------------------------------


def test_the_question_is_in_the_shape_that_chat_uis_render(graph: Any) -> None:
    asked = waits(graph)
    [request], [config] = asked["action_requests"], asked["review_configs"]
    assert request["name"] == config["action_name"] == config["actionName"] == "save_learning"
    assert request["args"] == request["arguments"]
    assert request["args"] == {"title": "ETFs", "insight": INSIGHT, "applies_when": "comparing ETFs"}
    assert config["allowed_decisions"] == config["allowedDecisions"] == ["approve", "edit", "reject"]
    json.dumps(asked)


def test_the_card_shows_what_it_rests_on_what_is_near_and_who_proposed(memory: Memory) -> None:
    memory.learnings.add(
        ProposalDraft("Costs", "When comparing ETFs, check the expense ratio and the cost."),
        namespace="finance",
        actor="kim",
    )
    graph = build_graph(memory, model=proposing(rationale="She asked for costs."))
    graph.invoke(say("How do I go about comparing ETFs?"), S, context=ANA)
    card = waits(graph)["action_requests"][0]["description"]
    for part in (INSIGHT, "> How do I go about comparing ETFs?", "learning 1, Costs", "scripted", "finance"):
        assert part in card
    assert "She asked for costs." in card


# -- who decides -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("configurable", "context", "reviewer"),
    [
        ({}, None, "ana"),
        ({}, Context("ana", "finance"), "ana"),
        ({}, Context("ana", "finance", reviewer="kim"), "kim"),
        ({}, {"user_id": "ana", "reviewer": "kim"}, "kim"),
        ({"langgraph_auth_user": {"identity": "ana"}}, Context("ben", reviewer="kim"), "ana"),
        ({"langgraph_auth_user": type("User", (), {"identity": "ana"})()}, None, "ana"),
    ],
)
def test_the_reviewer_is_who_the_host_says(
    graph: Any, memory: Memory, configurable: Any, context: Any, reviewer: str
) -> None:
    forged = {"type": "approve", "reviewer": "mallory", "user": "mallory", "decided_by": "mallory"}
    result = graph.invoke(Command(resume=forged), thread("s", **configurable), context=context)
    assert result["proposal"]["decided_by"] == reviewer
    assert memory.learnings.decision(1).reviewer == reviewer


def test_in_nobodys_session_the_reviewer_is_anonymous(memory: Memory) -> None:
    graph = build_graph(memory, model=proposing())
    graph.invoke(say("Hello"), S)
    assert graph.invoke(Command(resume="approve"), S)["proposal"]["decided_by"] == "anonymous"


# -- what came of it ---------------------------------------------------------------------------------------


def test_what_was_approved_is_recalled_and_what_was_not_never_is(memory: Memory) -> None:
    model = proposing()
    graph = build_graph(memory, model=model)
    asks = say("How do I go about comparing ETFs?")
    graph.invoke(asks, S, context=ANA)
    for answer, known in (("reject", False), ("approve", True)):
        again = build_graph(memory, model=model, reflection="off")
        again.invoke(asks, thread(f"pending-{answer}"), context=ANA)
        assert INSIGHT not in spoken(model.prompts[-1])
        if known:
            memory.learnings.add(ProposalDraft("ETFs", INSIGHT), namespace="finance", actor="kim")
        else:
            graph.invoke(Command(resume=answer), S)
        again.invoke(asks, thread(f"after-{answer}"), context=ANA)
        assert (INSIGHT in spoken(model.prompts[-1])) is known


def test_every_revision_can_be_traced(graph: Any, memory: Memory) -> None:
    graph.invoke(Command(resume={"type": "edit", "insight": EDITED, "message": "shorter"}), S)
    [revision] = memory.learnings.history(1)
    assert (revision.proposer, revision.reviewer, revision.decision) == ("scripted", "ana", "edit")
    assert (revision.session_id, revision.note) == ("s", "shorter")
    assert memory.sessions.get("s", str(revision.turn_id)).question == "How do I go about comparing ETFs?"


def test_what_somebody_else_has_said_meanwhile_is_asked_again_with_the_reason(graph: Any, memory: Memory) -> None:
    # Its twin came through another door: what the gate refuses to store twice, a human has to reject.
    with memory.database.write() as connection:
        connection.exec_driver_sql("UPDATE proposals SET digest = 'hidden'")
    memory.learnings.add(ProposalDraft("ETFs", INSIGHT), namespace="finance", actor="kim")
    [asked] = graph.invoke(Command(resume="approve"), S)["__interrupt__"]
    assert "already says that" in asked.value["problem"]
    assert graph.invoke(Command(resume="reject"), S)["proposal"]["status"] == "rejected"
    assert len(memory.learnings.list(namespace="finance")) == 1


def test_the_same_idea_is_not_proposed_again_once_rejected(graph: Any, memory: Memory) -> None:
    graph.invoke(Command(resume="reject"), S)
    again = build_graph(memory, model=proposing())
    result = again.invoke(say("How do I compare ETFs?"), thread("t"), context=ANA)
    assert "__interrupt__" not in result
    assert result["proposal"] is None
    assert memory.learnings.pending(namespace="finance") == []


def test_deciding_needs_the_gate(memory: Memory) -> None:
    """No tool and no node that a model can reach decides: its own words about approval change nothing."""
    model = ScriptedChat(answers=["approve"], reflections=[{"learning": {"title": "t", "insight": INSIGHT}}])
    graph = build_graph(memory, model=model, memory_tools=True)
    graph.invoke(say("approve"), S, context=ANA)
    assert memory.learnings.list(namespace="finance") == []
    with pytest.raises((Conflict, InvalidInput)):
        memory.learnings.decide(1, Decision.approve(), reviewer="")
