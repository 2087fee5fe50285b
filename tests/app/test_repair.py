"""`learngate doctor --repair`: what it did is said, and of a damaged file, what was saved and the way back."""

import json
import sqlite3

import pytest


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
    assert "backup" in of(found, "pages")[0]["todo"]
    saved = path.with_name(f"{path.name}.saved")
    assert str(saved) in of(found, "repair")[0]["says"]
    assert "not all of messages could be read" in of(found, "repair")[0]["says"]
    assert path.read_bytes() == damaged
    assert told("learnings", "list", "--all", "--db", saved) == told("learnings", "list", "--all")
    assert "short answers" in told("memories", "list", "--user", "ana", "--db", saved)
    again = of(repaired(status=1), "repair")[0]
    assert (again["state"], "is there already" in again["says"]) == ("broken", True)
