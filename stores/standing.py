"""What cannot stand alone: a turn without its question, a decision without its proposal, and the like.

The rows of an export are looked at as an import looks at them, so that what stays can be moved elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Row, Table, and_, func, select
from sqlalchemy import update as put

from learngate.stores import gate, lexical
from learngate.stores.errors import InvalidInput
from learngate.stores.exporting import every_row
from learngate.stores.lines import check
from learngate.stores.quarantine import BELONGS, Mended, Round, mended_rows
from learngate.stores.records import ProposalDraft
from learngate.stores.tables import (
    PLACE,
    WORDS,
    learnings,
    messages,
    place_checksum,
    proposals,
    revisions,
    sessions,
    turns,
    user_memories,
)
from learngate.stores.text import check_namespace, digest


def orphans(at: Round) -> Iterator[Mended]:
    """Set apart what belongs to a row that is not there."""
    for child, parent in BELONGS:
        lost = child.not_in(select(parent))
        ids = tuple(
            "/".join(map(str, row))
            for row in at.connection.execute(select(*child.table.primary_key.columns).where(lost))
        )
        if ids:
            at.take_away(child.table, lost, f"its {child.name} is not there")
            said = f"rows of {child.table.name} whose row of {parent.table.name} is not there are in quarantine"
            yield from mended_rows(said, ids)


def unasked(at: Round) -> Iterator[Mended]:
    """Let turns whose question or whose middle is gone count as failed: no prompt has half of one."""
    of = messages.c.turn_seq == turns.c.seq
    first = select(messages.c.turn_seq).where(of, messages.c.position == 0, messages.c.role == "human")
    number = select(func.count()).where(of).scalar_subquery()
    last = select(func.max(messages.c.position)).where(of).scalar_subquery()
    half = (turns.c.status != "failed") & (~first.exists() | (number != last + 1))
    ids = [row.seq for row in at.connection.execute(select(turns.c.seq).where(half).order_by(turns.c.seq))]
    if not ids:
        return
    for seq in ids:
        at.copy(turns, turns.c.seq == seq, "a message of it is gone")
    reason = "a message of it is gone"
    at.write(put(turns).where(half).values(status="failed", reflection_error=reason))
    said = "turns of which a message is gone are out of every prompt"
    yield from mended_rows(said, ids)


_PLACED = select(turns.c.seq, turns.c.checksum, *(turns.c[name] for name in PLACE))


def places(at: Round) -> Iterator[Mended]:
    """Put turns back where they were put: under their id, of their session's user, after the turn they followed."""
    back: list[int] = []
    astray: list[int] = []
    for row in at.each(_PLACED, turns.c.seq):
        if row.checksum in {None, place_checksum(row._asdict())}:
            continue
        right = next((one for one in _places(at, row) if place_checksum(row._asdict() | one) == row.checksum), None)
        if right is not None:
            back.append(row.seq)
            at.write(put(turns).where(turns.c.seq == row.seq).values(**right))
        else:
            astray.append(row.seq)
            at.take_away(turns, turns.c.seq == row.seq, "its place is not what was written")
    yield from mended_rows("turns stand again where they were put", back, lost=False)
    yield from mended_rows("turns whose place is not what was written are in quarantine", astray)


def _places(at: Round, row: Row[Any]) -> Iterator[dict[str, Any]]:
    """Yield where a turn may have stood: what other rows say, and every earlier turn of its session."""
    asked = select(messages.c.id).where(messages.c.turn_seq == row.seq, messages.c.position == 0)
    ids = {row.id, at.connection.scalar(asked)}
    owner = select(sessions.c.user_id).where(sessions.c.id == row.session_id)
    users = {row.user_id, at.connection.scalar(owner)}
    earlier = select(turns.c.seq).where(turns.c.session_id == row.session_id, turns.c.seq < row.seq)
    parents = [row.parent_seq, *at.connection.scalars(earlier.order_by(turns.c.seq.desc())), None]
    for parent in parents:
        yield from ({"id": one, "user_id": user, "parent_seq": parent} for one in ids for user in users)


def sealed(at: Round) -> Iterator[Mended]:
    """Note where turns stand, now that the turns that they followed were set apart."""
    for row in at.each(_PLACED.where(turns.c.checksum.is_(None)), turns.c.seq):
        at.write(put(turns).where(turns.c.seq == row.seq).values(checksum=place_checksum(row._asdict())))
    yield from ()


def links(at: Round) -> Iterator[Mended]:
    """Mend where a turn follows one that is gone, and where a session's newest turn is."""
    above = turns.alias()
    there = select(above.c.seq).where(
        above.c.seq == turns.c.parent_seq, above.c.session_id == turns.c.session_id, above.c.seq < turns.c.seq
    )
    torn = turns.c.parent_seq.is_not(None) & ~there.exists()
    count = _count(at, turns, torn)
    if count:
        at.write(put(turns).where(torn).values(parent_seq=None, checksum=None))
        yield Mended("rows", "turns that followed one that is gone begin a branch", count, lost=True)
    complete = (turns.c.session_id == sessions.c.id) & (turns.c.status == "complete")
    newest_there = select(turns.c.id).where(complete, turns.c.id == sessions.c.newest)
    lost = sessions.c.newest.is_not(None) & ~newest_there.exists()
    newest = select(turns.c.id).where(complete).order_by(turns.c.seq.desc()).limit(1).scalar_subquery()
    count = _count(at, sessions, lost)
    if count:
        at.write(put(sessions).where(lost).values(newest=newest))
        said = "sessions whose newest turn was gone go on from the newest that is there"
        yield Mended("rows", said, count, lost=True)


