"""Session memory: conversations as trees of turns, recorded losslessly and exactly once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from langchain_core.messages import BaseMessage
from sqlalchemy import Connection, bindparam, func, insert, or_, select, update

from learngate.stores import codec, lexical, tree
from learngate.stores.database import Database
from learngate.stores.dates import Span, asks_only_when, named_days
from learngate.stores.erasing import erase_turns, is_erased
from learngate.stores.errors import InvalidInput, NotAllowed, NotFound
from learngate.stores.evidence import Candidate, weighed
from learngate.stores.fusion import Fused
from learngate.stores.guard import AnyText, Count, Name, guarded
from learngate.stores.hybrid import HybridSearch
from learngate.stores.lists import among, parts
from learngate.stores.meaning import Hits
from learngate.stores.prepared import Prepared
from learngate.stores.records import ROOT, ReflectionStatus, Session, Turn, TurnHit, now
from learngate.stores.tables import messages, proposals, sessions, turns
from learngate.stores.text import check_text

CANDIDATES = 100
"""How many turns each leg of a search brings; twice as many find no more, and take twice as long."""
SPOKEN = 1_000
"""Characters of a turn in which search looks for who speaks: of a long one the beginning is enough."""
MAX_ATTEMPTS = 5
"""A reflection that failed this often is left alone."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Whose a session is, and its newest turn (`""` before the first)."""

    owner: str | None
    newest: str


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a message stands in its session's tree.

    `known`: `"new"` (no recorded turn has this id), `"behind"` (the head or one of its ancestors is this
    very turn: it was delivered before) or `"elsewhere"` (the id belongs to another branch).
    """

    head: str
    known: Literal["new", "behind", "elsewhere"]
    kept: tuple[str, ...]


@guarded
class Sessions:
    """Every conversation of a database. No method crosses from one user's session into another's."""

    def __init__(
        self, database: Database, search: HybridSearch, *, forget_thread: Callable[[str], None] | None = None
    ) -> None:
        self._db = database
        self._search = search
        self._forget_thread = forget_thread

    # -- whose it is -----------------------------------------------------------------------------------

    def claim(self, session_id: Name, user_id: Name | None) -> Standing:
        """Open a session for a user, or make sure that an open one is theirs. Running twice is harmless.

        Raises:
            NotAllowed: it belongs to somebody else, or to nobody while `user_id` is somebody.
        """
        with self._db.look() as connection:
            standing = _standing(connection, session_id)
        if standing is None:
            with self._db.write() as connection:
                standing = _open(connection, session_id, user_id)
        if standing.owner != user_id:
            raise NotAllowed(_refusal(session_id, user_id))
        return standing

    def standing(self, session_id: str) -> Standing | None:
        """Return whose a session is; `None` when nobody has opened it."""
        with self._db.look() as connection:
            return _standing(connection, session_id)

    # -- recording -------------------------------------------------------------------------------------

    def append(self, turn: Turn) -> Turn:
        """Record a finished turn, or one of the past, exactly once, and return it as recorded.

        A turn whose id the session already has is not recorded again: the recorded one comes back.

        Raises:
            NotAllowed: the session belongs to somebody else.
            NotFound: the session has no turn `turn.parent`.
            InvalidInput: an id that cannot be stored, a turn that does not begin with a human message, or one
                that names a row twice as recalled.
        """
        return self.record(turn) or self.get(turn.session_id, turn.id)

    def record(self, turn: Turn) -> Turn | None:
        """Record a turn as `append` does; return the one that the session has of its id already, if it has one.

        Raises:
            NotAllowed, NotFound, InvalidInput: as `append`.
        """
        turn = replace(turn, messages=tuple(codec.whole(message) for message in turn.messages))
        if not turn.messages or turn.messages[0].type != "human":
            raise InvalidInput("a turn begins with the user's message: put a HumanMessage first")
        if len({(one.kind, one.id) for one in turn.recalled}) < len(turn.recalled):
            raise InvalidInput("a memory or a learning is recalled once for a turn: name each one once")
        with self._db.write() as connection:
            around = tree.around(connection, turn)
            if around is None:
                _open(connection, turn.session_id, turn.user_id)
                around = tree.around(connection, turn)
                assert around is not None
            if around.user_id != turn.user_id:
                raise NotAllowed(_refusal(turn.session_id, turn.user_id))
            if around.there is None:
                tree.record(connection, turn, around)
                return None
        return self.get(turn.session_id, turn.id)

    # -- reading ---------------------------------------------------------------------------------------

    def get(self, session_id: str, turn_id: str) -> Turn:
        """Return one turn.

        Raises:
            NotFound: the session has no such turn.
        """
        found = self.turns(session_id, [turn_id])
        if not found:
            raise NotFound(f"session {session_id!r} has no turn {turn_id!r}: see `learngate sessions show`")
        return found[0]

    def turns(self, session_id: str, ids: Sequence[str], *, recalled: bool = True) -> list[Turn]:
        """Return the turns with these ids, in their order; ids that the session does not have are skipped.

        Without `recalled` they come without what was recalled for them, in half the time.
        """
        if not ids:
            return []
        by_id: dict[str, Turn] = {}
        with self._db.read() as connection:
            for part in parts(ids):
                found = tree.named(connection, session_id, part, recalled=recalled)
                by_id |= {turn.id: turn for turn in found.values()}
        return [by_id[turn_id] for turn_id in ids if turn_id in by_id]

    def recorded(self, session_id: str, ids: Sequence[str]) -> dict[str, BaseMessage]:
        """Return the messages of a session that have these ids, as they were recorded."""
        if not ids:
            return {}
        query = (
            select(messages.c.id, messages.c.data)
            .join(turns, turns.c.seq == messages.c.turn_seq)
            .where(turns.c.session_id == session_id)
        )
        with self._db.read() as connection:
            return {
                row.id: codec.recorded(row.data, session=session_id)
                for part in parts(ids)
                for row in connection.execute(query.where(messages.c.id.in_(part)))
            }

    def window(
        self, session_id: str, *, turns: Count = 5, head: str | None = None, recalled: bool = True
    ) -> list[Turn]:
        """Return the last completed turns on one branch, oldest first.

        `head` names the branch's last turn; `None` takes the session's newest, `""` an empty branch. `recalled`
        is as in `turns`.
        """
        with self._db.read() as connection:
            rows = tree.chain(connection, session_id, head, turns, whole=True)
            found = tree.turns_of(connection, rows[::-1], recalled=recalled)
        return [*found.values()]

    def place(self, session_id: str, *, head: str | None, message_id: str, keep: Count) -> Placement:
        """Say where a message stands: the head it would follow, and whether it was delivered before.

        `kept` are the ids of the messages of the last `keep` turns up to the head, oldest first.
        """
        with self._db.read() as connection:
            chain = tree.chain(connection, session_id, head, keep)
            seqs = [row.seq for row in chain]
            owned = [row.id for part in parts(sorted(seqs)) for row in _IDS.all(connection, {"seqs": part})]
            top = chain[0].id if chain else ROOT
            seq = tree.seq_of(connection, session_id, message_id)
            known: Literal["new", "behind", "elsewhere"] = "new"
            if seq is not None:
                behind = seq in seqs or tree.is_behind(connection, seq, seqs)
                known = "behind" if behind else "elsewhere"
        return Placement(top, known, tuple(i for i in owned if i))

    def show(self, session_id: str) -> Session:
        """Return one session.

        Raises:
            NotFound: there is none of this id.
        """
        found = self._sessions(sessions.c.id == session_id, 1)
        if not found:
            raise NotFound(f"there is no session {session_id!r}: see `learngate sessions list`")
        return found[0]

    def _sessions(self, condition: Any, limit: int) -> list[Session]:
        opening = turns.alias("opening")
        first = select(opening.c.body).where(opening.c.session_id == sessions.c.id)
        first = first.order_by(opening.c.seq).limit(1)
        last = func.max(turns.c.happened_at, type_=turns.c.happened_at.type)
        query = (
            select(
                sessions.c.id,
                sessions.c.user_id,
                sessions.c.opened_at,
                func.count(turns.c.seq).label("turns"),
                last.label("last_at"),
                first.scalar_subquery().label("body"),
            )
            .outerjoin(turns, turns.c.session_id == sessions.c.id)
            .where(condition, sessions.c.deleted_at.is_(None))
            .group_by(sessions.c.id)
            .order_by(func.coalesce(last, sessions.c.opened_at).desc())
            .limit(limit)
        )
        with self._db.read() as connection:
            rows = connection.execute(query).all()
        return [
            Session(row.id, row.user_id, row.opened_at, row.turns, row.last_at, _title(row.body)) for row in rows
        ]

    def search(self, query: str, *, user_id: str | None, k: Count = 10, beside: bool = False) -> Hits[TurnHit]:
        """Return up to `k` of a user's past turns that fit `query`, best first.

        A turn is found by its words and its meaning, those of the turn before it included, and gains by what
        stands beside it, by its session, by a speaker whom the query names and by a day that it names
        ("yesterday", "in May 2023"). A query that names nothing but a day finds what was said on it, the newest
        first. With `beside` each hit brings the turns before and after it, too.
        """
        asked = check_text(query, what="the query", limit=10_000)
        if not lexical.content_words(asked) or k == 0:
            return Hits()
        scope = tree.turn_scope(user_id)
        spans = named_days(asked, now())
        ranked: Hits[Fused] = Hits()
        if not (spans and asks_only_when(asked)):
            ranked = self._search("turn", [scope], asked, k=max(k, CANDIDATES), floor=False)
        near = (row.behind(ranked.floor) for row in ranked)
        found = {row.id: row for row in near if row.why != "dense" or row.dense >= ranked.floor}
        with self._db.read() as connection:
            dated = [seq for span in spans for seq in _within(connection, scope, span)]
            candidates = _candidates(connection, scope, dict.fromkeys(dated, 0.0) | _scores(found))
            scores = weighed(candidates, asked, spans)
            best = sorted(scores, key=lambda seq: (-scores[seq], -seq))[:k]
            before, after = tree.beside(connection, best) if beside else ({}, {})
            loaded: dict[int, Turn] = {}
            for part in parts({*best, *before.values(), *after.values()}):
                loaded |= tree.load(connection, tree.WHOLE.where(turns.c.seq.in_(part), turns.c.scope == scope))
        hits = [
            TurnHit(
                loaded[seq],
                scores[seq],
                found[seq].why if seq in found else "when",
                before=loaded.get(before.get(seq, 0)),
                after=loaded.get(after.get(seq, 0)),
            )
            for seq in best
            if seq in loaded
        ]
        return Hits(hits, note=ranked.note, floor=ranked.floor)

    # -- deleting --------------------------------------------------------------------------------------

    def delete(self, session_id: str, *, user_id: str | None = None) -> int:
        """Delete a session's turns, messages, excerpts and checkpoints; return how many turns went.

        The empty session keeps its owner, so that nobody else can open it. With `user_id` it is deleted
        only if it is theirs.

        Raises:
            NotFound: there is none of this id, or it is somebody else's.
        """
        session = self.show(session_id)
        if user_id is not None and session.user_id != user_id:
            raise NotFound(
                f"{user_id!r} has no session {session_id!r}: see `learngate sessions list --user {user_id}`"
            )
        if self._forget_thread is not None:
            self._forget_thread(session_id)
        with self._db.write() as connection:
            # A rationale may quote what was said.
            connection.execute(
                update(proposals).where(proposals.c.session_id == session_id).values(rationale="", user_id=None)
            )
            gone = erase_turns(connection, [session_id])["turns"]
            connection.execute(
                update(sessions).where(sessions.c.id == session_id).values(deleted_at=now(), newest=None)
            )
        return gone

    # -- reflection ------------------------------------------------------------------------------------

    def unreflected(self, *, limit: Count = 100) -> list[Turn]:
        """Return turns whose reflection is pending or failed, or whose tools' notes wait, the oldest first."""
        with self._db.read() as connection:
            found = tree.load(
                connection,
                tree.WHOLE.where(
                    or_(turns.c.reflection.in_(["pending", "failed"]), turns.c.noted.is_not(None)),
                    turns.c.status == "complete",
                    turns.c.reflection_attempts < MAX_ATTEMPTS,
                )
                .order_by(turns.c.reflection_attempts, turns.c.seq)
                .limit(limit),
            )
        return [*found.values()]

    def mark_reflection(
        self, session_id: str, turn_id: str, status: ReflectionStatus, *, error: AnyText | None = None
    ) -> None:
        """Note how a turn's reflection ended, with the reason where it failed."""
        # A mark that a power cut takes is made again: the turn is reflected on once more.
        with self._db.derive() as connection:
            tree.mark(connection, session_id, turn_id, status, error)

    def settle(self, session_id: str, turn_id: str, *, reflected: bool) -> None:
        """Note that nothing of a turn waits to take effect any more; `reflected` marks its reflection done."""
        with self._db.write() as connection:
            tree.settled(connection, session_id, turn_id)
            if reflected:
                tree.reflected(connection, session_id, turn_id)

    # `list` stands last, because below it the word means this method.
    def list(self, *, user_id: str | None, limit: Count = 100) -> list[Session]:
        """Return a user's sessions, the latest first; `None` lists those that were opened by nobody."""
        return self._sessions(sessions.c.user_id.is_not_distinct_from(user_id), limit)


