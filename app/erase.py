"""`learngate erase`: everything of one user, with a receipt of what went and what could not be reached."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from learngate.app.lines import ask_line
from learngate.app.opening import opened, person
from learngate.app.options import Db, Json, RequiredUser, Reviewer, Yes
from learngate.app.screen import counted, flat, note, on_terminal, say, say_json, table
from learngate.app.status import DONE, REFUSED


class Learned(StrEnum):
    """What becomes of the learnings that came of the user's turns."""

    keep = "keep"
    retire = "retire"


def erase(
    user: RequiredUser,
    learned: Annotated[
        Learned,
        typer.Option(
            "--learnings", help="What becomes of approved learnings from their turns: their link goes in any case."
        ),
    ] = Learned.keep,
    reviewer: Reviewer = None,
    yes: Yes = False,
    json: Json = False,
    db: Db = None,
) -> None:
    """Erase a user, and say what went and what could not be reached.

    Memories, sessions, quotes, checkpoints, and what the disk still holds of them. It cannot be undone. Approved
    learnings keep their text without a link. Running it again is harmless.

    Exit status 1 says that free pages or the write-ahead log could not be cleared: run it again.
    """
    with opened(db) as memory:
        if not yes:
            _ask(user, json=json)
        retires = person(reviewer, None) if learned is Learned.retire else None
        receipt = memory.erase(user, learnings=learned.value, actor=retires)
    if json:
        say_json(receipt)
    else:
        say(f"erased {flat(user)}")
        table(("what", "how many"), [(what, number) for what, number in receipt.erased.items() if number])
        if not any(receipt.erased.values()):
            say("there was nothing of this user")
        if receipt.learnings:
            listed = ", ".join(map(str, receipt.learnings))
            fate = f"{counted(len(receipt.retired), 'of them', 'of them')} retired" if receipt.retired else "kept"
            say(f"learnings that keep approved text of theirs, without a link: {listed} ({fate})")
        say("not reached, and yours to look after:")
        for one in receipt.unreached:
            say(f"- {one}")
    raise typer.Exit(DONE if receipt.scrubbed else REFUSED)


def _ask(user: str, *, json: bool) -> None:
    if json or not on_terminal():
        raise typer.BadParameter("there is nobody to ask: add --yes", param_hint="erase")
    answer = ask_line(f"erase everything of {flat(user)}? It cannot be undone. [y/N] ▸ ")
    if answer.strip().casefold() not in {"y", "yes"}:
        note("nothing was erased")
        raise typer.Exit(REFUSED)
