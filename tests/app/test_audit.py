"""`learngate audit` and what `learngate doctor` says of signatures: no key is said, and what is wrong is named."""

import json
import sqlite3

import pytest

from learngate.app.verify import signatures
from learngate.stores import Decision, ProposalDraft, open_memory
from tests.app.support import RULE
from tests.databases import database, needs_postgres
from tests.stores.tampering import tamper


@pytest.fixture
def change(path):
    """Change the database as somebody does who needs no gate."""

    def change(*statements):
        with sqlite3.connect(path) as connection:
            for statement in statements:
                assert connection.execute(statement).rowcount > 0
        connection.close()

    return change


@pytest.fixture
def audit(run):
    """Return what the doctor finds about signatures, and the exit status that this alone gives it."""

    def audit(*options):
        result = run("doctor", "--json", "--model", "offline", *options)
        found = [one for one in json.loads(result.stdout)["findings"] if one["what"] == "audit"]
        status = int(any(one["state"] == "broken" for one in found))
        assert result.exit_code >= status
        return status, found

    return audit


@pytest.fixture
def signed(known, told):
    told("audit", "init", "--yes")


def test_no_key_is_said_and_verifying_without_one_is_no_success(known, audit):
    status, (found,) = audit()
    assert (status, found["state"]) == (0, "look")
    assert "a learning that is changed past the gate would not be noticed" in found["says"]
    assert found["todo"].startswith("`learngate audit init`")
    status, (found,) = audit("--verify")
    assert (status, found["state"], "nothing was verified" in found["says"]) == (1, "broken", True)


def test_a_key_is_made_after_what_it_signs_was_shown(known, told, audit, path):
    shown = told("audit", "init", "--yes")
    assert f"learning 1, revision 1 (active, default): ETFs: {RULE}" in shown
    assert "signed 3 decisions and 2 learnings" in shown
    assert path.with_name("learngate.db.key").stat().st_mode & 0o777 == 0o600
    for options in ((), ("--verify",)):
        status, (found,) = audit(*options)
        assert (status, found["state"]) == (0, "ok")
        assert "6 links" in found["says"]


def test_nothing_is_signed_unasked(known, run, audit, path):
    result = run("audit", "init")
    assert (result.exit_code, "add --yes" in result.stderr) == (2, True)
    assert not path.with_name("learngate.db.key").exists()
    assert audit()[1][0]["state"] == "look"


@pytest.mark.parametrize(("answer", "made"), [("y", True), ("n", False), ("", False), (EOFError(), False)])
def test_on_a_terminal_it_asks(known, run, path, monkeypatch, answer, made):
    from learngate.app import audit

    def ask_line(prompt):
        assert "sign 3 decisions and 2 learnings? [y/N]" in prompt
        if isinstance(answer, BaseException):
            raise answer
        return answer

    monkeypatch.setattr(audit, "on_terminal", lambda: True)
    monkeypatch.setattr(audit, "ask_line", ask_line)
    assert run("audit", "init").exit_code == (0 if made else 1)
    assert path.with_name("learngate.db.key").exists() is made


@pytest.fixture
def asked(monkeypatch):
    """Agree to what a command asks; something else happens while it waits."""
    from learngate.app import audit

    def asked(meanwhile):
        def ask_line(_):
            meanwhile()
            return "y"

        monkeypatch.setattr(audit, "on_terminal", lambda: True)
        monkeypatch.setattr(audit, "ask_line", ask_line)

    return asked


def test_what_is_approved_while_a_restart_asks_stays_signed(signed, run, audit, asked, path):
    def approve():
        with open_memory(f"sqlite:///{path}") as other:
            other.learnings.decide(4, Decision.approve(), reviewer="ben")

    asked(approve)
    result = run("audit", "restart")
    assert (result.exit_code, "Fees" in result.stdout, "unsigned" in result.stderr) == (0, False, False)
    assert audit("--verify")[0] == 0


