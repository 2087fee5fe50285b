"""Repair: what is derived is made anew, what cannot be read or cannot stand is set apart, and each step is told.

What was learned is not reworded: where a learning and its newest revision differ, the one that fits the recorded
digest stands; what no decision stands behind any more goes to the quarantine, and waits at the gate again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sqlalchemy import delete, select
from sqlalchemy import update as put

from learngate.stores import upkeep
from learngate.stores.database import Database
from learngate.stores.derived import derived_columns, told_changes, vectors_in_use
from learngate.stores.embeddings import Vectors
from learngate.stores.errors import StoreError
from learngate.stores.garbled import ill_stored, times, unknown, unreadable
from learngate.stores.quarantine import Mended, Round, mended_rows
from learngate.stores.standing import links, orphans, places, reconciled, sealed, standing, unasked
from learngate.stores.tables import checksum, is_misquoted, is_reworded, memory_revisions, proposals, user_memories

Step = Callable[[Round], Iterator[Mended]]


def reworded(at: Round) -> Iterator[Mended]:
    """Put back memories whose text is not what was written, from their history; else take them out of the way."""
    back, gone = [], []
    for row in at.each(select(user_memories), user_memories.c.id):
        if not is_reworded(row):
            continue
        of = memory_revisions.c.memory_id == row.id
        history = at.connection.scalars(select(memory_revisions.c.text).where(of))
        text = next((one for one in history if checksum(one) == row.checksum), None)
        its = user_memories.c.id == row.id
        at.copy(user_memories, its, "its text is not what was written")
        if text is not None:
            back.append(row.id)
            at.write(put(user_memories).where(its).values(text=text))
        else:
            gone.append(row.id)
            at.write(delete(user_memories).where(its))
            at.note("memory", row.id, scope=row.scope, op="drop")
    yield from mended_rows("memories whose text was damaged have it back from their history", back, lost=False)
    yield from mended_rows("memories whose text is damaged are in quarantine", gone)


def misquoted(at: Round) -> Iterator[Mended]:
    """Set apart proposals whose words are not what was written; what came of a decided one is its learning."""
    waiting, past = [], []
    for row in at.each(select(proposals), proposals.c.id):
        if not is_misquoted(row):
            continue
        its = proposals.c.id == row.id
        if row.status == "pending":
            waiting.append(row.id)
            at.take_away(proposals, its, "its words are not what was written")
        else:
            past.append(row.id)
            at.copy(proposals, its, "its words are not what was written")
            at.write(put(proposals).where(its).values(checksum=None))
    yield from mended_rows("proposals whose words are damaged are in quarantine", waiting)
    yield from mended_rows("decided proposals whose words are damaged stay as they are", past)


READ: tuple[Step, ...] = (ill_stored, unknown, times, unreadable, reworded, misquoted, reconciled)
"""What mends each row by itself."""
BELONG: tuple[Step, ...] = (orphans, unasked)
STAND: tuple[Step, ...] = (places, standing, orphans, links, sealed)
"""What mends how rows stand to each other."""
DERIVE: tuple[Step, ...] = (derived_columns, vectors_in_use, told_changes)


def repair(
    database: Database, vectors: Vectors, looked: Callable[[int], None] = lambda _: None
) -> Iterator[Mended]:
    """Mend a database whose pages can be read, a transaction for each step, and say what was done.

    Running it again finds nothing more to do. `looked` is told of rows that were looked at.
    """
    yield from _indexes(database)
    # First, because a row with a damaged index cannot be written to; and again, for rows that were changed past it.
    yield from _terms(database)
    for step in (*READ, *BELONG, *STAND, *DERIVE):
        try:
            with database.write() as connection:
                found = [*step(Round(connection, vectors, looked=looked))]
        except (StoreError, ValueError) as error:
            found = [Mended("rows", str(error), done=False)]
        yield from found
    left = [*upkeep.torn_links(database), *filter(upkeep.of_a_row, upkeep.integrity(database))]
    yield from (Mended("rows", one, done=False) for one in left)
    yield from _terms(database)


def faults(
    database: Database, vectors: Vectors, looked: Callable[[int], None] = lambda _: None
) -> Iterator[Mended]:
    """Say what `repair` would mend of a database's rows, and write nothing.

    What rests on rows that cannot be read is not looked at while they cannot.
    """
    for steps in (READ, BELONG, STAND, DERIVE):
        anything = False
        for step in steps:
            try:
                with database.read() as connection:
                    found = [*step(Round(connection, vectors, mends=False, looked=looked))]
            except (StoreError, ValueError) as error:
                found = [] if anything else [Mended("rows", str(error), done=False)]
            anything = anything or bool(found)
            yield from found
        if anything:
            return


def _terms(database: Database) -> Iterator[Mended]:
    for name in upkeep.unsound_terms(database):
        upkeep.rebuild_terms(database, name)
        yield Mended("search", f"built the full-text index of {name} anew")


def _indexes(database: Database) -> Iterator[Mended]:
    """Build SQLite's own indexes anew where they do not fit their tables."""
    found = [one for one in upkeep.integrity(database) if upkeep.of_an_index(one)]
    if not found:
        return
    try:
        with database.write() as connection:
            connection.exec_driver_sql("REINDEX")
    except StoreError as error:
        yield Mended("indexes", f"{found[0]}: {error}", done=False)
    else:
        yield Mended("indexes", f"built the indexes anew: {found[0]}", len(found))
