"""`learngate reflect`: pending and failed reflections are taken again, and what failed is said."""

import json
import os
import signal
import subprocess

import pytest
from langchain_core.messages import AIMessage, HumanMessage

from learngate.stores import Turn
from tests.app.support import GEMINI, LEARNGATE, RULE, Gemini
from tests.doubles.gemini import Json, MalformedJson, Slow


@pytest.fixture
def pending(memory):
    for number, words in enumerate((RULE, "I'm interested in AI stocks.", "hello")):
        said = (HumanMessage(words), AIMessage("Noted."))
        memory.sessions.append(Turn(f"s{number}", said, id=f"t{number}", user_id="ana", reflection="pending"))
    return memory


def statuses(memory):
    return [memory.sessions.get(f"s{n}", f"t{n}").reflection for n in range(3)]


def test_what_waits_is_reflected_on_once(run, pending):
    result = run("reflect")
    assert result.exit_code == 0
    assert "offline stand-in (set GOOGLE_API_KEY" in result.stderr
    assert "3 turns to reflect on" in result.stderr
    assert "s0 · proposal 1 · `learngate review 1`" in result.stdout
    assert result.stdout.endswith("reflected on 3 turns\n")
    assert statuses(pending) == ["done", "done", "done"]
    assert [one.text for one in pending.users.list("ana")] == ["The user is interested in AI stocks."]
    assert run("reflect").stdout == "reflected on 0 turns\n"


def test_a_limit_leaves_the_rest(told, pending):
    assert len(json.loads(told("reflect", "--limit", "2", "--json", "--model", "offline"))) == 2
    assert statuses(pending) == ["done", "done", "pending"]


def test_what_fails_is_named_and_taken_again(run, pending, monkeypatch):
    with Gemini(structured=[MalformedJson()]) as gemini:
        for name, value in gemini.env.items():
            monkeypatch.setenv(name, value)
        first = run("reflect")
        assert first.exit_code == 1
        assert "s0 · failed · ReflectionFailed: " in first.stdout
        assert first.stdout.endswith("reflected on 2 turns · 1 failed\n")
        assert statuses(pending) == ["failed", "done", "done"]
        gemini.structured.append(Json({"memories": [{"op": "add", "text": "Compares ETFs."}], "learning": None}))
        assert run("reflect").exit_code == 0
    assert statuses(pending) == ["done", "done", "done"]


def test_ctrl_c_leaves_the_rest_for_the_next_time(pending, tmp_path):
    nothing = Json({"memories": [], "learning": None})
    with Gemini(structured=[nothing, Slow(100)]) as gemini:
        process = subprocess.Popen(
            [LEARNGATE, "reflect", "--model", GEMINI],
            cwd=tmp_path,
            env=os.environ | gemini.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert gemini.arrived.wait(60)
        process.send_signal(signal.SIGINT)
        out, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert out == "reflected on 1 turn · 2 left\n"
    assert "Traceback" not in said
    assert statuses(pending) == ["done", "pending", "pending"]
