"""Turns as rows: recorded once, followed back from a head, read whole, and their effects claimed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC
from typing import Any, get_args

from sqlalchemy import (
    BindParameter,
    Connection,
    Integer,
    Select,
    String,
    bindparam,
    case,
    func,
    insert,
    select,
    update,
)

from learngate.stores import codec, lexical
from learngate.stores.changes import note_new
from learngate.stores.database import upsert
from learngate.stores.erasing import is_erased
from learngate.stores.errors import NotFound, StoreUnusable
from learngate.stores.lists import among, parts
from learngate.stores.prepared import Prepared
from learngate.stores.records import ROOT, Recalled, ReflectionStatus, Turn, TurnStatus, now
from learngate.stores.tables import PLACE, effects, messages, place_checksum, recalls, sessions, turns
from learngate.stores.text import clean

_turns = turns.c
BEFORE = 2_000
"""Characters of a turn by which the one after it is found, too."""
STATUSES = get_args(TurnStatus)

# What each turn asks is built once: building a statement takes longer than most of them take to run.
_session_id: BindParameter[str] = bindparam("session_id")
_turn_id: BindParameter[str] = bindparam("turn_id")
_SEQ_OF = Prepared(select(_turns.seq).where(_turns.session_id == _session_id, _turns.id == _turn_id))
_NEWEST = select(sessions.c.newest).where(sessions.c.id == _session_id).scalar_subquery()
_SAID = Prepared(
    select(messages.c.turn_seq, messages.c.data)
    .where(among(messages.c.turn_seq, "seqs"))
    .order_by(messages.c.turn_seq, messages.c.position)
)
_RECALLED = select(recalls).where(among(recalls.c.turn_seq, "seqs")).order_by(recalls.c.kind, recalls.c.rank)
_above = turns.alias("above")
_same = turns.alias("same")
_parent = func.coalesce(bindparam("after", type_=String), sessions.c.newest)
_AROUND = Prepared(
    select(sessions.c.user_id, _same.c.seq.label("there"), _parent.label("parent"), _above.c.seq, _above.c.body)
    .select_from(sessions)
    .outerjoin(_same, (_same.c.session_id == sessions.c.id) & (_same.c.id == _turn_id))
    .outerjoin(_above, (_above.c.session_id == sessions.c.id) & (_above.c.id == _parent))
    .where(sessions.c.id == _session_id)
)
"""Whose a session is, whether it has a turn already, and the turn that this one follows."""
_parent_id = select(_above.c.id).where(_above.c.seq == _turns.parent_seq).scalar_subquery()
_searched = {_turns.body, _turns.before, _turns.scope}
WHOLE = select(*(column for column in _turns if column not in _searched), _parent_id.label("parent_id"))
"""Turns as `load` takes them."""
_NAMED = Prepared(WHOLE.where(_turns.session_id == _session_id, among(_turns.id)))
_MARK = Prepared(
    update(turns)
    .where(_turns.session_id == bindparam("its"), _turns.id == bindparam("turn"), _turns.reflection != "done")
    .values(
        reflection=bindparam("ended"),
        reflection_error=bindparam("why"),
        reflection_attempts=_turns.reflection_attempts + bindparam("failed", type_=Integer),
    )
)
_RECORD, _SAY, _RECALL = (Prepared(insert(table)) for table in (turns, messages, recalls))
_there = update(sessions).where(sessions.c.id == bindparam("session")).values(deleted_at=None)
_THERE, _MOVED = Prepared(_there), Prepared(_there.values(newest=bindparam("turn")))


def _line(query: Select[Any], top: Any) -> Select[Any]:
    """Return the query of the turns from one back to the root, up to `most` that were completed."""
    counts = case((_turns.status == "complete", 1), else_=0)
    start = select(_turns.seq, _turns.parent_seq, counts.label("steps"))
    line = start.where(_turns.session_id == _session_id, _turns.id == top).cte("line", recursive=True)
    line = line.union_all(
        select(_turns.seq, _turns.parent_seq, line.c.steps + counts).where(
            _turns.seq == line.c.parent_seq, line.c.steps < bindparam("most")
        )
    )
    # By their numbers alone: a damaged index can hide none of them.
    return query.join(line, line.c.seq == _turns.seq).order_by(line.c.steps, _turns.seq.desc())


_PLACED = select(_turns.seq, _turns.status, _turns.checksum, *(_turns[name] for name in PLACE))
_LINES = {
    (whole, named): Prepared(_line(WHOLE if whole else _PLACED, _turn_id if named else _NEWEST))
    for whole in (False, True)
    for named in (False, True)
}
"""Of whole turns or of where they stand, from a named one or from the newest."""


def around(connection: Connection, turn: Turn) -> Any:
    """Return what stands around a turn that is to be recorded; `None` where its session is not open."""
    given = {"session_id": turn.session_id, "turn_id": turn.id, "after": turn.parent}
    return _AROUND.first(connection, given)


def record(connection: Connection, turn: Turn, found: Any) -> None:
    """Write a turn that is not there yet, with its messages and what was recalled for it; `found` is `around` it.

    Raises:
        NotFound: the session has no turn `turn.parent`.
    """
    if found.parent and found.seq is None:
        raise NotFound(f"session {turn.session_id!r} has no turn {found.parent!r} to follow")
    scope = turn_scope(turn.user_id)
    row = {
        "session_id": turn.session_id,
        "id": turn.id,
        "parent_seq": found.seq,
        "user_id": turn.user_id,
        "namespace": turn.namespace,
        "status": turn.status,
        "reflection": turn.reflection,
        "reflection_attempts": 0,
        "happened_at": turn.happened_at,
        "recorded_at": now(),
        "checkpoint_id": turn.checkpoint_id,
        "usage": turn.usage,
        "noted": turn.noted,
        "scope": scope,
        "body": body(turn),
        "before": said_in(found.body) if found.seq is not None else "",
    }
    seq = _RECORD.add(connection, row | {"checksum": place_checksum(row)})
    _SAY.run(
        connection,
        *(
            {
                "turn_seq": seq,
                "position": position,
                "id": message.id,
                "role": message.type,
                "format": codec.FORMAT,
                "data": codec.to_text(message),
            }
            for position, message in enumerate(
                (turn.messages[0].model_copy(update={"id": turn.id}), *turn.messages[1:])
            )
        ),
    )
    if turn.recalled:
        _RECALL.run(connection, *_recall_rows(seq, turn.recalled))
    if turn.status == "complete":
        note_new(connection, "turn", seq, scope=scope)
        _MOVED.run(connection, {"session": turn.session_id, "turn": turn.id})
    else:
        _THERE.run(connection, {"session": turn.session_id})


def claim_effect(connection: Connection, session_id: str, turn_id: str, effect: str) -> bool:
    """Claim that one step of a turn takes effect now; `False` when it has before.

    A turn that was never recorded (a store used without sessions) has nothing to claim; one whose user was
    erased meanwhile has no effect any more.
    """
    seq = seq_of(connection, session_id, turn_id)
    if seq is None:
        return not is_erased(connection, session_id)
    claim = upsert(connection, effects).values(turn_seq=seq, effect=effect, at=now()).on_conflict_do_nothing()
    return connection.scalar(claim.returning(effects.c.effect)) is not None


def reflected(connection: Connection, session_id: str, turn_id: str) -> None:
    """Note, inside a transaction, that everything a turn's reflection brought has taken effect."""
    mark(connection, session_id, turn_id, "done", None)


