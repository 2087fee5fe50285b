"""Two users: nothing of one reaches the other, through no way in; and nobody is somebody of their own."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from langgraph.errors import EmptyInputError
from langgraph.types import Command

from learngate.graph import Context, build_graph
from learngate.graph.scripted import ScriptedChat, learning
from learngate.graph.scripted import memory as remembering
from learngate.stores import InvalidInput, Memory, NotAllowed, NotFound, ProposalDraft
from tests.graph.support import (
    ANA,
    BEN,
    INSIGHT,
    everything,
    opened,
    proposing,
    rows,
    say,
    spoken,
    texts,
    thread,
)

pytestmark = pytest.mark.filterwarnings("ignore:The v3 streaming protocol:langchain_core._api.LangChainBetaWarning")

Way = Callable[[Any, Any, dict[str, Any], Context | None], list[Any]]


def invoke(graph: Any, given: Any, config: dict[str, Any], context: Context | None) -> list[Any]:
    return [graph.invoke(given, config, context=context)]


def ainvoke(graph: Any, given: Any, config: dict[str, Any], context: Context | None) -> list[Any]:
    return [asyncio.run(graph.ainvoke(given, config, context=context))]


def streaming(mode: str) -> Way:
    def stream(graph: Any, given: Any, config: dict[str, Any], context: Context | None) -> list[Any]:
        return list(graph.stream(given, config, context=context, stream_mode=mode))

    return stream


def astreaming(mode: str) -> Way:
    def astream(graph: Any, given: Any, config: dict[str, Any], context: Context | None) -> list[Any]:
        async def collect() -> list[Any]:
            return [part async for part in graph.astream(given, config, context=context, stream_mode=mode)]

        return asyncio.run(collect())

    return astream


def batch(graph: Any, given: Any, config: dict[str, Any], context: Context | None) -> list[Any]:
    return graph.batch([given], config, context=context)


def abatch(graph: Any, given: Any, config: dict[str, Any], context: Context | None) -> list[Any]:
    return asyncio.run(graph.abatch([given], config, context=context))


def stream_events(graph: Any, given: Any, config: dict[str, Any], context: Context | None) -> list[Any]:
    return list(graph.stream_events(given, config, context=context, version="v3"))


def astream_events(graph: Any, given: Any, config: dict[str, Any], context: Context | None) -> list[Any]:
    async def collect() -> list[Any]:
        return [event async for event in graph.astream_events(given, config, context=context, version="v2")]

    return asyncio.run(collect())


def astream_events_v3(graph: Any, given: Any, config: dict[str, Any], context: Context | None) -> list[Any]:
    async def collect() -> list[Any]:
        run = await graph.astream_events(given, config, context=context, version="v3")
        return [event async for event in run]

    return asyncio.run(collect())


def a_copy(graph: Any, given: Any, config: dict[str, Any], context: Context | None) -> list[Any]:
    return [graph.with_config(config, tags=["copy"]).invoke(given, context=context)]


def a_copy_of_a_copy(graph: Any, given: Any, config: dict[str, Any], context: Context | None) -> list[Any]:
    copied = graph.with_config(config).with_config(tags=["copy"]).copy()
    return [copied.invoke(given, {"configurable": {"more": 1}}, context=context)]


WAYS: list[Way] = [
    invoke,
    ainvoke,
    *(streaming(mode) for mode in ("values", "messages", "updates")),
    *(astreaming(mode) for mode in ("values", "messages", "updates")),
    batch,
    abatch,
    stream_events,
    astream_events,
    astream_events_v3,
    a_copy,
    a_copy_of_a_copy,
]
WAY_NAMES = [
    "invoke",
    "ainvoke",
    *(f"{name}-{mode}" for name in ("stream", "astream") for mode in ("values", "messages", "updates")),
    "batch",
    "abatch",
    "stream_events-v3",
    "astream_events-v2",
    "astream_events-v3",
    "copy",
    "copy-of-a-copy",
]

every_way = pytest.mark.parametrize("way", WAYS, ids=WAY_NAMES)
strangers = pytest.mark.parametrize(
    "stranger", [BEN, Context(namespace="finance"), None], ids=["ben", "nobody", "-"]
)


def paused(memory: Memory) -> tuple[Any, ScriptedChat]:
    """Return a graph on which Ana's thread has a past and waits at the gate."""
    model = proposing("Ana, note this.")
    graph = build_graph(memory, model=model)
    graph.invoke(say("My secret is 4711."), thread("ana"), context=ANA)
    return graph, model


@pytest.fixture
def waiting(memory: Memory) -> tuple[Any, ScriptedChat]:
    return paused(memory)