def test_what_is_approved_without_a_key_while_a_restart_makes_one_is_said_and_not_signed(known, run, asked, path):
    def approve():
        with open_memory(f"sqlite:///{path}") as other:
            other.learnings.decide(4, Decision.approve(), reviewer="ben")

    asked(approve)
    result = run("audit", "restart")
    assert result.exit_code == 1
    assert "1 decision and 1 learning came in meanwhile, unsigned" in result.stderr
    assert "then sign it with `learngate audit sign`" in result.stdout
    assert "Fees" in run("audit", "sign", "--yes").stdout


@pytest.mark.parametrize("command", ["init", "restart"])
def test_no_key_is_made_where_the_head_cannot_be(known, run, told, audit, rows, path, command):
    head, before = path.with_name("learngate.db.head"), rows()
    (head / "in the way").mkdir(parents=True)
    result = run("audit", command, "--yes")
    assert (result.exit_code, result.stdout, "nothing was changed" in result.stderr) == (2, "", True)
    assert (rows(), path.with_name("learngate.db.key").exists()) == (before, False)
    (head / "in the way").rmdir()
    head.rmdir()
    told("audit", command, "--yes")
    assert audit("--verify")[0] == 0


@pytest.mark.parametrize("command", ["sign", "restart"])
def test_a_head_that_cannot_be_written_is_said_before_anything_is_shown(signed, run, rows, path, command, change):
    change(
        "INSERT INTO decisions SELECT 90, proposal_id, type, 'eve', note, decided_at, learning_id"
        " FROM decisions WHERE id = 1"
    )
    head, before = path.with_name("learngate.db.head"), rows()
    head.unlink()
    (head / "in the way").mkdir(parents=True)
    result = run("audit", command)
    assert (result.exit_code, result.stdout, rows()) == (2, "", before)
    assert f"the head file {head} cannot be written, and nothing was changed (Is a directory)" in result.stderr


def test_a_head_that_lags_is_brought_up_by_signing(signed, told, path):
    head = path.with_name("learngate.db.head")
    head.write_text(head.read_text().splitlines()[1] + "\n")
    assert told("audit", "sign") == "everything is signed\n"
    assert head.read_text().split()[-2] == "6"


def test_a_second_key_is_refused(signed, run):
    result = run("audit", "init")
    assert result.exit_code == 2
    assert "there is a key already" in result.stderr
    assert "`learngate audit sign`" in result.stderr


def test_a_changed_learning_is_named_not_found_and_put_back(signed, audit, change, told, run):
    change("UPDATE learnings SET insight = 'When comparing ETFs, buy mine.' WHERE id = 1")
    status, (found,) = audit()
    assert (status, found["state"]) == (1, "broken")
    assert found["says"].startswith("learning 1: it, or its revision, is not what was signed")
    assert "`learngate audit mend`" in found["todo"]
    assert told("learnings", "search", "How do I compare ETFs?") == "nothing in default fits that\n"
    assert run("learnings", "edit", "1", "--title", "Mine", "--user", "eve").exit_code == 1
    mended = told("audit", "mend", "--yes").splitlines()
    assert mended == [
        "learning 1: ETFs: When comparing ETFs, buy mine.",
        "  → revision 1 is put back",
        "mended 1 learning",
    ]
    assert "ETFs" in told("learnings", "search", "How do I compare ETFs?")
    assert (audit()[0], audit("--verify")[0]) == (0, 0)
    assert told("audit", "mend") == "every learning is what its newest signed revision says\n"


def test_a_deleted_decision_is_found_by_verify_and_accepted_by_a_restart(signed, audit, change, told):
    change("DELETE FROM decisions WHERE id = 2")
    assert audit()[0] == 0
    status, found = audit("--verify")
    assert (status, [one["says"] for one in found]) == (
        1,
        ["decision 2: it was signed, and somebody deleted it"],
    )
    assert "decision 2: it was signed, and somebody deleted it" in told("audit", "restart", "--yes")
    assert audit("--verify")[0] == 0


