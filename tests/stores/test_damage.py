"""What was changed behind the store's back is said to be damaged, and is not taken for what was written."""

import pytest
from sqlalchemy import text

from learngate.stores import Memory, StoreUnusable, open_memory
from tests.stores.support import draft, turn


@pytest.fixture
def memory(tmp_path):
    with open_memory(f"sqlite:///{tmp_path / 'it.db'}") as memory:
        memory.sessions.append(turn("s", "What is an ETF?", "A fund.", user_id="ana", id="t1"))
        memory.sessions.append(turn("s", "And gold?", "A metal.", user_id="ana", id="t2"))
        memory.users.remember("ana", "Ana likes tea.")
        yield memory


def change(memory: Memory, statement: str) -> None:
    with memory.database.write() as connection:
        connection.exec_driver_sql("PRAGMA ignore_check_constraints = ON")
        assert connection.execute(text(statement)).rowcount == 1


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE messages SET data = replace(data, 'metal', 'petal') WHERE turn_seq = 2 AND position = 1",
        "UPDATE messages SET data = replace(data, 'type', 'tape') WHERE turn_seq = 2 AND position = 1",
        "UPDATE messages SET data = substr(data, 2) WHERE turn_seq = 2 AND position = 1",
        "UPDATE turns SET status = 'compl`te' WHERE seq = 2",
        "UPDATE turns SET id = 't3' WHERE seq = 2",
        "UPDATE turns SET happened_at = '2026-11-2x' WHERE seq = 2",
        "UPDATE turns SET usage = '{' WHERE seq = 2",
    ],
)
def test_a_damaged_turn_is_in_no_window_and_is_not_left_out_of_one(memory, statement):
    change(memory, statement)
    with pytest.raises(StoreUnusable, match="damaged"):
        memory.sessions.window("s")


def test_a_message_that_is_damaged_is_not_delivered_again(memory):
    [_, answer] = memory.sessions.get("s", "t2").messages
    change(memory, "UPDATE messages SET data = replace(data, 'gold', 'bold') WHERE turn_seq = 2 AND position = 0")
    with pytest.raises(StoreUnusable, match="damaged"):
        memory.sessions.recorded("s", ["t2"])
    assert memory.sessions.recorded("s", [answer.id or ""]) in ({}, {answer.id: answer})


def test_a_damaged_memory_is_not_recalled_and_can_be_forgotten(memory):
    change(memory, "UPDATE user_memories SET text = 'Ana likes sea.' WHERE id = 1")
    for ask in (lambda: memory.users.list("ana"), lambda: memory.users.recall("ana", "tea")):
        with pytest.raises(StoreUnusable, match="memory 1 of 'ana' is damaged"):
            ask()
    memory.users.forget("ana", 1)
    assert memory.users.list("ana") == []


def test_a_memory_that_was_reworded_is_whole(memory):
    memory.users.update("ana", 1, "Ana likes coffee.")
    assert [one.text for one in memory.users.list("ana")] == ["Ana likes coffee."]


def test_a_schema_that_is_no_text_is_damage(tmp_path):
    path = tmp_path / "it.db"
    with open_memory(f"sqlite:///{path}"):
        pass
    held = path.read_bytes()
    assert b"CREATE TABLE recalls" in held
    path.write_bytes(held.replace(b"CREATE TABLE recalls", b"CREATE \xe5ABLE r\xe5calls"))
    with pytest.raises(StoreUnusable, match="damaged"):
        open_memory(f"sqlite:///{path}")


@pytest.mark.parametrize("damage", ["title = CAST(title || x'ff' AS TEXT)", "updated_at = 'never'"])
def test_a_learning_that_cannot_be_read_hides_no_other_from_the_list(memory, damage, caplog):
    made = [memory.learnings.add(draft(f"Compare fee {n}."), namespace="n", actor="ana") for n in range(5)]
    change(memory, f"UPDATE learnings SET {damage} WHERE id = {made[2].id}")
    assert memory.learnings.list(namespace="n") == [made[n] for n in (4, 3, 1, 0)]
    assert memory.learnings.list(namespace="n", limit=3) == [made[4], made[3]]
    assert f"learning {made[2].id} is not listed" in caplog.text
    assert "doctor --repair" in caplog.text
