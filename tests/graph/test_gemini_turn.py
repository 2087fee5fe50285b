"""The whole turn on Gemini's real client, over loopback: gate, tools, signatures, and every way it fails."""

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import httpx
import pytest
from langchain_core.tools import tool
from langchain_google_genai import ChatGoogleGenerativeAI
from langchain_google_genai.chat_models import GoogleRateLimitError
from langgraph.types import Command

from learngate.graph import build_graph, reflect_pending
from learngate.stores import Memory
from tests.doubles.gemini import (
    LOST_SIGNATURE,
    Call,
    Calls,
    Cut,
    GeminiDouble,
    HttpError,
    Json,
    MalformedJson,
    Slow,
    Text,
)
from tests.graph.support import ANA, INSIGHT, say, thread

pytestmark = pytest.mark.anyio

# Bytes that base64's two alphabets write differently: replies use the one, the client's requests the other.
SIGNATURE = b"\xfb\xff\xfe signed"
S = thread("s")
FOUND = {
    "memories": [{"op": "add", "text": "Ana compares ETFs."}],
    "learning": {"title": "ETFs", "insight": INSIGHT, "applies_when": "comparing ETFs", "rationale": ""},
}


@tool
def price(ticker: str) -> str:
    """Look up the price of a fund."""
    return f"{ticker} costs 12.50"


@pytest.fixture
def gemini() -> Iterator[GeminiDouble]:
    with GeminiDouble() as double:
        yield double


def chat(gemini: GeminiDouble, **settings: Any) -> ChatGoogleGenerativeAI:
    # max_retries counts attempts: 1 is none after the first.
    settings = {"max_retries": 1, **settings}
    return ChatGoogleGenerativeAI(
        model="gemini-3-flash-preview", base_url=gemini.url, google_api_key="test", **settings
    )


Run = Callable[..., Awaitable[dict[str, Any]]]


async def invoke(graph: Any, given: Any, **options: Any) -> dict[str, Any]:
    return graph.invoke(given, S, context=ANA, **options)


async def ainvoke(graph: Any, given: Any, **options: Any) -> dict[str, Any]:
    return await graph.ainvoke(given, S, context=ANA, **options)


async def stream(graph: Any, given: Any, **options: Any) -> dict[str, Any]:
    parts = list(graph.stream(given, S, context=ANA, stream_mode=["messages", "values", "updates"], **options))
    return last_values(parts)


async def astream(graph: Any, given: Any, **options: Any) -> dict[str, Any]:
    modes = ["messages", "values", "updates"]
    return last_values([part async for part in graph.astream(given, S, context=ANA, stream_mode=modes, **options)])


def last_values(parts: list[Any]) -> dict[str, Any]:
    [*_, values] = [value for mode, value in parts if mode == "values"]
    asked = [value["__interrupt__"] for mode, value in parts if mode == "updates" and "__interrupt__" in value]
    return {**values, "__interrupt__": asked[-1]} if asked else values


every_way = pytest.mark.parametrize("run", [invoke, ainvoke, stream, astream], ids=lambda run: run.__name__)


@every_way
async def test_a_turn_through_the_gate(gemini: GeminiDouble, memory: Memory, run: Run) -> None:
    gemini.answers += [Text("Compare their costs."), Text("As you learned: check both.")]
    gemini.structured.append(Json(FOUND))
    graph = build_graph(memory, model=chat(gemini))
    paused = await run(graph, say("How do I go about comparing ETFs?", "q1"))
    assert paused["messages"][-1].text == "Compare their costs."
    assert paused["__interrupt__"][0].value["proposal"]["insight"] == INSIGHT
    assert memory.learnings.list(namespace="finance") == []

    done = await run(graph, Command(resume="approve"))
    assert done["proposal"]["status"] == "approved"
    assert memory.learnings.proposal(1).proposer == "gemini-3-flash-preview"
    assert [one.text for one in memory.users.list("ana")] == ["Ana compares ETFs."]
    turn = memory.sessions.get("s", "q1")
    assert (turn.answer, turn.reflection) == ("Compare their costs.", "done")
    assert turn.usage is not None
    assert turn.usage["output_tokens"] == 3

    await run(graph, say("What about comparing ETFs by cost?", "q2"))
    prompt = gemini.prompts()[-1]
    for part in ("How do I go about", "Compare their costs.", "Ana compares ETFs.", INSIGHT):
        assert part in prompt
    assert [request.kind for request in gemini.requests] == ["answer", "structured", "answer", "structured"]


