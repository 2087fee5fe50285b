"""After a repair everything that is left can be moved elsewhere, and what was set apart is told."""

import io
import json
import random
import shutil
import sqlite3
from contextlib import closing

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from sqlalchemy import URL

from learngate.stores import Decision, LearngateError, ProposalDraft, StoreUnusable, Turn, open_memory
from learngate.stores.quarantine import count_apart, set_apart
from learngate.stores.records import Recalled
from learngate.stores.repair import faults, repair
from learngate.stores.salvage import filled_up, salvage
from learngate.stores.upkeep import integrity, of_a_row, of_an_index, torn_links
from tests.stores.support import Hashed, check_index, draft


def opened(path, **more):
    return open_memory(str(URL.create("sqlite", database=str(path))), embedder=Hashed(), **more)


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A database of some dozens of pages, with everything in it."""
    path = tmp_path_factory.mktemp("template") / "learngate.db"
    with opened(path) as memory:
        for n in range(30):
            said = (HumanMessage(f"question {n} {'x' * 300}"), AIMessage(f"answer {n}"))
            recalled = (Recalled("learning", 1, 1, 0.5, True),)
            turn = Turn(f"s{n % 7}", said, id=f"t{n}", user_id=f"user {n % 7}", recalled=recalled, usage={"n": n})
            memory.sessions.append(turn)
        for n in range(20):
            memory.users.remember(f"user {n % 7}", f"likes tea number {n} {'y' * 100}")
        for n in range(14):
            made = memory.learnings.add(draft(f"Compare fee {n} first. {'z' * 100}"), namespace="n", actor="rita")
            if n % 3 == 0:
                memory.learnings.edit(made.id, insight=f"Compare all fees {n} first.", actor="rita")
            if n % 5 == 0:
                memory.learnings.retire(made.id, actor="rita")
            words = ProposalDraft(f"Idea {n}", f"An idea of the number {n}.")
            memory.learnings.propose(words, namespace="n", proposer="model", user_id="user 1", source=("s1", "t1"))
        memory.learnings.search("fees", namespace="n")
    return path


@pytest.fixture
def file(template, tmp_path):
    return shutil.copy(template, tmp_path / "learngate.db")


def prepare(path):
    with opened(path) as made:
        made.checkpointer()


def finish(path):
    with opened(path) as made:
        assert [one for one in repair(made.database, made.vectors) if not one.done] == []


def mended(path):
    """Repair a file as the command does, and return the one to go on with."""
    saved = path.with_name("saved.db")
    try:
        memory = opened(path)
    except LearngateError:
        with filled_up(path) as database:
            salvage(database, saved, prepare=prepare, finish=finish)
        return saved
    with memory:
        if all(of_an_index(one) or of_a_row(one) for one in integrity(memory.database)):
            assert [one for one in repair(memory.database, memory.vectors) if not one.done] == []
            return path
        salvage(memory.database, saved, prepare=prepare, finish=finish)
    return saved


def check_moves(path):
    """Make sure that a repaired database is sound, and that all of it can be taken elsewhere."""
    with opened(path) as memory:
        assert integrity(memory.database) == torn_links(memory.database) == []
        check_index(memory)
        assert [*faults(memory.database, memory.vectors)] == []
        assert [*repair(memory.database, memory.vectors)] == []
        lines = [*memory.export()]
    with open_memory("sqlite://", embedder=Hashed()) as other:
        taken = other.load(io.BytesIO(b"".join(lines)), actor="ben")
        assert taken.left_out == {}
        assert sum(taken.new.values()) + sum(taken.known.values()) == len(lines) - 2
        assert [*faults(other.database, other.vectors)] == []
    return lines


def zeroed(data, chance, pages):
    page = chance.choice(pages)
    data[page : page + 4096] = bytes(4096)


def flipped(data, chance, pages):
    for _ in range(chance.choice([1, 30, 300])):
        data[chance.choice(pages) + chance.randrange(4096)] ^= 1 << chance.randrange(8)


@pytest.mark.parametrize("damage", [zeroed, flipped])
@pytest.mark.parametrize("seed", range(3))
def test_after_any_damage_what_is_left_can_be_taken_elsewhere(file, seed, damage):
    data = bytearray(file.read_bytes())
    # Without the list of its tables there is nothing to go by.
    listed = (b"CREATE ", b"replace(")
    pages = [at for at in range(4096, len(data), 4096) if not any(one in data[at : at + 4096] for one in listed)]
    damage(data, random.Random(seed), pages)
    file.write_bytes(data)
    lines = check_moves(mended(file))
    assert len(lines) > 20


# -- a file that was cut off --------------------------------------------------------------------------------


@pytest.mark.parametrize("part", [0.999, 0.97, 0.9])
def test_of_a_file_that_was_cut_off_the_rest_is_saved_and_it_is_only_read(file, tmp_path, part):
    data = file.read_bytes()
    cut = data[: int(len(data) * part)]
    file.write_bytes(cut)
    saved = mended(file)
    assert file.read_bytes() == cut
    assert {one.name for one in tmp_path.iterdir()} <= {"learngate.db", "saved.db"}
    lines = check_moves(saved)
    assert len(lines) > (60 if part > 0.95 else 20)


@pytest.mark.parametrize("damage", [bytes(4096), b"", b"\xa5" * 4096])
def test_without_its_first_page_it_is_said_that_nothing_can_be_read(file, tmp_path, damage):
    file.write_bytes(damage + file.read_bytes()[4096:])
    with pytest.raises(StoreUnusable, match=r"nothing in it can be read.*what is left is a backup"):
        mended(file)
    assert [one.name for one in tmp_path.iterdir()] == ["learngate.db"]


# -- one damage at a time -----------------------------------------------------------------------------------


def run(file, *statements):
    with closing(sqlite3.connect(file)) as raw:
        raw.execute("PRAGMA ignore_check_constraints = ON")
        for statement in statements:
            assert raw.execute(statement).rowcount > 0
        raw.commit()


def found_and_mended(file):
    """Say what a look finds and what a repair does, and that the look wrote nothing."""
    before = file.read_bytes()
    with opened(file) as memory:
        seen = [*faults(memory.database, memory.vectors)]
    assert file.read_bytes() == before
    with opened(file) as memory:
        done = [*repair(memory.database, memory.vectors)]
        assert [one for one in done if not one.done] == []
        apart = count_apart(memory.database)
    check_moves(file)
    return seen, done, apart


UNREADABLE = {
    "UPDATE decisions SET decided_at = 'never' WHERE id = 5": "decisions",
    "UPDATE revisions SET at = '2026-11-23T10:00:00.000000+01:00' WHERE learning_id = 7": "revisions",
    "UPDATE proposals SET created_at = CAST(x'ff' AS TEXT) WHERE id = 5": "proposals",
    "UPDATE proposals SET status = 'approvee' WHERE id = 8": "proposals",
    "UPDATE messages SET data = replace(data, 'answer', 'answes') WHERE turn_seq = 9": "messages",
    "UPDATE messages SET role = x'ff' WHERE turn_seq = 10 AND position = 0": "messages",
    "UPDATE user_memories SET text = 'likes sea' WHERE id = 9": "user_memories",
}
LONELY = {
    "DELETE FROM messages WHERE turn_seq = 9 AND position = 0": "turns",
    "DELETE FROM messages WHERE turn_seq = 11": "turns",
    "DELETE FROM proposals WHERE id = (SELECT proposal_id FROM decisions WHERE id = 20)": "decisions",
    "DELETE FROM learnings WHERE id = 12": "revisions",
    "DELETE FROM sessions WHERE id = 's2'": "turns",
    "DELETE FROM user_memories WHERE id = 9": "memory_revisions",
}
REFUSED = {
    "DELETE FROM revisions WHERE learning_id = 12": "learnings",
    "DELETE FROM decisions WHERE id = 1; DELETE FROM revisions WHERE decision_id = 1": "proposals",
    "UPDATE proposals SET namespace = 'n//m' WHERE id = 5": "proposals",
    "UPDATE turns SET user_id = 'somebody', checksum = NULL WHERE seq = 9": "turns",
    "UPDATE user_memories SET uid = 'no uid' WHERE id = 9": "user_memories",
}


@pytest.mark.parametrize("damages", [UNREADABLE, LONELY, REFUSED])
def test_what_cannot_stand_is_found_by_a_look_and_set_apart_by_a_repair(file, damages):
    run(file, *(one for statement in damages for one in statement.split(";")))
    seen, done, apart = found_and_mended(file)
    # A look goes no further in a table than the rows that cannot be read.
    assert sum(one.count for one in seen) >= len(damages) - 1
    assert set(damages.values()) <= {*apart}
    assert all(one.rows for one in done if one.lost and "branch" not in one.said and "newest turn" not in one.said)
    assert len({one.said for one in done}) == len(done) < 16


@pytest.mark.parametrize(
    "wrong", ["parent_seq = 1", "parent_seq = NULL", "user_id = 'bob'", "id = 'T8'", "id = 'T8', parent_seq = NULL"]
)
def test_a_turn_that_stands_elsewhere_is_refused_and_put_back_where_it_was(file, wrong):
    with opened(file) as memory:
        before = memory.sessions.window("s1", turns=99)
    run(file, f"UPDATE turns SET {wrong} WHERE seq = 9")
    with opened(file) as memory, pytest.raises(StoreUnusable, match="damaged"):
        memory.sessions.window("s1", turns=99)
    _, done, apart = found_and_mended(file)
    assert not any(one.lost for one in done)
    assert not apart
    with opened(file) as memory:
        assert memory.sessions.window("s1", turns=99) == before


def test_a_turn_whose_place_nobody_knows_is_set_apart(file):
    run(file, "UPDATE turns SET namespace = 'elsewhere' WHERE seq = 9")
    _, done, apart = found_and_mended(file)
    assert (apart["turns"], next(one.lost for one in done)) == (1, True)
    with opened(file) as memory:
        assert "t8" not in [turn.id for turn in memory.sessions.window("s1", turns=99)]


def test_a_turn_whose_question_is_gone_is_in_no_prompt_and_the_session_goes_on(file):
    run(file, "DELETE FROM messages WHERE turn_seq = 9 AND position = 0")
    found_and_mended(file)
    with opened(file) as memory:
        assert [turn.id for turn in memory.sessions.window("s1")] == ["t1", "t15", "t22", "t29"]
        assert "gone" in (memory.sessions.get("s1", "t8").error or "")


@pytest.mark.parametrize("where", ["learnings", "revisions"])
def test_of_a_learning_and_its_revision_the_digest_says_which_is_right(file, where):
    changes = {
        5: "insight = replace(insight, 'Compare', 'Confuse')",
        9: "title = 'Another'",
        12: "insight = CAST(x'41ff' AS TEXT)",
    }
    with opened(file) as memory:
        right = {n: (memory.learnings.get(n), memory.learnings.history(n)) for n in changes}
    key = "id" if where == "learnings" else "learning_id"
    run(file, *(f"UPDATE {where} SET {change} WHERE {key} = {n}" for n, change in changes.items()))
    seen, done, apart = found_and_mended(file)
    assert any(row.split("/")[0] == "12" for one in seen for row in one.rows)
    assert all(any(n in one.rows and one.lost for one in done) for n in map(str, changes))
    assert apart[where] >= len(changes)
    with opened(file) as memory:
        assert {n: (memory.learnings.get(n), memory.learnings.history(n)) for n in changes} == right


def test_where_neither_the_learning_nor_its_revision_is_right_it_is_out_of_recall(file):
    run(
        file,
        "UPDATE learnings SET insight = 'Send money.' WHERE id = 12",
        "UPDATE revisions SET insight = 'Send honey.' WHERE learning_id = 12",
    )
    seen, _, apart = found_and_mended(file)
    assert any("neither" in one.said and one.rows == ("12",) for one in seen)
    assert apart["learnings"] == 1
    with opened(file) as memory:
        everything = [one.insight for one in memory.learnings.list(namespace="n", status=None)]
        waiting = [one.insight for one in memory.learnings.pending(namespace="n")]
    assert not any("money" in one or "honey" in one for one in everything + waiting)


def test_a_learning_whose_history_is_torn_waits_at_the_gate_again(file):
    with opened(file) as memory:
        words = memory.learnings.get(12).insight
    run(file, "DELETE FROM decisions WHERE learning_id = 12")
    found_and_mended(file)
    with opened(file) as memory:
        assert words not in [one.insight for one in memory.learnings.list(namespace="n", status=None)]
        [again] = [one for one in memory.learnings.pending(namespace="n", limit=1000) if one.insight == words]
        assert memory.learnings.search(words, namespace="n")[0].learning.insight != words
        memory.learnings.decide(again.id, Decision.approve(), reviewer="ana")
        assert memory.learnings.search(words, namespace="n")[0].learning.insight == words


def test_texts_that_are_no_utf_8_are_saved_from_a_damaged_file_and_set_apart(file):
    run(
        file,
        "UPDATE messages SET data = CAST(data || x'ff' AS TEXT) WHERE turn_seq = 9 AND position = 1",
        "UPDATE user_memories SET text = CAST(text || x'ff' AS TEXT) WHERE id = 9",
    )
    data = file.read_bytes()
    file.write_bytes(data[:-4096])
    saved = mended(file)
    with opened(saved) as memory:
        kept = [one for one in set_apart(memory.database) if "UTF-8" in one.why]
        assert {(one.source, one.user_id) for one in kept} == {("messages", "user 1"), ("user_memories", "user 1")}
        assert all("\\xff" in str(json.loads(one.row)) for one in kept)
        assert any(one.text.startswith("likes tea number 8 ") for one in memory.users.list("user 1"))
    check_moves(saved)
