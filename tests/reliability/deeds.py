"""Things that a caller does to a memory while something is broken, and a look at whether they are there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from langchain_core.messages import AIMessage, HumanMessage

from learngate.graph import build_graph
from learngate.graph.scripted import ScriptedChat
from learngate.graph.scripted import memory as remembering
from learngate.stores import LearngateError, Memory, MemoryOperation, ProposalDraft, StoreError, Turn
from tests.graph.support import ANA, say, thread
from tests.reliability.counting import Tally

LONG = "which is said at length " * 40


@dataclass(frozen=True)
class Deed:
    """Something that is stored: `do` it for a number, and see whether it is `there`."""

    name: str
    do: Callable[[Memory, int], object]
    there: Callable[[Memory, int], bool]


def append(memory: Memory, n: int) -> object:
    said = HumanMessage(f"question {n}"), AIMessage(f"answer {n} {LONG}")
    return memory.sessions.append(Turn("s", said, user_id="ana", id=f"turn-{n}"))


def answer(memory: Memory, n: int) -> object:
    model = ScriptedChat(answers=[f"answer {n}"], reflections=[remembering(f"noted {n}")])
    graph = build_graph(memory, model=model, pause=False)
    return graph.invoke(say(f"question {n}", f"asked-{n}"), thread("g"), context=ANA)


def recorded(memory: Memory, session: str, turn_id: str, start: str) -> bool:
    return any(turn.answer.startswith(start) for turn in memory.sessions.turns(session, [turn_id]))


DEEDS = (
    Deed("append a turn", append, lambda m, n: recorded(m, "s", f"turn-{n}", f"answer {n} {LONG[:9]}")),
    Deed(
        "remember",
        lambda m, n: m.users.remember("ana", f"fact {n} {LONG}"),
        lambda m, n: any(one.text.startswith(f"fact {n} ") for one in m.users.list("ana")),
    ),
    Deed(
        "apply",
        lambda m, n: m.users.apply("ana", [MemoryOperation("add", f"applied {n}")], source=("s", f"turn-{n}")),
        lambda m, n: any(one.text == f"applied {n}" for one in m.users.list("ana")),
    ),
    Deed(
        "propose",
        lambda m, n: m.learnings.propose(ProposalDraft("T", f"idea {n} {LONG}"), namespace="n"),
        lambda m, n: any(one.insight.startswith(f"idea {n} ") for one in m.learnings.pending(namespace="n")),
    ),
    Deed(
        "approve",
        lambda m, n: m.learnings.add(ProposalDraft("T", f"rule {n} {LONG}"), namespace="n", actor="kim"),
        lambda m, n: any(one.insight.startswith(f"rule {n} ") for one in m.learnings.list(namespace="n")),
    ),
    Deed("answer a turn", answer, lambda m, n: recorded(m, "g", f"asked-{n}", f"answer {n}")),
)

Told = tuple[str, int, str | None]
"""Which deed, its number, and what the caller was told: `None` for yes."""


def attempt(memory: Memory, deed: Deed, n: int) -> Told:
    """Do something; return what its caller is told."""
    try:
        deed.do(memory, n)
    except StoreError as error:
        return deed.name, n, f"{type(error).__name__}: {error}"
    except LearngateError as error:
        return deed.name, n, f"not about the store: {type(error).__name__}: {error}"
    except Exception as error:  # noqa: BLE001 - counted as one that says nothing
        return deed.name, n, f"raw: {type(error).__name__}: {error}"
    return deed.name, n, None


BY_NAME = {deed.name: deed for deed in DEEDS}


def judge(memory: Memory, told: list[Told], tally: Tally, where: str) -> None:
    """Compare what callers were told with what is there."""
    for name, n, error in told:
        there = BY_NAME[name].there(memory, n)
        if error is None:
            tally.check(there, "lost", f"{where}: {name} {n} was acknowledged and is not there")
            continue
        plain = error.startswith(("StoreError: ", "StoreUnavailable: ", "StoreUnusable: "))
        tally.check(plain, "silent", f"{where}: {name} {n} says {error}")
        # A turn is recorded before what may still fail, and is not run again when its message is.
        if name != "answer a turn":
            tally.check(
                not (there and "nothing was stored" in error), "silent", f"{where}: {name} {n} is there: {error}"
            )
