"""Backup: a copy of a running database, all of one moment, while others go on writing."""

from __future__ import annotations

import os
import shlex
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

from learngate.stores.database import Database
from learngate.stores.errors import ConfigurationError, InvalidInput, StoreUnusable

PAGES = 256
"""How many pages are copied between two reports: a megabyte."""


def back_up(database: Database, path: Path, *, progress: Callable[[int, int], None]) -> int:
    """Copy an SQLite database into a new file that only its owner may read, check it, and return its bytes.

    `progress` is told how many pages were copied, of how many. The file is there under its name once it is whole.
    The copy is of the moment when it began; it holds up no writer, and no writer makes it begin anew.

    Raises:
        ConfigurationError: the database is not SQLite; the message has the command that backs it up.
        InvalidInput: the file is there already, or cannot be written.
        StoreUnusable: the copy is damaged, which means that the database is.
    """
    if database.dialect != "sqlite":
        address = database.url.set(drivername="postgresql", password=None).render_as_string()
        line = shlex.join(["pg_dump", "--format=custom", f"--file={path}", address])
        raise ConfigurationError(f"PostgreSQL has its own tool for that, which you run yourself: {line}")
    if path.exists():
        raise InvalidInput(f"{path} is there already: name another file, or remove it")
    part = path.with_name(f"{path.name}.part")
    try:
        # Made before SQLite makes it, so that nobody else may read it for a moment.
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
        _copy(database, part, progress)
        _check(database, part)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(path)
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path} cannot be written: {getattr(error, 'strerror', error)}") from error
    finally:
        discard(part)
    return path.stat().st_size


def discard(file: Path) -> None:
    """Delete a database file that was not finished, and what SQLite left beside it."""
    for leftover in (file, *(file.with_name(f"{file.name}{end}") for end in ("-wal", "-shm", "-journal"))):
        # Where nothing could be written, nothing is left, and why is told by whoever wrote.
        with suppress(OSError, ValueError):
            leftover.unlink()


def _copy(database: Database, part: Path, progress: Callable[[int, int], None]) -> None:
    with database.translated(), closing(database.connect()) as source, closing(sqlite3.connect(part)) as target:
        # Inside a transaction the copy sees one moment; outside, each write of another process begins it anew.
        source.execute("BEGIN")
        source.execute("SELECT count(*) FROM sqlite_master").fetchone()
        source.backup(target, pages=PAGES, progress=lambda _, left, total: progress(total - left, total))
        source.execute("ROLLBACK")


def _check(database: Database, part: Path) -> None:
    with closing(sqlite3.connect(part)) as copy:
        try:
            said = [row[0] for row in copy.execute("PRAGMA integrity_check(5)")]
        except sqlite3.DatabaseError as error:
            said = [str(error)]
    if said != ["ok"]:
        raise StoreUnusable(
            f"the copy of {database.name} is damaged, and so is the database: {'; '.join(said)};"
            " no backup was made: see `learngate doctor --repair`"
        )
