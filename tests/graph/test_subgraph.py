"""As one node of a parent graph, with the parent's checkpointer and context: it answers, pauses and resumes."""

import asyncio
from typing import Annotated, Any

import pytest
from langchain_core.messages import AIMessage, AnyMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import Command
from typing_extensions import TypedDict

from learngate.graph import Context, build_graph, resume_decided
from learngate.graph.scripted import ScriptedChat, learning
from learngate.stores import Decision, Memory, NotAllowed
from tests.graph.support import ANA, BEN, INSIGHT, everything, proposing, rows, say, spoken, texts, thread

S = thread("s")
ASK = say("How do I go about comparing ETFs?", "q1")


class ParentState(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]


def sign(state: ParentState) -> dict[str, Any]:
    return {"messages": [AIMessage("— your bank")]}


def parent_of(memory: Memory, model: ScriptedChat, *, saver: Any = None, **options: Any) -> Any:
    """Build a parent whose first node is the agent, and whose second one signs."""
    parent = StateGraph(ParentState, context_schema=Context)
    parent.add_node("agent", build_graph(memory, model=model, checkpointer=None, **options))
    parent.add_node("sign", sign)
    parent.add_edge(START, "agent")
    parent.add_edge("agent", "sign")
    parent.add_edge("sign", END)
    return parent.compile(checkpointer=saver or InMemorySaver())


def taken(memory: Memory) -> tuple[int, int, int]:
    found = rows(memory)
    return len(found["turns"]), len(found["decisions"]), len(found["learnings"])


@pytest.mark.parametrize("resumed_with", [None, ANA, Context("ana", reviewer="kim")], ids=["nothing", "ana", "kim"])
def test_it_pauses_and_resumes(memory: Memory, resumed_with: Context | None) -> None:
    parent = parent_of(memory, proposing())
    paused = parent.invoke(ASK, S, context=ANA)
    assert paused["__interrupt__"][0].value["proposal"]["insight"] == INSIGHT
    result = parent.invoke(Command(resume="approve"), S, context=resumed_with)
    assert texts(result["messages"]) == [ASK["messages"][0].text, "Noted.", "— your bank"]
    assert taken(memory) == (1, 1, 1)
    reviewer = "kim" if resumed_with and resumed_with.reviewer else "ana"
    assert memory.learnings.decision(1).reviewer == reviewer


def test_it_pauses_and_resumes_async(memory: Memory) -> None:
    parent = parent_of(memory, proposing(), saver=memory.checkpointer())

    async def run() -> Any:
        await parent.ainvoke(ASK, S, context=ANA)
        return await parent.ainvoke(Command(resume={"type": "reject", "message": "no"}), S)

    assert asyncio.run(run())["messages"][-1].text == "— your bank"
    assert taken(memory) == (1, 1, 0)


def test_nonsense_is_asked_again_through_the_parent(memory: Memory) -> None:
    parent = parent_of(memory, proposing())
    parent.invoke(ASK, S, context=ANA)
    assert parent.invoke(Command(resume="maybe"), S)["__interrupt__"][0].value["problem"]
    parent.invoke(Command(resume="approve"), S)
    assert taken(memory) == (1, 1, 1)


@pytest.mark.parametrize("stranger", [BEN, Context()], ids=["ben", "nobody"])
def test_a_stranger_is_refused_through_the_parent(memory: Memory, stranger: Context) -> None:
    parent = parent_of(memory, proposing())
    parent.invoke(ASK, S, context=ANA)
    before = everything(memory)
    with pytest.raises(NotAllowed):
        parent.invoke(Command(resume="approve"), S, context=stranger)
    with pytest.raises(NotAllowed):
        parent.invoke(say("What did Ana say?"), S, context=stranger)
    assert everything(memory) == before
    # Ana's own run goes on as if nothing had been.
    parent.invoke(say("And now?", "q2"), S, context=ANA)
    assert [turn.question for turn in memory.sessions.window("s")][-1] == "And now?"


def test_turns_of_the_parents_thread_follow_each_other(memory: Memory) -> None:
    model = ScriptedChat(answers=["one", "two", "three"])
    parent = parent_of(memory, model, reflection="off")
    for n in (1, 2, 3):
        result = parent.invoke(say(f"q{n}", f"id{n}"), S, context=ANA)
    assert texts(model.prompts[-1][1:]) == ["q1", "one", "q2", "two", "q3"]
    assert [m.text for m in result["messages"] if m.text != "— your bank"] == [
        "q1",
        "one",
        "q2",
        "two",
        "q3",
        "three",
    ]
    assert [turn.parent for turn in memory.sessions.window("s")] == ["", "id1", "id2"]


def test_with_checkpoints_of_its_own_under_the_parents_it_does_the_same(memory: Memory) -> None:
    model = ScriptedChat(answers=["one", "two", "three"], reflections=[None, learning("ETFs", INSIGHT), None])
    parent = StateGraph(ParentState, context_schema=Context)
    parent.add_node("agent", build_graph(memory, model=model, checkpointer=True))
    parent.add_edge(START, "agent")
    graph = parent.compile(checkpointer=InMemorySaver())
    graph.invoke(say("q1", "id1"), S, context=ANA)
    assert graph.invoke(say("q2", "id2"), S, context=ANA)["__interrupt__"]
    graph.invoke(Command(resume="approve"), S)
    result = graph.invoke(say("q3", "id3"), S, context=ANA)
    assert texts(result["messages"]) == ["q1", "one", "q2", "two", "q3", "three"]
    assert texts(model.prompts[-1][1:]) == ["q1", "one", "q2", "two", "q3"]
    assert taken(memory) == (3, 1, 1)


