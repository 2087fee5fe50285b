"""The gate: nothing is learned but by one function, from a pending proposal and a decision with a reviewer."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from learngate.stores import (
    AlreadyDecided,
    Conflict,
    Decision,
    Excerpt,
    InvalidInput,
    Memory,
    NotFound,
    Outdated,
    ProposalDraft,
    gate,
)
from learngate.stores.gate import checked, decide, propose
from tests.stores.support import draft, together

ROOMS = [Path(__file__).parents[2] / room for room in ("stores", "nodes", "graph", "app")]
LEARNED = {"learnings", "revisions", "decisions"}
WRITES = {"insert", "update", "delete", "upsert"}


def dump(memory: Memory) -> dict[str, list[tuple[object, ...]]]:
    tables = ("learnings", "revisions", "decisions", "proposals", "excerpts", "changes")
    with memory.database.read() as connection:
        return {
            t: [tuple(row) for row in connection.execute(text(f"SELECT * FROM {t} ORDER BY 1, 2"))] for t in tables
        }


# -- one function writes -------------------------------------------------------------------------------------


def writers(tree: ast.AST) -> Iterator[str]:
    """Name the learned tables that a module's code inserts into, updates or deletes from."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            on = node.func.value if isinstance(node.func, ast.Attribute) else None
            for one in [on, *node.args]:
                name = one.attr if isinstance(one, ast.Attribute) else getattr(one, "id", "")
                if called in WRITES and name in LEARNED:
                    yield name
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found = re.search(r"(?i)\b(insert\s+into|replace\s+into|update|delete\s+from)\s+(\w+)", node.value)
            if found and found[2] in LEARNED:
                yield found[2]


def test_learned_rows_are_written_at_the_gate_only():
    written = {
        path.relative_to(room.parent).as_posix(): set(writers(ast.parse(path.read_text())))
        for room in ROOMS
        for path in room.rglob("*.py")
    }
    assert written.pop("stores/gate.py") == LEARNED
    # An import brings decisions that people took elsewhere, and erasing a person takes their name out of theirs.
    assert written.pop("stores/history.py") == LEARNED
    assert written.pop("stores/provenance.py") == {"decisions"}
    assert {path: names for path, names in written.items() if names} == {}


def test_learned_rows_are_written_by_one_function_of_it():
    tree = ast.parse(Path(str(gate.__file__)).read_text())
    functions = {node.name: set(writers(node)) for node in tree.body if isinstance(node, ast.FunctionDef)}
    repairs = {"put_back", "let_go", "remove"}
    assert {name for name, written in functions.items() if written} == {"decide", "_take_effect", *repairs}
    callers = {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
        for call in ast.walk(node)
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "_take_effect"
    }
    assert callers == {"decide"}


@pytest.mark.parametrize(
    "smuggled",
    [
        "connection.execute(insert(learnings).values(title='x'))",
        "connection.execute(tables.revisions.insert(), {})",
        "connection.execute(update(tables.learnings))",
        "connection.execute(text('DELETE  FROM decisions'))",
        "connection.exec_driver_sql(f'update learnings set status = {status}')",
    ],
)
def test_the_two_tests_above_would_see_a_second_writer(smuggled):
    assert list(writers(ast.parse(smuggled)))


# -- deciding ------------------------------------------------------------------------------------------------


@pytest.fixture
def proposal(memory):
    quoted = Excerpt("What do ETFs cost?", "ana", "ana", "s", "q1")
    given = draft("Check tracking error too", "ETFs", applies_when="comparing ETFs", rationale="it was missed")
    return memory.learnings.propose(
        ProposalDraft(given.title, given.insight, given.applies_when, given.rationale, (quoted,)),
        namespace="finance",
        proposer="model-x",
        user_id="ana",
        source=("s", "q1"),
    )


def test_approving_makes_it_a_learning_and_keeps_who_and_when(memory, proposal):
    learning = memory.learnings.decide(proposal.id, Decision.approve("good"), reviewer="rev")
    assert (learning.title, learning.insight, learning.applies_when) == (
        "ETFs",
        "Check tracking error too",
        "comparing ETFs",
    )
    assert (learning.namespace, learning.status, learning.revision) == ("finance", "active", 1)
    decision = memory.learnings.decision(proposal.id)
    assert (decision.type, decision.reviewer, decision.note, decision.learning_id) == (
        "approve",
        "rev",
        "good",
        learning.id,
    )
    after = memory.learnings.proposal(proposal.id)
    assert (after.status, after.learning_id) == ("approved", learning.id)
    assert after.excerpts == proposal.excerpts
    assert after.digest == proposal.digest


