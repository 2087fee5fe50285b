"""Where learned text comes from: how the link to a person is taken out of it, the text staying as approved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import ColumnElement, Connection, Table, and_, delete, func, or_, select, update

from learngate.stores.audit import Page
from learngate.stores.history import retire
from learngate.stores.tables import (
    WORDS,
    decisions,
    excerpts,
    imports,
    learnings,
    proposals,
    revisions,
    sessions,
    words_checksum,
)
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


def count_of(connection: Connection, user_id: str) -> dict[str, int]:
    """Return how many proposals are a person's, and how often their name stands on those of others."""
    own = _own(user_id)[1]
    named = (
        (proposals, and_(_proposals.proposer == user_id, ~own)),
        (decisions, decisions.c.reviewer == user_id),
        (imports, imports.c.actor == user_id),
    )
    quoting = and_(_quotes(user_id, own), excerpts.c.proposal_id.not_in(select(_proposals.id).where(own)))

    def number(table: Table, condition: ColumnElement[bool]) -> int:
        return connection.scalar(select(func.count()).select_from(table).where(condition)) or 0

    return {
        "proposals": number(proposals, own),
        "quotes in proposals of others": number(excerpts, quoting),
        "names as proposer, reviewer or importer": sum(number(*one) for one in named),
    }


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


@dataclass
class Gone:
    """Who was erased here, as far as an export tells: it names the users of sessions that were."""

    is_erased: Callable[[str], bool]
    """Whether a session was."""
    at: dict[str, datetime] = field(default_factory=dict)
    _aliases: dict[str, str] = field(default_factory=dict)

    def had(self, user_id: str | None, at: str) -> bool:
        """Whether something of a user's was there when they were erased; what is newer is of a new life."""
        return user_id in self.at and datetime.fromisoformat(at) <= self.at[user_id]

    def owned(self, row: dict[str, Any]) -> bool:
        """Whether a proposal of an export came of somebody who was erased, or by their own hand."""
        whose = row["proposer"] if row["user_id"] is None else row["user_id"]
        return self.is_erased(row["session_id"] or "") or self.had(whose, row["created_at"])

    def alias(self, user_id: str) -> str:
        """Return what stands for a user."""
        return self._aliases.setdefault(user_id, _alias())


def unlinked(row: dict[str, Any], gone: Gone) -> dict[str, Any]:
    """Return a proposal of an export as erasing would leave it, where somebody in it was erased here."""
    owned, user, at = gone.owned(row), row["user_id"], row["created_at"]
    left = {user, None} if owned else set()
    quoted = [
        one
        for one in row["excerpts"]
        if not (gone.is_erased(one["session_id"] or "") or one["user_id"] in left or gone.had(one["user_id"], at))
    ]
    taken: list[dict[str, Any]] = []
    words: dict[str, Any] = dict.fromkeys(WORDS, "")
    for one in row["decisions"]:
        words = {name: one["revision"][name] for name in WORDS} if one["revision"] else words
        by = one["reviewer"]
        if (owned and by == user) or gone.had(by, one["decided_at"]):
            taken.append(one | {"note": None, "reviewer": gone.alias(by)})
        else:
            taken.append(one | {"note": None} if owned else one)
    by = row["proposer"]
    if (owned and by == user) or gone.had(by, at):
        by = gone.alias(by)
    unnamed: dict[str, Any] = words | UNLINKED if owned else {}
    return row | unnamed | {"proposer": by, "excerpts": quoted, "decisions": taken}


def _blank(connection: Connection, proposal_id: int) -> None:
    _say(connection, proposal_id, dict.fromkeys(WORDS, ""))


def _reword(connection: Connection, proposal_id: int) -> None:
    saved = select(revisions.c.title, revisions.c.insight, revisions.c.applies_when)
    row = connection.execute(saved.where(revisions.c.proposal_id == proposal_id)).mappings().first()
    if row is None:  # Somebody deleted it: nothing says which of the words were approved.
        _blank(connection, proposal_id)
        return
    _say(connection, proposal_id, dict(row))


def _say(connection: Connection, proposal_id: int, words: dict[str, str]) -> None:
    saying = words | {"checksum": words_checksum(words)}
    connection.execute(update(proposals).where(_proposals.id == proposal_id).values(**saying, **UNLINKED))
    _drop_notes(connection, proposal_id)


def _drop_notes(connection: Connection, proposal_id: int) -> None:
    """Drop what reviewers noted, which may quote whoever it came from."""
    connection.execute(update(decisions).where(decisions.c.proposal_id == proposal_id).values(note=None))