def _within(connection: Connection, scope: str, span: Span) -> Sequence[int]:
    """Return a user's newest turns of a span of time."""
    start, end = span
    mine = turns.c.scope == scope, turns.c.status == "complete"
    query = select(turns.c.seq).where(*mine, turns.c.happened_at >= start, turns.c.happened_at < end)
    return connection.scalars(query.order_by(turns.c.happened_at.desc()).limit(CANDIDATES)).all()


def _scores(found: Mapping[int, Fused]) -> dict[int, float]:
    return {seq: row.score for seq, row in found.items()}


_CANDIDATES = select(
    turns.c.seq,
    turns.c.parent_seq,
    turns.c.session_id,
    turns.c.happened_at,
    func.substr(turns.c.body, 1, SPOKEN).label("body"),
).where(among(turns.c.seq, "seqs"), turns.c.scope == bindparam("scope"))


def _candidates(connection: Connection, scope: str, scores: Mapping[int, float]) -> list[Candidate]:
    return [
        Candidate(seq, parent_seq, session_id, happened_at, body, scores[seq])
        for part in parts(scores)
        for seq, parent_seq, session_id, happened_at, body in connection.execute(
            _CANDIDATES, {"seqs": part, "scope": scope}
        )
    ]


_IDS = Prepared(
    select(messages.c.id)
    .where(among(messages.c.turn_seq, "seqs"))
    .order_by(messages.c.turn_seq, messages.c.position)
)
_STANDING = Prepared(select(sessions.c.user_id, sessions.c.newest).where(sessions.c.id == bindparam("session_id")))


def _standing(connection: Connection, session_id: str) -> Standing | None:
    row = _STANDING.first(connection, {"session_id": session_id})
    return None if row is None else Standing(row.user_id, row.newest or ROOT)


def _open(connection: Connection, session_id: str, user_id: str | None) -> Standing:
    """Return whose a session is; one that nobody has opened is the user's from now on."""
    standing = _standing(connection, session_id)
    if standing is None:
        connection.execute(insert(sessions).values(id=session_id, user_id=user_id, opened_at=now()))
        if is_erased(connection, session_id):
            raise NotAllowed(f"session {session_id!r} was erased with its user: begin another, under a new id")
        standing = Standing(user_id, ROOT)
    return standing


def _title(body: str | None) -> str:
    """Return the first words of a turn, of its `body`: the line after its date, without the speaker."""
    words = (body or "").split("\n", 2)[1:2]
    return words[0].split(": ", 1)[-1][:80] if words else ""


def _refusal(session_id: str, user_id: str | None) -> str:
    if user_id is None:
        return f"session {session_id!r} belongs to somebody: pass context=Context(user_id=…) of whoever opened it"
    return f"session {session_id!r} does not belong to {user_id!r}: use a session of theirs, or a new id"
