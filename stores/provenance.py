"""Where learned text comes from: how the link to a person is taken out of it, the text staying as approved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from sqlalchemy import ColumnElement, Connection, and_, delete, or_, select, update

from learngate.stores.audit import Page
from learngate.stores.history import WORDS, retire
from learngate.stores.tables import decisions, excerpts, imports, learnings, proposals, revisions, sessions
from learngate.stores.text import ERASED

_proposals = proposals.c


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What was taken out: how much of each kind, and the learnings that keep text of theirs."""

    counts: dict[str, int]
    learnings: tuple[int, ...]
    retired: tuple[int, ...]
    alias: str | None


def forget_person(page: Page, user_id: str, *, retire_as: str | None = None) -> Forgotten:
    """Take a person out of proposals, excerpts and decisions; of their own text only what was approved stays.

    What waits goes. What was rejected keeps its digest alone, so that it is not proposed again. What was approved
    reads as its learning does, because its reviewer may have edited just the private part out of it. Where the
    person proposed or reviewed, an alias stands, the same one everywhere, and their notes are gone. With
    `retire_as` the learnings that came of their turns are retired, under that name.
    """
    connection = page.connection
    turned, own = _own(user_id)
    led_to = select(decisions.c.learning_id).join(proposals, _proposals.id == decisions.c.proposal_id)
    led_to = led_to.where(decisions.c.learning_id.is_not(None)).distinct()
    kept = tuple(connection.scalars(led_to.where(own).order_by(decisions.c.learning_id)))
    standing = select(learnings).where(learnings.c.id.in_(led_to.where(turned)), learnings.c.status == "active")
    leaving = connection.execute(standing).all() if retire_as is not None else []
    for row in leaving:
        assert retire_as is not None
        retire(page, row, retire_as, note="its user was erased")
    quoted = connection.execute(delete(excerpts).where(_quotes(user_id, own))).rowcount
    waiting = connection.execute(delete(proposals).where(own, _proposals.status == "pending")).rowcount
    rejected = connection.scalars(select(_proposals.id).where(own, _proposals.status == "rejected")).all()
    approved = connection.scalars(select(_proposals.id).where(own, _proposals.status == "approved")).all()
    alias, renamed = _rename(connection, user_id)
    for proposal_id in rejected:
        _blank(connection, proposal_id)
    for proposal_id in approved:
        _reword(connection, proposal_id)
    counts = {
        "pending proposals": waiting,
        "rejected proposals' words": len(rejected),
        "approved proposals' links": len(approved),
        "excerpts": quoted,
        "names as proposer, reviewer or importer": renamed,
    }
    return Forgotten(counts, kept, tuple(row.id for row in leaving), alias if renamed else None)


def _own(user_id: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    """Return which proposals came of a person's turns, and which are theirs at all: they may write by hand."""
    theirs = select(sessions.c.id).where(sessions.c.user_id == user_id)
    turned = or_(_proposals.user_id == user_id, _proposals.session_id.in_(theirs))
    return turned, or_(turned, and_(_proposals.proposer == user_id, _proposals.user_id.is_(None)))


def _quotes(user_id: str, own: ColumnElement[bool]) -> ColumnElement[bool]:
    theirs = select(sessions.c.id).where(sessions.c.user_id == user_id)
    unnamed = and_(excerpts.c.user_id.is_(None), excerpts.c.proposal_id.in_(select(_proposals.id).where(own)))
    return or_(excerpts.c.user_id == user_id, excerpts.c.session_id.in_(theirs), unnamed)


def _alias() -> str:
    return f"{ERASED}{uuid4().hex[:8]}"


def _rename(connection: Connection, user_id: str) -> tuple[str, int]:
    alias = _alias()
    proposed = connection.execute(
        update(proposals).where(_proposals.proposer == user_id).values(proposer=alias)
    ).rowcount
    reviewed = connection.execute(
        update(decisions).where(decisions.c.reviewer == user_id).values(reviewer=alias, note=None)
    ).rowcount
    imported = connection.execute(update(imports).where(imports.c.actor == user_id).values(actor=alias)).rowcount
    return alias, proposed + reviewed + imported


UNLINKED = {"rationale": "", "taint": None, "user_id": None, "session_id": None, "turn_id": None}


def unlinked(row: dict[str, Any], is_erased: Callable[[str], bool]) -> dict[str, Any]:
    """Return a decided proposal of an export as erasing would leave it, where its session was erased here."""
    user, quoted = row["user_id"], [one for one in row["excerpts"] if not is_erased(one["session_id"] or "")]
    if not is_erased(row["session_id"] or ""):
        return row | {"excerpts": quoted}
    quoted = [one for one in quoted if one["user_id"] not in {None, user}]
    alias = _alias()
    taken, words = [], dict.fromkeys(WORDS, "")
    for one in row["decisions"]:
        words = {name: one["revision"][name] for name in WORDS} if one["revision"] else words
        taken.append(one | {"note": None, "reviewer": alias if one["reviewer"] == user else one["reviewer"]})
    proposer = alias if row["proposer"] == user else row["proposer"]
    return row | words | UNLINKED | {"proposer": proposer, "excerpts": quoted, "decisions": taken}


def _blank(connection: Connection, proposal_id: int) -> None:
    words = {"title": "", "insight": "", "applies_when": ""}
    connection.execute(update(proposals).where(_proposals.id == proposal_id).values(**words, **UNLINKED))
    _drop_notes(connection, proposal_id)


def _reword(connection: Connection, proposal_id: int) -> None:
    saved = select(revisions.c.title, revisions.c.insight, revisions.c.applies_when)
    row = connection.execute(saved.where(revisions.c.proposal_id == proposal_id)).first()
    if row is None:  # Somebody deleted it: nothing says which of the words were approved.
        _blank(connection, proposal_id)
        return
    connection.execute(update(proposals).where(_proposals.id == proposal_id).values(**row._asdict(), **UNLINKED))
    _drop_notes(connection, proposal_id)


def _drop_notes(connection: Connection, proposal_id: int) -> None:
    """Drop what reviewers noted, which may quote whoever it came from."""
    connection.execute(update(decisions).where(decisions.c.proposal_id == proposal_id).values(note=None))
