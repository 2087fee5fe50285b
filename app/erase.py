"""`learngate erase`: everything of one user, with a receipt of what went and what could not be reached."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from learngate.app.lines import ask_line, nobody_to_ask
from learngate.app.opening import opened, person
from learngate.app.options import Db, Json, RequiredUser, Reviewer, Yes
from learngate.app.screen import after, counted, flat, note, on_terminal, say, say_json, table
from learngate.app.status import DONE, REFUSED, STOPPED, Refused

if TYPE_CHECKING:
    from learngate.stores.erasing import Receipt


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
    learnings keep their text without a link. Running it again is harmless, and clears what the disk still holds.

    Exit status 1 says that nothing of the user is here, or that free pages or the write-ahead log could not be
    cleared: then run it again.
    """
    if not yes and (json or not on_terminal()):
        raise nobody_to_ask()
    with opened(db, there=True) as memory:
        from learngate.stores.erasing import held

        before = held(memory.database, user)
        if not yes and any(before.values()):
            _ask(user, before)
        retires = person(reviewer, None) if learned is Learned.retire else None
        try:
            receipt = memory.erase(user, learnings=learned.value, actor=retires)
        except KeyboardInterrupt:
            _stopped(user, before, held(memory.database, user))
            raise typer.Exit(STOPPED) from None
    if not any(receipt.erased.values()):
        left = "what the disk holds of erased rows is cleared" if receipt.scrubbed else receipt.unreached[0]
        raise Refused(f"nothing of {flat(user)} is here: nothing was erased; {left}")
    with after(f"{flat(user)} was erased" + ("" if receipt.scrubbed else f", except {receipt.unreached[0]}")):
        if json:
            say_json(receipt)
        else:
            _tell(receipt)
    raise typer.Exit(DONE if receipt.scrubbed else REFUSED)


def _tell(receipt: Receipt) -> None:
    say(f"erased {flat(receipt.user_id)}")
    table(("what", "how many"), [(what, number) for what, number in receipt.erased.items() if number])
    if receipt.learnings:
        listed = ", ".join(map(str, receipt.learnings))
        fate = f"{counted(len(receipt.retired), 'of them', 'of them')} retired" if receipt.retired else "kept"
        say(f"learnings that keep approved text of theirs, without a link: {listed} ({fate})")
    say("not reached, and yours to look after:")
    for one in receipt.unreached:
        say(f"- {one}")


def _stopped(user: str, before: dict[str, int], now: dict[str, int]) -> None:
    """Say what Ctrl-C left: the rows go in one transaction, and the disk is cleared after it."""
    if any(now.values()):
        note(f"stopped: nothing of {flat(user)} was erased, except perhaps checkpoints of runs; run it again")
    elif any(before.values()):
        note(f"stopped: the rows of {flat(user)} are gone, and the disk is not scrubbed yet: run it again")
    else:
        note(f"stopped: nothing of {flat(user)} is here, and the disk may not be scrubbed yet: run it again")


def _ask(user: str, there: dict[str, int]) -> None:
    say(f"of {flat(user)} there is:")
    table(("what", "how many"), [(what, number) for what, number in there.items() if number])
    answer = ask_line(f"erase everything of {flat(user)}? It cannot be undone. [y/N] ▸ ")
    if answer.strip().casefold() not in {"y", "yes"}:
        note("nothing was erased")
        raise typer.Exit(REFUSED)
