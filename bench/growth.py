"""How a session and a prompt grow: bytes on the disk by turns, characters of the prompt by what is remembered.

    python -m bench.growth [--turns 500] [--dry]

A session has one turn after the other, each with two messages of 400 characters, at LangGraph's default durability
and at `"exit"`; memory and checkpoints are in one SQLite file. A prompt is the whole of what the model is given for
one question, by a user with so many memories, in a namespace with so many learnings, all about the same.
"""

from __future__ import annotations

import argparse
import sqlite3
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from bench.filling import learn
from bench.reporting import write
from bench.serving import Seconds
from bench.turns import QUESTION, Timed, learned, opened
from learngate.graph import Context, build_graph
from learngate.graph.scripted import ScriptedChat
from learngate.stores import Memory, open_memory

SIZES = (10, 100, 1_000, 10_000)
LOOKED_AT = (10, 50, 100, 200, 300, 400, 500)
NEAR = 10
"""Turns before and after one, whose median is its time."""
SAID = "I would like to know what a careful investor does about costs, taxes and risk at my age. " * 5
console = Console(stderr=True)


def sized(path: Path) -> dict[str, int]:
    """Return the bytes of a database with its log emptied, and those of the checkpoints in it."""
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        count, page = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
        kept = connection.execute("SELECT sum(length(checkpoint) + length(metadata)) FROM checkpoints").fetchone()[
            0
        ]
        written = connection.execute("SELECT sum(length(value)) FROM writes").fetchone()[0]
    connection.close()
    return {"file": count * page, "checkpoints": (kept or 0) + (written or 0)}


def session(folder: Path, durability: Any, turns: int) -> dict[str, Any]:
    """Return a session's size and the time of its turns as it grows."""
    path = folder / f"{durability}.db"
    looked_at = [turn for turn in LOOKED_AT if turn <= turns]
    sizes: dict[str, dict[str, int]] = {}
    seconds = Seconds()
    with open_memory(f"sqlite:///{path}") as memory:
        graph = build_graph(memory, model=Timed(answers=[SAID[:400]]))
        config: Any = {"configurable": {"thread_id": "s"}}
        for turn in track(range(1, turns + 1), f"turns, {durability}", console=console):
            question = f"{turn}: {SAID}"[:400]
            with seconds.turn():
                graph.invoke(
                    {"messages": [("user", question)]}, config, context=Context(user_id="u"), durability=durability
                )
            if turn in looked_at:
                sizes[str(turn)] = sized(path)
    times = {kind: {str(turn): around(of, turn) for turn in looked_at} for kind, of in vars(seconds).items()}
    first, last = str(looked_at[0]), str(looked_at[-1])
    ratios = {f"turn {last} ÷ turn {first}, {kind}": of[last] / of[first] for kind, of in times.items()}
    return {"bytes": sizes, "ms": times, **ratios}


def around(seconds: Sequence[float], turn: int) -> float:
    """Return the median milliseconds of the turns around one."""
    return median(seconds[max(0, turn - NEAR) : turn + NEAR]) * 1000


def prompt(memory: Memory) -> int:
    """Return the characters of the prompt for one question."""
    model = ScriptedChat()
    graph = build_graph(memory, model=model, reflection="off")
    graph.invoke(
        {"messages": [("user", QUESTION)]}, {"configurable": {"thread_id": "s"}}, context=Context(user_id="u")
    )
    return sum(len(message.text) for message in model.prompts[-1])


def prompts(folder: Path) -> dict[str, dict[str, int]]:
    """Return the characters of a prompt by how many memories the user has, and by how many learnings there are."""
    found: dict[str, dict[str, int]] = {"memories": {}, "learnings": {}}
    for size in track(SIZES, "prompts", console=console):
        with opened(folder, f"memories-{size}", memories=size, learnings=10) as memory:
            found["memories"][str(size)] = prompt(memory)
        with opened(folder, f"learnings-{size}", memories=10, learnings=0) as memory:
            learn(memory, "default", [learned(number).split() for number in range(size)])
            found["learnings"][str(size)] = prompt(memory)
    return found


def show(found: dict[str, Any]) -> None:
    """Print the figures for people."""
    for durability, one in found["session"].items():
        table = Table(f"turns ({durability})", "file, MB", "of it checkpoints, MB", "wall, ms", "CPU, ms")
        for turn, of in one["bytes"].items():
            megabytes = [f"{of[name] / 1e6:.1f}" for name in ("file", "checkpoints")]
            table.add_row(turn, *megabytes, *(f"{one['ms'][kind][turn]:.1f}" for kind in ("wall", "cpu")))
        Console().print(table)
    table = Table("so many", *(f"prompt by {name}, characters" for name in found["prompt"]))
    for size in map(str, SIZES):
        table.add_row(size, *(f"{of[size]:,}" for of in found["prompt"].values()))
    Console().print(table)


def main() -> int:
    """Run the bench; write its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=LOOKED_AT[-1])
    parser.add_argument("--dry", action="store_true", help="write no results")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = {
            "session": {one: session(Path(folder), one, given.turns) for one in ("async", "exit")},
            "prompt": prompts(Path(folder)),
        }
    show(found)
    if not given.dry:
        write("growth", found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
