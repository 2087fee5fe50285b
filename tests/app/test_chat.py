"""Chat without a terminal: one message, a pipe of them, JSON; what goes to stdout and what to stderr."""

import json
import os
import signal
import subprocess

import pytest

from tests.app.support import GEMINI, LEARNGATE, RULE, Gemini, learngate
from tests.doubles.gemini import HttpError, Json, MalformedJson, Slow, Text

OFFLINE = ("--model", "offline")


def test_one_message_is_answered_on_stdout_and_the_rest_is_said_on_stderr(run, memory):
    result = run("chat", "-m", "hello", "--user", "ana", "--session", "s")
    assert result.exit_code == 0
    assert result.stdout.startswith("You asked: “hello”")
    assert "recalled" not in result.stdout
    assert "no key is set" in result.stderr
    assert "recalled 0 turns · 0 memories · 0 learnings · " in result.stderr
    assert memory.sessions.show("s").turns == 1


def test_nobody_is_answered_told_so_and_not_remembered(run, memory):
    result = run("chat", "-m", "I'm interested in AI stocks.", *OFFLINE)
    assert result.exit_code == 0
    assert "nobody: nothing is remembered about a user (--user NAME)" in result.stderr
    assert "no key is set" not in result.stderr
    assert "remembered ·" not in result.stderr
    with memory.database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM user_memories").scalar() == 0


def test_a_session_is_made_up_and_named_and_continued(run, memory):
    first = run("chat", "-m", "hello", "--user", "ana", "--json", *OFFLINE)
    session = json.loads(first.stdout)["session"]
    second = json.loads(
        run("chat", "-m", "again", "--user", "ana", "--json", "--session", session, *OFFLINE).stdout
    )
    assert [item["text"] for item in second["recall"]["history"]] == ["hello"]
    assert run("chat", "-m", "hello", "--user", "ana", "--json", *OFFLINE).stdout.count(session) == 0


def test_a_proposal_is_left_in_the_inbox_and_the_next_chat_says_where_it_waits(run, memory):
    result = run("chat", "-m", RULE, "--session", "s", "--namespace", "finance", *OFFLINE)
    assert result.exit_code == 0
    assert "proposal 1 waits for a reviewer: Comparing ETFs" in result.stderr
    assert "`learngate review 1`" in result.stderr
    assert memory.learnings.list(namespace="finance") == []
    again = run("chat", "-m", "hello", "--session", "s", "--namespace", "finance", *OFFLINE)
    assert "this session waits at the gate: `learngate review 1`" in again.stderr
    assert memory.learnings.proposal(1).status == "pending"
    assert memory.sessions.show("s").turns == 2


def test_a_suggested_command_names_the_database_that_was_named_by_hand(run, tmp_path):
    path = tmp_path / "a name with spaces.db"
    result = run("chat", "-m", RULE, "--db", path, *OFFLINE)
    assert f"`learngate review 1 --db '{path}'`" in result.stderr


def test_each_line_of_a_pipe_is_a_turn_of_one_session(run, memory):
    result = run(
        "chat", "--session", "s", "--user", "ana", *OFFLINE, stdin="I'm interested in AI stocks.\n\nhello\n"
    )
    assert result.exit_code == 0
    assert [turn.question for turn in memory.sessions.window("s")] == ["I'm interested in AI stocks.", "hello"]
    assert "remembered · The user is interested in AI stocks. (memory 1)" in result.stderr
    assert "What you told me earlier:" in result.stdout


def test_json_is_one_object_a_turn_and_nothing_else_on_stdout(run, memory):
    result = run(
        "chat", "--json", "--session", "s", "--user", "ana", *OFFLINE, stdin=f"I own a bike.\n{RULE}\nhello\n"
    )
    first, second, third = (json.loads(line) for line in result.stdout.splitlines())
    assert result.stderr == ""
    assert (first["session"], first["user"], first["namespace"], first["recorded"]) == ("s", "ana", "default", True)
    assert first["answer"] == memory.sessions.window("s")[0].answer
    assert first["usage"]["total_tokens"] > 0
    assert [one["text"] for one in first["remembered"]] == ["The user owns a bike."]
    assert second["proposal"]["insight"] == RULE
    assert second["proposal"]["status"] == "pending"
    assert set(second["recall"]) == {"history", "memories", "learnings"}
    assert (third["proposal"], third["remembered"]) == (None, [])


def test_explain_says_where_a_message_was_searched_with_the_one_before(run, stocked):
    both = "learnings were searched for with the message before: How do I compare two ETFs? what about those?"
    for message, more in (("How do I compare two ETFs?", False), ("what about those?", True)):
        result = run("chat", "-m", message, "--session", "q", "--user", "ana", "--explain", *OFFLINE)
        assert (both in result.stderr, "message before" in result.stderr) == (more, more)
    said = json.loads(
        run("chat", "-m", "what about that?", "--session", "q", "--json", "--user", "ana", *OFFLINE).stdout
    )
    assert said["recall"]["query"] == "what about those?\nwhat about that?"


