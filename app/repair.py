"""The part of `learngate doctor` that mends: what is derived, what cannot be read, what a damaged file holds."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from learngate.app.doctor import Finding
from learngate.app.opening import database_url, suggested
from learngate.app.screen import counted, note, say, say_json, table

if TYPE_CHECKING:
    from learngate.stores import Memory
    from learngate.stores.database import Database
    from learngate.stores.quarantine import Mended

FEW = 5
"""So many ids a line names; the quarantine lists all of them."""


def repairs(memory: Memory, option: str, news: Callable[[str], None]) -> Iterator[Finding]:
    """Mend what can be mended, and say what was done; a file with damaged pages is only read."""
    from learngate.stores.repair import repair
    from learngate.stores.upkeep import integrity, of_a_row, of_an_index

    news("looking at every page …")
    damage = [said for said in integrity(memory.database) if not (of_an_index(said) or of_a_row(said))]
    if damage:
        yield from salvaged(memory.database, Path(memory.database.name), damage, option, news)
        return
    nothing = True
    try:
        for one in repair(memory.database, memory.vectors, _counting(news, "mending")):
            nothing = False
            news(f"mended: {one.said} …")
            yield _finding(one)
    except KeyboardInterrupt:
        again = suggested("doctor", "--repair", db=option)
        note(f"stopped: each step is done as a whole or not at all; go on with {again}")
        raise
    if nothing:
        yield Finding("repair", "ok", "there was nothing to mend")


def wrong_rows(memory: Memory, option: str, news: Callable[[str], None]) -> Iterator[Finding]:
    """Say what a repair would mend, and write nothing."""
    from learngate.stores.repair import faults

    todo = f"mend it: {suggested('doctor', '--repair', db=option)}"
    found = list(faults(memory.database, memory.vectors, _counting(news, "looking at rows")))
    for one in found:
        yield Finding("content", "broken", f"not in order: {_said(one)}", todo)
    if not found:
        yield Finding("content", "ok", "every row can be read, and what is derived from it fits")


def apart(memory: Memory, option: str) -> Iterator[Finding]:
    """Say what is in the quarantine, where anything is."""
    from learngate.stores.quarantine import count_apart

    counts = count_apart(memory.database)
    if counts:
        said = ", ".join(f"{number:,} of {name}" for name, number in counts.items())
        todo = f"look at it: {suggested('doctor', '--quarantine', db=option)}; erasing a user empties it of theirs"
        yield Finding("quarantine", "look", f"repairs have set apart {said}", todo)


def show_quarantine(memory: Memory, *, json: bool) -> None:
    """List what repairs have set apart; as JSON with the whole rows."""
    from learngate.stores.quarantine import set_apart

    rows = set_apart(memory.database)
    if json:
        say_json(rows)
    elif rows:
        lines = [(one.id, one.source, one.user_id or "", one.why, one.row) for one in rows]
        table(("id", "table", "user", "why", "row"), lines, cut=("row", "why", "user"))
    else:
        say("nothing was set apart")


def _counting(news: Callable[[str], None], what: str) -> Callable[[int], None]:
    done = 0

    def looked(rows: int) -> None:
        nonlocal done
        done += rows
        news(f"{what} … {done:,}")

    return looked


def _said(one: Mended) -> str:
    more = f" and {one.count - FEW:,} more" if one.rows and one.count > FEW else ""
    which = f": {', '.join(one.rows[:FEW])}{more}" if one.rows else ""
    return f"{one.said}{f' ({one.count:,})' if one.count > 1 else ''}{which}"


def _finding(one: Mended, where: str = "") -> Finding:
    if not one.done:
        return Finding("repair", "broken", f"{where}{_said(one)}", "restore a backup, or look at it by hand")
    if one.lost:
        return Finding("repair", "look", f"{where}{_said(one)}", "", lost=True)
    return Finding("repair", "ok", f"{where}{_said(one)}")


def cut_off(db: str | None, option: str, reason: str, news: Callable[[str], None]) -> Iterator[Finding]:
    """Save what can be read of a file that cannot be opened; nothing where it is none."""
    from sqlalchemy import make_url

    from learngate.stores import LearngateError
    from learngate.stores.memory import DEFAULT_URL
    from learngate.stores.salvage import filled_up

    url = make_url(database_url(db) or DEFAULT_URL)
    file = Path(str(url.database))
    if url.get_backend_name() != "sqlite" or not file.is_file():
        return
    try:
        with filled_up(file) as database:
            yield from salvaged(database, file, [reason], option, news)
    except LearngateError as error:
        yield Finding("repair", "broken", str(error), BACK)


BACK = "go back to a backup: end what uses the database, keep the damaged file, put the backup in its place"


def salvaged(
    database: Database, file: Path, damage: list[str], option: str, news: Callable[[str], None]
) -> Iterator[Finding]:
    """Save what can be read into a new file, mend that, and say both ways on."""
    from learngate.stores import LearngateError, open_memory
    from learngate.stores.repair import repair
    from learngate.stores.salvage import salvage

    saved = file.with_name(f"{file.name}.saved")
    said = "; ".join(damage[:3]).replace(": restore a backup, or see `learngate doctor`", "")
    yield Finding("pages", "broken", said, BACK)
    mended: list[Mended] = []

    def prepare(path: Path) -> None:
        with open_memory(database_url(str(path))) as made:
            made.checkpointer()

    def finish(path: Path) -> None:
        with open_memory(database_url(str(path))) as made:
            mended.extend(repair(made.database, made.vectors, _counting(news, "mending what was saved")))

    try:
        news("saving what can be read …")
        counts = salvage(database, saved, prepare=prepare, finish=finish)
    except LearngateError as error:
        yield Finding("repair", "broken", str(error), BACK)
        return
    except KeyboardInterrupt:
        note(f"stopped: nothing was saved, and {file.name} is as it was")
        raise
    torn = ", ".join(name for name, (_, whole) in counts.items() if not whole)
    rows = sum(count for count, _ in counts.values())
    lost = f"; not all of {torn} could be read" if torn else ""
    here = f" --db {shlex.quote(str(saved))}"
    take = f"{suggested('export', 'FILE', db=here)}, {suggested('import', 'FILE', db=option)}"
    ways = (
        f"with a backup in the place of {file.name}, take what is newer from it: {take};"
        f" without one, look at it, then put it in the place of {file.name}, its key file beside it"
    )
    found = f"{counted(rows, 'row')} that can be read are saved in {saved}{lost}"
    yield Finding("repair", "look", found, ways, lost=True)
    for one in mended:
        yield _finding(one, "in the saved file: ")
