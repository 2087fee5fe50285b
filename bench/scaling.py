"""What one process carries: many sessions at once, and a million turns. Writes the figures of docs/scaling.md.

    python -m bench.scaling [--turns 1000000] [--database sqlite --database postgres]

PostgreSQL is the tests' own server, or the one that LEARNGATE_TEST_POSTGRES names.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any, Literal, get_args

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from rich.console import Console
from rich.progress import track
from rich.table import Table
from sqlalchemy import insert, text

from learngate.graph import Context, build_graph
from learngate.graph.scripted import ScriptedChat
from learngate.stores import Memory, ProposalDraft, Turn, codec, open_memory, tables
from learngate.stores.records import now
from learngate.stores.tree import turn_scope
from tests.databases import database

RESULTS = Path(__file__).parent / "results" / "scaling.json"
DAY = "Monday 23 November 2026 2026-11-23"
Durability = Literal["async", "exit"]
"""LangGraph's default, eight checkpoints a turn, and one at its end."""
console = Console(stderr=True)


class Slow(ScriptedChat):
    """A model that answers after a second, as one over a network does: waiting costs no thread."""

    async def _agenerate(self, messages: list[BaseMessage], *given: Any, **more: Any) -> ChatResult:
        await asyncio.sleep(1)
        return self._generate(messages, *given, **more)

    async def _astream(
        self, messages: list[BaseMessage], *given: Any, **more: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        await asyncio.sleep(1)
        for chunk in self._stream(messages, *given, **more):
            yield chunk


# -- many sessions at once -----------------------------------------------------------------------------------


async def at_once(url: str, sessions: int, durability: Durability) -> dict[str, Any]:
    """Let so many users ask at the same moment, each in a session of their own."""
    with open_memory(url) as memory:
        for number in range(100):
            draft = ProposalDraft(
                f"Rule {number}", f"When comparing thing {number}, check its cost of {number * 7}."
            )
            memory.learnings.add(draft, namespace="finance", actor="kim")
        model = Slow(answers=["An answer."] * (sessions + 1))
        graph = build_graph(memory, model=model, reflection="background")

        async def ask(name: str) -> Any:
            given = {"messages": [("user", f"Compare things and cost for {name}")]}
            config: Any = {"configurable": {"thread_id": name}}
            context = Context(user_id=name, namespace="finance")
            return await graph.ainvoke(given, config, context=context, durability=durability)

        await ask("first")
        began = time.perf_counter()
        results = await asyncio.gather(*(ask(f"u{number}") for number in range(sessions)), return_exceptions=True)
        seconds = time.perf_counter() - began
        failed = sum(isinstance(result, BaseException) for result in results)
        kept = sum(len(memory.sessions.window(f"u{number}")) == 1 for number in range(sessions))
    return {"sessions": sessions, "seconds": seconds, "failed": failed, "lost": sessions - failed - kept}


# -- a million turns -----------------------------------------------------------------------------------------


def grow(memory: Memory, upto: int, *, per_session: int = 100) -> list[int]:
    """Fill the database with turns up to so many, in sessions of a hundred, past the API: it is only the size.

    Return the numbers of the sessions that were made.
    """
    with memory.database.read() as connection:
        there = connection.scalar(text("SELECT coalesce(max(seq), 0) FROM turns")) or 0
    there = -(-there // per_session) * per_session
    step, made = 10_000, list[int]()
    for start in track(range(there, upto, step), f"{upto:,} turns", console=console):
        seqs = range(start + 1, min(start + step, upto) + 1)
        with memory.database.write() as connection:
            opened = [(seq - 1) // per_session for seq in seqs if (seq - 1) % per_session == 0]
            made += opened
            if opened:
                rows = [{"id": f"s{n}", "user_id": f"u{n}", "opened_at": now()} for n in opened]
                connection.execute(insert(tables.sessions), rows)
            made_turns = [_turn(seq, per_session) for seq in seqs]
            connection.execute(insert(tables.turns), made_turns)
            told = [
                {"kind": "turn", "row_id": one["seq"], "scope": one["scope"], "op": "put"} for one in made_turns
            ]
            connection.execute(insert(tables.changes), told)
            connection.execute(insert(tables.messages), [row for seq in seqs for row in _messages(seq)])
            connection.execute(
                text("UPDATE sessions SET newest = :id WHERE id = :session"),
                [{"id": f"q{(n + 1) * per_session}", "session": f"s{n}"} for n in opened],
            )
    with memory.database.write() as connection:
        if memory.database.dialect == "postgresql":
            connection.execute(text("SELECT setval(pg_get_serial_sequence('turns', 'seq'), max(seq)) FROM turns"))
    if memory.database.dialect == "postgresql":
        with memory.database.connect() as raw:
            raw.execute("SET statement_timeout = 0")
            raw.execute("VACUUM ANALYZE")
    return made


def _turn(seq: int, per_session: int) -> dict[str, Any]:
    user = f"u{(seq - 1) // per_session}"
    return {
        "seq": seq,
        "session_id": f"s{(seq - 1) // per_session}",
        "id": f"q{seq}",
        "parent_seq": seq - 1 if (seq - 1) % per_session else None,
        "user_id": user,
        "namespace": "default",
        "status": "complete",
        "reflection": "done",
        "reflection_attempts": 0,
        "happened_at": now(),
        "recorded_at": now(),
        "scope": turn_scope(user),
        "body": f"{DAY}\n{_words(user, seq)}",
        "before": _words(user, seq - 1) if (seq - 1) % per_session else "",
    }


def _words(user: str, seq: int) -> str:
    return f"{user}: What of fund {seq}?\nassistant: Fund {seq} is fine."


def _messages(seq: int) -> list[dict[str, Any]]:
    said = (HumanMessage(f"What of fund {seq}?", id=f"q{seq}"), AIMessage(f"Fund {seq} is fine.", id=f"a{seq}"))
    return [
        {
            "turn_seq": seq,
            "position": position,
            "id": message.id,
            "role": message.type,
            "format": codec.FORMAT,
            "data": codec.to_text(message),
        }
        for position, message in enumerate(said)
    ]


def timed(grown: dict[str, tuple[Memory, list[int]]], *, rounds: int = 400) -> dict[str, dict[str, float]]:
    """Return the median milliseconds of what a turn does with its session, by database and kind of work.

    The databases take turns: a machine's hours differ by more than they do.
    """
    chosen = random.Random(7)
    works = {"load_history": _load, "save_turn": _save}
    taken: dict[str, dict[str, list[float]]] = {size: {work: [] for work in works} for size in grown}
    for number in range(rounds + rounds // 4):
        for size, (memory, sessions) in grown.items():
            for name, work in works.items():
                began = time.perf_counter()
                work(memory, chosen.choice(sessions))
                if number >= rounds // 4:
                    taken[size][name].append((time.perf_counter() - began) * 1000)
    return {size: {name: median(each) for name, each in found.items()} for size, found in taken.items()}


def _load(memory: Memory, number: int) -> None:
    assert len(memory.sessions.window(f"s{number}", turns=5)) == 5


def _save(memory: Memory, number: int) -> None:
    said = (HumanMessage("And now?"), AIMessage("Now, too."))
    memory.sessions.record(Turn(f"s{number}", said, user_id=f"u{number}"))


def sizes(kind: str, folder: Path, turns: int) -> dict[str, Any]:
    """Time a small database beside a large one."""
    with ExitStack() as stack:
        grown = {}
        for size, count in (("small", 1_000), ("large", turns)):
            (folder / size).mkdir()
            url = stack.enter_context(database(kind, folder / size))
            memory = stack.enter_context(open_memory(url))
            grown[size] = memory, grow(memory, count)
        found = timed(grown)
    ratio = {name: found["large"][name] / found["small"][name] for name in found["large"]}
    return {"turns": turns, **found, "ratio": ratio}


# -- many processes ------------------------------------------------------------------------------------------


def writing(url: str, name: str, seconds: float, barrier: Any, counted: Any) -> None:
    """Record turns, one after the other, for so long."""
    with open_memory(url) as memory:
        barrier.wait()
        until, number = time.monotonic() + seconds, 0
        while time.monotonic() < until:
            said = (HumanMessage("And now?"), AIMessage("Now, too."))
            memory.sessions.append(Turn(f"{name}-{number // 20}", said, user_id=name))
            number += 1
    counted.put(number)


def together(url: str, processes: int, *, seconds: float = 5.0) -> dict[str, Any]:
    """Return how many turns a second so many processes record, and how many of them were lost."""
    open_memory(url).close()
    spawn = multiprocessing.get_context("spawn")
    barrier, counted = spawn.Barrier(processes), spawn.Queue()
    started = [
        spawn.Process(target=writing, args=(url, f"p{processes}-{n}", seconds, barrier, counted))
        for n in range(processes)
    ]
    for process in started:
        process.start()
    acknowledged = sum(counted.get(timeout=120) for _ in started)
    for process in started:
        process.join()
    with open_memory(url) as memory, memory.database.read() as connection:
        stored = connection.scalar(
            text("SELECT count(*) FROM turns WHERE user_id LIKE :mine"), {"mine": f"p{processes}-%"}
        )
    return {
        "processes": processes,
        "turns_per_second": acknowledged / seconds,
        "lost": acknowledged - (stored or 0),
    }


# -- the run -------------------------------------------------------------------------------------------------


def measured(kinds: list[str], turns: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Measure each kind of database, in new databases."""
    for kind in kinds:
        found: dict[str, Any] = {}
        with tempfile.TemporaryDirectory() as folder:
            for durability in get_args(Durability):
                with database(kind, Path(folder)) as url:
                    console.print(f"[bold]{kind}[/] 200 sessions at once, durability {durability}")
                    found.setdefault("at_once", {})[durability] = asyncio.run(at_once(url, 200, durability))
                Path(folder, "learngate.db").unlink(missing_ok=True)
            with database(kind, Path(folder)) as url:
                console.print(f"[bold]{kind}[/] processes that write")
                found["together"] = [together(url, processes) for processes in (1, 2, 4)]
            Path(folder, "learngate.db").unlink(missing_ok=True)
            found["sizes"] = sizes(kind, Path(folder), turns)
        yield kind, found


def show(results: dict[str, Any]) -> None:
    """Print the figures for people."""
    table = Table(
        "database",
        f"200 sessions at once, a model of 1 s, {' · '.join(get_args(Durability))}",
        "load_history",
        "save_turn",
        "turns/s, 1 · 2 · 4 processes",
    )
    for kind, found in results.items():
        ratio, large = found["sizes"]["ratio"], found["sizes"]["large"]
        table.add_row(
            kind,
            " · ".join(f"{once['seconds']:.1f} s" for once in found["at_once"].values()),
            *(f"{large[name]:.2f} ms · × {ratio[name]:.2f}" for name in ("load_history", "save_turn")),
            " · ".join(f"{one['turns_per_second']:.0f}" for one in found["together"]),
        )
    Console().print(table)


def main() -> int:
    """Run the bench; the exit status is 1 where something was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=1_000_000)
    parser.add_argument("--database", action="append", choices=["sqlite", "postgres"])
    given = parser.parse_args()
    results = dict(measured(given.database or ["sqlite", "postgres"], given.turns))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    show(results)
    lost = sum(
        sum(once["lost"] + once["failed"] for once in found["at_once"].values())
        + sum(one["lost"] for one in found["together"])
        for found in results.values()
    )
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
