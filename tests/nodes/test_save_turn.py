"""save_turn, called by hand."""

from typing import Any

from langchain_core.messages import AIMessage, HumanMessage, ToolMessage

from learngate.nodes import save_turn
from learngate.stores import Memory
from tests.nodes.support import applied, record, state, turn

QUESTION = HumanMessage("Which ETF?", id="q")
USAGE = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}


def save(memory: Memory, given: Any, **options: Any) -> dict[str, Any]:
    config = {"configurable": {"thread_id": "s", "checkpoint_id": "c-1"}}
    settings: dict[str, Any] = {"reflection": "pending", "proposer": "m", **options}
    return save_turn(given, config, sessions=memory.sessions, **settings)


def test_it_records_the_turn_and_moves_the_head(memory: Memory) -> None:
    record(memory, "1")
    answered = state(QUESTION, AIMessage("That one.", id="a"), turn=turn(parent="id-1"))
    assert save(memory, answered) == {"head": "q", "outcome": None}
    saved = memory.sessions.get("s", "q")
    assert (saved.question, saved.answer, saved.parent) == ("Which ETF?", "That one.", "id-1")
    assert (saved.user_id, saved.namespace, saved.reflection) == ("ana", "finance", "pending")
    assert saved.checkpoint_id == "c-1"


def test_twice_is_once(memory: Memory) -> None:
    answered = state(QUESTION, AIMessage("That one.", id="a"))
    assert save(memory, answered) == save(memory, answered)
    assert len(memory.sessions.window("s")) == 1


def test_usage_is_added_up_over_the_turns_calls(memory: Memory) -> None:
    asked = AIMessage("", id="a1", usage_metadata=USAGE, tool_calls=[{"name": "price", "args": {}, "id": "c"}])
    result, said = ToolMessage("12", tool_call_id="c", id="t"), AIMessage("12.", id="a2", usage_metadata=USAGE)
    save(memory, state(QUESTION, asked, result, said))
    assert memory.sessions.get("s", "q").usage == {name: 2 * count for name, count in USAGE.items()}


def test_what_was_recalled_is_recorded_as_shown_or_cut(memory: Memory) -> None:
    recall = {
        "history": [{"kind": "turn", "id": "id-1", "text": "1", "shown": True}],
        "memories": [{"kind": "memory", "id": 7, "revision": 2, "score": 0.5, "text": "x", "shown": True}],
        "learnings": [{"kind": "learning", "id": 3, "revision": 1, "score": 0.25, "text": "", "shown": False}],
    }
    save(memory, state(QUESTION, AIMessage("Yes.", id="a"), recall=recall))
    recalled = {
        (one.kind, one.id, one.revision, one.score, one.shown) for one in memory.sessions.get("s", "q").recalled
    }
    assert recalled == {("memory", 7, 2, 0.5, True), ("learning", 3, 1, 0.25, False)}


def test_the_answer_of_a_run_that_was_first_stands(memory: Memory) -> None:
    save(memory, state(QUESTION, AIMessage("First.", id="a1")))
    second = state(HumanMessage("old", id="o"), QUESTION, AIMessage("Second.", id="a2"))
    after = applied(second, save(memory, second))
    assert [(m.id, m.text) for m in after["messages"]] == [("o", "old"), ("q", "Which ETF?"), ("a1", "First.")]


def test_what_tools_noted_becomes_the_outcome(memory: Memory) -> None:
    noted = [{"operation": {"op": "add"}}, {"candidate": {"title": "1"}}]
    update = save(memory, state(QUESTION, AIMessage("Yes.", id="a"), noted=noted), reflection="off")
    assert update["outcome"] == {
        "source": "tools",
        "operations": [{"op": "add"}],
        "candidate": {"title": "1"},
        "proposer": "m",
    }
    assert memory.sessions.get("s", "q").noted == update["outcome"]
    assert memory.sessions.get("s", "q").reflection == "off"
