"""The gate's question, and answers read leniently: any JSON value becomes a review, and none raises."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command

from learngate.nodes import Context, State, review_learning
from learngate.nodes.review import HOW_TO_ANSWER, Review, describe, question
from learngate.nodes.state import ProposalState
from tests.nodes.support import state

PROPOSAL = ProposalState(
    id=1,
    status="pending",
    namespace="finance",
    title="ETFs",
    insight="Check both.",
    applies_when="",
    rationale="",
    proposer="m",
    excerpts=["first line\nsecond line"],
    nearest=[],
    learning_id=None,
    decided_by=None,
)

WORDS = st.sampled_from(["approve", "edit", "reject", "respond", "accept", "ignore", "later", "type", "dance"])
KEYS = st.sampled_from(["type", "decisions", "edited_action", "args", "arguments", "message", "insight", "title"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
def test_any_answer_is_read_or_asked_again_and_never_raises(answer: Any) -> None:
    review = Review.model_validate(answer)
    if review.type == "unclear":
        assert review.message is not None
        assert review.message.endswith(HOW_TO_ANSWER)
    if review.type == "edit":
        assert any(isinstance(word, str) for word in (review.title, review.insight, review.applies_when))


@given(JSON)
def test_reading_a_review_again_gives_the_same(answer: Any) -> None:
    review = Review.model_validate(answer)
    assert Review.model_validate(review) is review
    if review.type != "unclear":
        assert Review.model_validate(review.model_dump()) == review


@given(JSON.filter(lambda answer: not any(word in str(answer) for word in ("appro", "accept", "True", "ok", "y"))))
def test_nothing_is_approved_by_accident(answer: Any) -> None:
    assert Review.model_validate(answer).type != "approve"


def test_an_answer_nested_without_end_is_asked_again() -> None:
    endless: list[Any] = []
    endless.append(endless)
    for answer in (endless, "[" * 100_000):
        assert Review.model_validate(answer).type == "unclear"


def test_the_card_quotes_every_line_and_says_what_was_wrong() -> None:
    card = describe(PROPOSAL, "It is too long.")
    assert card.startswith("**It is too long.**\n\n### ETFs\n\nCheck both.")
    assert "> first line" in card
    assert "> second line" in card
    assert "Applies when" not in card
    assert "Because" not in card


def test_the_question_carries_the_whole_proposal() -> None:
    asked = question(PROPOSAL, None)
    assert asked["proposal"] == PROPOSAL
    assert asked["problem"] is None


@pytest.mark.parametrize("context", [None, Context("ana", reviewer="kim")])
def test_the_node_asks_and_notes_who_answered(context: Context | None) -> None:
    # An interrupt needs a graph to pause: one with no other node in it.
    builder = StateGraph(State, context_schema=Context)
    builder.add_node("review_learning", review_learning)
    builder.add_edge(START, "review_learning")
    graph = builder.compile(checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "s"}}
    graph.invoke(state(proposal=PROPOSAL, review={"type": "unclear", "message": "Say it again."}), config)
    [asked] = graph.get_state(config).interrupts
    assert asked.value["problem"] == "Say it again."
    answered = graph.invoke(Command(resume={"type": "approve", "reviewer": "mallory"}), config, context=context)
    assert (answered["review"]["type"], answered["review"]["reviewer"]) == ("approve", "kim" if context else "ana")
