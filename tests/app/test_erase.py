"""`learngate erase`: it asks, it tells what went, and what it could not reach."""

import json
import sqlite3

import pytest

from learngate.app import erase
from learngate.stores import upkeep


def test_it_prints_a_receipt_and_leaves_nothing(stocked, told, path):
    shown = told("erase", "--user", "ana", "--yes")
    lines = dict(line.rsplit(maxsplit=1) for line in shown.splitlines() if line[-1].isdigit())
    assert (lines["sessions"], lines["turns"], lines["memories"]) == ("1", "1", "1")
    assert "not reached, and yours to look after:\n- backups, snapshots" in shown
    stocked.close()
    assert b"short answers" not in path.read_bytes()
    assert told("memories", "list", "--user", "ana") == "nothing is remembered about ana\n"


def test_its_json_is_the_receipt(stocked, told):
    receipt = json.loads(told("erase", "--user", "ana", "--yes", "--json"))
    assert receipt["user_id"] == "ana"
    assert receipt["scrubbed"] is True
    assert receipt["erased"]["memories"] == 1
    assert receipt["unreached"]


def test_it_asks_first(stocked, run, monkeypatch):
    refused = run("erase", "--user", "ana")
    assert refused.exit_code == 2
    assert "Error: there is nobody to ask: add --yes" in refused.stderr
    monkeypatch.setattr(erase, "on_terminal", lambda: True)
    monkeypatch.setattr(erase, "ask_line", lambda _: "n")
    shown = run("erase", "--user", "ana")
    assert shown.exit_code == 1
    there = dict(line.rsplit(maxsplit=1) for line in shown.stdout.splitlines() if line[-1:].isdigit())
    assert there == dict.fromkeys(("sessions", "turns", "memories", "proposals"), "1") | {
        "proposals": "2",
        "names as proposer, reviewer or importer": "3",
    }
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
    again = run("erase", "--user", "ana", "--yes")
    assert again.exit_code == 1
    assert (
        "nothing of ana is here: nothing was erased; what the disk holds of erased rows is cleared" in again.stderr
    )


@pytest.mark.parametrize("json", [[], ["--json"]])
def test_a_user_who_is_not_here_is_not_said_to_be_erased(json, stocked, run, rows):
    before = rows()
    result = run("erase", "--user", "ANA", "--yes", *json)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "nothing of ANA is here: nothing was erased" in result.stderr
    assert rows() == before


def test_a_user_who_is_not_here_is_not_asked_about(stocked, run, monkeypatch):
    monkeypatch.setattr(erase, "on_terminal", lambda: True)
    monkeypatch.setattr(erase, "ask_line", lambda _: pytest.fail("it asked"))
    assert run("erase", "--user", "nosuch").exit_code == 1


@pytest.mark.parametrize(
    ("where", "says", "left"),
    [
        ("learngate.stores.erasing.erase_turns", "nothing of ana was erased", 1),
        ("learngate.stores.upkeep.scrub", "the rows of ana are gone, and the disk is not scrubbed yet", 0),
    ],
    ids=["in the transaction", "after it"],
)
def test_ctrl_c_says_what_is_gone_and_erasing_again_finishes(where, says, left, stocked, run, path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(where, interrupted)
        stopped = run("erase", "--user", "ana", "--yes")
    assert (stopped.exit_code, stopped.stdout) == (130, "")
    assert says in stopped.stderr
    assert "run it again" in stopped.stderr
    assert len(stocked.users.list("ana")) == left
    stocked.close()
    scrubbed, real = [], upkeep.scrub
    monkeypatch.setattr(upkeep, "scrub", lambda database: scrubbed.append(database) or real(database))
    again = run("erase", "--user", "ana", "--yes")
    assert (again.exit_code, len(scrubbed)) == (0 if left else 1, 1)
    assert b"short answers" not in b"".join(one.read_bytes() for one in path.parent.glob("learngate.db*"))
