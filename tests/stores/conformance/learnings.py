import pytest

from learngate.stores import (
    Conflict,
    Decision,
    InvalidInput,
    Learning,
    Memory,
    NotFound,
    Proposal,
    ProposalDraft,
    open_memory,
)
from tests.stores.support import draft, together, turn

INSIGHT = "When comparing ETFs, check both expense ratio and tracking error."


AGAIN = "when comparing etfs check BOTH expense ratio, and tracking error"


def learned(memory: Memory) -> Learning:
    return memory.learnings.add(draft(INSIGHT), namespace="acme", actor="ana")


def proposed(memory: Memory) -> Proposal:
    return memory.learnings.propose(draft(INSIGHT), namespace="acme")


class LearningsConformance:
    """What holds of learnings and of the inbox before them, on every database."""

    # -- what is proposed once is not proposed again -------------------------------------------------------------

    @pytest.mark.parametrize(
        ("before", "said"),
        [
            (learned, r"learning 1 \(active\)"),
            (lambda m: m.learnings.retire(learned(m).id, actor="ana"), r"learning 1 \(retired\)"),
            (proposed, r"proposal 1 \(pending\)"),
            (
                lambda m: m.learnings.decide(proposed(m).id, Decision.reject("vague"), reviewer="rev"),
                r"proposal 1 \(rejected\)",
            ),
            (
                lambda m: m.learnings.decide(proposed(m).id, Decision.edit(insight="Mind costs"), reviewer="rev"),
                r"proposal 1 \(approved\)",
            ),
            (
                lambda m: m.learnings.edit(learned(m).id, insight="Mind costs", actor="rev"),
                r"proposal 1 \(approved\)",
            ),
        ],
        ids=["active", "retired", "pending", "rejected", "approved in other words", "edited since"],
    )
    @pytest.mark.parametrize("namespace", ["acme", "acme/finance"])
    def test_what_was_said_before_is_not_proposed_again(self, memory, before, said, namespace):
        before(memory)
        count = len(memory.learnings.pending(namespace="acme"))
        with pytest.raises(Conflict, match=said):
            memory.learnings.propose(draft(AGAIN), namespace=namespace)
        once = {"proposer": "m", "user_id": None, "source": ("s", "q1")}
        assert memory.learnings.propose_once(draft(AGAIN), namespace=namespace, **once) is None
        assert len(memory.learnings.pending(namespace="acme")) == count
        assert memory.learnings.pending(namespace="acme/finance") == []

    def test_a_namespace_that_does_not_read_it_may_propose_the_same(self, memory):
        memory.learnings.add(draft(INSIGHT), namespace="acme/finance", actor="ana")
        assert memory.learnings.propose(draft(INSIGHT), namespace="acme").status == "pending"
        assert memory.learnings.propose(draft(INSIGHT), namespace="acme-labs").status == "pending"

    def test_of_eight_threads_that_propose_the_same_one_does(self, memory):
        results = together(
            *[lambda n=n: memory.learnings.propose(draft(INSIGHT + "!" * n), namespace="n") for n in range(8)]
        )
        assert [type(r) for r in results].count(Conflict) == 7
        assert len(memory.learnings.pending(namespace="n")) == 1

    def test_a_turn_proposes_once_and_is_given_what_it_proposed(self, memory):
        memory.sessions.append(turn("s", id="q1", user_id="ana", reflection="pending"))
        once = {"namespace": "n", "proposer": "model-x", "user_id": "ana", "source": ("s", "q1")}
        by_tool = memory.learnings.propose_once(draft("Ask first"), effect="tools", final=False, **once)
        assert memory.sessions.get("s", "q1").reflection == "pending"
        first = memory.learnings.propose_once(draft(INSIGHT), **once)
        assert memory.sessions.get("s", "q1").reflection == "done"
        memory.learnings.decide(first.id, Decision.approve(), reviewer="rev")
        again = memory.learnings.propose_once(draft(INSIGHT), **once)
        assert (again.id, again.status) == (first.id, "approved")
        assert memory.learnings.propose_once(draft("Ask first"), effect="tools", final=False, **once) == by_tool
        assert memory.learnings.propose_once(draft("Something else"), **once) is None
        assert len(memory.learnings.pending(session_id="s")) == 1

    def test_a_turn_that_two_workers_reflect_on_proposes_once(self, memory):
        memory.sessions.append(turn("s", id="q1", reflection="pending"))
        once = {"namespace": "n", "proposer": "m", "user_id": None, "source": ("s", "q1")}
        results = together(*[lambda: memory.learnings.propose_once(draft(INSIGHT), **once)] * 6)
        assert {one.id for one in results} == {1}

    # -- the inbox -----------------------------------------------------------------------------------------------

    def test_the_inbox_is_read_by_namespace_or_by_session_never_whole(self, memory):
        for number, (namespace, session) in enumerate([("a", "s1"), ("b", "s1"), ("a", "s2"), ("a/x", None)]):
            source = (session, "q1") if session else None
            memory.learnings.propose(draft(f"insight {number}"), namespace=namespace, source=source)
        memory.learnings.decide(3, Decision.reject(), reviewer="rev")
        pending = memory.learnings.pending
        assert [p.id for p in pending(namespace="a")] == [1]
        assert [p.id for p in pending(session_id="s1")] == [1, 2]
        assert [p.id for p in pending(namespace="b", session_id="s1")] == [2]
        assert [p.id for p in pending(session_id="s1", limit=1)] == [1]
        assert memory.learnings.waiting() == {"a": 1, "a/x": 1, "b": 1}
        with pytest.raises(InvalidInput, match="name a namespace or a session"):
            pending()
        with pytest.raises(InvalidInput, match="namespace"):
            pending(namespace="a//b")

    # -- the life of a learning ----------------------------------------------------------------------------------

    def test_a_learning_is_traced_to_its_turn_its_proposer_and_its_reviewers(self, memory):
        memory.sessions.append(turn("s", "How do I compare ETFs?", id="q1", user_id="ana"))
        proposal = memory.learnings.propose(
            draft(INSIGHT, "ETFs"), namespace="n", proposer="model-x", user_id="ana", source=("s", "q1")
        )
        learning = memory.learnings.decide(proposal.id, Decision.approve("useful"), reviewer="rev")
        memory.learnings.edit(learning.id, title="Funds", actor="ed", note="shorter")
        memory.learnings.retire(learning.id, actor="ben", note="outdated")
        memory.learnings.restore(learning.id, actor="eve")
        memory.learnings.revert(learning.id, 1, actor="ana")
        told = memory.learnings.history(learning.id)
        assert [(r.change, r.title, r.status, r.proposer, r.reviewer, r.decision, r.note) for r in told] == [
            ("created", "ETFs", "active", "model-x", "rev", "approve", "useful"),
            ("edited", "Funds", "active", "ed", "ed", "approve", "shorter"),
            ("retired", "Funds", "retired", "ben", "ben", "approve", "outdated"),
            ("restored", "Funds", "active", "eve", "eve", "approve", None),
            ("reverted", "ETFs", "active", "ana", "ana", "approve", None),
        ]
        assert (told[0].session_id, told[0].turn_id, told[0].proposal_id) == ("s", "q1", proposal.id)
        assert memory.sessions.get(told[0].session_id, told[0].turn_id).question == "How do I compare ETFs?"
        assert all(one.at.tzinfo is not None for one in told)
        assert memory.learnings.get(learning.id).revision == 5

    @pytest.mark.parametrize("words", [{}, {"title": "Costs"}, {"insight": "Mind costs", "applies_when": ""}])
    def test_an_edit_that_changes_nothing_is_refused_and_makes_no_revision(self, memory, words):
        learning = memory.learnings.add(ProposalDraft("Costs", "Mind costs"), namespace="n", actor="ana")
        with pytest.raises(Conflict, match="says that already"):
            memory.learnings.edit(learning.id, actor="ed", **words)
        assert memory.learnings.get(learning.id) == learning

    @pytest.mark.parametrize("actor", ["", None, "x\n", "\ud800"])
    def test_nobody_changes_a_learning_without_a_name(self, memory, actor):
        learning = learned(memory)
        for change in (
            lambda: memory.learnings.add(draft("Mind costs"), namespace="n", actor=actor),
            lambda: memory.learnings.edit(learning.id, title="x", actor=actor),
            lambda: memory.learnings.retire(learning.id, actor=actor),
            lambda: memory.learnings.revert(learning.id, 1, actor=actor),
        ):
            with pytest.raises(InvalidInput):
                change()
        assert memory.learnings.get(learning.id) == learning
        assert len(memory.learnings.history(learning.id)) == 1

    def test_what_is_not_there_cannot_be_changed(self, memory):
        learning = learned(memory)
        for use in (
            lambda: memory.learnings.get(9),
            lambda: memory.learnings.history(9),
            lambda: memory.learnings.edit(9, title="x", actor="ana"),
            lambda: memory.learnings.retire(9, actor="ana"),
            lambda: memory.learnings.restore(9, actor="ana"),
            lambda: memory.learnings.revert(9, 1, actor="ana"),
        ):
            with pytest.raises(NotFound, match="there is no learning 9: see `learngate learnings list`"):
                use()
        with pytest.raises(NotFound, match="learning 1 has no revision 2: see `learngate learnings history 1`"):
            memory.learnings.revert(learning.id, 2, actor="ana")

    def test_a_change_that_would_change_nothing_or_make_a_copy_is_refused(self, memory):
        learning = learned(memory)
        other = memory.learnings.add(draft("Mind costs"), namespace="acme", actor="ana")
        change = memory.learnings
        with pytest.raises(Conflict, match="is active: there is nothing to restore"):
            change.restore(learning.id, actor="ana")
        with pytest.raises(Conflict, match="learning 2 of 'acme' already says that"):
            change.edit(learning.id, insight="mind COSTS", actor="ana")
        change.retire(learning.id, actor="ana")
        with pytest.raises(Conflict, match="is retired already"):
            change.retire(learning.id, actor="ana")
        with pytest.raises(Conflict, match="is retired: restore it first"):
            change.edit(learning.id, title="x", actor="ana")
        with pytest.raises(Conflict, match="is retired: restore it first"):
            change.revert(learning.id, 1, actor="ana")
        change.edit(other.id, insight=AGAIN, actor="ana")
        with pytest.raises(Conflict, match="learning 2 of 'acme' already says that"):
            change.restore(learning.id, actor="ana")
        assert [r.change for r in change.history(learning.id)] == ["created", "retired"]

    def test_editors_who_race_leave_one_history_without_a_gap(self, memory):
        learning = learned(memory)
        together(
            *[lambda n=n: memory.learnings.edit(learning.id, title=f"title {n}", actor=f"ed{n}") for n in range(8)]
        )
        history = memory.learnings.history(learning.id)
        assert [r.revision for r in history] == list(range(1, 10))
        assert memory.learnings.get(learning.id).title == history[-1].title

    # -- searching -----------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("query", ["", " ", "\x00", "a\ud800", "x" * 70_000, None])
    def test_a_query_that_is_none_is_refused(self, memory, query):
        with pytest.raises(InvalidInput, match="the query"):
            memory.learnings.search(query, namespace="n")

    @pytest.mark.parametrize("namespace", ["", "a//b", None])
    def test_there_is_no_search_without_a_namespace(self, memory, namespace):
        learned(memory)
        for use in (
            lambda: memory.learnings.search("ETFs", namespace=namespace),
            lambda: memory.learnings.list(namespace=namespace),
            lambda: memory.learnings.count(namespace=namespace),
            lambda: memory.learnings.propose(draft("x"), namespace=namespace),
            lambda: memory.learnings.add(draft("x"), namespace=namespace, actor="ana"),
        ):
            with pytest.raises(InvalidInput, match="the namespace"):
                use()

    def test_lists_are_newest_first_and_as_long_as_asked_for(self, memory):
        for number in range(4):
            memory.learnings.add(draft(f"insight {number}"), namespace="n", actor="ana")
        memory.learnings.retire(3, actor="ana")
        assert [one.id for one in memory.learnings.list(namespace="n")] == [4, 2, 1]
        assert [one.id for one in memory.learnings.list(namespace="n", status="retired")] == [3]
        assert [one.id for one in memory.learnings.list(namespace="n", status=None, limit=2)] == [4, 3]


class SharedLearningsConformance:
    """What holds where several programs learn at once."""

    def test_what_two_programs_learn_each_finds_at_once(self, url):
        with open_memory(url) as one, open_memory(url) as other:
            assert one.learnings.search("ETFs expense ratio", namespace="acme") == []
            assert other.learnings.search("ETFs expense ratio", namespace="acme") == []
            proposal = one.learnings.propose(draft(INSIGHT, "ETFs"), namespace="acme")
            assert other.learnings.search("ETFs expense ratio", namespace="acme") == []
            learning = other.learnings.decide(proposal.id, Decision.approve(), reviewer="rev")
            (hit,) = one.learnings.search("ETFs expense ratio", namespace="acme")
            assert hit.learning == learning
            edited = one.learnings.edit(learning.id, insight="Mind the expense ratio of ETFs", actor="ana")
            assert other.learnings.search("ETFs expense ratio", namespace="acme")[0].learning == edited
            other.learnings.retire(learning.id, actor="rev")
            assert one.learnings.search("ETFs expense ratio", namespace="acme") == []
