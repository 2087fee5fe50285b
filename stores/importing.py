"""Import: what another database exported, taken in whole or not at all, and once however often it is given."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import IO, Any

from langchain_core.messages import BaseMessage
from sqlalchemy import Connection, Table, bindparam, insert, select, update

from learngate.stores import codec, lexical, tree
from learngate.stores.audit import Ledger, Page
from learngate.stores.changes import note_change
from learngate.stores.database import upsert
from learngate.stores.erasing import erased_at, is_erased, token
from learngate.stores.errors import Conflict, InvalidInput
from learngate.stores.exporting import FORMAT, RECALLED, Tally
from learngate.stores.history import take_over, verify_learning
from learngate.stores.lines import check, when
from learngate.stores.provenance import Gone, unlinked
from learngate.stores.records import Imported, Turn, now
from learngate.stores.tables import (
    effects,
    erased_sessions,
    imports,
    memory_revisions,
    messages,
    recalls,
    sessions,
    turns,
    user_memories,
)
from learngate.stores.text import check_person, digest

SPOOL_BYTES = 4_000_000
"""What a stream may hold before it is kept in a temporary file."""
NOTHING = "nothing was imported"


@dataclass
class Intake:
    """One import under way: its transaction, its mark, and what it did so far."""

    page: Page
    actor: str
    mark: int
    new: Counter[str]
    known: Counter[str]
    left_out: Counter[str]
    retired: dict[int, int] = field(default_factory=dict)
    heads: dict[str, str] = field(default_factory=dict)
    """The newest turns there, of sessions that were here before and ended otherwise."""

    @property
    def connection(self) -> Connection:
        """The transaction."""
        return self.page.connection

    @cached_property
    def living(self) -> set[str]:
        """What would stand for the sessions that were here before, were they erased."""
        return {token(one) for one in self.connection.scalars(select(sessions.c.id))}

    @cached_property
    def gone(self) -> Gone:
        """Who was erased here."""
        return Gone(self.is_erased)

    def is_erased(self, session_id: str) -> bool:
        """Whether a session of this id was erased here; what came of it stays away, too."""
        return is_erased(self.connection, session_id)


def imported(ledger: Ledger, file: IO[bytes], *, actor: str, progress: Callable[[int, int], None]) -> Imported:
    """Take in an export, in one transaction; `progress` is told how many lines were read, of how many.

    The file is read twice: first to its end, so that one that was cut off or changed on its way is refused
    before anything is written. What is known already, by its `uid` or its own id, stays as it is here; what waits
    here and was decided there is decided. Learned rows keep their proposals, decisions and reviewers, are marked
    with `actor` and the time, and are signed with this database's key.

    Raises:
        InvalidInput: no export, one that was cut off or changed, of another format, or with a row that cannot be.
        Conflict: a session of another user here, or a learning that was changed both here and there.
    """
    check_person(actor, what="who imports")
    with _seekable(file) as source:
        total, mark = _checked(source)
        source.seek(0)
        with ledger.write() as page:
            made = page.connection.execute(
                insert(imports).values(actor=actor, at=now(), digest=mark)
            ).inserted_primary_key
            assert made is not None
            intake = Intake(page, actor, made[0], Counter(), Counter(), Counter())
            for number, row in _lines(source):
                with _at(number):
                    check(number, row)
                    TAKE[row["kind"]](intake, row)
                progress(number, total)
            for session_id, head in intake.heads.items():
                _move_on(intake, session_id, head)
    return Imported(dict(intake.new), dict(intake.known), dict(intake.left_out), intake.retired)


@contextmanager
def _at(number: int) -> Iterator[None]:
    """Say which line is refused, that nothing was imported, and what to do."""
    try:
        yield
    except InvalidInput as error:
        said = str(error)
        where = "" if said.startswith("line ") else f"line {number} of the export: "
        todo = "see `learngate doctor --verify` where it was exported, mend it there, and export it again"
        raise InvalidInput(f"{where}{said}; {NOTHING}: {todo}") from error


@contextmanager
def _seekable(file: IO[bytes]) -> Iterator[IO[bytes]]:
    if file.seekable():
        yield file
        return
    with tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES) as spooled:
        shutil.copyfileobj(file, spooled)
        spooled.seek(0)
        yield spooled


def _checked(file: IO[bytes]) -> tuple[int, str]:
    """Read an export to its end and return how many lines it has and its digest; refuse one that is not whole."""
    tally, before, last = Tally(), "", None
    for number, line in enumerate(file, start=1):
        row = _parsed(number, line)
        if last is not None:
            raise InvalidInput(
                f"line {number} of the export stands after its end: two files in one?"
                f" {NOTHING}: export it again, or import each by itself"
            )
        if number == 1:
            _check_head(row)
        elif row["kind"] == "end":
            last, before, counts = row, tally.digest, dict(tally.counts)
        elif row["kind"] not in TAKE:
            raise InvalidInput(
                f"line {number} of the export is of an unknown kind, {row['kind']!r}; {NOTHING}: export it again"
            )
        tally.add(row["kind"], line)
    if last is None:
        raise InvalidInput(
            f"the export is cut off: it has {sum(tally.counts.values()):,} lines and no line that ends it;"
            " nothing was imported: export it again"
        )
    if last.get("digest") != before or last.get("counts") != counts:
        raise InvalidInput("the export was changed or damaged on its way; nothing was imported: export it again")
    return sum(tally.counts.values()), before


def _parsed(number: int, line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict) or not isinstance(row.get("kind"), str):
        raise InvalidInput(
            f"line {number} is no line of an export: it is cut off, damaged, or another file;"
            f" {NOTHING}: export it again"
        )
    return row


def _check_head(row: dict[str, Any]) -> None:
    if row["kind"] != "learngate":
        raise InvalidInput(f"this is no export of learngate: its first line is another; {NOTHING}: export it again")
    if row.get("format") != FORMAT:
        raise InvalidInput(
            f"the export has format {row.get('format')!r}, this learngate reads {FORMAT}:"
            f" {NOTHING}: upgrade learngate (`pip install -U learngate`), or export it again with this one"
        )


def _lines(file: IO[bytes]) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(file, start=1):
        row = json.loads(line)
        if row["kind"] not in {"learngate", "end"}:
            yield number, row


def _take_erased(intake: Intake, row: dict[str, Any]) -> None:
    if row["token"] in intake.living:
        intake.left_out["erased (the session is here)"] += 1
        return
    put = upsert(intake.connection, erased_sessions).values(token=row["token"], erased_at=when(row["erased_at"]))
    added = intake.connection.execute(put.on_conflict_do_nothing()).rowcount
    (intake.new if added else intake.known)["erased"] += 1


def _take_session(intake: Intake, row: dict[str, Any]) -> None:
    connection, session_id = intake.connection, row["id"]
    if is_erased(connection, session_id):
        intake.left_out["session (erased here)"] += 1
        if row["user_id"] is not None:
            at, known = erased_at(connection, session_id), intake.gone.at
            known[row["user_id"]] = max(at, known.get(row["user_id"], at))
        return
    there = connection.execute(select(sessions).where(sessions.c.id == session_id)).first()
    if there is None:
        times = {name: when(row[name]) for name in ("opened_at", "deleted_at")}
        connection.execute(
            insert(sessions).values(id=session_id, user_id=row["user_id"], newest=row["newest"], **times)
        )
        intake.new["session"] += 1
        return
    if there.user_id != row["user_id"]:
        raise Conflict(
            f"session {session_id!r} belongs to {there.user_id!r} here and to {row['user_id']!r} in the export;"
            f" {NOTHING}: import into a database of its own (--db NEW), or leave {row['user_id'] or 'nobody'}'s"
            " sessions out: export the others, one --user NAME at a time"
        )
    intake.known["session"] += 1
    if row["newest"] not in {None, there.newest}:
        intake.heads[session_id] = row["newest"]


def _move_on(intake: Intake, session_id: str, head: str) -> None:
    """Let a session end where it ends in the export, unless it went another way here."""
    connection, its = intake.connection, sessions.c.id == session_id
    theirs = tree.seq_of(connection, session_id, head)
    newest, deleted_at = connection.execute(select(sessions.c.newest, sessions.c.deleted_at).where(its)).one()
    mine = None if newest is None else tree.seq_of(connection, session_id, newest)
    if theirs is None or (mine is not None and tree.is_behind(connection, theirs, [mine])):
        return
    if deleted_at is not None:
        intake.left_out["session (deleted here)"] += 1
    elif newest is None or (mine is not None and tree.is_behind(connection, mine, [theirs])):
        connection.execute(update(sessions).where(its).values(newest=head))
    else:
        intake.left_out["session (went on here)"] += 1


def _take_memory(intake: Intake, row: dict[str, Any]) -> None:
    connection, memories = intake.connection, user_memories.c
    active = row["valid_to"] is None
    known = memories.uid == row["uid"]
    if active:
        same = (memories.user_id == row["user_id"]) & (memories.digest == digest(row["text"]))
        known |= same & memories.valid_to.is_(None)
    if connection.scalar(select(memories.id).where(known)) is not None:
        intake.known["memory"] += 1
        return
    # A memory is one user's: where one of its sessions was erased, its user was.
    if intake.gone.had(row["user_id"], row["created_at"]) or any(
        intake.is_erased(one["source_session"] or "") for one in (row, *row["revisions"])
    ):
        intake.left_out["memory (erased here)"] += 1
        return
    names = ("uid", "user_id", "namespace", "text", "pinned", "revision", "source_session", "source_turn")
    scope = lexical.scope_token("user", row["user_id"])
    made = connection.execute(
        insert(user_memories).values(
            **{name: row[name] for name in names},
            **{name: when(row[name]) for name in ("valid_from", "valid_to", "created_at", "updated_at")},
            digest=digest(row["text"]),
            scope=scope,
            body=lexical.search_body(row["text"]),
        )
    ).inserted_primary_key
    assert made is not None
    _all(
        connection,
        memory_revisions,
        [one | {"memory_id": made[0], "at": when(one["at"])} for one in row["revisions"]],
    )
    note_change(connection, "memory", made[0], scope=scope, op="put" if active else "drop")
    intake.new["memory"] += 1


def _take_proposal(intake: Intake, row: dict[str, Any]) -> None:
    if row["status"] == "pending" and intake.gone.owned(row):
        intake.left_out["proposal (erased here)"] += 1
        return
    kept = unlinked(row, intake.gone)
    outcome = take_over(intake.page, kept, mark=intake.mark)
    dropped = len(row["excerpts"]) - len(kept["excerpts"])
    if outcome == "new" and dropped:
        intake.left_out["excerpt (erased here)"] += dropped
    (intake.known if outcome == "known" else intake.new)["decision" if outcome == "decided" else "proposal"] += 1


def _take_learning(intake: Intake, row: dict[str, Any]) -> None:
    made_here, retired = verify_learning(intake.page, row, mark=intake.mark, actor=intake.actor)
    (intake.new if made_here else intake.known)["learning"] += 1
    intake.retired.update(retired)


# Built once: what builds a statement takes longer than the database does.
OWNER = select(sessions.c.user_id).where(sessions.c.id == bindparam("session"))
THERE = select(turns.c.id, turns.c.seq, turns.c.body).where(
    turns.c.session_id == bindparam("session"), turns.c.id.in_([bindparam("turn"), bindparam("parent")])
)
ADD = {table: insert(table) for table in (turns, messages, effects, memory_revisions, recalls)}


def _take_turn(intake: Intake, row: dict[str, Any]) -> None:
    connection, session_id = intake.connection, row["session"]
    owner = connection.execute(OWNER, {"session": session_id}).first()
    if owner is None and is_erased(connection, session_id):
        intake.left_out["turn (erased here)"] += 1
        return
    if owner is None or owner.user_id != row["user_id"]:
        raise InvalidInput(f"turn {row['id']!r} is not of whoever has the session {session_id!r}")
    of = {"session": session_id, "turn": row["id"], "parent": row["parent"] or row["id"]}
    there = {found.id: found for found in connection.execute(THERE, of)}
    if row["id"] in there:
        intake.known["turn"] += 1
        return
    above = there.get(row["parent"])
    if row["parent"] is not None and above is None:
        raise InvalidInput(f"turn {row['id']!r} follows {row['parent']!r}, which the export has not brought before")
    said = [(one, *_message(one["data"])) for one in row["messages"]]
    names = ("id", "user_id", "namespace", "status", "reflection", "reflection_attempts", "reflection_error")
    readable = tuple(message for _, _, message in said if message is not None)
    happened = when(row["happened_at"])
    turn = Turn(session_id, readable, id=row["id"], user_id=row["user_id"], happened_at=happened)
    values = {name: row[name] for name in (*names, "checkpoint_id", "usage", "noted")} | {
        "session_id": session_id,
        "parent_seq": above.seq if above else None,
        "happened_at": happened,
        "recorded_at": when(row["recorded_at"]),
        "scope": tree.turn_scope(row["user_id"]),
        "body": tree.body(turn),
        "before": tree.said_in(above.body) if above else "",
    }
    made = connection.execute(ADD[turns], values).inserted_primary_key
    assert made is not None
    _all(
        connection,
        messages,
        [
            {"turn_seq": made[0], "position": position, "data": data}
            | {name: one[name] for name in ("id", "role", "format")}
            for position, (one, data, _) in enumerate(said)
        ],
    )
    done = [{"turn_seq": made[0], "effect": one["effect"], "at": when(one["at"])} for one in row["effects"]]
    _all(connection, effects, done)
    _take_recalls(intake, made[0], row["recalls"])
    if row["status"] == "complete":
        note_change(connection, "turn", made[0], scope=values["scope"], op="put")
    intake.new["turn"] += 1


def _all(connection: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    if rows:
        connection.execute(ADD[table], rows)


def _message(data: Any) -> tuple[str, BaseMessage | None]:
    """Return a message's text as it is stored, and the message where that can be read."""
    text = data if isinstance(data, str) else json.dumps(data, separators=(",", ":"))
    try:
        return text, codec.from_text(text)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, NotImplementedError):
        return text, None


def _take_recalls(intake: Intake, seq: int, rows: list[dict[str, Any]]) -> None:
    names = ("revision", "rank", "score", "fate")
    found = []
    for one in rows:
        row_id = row_of(intake.connection, RECALLED[one["of"]], one["row"])
        if row_id is None:
            intake.left_out["recall (of what is not here)"] += 1
        else:
            found.append(
                {name: one[name] for name in names} | {"turn_seq": seq, "kind": one["of"], "row_id": row_id}
            )
    _all(intake.connection, recalls, found)


def row_of(connection: Connection, table: Table, uid: str) -> int | None:
    """Return the number that a row has here."""
    found: int | None = connection.scalar(select(table.c.id).where(table.c.uid == uid))
    return found


TAKE: dict[str, Callable[[Intake, dict[str, Any]], None]] = {
    "erased": _take_erased,
    "session": _take_session,
    "memory": _take_memory,
    "proposal": _take_proposal,
    "learning": _take_learning,
    "turn": _take_turn,
}
