"""`learngate sessions`: conversations, each seen only by whoever opened it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from learngate.app.lines import ask_line, nobody_to_ask
from learngate.app.opening import opened
from learngate.app.options import Db, Embedder, Json, Limit, User, Yes
from learngate.app.screen import (
    ACCENT,
    busy,
    counted,
    flat,
    indented,
    moment,
    note,
    on_terminal,
    plain,
    say,
    say_json,
    table,
    visible,
)
from learngate.app.status import REFUSED

if TYPE_CHECKING:
    from learngate.stores import Memory, Session, Turn

app = typer.Typer(
    no_args_is_help=True,
    help="Conversations: list, show, search, delete.\n\nWithout --user they are those that nobody's name is on.",
)

Id = Annotated[str, typer.Argument(metavar="ID", show_default=False)]


@app.command("list")
def list_(user: User = None, limit: Limit = 100, json: Json = False, db: Db = None) -> None:
    """List a user's sessions, the latest first."""
    with opened(db, there=True) as memory:
        found = memory.sessions.list(user_id=_checked(user), limit=limit)
    if json:
        say_json(found)
        return
    _say_whose(user)
    if not found:
        say("no sessions")
        return
    rows = [(one.id, one.turns, moment(one.last_at or one.opened_at), one.title) for one in found]
    table(("id", "turns", "last", "begins with"), rows, cut=("begins with",))


@app.command()
def show(
    session: Id,
    user: User = None,
    limit: Annotated[int, typer.Option("--turns", min=1, max=100_000, metavar="N", help="The last N.")] = 20,
    json: Json = False,
    db: Db = None,
) -> None:
    """Show the last turns of a session, back from its newest."""
    with opened(db, there=True) as memory:
        found = _own(memory, session, user)
        turns = memory.sessions.window(session, turns=limit)
    if json:
        say_json(plain(found) | {"newest_turns": [_as_json(turn) for turn in turns]})
        return
    whose = f" · {found.user_id}" if found.user_id else ""
    say(Text.assemble((flat(found.id), "bold"), f"{whose} · {counted(found.turns, 'turn')}"))
    for turn in turns:
        _say_turn(turn)
    if len(turns) < found.turns:
        more = counted(found.turns - len(turns), "turn")
        if len(turns) == limit:
            note(f"\n{more} more, earlier or on other branches: --turns N")
        else:
            note(f"\n{more} on other branches: `learngate sessions search` finds them")


@app.command()
def search(
    query: Annotated[str, typer.Argument(metavar="QUERY", show_default=False)],
    user: User = None,
    limit: Limit = 10,
    embedder: Embedder = None,
    json: Json = False,
    db: Db = None,
) -> None:
    """Search a user's past turns, by meaning, words, speakers and dates ("yesterday", "in May 2026")."""
    with opened(db, there=True, embedder=embedder) as memory, busy("searching …"):
        hits = memory.sessions.search(query, user_id=_checked(user), k=limit)
    if hits.note:
        note(flat(hits.note))
    if json:
        say_json([_as_json(hit.turn) | {"score": hit.score, "why": hit.why} for hit in hits])
        return
    _say_whose(user, does="searches")
    if not hits:
        say("nothing that was said fits that")
        return
    rows = [
        (hit.turn.session_id, moment(hit.turn.happened_at), f"{hit.score:.2f}", hit.why, hit.turn.question)
        for hit in hits
    ]
    table(("session", "when", "score", "why", "message"), rows, cut=("message",))


@app.command()
def delete(session: Id, user: User = None, yes: Yes = False, json: Json = False, db: Db = None) -> None:
    """Delete a session: its turns, messages, quoted excerpts and checkpoints. What was learned from it stays."""
    with opened(db, there=True) as memory:
        found = _own(memory, session, user)
        if not yes:
            if json or not on_terminal():
                raise nobody_to_ask()
            answer = ask_line(f"delete {flat(session)} with its {counted(found.turns, 'turn')}? [y/N] ▸ ")
            if answer.strip().casefold() not in {"y", "yes"}:
                note("nothing was deleted")
                raise typer.Exit(REFUSED)
        gone = memory.sessions.delete(session, user_id=found.user_id)
    if json:
        say_json({"session": session, "deleted_turns": gone})
    else:
        say(f"deleted {flat(session)} · {counted(gone, 'turn')}")


def _checked(user: str | None) -> str | None:
    from learngate.stores.text import check_name

    return None if user is None else check_name(user, what="--user")


def _own(memory: Memory, session_id: str, user: str | None) -> Session:
    """Return a session if it is the user's; somebody else's is not found, as if there were none.

    Raises:
        NotFound: it is not there, or not theirs.
    """
    from learngate.stores import NotFound
    from learngate.stores.text import check_name

    check_name(session_id, what="the session id")
    try:
        found = memory.sessions.show(session_id)
    except NotFound:
        found = None
    if found is None or found.user_id != _checked(user):
        whose = f"{user!r} has no session" if user is not None else "nobody's sessions have no"
        hint = "" if user is not None else "; name its user with --user"
        raise NotFound(f"{whose} {session_id!r}: see `learngate sessions list`{hint}")
    return found


def _say_whose(user: str | None, *, does: str = "lists") -> None:
    if user is None:
        note(f"sessions that were opened by nobody; --user NAME {does} somebody's")


def _say_turn(turn: Turn) -> None:
    say()
    note(moment(turn.happened_at) + ("" if turn.status == "complete" else f" · {turn.status}"))
    say(Text.assemble((f"{turn.user_id or ''} ▸ ".lstrip(), ACCENT), visible(turn.question)))
    for message in turn.messages[1:]:
        if message.text:
            indented(visible(message.text), 4, style="dim" if message.type == "tool" else "")
        for call in getattr(message, "tool_calls", ()):
            indented(f"asks {call['name']} {flat(str(call['args']), 100)}", 4, style="dim")


def _as_json(turn: Turn) -> dict[str, Any]:
    found: dict[str, Any] = plain(
        {name: getattr(turn, name) for name in ("session_id", "id", "parent", "user_id", "namespace", "status")}
    )
    return found | {
        "happened_at": turn.happened_at.isoformat(),
        "reflection": turn.reflection,
        "usage": turn.usage,
        "recalled": plain(turn.recalled),
        "messages": [
            {"role": message.type, "text": message.text, "tool_calls": getattr(message, "tool_calls", [])}
            for message in turn.messages
        ],
    }
