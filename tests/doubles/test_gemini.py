"""The real LangChain client works on the double: what it sends, returns, and raises for each failure."""

import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, cast

import httpx
import pytest
from langchain_core.exceptions import ModelAPIError, ModelRateLimitError, OutputParserException
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
    messages_from_dict,
    messages_to_dict,
)
from langchain_core.runnables import Runnable
from langchain_core.tools import tool
from langchain_google_genai import ChatGoogleGenerativeAI, GoogleGenerativeAIEmbeddings
from langchain_google_genai._common import GoogleGenerativeAIError
from langchain_google_genai.chat_models import GoogleAPIError, GoogleRateLimitError
from langgraph.graph import START, MessagesState, StateGraph
from pydantic import BaseModel, SecretStr, ValidationError

from tests.doubles.gemini import (
    LOST_SIGNATURE,
    Call,
    Calls,
    Cut,
    GeminiDouble,
    HttpError,
    Json,
    MalformedJson,
    Reply,
    Slow,
    Text,
)

pytestmark = pytest.mark.anyio

MODEL = "gemini-3-flash-preview"
# Bytes that base64's two alphabets write differently: replies use the one, the client's requests the other.
SIGNATURE = b"\xfb\xff\xfe signed"

Ask = Callable[[Any, list[BaseMessage]], Awaitable[AIMessage]]


class Reflection(BaseModel):
    memories: list[str] = []
    learning: str | None = None


@tool
def search(query: str) -> str:
    """Search for something."""
    return f"found {query}"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def gemini(monkeypatch: pytest.MonkeyPatch) -> Iterator[GeminiDouble]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")  # or a developer's HTTP_PROXY would get the requests
    with GeminiDouble() as double:
        yield double


def chat(gemini: GeminiDouble, **settings: Any) -> ChatGoogleGenerativeAI:
    # max_retries counts attempts: 1 is none after the first, 0 is the SDK's default of five, with waits.
    settings = {"max_retries": 1, **settings}
    return ChatGoogleGenerativeAI(model=MODEL, base_url=gemini.url, google_api_key="test", **settings)


def embedder(gemini: GeminiDouble) -> GoogleGenerativeAIEmbeddings:
    return GoogleGenerativeAIEmbeddings(
        model="gemini-embedding-001", base_url=gemini.url, api_key=SecretStr("test")
    )


def reflection(gemini: GeminiDouble) -> Runnable[Any, Any]:
    return chat(gemini).with_structured_output(Reflection, include_raw=True)


async def invoke(model: Any, messages: list[BaseMessage]) -> AIMessage:
    return cast("AIMessage", model.invoke(messages))


async def ainvoke(model: Any, messages: list[BaseMessage]) -> AIMessage:
    return cast("AIMessage", await model.ainvoke(messages))


async def stream(model: Any, messages: list[BaseMessage]) -> AIMessage:
    return joined(list(model.stream(messages)))


async def astream(model: Any, messages: list[BaseMessage]) -> AIMessage:
    return joined([chunk async for chunk in model.astream(messages)])


def joined(chunks: list[AIMessageChunk]) -> AIMessageChunk:
    return chunks[0] + chunks[1:]


def through_json(message: BaseMessage) -> BaseMessage:
    [restored] = messages_from_dict(json.loads(json.dumps(messages_to_dict([message]))))
    return restored


four_ways = pytest.mark.parametrize("ask", [invoke, ainvoke, stream, astream], ids=lambda ask: ask.__name__)


@four_ways
async def test_text_and_usage_arrive(gemini: GeminiDouble, ask: Ask) -> None:
    gemini.answers.append(Text("one two  three"))

    answer = await ask(chat(gemini), [SystemMessage("Be short."), HumanMessage("Count to three")])

    assert answer.text == "one two  three"
    assert answer.response_metadata["model_name"] == MODEL
    assert answer.response_metadata["finish_reason"] == "STOP"
    usage = answer.usage_metadata
    assert usage is not None
    assert (usage["input_tokens"], usage["output_tokens"], usage["total_tokens"]) == (5, 3, 8)


