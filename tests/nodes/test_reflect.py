"""reflect, driven by hand, and how a structured reply is read."""

from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableLambda

from learngate.nodes import reflect
from learngate.nodes.flow import Call
from learngate.nodes.reflect import combined, read_reflection
from learngate.nodes.reflection import Candidate, MemoryChange, Reflection
from learngate.stores import Memory
from learngate.stores.errors import ReflectionFailed
from tests.nodes.support import outcome, record, state, turn

REFLECTOR = RunnableLambda(lambda _: None)
NOTHING = {"raw": AIMessage(""), "parsed": Reflection(), "parsing_error": None}
LEARNED = Reflection(learning=Candidate(title="t", insight="i"))
ADDED = Reflection(memories=[MemoryChange(op="add", text="Ana cycles.")])


def ask(memory: Memory, asked: Any) -> tuple[Any, Call]:
    flow = reflect(reflector=REFLECTOR, proposer="m", sessions=memory.sessions, users=memory.users)(asked)
    return flow, next(flow)


def finish(flow: Any, reply: Any) -> dict[str, Any]:
    with pytest.raises(StopIteration) as done:
        flow.send(reply)
    return done.value.value


def found(reflection: Reflection) -> dict[str, Any]:
    return {"raw": AIMessage(""), "parsed": reflection, "parsing_error": None}


@pytest.fixture
def answered(memory: Memory) -> Any:
    record(memory, "1", reflection="pending")
    return state(HumanMessage("1", id="id-1"), AIMessage("re: 1", id="a-1"), turn=turn(id="id-1"))


def test_it_shows_the_turn_and_what_is_known(memory: Memory, answered: Any) -> None:
    memory.users.remember("ana", "Ana wants low costs.")
    memory.users.remember("ben", "Ben is in debt.")
    _, call = ask(memory, answered)
    assert call.runnable is REFLECTOR
    instructions, shown = call.input
    assert instructions.type == "system"
    assert "- (memory 1) Ana wants low costs." in shown.text
    assert "user: 1\nassistant: re: 1" in shown.text
    assert "Ben" not in shown.text


def test_what_this_turn_brought_itself_is_not_known_to_it(memory: Memory, answered: Any) -> None:
    memory.users.remember("ana", "Ana said so today.", source=("s", "id-1"))
    memory.users.remember("ana", "Ana said so before.", source=("s", "id-0"))
    _, call = ask(memory, answered)
    assert "today" not in call.input[1].text
    assert "before" in call.input[1].text


def test_of_nobody_nothing_is_known(memory: Memory) -> None:
    memory.users.remember("ana", "Ana wants low costs.")
    flow, call = ask(memory, state(turn=turn(user_id=None)))
    assert "low costs" not in call.input[1].text
    assert finish(flow, found(ADDED))["outcome"] is None


def test_nothing_worth_keeping_ends_the_reflection(memory: Memory, answered: Any) -> None:
    flow, _ = ask(memory, answered)
    assert finish(flow, NOTHING) == {"outcome": None}
    assert memory.sessions.get("s", "id-1").reflection == "done"


def test_what_it_found_is_the_outcome_and_the_reflection_stays_pending(memory: Memory, answered: Any) -> None:
    flow, _ = ask(memory, answered)
    update = finish(flow, found(LEARNED))["outcome"]
    assert (update["source"], update["proposer"]) == ("reflection", "m")
    assert update["candidate"]["insight"] == "i"
    assert memory.sessions.get("s", "id-1").reflection == "pending"


def test_what_tools_noted_goes_first() -> None:
    noted = outcome({"op": "add", "text": "noted"}, source="tools", candidate={"title": "noted"})
    both = combined(
        Reflection(memories=ADDED.memories, learning=LEARNED.learning), noted, proposer="m", user_id="ana"
    )
    assert [operation["text"] for operation in both["noted"]] == ["noted"]
    assert [operation["text"] for operation in both["operations"]] == ["Ana cycles."]
    assert (both["candidate"], both["candidate_source"]) == ({"title": "noted"}, "tools")
    assert combined(LEARNED, outcome(source="tools"), proposer="m", user_id="ana")["candidate"]["title"] == "t"


def read(text: str = "", parsed: Any = None, error: Any = None, calls: Any = ()) -> Reflection:
    return read_reflection(
        {"raw": AIMessage(text, tool_calls=list(calls)), "parsed": parsed, "parsing_error": error}
    )


def test_readable_replies() -> None:
    call = {"name": "Reflection", "args": {}, "id": "1"}
    assert read("", LEARNED, calls=[call]) == LEARNED
    assert read("I call a tool.", LEARNED, calls=[call]) == LEARNED
    assert read('{"learning": null}', Reflection()) == Reflection()
    assert read('```json\n{"learning": null}\n```', Reflection()) == Reflection()
    assert read("", {"memories": [], "learning": None}) == Reflection()
    assert read("", {"memories": [], "learning": None, "more": 1}) == Reflection()


@pytest.mark.parametrize(
    "reply",
    [
        {"text": "Sure!"},
        {"text": ""},
        {"text": '{"memories": [{"op": "add", "text": "pea', "parsed": ADDED},
        {"text": '```json\n{"memories": [', "parsed": Reflection()},
        {"parsed": {"memories": 3}},
        {"parsed": {"learning": {"title": "no insight"}}},
        {"parsed": LEARNED, "error": ValueError("half of it")},
        {"parsed": ["a", "list"]},
    ],
    ids=repr,
)
def test_unreadable_replies(reply: dict[str, Any]) -> None:
    with pytest.raises(ReflectionFailed, match="could not be read"):
        read(**reply)