def test_editing_keeps_what_is_left_out_and_the_proposal_as_it_was(memory, proposal):
    learning = memory.learnings.decide(
        proposal.id, Decision.edit(insight="Check costs and tracking error", applies_when=""), reviewer="rev"
    )
    assert (learning.title, learning.insight, learning.applies_when) == (
        "ETFs",
        "Check costs and tracking error",
        "",
    )
    assert memory.learnings.proposal(proposal.id).insight == "Check tracking error too"
    assert memory.learnings.decision(proposal.id).type == "edit"


def test_rejecting_learns_nothing(memory, proposal):
    before = dump(memory)
    assert memory.learnings.decide(proposal.id, Decision.reject("too vague"), reviewer="rev") is None
    after = dump(memory)
    assert after["learnings"] == after["revisions"] == []
    assert after["changes"] == before["changes"]
    assert memory.learnings.proposal(proposal.id).status == "rejected"
    assert memory.learnings.decision(proposal.id).note == "too vague"


@pytest.mark.parametrize("first", [Decision.approve(), Decision.edit(title="Funds"), Decision.reject("no")])
@pytest.mark.parametrize("second", [Decision.approve(), Decision.edit(title="Other"), Decision.reject()])
def test_a_decision_is_final(memory, proposal, first, second):
    memory.learnings.decide(proposal.id, first, reviewer="rev")
    before = dump(memory)
    with pytest.raises(AlreadyDecided, match=rf"was already decided: {first.type} by rev at \d{{4}}-") as caught:
        memory.learnings.decide(proposal.id, second, reviewer="late")
    assert caught.value.decision == memory.learnings.decision(proposal.id)
    assert dump(memory) == before


def test_of_eight_who_race_one_decides_and_the_others_learn_who(memory, proposal):
    answers = [Decision.approve(), Decision.edit(title="Funds"), Decision.reject("no"), Decision.approve()] * 2

    def decide_as(number: int) -> str:
        memory.learnings.decide(proposal.id, answers[number], reviewer=f"rev{number}")
        return f"rev{number}"

    results = together(*[lambda n=n: decide_as(n) for n in range(8)])
    late = [result for result in results if isinstance(result, AlreadyDecided)]
    (winner,) = [result for result in results if not isinstance(result, Exception)]
    assert len(late) == 7
    assert {error.decision.reviewer for error in late} == {winner}
    rows = dump(memory)
    assert len(rows["decisions"]) == 1
    expected = 0 if memory.learnings.decision(proposal.id).type == "reject" else 1
    assert len(rows["learnings"]) == len(rows["revisions"]) == expected


@pytest.mark.parametrize("reviewer", ["", " ", None, 5, "rev\n", " rev", "x" * 201, "\ud800"])
def test_nobody_decides_without_a_name(memory, proposal, reviewer):
    before = dump(memory)
    with pytest.raises(InvalidInput, match="the reviewer"):
        memory.learnings.decide(proposal.id, Decision.approve(), reviewer=reviewer)
    assert dump(memory) == before


@pytest.mark.parametrize(
    "decision",
    [
        None,
        "approve",
        {"type": "approve"},
        Decision("maybe"),
        Decision.edit(title=""),
        Decision.edit(title="x" * 201),
        Decision.edit(insight="  "),
        Decision.edit(insight="a\x00"),
        Decision.edit(insight="x" * 100_000),
        Decision.edit(insight="\ud800"),
        Decision.edit(applies_when=5),
        Decision.reject("x" * 5_000),
        Decision.reject("\ud800"),
        Decision.approve(5),
    ],
    ids=repr,
)
def test_a_decision_that_cannot_be_taken_changes_nothing(memory, proposal, decision):
    before = dump(memory)
    with pytest.raises(InvalidInput):
        memory.learnings.decide(proposal.id, decision, reviewer="rev")
    assert dump(memory) == before
    assert memory.learnings.decide(proposal.id, Decision.approve(), reviewer="rev") is not None


@pytest.mark.parametrize("number", [0, -1, 7, 10**12])
def test_there_is_nothing_to_decide_where_nothing_was_proposed(memory, proposal, number):
    with pytest.raises(NotFound, match=f"there is no proposal {number}: see `learngate review`"):
        memory.learnings.decide(number, Decision.approve(), reviewer="rev")
    with pytest.raises(NotFound, match="there is no proposal"):
        memory.learnings.decision(number)
    with pytest.raises(NotFound, match="has not been decided"):
        memory.learnings.decision(proposal.id)


