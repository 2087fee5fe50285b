"""What was acknowledged is stored, whole, though the process that stored it was killed a moment later."""

import subprocess

import pytest
from sqlalchemy import text

from learngate.stores import Decision, Memory, open_memory
from tests.stores.support import check_index, draft, processes

WORKER = """
from itertools import count
from langchain_core.messages import AIMessage, HumanMessage
from learngate.stores import Decision, MemoryOperation, ProposalDraft, Turn, open_memory

memory = open_memory(sys.argv[1])
memory.checkpointer()
memory.learnings.search("warm up", namespace="n")
ready()
for n in count():
    turn = memory.sessions.append(
        Turn("s", (HumanMessage(f"question {n}"), AIMessage(f"answer {n}")), user_id="ana", reflection="pending")
    )
    print("turn", turn.id, flush=True)
    fact = memory.users.remember("ana", f"fact {n}")
    print("fact", fact.id, flush=True)
    memory.users.apply("ana", [MemoryOperation("add", f"noted {n}")], source=("s", turn.id), final=False)
    print("noted", n, flush=True)
    draft = ProposalDraft("Rule", f"insight {n}")
    made = memory.learnings.propose_once(
        draft, namespace="n", proposer="m", user_id="ana", source=("s", turn.id)
    )
    print("proposed", made.id, flush=True)
    decision = Decision.reject("no") if n % 3 == 2 else Decision.approve()
    memory.learnings.decide(made.id, decision, reviewer="rev")
    print("decided", made.id, flush=True)
    memory.learnings.search(f"insight {n}", namespace="n")
"""


HALVES = {
    "a turn without both its messages": """
        SELECT seq FROM turns WHERE 2 != (SELECT count(*) FROM messages WHERE turn_seq = seq)""",
    "a turn beside the chain": """
        SELECT seq FROM turns WHERE parent_seq IS NULL AND seq > 1""",
    "a memory without its revision": """
        SELECT id FROM user_memories WHERE id NOT IN (SELECT memory_id FROM memory_revisions)""",
    "a learning without its revision": """
        SELECT id FROM learnings WHERE id NOT IN (SELECT learning_id FROM revisions)""",
    "a revision without its decision": """
        SELECT 1 FROM revisions WHERE decision_id NOT IN (SELECT id FROM decisions)""",
    "a decision on what is pending, or none on what is not": """
        SELECT id FROM proposals WHERE (status = 'pending') = (id IN (SELECT proposal_id FROM decisions))""",
    "an approval without its learning": """
        SELECT id FROM decisions WHERE (type = 'approve') = (learning_id IS NULL)""",
    "a claim without what it was for": """
        SELECT turn_seq FROM effects WHERE effect = 'propose' AND turn_seq NOT IN
        (SELECT seq FROM turns JOIN proposals ON turns.id = proposals.turn_id)""",
    "a change of no row": """
        SELECT 1 FROM changes WHERE kind = 'learning' AND row_id NOT IN (SELECT id FROM learnings)""",
}


def acknowledged(process: subprocess.Popen[str], lines: int) -> list[tuple[str, str]]:
    """Let a worker go on, kill it after so many lines, and return all that it said before it died."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    said = [process.stdout.readline() for _ in range(lines)]
    process.kill()
    said += process.stdout.readlines()
    # The last line may be torn.
    return [(kind, name) for kind, name in (line.split() for line in said if line.endswith("\n"))]


@pytest.mark.parametrize("lines", [1, 34, 72, 111])
def test_all_that_was_acknowledged_before_a_kill_is_found_and_nothing_is_half_written(url, lines):
    with processes(WORKER, [url]) as (worker,):
        said = acknowledged(worker, lines)
    assert len(said) >= lines
    with open_memory(url) as memory:
        for kind, name in said:
            check(memory, kind, name)
        check_whole(memory)
        go_on(memory)


def check(memory: Memory, kind: str, name: str) -> None:
    match kind:
        case "turn":
            turn = memory.sessions.get("s", name)
            assert turn.answer == turn.question.replace("question", "answer")
        case "fact":
            assert int(name) in {m.id for m in memory.users.list("ana")}
        case "noted":
            assert f"noted {name}" in {m.text for m in memory.users.list("ana")}
        case "proposed":
            assert memory.learnings.proposal(int(name)).session_id == "s"
        case "decided":
            decision = memory.learnings.decision(int(name))
            if decision.type == "approve":
                found = memory.learnings.search(memory.learnings.proposal(int(name)).insight, namespace="n", k=100)
                assert decision.learning_id in {hit.learning.id for hit in found}
            else:
                assert decision.learning_id is None


def check_whole(memory: Memory) -> None:
    broken = {}
    with memory.database.read() as connection:
        if memory.database.dialect == "sqlite":
            assert connection.scalar(text("PRAGMA integrity_check")) == "ok"
            assert connection.execute(text("PRAGMA foreign_key_check")).all() == []
        for what, query in HALVES.items():
            broken[what] = connection.execute(text(query)).all()
    assert {what: rows for what, rows in broken.items() if rows} == {}
    check_index(memory)


def go_on(memory: Memory) -> None:
    """The next process takes up what the last one left."""
    for proposal in memory.learnings.pending(namespace="n"):
        memory.learnings.decide(proposal.id, Decision.approve(), reviewer="rev")
    added = memory.learnings.add(draft("another insight"), namespace="n", actor="ana")
    assert added.id in {hit.learning.id for hit in memory.learnings.search("another insight", namespace="n")}


def test_a_worker_that_is_killed_while_it_writes_leaves_no_lock(url):
    """The other process waits for the lock of the dead one not at all."""
    script = """
from learngate.stores import open_memory
memory = open_memory(sys.argv[1])
with memory.database.write() as connection:
    connection.exec_driver_sql("INSERT INTO sessions (id, opened_at) VALUES ('half', 'now')")
    ready()
"""
    with processes(script, [url]) as (worker,):
        worker.kill()
        worker.wait()
        with open_memory(url) as memory:
            assert memory.users.remember("ana", "likes tea").id == 1
            assert memory.sessions.standing("half") is None