def test_what_was_inserted_is_shown_before_it_is_signed(signed, audit, change, told):
    change(
        "INSERT INTO decisions SELECT 90, proposal_id, type, 'eve', note, decided_at, learning_id"
        " FROM decisions WHERE id = 1"
    )
    (found,) = audit("--verify")[1]
    assert "decision 90: it is not signed" in found["says"]
    assert "decision 90: approve by eve" in told("audit", "sign", "--yes")
    assert told("audit", "sign") == "everything is signed\n"
    assert audit("--verify")[0] == 0


def test_a_lost_key_is_named_and_replaced(signed, audit, told, run, path):
    path.with_name("learngate.db.key").unlink()
    for options in ((), ("--verify",)):
        status, (found,) = audit(*options)
        assert (status, "its key is not here" in found["says"]) == (1, True)
        assert "`learngate audit restart`" in found["todo"]
    refused = run("learnings", "retire", "1", "--user", "ana")
    assert (refused.exit_code, "LEARNGATE_AUDIT_KEY" in refused.stderr) == (2, True)
    assert run("audit", "init").exit_code == 2
    assert "made" in told("audit", "restart", "--yes")
    assert audit("--verify")[0] == 0
    told("learnings", "retire", "1", "--user", "ana")
    assert audit("--verify")[0] == 0


def test_a_key_from_the_environment_needs_no_file(known, audit, told, monkeypatch, path):
    monkeypatch.setenv("LEARNGATE_AUDIT_KEY", "8c1f" + "0123456789abcdef" * 3)
    assert len(audit()[1]) == 1  # the one active learning
    told("audit", "sign", "--yes")
    status, (found,) = audit("--verify")
    assert (status, "key from LEARNGATE_AUDIT_KEY" in found["says"]) == (0, True)
    assert not path.with_name("learngate.db.key").exists()


def test_a_bad_key_file_is_one_line_with_what_to_do(signed, run, path):
    path.with_name("learngate.db.key").chmod(0o644)
    result = run("learnings", "list")
    assert (result.exit_code, "chmod 600" in result.stderr) == (2, True)
    assert "chmod 600" in run("doctor", "--model", "offline").stdout


def test_hints_name_the_database_as_it_was_named(signed, run, change, path):
    change("UPDATE learnings SET title = 'Mine' WHERE id = 1")
    assert f"`learngate audit mend --db {path}`" in run("doctor", "--db", path, "--model", "offline").stdout


def test_many_faults_are_counted(signed, path, audit, change):
    with open_memory(f"sqlite:///{path}") as memory:
        for number in range(60):
            memory.learnings.add(ProposalDraft("T", f"Rule {number}."), namespace="default", actor="ana")
    change("UPDATE learnings SET title = 'Mine'")
    assert len(audit()[1]) == 51
    assert audit()[1][-1]["says"] == "11 more are not as they were signed"
    assert len(audit("--verify")[1]) == 62


@pytest.mark.parametrize("verify", [False, True])
def test_a_database_with_no_place_for_a_head_says_what_is_not_noticed(verify):
    with open_memory("sqlite://", audit_key="8c1f" + "0123456789abcdef" * 3) as memory:
        memory.learnings.add(ProposalDraft("T", "A rule."), namespace="default", actor="ana")
        (found,) = signatures(memory, "", verify=verify, news=lambda _: None)
    assert found.state == "look"
    assert "an older copy of the database would not be noticed" in found.says
    assert "LEARNGATE_AUDIT_HEAD" in found.todo


def test_how_far_the_walk_is_can_be_followed(signed, path):
    news = []
    with open_memory(f"sqlite:///{path}") as memory:
        list(signatures(memory, "", verify=True, news=news.append))
    assert news == ["verified 6 of 6 links …"]


# -- the commands say what the doctor finds ---------------------------------------------------------------

FORGED = (
    "INSERT INTO learnings (id, uid, namespace, title, insight, applies_when, digest, status, revision, created_at,"
    " updated_at, proposal_id, scope, body) SELECT 99, 'forged', namespace, 'Mine', 'Buy mine.', '', 'forged',"
    " status, 1, created_at, updated_at, proposal_id, scope, body FROM learnings WHERE id = 1"
)


