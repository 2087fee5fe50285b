"""The gate's door for a history from elsewhere: its proposals, decisions and revisions, with their reviewers.

What is learned here by an import was decided by people, elsewhere: their decisions come with it, the import is
marked on each proposal, and all is signed with the key of this database. Nothing comes in without a decision.
"""

from __future__ import annotations

from typing import Any, Literal

from sqlalchemy import Connection, Row, Select, insert, select, update

from learngate.stores import gate, lexical
from learngate.stores.audit import Page
from learngate.stores.changes import note_change
from learngate.stores.errors import Conflict, InvalidInput
from learngate.stores.lines import when
from learngate.stores.records import Decision, ProposalDraft
from learngate.stores.tables import WORDS, decisions, excerpts, learnings, proposals, revisions
from learngate.stores.text import check_name, check_namespace, digest

APART = (
    "Import into a database of its own (--db NEW) to see both, and say here what is to hold (`learngate learnings"
    " edit`); sessions and memories come alone from an export with --user NAME"
)
"""What to do where both sides decided otherwise: no import can take that back."""
Outcome = Literal["new", "decided", "known"]
_proposals = proposals.c
THERE: Select[Any] = select(
    _proposals.id,
    _proposals.status,
    _proposals.kind,
    _proposals.namespace,
    *(_proposals[name] for name in WORDS),
    learnings.c.uid.label("target"),
).outerjoin(learnings, learnings.c.id == _proposals.target_id)


def take_over(page: Page, row: dict[str, Any], *, mark: int) -> Outcome:
    """Write a proposal of an export with its decisions and what they led to; `mark` is the import's number.

    One that is known stays as it is; but where it waits here and was decided there, the decision is taken over.

    Raises:
        InvalidInput: a decision without its effect, or an effect without a decision.
        Conflict: the learning was changed here since, the proposal was decided otherwise here, or waits here
            with other words.
    """
    connection = page.connection
    there = connection.execute(THERE.where(proposals.c.uid == row["uid"])).first()
    if there is not None and there.status != "pending":
        _refuse_other_effect(connection, there.id, row)
    if there is not None and (there.status != "pending" or row["status"] == "pending"):
        return "known"
    if (row["status"] == "pending") == bool(row["decisions"]):
        raise InvalidInput(f"proposal {row['title']!r} is {row['status']} with {len(row['decisions'])} decisions")
    if there is None:
        proposal_id = _add(connection, row, mark)
    else:
        proposal_id = there.id
        _refuse_other_proposal(there, row)
        taken = {"status": row["status"], "import_id": mark}
        connection.execute(update(proposals).where(proposals.c.id == proposal_id).values(**taken))
    for one in row["decisions"]:
        _decide(page, proposal_id, row, one)
    return "new" if there is None else "decided"


def _refuse_other_effect(connection: Connection, proposal_id: int, row: dict[str, Any]) -> None:
    """Refuse a proposal that was decided here, too, and led to another learning there, or to one there alone."""
    made = select(learnings.c.uid).join(decisions, decisions.c.learning_id == learnings.c.id)
    mine = set(connection.scalars(made.where(decisions.c.proposal_id == proposal_id)))
    if any(one["revision"] and one["revision"]["learning"] not in mine for one in row["decisions"]):
        raise Conflict(
            f"proposal {proposal_id} ({row['title']!r}) was decided here, and otherwise in the export;"
            f" nothing was imported: `learngate review {proposal_id}` shows what was decided here. {APART}"
        )


def _refuse_other_proposal(there: Row[Any], row: dict[str, Any]) -> None:
    """Refuse a decision of something else than what waits here: whoever took it did not see this."""
    same = (there.kind, there.namespace, there.target) == (row["of"], row["namespace"], row["target"])
    for one in row["decisions"]:
        saved = one["revision"]
        if saved is not None:
            same &= saved["namespace"] == there.namespace and there.target in {None, saved["learning"]}
        if one["type"] == "approve":
            same &= saved is not None and all(saved[name] == getattr(there, name) for name in WORDS)
    if not same:
        raise Conflict(
            f"proposal {there.id} ({there.title!r}) waits here, and what was decided in the export is another;"
            f" nothing was imported: `learngate review {there.id}` shows it. {APART}"
        )


def _add(connection: Connection, row: dict[str, Any], mark: int) -> int:
    target = None
    if row["target"] is not None:
        target = connection.scalar(select(learnings.c.id).where(learnings.c.uid == row["target"]))
        if target is None:
            raise InvalidInput(
                f"proposal {row['title']!r} changes a learning that the export has not brought before"
            )
    names = ("uid", "namespace", *WORDS, "rationale", "taint", "status", "digest", "base_revision")
    made = connection.execute(
        insert(proposals).values(
            **{name: row[name] for name in (*names, "user_id", "session_id", "turn_id")},
            kind=row["of"],
            proposer=check_name(row["proposer"], what="the proposer"),
            target_id=target,
            created_at=when(row["created_at"]),
            expires_at=when(row["expires_at"]),
            import_id=mark,
        )
    ).inserted_primary_key
    assert made is not None
    for position, one in enumerate(row["excerpts"]):
        connection.execute(insert(excerpts).values(proposal_id=made[0], position=position, **one))
    return int(made[0])


