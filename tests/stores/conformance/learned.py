from dataclasses import dataclass, field

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from learngate.stores import (
    AlreadyDecided,
    Conflict,
    Decision,
    Learning,
    NotFound,
)
from learngate.stores.text import digest, lineage
from tests.stores.conformance.backends import Machine
from tests.stores.support import draft

SPACES = st.sampled_from(["acme", "acme/finance", "other"])


# All share one word; some differ in nothing but case and punctuation.
INSIGHTS = st.sampled_from(
    [
        "rule: mind costs",
        "Rule — mind COSTS!",
        "rule: mind fees",
        "rule > 5 %",
        "rule < 5 %",
        "rule 费用",
        "rule: ask",
    ]
)


CHOICES = st.integers(0, 30)


REVIEWERS = st.sampled_from(["rev", "ana"])


@dataclass
class Known:
    """A learning as the model of the store knows it: every version's (insight, status)."""

    space: str
    versions: list[tuple[str, str]] = field(default_factory=list)

    @property
    def insight(self) -> str:
        return self.versions[-1][0]

    @property
    def status(self) -> str:
        return self.versions[-1][1]


class Learned(Machine):
    """Every operation, through two programs that share one database, and on plain dicts."""

    def __init__(self) -> None:
        super().__init__()
        self.programs = [self.memory, self.program()]
        self.known: dict[int, Known] = {}
        self.proposals: dict[int, tuple[str, str, str]] = {}
        self.steps = 0

    def teardown(self) -> None:
        try:
            self.every_version_is_remembered()
        finally:
            super().teardown()

    @property
    def store(self):
        """Return the two programs' stores in turn."""
        self.steps += 1
        return self.programs[self.steps % 2].learnings

    def some(self, choice: int) -> int:
        return [*self.known, 999][choice % (len(self.known) + 1)]

    def copy_of(self, space: str, insight: str, besides: int | None = None) -> bool:
        return any(
            known.space == space and known.status == "active" and digest(known.insight) == digest(insight)
            for number, known in self.known.items()
            if number != besides
        )

    def learned(self, learning: Learning, space: str, insight: str, status: str = "active") -> None:
        known = self.known.setdefault(learning.id, Known(space))
        known.versions.append((insight, status))
        assert (learning.namespace, learning.insight, learning.status) == (space, insight, status)
        assert learning.revision == len(known.versions)
        self.proposals[learning.proposal_id] = (
            space,
            self.store.proposal(learning.proposal_id).insight,
            "approved",
        )

    @rule(space=SPACES, insight=INSIGHTS)
    def propose(self, space, insight):
        said = [(k.space, k.insight) for k in self.known.values()] + [(s, i) for s, i, _ in self.proposals.values()]
        if any(where in lineage(space) and digest(words) == digest(insight) for where, words in said):
            with pytest.raises(Conflict, match="already says that"):
                self.store.propose(draft(insight), namespace=space)
            return
        proposal = self.store.propose(draft(insight), namespace=space)
        assert (proposal.status, proposal.insight) == ("pending", insight)
        self.proposals[proposal.id] = (space, insight, "pending")

    @rule(choice=CHOICES, kind=st.sampled_from(["approve", "edit", "reject"]), words=INSIGHTS, reviewer=REVIEWERS)
    def decide(self, choice, kind, words, reviewer):
        number = [*self.proposals, 999][choice % (len(self.proposals) + 1)]
        decision = Decision.edit(insight=words) if kind == "edit" else Decision(kind)
        if number not in self.proposals:
            with pytest.raises(NotFound):
                self.store.decide(number, decision, reviewer=reviewer)
            return
        space, insight, status = self.proposals[number]
        insight = words if kind == "edit" else insight
        if status != "pending":
            with pytest.raises(AlreadyDecided):
                self.store.decide(number, decision, reviewer=reviewer)
        elif kind == "reject":
            assert self.store.decide(number, decision, reviewer=reviewer) is None
            self.proposals[number] = (space, insight, "rejected")
        elif self.copy_of(space, insight):
            with pytest.raises(Conflict):
                self.store.decide(number, decision, reviewer=reviewer)
        else:
            learning = self.store.decide(number, decision, reviewer=reviewer)
            assert learning.id not in self.known
            self.learned(learning, space, insight)

    @rule(space=SPACES, insight=INSIGHTS)
    def add(self, space, insight):
        if self.copy_of(space, insight):
            with pytest.raises(Conflict):
                self.store.add(draft(insight), namespace=space, actor="ana")
        else:
            self.learned(self.store.add(draft(insight), namespace=space, actor="ana"), space, insight)

    @rule(
        choice=CHOICES, how=st.sampled_from(["edit", "retire", "restore", "revert"]), words=INSIGHTS, back=CHOICES
    )
    def change(self, choice, how, words, back):
        number = self.some(choice)
        known = self.known.get(number)
        earlier = 1 + back % (len(known.versions) + 1) if known else 1

        def do() -> Learning:
            match how:
                case "edit":
                    return self.store.edit(number, insight=words, actor="ana")
                case "revert":
                    return self.store.revert(number, earlier, actor="ana")
            return getattr(self.store, how)(number, actor="ana")

        if known is None or (how == "revert" and earlier > len(known.versions)):
            with pytest.raises(NotFound):
                do()
            return
        insight = {"edit": words, "revert": known.versions[min(earlier, len(known.versions)) - 1][0]}.get(
            how, known.insight
        )
        pointless = (how == "restore") == (known.status == "active")
        pointless |= how == "edit" and words == known.insight
        if pointless or (how != "retire" and self.copy_of(known.space, insight, besides=number)):
            with pytest.raises(Conflict):
                do()
            return
        self.learned(do(), known.space, insight, "retired" if how == "retire" else "active")

    @invariant()
    def only_what_is_active_is_ever_found_and_both_programs_find_it(self):
        for space in ("acme", "acme/finance", "other"):
            readable = {n: k for n, k in self.known.items() if k.space in lineage(space)}
            active = {n: k.insight for n, k in readable.items() if k.status == "active"}
            for program in self.programs:
                hits = program.learnings.search("rule", namespace=space, k=100, floor=False)
                assert {hit.learning.id: hit.learning.insight for hit in hits} == active
            assert {hit.learning.id for hit in self.store.search("rule", namespace=space)} <= active.keys()
            assert self.store.count(namespace=space) == len(active)
            assert {one.id for one in self.store.list(namespace=space)} == active.keys()
            assert {one.id for one in self.store.list(namespace=space, status=None)} == readable.keys()
            waiting = [
                n for n, (where, _, status) in self.proposals.items() if (where, status) == (space, "pending")
            ]
            assert [one.id for one in self.store.pending(namespace=space)] == waiting

    def every_version_is_remembered(self):
        for number, known in self.known.items():
            history = self.store.history(number)
            assert [(r.insight, r.status) for r in history] == known.versions
            assert [r.revision for r in history] == list(range(1, len(known.versions) + 1))
            assert all(r.reviewer and r.proposer and r.proposal_id for r in history)
