"""respond, driven by hand: it yields what to ask, is sent the answer, and returns its update."""

from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableLambda

from learngate.nodes import State, respond
from learngate.nodes.flow import Call
from learngate.nodes.respond import tool_rounds
from learngate.stores import Memory
from tests.nodes.support import record, state

PLAIN, WITH_TOOLS = RunnableLambda(lambda _: None), RunnableLambda(lambda _: None)
CALL = AIMessage("", id="a", tool_calls=[{"name": "price", "args": {}, "id": "c"}])
USAGE = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}
RESULT = ToolMessage("12.50", tool_call_id="c", id="t")


def ask(memory: Memory, asked: State, **options: Any) -> tuple[Any, Call]:
    settings: dict[str, Any] = {
        "instructions": "Be brief.",
        "history_budget": 8_000,
        "max_tool_rounds": 2,
        **options,
    }
    flow = respond(model=PLAIN, model_with_tools=WITH_TOOLS, sessions=memory.sessions, **settings)(asked)
    return flow, next(flow)


def finish(flow: Any, reply: AIMessage) -> dict[str, Any]:
    with pytest.raises(StopIteration) as done:
        flow.send(reply)
    return done.value.value


def test_the_prompt_is_instructions_window_recall_and_this_turn(memory: Memory) -> None:
    record(memory, "1", "2")
    history = [{"kind": "turn", "id": "id-2", "text": "2", "shown": True}]
    memories = [{"kind": "memory", "id": 7, "text": "Ana wants low costs.", "shown": True}]
    learnings = [{"kind": "learning", "id": 3, "title": "ETFs", "text": "Check both.", "shown": True}]
    recall = {"history": history, "memories": memories, "learnings": learnings}
    _, call = ask(memory, state("Which ETF?", recall=recall))
    system, asked, answered, known, learned, question = call.input
    assert system.text.startswith("Be brief.")
    assert (asked.text, answered.text) == ("2", "re: 2")
    assert "- (memory 7) Ana wants low costs." in known.text
    assert "- (learning 3) ETFs: Check both." in learned.text
    assert question == HumanMessage("Which ETF?", id="q")
    assert call.runnable is WITH_TOOLS


def test_the_answer_is_the_update(memory: Memory) -> None:
    flow, _ = ask(memory, state())
    answer = AIMessage("That one.")
    assert finish(flow, answer) == {"messages": [answer]}


def test_what_is_not_this_turns_is_not_in_the_prompt_from_state(memory: Memory) -> None:
    stray = [HumanMessage("stray", id="x"), AIMessage("words", id="y")]
    _, call = ask(memory, state(*stray, HumanMessage("Which ETF?", id="q")))
    assert [message.text for message in call.input[1:]] == ["Which ETF?"]


def test_after_the_last_round_it_is_asked_without_tools(memory: Memory) -> None:
    question = HumanMessage("Which ETF?", id="q")
    for rounds, runnable in ((1, WITH_TOOLS), (2, PLAIN)):
        _, call = ask(memory, state(question, *[CALL, RESULT] * rounds))
        assert call.runnable is runnable


@pytest.mark.parametrize(("said", "answer"), [("", "I stopped after 0 rounds"), ("Here you are.", "Here you are.")])
def test_a_model_that_insists_is_stopped(memory: Memory, said: str, answer: str) -> None:
    flow, _ = ask(memory, state(), max_tool_rounds=0)
    insisting = CALL.model_copy(update={"content": said, "usage_metadata": USAGE})
    [message] = finish(flow, insisting)["messages"]
    assert message.text.startswith(answer)
    assert (message.id, message.tool_calls) == ("a", [])
    assert message.usage_metadata == USAGE


def test_rounds_are_counted_by_requests(memory: Memory) -> None:
    assert tool_rounds([HumanMessage("q"), CALL, RESULT, RESULT, CALL, RESULT, AIMessage("done")]) == 2
