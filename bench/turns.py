"""One side of bench/overhead.py: turns on learngate, and on the same graph with empty nodes, as they are asked for.

    python -m bench.turns FOLDER

A line `CASE TURNS` on standard input is answered by a line of JSON: the seconds of each turn, by the clock and of
the processor, beside those inside the model.
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, RemoveMessage
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, StateGraph

from bench.serving import Seconds, serve
from learngate import nodes
from learngate.graph import Context, build_graph, routes
from learngate.graph.build import RETRY
from learngate.graph.scripted import ScriptedChat
from learngate.nodes.state import State
from learngate.stores import Memory, MemoryOperation, ProposalDraft, Turn, open_memory

QUESTION = "How should I compare two ETFs?"
PER_SESSION = 20
Case = Callable[[int], Seconds]


class Timed(ScriptedChat):
    """A model that counts its own seconds."""

    def _reply(self, messages: list[BaseMessage], tools: list[dict[str, Any]]) -> AIMessage:
        with Seconds.in_model.timed():
            reply = super()._reply(messages, tools)
        self.prompts.clear()
        return reply


def known(number: int) -> str:
    """Return a fact about a user, of some seventy characters, as both sides are given it."""
    return f"The user holds {number * 3 % 97} shares of fund {number} and wants to hear of its costs first"


def learned(number: int) -> str:
    """Return a learning's text, as both sides are given it."""
    return f"When comparing ETFs number {number} check expense ratio and tracking error {number * 7 % 13}"


def opened(folder: Path, name: str, *, memories: int, learnings: int = 100) -> Memory:
    """Open a new database with so much in it."""
    memory = open_memory(f"sqlite:///{folder / name}.db")
    memory.sessions.append(
        Turn("earlier", (HumanMessage("I hold funds."), AIMessage("I see.")), user_id="u", id="t")
    )
    facts = [MemoryOperation("add", text=known(number)) for number in range(memories)]
    memory.users.apply("u", facts, source=("earlier", "t"))
    for number in range(learnings):
        memory.learnings.add(ProposalDraft(f"Learning {number}", learned(number)), namespace="default", actor="kim")
    return memory


def ours(memory: Memory, durability: str) -> Case:
    """Return turns of the whole graph: history of 5, memories, learnings, reflection after the answer."""
    graph = build_graph(memory, model=Timed())
    return asked(graph, durability, "u")


def empty(folder: Path, durability: str) -> Case:
    """Return turns of a graph of the same nodes and edges, whose nodes only pass on what steers the run."""
    saver = SqliteSaver(sqlite3.connect(folder / f"empty-{durability}.db", check_same_thread=False))
    saver.conn.execute("PRAGMA synchronous = NORMAL")
    turn = {"id": "t", "redelivered": False}
    does: dict[str, Callable[[State], Any]] = {
        # As many messages stay in state as in ours, so that its checkpoints are as large.
        "begin_turn": lambda state: {
            "turn": turn,
            "messages": [RemoveMessage(id=str(one.id)) for one in state["messages"][:-21]],
        },
        **dict.fromkeys(routes.RECALL, lambda _: {"recall": {}}),
        "respond": lambda _: {"messages": [AIMessage("ok")]},
        "save_turn": lambda _: {"outcome": None},
        "reflect": lambda _: {"outcome": None},
        "propose_learning": lambda _: {},
        "remember_user": lambda _: {},
    }
    graph = StateGraph(State, context_schema=nodes.Context, input_schema=nodes.Input, output_schema=nodes.Output)
    for name, work in does.items():
        graph.add_node(name, work, retry_policy=RETRY)
    graph.add_edge(START, "begin_turn")
    graph.add_conditional_edges("begin_turn", routes.after_begin, [*routes.RECALL, END])
    for one in routes.RECALL:
        graph.add_edge(one, "respond")
    graph.add_edge("respond", "save_turn")
    graph.add_edge("save_turn", "reflect")
    graph.add_conditional_edges("reflect", routes.next_effect, routes.EFFECTS)
    return asked(graph.compile(checkpointer=saver), durability, "u")


def asked(graph: Any, durability: str, user: str) -> Case:
    """Return what asks a graph so many times, twenty times a session, and gives each turn's seconds."""
    asked_so_far = 0

    def turns(count: int) -> Seconds:
        nonlocal asked_so_far
        seconds = Seconds()
        for _ in range(count):
            config = {"configurable": {"thread_id": f"{durability}-{asked_so_far // PER_SESSION}"}}
            with seconds.turn():
                graph.invoke(
                    {"messages": [("user", QUESTION)]},
                    config,
                    context=Context(user_id=user),
                    durability=durability,
                )
            asked_so_far += 1
        return seconds

    return turns


def cases(folder: Path) -> dict[str, Callable[[], Case]]:
    """Return what can be asked for; each is made when it is first asked for."""
    made: dict[str, Callable[[], Case]] = {}
    for durability in ("async", "exit"):
        for count in (10, 10_000):
            name = f"{durability}-{count}"
            made[f"learngate {durability} {count}"] = partial(of_new, folder, name, count, durability)
        made[f"empty {durability}"] = partial(empty, folder, durability)
    return made


def of_new(folder: Path, name: str, memories: int, durability: str) -> Case:
    """Return turns on a new database."""
    return ours(opened(folder, name, memories=memories), durability)


def main(arguments: Sequence[str]) -> None:
    """Answer what is asked on standard input."""
    serve(cases(Path(arguments[0])))


if __name__ == "__main__":
    main(sys.argv[1:])
