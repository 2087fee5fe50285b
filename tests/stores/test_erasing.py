"""Erasing a user leaves nothing of theirs but what was approved: not in rows, not in any byte of any file."""

import io
import re
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from sqlalchemy import text

from learngate.stores import (
    Decision,
    Excerpt,
    InvalidInput,
    Memory,
    MemoryOperation,
    NotAllowed,
    NotFound,
    Turn,
    open_memory,
    sqlite,
)
from learngate.stores.lexical import scope_token
from learngate.stores.records import Recalled
from tests.databases import database, needs_postgres
from tests.stores.support import Hashed, check_index, draft

APPROVED = ("Zanzibar", "quokkas")
"""The words that a reviewer approved, and that stay."""
MARKS = [
    "askedmark",
    "answermark",
    "toolmark",
    "argsmark",
    "artifactmark",
    "factmark",
    "updatedmark",
    "newerfactmark",
    "forgottenmark",
    "quotemark",
    "rationalemark",
    "pendingmark",
    "pendingtitlemark",
    "rejectedmark",
    "rejectionmark",
    "editedoutmark",
    "reviewnotemark",
    "checkpointmark",
    "writemark",
    "byhandmark",
    "threadmark",
    "usagemark",
    "reflectionmark",
    "annakarenina",
]
"""Rare words, one for each place where a user's text comes to stand; the last is the user's name."""
USER = "annakarenina"
SESSION = "threadmark-1"


def fill(memory: Memory, user: str, session: str, *, other: bool = False) -> None:
    """Give a user something of every kind; `other` gives the words another spelling."""

    def said(words: str) -> str:
        return re.sub("mark", "xyz", words, flags=re.IGNORECASE) if other else words

    users, learnings, space = memory.users, memory.learnings, "other" if other else "n"
    kept = users.remember(user, said("factmark is remembered"))
    users.update(user, kept.id, said("Newerfactmark, UPDATEDMARKS"))
    users.forget(user, users.remember(user, said("forgottenmark once")).id)
    users.recall(user, said("updatedmark"), budget=1)
    call = {"name": "look", "args": {"for": said("argsmark")}, "id": "c", "type": "tool_call"}
    messages = (
        HumanMessage(said("Askedmarks were asked")),
        AIMessage("", tool_calls=[call]),
        ToolMessage(said("toolmark result"), tool_call_id="c", artifact={"is": said("artifactmark")}),
        AIMessage(said("answermark")),
    )
    first = memory.sessions.append(
        Turn(session, messages, id="t1", user_id=user, usage={"of": said("usagemark")}, reflection="pending")
    )
    again = (Recalled("memory", kept.id, 2, 0.5, True),)
    memory.sessions.append(Turn(session, messages[:1], id="t2", user_id=user, recalled=again))
    memory.sessions.mark_reflection(session, "t2", "failed", error=said("reflectionmark"))
    source = (session, first.id)
    users.apply(user, [MemoryOperation("add", said("newerfactmark too"))], source=source)
    quote = (Excerpt(said("quotemark was said"), user, user, session, "t1"),)

    def propose(insight: str, title: str = "Rule"):
        worded = draft(said(insight), said(title), rationale=said("rationalemark"), excerpts=quote)
        return learnings.propose(worded, namespace=space, proposer="model", user_id=user, source=source)

    approved = propose("Zanzibar has quokkas.")
    learnings.decide(approved.id, Decision.approve(said("ownnotemark")), reviewer=user)
    edited = propose("Zanzibar has ferries, said editedoutmark.", said("editedoutmark"))
    clean = Decision.edit(title="Ferries", insight="Zanzibar has ferries.", note=said("reviewnotemark"))
    learnings.decide(edited.id, clean, reviewer="rita")
    rejected = propose("rejectedmark")
    learnings.decide(rejected.id, Decision.reject(said("rejectionmark")), reviewer="rita")
    propose("pendingmark", "Pendingtitlemark")
    learnings.propose(draft(said("byhandmark")), namespace=space, proposer=user)
    config = {"configurable": {"thread_id": session, "checkpoint_ns": ""}}
    values = {"messages": [said("checkpointmark")]}
    saver = memory.checkpointer()
    made = saver.put(
        config,
        {"v": 4, "id": "1", "channel_values": values, "channel_versions": {"messages": 1}},
        {},
        {"messages": 1},
    )
    saver.put_writes(made, [("x", said("writemark"))], "task")
    memory.sessions.search(said("askedmarks"), user_id=user)
    users.recall(user, said("newerfactmark"), budget=1)


