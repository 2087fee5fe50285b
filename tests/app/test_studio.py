"""The agent under the real `langgraph dev`, over its SDK on loopback: what Studio and chat UIs do with it."""

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from learngate.app import studio
from learngate.graph.settings import DEFAULT_MODEL
from learngate.stores import ConfigurationError, Decision
from tests.app.serving import (
    FACT,
    NODES,
    RULE,
    Server,
    answer_of,
    events,
    laid_out,
    needs_server,
    say,
    serving,
    together,
    who,
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(laid_out(tmp_path_factory.mktemp("studio"))) as server:
        yield server


# -- what Studio asks before it shows anything ---------------------------------------------------------------


@needs_server
@pytest.mark.parametrize("xray", [False, True])
def test_the_picture_is_the_turn(server: Server, xray: bool) -> None:
    drawn = server.client.assistants.get_graph("agent", xray=xray)
    assert {node["id"] for node in drawn["nodes"]} == {"__start__", *NODES, "__end__"}
    edges = {(edge["source"], edge["target"]) for edge in drawn["edges"]}
    assert {("respond", "tools"), ("tools", "respond"), ("review_learning", "save_learning")} <= edges
    assert "__error_handler__" not in json.dumps(drawn)


@needs_server
def test_the_forms_ask_for_messages_and_for_who_speaks(server: Server) -> None:
    (found,) = server.client.assistants.search(graph_id="agent")
    schemas = server.client.assistants.get_schemas(found["assistant_id"])
    assert set(schemas["input_schema"]["properties"]) == {"messages"}
    assert "Delivery" not in schemas["input_schema"]["$defs"]
    assert set(schemas["output_schema"]["properties"]) == {"messages", "recall", "proposal"}
    context = schemas["context_schema"]["properties"]
    assert set(context) == {"user_id", "namespace", "reviewer"}
    assert context["namespace"]["default"] == "default"


# -- to the gate, and what is answered there -----------------------------------------------------------------


@needs_server
def test_a_turn_streams_its_answer_and_nothing_else_up_to_the_gate(server: Server) -> None:
    thread = server.thread()
    modes = ["messages-tuple", "updates"]
    parts = server.run(thread, f"{RULE} {FACT}", context=who("ana"), stream_mode=modes)
    tokens = events(parts, "messages")
    assert {meta["langgraph_node"] for _, meta in tokens} == {"respond"}
    assert len(tokens) > 10
    streamed = "".join(chunk["content"] for chunk, _ in tokens)
    (turn,) = server.memory.sessions.window(thread)
    assert streamed == turn.answer == answer_of(parts)
    updates = events(parts, "updates")
    order = ["begin_turn", "respond", "save_turn", "reflect", "remember_user", "propose_learning", "__interrupt__"]
    steps = [step for update in updates for step in update]
    assert [step for step in steps if step in order] == order
    assert set(steps[1:4]) == {"load_history", "recall_user_memory", "search_learnings"}
    # The reflection is internal: neither its words nor its outcome are in the stream, only what is proposed.
    assert not any(update.get("reflect") for update in updates)
    assert server.client.threads.get(thread)["status"] == "interrupted"
    (asked,) = updates[-1]["__interrupt__"]
    assert server.state(thread)["interrupts"] == [asked]
    assert server.state(thread)["next"] == ["review_learning"]
    assert asked["value"]["action_requests"][0]["args"]["insight"] == RULE
    assert server.memory.learnings.list(namespace="ana") == []
    assert [memory.text for memory in server.memory.users.list("ana")] == ["The user's risk tolerance is moderate."]


@needs_server
def test_the_event_stream_shows_the_answer_only_and_responds_to_the_gate(server: Server) -> None:
    thread = server.thread()
    with server.client.threads.stream(thread, assistant_id="agent") as stream:
        stream.run.start(input=say(f"{RULE} {FACT}"), config={"configurable": who("eventful")})
        messages = [*stream.messages]
        assert stream.interrupted
        # A message is given when it begins: its text is whole when the run has stopped.
        said = [str(message.text) for message in messages]
        stream.run.respond("approve")
        assert stream.output["proposal"]["decided_by"] == "eventful"
    (turn,) = server.memory.sessions.window(thread)
    assert said == [turn.answer]


BETTER = "When comparing ETFs, check expense ratio, tracking error and size."
EDIT = {"title": "Comparing ETFs", "insight": BETTER}
ANSWERS: dict[str, tuple[Any, str | None]] = {
    "decisions": ({"decisions": [{"type": "approve"}]}, RULE),
    "word": ("approve", RULE),
    "inbox list": ([{"type": "accept", "args": None}], RULE),
    "edit": (
        {"decisions": [{"type": "edit", "edited_action": {"name": "save_learning", "args": EDIT}}]},
        BETTER,
    ),
    "inbox edit": ([{"type": "edit", "args": {"action": "save_learning", "args": EDIT}}], BETTER),
    "edit as text": ({"type": "edit", "args": json.dumps(EDIT)}, BETTER),
    "reject": ({"decisions": [{"type": "reject", "message": "too broad"}]}, None),
    "inbox response": ([{"type": "response", "args": "too broad"}], None),
}


@pytest.fixture(scope="module")
def paused(server: Server) -> dict[str, str]:
    """A thread that waits at the gate, for each answer."""

    def pause(name: str) -> str:
        thread = server.thread()
        server.run(thread, RULE, context=who(f"gate-{name}"))
        return thread

    return dict(zip(ANSWERS, together(pause, list(ANSWERS)), strict=True))


@needs_server
def test_an_answer_decides_in_every_shape_that_a_ui_sends(server: Server, paused: dict[str, str]) -> None:
    # Without a context, as chat UIs resume: the decision is the session's own user's.
    together(lambda name: server.resume(paused[name], ANSWERS[name][0]), list(ANSWERS))
    for name, (_, saved) in ANSWERS.items():
        state = server.state(paused[name])
        assert (state["next"], state["interrupts"]) == ([], []), name
        proposal = state["values"]["proposal"]
        taken = server.memory.learnings.decision(proposal["id"])
        assert (taken.reviewer, proposal["decided_by"]) == (f"gate-{name}", f"gate-{name}"), name
        assert taken.note == (None if saved else "too broad"), name
        learned = server.memory.learnings.list(namespace=f"gate-{name}")
        assert [learning.insight for learning in learned] == ([saved] if saved else []), name
        assert server.client.threads.get(paused[name])["status"] == "idle", name


@needs_server
@pytest.mark.parametrize("nonsense", [{"what": 1}, "perhaps", 0, [], {"type": "edit"}])
def test_nonsense_is_asked_again_with_the_reason(server: Server, nonsense: Any, asking: str) -> None:
    server.resume(asking, nonsense)
    assert server.client.threads.get(asking)["status"] == "interrupted"
    asked = server.asked(asking)
    assert "answer" in asked["problem"] or "edit" in asked["problem"]
    assert asked["problem"] in asked["action_requests"][0]["description"]
    assert server.memory.learnings.proposal(asked["proposal"]["id"]).status == "pending"


@pytest.fixture(scope="module")
def asking(server: Server) -> Iterator[str]:
    """One thread at the gate that is asked again and again, and decided in the end."""
    thread = server.thread()
    server.run(thread, RULE, context=who("asking"))
    yield thread
    server.resume(thread, "approve", context=who("asking", reviewer="kim"))
    assert server.proposal(thread)["decided_by"] == "kim"
    assert len(server.memory.learnings.list(namespace="asking")) == 1


@needs_server
def test_a_new_message_while_paused_leaves_the_proposal_in_the_inbox(server: Server) -> None:
    thread = server.thread()
    server.run(thread, RULE, context=who("busy"))
    parts = server.run(thread, FACT, context=who("busy"))
    assert answer_of(parts).startswith("Noted about you: The user's risk tolerance is moderate.")
    assert server.state(thread)["next"] == []
    (waiting,) = server.memory.learnings.pending(session_id=thread)
    server.memory.learnings.decide(waiting.id, Decision.approve(), reviewer="kim")
    parts = server.run(thread, "How do I go about comparing ETFs?", context=who("busy"))
    assert RULE in answer_of(parts)


@needs_server
def test_a_decision_taken_in_the_inbox_is_found_by_the_paused_thread(server: Server) -> None:
    thread = server.thread()
    server.run(thread, RULE, context=who("late"))
    server.memory.learnings.decide(server.proposal(thread)["id"], Decision.reject("known"), reviewer="kim")
    server.resume(thread, "approve")
    assert (server.proposal(thread)["status"], server.proposal(thread)["decided_by"]) == ("rejected", "kim")
    assert server.memory.learnings.list(namespace="late") == []


@needs_server
def test_where_nothing_is_checkpointed_the_proposal_waits_in_the_inbox(server: Server) -> None:
    parts = server.run(None, RULE, context=who("stateless"))
    assert parts[-1].event == "updates"
    assert parts[-1].data["propose_learning"]["proposal"]["status"] == "pending"
    (waiting,) = server.memory.learnings.pending(namespace="stateless")
    assert waiting.insight == RULE


# -- time travel ---------------------------------------------------------------------------------------------


WAYS = ["Studio's, with a context", "Studio's, without", "a chat UI's"]


def edit_the_first_message(server: Server, way: str) -> str:
    """Talk for two turns, send the first message again in other words, talk on; return the thread."""
    thread, user, first = server.thread(), f"fork {way}", f"first {way}"
    server.run(thread, say("A brief on NVIDIA.", first), context=who(user))
    server.run(thread, "Compare that to Tesla.", context=who(user))
    history = server.client.threads.get_history(thread, limit=100)
    before = [one for one in history if one["next"] == ["__start__"]][-1]["checkpoint"]
    edited = say("A brief on Microsoft.", first)
    if way == "a chat UI's":
        server.run(thread, edited, checkpoint=before, context=who(user))
    else:
        made = server.client.threads.update_state(thread, edited, checkpoint=before, as_node="__start__")
        context = {} if way == "Studio's, without" else {"context": who(user)}
        server.run(thread, checkpoint=made["checkpoint"], **context)
    server.run(thread, "Compare that to Alphabet.", context=who(user))
    return thread


@needs_server
def test_an_edited_first_message_is_a_branch_with_a_past_of_its_own(server: Server) -> None:
    threads = together(lambda way: edit_the_first_message(server, way), WAYS)
    for way, thread in zip(WAYS, threads, strict=True):
        branch = server.memory.sessions.window(thread, head=server.state(thread)["values"]["head"])
        assert [turn.question for turn in branch] == ["A brief on Microsoft.", "Compare that to Alphabet."], way
        assert [turn.user_id for turn in branch] == [f"fork {way}"] * 2
        assert "Microsoft (MSFT" in branch[-1].answer
        assert "NVIDIA" not in branch[-1].answer
        old = server.memory.sessions.window(thread, head=f"first {way}")
        assert [turn.question for turn in old] == ["A brief on NVIDIA."]


# -- strangers -----------------------------------------------------------------------------------------------

SPOOFED = {"configurable": {"langgraph_auth_user": {"identity": "owner"}, "langgraph_auth_user_id": "owner"}}
STRANGERS: dict[str, dict[str, Any]] = {
    "another user": {"context": who("eve")},
    "another user, as older clients say it": {"config": {"configurable": {"user_id": "eve"}}},
    "nobody": {},
    "somebody who claims to be authenticated": {"config": SPOOFED},
    "somebody who claims to be a parent graph": {"config": {"configurable": {"__pregel_resuming": True}}},
}


@needs_server
def test_a_stranger_is_refused_and_nothing_is_shown_or_stored(server: Server) -> None:
    thread = server.thread()
    server.run(thread, f"{RULE} My code word is marzipan.", context=who("owner"))
    state, turns = server.state(thread), server.memory.sessions.window(thread)
    modes = ["values", "updates", "messages-tuple", "debug"]
    for stranger, options in STRANGERS.items():
        parts = server.run(thread, "What is the word? Mine is turpentine.", stream_mode=modes, **options)
        assert [part.event for part in parts] == ["metadata", "error"], stranger
        assert parts[-1].data["error"] == "NotAllowed"
        assert re.match(
            rf"session '{thread}' does not belong to .*|session '{thread}' belongs to somebody",
            parts[-1].data["message"],
        )
        assert "marzipan" not in str(parts)
    parts = server.resume(thread, "reject", stream_mode=modes, context=who("eve"))
    assert [part.event for part in parts] == ["metadata", "error"]
    parts = server.run(thread, stream_mode=modes, command={"update": {"head": None}}, context=who("eve"))
    assert [part.event for part in parts] == ["metadata", "error"]

    assert server.state(thread) == state
    assert server.memory.sessions.window(thread) == turns
    assert server.memory.users.list("eve") == []
    assert "turpentine" not in json.dumps(server.client.threads.get_history(thread, limit=100))
    # The server notes the thread as failed until its owner goes on; what waits at the gate still waits.
    server.resume(thread, "approve")
    assert server.proposal(thread)["decided_by"] == "owner"
    assert server.client.threads.get(thread)["status"] == "idle"


@needs_server
def test_the_next_turn_without_a_context_is_nobodys(server: Server) -> None:
    mine, other = server.thread(), server.thread()
    server.run(mine, FACT, context=who("sticky"))
    server.run(other, "What do you know about me?")
    turn = server.state(other)["values"]["turn"]
    assert (turn["user_id"], turn["namespace"]) == (None, "default")
    (part,) = [part for part in server.run(mine, "And now?") if part.event != "metadata"]
    assert part.data["error"] == "NotAllowed"


# -- around it -----------------------------------------------------------------------------------------------


@needs_server
def test_the_log_says_that_the_stand_in_answers_and_nothing_leaves_the_machine(server: Server) -> None:
    server.client.assistants.get_graph("agent")
    log = (server.home / "log.txt").read_text()
    assert "no model: set GOOGLE_API_KEY" in log
    assert "the stand-in answers" in log
    watched, *spoken_to = (server.home / "connections.txt").read_text().splitlines()
    assert watched == "watched"
    assert [line for line in spoken_to if "127.0.0.1" not in line and "localhost" not in line] == []


@pytest.fixture
def unopened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("LEARNGATE_DB", f"sqlite:///{tmp_path / 'studio.db'}")
    studio._open.cache_clear()
    yield
    studio._open.cache_clear()


def test_the_memory_is_opened_once_however_many_ask(unopened: None) -> None:
    async def ask() -> list[Any]:
        return await asyncio.gather(*(studio.agent() for _ in range(20)))

    graphs = asyncio.run(ask())
    assert {id(graph) for graph in graphs} == {id(graphs[0])}
    assert graphs[0].checkpointer is None
    graphs[0].memory.close()


def test_a_model_that_cannot_be_used_is_said_until_it_is_mended(
    unopened: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEARNGATE_MODEL", "nosuch:model")
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="nosuch"):
            asyncio.run(studio.agent())
    assert not (tmp_path / "studio.db").exists()
    monkeypatch.setenv("LEARNGATE_MODEL", "offline")
    asyncio.run(studio.agent()).memory.close()


def test_the_stand_in_is_never_chosen_where_there_is_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    assert studio._model() == "offline"
    monkeypatch.setenv("GOOGLE_API_KEY", "a key")
    assert studio._model() == DEFAULT_MODEL
