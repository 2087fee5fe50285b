"""Stopped anywhere under the real `langgraph dev`, the prompt is the same: by a pause, an error, or kill -9.

The development server keeps its checkpoints in memory, and at times writes out which runs it has. Killed, it
retries those runs from the start of the turn; those it forgot, a client delivers again.
"""

import json
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, BaseMessage
from langgraph_sdk.errors import NotFoundError
from pydantic import Field

from learngate.graph import ReflectionReport, reflect_pending
from learngate.graph.offline import OfflineChat
from learngate.stores import Decision, ProposalDraft
from tests.app.serving import NODES, RULE, Server, laid_out, needs_server, say, serving, together, who

OPENING = "A brief on NVIDIA."
ASKED = f"Compare that to Tesla. I follow growth stocks. {RULE}"
TAUGHT = ProposalDraft("Growth stocks", "When you compare growth stocks like Tesla, weigh revenue growth with P/E.")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return laid_out(tmp_path_factory.mktemp("stopped"))


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[Server]:
    with serving(home) as server:
        yield server


@pytest.fixture(scope="module")
def unbroken(server: Server) -> dict[str, Any]:
    thread = opened(server, "unbroken")
    deliver(server, thread, "unbroken")
    go_on(server, thread, "unbroken")
    return left(server, thread, "unbroken")


# -- the same turn each time ---------------------------------------------------------------------------------


def opened(server: Server, user: str) -> str:
    """Return a thread of a user's with a first turn, in a namespace where a learning fits the second one."""
    server.memory.users.remember(user, "The user wants low costs.")
    server.memory.learnings.add(TAUGHT, namespace=user, actor="kim")
    thread = server.thread()
    server.run(thread, say(OPENING, f"{user}-1"), graph="spied", context=who(user))
    return thread


def deliver(server: Server, thread: str, user: str, **options: Any) -> None:
    server.run(thread, say(ASKED, f"{user}-2"), graph="spied", context=who(user), **options)


def go_on(server: Server, thread: str, user: str, **options: Any) -> list[list[str]]:
    """Do what a client does after a stop: answer at the gate, go on, or deliver again; return the stops."""
    stopped = []
    for _ in range(6):
        settle(server, thread)
        stopped.append(server.state(thread)["next"])
        if server.asked(thread):
            server.run(thread, graph="spied", command={"resume": "approve"}, **options)
        elif stopped[-1]:
            server.run(thread, graph="spied", context=who(user))
        elif server.state(thread)["values"].get("head") != f"{user}-2":
            deliver(server, thread, user)
        else:
            return stopped
    raise AssertionError(f"the run does not end: {stopped}")


def settle(server: Server, thread: str) -> None:
    """Wait for a thread that the server is busy with; one that it has forgotten is made again."""
    for _ in range(300):
        try:
            if server.client.threads.get(thread)["status"] != "busy":
                return
        except NotFoundError:
            server.client.threads.create(thread_id=thread, graph_id="spied")
        time.sleep(0.1)
    raise AssertionError(f"the server does not let go of {thread}")


class Apart(OfflineChat):
    """Reflects apart from the server, and keeps its prompts."""

    prompts: list[str] = Field(default_factory=list)

    def _reply(self, messages: list[BaseMessage], tools: list[dict[str, Any]]) -> AIMessage:
        said = [[m.type, m.content, None] for m in messages]
        self.prompts.append(unnumbered([[tool["name"] for tool in tools], said]))
        return super()._reply(messages, tools)


def catch_up(server: Server) -> dict[str, list[str]]:
    """Do what hosts do at their leisure: reflect on what is pending; return the prompts of each thread."""
    model, asked = Apart(), dict[str, list[str]]()

    def note(report: ReflectionReport) -> None:
        asked.setdefault(report.session_id, []).extend(model.prompts)
        model.prompts.clear()

    reflect_pending(server.memory, model=model, on_turn=note)
    return asked


def decide(server: Server, thread: str) -> None:
    for proposal in server.memory.learnings.pending(session_id=thread):
        server.memory.learnings.decide(proposal.id, Decision.approve(), reviewer="kim")


def left(server: Server, thread: str, user: str, apart: Sequence[str] = ()) -> dict[str, Any]:
    """Return what a turn asked its model, each prompt once, and what it left in the memory."""
    said = [json.loads(line) for line in (server.home / "prompts.jsonl").read_text().splitlines()]
    prompts = [*(unnumbered(one[1:]) for one in said if one[0] == thread), *apart]
    turns = server.memory.sessions.window(thread)
    return {
        "answered": list(dict.fromkeys(one for one in prompts if REFLECTION not in one)),
        "reflected": list(dict.fromkeys(one for one in prompts if REFLECTION in one)),
        "turns": [[(m.type, unnumbered(m.content)) for m in turn.messages] for turn in turns],
        "memories": sorted(memory.text for memory in server.memory.users.list(user)),
        "learnings": [
            (one.title, one.insight, one.revision) for one in server.memory.learnings.list(namespace=user)
        ],
        "waiting": server.memory.learnings.pending(namespace=user),
    }


