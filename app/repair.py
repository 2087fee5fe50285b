"""The part of `learngate doctor` that mends: what is derived, what cannot be read, what a damaged file holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from learngate.app.doctor import Finding
from learngate.app.opening import database_url

if TYPE_CHECKING:
    from learngate.stores import Memory


def repairs(memory: Memory, news: Callable[[str], None]) -> Iterator[Finding]:
    """Mend what can be mended, and say what was done; a file with damaged pages is only read."""
    from learngate.stores.repair import repair
    from learngate.stores.upkeep import integrity, of_a_row, of_an_index

    news("looking at every page …")
    damage = [said for said in integrity(memory.database) if not (of_an_index(said) or of_a_row(said))]
    if damage:
        yield from _salvaged(memory, damage, news)
        return
    nothing = True
    for one in repair(memory.database, memory.vectors):
        nothing = False
        news(f"mended: {one.said} …")
        how_many = f" ({one.count:,})" if one.count > 1 else ""
        todo = "" if one.done else "restore a backup, or look at it by hand"
        yield Finding("repair", "ok" if one.done else "broken", f"{one.said}{how_many}", todo)
    if nothing:
        yield Finding("repair", "ok", "there was nothing to mend")


def _salvaged(memory: Memory, damage: list[str], news: Callable[[str], None]) -> Iterator[Finding]:
    """Save what can be read into a new file, mend that, and say both ways on."""
    from learngate.stores import LearngateError, open_memory
    from learngate.stores.repair import repair
    from learngate.stores.salvage import salvage

    file = Path(memory.database.name)
    saved = file.with_name(f"{file.name}.saved")
    back = (
        "go back to a backup: end what uses the database, keep the damaged file, put the backup in its place;"
        " what is newer comes from the saved file: `learngate export` from it, `learngate import`"
    )
    yield Finding("pages", "broken", "; ".join(damage[:3]), back)

    def prepare(path: Path) -> None:
        with open_memory(database_url(str(path))) as made:
            made.checkpointer()

    try:
        news("saving what can be read …")
        counts = salvage(memory.database, saved, prepare=prepare)
        with open_memory(database_url(str(saved))) as other:
            mended = [*repair(other.database, other.vectors)]
    except LearngateError as error:
        yield Finding("repair", "broken", str(error), back)
        return
    torn = ", ".join(name for name, (_, whole) in counts.items() if not whole)
    rows = sum(count for count, _ in counts.values())
    lost = f"; not all of {torn} could be read" if torn else ""
    without = f"without a backup, look at it, then put it in the place of {file.name}, its key file beside it"
    yield Finding("repair", "look", f"{rows:,} rows that can be read are saved in {saved}{lost}", without)
    for one in mended:
        yield Finding("repair", "ok" if one.done else "broken", f"in the saved file: {one.said} ({one.count:,})")
