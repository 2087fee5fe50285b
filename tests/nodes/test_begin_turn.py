"""begin_turn, called by hand."""

from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage

from learngate.nodes import Context, State, begin_turn
from learngate.stores import InvalidInput, Memory, NotFound
from tests.nodes.support import CONFIG, applied, record, runtime, turn


def delivery(message_id: str, newest: str = "", **fields: Any) -> dict[str, Any]:
    return {"message_id": message_id, "newest": newest, "user_id": "ana", "namespace": "finance", **fields}


def begin(memory: Memory, state: dict[str, Any], context: Any = None, kept_turns: int = 3) -> State:
    """Run the node and return the state with its update in it."""
    before = State(**state)
    update = begin_turn(before, CONFIG, runtime(context), sessions=memory.sessions, kept_turns=kept_turns)
    return applied(before, update)


def ids(state: State) -> list[str | None]:
    return [message.id for message in state["messages"]]


def messages_of(*questions: str) -> list[Any]:
    return [
        one
        for question in questions
        for one in (HumanMessage(question, id=f"id-{question}"), AIMessage(f"re: {question}", id=f"a-{question}"))
    ]


def test_it_settles_the_turn_and_clears_what_the_last_one_left(memory: Memory) -> None:
    after = begin(
        memory,
        {
            "messages": [HumanMessage("Hi", id="q")],
            "delivery": delivery("q"),
            "recall": {"memories": [{"kind": "memory", "id": 1, "text": "old", "shown": True}]},
            "noted": [{"operation": {}}],
            "outcome": {"source": "tools"},
            "proposal": {"id": 1},
            "review": {"type": "later"},
        },
    )
    assert after["turn"] == turn()
    assert after["head"] == ""
    assert after["recall"] == {"history": [], "memories": [], "learnings": []}
    assert after["noted"] == []
    assert after["outcome"] is after["proposal"] is after["review"] is None


def test_who_speaks_is_who_delivered_the_message(memory: Memory) -> None:
    state = {"messages": [HumanMessage("Hi", id="q")], "delivery": delivery("q", user_id=None, namespace="x")}
    settled = begin(memory, state, Context("ben", "y"))["turn"]
    assert (settled["user_id"], settled["namespace"]) == (None, "x")


def test_without_a_delivery_it_is_who_the_context_says_else_the_sessions_own(memory: Memory) -> None:
    state = {"messages": [HumanMessage("Hi", id="q")]}
    assert begin(memory, state, Context("ben", "y"))["turn"]["user_id"] == "ben"
    assert begin(memory, state)["turn"]["user_id"] is None
    memory.sessions.claim("s", "ana")
    assert begin(memory, state)["turn"]["user_id"] == "ana"


def test_it_follows_the_head(memory: Memory) -> None:
    record(memory, "1", "2")
    state = {"messages": [*messages_of("1", "2"), HumanMessage("3", id="q")], "head": "id-2"}
    after = begin(memory, {**state, "delivery": delivery("q", "id-2")})
    assert (after["turn"]["parent"], after["head"]) == ("id-2", "id-2")
    assert ids(after) == ["id-1", "a-1", "id-2", "a-2", "q"]


def test_without_a_head_it_follows_what_was_newest(memory: Memory) -> None:
    record(memory, "1", "2")
    after = begin(memory, {"messages": [HumanMessage("3", id="q")], "delivery": delivery("q", "id-2")})
    assert after["turn"]["parent"] == "id-2"


def test_what_no_recorded_turn_owns_is_dropped(memory: Memory) -> None:
    record(memory, "1")
    failed = [HumanMessage("failed", id="f"), AIMessage("half", id="h")]
    state = {"messages": [*messages_of("1"), *failed, HumanMessage("2", id="q")], "head": "id-1"}
    assert ids(begin(memory, {**state, "delivery": delivery("q", "id-1")})) == ["id-1", "a-1", "q"]


def test_the_last_turns_are_kept(memory: Memory) -> None:
    record(memory, *"12345")
    state = {"messages": [*messages_of(*"12345"), HumanMessage("6", id="q")], "head": "id-5"}
    after = begin(memory, {**state, "delivery": delivery("q", "id-5")}, kept_turns=2)
    assert ids(after) == ["id-4", "a-4", "id-5", "a-5", "q"]


