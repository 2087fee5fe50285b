"""Repair makes what is derived anew, sets apart what cannot be read, and leaves what was learned alone."""

import json
import sqlite3
from pathlib import Path

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from sqlalchemy import URL, text

from learngate.stores import (
    InvalidInput,
    MemoryOperation,
    ProposalDraft,
    StoreError,
    StoreUnavailable,
    StoreUnusable,
    Turn,
    open_memory,
)
from learngate.stores.database import Database
from learngate.stores.records import Recalled
from learngate.stores.repair import repair
from learngate.stores.salvage import salvage
from learngate.stores.tables import metadata
from learngate.stores.upkeep import integrity, torn_links
from learngate.stores.verify import all_faults
from tests.databases import BOTH, database
from tests.stores.support import Hashed, check_index, draft, go, processes, rows

KEY = "0123456789abcdef" * 4


def fill(memory, turns: int = 3) -> None:
    for n in range(turns):
        said = (HumanMessage(f"question {n}"), AIMessage(f"answer {n}"))
        recalled = (Recalled("learning", 1, 1, 0.5, True),)
        memory.sessions.append(
            Turn("s", said, id=f"t{n}", user_id="ana", recalled=recalled, usage={"n": n}, noted={"n": n})
        )
    memory.users.remember("ana", "likes green tea")
    memory.users.forget("ana", memory.users.remember("ana", "liked coffee").id)
    learned = memory.learnings.add(draft("Compare fees first."), namespace="n", actor="rita")
    memory.learnings.edit(learned.id, insight="Compare all fees first.", actor="rita")
    memory.learnings.retire(memory.learnings.add(draft("Gone."), namespace="n", actor="rita").id, actor="rita")
    memory.learnings.search("fees", namespace="n")
    memory.users.recall("ana", "tea", budget=1)


def mended(memory) -> dict[str, int]:
    found = {}
    for one in repair(memory.database, memory.vectors):
        assert one.done, one
        found[one.what] = found.get(one.what, 0) + one.count
    return found


def run(memory, *statements: str) -> None:
    with memory.database.write() as connection:
        for statement in statements:
            connection.execute(text(statement))


def learned_rows(memory) -> list:
    with memory.database.read() as connection:
        names = ("proposals", "decisions", "revisions", "ledger", "learnings")
        return [connection.execute(text(f"SELECT * FROM {name}")).all() for name in names]


@pytest.fixture(params=BOTH)
def memory(request, tmp_path):
    with (
        database(request.param, tmp_path) as url,
        open_memory(url, embedder=Hashed(), audit_key=KEY) as opened,
    ):
        yield opened


@pytest.fixture
def file(tmp_path):
    return tmp_path / "learngate.db"


@pytest.fixture
def on_sqlite(file):
    with open_memory(f"sqlite:///{file}", embedder=Hashed(), audit_key=KEY) as opened:
        fill(opened)
        yield opened


def test_a_sound_database_is_left_as_it_is(memory):
    fill(memory)
    before = learned_rows(memory)
    assert mended(memory) == {}
    assert learned_rows(memory) == before


DERIVED = [
    "UPDATE learnings SET body = 'x', digest = 'x', scope = 'x', created_at = '2020-01-01T00:00:00.000000+00:00'",
    "UPDATE user_memories SET body = 'x', digest = digest || 'x', scope = 'x'",
    "UPDATE turns SET body = 'x', scope = 'x'",
]


def test_what_is_derived_is_made_anew_and_found_again(memory):
    fill(memory)
    right = [row for table in learned_rows(memory) for row in table]
    found = memory.learnings.search("Compare all fees", namespace="n")
    run(memory, *DERIVED)
    assert memory.sessions.search("question", user_id="ana") == []
    assert mended(memory)["derived"] == 2 + 2 + 3
    assert [row for table in learned_rows(memory) for row in table] == right
    assert [hit.learning for hit in memory.learnings.search("Compare all fees", namespace="n")] == [
        found[0].learning
    ]
    assert memory.users.recall("ana", "tea")[0].text == "likes green tea"
    assert len(memory.sessions.search("question", user_id="ana")) == 3
    assert list(all_faults(memory.ledger)) == []
    assert mended(memory) == {}