def _count(at: Round, table: Table, condition: ColumnElement[bool]) -> int:
    return at.connection.scalar(select(func.count()).select_from(table).where(condition)) or 0


@dataclass
class _Survey:
    """What an import would refuse of a database: which rows, and why."""

    rows: dict[str, dict[Any, str]] = field(default_factory=dict)
    owners: dict[str, str | None] = field(default_factory=dict)
    reached: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    history: list[tuple[str, str | None, list[str]]] = field(default_factory=list)
    """Each proposal, with the learning that it would change and those that it led to."""

    def look(self, line: dict[str, Any]) -> None:
        """Look at one row."""
        kind = line["kind"]
        try:
            check(0, line)
        except InvalidInput as error:
            # Without the value, which the report would show.
            name = str(error).partition("cannot be read: ")[2].partition(" ")[0].rstrip(":")
            self._falls(line, f"its {name} is damaged" if name in line else str(error).partition(": ")[2])
        if kind == "session":
            self.owners[line["id"]] = line["user_id"]
        elif kind == "turn" and self.owners.get(line["session"], self) != line["user_id"]:
            self._falls(line, "it is not of whoever has its session")
        elif kind == "proposal":
            self._look_at_proposal(line)
        elif kind == "learning":
            says = (line["revision"], line["namespace"], *(line[name] for name in (*WORDS, "status")))
            if self.reached.get(line["uid"]) != says:
                self._falls(line, "it is not what its decisions led to")

    def _falls(self, line: dict[str, Any], why: str) -> None:
        key = {"session": "id", "turn": "id", "erased": "token"}.get(line["kind"], "uid")
        row = (line["session"], line["id"]) if line["kind"] == "turn" else line[key]
        self.rows.setdefault(line["kind"], {}).setdefault(row, why)

    def _look_at_proposal(self, line: dict[str, Any]) -> None:
        made = [one["revision"] for one in line["decisions"] if one["revision"] is not None]
        self.history.append((line["uid"], line["target"], [one["learning"] for one in made]))
        pending, rejected = line["status"] == "pending", line["status"] == "rejected"
        if pending == bool(line["decisions"]):
            self._falls(line, f"it is {line['status']} with {len(line['decisions'])} decisions")
        elif any((one["type"] == "reject") != rejected for one in line["decisions"]):
            self._falls(line, "its decision says otherwise than it")
        elif len(made) != (0 if pending or rejected else len(line["decisions"])):
            self._falls(line, "its decision has not the effect that it should have")
        elif line["target"] is None:
            if pending and line["of"] != "new":
                self._falls(line, "what it would change is not there")
        elif line["target"] not in self.reached:
            self._falls(line, "what it would change is not there")
        for one in made:
            number = self.reached.get(one["learning"], (0,))[0] + 1
            if one["revision"] != number or (number == 1) != (line["of"] == "new") or not _storable(one):
                self._falls(line, "what it led to is not there, or not as it was")
            words = tuple(one[name] for name in (*WORDS, "status"))
            self.reached[one["learning"]] = (one["revision"], one["namespace"], *words)

    def close(self) -> None:
        """Let what rests on a fallen row fall, too."""
        fallen = self.rows.setdefault("proposal", {})
        learned = self.rows.setdefault("learning", {})
        before = -1
        while before != len(fallen) + len(learned):
            before = len(fallen) + len(learned)
            for uid, target, made in self.history:
                if target in learned or any(one in learned for one in made):
                    fallen.setdefault(uid, "the learning that it is of cannot stand")
                if uid in fallen:
                    for one in made:
                        learned.setdefault(one, "what led to it is not there")


def _storable(saved: dict[str, Any]) -> bool:
    try:
        check_namespace(saved["namespace"])
        draft = gate.checked(ProposalDraft(saved["title"], saved["insight"], saved["applies_when"]))
    except InvalidInput:
        return False
    return (draft.title, draft.insight, draft.applies_when) == tuple(saved[name] for name in WORDS)


def standing(at: Round) -> Iterator[Mended]:
    """Set apart what an import would refuse; what a fallen learning says waits at the gate again."""
    survey = _Survey()
    for number, line in enumerate(every_row(at.connection), start=1):
        survey.look(line)
        if not number % 100:
            at.looked(100)
    survey.close()
    for kind, table in TABLES.items():
        found = survey.rows.get(kind, {})
        if not found:
            continue
        ids = [row_id for row in found if (row_id := _id(at, kind, row)) is not None]
        if kind == "learning":
            yield from _proposed_again(at, ids)
        for row, why in found.items():
            at.take_away(table, _its(kind, row), why)
        whys = "; ".join([*dict.fromkeys(found.values())][:3])
        said = f"rows of {table.name} that cannot stand are in quarantine, with what belongs to them ({whys})"
        yield Mended("rows", said, len(found), lost=True, rows=tuple(map(str, ids)))


