"""`learngate embed`: make the vectors that searches by meaning lack, after a change of the embedder above all."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from learngate.app.opening import opened
from learngate.app.options import Db, Embedder, Json
from learngate.app.screen import ACCENT, console, counted, say, say_json

if TYPE_CHECKING:
    from learngate.stores import Memory


def embed(embedder: Embedder = None, json: Json = False, db: Db = None) -> None:
    """Embed all that the chosen embedder has not embedded yet.

    Stop it whenever you like: it goes on where it was. Meanwhile searches use the vectors of the local embedder
    before this one, else words alone.
    """
    with opened(db, there=True, embedder=embedder) as memory:
        before = _held(memory)
        rows = _embedded(memory)
        made, name = _held(memory) - before, memory.vectors.name
    if json:
        say_json({"embedder": name, "embedded": made, "rows": rows})
        return
    say(f"embedded {made:,} of {counted(rows, 'row')} with {name}" if made else "nothing was missing")


def _embedded(memory: Memory) -> int:
    """Embed what is missing, with a bar on a terminal; return how many rows were looked at."""
    target = console(stderr=True)
    rows = 0
    if not (target.is_terminal and sys.stderr.isatty()):
        for _, total in memory.embed():
            rows = total
        return rows
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("embedding"), BarColumn(complete_style=ACCENT), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=target, transient=True) as bar:
        task = bar.add_task("", total=None)
        for done, total in memory.embed():
            bar.update(task, completed=done, total=total)
            rows = total
    return rows


def _held(memory: Memory) -> int:
    from sqlalchemy import func, select

    from learngate.stores.tables import embeddings

    mine = select(func.count()).select_from(embeddings).where(embeddings.c.embedder == memory.vectors.name)
    with memory.database.read() as connection:
        return connection.scalar(mine) or 0
