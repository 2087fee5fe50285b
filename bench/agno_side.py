"""The reliability scenarios on Agno 3.1: `agno_side.py FOLDER`, under a Python that has it."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ |= {"AGNO_TELEMETRY": "false", "ANONYMIZED_TELEMETRY": "False"}

from agno.agent import Agent
from agno.approval import approval
from agno.db.schemas import UserMemory
from agno.db.sqlite import SqliteDb
from agno.knowledge import Knowledge
from agno.learn import LearnedKnowledgeConfig, LearningMachine, LearningMode
from agno.memory import MemoryManager
from agno.metrics import MessageMetrics
from agno.models.base import Model
from agno.models.response import ModelResponse
from agno.tools import tool
from agno.vectordb.chroma import ChromaDb
from agno.vectordb.search import SearchType
from together import begin, child, children, say

for _name in ("agno", "agno-team", "agno-workflow"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)

SCRIPT = __file__
INSIGHT = "When comparing ETFs, check both expense ratio and tracking error."


class Scripted(Model):
    """A model that says what a function makes of its prompt, and keeps every prompt."""

    def __init__(self, script: Callable[[list[Any]], Any] = lambda _: "ok") -> None:
        super().__init__(id="scripted", name="Scripted", provider="Scripted")
        self.script = script
        self.seen: list[str] = []

    def __deepcopy__(self, memo: Any) -> Scripted:
        # Extraction works on a deep copy: this way the prompts of both are seen.
        return self

    def _answer(self, messages: list[Any]) -> ModelResponse:
        self.seen.append(
            "\n".join(m.get_content_string() + json.dumps(m.tool_calls or [], default=str) for m in messages)
        )
        reply = self.script(messages)
        calls = [reply] if isinstance(reply, dict) else []
        response = ModelResponse(role="assistant", content=None if calls else reply, tool_calls=calls)
        response.response_usage = MessageMetrics(input_tokens=1, output_tokens=1, total_tokens=2)
        return response

    def invoke(self, messages: Any = None, *args: Any, **more: Any) -> ModelResponse:
        return self._answer(messages or args[0])

    async def ainvoke(self, messages: Any = None, *args: Any, **more: Any) -> ModelResponse:
        return self._answer(messages or args[0])

    def invoke_stream(self, messages: Any = None, *args: Any, **more: Any) -> Iterator[ModelResponse]:
        yield self._answer(messages or args[0])

    async def ainvoke_stream(self, messages: Any = None, *args: Any, **more: Any) -> Any:
        yield self._answer(messages or args[0])

    def _parse_provider_response(self, response: Any, **_: Any) -> Any:
        return response

    def _parse_provider_response_delta(self, response: Any) -> Any:
        return response


class Hashed:
    """An embedder that hashes words, so that no network is needed."""

    dimensions, enable_batch, batch_size, id = 256, False, 100, "hashed"

    def get_embedding(self, text: str) -> list[float]:
        vector = [0.0] * self.dimensions
        for word in re.findall(r"\w+", (text or "").lower()) or ["-"]:
            number = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")
            vector[number % self.dimensions] += 1.0
        return vector

    def get_embedding_and_usage(self, text: str) -> tuple[list[float], None]:
        return self.get_embedding(text), None

    async def async_get_embedding(self, text: str) -> list[float]:
        return self.get_embedding(text)

    async def async_get_embedding_and_usage(self, text: str) -> tuple[list[float], None]:
        return self.get_embedding(text), None


def call(name: str, **arguments: str) -> dict[str, Any]:
    return {
        "id": f"call_{time.time_ns()}",
        "type": "function",
        "function": {"name": name, "arguments": json.dumps(arguments)},
    }


def database(folder: Path, name: str) -> SqliteDb:
    return SqliteDb(db_file=str(folder / f"{name}.db"))


def saves_once(messages: list[Any]) -> Any:
    """Ask to save a learning, until a tool has answered."""
    if any(message.role == "tool" for message in messages):
        return "final answer"
    return call("save_learning", title="T", learning="L")


def gated(folder: Path, *, kill: bool = False) -> Agent:
    """Return an agent whose only tool, saving a learning, needs confirmation; what it did is in a file."""

    @tool(requires_confirmation=True)
    def save_learning(title: str, learning: str) -> str:
        """Save a learning."""
        with (folder / "effects").open("a") as file:
            file.write(f"{title} {os.getpid()}\n")
        if kill:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.2)  # saving takes a moment
        return "saved"

    return Agent(
        id="A", model=Scripted(saves_once), db=database(folder, "b"), tools=[save_learning], telemetry=False
    )


def effects(folder: Path) -> int:
    file = folder / "effects"
    return len(file.read_text().splitlines()) if file.exists() else 0


# -- what children do ---------------------------------------------------------------------------------------


def pause(folder: Path, name: str, session: str) -> None:
    begin(folder, name)
    run = gated(folder).run("go", user_id="alice", session_id=session)
    assert run.is_paused
    say({"run": run.run_id})
    os.kill(os.getpid(), signal.SIGKILL)


def resume(folder: Path, name: str, run_id: str, session: str, answer: str, user: str, kill: str = "") -> None:
    agent = gated(folder, kill=bool(kill))
    paused = agent.get_run_output(run_id=run_id, session_id=session)
    for requirement in paused.active_requirements:
        requirement.confirm() if answer == "approve" else requirement.reject(note="no")
    begin(folder, name)
    try:
        run = agent.continue_run(run_id=run_id, session_id=session, requirements=paused.requirements, user_id=user)
        say({"told": run.status.value})
    except Exception as error:  # noqa: BLE001 - a refusal of any kind
        say({"told": type(error).__name__})


def turns_of(folder: Path, name: str, count: str) -> None:
    agent = Agent(id="A", model=Scripted(), db=database(folder, "c"), add_history_to_context=True, telemetry=False)
    begin(folder, name)
    done = [agent.run(f"{name}-{i}", user_id="u", session_id="s").status.value for i in range(int(count))]
    say({"acknowledged": done.count("COMPLETED")})


def memories_of(folder: Path, name: str, where: str, count: str) -> None:
    manager = MemoryManager(model=Scripted(), db=database(folder, where))
    begin(folder, name)
    ids = [manager.add_user_memory(UserMemory(memory=f"fact {name}-{i}"), user_id="u") for i in range(int(count))]
    say({"acknowledged": sum(one is not None for one in ids)})


def learned_of(folder: Path, name: str, count: str) -> None:
    machine = LearningMachine(db=database(folder, "c"), model=Scripted(), user_memory=True)
    begin(folder, name)
    ids = [machine.user_memory_store.add_memory(user_id="u", memory=f"fact {name}-{i}") for i in range(int(count))]
    say({"acknowledged": sum(one is not None for one in ids)})


CHILDREN: dict[str, Callable[..., None]] = {
    one.__name__: one for one in (pause, resume, turns_of, memories_of, learned_of)
}

# -- the scenarios ------------------------------------------------------------------------------------------


def b(folder: Path) -> dict[str, Any]:
    """Killed between the question and the answer, and inside the approved action."""
    found: dict[str, Any] = {}
    run = child(SCRIPT, folder, "pause", "s1")["run"]
    child(SCRIPT, folder, "resume", run, "s1", "approve", "alice")
    found["b.resumed"] = effects(folder)
    child(SCRIPT, folder, "resume", run, "s1", "approve", "alice")
    found["b.replayed"] = effects(folder) - 1
    run = child(SCRIPT, folder, "pause", "s3")["run"]
    before = effects(folder)
    child(SCRIPT, folder, "resume", run, "s3", "approve", "mallory")
    found["b.stranger"] = effects(folder) - before
    run = child(SCRIPT, folder, "pause", "s5")["run"]
    before = effects(folder)
    child(SCRIPT, folder, "resume", run, "s5", "approve", "alice", "kill")
    child(SCRIPT, folder, "resume", run, "s5", "approve", "alice")
    found["b.killed_inside"] = effects(folder) - before
    return found


def b2(folder: Path) -> dict[str, Any]:
    """Several processes answer one question at once."""
    found: dict[str, Any] = {"b2.told_wrong": 0}
    for name, answers in (("4x", ["approve"] * 4), ("yn", ["approve", "reject"]), ("ny", ["reject", "approve"])):
        run = gated(folder).run("go", user_id="alice", session_id=name)
        before = effects(folder)
        told = children(SCRIPT, folder, [["resume", run.run_id, name, answer, "alice"] for answer in answers])
        if name == "4x":
            found["b2.effects"] = effects(folder) - before
        else:
            # Both are told that it was completed as they wished: one of them wrongly.
            found["b2.told_wrong"] += max(0, sum(one["told"] == "COMPLETED" for one in told) - 1)
    return found


def b3(folder: Path) -> dict[str, Any]:
    """Past the gate: without a decision, after a rejection, twice."""
    done: list[str] = []

    @approval
    @tool
    def save_learning(title: str, learning: str) -> str:
        """Save a learning."""
        done.append(learning)
        return "saved"

    def agent() -> Agent:
        return Agent(
            id="A", model=Scripted(saves_once), db=database(folder, "b3"), tools=[save_learning], telemetry=False
        )

    def paused(session: str) -> tuple[Any, dict[str, Any]]:
        run = agent().run("go", user_id="alice", session_id=session)
        [record] = [one for one in agent().db.get_approvals()[0] if one["run_id"] == run.run_id]
        return run, record

    def confirmed_by_caller(run: Any, session: str) -> None:
        for requirement in run.active_requirements:
            requirement.confirm()
        accepted(
            lambda: agent().continue_run(
                run_id=run.run_id, session_id=session, user_id="alice", requirements=run.requirements
            )
        )

    found: dict[str, Any] = {}
    run, _ = paused("s1")
    confirmed_by_caller(run, "s1")
    found["b3.while_pending"] = len(done)
    run, record = paused("s2")
    before, store = len(done), agent().db
    said = {"resolved_by": "bob", "resolved_at": int(time.time())}
    store.update_approval(record["id"], expected_status="pending", status="rejected", **said)
    confirmed_by_caller(run, "s2")
    found["b3.after_rejection"] = len(done) - before
    second = store.update_approval(record["id"], expected_status="pending", status="approved", **said)
    found["b3.decided_twice"] = int(bool(second))
    return found


def accepted(make: Callable[[], object]) -> object:
    try:
        return make()
    except Exception:  # noqa: BLE001 - a refusal of any kind
        return None


def c(folder: Path) -> dict[str, Any]:
    """2 processes write to one database."""
    found = {}
    told = children(SCRIPT, folder, [["turns_of", "100"]] * 2)
    found["c.turns_lost"] = acknowledged(told) - count(folder / "c.db", "agno_runs")
    told = children(SCRIPT, folder, [["memories_of", "c", "200"]] * 2)
    found["c.memories_lost"] = acknowledged(told) - count(folder / "c.db", "agno_memories")
    told = children(SCRIPT, folder, [["learned_of", "100"]] * 2)
    machine = LearningMachine(db=database(folder, "c"), model=Scripted(), user_memory=True)
    found["c.updates_lost"] = acknowledged(told) - len(machine.user_memory_store.get(user_id="u").memories)
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
            manager = MemoryManager(model=Scripted(), db=database(folder, name))
            manager.add_user_memory(UserMemory(memory="seed"), user_id="somebody")
        told = children(SCRIPT, folder, [["memories_of", name, "200"]] * processes)
        lost += acknowledged(told) - count(folder / f"{name}.db", "agno_memories", "memory LIKE '%fact%'")
    return {"c2.lost": lost}


def acknowledged(told: list[dict[str, int]]) -> int:
    return sum(one["acknowledged"] for one in told)


def count(path: Path, table: str, where: str = "1") -> int:
    connection = sqlite3.connect(path)
    try:
        return int(connection.execute(f"SELECT count(*) FROM {table} WHERE {where}").fetchone()[0])
    finally:
        connection.close()


def knowledge(folder: Path, name: str) -> tuple[Knowledge, Callable[[], list[str]]]:
    """Return a knowledge base, and what reads its documents."""
    vectors = ChromaDb(
        name=name,
        path=str(folder / name),
        persistent_client=True,
        search_type=SearchType.hybrid,
        embedder=Hashed(),
    )
    vectors.create()
    return Knowledge(name=name, vector_db=vectors), lambda: vectors.client.get_collection(name).get()["documents"]


def d(folder: Path) -> dict[str, Any]:
    """What is learned: repeats, corrections, what nobody approved, what was rejected."""
    found: dict[str, Any] = {}
    base, documents = knowledge(folder, "kb_repeats")
    config = LearnedKnowledgeConfig(mode=LearningMode.AGENTIC)
    machine = LearningMachine(db=database(folder, "d"), model=Scripted(), knowledge=base, learned_knowledge=config)
    store = machine.learned_knowledge_store
    for title in ("ETF check", "ETF check", "ETF checks"):
        store.save(title=title, learning=INSIGHT, tags=["etf"])
    found["d.copies"] = len(documents())
    told = store.save(title="ETF check", learning="Also check the spread.", tags=["etf"])
    found["d.dropped"] = int(bool(told) and not any("spread" in one for one in documents()))
    found["d.unapproved"] = unapproved(folder)
    found["d.rejected_again"] = rejected_again(folder)
    users = LearningMachine(db=database(folder, "u"), model=Scripted(), user_memory=True).user_memory_store
    for _ in range(5):
        users.add_memory(user_id="u", memory="User likes AI stocks")
    found["d.same_memory"] = len(users.get(user_id="u").memories)
    found["d.private"] = private(folder)
    return found


def unapproved(folder: Path) -> int:
    """Let a model save at once where the mode says that a learning is only proposed."""

    def script(messages: list[Any]) -> Any:
        done = messages[-1].role == "tool"
        return "done" if done else call("save_learning", title="garbage", learning="unapproved text")

    base, documents = knowledge(folder, "kb_propose")
    config = LearnedKnowledgeConfig(mode=LearningMode.PROPOSE)
    machine = LearningMachine(knowledge=base, learned_knowledge=config)
    agent = Agent(model=Scripted(script), db=database(folder, "propose"), learning=machine, telemetry=False)
    agent.run("hello", user_id="u", session_id="s")
    return len(documents())


def rejected_again(folder: Path) -> int:
    """Reject a learning, and look at the model's next prompt."""

    @tool(requires_confirmation=True)
    def save_learning(title: str, learning: str) -> str:
        """Save a learning."""
        return "saved"

    def script(messages: list[Any]) -> Any:
        done = messages[-1].role == "tool"
        return "ok" if done else call("save_learning", title="T", learning="REJECTEDTEXT is to keep, always")

    model = Scripted(script)
    agent = Agent(
        model=model,
        db=database(folder, "rejected"),
        tools=[save_learning],
        add_history_to_context=True,
        telemetry=False,
    )
    run = agent.run("save it", user_id="u", session_id="s")
    for requirement in run.active_requirements:
        requirement.reject(note="no")
    agent.continue_run(run_id=run.run_id, session_id="s", requirements=run.requirements)
    model.script = lambda _: "ok"
    model.seen.clear()
    agent.run("what next?", user_id="u", session_id="s")
    return int(any("REJECTEDTEXT" in prompt for prompt in model.seen))


