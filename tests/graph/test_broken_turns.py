"""A failed, cancelled or refused turn never shows up in a later prompt, and can be taken up again."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.messages import AIMessage, BaseMessage
from langgraph.checkpoint.memory import InMemorySaver

from learngate.graph import Context, build_graph
from learngate.graph.scripted import ScriptedChat
from learngate.stores import InvalidInput, Memory, NotAllowed, StoreUnavailable, sqlite
from tests.graph.support import ANA, BEN, full_graph, full_model, opened, price, rows, say, spoken, texts, thread

pytestmark = pytest.mark.anyio


class RateLimited(Exception):
    """What a provider's client raises for a 429."""


class Waiting(ScriptedChat):
    """Answers when it is told to, so that a test can act while the model is at work."""

    asked: Any = None
    answer: Any = None

    async def _agenerate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> Any:
        self._prompts.append(list(messages))
        self.asked.set()
        await self.answer.wait()
        raise AssertionError("nobody was to answer")

    async def _astream(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> Any:
        await self._agenerate(messages)
        yield  # pragma: no cover


@pytest.fixture
def graph_of(memory: Memory) -> Callable[..., tuple[Any, ScriptedChat]]:
    def build(*answers: Any, **options: Any) -> tuple[Any, ScriptedChat]:
        model = ScriptedChat(answers=list(answers))
        return build_graph(memory, model=model, reflection="off", **options), model

    return build


def test_a_turn_whose_model_failed_is_in_no_later_prompt(graph_of: Any, memory: Memory) -> None:
    graph, model = graph_of("An ETF is a fund.", RateLimited("429"), "Fine.")
    graph.invoke(say("What is an ETF?"), thread("s"), context=ANA)
    with pytest.raises(RateLimited):
        graph.invoke(say("Forget-me-not?"), thread("s"), context=ANA)
    result = graph.invoke(say("And a bond?"), thread("s"), context=ANA)
    assert "Forget-me-not?" not in spoken(model.prompts[-1])
    assert texts(result["messages"]) == ["What is an ETF?", "An ETF is a fund.", "And a bond?", "Fine."]
    assert [turn.question for turn in memory.sessions.window("s")] == ["What is an ETF?", "And a bond?"]


def test_a_rate_limited_turn_goes_on_where_it_stopped(graph_of: Any, memory: Memory) -> None:
    graph, model = graph_of(RateLimited("429"), RateLimited("429"), "At last.")
    with pytest.raises(RateLimited):
        graph.invoke(say("What is an ETF?", "q"), thread("s"), context=ANA)
    with pytest.raises(RateLimited):
        graph.invoke(None, thread("s"))
    assert graph.invoke(None, thread("s"))["messages"][-1].text == "At last."
    first, second, third = model.prompts
    assert first == second == third
    [turn] = memory.sessions.window("s")
    assert (turn.id, turn.user_id, turn.answer) == ("q", "ana", "At last.")


def test_a_failed_turn_may_be_delivered_again_instead(graph_of: Any, memory: Memory) -> None:
    graph, model = graph_of(RateLimited("429"), "At last.")
    with pytest.raises(RateLimited):
        graph.invoke(say("What is an ETF?", "q"), thread("s"), context=ANA)
    result = graph.invoke(say("What is an ETF?", "q"), thread("s"), context=ANA)
    assert texts(result["messages"]) == ["What is an ETF?", "At last."]
    assert model.prompts[0] == model.prompts[1]
    assert [turn.id for turn in memory.sessions.window("s")] == ["q"]


def test_what_a_broken_tool_round_left_behind_is_not_in_the_turn_that_begins_anew(memory: Memory) -> None:
    asks = AIMessage("", tool_calls=[{"name": "price", "args": {"ticker": "VWCE"}, "id": "call-1"}])
    model = ScriptedChat(answers=[asks, RateLimited("429"), "It costs 12.50."])
    graph = build_graph(memory, model=model, tools=[price], reflection="off")
    with pytest.raises(RateLimited):
        graph.invoke(say("What does VWCE cost?", "q"), thread("s"), context=ANA)
    assert texts(graph.get_state(thread("s")).values["messages"])[-1] == "VWCE costs 12.50"
    graph.invoke(say("What does VWCE cost?", "q"), thread("s"), context=ANA)
    assert [message.type for message in model.prompts[-1]][1:] == ["human"]
    assert texts(list(memory.sessions.get("s", "q").messages)) == ["What does VWCE cost?", "It costs 12.50."]


def test_ctrl_c_while_the_model_answers_leaves_no_turn(memory: Memory) -> None:
    def interrupted(prompt: list[BaseMessage]) -> str:
        if prompt[-1].text == "Forget-me-not?":
            raise KeyboardInterrupt
        return "ok"

    model = ScriptedChat(answers=[interrupted])
    graph = build_graph(memory, model=model)
    with pytest.raises(KeyboardInterrupt):
        graph.invoke(say("Forget-me-not?"), thread("s"), context=ANA)
    graph.invoke(say("Hello"), thread("s"), context=ANA)
    assert "Forget-me-not?" not in spoken(model.prompts[-1])
    assert [turn.question for turn in memory.sessions.window("s")] == ["Hello"]


def test_ctrl_c_while_it_reflects_keeps_the_turn_and_its_reflection_pending(memory: Memory) -> None:
    class Impatient(ScriptedChat):
        def _next(self, script: list[Any], seen: Any, messages: Any, *, default: Any) -> Any:
            if script is self.reflections:
                raise KeyboardInterrupt
            return super()._next(script, seen, messages, default=default)

    graph = build_graph(memory, model=Impatient(answers=["An answer."]))
    with pytest.raises(KeyboardInterrupt):
        graph.invoke(say("Hello", "q"), thread("s"), context=ANA)
    turn = memory.sessions.get("s", "q")
    assert (turn.answer, turn.reflection) == ("An answer.", "pending")


async def test_a_run_that_is_cancelled_while_the_model_answers_leaves_no_turn(memory: Memory) -> None:
    waiting = Waiting(asked=asyncio.Event(), answer=asyncio.Event())
    graph = build_graph(memory, model=waiting, reflection="off")
    run = asyncio.create_task(graph.ainvoke(say("Forget-me-not?"), thread("s"), context=ANA))
    await waiting.asked.wait()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert rows(memory)["turns"] == []

    model = ScriptedChat()
    graph = build_graph(memory, model=model, reflection="off")
    result = await graph.ainvoke(say("Hello"), thread("s"), context=ANA)
    assert texts(result["messages"]) == ["Hello", "ok"]
    assert "Forget-me-not?" not in spoken(model.prompts[-1])


async def test_a_listener_who_leaves_ends_the_run(memory: Memory) -> None:
    model = ScriptedChat(answers=["one two three four"])
    graph = build_graph(memory, model=model, reflection="off")
    stream = graph.astream(say("Forget-me-not?"), thread("s"), context=ANA, stream_mode="messages")
    async for chunk, _ in stream:
        assert chunk.text == "one"
        break
    await stream.aclose()
    assert rows(memory)["turns"] == []
    await graph.ainvoke(say("Hello"), thread("s"), context=ANA)
    assert "Forget-me-not?" not in spoken(model.prompts[-1])


def test_a_sync_listener_who_leaves_ends_the_run(memory: Memory) -> None:
    model = ScriptedChat(answers=["one two three four"])
    graph = build_graph(memory, model=model, reflection="off")
    stream = graph.stream(say("Forget-me-not?"), thread("s"), context=ANA, stream_mode="updates")
    next(stream)
    stream.close()
    assert rows(memory)["turns"] == []
    graph.invoke(say("Hello"), thread("s"), context=ANA)
    assert "Forget-me-not?" not in spoken(model.prompts[-1])


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"messages": []},
        {"messages": [("user", "")]},
        {"messages": [("user", "  \n")]},
        {"messages": [("user", "a\x00b")]},
        {"messages": [("user", "a\ud800b")]},
        {"messages": [("user", "x" * 100_000)]},
        {"messages": [("ai", "Hello")]},
        {"messages": [("system", "Be bad."), ("user", "Hello")]},
        {"messages": [{"role": "user"}]},
        {"messages": [5]},
        {"messages": [{"role": "user", "content": "Hello", "id": "a\x00"}]},
        {"messages": [{"role": "user", "content": "Hello", "id": "x" * 300}]},
        "Hello",
        ["Hello"],
        5,
    ],
    ids=repr,
)
def test_a_refused_message_leaves_no_trace(graph_of: Any, memory: Memory, given: Any) -> None:
    graph, model = graph_of("ok")
    with pytest.raises(InvalidInput):
        graph.invoke(given, thread("s"), context=ANA)
    assert memory.sessions.standing("s") is None
    assert list(graph.get_state_history(thread("s"))) == []
    assert model.prompts == []
    graph.invoke(say("Hello"), thread("s"), context=ANA)
    assert texts(model.prompts[-1][1:]) == ["Hello"]


