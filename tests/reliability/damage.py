"""A database file that is not what was written: cut short, or with a bit flipped."""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage, HumanMessage

from learngate.stores import Memory, ProposalDraft, StoreError, Turn
from learngate.stores.repair import faults
from learngate.stores.upkeep import integrity, unsound_terms
from tests.graph.support import opened, teach
from tests.reliability.counting import Count, Databases, Scenario, Tally, made, path_of

SCENARIOS: list[Scenario] = []

READS: dict[str, Callable[[Memory], object]] = {
    "window": lambda memory: said(memory.sessions.window("s", turns=100)),
    "sessions": lambda memory: [(one.id, one.turns, one.title) for one in memory.sessions.list(user_id="ana")],
    "search of turns": lambda memory: [
        hit.turn.id for hit in memory.sessions.search("bond ETF", user_id="ana", k=3)
    ],
    "memories": lambda memory: [(one.id, one.text, one.pinned) for one in memory.users.list("ana")],
    "memories of another": lambda memory: memory.users.list("ben"),
    "recall": lambda memory: [hit.text for hit in memory.users.recall("ana", "costs")],
    "learnings": lambda memory: [
        # With its fault, one that is not as it was signed is told apart.
        (one.id, one.title, one.insight)
        for one in memory.learnings.list(namespace="finance")
        if one.fault is None
    ],
    "search of learnings": lambda memory: [
        hit.learning.insight for hit in memory.learnings.search("bond ETF duration", namespace="finance")
    ],
    "history": lambda memory: [(one.insight, one.reviewer) for one in memory.learnings.history(1)],
    "pending": lambda memory: [(one.id, one.insight) for one in memory.learnings.pending(namespace="finance")],
}
DERIVED = {"sessions", "search of turns"}
"""What counts or ranks by what is derived: SQLite has no checksums, and the doctor is who names what is damaged."""


def said(window: list[Turn]) -> list[Any]:
    return [(turn.id, turn.user_id, turn.parent, [message.text for message in turn.messages]) for turn in window]


def written(databases: Databases) -> Path:
    """Return a database that knows something, closed."""
    url = databases.new()
    with opened(url) as memory:
        teach(memory)
        for number in range(20):
            words = HumanMessage(f"What of bond ETF {number}?"), AIMessage(f"Bond ETF {number} holds bonds. " * 20)
            memory.sessions.append(Turn("s", words, user_id="ana", id=f"more-{number}"))
            memory.users.remember("ana", f"Ana holds {number} shares of bond ETF {number}.")
        memory.learnings.propose(ProposalDraft("Costs", "Costs come first."), namespace="finance")
        memory.learnings.search("bond ETF", namespace="finance")
        memory.users.recall("ana", "costs", budget=50)
    return path_of(url)


def cut(data: bytes, chance: random.Random) -> tuple[str, bytes]:
    length = chance.randrange(1, len(data))
    return f"cut at {length}", data[:length]


def flipped(data: bytes, chance: random.Random) -> tuple[str, bytes]:
    place, bit = chance.randrange(len(data)), chance.randrange(8)
    return f"bit {bit} of byte {place} flipped", data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :]


def named_by_doctor(memory: Memory) -> bool:
    """Whether the doctor's look, which changes nothing, finds something."""
    looks = unsound_terms(memory.database), integrity(memory.database), [*faults(memory.database, memory.vectors)]
    return any(looks)


def read(url: str, answers: dict[str, object], where: str, tally: Tally) -> None:
    """Ask for everything: each answer is the right one, or an error of the store."""
    try:
        memory = opened(url)
    except StoreError:
        return
    with memory:
        for name, ask in READS.items():
            try:
                found = ask(memory)
            except StoreError:
                continue
            except Exception as error:  # noqa: BLE001 - counted
                tally.note("silent", f"{where}: {name} raised {type(error).__name__}: {error}")
                continue
            right = answers[name]
            if "learnings" in name:
                # One that is not as it was signed is left out, and named in the log and by the doctor.
                fine = isinstance(found, list) and isinstance(right, list) and all(one in right for one in found)
            else:
                fine = found == right
            if name in DERIVED and not fine:
                fine = named_by_doctor(memory)
            tally.check(fine, "silent", f"{where}: {name} says {found}")


def damaged(
    databases: Databases, rounds: int, damage: Callable[[bytes, random.Random], tuple[str, bytes]]
) -> Iterator[Count]:
    with key():
        yield from with_key(databases, rounds, damage)


@contextmanager
def key() -> Iterator[None]:
    """Sign what is learned: SQLite has no checksums, and it is what everybody is told."""
    os.environ["LEARNGATE_AUDIT_KEY"] = "00112233445566778899aabbccddeeff" * 2
    log = logging.getLogger("learngate")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)
        del os.environ["LEARNGATE_AUDIT_KEY"]


def with_key(
    databases: Databases, rounds: int, damage: Callable[[bytes, random.Random], tuple[str, bytes]]
) -> Iterator[Count]:
    path = written(databases)
    with opened(f"sqlite:///{path}") as memory:
        answers = {name: ask(memory) for name, ask in READS.items()}
    whole = path.read_bytes()
    chance = random.Random(20)
    for _ in range(rounds):
        tally, url = Tally(), databases.new()
        where, data = damage(whole, chance)
        path_of(url).write_bytes(data)
        read(url, answers, where, tally)
        databases.drop(url)
        yield tally.count()


@made(SCENARIOS, long=300, sample=10, only="SQLite")
def cut_short(databases: Databases, rounds: int) -> Iterator[Count]:
    """The database file was cut short."""
    yield from damaged(databases, rounds, cut)


@made(SCENARIOS, long=1000, sample=20, only="SQLite")
def a_bit(databases: Databases, rounds: int) -> Iterator[Count]:
    """A bit of the database file was flipped."""
    yield from damaged(databases, rounds, flipped)