def left_in(folder: Path, marks=MARKS) -> dict[str, list[str]]:
    """Return the marks that any file holds, however it is spelled or cut by a tokenizer."""
    found = {}
    for path in folder.rglob("*"):
        data = path.read_bytes().lower() if path.is_file() else b""
        here = [mark for mark in marks if mark.encode() in data or mark.encode("utf-16-le") in data]
        if here:
            found[path.name] = here
    return found


@contextmanager
def subprocess_of(script: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    prelude = 'import sys\ndef ready():\n    print("ready", flush=True)\n    sys.stdin.readline()\n'
    command = [sys.executable, "-c", prelude + script, *arguments]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def rows(memory: Memory) -> dict[str, Counter]:
    """Return every row of every table but those that only derive or only grow."""
    with memory.database.read() as connection:
        tables = connection.execute(text("SELECT name FROM sqlite_master WHERE type = 'table'")).scalars().all()
        kept = [name for name in tables if "_fts" not in name and not name.startswith("sqlite_")]
        return {
            name: Counter(map(repr, connection.exec_driver_sql(f"SELECT * FROM {name}").all()))
            for name in kept
            if name not in {"changes", "erased_sessions"}
        }


@pytest.fixture
def file(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    return folder / "learngate.db"


@pytest.fixture
def memory(file):
    with open_memory(f"sqlite:///{file}", embedder=Hashed()) as opened:
        yield opened


def test_no_byte_of_any_file_holds_what_the_user_said_but_what_was_approved(memory, file):
    fill(memory, "ben", "his-session", other=True)
    before = rows(memory)
    fill(memory, USER, SESSION)
    assert sorted(MARKS) == sorted({mark for marks in left_in(file.parent).values() for mark in marks})
    receipt = memory.erase(USER)
    assert receipt.scrubbed
    assert left_in(file.parent) == {}
    assert left_in(file.parent, [word.lower() for word in APPROVED]) == {file.name: ["zanzibar", "quokkas"]}
    after = rows(memory)
    for name, held in before.items():
        assert held - after[name] == Counter(), name
    left = {name: after[name] - held for name, held in before.items() if after[name] - held}
    left.pop("embeddings", None)  # made where they are read
    assert set(left) == {"proposals", "decisions", "learnings", "revisions"}
    assert {name: sum(more.values()) for name, more in left.items()} == {
        "proposals": 3,
        "decisions": 3,
        "learnings": 2,
        "revisions": 2,
    }
    check_index(memory)
    with memory.database.read() as connection:
        strays = (
            "SELECT count(*) FROM embeddings WHERE kind = 'memory' AND row_id NOT IN (SELECT id FROM user_memories)"
        )
        assert connection.scalar(text(strays)) == 0
    with sqlite3.connect(file) as raw:
        assert raw.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert raw.execute("PRAGMA foreign_key_check").fetchall() == []
        assert raw.execute("PRAGMA freelist_count").fetchone() == (0,)
    raw.close()


def test_the_receipt_counts_what_went_and_names_what_it_cannot_reach(memory):
    fill(memory, USER, SESSION)
    kept = sorted(one.id for one in memory.learnings.list(namespace="n"))
    with memory.database.read() as connection:
        mine = "SELECT count(*) FROM embeddings WHERE kind <> 'learning' AND scope = :scope"
        vectors = connection.scalar(text(mine), {"scope": scope_token("user", USER)})
    assert vectors >= 4
    other = InMemorySaver()
    other.put(
        {"configurable": {"thread_id": SESSION, "checkpoint_ns": ""}},
        {"v": 4, "id": "1", "channel_values": {}},
        {},
        {},
    )
    receipt = memory.erase(USER, savers=[other])
    assert receipt.erased == {
        "sessions": 1,
        "turns": 2,
        "messages": 5,
        "effects": 1,
        "recalls": 1,
        "memories": 3,
        "memory revisions": 5,
        "vectors": vectors,
        "excerpts": 4,
        "pending proposals": 2,
        "rejected proposals' words": 1,
        "approved proposals' links": 2,
        "names as proposer, reviewer or importer": 1,
        "quarantined rows": 0,
        "checkpoint threads": 1,
    }
    assert list(receipt.learnings) == kept
    assert receipt.retired == ()
    assert [*other.list({"configurable": {"thread_id": SESSION}})] == []
    said = "\n".join(receipt.unreached)
    for word in ("backups", "exported files", "checkpointers other than the 1", "LangSmith", "still going"):
        assert word in said
    assert not any(memory.erase(USER).erased.values())


def test_what_was_approved_is_still_found_and_still_says_that_one_person_decided(memory):
    fill(memory, USER, SESSION)
    receipt = memory.erase(USER)
    (hit, *_) = memory.learnings.search("Does Zanzibar have quokkas?", namespace="n")
    (version,) = memory.learnings.history(hit.learning.id)
    assert (version.session_id, version.turn_id, version.reviewer) == (None, None, receipt.alias)
    proposal = memory.learnings.proposal(version.proposal_id)
    assert (proposal.user_id, proposal.rationale, proposal.excerpts) == (None, "", ())


def test_what_was_rejected_is_not_proposed_again_though_its_words_are_gone(memory):
    fill(memory, USER, SESSION)
    memory.erase(USER)
    once_more = {"namespace": "n", "proposer": "m", "user_id": "ben", "source": ("s", "t")}
    assert memory.learnings.propose_once(draft("rejectedmark"), **once_more) is None


def test_learnings_are_retired_where_that_is_asked_for_by_whoever_asks(memory):
    fill(memory, USER, SESSION)
    fill(memory, "ben", "s", other=True)
    with pytest.raises(InvalidInput, match="actor="):
        memory.erase(USER, learnings="retire")
    with pytest.raises(InvalidInput, match="keep, retire"):
        memory.erase(USER, learnings="burn")
    receipt = memory.erase(USER, learnings="retire", actor="rita")
    assert memory.learnings.list(namespace="n") == []
    assert len(memory.learnings.list(namespace="other")) == 2
    assert len(receipt.retired) == 2
    assert memory.learnings.history(receipt.retired[0])[-1].reviewer == "rita"


def test_what_the_user_wrote_by_hand_is_listed_and_loses_the_name_but_is_not_retired(memory):
    mine = memory.learnings.add(draft("Look at the spread."), namespace="n", actor=USER)
    hers = memory.learnings.add(draft("Look at the fees."), namespace="n", actor="rita")
    memory.learnings.edit(hers.id, insight="Look at all the fees.", actor=USER, note="reviewnotemark")
    memory.load(io.BytesIO(b"".join(memory.export())), actor=USER)
    receipt = memory.erase(USER, learnings="retire", actor="rita")
    assert (receipt.learnings, receipt.retired) == ((mine.id, hers.id), ())
    assert receipt.erased["names as proposer, reviewer or importer"] == 5
    assert [one.reviewer for one in memory.learnings.history(hers.id)] == ["rita", receipt.alias]
    assert {one.status for one in memory.learnings.list(namespace="n", status=None)} == {"active"}


def test_a_name_goes_where_the_proposal_is_of_another_user(memory):
    his = memory.learnings.propose(draft("Look at the spread."), namespace="n", proposer=USER, user_id="ben")
    receipt = memory.erase(USER)
    left = memory.learnings.proposal(his.id)
    assert (left.proposer, left.user_id, left.insight) == (receipt.alias, "ben", "Look at the spread.")


def test_an_approved_proposal_whose_revision_is_gone_loses_its_words(memory):
    fill(memory, USER, SESSION)
    with memory.database.write() as connection:
        connection.execute(text("DELETE FROM revisions WHERE learning_id = 1"))
    memory.erase(USER)
    with memory.database.read() as connection:
        kept = "SELECT title, insight, applies_when, user_id FROM proposals WHERE status = 'approved' ORDER BY id"
        words = connection.execute(text(kept)).all()
    assert words == [("", "", "", None), ("Ferries", "Zanzibar has ferries.", "", None)]


def test_nobody_opens_an_erased_session_again(memory):
    fill(memory, USER, SESSION)
    memory.erase(USER)
    for somebody in (USER, "ben", None):
        with pytest.raises(NotAllowed, match="was erased"):
            memory.sessions.claim(SESSION, somebody)
        with pytest.raises(NotAllowed, match="was erased"):
            memory.sessions.append(Turn(SESSION, (HumanMessage("hi"),), user_id=somebody))
    assert memory.sessions.standing(SESSION) is None
    assert memory.sessions.list(user_id=None) == memory.sessions.list(user_id=USER) == []
    with pytest.raises(NotFound):
        memory.sessions.show(SESSION)


def test_what_a_run_still_brings_after_its_user_was_erased_is_not_stored(memory, file):
    fill(memory, USER, SESSION)
    memory.erase(USER)
    late = {"source": (SESSION, "t1")}
    assert memory.users.apply(USER, [MemoryOperation("add", "factmark")], **late) == []
    proposed = memory.learnings.propose_once(
        draft("pendingmark"), namespace="n", proposer="m", user_id=USER, **late
    )
    assert proposed is None
    config = {"configurable": {"thread_id": SESSION, "checkpoint_ns": ""}}
    memory.checkpointer().put(config, {"v": 4, "id": "2", "channel_values": {"x": "checkpointmark"}}, {}, {})
    memory.erase(USER)  # the checkpoint of a run that went on is found by the session's tombstone
    assert left_in(file.parent) == {}


def test_another_process_drops_what_was_erased_from_its_index(memory, file):
    """The other process has it in memory; its next search finds it no more, and nothing of it is embedded again."""
    fill(memory, USER, SESSION)
    script = f"""
from learngate.stores import open_memory
from learngate.stores.lexical import scope_token
from tests.stores.support import Hashed

memory = open_memory(sys.argv[1], embedder=Hashed())
def found():
    scope = scope_token("user", {USER!r})
    return len(memory.users._search("memory", [scope], "updatedmarks", k=9, floor=False))
print(found(), flush=True)
ready()
print(found(), len(memory.users.recall({USER!r}, "updatedmarks", budget=1)), flush=True)
"""
    with subprocess_of(script, f"sqlite:///{file}") as process:
        assert process.stdout.readline() == "2\n"
        assert process.stdout.readline() == "ready\n"
        memory.erase(USER)
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "0 0\n"
        process.communicate()
    assert memory.erase(USER).scrubbed
    assert left_in(file.parent) == {}


POINTS = {
    "before the first checkpoint": ("memory.checkpointer()", "delete_thread"),
    "in the transaction, before a row": ("erasing", "forget_person"),
    "in the transaction, the proposals gone": ("erasing", "erase_turns"),
    "in the transaction, the memories gone": ("erasing", "_bury"),
    "at the end of the transaction": ("upkeep", "purge_terms"),
    "after the transaction": ("erasing", "_checkpoints"),
    "before the pages are cleared": ("upkeep", "scrub"),
}


@pytest.mark.parametrize("point", POINTS)
def test_a_process_that_is_killed_while_erasing_leaves_all_or_nothing_and_the_next_one_finishes(file, point):
    with open_memory(f"sqlite:///{file}", embedder=Hashed()) as memory:
        fill(memory, "ben", "his-session", other=True)
        fill(memory, USER, SESSION)
        before = rows(memory)
    holder, name = POINTS[point]
    script = f"""
import os, signal
from learngate.stores import erasing, open_memory, upkeep
memory = open_memory(sys.argv[1])
setattr({holder}, {name!r}, lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
memory.erase({USER!r})
"""
    with subprocess_of(script, f"sqlite:///{file}") as process:
        assert process.wait(60) == -9
    with open_memory(f"sqlite:///{file}", embedder=Hashed()) as memory:
        half = {name: held for name, held in rows(memory).items() if name not in {"checkpoints", "writes"}}
        if point.startswith(("before the first", "in the", "at the end")):
            assert half == {name: held for name, held in before.items() if name in half}
        else:
            assert memory.users.list(USER) == memory.sessions.list(user_id=USER) == []
        assert memory.erase(USER).scrubbed
        assert left_in(file.parent) == {}
        assert len(memory.users.list("ben")) == 2


def test_a_reader_in_the_way_is_named_and_erasing_once_more_finishes(file, monkeypatch):
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.1)
    with open_memory(f"sqlite:///{file}", embedder=Hashed()) as memory:
        fill(memory, USER, SESSION)
        reader = sqlite3.connect(file, isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM turns").fetchone()
        receipt = memory.erase(USER)
        assert not receipt.scrubbed
        assert "erase once more" in receipt.unreached[0]
        assert memory.users.list(USER) == []
        reader.close()
        assert memory.erase(USER).scrubbed
        assert left_in(file.parent) == {}


@needs_postgres
def test_on_postgres_no_row_of_any_table_holds_it_and_the_receipt_says_what_the_server_keeps(tmp_path):
    with database("postgres", tmp_path) as url, open_memory(url, embedder=Hashed()) as memory:
        fill(memory, "ben", "his-session", other=True)
        before = table_rows(memory)
        fill(memory, USER, SESSION)
        said = "\n".join(row for held in table_rows(memory).values() for row in held).lower()
        assert [mark for mark in MARKS if mark not in said] == []
        assert {"askedmark", USER} <= set(statistics(memory))
        receipt = memory.erase(USER)
        assert receipt.scrubbed
        assert statistics(memory, analyze=False) == []
        after = table_rows(memory)
        said = "\n".join(row for held in after.values() for row in held).lower()
        assert [mark for mark in MARKS if mark in said] == []
        for name in before.keys() - {"changes", "embeddings"}:
            assert before[name] - after[name] == Counter(), name
        for word in ("write-ahead log", "replicas", "VACUUM FULL"):
            assert word in receipt.unreached[0]
        with pytest.raises(NotAllowed, match="was erased"):
            memory.sessions.claim(SESSION, USER)


@needs_postgres
def test_on_postgres_an_index_that_was_left_half_built_goes_with_the_words_in_it(tmp_path):
    import psycopg

    half = "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid ORDER BY 1"
    with database("postgres", tmp_path) as url, open_memory(url, embedder=Hashed()) as memory:
        fill(memory, USER, SESSION)
        with closing(memory.database.connect()) as raw:
            raw.execute("SET lock_timeout = '50ms'")
            for _ in range(2):
                with memory.database.write() as connection:  # it has to wait for whoever writes, and may not
                    connection.execute(text("UPDATE turns SET usage = usage"))
                    with pytest.raises(psycopg.errors.LockNotAvailable):
                        raw.execute("REINDEX INDEX CONCURRENTLY turns_searchable")
            left = [name for (name,) in raw.execute(half).fetchall()]
            assert left == ["turns_searchable_ccnew", "turns_searchable_ccnew1"]
            assert memory.erase(USER).scrubbed
            assert raw.execute(half).fetchall() == []
            there = "SELECT count(*) FROM pg_class WHERE relname = 'turns_searchable'"
            assert raw.execute(there).fetchone() == (1,)


def statistics(memory: Memory, *, analyze: bool = True) -> list[str]:
    """Return the marks that the planner's statistics hold."""
    with closing(memory.database.connect()) as raw:
        if analyze:
            raw.execute("ANALYZE")
        said = repr(raw.execute("SELECT * FROM pg_stats WHERE schemaname = 'public'").fetchall()).lower()
    return [mark for mark in MARKS if mark in said]


def table_rows(memory: Memory) -> dict[str, Counter]:
    """Return every row of every table that the server has, as text."""
    with memory.database.read() as connection:
        names = connection.scalars(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")).all()
        return {name: Counter(map(repr, connection.execute(text(f"SELECT * FROM {name}")).all())) for name in names}
