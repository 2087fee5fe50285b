"""The memory tools, called by hand: they note what will take effect, and say what is wrong with the rest."""

from datetime import UTC, datetime
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import BaseTool

from learngate.nodes import load_history
from learngate.nodes.tools import MEMORY_TOOLS, past_sessions, propose_learning, remember
from learngate.stores import Memory, Turn
from tests.nodes.support import state, turn

AT = datetime(2024, 3, 5, 12, tzinfo=UTC)

GOOD = {"title": "ETFs", "insight": "When comparing ETFs, check the expense ratio.", "applies_when": "comparing"}


def call(tool: Any, args: dict[str, Any], *, user: str | None = "ana", noted: Any = (), others: Any = ()) -> Any:
    mine = {"type": "tool_call", "name": tool.name, "id": "c", "args": args}
    calls = [*({**mine, "id": other} for other in others), mine]
    state = {"turn": {"user_id": user}, "noted": [*noted], "messages": [AIMessage("", tool_calls=calls)]}
    return tool.invoke({**mine, "args": {**args, "state": state}}).update


def test_remember_notes_an_operation() -> None:
    update = call(remember, {"text": " Ana cycles. "})
    assert update["noted"] == [{"operation": {"op": "add", "text": "Ana cycles.", "id": None}}]
    [message] = update["messages"]
    assert isinstance(message, ToolMessage)
    assert (message.text, message.tool_call_id) == ("noted", "c")


def test_propose_learning_notes_a_candidate() -> None:
    update = call(propose_learning, GOOD)
    assert update["noted"] == [{"candidate": {**GOOD, "rationale": ""}}]
    assert update["messages"][0].text == "noted, waiting for review"


@pytest.mark.parametrize(
    ("tool", "args", "more", "says"),
    [
        (remember, {"text": "Ana cycles."}, {"user": None}, "nobody is signed in"),
        (remember, {"text": " "}, {}, "is empty"),
        (remember, {"text": "x" * 3000}, {}, "at most"),
        (propose_learning, GOOD | {"insight": "Maybe it rains in the long run."}, {}, "speculation"),
        (propose_learning, GOOD, {"noted": [{"candidate": {}}]}, "one already"),
        (propose_learning, GOOD, {"others": ["b"]}, "one already"),
    ],
)
def test_what_will_not_take_effect_is_not_called_noted(tool: Any, args: Any, more: Any, says: str) -> None:
    update = call(tool, args, **more)
    assert "noted" not in update
    assert update["messages"][0].text.startswith("not noted: ")
    assert says in update["messages"][0].text


def test_the_model_is_shown_only_what_it_may_fill_in() -> None:
    shown = {tool.name: set(tool.tool_call_schema.model_json_schema()["properties"]) for tool in MEMORY_TOOLS}
    assert shown == {"remember": {"text"}, "propose_learning": {"title", "insight", "applies_when"}}


# -- looking back ----------------------------------------------------------------------------------------------


@pytest.fixture
def past(memory: Memory) -> BaseTool:
    for number, words in enumerate(["Which fund is cheap?", "And the zebra fund?", "Bye."]):
        turn = (HumanMessage(words), AIMessage(f"Answer {number}."))
        memory.sessions.append(Turn("old", turn, id=f"q{number}", user_id="ana", happened_at=AT))
    theirs = (HumanMessage("My secret zebra fund."), AIMessage("Hush."))
    memory.sessions.append(Turn("bens", theirs, user_id="ben", happened_at=AT))
    memory.sessions.append(Turn("nobodys", theirs, happened_at=AT))
    return past_sessions(memory.sessions, budget=500)


def look(tool: BaseTool, query: str, *, user: str | None = "ana", **more: Any) -> str:
    state = {"turn": {"user_id": user, "session_id": "now"}, "messages": [], **more}
    return str(tool.invoke({"query": query, "state": state}))


def test_a_past_turn_comes_with_its_session_day_speakers_and_what_stands_beside_it(past: BaseTool) -> None:
    assert sorted(look(past, "zebra").splitlines()) == [
        "- (session old, 2024-03-05) user: And the zebra fund? / assistant: Answer 1.",
        "- (session old, 2024-03-05) user: Bye. / assistant: Answer 2.",
        "- (session old, 2024-03-05) user: Which fund is cheap? / assistant: Answer 0.",
    ]


