"""The gate: the only way in which a learned row is written.

Everything that changes a learning is a proposal first and a decision after, be it a model's candidate, a
reviewer's edit, a revert or an import; `decide` claims the proposal and writes the decision, the learning
and its revision in one transaction. Nothing else in learngate inserts into or updates those tables.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import uuid4

from sqlalchemy import Connection, Row, delete, insert, select, update

from learngate.stores import lexical
from learngate.stores.audit import Page
from learngate.stores.changes import note_change
from learngate.stores.errors import AlreadyDecided, Conflict, InvalidInput, NotFound, Outdated, StoreUnusable
from learngate.stores.records import (
    Decision,
    DecisionRecord,
    Excerpt,
    Proposal,
    ProposalDraft,
    ProposalKind,
    now,
)
from learngate.stores.tables import decisions, excerpts, is_misquoted, learnings, proposals, revisions
from learngate.stores.text import LEARNING_LIMIT, TITLE_LIMIT, check_person, check_text, clean, digest

_proposals, _learnings = proposals.c, learnings.c

Words = tuple[str, str, str]
"""A title, an insight and when it applies."""
Change = Literal["created", "edited", "reverted", "retired", "restored"]


def checked(draft: ProposalDraft) -> ProposalDraft:
    """Return a draft whose texts can be stored.

    Raises:
        InvalidInput: a text that is empty, too long, or cannot be stored.
    """

    def optional(text: str, what: str) -> str:
        return check_text(text, what=what, limit=LEARNING_LIMIT) if text else ""

    return ProposalDraft(
        title=check_text(draft.title, what="the title", limit=TITLE_LIMIT),
        insight=check_text(draft.insight, what="the insight", limit=LEARNING_LIMIT),
        applies_when=optional(draft.applies_when, "applies-when"),
        rationale=optional(draft.rationale, "the rationale"),
        excerpts=draft.excerpts,
    )


def propose(
    connection: Connection,
    draft: ProposalDraft,
    *,
    namespace: str,
    proposer: str,
    kind: ProposalKind = "new",
    target: tuple[int, int] | None = None,
    source: tuple[str, str] | None = None,
    user_id: str | None = None,
) -> int:
    """Write a pending proposal and return its id; `target` is the (learning, revision) it would change."""
    session_id, turn_id = source or (None, None)
    added = connection.execute(
        insert(proposals).values(
            namespace=namespace,
            kind=kind,
            target_id=target[0] if target else None,
            base_revision=target[1] if target else None,
            title=draft.title,
            insight=draft.insight,
            applies_when=draft.applies_when,
            rationale=draft.rationale,
            proposer=check_person(proposer, what="the proposer"),
            user_id=user_id,
            session_id=session_id,
            turn_id=turn_id,
            status="pending",
            digest=digest(draft.insight),
            created_at=now(),
        )
    ).inserted_primary_key
    assert added is not None
    proposal_id: int = added[0]
    for position, excerpt in enumerate(draft.excerpts):
        connection.execute(
            insert(excerpts).values(
                proposal_id=proposal_id,
                position=position,
                speaker=excerpt.speaker,
                text=clean(excerpt.text),
                user_id=excerpt.user_id,
                session_id=excerpt.session_id,
                turn_id=excerpt.turn_id,
            )
        )
    return proposal_id


def decide(
    page: Page,
    proposal_id: int,
    decision: Decision,
    *,
    reviewer: str,
    change: Change | None = None,
    seen: Words | None = None,
) -> int | None:
    """Take a decision, give it its effect and sign both; return the learning that it made or changed, if any.

    Of reviewers who race, the first to claim the row wins; the others are told who did. `seen` is what the
    reviewer was shown.

    Raises:
        NotFound: there is no such proposal.
        AlreadyDecided: it was decided before.
        Outdated: what it would change has a newer revision; the proposal stays pending.
        Conflict: an approved learning of the namespace already says the same, what it would change is not what
            was signed, or the proposal is not what was `seen`.
        InvalidInput: no reviewer, or an edited text that cannot be stored.
        ConfigurationError, StoreUnusable: it cannot be signed, as `Page.sign` says.
    """
    connection = page.connection
    if not isinstance(decision, Decision) or decision.type not in {"approve", "edit", "reject"}:
        raise InvalidInput("a decision is Decision.approve(), Decision.edit(…) or Decision.reject(note)")
    check_person(reviewer, what="the reviewer")
    note = check_text(decision.note, what="the note", limit=LEARNING_LIMIT) if decision.note else None
    row = proposal_row(connection, proposal_id)
    status = "rejected" if decision.type == "reject" else "approved"
    claimed = connection.execute(
        update(proposals).where(_proposals.id == proposal_id, _proposals.status == "pending").values(status=status)
    )
    if claimed.rowcount == 0:
        raise AlreadyDecided(decision_of(connection, proposal_id))
    if seen is not None and decision.type != "reject" and seen != (row.title, row.insight, row.applies_when):
        raise Conflict(
            f"proposal {proposal_id} is not what it was when it was shown: look at it with"
            f" `learngate review {proposal_id}`, or reject it"
        )
    said = {
        "proposal_id": proposal_id,
        "type": decision.type,
        "reviewer": reviewer,
        "note": note,
        "decided_at": now(),
    }
    taken = connection.execute(insert(decisions).values(**said)).inserted_primary_key
    assert taken is not None
    said |= {"id": taken[0], "learning_id": None}
    if decision.type == "reject":
        page.sign("decision", said)
        return None
    if row.target_id is not None:
        page.check(row.target_id)
    revision = _take_effect(connection, row, decision, decision_id=taken[0], change=change)
    learning_id: int = revision["learning_id"]
    connection.execute(update(decisions).where(decisions.c.id == taken[0]).values(learning_id=learning_id))
    page.sign("decision", said | {"learning_id": learning_id})
    page.sign("revision", revision)
    return learning_id


def _take_effect(
    connection: Connection, row: Row[Any], decision: Decision, *, decision_id: int, change: Change | None
) -> dict[str, Any]:
    """Write the learning and its new revision, and return the revision's row."""
    draft = checked(
        ProposalDraft(
            title=row.title if decision.title is None else decision.title,
            insight=row.insight if decision.insight is None else decision.insight,
            applies_when=row.applies_when if decision.applies_when is None else decision.applies_when,
        )
    )
    at = now()
    status = "retired" if row.kind == "retire" else "active"
    scope = lexical.scope_token("namespace", row.namespace)
    words = {"title": draft.title, "insight": draft.insight, "applies_when": draft.applies_when}
    values = words | {
        "status": status,
        "digest": digest(draft.insight),
        "updated_at": at,
        "namespace": row.namespace,
        "scope": scope,
        "body": lexical.search_body(draft.title, draft.insight, draft.applies_when),
    }
    if status == "active":
        _refuse_copy(connection, row.namespace, draft.insight, besides=row.target_id)
    if row.kind == "new":
        made = connection.execute(
            insert(learnings).values(**values, revision=1, created_at=at, proposal_id=row.id)
        ).inserted_primary_key
        assert made is not None
        learning_id, revision = made[0], 1
    else:
        learning_id, revision = row.target_id, row.base_revision + 1
        moved = connection.execute(
            update(learnings)
            .where(_learnings.id == learning_id, _learnings.revision == row.base_revision)
            .values(**values, revision=revision, proposal_id=row.id)
        )
        if moved.rowcount == 0:
            raise Outdated(
                f"learning {learning_id} has changed since proposal {row.id} was made"
                f" (it was for revision {row.base_revision}): look at it again and propose anew"
            )
    written = words | {
        "learning_id": int(learning_id),
        "revision": revision,
        "uid": connection.scalar(select(_learnings.uid).where(_learnings.id == learning_id)),
        "namespace": row.namespace,
        "change": change or {"new": "created", "retire": "retired"}.get(row.kind, "edited"),
        "status": status,
        "at": at,
        "proposal_id": row.id,
        "decision_id": decision_id,
    }
    connection.execute(insert(revisions).values(**written))
    note_change(connection, "learning", learning_id, scope=scope, op="put" if status == "active" else "drop")
    return written