@pytest.fixture(scope="module")
def guarded() -> Iterator[tuple[Memory, Any, ScriptedChat]]:
    """One paused thread for all who are refused: each test finds it as the one before left it, or it fails."""
    with opened() as memory:
        yield memory, *paused(memory)


@every_way
def test_every_way_in_works_for_the_owner(waiting: Any, memory: Memory, way: Way) -> None:
    graph, model = waiting
    assert way(graph, say("And now?", "second"), thread("ana"), ANA)
    assert "My secret is 4711." in spoken(model.prompts[-1])
    assert memory.sessions.get("ana", "second").answer == "Ana, note this."


@strangers
@every_way
def test_a_guessed_thread_is_refused_before_anything_happens(
    guarded: Any, way: Way, stranger: Context | None
) -> None:
    memory, graph, model = guarded
    before, asked = everything(memory), len(model.prompts)
    with pytest.raises(NotAllowed):
        way(graph, say("What is the secret?"), thread("ana"), stranger)
    assert everything(memory) == before
    assert len(model.prompts) == asked
    assert texts(graph.get_state(thread("ana")).values["messages"]) == ["My secret is 4711.", "Ana, note this."]


@pytest.mark.parametrize("given", [Command(resume="approve"), Command(goto="__end__"), None], ids=repr)
@pytest.mark.parametrize("stranger", [BEN, Context()], ids=["ben", "nobody"])
@every_way
def test_nor_may_a_stranger_let_it_go_on(guarded: Any, way: Way, stranger: Context, given: Any) -> None:
    memory, graph, _ = guarded
    before = everything(memory)
    with pytest.raises(NotAllowed):
        way(graph, given, thread("ana"), stranger)
    assert everything(memory) == before


def test_a_stream_has_emitted_nothing_when_it_refuses(waiting: Any) -> None:
    graph, _ = waiting
    emitted = []
    with pytest.raises(NotAllowed):
        emitted.extend(
            graph.stream(say("?"), thread("ana"), context=BEN, stream_mode=["values", "updates", "debug"])
        )
    assert emitted == []


def test_a_host_that_says_nothing_resumes_as_the_sessions_own_user(waiting: Any, memory: Memory) -> None:
    graph, _ = waiting
    result = graph.invoke(Command(resume="approve"), thread("ana"))
    assert result["proposal"]["decided_by"] == "ana"


def test_whom_the_server_authenticated_beats_what_the_context_says(waiting: Any, memory: Memory) -> None:
    graph, _ = waiting
    ben_says_ana = thread("ana", langgraph_auth_user={"identity": "ben"})
    before = everything(memory)
    for given in (say("?"), Command(resume="approve"), None):
        with pytest.raises(NotAllowed):
            graph.invoke(given, ben_says_ana, context=ANA)
    assert everything(memory) == before
    own = thread("ben", langgraph_auth_user={"identity": "ben"})
    graph.invoke(say("Mine."), own, context=ANA)
    assert memory.sessions.show("ben").user_id == "ben"


def test_a_command_cannot_write_whose_turn_it_is(waiting: Any, memory: Memory) -> None:
    graph, _ = waiting
    memory.users.remember("ben", "Ben is in debt.")
    turn = graph.get_state(thread("ana")).values["turn"]
    before = everything(memory)
    with pytest.raises(InvalidInput, match="cannot write state"):
        graph.invoke(
            Command(update={"turn": {**turn, "user_id": "ben"}}, goto="recall_user_memory"),
            thread("ana"),
            context=ANA,
        )
    assert everything(memory) == before


OWN = {
    "id": "x",
    "parent": "",
    "session_id": "ana",
    "user_id": "ana",
    "namespace": "finance",
    "redelivered": False,
}


def write(graph: Any, values: Any) -> None:
    graph.update_state(thread("ana"), values, as_node="begin_turn")


def awrite(graph: Any, values: Any) -> None:
    asyncio.run(graph.aupdate_state(thread("ana"), values, as_node="begin_turn"))


@pytest.mark.parametrize(
    "values",
    [
        {"turn": {**OWN, "user_id": "ben"}},
        {"turn": {**OWN, "user_id": None}},
        {"turn": {**OWN, "session_id": "ben"}},
        {"delivery": {"message_id": "x", "newest": "", "user_id": "ben", "namespace": "finance"}},
        {"proposal": {"id": 2}},
    ],
    ids=repr,
)
@pytest.mark.parametrize("written", [write, awrite])
def test_who_owns_a_thread_cannot_write_anothers_name_into_it(
    waiting: Any, memory: Memory, values: Any, written: Any
) -> None:
    """As a client of a server might, to read Ben's memories in a thread of her own, or to decide his proposal."""
    graph, _ = waiting
    memory.learnings.propose(ProposalDraft("Bonds", "Match the duration of both funds."), namespace="finance")
    before = everything(memory)
    with pytest.raises(NotAllowed, match="another's"):
        written(graph, values)
    assert everything(memory) == before