def private(folder: Path) -> int:
    """Save a learning of one user's own namespace, and look at another user's prompts."""
    base, _ = knowledge(folder, "kb_private")
    extraction = Scripted(lambda _: "nothing")
    config = LearnedKnowledgeConfig(mode=LearningMode.ALWAYS, namespace="user", knowledge=base, model=extraction)
    machine = LearningMachine(db=database(folder, "private"), model=extraction, learned_knowledge=config)
    machine.learned_knowledge_store.save(
        title="alice private insight",
        learning="ALICEPRIVATE our acquisition price is 42",
        user_id="alice",
        namespace="user",
    )
    model = Scripted()
    agent = Agent(model=model, db=database(folder, "private2"), learning=machine, telemetry=False)
    agent.run("what is a private insight for an acquisition price?", user_id="bob", session_id="s")
    return int(any("ALICEPRIVATE" in prompt for prompt in [*model.seen, *extraction.seen]))


def e(folder: Path) -> dict[str, Any]:
    """Nobody, somebody else, and a database that is locked."""
    found: dict[str, Any] = {}

    def remembers(messages: list[Any]) -> Any:
        return "done" if messages[-1].role == "tool" else call("add_memory", memory="NONESECRET salary 90k")

    model, extraction, store = Scripted(), Scripted(remembers), database(folder, "nobody")
    manager = MemoryManager(model=extraction, db=store)
    agent = Agent(model=model, db=store, memory_manager=manager, update_memory_on_run=True, telemetry=False)
    agent.run("my salary is 90k", session_id="anon1")
    extraction.script = lambda _: "done"
    model.seen.clear()
    agent.run("what of my salary?", session_id="anon2")
    agent.run("what of my salary?", session_id="d1", user_id="default")
    found["e.nobody"] = int(any("NONESECRET" in prompt for prompt in model.seen))
    model = Scripted()
    agent = Agent(model=model, db=database(folder, "session"), add_history_to_context=True, telemetry=False)
    agent.run("ALICEQUESTION", session_id="shared", user_id="alice")
    model.seen.clear()
    accepted(lambda: agent.run("what did I say?", session_id="shared"))
    found["e.session"] = int(any("ALICEQUESTION" in prompt for prompt in model.seen))
    found["e.locked"] = while_locked(folder)
    return found


