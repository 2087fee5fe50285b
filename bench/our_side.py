"""The reliability scenarios on learngate: `our_side.py FOLDER` prints one JSON object of measurements."""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage, HumanMessage
from langgraph.types import Command
from sqlalchemy import Connection, Engine, event, func, select
from together import begin, child, children, say

from learngate.graph import Context, build_graph
from learngate.graph.scripted import ScriptedChat, learning, memory
from learngate.stores import (
    Conflict,
    Decision,
    LearngateError,
    Memory,
    ProposalDraft,
    StoreUnavailable,
    Turn,
    open_memory,
)
from learngate.stores.tables import learnings, turns, user_memories

INSIGHT = "When comparing ETFs, check both expense ratio and tracking error."
SCRIPT = __file__


def url(folder: Path, name: str) -> str:
    return f"sqlite:///{folder / name}.db"


def thread(session: str) -> dict[str, Any]:
    return {"configurable": {"thread_id": session}}


def asking(store: Memory, session: str, insight: str = INSIGHT) -> Any:
    """Run a turn up to the gate, where it asks whether to save a learning."""
    graph = build_graph(store, model=ScriptedChat(reflections=[learning("ETFs", insight), None]))
    result = graph.invoke({"messages": [("user", "go")]}, thread(session), context=Context("alice", "n"))
    assert "__interrupt__" in result
    return graph


def saved(store: Memory) -> int:
    with store.database.read() as connection:
        return connection.scalar(select(func.count()).select_from(learnings)) or 0


# -- what children do ---------------------------------------------------------------------------------------


def pause(folder: Path, name: str, session: str, insight: str) -> None:
    with open_memory(url(folder, "b")) as store:
        begin(folder, name)
        asking(store, session, insight)
        os.kill(os.getpid(), signal.SIGKILL)


def resume(folder: Path, name: str, session: str, answer: str, user: str, kill: str = "") -> None:
    """Answer a paused run; with `kill`, be killed while the approved learning is being written."""

    def before_commit(connection: Connection) -> None:
        if connection.exec_driver_sql(f"SELECT 1 FROM learnings WHERE insight LIKE '{kill}%'").first():
            os.kill(os.getpid(), signal.SIGKILL)

    with open_memory(url(folder, "b")) as store:
        graph = build_graph(store, model=ScriptedChat())
        if kill:
            event.listen(Engine, "commit", before_commit)
        begin(folder, name)
        try:
            result = graph.invoke(Command(resume=answer), thread(session), context=Context(user, "n"))
            say({"told": (result.get("proposal") or {}).get("status")})
        except LearngateError as refused:
            say({"told": type(refused).__name__})


def turns_of(folder: Path, name: str, count: str) -> None:
    with open_memory(url(folder, "c")) as store:
        begin(folder, name)
        done = 0
        for i in range(int(count)):
            said = HumanMessage(f"{name}-{i}"), AIMessage("answer")
            store.sessions.append(Turn("s", said, user_id="u", id=f"{name}-{i}"))
            done += 1
        say({"acknowledged": done})


def memories_of(folder: Path, name: str, database: str, count: str) -> None:
    begin(folder, name)
    refused = 0
    with open_memory(url(folder, database)) as store:
        for i in range(int(count)):
            while True:
                try:
                    store.users.remember("u", f"fact {name}-{i}")
                    break
                except StoreUnavailable:
                    refused += 1  # it says that nothing was stored, and to try again
    say({"acknowledged": int(count), "refused": refused})


def edits_of(folder: Path, name: str, count: str) -> None:
    with open_memory(url(folder, "c")) as store:
        begin(folder, name)
        for i in range(int(count)):
            store.learnings.edit(1, insight=f"insight {name}-{i}", actor=name)
        say({"acknowledged": int(count)})


CHILDREN: dict[str, Callable[..., None]] = {
    one.__name__: one for one in (pause, resume, turns_of, memories_of, edits_of)
}

# -- the scenarios ------------------------------------------------------------------------------------------


