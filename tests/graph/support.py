"""What these tests share: a memory that knows something, faults by name, and ways to compare runs."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.tools import tool
from langgraph.types import Command
from sqlalchemy import select, text

from learngate.graph import Context, build_graph
from learngate.graph.scripted import ScriptedChat, learning
from learngate.nodes.reflection import Candidate, MemoryChange, Reflection
from learngate.stores import Memory, ProposalDraft, Turn, open_memory, tables
from learngate.stores.embedders import WordLlamaEmbeddings

INSIGHT = "When comparing ETFs, check both expense ratio and tracking error."
KNOWN = "Bond ETFs react to interest rates: name the duration when comparing ETFs."
ANA = Context(user_id="ana", namespace="finance")
BEN = Context(user_id="ben", namespace="finance")


# The real embedder; loaded once for all tests, because loading it takes longer than most of them.
EMBEDDER = WordLlamaEmbeddings()


def opened(url: str = "sqlite://") -> Memory:
    """Open a memory as `open_memory` does."""
    return open_memory(url, embedder=EMBEDDER)


def thread(name: str, **configurable: Any) -> dict[str, Any]:
    """Return the config of a thread."""
    return {"configurable": {"thread_id": name, **configurable}}


def say(words: str, message_id: str | None = None) -> dict[str, Any]:
    """Return a run's input: one message of the user's."""
    return {"messages": [HumanMessage(words, id=message_id)]}


def texts(messages: list[BaseMessage]) -> list[str]:
    """Return what messages say."""
    return [message.text for message in messages]


def spoken(prompt: list[BaseMessage]) -> str:
    """Return a prompt as one text, to look for words in."""
    return "\n".join(message.text for message in prompt)


# -- comparing runs ------------------------------------------------------------------------------------------


def shape(messages: list[BaseMessage]) -> list[Any]:
    """Return what a model reads of messages; the ids that LangChain makes up differ from run to run."""
    return [
        (m.type, m.content, getattr(m, "tool_calls", None), getattr(m, "tool_call_id", None), _given_id(m))
        for m in messages
    ]


def _given_id(message: BaseMessage) -> str | None:
    return message.id if message.type == "human" else None


def once(prompts: list[list[BaseMessage]]) -> list[Any]:
    """Return prompts in order, each once: a step that was broken off asks the very same again."""
    shapes: list[Any] = []
    for prompt in prompts:
        if shape(prompt) not in shapes:
            shapes.append(shape(prompt))
    return shapes


_VARIES = {"opened_at", "happened_at", "recorded_at", "created_at", "updated_at", "valid_from", "valid_to", "at"}
_VARIES |= {"decided_at", "checkpoint_id", "applied_at", "body", "uid"}
_DERIVED = {"embeddings", "changes", "learngate_schema"}


def rows(memory: Memory) -> dict[str, list[dict[str, Any]]]:
    """Return every row that a run makes, without the times and the ids that differ from run to run."""
    found = {}
    with memory.database.read() as connection:
        for table in tables.metadata.sorted_tables:
            if table.name in _DERIVED:
                continue
            kept = [column for column in table.c if column.name not in _VARIES]
            ordered = select(*kept).order_by(*table.primary_key.columns)
            found[table.name] = [dict(row) for row in connection.execute(ordered).mappings()]
    for row in found["messages"]:
        data = json.loads(row.pop("data"))["data"]
        row["content"], row["tool_calls"] = data["content"], data.get("tool_calls")
        row["id"] = row["id"] if row["role"] == "human" else None
    return found


def everything(memory: Memory) -> dict[str, list[Any]]:
    """Return every row of every table there is, checkpoints too, as they stand."""
    with memory.database.read() as connection:
        named = text("SELECT name FROM sqlite_master WHERE type = 'table' AND sql NOT LIKE '%VIRTUAL%'")
        names = [name for name in connection.scalars(named) if "_fts" not in name]
        return {name: [tuple(row) for row in connection.execute(text(f"SELECT * FROM {name}"))] for name in names}


# -- breaking runs -------------------------------------------------------------------------------------------


class Broken(Exception):
    """What a fault point raises."""


class Fault(BaseCallbackHandler):
    """Breaks a run once, before a node has done its work or after it, when nothing of it is noted yet."""

    raise_error = True
    run_inline = True

    def __init__(self, node: str, when: str, *, kill: bool = False) -> None:
        self.node, self.when, self.kill = node, when, kill
        self.armed = True
        self._run: Any = None

    def on_chain_start(
        self, serialized: Any, inputs: Any, *, run_id: Any, name: str | None = None, **_: Any
    ) -> None:
        if name == self.node:
            self._run = run_id
            self._strike("before")

    def on_chain_end(self, outputs: Any, *, run_id: Any, **_: Any) -> None:
        if run_id == self._run:
            self._strike("after")

    def _strike(self, when: str) -> None:
        if self.armed and when == self.when:
            self.armed = False
            if self.kill:
                os.kill(os.getpid(), signal.SIGKILL)
            raise Broken(f"{when} {self.node}")


# -- a turn that has everything in it ------------------------------------------------------------------------


@tool
def price(ticker: str) -> str:
    """Look up the price of a fund."""
    return f"{ticker} costs 12.50"


def full_model() -> ScriptedChat:
    """Return a spy that asks for a tool, answers, remembers something and proposes a learning."""

    def answer(prompt: list[BaseMessage]) -> str | AIMessage:
        if prompt[-1].type == "tool":
            return "VWCE is the cheaper ETF."
        return AIMessage("", tool_calls=[{"name": "price", "args": {"ticker": "VWCE"}, "id": "call-1"}])

    reflection = Reflection(
        memories=[MemoryChange(op="add", text="Ana holds VWCE.")],
        learning=Candidate(title="Costs", insight=INSIGHT, applies_when="comparing ETFs"),
    )
    return ScriptedChat(answers=[answer], reflections=[reflection])


def full_graph(memory: Memory, model: ScriptedChat, **options: Any) -> Any:
    """Build the graph that has every node in it."""
    return build_graph(memory, model=model, tools=[price], **options)


def teach(memory: Memory, session: str = "s", **saver: Any) -> None:
    """Give Ana a past: two turns of the session, a memory, and a learning that fits her next question."""
    memory.users.remember("ana", "Ana wants low costs.")
    memory.learnings.add(ProposalDraft("Duration", KNOWN), namespace="finance", actor="kim")
    earlier = build_graph(memory, model=ScriptedChat(answers=["It holds bonds."]), reflection="off", **saver)
    before_that = HumanMessage("What is an ETF?"), AIMessage("An ETF is a fund.")
    memory.sessions.append(Turn(session, before_that, id="past-1", user_id="ana", namespace="finance"))
    earlier.invoke(say("And a bond ETF?", "past-2"), thread(session), context=ANA)


QUESTION = say("Which ETFs are better when comparing duration?", "asked")


def run(graph: Any, given: Any, config: Any, *, durability: str | None = None, **options: Any) -> Any:
    """Invoke a graph; in "async" on an event loop, because on SQLite `invoke` writes each step before the next."""
    if durability is not None:
        options["durability"] = durability
    if durability == "async":
        return asyncio.run(graph.ainvoke(given, config, **options))
    return graph.invoke(given, config, **options)


def carry_on(graph: Any, config: dict[str, Any], *, answer: str = "approve", **options: Any) -> dict[str, Any]:
    """Do what a host does after a stop: go on, answer at the gate, or deliver the message again."""
    result: dict[str, Any] = {}
    for _ in range(6):
        state = graph.get_state(config)
        if state.interrupts:
            result = run(graph, Command(resume=answer), config, **options)
        elif state.tasks:  # not `next`: a step that failed after it had written is no longer in it
            result = run(graph, None, config, **options)
        else:
            return result
    raise AssertionError(f"the run does not end: {graph.get_state(config)}")


def proposing(answer: str = "Noted.", **more: Any) -> ScriptedChat:
    """Return a model that proposes one learning after its answer."""
    return ScriptedChat(answers=[answer], reflections=[learning("ETFs", INSIGHT, **more), None])