def while_locked(folder: Path) -> int:
    """Count what is acknowledged while another connection holds the lock for longer than anybody waits."""
    store = database(folder, "locked")
    manager = MemoryManager(model=Scripted(), db=store)
    manager.add_user_memory(UserMemory(memory="first"), user_id="u")
    agent = Agent(model=Scripted(), db=store, telemetry=False)
    agent.run("x", session_id="w", user_id="u")
    users = LearningMachine(db=store, model=Scripted(), user_memory=True).user_memory_store
    users.add_memory(user_id="u", memory="first")
    holder = sqlite3.connect(folder / "locked.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    told = int(bool(accepted(lambda: manager.add_user_memory(UserMemory(memory="SHOULD BE STORED"), user_id="u"))))
    run: Any = accepted(lambda: agent.run("y", session_id="w", user_id="u"))
    told += int(run is not None and run.status.value == "COMPLETED")
    told += int(bool(accepted(lambda: users.add_memory(user_id="u", memory="SHOULD BE STORED"))))
    holder.execute("ROLLBACK")
    holder.close()
    stored = sum("SHOULD" in one.memory for one in manager.get_user_memories("u"))
    stored += sum("SHOULD" in str(one) for one in users.get(user_id="u").memories)
    return told - stored - (count(folder / "locked.db", "agno_runs") - 1)


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