@every_way
async def test_thought_signatures_come_back_in_the_turn_and_in_the_next(
    gemini: GeminiDouble, memory: Memory, run: Run
) -> None:
    gemini.answers += [
        Calls((Call("price", {"ticker": "A"}), Call("price", {"ticker": "B"})), SIGNATURE),
        Text("12.50 both.", signature=b"second"),
        Text("Yes."),
    ]
    graph = build_graph(memory, model=chat(gemini), tools=[price], reflection="off")
    await run(graph, say("Prices?", "q1"))
    await run(graph, say("Really?", "q2"))
    first, within, later = gemini.requests
    assert first.tools == ["price"]
    assert within.signatures == [SIGNATURE]
    assert [one["response"] for one in within.tool_results] == [
        {"output": "A costs 12.50"},
        {"output": "B costs 12.50"},
    ]
    assert later.signatures == [SIGNATURE, b"second"]
    assert LOST_SIGNATURE not in later.signatures
    assert [one["response"] for one in later.tool_results] == [one["response"] for one in within.tool_results]


async def test_signatures_survive_a_new_process(gemini: GeminiDouble, memory: Memory) -> None:
    gemini.answers += [Calls((Call("price", {"ticker": "A"}),), SIGNATURE), Text("12.50."), Text("Yes.")]
    graph = build_graph(memory, model=chat(gemini), tools=[price], reflection="off")
    await ainvoke(graph, say("Price?", "q1"), interrupt_before=["tools"])
    # Another graph on the same memory has nothing but what was stored.
    again = build_graph(memory, model=chat(gemini), tools=[price], reflection="off")
    await again.ainvoke(None, S)
    await ainvoke(again, say("Really?"))
    assert [request.signatures for request in gemini.requests] == [[], [SIGNATURE], [SIGNATURE]]


async def test_the_memory_tools(gemini: GeminiDouble, memory: Memory) -> None:
    gemini.answers += [
        Calls((Call("remember", {"text": "Ana cycles."}), Call("propose_learning", FOUND["learning"]))),
        Text("Noted."),
    ]
    graph = build_graph(memory, model=chat(gemini), memory_tools=True, reflection="off")
    result = await ainvoke(graph, say("I cycle."))
    assert gemini.requests[0].tools == ["remember", "propose_learning", "search_past_sessions"]
    assert [one["response"]["output"] for one in gemini.requests[1].tool_results] == [
        "noted",
        "noted, waiting for review",
    ]
    assert [one.text for one in memory.users.list("ana")] == ["Ana cycles."]
    assert result["proposal"]["insight"] == INSIGHT


async def test_the_answers_tokens_stream_and_the_reflections_do_not(gemini: GeminiDouble, memory: Memory) -> None:
    gemini.answers.append(Text("Compare their costs."))
    gemini.structured.append(Json(FOUND))
    graph = build_graph(memory, model=chat(gemini))
    parts = graph.astream(say("ETFs?"), S, context=ANA, stream_mode="messages")
    told = [chunk.text async for chunk, _ in parts]
    assert [piece for piece in told if piece] == ["Compare", " their", " costs."]


# -- what fails --------------------------------------------------------------------------------------------


@every_way
async def test_a_rate_limit_is_raised_and_the_run_goes_on_later(
    gemini: GeminiDouble, memory: Memory, run: Run
) -> None:
    gemini.answers += [HttpError(429), Text("At last.")]
    graph = build_graph(memory, model=chat(gemini))
    with pytest.raises(GoogleRateLimitError):
        await run(graph, say("ETFs?", "q1"))
    assert memory.sessions.window("s") == []
    result = await run(graph, None)
    assert result["messages"][-1].text == "At last."
    first, second = gemini.prompts()
    assert first == second
    assert [turn.id for turn in memory.sessions.window("s")] == ["q1"]