TABLES: dict[str, Table] = {
    "learning": learnings,
    "proposal": proposals,
    "turn": turns,
    "memory": user_memories,
    "session": sessions,
}
"""In this order, so that nothing is taken away with another before its own reason is told."""


def _its(kind: str, row: Any) -> ColumnElement[bool]:
    if kind == "turn":
        return and_(turns.c.session_id == row[0], turns.c.id == row[1])
    its: ColumnElement[bool] = sessions.c.id == row if kind == "session" else TABLES[kind].c.uid == row
    return its


def _id(at: Round, kind: str, row: Any) -> Any:
    (key,) = TABLES[kind].primary_key.columns
    return at.connection.scalar(select(key).where(_its(kind, row)))


def _proposed_again(at: Round, ids: list[int]) -> Iterator[Mended]:
    """Put the words of learnings that are about to be set apart before a reviewer."""
    again = []
    for row in at.connection.execute(select(learnings).where(learnings.c.id.in_(ids))).all():
        at.note("learning", row.id, scope=row.scope, op="drop")
        if row.status != "active" or row.digest != digest(row.insight):
            continue
        why = f"It was learning {row.id}; a part of what led to it is damaged."
        try:
            check_namespace(row.namespace)
            draft = gate.checked(ProposalDraft(row.title, row.insight, row.applies_when, why))
        except InvalidInput:
            continue
        again.append(row.id)
        if at.mends:
            gate.propose(at.connection, draft, namespace=row.namespace, proposer="doctor --repair")
    yield from mended_rows("learnings whose history is torn wait at the gate again: `learngate review`", again)


# -- learnings and their revisions -------------------------------------------------------------------------


def reconciled(at: Round) -> Iterator[Mended]:
    """Mend learnings from their newest revision, or it from them: the recorded digest says which is right."""
    newest = revisions.alias()
    number = select(func.max(revisions.c.revision)).where(revisions.c.learning_id == learnings.c.id)
    first = select(func.min(revisions.c.at)).where(revisions.c.learning_id == learnings.c.id)
    on = (newest.c.learning_id == learnings.c.id) & (newest.c.revision == number.scalar_subquery())
    query = select(learnings, first.scalar_subquery().label("first_at"), *_named(newest)).join_from(
        learnings, newest, on
    )
    back: list[int] = []
    forth: list[int] = []
    torn: list[int] = []
    for row in at.each(query, learnings.c.id):
        if all(getattr(row, name) == getattr(row, f"its_{name}") for name in SAME):
            continue
        mine, its = _fits(row, ""), _fits(row, "its_")
        same = row.insight == row.its_insight
        if not same and not mine[0] and not its[0]:
            torn.append(row.id)
        elif its >= mine:
            back.append(row.id)
            at.copy(learnings, learnings.c.id == row.id, "it was not what its newest revision says")
            _put_back(at, row)
        elif row.its_revision == row.revision:
            forth.append(row.id)
            one = (revisions.c.learning_id == row.id) & (revisions.c.revision == row.revision)
            at.copy(revisions, one, "it was not what its learning says")
            at.write(put(revisions).where(one).values({name: getattr(row, name) for name in (*WORDS, "namespace")}))
    yield from mended_rows("learnings that were not what was approved are as their newest revision has them", back)
    said = "learnings whose newest revision was damaged have it back as the learning says it"
    yield from mended_rows(said, forth)
    said = "learnings of whose words neither the row nor the newest revision has what was recorded"
    yield from mended_rows(f"{said} are taken out of recall", torn)


SAME = (*WORDS, "namespace", "status", "uid", "revision", "proposal_id", "updated_at")
"""What a learning has as its newest revision has it."""


def _named(newest: Any) -> list[Any]:
    names = (*WORDS, "namespace", "status", "uid", "revision", "proposal_id")
    return [newest.c[name].label(f"its_{name}") for name in names] + [newest.c.at.label("its_updated_at")]


def _fits(row: Any, whose: str) -> tuple[bool, bool, bool]:
    """Return what of the derived columns, which are redundant, agrees with these words: the digest first."""
    title, insight, applies = (getattr(row, f"{whose}{name}") for name in WORDS)
    scope = lexical.scope_token("namespace", getattr(row, f"{whose}namespace"))
    return (
        row.digest == digest(insight),
        row.body == lexical.search_body(title, insight, applies),
        row.scope == scope,
    )


def _put_back(at: Round, row: Any) -> None:
    if not at.mends:
        return
    query = select(revisions).where(revisions.c.learning_id == row.id, revisions.c.revision == row.its_revision)
    gate.put_back(at.connection, at.connection.execute(query).one(), created_at=row.first_at)