REFLECTION = "Reflection"


def unnumbered(said: Any) -> str:
    """Return what was said without row numbers, and the fences that are made from them."""
    text = re.sub(r"\b(memory|learning) \d+", r"\1", json.dumps(said, ensure_ascii=False))
    return re.sub(r"(until|⟧) [0-9a-f]{12}", r"\1", text)


@needs_server
def test_the_unbroken_turn_has_everything_in_it(unbroken: dict[str, Any]) -> None:
    for part in ("A brief on NVIDIA.", "low costs", "weigh revenue growth", "NVDA", "TSLA"):
        assert part in "".join(unbroken["answered"]), part
    assert (len(unbroken["answered"]), len(unbroken["reflected"])) == (4, 2)
    assert (len(unbroken["turns"]), len(unbroken["memories"]), len(unbroken["learnings"])) == (2, 2, 2)
    assert unbroken["waiting"] == []


# -- by a pause, and by an error -----------------------------------------------------------------------------


@needs_server
def test_paused_before_any_node(server: Server, unbroken: dict[str, Any]) -> None:
    def paused(node: str) -> dict[str, Any]:
        user = f"paused-{node}"
        thread = opened(server, user)
        deliver(server, thread, user, interrupt_before=[node])
        stopped = go_on(server, thread, user, interrupt_before=[node])
        assert any(node in nodes for nodes in stopped), stopped
        return left(server, thread, user)

    for node, found in zip(NODES, together(paused, NODES), strict=True):
        assert found == unbroken, node


@needs_server
def test_broken_by_an_error_at_any_node(server: Server, unbroken: dict[str, Any]) -> None:
    def broken(node: str) -> str:
        user = f"broken-{node}"
        thread = opened(server, user)
        reached = break_at(server, thread, f"error {node}")
        deliver(server, thread, user)
        go_on(server, thread, user)
        assert reached.exists(), node
        return thread

    threads = dict(zip(NODES, together(broken, NODES), strict=True))
    # A reflection that failed leaves the turn standing, and is taken again apart from the run.
    apart = catch_up(server)
    assert list(apart) == [threads["reflect"]]
    for node, thread in threads.items():
        decide(server, thread)
        assert left(server, thread, f"broken-{node}", apart.get(thread, [])) == unbroken, node


def break_at(server: Server, thread: str, fault: str) -> Path:
    (server.home / f"fault-{thread}").write_text(fault)
    return server.home / f"reached-fault-{thread}"


# -- by kill -9 ----------------------------------------------------------------------------------------------


@needs_server
@pytest.mark.parametrize("written", [False, True], ids=["at once", "with its runs written"])
def test_killed_at_any_node(
    tmp_path_factory: pytest.TempPathFactory, unbroken: dict[str, Any], written: bool
) -> None:
    # One server is killed while it stands at every node, in a thread each, and another one takes over.
    home = laid_out(tmp_path_factory.mktemp("killed"))
    with serving(home) as server:
        threads = dict(zip(NODES, together(lambda node: held_at(server, node), NODES), strict=True))
        if written:
            wait_until_written(home)
        server.kill()
    with serving(home) as server:
        together(lambda node: go_on(server, threads[node], f"killed-{node}"), NODES)
        apart = catch_up(server)
        for node, thread in threads.items():
            decide(server, thread)
            assert left(server, thread, f"killed-{node}", apart.get(thread, [])) == unbroken, node


def held_at(server: Server, node: str) -> str:
    """Return a thread of a new user's whose turn stands at a node."""
    user = f"killed-{node}"
    thread = opened(server, user)
    reached = break_at(server, thread, f"hold {node}")
    server.client.runs.create(thread, "spied", input=say(ASKED, f"{user}-2"), context=who(user))
    answered = False
    for _ in range(300):
        if reached.exists():
            return thread
        if not answered and server.asked(thread):
            server.client.runs.create(thread, "spied", command={"resume": "approve"})
            answered = True
        time.sleep(0.1)
    raise AssertionError(f"{node} was not reached: {server.state(thread)}")


def wait_until_written(home: Path) -> None:
    """Wait for the server to write its runs; it does so every ten seconds."""
    kept = home / ".langgraph_api" / ".langgraph_ops.pckl"
    before = kept.stat().st_mtime if kept.exists() else 0.0
    for _ in range(300):
        if kept.exists() and kept.stat().st_mtime > before:
            return
        time.sleep(0.1)
    raise AssertionError("the server does not write its runs")