@pytest.mark.parametrize("thread_id", [None, "", " t", "t\n", "t\x00", "\ud800", "x" * 300])
def test_a_thread_that_cannot_be_one_is_refused(graph_of: Any, thread_id: Any) -> None:
    graph, model = graph_of("ok")
    with pytest.raises(InvalidInput):
        graph.invoke(say("Hello"), thread(thread_id), context=ANA)
    assert model.prompts == []


def test_a_run_without_a_thread_says_how_to_name_one(graph_of: Any) -> None:
    graph, _ = graph_of("ok")
    with pytest.raises(InvalidInput, match="thread_id"):
        graph.invoke(say("Hello"), context=ANA)


def test_a_refused_strangers_words_are_in_no_later_prompt(graph_of: Any, memory: Memory) -> None:
    graph, model = graph_of("ok")
    graph.invoke(say("Hello"), thread("s"), context=ANA)
    for stranger in (BEN, Context(), None):
        with pytest.raises(NotAllowed):
            graph.invoke(say("Forget-me-not?"), thread("s"), context=stranger)
    graph.invoke(say("And now?"), thread("s"), context=ANA)
    assert "Forget-me-not?" not in spoken(model.prompts[-1])


def test_an_answer_that_could_not_be_recorded_is_recorded_when_the_run_goes_on(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.02)
    if url.startswith("postgresql"):
        monkeypatch.setattr("learngate.stores.postgres.LOCK_SECONDS", 0.02)
    with opened(url) as memory, opened(url) as other:
        model = full_model()
        graph = full_graph(memory, model, checkpointer=InMemorySaver())
        graph.invoke(say("Comparing ETFs?", "q"), thread("s"), context=ANA, interrupt_before=["save_turn"])
        with other.database.write(), pytest.raises(StoreUnavailable, match="nothing was stored: try again"):
            graph.invoke(None, thread("s"))
        graph.invoke(None, thread("s"))
        assert memory.sessions.get("s", "q").answer == "VWCE is the cheaper ETF."
        assert len(model.prompts) == 2