def test_a_decision_that_breaks_at_its_last_step_is_not_taken(memory, proposal, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("the power is gone")

    before = dump(memory)
    with monkeypatch.context() as patched:
        patched.setattr(gate, "note_change", fail)
        with pytest.raises(RuntimeError, match="the power is gone"):
            memory.learnings.decide(proposal.id, Decision.approve(), reviewer="rev")
    assert dump(memory) == before
    assert memory.learnings.search("tracking error", namespace="finance") == []
    assert memory.learnings.decide(proposal.id, Decision.approve(), reviewer="rev").revision == 1


def test_a_copy_of_what_is_learned_by_now_is_not_approved_but_can_be_rejected(memory, proposal):
    memory.learnings.add(draft("CHECK tracking error, too."), namespace="finance", actor="ana")
    before = dump(memory)
    with pytest.raises(Conflict, match="learning 1 of 'finance' already says that"):
        memory.learnings.decide(proposal.id, Decision.approve(), reviewer="rev")
    assert dump(memory) == before
    memory.learnings.decide(proposal.id, Decision.reject(), reviewer="rev")


def test_an_edit_cannot_make_a_copy_either(memory, proposal):
    memory.learnings.add(draft("Mind the costs"), namespace="finance", actor="ana")
    with pytest.raises(Conflict, match="already says that"):
        memory.learnings.decide(proposal.id, Decision.edit(insight="mind the costs!"), reviewer="rev")
    assert memory.learnings.proposal(proposal.id).status == "pending"


def test_a_change_of_what_has_changed_meanwhile_is_outdated_and_stays_pending(memory):
    learning = memory.learnings.add(draft("Mind the costs"), namespace="n", actor="ana")
    with memory.database.write() as connection:
        late = propose(
            connection,
            checked(draft("Mind all costs")),
            namespace="n",
            proposer="model-x",
            kind="replace",
            target=(learning.id, learning.revision),
        )
    memory.learnings.edit(learning.id, insight="Mind every cost", actor="ben")
    before = dump(memory)
    with pytest.raises(Outdated, match=r"has changed since proposal 2 was made .* propose anew"):
        memory.learnings.decide(late, Decision.approve(), reviewer="rev")
    assert dump(memory) == before
    assert memory.learnings.proposal(late).status == "pending"
    assert memory.learnings.get(learning.id).insight == "Mind every cost"


def test_a_proposed_change_of_a_learning_is_decided_like_a_new_one(memory):
    learning = memory.learnings.add(draft("Mind the costs"), namespace="n", actor="ana")

    def change(kind, insight):
        at = memory.learnings.get(learning.id).revision
        with memory.database.write() as connection:
            target = (learning.id, at)
            number = propose(
                connection, checked(draft(insight)), namespace="n", proposer="model-x", kind=kind, target=target
            )
        with memory.ledger.write() as page:
            decide(page, number, Decision.approve(), reviewer="rev")

    change("replace", "Mind all costs")
    change("merge", "Mind all costs and fees")
    change("retire", "Mind all costs and fees")
    assert memory.learnings.get(learning.id).status == "retired"
    told = [(r.revision, r.change, r.insight, r.proposer) for r in memory.learnings.history(learning.id)]
    assert told == [
        (1, "created", "Mind the costs", "ana"),
        (2, "edited", "Mind all costs", "model-x"),
        (3, "edited", "Mind all costs and fees", "model-x"),
        (4, "retired", "Mind all costs and fees", "model-x"),
    ]


# -- proposing -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        draft("", "x"),
        draft("x", ""),
        draft("x" * 4_001, "x"),
        draft("x", "x" * 201),
        draft("a\x00", "x"),
        draft("x", "\ud800"),
        draft(None, "x"),
        draft("x", 5),
        draft("x", applies_when="\x00"),
        draft("x", rationale="y" * 4_001),
        draft("x", applies_when="   "),
    ],
    ids=repr,
)
def test_a_draft_that_cannot_be_stored_is_refused(memory, given):
    with pytest.raises(InvalidInput):
        memory.learnings.propose(given, namespace="n")
    with pytest.raises(InvalidInput):
        memory.learnings.add(given, namespace="n", actor="ana")
    assert dump(memory)["proposals"] == []


@given(st.text(max_size=50), st.text(max_size=50))
def test_a_checked_draft_is_fit_and_stays_as_it_is(title, insight):
    try:
        fit = checked(ProposalDraft(title, insight))
    except InvalidInput:
        return
    assert fit.title == title.strip()
    assert fit.insight == insight.strip()
    assert checked(fit) == fit


def test_an_excerpt_of_a_models_words_is_stored_whatever_it_holds(memory):
    quoted = Excerpt("a \ud800 and a \x00")
    stored = memory.learnings.propose(draft("Mind the costs", excerpts=(quoted,)), namespace="n")
    assert stored.excerpts == (Excerpt("a ? and a  "),)


@pytest.mark.parametrize("proposer", ["", "x\n", None, "\ud800"])
def test_a_proposal_has_a_proposer(memory, proposer):
    with pytest.raises(InvalidInput, match="the proposer"):
        memory.learnings.propose(draft("Mind the costs"), namespace="n", proposer=proposer)
    assert dump(memory)["proposals"] == []