def test_what_is_only_an_open_process_s_ignorance_is_told(memory):
    fill(memory)
    run(memory, "DELETE FROM changes WHERE seq > 1")
    assert mended(memory)["changes"] >= 2
    assert mended(memory) == {}


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE embeddings SET vector = x'00'",
        "UPDATE embeddings SET vector = x''",
        "UPDATE embeddings SET vector = zeroblob(32)",
        "UPDATE embeddings SET vector = CAST(x'0000c07f' || substr(vector, 5) AS BLOB)",
        "UPDATE embeddings SET vector = 'text' || substr(vector, 5)",
        "UPDATE embeddings SET vector = substr(vector, 1, 4) || x'0000a03e' || substr(vector, 9)",
        "UPDATE embeddings SET vector = substr(vector, 5)",
        "UPDATE embeddings SET digest = 'of another text'",
        "UPDATE embeddings SET scope = 'x'",
        "UPDATE embeddings SET row_id = row_id + 100",
        "UPDATE embeddings SET kind = 'no ' || kind",
    ],
)
def test_vectors_that_are_none_are_dropped_and_made_again(on_sqlite, damage):
    run(on_sqlite, damage)
    assert mended(on_sqlite) == {"vectors": 2}
    assert on_sqlite.learnings.search("Compare fees", namespace="n")
    assert mended(on_sqlite) == {}


def test_a_process_that_is_open_makes_again_what_a_repair_dropped(memory):
    fill(memory)
    held = rows(memory, "embeddings", "kind = 'learning'")
    run(memory, "UPDATE embeddings SET digest = 'of another text' WHERE kind = 'learning'")
    assert mended(memory) == {"vectors": held}
    assert memory.learnings.search("fees", namespace="n")[0].why == "both"
    assert rows(memory, "embeddings", "kind = 'learning'") == held


def test_a_damaged_full_text_index_is_built_anew(on_sqlite):
    run(on_sqlite, *DERIVED, *(f"DELETE FROM {name}_fts_data WHERE id > 10" for name in ("learnings", "turns")))
    assert mended(on_sqlite)["search"] == 2
    check_index(on_sqlite)
    assert len(on_sqlite.sessions.search("question", user_id="ana")) == 3


def test_a_damaged_index_is_built_anew(on_sqlite, file):
    run(
        on_sqlite,
        "PRAGMA writable_schema = ON",
        "UPDATE sqlite_master SET sql = replace(sql, 'pending', 'off') WHERE name = 'turns_reflection'",
    )
    on_sqlite.close()
    with open_memory(f"sqlite:///{file}", embedder=Hashed(), audit_key=KEY) as memory:
        assert integrity(memory.database)
        assert [*mended(memory)] == ["indexes"]
        assert integrity(memory.database) == []


def test_a_message_that_cannot_be_read_leaves_the_session_readable(memory):
    fill(memory)
    run(memory, """UPDATE messages SET data = '{"type": "strange"' WHERE position = 1 AND turn_seq = 2""")
    with pytest.raises(StoreUnusable, match="doctor --repair"):
        memory.sessions.window("s")
    # What was said in it is gone from its own words, and from what was said before the next.
    assert mended(memory) == {"rows": 1, "derived": 2}
    assert [turn.id for turn in memory.sessions.window("s")] == ["t0", "t2"]
    broken = memory.sessions.get("s", "t1")
    assert (broken.status, "quarantine" in broken.error, broken.question) == ("failed", True, "question 1")
    with memory.database.read() as connection:
        kept = connection.execute(text("SELECT source, user_id, row FROM quarantine")).one()
    assert (kept.source, kept.user_id) == ("messages", "ana")
    assert json.loads(kept.row)["data"] == '{"type": "strange"'
    assert mended(memory) == {}


@pytest.mark.parametrize(
    ("column", "table"),
    [("status", "turns"), ("reflection", "turns"), ("change", "memory_revisions"), ("fate", "recalls")],
)
def test_a_word_that_is_none_keeps_its_row_out_of_prompts(on_sqlite, column, table):
    with on_sqlite.database.write() as connection:
        connection.exec_driver_sql("PRAGMA ignore_check_constraints = ON")
        connection.exec_driver_sql(f"UPDATE {table} SET {column} = 'compl`te' WHERE rowid = 2")
        connection.exec_driver_sql("PRAGMA ignore_check_constraints = OFF")
    assert integrity(on_sqlite.database)
    assert mended(on_sqlite)["rows"] == 1
    assert integrity(on_sqlite.database) == []
    assert len(on_sqlite.sessions.window("s")) == (2 if column == "status" else 3)
    assert mended(on_sqlite) == {}