def b(folder: Path) -> dict[str, Any]:
    """Killed between the question and the answer, and inside the approved action."""
    found: dict[str, Any] = {}
    with open_memory(url(folder, "b")) as store:
        child(SCRIPT, folder, "pause", "s1", "first insight to keep, always")
        child(SCRIPT, folder, "resume", "s1", "approve", "alice")
        found["b.resumed"] = saved(store)
        child(SCRIPT, folder, "resume", "s1", "approve", "alice")
        found["b.replayed"] = saved(store) - 1
        child(SCRIPT, folder, "pause", "s3", "third insight to keep, always")
        before = saved(store)
        child(SCRIPT, folder, "resume", "s3", "approve", "mallory")
        found["b.stranger"] = saved(store) - before
        child(SCRIPT, folder, "pause", "s5", "fifth insight to keep, always")
        before = saved(store)
        child(SCRIPT, folder, "resume", "s5", "approve", "alice", "fifth")
        child(SCRIPT, folder, "resume", "s5", "approve", "alice")
        found["b.killed_inside"] = saved(store) - before
    return found


def b2(folder: Path) -> dict[str, Any]:
    """Several processes answer one question at once."""
    found: dict[str, Any] = {}
    with open_memory(url(folder, "b")) as store:
        for name, answers in (
            ("4x", ["approve"] * 4),
            ("yn", ["approve", "reject"]),
            ("ny", ["reject", "approve"]),
        ):
            asking(store, name, f"insight {name} to keep, always")
            before = saved(store)
            told = children(SCRIPT, folder, [["resume", name, answer, "alice"] for answer in answers])
            ran = saved(store) - before
            stands = "approved" if ran else "rejected"
            if name == "4x":
                found["b2.effects"] = ran
            wrong = sum(one["told"] != stands for one in told) if name != "4x" else 0
            found["b2.told_wrong"] = found.get("b2.told_wrong", 0) + wrong
    return found


def b3(folder: Path) -> dict[str, Any]:
    """Past the gate: without a decision, after a rejection, twice."""
    found: dict[str, Any] = {}
    with open_memory(url(folder, "b3")) as store:
        graph = asking(store, "s1", "insight one to keep, always")
        graph.invoke(Command(resume="decided"), thread("s1"))
        graph.invoke(None, thread("s1"))
        found["b3.while_pending"] = saved(store)
        graph = asking(store, "s2", "insight two to keep, always")
        [waiting] = store.learnings.pending(session_id="s2")
        store.learnings.decide(waiting.id, Decision.reject("no"), reviewer="bob")
        graph.invoke(Command(resume="approve"), thread("s2"))
        found["b3.after_rejection"] = saved(store)
        found["b3.decided_twice"] = accepted(
            lambda: store.learnings.decide(waiting.id, Decision.approve(), reviewer="eve")
        )
    return found


def accepted(call: Callable[[], object]) -> int:
    try:
        call()
    except LearngateError:
        return 0
    return 1


def c(folder: Path) -> dict[str, Any]:
    """2 processes write to one database."""
    with open_memory(url(folder, "c")) as store:
        store.learnings.add(ProposalDraft("T", "insight"), namespace="n", actor="kim")
        found = {}
        told = children(SCRIPT, folder, [["turns_of", "100"]] * 2)
        found["c.turns_lost"] = acknowledged(told) - count(store, turns)
        told = children(SCRIPT, folder, [["memories_of", "c", "200"]] * 2)
        found["c.memories_lost"] = acknowledged(told) - count(store, user_memories)
        told = children(SCRIPT, folder, [["edits_of", "100"]] * 2)
        found["c.updates_lost"] = acknowledged(told) - (len(store.learnings.history(1)) - 1)
    return found


def c2(folder: Path) -> dict[str, Any]:
    """2 and 4 processes write memories to a database that is there, or is not yet."""
    lost = 0
    for name, processes, there in (
        ("cold2", 2, False),
        ("warm2", 2, True),
        ("cold4", 4, False),
        ("warm4", 4, True),
    ):
        if there:
            open_memory(url(folder, name)).close()
        told = children(SCRIPT, folder, [["memories_of", name, "200"]] * processes)
        with open_memory(url(folder, name)) as store:
            lost += acknowledged(told) - count(store, user_memories)
    return {"c2.lost": lost}


def acknowledged(told: list[dict[str, int]]) -> int:
    return sum(one["acknowledged"] for one in told)


def count(store: Memory, table: Any) -> int:
    with store.database.read() as connection:
        return connection.scalar(select(func.count()).select_from(table)) or 0