def settled(connection: Connection, session_id: str, turn_id: str) -> None:
    """Note, inside a transaction, that everything a turn's tools noted has taken effect."""
    connection.execute(
        update(turns).where(_turns.session_id == session_id, _turns.id == turn_id).values(noted=None)
    )


def mark(
    connection: Connection, session_id: str, turn_id: str, status: ReflectionStatus, error: str | None
) -> None:
    """Note, inside a transaction, how a turn's reflection ended; one that is done stays done."""
    named = {"its": session_id, "turn": turn_id, "ended": status}
    failed = 1 if status == "failed" else 0
    _MARK.run(connection, named | {"why": None if error is None else clean(error), "failed": failed})


def seq_of(connection: Connection, session_id: str, turn_id: str) -> int | None:
    """Return the sequence number of a turn; `None` where the session has no such turn."""
    found = _SEQ_OF.first(connection, {"session_id": session_id, "turn_id": turn_id})
    return None if found is None else found.seq


def chain(
    connection: Connection, session_id: str, head: str | None, limit: int, *, whole: bool = False
) -> list[Any]:
    """Return up to `limit` completed turns from the head back to the root, newest first.

    A failed turn on the way (an import may bring one) is passed over. With `whole` they are rows for `turns_of`.
    """
    if head == ROOT or limit < 1:
        return []
    line = _LINES[whole, head is not None]
    top = {} if head is None else {"turn_id": head}
    rows = line.all(connection, {"session_id": session_id, "most": limit, **top})
    if not rows and head is None and connection.scalar(select(_NEWEST), {"session_id": session_id}):
        raise StoreUnusable(
            f"session {session_id!r} is damaged (its newest turn is not there): restore a backup, or see"
            " `learngate doctor`"
        )
    return [row for row in _checked(rows) if row.status == "complete"]


def _checked(rows: Sequence[Any]) -> Sequence[Any]:
    """Refuse turns that do not stand where they were put: SQLite does not look at what it reads."""
    for row in rows:
        place = row.checksum in {None, place_checksum(row._asdict())}
        if not place or row.status not in STATUSES:
            raise StoreUnusable(
                f"turn {row.id!r} of session {row.session_id!r} is damaged: restore a backup, or see"
                " `learngate doctor`"
            )
    return rows


