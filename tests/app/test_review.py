"""The inbox at the command line: what a reviewer sees, decides, and is told."""

import json
import subprocess

import pytest

from learngate.app.cards import NEAR as CARD_NEAR
from learngate.nodes.propose_learning import NEAR
from learngate.stores import Decision, Excerpt, ProposalDraft
from tests.app.support import LEARNGATE, Terminal, learngate


def propose(memory, title="Fees of funds", insight="Compare funds on their fees over ten years.", **more):
    excerpts = (Excerpt("Fees eat returns.\nAlways compare them.", "ana", "ana", "s1", "t1"),)
    draft = ProposalDraft(title, insight, "comparing funds", "The user said so.", excerpts)
    return memory.learnings.propose(draft, **({"namespace": "default", "proposer": "gemini"} | more))


def test_the_list_is_the_namespaces_own_and_oldest_first(told, memory):
    propose(memory)
    propose(memory, "Spreads", "Compare funds on their spread, too.")
    propose(memory, "Elsewhere", "Another team's business, not to be seen.", namespace="other")
    lines = told("review").splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [["1", "Fees"], ["2", "Spreads"]]
    assert [one["title"] for one in json.loads(told("review", "--json"))] == ["Fees of funds", "Spreads"]
    assert "Elsewhere" not in told("review", "--list")


def test_an_empty_inbox_says_where_something_waits(run, memory):
    propose(memory, namespace="acme/finance")
    result = run("review")
    assert (result.exit_code, result.stdout) == (0, "nothing waits in default\n")
    assert "1 proposal in acme/finance: `learngate review --namespace acme/finance`" in result.stderr
    assert json.loads(run("review", "--json").stdout) == []


def test_a_card_in_a_pipe_shows_the_exact_text_and_everything_it_rests_on(told, memory):
    memory.learnings.add(ProposalDraft("ETF fees", "Compare ETFs on their fees."), namespace="default", actor="zoe")
    proposal = propose(memory, source=("s1", "t1"))
    shown = told("review", proposal.id)
    for line in (
        "proposal      2 (pending), proposed learning of default",
        "title         Fees of funds",
        "insight       Compare funds on their fees over ten years.",
        "applies when  comparing funds",
        "because       The user said so.",
        "rests on      ana: “Fees eat returns. Always compare them.”",
        "proposer      gemini · session s1 · ",
    ):
        assert line in shown
    assert "learning 1, ETF fees: Compare ETFs on their fees." in shown
    assert CARD_NEAR == NEAR


@pytest.mark.parametrize(
    ("options", "says", "status", "insight"),
    [
        (["--approve", "--note", "fine"], "approved by ana · “fine” · learning 1", "approved", None),
        (
            ["--edit", "--insight", "Other words for it."],
            "in other words by ana",
            "approved",
            "Other words for it.",
        ),
        (["--reject", "too broad"], "rejected by ana · “too broad”", "rejected", None),
        (["--reject", ""], "rejected by ana", "rejected", None),
    ],
)
def test_one_is_decided_by_its_number_once(options, says, status, insight, run, told, memory):
    proposal = propose(memory, source=("s1", "t1"), user_id="ana")
    result = run("review", proposal.id, *options, "--user", "ana")
    assert result.exit_code == 0
    assert says in result.stdout
    assert "goes on with `learngate chat --session s1 --user ana`" in result.stderr
    decided = memory.learnings.proposal(proposal.id)
    assert decided.status == status
    if status == "approved":
        assert memory.learnings.get(1).insight == (insight or proposal.insight)
    again = run("review", proposal.id, "--approve")
    assert again.exit_code == 1
    assert "was already decided" in again.stderr
    shown = json.loads(told("review", proposal.id, "--json"))
    assert (shown["status"], shown["decision"]["reviewer"]) == (status, "ana")
    assert says.split(" by ")[0] in told("review", proposal.id)


def test_the_reviewer_is_recorded_as_named(told, memory):
    propose(memory)
    decided = json.loads(told("review", 1, "--approve", "--user", "ana", "--reviewer", "zoe", "--json"))
    assert decided["decision"]["reviewer"] == "zoe"
    assert memory.learnings.history(1)[0].reviewer == "zoe"


def test_a_walk_takes_each_decision_and_stops_when_asked(run, memory, typing):
    for number in range(5):
        propose(memory, f"Rule {number}", f"Rule number {number} says to check it twice.")
    typing("what", "a", "r", "no use", "e", "Better title", "", "", "l", "q")
    result = run("review", "--user", "ana")
    assert result.exit_code == 0
    assert "1 of 5" in result.stdout
    assert "5 of 5" in result.stdout
    assert "2 proposals of default still wait" in result.stderr
    statuses = [memory.learnings.proposal(number).status for number in range(1, 6)]
    assert statuses == ["approved", "rejected", "approved", "pending", "pending"]
    assert memory.learnings.get(2).title == "Better title"
    assert memory.learnings.decision(2).note == "no use"


@pytest.mark.parametrize("key", [KeyboardInterrupt(), EOFError()])
def test_leaving_in_the_middle_of_a_walk_decides_nothing(key, run, memory, typing):
    propose(memory)
    typing(key)
    result = run("review")
    assert result.exit_code == 0
    assert "1 proposal of default still waits" in result.stderr
    assert memory.learnings.proposal(1).status == "pending"


def test_ctrl_c_takes_an_edit_back(run, memory, typing):
    propose(memory)
    typing("e", "Half a ti", KeyboardInterrupt(), "e", "", "", "", "a")
    result = run("review")
    assert result.stderr.count("nothing was changed") == 2
    assert memory.learnings.get(1).title == "Fees of funds"


def test_somebody_who_was_faster_is_named(run, memory, typing, monkeypatch):
    from learngate.app import review

    proposal = propose(memory)
    propose(memory, "Spreads", "Compare funds on their spread, too.")
    typing("a", "a")
    ask = review.ask_decision

    def ask_while_zoe_decides(shown, **options):
        if shown.id == proposal.id:
            memory.learnings.decide(proposal.id, Decision.reject("no"), reviewer="zoe")
        return ask(shown, **options)

    monkeypatch.setattr(review, "ask_decision", ask_while_zoe_decides)
    result = run("review")
    assert "decided meanwhile: rejected by zoe · “no”" in result.stderr
    assert memory.learnings.proposal(2).status == "approved"


def test_a_card_on_a_terminal_fits_it_and_shows_the_whole_text(known, tmp_path):
    with Terminal("review", cwd=tmp_path, columns=60) as terminal:
        card = terminal.expect("▸ ")
        assert "╭─ proposed learning · default " in card
        assert "│ Compare the fees of funds over ten years." in card
        assert "[q]uit" in card
        terminal.type("q")
        assert terminal.end() == 0


def test_two_processes_that_decide_at_once_are_told_apart(tmp_path, known):
    command = [LEARNGATE, "review", "4", "--approve", "--reviewer"]
    racers = [
        subprocess.Popen([*command, name], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for name in ("ana", "ben")
    ]
    ended = [(racer, *racer.communicate(timeout=60)) for racer in racers]
    assert sorted(racer.returncode for racer, _, _ in ended) == [0, 1]
    (loser,) = (said for racer, _, said in ended if racer.returncode)
    assert "proposal 4 was already decided: approve by " in loser
    assert learngate("review", cwd=tmp_path).stdout == "nothing waits in default\n"