@four_ways
async def test_the_default_answer_is_ok(gemini: GeminiDouble, ask: Ask) -> None:
    assert (await ask(chat(gemini), [HumanMessage("Hi")])).text == "ok"


async def test_a_stream_comes_in_pieces(gemini: GeminiDouble) -> None:
    gemini.answers += [Text("one two three"), Text("four five")]
    model = chat(gemini)

    # An empty chunk of LangChain's own ends each stream.
    assert [chunk.text for chunk in model.stream("Count")] == ["one", " two", " three", ""]
    assert [chunk.text async for chunk in model.astream("Count")] == ["four", " five", ""]


async def test_requests_are_kept(gemini: GeminiDouble) -> None:
    model = chat(gemini)
    model.bind_tools([search]).invoke([SystemMessage("Be short."), HumanMessage("Hi")])
    list(model.stream("Bye"))
    model.with_structured_output(Reflection).invoke("Reflect")

    first, second, third = gemini.requests
    assert (first.method, first.path) == ("POST", f"/v1beta/models/{MODEL}:generateContent")
    assert first.headers["x-goog-api-key"] == "test"
    assert (first.kind, first.model, first.tools) == ("answer", MODEL, ["search"])
    assert second.path == f"/v1beta/models/{MODEL}:streamGenerateContent?alt=sse"
    assert third.kind == "structured"
    assert third.body["generationConfig"]["responseMimeType"] == "application/json"
    assert gemini.prompts() == ["Be short.\nHi", "Bye"]
    assert gemini.prompts("structured") == ["Reflect"]


@four_ways
async def test_a_signature_comes_back_with_its_function_call(gemini: GeminiDouble, ask: Ask) -> None:
    gemini.answers += [Calls((Call("search", {"query": "tea"}), Call("search", {"query": "milk"})), SIGNATURE)]
    model = chat(gemini).bind_tools([search])

    asked = await ask(model, [HumanMessage("Find tea and milk")])
    restored = through_json(asked)
    results = [search.invoke(call) for call in asked.tool_calls]
    await ask(model, [HumanMessage("Find tea and milk"), restored, *results])

    assert restored == asked
    assert [call["args"] for call in asked.tool_calls] == [{"query": "tea"}, {"query": "milk"}]
    assert gemini.requests[1].signatures == [SIGNATURE]
    assert [result["response"] for result in gemini.requests[1].tool_results] == [
        {"output": "found tea"},
        {"output": "found milk"},
    ]


@four_ways
async def test_a_signature_comes_back_with_its_text(gemini: GeminiDouble, ask: Ask) -> None:
    gemini.answers.append(Text("one two", signature=SIGNATURE))
    model = chat(gemini)

    answer = await ask(model, [HumanMessage("Count")])
    await ask(model, [HumanMessage("Count"), through_json(answer), HumanMessage("Go on")])

    assert answer.text == "one two"
    assert gemini.requests[1].signatures == [SIGNATURE]


async def test_a_lost_signature_shows(gemini: GeminiDouble) -> None:
    call = {"name": "search", "args": {"query": "tea"}, "id": "1"}
    asked = AIMessage("", tool_calls=[call])

    chat(gemini).invoke([HumanMessage("Find tea"), asked, ToolMessage("found tea", tool_call_id="1")])

    assert gemini.requests[0].signatures == [LOST_SIGNATURE]


async def test_a_call_may_name_its_id(gemini: GeminiDouble) -> None:
    gemini.answers.append(Call("search", {"query": "tea"}, id="call-1"))
    answer = chat(gemini).bind_tools([search]).invoke("Find tea")
    assert answer.tool_calls[0]["id"] == "call-1"