def put_back(connection: Connection, version: Row[Any], *, created_at: datetime) -> None:
    """Write a learning's row as one of its revisions has it: what somebody changed past the gate is undone."""
    scope = lexical.scope_token("namespace", version.namespace)
    values = {
        "uid": version.uid,
        "namespace": version.namespace,
        "title": version.title,
        "insight": version.insight,
        "applies_when": version.applies_when,
        "status": version.status,
        "revision": version.revision,
        "digest": digest(version.insight),
        "updated_at": version.at,
        "created_at": created_at,
        "proposal_id": version.proposal_id,
        "scope": scope,
        "body": lexical.search_body(version.title, version.insight, version.applies_when),
    }
    here = _learnings.id == version.learning_id
    if connection.execute(update(learnings).where(here).values(**values)).rowcount == 0:
        connection.execute(insert(learnings).values(**values, id=version.learning_id))
    op = "put" if version.status == "active" else "drop"
    note_change(connection, "learning", version.learning_id, scope=scope, op=op)


def let_go(connection: Connection, learning_id: int) -> None:
    """Take the uid from a learning's row that is about to be put back: it may be another one's."""
    connection.execute(update(learnings).where(_learnings.id == learning_id).values(uid=uuid4().hex))


def remove(connection: Connection, learning_id: int) -> None:
    """Delete a learning's row that no decision made."""
    scope = connection.scalar(select(_learnings.scope).where(_learnings.id == learning_id))
    connection.execute(delete(learnings).where(_learnings.id == learning_id))
    note_change(connection, "learning", learning_id, scope=str(scope), op="drop")


