"""Learned memory: insights that a human approved, with everything that led to them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Row, Select, func, select

from learngate.stores import gate, lexical
from learngate.stores.audit import Ledger, readable
from learngate.stores.copies import Told, says_no_more
from learngate.stores.database import Database
from learngate.stores.errors import Conflict, InvalidInput, NotFound
from learngate.stores.guard import Count, Name, Namespace, guarded
from learngate.stores.hybrid import HybridSearch
from learngate.stores.lists import among, parts
from learngate.stores.meaning import Hits
from learngate.stores.records import (
    Decision,
    DecisionRecord,
    Learning,
    LearningHit,
    LearningStatus,
    Proposal,
    ProposalDraft,
    Revision,
)
from learngate.stores.tables import decisions, imports, learnings, proposals, revisions
from learngate.stores.text import check_text, digest, lineage
from learngate.stores.tree import claim_effect, reflected, settled

_learnings, _proposals = learnings.c, proposals.c
_log = logging.getLogger(__name__)
SPARE = 15
"""So many more are looked at than are wanted, for those that say nothing more."""


@guarded
class Learnings:
    """The learnings of every namespace, and the inbox before them.

    A namespace reads itself and its ancestors and writes to itself. Nothing pending, rejected or retired
    is ever found by `search`.
    """

    def __init__(self, database: Database, search: HybridSearch, ledger: Ledger) -> None:
        self._db = database
        self._ledger = ledger
        self._search = search

    # -- proposing and deciding --------------------------------------------------------------------------

    def propose(
        self,
        draft: ProposalDraft,
        *,
        namespace: Namespace,
        proposer: Name = "host",
        user_id: Name | None = None,
        source: tuple[Name, Name] | None = None,
    ) -> Proposal:
        """Put a candidate learning into the inbox and return it; nothing of it is recalled yet.

        `source` is the (session, turn) it was found in.

        Raises:
            InvalidInput: a text that cannot be stored.
            Conflict: a learning or an earlier proposal that the namespace reads already says that.
        """
        draft = gate.checked(draft)
        with self._db.write() as connection:
            self._refuse_repeat(connection, draft, namespace)
            proposal_id = gate.propose(
                connection, draft, namespace=namespace, proposer=proposer, source=source, user_id=user_id
            )
            return gate.as_proposal(connection, gate.proposal_row(connection, proposal_id))

    def propose_once(
        self,
        draft: ProposalDraft,
        *,
        namespace: Namespace,
        proposer: Name,
        user_id: Name | None,
        source: tuple[Name, Name],
        effect: str = "propose",
        final: bool = True,
        settles: bool = False,
    ) -> Proposal | None:
        """Propose what a turn brought, exactly once; `None` where its like is known.

        Called again for the same turn, it returns the proposal that the first call made. `final` marks the
        turn's reflection done, `settles` what its tools noted.
        """
        draft = gate.checked(draft)
        with self._db.write() as connection:
            if final:
                reflected(connection, *source)
            if settles:
                settled(connection, *source)
            if not claim_effect(connection, *source, effect):
                return self._of_turn(connection, source, draft)
            if self._repeats(connection, draft, namespace) is not None:
                return None
            proposal_id = gate.propose(
                connection, draft, namespace=namespace, proposer=proposer, source=source, user_id=user_id
            )
            return gate.as_proposal(connection, gate.proposal_row(connection, proposal_id))

    def pending(
        self, *, namespace: Namespace | None = None, session_id: str | None = None, limit: Count = 100
    ) -> list[Proposal]:
        """Return the proposals that wait, oldest first, of a namespace or of a session.

        Raises:
            InvalidInput: neither is named.
        """
        if namespace is None and session_id is None:
            raise InvalidInput("name a namespace or a session: proposals of all of them are never listed at once")
        query = select(proposals).where(_proposals.status == "pending").order_by(_proposals.id).limit(limit)
        if namespace is not None:
            query = query.where(_proposals.namespace == namespace)
        if session_id is not None:
            query = query.where(_proposals.session_id == session_id)
        with self._db.read() as connection:
            return [gate.as_proposal(connection, row) for row in connection.execute(query).all()]

    def waiting(self) -> dict[str, int]:
        """Return how many proposals wait in each namespace."""
        query = (
            select(_proposals.namespace, func.count().label("waiting"))
            .where(_proposals.status == "pending")
            .group_by(_proposals.namespace)
            .order_by(_proposals.namespace)
        )
        with self._db.read() as connection:
            return {row.namespace: row.waiting for row in connection.execute(query)}

    def proposal(self, proposal_id: int) -> Proposal:
        """Return one proposal, whatever its status.

        Raises:
            NotFound: there is none.
        """
        with self._db.read() as connection:
            return gate.as_proposal(connection, gate.proposal_row(connection, proposal_id))

    def decision(self, proposal_id: int) -> DecisionRecord:
        """Return the decision on a proposal.

        Raises:
            NotFound: there is no such proposal, or it has not been decided.
        """
        with self._db.read() as connection:
            gate.proposal_row(connection, proposal_id)
            return gate.decision_of(connection, proposal_id)

    def decide(
        self,
        proposal_id: int,
        decision: Decision,
        *,
        reviewer: Name,
        seen: tuple[str, str, str] | None = None,
    ) -> Learning | None:
        """Decide a proposal, once, and return the learning that came of it; `None` when rejected.

        `seen` is the (title, insight, applies when) that the reviewer was shown: if the proposal says something
        else by now, it is not approved.

        Raises:
            NotFound, AlreadyDecided, Outdated, Conflict, InvalidInput: as `gate.decide`.
        """
        with self._ledger.write() as page:
            learning_id = gate.decide(page, proposal_id, decision, reviewer=reviewer, seen=seen)
            return None if learning_id is None else _learning(_row(page.connection, learning_id))

    # -- by hand: a proposal and its decision in one transaction -------------------------------------------

    def add(self, draft: ProposalDraft, *, namespace: Namespace, actor: Name) -> Learning:
        """Add a learning by hand.

        Raises:
            InvalidInput: a text that cannot be stored, or no actor.
            Conflict: the namespace already has it.
        """
        draft = gate.checked(draft)
        with self._ledger.write() as page:
            proposal_id = gate.propose(page.connection, draft, namespace=namespace, proposer=actor)
            made = gate.decide(page, proposal_id, Decision.approve(), reviewer=actor)
            assert made is not None
            return _learning(_row(page.connection, made))

    def edit(
        self,
        learning_id: int,
        *,
        title: str | None = None,
        insight: str | None = None,
        applies_when: str | None = None,
        actor: Name,
        note: str | None = None,
    ) -> Learning:
        """Reword a learning; what is left out stays. With a note alone it is a revision, too.

        Raises:
            NotFound: there is none.
            Conflict: it is retired, another learning already says that, or it does and there is no note.
        """
        changes = {"title": title, "insight": insight, "applies_when": applies_when}
        return self._change(learning_id, "edited", {k: v for k, v in changes.items() if v is not None}, actor, note)

    def retire(self, learning_id: int, *, actor: Name, note: str | None = None) -> Learning:
        """Take a learning out of recall; its rows stay.

        Raises:
            NotFound: there is none.
            Conflict: it is retired already.
        """
        return self._change(learning_id, "retired", {}, actor, note)

    def restore(self, learning_id: int, *, actor: Name, note: str | None = None) -> Learning:
        """Bring a retired learning back into recall.

        Raises:
            NotFound: there is none.
            Conflict: it is active already, or another learning says that by now.
        """
        return self._change(learning_id, "restored", {}, actor, note)

    def revert(self, learning_id: int, revision: int, *, actor: Name, note: str | None = None) -> Learning:
        """Bring an earlier version's words back, as a new revision.

        Raises:
            NotFound: there is no such learning or revision.
        """
        with self._db.read() as connection:
            _row(connection, learning_id)
            earlier = connection.execute(
                select(revisions).where(revisions.c.learning_id == learning_id, revisions.c.revision == revision)
            ).first()
            self._ledger.check_version(connection, learning_id, revision)
        if earlier is None:
            raise NotFound(
                f"learning {learning_id} has no revision {revision}:"
                f" see `learngate learnings history {learning_id}`"
            )
        words = {"title": earlier.title, "insight": earlier.insight, "applies_when": earlier.applies_when}
        return self._change(learning_id, "reverted", words, actor, note)

    def _change(
        self, learning_id: int, change: gate.Change, words: dict[str, str], actor: str, note: str | None
    ) -> Learning:
        with self._ledger.write() as page:
            connection = page.connection
            learning = _learning(_row(connection, learning_id))
            _refuse_pointless(learning, change)
            draft = gate.checked(
                ProposalDraft(
                    words.get("title", learning.title),
                    words.get("insight", learning.insight),
                    words.get("applies_when", learning.applies_when),
                )
            )
            said = learning.title, learning.insight, learning.applies_when
            if change == "edited" and note is None and (draft.title, draft.insight, draft.applies_when) == said:
                raise Conflict(f"learning {learning.id} says that already: nothing was changed")
            proposal_id = gate.propose(
                connection,
                draft,
                namespace=learning.namespace,
                proposer=actor,
                kind="retire" if change == "retired" else "replace",
                target=(learning.id, learning.revision),
            )
            gate.decide(page, proposal_id, Decision.approve(note), reviewer=actor, change=change)
            return _learning(_row(connection, learning_id))

    # -- reading -----------------------------------------------------------------------------------------

    def get(self, learning_id: int) -> Learning:
        """Return one learning, active or retired.

        Raises:
            NotFound: there is none.
        """
        with self._db.read() as connection:
            found = _learning(_row(connection, learning_id))
        return replace(found, fault=self._ledger.changed([learning_id]).get(learning_id))

    def count(self, *, namespace: Namespace) -> int:
        """Return how many active learnings a namespace reads."""
        with self._db.read() as connection:
            return (
                connection.scalar(
                    select(func.count())
                    .select_from(learnings)
                    .where(_learnings.namespace.in_(lineage(namespace)), _learnings.status == "active")
                )
                or 0
            )

    def history(self, learning_id: int) -> list[Revision]:
        """Return every version of a learning, the first first: who proposed it, who decided, when and why.

        Raises:
            NotFound: there is none.
        """
        with self._db.read() as connection:
            _row(connection, learning_id)
            return [_revision(row) for row in connection.execute(_history(learning_id))]

    def search(self, query: str, *, namespace: Namespace, k: Count = 5, floor: bool = True) -> Hits[LearningHit]:
        """Return up to `k` active learnings that the namespace reads and that fit `query`, best first.

        Below the floor nothing is returned, however near it is, nor is what says no more than a learning above
        it; `floor=False` ranks all. With an audit key, what is not as it was signed is left out: the log names it.

        Raises:
            InvalidInput: a query that is empty or cannot be stored.
        """
        text = check_text(query, what="the query", limit=64_000)
        spaces = lineage(namespace)
        scopes = [lexical.scope_token("namespace", one) for one in spaces]
        ranked = self._search("learning", scopes, text, k=k + SPARE if floor else k, floor=floor)
        if not ranked:
            return Hits(note=ranked.note)
        with self._db.look() as connection:
            # By their namespaces, too: the index found them by a token of it, which is derived.
            rows = self._ledger.standing(connection, [row.id for row in ranked], spaces=spaces)
            by_id = {row.id: row for row in rows}
        hits = (
            LearningHit(_learning(by_id[row.id]), row.score, row.why, row.dense, row.lexical)
            for row in ranked
            if row.id in by_id
        )
        return Hits(islice(_distinct(hits) if floor else hits, k), note=ranked.note)

    # -- repeats -----------------------------------------------------------------------------------------

    def _repeats(self, connection: Connection, draft: ProposalDraft, namespace: str) -> str | None:
        """Return what in the namespaces it reads says this, or once did, if anything does."""
        same = digest(draft.insight)
        spaces = lineage(namespace)
        learning = connection.execute(
            select(_learnings.id, _learnings.status).where(
                _learnings.namespace.in_(spaces), _learnings.digest == same
            )
        ).first()
        if learning is not None:
            return f"learning {learning.id} ({learning.status})"
        proposal = connection.execute(
            select(_proposals.id, _proposals.status).where(
                # An approved one too: its reviewer chose other words for it, then or later.
                _proposals.namespace.in_(spaces),
                _proposals.digest == same,
            )
        ).first()
        return None if proposal is None else f"proposal {proposal.id} ({proposal.status})"

    def _refuse_repeat(self, connection: Connection, draft: ProposalDraft, namespace: str) -> None:
        there = self._repeats(connection, draft, namespace)
        if there is not None:
            raise Conflict(f"{there} of {namespace!r} already says that")

    def _of_turn(self, connection: Connection, source: tuple[str, str], draft: ProposalDraft) -> Proposal | None:
        # The model's tools and the reflection may each have brought one: the draft says which is meant.
        row = connection.execute(
            select(proposals).where(
                _proposals.session_id == source[0],
                _proposals.turn_id == source[1],
                _proposals.digest == digest(draft.insight),
            )
        ).first()
        return None if row is None else gate.as_proposal(connection, row)

    # `list` stands last, because below it the word means this method.
    def list(
        self, *, namespace: Namespace, status: LearningStatus | None = "active", limit: Count = 1000
    ) -> list[Learning]:
        """Return the learnings that a namespace reads, newest first; `status=None` takes retired ones too.

        One that cannot be read is left out, and named in the log.
        """
        query = select(_learnings.id).where(_learnings.namespace.in_(lineage(namespace)))
        if status is not None:
            query = query.where(_learnings.status == status)
        with self._db.read() as connection:
            ids = connection.scalars(query.order_by(_learnings.id.desc()).limit(limit)).all()
            found: dict[int, Learning] = {}
            for part in parts(ids):
                rows, garbled = readable(connection, select(learnings).where(among(_learnings.id)), part)
                found |= {row.id: _learning(row) for row in rows}
                for one in garbled:
                    _log.error("learning %s is not listed: it cannot be read; see `learngate doctor --repair`", one)
        faults = self._ledger.changed([*found])
        return [replace(found[one], fault=faults.get(one)) for one in ids if one in found]


def _refuse_pointless(learning: Learning, change: gate.Change) -> None:
    if change == "restored" and learning.status == "active":
        raise Conflict(f"learning {learning.id} is active: there is nothing to restore")
    if change == "retired" and learning.status == "retired":
        raise Conflict(f"learning {learning.id} is retired already")
    if change in {"edited", "reverted"} and learning.status == "retired":
        raise Conflict(f"learning {learning.id} is retired: restore it first")


def _row(connection: Connection, learning_id: int) -> Row[Any]:
    row = connection.execute(select(learnings).where(_learnings.id == learning_id)).first()
    if row is None:
        raise NotFound(f"there is no learning {learning_id}: see `learngate learnings list`")
    return row


def _learning(row: Row[Any]) -> Learning:
    return Learning(
        id=row.id,
        namespace=row.namespace,
        title=row.title,
        insight=row.insight,
        applies_when=row.applies_when,
        status=row.status,
        revision=row.revision,
        created_at=row.created_at,
        updated_at=row.updated_at,
        proposal_id=row.proposal_id,
    )


def _history(learning_id: int) -> Select[Any]:
    return (
        select(
            revisions,
            _proposals.proposer,
            _proposals.session_id,
            _proposals.turn_id,
            decisions.c.reviewer,
            decisions.c.type,
            decisions.c.note,
            imports.c.actor.label("imported_by"),
            imports.c.at.label("imported_at"),
        )
        .join(proposals, _proposals.id == revisions.c.proposal_id)
        .join(decisions, decisions.c.id == revisions.c.decision_id)
        .outerjoin(imports, imports.c.id == _proposals.import_id)
        .where(revisions.c.learning_id == learning_id)
        .order_by(revisions.c.revision)
    )


def _revision(row: Row[Any]) -> Revision:
    return Revision(
        learning_id=row.learning_id,
        revision=row.revision,
        change=row.change,
        title=row.title,
        insight=row.insight,
        applies_when=row.applies_when,
        status=row.status,
        at=row.at,
        proposal_id=row.proposal_id,
        proposer=row.proposer,
        reviewer=row.reviewer,
        decision=row.type,
        note=row.note,
        session_id=row.session_id,
        turn_id=row.turn_id,
        imported_by=row.imported_by,
        imported_at=row.imported_at,
    )


def _distinct(hits: Iterable[LearningHit]) -> Iterator[LearningHit]:
    """Leave out what says no more than a hit above it."""
    kept: list[Told] = []
    for hit in hits:
        told = Told(hit.learning.insight)
        if not any(says_no_more(told, above) for above in kept):
            kept.append(told)
            yield hit
