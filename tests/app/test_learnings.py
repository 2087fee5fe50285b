"""Learnings at the command line: read, trace, change, take back."""

import json

import pytest

from learngate.stores import Decision, Excerpt, ProposalDraft
from tests.app.support import RULE


def test_the_list_shows_active_ones_unless_all_are_wanted(told, known):
    assert [line.split()[0] for line in told("learnings", "list").splitlines()[1:]] == ["1"]
    assert [one["id"] for one in json.loads(told("learnings", "list", "--all", "--json"))] == [2, 1]
    assert "retired" in told("learnings", "list", "--all")


def test_a_namespace_lists_what_it_reads_and_whose_that_is(told, memory):
    for namespace in ("acme", "acme/finance", "other"):
        draft = ProposalDraft(f"Of {namespace}", f"An insight that {namespace} has approved.")
        memory.learnings.add(draft, namespace=namespace, actor="ana")
    listed = told("learnings", "list", "--namespace", "acme/finance")
    assert "Of acme/finance" in listed
    assert "Of other" not in listed
    assert "namespace" in listed.splitlines()[0]
    assert told("learnings", "list", "--namespace", "nothing") == "nothing has learned nothing yet\n"


def test_the_list_says_how_many_wait(run, known):
    assert "1 proposal more for a reviewer: `learngate review`" in run("learnings", "list").stderr


def test_show_traces_a_learning_to_its_turn_proposer_reviewer_and_words(told, memory):
    excerpts = (Excerpt("Always compare fees.", "ana", "ana", "s1", "t1"),)
    draft = ProposalDraft("Fees", "Compare the fees of funds.", "comparing funds", "She said so.", excerpts)
    memory.learnings.propose(draft, namespace="default", proposer="gemini", source=("s1", "t1"), user_id="ana")
    memory.learnings.decide(1, Decision.approve("useful"), reviewer="zoe")
    shown = told("learnings", "show", 1)
    for line in (
        "learning      1 · active · default",
        "insight       Compare the fees of funds.",
        "applies when  comparing funds",
        "proposed by   gemini · proposal 1 · session s1, turn t1",
        "because       She said so.",
        "rests on      ana: “Always compare fees.”",
        "approved by   zoe · ",
        "“useful”",
        "revisions     1",
    ):
        assert line in shown
    document = json.loads(told("learnings", "show", 1, "--json"))
    assert document["proposal"]["excerpts"][0]["text"] == "Always compare fees."
    assert document["history"][0]["reviewer"] == "zoe"


def test_a_life_of_a_learning(told, memory):
    told("learnings", "add", "--title", "Fees", "--insight", RULE, "--applies-when", "ETFs", "--user", "ana")
    told("learnings", "edit", 1, "--title", "Costs", "--note", "clearer", "--reviewer", "ben")
    told("learnings", "retire", 1, "--note", "wrong", "--user", "ana")
    assert told("learnings", "search", "comparing ETFs") == "nothing in default fits that\n"
    told("learnings", "restore", 1, "--user", "ana")
    reverted = told("learnings", "revert", 1, 1, "--user", "ana")
    assert reverted == "learning 1 reverted to the words of revision 1 · revision 5 · active · default\n"
    versions = json.loads(told("learnings", "history", 1, "--json"))
    assert [one["change"] for one in versions] == ["created", "edited", "retired", "restored", "reverted"]
    assert [one["reviewer"] for one in versions] == ["ana", "ben", "ana", "ana", "ana"]
    assert [one["title"] for one in versions] == ["Fees", "Costs", "Costs", "Costs", "Fees"]
    shown = told("learnings", "history", 1)
    assert "revision 2 · edited · " in shown
    assert "  note          clearer" in shown
    assert "reverted by" in told("learnings", "show", 1)


def test_search_is_the_agents_own_and_says_why(told, known):
    assert told("learnings", "search", "the weather in Paris") == "nothing in default fits that\n"
    (hit,) = json.loads(told("learnings", "search", "How do I compare ETFs?", "--json"))
    assert (hit["learning"]["id"], hit["why"]) == (1, "both")
    assert "both" in told("learnings", "search", "How do I compare ETFs?")


def test_an_insight_comes_from_stdin(told, memory):
    told("learnings", "add", "--title", "Fees", "--insight", "-", stdin=f"{RULE}\n")
    assert memory.learnings.get(1).insight == RULE


def test_words_are_asked_for_at_a_terminal(told, memory, typing):
    typing("Fees", RULE, "ETFs")
    told("learnings", "add", "--user", "ana")
    assert (memory.learnings.get(1).title, memory.learnings.get(1).applies_when) == ("Fees", "ETFs")
    typing("Costs", "", "ETFs")
    told("learnings", "edit", 1, "--user", "ana")
    assert (memory.learnings.get(1).title, memory.learnings.get(1).insight) == ("Costs", RULE)


@pytest.mark.parametrize("change", ["retire", "restore"])
def test_a_change_is_told_as_json(change, told, known):
    number = 1 if change == "retire" else 2
    made = json.loads(told("learnings", change, number, "--json", "--user", "ana"))
    assert (made["id"], made["status"]) == (number, "retired" if change == "retire" else "active")
