"""What is searched for where a message leans on the one before it."""

import pytest
from langchain_core.messages import AIMessage, HumanMessage

from learngate.nodes import search_learnings
from learngate.nodes.search_learnings import LONGEST, queries
from learngate.stores import Memory, ProposalDraft
from tests.nodes.support import state, turn

BEFORE = "What is the dividend of Ford worth?"


@pytest.mark.parametrize(
    "message", ["compare that to Tesla", "Is it safe?", "What about those?", "And the other one?"]
)
def test_a_message_that_points_is_searched_with_the_one_before(message: str) -> None:
    assert queries(message, BEFORE) == [f"{BEFORE}\n{message}"]
    assert queries(message, "") == [message]


@pytest.mark.parametrize("message", ["which looks better?", "and the fees?", "why?", "expense ratio"])
def test_a_short_message_is_searched_alone_and_then_with_the_one_before(message: str) -> None:
    assert queries(message, BEFORE) == [message, f"{BEFORE}\n{message}"]


@pytest.mark.parametrize(
    "message",
    [
        "How long should bread dough rest in the fridge?",
        "Is it safe to change a lamp while the switch is off?",
        "thanks!",
        "Thank you very much",
        "ok",
        "?!",
    ],
)
def test_a_message_that_stands_alone_is_searched_alone(message: str) -> None:
    assert queries(message, BEFORE) == [message]


def test_nothing_said_is_not_searched_for() -> None:
    assert queries(" \n", BEFORE) == []


def test_the_message_is_kept_where_the_one_before_is_long() -> None:
    [query] = queries("compare that to Tesla", "dividends " * 10_000)
    assert len(query) == LONGEST
    assert query.endswith("compare that to Tesla")


def test_the_learning_of_the_turn_before_is_found_again_on_its_own_branch_only(memory: Memory) -> None:
    draft = ProposalDraft("Dividends", "Judge a dividend by free cash flow.", "asked what a dividend is worth")
    memory.learnings.add(draft, namespace="finance", actor="kim")
    said = [
        HumanMessage(BEFORE, id="first"),
        AIMessage("Much.", id="answer"),
        HumanMessage("How do whales sleep?", id="elsewhere"),
        HumanMessage("compare that to Tesla", id="now"),
    ]
    found = [
        search_learnings(
            state(*said, turn=turn(parent=parent, id="now")), learnings=memory.learnings, k=5, budget=500
        )["recall"]["learnings"]
        for parent in ("first", "elsewhere", "", "gone")
    ]
    assert [len(one) for one in found] == [1, 0, 0, 0]