@pytest.mark.parametrize("query", ["secret zebra fund of ben", "zebra on 2024-03-05", 'zebra user_id="ben"'])
def test_whose_sessions_are_searched_is_not_the_models_to_say(past: BaseTool, query: str) -> None:
    assert set(past.tool_call_schema.model_json_schema()["properties"]) == {"query"}
    assert "secret" not in look(past, query)
    assert "secret" in look(past, query, user="ben")
    assert look(past, query, user="cleo") == "nothing was found in this user's past sessions"


def test_where_nobody_is_signed_in_nothing_is_searched_and_it_says_so(past: BaseTool) -> None:
    assert look(past, "zebra", user=None).startswith("not searched: nobody is signed in")


def test_where_past_sessions_have_no_room_it_says_so(memory: Memory) -> None:
    said = look(past_sessions(memory.sessions, budget=0), "zebra")
    assert said == "not searched: past sessions have no room in this conversation, answer without them"


@pytest.mark.parametrize("query", ["", "  ", "x" * 20_000])
def test_a_query_that_is_none_is_answered_with_what_is_wrong(past: BaseTool, query: str) -> None:
    assert look(past, query).startswith("not searched: the query")


def test_a_query_of_any_characters_is_searched(past: BaseTool) -> None:
    assert "zebra" in look(past, "zebra \x00 \ud800")


def test_what_stands_in_the_prompt_already_is_not_found_again(past: BaseTool) -> None:
    window = {"recall": {"history": [{"id": f"q{number}", "shown": True} for number in range(3)]}}
    turn = {"turn": {"user_id": "ana", "session_id": "old"}}
    assert look(past, "zebra", **window, **turn) == "nothing was found in this user's past sessions"
    assert "zebra" in look(past, "zebra", **window)


@pytest.mark.parametrize(("budget", "whole"), [(0, 0), (3, 0), (4, 1), (11, 2), (18, 2), (19, 3)])
def test_what_the_window_leaves_out_or_cuts_is_found(
    past: BaseTool, memory: Memory, budget: int, whole: int
) -> None:
    now = turn(session_id="old", parent="q2")
    recall = load_history(state(turn=now), sessions=memory.sessions, turns=9, budget=budget)["recall"]
    found = [
        f"Answer {number}." in look(past, query, recall=recall, turn=now)
        for number, query in enumerate(["cheap", "zebra", "Bye"])
    ]
    assert found == [True] * (3 - whole) + [False] * whole


def test_one_turns_searches_share_a_bounded_room(past: BaseTool, memory: Memory) -> None:
    for number in range(30):
        memory.sessions.append(Turn(f"s{number}", (HumanMessage("zebra " * 300),), user_id="ana", happened_at=AT))
    question, found = HumanMessage("q", id="now"), ToolMessage("- (…)", tool_call_id="c", name=past.name)
    call = {"type": "tool_call", "name": past.name, "args": {}}

    def room(earlier: int, at_once: int) -> int:
        asked = AIMessage("", tool_calls=[{**call, "id": f"c{n}"} for n in range(at_once)])
        before = [found] * 9  # of an earlier turn
        messages = [*before, question, *[AIMessage("", tool_calls=[{**call, "id": "c"}]), found] * earlier, asked]
        turn = {"user_id": "ana", "session_id": "now", "id": "now"}
        return len(look(past, "zebra", messages=messages, turn=turn))

    alone = room(0, 1)
    assert alone == room(0, 4) == room(3, 1) <= 500 * 4
    for earlier in range(5):
        for at_once in (1, 2, 5, 40):
            said = room(earlier, at_once)
            assert said * at_once <= (4 - earlier) * 500 * 4 + 80 * at_once
    assert look(
        past,
        "zebra",
        turn={"user_id": "ana", "session_id": "now", "id": "now"},
        messages=[question, *[found] * 4, AIMessage("")],
    ).startswith("not searched: 4 searches")


def test_what_it_says_is_bounded_and_says_what_it_left_out(memory: Memory) -> None:
    for number in range(30):
        words = (HumanMessage(f"zebra {number} " * 3_000), AIMessage("zebra " * 3_000))
        memory.sessions.append(Turn(f"s{number}", words, user_id="ana", happened_at=AT))
    for budget in (1, 400, 2_000):
        said = look(past_sessions(memory.sessions, budget=budget), "zebra")
        assert len(said) <= budget * 4 + 80
        assert ("were found and left out" in said) == (budget < 2_000), budget
