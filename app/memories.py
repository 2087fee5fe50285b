"""`learngate memories`: what is known about one user."""

from __future__ import annotations

from typing import Annotated

import typer

from learngate.app.lines import given_text
from learngate.app.opening import opened
from learngate.app.options import Db, Json, Limit, RequiredUser, Row
from learngate.app.screen import moment, say, say_json, table

app = typer.Typer(no_args_is_help=True, help="What is known about a user: list, add, forget.")


@app.command("list")
def list_(user: RequiredUser, limit: Limit = 1000, json: Json = False, db: Db = None) -> None:
    """List a user's memories: pinned ones first, then the latest."""
    with opened(db, there=True) as memory:
        found = memory.users.list(user, limit=limit)
    if json:
        say_json(found)
        return
    if not found:
        say(f"nothing is remembered about {user}")
        return
    rows = [(one.id, one.text, "pinned" if one.pinned else "", moment(one.updated_at)) for one in found]
    table(("id", "memory", "", "changed"), rows, wrap=("memory",))


@app.command()
def add(
    text: Annotated[
        str, typer.Argument(metavar="TEXT", help="The fact, as a short sentence; - reads it from stdin.")
    ],
    user: RequiredUser,
    pin: Annotated[bool, typer.Option("--pin", help="Always recall it first.")] = False,
    json: Json = False,
    db: Db = None,
) -> None:
    """Remember a fact about a user; one that is known, word for word, stays as it is."""
    with opened(db) as memory:
        made = memory.users.remember(user, given_text(text), pinned=pin)
    if json:
        say_json(made)
    else:
        say(f"memory {made.id} of {user} · {made.text}")


@app.command()
def forget(memory_id: Row, user: RequiredUser, json: Json = False, db: Db = None) -> None:
    """Stop recalling a memory."""
    with opened(db, there=True) as memory:
        gone = memory.users.forget(user, memory_id)
    if json:
        say_json(gone)
    else:
        say(f"forgot memory {gone.id} of {user} · {gone.text}")
