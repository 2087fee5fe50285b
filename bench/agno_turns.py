"""Agno's side of bench/overhead.py: `agno_turns.py FOLDER`, under a Python that has it; see bench/turns.py."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from agno.agent import Agent
from agno.db.schemas import UserMemory
from agno.knowledge import Knowledge
from agno.memory import MemoryManager
from agno.vectordb.chroma import ChromaDb
from agno.vectordb.search import SearchType
from agno_side import Hashed, Scripted, call, database
from serving import Seconds, serve

QUESTION = "How should I compare two ETFs?"
PER_SESSION = 20
Case = Callable[[int], Seconds]


class Timed(Scripted):
    """A model that counts its own seconds."""

    def _answer(self, messages: list[Any]) -> Any:
        with Seconds.in_model.timed():
            reply = super()._answer(messages)
            self.seen.clear()
        return reply


def searches_once(messages: list[Any]) -> Any:
    """Search the knowledge, then answer: so Agno's agentic search goes."""
    if messages[-1].role == "tool":
        return "ok"
    return call("search_knowledge_base", query="comparing ETFs expense ratio")


def known(number: int) -> str:
    return f"The user holds {number * 3 % 97} shares of fund {number} and wants to hear of its costs first"


def learned(number: int) -> str:
    told = f"When comparing ETFs number {number} check expense ratio and tracking error {number * 7 % 13}"
    return json.dumps({"title": f"learning {number}", "learning": told})


def agno(folder: Path, memories: int, *, agentic: bool) -> Case:
    """Return turns with a history of 5, memories and 100 learnings, as Agno's documentation puts them together."""
    name = f"agno-{memories}-{'agentic' if agentic else 'auto'}"
    db = database(folder, name)
    for number in range(memories):
        db.upsert_user_memory(UserMemory(memory_id=f"m{number}", memory=known(number), user_id="u"))
    knowledge = Knowledge(
        name=name,
        vector_db=ChromaDb(
            name=name,
            path=str(folder / f"{name}-chroma"),
            persistent_client=True,
            search_type=SearchType.hybrid,
            embedder=Hashed(),
        ),
    )
    for number in range(100):
        knowledge.insert(name=f"L{number}", text_content=learned(number))
    agent = Agent(
        model=Timed(searches_once),
        db=db,
        memory_manager=MemoryManager(model=Timed(), db=db),
        update_memory_on_run=not agentic,
        enable_agentic_memory=agentic,
        add_history_to_context=True,
        num_history_runs=5,
        knowledge=knowledge,
        search_knowledge=True,
        telemetry=False,
    )
    asked_so_far = 0

    def turns(count: int) -> Seconds:
        nonlocal asked_so_far
        seconds = Seconds()
        for _ in range(count):
            with seconds.turn():
                reply = agent.run(QUESTION, session_id=f"s{asked_so_far // PER_SESSION}", user_id="u")
            if reply.status.value != "COMPLETED":
                raise RuntimeError(f"Agno's turn ended as {reply.status}")
            asked_so_far += 1
        return seconds

    return turns


def main() -> None:
    folder = Path(sys.argv[1])
    serve(
        {
            f"agno {way} {memories}": partial(agno, folder, memories, agentic=way == "agentic")
            for way in ("auto", "agentic")
            for memories in (10, 10_000)
        }
    )


if __name__ == "__main__":
    main()
