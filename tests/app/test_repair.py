"""`learngate doctor --repair`: what it did is said, and of a damaged file, what was saved and the way back."""

import json
import sqlite3

import pytest
from langchain_core.messages import AIMessage, HumanMessage

from learngate.stores import Turn


@pytest.fixture
def repaired(run):
    def repaired(*options, status=0):
        result = run("doctor", "--repair", "--json", "--model", "offline", *options)
        assert result.exit_code == status, result.output
        return json.loads(result.stdout)["findings"]

    return repaired


def of(found, what):
    return [one for one in found if one["what"] == what]


def test_where_nothing_is_wrong_it_says_so_and_changes_nothing(repaired, stocked, rows):
    before = rows()
    assert [one["says"] for one in of(repaired(), "repair")] == ["there was nothing to mend"]
    assert rows() == before


def test_it_mends_and_the_report_after_it_is_in_order(repaired, stocked, run, path):
    stocked.close()
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM learnings_fts_data WHERE id > 10")
        connection.execute("UPDATE user_memories SET body = 'x'")
    connection.close()
    assert run("doctor").exit_code == 1
    found = repaired()
    said = [one["says"] for one in of(found, "repair")]
    assert any("full-text index of learnings" in one for one in said)
    assert any("rows of user_memories" in one for one in said)
    assert of(found, "search")[0]["state"] == "ok"
    assert [one["says"] for one in of(repaired(), "repair")] == ["there was nothing to mend"]


def test_of_a_damaged_file_what_can_be_read_is_saved_and_the_way_back_is_said(repaired, stocked, told, path):
    stocked.close()
    with sqlite3.connect(path) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'messages'").fetchone()
    connection.close()
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xa5" * 4096)
    damaged = path.read_bytes()
    found = repaired(status=1)
    assert not of(found, "integrity")
    assert "backup" in of(found, "pages")[0]["todo"]
    saved = path.with_name(f"{path.name}.saved")
    assert str(saved) in of(found, "repair")[0]["says"]
    assert "not all of messages could be read" in of(found, "repair")[0]["says"]
    assert path.read_bytes() == damaged
    assert told("learnings", "list", "--all", "--db", saved) == told("learnings", "list", "--all")
    assert "short answers" in told("memories", "list", "--user", "ana", "--db", saved)
    again = of(repaired(status=1), "repair")[0]
    assert (again["state"], "is there already" in again["says"]) == ("broken", True)


def garble(path, *statements):
    with sqlite3.connect(path) as connection:
        for statement in statements:
            assert connection.execute(statement).rowcount == 1
    connection.close()


DAMAGE = (
    "UPDATE messages SET data = replace(data, 'hello', 'hullo') WHERE position = 0",
    "UPDATE learnings SET title = 'Other' WHERE id = 1",
)


def test_what_a_repair_would_mend_is_found_without_it_and_what_it_lost_is_no_ok(repaired, run, known, path, rows):
    garble(path, *DAMAGE)
    before = rows()
    looked = run("doctor", "--json", "--db", path)
    assert looked.exit_code == 1
    content = of(json.loads(looked.stdout)["findings"], "content")
    assert [one["state"] for one in content] == ["broken", "broken"]
    assert {one["todo"] for one in content} == {f"mend it: `learngate doctor --repair --db {path}`"}
    assert rows() == before
    found = repaired("--db", path, status=1)
    lost = [one for one in of(found, "repair") if one["lost"]]
    assert {one["state"] for one in lost} == {"look"}
    assert any("learnings" in one["says"] and one["says"].endswith(": 1") for one in lost)
    assert "broken" not in {one["state"] for one in found}
    assert not any("--repair" in one["todo"] for one in found)
    assert of(found, "quarantine")[0]["says"] == "repairs have set apart 1 of learnings, 1 of messages"
    again = repaired("--db", path)
    assert [one["says"] for one in of(again, "repair")] == ["there was nothing to mend"]
    assert of(again, "quarantine")[0]["todo"].startswith(f"look at it: `learngate doctor --quarantine --db {path}`")


def test_the_quarantine_is_listed(told, run, known, path):
    assert told("doctor", "--quarantine") == "nothing was set apart\n"
    garble(path, *DAMAGE)
    run("doctor", "--repair")
    [message, learning] = json.loads(told("doctor", "--quarantine", "--json"))
    assert (message["source"], message["user_id"], learning["source"]) == ("messages", "ana", "learnings")
    assert "hullo" in json.loads(message["row"])["data"]
    assert "learnings" in told("doctor", "--quarantine")


@pytest.fixture
def filled(stocked, path):
    """End the file with what was said: that of a new database may end with the list of its tables."""
    for number in range(60):
        said = HumanMessage(f"{number} and so on " * 200), AIMessage("I see.")
        stocked.sessions.append(Turn("long", said, user_id="ana"))
    stocked.close()


@pytest.mark.parametrize("lost", [4097, 8192, 30_000, 100_000])
def test_of_a_file_that_was_cut_off_the_rest_is_saved(repaired, told, filled, path, lost):
    cut = path.read_bytes()[:-lost]
    path.write_bytes(cut)
    found = repaired("--db", path, status=1)
    assert not any("or see `learngate doctor`" in one["says"] for one in found)
    saved = path.with_name(f"{path.name}.saved")
    assert path.read_bytes() == cut
    assert "are saved in" in of(found, "repair")[0]["says"]
    assert "ETFs" in told("learnings", "list", "--db", saved)
    told("export", path.with_name("all.jsonl"), "--db", saved)


def test_where_nothing_can_be_read_a_backup_is_all_that_is_said(repaired, known, path):
    path.write_bytes(bytes(4096) + path.read_bytes()[4096:])
    found = repaired(status=1)
    assert "what is left is a backup" in of(found, "repair")[0]["says"]
    assert [one.name for one in path.parent.iterdir() if one.name.startswith(path.name)] == [path.name]


def test_ctrl_c_while_a_file_is_saved_leaves_nothing_and_says_so(run, filled, path, monkeypatch):
    from learngate.stores import salvage

    path.write_bytes(path.read_bytes()[:-8192])

    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(salvage, "_copy", stopped)
    result = run("doctor", "--repair")
    assert result.exit_code != 0
    assert "stopped: nothing was saved, and learngate.db is as it was" in result.output
    assert [one.name for one in path.parent.iterdir() if one.name.startswith(path.name)] == [path.name]


def test_ctrl_c_between_two_steps_says_how_to_go_on(run, known, path, monkeypatch):
    from learngate.stores import repair

    def stopped(_):
        raise KeyboardInterrupt

    garble(path, *DAMAGE)
    monkeypatch.setattr(repair, "DERIVE", (stopped,))
    result = run("doctor", "--repair", "--db", path)
    assert result.exit_code != 0
    assert f"go on with `learngate doctor --repair --db {path}`" in result.output