def _refuse_copy(connection: Connection, namespace: str, insight: str, *, besides: int | None) -> None:
    copy = connection.scalar(
        select(_learnings.id).where(
            _learnings.namespace == namespace,
            _learnings.digest == digest(insight),
            _learnings.status == "active",
            _learnings.id != (besides or 0),
        )
    )
    if copy is not None:
        raise Conflict(f"learning {copy} of {namespace!r} already says that: edit it, or reject this one")


def proposal_row(connection: Connection, proposal_id: int) -> Row[Any]:
    """Return a proposal's row.

    Raises:
        NotFound: there is none.
    """
    row = connection.execute(select(proposals).where(_proposals.id == proposal_id)).first()
    if row is None:
        raise NotFound(f"there is no proposal {proposal_id}: see `learngate review`")
    return row


def decision_of(connection: Connection, proposal_id: int) -> DecisionRecord:
    """Return the decision on a proposal.

    Raises:
        NotFound: it is still pending.
    """
    row = connection.execute(
        select(decisions).where(decisions.c.proposal_id == proposal_id).order_by(decisions.c.id)
    ).first()
    if row is None:
        raise NotFound(f"proposal {proposal_id} has not been decided")
    return DecisionRecord(
        row.id, row.proposal_id, row.type, row.reviewer, row.note, row.decided_at, row.learning_id
    )


def as_proposal(connection: Connection, row: Row[Any]) -> Proposal:
    """Return a proposal with its excerpts and, where it made one, its learning.

    Raises:
        StoreUnusable: it is not what was written.
    """
    if is_misquoted(row):
        raise StoreUnusable(
            f"proposal {row.id} is damaged (it is not what was written): restore a backup, or let"
            " `learngate doctor --repair` set it aside"
        )
    quoted = connection.execute(
        select(excerpts).where(excerpts.c.proposal_id == row.id).order_by(excerpts.c.position)
    )
    learning_id = connection.scalar(select(decisions.c.learning_id).where(decisions.c.proposal_id == row.id))
    return Proposal(
        id=row.id,
        namespace=row.namespace,
        kind=row.kind,
        title=row.title,
        insight=row.insight,
        applies_when=row.applies_when,
        rationale=row.rationale,
        proposer=row.proposer,
        status=row.status,
        digest=row.digest,
        created_at=row.created_at,
        session_id=row.session_id,
        turn_id=row.turn_id,
        user_id=row.user_id,
        target_id=row.target_id,
        base_revision=row.base_revision,
        learning_id=learning_id,
        taint=row.taint,
        expires_at=row.expires_at,
        excerpts=tuple(Excerpt(q.text, q.speaker, q.user_id, q.session_id, q.turn_id) for q in quoted),
    )
