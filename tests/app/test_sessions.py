"""Sessions at the command line: each is seen only by whoever opened it."""

import json

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage

from learngate.stores import Turn


@pytest.fixture
def talked(memory):
    call = {"name": "market_data", "args": {"symbol": "NVDA"}, "id": "c1"}
    said = (
        HumanMessage("What is NVIDIA worth?"),
        AIMessage("", tool_calls=[call]),
        ToolMessage("4.1 trillion", tool_call_id="c1"),
        AIMessage("About 4.1 trillion dollars."),
    )
    memory.sessions.append(Turn("s1", said, id="t1", user_id="ana"))
    memory.sessions.append(Turn("s1", (HumanMessage("Thanks"), AIMessage("Welcome.")), id="t2", user_id="ana"))
    memory.sessions.append(Turn("s2", (HumanMessage("Anonymous words"), AIMessage("Hm.")), id="t3"))
    return memory


def test_a_list_is_one_users_or_nobodys(run, told, talked):
    assert [line.split()[0] for line in told("sessions", "list", "--user", "ana").splitlines()[1:]] == ["s1"]
    result = run("sessions", "list")
    assert "s2" in result.stdout
    assert "s1" not in result.stdout
    assert "opened by nobody; --user NAME lists somebody's" in result.stderr
    assert json.loads(told("sessions", "list", "--user", "ben", "--json")) == []


def test_a_search_that_names_nobody_says_whose_it_searched(run, talked):
    result = run("sessions", "search", "NVIDIA")
    assert "s1" not in result.stdout
    assert "opened by nobody; --user NAME searches somebody's" in result.stderr


def test_show_prints_the_turns_as_they_were_spoken(told, talked):
    shown = told("sessions", "show", "s1", "--user", "ana")
    assert "ana ▸ What is NVIDIA worth?" in shown
    assert "asks market_data {'symbol': 'NVDA'}" in shown
    assert "    About 4.1 trillion dollars." in shown
    document = json.loads(told("sessions", "show", "s1", "--user", "ana", "--json"))
    assert document["turns"] == 2
    assert [turn["id"] for turn in document["newest_turns"]] == ["t1", "t2"]
    assert [m["role"] for m in document["newest_turns"][0]["messages"]] == ["human", "ai", "tool", "ai"]


def test_show_says_what_it_leaves_out(run, talked):
    result = run("sessions", "show", "s1", "--user", "ana", "--turns", "1")
    assert "NVIDIA" not in result.stdout
    assert "1 turn more, earlier or on other branches: --turns N" in result.stderr


def test_show_says_that_turns_are_on_other_branches(run, talked):
    for number in "ab":
        said = HumanMessage(f"What of AMD, then? {number}"), AIMessage("Less.")
        talked.sessions.append(Turn("s1", said, id=number, parent="t2", user_id="ana"))
    result = run("sessions", "show", "s1", "--user", "ana")
    assert "1 turn on other branches: `learngate sessions search` finds them" in result.stderr


def test_search_stays_with_its_user(told, talked):
    assert "s1" in told("sessions", "search", "NVIDIA", "--user", "ana")
    assert told("sessions", "search", "NVIDIA", "--user", "ben") == "nothing that was said fits that\n"
    assert told("sessions", "search", "NVIDIA") == "nothing that was said fits that\n"
    (hit,) = json.loads(told("sessions", "search", "Anonymous", "--json"))
    assert (hit["id"], hit["why"], hit["score"] > 0) == ("t3", "both", True)
    assert [hit["why"] for hit in json.loads(told("sessions", "search", "what was said today?", "--json"))] == [
        "when"
    ]


def test_a_search_says_where_the_embedder_did_not_answer(run, talked, monkeypatch):
    def down(self, texts):
        raise RuntimeError("no weights")

    monkeypatch.setattr("learngate.stores.embedders.WordLlamaEmbeddings.embed_documents", down)
    result = run("sessions", "search", "NVIDIA", "--user", "ana")
    assert "s1" in result.stdout
    assert "searched by words alone" in result.stderr
    assert "(RuntimeError): see the log" in run("learnings", "search", "NVIDIA", "--json").stderr


def test_delete_takes_the_turns_and_says_how_many(told, talked):
    assert told("sessions", "delete", "s1", "--user", "ana", "--yes") == "deleted s1 · 2 turns\n"
    assert talked.sessions.list(user_id="ana") == []
    assert json.loads(told("sessions", "delete", "s2", "--yes", "--json")) == {"session": "s2", "deleted_turns": 1}


@pytest.mark.parametrize(("answer", "left"), [("y", 0), ("n", 1), ("", 1)])
def test_delete_asks_at_a_terminal(answer, left, run, talked, typing):
    typing(answer)
    result = run("sessions", "delete", "s1", "--user", "ana")
    assert result.exit_code == left
    assert len(talked.sessions.list(user_id="ana")) == left


def test_stored_escape_sequences_are_spelled_out(told, memory):
    words = (HumanMessage("look \x1b[2J here"), AIMessage("\x1b]0;title\x07"))
    memory.sessions.append(Turn("s1", words, id="t1"))
    for command in (("show", "s1"), ("list",), ("search", "look")):
        assert "\x1b" not in told("sessions", *command)
    assert r"look \x1b[2J here" in told("sessions", "show", "s1")