def test_a_memory_with_a_flipped_bit_has_its_text_back_or_is_set_apart(memory):
    fill(memory)
    memory.users.remember("ana", "likes dogs")
    run(
        memory,
        "UPDATE user_memories SET text = 'likes cream tea' WHERE id = 1",
        "UPDATE user_memories SET text = 'likes hogs' WHERE id = 3",
        "UPDATE memory_revisions SET text = 'likes hogs' WHERE memory_id = 3",
    )
    with pytest.raises(StoreUnusable, match="damaged"):
        memory.users.list("ana")
    with pytest.raises(StoreUnusable, match="not exported"):
        list(memory.export())
    assert mended(memory)["rows"] >= 2
    assert [one.text for one in memory.users.list("ana")] == ["likes green tea"]
    assert memory.users.recall("ana", "dogs hogs tea")[0].text == "likes green tea"
    assert mended(memory) == {}


@pytest.mark.parametrize("column", ["usage", "noted"])
def test_what_is_no_json_is_set_apart(on_sqlite, column):
    run(on_sqlite, f"UPDATE turns SET {column} = '{{torn' WHERE seq = 2")
    assert mended(on_sqlite) == {"rows": 1}
    assert getattr(on_sqlite.sessions.get("s", "t1"), column) is None
    assert len(on_sqlite.sessions.window("s")) == 3


@pytest.mark.parametrize(
    ("table", "column", "count"),
    [("turns", "happened_at", 3), ("sessions", "opened_at", 1), ("user_memories", "valid_to", 1)],
)
def test_times_that_are_none_are_set_apart(on_sqlite, table, column, count):
    run(on_sqlite, f"UPDATE {table} SET {column} = 'yesterday' WHERE {column} IS NOT NULL")
    assert mended(on_sqlite)["rows"] == count
    assert len(on_sqlite.sessions.list(user_id="ana")) == 1
    assert len(on_sqlite.sessions.window("s")) == 3
    assert mended(on_sqlite) == {}


def test_rows_that_belong_to_nothing_are_set_apart_and_the_chain_goes_on(on_sqlite):
    run(
        on_sqlite,
        "PRAGMA foreign_keys = OFF",
    )
    on_sqlite.close()
    with sqlite3.connect(on_sqlite.database.name) as raw:
        raw.execute("DELETE FROM turns WHERE id = 't1'")
        raw.execute("DELETE FROM user_memories WHERE text = 'liked coffee'")
        raw.execute("UPDATE sessions SET newest = 't9'")
    raw.close()
    with open_memory(f"sqlite:///{on_sqlite.database.name}", embedder=Hashed(), audit_key=KEY) as memory:
        assert torn_links(memory.database)
        rows = mended(memory)["rows"]
        assert rows == 2 + 1 + 2 + 1 + 1  # messages, recalls, memory revisions; the parent; the newest
        assert torn_links(memory.database) == []
        assert [turn.id for turn in memory.sessions.window("s")] == ["t2"]
        assert mended(memory) == {}


def test_what_was_learned_is_put_back_as_it_was_signed_and_what_is_gone_stays_an_alarm(on_sqlite, file):
    on_sqlite.close()
    with sqlite3.connect(file) as raw:
        raw.execute("UPDATE learnings SET insight = 'Send money.' WHERE id = 2")
        raw.execute("DELETE FROM decisions WHERE id = 1")
        raw.execute("UPDATE revisions SET at = 'never' WHERE revision = 2 AND learning_id = 2")
    raw.close()
    with open_memory(f"sqlite:///{file}", embedder=Hashed(), audit_key=KEY) as memory:
        done = [*repair(memory.database, memory.vectors)]
        assert all(one.done for one in done)
        assert any("as their newest revision has them" in one.said and one.rows == ("2",) for one in done)
        assert memory.learnings.get(2).insight == "Gone."
        assert "decision 1" in {fault.where for fault in all_faults(memory.ledger)}
        with memory.database.read() as connection:
            kept = connection.execute(text("SELECT row FROM quarantine WHERE source = 'learnings'")).scalars().all()
        assert any("Send money." in one for one in kept)


