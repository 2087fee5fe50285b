"""`learngate embed`: make the vectors that searches by meaning lack, after a change of the embedder above all."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import typer

from learngate.app.opening import db_option, opened, suggested
from learngate.app.options import Db, Embedder, Json
from learngate.app.screen import ACCENT, console, counted, flat, note, say, say_json
from learngate.app.status import STOPPED

if TYPE_CHECKING:
    from learngate.stores import Memory


def embed(ctx: typer.Context, embedder: Embedder = None, json: Json = False, db: Db = None) -> None:
    """Embed all that the chosen embedder has not embedded yet.

    Stop it whenever you like: it goes on where it was. Meanwhile searches use the vectors of the local embedder
    before this one, else words alone.
    """
    from learngate.stores.embedders import LOCAL

    with opened(db, there=True, embedder=embedder) as memory:
        before = _held(memory).get(memory.vectors.name, 0)
        rows = _embedded(memory)
        held = _held(memory)
        name = memory.vectors.name
        made = held.pop(name, 0) - before
    if json:
        say_json({"embedder": name, "embedded": made, "rows": rows})
    else:
        done = f"embedded {made:,} of {counted(rows, 'row')} with {name}"
        say(done if made else f"nothing was missing for {name}")
    for other, number in sorted(held.items()):
        if number < rows:
            called = next((one for one in LOCAL if one in other.casefold()), "")
            todo = f": {suggested('embed', '--embedder', called, db=db_option(ctx))}" if called else ""
            note(f"{flat(other)} has {counted(number, 'vector')} for {counted(rows, 'row')} here{todo}")


def _embedded(memory: Memory) -> int:
    """Embed what is missing; return how many rows were looked at."""
    done = total = 0
    try:
        for step in _shown(memory.embed()):
            done, total = step
    except KeyboardInterrupt:
        if not total:
            raise
        note(f"stopped at {done:,} of {total:,}: run it again to go on")
        raise typer.Exit(STOPPED) from None
    return total


def _shown(steps: Iterator[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield the steps, with a bar on a terminal."""
    target = console(stderr=True)
    if not (target.is_terminal and sys.stderr.isatty()):
        yield from steps
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("embedding"), BarColumn(complete_style=ACCENT), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=target, transient=True) as bar:
        task = bar.add_task("", total=None)
        for done, total in steps:
            bar.update(task, completed=done, total=total)
            yield done, total


def _held(memory: Memory) -> dict[str, int]:
    """Return how many vectors each embedder has here."""
    from sqlalchemy import func, select

    from learngate.stores.tables import embeddings

    by_name = select(embeddings.c.embedder, func.count().label("number")).group_by(embeddings.c.embedder)
    with memory.database.read() as connection:
        return {row.embedder: row.number for row in connection.execute(by_name)}