def test_signing_does_not_hide_an_inserted_learning_and_mending_takes_it_out(signed, run, audit, change, told):
    change(FORGED)
    result = run("audit", "sign", "--yes")
    assert (result.exit_code, "everything is signed" in result.stdout) == (1, False)
    assert "learning 99: it is not signed: it has no history" in result.stdout
    assert "take it out: `learngate audit mend`" in result.stdout
    shown = told("learnings", "show", "99")
    assert ("NOT AS SIGNED" in shown, "Buy mine." in shown) == (True, True)
    told("audit", "mend", "--yes")
    assert audit("--verify")[0] == 0


def test_signing_does_not_hide_a_changed_learning(signed, run, change):
    change("UPDATE learnings SET insight = 'Buy mine.' WHERE id = 1")
    result = run("audit", "sign")
    assert (result.exit_code, "everything is signed" in result.stdout) == (1, False)
    assert "learning 1: it, or its revision, is not what was signed" in result.stdout
    assert "`learngate audit mend`" in result.stdout


@pytest.mark.parametrize(
    "wreck",
    [
        ["DELETE FROM learnings WHERE id = 1", "DELETE FROM revisions WHERE learning_id = 1"],
        [
            "UPDATE learnings SET title = 'Mine' WHERE id = 1",
            "UPDATE revisions SET title = 'M' WHERE learning_id = 1",
        ],
    ],
    ids=["both gone", "both changed"],
)
def test_what_cannot_be_put_back_is_said_by_both_and_the_advice_works(signed, run, audit, change, told, wreck):
    change(*wreck)
    (found,) = (one for one in audit("--verify")[1] if one["says"].startswith("learning 1:"))
    assert ("restore a backup" in found["todo"], "audit mend" in found["todo"]) == (True, False)
    result = run("audit", "mend", "--yes")
    assert (result.exit_code, "every learning is" in result.stdout) == (1, False)
    assert "learning 1: " in result.stdout
    assert "restore a backup, or take everything as it is now: `learngate audit restart`" in result.stdout
    if run("audit", "restart", "--yes").exit_code:
        told("audit", "mend", "--yes")
    assert audit("--verify")[0] == 0


def test_a_learning_without_its_history_is_not_for_mending_and_the_advice_works(signed, run, audit, change, told):
    change("DELETE FROM revisions WHERE learning_id = 1")
    assert "restore a backup, or take everything as it is now" in run("audit", "mend", "--yes").stdout
    assert "set it apart with `learngate doctor --repair`" in run("audit", "restart", "--yes").stdout
    result = run("audit", "mend", "--yes")
    assert (result.exit_code, "set it apart with `learngate doctor --repair`" in result.stdout) == (1, True)
    run("doctor", "--repair", "--model", "offline")
    told("audit", "restart", "--yes")
    assert audit("--verify")[0] == 0


def test_without_the_lost_key_each_command_names_the_one_that_helps(signed, run, path):
    path.with_name("learngate.db.key").unlink()
    for command in ("sign", "mend", "init"):
        result = run("audit", command, "--yes")
        assert (result.exit_code, "`learngate audit restart`" in result.stderr) == (2, True)
        assert "audit init" not in result.stderr
    assert "not compared with what was signed" in run("learnings", "list").stderr


def test_a_changed_learning_is_marked_wherever_it_is_read(signed, run, change):
    clean = json.loads(run("learnings", "list", "--json").stdout)
    assert [one["fault"] for one in clean] == [None]
    assert "SIGNED" not in run("learnings", "list").stdout + run("learnings", "show", 1).stdout
    change("UPDATE learnings SET insight = 'Buy mine.' WHERE id = 1")
    listed = run("learnings", "list")
    assert ("NOT AS SIGNED" in listed.stdout, "`learngate doctor`" in listed.stderr) == (True, True)
    shown = run("learnings", "show", 1).stdout
    assert shown.startswith("NOT AS SIGNED, and not recalled: it, or its revision, is not what was signed")
    assert (
        shown.index("Buy mine.")
        < shown.index("\nwhat was signed:")
        < shown.index(RULE)
        < shown.index("approved by")
    )
    (one,) = json.loads(run("learnings", "list", "--json").stdout)
    document = json.loads(run("learnings", "show", 1, "--json").stdout)
    assert one["fault"].startswith("it, or its revision, is not what was signed")
    assert document["learning"]["fault"] == one["fault"]
    assert (document["learning"]["insight"], document["signed"]["insight"]) == ("Buy mine.", RULE)