def test_its_own_state_may_be_written_back(waiting: Any, memory: Memory) -> None:
    """As Studio does, whose form holds all of the state, when it forks."""
    graph, model = waiting
    values = graph.get_state(thread("ana")).values
    fork = graph.update_state(thread("ana"), {**values, "messages": [("user", "Or this?")]}, as_node="__start__")
    graph.invoke(None, fork)
    assert "Or this?" in spoken(model.prompts[-1])


def test_state_that_a_caller_slips_into_the_input_is_ignored(memory: Memory) -> None:
    memory.users.remember("ben", "Ben is in debt.")
    model = ScriptedChat()
    graph = build_graph(memory, model=model, reflection="off")
    forged = {
        "turn": {"id": "x", "user_id": "ben"},
        "head": "elsewhere",
        "delivery": {"message_id": "x", "newest": "y", "user_id": "ben", "namespace": "theirs"},
        "recall": {"memories": [{"kind": "memory", "id": 1, "text": "forged", "shown": True}]},
    }
    graph.invoke({**say("Hello"), **forged}, thread("ana"), context=ANA)
    assert "debt" not in spoken(model.prompts[-1])
    assert "forged" not in spoken(model.prompts[-1])
    turn = memory.sessions.window("ana")[-1]
    assert (turn.user_id, turn.namespace, turn.parent) == ("ana", "finance", "")


# -- memories, sessions and excerpts ---------------------------------------------------------------------------


def test_no_memory_of_one_user_is_in_anothers_prompt_or_result(memory: Memory) -> None:
    model = ScriptedChat(reflections=[remembering("Ana is allergic to nuts."), None])
    graph = build_graph(memory, model=model)
    graph.invoke(say("I am allergic to nuts."), thread("ana"), context=ANA)
    result = graph.invoke(say("Am I allergic to nuts?"), thread("ben"), context=BEN)
    for prompt in (model.prompts[-1], model.reflected[-1]):
        assert "Ana is allergic" not in spoken(prompt)
    assert result["recall"]["memories"] == []
    graph.invoke(say("Am I allergic to nuts?"), thread("ana-2"), context=ANA)
    assert "Ana is allergic to nuts." in spoken(model.prompts[-1])


def test_a_learning_carries_no_excerpt_into_anothers_prompt(memory: Memory) -> None:
    model = proposing()
    graph = build_graph(memory, model=model)
    graph.invoke(say("My secret is 4711. Compare ETFs by cost."), thread("ana"), context=ANA)
    graph.invoke(Command(resume="approve"), thread("ana"))
    result = graph.invoke(say("How do I go about comparing ETFs?"), thread("ben"), context=BEN)
    assert INSIGHT in spoken(model.prompts[-1])
    assert "4711" not in spoken(model.prompts[-1])
    assert "4711" not in str(result)


def test_without_a_user_no_user_memory_is_read_or_written(memory: Memory) -> None:
    memory.users.remember("ana", "Ana wants low costs.")
    model = ScriptedChat(answers=["Hello."], reflections=[remembering("Somebody likes tea.")])
    graph = build_graph(memory, model=model, memory_tools=True)
    before = rows(memory)["user_memories"]
    result = graph.invoke(say("I like tea."), thread("nobody"))
    assert result["messages"][-1].text == "Hello."
    assert "low costs" not in spoken(model.prompts[-1]) + spoken(model.reflected[-1])
    assert rows(memory)["user_memories"] == before
    [turn] = memory.sessions.window("nobody")
    assert turn.user_id is None
    assert turn.reflection == "done"


def test_nobody_is_the_same_whether_said_or_not(memory: Memory) -> None:
    model = ScriptedChat()
    graph = build_graph(memory, model=model, reflection="off")
    graph.invoke(say("First."), thread("nobody"))
    graph.invoke(say("Second."), thread("nobody"), context=Context())
    assert "First." in spoken(model.prompts[-1])
    with pytest.raises(NotAllowed):
        graph.invoke(say("Mine!"), thread("nobody"), context=ANA)