@pytest.mark.parametrize("tags", [[], ["nostream"]])
async def test_structured_output_is_parsed(gemini: GeminiDouble, tags: list[str]) -> None:
    gemini.structured.append(Json({"memories": ["likes tea"], "learning": None}))
    model = reflection(gemini).with_config(tags=tags)

    result = model.invoke("Reflect")

    assert result["parsed"] == Reflection(memories=["likes tea"])
    assert result["parsing_error"] is None
    assert result["raw"].text == '{"memories": ["likes tea"], "learning": null}'
    assert (await model.ainvoke("Reflect"))["parsed"] == Reflection()  # the default


async def test_nostream_hides_a_structured_call_from_a_graphs_stream(gemini: GeminiDouble) -> None:
    gemini.answers.append(Text("one two"))
    model = chat(gemini)
    hidden = reflection(gemini).with_config(tags=["nostream"])

    async def answer(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    async def reflect(state: MessagesState) -> None:
        await hidden.ainvoke(state["messages"])

    builder = StateGraph(MessagesState).add_node(answer).add_node(reflect)
    graph = builder.add_edge(START, "answer").add_edge("answer", "reflect").compile()
    streamed = graph.astream({"messages": [HumanMessage("Count")]}, stream_mode="messages")

    assert "".join([cast("AIMessage", message).text async for message, _ in streamed]) == "one two"
    assert [request.kind for request in gemini.requests] == ["answer", "structured"]


@pytest.mark.parametrize("reply", [MalformedJson(), Text(""), Text("Sure!"), Json({"memories": 3})])
async def test_malformed_json_is_a_parsing_error(gemini: GeminiDouble, reply: Reply) -> None:
    gemini.structured += [reply, reply]

    result = reflection(gemini).invoke("Reflect")

    assert result["parsed"] is None
    assert isinstance(result["parsing_error"], OutputParserException)
    with pytest.raises(OutputParserException):
        await chat(gemini).with_structured_output(Reflection).ainvoke("Reflect")


async def test_json_that_was_cut_off_is_taken_for_whole(gemini: GeminiDouble) -> None:
    """LangChain's parser closes it; only the finish reason tells that half a memory is no memory."""
    gemini.structured.append(Text('{"memories": ["is allergic to pea', finish="MAX_TOKENS"))

    result = reflection(gemini).invoke("Reflect")

    assert result["parsed"] == Reflection(memories=["is allergic to pea"])
    assert result["parsing_error"] is None
    assert result["raw"].response_metadata["finish_reason"] == "MAX_TOKENS"


@four_ways
async def test_429_is_a_rate_limit_error(gemini: GeminiDouble, ask: Ask) -> None:
    gemini.answers.append(HttpError(429))
    with pytest.raises(GoogleRateLimitError, match="429 RESOURCE_EXHAUSTED") as caught:
        await ask(chat(gemini), [HumanMessage("Hi")])
    assert isinstance(caught.value, ModelRateLimitError)
    assert len(gemini.requests) == 1


@four_ways
async def test_500_is_an_api_error(gemini: GeminiDouble, ask: Ask) -> None:
    gemini.answers.append(HttpError(500, "out of order"))
    with pytest.raises(GoogleAPIError, match=r"500 INTERNAL.*out of order") as caught:
        await ask(chat(gemini), [HumanMessage("Hi")])
    assert isinstance(caught.value, ModelAPIError)
    assert len(gemini.requests) == 1


@four_ways
async def test_a_slow_answer_arrives(gemini: GeminiDouble, ask: Ask) -> None:
    gemini.answers.append(Slow(0.05, Text("at last")))
    assert (await ask(chat(gemini), [HumanMessage("Hi")])).text == "at last"


@four_ways
async def test_a_slow_answer_times_out(gemini: GeminiDouble, ask: Ask) -> None:
    gemini.answers.append(Slow(60))
    with pytest.raises(httpx.ReadTimeout):
        await ask(chat(gemini, timeout=0.1), [HumanMessage("Hi")])


@four_ways
async def test_a_cut_connection_is_a_protocol_error(gemini: GeminiDouble, ask: Ask) -> None:
    gemini.answers.append(Cut(Text("one two three four")))
    with pytest.raises(httpx.RemoteProtocolError, match="without sending complete message body"):
        await ask(chat(gemini), [HumanMessage("Count")])


async def test_a_stream_is_cut_in_its_middle(gemini: GeminiDouble) -> None:
    gemini.answers.append(Cut(Text("one two three four")))
    chunks = chat(gemini).stream("Count")
    assert [next(chunks).text, next(chunks).text] == ["one", " two"]
    with pytest.raises(httpx.RemoteProtocolError):
        next(chunks)


async def test_after_a_failure_the_next_reply_follows(gemini: GeminiDouble) -> None:
    gemini.answers += [HttpError(429), Cut(), Text("at last")]
    model = chat(gemini)
    with pytest.raises(GoogleRateLimitError):
        model.invoke("Hi")
    with pytest.raises(httpx.RemoteProtocolError):
        model.invoke("Hi")
    assert model.invoke("Hi").text == "at last"
    assert not gemini.answers


async def test_many_calls_at_once_each_take_one_reply(gemini: GeminiDouble) -> None:
    gemini.answers += [Text(f"answer {number}") for number in range(40)]

    answers = await chat(gemini).abatch([f"question {number}" for number in range(40)])

    assert {answer.text for answer in answers} == {f"answer {number}" for number in range(40)}
    assert set(gemini.prompts()) == {f"question {number}" for number in range(40)}


async def test_a_failure_may_be_the_default(gemini: GeminiDouble) -> None:
    gemini.defaults["structured"] = HttpError(503)
    model = chat(gemini)
    with pytest.raises(GoogleAPIError, match="503 UNAVAILABLE"):
        model.with_structured_output(Reflection).invoke("Reflect")
    assert model.invoke("Hi").text == "ok"


async def test_embeddings_are_the_same_every_time(gemini: GeminiDouble) -> None:
    model = embedder(gemini)
    texts = ["green tea", "a green tea", "motorways", ""]

    tea, more_tea, roads, nothing = model.embed_documents(texts)

    assert model.embed_query("green tea") == tea
    assert await model.aembed_query("green tea") == tea
    assert await model.aembed_documents(texts) == [tea, more_tea, roads, nothing]
    assert {len(vector) for vector in (tea, more_tea, roads, nothing)} == {256}
    assert sum(value * value for value in nothing) == pytest.approx(1)
    assert sum(a * b for a, b in zip(tea, more_tea, strict=True)) > 0.7
    assert abs(sum(a * b for a, b in zip(tea, roads, strict=True))) < 0.3
    assert gemini.prompts("embedding")[1] == "green tea"


@pytest.mark.parametrize("reply", [HttpError(429), HttpError(500), Cut()])
async def test_every_failed_embedding_is_the_same_error(gemini: GeminiDouble, reply: Reply) -> None:
    gemini.embeddings += [reply, reply]
    model = embedder(gemini)
    with pytest.raises(GoogleGenerativeAIError, match="Error embedding content"):
        model.embed_query("green tea")
    with pytest.raises(GoogleGenerativeAIError, match="Error embedding content"):
        await model.aembed_query("green tea")


async def test_an_unknown_operation_is_not_found(gemini: GeminiDouble) -> None:
    reply = httpx.post(f"{gemini.url}/v1beta/models/{MODEL}:countTokens", json={})
    assert reply.status_code == 404
    assert [request.kind for request in gemini.requests] == ["unknown"]


async def test_without_a_key_there_is_no_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOOGLE_API_KEY", raising=False)
    monkeypatch.delenv("GEMINI_API_KEY", raising=False)
    with pytest.raises(ValidationError, match="API key required for Gemini Developer API"):
        ChatGoogleGenerativeAI(model=MODEL)
    with pytest.raises(ValidationError, match="API key required for Gemini Developer API"):
        GoogleGenerativeAIEmbeddings(model="gemini-embedding-001")