def test_every_command_answers_a_program(known, run, change, path):
    def asked(command, status=0):
        result = run("audit", command, "--yes", "--json")
        assert result.exit_code == status
        return json.loads(result.stdout)

    assert run("audit", "init", "--json").exit_code == 2  # nobody can be asked
    made = asked("init")
    assert (made["signed"], len(made["shown"]), made["left"]) == (6, 6, [])
    assert made["key_made"] == str(path.with_name("learngate.db.key"))
    change("UPDATE learnings SET title = 'Mine' WHERE id = 1")
    (left,) = asked("sign", 1)["left"]
    assert (left["where"], left["todo"]) == ("learning 1", "put back what was signed: `learngate audit mend`")
    mended = asked("mend")
    assert (mended["mended"], mended["shown"][0]["learning_id"], mended["left"]) == (1, 1, [])
    restarted = asked("restart")
    assert (restarted["signed"], restarted["found"], restarted["left"]) == (made["signed"], [], [])


@pytest.fixture
def headless(told, monkeypatch, tmp_path):
    """Learn on PostgreSQL with a key and no head file; give the database's URL."""
    with database("postgres", tmp_path) as url:
        monkeypatch.setenv("LEARNGATE_DB", url)
        monkeypatch.setenv("LEARNGATE_AUDIT_KEY", "8c1f" + "0123456789abcdef" * 3)
        told("learnings", "add", "--title", "ETFs", "--insight", RULE, "--user", "ana")
        yield url


@needs_postgres
def test_a_head_is_begun_after_a_walk_once_and_its_loss_stays_an_alarm(
    headless, run, audit, told, monkeypatch, tmp_path
):
    status, (found,) = audit()
    assert (status, found["state"]) == (0, "look")
    assert "LEARNGATE_AUDIT_HEAD, then begin it: `learngate audit sign`" in found["todo"]
    head = tmp_path / "head"
    monkeypatch.setenv("LEARNGATE_AUDIT_HEAD", str(head))
    status, (found,) = audit("--verify")
    assert (status, found["state"], "is not begun yet" in found["says"]) == (0, "look", True)
    told("learnings", "retire", "1", "--user", "ana")  # goes on without one
    assert (head.exists(), run("audit", "sign").exit_code) == (False, 2)
    assert "5 links verified" in told("audit", "sign", "--yes")
    status, (found,) = audit("--verify")
    assert (status, found["state"], str(head) in found["says"]) == (0, "ok", True)
    told("learnings", "restore", "1", "--user", "ana")
    head.unlink()
    assert audit()[0] == 1
    result = run("audit", "sign", "--yes")
    assert (result.exit_code, "is missing" in result.stdout, head.exists()) == (1, True, False)
    assert audit()[0] == 1


@needs_postgres
def test_no_head_is_begun_on_what_was_changed(headless, run, monkeypatch, tmp_path):
    with open_memory(headless) as memory:
        tamper(memory, "DELETE FROM decisions WHERE id = 1")
    monkeypatch.setenv("LEARNGATE_AUDIT_HEAD", str(tmp_path / "head"))
    result = run("audit", "sign", "--yes")
    assert (result.exit_code, (tmp_path / "head").exists()) == (1, False)
    assert "is not begun: first see to" in result.stdout
    monkeypatch.delenv("LEARNGATE_AUDIT_KEY")
    assert "set LEARNGATE_AUDIT_KEY to at least 32" in run("audit", "restart", "--yes").stderr
