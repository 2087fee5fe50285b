"""`learngate export` and `learngate import`: everything as JSON Lines, to keep or to move."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, islice
from json import loads
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from learngate.app.opening import opened, person
from learngate.app.options import Db, Json, User
from learngate.app.screen import after, busy, counted, note, say, say_json
from learngate.app.status import Refused

if TYPE_CHECKING:
    from learngate.stores.records import Imported

File = Annotated[str, typer.Argument(metavar="FILE", help="A file, or - for a pipe.", show_default=False)]
Importer = Annotated[
    str | None,
    typer.Option(
        "--reviewer",
        metavar="NAME",
        help="Who imports: kept as such, and as who retires what is here already. Your login name, unless given.",
        show_default=False,
    ),
]
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
    with opened(db, there=True) as memory, busy("exporting …") as news:
        lines = _something(memory.export(user_id=user, namespace=namespace, unverified=unverified), user, namespace)
        last = b""
        with written(file) as target:
            for count, last in enumerate(lines, start=1):
                target.write(last)
                if count % EVERY == 0:
                    news(f"exporting … {count:,} lines")
            counts: dict[str, int] = loads(last)["counts"]
            _check_parts(counts, user, namespace)
    if file != "-":
        told = f"exported {_listed(counts) or 'nothing'} to {file}"
        with after(told):
            say(told)


def _something(lines: Iterator[bytes], user: str | None, namespace: str | None) -> Iterator[bytes]:
    """Return the lines of an export once it is clear that it is not of nobody."""
    first = list(islice(lines, 2))
    second = loads(first[1])
    if second["kind"] == "end":
        _check_parts(second["counts"], user, namespace)
    return chain(first, lines)


def _check_parts(counts: dict[str, int], user: str | None, namespace: str | None) -> None:
    """Make sure that each part that was asked for is there: a name is easily mistyped."""
    for name, kinds in ((user, ("session", "memory", "turn")), (namespace, ("proposal", "learning"))):
        if name is not None and not any(counts.get(kind) for kind in kinds):
            raise Refused(
                f"nothing of {name} is here: nothing was exported; names are told apart by capital letters, too"
            )


def import_(file: File, reviewer: Importer = None, json: Json = False, db: Db = None) -> None:
    """Take in an export: all of it or nothing, and each row once.

    What is here stays as it is. Learnings come with the decisions that made them, and are marked as imported:
    `learngate learnings history` shows by whom, and when.
    """
    by = person(reviewer, None)
    source = sys.stdin.buffer if file == "-" else _read(file)
    with source, opened(db) as memory, busy("importing …") as news:
        from learngate.stores import InvalidInput
        from learngate.stores.text import check_person

        check_person(by, what="who imports")

        def progress(done: int, total: int) -> None:
            if done % EVERY == 0:
                news(f"importing … {done:,} of {total:,} lines")

        try:
            took = memory.load(source, actor=by, progress=progress)
        except InvalidInput as error:
            raise Refused(str(error)) from error
    with after(f"imported {_listed(took.new) or 'nothing new'}"):
        if json:
            say_json(took)
        else:
            _tell(took)


def _tell(took: Imported) -> None:
    say(f"imported {_listed(took.new) or 'nothing new'}")
    if took.known:
        say(f"known already: {_listed(took.known)}")
    for new, known in took.retired.items():
        say(f"learning {new} was retired at once: learning {known} already said that")
    if took.left_out:
        note(f"left out: {_listed(took.left_out)}")


NOUNS = {
    "memory": ("memory", "memories"),
    "erased": ("mark of an erased session", "marks of erased sessions"),
}


def _listed(counts: dict[str, int]) -> str:
    return " · ".join(_number(kind, n) for kind, n in counts.items() if kind != "learngate")


def _number(kind: str, n: int) -> str:
    noun, _, remark = kind.partition(" ")
    return f"{counted(n, *NOUNS.get(noun, (noun,)))} {remark}".rstrip()


def _read(file: str) -> IO[bytes]:
    try:
        return Path(file).open("rb")
    except OSError as error:
        raise Refused(f"{file} cannot be read: {error.strerror}; nothing was imported") from error


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
