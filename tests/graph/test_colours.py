"""`invoke`, `ainvoke`, `stream` and `astream` give the same rows; answers stream, and reflections never do."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.messages import AIMessageChunk
from langgraph.types import Command

from learngate.graph.scripted import ScriptedChat
from learngate.stores import Memory
from tests.graph.support import (
    ANA,
    INSIGHT,
    QUESTION,
    full_graph,
    full_model,
    once,
    opened,
    rows,
    say,
    teach,
    thread,
)

pytestmark = pytest.mark.filterwarnings("ignore:The v3 streaming protocol:langchain_core._api.LangChainBetaWarning")

Drive = Callable[[Any, Any], None]


def invoke(graph: Any, given: Any) -> None:
    graph.invoke(given, thread("s"), context=ANA)


def ainvoke(graph: Any, given: Any) -> None:
    asyncio.run(graph.ainvoke(given, thread("s"), context=ANA))


def stream(graph: Any, given: Any) -> None:
    list(graph.stream(given, thread("s"), context=ANA, stream_mode=["values", "messages", "updates", "custom"]))


def astream(graph: Any, given: Any) -> None:
    async def drain() -> None:
        async for _ in graph.astream(given, thread("s"), context=ANA, stream_mode=["updates", "messages"]):
            pass

    asyncio.run(drain())


def batch(graph: Any, given: Any) -> None:
    graph.batch([given], thread("s"), context=ANA)


def astream_events(graph: Any, given: Any) -> None:
    async def drain() -> None:
        async for _ in graph.astream_events(given, thread("s"), context=ANA, version="v2"):
            pass

    asyncio.run(drain())


def stream_events_v3(graph: Any, given: Any) -> None:
    list(graph.stream_events(given, thread("s"), context=ANA, version="v3"))


def left_by(drive: Drive) -> dict[str, Any]:
    with opened() as memory:
        teach(memory)
        model = full_model()
        graph = full_graph(memory, model)
        drive(graph, QUESTION)
        assert [proposal.insight for proposal in memory.learnings.pending(namespace="finance")] == [INSIGHT]
        drive(graph, Command(resume="approve"))
        return {"answered": once(model.prompts), "reflected": once(model.reflected), "rows": rows(memory)}


@pytest.fixture(scope="module")
def invoked() -> dict[str, Any]:
    return left_by(invoke)


@pytest.mark.parametrize(
    "drive", [ainvoke, stream, astream, batch, astream_events], ids=lambda drive: drive.__name__
)
def test_every_colour_leaves_the_same_rows_and_asks_the_same(invoked: dict[str, Any], drive: Drive) -> None:
    assert left_by(drive) == invoked


def test_v3_events_leave_the_same_words(invoked: dict[str, Any]) -> None:
    # v3 turns every content into a list of blocks; what is said in them is the same.
    left = left_by(stream_events_v3)
    for name in ("learnings", "proposals", "decisions", "user_memories", "effects", "recalls"):
        assert left["rows"][name] == invoked["rows"][name]


# -- what streams, and what does not -----------------------------------------------------------------------


def sync_messages(graph: Any, given: Any) -> list[Any]:
    return [chunk for chunk, _ in graph.stream(given, thread("s"), context=ANA, stream_mode="messages")]


def async_messages(graph: Any, given: Any) -> list[Any]:
    async def collect() -> list[Any]:
        parts = graph.astream(given, thread("s"), context=ANA, stream_mode="messages")
        return [chunk async for chunk, _ in parts]

    return asyncio.run(collect())


@pytest.mark.parametrize("collect", [sync_messages, async_messages], ids=["sync", "async"])
def test_the_answer_streams_word_by_word_and_the_reflection_not_at_all(memory: Memory, collect: Any) -> None:
    model = full_model()
    chunks = collect(full_graph(memory, model), QUESTION)
    answer = [chunk.text for chunk in chunks if isinstance(chunk, AIMessageChunk) and chunk.text]
    assert answer == ["VWCE", " is", " the", " cheaper", " ETF."]
    assert len(model.reflected) == 1
    for trace in (INSIGHT, "Reflection", "Ana holds", "memories"):
        assert trace not in str(chunks)


@pytest.mark.parametrize("collect", [sync_messages, async_messages], ids=["sync", "async"])
def test_nor_does_the_rest_of_the_run_after_the_gate_stream_anything(memory: Memory, collect: Any) -> None:
    graph = full_graph(memory, full_model())
    graph.invoke(QUESTION, thread("s"), context=ANA)
    assert collect(graph, Command(resume="approve")) == []


def test_events_show_the_answers_tokens_as_the_models_and_the_reflections_as_untold(memory: Memory) -> None:
    graph = full_graph(memory, full_model())

    async def collect() -> list[Any]:
        return [event async for event in graph.astream_events(QUESTION, thread("s"), context=ANA, version="v2")]

    spoken = [event for event in asyncio.run(collect()) if event["event"] == "on_chat_model_stream"]
    told = [event for event in spoken if "nostream" not in event["tags"]]
    assert "".join(event["data"]["chunk"].text for event in told) == "VWCE is the cheaper ETF."
    assert {event["metadata"]["langgraph_node"] for event in told} == {"respond"}
    assert all(event["metadata"]["langgraph_node"] == "reflect" for event in spoken if "nostream" in event["tags"])


def test_v3_messages_tell_the_answer_and_not_the_reflection(memory: Memory) -> None:
    graph = full_graph(memory, full_model())
    run = graph.stream_events(QUESTION, thread("s"), context=ANA, version="v3")
    told = "".join("".join(message.text) for message in run.messages)
    assert told.startswith("VWCE is the cheaper ETF.")
    assert INSIGHT not in told


def test_v3_messages_tell_the_answer_and_not_the_reflection_async(memory: Memory) -> None:
    graph = full_graph(memory, full_model())

    async def collect() -> str:
        run = await graph.astream_events(QUESTION, thread("s"), context=ANA, version="v3")
        return "".join([piece async for message in run.messages async for piece in message.text])

    told = asyncio.run(collect())
    assert told.startswith("VWCE is the cheaper ETF.")
    assert INSIGHT not in told


def test_a_v3_answer_in_blocks_is_recorded_and_recalled_as_text(memory: Memory) -> None:
    model = ScriptedChat(answers=["A fund."])
    graph = full_graph(memory, model, reflection="off")
    stream_events_v3(graph, say("What is an ETF?", "q"))
    assert memory.sessions.get("s", "q").answer == "A fund."
    graph.invoke(say("And now?"), thread("s"), context=ANA)
    assert "A fund." in [message.text for message in model.prompts[-1]]


def test_updates_end_with_what_is_asked_at_the_gate(memory: Memory) -> None:
    graph = full_graph(memory, full_model())
    parts = list(graph.stream(QUESTION, thread("s"), context=ANA, stream_mode="updates"))
    [asked] = parts[-1]["__interrupt__"]
    assert asked.value["action_requests"][0]["args"]["insight"] == INSIGHT


def test_output_keys_are_the_three_documented_ones(memory: Memory) -> None:
    graph = full_graph(memory, full_model())
    result = graph.invoke(QUESTION, thread("s"), context=ANA)
    assert set(result) == {"messages", "recall", "proposal", "__interrupt__"}
    assert set(graph.get_output_jsonschema()["properties"]) == {"messages", "recall", "proposal"}
    assert set(graph.get_input_jsonschema()["properties"]) == {"messages"}


def test_many_runs_side_by_side_on_one_memory(memory: Memory) -> None:
    model = ScriptedChat(answers=[lambda prompt: f"You said: {prompt[-1].text}"])
    graph = full_graph(memory, model, reflection="off")

    async def all_at_once() -> list[Any]:
        return await asyncio.gather(
            *(graph.ainvoke(say(f"number {n}", f"m{n}"), thread(f"t{n}"), context=ANA) for n in range(20))
        )

    results = asyncio.run(all_at_once())
    assert [result["messages"][-1].text for result in results] == [f"You said: number {n}" for n in range(20)]
    assert len(rows(memory)["turns"]) == 20
