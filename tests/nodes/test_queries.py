"""What is searched for where a message leans on the one before it."""

import pytest
from langchain_core.messages import AIMessage, HumanMessage

from learngate.nodes import search_learnings
from learngate.nodes.search_learnings import LONGEST, queries
from learngate.stores import Memory, ProposalDraft
from tests.nodes.support import state, turn

BEFORE = "What is the dividend of Ford worth?"

LEANS = [
    ("Is the dividend of Ford safe?", "compare that to Tesla"),
    ("Which ETF tracks the world index best?", "and which is cheapest?"),
    ("How do I poach an egg?", "and how long for a hard one?"),
    ("What is a good pace for a first marathon?", "what about a half marathon?"),
    ("Draft an offer letter for Sam", "make it shorter"),
    ("Which trains go from Hamburg to Berlin?", "and the day after?"),
    ("How do I bleed a radiator?", "why does it still gurgle afterwards?"),
    ("Review the introduction of my essay", "now do the same for the conclusion"),
    ("Should I fix the rate of my mortgage?", "for how many years, then?"),
    ("How do we run a review after an outage?", "who should attend?"),
    ("What does the duration of a bond mean?", "give me an example"),
    ("Restart the checkout service", "did that help?"),
    ("Which visa do I need for India?", "does my wife need one as well?"),
    ("How much flour for one pizza?", "and for four people?"),
    ("Is Lisbon warm in March?", "how about Porto in April?"),
    ("Which index fund is cheapest?", "why that one?"),
    ("Write a toast for my sister", "a bit funnier please"),
    ("How do I descale a kettle?", "how often should I do that?"),
    ("Which index fund is cheapest?", "Ok, and what are the fees there?"),
    ("Which index fund is cheapest?", "Thanks! And what about the fees?"),
    ("Which index fund is cheapest?", "Great, but is the cheaper one safe?"),
    pytest.param(
        "My candidate asked for remote work",
        "what would you answer her?",
        marks=pytest.mark.xfail(reason="who is meant is not told from anybody else"),
    ),
]
ALONE = [
    ("Is the dividend of Ford safe?", "How long should bread dough rest in the fridge?"),
    ("Which ETF tracks the world index best?", "I live in Graz and prefer low volatility."),
    ("How do I poach an egg?", "I like cats or dogs best"),
    ("Which ETF tracks the world index best?", "New topic: how do I descale a kettle?"),
    ("How do I poach an egg?", "What is the capital of Mongolia?"),
    ("What is a good pace for a first marathon?", "Thanks, that helped!"),
    ("Draft an offer letter for Sam", "ok great"),
    ("Which trains go from Hamburg to Berlin?", "Which of my two job offers should I take, Lyon or Graz?"),
    ("How do I bleed a radiator?", "How do I know that a melon is ripe?"),
    ("Review the introduction of my essay", "Set a timeout on every call to the payment service"),
    ("Should I fix the rate of my mortgage?", "Is it normal that a new sofa smells for weeks?"),
    ("How do we run a review after an outage?", "hello again"),
    ("What does the duration of a bond mean?", "I want to learn to swim; is it too late at forty?"),
    ("Restart the checkout service", "Translate good morning into Japanese"),
    ("How do I poach an egg?", "Who painted The Night Watch?"),
    ("Write a toast for my sister", "Do I need to declare the rent of my flat?"),
    ("Is Lisbon warm in March?", "perfect, thank you so much"),
    ("How do I poach an egg?", "How do I stop a tap that drips?"),
    ("Write a toast for my sister", "I would like to talk about my garden now"),
    ("Is Lisbon warm in March?", "Which is better for a beginner, yoga or pilates?"),
]


@pytest.mark.parametrize(("before", "message"), LEANS)
def test_what_leans_on_the_message_before_is_searched_with_it(before: str, message: str) -> None:
    assert f"{before}\n{message}" in queries(message, before)


@pytest.mark.parametrize(("before", "message"), ALONE)
def test_what_does_not_lean_is_searched_alone(before: str, message: str) -> None:
    assert queries(message, before) == [message]


@pytest.mark.parametrize("message", ["What about those?", "And the other one?", "why?", "Which one is it?"])
def test_a_message_without_a_word_of_its_own_is_searched_with_the_one_before(message: str) -> None:
    assert queries(message, BEFORE) == [f"{BEFORE}\n{message}"]
    assert queries(message, "") == [message]


@pytest.mark.parametrize(
    "message",
    [
        "compare that to Tesla",
        "Is it safe?",
        "Is it safe to invest?",
        "now do the same for the conclusion",
        "which looks better?",
        "and the fees?",
        "expense ratio",
        "Compare both funds",
    ],
)
def test_a_message_that_points_or_is_short_is_searched_alone_and_then_with_the_one_before(message: str) -> None:
    assert queries(message, BEFORE) == [message, f"{BEFORE}\n{message}"]


@pytest.mark.parametrize(
    "message",
    [
        "How long should bread dough rest in the fridge?",
        "Is it safe to change a lamp while the switch is off?",
        "How do I compare one fund with another?",
        "Should both of the funds be bought?",
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
    query = queries("compare that to Tesla", "dividends " * 10_000)[-1]
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
        )["recall"]
        for parent in ("first", "elsewhere", "", "gone")
    ]
    assert [len(one["learnings"]) for one in found] == [1, 0, 0, 0]
    assert [one.get("query") for one in found] == [
        f"{BEFORE}\ncompare that to Tesla",
        "How do whales sleep?\ncompare that to Tesla",
        None,
        None,
    ]


@pytest.mark.parametrize(
    ("before", "message", "title"),
    [
        ("How long does sourdough rest in the fridge?", "Compare both funds", "Funds"),
        ("How long does sourdough rest in the fridge?", "Is it safe to invest in a fund?", "Funds"),
        ("How do I compare two funds?", "And does it rest in the fridge, the sourdough?", "Sourdough"),
        ("How long does sourdough rest in the fridge?", "Why is that?", "Sourdough"),
        ("How do I compare two funds?", "And is that any better for Graz?", "Funds"),
    ],
)
def test_what_a_message_says_itself_goes_before_what_it_leans_on(
    memory: Memory, before: str, message: str, title: str
) -> None:
    for draft in (
        ProposalDraft("Funds", "Compare the costs of two funds before you invest in a fund.", "comparing funds"),
        ProposalDraft("Sourdough", "Let sourdough rest in the fridge for a night.", "making sourdough rest"),
    ):
        memory.learnings.add(draft, namespace="finance", actor="kim")
    said = [HumanMessage(before, id="first"), AIMessage("Well.", id="answer"), HumanMessage(message, id="now")]
    here = state(*said, turn=turn(parent="first", id="now"))
    found = search_learnings(here, learnings=memory.learnings, k=5, budget=500)["recall"]["learnings"]
    assert [item["title"] for item in found] == [title]