def test_a_failed_turn_of_a_parent_is_in_no_later_prompt(memory: Memory) -> None:
    model = ScriptedChat(answers=["one", RuntimeError("503"), "three"])
    parent = parent_of(memory, model, reflection="off")
    parent.invoke(say("q1"), S, context=ANA)
    with pytest.raises(RuntimeError, match="503"):
        parent.invoke(say("Forget-me-not?"), S, context=ANA)
    parent.invoke(say("q3"), S, context=ANA)
    assert texts(model.prompts[-1][1:]) == ["q1", "one", "q3"]


def test_a_broken_turn_goes_on_without_a_context(memory: Memory) -> None:
    memory.users.remember("ana", "Ana wants low costs.")
    model = ScriptedChat(answers=[RuntimeError("503"), "At last."])
    parent = parent_of(memory, model, reflection="off")
    with pytest.raises(RuntimeError, match="503"):
        parent.invoke(say("q1", "id1"), S, context=ANA)
    result = parent.invoke(None, S)
    assert texts(result["messages"]) == ["q1", "At last.", "— your bank"]
    assert model.prompts[0] == model.prompts[1]
    assert "low costs" in spoken(model.prompts[-1])
    assert memory.sessions.get("s", "id1").user_id == "ana"


def test_a_run_stopped_before_its_first_node_goes_on_without_a_context(memory: Memory) -> None:
    memory.users.remember("ana", "Ana wants low costs.")
    model = ScriptedChat()
    parent = parent_of(memory, model, reflection="off")
    parent.invoke(say("q1", "id1"), S, context=ANA, interrupt_before=["agent"])
    # The agent has heard of nobody yet: who goes on has to say whose run it is.
    parent.invoke(None, S, context=ANA)
    assert "low costs" in spoken(model.prompts[-1])


def test_a_message_delivered_twice_through_a_parent_is_one_turn(memory: Memory) -> None:
    model = ScriptedChat(answers=["one", "two"])
    parent = parent_of(memory, model, reflection="off")
    parent.invoke(say("q1", "id1"), S, context=ANA)
    result = parent.invoke(say("q1", "id1"), S, context=ANA)
    assert len(model.prompts) == 1
    assert "one" in texts(result["messages"])
    assert taken(memory)[0] == 1


def test_the_parents_other_words_are_part_of_the_question(memory: Memory) -> None:
    model = ScriptedChat()
    parent = StateGraph(ParentState, context_schema=Context)
    parent.add_node("look_up", lambda state: {"messages": [AIMessage("I looked it up: 42.")]})
    parent.add_node("agent", build_graph(memory, model=model, checkpointer=None, reflection="off"))
    parent.add_edge(START, "look_up")
    parent.add_edge("look_up", "agent")
    graph = parent.compile(checkpointer=InMemorySaver())
    graph.invoke(say("What is it?", "id1"), S, context=ANA)
    assert texts(model.prompts[-1][1:]) == ["What is it?", "I looked it up: 42."]
    graph.invoke(say("Are you sure?", "id2"), S, context=ANA)
    assert texts(model.prompts[-1][1:]) == [
        "What is it?",
        "I looked it up: 42.",
        "ok",
        "Are you sure?",
        "I looked it up: 42.",
    ]


def test_a_decision_in_the_inbox_is_found_by_the_parents_thread(memory: Memory) -> None:
    parent = parent_of(memory, proposing())
    parent.invoke(ASK, S, context=ANA)
    memory.learnings.decide(1, Decision.approve(), reviewer="kim")
    # The parent's thread is the parent's to resume; the agent on its own finds nothing that waits.
    assert resume_decided(build_graph(memory, model=ScriptedChat()), 1) is None
    result = parent.invoke(Command(resume="approve"), S)
    assert result["messages"][-1].text == "— your bank"
    assert memory.learnings.decision(1).reviewer == "kim"


def test_a_parent_without_a_checkpointer_answers_and_the_proposal_waits_in_the_inbox(memory: Memory) -> None:
    parent = StateGraph(ParentState, context_schema=Context)
    parent.add_node("agent", build_graph(memory, model=proposing(), checkpointer=None))
    parent.add_edge(START, "agent")
    result = parent.compile().invoke(ASK, S, context=ANA)
    assert "__interrupt__" not in result
    assert result["messages"][-1].text == "Noted."
    assert len(memory.learnings.pending(namespace="finance")) == 1


def test_called_from_a_node_of_the_parent_it_is_a_run_of_its_own(memory: Memory) -> None:
    agent = build_graph(memory, model=proposing())

    def ask(state: ParentState) -> dict[str, Any]:
        answered = agent.invoke({"messages": [state["messages"][-1]]}, thread("inner"), context=ANA)
        assert answered["__interrupt__"]
        return {"messages": [answered["messages"][-1]]}

    parent = StateGraph(ParentState)
    parent.add_node("ask", ask)
    parent.add_edge(START, "ask")
    result = parent.compile(checkpointer=InMemorySaver()).invoke(ASK, S)
    assert result["messages"][-1].text == "Noted."
    agent.invoke(Command(resume="approve"), thread("inner"))
    assert taken(memory) == (1, 1, 1)


def test_tokens_stream_through_the_parent_and_the_reflection_does_not(memory: Memory) -> None:
    parent = parent_of(memory, proposing("one two three"))
    parts = parent.stream(ASK, S, context=ANA, stream_mode="messages", subgraphs=True)
    told = [chunk.text for _, (chunk, _) in parts if chunk.text]
    assert told[:3] == ["one", " two", " three"]
    assert INSIGHT not in "".join(told)
