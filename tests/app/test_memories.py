"""A user's memories at the command line."""

import json


def test_one_is_added_listed_and_forgotten(told, memory):
    assert told("memories", "add", "Likes tea.", "--user", "ana") == "memory 1 of ana · Likes tea.\n"
    told("memories", "add", "Owns a bike.", "--user", "ana", "--pin")
    assert [line.split()[0] for line in told("memories", "list", "--user", "ana").splitlines()[1:]] == ["2", "1"]
    assert "pinned" in told("memories", "list", "--user", "ana")
    assert told("memories", "forget", 1, "--user", "ana") == "forgot memory 1 of ana · Likes tea.\n"
    assert [one["text"] for one in json.loads(told("memories", "list", "--user", "ana", "--json"))] == [
        "Owns a bike."
    ]


def test_another_users_are_never_listed(told, known):
    assert told("memories", "list", "--user", "ben") == "nothing is remembered about ben\n"
    assert json.loads(told("memories", "list", "--user", "ben", "--json")) == []


def test_a_text_comes_from_stdin(told, memory):
    told("memories", "add", "-", "--user", "ana", stdin="Likes\ntea.\n")
    assert memory.users.list("ana")[0].text == "Likes\ntea."