@every_way
async def test_an_answer_that_is_cut_off_is_no_turn(gemini: GeminiDouble, memory: Memory, run: Run) -> None:
    gemini.answers += [Cut(Text("Half of an answer that never ends")), Text("Whole.")]
    graph = build_graph(memory, model=chat(gemini), reflection="off")
    with pytest.raises(httpx.RemoteProtocolError):
        await run(graph, say("Forget-me-not?", "q1"))
    result = await run(graph, say("Hello", "q2"))
    assert [message.text for message in result["messages"]] == ["Hello", "Whole."]
    assert "Forget-me-not?" not in gemini.prompts()[-1]
    assert [turn.id for turn in memory.sessions.window("s")] == ["q2"]


async def test_a_model_that_is_too_slow_is_no_turn(gemini: GeminiDouble, memory: Memory) -> None:
    gemini.answers += [Slow(60), Text("Whole.")]
    graph = build_graph(memory, model=chat(gemini, timeout=0.2), reflection="off")
    with pytest.raises(httpx.ReadTimeout):
        await ainvoke(graph, say("ETFs?", "q1"))
    assert (await ainvoke(graph, None))["messages"][-1].text == "Whole."


GARBAGE = [
    MalformedJson(),
    Text('{"memories": [{"op": "add", "text": "is allergic to pea', finish="MAX_TOKENS"),
    Text('```json\n{"memories": [], "learning": {"title": "ETFs", "insight": "When', finish="MAX_TOKENS"),
    Text(""),
    Text("Sure! Here is what I think."),
    Json({"memories": 3}),
    Json([1, 2]),
    Json({"learning": {"title": "ETFs"}}),
    HttpError(429),
    HttpError(500),
    Cut(Json(FOUND)),
]


@pytest.mark.parametrize("garbage", GARBAGE, ids=repr)
@pytest.mark.parametrize("run", [invoke, ainvoke], ids=lambda run: run.__name__)
async def test_a_reflection_that_fails_leaves_the_answer_and_is_taken_again(
    gemini: GeminiDouble, memory: Memory, run: Run, garbage: Any
) -> None:
    gemini.answers.append(Text("Compare their costs."))
    gemini.structured += [garbage, Json(FOUND)]
    model = chat(gemini)
    graph = build_graph(memory, model=model)
    result = await run(graph, say("ETFs?", "q1"))
    assert result["messages"][-1].text == "Compare their costs."
    assert "__interrupt__" not in result
    turn = memory.sessions.get("s", "q1")
    assert (turn.answer, turn.reflection) == ("Compare their costs.", "failed")
    assert turn.error
    assert memory.users.list("ana") == []

    [report] = reflect_pending(memory, model=model)
    assert (report.status, report.proposal_id) == ("done", 1)
    first, second = gemini.prompts("structured")
    assert first == second
    assert [one.text for one in memory.users.list("ana")] == ["Ana compares ETFs."]


async def test_fenced_json_is_read(gemini: GeminiDouble, memory: Memory) -> None:
    gemini.structured.append(
        Text('```json\n{"memories": [{"op": "add", "text": "Ana cycles."}], "learning": null}\n```')
    )
    await ainvoke(build_graph(memory, model=chat(gemini)), say("I cycle.", "q1"))
    assert memory.sessions.get("s", "q1").reflection == "done"
    assert [one.text for one in memory.users.list("ana")] == ["Ana cycles."]


async def test_an_empty_answer_is_a_turn_and_the_next_one_works(gemini: GeminiDouble, memory: Memory) -> None:
    gemini.answers += [Text(""), Text("Now I have words.")]
    graph = build_graph(memory, model=chat(gemini), reflection="off")
    await ainvoke(graph, say("ETFs?", "q1"))
    result = await ainvoke(graph, say("Well?", "q2"))
    assert result["messages"][-1].text == "Now I have words."
