"""What recalling a user's memories costs as they grow, and as other users do; and how much of a prompt they take.

    python -m bench.memories [--database sqlite] [--database postgres] [--users 100000] [--dry]

Four users have 10, 100, 1,000 and 10,000 memories; then 1,000 and 100,000 others come, with two each, and some
are asked again. A question goes in as text: the embedding, the words, the vectors and the rows that are returned
are all in the time. It is as one of a turn, which names its namespace.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import count, islice
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table
from sqlalchemy import insert

from bench.filling import STEP, Words
from bench.reporting import write
from bench.search import milliseconds, milliseconds_once
from learngate.nodes.prompts import recall_messages
from learngate.nodes.state import RecalledItem
from learngate.stores import Memory, lexical, open_memory, tables
from learngate.stores.meaning import Hits
from learngate.stores.records import MemoryHit, now
from learngate.stores.text import digest
from tests.databases import database

MEMORIES = (10, 100, 1_000, 10_000)
LENGTH = 12
"""Words of a memory."""
BUDGET = 600
ASKED = {"prompt tokens": BUDGET, "10 memories, 100,000 other users ÷ alone": 1.3}
"""What a figure must not be above."""
console = Console(stderr=True)


def remember(memory: Memory, told: Sequence[tuple[str, str]]) -> None:
    """Write (user, text), past the store, which compares each with what is known."""
    for start in range(0, len(told), STEP):
        at = now()
        rows = [
            {
                "user_id": user,
                "text": text,
                "digest": digest(text),
                "valid_from": at,
                "created_at": at,
                "updated_at": at,
                "scope": lexical.scope_token("user", user),
                "body": lexical.search_body(text),
            }
            for user, text in told[start : start + STEP]
        ]
        with memory.database.write() as connection:
            connection.execute(insert(tables.user_memories), rows)


def texts(words: Words, number: int) -> list[str]:
    """Return so many texts, no two alike."""
    return [f"{' '.join(text)} {place}" for place, text in enumerate(words.texts(number, LENGTH))]


def recalled(memory: Memory, user: str, questions: Sequence[str]) -> dict[str, float]:
    """Return the median of recalls, and what the largest of them takes of a prompt."""

    def recall(question: str) -> Hits[MemoryHit]:
        return memory.users.recall(user, question, budget=BUDGET, namespace="finance")

    tokens, shown = [], []
    for question in questions[:20]:
        hits = recall(question)
        items = [RecalledItem(kind="memory", id=hit.memory.id, text=hit.text, shown=hit.shown) for hit in hits]
        tokens.append(sum(len(message.text) for message in recall_messages({"memories": items})) / 4)
        shown.append(sum(hit.shown for hit in hits))
    ms = milliseconds(recall, questions)
    began = time.process_time()
    for question in questions:
        recall(question)
    cpu = (time.process_time() - began) * 1000 / len(questions)
    return {"ms": ms, "cpu ms": cpu, "prompt tokens": max(tokens), "memories shown": median(shown)}


def measured(url: str, others: int) -> dict[str, Any]:
    """Fill a database and measure it."""
    words = Words()
    found: dict[str, Any] = {}
    asked = {}
    with open_memory(url) as memory:
        for number in MEMORIES:
            told = words.texts(number, LENGTH)
            asked[number] = words.questions(told, 100)
            remember(memory, [(f"with-{number}", f"{' '.join(text)} {at}") for at, text in enumerate(told)])
        largest = f"with-{MEMORIES[-1]}"
        first = asked[MEMORIES[-1]][0]
        found["first recall of all, embedding them, s"] = (
            milliseconds_once(lambda question: memory.users.recall(largest, question), first) / 1000
        )
    with open_memory(url) as memory:
        memory.users.recall(f"with-{MEMORIES[1]}", first)
        found["first recall of a process, s"] = (
            milliseconds_once(lambda question: memory.users.recall(largest, question), first) / 1000
        )
        by_size = {str(number): recalled(memory, f"with-{number}", asked[number]) for number in MEMORIES}
        found["memories of the user"] = by_size
        among = {"0": recalled(memory, "with-10", asked[10])}
        news = texts(words, 2 * others)
        users = (f"user-{number // 2}" for number in count())
        there = 0
        for number in (others // 100, others):
            some = list(zip(islice(users, 2 * (number - there)), news[2 * there : 2 * number], strict=True))
            remember(memory, some)
            there = number
            among[str(number)] = recalled(memory, "with-10", asked[10])
            for user in (f"user-{one}" for one in range(0, number, max(1, number // 50))):
                memory.users.recall(user, first)
            among[f"{number}, a user with 10,000"] = recalled(memory, largest, asked[MEMORIES[-1]])
        found["other users"] = among
    with open_memory(url) as memory:
        memory.users.recall(largest, first)
        found["first recall of 100 among them, ms"] = milliseconds_once(
            lambda question: memory.users.recall("with-100", question), first
        )
    found["10,000 ÷ 100 memories"] = by_size["10000"]["ms"] / by_size["100"]["ms"]
    found["10,000 − 10 memories, ms"] = by_size["10000"]["ms"] - by_size["10"]["ms"]
    found[f"10 memories, {others:,} other users ÷ alone"] = among[str(others)]["ms"] / among["0"]["ms"]
    return found


def show(name: str, found: dict[str, Any]) -> None:
    """Print the figures for people."""
    table = Table(name, "recall, ms", "of this process, ms", "prompt, tokens", "memories shown")
    for what in ("memories of the user", "other users"):
        for key, one in found[what].items():
            table.add_row(
                f"{key} {what}",
                f"{one['ms']:.2f}",
                f"{one['cpu ms']:.2f}",
                f"{one['prompt tokens']:.0f}",
                str(one["memories shown"]),
            )
    Console().print(table)
    for key, value in found.items():
        if isinstance(value, float):
            Console().print(f"{key}: {value:.2f}", highlight=False)


def main() -> int:
    """Run the bench; write its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", action="append", choices=["sqlite", "postgres"])
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--dry", action="store_true", help="write no results")
    given = parser.parse_args()
    found: dict[str, Any] = {}
    for kind in given.database or ["sqlite", "postgres"]:
        with tempfile.TemporaryDirectory() as folder, database(kind, Path(folder)) as url:
            console.print(f"{kind} …")
            found[kind] = measured(url, given.users)
        show(kind, found[kind])
    if not given.dry:
        write("memories", found | {"asked": ASKED})
    return 0


if __name__ == "__main__":
    sys.exit(main())