def test_texts_that_are_no_utf_8_are_set_apart_and_no_error_quotes_them(on_sqlite):
    """The memory has its text back, the message is gone from its turn, and each step goes on to the other rows."""
    garble = "CAST({0} || x'ff' AS TEXT)"
    run(
        on_sqlite,
        *(
            f"UPDATE {table} SET {name} = {garble.format(name)} WHERE {where}"
            for table, name, where in [
                ("user_memories", "text", "id = 1"),
                ("messages", "data", "turn_seq = 1 AND position = 0"),
                ("turns", "happened_at", "seq = 2"),
                ("turns", "noted", "seq = 3"),
            ]
        ),
        "UPDATE user_memories SET text = 'liked toffee' WHERE id = 2",
    )
    with pytest.raises(StoreError) as caught, on_sqlite.database.read() as connection:
        connection.execute(text("SELECT text FROM user_memories")).all()
    assert "decode" in str(caught.value)
    assert "green tea" not in str(caught.value)
    assert mended(on_sqlite)["rows"] == 3 + 1 + 2
    assert on_sqlite.users.recall("ana", "tea")[0].text == "likes green tea"
    with on_sqlite.database.read() as connection:
        query = "SELECT source, user_id, row FROM quarantine ORDER BY id"
        kept = connection.execute(text(query)).all()
        left = connection.execute(text("SELECT seq, status, noted FROM turns ORDER BY seq")).all()
    apart = [one for one in kept if any("\\xff" in str(value) for value in json.loads(one.row).values())]
    assert [(one.source, one.user_id) for one in apart] == [
        ("turns", "ana"),
        ("turns", "ana"),
        ("messages", "ana"),
        ("user_memories", "ana"),
    ]
    assert [one.status for one in left] == ["failed", "complete", "complete"]
    assert left[2].noted is None
    assert mended(on_sqlite) == {}


@pytest.mark.parametrize("key", [KEY, None])
@pytest.mark.parametrize("column", ["insight", "title", "namespace", "uid", "created_at", "updated_at", "status"])
def test_a_learning_that_is_no_utf_8_is_as_it_was_and_keeps_no_other_from_being_mended(tmp_path, column, key):
    with open_memory(f"sqlite:///{tmp_path}/it.db", embedder=Hashed(), audit_key=key) as memory:
        fill(memory)
        sound = memory.learnings.add(draft("Compare fees of funds."), namespace="n", actor="rita")
        right = memory.learnings.get(1)
        with memory.database.write() as connection:
            connection.exec_driver_sql("PRAGMA ignore_check_constraints = ON")
            garble = f"UPDATE learnings SET {column} = CAST({column} || x'ff' AS TEXT) WHERE id = 1"
            connection.exec_driver_sql(garble)
            connection.exec_driver_sql("PRAGMA ignore_check_constraints = OFF")
        run(memory, *DERIVED[1:], f"UPDATE learnings SET body = 'x' WHERE id = {sound.id}")
        said = [*repair(memory.database, memory.vectors)]
        assert all(one.done for one in said)
        assert any("learnings" in one.said and one.lost and one.rows == ("1",) for one in said)
        assert sum(one.count for one in said if one.what == "derived") >= 1 + 2 + 3
        assert memory.learnings.get(1) == right
        assert {hit.learning.id for hit in memory.learnings.search("Compare fees", namespace="n")} == {1, sound.id}
        assert memory.users.recall("ana", "tea")[0].text == "likes green tea"
        assert mended(memory) == {}
        assert list(all_faults(memory.ledger)) == []


@pytest.mark.parametrize("column", ["body", "scope", "digest"])
def test_what_is_derived_of_a_learning_is_made_anew_though_it_is_no_utf_8(on_sqlite, column):
    run(on_sqlite, f"UPDATE learnings SET {column} = CAST({column} || x'ff' AS TEXT) WHERE id = 1")
    assert mended(on_sqlite)["derived"] == 1
    assert [hit.learning.id for hit in on_sqlite.learnings.search("Compare fees", namespace="n")] == [1]
    assert mended(on_sqlite) == {}