def test_explain_names_each_row_and_why_it_was_found(run, stocked):
    stocked.users.remember("ana", "The user owns an ETF on chips.")
    result = run(
        "chat", "-m", "How do I compare two ETFs?", "--session", "mine", "--user", "ana", "--explain", *OFFLINE
    )
    rows = [
        line.split(maxsplit=4)
        for line in result.stderr.splitlines()
        if line.startswith(("turn", "memory", "learn"))
    ]
    assert [row[:2] for row in rows if row[0] != "learngate"] == [
        ["turn", "t1"],
        ["memory", "2"],
        ["memory", "1"],
        ["learning", "1"],
    ]
    assert "learning 1  1.00  both" in result.stderr
    assert f"tokens  ETFs: {RULE}" in result.stderr
    [total] = [line for line in result.stderr.splitlines() if line.startswith("history ")]
    counts = [
        int(row[row.index("tokens") - 1])
        for line in result.stderr.splitlines()
        if "tokens  " in line
        for row in [line.split()]
    ]
    spent = [int(part.split()[1]) for part in total.split(" · ")]
    assert sum(spent) == sum(counts) > 0
    assert total.endswith(" of 800 tokens")


def test_the_reviewer_is_whoever_is_named(run, memory, monkeypatch):
    from learngate.app.opening import person

    assert person("zoe", "ana") == "zoe"
    assert person(None, "ana") == "ana"
    monkeypatch.setattr("getpass.getuser", lambda: "login")
    assert person(None, None) == "login"

    def nobody():
        raise KeyError("no such uid")

    monkeypatch.setattr("getpass.getuser", nobody)
    assert person(None, None) == "anonymous"


# -- the real client, over loopback ------------------------------------------------------------------------


@pytest.fixture
def gemini(monkeypatch):
    with Gemini() as double:
        for name, value in double.env.items():
            monkeypatch.setenv(name, value)
        yield double


def test_with_a_key_the_stand_in_is_not_chosen(run, gemini):
    gemini.answers.append(Text("From Gemini."))
    result = run("chat", "-m", "hello")
    assert result.stdout == "From Gemini.\n"
    assert "google_genai:gemini-3-flash-preview" in result.stderr
    assert "stand-in" not in result.stderr
    assert "no key" not in result.stderr


def test_a_named_model_beats_the_environments_and_both_beat_the_key(run, gemini, monkeypatch):
    monkeypatch.setenv("LEARNGATE_MODEL", "offline")
    assert run("chat", "-m", "hello").stdout.startswith("You asked: “hello”")
    gemini.answers.append(Text("From Gemini."))
    assert run("chat", "-m", "hello", "--model", GEMINI).stdout == "From Gemini.\n"


@pytest.mark.parametrize("json_wanted", [False, True])
def test_a_model_that_refuses_is_one_line_and_the_pipe_goes_on(json_wanted, run, gemini, memory):
    gemini.answers.extend([HttpError(400, "the moon is wrong"), Text("Back again.")])
    options = ["--json"] if json_wanted else []
    result = run("chat", "--session", "s", *options, stdin="one\ntwo\n")
    assert result.exit_code == 1
    assert result.stderr.count("Error: the model did not answer: ") == 1
    assert "the moon is wrong" in result.stderr
    assert [turn.question for turn in memory.sessions.window("s")] == ["two"]
    if json_wanted:
        failed, answered = (json.loads(line) for line in result.stdout.splitlines())
        assert (failed["recorded"], answered["answer"]) == (False, "Back again.")
        assert "the moon is wrong" in failed["error"]
    else:
        assert result.stdout == "Back again.\n"


def test_a_reflection_that_fails_leaves_the_answer_and_says_so(run, gemini, memory):
    gemini.answers.append(Text("An answer."))
    gemini.structured.append(MalformedJson())
    result = run("chat", "-m", "hello", "--session", "s")
    assert (result.exit_code, result.stdout) == (0, "An answer.\n")
    assert "the reflection failed" in result.stderr
    assert "`learngate reflect` takes it again" in result.stderr
    assert memory.sessions.window("s")[0].reflection == "failed"


def test_the_reflections_json_never_reaches_stdout(run, gemini):
    secret = {"memories": [{"op": "add", "text": "SECRET fact"}], "learning": None}
    gemini.answers.append(Text("An answer."))
    gemini.structured.append(Json(secret))
    assert run("chat", "-m", "hello", "--user", "ana").stdout == "An answer.\n"


def test_ctrl_c_ends_a_message_from_a_script_with_130_and_nothing_is_recorded(tmp_path):
    with Gemini(answers=[Slow(100)]) as gemini:
        process = subprocess.Popen(
            [LEARNGATE, "chat", "-m", "hello", "--session", "s", "--model", GEMINI],
            cwd=tmp_path,
            env=os.environ | gemini.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler) and None,
        )
        assert gemini.arrived.wait(60)
        process.send_signal(signal.SIGINT)
        out, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert out == ""
    assert "stopped · nothing of this turn was recorded" in said
    assert "Traceback" not in said
    shown = learngate("sessions", "show", "s", cwd=tmp_path)
    assert "0 turns" in shown.stdout