def test_a_message_that_was_recorded_comes_back_with_its_answer(memory: Memory) -> None:
    record(memory, *"123")
    state = {"messages": messages_of("2", "3"), "head": "id-3", "turn": turn(id="id-3")}
    for n in "123":
        asked = {**state, "delivery": delivery(f"id-{n}", "id-3")}
        if n == "1":
            asked["messages"] = [*asked["messages"], HumanMessage("1", id="id-1")]
        after = begin(memory, asked)
        assert after["turn"]["redelivered"] is True
        assert ids(after)[-2:] == [f"id-{n}", f"a-{n}"]
        assert after["head"] == "id-3"


def test_an_id_of_another_branch_gets_one_of_its_own(memory: Memory) -> None:
    record(memory, *"123")
    state = {"messages": [*messages_of("1"), HumanMessage("2, edited", id="id-2")], "head": "id-1"}
    after = begin(memory, {**state, "delivery": delivery("id-2", "id-1")})
    assert after["turn"]["redelivered"] is False
    assert after["turn"]["id"] not in {"id-1", "id-2", "id-3"}
    assert ids(after)[-1] == after["turn"]["id"]
    assert after["messages"][-1].text == "2, edited"


def test_a_turn_that_was_recorded_though_its_checkpoint_was_not(memory: Memory) -> None:
    record(memory, "1", "2")
    state = {"messages": [*messages_of("1"), HumanMessage("2", id="id-2")], "head": "id-1"}
    after = begin(memory, {**state, "delivery": delivery("id-2", "id-2")})
    assert (after["turn"]["redelivered"], after["head"]) == (True, "id-2")
    # Other words under that id are another turn.
    other = {"messages": [*messages_of("1"), HumanMessage("other", id="id-2")], "head": "id-1"}
    assert begin(memory, {**other, "delivery": delivery("id-2", "id-2")})["turn"]["redelivered"] is False


def test_a_broken_round_of_tools_is_begun_anew(memory: Memory) -> None:
    asked = AIMessage("", id="a", tool_calls=[{"name": "price", "args": {}, "id": "c"}])
    result = ToolMessage("12", tool_call_id="c", id="t")
    state = {"messages": [HumanMessage("1", id="q"), asked, result], "turn": turn(), "head": ""}
    assert ids(begin(memory, {**state, "delivery": delivery("q")})) == ["q"]


def test_what_others_added_behind_the_question_stays(memory: Memory) -> None:
    state = {"messages": [HumanMessage("1", id="q"), AIMessage("looked up", id="a")], "delivery": delivery("q")}
    assert ids(begin(memory, state)) == ["q", "a"]


def test_a_message_that_a_studio_fork_wrote_into_the_state_is_asked(memory: Memory) -> None:
    record(memory, "1")
    state = {"messages": [*messages_of("1"), HumanMessage("written", id="w")], "head": "id-1"}
    after = begin(memory, {**state, "delivery": delivery("id-1"), "turn": turn(id="id-1")})
    assert (after["turn"]["id"], after["turn"]["redelivered"]) == ("w", False)


@pytest.mark.parametrize("messages", [[], [AIMessage("Hello", id="a")]], ids=["none", "none of the user's"])
def test_there_has_to_be_a_question(memory: Memory, messages: list[Any]) -> None:
    with pytest.raises(InvalidInput, match="nothing to answer"):
        begin(memory, {"messages": messages})


def test_there_has_to_be_a_thread(memory: Memory) -> None:
    with pytest.raises(InvalidInput, match="thread_id"):
        begin_turn(
            State(messages=[HumanMessage("1", id="q")]), {}, runtime(), sessions=memory.sessions, kept_turns=3
        )


def test_a_head_that_is_gone_from_sql_begins_anew(memory: Memory) -> None:
    state = {"messages": [HumanMessage("1", id="q")], "head": "gone", "delivery": delivery("q")}
    after = begin(memory, state)
    assert (after["turn"]["parent"], after["head"]) == ("", "")
    with pytest.raises(NotFound):
        memory.sessions.get("s", "gone")


@pytest.mark.parametrize(
    ("left", "cleared"),
    [({}, True), ({"proposal": None}, False), ({"proposal": {}}, True), ({"proposal": {"id": 1}}, True)],
    ids=["no key", "nothing", "less than a proposal", "a proposal"],
)
def test_only_what_is_there_is_written_over(memory: Memory, left: dict[str, Any], cleared: bool) -> None:
    state = State(messages=[HumanMessage("Hi", id="q")], delivery=delivery("q"), noted=[], **left)
    update = begin_turn(state, CONFIG, runtime(None), sessions=memory.sessions, kept_turns=3)
    assert ("proposal" in update) is cleared
    assert update.get("proposal") is None
    assert "noted" not in update