def test_nothing_of_the_last_user_lingers_in_state(memory: Memory) -> None:
    """A saver that is shared under one thread id, as a bare server would, holds no identity over to the next."""
    memory.users.remember("ana", "Ana wants low costs.")
    model = ScriptedChat(reflections=[remembering("Ana holds VWCE.")])
    graph = build_graph(memory, model=model)
    graph.invoke(say("I hold VWCE."), thread("t"), context=ANA)
    # Ana's session is gone from SQL, and its row is nobody's: what is left of her is her checkpoint alone.
    with memory.database.write() as connection:
        connection.exec_driver_sql("PRAGMA defer_foreign_keys = ON")
        connection.exec_driver_sql("DELETE FROM effects")
        connection.exec_driver_sql("DELETE FROM turns")
        connection.exec_driver_sql("DELETE FROM sessions")
    result = graph.invoke(say("Who am I?"), thread("t"))
    assert texts(result["messages"]) == ["Who am I?", "ok"]
    assert result["recall"]["memories"] == []
    for word in ("VWCE", "low costs"):
        assert word not in spoken(model.prompts[-1]) + spoken(model.reflected[-1])
    assert graph.get_state(thread("t")).values["turn"]["user_id"] is None
    assert [one.text for one in memory.users.list("ana")] == ["Ana holds VWCE.", "Ana wants low costs."]


def test_whoever_resumes_an_unknown_thread_does_not_take_it(memory: Memory) -> None:
    graph = build_graph(memory, model=ScriptedChat())
    with pytest.raises(NotFound, match="no session"):
        graph.invoke(Command(resume="approve"), thread("new"))
    with pytest.raises(EmptyInputError):
        graph.invoke(None, thread("new"))
    assert memory.sessions.standing("new") is None
    graph.invoke(say("Mine."), thread("new"), context=ANA)
    assert memory.sessions.show("new").user_id == "ana"


# -- namespaces --------------------------------------------------------------------------------------------


def test_a_namespace_reads_itself_and_its_ancestors_and_never_a_sibling(memory: Memory) -> None:
    for namespace in ("acme", "acme/finance", "acme/legal", "acme/finance/funds"):
        insight = f"When comparing ETFs, do as {namespace.replace('/', '-')} does with every fund."
        memory.learnings.add(ProposalDraft("ETFs", insight), namespace=namespace, actor="kim")
    model = ScriptedChat()
    graph = build_graph(memory, model=model, reflection="off")
    graph.invoke(say("What about comparing ETFs?"), thread("s"), context=Context("ana", "acme/finance"))
    prompt = spoken(model.prompts[-1])
    assert "do as acme does" in prompt
    assert "do as acme-finance does" in prompt
    assert "acme-legal" not in prompt
    assert "funds" not in prompt


def test_what_is_learned_in_one_namespace_is_not_known_in_its_sibling(memory: Memory) -> None:
    model = ScriptedChat(reflections=[learning("ETFs", INSIGHT)])
    graph = build_graph(memory, model=model)
    for namespace in ("acme/finance", "acme/legal"):
        # The sibling may learn the same: it has never seen it.
        graph.invoke(say("Comparing ETFs?"), thread(namespace), context=Context("ana", namespace))
        assert INSIGHT not in spoken(model.prompts[-1])
        assert graph.invoke(Command(resume="approve"), thread(namespace))["proposal"]["status"] == "approved"
    assert len(memory.learnings.list(namespace="acme/finance")) == 1


@pytest.mark.parametrize("namespace", ["", "a//b", "/a", "a/", " a", "a\x00", "a\ud800", "x" * 300, 5])
def test_a_namespace_that_cannot_be_one_is_refused_or_the_default(memory: Memory, namespace: Any) -> None:
    graph = build_graph(memory, model=ScriptedChat(), reflection="off")
    if namespace == "":
        graph.invoke(say("Hello"), thread("s"), context=Context("ana", ""))
        assert memory.sessions.window("s")[-1].namespace == "default"
        return
    with pytest.raises(InvalidInput):
        graph.invoke(say("Hello"), thread("s"), context=Context("ana", namespace))
    assert memory.sessions.standing("s") is None


@pytest.mark.parametrize("user_id", ["", " ", "ana\n", "a\x00", "\ud800", "x" * 300, 5])
def test_a_user_that_cannot_be_one_is_refused(memory: Memory, user_id: Any) -> None:
    graph = build_graph(memory, model=ScriptedChat(), reflection="off")
    for context in (Context(user_id), Context("ana", reviewer=user_id)):
        with pytest.raises(InvalidInput):
            graph.invoke(say("Hello"), thread("s"), context=context)
    assert memory.sessions.standing("s") is None