def is_behind(connection: Connection, seq: int, seqs: Sequence[int]) -> bool:
    """Whether turn `seq` was completed and is an ancestor of the oldest of `seqs`."""
    if not seqs:
        return False
    chain = select(_turns.seq, _turns.parent_seq).where(_turns.seq == seqs[-1]).cte("line", recursive=True)
    chain = chain.union_all(
        # A parent is always older than its child, so nothing below `seq` can lead to it.
        select(_turns.seq, _turns.parent_seq).where(_turns.seq == chain.c.parent_seq, _turns.seq >= seq)
    )
    ancestor = select(_turns.seq).join(chain, chain.c.seq == _turns.seq)
    return connection.scalar(ancestor.where(_turns.seq == seq, _turns.status == "complete")) is not None


def beside(connection: Connection, seqs: Sequence[int]) -> tuple[dict[int, int], dict[int, int]]:
    """Return the completed turns right before and right after each of these: {turn: the one beside it}.

    Where a session branches after a turn, its newest branch is taken.
    """
    above, complete = turns.alias("above"), _turns.status == "complete"
    before: dict[int, int] = {}
    after: dict[int, int] = {}
    for part in parts(seqs):
        parents = select(_turns.seq, above.c.seq).join(above, above.c.seq == _turns.parent_seq)
        parents = parents.where(_turns.seq.in_(part), above.c.status == "complete")
        before |= dict(connection.execute(parents).all())
        children = select(_turns.parent_seq, _turns.seq).where(_turns.parent_seq.in_(part), complete)
        after |= dict(connection.execute(children.order_by(_turns.seq)).all())
    return before, after


def load(connection: Connection, query: Select[Any]) -> dict[int, Turn]:
    """Return the turns that a `WHOLE` query selects, by their sequence number."""
    return turns_of(connection, _checked(connection.execute(query).all()), recalled=True)


def named(connection: Connection, session_id: str, ids: list[str], *, recalled: bool) -> dict[int, Turn]:
    """Return those of a session's turns that have these ids, by their sequence number.

    Without `recalled` they come without what was recalled for them, which takes as long as all the rest.
    """
    rows = _NAMED.all(connection, {"session_id": session_id, "ids": ids})
    return turns_of(connection, _checked(rows), recalled=recalled)


def turns_of(connection: Connection, rows: Sequence[Any], *, recalled: bool) -> dict[int, Turn]:
    """Return the turns that some rows stand for, by their sequence number and in their order."""
    seqs = [row.seq for row in rows]
    said: dict[int, list[Any]] = {seq: [] for seq in seqs}
    session_of = {row.seq: row.session_id for row in rows}
    for part in parts(seqs):
        for row in _SAID.all(connection, {"seqs": part}):
            said[row.turn_seq].append(codec.recorded(row.data, session=session_of[row.turn_seq]))
    shown = _recalled(connection, seqs) if recalled else {}
    return {
        row.seq: Turn(
            session_id=row.session_id,
            messages=tuple(said[row.seq]),
            id=row.id,
            user_id=row.user_id,
            namespace=row.namespace,
            parent=row.parent_id or ROOT,
            status=row.status,
            reflection=row.reflection,
            happened_at=row.happened_at,
            recorded_at=row.recorded_at,
            checkpoint_id=row.checkpoint_id,
            usage=row.usage,
            noted=row.noted,
            recalled=tuple(shown.get(row.seq, ())),
            error=row.reflection_error,
            attempts=row.reflection_attempts,
        )
        for row in rows
    }


def _recalled(connection: Connection, seqs: Sequence[int]) -> dict[int, list[Recalled]]:
    found: dict[int, list[Recalled]] = {}
    for part in parts(seqs):
        for row in connection.execute(_RECALLED, {"seqs": part}):
            found.setdefault(row.turn_seq, []).append(
                Recalled(row.kind, row.row_id, row.revision, row.score, row.fate == "shown")
            )
    return found


def _recall_rows(seq: int, recalled: Sequence[Recalled]) -> list[dict[str, Any]]:
    return [
        {
            "turn_seq": seq,
            "kind": one.kind,
            "row_id": one.id,
            "revision": one.revision,
            "rank": rank,
            "score": one.score,
            "fate": "shown" if one.shown else "cut",
        }
        for rank, one in enumerate(recalled)
    ]


def turn_scope(user_id: str | None) -> str:
    """Return the search token of a user's turns, or of nobody's."""
    # Nobody's turns share one scope, which no user's name can collide with.
    return lexical.scope_token("user", user_id) if user_id is not None else lexical.scope_token("nobody", "")


def body(turn: Turn) -> str:
    """Return what search reads of a turn: when it was, on a line of its own, and who said what.

    Further lines of what somebody said are indented, so that each name stands at the beginning of a line.
    """
    said = [
        f"{message.name or {'human': turn.user_id or 'user', 'ai': 'assistant'}.get(message.type)}: {message.text}"
        for message in turn.messages
        if message.type in {"human", "ai"} and message.text
    ]
    said = [one.replace("\n", "\n  ") for one in said]
    # Its day is UTC's, as in `dates` and as in a row that is read back, whatever zone it was given in.
    return lexical.search_body(f"{turn.happened_at.astimezone(UTC):%A %d %B %Y %Y-%m-%d}", *said)


def said_in(body: str) -> str:
    """Return what was said in a turn, of its `body`, as far as the turn after it is found by it."""
    return body.partition("\n")[2][:BEFORE]