def _decide(page: Page, proposal_id: int, row: dict[str, Any], one: dict[str, Any]) -> None:
    """Write a decision of an export, its learning and its revision, and sign both."""
    saved = one["revision"]
    if (one["type"] == "reject") != (saved is None) or (one["type"] == "reject") != (row["status"] == "rejected"):
        raise InvalidInput(f"proposal {row['title']!r} is {row['status']}, and its decision says {one['type']}")
    connection = page.connection
    values = {
        "proposal_id": proposal_id,
        "type": one["type"],
        "reviewer": check_name(one["reviewer"], what="the reviewer"),
        "note": one["note"],
        "decided_at": when(one["decided_at"]),
    }
    made = connection.execute(insert(decisions).values(**values)).inserted_primary_key
    assert made is not None
    if saved is None:
        page.sign("decision", values | {"id": made[0], "learning_id": None})
        return
    learning_id = _learned(connection, proposal_id, row, saved)
    connection.execute(update(decisions).where(decisions.c.id == made[0]).values(learning_id=learning_id))
    revision = {name: saved[name] for name in ("revision", "namespace", "change", *WORDS, "status")}
    revision |= {
        "learning_id": learning_id,
        "uid": saved["learning"],
        "at": when(saved["at"]),
        "proposal_id": proposal_id,
        "decision_id": made[0],
    }
    connection.execute(insert(revisions).values(**revision))
    page.sign("decision", values | {"id": made[0], "learning_id": learning_id})
    page.sign("revision", revision)


def _learned(connection: Connection, proposal_id: int, row: dict[str, Any], saved: dict[str, Any]) -> int:
    """Bring a learning to one more revision, and return its number."""
    namespace, number = check_namespace(saved["namespace"]), saved["revision"]
    draft = gate.checked(ProposalDraft(saved["title"], saved["insight"], saved["applies_when"]))
    if (draft.title, draft.insight, draft.applies_when) != tuple(saved[name] for name in WORDS):
        raise InvalidInput(f"revision {number} of learning {saved['title']!r} has words that cannot be stored")
    at, scope = when(saved["at"]), lexical.scope_token("namespace", namespace)
    values = {name: saved[name] for name in (*WORDS, "status", "revision")} | {
        "namespace": namespace,
        "digest": digest(draft.insight),
        "updated_at": at,
        "proposal_id": proposal_id,
        "scope": scope,
        "body": lexical.search_body(draft.title, draft.insight, draft.applies_when),
    }
    there = connection.execute(
        select(learnings.c.id, learnings.c.revision, learnings.c.title).where(learnings.c.uid == saved["learning"])
    ).first()
    if number != (1 if there is None else there.revision + 1) or (number == 1) != (row["of"] == "new"):
        raise Conflict(_parted(number, saved, there))
    if there is None:
        made = connection.execute(
            insert(learnings).values(**values, uid=saved["learning"], created_at=at)
        ).inserted_primary_key
        assert made is not None
        learning_id = int(made[0])
    else:
        learning_id = there.id
        connection.execute(update(learnings).where(learnings.c.id == learning_id).values(**values))
    op = "put" if saved["status"] == "active" else "drop"
    note_change(connection, "learning", learning_id, scope=scope, op=op)
    return learning_id


def _parted(number: int, saved: dict[str, Any], there: Any) -> str:
    if there is None:
        return (
            f"the export brings revision {number} of learning {saved['title']!r}, of which nothing is here, and not"
            " the ones before it; nothing was imported: export it again"
        )
    return (
        f"learning {there.id} ({there.title!r}) is at revision {there.revision} here, and the export brings another"
        f" revision {number} ({saved['title']!r}): it was changed both here and there; nothing was imported."
        f" `learngate learnings history {there.id}` shows it. {APART}"
    )


def verify_learning(page: Page, row: dict[str, Any], *, mark: int, actor: str) -> tuple[bool, dict[int, int]]:
    """Compare a learning with what its revisions led to, and return whether this import changed it.

    Where the namespace here says the same already, the newcomer is retired, by whoever imports: one is enough.
    Then the newcomer's number is returned, too, with that of the one that stays.

    Raises:
        InvalidInput: the export's learning is not what its own revisions say.
    """
    connection, columns = page.connection, learnings.c
    mine = connection.execute(select(learnings).where(columns.uid == row["uid"])).first()
    names = ("namespace", *WORDS, "status")
    if mine is None or mine.revision < row["revision"]:
        raise InvalidInput(f"learning {row['title']!r} has no decision that led to it: nobody approved it")
    if mine.revision == row["revision"] and any(getattr(mine, name) != row[name] for name in names):
        raise InvalidInput(f"learning {row['title']!r} is not what was decided: somebody changed it past the gate")
    brought = connection.scalar(
        select(proposals.c.id).where(proposals.c.id == mine.proposal_id, proposals.c.import_id == mark)
    )
    if brought is None:
        return False, {}
    twin = select(columns.id).where(columns.namespace == mine.namespace, columns.digest == mine.digest)
    twin = twin.where(columns.status == "active", columns.id != mine.id)
    other = connection.scalar(twin) if mine.status == "active" else None
    if other is None:
        return True, {}
    retire(page, mine, actor, note=f"learning {other} already said that")
    return True, {mine.id: other}


def retire(page: Page, learning: Row[Any], actor: str, *, note: str) -> None:
    """Take a learning out of recall, inside a transaction: a proposal and its decision, as ever."""
    proposal_id = gate.propose(
        page.connection,
        ProposalDraft(learning.title, learning.insight, learning.applies_when),
        namespace=learning.namespace,
        proposer=actor,
        kind="retire",
        target=(learning.id, learning.revision),
    )
    gate.decide(page, proposal_id, Decision.approve(note), reviewer=actor, change="retired")
