"""`learngate export` and `learngate import`: everything as JSON Lines, to keep or to move."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from learngate.app.opening import opened, person
from learngate.app.options import Db, Json, Reviewer, User
from learngate.app.screen import busy, counted, note, say, say_json

if TYPE_CHECKING:
    from learngate.stores.importing import Imported

File = Annotated[str, typer.Argument(metavar="FILE", help="A file, or - for a pipe.", show_default=False)]
EVERY = 500
"""Lines between two pieces of news."""


def export(
    file: File,
    user: User = None,
    namespace: Annotated[
        str | None, typer.Option("--namespace", metavar="PATH", help="What is learned there and below, alone.")
    ] = None,
    unverified: Annotated[
        bool, typer.Option("--unverified", help="Export what is learned even if it is not what was signed.")
    ] = False,
    db: Db = None,
) -> None:
    """Write everything as JSON Lines, to keep or to move.

    Sessions, memories, learnings and all that led to them. With --user it is that person's sessions, turns and
    memories; with --namespace what is learned there.
    The file holds what people said: keep it as you keep the database.
    """
    with opened(db) as memory, busy("exporting …") as news:
        lines = memory.export(user_id=user, namespace=namespace, unverified=unverified)
        count = 0
        with written(file) as target:
            for count, line in enumerate(lines, start=1):
                target.write(line)
                if count % EVERY == 0:
                    news(f"exporting … {count:,} lines")
    if file != "-":
        say(f"exported {counted(count, 'line')} to {file}")


def import_(file: File, reviewer: Reviewer = None, json: Json = False, db: Db = None) -> None:
    """Take in an export: all of it or nothing, and each row once.

    What is here stays as it is. Learnings come with the decisions that made them, and are marked as imported.
    """
    source = sys.stdin.buffer if file == "-" else _read(file)
    with source, opened(db) as memory, busy("importing …") as news:

        def progress(done: int, total: int) -> None:
            if done % EVERY == 0:
                news(f"importing … {done:,} of {total:,} lines")

        took = memory.load(source, actor=person(reviewer, None), progress=progress)
    if json:
        say_json(took)
    else:
        _tell(took)


def _tell(took: Imported) -> None:
    say(f"imported {_listed(took.new) or 'nothing new'}")
    if took.known:
        say(f"known already: {_listed(took.known)}")
    if took.left_out:
        note(f"left out: {_listed(took.left_out)}")


def _listed(counts: dict[str, int]) -> str:
    return " · ".join(f"{number:,} {kind}" for kind, number in counts.items())


def _read(file: str) -> IO[bytes]:
    try:
        return Path(file).open("rb")
    except OSError as error:
        raise typer.BadParameter(f"{file} cannot be read: {error.strerror}", param_hint="FILE") from error


@contextmanager
def written(file: str) -> Iterator[IO[bytes]]:
    """Open a new file that only its owner may read, or stdout; a file is there under its name once it is whole."""
    if file == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = Path(file)
    if path.exists():
        raise typer.BadParameter(f"{file} is there already: name another, or remove it", param_hint="FILE")
    part = path.with_name(f"{path.name}.part")
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as target:
            yield target
            target.flush()
            os.fsync(target.fileno())
        part.replace(path)
    except OSError as error:
        raise typer.BadParameter(f"{file} cannot be written: {error.strerror}", param_hint="FILE") from error
    finally:
        part.unlink(missing_ok=True)