def d(folder: Path) -> dict[str, Any]:
    """What is learned: repeats, corrections, what nobody approved, what was rejected."""
    found: dict[str, Any] = {}
    with open_memory(url(folder, "d")) as store:
        for title in ("ETF check", "ETF check", "ETF checks"):
            accepted(
                lambda title=title: store.learnings.add(ProposalDraft(title, INSIGHT), namespace="n", actor="k")
            )
        found["d.copies"] = store.learnings.count(namespace="n")
        try:
            kept = store.learnings.add(
                ProposalDraft("ETF check", "Also check the spread."), namespace="n", actor="k"
            )
            found["d.dropped"] = int(store.learnings.get(kept.id).insight != "Also check the spread.")
        except Conflict:
            found["d.dropped"] = 0
        before = saved(store)
        asking(store, "proposed", "unapproved insight to keep, always")
        found["d.unapproved"] = saved(store) - before
        graph = asking(store, "rejected", "REJECTEDTEXT is to keep, always")
        graph.invoke(Command(resume={"type": "reject", "message": "no"}), thread("rejected"))
        model = ScriptedChat()
        ask = {"messages": [("user", "What of REJECTED texts?")]}
        build_graph(store, model=model).invoke(ask, thread("rejected"), context=Context("alice", "n"))
        found["d.rejected_again"] = int("REJECTEDTEXT" in str(model.prompts + model.reflected))
        for _ in range(5):
            store.users.remember("u", "User likes AI stocks")
        found["d.same_memory"] = len(store.users.list("u"))
        store.users.remember("alice", "ALICEPRIVATE our acquisition price is 42")
        model = ScriptedChat()
        ask = {"messages": [("user", "what is a private insight for an acquisition price?")]}
        build_graph(store, model=model).invoke(ask, thread("bobs"), context=Context("bob", "n"))
        found["d.private"] = int("ALICEPRIVATE" in str(model.prompts + model.reflected))
    return found


def e(folder: Path) -> dict[str, Any]:
    """Nobody, somebody else, and a database that is locked."""
    found: dict[str, Any] = {}
    with open_memory(url(folder, "e")) as store:
        model = ScriptedChat(reflections=[memory("NONESECRET salary 90k"), None])
        graph = build_graph(store, model=model)
        graph.invoke({"messages": [("user", "my salary is 90k")]}, thread("anon1"))
        graph.invoke({"messages": [("user", "what of my salary?")]}, thread("anon2"))
        graph.invoke({"messages": [("user", "what of my salary?")]}, thread("d1"), context=Context("default"))
        found["e.nobody"] = int(any("NONESECRET" in str(prompt) for prompt in model.prompts[1:]))
        ask = {"messages": [("user", "ALICEQUESTION")]}
        graph.invoke(ask, thread("shared"), context=Context("alice"))
        before = len(model.prompts)
        accepted(lambda: graph.invoke({"messages": [("user", "what did I say?")]}, thread("shared")))
        found["e.session"] = int("ALICEQUESTION" in str(model.prompts[before:]))
        found["e.locked"] = while_locked(folder, store)
    return found


def while_locked(folder: Path, store: Memory) -> int:
    """Count what is acknowledged while another connection holds the lock for longer than anybody waits."""
    graph = build_graph(store, model=ScriptedChat(), reflection="off")
    graph.invoke({"messages": [("user", "x")]}, thread("w"), context=Context("u"))
    holder = sqlite3.connect(folder / "e.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    ask = {"messages": [("user", "y")]}
    told = accepted(lambda: store.users.remember("u", "SHOULD BE STORED"))
    told += accepted(lambda: graph.invoke(ask, thread("w"), context=Context("u")))
    told += accepted(lambda: store.learnings.propose(ProposalDraft("T", "SHOULD BE STORED"), namespace="n"))
    holder.execute("ROLLBACK")
    holder.close()
    stored = sum("SHOULD" in one.text for one in store.users.list("u"))
    stored += len(store.sessions.window("w")) - 1 + len(store.learnings.pending(namespace="n"))
    return told - stored


def main() -> None:
    if sys.argv[1] == "child":
        _, _, folder, name, what, *rest = sys.argv
        CHILDREN[what](Path(folder), name, *rest)
        return
    for number, scenario in enumerate((b, b2, b3, c, c2, d, e)):
        folder = Path(sys.argv[1]) / str(number)
        folder.mkdir(parents=True)
        say({"title": scenario.__doc__, "found": scenario(folder)})


if __name__ == "__main__":
    main()