def test_what_is_in_quarantine_is_erased_with_its_user(on_sqlite):
    run(on_sqlite, "UPDATE messages SET data = 'secretmark' WHERE position = 1 AND turn_seq = 2")
    mended(on_sqlite)
    receipt = on_sqlite.erase("ana")
    assert receipt.erased["quarantined rows"] == 1
    on_sqlite.close()
    assert b"secretmark" not in Path(on_sqlite.database.name).read_bytes()


# -- damaged pages -----------------------------------------------------------------------------------------


def prepare(path):
    with open_memory(str(URL.create("sqlite", database=str(path))), embedder=Hashed()) as made:
        made.checkpointer()


@pytest.mark.parametrize(
    "table", ["messages", "turns", "user_memories", "memory_revisions", "learnings", "sessions"]
)
def test_of_a_file_with_a_damaged_page_every_other_row_is_saved(file, tmp_path, table):
    with open_memory(f"sqlite:///{file}", embedder=Hashed(), audit_key=KEY) as memory:
        fill(memory, turns=120)
        facts = [MemoryOperation("add", f"fact {n} {'x' * 200}") for n in range(60)]
        memory.users.apply("ana", facts, source=("s", "t"))
        for n in range(40):
            memory.sessions.claim(f"session {n} {'x' * 150}", "ben")
    pages, before = leaf_pages(file, table), counts(file)
    with file.open("r+b") as raw:
        raw.seek((pages[len(pages) // 2] - 1) * 4096)
        raw.write(b"\xa5" * 4096)
    saved = tmp_path / "saved.db"
    with open_memory(f"sqlite:///{file}", embedder=Hashed(), audit_key=KEY) as memory:
        assert integrity(memory.database)
        told = salvage(memory.database, saved, prepare=prepare)
        with pytest.raises(InvalidInput):
            salvage(memory.database, saved, prepare=prepare)
    assert not told[table][1]
    with open_memory(f"sqlite:///{saved}", embedder=Hashed(), audit_key=KEY) as memory:
        after = counts(saved)
        for name, number in before.items():
            if name == table:
                lost = number / len(pages)
                assert number - 4 * lost - 1 <= after[name] < number
            else:
                assert (after[name], told[name]) == (number, (number, True)), name
        assert all(one.done for one in repair(memory.database, memory.vectors)) or table == "learnings"
        assert integrity(memory.database) == []
        check_index(memory)
        if table != "learnings":
            # Its head file is not beside it: that is for whoever puts it in the place of the other.
            assert {fault.where for fault in all_faults(memory.ledger)} == {"head"}


def big(file) -> None:
    """Make a database of a megabyte whose page of sessions is damaged."""
    with open_memory(f"sqlite:///{file}", embedder=Hashed(), audit_key=KEY) as memory:
        fill(memory)
        for _ in range(5):
            memory.sessions.append(Turn("s", (HumanMessage("x" * 200_000), AIMessage("Well.")), user_id="ana"))
    (page,) = leaf_pages(file, "sessions")
    with file.open("r+b") as raw:
        raw.seek((page - 1) * 4096)
        raw.write(b"\xa5" * 4096)


def saved_with_room(file, saved) -> None:
    """Make sure that nothing is left of a salvage that had no room, and that the next one saves all."""
    assert [one for one in file.parent.iterdir() if one.name.startswith(saved.name)] == []
    with open_memory(f"sqlite:///{file}", embedder=Hashed(), audit_key=KEY) as memory:
        told = salvage(memory.database, saved, prepare=prepare)
    assert [name for name, (_, whole) in told.items() if not whole] == ["sessions"]
    assert counts(saved) == {name: told[name][0] for name in ROWS}
    assert not saved.with_name(f"{saved.name}-wal").exists()


def test_a_salvage_whose_disk_is_full_is_no_damage_and_leaves_nothing(file, tmp_path, monkeypatch):
    big(file)
    saved = tmp_path / "saved % ?.db"
    connect = Database.connect

    def small(self):
        opened = connect(self)
        if "saved" in self.name:
            opened.execute("PRAGMA max_page_count = 150")
        return opened

    with (
        open_memory(f"sqlite:///{file}", embedder=Hashed(), audit_key=KEY) as memory,
        monkeypatch.context() as patched,
    ):
        patched.setattr(Database, "connect", small)
        with pytest.raises(StoreUnavailable, match=r"saved % \?\.db\.part has no room left.*free some space"):
            salvage(memory.database, saved, prepare=prepare)
    saved_with_room(file, saved)


LIMITED = """
    import resource, signal, sqlite3
    from pathlib import Path
    from learngate.stores import StoreUnavailable, open_memory
    from learngate.stores.salvage import salvage

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with open_memory(f"sqlite:///{sys.argv[1]}") as memory:
        ready()
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)
        try:
            salvage(memory.database, Path(sys.argv[2]), prepare=lambda path: open_memory(f"sqlite:///{path}").close())
        except StoreUnavailable as error:
            print(error)
"""


@pytest.mark.parametrize("limit", [40_000, 300_000])
def test_a_salvage_that_can_write_no_more_says_so_and_leaves_nothing(file, tmp_path, limit):
    """The limit is met while the tables are made, or while rows are copied."""
    big(file)
    saved = tmp_path / "saved.db"
    with processes(LIMITED, [str(file), str(saved), str(limit)]) as started:
        [[said]] = go(started)
    assert "saved.db.part could not be read or written: check the disk, then try again" in said
    saved_with_room(file, saved)


def test_a_salvage_that_was_killed_is_not_in_the_way(file, tmp_path):
    big(file)
    saved = tmp_path / "saved.db"
    for end in ("", "-wal"):
        (tmp_path / f"saved.db.part{end}").write_bytes(b"half")
    with open_memory(f"sqlite:///{file}", embedder=Hashed(), audit_key=KEY) as memory:
        salvage(memory.database, saved, prepare=prepare)
    assert [one.name for one in tmp_path.iterdir() if "part" in one.name] == []


ROWS = [name for name in metadata.tables if name not in {"learngate_schema", "embeddings", "changes"}]


def counts(file) -> dict[str, int]:
    with sqlite3.connect(file) as raw:
        found = {name: raw.execute(f"SELECT count(*) FROM {name} NOT INDEXED").fetchone()[0] for name in ROWS}
    raw.close()
    return found


def leaf_pages(file, table) -> list[int]:
    """Return the pages that hold a table's rows, but for the root where there are others."""
    data = file.read_bytes()
    with sqlite3.connect(file) as raw:
        (root,) = raw.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()
    raw.close()

    def leaves(number: int) -> list[int]:
        page = data[(number - 1) * 4096 : number * 4096]
        if page[0] == 13:
            return [number]
        cells = int.from_bytes(page[3:5])
        at = [int.from_bytes(page[12 + 2 * i : 14 + 2 * i]) for i in range(cells)]
        below = [int.from_bytes(page[one : one + 4]) for one in at] + [int.from_bytes(page[8:12])]
        return [leaf for one in below for leaf in leaves(one)]

    return leaves(root)


@pytest.mark.parametrize("column", ["title", "insight", "applies_when"])
def test_a_proposal_with_a_flipped_bit_is_not_decided_and_is_set_apart(memory, column):
    memory.learnings.propose(ProposalDraft("Costs", "Costs come first.", "asked"), namespace="gate")
    whole = memory.learnings.propose(draft("Rest comes first.", "Rest"), namespace="gate")
    [damaged] = [one.id for one in memory.learnings.pending(namespace="gate") if one.id != whole.id]
    run(memory, f"UPDATE proposals SET {column} = upper({column}) WHERE id = {damaged}")
    for ask in (
        lambda: memory.learnings.pending(namespace="gate"),
        lambda: memory.learnings.proposal(damaged),
        lambda: list(memory.export()),
    ):
        with pytest.raises(StoreUnusable, match=f"proposal {damaged} is damaged"):
            ask()
    assert mended(memory)["rows"] == 1
    assert [one.id for one in memory.learnings.pending(namespace="gate")] == [whole.id]
    assert mended(memory) == {}


def test_a_decided_proposal_with_a_flipped_bit_stays_beside_its_learning(memory):
    fill(memory)
    run(memory, "UPDATE proposals SET insight = upper(insight) WHERE status = 'approved'")
    before = [one.insight for one in memory.learnings.list(namespace="n")]
    assert mended(memory)["rows"] >= 1
    assert mended(memory) == {}
    assert [one.insight for one in memory.learnings.list(namespace="n")] == before
