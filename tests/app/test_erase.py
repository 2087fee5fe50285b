"""`learngate erase`: it asks, it tells what went, and what it could not reach."""

import json
import sqlite3

from learngate.app import erase


def test_it_prints_a_receipt_and_leaves_nothing(stocked, told, path):
    shown = told("erase", "--user", "ana", "--yes")
    lines = dict(line.rsplit(maxsplit=1) for line in shown.splitlines() if line[-1].isdigit())
    assert (lines["sessions"], lines["turns"], lines["memories"]) == ("1", "1", "1")
    assert "not reached, and yours to look after:\n- backups, snapshots" in shown
    stocked.close()
    assert b"short answers" not in path.read_bytes()
    assert told("memories", "list", "--user", "ana") == "nothing is remembered about ana\n"
    assert "there was nothing of this user" in told("erase", "--user", "ana", "--yes")


def test_its_json_is_the_receipt(stocked, told):
    receipt = json.loads(told("erase", "--user", "ana", "--yes", "--json"))
    assert receipt["user_id"] == "ana"
    assert receipt["scrubbed"] is True
    assert receipt["erased"]["memories"] == 1
    assert receipt["unreached"]


def test_it_asks_first(stocked, run, monkeypatch):
    assert run("erase", "--user", "ana").exit_code == 2
    monkeypatch.setattr(erase, "on_terminal", lambda: True)
    monkeypatch.setattr(erase, "ask_line", lambda _: "n")
    assert run("erase", "--user", "ana").exit_code == 1
    assert len(stocked.users.list("ana")) == 1
    monkeypatch.setattr(erase, "ask_line", lambda _: "yes")
    assert run("erase", "--user", "ana").exit_code == 0
    assert stocked.users.list("ana") == []


def test_it_retires_what_came_of_their_turns_by_whoever_says_so(memory, told):
    from learngate.stores import Decision, ProposalDraft

    draft = ProposalDraft("ETFs", "Compare two ETFs on tracking error.")
    waiting = memory.learnings.propose(draft, namespace="default", proposer="model", user_id="ana")
    learned = memory.learnings.decide(waiting.id, Decision.approve(), reviewer="rita")
    told("erase", "--user", "ana", "--learnings", "retire", "--reviewer", "rita", "--yes")
    assert memory.learnings.get(learned.id).status == "retired"
    assert memory.learnings.history(learned.id)[-1].reviewer == "rita"


def test_a_log_that_cannot_be_cleared_is_status_1(stocked, run, path, monkeypatch):
    from learngate.stores import sqlite

    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.1)
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM turns").fetchone()
    result = run("erase", "--user", "ana", "--yes")
    reader.close()
    assert result.exit_code == 1
    assert "free pages and the write-ahead log" in result.stdout
    assert run("erase", "--user", "ana", "--yes").exit_code == 0
